//! Where tokens are kept.
//!
//! A store is told, never asked to think: it keeps what it is given, finds it again, and makes the changes it
//! is told to, all or nothing. What a record means is judged in [`record`](crate::TokenRecord::accept) alone. Whatever passes the
//! [`conformance`] suite is a store.

use std::fmt;

use async_trait::async_trait;

use crate::{
    account::Account,
    clock::Timestamp,
    error::Unavailable,
    record::{Epoch, TokenRecord, UserId},
    token::{HashedToken, TokenId},
};

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod memory;

pub use memory::MemoryStore;

/// A store of tokens.
///
/// Four obligations hold for every method:
///
/// - **An answer is a promise.** What was answered with `Ok` survives the death of the process (and of the machine, as
///   far as the store's own settings go). A caller that was told `Unavailable` may find the work done or not.
/// - **An outage is [`Unavailable`]**, never an empty answer: "no such token" ends sessions.
/// - **All or nothing.** No method leaves half of its work behind, whenever it is interrupted.
/// - **Cancel safety.** A future that is dropped leaves the work done whole or not at all.
///
/// Ids, names and meta are data; none may become part of a statement's text.
#[async_trait]
#[doc(alias("token provider", "tokenProvider"))]
pub trait TokenStore: Send + Sync + fmt::Debug + 'static {
    /// The user's present epoch; [`Epoch::default`] for a user whose tokens were never ended.
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable>;

    /// Keeps a new token, on three conditions that are judged in the same step as the insert:
    /// its hash and id are new, `record.epoch` is the user's present epoch, and, with a `cap`, the user has fewer than
    /// `cap` tokens of this purpose that live at `record.created_at`. An insert that overwrote would hand one
    /// user's token to another; one that ignored the epoch would let a log-in outlive the "end everything" it
    /// raced with; one that counted outside the step would let a race exceed the cap.
    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError>;

    /// Finds a token by its hash, dead or alive, with its owner's present epoch. It writes nothing: a read that
    /// wrote would let a wrong secret leave traces.
    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable>;

    /// Finds a user's own token by its id, dead or alive. Another user's token is `None`.
    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable>;

    /// Whose token this id names, dead or alive. For an operator, who may end anybody's token and has only its id from a
    /// log or a list; a request is answered from [`find_by_id`](Self::find_by_id), which takes the owner.
    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable>;

    /// Uses up a token: sets `revoked_at` to `now` if it is of this purpose and living at `now`, in one conditional step, and
    /// says whether this call did it. Of any number at once exactly one hears `true`.
    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable>;

    /// Notes when tokens were last used. Never moves a time backwards, never touches another column, never
    /// brings back a token that was revoked or pruned meanwhile; unknown ids are passed over.
    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable>;

    /// Sets `revoked_at` to `now` unless it is set, and says whether this call did it. It holds for every `find`
    /// that begins after the answer.
    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable>;

    /// The same for a user's own token, by its id. Another user's token is left alone and `false`.
    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable>;

    /// Raises the user's epoch and says how many tokens, of all purposes, were living at `now` until then. Raises
    /// it also for a user it has never heard of, so that a token being made at this moment is ended too.
    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable>;

    /// Changes the named columns of a user's own token, if it is living at `now`, in one conditional step,
    /// and says whether it did.
    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable>;

    /// A page of a user's tokens of one purpose, newest first (by creation, then id, both descending).
    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable>;

    /// Deletes at most `limit` tokens that died before `cutoff` (expired, revoked, or ended by a raised epoch: then the moment
    /// of the latest raise counts) and says how many. Holds no lock longer than one batch takes.
    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable>;

    /// Whether the store can answer at this moment.
    async fn ready(&self) -> Result<(), Unavailable>;
}

/// A token that was found, and what its store knows of the owner.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The record, dead or alive.
    pub record: TokenRecord,
    /// The owner's present epoch, read in the same step.
    pub epoch: Epoch,
    /// The owner's account, read in the same step, if this store keeps the accounts as well.
    pub account: Option<Account>,
}

impl Found {
    /// What a store without accounts finds.
    #[must_use]
    pub fn new(record: TokenRecord, epoch: Epoch) -> Self {
        Self { record, epoch, account: None }
    }

    /// Adds the owner's account.
    #[must_use]
    pub fn with_account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }
}

/// That a token was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which token.
    pub id: TokenId,
    /// When it was used.
    pub at: Timestamp,
}

/// What to change of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenChange {
    /// The new name.
    pub name: Option<String>,
    /// The new instant of death, or `Some(None)` for never.
    pub expires_at: Option<Option<Timestamp>>,
}

/// Which page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Begin after this place; `None` for the first page.
    pub after: Option<Cursor>,
    /// At most so many tokens. At least 1.
    pub limit: u32,
    /// Only tokens that live at this instant; `None` for the dead as well.
    pub living_at: Option<Timestamp>,
}

/// A place in a list: the last token of the page before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When that token was made.
    pub created_at: Timestamp,
    /// Its id.
    pub id: TokenId,
}

impl Cursor {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (micros, id) = text.split_once('.')?;
        Some(Self { created_at: Timestamp::from_micros(micros.parse().ok()?), id: TokenId::parse(id)? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at.as_micros(), self.id)
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The tokens, newest first.
    pub tokens: Vec<TokenRecord>,
    /// The owner's present epoch.
    pub epoch: Epoch,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

impl Page {
    /// A page from up to `limit + 1` records: the one too many tells that there is a next page.
    #[must_use]
    pub fn from_one_more(mut tokens: Vec<TokenRecord>, epoch: Epoch, limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = tokens.len() > limit;
        tokens.truncate(limit);
        let last = tokens.last().filter(|_| more);
        let next = last.map(|last| Cursor { created_at: last.created_at, id: last.id });
        Self { tokens, epoch, next }
    }
}

/// Why a token was not kept.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Its hash or id is there already.
    #[error("a token with this hash or id exists already")]
    Conflict,
    /// The user's epoch is another than the record's.
    #[error("the user's tokens were ended meanwhile")]
    Ended,
    /// The user has as many living tokens as allowed.
    #[error("the user has as many living tokens as allowed")]
    CapReached,
    /// No answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
