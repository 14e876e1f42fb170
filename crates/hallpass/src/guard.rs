//! The guard: makes tokens of one purpose, and says whose they are.

mod issue;
mod touches;
mod verified;

use std::{fmt, sync::Arc, time::Duration};

pub use issue::{Issue, NewToken};
use touches::Touches;
pub use verified::Verified;

use crate::{
    bearer,
    clock::{Clock, SystemClock, Timestamp},
    error::{Error, IssueError, Reason, Unavailable},
    event::{Event, EventKind, Observers},
    expiry::Expiry,
    password::{Passwords, Verdict},
    prune::prune,
    purpose::Purpose,
    record::{Epoch, TokenRecord},
    store::{Found, ListQuery, Page, TokenChange, TokenStore},
    token::{PlainToken, TokenId},
    users::UserProvider,
};

/// Makes tokens of one [`Purpose`] for the users of `U`, and verifies, revokes and redeems them. Cheap to clone.
///
/// A token of one guard's purpose never passes another's. [`any_of`] accepts several.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use hallpass::{Guard, MemoryStore, Purpose, testing::Users};
/// use std::sync::Arc;
///
/// let users = Users::new();
/// let ada = users.add("ada@example.com");
/// let guard = Guard::new(users, Arc::new(MemoryStore::new()), Purpose::api());
///
/// let token = guard.generate(&ada).name("For the CLI app").expires_in("7 days").await?;
/// let verified = guard.verify(token.plain()).await?;
/// assert_eq!(verified.user().email, "ada@example.com");
///
/// guard.revoke(token.plain()).await?;
/// assert!(guard.verify(token.plain()).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct Guard<U: UserProvider> {
    inner: Arc<Inner<U>>,
}

struct Inner<U: UserProvider> {
    purpose: Purpose,
    users: Arc<U>,
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    observers: Observers,
    cap: Option<u32>,
    realm: String,
    touches: Touches,
    /// Guards whose tokens are accepted too.
    others: Vec<Guard<U>>,
}

/// Accepts a token of any of these guards; [`Verified::purpose`] says which matched. What it makes, the first guard makes.
///
/// `None` for no guards at all.
pub fn any_of<U: UserProvider>(guards: impl IntoIterator<Item = Guard<U>>) -> Option<Guard<U>> {
    // Members of a guard that accepts several already are accepted each.
    let guards: Vec<_> = guards.into_iter().collect();
    let mut guards = guards.iter().flat_map(Guard::members).cloned();
    let first = guards.next()?;
    let mut any = first.builder_like();
    any.inner.others = guards.collect();
    Some(any.build())
}

/// See [`Guard::builder`].
pub struct GuardBuilder<U: UserProvider> {
    inner: Inner<U>,
}

impl<U: UserProvider> Guard<U> {
    /// A guard with the machine's clock, passwords at their default cost, no cap, and nobody watching.
    #[must_use]
    pub fn new(users: U, store: Arc<dyn TokenStore>, purpose: Purpose) -> Self {
        Self::builder(users, store, purpose).build()
    }

    /// A guard to be set up further.
    #[must_use]
    pub fn builder(users: U, store: Arc<dyn TokenStore>, purpose: Purpose) -> GuardBuilder<U> {
        GuardBuilder {
            inner: Inner {
                purpose,
                users: Arc::new(users),
                store,
                clock: Arc::new(SystemClock),
                passwords: Passwords::new(),
                observers: Observers::new(),
                cap: None,
                realm: "hallpass".to_owned(),
                touches: Touches::default(),
                others: Vec::new(),
            },
        }
    }

    fn builder_like(&self) -> GuardBuilder<U> {
        let inner = &self.inner;
        GuardBuilder {
            inner: Inner {
                purpose: inner.purpose.clone(),
                users: Arc::clone(&inner.users),
                store: Arc::clone(&inner.store),
                clock: Arc::clone(&inner.clock),
                passwords: inner.passwords.clone(),
                observers: inner.observers.clone(),
                cap: inner.cap,
                realm: inner.realm.clone(),
                touches: Touches::default(),
                others: Vec::new(),
            },
        }
    }

