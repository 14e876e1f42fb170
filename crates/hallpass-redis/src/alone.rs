//! Tokens, with the epochs of their owners beside them.

use async_trait::async_trait;
use hallpass::{
    Epoch, HashedToken, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable, UserId,
    store::{Found, InsertError, ListQuery, Page, TokenChange, Touch},
};

use crate::{
    RedisStore,
    keys::Owner,
    tokens::{Pointer, Present},
};

#[async_trait]
impl TokenStore for RedisStore {
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable> {
        self.tokens.epoch(&Owner::new(user)).await
    }

    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        self.tokens.insert(Present::Kept, hash, record, cap).await
    }

    /// Two commands, one after the other: the hash tells the owner, and the owner tells where the token and the epoch are.
    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
        let by = self.tokens.link.deadline();
        let Some(at) = self.tokens.pointer(hash, by).await? else { return Ok(None) };
        let found = self.tokens.read(&at, Some(hash), by).await?;
        Ok(found.map(|(record, epoch)| Found::new(record, epoch)))
    }

    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable> {
        let at = Pointer::new(&Owner::new(user), id);
        let found = self.tokens.read(&at, None, self.tokens.link.deadline()).await?;
        Ok(found.map(|(record, epoch)| Found::new(record, epoch)))
    }

    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        self.tokens.owner_of(id).await
    }

    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable> {
        let by = self.tokens.link.deadline();
        let Some(at) = self.tokens.pointer(hash, by).await? else { return Ok(false) };
        self.tokens.end(Present::Kept, &at, Some(hash), Some(purpose), now, by).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        self.tokens.touch(touches).await
    }

    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable> {
        let by = self.tokens.link.deadline();
        let Some(at) = self.tokens.pointer(hash, by).await? else { return Ok(false) };
        self.tokens.end(Present::Kept, &at, Some(hash), None, now, by).await
    }

    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable> {
        let at = Pointer::new(&Owner::new(user), id);
        self.tokens.end(Present::Kept, &at, None, None, now, self.tokens.link.deadline()).await
    }

    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable> {
        self.tokens.raise(&Owner::new(user), now).await
    }

    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        self.tokens.update(Present::Kept, &Owner::new(user), id, change, now).await
    }

    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable> {
        self.tokens.list(Present::Kept, &Owner::new(user), purpose, query).await
    }

    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        self.tokens.prune(cutoff, limit, None).await
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.tokens.ready().await
    }
}
