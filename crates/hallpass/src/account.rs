//! Accounts, for applications that have no user table of their own.
//!
//! [`Accounts`] is the built-in [`UserProvider`]: it logs in by e-mail address and password, and whatever ends a
//! person's rights (disable, delete, a new password) ends their tokens in the same step.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    address::EmailAddress,
    clock::{Clock, SystemClock, Timestamp},
    error::Unavailable,
    event::{Event, EventKind, Observers},
    password::{NewPassword, Passwords, StoredPassword},
    record::{Epoch, UserId},
    scope::Scopes,
    users::{Credentials, UserProvider},
};

/// An account. It never carries the password, in any form.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Account {
    /// Its id: random, never used again.
    pub id: UserId,
    /// Its address, unique among accounts.
    pub email: EmailAddress,
    /// Privileged scopes that were granted by hand, such as `admin`.
    pub grants: Scopes,
    /// How often all of its tokens were ended.
    pub epoch: Epoch,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its address was proven; until then it cannot log in.
    pub confirmed_at: Option<Timestamp>,
    /// When it was disabled; while set, it can do nothing.
    pub disabled_at: Option<Timestamp>,
}

impl Account {
    /// An account that is neither confirmed nor disabled and was granted nothing.
    #[must_use]
    pub fn new(id: UserId, email: EmailAddress, created_at: Timestamp) -> Self {
        Self {
            id,
            email,
            grants: Scopes::none(),
            epoch: Epoch::default(),
            created_at,
            confirmed_at: None,
            disabled_at: None,
        }
    }

    /// Whether it may log in and its tokens are good.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.confirmed_at.is_some() && self.disabled_at.is_none()
    }
}

