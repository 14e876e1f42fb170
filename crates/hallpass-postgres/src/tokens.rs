//! Tokens.

use async_trait::async_trait;
use hallpass::{
    Epoch, HashedToken, Origin, Scopes, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable, UserId,
    store::{Found, InsertError, ListQuery, Page, TokenChange, Touch},
};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    accounts::{account, account_columns},
    error::{Corrupt, Failed},
    link::Step,
    statements::durably,
    value::{Id, Json, User, Value},
};

/// Tokens whose use is noted in one statement, and so locked at once.
const TOUCHES_AT_ONCE: usize = 200;

/// What a record is read from, in the order that [`record`] reads it in.
macro_rules! token_columns {
    () => {
        "t.id, t.user_id, t.epoch, t.purpose, t.origin, t.name, t.hint, t.scopes, t.meta, t.bound_to,
         t.created_at, t.expires_at, t.last_used_at, t.revoked_at"
    };
}
/// How many columns that is.
const TOKEN_COLUMNS: usize = 14;

/// A token with its owner's epoch and account: all that a verification needs.
macro_rules! select_found {
    () => {
        concat!(
            "SELECT ",
            token_columns!(),
            ", coalesce(o.epoch, 0), ",
            account_columns!(),
            " FROM {tokens} t
              LEFT JOIN {owners} o ON o.user_id = t.user_id
              LEFT JOIN {accounts} a ON a.id = t.user_id "
        )
    };
}

/// The rule of life for `UPDATE {tokens} t`, given `$2` as the present instant; the same as `TokenRecord::living`, which the
/// conformance suite compares it with.
macro_rules! lives_at_2 {
    () => {
        "t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2)
         AND t.epoch = coalesce((SELECT epoch FROM {owners} WHERE user_id = t.user_id), 0)"
    };
}

pub(crate) const EPOCH: &str = "SELECT epoch FROM {owners} WHERE user_id = $1";

pub(crate) const FIND: &str = concat!(select_found!(), "WHERE t.hash = $1");
pub(crate) const FIND_BY_ID: &str = concat!(select_found!(), "WHERE t.id = $1 AND t.user_id = $2");
pub(crate) const OWNER_OF: &str = "SELECT user_id FROM {tokens} WHERE id = $1";

/// Makes the owner's row if there is none, and locks it without changing it: a statement that begins after this one sees
/// every token that was made under the lock before. The conditional update is never made, but always locks.
pub(crate) const LOCK_OWNER: &str = "
    INSERT INTO {owners} AS o (user_id, epoch, swept_epoch) VALUES ($1, 0, 0)
    ON CONFLICT (user_id) DO UPDATE SET epoch = o.epoch WHERE false";
