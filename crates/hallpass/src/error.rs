//! The two ways to fail, and what can be wrong with a wish.
//!
//! A token is [`Denied`] or its verdict is [`Unavailable`]. The two never mix: an outage is not a refusal, and
//! the holder of a token never hears which refusal it was, while the log always does ([`Denied::reason`]).

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// How long a client should wait before it asks again, when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why no verdict, or a bad one, came out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The answer is no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no answer: a part is out of reach.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The credentials were refused, or the owner's rights ended while the token was being made.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A part is out of reach, or has too much to do.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Something asked for cannot be had.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The owner has as many living tokens as the guard allows.
    #[error("there are {cap} living tokens already, which is the most allowed: revoke one first")]
    CapReached {
        /// The most living tokens the guard allows.
        cap: u32,
    },
}

impl From<Error> for IssueError {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(denied) => Self::Denied(denied),
            Error::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}

/// A refusal. Its text is the same whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("denied")]
pub struct Denied {
    reason: Reason,
}

impl Denied {
    /// The reason, for logs and for choosing the status of an answer. Never show it to the holder of a token.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

impl From<Reason> for Denied {
    fn from(reason: Reason) -> Self {
        Self { reason }
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self::Denied(reason.into())
    }
}

impl From<Reason> for IssueError {
    fn from(reason: Reason) -> Self {
        Self::Denied(reason.into())
    }
}

/// Why a token or a password was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The request carried no credentials at all.
    NoCredentials,
    /// The request carried credentials of a scheme other than `Bearer`.
    OtherScheme,
    /// The `Authorization` header is not one well-formed bearer credential.
    MalformedHeader,
    /// The text has not the shape of a token of ours, or its checksum is wrong.
    NotAToken,
    /// The token's prefix or record belongs to another purpose.
    WrongPurpose,
    /// No record has this token's hash.
    Unknown,
    /// It is `expires_at` or later.
    Expired,
    /// The token was revoked, or was for a single use and is used up.
    Revoked,
    /// All of the owner's tokens were ended after this one was made.
    Ended,
    /// The token is bound to an address that is no longer the owner's.
    AddressChanged,
    /// The owner is deleted or disabled.
    OwnerGone,
    /// The token is good, but does not carry the scope.
    InsufficientScope {
        /// The scope that was wanted.
        wanted: Cow<'static, str>,
    },
    /// Nobody logs in under this name.
    UnknownUser,
    /// The password is not this user's.
    WrongPassword,
}

impl Reason {
    /// A short fixed word for logs, metrics and the audit trail.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::OtherScheme => "other_scheme",
            Self::MalformedHeader => "malformed_header",
            Self::NotAToken => "not_a_token",
            Self::WrongPurpose => "wrong_purpose",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Ended => "ended",
            Self::AddressChanged => "address_changed",
            Self::OwnerGone => "owner_gone",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part that is needed for the answer is out of reach, or has too much to do.
#[derive(Debug)]
pub struct Unavailable {
    what: Cow<'static, str>,
    retry_after: Duration,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Unavailable {
    /// A failure without a cause of its own; `what` completes the sentence "unavailable: …".
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), retry_after: RETRY_AFTER, source: None }
    }

    /// A failure caused by `source`, which only the log sees.
    pub fn because(
        what: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), retry_after: RETRY_AFTER, source: Some(source.into()) }
    }

    /// Sets how long a client should wait before it asks again (one second if never set).
    #[must_use]
    pub fn retry_after_at_least(mut self, wait: Duration) -> Self {
        self.retry_after = wait.max(RETRY_AFTER);
        self
    }

    /// How long a client should wait before it asks again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unavailable: {}", self.what)
    }
}

impl StdError for Unavailable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A wish that cannot be fulfilled as it stands: which field, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    field: &'static str,
    message: Cow<'static, str>,
}

impl Invalid {
    /// `field` is the name on the wire, `message` says what would be accepted.
    pub fn new(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field, message: message.into() }
    }

    /// The field's name on the wire.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What would be accepted instead.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<std::convert::Infallible> for Invalid {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
