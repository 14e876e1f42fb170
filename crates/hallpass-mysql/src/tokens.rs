//! Tokens.

use async_trait::async_trait;
use hallpass::{
    Epoch, HashedToken, Origin, Scopes, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable, UserId,
    store::{Found, InsertError, ListQuery, Page, TokenChange, Touch},
};
use mysql_async::{Row, Value};

use crate::{
    MysqlStore,
    accounts::{account, account_columns},
    columns::{Columns, bytes, hex, text, time},
    connection::Sql,
    error::{Failure, corrupt},
};

/// Last uses that are written in one statement: their rows are locked for a few milliseconds.
const TOUCHES_AT_ONCE: usize = 200;

/// What a record is read from, in the order that [`MysqlStore::record`] reads it in.
macro_rules! token_columns {
    () => {
        "t.id, t.user_id, t.epoch, t.purpose, t.origin, t.name, t.hint, t.scopes, t.meta, t.bound_to,
         t.created_at, t.expires_at, t.last_used_at, t.revoked_at"
    };
}

/// A token with its owner's epoch and account: all that a verification needs.
macro_rules! select_found {
    () => {
        concat!(
            "SELECT ",
            token_columns!(),
            ", COALESCE(o.epoch, 0), ",
            account_columns!(),
            " FROM {tokens} t
              LEFT JOIN {owners} o ON o.user_id = t.user_id
              LEFT JOIN {accounts} a ON a.id = t.user_id "
        )
    };
}

/// The rule of life for `UPDATE {tokens} t`, but for the instant, which comes as the last value; the same as
/// `TokenRecord::living`, which the conformance suite compares it with.
macro_rules! lives {
    () => {
        "t.revoked_at IS NULL
         AND t.epoch = COALESCE((SELECT o.epoch FROM {owners} o WHERE o.user_id = t.user_id), 0)
         AND (t.expires_at IS NULL OR t.expires_at > ?)"
    };
}

pub(crate) const EPOCH: &str = "SELECT epoch FROM {owners} WHERE user_id = ?";

pub(crate) const FIND: &str = concat!(select_found!(), "WHERE t.hash = ?");
pub(crate) const FIND_BY_ID: &str = concat!(select_found!(), "WHERE t.id = ? AND t.user_id = ?");
pub(crate) const OWNER_OF: &str = "SELECT user_id FROM {tokens} WHERE id = ?";

/// The epoch is judged in the statement that inserts, and the owner's row, if there is one, locked against being raised
/// meanwhile. A raise that still slips by, on a row that is just being made, leaves the token dead under the old epoch.
pub(crate) const INSERT: &str = "
    INSERT INTO {tokens} (hash, id, user_id, epoch, purpose, origin, name, hint, scopes, meta, bound_to,
                          created_at, expires_at, last_used_at, revoked_at)
    SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
    FROM DUAL
    WHERE ? = COALESCE((SELECT epoch FROM {owners} WHERE user_id = ? LOCK IN SHARE MODE), 0)";
/// Where there is a cap: whoever makes a token for this owner waits here for whoever does so already. Makes the row if there is none.
pub(crate) const LOCK_OWNER: &str = "
    INSERT INTO {owners} (user_id, epoch) VALUES (?, 0) ON DUPLICATE KEY UPDATE user_id = user_id";
/// Reads the index of owners alone, and stops at the cap.
pub(crate) const COUNT_FOR_CAP: &str = "
    SELECT COUNT(*) FROM (
        SELECT 1 FROM {tokens}
        WHERE user_id = ? AND purpose = ? AND epoch = ?
          AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)
        LIMIT ?) AS living";

pub(crate) const TAKE: &str =
    concat!("UPDATE {tokens} t SET t.revoked_at = ? WHERE t.hash = ? AND t.purpose = ? AND ", lives!());
