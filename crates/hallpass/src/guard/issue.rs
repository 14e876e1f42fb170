//! Making a token: the wishes, the proof, the insert, and only then the text.

use std::{future::IntoFuture, pin::Pin};

use serde::ser::SerializeMap;

use super::{Guard, Inner, Verified};
use crate::{
    address::EmailAddress,
    clock::Timestamp,
    error::{Invalid, IssueError, Reason, Unavailable},
    event::{Event, EventKind},
    expiry::Expiry,
    purpose::Purpose,
    record::{Epoch, Origin, TokenRecord},
    scope::Scopes,
    store::InsertError,
    token::{HashedToken, PlainToken, TokenId},
    users::UserProvider,
};

/// The longest name, in characters.
const NAME_MAX: usize = 100;
/// The largest meta, as JSON text.
const META_MAX: usize = 4096;

/// A token in the making: set options, then await it.
///
/// Without options it carries all of the owner's rights (`*`), or those of the token it is minted from, and lives
/// as long as the purpose says.
///
/// Cancel safe: a future that is dropped has made a token that nobody can have seen, or none.
#[must_use = "nothing is made until it is awaited"]
#[derive(Debug)]
pub struct Issue<'a, U: UserProvider> {
    guard: &'a Guard<U>,
    proof: Proof<'a, U::User>,
    wishes: Result<Wishes, Invalid>,
}

enum Proof<'a, User> {
    Password { uid: &'a str, password: &'a str },
    User(&'a User),
    Token(&'a Verified<User>),
}

#[derive(Debug, Default)]
struct Wishes {
    name: Option<String>,
    expires_in: Option<Expiry>,
    scopes: Option<Scopes>,
    meta: serde_json::Map<String, serde_json::Value>,
}

impl<'a, U: UserProvider> Issue<'a, U> {
    pub(super) fn by_password(guard: &'a Guard<U>, uid: &'a str, password: &'a str) -> Self {
        Self::new(guard, Proof::Password { uid, password })
    }

    pub(super) fn for_user(guard: &'a Guard<U>, user: &'a U::User) -> Self {
        Self::new(guard, Proof::User(user))
    }

    pub(super) fn from_token(guard: &'a Guard<U>, maker: &'a Verified<U::User>) -> Self {
        Self::new(guard, Proof::Token(maker))
    }

    fn new(guard: &'a Guard<U>, proof: Proof<'a, U::User>) -> Self {
        Self { guard, proof, wishes: Ok(Wishes::default()) }
    }

    /// Sets what its owner calls it: 1 to 100 characters on one line.
    pub fn name(self, name: impl AsRef<str>) -> Self {
        self.wish(|wishes| {
            wishes.name = Some(accept_name(name.as_ref())?);
            Ok(())
        })
    }

    /// Sets how long it lives: a text such as `"7 days"`, an [`Expiry`], or a [`Duration`](std::time::Duration).
    #[doc(alias = "expiresIn")]
    pub fn expires_in<E>(self, expiry: E) -> Self
    where
        E: TryInto<Expiry>,
        Invalid: From<E::Error>,
    {
        self.wish(|wishes| {
            wishes.expires_in = Some(expiry.try_into()?);
            Ok(())
        })
    }

    /// Sets what it may do.
    #[doc(alias = "abilities")]
    pub fn scopes<S: AsRef<str>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.wish(|wishes| {
            wishes.scopes = Some(Scopes::parse(scopes)?);
            Ok(())
        })
    }

    /// Keeps something with it, under a key of the caller's. All of it together is 4 KiB of JSON at most.
    pub fn meta(self, key: impl Into<String>, value: impl serde::Serialize) -> Self {
        self.wish(|wishes| {
            let value = serde_json::to_value(value).map_err(|_| Invalid::new("meta", "must be JSON"))?;
            wishes.meta.insert(key.into(), value);
            Ok(())
        })
    }

    /// The first mistake is kept and told when the token is awaited.
    fn wish(mut self, set: impl FnOnce(&mut Wishes) -> Result<(), Invalid>) -> Self {
        self.wishes = self.wishes.and_then(|mut wishes| set(&mut wishes).map(|()| wishes));
        self
    }

    async fn make(self) -> Result<NewToken<U::User>, IssueError> {
        let Self { guard, proof, wishes } = self;
        let inner = &guard.inner;
        let wishes = wishes?;
        accept_meta(&wishes.meta)?;
        let maker = if let Proof::Token(maker) = &proof { Some(*maker) } else { None };
        let scopes = accept_scopes(wishes.scopes, maker)?;
        accept_life(&inner.purpose, wishes.expires_in.as_ref(), maker, inner.clock.now())?;

        let (user, epoch, origin) = match proof {
            Proof::Password { uid, password } => {
                let (user, epoch) = guard.prove(uid, password).await?;
                (user, epoch, Origin::Login)
            }
            Proof::User(user) => (user.clone(), epoch_of(guard, user).await?, Origin::Issued),
            Proof::Token(maker) => (maker.user().clone(), maker.token().epoch, Origin::Issued),
        };
        for scope in scopes.iter() {
            if scope != "*" && !Scopes::all().allow(scope) && !inner.users.is_granted(&user, scope) {
                return Err(Invalid::new("scopes", "a privileged scope was not granted to this user").into());
            }
        }

        // A log-in takes a while: its token lives from when it was made.
        let now = inner.clock.now();
        let plain = PlainToken::generate(&inner.purpose)?;
        let id = inner.users.id(&user);
        let mut record = TokenRecord::new(TokenId::random()?, id, epoch, inner.purpose.name(), now);
        record.origin = origin;
        record.name = wishes.name;
        record.hint = plain.hint();
        record.scopes = scopes;
        record.meta = wishes.meta;
        record.expires_at = accept_life(&inner.purpose, wishes.expires_in.as_ref(), maker, now)?;
        if inner.purpose.is_bound_to_address() {
            record.bound_to = inner.users.address(&user).map(canonical);
        }

        let hash = plain.hash();
        inner.store.insert(&hash, &record, inner.cap).await.map_err(|error| match error {
            InsertError::Ended => IssueError::from(Reason::Ended),
            InsertError::CapReached => IssueError::CapReached { cap: inner.cap.unwrap_or_default() },
            InsertError::Unavailable(unavailable) => unavailable.into(),
            // Two times the same 256 random bits: the randomness is broken, and nothing may be handed out.
            InsertError::Conflict => Unavailable::new("a new token's hash exists already").into(),
        })?;
        let kind = match origin {
            Origin::Login => EventKind::LoginSucceeded,
            Origin::Issued => EventKind::TokenCreated,
        };
        inner
            .observers
            .tell(|| Event::new(kind, now).user(&record.user).token(record.id).purpose(&record.purpose));
        Ok(NewToken { plain, hash, record, user })
    }
}

