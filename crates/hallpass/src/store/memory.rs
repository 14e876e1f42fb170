use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;

use super::{Found, InsertError, ListQuery, Page, TokenChange, TokenStore, Touch};
use crate::{
    account::{Account, AccountStore, CreateError},
    address::EmailAddress,
    clock::Timestamp,
    error::Unavailable,
    password::StoredPassword,
    record::{Epoch, TokenRecord, UserId},
    token::{HashedToken, TokenId},
};

/// Tokens and accounts in memory, gone with the process: for tests and for trying things out.
///
/// It can be told to [fail](Self::fail) and counts the [calls](Self::calls) made to it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    failing: AtomicBool,
    calls: AtomicU64,
}

#[derive(Debug, Default)]
struct Tables {
    tokens: HashMap<HashedToken, TokenRecord>,
    by_id: HashMap<TokenId, HashedToken>,
    owners: HashMap<UserId, Owner>,
    accounts: BTreeMap<EmailAddress, (Account, Option<StoredPassword>)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Owner {
    epoch: Epoch,
    raised_at: Option<Timestamp>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every call is `Unavailable`, or none is any more.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// How many calls were made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn tables(&self) -> Result<MutexGuard<'_, Tables>, Unavailable> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.failing.load(Ordering::SeqCst) {
            return Err(Unavailable::new("the store was told to fail"));
        }
        Ok(self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tables {
    fn epoch(&self, user: &UserId) -> Epoch {
        self.owners.get(user).copied().unwrap_or_default().epoch
    }

    fn living(&self, user: &UserId, now: Timestamp) -> impl Iterator<Item = &TokenRecord> {
        let epoch = self.epoch(user);
        self.tokens.values().filter(move |token| token.user == *user && token.living(epoch, now).is_ok())
    }

    fn end_all(&mut self, user: &UserId, now: Timestamp) -> u64 {
        let count = u64::try_from(self.living(user, now).count()).unwrap_or(u64::MAX);
        let epoch = Epoch::new(self.epoch(user).number() + 1);
        self.owners.insert(user.clone(), Owner { epoch, raised_at: Some(now) });
        if let Some((account, _)) = self.account_mut(user) {
            account.epoch = epoch;
        }
        count
    }

    fn find(&self, hash: &HashedToken) -> Option<Found> {
        let record = self.tokens.get(hash)?.clone();
        let account = self.account(&record.user).cloned();
        Some(Found { epoch: self.epoch(&record.user), record, account })
    }

    fn own(&mut self, user: &UserId, id: TokenId) -> Option<&mut TokenRecord> {
        let hash = self.by_id.get(&id)?;
        self.tokens.get_mut(hash).filter(|token| token.user == *user)
    }

    fn account(&self, id: &UserId) -> Option<&Account> {
        self.accounts.values().map(|(account, _)| account).find(|account| account.id == *id)
    }

    fn account_mut(&mut self, id: &UserId) -> Option<&mut (Account, Option<StoredPassword>)> {
        self.accounts.values_mut().find(|(account, _)| account.id == *id)
    }
}

fn revoke(token: Option<&mut TokenRecord>, now: Timestamp) -> bool {
    let Some(token) = token else { return false };
    let first = token.revoked_at.is_none();
    token.revoked_at.get_or_insert(now);
    first
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable> {
        Ok(self.tables()?.epoch(user))
    }

    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        let mut tables = self.tables()?;
        if tables.tokens.contains_key(hash) || tables.by_id.contains_key(&record.id) {
            return Err(InsertError::Conflict);
        }
        if tables.epoch(&record.user) != record.epoch {
            return Err(InsertError::Ended);
        }
        if let Some(cap) = cap {
            let alike = |token: &&TokenRecord| token.purpose == record.purpose;
            let living = tables.living(&record.user, record.created_at).filter(alike).count();
            if living >= usize::try_from(cap).unwrap_or(usize::MAX) {
                return Err(InsertError::CapReached);
            }
        }
        tables.by_id.insert(record.id, *hash);
        tables.tokens.insert(*hash, record.clone());
        Ok(())
    }

    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
        Ok(self.tables()?.find(hash))
    }

    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable> {
        let tables = self.tables()?;
        let found = tables.by_id.get(&id).and_then(|hash| tables.find(hash));
        Ok(found.filter(|found| found.record.user == *user))
    }

    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        let tables = self.tables()?;
        let token = tables.by_id.get(&id).and_then(|hash| tables.tokens.get(hash));
        Ok(token.map(|token| token.user.clone()))
    }

    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable> {
        let mut tables = self.tables()?;
        let Some(found) = tables.find(hash) else { return Ok(false) };
        let good = found.record.purpose == purpose && found.record.living(found.epoch, now).is_ok();
        Ok(good && revoke(tables.tokens.get_mut(hash), now))
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        let mut guard = self.tables()?;
        let tables = &mut *guard;
        for touch in touches {
            let token = tables.by_id.get(&touch.id).and_then(|hash| tables.tokens.get_mut(hash));
            if let Some(token) = token.filter(|token| token.revoked_at.is_none()) {
                token.last_used_at = token.last_used_at.max(Some(touch.at));
            }
        }
        Ok(())
    }

    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable> {
        Ok(revoke(self.tables()?.tokens.get_mut(hash), now))
    }

    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable> {
        Ok(revoke(self.tables()?.own(user, id), now))
    }

    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable> {
        Ok(self.tables()?.end_all(user, now))
    }

    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let mut tables = self.tables()?;
        let epoch = tables.epoch(user);
        let Some(token) = tables.own(user, id).filter(|token| token.living(epoch, now).is_ok()) else {
            return Ok(false);
        };
        if let Some(name) = &change.name {
            token.name = Some(name.clone());
        }
        if let Some(expires_at) = change.expires_at {
            token.expires_at = expires_at;
        }
        Ok(true)
    }

    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable> {
        let tables = self.tables()?;
        let epoch = tables.epoch(user);
        let place = |token: &TokenRecord| (token.created_at, token.id);
        let wanted = |token: &&TokenRecord| {
            token.user == *user
                && token.purpose == purpose
                && query.living_at.is_none_or(|now| token.living(epoch, now).is_ok())
                && query.after.is_none_or(|after| place(token) < (after.created_at, after.id))
        };
        let mut tokens: Vec<_> = tables.tokens.values().filter(wanted).cloned().collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(place(token)));
        Ok(Page::from_one_more(tokens, epoch, query.limit))
    }

    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        let mut guard = self.tables()?;
        let tables = &mut *guard;
        let dead_before = |token: &TokenRecord| {
            let owner = tables.owners.get(&token.user).copied().unwrap_or_default();
            let ended_at = owner.raised_at.filter(|_| owner.epoch != token.epoch);
            [token.expires_at, token.revoked_at, ended_at].into_iter().flatten().any(|end| end < cutoff)
        };
        let dead: Vec<_> = tables
            .tokens
            .iter()
            .filter(|(_, token)| dead_before(token))
            .map(|(hash, token)| (*hash, token.id))
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect();
        for (hash, id) in &dead {
            tables.tokens.remove(hash);
            tables.by_id.remove(id);
        }
        Ok(u64::try_from(dead.len()).unwrap_or(u64::MAX))
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.tables().map(drop)
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn create(&self, account: &Account, password: Option<&StoredPassword>) -> Result<(), CreateError> {
        let mut tables = self.tables()?;
        if tables.accounts.contains_key(&account.email) || tables.owners.contains_key(&account.id) {
            return Err(CreateError::Conflict);
        }
        tables.owners.insert(account.id.clone(), Owner { epoch: account.epoch, raised_at: None });
        tables.accounts.insert(account.email.clone(), (account.clone(), password.cloned()));
        Ok(())
    }

    async fn find(&self, id: &UserId) -> Result<Option<Account>, Unavailable> {
        Ok(self.tables()?.account(id).cloned())
    }

    async fn find_by_email(
        &self,
        email: &EmailAddress,
    ) -> Result<Option<(Account, Option<StoredPassword>)>, Unavailable> {
        Ok(self.tables()?.accounts.get(email).cloned())
    }

    async fn list(&self, after: Option<&EmailAddress>, limit: u32) -> Result<Vec<Account>, Unavailable> {
        let tables = self.tables()?;
        let rest = tables.accounts.iter().filter(|(email, _)| after.is_none_or(|after| *email > after));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(rest.map(|(_, (account, _))| account.clone()).take(limit).collect())
    }

    async fn set_password(
        &self,
        id: &UserId,
        password: &StoredPassword,
        now: Timestamp,
    ) -> Result<Option<u64>, Unavailable> {
        let mut tables = self.tables()?;
        let Some((_, stored)) = tables.account_mut(id) else { return Ok(None) };
        *stored = Some(password.clone());
        Ok(Some(tables.end_all(id, now)))
    }

    async fn rehash(
        &self,
        id: &UserId,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable> {
        if let Some((_, stored)) = self.tables()?.account_mut(id)
            && stored.as_ref() == Some(from)
        {
            *stored = Some(to.clone());
        }
        Ok(())
    }

    async fn disable(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        let mut tables = self.tables()?;
        let Some((account, _)) = tables.account_mut(id) else { return Ok(None) };
        account.disabled_at.get_or_insert(now);
        Ok(Some(tables.end_all(id, now)))
    }

    async fn enable(&self, id: &UserId) -> Result<bool, Unavailable> {
        let mut tables = self.tables()?;
        let Some((account, _)) = tables.account_mut(id) else { return Ok(false) };
        account.disabled_at = None;
        Ok(true)
    }

    async fn delete(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        let mut tables = self.tables()?;
        let Some(email) = tables.account(id).map(|account| account.email.clone()) else { return Ok(None) };
        let ended = tables.end_all(id, now);
        tables.accounts.remove(&email);
        Ok(Some(ended))
    }
}