pub(crate) const REVOKE: &str = "UPDATE {tokens} SET revoked_at = ? WHERE hash = ? AND revoked_at IS NULL";
pub(crate) const REVOKE_BY_ID: &str =
    "UPDATE {tokens} SET revoked_at = ? WHERE id = ? AND user_id = ? AND revoked_at IS NULL";
/// The value is a JSON list of pairs: the id in hex, and when. The list is gone through in its order, which is that of the
/// ids, so that two who touch the same tokens do not lock each other out.
pub(crate) const TOUCH: &str = "
    UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]', used BIGINT PATH '$[1]')) v
    STRAIGHT_JOIN {tokens} t FORCE INDEX (by_id) ON t.id = UNHEX(v.id)
    SET t.last_used_at = v.used
    WHERE t.revoked_at IS NULL AND (t.last_used_at IS NULL OR t.last_used_at < v.used)";
/// The new name or NULL; whether to set the expiry, and to what.
pub(crate) const UPDATE: &str = concat!(
    "UPDATE {tokens} t SET t.name = COALESCE(?, t.name), t.expires_at = IF(?, ?, t.expires_at)
     WHERE t.id = ? AND t.user_id = ? AND ",
    lives!()
);

/// With the epoch in the same statement, which sees one state of all tables. The place to go on from is written out: a
/// comparison of pairs would not use the index.
macro_rules! list {
    ($living:literal) => {
        concat!(
            "SELECT ",
            token_columns!(),
            ", COALESCE(o.epoch, 0) FROM {tokens} t LEFT JOIN {owners} o ON o.user_id = t.user_id
             WHERE t.user_id = ? AND t.purpose = ? AND t.created_at <= ? AND (t.created_at < ? OR t.id < ?)",
            $living,
            " ORDER BY t.created_at DESC, t.id DESC LIMIT ?"
        )
    };
}
pub(crate) const LIST: &str = list!("");
pub(crate) const LIST_LIVING: &str = list!(
    " AND t.epoch = COALESCE(o.epoch, 0) AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > ?)"
);
/// Greater than every id, which has 16 bytes.
const AFTER_ALL_IDS: [u8; 17] = [0xFF; 17];

pub(crate) const READY: &str = "SELECT EXISTS (SELECT 1 FROM {tokens})";