/// The conditions are judged in the statement that inserts, with the owner's epoch held by a lock. `$16` is the cap; counting
/// stops there. An owner without a row cannot be locked: if theirs is made and raised meanwhile, this token is dead on arrival.
pub(crate) const INSERT: &str = concat!(
    "WITH owner AS (SELECT epoch FROM {owners} WHERE user_id = $3 FOR SHARE),
     verdict AS (
         SELECT $4 = coalesce((SELECT epoch FROM owner), 0) AS same_epoch,
                $16 IS NULL OR $16 > (
                    SELECT count(*) FROM (
                        SELECT FROM {tokens}
                        WHERE user_id = $3 AND purpose = $5 AND epoch = $4
                          AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $12)
                        LIMIT $16) living) AS has_room),
     kept AS (
         INSERT INTO {tokens} (hash, id, user_id, epoch, purpose, origin, name, hint, scopes, meta, bound_to,
                               created_at, expires_at, last_used_at, revoked_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
         FROM verdict WHERE same_epoch AND has_room AND ",
    durably!(),
    "    ON CONFLICT DO NOTHING RETURNING true)
     SELECT EXISTS (SELECT FROM kept), same_epoch, has_room FROM verdict"
);

pub(crate) const TAKE: &str = concat!(
    "UPDATE {tokens} t SET revoked_at = $2 WHERE t.hash = $1 AND t.purpose = $3 AND ",
    lives_at_2!(),
    " AND ",
    durably!(),
    " RETURNING true"
);
pub(crate) const REVOKE: &str = concat!(
    "UPDATE {tokens} SET revoked_at = $2 WHERE hash = $1 AND revoked_at IS NULL AND ",
    durably!(),
    " RETURNING true"
);
pub(crate) const REVOKE_BY_ID: &str = concat!(
    "UPDATE {tokens} SET revoked_at = $2 WHERE id = $1 AND user_id = $3 AND revoked_at IS NULL AND ",
    durably!(),
    " RETURNING true"
);
/// Rows are locked in one order, so that two nodes that note the same tokens never wait for each other in a circle. Losing this in
/// a crash of the machine would harm nobody: it waits for the disk only if everything does.
pub(crate) const TOUCH: &str = "
    WITH wanted AS (
        SELECT u.id, max(u.at) AS at FROM unnest($1, $2) AS u (id, at) GROUP BY u.id),
    locked AS (
        SELECT t.id FROM {tokens} t WHERE t.id = ANY ($1) ORDER BY t.id FOR NO KEY UPDATE)
    UPDATE {tokens} t SET last_used_at = wanted.at
    FROM wanted JOIN locked USING (id)
    WHERE t.id = wanted.id AND t.revoked_at IS NULL AND (t.last_used_at IS NULL OR t.last_used_at < wanted.at)";
/// `$4` is the new name or NULL, `$5` whether to set the expiry, `$6` the new one.
pub(crate) const UPDATE: &str = concat!(
    "UPDATE {tokens} t
     SET name = coalesce($4, t.name), expires_at = CASE WHEN $5 THEN $6 ELSE t.expires_at END
     WHERE t.id = $1 AND t.user_id = $3 AND ",
    lives_at_2!(),
    " AND ",
    durably!(),
    " RETURNING true"
);

/// Also for a user who was never heard of: one of theirs may be in the making under epoch 0.
pub(crate) const RAISE: &str = concat!(
    "INSERT INTO {owners} AS o (user_id, epoch, raised_at, swept_epoch) SELECT $1, 1, $2, 0 WHERE ",
    durably!(),
    " ON CONFLICT (user_id) DO UPDATE SET epoch = o.epoch + 1, raised_at = $2 RETURNING epoch"
);
/// What a raise ended, counted when it is committed: whoever inserts then is refused, and whoever inserted before is seen. Within
/// the raise it would keep the owner's row locked for as long as it takes to count a million tokens, and undo the raise if that is
/// too long.
pub(crate) const COUNT_ENDED: &str = "
    SELECT count(*) FROM {tokens}
    WHERE user_id = $1 AND epoch = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)";

/// From the place `($3, $4)` on; only those that live at `$5`, unless it is NULL. A user without tokens is one row that has
/// the epoch alone.
pub(crate) const LIST: &str = concat!(
    "WITH owner AS (SELECT coalesce((SELECT epoch FROM {owners} WHERE user_id = $1), 0) AS epoch)
     SELECT ",
    token_columns!(),
    ", owner.epoch
     FROM owner LEFT JOIN LATERAL (
         SELECT * FROM {tokens} t
         WHERE t.user_id = $1 AND t.purpose = $2 AND (t.created_at, t.id) < ($3, $4)
           AND ($5 IS NULL OR (t.epoch = owner.epoch AND t.revoked_at IS NULL
                               AND (t.expires_at IS NULL OR t.expires_at > $5)))
         ORDER BY t.created_at DESC, t.id DESC LIMIT $6) t ON true
     ORDER BY t.created_at DESC, t.id DESC"
);
/// No token was made as late.
const AFTER_ALL: (i64, [u8; 16]) = (i64::MAX, [0xFF; 16]);

