//! Accounts, and what ends all of an owner's tokens.

use async_trait::async_trait;
use hallpass::{
    EmailAddress, Epoch, Scopes, Timestamp, Unavailable, UserId,
    account::{Account, AccountStore, CreateError},
    password::StoredPassword,
};
use mysql_async::{Row, Value};

use crate::{
    MysqlStore,
    columns::{Columns, bytes, text, time},
    connection::{Changed, Sql},
    error::{Failure, corrupt},
    pool::Attempt,
};

/// What an account is read from, in the order that [`account`] reads it in.
macro_rules! account_columns {
    () => {
        "a.email, a.grants, a.created_at, a.confirmed_at, a.disabled_at"
    };
}
pub(crate) use account_columns;

/// An account by itself, with its id and epoch in front.
macro_rules! select_account {
    ($more:literal) => {
        concat!(
            "SELECT a.id, o.epoch, ",
            account_columns!(),
            $more,
            " FROM {accounts} a JOIN {owners} o ON o.user_id = a.id "
        )
    };
}

/// An id that ever had tokens ended is not new: it is never given to anybody else.
pub(crate) const CREATE_OWNER: &str = "INSERT INTO {owners} (user_id, epoch) VALUES (?, ?)";
pub(crate) const CREATE: &str = "
    INSERT INTO {accounts} (id, email, password, grants, created_at, confirmed_at, disabled_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)";

pub(crate) const FIND: &str = concat!(select_account!(""), "WHERE a.id = ?");
pub(crate) const FIND_BY_EMAIL: &str = concat!(select_account!(", a.password"), "WHERE a.email = ?");
/// No address is the empty text, so the first page is what comes after it.
pub(crate) const LIST: &str = concat!(select_account!(""), "WHERE a.email > ? ORDER BY a.email LIMIT ?");

pub(crate) const SET_PASSWORD: &str = "UPDATE {accounts} SET password = ? WHERE id = ?";
pub(crate) const REHASH: &str = "UPDATE {accounts} SET password = ? WHERE id = ? AND password = ?";
pub(crate) const DISABLE: &str = "UPDATE {accounts} SET disabled_at = COALESCE(disabled_at, ?) WHERE id = ?";
pub(crate) const ENABLE: &str = "UPDATE {accounts} SET disabled_at = NULL WHERE id = ?";
pub(crate) const DELETE: &str = "DELETE FROM {accounts} WHERE id = ?";

/// Also for a user who was never heard of: one of theirs may be in the making under epoch 0. Tells the new epoch of a row
/// that was there.
pub(crate) const RAISE: &str = "
    INSERT INTO {owners} (user_id, epoch, raised_at, unswept) VALUES (?, 1, ?, ?)
    ON DUPLICATE KEY UPDATE epoch = LAST_INSERT_ID(epoch + 1), raised_at = ?, unswept = ?";
/// Reads the index of owners alone.
pub(crate) const COUNT_ENDED: &str = "
    SELECT COUNT(*) FROM {tokens}
    WHERE user_id = ? AND epoch = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)";

/// Reads the [account columns](account_columns); `None` if there is no such row.
pub(crate) fn account(
    columns: &mut Columns,
    id: &UserId,
    epoch: Epoch,
) -> Result<Option<Account>, Unavailable> {
    let Some(email) = columns.maybe_text("email")? else { return Ok(None) };
    let grants = columns.text("grants")?;
    let created_at = columns.time("created_at")?;
    let mut account = Account::new(id.clone(), EmailAddress::from_canonical(email), created_at);
    account.grants = Scopes::parse_list(&grants).map_err(|_| corrupt("grants"))?;
    account.epoch = epoch;
    account.confirmed_at = columns.maybe_time("confirmed_at")?;
    account.disabled_at = columns.maybe_time("disabled_at")?;
    Ok(Some(account))
}

impl MysqlStore {
    /// The values of [`RAISE`].
    pub(crate) fn raise_values(user: &Value, now: Timestamp) -> Vec<Value> {
        let now = Value::Int(now.as_micros());
        vec![user.clone(), now.clone(), now.clone(), now.clone(), now]
    }

    /// How many tokens lived under the epoch before. Counted after the end of it, so that ending takes no longer for who has a
    /// million tokens than for who has none: under the old epoch no more are made.
    pub(crate) async fn count_ended(
        &self,
        user: Value,
        raised: Changed,
        now: Timestamp,
    ) -> Result<u64, Unavailable> {
        // A row that was made just now began with epoch 1 and tells nothing.
        let ended = raised.told.unwrap_or(1).saturating_sub(1);
        let values = vec![user, Value::UInt(ended), Value::Int(now.as_micros())];
        let row = self.pool.row(&self.sql.count_ended, values).await?;
        row.map_or(Ok(0), |row| Columns::new(row).number("count"))
    }

