//! Accounts, and what ends all of an owner's tokens.

use async_trait::async_trait;
use hallpass::{
    EmailAddress, Epoch, Scopes, Timestamp, Unavailable, UserId,
    account::{Account, AccountStore, CreateError},
    password::StoredPassword,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    error::{Failed, corrupt},
};

/// What an account is read from, in the order that [`account`] reads it in.
macro_rules! account_columns {
    () => {
        "a.email, a.grants, a.created_at, a.confirmed_at, a.disabled_at"
    };
}
pub(crate) use account_columns;

/// An id that ever had tokens ended is not new: it is never given to anybody else.
const CREATE_OWNER: &str = "INSERT INTO hallpass_owners (user_id, epoch, swept_epoch) VALUES (?1, ?2, ?2)";
const CREATE: &str = "
    INSERT INTO hallpass_accounts (id, email, password, grants, created_at, confirmed_at, disabled_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const FIND: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.id, o.epoch FROM hallpass_accounts a JOIN hallpass_owners o ON o.user_id = a.id WHERE a.id = ?1"
);
const FIND_BY_EMAIL: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.id, o.epoch, a.password
     FROM hallpass_accounts a JOIN hallpass_owners o ON o.user_id = a.id WHERE a.email = ?1"
);
/// No address is the empty text, so the first page is what comes after it.
const LIST: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.id, o.epoch
     FROM hallpass_accounts a JOIN hallpass_owners o ON o.user_id = a.id
     WHERE a.email > ?1 ORDER BY a.email LIMIT ?2"
);

const SET_PASSWORD: &str = "UPDATE hallpass_accounts SET password = ?2 WHERE id = ?1";
const REHASH: &str = "UPDATE hallpass_accounts SET password = ?3 WHERE id = ?1 AND password = ?2";
const DISABLE: &str = "UPDATE hallpass_accounts SET disabled_at = coalesce(disabled_at, ?2) WHERE id = ?1";
const ENABLE: &str = "UPDATE hallpass_accounts SET disabled_at = NULL WHERE id = ?1";
const DELETE: &str = "DELETE FROM hallpass_accounts WHERE id = ?1";

/// Reads the index of owners alone.
pub(crate) const COUNT_LIVING: &str = "
    SELECT count(*) FROM hallpass_tokens
    WHERE user_id = ?1
      AND epoch = coalesce((SELECT epoch FROM hallpass_owners WHERE user_id = ?1), 0)
      AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)";
/// Also for a user who was never heard of: one of theirs may be in the making under epoch 0.
const RAISE: &str = "
    INSERT INTO hallpass_owners (user_id, epoch, raised_at, swept_epoch) VALUES (?1, 1, ?2, 0)
    ON CONFLICT (user_id) DO UPDATE SET epoch = epoch + 1, raised_at = ?2";

#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    CREATE_OWNER,
    CREATE,
    FIND,
    FIND_BY_EMAIL,
    LIST,
    SET_PASSWORD,
    REHASH,
    DISABLE,
    ENABLE,
    DELETE,
    COUNT_LIVING,
    RAISE,
];

/// Ends all of an owner's tokens and says how many were living.
pub(crate) fn end_all(connection: &Connection, user: &UserId, now: Timestamp) -> rusqlite::Result<u64> {
    let owner = params![user.as_str(), now.as_micros()];
    let living: i64 = connection.prepare_cached(COUNT_LIVING)?.query_row(owner, |row| row.get(0))?;
    connection.prepare_cached(RAISE)?.execute(owner)?;
    Ok(u64::try_from(living).unwrap_or_default())
}

/// Reads the [account columns](account_columns), which begin at `first`.
pub(crate) fn account(row: &Row<'_>, first: usize, id: UserId, epoch: Epoch) -> rusqlite::Result<Account> {
    let email = EmailAddress::from_canonical(row.get::<_, String>(first)?);
    let grants = row.get_ref(first + 1)?.as_str()?;
    let time = |column| row.get(column).map(|micros: Option<i64>| micros.map(Timestamp::from_micros));
    let created_at = Timestamp::from_micros(row.get(first + 2)?);
    let mut account = Account::new(id, email, created_at);
    account.grants = Scopes::parse_list(grants).map_err(|error| corrupt(first + 1, error))?;
    account.epoch = epoch;
    account.confirmed_at = time(first + 3)?;
    account.disabled_at = time(first + 4)?;
    Ok(account)
}