/// What another node is deleting is left to it.
pub(crate) const PRUNE_EXPIRED: &str = "
    WITH gone AS (
        DELETE FROM {tokens} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {tokens} WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM gone";
pub(crate) const PRUNE_REVOKED: &str = "
    WITH gone AS (
        DELETE FROM {tokens} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {tokens} WHERE revoked_at < $1 ORDER BY revoked_at LIMIT $2 FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM gone";
/// Owners that prune looks at in one statement: most of them have nothing to delete. A number in the text and not a parameter, so
/// that the planner knows that they are few and looks each of them up.
const OWNERS_AT_ONCE: usize = 200;
macro_rules! raised_owners {
    () => {
        "SELECT user_id, epoch FROM {owners}
         WHERE swept_epoch < epoch AND raised_at < $1 ORDER BY raised_at LIMIT 200"
    };
}
/// The tokens of owners whose epoch was raised and who were not swept since.
pub(crate) const PRUNE_ENDED: &str = concat!(
    "WITH raised AS (",
    raised_owners!(),
    "),
     gone AS (
         DELETE FROM {tokens} WHERE ctid = ANY (ARRAY(
             SELECT t.ctid FROM raised CROSS JOIN LATERAL (
                 SELECT ctid FROM {tokens}
                 WHERE user_id = raised.user_id AND epoch < raised.epoch LIMIT $2 FOR UPDATE SKIP LOCKED) t
             LIMIT $2))
         RETURNING 1)
     SELECT count(*) FROM gone"
);
/// Those of the same owners who have nothing left that was ended need not be looked at again. All are looked at before the first is
/// marked, so that no owner's row is locked meanwhile.
pub(crate) const SWEPT: &str = concat!(
    "WITH raised AS (",
    raised_owners!(),
    "),
     done AS MATERIALIZED (
         SELECT user_id FROM raised
         WHERE NOT EXISTS (SELECT FROM {tokens} t WHERE t.user_id = raised.user_id AND t.epoch < raised.epoch))
     UPDATE {owners} SET swept_epoch = epoch
     WHERE user_id = ANY (ARRAY(SELECT user_id FROM done)) AND raised_at < $1
     RETURNING true"
);

pub(crate) const READY: &str = "SELECT EXISTS (SELECT FROM {tokens})";

#[async_trait]
impl TokenStore for PostgresStore {
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable> {
        let rows = self.read(&self.sql().epoch, &[Value::User(user)]).await?;
        Ok(rows.first().map(|row| epoch(row, 0)).transpose()?.unwrap_or_default())
    }

    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        self.accept_user(&record.user)?;
        let meta = serde_json::to_string(&record.meta)
            .map_err(|error| Unavailable::because("a token's meta cannot be written as JSON", error))?;
        let scopes = record.scopes.to_string();
        let values = [
            Value::Bytes(hash.as_bytes()),
            Value::Id(record.id),
            Value::User(&record.user),
            Value::Int(record.epoch.number().into()),
            Value::Text(&record.purpose),
            Value::Text(record.origin.as_str()),
            Value::MaybeText(record.name.as_deref()),
            Value::Text(&record.hint),
            Value::Text(&scopes),
            Value::Json(&meta),
            Value::MaybeText(record.bound_to.as_deref()),
            Value::at(record.created_at),
            Value::maybe_at(record.expires_at),
            Value::maybe_at(record.last_used_at),
            Value::maybe_at(record.revoked_at),
            Value::MaybeInt(cap.map(i64::from)),
        ];
        let insert = Step { sql: &self.sql().insert, values: &values };
        let owner = [Value::User(&record.user)];
        // Under the lock that the insert itself takes, tokens are made side by side; a cap needs them one by one.
        let written = if cap.is_none() {
            self.write_step(insert).await
        } else {
            let lock = Step { sql: &self.sql().lock_owner, values: &owner };
            self.write_steps(lock, insert).await.map(|(_, inserted)| inserted)
        };
        let rows = match written {
            Ok(rows) => rows,
            Err(Failed::Taken) => return Err(InsertError::Conflict),
            // The application's user was deleted.
            Err(Failed::NoUser) => return Err(InsertError::Ended),
            Err(Failed::Unavailable(unavailable)) => return Err(unavailable.into()),
        };
        let verdict = |column| -> Result<bool, Corrupt> {
            rows.first().map_or(Ok(false), |row| Ok(row.try_get(column)?))
        };
        let (kept, same_epoch, has_room) = (verdict(0)?, verdict(1)?, verdict(2)?);
        match (kept, same_epoch, has_room) {
            (true, ..) => Ok(()),
            (_, false, _) => Err(InsertError::Ended),
            (_, _, false) => Err(InsertError::CapReached),
            _ => Err(InsertError::Conflict),
        }
    }

    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
        let rows = self.read(&self.sql().find, &[Value::Bytes(hash.as_bytes())]).await?;
        Ok(rows.first().map(found).transpose()?)
    }

    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable> {
        let rows = self.read(&self.sql().find_by_id, &[Value::Id(id), Value::User(user)]).await?;
        Ok(rows.first().map(found).transpose()?)
    }

    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        let rows = self.read(&self.sql().owner_of, &[Value::Id(id)]).await?;
        let owner = rows.first().map(|row| row.try_get::<_, User>(0)).transpose().map_err(Corrupt::from)?;
        Ok(owner.map(|User(id)| id))
    }

    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable> {
        let values = [Value::Bytes(hash.as_bytes()), Value::at(now), Value::Text(purpose)];
        self.change(Step { sql: &self.sql().take, values: &values }).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        for touches in touches.chunks(TOUCHES_AT_ONCE) {
            let ids = touches.iter().map(|touch| Id(touch.id)).collect();
            let times = touches.iter().map(|touch| touch.at.as_micros()).collect();
            let values = [Value::Ids(ids), Value::Ints(times)];
            self.write_step(Step { sql: &self.sql().touch, values: &values }).await?;
        }
        Ok(())
    }

    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable> {
        let values = [Value::Bytes(hash.as_bytes()), Value::at(now)];
        self.change(Step { sql: &self.sql().revoke, values: &values }).await
    }

    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable> {
        let values = [Value::Id(id), Value::at(now), Value::User(user)];
        self.change(Step { sql: &self.sql().revoke_by_id, values: &values }).await
    }

    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable> {
        self.accept_user(user)?;
        let values = [Value::User(user), Value::at(now)];
        let raised = self.write_step(Step { sql: &self.sql().raise, values: &values }).await?;
        Ok(self.count_ended(user, now, &raised).await?.unwrap_or_default())
    }

    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let values = [
            Value::Id(id),
            Value::at(now),
            Value::User(user),
            Value::MaybeText(change.name.as_deref()),
            Value::Bool(change.expires_at.is_some()),
            Value::maybe_at(change.expires_at.flatten()),
        ];
        self.change(Step { sql: &self.sql().update, values: &values }).await
    }

    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable> {
        let (before, id) = match &query.after {
            Some(after) => (after.created_at.as_micros(), after.id),
            None => (AFTER_ALL.0, TokenId::from_bytes(AFTER_ALL.1)),
        };
        let values = [
            Value::User(user),
            Value::Text(purpose),
            Value::Int(before),
            Value::Id(id),
            Value::maybe_at(query.living_at),
            Value::Int(i64::from(query.limit) + 1),
        ];
        let rows = self.read(&self.sql().list, &values).await?;
        Ok(page(&rows, query.limit)?)
    }

    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        let limit = u64::from(limit);
        let mut pruned = 0;
        for sql in [&self.sql().prune_expired, &self.sql().prune_revoked] {
            if pruned < limit {
                let values = [Value::at(cutoff), int(limit - pruned)];
                pruned += count_in(&self.write_step(Step { sql, values: &values }).await?)?;
            }
        }
        while pruned < limit {
            let values = [Value::at(cutoff), int(limit - pruned)];
            let ended = Step { sql: &self.sql().prune_ended, values: &values };
            let deleted = count_in(&self.write_step(ended).await?)?;
            pruned += deleted;
            // Nobody is marked while a full batch says that there may be more of theirs.
            if pruned >= limit {
                break;
            }
            let swept = Step { sql: &self.sql().swept, values: &[Value::at(cutoff)] };
            if self.write_step(swept).await?.len() < OWNERS_AT_ONCE {
                break;
            }
        }
        Ok(pruned)
    }

    /// Asks a connection that reads and one that writes. A database that only reads is ready: tokens are verified.
    async fn ready(&self) -> Result<(), Unavailable> {
        self.read(&self.sql().ready, &[]).await?;
        self.write_step(Step { sql: &self.sql().ready, values: &[] }).await?;
        Ok(())
    }
}