#[async_trait]
impl TokenStore for MysqlStore {
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable> {
        let Some(user) = self.ids.value(user) else { return Ok(Epoch::default()) };
        let row = self.pool.row(&self.sql.epoch, vec![user]).await?;
        row.map_or(Ok(Epoch::default()), |row| Columns::new(row).number("epoch").map(Epoch::new))
    }

    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        // Nobody has an id that nobody can have.
        let Some(user) = self.ids.value(&record.user) else { return Err(InsertError::Ended) };
        let values = new_row(hash, record, &user)?;
        let inserted = match cap {
            None => self.pool.change(&self.sql.insert, values).await.map(|changed| changed.rows > 0),
            Some(cap) => {
                let inserted = self
                    .pool
                    .retrying(|| Box::pin(self.insert_under_cap(record, &user, values.clone(), cap)))
                    .await;
                match inserted {
                    Ok(Capped::Reached) => return Err(InsertError::CapReached),
                    Ok(Capped::Inserted(inserted)) => Ok(inserted),
                    Err(failure) => Err(failure),
                }
            }
        };
        match inserted {
            Ok(true) => Ok(()),
            // A user who was deleted meanwhile is one whose tokens were ended.
            Ok(false) | Err(Failure::NoUser) => Err(InsertError::Ended),
            Err(Failure::Taken) => Err(InsertError::Conflict),
            Err(failure) => Err(failure.into_unavailable().into()),
        }
    }

    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
        let row = self.pool.row(&self.sql.find, vec![bytes(hash.as_bytes())]).await?;
        row.map(|row| self.found(row)).transpose()
    }

    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable> {
        let Some(user) = self.ids.value(user) else { return Ok(None) };
        let row = self.pool.row(&self.sql.find_by_id, vec![bytes(id.as_bytes()), user]).await?;
        row.map(|row| self.found(row)).transpose()
    }

    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        let row = self.pool.row(&self.sql.owner_of, vec![bytes(id.as_bytes())]).await?;
        row.map(|row| self.ids.read(Columns::new(row).value())).transpose()
    }

    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable> {
        let now = Value::Int(now.as_micros());
        self.change(&self.sql.take, vec![now.clone(), bytes(hash.as_bytes()), bytes(purpose), now]).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        let mut touches: Vec<_> = touches.iter().map(|touch| (*touch.id.as_bytes(), touch.at)).collect();
        touches.sort_unstable();
        // The latest of each.
        touches.reverse();
        touches.dedup_by_key(|(id, _)| *id);
        for some in touches.chunks(TOUCHES_AT_ONCE) {
            let pairs: Vec<_> =
                some.iter().map(|(id, at)| format!("[\"{}\",{}]", hex(id), at.as_micros())).collect();
            let list = format!("[{}]", pairs.join(","));
            self.pool.change(&self.sql.touch, vec![bytes(list)]).await?;
        }
        Ok(())
    }

    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable> {
        self.change(&self.sql.revoke, vec![Value::Int(now.as_micros()), bytes(hash.as_bytes())]).await
    }

    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable> {
        let Some(user) = self.ids.value(user) else { return Ok(false) };
        let values = vec![Value::Int(now.as_micros()), bytes(id.as_bytes()), user];
        self.change(&self.sql.revoke_by_id, values).await
    }

    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable> {
        let Some(user) = self.ids.value(user) else { return Ok(0) };
        let raised = self.pool.change(&self.sql.raise, Self::raise_values(&user, now)).await?;
        self.count_ended(user, raised, now).await
    }

    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let Some(user) = self.ids.value(user) else { return Ok(false) };
        let values = vec![
            text(change.name.as_deref()),
            Value::Int(i64::from(change.expires_at.is_some())),
            time(change.expires_at.flatten()),
            bytes(id.as_bytes()),
            user,
            Value::Int(now.as_micros()),
        ];
        self.change(&self.sql.update, values).await
    }

    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable> {
        let Some(owner) = self.ids.value(user) else {
            return Ok(Page { tokens: Vec::new(), epoch: Epoch::default(), next: None });
        };
        let (before, before_id) = match &query.after {
            Some(after) => (after.created_at.as_micros(), &after.id.as_bytes()[..]),
            None => (i64::MAX, &AFTER_ALL_IDS[..]),
        };
        let before = Value::Int(before);
        let mut values = vec![owner, bytes(purpose), before.clone(), before, bytes(before_id)];
        values.extend(query.living_at.map(|now| Value::Int(now.as_micros())));
        values.push(Value::Int(i64::from(query.limit) + 1));
        let sql = if query.living_at.is_some() { &self.sql.list_living } else { &self.sql.list };

        let (mut tokens, mut epoch) = (Vec::new(), None);
        for row in self.pool.rows(sql, values).await? {
            let mut columns = Columns::new(row);
            tokens.push(self.record(&mut columns)?);
            epoch = Some(Epoch::new(columns.number("epoch")?));
        }
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => self.epoch(user).await?,
        };
        Ok(Page::from_one_more(tokens, epoch, query.limit))
    }

    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        self.prune_in_batches(cutoff, limit).await
    }

    /// Reads. A database that only answers questions goes on answering them.
    async fn ready(&self) -> Result<(), Unavailable> {
        self.pool.row(&self.sql.ready, Vec::new()).await.map(drop)
    }
}

enum Capped {
    /// Or not, under another epoch.
    Inserted(bool),
    Reached,
}

impl MysqlStore {
    /// Runs a statement that changes one token or none, and says whether it did.
    async fn change(&self, sql: &Sql, values: Vec<Value>) -> Result<bool, Unavailable> {
        Ok(self.pool.change(sql, values).await?.rows > 0)
    }

