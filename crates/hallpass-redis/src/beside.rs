//! Tokens here, epochs and accounts in another database.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use hallpass::{
    EmailAddress, Epoch, HashedToken, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable, UserId,
    account::{Account, AccountStore, CreateError},
    password::StoredPassword,
    store::{Found, InsertError, ListQuery, Page, TokenChange, Touch},
};

use crate::{
    RedisStore,
    keys::Owner,
    tokens::{Pointer, Present},
};

/// Tokens in Redis, beside a database that keeps the epochs and the accounts: a [`TokenStore`] and an [`AccountStore`]. Made by
/// [`RedisStore::beside`]. Cheap to clone.
///
/// The database decides what is ended: a raised epoch there ends every token here at once, because every verification compares. So
/// whatever ends all of a user's tokens is as durable as the database; only what ends a single one is as durable as Redis.
///
/// Use it for both roles. An account that is changed through the database's own store is safe too, but the count of ended tokens is then
/// that of the database, and prune does not hear of it: tokens that never expire would stay in Redis, dead.
#[derive(Clone)]
pub struct Beside {
    pub(crate) redis: RedisStore,
    pub(crate) epochs: Arc<dyn TokenStore>,
    pub(crate) accounts: Arc<dyn AccountStore>,
}

impl Beside {
    /// The tokens' side, for looking into the servers.
    #[must_use]
    pub fn redis(&self) -> &RedisStore {
        &self.redis
    }

    /// The epoch and the account, in one statement if there is an account.
    async fn owner(&self, user: &UserId) -> Result<(Epoch, Option<Account>), Unavailable> {
        match self.accounts.find(user).await? {
            Some(account) => Ok((account.epoch, Some(account))),
            None => Ok((self.epochs.epoch(user).await?, None)),
        }
    }

    /// Reads the token and its owner at the same time. That they are not of one moment does no harm: an epoch is never lowered,
    /// nor a revocation undone. So a token that comes out alive lived when the earlier of the two was read, after this call began.
    async fn found(&self, at: &Pointer, hash: Option<&HashedToken>) -> Result<Option<Found>, Unavailable> {
        let tokens = &self.redis.tokens;
        let Some(user) = at.owner.user() else { return Err(crate::error::corrupt("a user's id")) };
        let (token, owner) = tokio::join!(tokens.read(at, hash, tokens.link.deadline()), self.owner(&user));
        let Some((record, _)) = token? else { return Ok(None) };
        let (epoch, account) = owner?;
        Ok(Some(Found::new(record, epoch).with_account(account)))
    }

    /// Runs what raises the epoch over there, and answers `Some` if it was raised. What is living here is counted before. That
    /// the owner is to be looked at by prune is noted before, so that a crash cannot lose it, and after, so that prune cannot
    /// have looked too early.
    async fn end_all<T>(
        &self,
        user: &UserId,
        now: Timestamp,
        raise: impl Future<Output = Result<Option<T>, Unavailable>>,
    ) -> Result<Option<u64>, Unavailable> {
        let (tokens, owner) = (&self.redis.tokens, Owner::new(user));
        let epoch = self.epochs.epoch(user).await?;
        let living = tokens.note(&owner, epoch, now).await?;
        if raise.await?.is_none() {
            return Ok(None);
        }
        // It is done, whether or not this is.
        if let Err(error) = tokens.note(&owner, epoch, now).await {
            tracing::warn!(%error, "prune may find a user's ended tokens late");
        }
        Ok(Some(living))
    }
}

#[async_trait]
impl TokenStore for Beside {
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable> {
        self.epochs.epoch(user).await
    }