impl PostgresStore {
    /// How many living tokens a raise ended, given the epoch that it came to; `None` if nothing was raised.
    pub(crate) async fn count_ended(
        &self,
        user: &UserId,
        now: Timestamp,
        raised: &[Row],
    ) -> Result<Option<u64>, Unavailable> {
        let Some(raised) = raised.first() else { return Ok(None) };
        let before = i64::from(epoch(raised, 0)?.number()) - 1;
        let values = [Value::User(user), Value::at(now), Value::Int(before)];
        let counted = self.write_step(Step { sql: &self.sql().count_ended, values: &values }).await?;
        Ok(Some(count_in(&counted)?))
    }
}

fn int(number: u64) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The number in the first column of the first row; none is zero.
fn count_in(rows: &[Row]) -> Result<u64, Corrupt> {
    let count: i64 = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    Ok(u64::try_from(count).unwrap_or_default())
}

pub(crate) fn epoch(row: &Row, column: usize) -> Result<Epoch, Corrupt> {
    let number: i64 = row.try_get(column)?;
    Ok(Epoch::new(u32::try_from(number)?))
}

fn found(row: &Row) -> Result<Found, Corrupt> {
    const ACCOUNT: usize = TOKEN_COLUMNS + 1;
    let record = record(row)?;
    let epoch = epoch(row, TOKEN_COLUMNS)?;
    // The address is never NULL, unless there is no such row.
    let has_account = row.try_get::<_, Option<&str>>(ACCOUNT)?.is_some();
    let account = if has_account { Some(account(row, ACCOUNT, record.user.clone(), epoch)?) } else { None };
    Ok(Found::new(record, epoch).with_account(account))
}