    async fn insert_under_cap(
        &self,
        record: &TokenRecord,
        user: &Value,
        values: Vec<Value>,
        cap: u32,
    ) -> Result<Capped, Failure> {
        let count_values = vec![
            user.clone(),
            bytes(&record.purpose),
            Value::UInt(record.epoch.number().into()),
            Value::Int(record.created_at.as_micros()),
            Value::UInt(cap.into()),
        ];
        let mut transaction = self.pool.begin().await?;
        let outcome = async {
            transaction.change(&self.sql.lock_owner, vec![user.clone()]).await?;
            // Reads what was committed up to now, not up to the beginning.
            let counted = transaction.row(&self.sql.count_for_cap, count_values).await?;
            let living: u32 = counted.map_or(Ok(0), |row| Columns::new(row).number("count"))?;
            if living < cap {
                let inserted = transaction.change(&self.sql.insert, values).await?;
                return Ok(Capped::Inserted(inserted.rows > 0));
            }
            let epoch = transaction.row(&self.sql.epoch, vec![user.clone()]).await?;
            let epoch: u32 = epoch.map_or(Ok(0), |row| Columns::new(row).number("epoch"))?;
            let same = epoch == record.epoch.number();
            Ok(if same { Capped::Reached } else { Capped::Inserted(false) })
        }
        .await;
        transaction.end(outcome).await
    }

    fn found(&self, row: Row) -> Result<Found, Unavailable> {
        let mut columns = Columns::new(row);
        let record = self.record(&mut columns)?;
        let epoch = Epoch::new(columns.number("epoch")?);
        let account = account(&mut columns, &record.user, epoch)?;
        Ok(Found::new(record, epoch).with_account(account))
    }

    /// Reads the [token columns](token_columns).
    fn record(&self, columns: &mut Columns) -> Result<TokenRecord, Unavailable> {
        let id = TokenId::from_bytes(columns.bytes("id")?);
        let user = self.ids.read(columns.value())?;
        let epoch = Epoch::new(columns.number("epoch")?);
        let purpose = columns.text("purpose")?;
        // Made over as soon as it is known when.
        let mut record = TokenRecord::new(id, user, epoch, &purpose, Timestamp::from_micros(0));
        record.origin = Origin::parse(&columns.text("origin")?);
        record.name = columns.maybe_text("name")?;
        record.hint = columns.text("hint")?;
        record.scopes = Scopes::parse_list(&columns.text("scopes")?).map_err(|_| corrupt("scopes"))?;
        record.meta = match columns.text("meta")?.as_str() {
            "{}" => serde_json::Map::new(),
            meta => serde_json::from_str(meta).map_err(|_| corrupt("meta"))?,
        };
        record.bound_to = columns.maybe_text("bound_to")?;
        record.created_at = columns.time("created_at")?;
        record.expires_at = columns.maybe_time("expires_at")?;
        record.last_used_at = columns.maybe_time("last_used_at")?;
        record.revoked_at = columns.maybe_time("revoked_at")?;
        Ok(record)
    }
}

/// The values of [`INSERT`].
fn new_row(hash: &HashedToken, record: &TokenRecord, user: &Value) -> Result<Vec<Value>, Unavailable> {
    let meta = serde_json::to_string(&record.meta)
        .map_err(|error| Unavailable::because("a token's meta cannot be written as JSON", error))?;
    let epoch = Value::UInt(record.epoch.number().into());
    Ok(vec![
        bytes(hash.as_bytes()),
        bytes(record.id.as_bytes()),
        user.clone(),
        epoch.clone(),
        bytes(&record.purpose),
        bytes(record.origin.as_str()),
        text(record.name.as_deref()),
        bytes(&record.hint),
        bytes(record.scopes.to_string()),
        bytes(meta),
        text(record.bound_to.as_deref()),
        Value::Int(record.created_at.as_micros()),
        time(record.expires_at),
        time(record.last_used_at),
        time(record.revoked_at),
        epoch,
        user.clone(),
    ])
}