    /// Begins to make a token for whoever logs in as `uid` with `password`. Set options on what is returned, then await it.
    ///
    /// An unknown name and a wrong password are one refusal, in one time.
    pub fn attempt<'a>(&'a self, uid: &'a str, password: &'a str) -> Issue<'a, U> {
        Issue::by_password(self, uid, password)
    }

    /// Begins to make a token for `user`, whom the application has already made sure of. Set options on what is
    /// returned, then await it.
    #[doc(alias = "login")]
    pub fn generate<'a>(&'a self, user: &'a U::User) -> Issue<'a, U> {
        Issue::for_user(self, user)
    }

    /// Begins to make a token for the owner of a verified one: nothing wider than that, and nothing longer-lived
    /// unless that came from a log-in.
    pub fn mint<'a>(&'a self, maker: &'a Verified<U::User>) -> Issue<'a, U> {
        Issue::from_token(self, maker)
    }

    /// Says whose token this is.
    ///
    /// Nothing is written on the way; that the token was used is noted in memory and written later. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Denied`] if the token is not good, one refusal for every reason; [`Error::Unavailable`] if that cannot be told.
    pub async fn verify(&self, token: &PlainToken) -> Result<Verified<U::User>, Error> {
        let verdict = self.judge(token, false).await;
        match &verdict {
            Ok((guard, verified)) => {
                let (record, now) = (verified.token(), guard.inner.clock.now());
                guard.inner.touches.note(&guard.inner.store, record.id, record.last_used_at, now);
            }
            Err(error) => self.tell_refusal(error),
        }
        verdict.map(|(_, verified)| verified)
    }

    /// The same for the values of a request's `Authorization` headers: [`bearer::credentials`], [`PlainToken::parse`],
    /// [`verify`](Self::verify). What is no token of ours costs no look-up.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn verify_header<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Verified<U::User>, Error> {
        let token = bearer::credentials(values).and_then(PlainToken::parse);
        self.verify(&token.map_err(|reason| self.refuse(reason))?).await
    }

    /// Uses up a token whose purpose is for a single use, and says whose it was. Of any number at once exactly
    /// one succeeds; a token that is refused is not used up.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn redeem(&self, token: &PlainToken) -> Result<Verified<U::User>, Error> {
        let verdict = match self.judge(token, true).await {
            Ok((guard, verified)) => guard.take(token, verified).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &verdict {
            self.tell_refusal(error);
        }
        verdict
    }

    pub(crate) fn refuse(&self, reason: Reason) -> Error {
        let error = reason.into();
        self.tell_refusal(&error);
        error
    }

    async fn take(
        &self,
        token: &PlainToken,
        verified: Verified<U::User>,
    ) -> Result<Verified<U::User>, Error> {
        let now = self.inner.clock.now();
        if !self.inner.store.take(&token.hash(), verified.purpose(), now).await? {
            return Err(Reason::Revoked.into());
        }
        self.tell(EventKind::TokenRedeemed, now, verified.token());
        Ok(verified)
    }

    /// Ends a token, whose whole text is the proof of the right to do so. Says whether this call did it. A token
    /// that is unknown, dead, or of another purpose is left as it is.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach; the token may be ended or not.
    pub async fn revoke(&self, token: &PlainToken) -> Result<bool, Unavailable> {
        let hash = token.hash();
        for guard in self.members().filter(|guard| guard.reads(token)) {
            let found = guard.inner.store.find(&hash).await?;
            let now = guard.inner.clock.now();
            let ours = |found: &Found| found.record.accept(&guard.inner.purpose, found.epoch, now).is_ok();
            let Some(found) = found.filter(ours) else { continue };
            let revoked = guard.inner.store.revoke(&hash, now).await?;
            if revoked {
                guard.tell(EventKind::TokenRevoked, now, &found.record);
            }
            return Ok(revoked);
        }
        Ok(false)
    }

    /// Ends one of a user's own tokens by its id. `false` if the user has no such token or it is ended already.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn revoke_by_id(&self, user: &U::User, id: TokenId) -> Result<bool, Unavailable> {
        let owner = self.inner.users.id(user);
        let now = self.inner.clock.now();
        let found = self.find_by_id(user, id).await?;
        let living = |found: &Found| found.record.living(found.epoch, now).is_ok();
        let Some(found) = found.filter(living) else { return Ok(false) };
        let revoked = self.inner.store.revoke_by_id(&owner, id, now).await?;
        if revoked {
            self.tell(EventKind::TokenRevoked, now, &found.record);
        }
        Ok(revoked)
    }

    /// Ends all of a user's tokens, of every purpose, also those that are being made at this moment. Says how many
    /// were living. Call it too when a user of the application's own is disabled, deleted or changes their address.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn revoke_all(&self, user: &U::User) -> Result<u64, Unavailable> {
        let (owner, now) = (self.inner.users.id(user), self.inner.clock.now());
        let count = self.inner.store.revoke_all(&owner, now).await?;
        self.inner.observers.tell(|| Event::new(EventKind::TokensEnded, now).user(&owner).count(count));
        Ok(count)
    }

    /// One of a user's own tokens of this purpose, dead or alive.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn find_by_id(&self, user: &U::User, id: TokenId) -> Result<Option<Found>, Unavailable> {
        let found = self.inner.store.find_by_id(&self.inner.users.id(user), id).await?;
        Ok(found.filter(|found| found.record.purpose == self.inner.purpose.name()))
    }

    /// A page of a user's tokens of this purpose, newest first.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn list(&self, user: &U::User, query: &ListQuery) -> Result<Page, Unavailable> {
        self.inner.store.list(&self.inner.users.id(user), self.inner.purpose.name(), query).await
    }

    /// Renames one of the user's own living tokens, or changes its life, counted from now; `None` leaves as it is. The owner's
    /// token that asks for it cannot stretch another beyond what it could mint: not past its own end unless it came from a
    /// log-in, and not at all if the other has scopes that it does not have. `false` if there is no such living token.
    ///
    /// # Errors
    /// [`IssueError::Invalid`] for a name or life that could not be minted either.
    pub async fn change(
        &self,
        maker: &Verified<U::User>,
        id: TokenId,
        name: Option<&str>,
        expires_in: Option<&Expiry>,
    ) -> Result<bool, IssueError> {
        let now = self.inner.clock.now();
        let mut change = TokenChange { name: name.map(issue::accept_name).transpose()?, expires_at: None };
        if let Some(expiry) = expires_in {
            change.expires_at =
                Some(issue::accept_life(&self.inner.purpose, Some(expiry), Some(maker), now)?);
        }
        let Some(found) = self.find_by_id(maker.user(), id).await? else { return Ok(false) };
        if let Some(end) = change.expires_at {
            issue::accept_stretch(&found.record, end, maker)?;
        }
        let owner = self.inner.users.id(maker.user());
        let changed = self.inner.store.update(&owner, id, &change, now).await?;
        if changed {
            self.tell(EventKind::TokenChanged, now, &found.record);
        }
        Ok(changed)
    }

    /// Checks a name and password, and makes no token.
    ///
    /// # Errors
    /// [`Error::Denied`] alike for an unknown name and a wrong password; [`Error::Unavailable`] if that cannot be
    /// told, or too many passwords are being checked at once.
    #[doc(alias = "verifyCredentials")]
    pub async fn verify_credentials(&self, uid: &str, password: &str) -> Result<U::User, Error> {
        Ok(self.prove(uid, password).await?.0)
    }

    /// The user, and the epoch that was theirs no later than when the stored password was read: a token made under
    /// it does not outlive a change of password that happens meanwhile.
    async fn prove(&self, uid: &str, password: &str) -> Result<(U::User, Epoch), Error> {
        let Inner { users, passwords, store, .. } = &*self.inner;
        let mut found = users.credentials(uid).await?;
        let mut epoch = found.as_ref().map(|found| users.epoch(&found.user)).unwrap_or_default();
        if !U::KEEPS_EPOCHS {
            // The store's epoch must be read before the password, and takes the user's id: so look up twice.
            // Nobody gets the same number of look-ups as somebody.
            let id = found.as_ref().map(|found| users.id(&found.user));
            let nobody = crate::UserId::nobody();
            epoch = store.epoch(id.as_ref().unwrap_or(&nobody)).await?;
            found = users.credentials(uid).await?;
        }
        let stored = found.as_ref().and_then(|found| found.password.as_ref());
        let verdict = passwords.verify(password, stored).await?;
        let refusal = match (found, verdict) {
            (Some(found), Verdict::Match { stronger }) => {
                if let (Some(from), Some(to)) = (&found.password, &stronger)
                    && let Err(error) = users.rehashed(&found.user, from, to).await
                {
                    tracing::warn!(%error, "cannot keep a stronger password hash");
                }
                return Ok((found.user, epoch));
            }
            (Some(found), Verdict::Mismatch) => (Some(users.id(&found.user)), Reason::WrongPassword),
            (None, _) => (None, Reason::UnknownUser),
        };
        let (user, reason) = refusal;
        self.inner.observers.tell(|| {
            let event = Event::new(EventKind::LoginRefused, self.inner.clock.now())
                .purpose(self.inner.purpose.name())
                .reason(&reason);
            match &user {
                Some(user) => event.user(user),
                None => event,
            }
        });
        Err(reason.into())
    }

    /// Finds the token and judges it; the guard it belongs to, which is this one or another that it accepts.
    async fn judge(&self, token: &PlainToken, redeeming: bool) -> Result<(&Self, Verified<U::User>), Error> {
        let hash = token.hash();
        let mut looked_up: Option<(&Arc<dyn TokenStore>, Option<Found>)> = None;
        let mut refusal = Reason::WrongPurpose;
        for guard in self.members().filter(|guard| guard.reads(token)) {
            let inner = &guard.inner;
            let found = match &looked_up {
                Some((store, found)) if Arc::ptr_eq(store, &inner.store) => found.clone(),
                _ => inner.store.find(&hash).await?,
            };
            let Some(candidate) = &found else {
                refusal = Reason::Unknown;
                looked_up = Some((&inner.store, None));
                continue;
            };
            if candidate.record.purpose != inner.purpose.name() || inner.purpose.is_single_use() != redeeming
            {
                refusal = Reason::WrongPurpose;
                looked_up = Some((&inner.store, found));
                continue;
            }
            let candidate = candidate.clone();
            return Ok((guard, guard.accept(candidate).await?));
        }
        Err(refusal.into())
    }

    async fn accept(&self, found: Found) -> Result<Verified<U::User>, Error> {
        let Inner { users, purpose, clock, .. } = &*self.inner;
        let Found { record, epoch, account } = found;
        record.accept(purpose, epoch, clock.now())?;
        let user = match account.and_then(|account| users.user_of(account)) {
            Some(user) => user,
            None => users.find(&record.user).await?.ok_or(Reason::OwnerGone)?,
        };
        if U::KEEPS_EPOCHS && users.epoch(&user) != record.epoch {
            return Err(Reason::Ended.into());
        }
        if let Some(bound) = &record.bound_to
            && !users.address(&user).is_some_and(|address| issue::is_same_address(bound, address))
        {
            return Err(Reason::AddressChanged.into());
        }
        let granted = |scope: &str| users.is_granted(&user, scope);
        let scopes = record.scopes.clone().granted(granted);
        Ok(Verified::new(user, record, scopes))
    }

    /// Whether a token with this prefix can be of this guard's purpose at all.
    fn reads(&self, token: &PlainToken) -> bool {
        token.prefix() == self.inner.purpose.text_prefix()
    }

    fn members(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.inner.others)
    }

    fn tell(&self, kind: EventKind, at: Timestamp, record: &TokenRecord) {
        self.inner
            .observers
            .tell(|| Event::new(kind, at).user(&record.user).token(record.id).purpose(&record.purpose));
    }

    fn tell_refusal(&self, error: &Error) {
        if let Error::Denied(denied) = error {
            self.inner.observers.tell(|| {
                Event::new(EventKind::TokenRefused, self.inner.clock.now())
                    .purpose(self.inner.purpose.name())
                    .reason(denied.reason())
            });
        }
    }

    /// Writes the uses noted so far. It happens by itself every few seconds inside a tokio runtime; call it before the
    /// process ends.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach; the uses are kept for the next time.
    pub async fn flush_touches(&self) -> Result<(), Unavailable> {
        for guard in self.members() {
            guard.inner.touches.flush(&guard.inner.store).await?;
        }
        Ok(())
    }

    /// Deletes tokens that died more than `older_than` ago, in batches, and says how many; `progress` hears of each batch.
    ///
    /// Cancel safe: what is deleted is deleted.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn prune(
        &self,
        older_than: Duration,
        progress: impl FnMut(u64) + Send,
    ) -> Result<u64, Unavailable> {
        let now = self.inner.clock.now();
        let count = prune(&*self.inner.store, now.saturating_sub(older_than), progress).await?;
        self.inner.observers.tell(|| Event::new(EventKind::Pruned, now).count(count));
        Ok(count)
    }

    /// The user provider.
    #[doc(alias = "provider")]
    #[must_use]
    pub fn users(&self) -> &U {
        &self.inner.users
    }

    /// The token store.
    #[doc(alias("tokenProvider", "token provider"))]
    #[must_use]
    pub fn tokens(&self) -> &dyn TokenStore {
        &*self.inner.store
    }

    /// The purpose of the tokens it makes.
    #[must_use]
    pub fn purpose(&self) -> &Purpose {
        &self.inner.purpose
    }

    /// The protection space that challenges name.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.inner.realm
    }

    /// The present instant, as this guard sees it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Whether this is a clone of `other`, so that what the one verified the other need not verify again.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl<U: UserProvider> GuardBuilder<U> {
    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.inner.clock = clock;
        self
    }

    /// Sets who checks passwords.
    #[must_use]
    pub fn passwords(mut self, passwords: Passwords) -> Self {
        self.inner.passwords = passwords;
        self
    }

    /// Sets who is told what happens.
    #[must_use]
    pub fn observers(mut self, observers: Observers) -> Self {
        self.inner.observers = observers;
        self
    }

    /// Sets how many living tokens of this purpose a user may have.
    #[must_use]
    pub fn cap(mut self, cap: Option<u32>) -> Self {
        self.inner.cap = cap;
        self
    }

    /// Sets the protection space that challenges name (RFC 9110, section 11.5); "hallpass" if never set.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.inner.realm = realm.into();
        self
    }

    /// Done.
    #[must_use]
    pub fn build(self) -> Guard<U> {
        Guard { inner: Arc::new(self.inner) }
    }
}

impl<U: UserProvider> Clone for Guard<U> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<U: UserProvider> fmt::Debug for Guard<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("purpose", &self.inner.purpose).finish_non_exhaustive()
    }
}

impl<U: UserProvider> fmt::Debug for GuardBuilder<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardBuilder").field("purpose", &self.inner.purpose).finish_non_exhaustive()
    }
}
