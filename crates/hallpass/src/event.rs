//! What happened, for those who watch: logs, the audit trail, metrics, mail.
//!
//! Observers are told after the fact and cannot change it. No event carries a secret, a digest or an address.

use std::{fmt, sync::Arc};

use crate::{clock::Timestamp, error::Reason, record::UserId, token::TokenId};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// To whom, if known.
    pub user: Option<UserId>,
    /// To which token, if to one that is known.
    pub token: Option<TokenId>,
    /// The purpose of the token or of the guard that refused it.
    pub purpose: Option<String>,
    /// Why, if it is a refusal.
    pub reason: Option<Reason>,
    /// How many, if it is about a number of tokens.
    pub count: Option<u64>,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A token was made otherwise than by a log-in.
    TokenCreated,
    /// A password was right and a token was made.
    LoginSucceeded,
    /// A name and password were refused.
    LoginRefused,
    /// A token was refused.
    TokenRefused,
    /// A token was renamed or its life was changed.
    TokenChanged,
    /// A token was revoked.
    TokenRevoked,
    /// All of a user's tokens were ended.
    TokensEnded,
    /// A token for a single use was used.
    TokenRedeemed,
    /// Dead tokens were deleted.
    Pruned,
    /// An account was made.
    AccountCreated,
    /// An account was disabled.
    AccountDisabled,
    /// An account was enabled again.
    AccountEnabled,
    /// An account was deleted.
    AccountDeleted,
    /// A password was changed.
    PasswordChanged,
    /// An address was changed.
    AddressChanged,
}

impl EventKind {
    /// The fixed word for logs, metrics and the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenCreated => "token_created",
            Self::LoginSucceeded => "login_succeeded",
            Self::LoginRefused => "login_refused",
            Self::TokenRefused => "token_refused",
            Self::TokenChanged => "token_changed",
            Self::TokenRevoked => "token_revoked",
            Self::TokensEnded => "tokens_ended",
            Self::TokenRedeemed => "token_redeemed",
            Self::Pruned => "pruned",
            Self::AccountCreated => "account_created",
            Self::AccountDisabled => "account_disabled",
            Self::AccountEnabled => "account_enabled",
            Self::AccountDeleted => "account_deleted",
            Self::PasswordChanged => "password_changed",
            Self::AddressChanged => "address_changed",
        }
    }
}

impl Event {
    /// An event of which nothing more is known yet.
    #[must_use]
    pub fn new(kind: EventKind, at: Timestamp) -> Self {
        Self { at, kind, user: None, token: None, purpose: None, reason: None, count: None }
    }

    pub(crate) fn user(mut self, user: &UserId) -> Self {
        self.user = Some(user.clone());
        self
    }

    pub(crate) fn token(mut self, id: TokenId) -> Self {
        self.token = Some(id);
        self
    }

    pub(crate) fn purpose(mut self, name: &str) -> Self {
        self.purpose = Some(name.to_owned());
        self
    }

    pub(crate) fn reason(mut self, reason: &Reason) -> Self {
        self.reason = Some(reason.clone());
        self
    }

    pub(crate) fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }
}

/// Somebody who watches.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Is told of an event, on the path of the request that caused it: it must neither block nor panic.
    fn observe(&self, event: &Event);
}

/// All who watch.
#[derive(Clone, Debug, Default)]
pub struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// Nobody watches yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one more.
    #[must_use]
    pub fn and(mut self, observer: Arc<dyn Observer>) -> Self {
        self.0.push(observer);
        self
    }

    /// Tells all of them. The event is only made if anybody watches.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.0.is_empty() {
            return;
        }
        let event = event();
        for observer in &self.0 {
            observer.observe(&event);
        }
    }
}