    /// Makes a change of an account that ends its tokens; `None` if there is no such account.
    async fn end(
        &self,
        id: &UserId,
        change: &Sql,
        values: impl Fn(Value) -> Vec<Value> + Sync,
        now: Timestamp,
    ) -> Result<Option<u64>, Unavailable> {
        let Some(id) = self.ids.value(id) else { return Ok(None) };
        let once = || Box::pin(self.end_once(change, values(id.clone()), &id, now)) as Attempt<'_, _>;
        let raised = self.pool.retrying(once).await?;
        match raised {
            Some(raised) => self.count_ended(id, raised, now).await.map(Some),
            None => Ok(None),
        }
    }

    async fn end_once(
        &self,
        change: &Sql,
        values: Vec<Value>,
        id: &Value,
        now: Timestamp,
    ) -> Result<Option<Changed>, Failure> {
        let mut transaction = self.pool.begin().await?;
        let outcome = async {
            if transaction.change(change, values).await?.rows == 0 {
                return Ok(None);
            }
            transaction.change(&self.sql.raise, Self::raise_values(id, now)).await.map(Some)
        }
        .await;
        transaction.end(outcome).await
    }

    async fn create_once(&self, owner: Vec<Value>, account: Vec<Value>) -> Result<(), Failure> {
        let mut transaction = self.pool.begin().await?;
        let outcome = async {
            transaction.change(&self.sql.create_owner, owner).await?;
            transaction.change(&self.sql.create_account, account).await.map(drop)
        }
        .await;
        transaction.end(outcome).await
    }

    /// Reads an account by itself, and leaves what comes after it.
    fn account_by_itself(&self, row: Row) -> Result<(Account, Columns), Unavailable> {
        let mut columns = Columns::new(row);
        let id = self.ids.read(columns.value())?;
        let epoch = Epoch::new(columns.number("epoch")?);
        let account = account(&mut columns, &id, epoch)?.ok_or_else(|| corrupt("email"))?;
        Ok((account, columns))
    }
}

#[async_trait]
impl AccountStore for MysqlStore {
    async fn create(&self, account: &Account, password: Option<&StoredPassword>) -> Result<(), CreateError> {
        let Some(id) = self.ids.value(&account.id) else {
            let what = "accounts need user ids of text or UUIDs, and this database has integers";
            return Err(Unavailable::new(what).into());
        };
        let owner = vec![id.clone(), Value::UInt(account.epoch.number().into())];
        let values = vec![
            id,
            bytes(account.email.as_str()),
            text(password.map(StoredPassword::as_phc)),
            bytes(account.grants.to_string()),
            Value::Int(account.created_at.as_micros()),
            time(account.confirmed_at),
            time(account.disabled_at),
        ];
        let once = || Box::pin(self.create_once(owner.clone(), values.clone())) as Attempt<'_, _>;
        let created = self.pool.retrying(once).await;
        match created {
            Ok(()) => Ok(()),
            Err(Failure::Taken) => Err(CreateError::Conflict),
            Err(failure) => Err(failure.into_unavailable().into()),
        }
    }

    async fn find(&self, id: &UserId) -> Result<Option<Account>, Unavailable> {
        let Some(id) = self.ids.value(id) else { return Ok(None) };
        let row = self.pool.row(&self.sql.find_account, vec![id]).await?;
        row.map(|row| Ok(self.account_by_itself(row)?.0)).transpose()
    }

    async fn find_by_email(
        &self,
        email: &EmailAddress,
    ) -> Result<Option<(Account, Option<StoredPassword>)>, Unavailable> {
        let row = self.pool.row(&self.sql.find_by_email, vec![bytes(email.as_str())]).await?;
        let Some(row) = row else { return Ok(None) };
        let (account, mut rest) = self.account_by_itself(row)?;
        Ok(Some((account, rest.maybe_text("password")?.map(StoredPassword::from_phc))))
    }

    async fn list(&self, after: Option<&EmailAddress>, limit: u32) -> Result<Vec<Account>, Unavailable> {
        let after = after.map_or("", EmailAddress::as_str);
        let rows = self.pool.rows(&self.sql.list_accounts, vec![bytes(after), Value::UInt(limit.into())]);
        rows.await?.into_iter().map(|row| Ok(self.account_by_itself(row)?.0)).collect()
    }

    async fn set_password(
        &self,
        id: &UserId,
        password: &StoredPassword,
        now: Timestamp,
    ) -> Result<Option<u64>, Unavailable> {
        self.end(id, &self.sql.set_password, |id| vec![bytes(password.as_phc()), id], now).await
    }

    async fn rehash(
        &self,
        id: &UserId,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable> {
        let Some(id) = self.ids.value(id) else { return Ok(()) };
        let values = vec![bytes(to.as_phc()), id, bytes(from.as_phc())];
        self.pool.change(&self.sql.rehash, values).await?;
        Ok(())
    }

    async fn disable(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end(id, &self.sql.disable, |id| vec![Value::Int(now.as_micros()), id], now).await
    }

    async fn enable(&self, id: &UserId) -> Result<bool, Unavailable> {
        let Some(id) = self.ids.value(id) else { return Ok(false) };
        Ok(self.pool.change(&self.sql.enable, vec![id]).await?.rows > 0)
    }

    async fn delete(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end(id, &self.sql.delete_account, |id| vec![id], now).await
    }
}