/// Where accounts are kept. The obligations of [`TokenStore`](crate::TokenStore) hold here too.
///
/// A method that takes an id answers `None` (or `false`) if there is no such account.
#[async_trait]
pub trait AccountStore: Send + Sync + fmt::Debug + 'static {
    /// Keeps a new account and its password. Its epoch must be that of its id, which is 0 for a new id.
    async fn create(&self, account: &Account, password: Option<&StoredPassword>) -> Result<(), CreateError>;

    /// The account with this id, whatever its state.
    async fn find(&self, id: &UserId) -> Result<Option<Account>, Unavailable>;

    /// The account with this address, whatever its state, and its password: read in one step, so that the epoch
    /// is the one the password was valid under.
    async fn find_by_email(
        &self,
        email: &EmailAddress,
    ) -> Result<Option<(Account, Option<StoredPassword>)>, Unavailable>;

    /// At most `limit` accounts, sorted by address, beginning after `after`.
    async fn list(&self, after: Option<&EmailAddress>, limit: u32) -> Result<Vec<Account>, Unavailable>;

    /// Sets the password and raises the epoch, in one step; says how many living tokens this ended.
    async fn set_password(
        &self,
        id: &UserId,
        password: &StoredPassword,
        now: Timestamp,
    ) -> Result<Option<u64>, Unavailable>;

    /// Replaces the stored form `from` of the same password by `to`; does nothing if it is no longer `from`.
    async fn rehash(
        &self,
        id: &UserId,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable>;

    /// Disables the account and raises the epoch, in one step; says how many living tokens this ended. An account that is
    /// disabled already keeps its time.
    async fn disable(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable>;

    /// Enables the account again. Its old tokens stay dead.
    async fn enable(&self, id: &UserId) -> Result<bool, Unavailable>;

    /// Deletes the account and raises the epoch, in one step; says how many living tokens this ended.
    async fn delete(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable>;
}

/// Why an account was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Its address or id is taken.
    #[error("there is an account with this address already")]
    Conflict,
    /// No answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The built-in accounts, as a [`UserProvider`] and for whoever manages them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accounts {
    store: Arc<dyn AccountStore>,
    passwords: Passwords,
    clock: Arc<dyn Clock>,
    observers: Observers,
}

impl Accounts {
    /// Accounts in `store`, with the machine's clock, passwords at their default cost, and nobody watching.
    #[must_use]
    pub fn new(store: Arc<dyn AccountStore>) -> Self {
        Self { store, passwords: Passwords::new(), clock: Arc::new(SystemClock), observers: Observers::new() }
    }

    /// Sets who hashes passwords. Share it with the guard.
    #[must_use]
    pub fn passwords(mut self, passwords: Passwords) -> Self {
        self.passwords = passwords;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets who is told of changes.
    #[must_use]
    pub fn observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// Makes a confirmed account with a password and privileged scopes, as an operator does.
    ///
    /// # Errors
    /// The address is taken, or a part is out of reach.
    pub async fn create(
        &self,
        email: EmailAddress,
        password: &NewPassword,
        grants: Scopes,
    ) -> Result<Account, CreateError> {
        let now = self.clock.now();
        let mut account = Account::new(UserId::random()?, email, now);
        account.confirmed_at = Some(now);
        account.grants = grants;
        let password = self.passwords.hash(password).await?;
        self.store.create(&account, Some(&password)).await?;
        self.tell(EventKind::AccountCreated, &account.id, now, None);
        Ok(account)
    }

    /// The account with this address, whatever its state.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn find_by_email(&self, email: &EmailAddress) -> Result<Option<Account>, Unavailable> {
        Ok(self.store.find_by_email(email).await?.map(|(account, _)| account))
    }

    /// At most `limit` accounts, sorted by address, beginning after `after`.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn list(&self, after: Option<&EmailAddress>, limit: u32) -> Result<Vec<Account>, Unavailable> {
        self.store.list(after, limit).await
    }

    /// Sets a password and ends all tokens of the account; says how many, or `None` if there is no such account.
    ///
    /// # Errors
    /// [`Unavailable`] if a part is out of reach.
    pub async fn set_password(&self, id: &UserId, new: &NewPassword) -> Result<Option<u64>, Unavailable> {
        let password = self.passwords.hash(new).await?;
        let now = self.clock.now();
        let ended = self.store.set_password(id, &password, now).await?;
        Ok(self.told(EventKind::PasswordChanged, id, now, ended))
    }

    /// Disables an account and ends all its tokens; says how many, or `None` if there is no such account.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn disable(&self, id: &UserId) -> Result<Option<u64>, Unavailable> {
        let now = self.clock.now();
        let ended = self.store.disable(id, now).await?;
        Ok(self.told(EventKind::AccountDisabled, id, now, ended))
    }

    /// Enables an account again; its old tokens stay dead. `false` if there is no such account.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn enable(&self, id: &UserId) -> Result<bool, Unavailable> {
        let enabled = self.store.enable(id).await?;
        if enabled {
            self.tell(EventKind::AccountEnabled, id, self.clock.now(), None);
        }
        Ok(enabled)
    }

    /// Deletes an account and ends all its tokens; says how many, or `None` if there is no such account.
    ///
    /// # Errors
    /// [`Unavailable`] if the store is out of reach.
    pub async fn delete(&self, id: &UserId) -> Result<Option<u64>, Unavailable> {
        let now = self.clock.now();
        let ended = self.store.delete(id, now).await?;
        Ok(self.told(EventKind::AccountDeleted, id, now, ended))
    }

    fn told(&self, kind: EventKind, id: &UserId, now: Timestamp, ended: Option<u64>) -> Option<u64> {
        if ended.is_some() {
            self.tell(kind, id, now, ended);
        }
        ended
    }

    fn tell(&self, kind: EventKind, id: &UserId, now: Timestamp, ended: Option<u64>) {
        self.observers.tell(|| {
            let event = Event::new(kind, now).user(id);
            match ended {
                Some(ended) => event.count(ended),
                None => event,
            }
        });
    }
}

impl UserProvider for Accounts {
    type User = Account;

    const KEEPS_EPOCHS: bool = true;

    fn id(&self, account: &Account) -> UserId {
        account.id.clone()
    }

    async fn find(&self, id: &UserId) -> Result<Option<Account>, Unavailable> {
        Ok(self.store.find(id).await?.filter(Account::is_active))
    }

    async fn credentials(&self, uid: &str) -> Result<Option<Credentials<Account>>, Unavailable> {
        // What is no address is looked up like one that nobody has: the answer takes as long.
        let email = EmailAddress::parse(uid).unwrap_or_else(|_| EmailAddress::nobody());
        let found = self.store.find_by_email(&email).await?;
        let active = found.filter(|(account, _)| account.is_active());
        Ok(active.map(|(user, password)| Credentials { user, password }))
    }

    fn address<'a>(&self, account: &'a Account) -> Option<&'a str> {
        Some(account.email.as_str())
    }

    fn epoch(&self, account: &Account) -> Epoch {
        account.epoch
    }

    fn is_granted(&self, account: &Account, scope: &str) -> bool {
        account.grants.allow(scope)
    }

    fn user_of(&self, account: Account) -> Option<Account> {
        Some(account).filter(Account::is_active)
    }

    async fn rehashed(
        &self,
        account: &Account,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable> {
        self.store.rehash(&account.id, from, to).await
    }
}