impl<'a, U: UserProvider> IntoFuture for Issue<'a, U> {
    type Output = Result<NewToken<U::User>, IssueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.make())
    }
}

/// Neither the name nor the password.
impl<User> std::fmt::Debug for Proof<'_, User> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(..)",
            Self::User(_) => "User(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// A token that was just made: the only thing that ever holds its text.
///
/// As JSON it is `{"type":"bearer","token":…,"expires_at":…,"expires_in":…}`, the last two only if it expires.
pub struct NewToken<User> {
    plain: PlainToken,
    hash: HashedToken,
    record: TokenRecord,
    user: User,
}

impl<User> NewToken<User> {
    /// The text, for the holder alone.
    pub fn plain(&self) -> &PlainToken {
        &self.plain
    }

    /// The hash that the store has.
    #[doc(alias = "tokenHash")]
    pub fn hash(&self) -> &HashedToken {
        &self.hash
    }

    /// The record that the store has: id, name, scopes, meta and times.
    pub fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// The owner.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// `"bearer"`, whatever the purpose.
    #[allow(clippy::unused_self, reason = "a property in the seed, and a property here")]
    pub fn token_type(&self) -> &'static str {
        "bearer"
    }

    /// When it dies, if it does.
    #[doc(alias = "expiresAt")]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.record.expires_at
    }

    /// How many seconds it was given, if not for ever. It does not change as time passes.
    #[doc(alias = "expiresIn")]
    pub fn expires_in(&self) -> Option<u64> {
        self.record.expires_at.map(|end| end.since(self.record.created_at).as_secs())
    }
}