fn page(rows: &[Row], limit: u32) -> Result<Page, Corrupt> {
    let epoch = rows.first().map(|row| epoch(row, TOKEN_COLUMNS)).transpose()?.unwrap_or_default();
    let mut tokens = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<_, Option<Id>>(0)?.is_some() {
            tokens.push(record(row)?);
        }
    }
    Ok(Page::from_one_more(tokens, epoch, limit))
}

/// Reads the [token columns](token_columns). A value that we cannot have written is an error, never passed over.
fn record(row: &Row) -> Result<TokenRecord, Corrupt> {
    let time = |column| -> Result<Option<Timestamp>, Corrupt> {
        Ok(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
    };
    let Id(id) = row.try_get(0)?;
    let User(user) = row.try_get(1)?;
    let created_at = Timestamp::from_micros(row.try_get(10)?);
    let mut record = TokenRecord::new(id, user, epoch(row, 2)?, row.try_get(3)?, created_at);
    record.origin = Origin::parse(row.try_get(4)?);
    record.name = row.try_get(5)?;
    record.hint = row.try_get(6)?;
    record.scopes = Scopes::parse_list(row.try_get(7)?)?;
    record.meta = match row.try_get(8)? {
        Json("{}") => serde_json::Map::new(),
        Json(meta) => serde_json::from_str(meta)?,
    };
    record.bound_to = row.try_get(9)?;
    record.expires_at = time(11)?;
    record.last_used_at = time(12)?;
    record.revoked_at = time(13)?;
    Ok(record)
}
