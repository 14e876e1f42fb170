//! What a store keeps of a token, and the one rule of life.

use std::fmt;

use crate::{
    clock::Timestamp,
    error::{Invalid, Reason, Unavailable},
    purpose::Purpose,
    scope::Scopes,
    token::TokenId,
};

/// The longest user id a store must be able to keep, in bytes.
const USER_ID_MAX: usize = 255;

/// A token as a store keeps it, beside its hash. The hash is not here, so that no list can show it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenRecord {
    /// The token's public name.
    pub id: TokenId,
    /// Whose token it is.
    pub user: UserId,
    /// The owner's epoch when the token was made. See [`Epoch`].
    pub epoch: Epoch,
    /// The name of its [`Purpose`].
    pub purpose: String,
    /// How its maker proved the right to make it.
    pub origin: Origin,
    /// What its owner calls it.
    pub name: Option<String>,
    /// What may be shown of the text: prefix and last four characters.
    pub hint: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Anything its maker wanted to keep with it; an object of 4 KiB at most.
    pub meta: serde_json::Map<String, serde_json::Value>,
    /// The canonical address it is bound to, if it is.
    pub bound_to: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it dies; it is dead at this very instant.
    pub expires_at: Option<Timestamp>,
    /// When it was last seen, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked or used up.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRecord {
    /// A record with the fields that every token has; the others are empty until set.
    #[must_use]
    pub fn new(id: TokenId, user: UserId, epoch: Epoch, purpose: &str, created_at: Timestamp) -> Self {
        Self {
            id,
            user,
            epoch,
            purpose: purpose.to_owned(),
            origin: Origin::Issued,
            name: None,
            hint: String::new(),
            scopes: Scopes::none(),
            meta: serde_json::Map::new(),
            bound_to: None,
            created_at,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        }
    }

    /// The one rule of life: whether this token is good for `purpose` at `now`, given its owner's present epoch.
    ///
    /// Whether the owner still lives, and at which address, is judged after this, when the owner was looked up.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn accept(&self, purpose: &Purpose, epoch: Epoch, now: Timestamp) -> Result<(), Reason> {
        if self.purpose != purpose.name() {
            return Err(Reason::WrongPurpose);
        }
        self.living(epoch, now)
    }

    /// The rule of life without the question what for, as lists and caps need it.
    ///
    /// # Errors
    /// The first reason why it is dead.
    pub fn living(&self, epoch: Epoch, now: Timestamp) -> Result<(), Reason> {
        if self.revoked_at.is_some() {
            return Err(Reason::Revoked);
        }
        if self.epoch != epoch {
            return Err(Reason::Ended);
        }
        if self.expires_at.is_some_and(|end| now >= end) {
            return Err(Reason::Expired);
        }
        Ok(())
    }
}

/// Who a token belongs to: the application's own id, as text that stores do not look into.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Box<str>);

impl UserId {
    /// Takes the application's own id.
    ///
    /// # Errors
    /// An empty id, one over 255 bytes, or one with a NUL, which some databases cannot keep.
    pub fn new(id: impl Into<String>) -> Result<Self, Invalid> {
        let id = id.into();
        if !(1..=USER_ID_MAX).contains(&id.len()) || id.contains('\0') {
            return Err(Invalid::new("user", "an id is 1 to 255 bytes of text without NUL"));
        }
        Ok(Self(id.into()))
    }

    /// A random id, as the built-in accounts have.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, Unavailable> {
        Ok(Self(TokenId::random()?.to_string().into()))
    }

    /// An id that stands for no user where one must be looked up all the same.
    pub(crate) fn nobody() -> Self {
        Self("\u{1}nobody".into())
    }

    /// The id as the application gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A number is an id.
impl From<u64> for UserId {
    fn from(id: u64) -> Self {
        Self(id.to_string().into())
    }
}

/// A number is an id.
impl From<i64> for UserId {
    fn from(id: i64) -> Self {
        Self(id.to_string().into())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for UserId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How many times all of a user's tokens were ended at once.
///
/// A token carries the epoch it was made under and is dead under any other. Raising the epoch is one small
/// write that ends everything: also tokens that are being made at that moment, and nothing that is undone later
/// brings them back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch as a store read it.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number that a store keeps.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// How the maker of a token proved the right to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// By password: such a token may mint others up to the policy's own limits.
    Login,
    /// Otherwise: such a token mints nothing wider or longer-lived than itself.
    Issued,
}

impl Origin {
    /// The word that a store keeps.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Issued => "issued",
        }
    }

    /// Reads the word; an unknown one is the weaker origin.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        if word == "login" { Self::Login } else { Self::Issued }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp::from_micros(1_000_000);

    fn record() -> TokenRecord {
        let id = TokenId::from_bytes([0; 16]);
        let user = UserId::new("1").unwrap();
        let mut record = TokenRecord::new(id, user, Epoch::new(3), "api", Timestamp::from_micros(0));
        record.expires_at = Some(END);
        record
    }

    fn at(micros: i64) -> Result<(), Reason> {
        record().accept(&Purpose::api(), Epoch::new(3), Timestamp::from_micros(micros))
    }

    #[test]
    fn row_4_dead_at_equality_to_the_microsecond() {
        assert_eq!(at(999_999), Ok(()));
        assert_eq!(at(1_000_000), Err(Reason::Expired));
        assert_eq!(at(1_000_001), Err(Reason::Expired));
    }

    #[test]
    fn row_3_purpose_matrix_passes_on_the_diagonal_alone() {
        for made in Purpose::table() {
            for wanted in Purpose::table() {
                let mut record = record();
                record.purpose = made.name().to_owned();
                let verdict = record.accept(&wanted, Epoch::new(3), Timestamp::from_micros(0));
                let expected = if made == wanted { Ok(()) } else { Err(Reason::WrongPurpose) };
                assert_eq!(verdict, expected, "{} for {}", made.name(), wanted.name());
            }
        }
    }

    #[test]
    fn another_epoch_ends_it_in_both_directions() {
        for epoch in [2, 4] {
            let verdict = record().accept(&Purpose::api(), Epoch::new(epoch), Timestamp::from_micros(0));
            assert_eq!(verdict, Err(Reason::Ended));
        }
    }

    #[test]
    fn revoked_stays_revoked_whatever_the_clock_says() {
        let mut record = record();
        record.revoked_at = Some(Timestamp::from_micros(500_000));
        for now in [0, 499_999, 500_000, 2_000_000] {
            let verdict = record.accept(&Purpose::api(), Epoch::new(3), Timestamp::from_micros(now));
            assert_eq!(verdict, Err(Reason::Revoked));
        }
    }

    #[test]
    fn user_ids_are_opaque_but_bounded() {
        assert!(UserId::new("").is_err());
        assert!(UserId::new("a\0b").is_err());
        assert!(UserId::new("x".repeat(256)).is_err());
        assert_eq!(UserId::new("Ü/1 ' --").unwrap().as_str(), "Ü/1 ' --");
    }
}