    /// The epoch is compared before and after. In between it may be raised; then the token is dead from its first moment, as every
    /// verification compares too, and is taken back.
    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        if self.epochs.epoch(&record.user).await? != record.epoch {
            return Err(InsertError::Ended);
        }
        let tokens = &self.redis.tokens;
        tokens.insert(Present::Told(record.epoch), hash, record, cap).await?;
        if self.epochs.epoch(&record.user).await? == record.epoch {
            return Ok(());
        }
        tokens.discard(hash, record).await?;
        Err(InsertError::Ended)
    }

    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
        let tokens = &self.redis.tokens;
        let Some(at) = tokens.pointer(hash, tokens.link.deadline()).await? else { return Ok(None) };
        self.found(&at, Some(hash)).await
    }

    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable> {
        self.found(&Pointer::new(&Owner::new(user), id), None).await
    }

    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        self.redis.owner_of(id).await
    }

    /// The epoch is compared again when the token is used up: if all was ended meanwhile, nobody has redeemed it.
    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable> {
        let tokens = &self.redis.tokens;
        let by = tokens.link.deadline();
        let Some(at) = tokens.pointer(hash, by).await? else { return Ok(false) };
        let Some(user) = at.owner.user() else { return Err(crate::error::corrupt("a user's id")) };
        let epoch = self.epochs.epoch(&user).await?;
        let taken = tokens.end(Present::Told(epoch), &at, Some(hash), Some(purpose), now, by).await?;
        Ok(taken && self.epochs.epoch(&user).await? == epoch)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        self.redis.touch(touches).await
    }

    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable> {
        self.redis.revoke(hash, now).await
    }

    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable> {
        self.redis.revoke_by_id(user, id, now).await
    }

    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable> {
        let raise = async { self.epochs.revoke_all(user, now).await.map(Some) };
        Ok(self.end_all(user, now, raise).await?.unwrap_or_default())
    }

    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let epoch = self.epochs.epoch(user).await?;
        self.redis.tokens.update(Present::Told(epoch), &Owner::new(user), id, change, now).await
    }

    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable> {
        let epoch = self.epochs.epoch(user).await?;
        self.redis.tokens.list(Present::Told(epoch), &Owner::new(user), purpose, query).await
    }

    /// Prunes the database as well: it has its own notes of who was ended, and perhaps tokens from before.
    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        let here = self.redis.tokens.prune(cutoff, limit, Some(&*self.epochs)).await?;
        let left = u32::try_from(u64::from(limit).saturating_sub(here)).unwrap_or_default();
        if left == 0 {
            return Ok(here);
        }
        Ok(here + self.epochs.prune(cutoff, left).await?)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.redis.ready().await?;
        self.epochs.ready().await
    }
}

#[async_trait]
impl AccountStore for Beside {
    async fn create(&self, account: &Account, password: Option<&StoredPassword>) -> Result<(), CreateError> {
        self.accounts.create(account, password).await
    }

    async fn find(&self, id: &UserId) -> Result<Option<Account>, Unavailable> {
        self.accounts.find(id).await
    }

    async fn find_by_email(
        &self,
        email: &EmailAddress,
    ) -> Result<Option<(Account, Option<StoredPassword>)>, Unavailable> {
        self.accounts.find_by_email(email).await
    }

    async fn list(&self, after: Option<&EmailAddress>, limit: u32) -> Result<Vec<Account>, Unavailable> {
        self.accounts.list(after, limit).await
    }

    async fn set_password(
        &self,
        id: &UserId,
        password: &StoredPassword,
        now: Timestamp,
    ) -> Result<Option<u64>, Unavailable> {
        self.end_all(id, now, self.accounts.set_password(id, password, now)).await
    }

    async fn rehash(
        &self,
        id: &UserId,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable> {
        self.accounts.rehash(id, from, to).await
    }

    async fn disable(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end_all(id, now, self.accounts.disable(id, now)).await
    }

    async fn enable(&self, id: &UserId) -> Result<bool, Unavailable> {
        self.accounts.enable(id).await
    }

    async fn delete(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end_all(id, now, self.accounts.delete(id, now)).await
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside")
            .field("redis", &self.redis)
            .field("epochs", &self.epochs)
            .finish_non_exhaustive()
    }
}
