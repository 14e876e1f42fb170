//! Accounts, and what ends all of an owner's tokens.

use async_trait::async_trait;
use hallpass::{
    EmailAddress, Epoch, Scopes, Timestamp, Unavailable, UserId,
    account::{Account, AccountStore, CreateError},
    password::StoredPassword,
};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    error::{Corrupt, Failed},
    link::Step,
    statements::{Sql, durably},
    tokens::epoch,
    value::{User, Value},
};

/// What an account is read from, in the order that [`account`] reads it in.
macro_rules! account_columns {
    () => {
        "a.email, a.grants, a.created_at, a.confirmed_at, a.disabled_at"
    };
}
pub(crate) use account_columns;

/// An id that ever had tokens ended is not new: it is never given to anybody else.
pub(crate) const CREATE: &str = concat!(
    "WITH owner AS (INSERT INTO {owners} (user_id, epoch, swept_epoch) VALUES ($1, $2, $2))
     INSERT INTO {accounts} (id, email, password, grants, created_at, confirmed_at, disabled_at)
     SELECT $1, $3, $4, $5, $6, $7, $8 WHERE ",
    durably!()
);

pub(crate) const FIND: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.id, o.epoch FROM {accounts} a JOIN {owners} o ON o.user_id = a.id WHERE a.id = $1"
);
pub(crate) const FIND_BY_EMAIL: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.id, o.epoch, a.password FROM {accounts} a JOIN {owners} o ON o.user_id = a.id WHERE a.email = $1"
);
/// No address is the empty text, so the first page is what comes after it.
pub(crate) const LIST: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.id, o.epoch FROM {accounts} a JOIN {owners} o ON o.user_id = a.id
     WHERE a.email > $1 ORDER BY a.email LIMIT $2"
);

/// A change of an account together with the raise of its epoch; no row if there is no such account.
macro_rules! changing {
    ($change:literal) => {
        concat!(
            "WITH changed AS (",
            $change,
            " AND ",
            durably!(),
            " RETURNING id)
             UPDATE {owners} o SET epoch = o.epoch + 1, raised_at = $2
             FROM changed WHERE o.user_id = changed.id RETURNING o.epoch"
        )
    };
}
pub(crate) const SET_PASSWORD: &str = changing!("UPDATE {accounts} SET password = $3 WHERE id = $1");
pub(crate) const DISABLE: &str =
    changing!("UPDATE {accounts} SET disabled_at = coalesce(disabled_at, $2) WHERE id = $1");
pub(crate) const DELETE: &str = changing!("DELETE FROM {accounts} WHERE id = $1");

pub(crate) const REHASH: &str = concat!(
    "UPDATE {accounts} SET password = $3 WHERE id = $1 AND password = $2 AND ",
    durably!(),
    " RETURNING true"
);
pub(crate) const ENABLE: &str =
    concat!("UPDATE {accounts} SET disabled_at = NULL WHERE id = $1 AND ", durably!(), " RETURNING true");

/// Reads the [account columns](account_columns), which begin at `first`.
pub(crate) fn account(row: &Row, first: usize, id: UserId, epoch: Epoch) -> Result<Account, Corrupt> {
    let time = |column| -> Result<Option<Timestamp>, Corrupt> {
        Ok(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
    };
    let email = EmailAddress::from_canonical(row.try_get::<_, String>(first)?);
    let created_at = Timestamp::from_micros(row.try_get(first + 2)?);
    let mut account = Account::new(id, email, created_at);
    account.grants = Scopes::parse_list(row.try_get(first + 1)?)?;
    account.epoch = epoch;
    account.confirmed_at = time(first + 3)?;
    account.disabled_at = time(first + 4)?;
    Ok(account)
}

fn account_by_itself(row: &Row) -> Result<Account, Corrupt> {
    let User(id) = row.try_get(5)?;
    account(row, 0, id, epoch(row, 6)?)
}

fn account_and_password(row: &Row) -> Result<(Account, Option<StoredPassword>), Corrupt> {
    let password: Option<String> = row.try_get(7)?;
    Ok((account_by_itself(row)?, password.map(StoredPassword::from_phc)))
}

impl PostgresStore {
    /// Makes a change of an account that ends its tokens; `None` if there is no such account.
    async fn end(
        &self,
        change: &Sql,
        id: &UserId,
        now: Timestamp,
        password: Option<&StoredPassword>,
    ) -> Result<Option<u64>, Unavailable> {
        let mut values = vec![Value::User(id), Value::at(now)];
        values.extend(password.map(|password| Value::Text(password.as_phc())));
        let raised = self.write_step(Step { sql: change, values: &values }).await?;
        self.count_ended(id, now, &raised).await
    }
}

#[async_trait]
impl AccountStore for PostgresStore {
    async fn create(&self, account: &Account, password: Option<&StoredPassword>) -> Result<(), CreateError> {
        self.accept_user(&account.id)?;
        let grants = account.grants.to_string();
        let values = [
            Value::User(&account.id),
            Value::Int(account.epoch.number().into()),
            Value::Text(account.email.as_str()),
            Value::MaybeText(password.map(StoredPassword::as_phc)),
            Value::Text(&grants),
            Value::at(account.created_at),
            Value::maybe_at(account.confirmed_at),
            Value::maybe_at(account.disabled_at),
        ];
        let create = Step { sql: &self.sql().create_account, values: &values };
        match self.write_step(create).await {
            Ok(_) => Ok(()),
            Err(Failed::Taken) => Err(CreateError::Conflict),
            Err(failed) => Err(Unavailable::from(failed).into()),
        }
    }

    async fn find(&self, id: &UserId) -> Result<Option<Account>, Unavailable> {
        let rows = self.read(&self.sql().find_account, &[Value::User(id)]).await?;
        Ok(rows.first().map(account_by_itself).transpose()?)
    }

    async fn find_by_email(
        &self,
        email: &EmailAddress,
    ) -> Result<Option<(Account, Option<StoredPassword>)>, Unavailable> {
        let rows = self.read(&self.sql().find_account_by_email, &[Value::Text(email.as_str())]).await?;
        Ok(rows.first().map(account_and_password).transpose()?)
    }

    async fn list(&self, after: Option<&EmailAddress>, limit: u32) -> Result<Vec<Account>, Unavailable> {
        let after = after.map_or("", EmailAddress::as_str);
        let values = [Value::Text(after), Value::Int(limit.into())];
        let rows = self.read(&self.sql().list_accounts, &values).await?;
        Ok(rows.iter().map(account_by_itself).collect::<Result<_, _>>()?)
    }

    async fn set_password(
        &self,
        id: &UserId,
        password: &StoredPassword,
        now: Timestamp,
    ) -> Result<Option<u64>, Unavailable> {
        self.end(&self.sql().set_password, id, now, Some(password)).await
    }

    async fn rehash(
        &self,
        id: &UserId,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable> {
        let values = [Value::User(id), Value::Text(from.as_phc()), Value::Text(to.as_phc())];
        self.change(Step { sql: &self.sql().rehash, values: &values }).await.map(drop)
    }

    async fn disable(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end(&self.sql().disable, id, now, None).await
    }

    async fn enable(&self, id: &UserId) -> Result<bool, Unavailable> {
        self.change(Step { sql: &self.sql().enable, values: &[Value::User(id)] }).await
    }

    async fn delete(&self, id: &UserId, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.end(&self.sql().delete_account, id, now, None).await
    }
}