fn account_by_itself(row: &Row<'_>) -> rusqlite::Result<Account> {
    let id = UserId::new(row.get::<_, String>(5)?).map_err(|error| corrupt(5, error))?;
    account(row, 0, id, Epoch::new(row.get(6)?))
}

impl SqliteStore {
    /// Runs a change of an account that ends its tokens; `None` if there is no such account.
    async fn end(
        &self,
        id: &UserId,
        now: Timestamp,
        change: impl FnOnce(&Connection, &UserId) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<Option<u64>, Unavailable> {
        let id = id.clone();
        self.inner
            .writer
            .write(move |connection| {
                if change(connection, &id)? == 0 {
                    return Ok(None);
                }
                end_all(connection, &id, now).map(Some)
            })
            .await
    }
}

#[async_trait]
impl AccountStore for SqliteStore {
    async fn create(&self, account: &Account, password: Option<&StoredPassword>) -> Result<(), CreateError> {
        let (account, password) = (account.clone(), password.cloned());
        let created = self.inner.writer.write_new(move |connection| {
            let id = account.id.as_str();
            connection.prepare_cached(CREATE_OWNER)?.execute(params![id, account.epoch.number()])?;
            connection.prepare_cached(CREATE)?.execute(params![
                id,
                account.email.as_str(),
                password.as_ref().map(StoredPassword::as_phc),
                account.grants.to_string(),
                account.created_at.as_micros(),
                account.confirmed_at.map(Timestamp::as_micros),
                account.disabled_at.map(Timestamp::as_micros),
            ])?;
            Ok(())
        });
        created.await.map_err(|failed| match failed {
            Failed::Taken => CreateError::Conflict,
            Failed::Unavailable(unavailable) => unavailable.into(),
        })
    }

    async fn find(&self, id: &UserId) -> Result<Option<Account>, Unavailable> {
        self.inner.readers.read(|connection| {
            connection.prepare_cached(FIND)?.query_row([id.as_str()], account_by_itself).optional()
        })
    }

    async fn find_by_email(
        &self,
        email: &EmailAddress,
    ) -> Result<Option<(Account, Option<StoredPassword>)>, Unavailable> {
        self.inner.readers.read(|connection| {
            let mut statement = connection.prepare_cached(FIND_BY_EMAIL)?;
            let found = statement.query_row([email.as_str()], |row| {
                let password = row.get::<_, Option<String>>(7)?.map(StoredPassword::from_phc);
                Ok((account_by_itself(row)?, password))
            });
            found.optional()
        })
    }

    async fn list(&self, after: Option<&EmailAddress>, limit: u32) -> Result<Vec<Account>, Unavailable> {
        let after = after.map_or("", EmailAddress::as_str);
        self.inner.readers.read(|connection| {
            let mut statement = connection.prepare_cached(LIST)?;
            statement.query_map(params![after, limit], account_by_itself)?.collect()
        })
    }

    async fn set_password(
        &self,
        id: &UserId,
        password: &StoredPassword,
        now: Timestamp,
    ) -> Result<Option<u64>, Unavailable> {
        let password = password.clone();
        self.end(id, now, move |connection, id| {
            connection.prepare_cached(SET_PASSWORD)?.execute([id.as_str(), password.as_phc()])
        })
        .await
    }

    async fn rehash(
        &self,
        id: &UserId,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable> {
        let (id, from, to) = (id.clone(), from.clone(), to.clone());
        self.inner
            .writer
            .write(move |connection| {
                let passwords = [id.as_str(), from.as_phc(), to.as_phc()];
                connection.prepare_cached(REHASH)?.execute(passwords).map(drop)
            })
            .await
    }

    async fn disable(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end(id, now, move |connection, id| {
            connection.prepare_cached(DISABLE)?.execute(params![id.as_str(), now.as_micros()])
        })
        .await
    }

    async fn enable(&self, id: &UserId) -> Result<bool, Unavailable> {
        let id = id.clone();
        let enabled = self
            .inner
            .writer
            .write(move |connection| connection.prepare_cached(ENABLE)?.execute([id.as_str()]))
            .await?;
        Ok(enabled > 0)
    }

    async fn delete(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end(id, now, |connection, id| connection.prepare_cached(DELETE)?.execute([id.as_str()])).await
    }
}