impl<User> serde::Serialize for NewToken<User> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.token_type())?;
        map.serialize_entry("token", self.plain.expose())?;
        if let (Some(at), Some(seconds)) = (self.expires_at(), self.expires_in()) {
            map.serialize_entry("expires_at", &at)?;
            map.serialize_entry("expires_in", &seconds)?;
        }
        map.end()
    }
}

impl<User> std::fmt::Debug for NewToken<User> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken")
            .field("id", &self.record.id)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

async fn epoch_of<U: UserProvider>(guard: &Guard<U>, user: &U::User) -> Result<Epoch, Unavailable> {
    let Inner { users, store, .. } = &*guard.inner;
    if U::KEEPS_EPOCHS { Ok(users.epoch(user)) } else { store.epoch(&users.id(user)).await }
}

/// A name on one line: 1 to 100 characters, none of them a control character or a line end of any script.
pub(super) fn accept_name(name: &str) -> Result<String, Invalid> {
    let length = name.chars().count();
    let breaks_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !(1..=NAME_MAX).contains(&length) || name.trim().is_empty() || name.contains(breaks_line) {
        return Err(Invalid::new("name", "must be 1 to 100 characters on one line"));
    }
    Ok(name.to_owned())
}

/// An object that is small enough, and that reads back as it is: what is nested too deeply would not.
fn accept_meta(meta: &serde_json::Map<String, serde_json::Value>) -> Result<(), Invalid> {
    let text = serde_json::to_string(meta).unwrap_or_default();
    if text.len() > META_MAX {
        return Err(Invalid::new("meta", "must be at most 4096 bytes of JSON"));
    }
    match serde_json::from_str::<serde_json::Map<_, _>>(&text) {
        Ok(read) if read == *meta => Ok(()),
        _ => Err(Invalid::new("meta", "must be nested less than 128 levels deep")),
    }
}

/// The scopes asked for, within those of the maker.
fn accept_scopes<User>(asked: Option<Scopes>, maker: Option<&Verified<User>>) -> Result<Scopes, Invalid> {
    match (asked, maker) {
        (Some(asked), Some(maker)) if !asked.within(maker.scopes()) => {
            Err(Invalid::new("scopes", "a token cannot give scopes that it does not have"))
        }
        (Some(asked), _) => Ok(asked),
        (None, Some(maker)) => Ok(maker.scopes().clone()),
        (None, None) => Ok(Scopes::all()),
    }
}

/// The instant of death asked for, or the purpose's own, within the purpose's limit and that of the maker.
pub(super) fn accept_life<User>(
    purpose: &Purpose,
    asked: Option<&Expiry>,
    maker: Option<&Verified<User>>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Invalid> {
    let limits = [
        purpose.longest_life().at(now)?,
        maker
            .filter(|maker| maker.token().origin != Origin::Login)
            .and_then(|maker| maker.token().expires_at),
    ];
    let limit = limits.into_iter().flatten().min();
    let end = asked.unwrap_or(purpose.default_life()).at(now)?;
    match limit {
        Some(limit) if end.is_none_or(|end| end > limit) => {
            if asked.is_some() {
                let message = format!("must end by {limit}, which is the longest allowed here");
                return Err(Invalid::new("expires_in", message));
            }
            Ok(Some(limit))
        }
        _ => Ok(end),
    }
}

/// A life is stretched only by a token that could have minted the one whose life it is.
pub(super) fn accept_stretch<User>(
    record: &TokenRecord,
    end: Option<Timestamp>,
    maker: &Verified<User>,
) -> Result<(), Invalid> {
    let stretches = record.expires_at.is_some_and(|present| end.is_none_or(|end| end > present));
    if stretches && !record.scopes.within(maker.scopes()) {
        return Err(Invalid::new(
            "expires_in",
            "a token cannot stretch one with scopes that it does not have",
        ));
    }
    Ok(())
}

/// Whether a user's present address is the one a token was bound to. A change of letter case is none.
pub(super) fn is_same_address(bound: &str, present: &str) -> bool {
    bound == present || bound == canonical(present)
}

/// What is no e-mail address is compared as it is.
fn canonical(address: &str) -> String {
    EmailAddress::parse(address).map_or_else(|_| address.to_owned(), |address| address.to_string())
}
