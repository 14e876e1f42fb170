//! Tokens.

use async_trait::async_trait;
use hallpass::{
    Epoch, HashedToken, Origin, Scopes, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable, UserId,
    store::{Found, InsertError, ListQuery, Page, TokenChange, Touch},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    accounts::{account, account_columns, end_all},
    error::{Failed, corrupt},
};

/// Tokens that prune deletes in one transaction. Each is a page or two in four trees, all over the file: of 500 at once, out
/// of a million, others saw the file locked for 80 ms.
const DELETED_AT_ONCE: u32 = 100;
/// Owners that prune looks at in one transaction. Most of them have nothing to delete, and each is one small
/// write.
const OWNERS_AT_ONCE: u32 = 200;

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
            " FROM hallpass_tokens t
              LEFT JOIN hallpass_owners o ON o.user_id = t.user_id
              LEFT JOIN hallpass_accounts a ON a.id = t.user_id "
        )
    };
}

/// The rule of life for `UPDATE hallpass_tokens AS t`, given `?2` as the present instant; the same as
/// `TokenRecord::living`, which the conformance suite compares it with.
macro_rules! lives_at_2 {
    () => {
        "t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > ?2)
         AND t.epoch = coalesce((SELECT epoch FROM hallpass_owners WHERE user_id = t.user_id), 0)"
    };
}

const EPOCH: &str = "SELECT epoch FROM hallpass_owners WHERE user_id = ?1";

/// One statement for the token, its owner's epoch and account.
pub const FIND: &str = concat!(select_found!(), "WHERE t.hash = ?1");
const FIND_BY_ID: &str = concat!(select_found!(), "WHERE t.id = ?1 AND t.user_id = ?2");
const OWNER_OF: &str = "SELECT user_id FROM hallpass_tokens WHERE id = ?1";

/// The conditions are judged in the statement that inserts. `?16` is the cap; counting stops there.
const INSERT: &str = "
    INSERT INTO hallpass_tokens (hash, id, user_id, epoch, purpose, origin, name, hint, scopes, meta, bound_to,
                                 created_at, expires_at, last_used_at, revoked_at)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15
    WHERE ?4 = coalesce((SELECT epoch FROM hallpass_owners WHERE user_id = ?3), 0)
      AND (?16 IS NULL OR ?16 > (
          SELECT count(*) FROM (
              SELECT 1 FROM hallpass_tokens
              WHERE user_id = ?3 AND purpose = ?5 AND epoch = ?4
                AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?12)
              LIMIT coalesce(?16, 0))))";
/// Why nothing was inserted: asked only then.
const WHY_NOT: &str = "
    SELECT EXISTS (SELECT 1 FROM hallpass_tokens WHERE hash = ?1)
        OR EXISTS (SELECT 1 FROM hallpass_tokens WHERE id = ?2),
           ?4 = coalesce((SELECT epoch FROM hallpass_owners WHERE user_id = ?3), 0)";

const TAKE: &str = concat!(
    "UPDATE hallpass_tokens AS t SET revoked_at = ?2 WHERE t.hash = ?1 AND t.purpose = ?3 AND ",
    lives_at_2!()
);
const REVOKE: &str = "UPDATE hallpass_tokens SET revoked_at = ?2 WHERE hash = ?1 AND revoked_at IS NULL";
const REVOKE_BY_ID: &str =
    "UPDATE hallpass_tokens SET revoked_at = ?2 WHERE id = ?1 AND user_id = ?3 AND revoked_at IS NULL";
const TOUCH: &str = "
    UPDATE hallpass_tokens SET last_used_at = ?2
    WHERE id = ?1 AND revoked_at IS NULL AND (last_used_at IS NULL OR last_used_at < ?2)";
/// `?4` is the new name or NULL, `?5` whether to set the expiry, `?6` the new one.
const UPDATE: &str = concat!(
    "UPDATE hallpass_tokens AS t
     SET name = coalesce(?4, name), expires_at = CASE WHEN ?5 THEN ?6 ELSE expires_at END
     WHERE t.id = ?1 AND t.user_id = ?3 AND ",
    lives_at_2!()
);

/// From the place `(?3, ?4)` on; only those that live at `?5` under epoch `?6`, unless `?5` is NULL.
const LIST: &str = concat!(
    "SELECT ",
    token_columns!(),
    " FROM hallpass_tokens t
     WHERE t.user_id = ?1 AND t.purpose = ?2 AND (t.created_at, t.id) < (?3, ?4)
       AND (?5 IS NULL OR (t.epoch = ?6 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > ?5)))
     ORDER BY t.created_at DESC, t.id DESC LIMIT ?7"
);
/// Greater than every id, which has 16 bytes.
const AFTER_ALL_IDS: [u8; 17] = [0xFF; 17];

const PRUNE_EXPIRED: &str = "
    DELETE FROM hallpass_tokens
    WHERE rowid IN (SELECT rowid FROM hallpass_tokens WHERE expires_at < ?1 LIMIT ?2)";
const PRUNE_REVOKED: &str = "
    DELETE FROM hallpass_tokens
    WHERE rowid IN (SELECT rowid FROM hallpass_tokens WHERE revoked_at < ?1 LIMIT ?2)";
const TO_SWEEP: &str = "
    SELECT user_id, epoch FROM hallpass_owners WHERE swept_epoch < epoch AND raised_at < ?1 LIMIT ?2";
/// Reads the index of owners; a user's ended tokens come first in it, being older.
const PRUNE_ENDED: &str = "
    DELETE FROM hallpass_tokens
    WHERE rowid IN (SELECT rowid FROM hallpass_tokens WHERE user_id = ?1 AND epoch <> ?2 LIMIT ?3)";
const SWEPT: &str = "UPDATE hallpass_owners SET swept_epoch = ?2 WHERE user_id = ?1";

const READY: &str = "SELECT EXISTS (SELECT 1 FROM hallpass_tokens)";

#[async_trait]
impl TokenStore for SqliteStore {
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable> {
        self.inner.readers.read(|connection| epoch(connection, user))
    }

    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        let new = NewRow::new(hash, record, cap)?;
        let inserted = self.inner.writer.write_new(move |connection| new.insert(connection));
        match inserted.await {
            Ok(Inserted::Kept) => Ok(()),
            Ok(Inserted::Conflict) | Err(Failed::Taken) => Err(InsertError::Conflict),
            Ok(Inserted::Ended) => Err(InsertError::Ended),
            Ok(Inserted::CapReached) => Err(InsertError::CapReached),
            Err(Failed::Unavailable(unavailable)) => Err(unavailable.into()),
        }
    }

    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
        self.inner.readers.read(|connection| {
            connection.prepare_cached(FIND)?.query_row([hash.as_bytes()], found).optional()
        })
    }

    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable> {
        self.inner.readers.read(|connection| {
            let mut statement = connection.prepare_cached(FIND_BY_ID)?;
            statement.query_row(params![id.as_bytes(), user.as_str()], found).optional()
        })
    }

    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        let owner: Option<String> = self.inner.readers.read(|connection| {
            let mut statement = connection.prepare_cached(OWNER_OF)?;
            statement.query_row(params![id.as_bytes()], |row| row.get(0)).optional()
        })?;
        Ok(owner.and_then(|owner| UserId::new(owner).ok()))
    }

    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable> {
        let (hash, purpose) = (*hash, purpose.to_owned());
        self.change(move |connection| {
            let mut take = connection.prepare_cached(TAKE)?;
            take.execute(params![hash.as_bytes(), now.as_micros(), purpose])
        })
        .await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        if touches.is_empty() {
            return Ok(());
        }
        let touches = touches.to_vec();
        self.inner
            .writer
            .write(move |connection| {
                let mut statement = connection.prepare_cached(TOUCH)?;
                for touch in &touches {
                    statement.execute(params![touch.id.as_bytes(), touch.at.as_micros()])?;
                }
                Ok(())
            })
            .await
    }

    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable> {
        let hash = *hash;
        self.change(move |connection| {
            connection.prepare_cached(REVOKE)?.execute(params![hash.as_bytes(), now.as_micros()])
        })
        .await
    }

    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable> {
        let user = user.clone();
        self.change(move |connection| {
            let mut revoke = connection.prepare_cached(REVOKE_BY_ID)?;
            revoke.execute(params![id.as_bytes(), now.as_micros(), user.as_str()])
        })
        .await
    }

    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable> {
        let user = user.clone();
        self.inner.writer.write(move |connection| end_all(connection, &user, now)).await
    }

    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let (user, change) = (user.clone(), change.clone());
        self.change(move |connection| {
            connection.prepare_cached(UPDATE)?.execute(params![
                id.as_bytes(),
                now.as_micros(),
                user.as_str(),
                change.name,
                change.expires_at.is_some(),
                change.expires_at.flatten().map(Timestamp::as_micros),
            ])
        })
        .await
    }

    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable> {
        let (before, before_id) = match &query.after {
            Some(after) => (after.created_at.as_micros(), &after.id.as_bytes()[..]),
            None => (i64::MAX, &AFTER_ALL_IDS[..]),
        };
        self.inner.readers.read(|connection| {
            // One view of the file for both statements.
            let view = connection.unchecked_transaction()?;
            let epoch = epoch(&view, user)?;
            let mut statement = view.prepare_cached(LIST)?;
            let rows = statement.query_map(
                params![
                    user.as_str(),
                    purpose,
                    before,
                    before_id,
                    query.living_at.map(Timestamp::as_micros),
                    epoch.number(),
                    i64::from(query.limit) + 1,
                ],
                record,
            )?;
            let tokens = rows.collect::<rusqlite::Result<_>>()?;
            Ok(Page::from_one_more(tokens, epoch, query.limit))
        })
    }

    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        let mut pruned = 0;
        // Few by few, each few in a transaction of their own, so that others may write in between.
        loop {
            let left = limit.saturating_sub(pruned).min(DELETED_AT_ONCE);
            let step =
                self.inner.writer.write(move |connection| prune_step(connection, cutoff, left)).await?;
            pruned = pruned.saturating_add(step.deleted);
            if step.is_last || pruned >= limit {
                return Ok(u64::from(pruned));
            }
        }
    }

    /// Reads the file and has the writer lock it, without a change.
    async fn ready(&self) -> Result<(), Unavailable> {
        self.inner.readers.read(|connection| connection.prepare_cached(READY)?.query_row([], |_| Ok(())))?;
        self.inner.writer.write(|_| Ok(())).await
    }
}

impl SqliteStore {
    /// Runs a statement that changes one token or none, and says whether it did.
    async fn change(
        &self,
        statement: impl FnOnce(&Connection) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<bool, Unavailable> {
        self.inner.writer.write(statement).await.map(|changed| changed > 0)
    }
}

/// A row to be inserted. Its texts are made on the caller's thread, of which there are many.
struct NewRow {
    hash: HashedToken,
    record: TokenRecord,
    scopes: String,
    meta: String,
    cap: Option<u32>,
}

enum Inserted {
    Kept,
    Conflict,
    Ended,
    CapReached,
}

impl NewRow {
    fn new(hash: &HashedToken, record: &TokenRecord, cap: Option<u32>) -> Result<Self, Unavailable> {
        let meta = serde_json::to_string(&record.meta)
            .and_then(|text| match text.as_str() {
                "{}" => Ok(text),
                // What is nested too deeply could be written and never be read again.
                _ => serde_json::from_str::<serde_json::Map<_, _>>(&text).map(|_| text),
            })
            .map_err(|error| Unavailable::because("a token's meta cannot be kept as JSON", error))?;
        Ok(Self { hash: *hash, record: record.clone(), scopes: record.scopes.to_string(), meta, cap })
    }

    fn insert(&self, connection: &Connection) -> rusqlite::Result<Inserted> {
        let record = &self.record;
        let inserted = connection.prepare_cached(INSERT)?.execute(params![
            self.hash.as_bytes(),
            record.id.as_bytes(),
            record.user.as_str(),
            record.epoch.number(),
            record.purpose,
            record.origin.as_str(),
            record.name,
            record.hint,
            self.scopes,
            self.meta,
            record.bound_to,
            record.created_at.as_micros(),
            record.expires_at.map(Timestamp::as_micros),
            record.last_used_at.map(Timestamp::as_micros),
            record.revoked_at.map(Timestamp::as_micros),
            self.cap,
        ])?;
        if inserted > 0 {
            return Ok(Inserted::Kept);
        }
        let id = record.id.as_bytes();
        let why = params![self.hash.as_bytes(), id, record.user.as_str(), record.epoch.number()];
        connection.prepare_cached(WHY_NOT)?.query_row(why, |row| {
            let (taken, same_epoch) = (row.get(0)?, row.get(1)?);
            Ok(match (taken, same_epoch) {
                (true, _) => Inserted::Conflict,
                (false, false) => Inserted::Ended,
                (false, true) => Inserted::CapReached,
            })
        })
    }
}

struct Step {
    deleted: u32,
    /// Nothing is left that died before the cutoff.
    is_last: bool,
}

fn prune_step(connection: &Connection, cutoff: Timestamp, limit: u32) -> rusqlite::Result<Step> {
    let cutoff = cutoff.as_micros();
    let mut deleted = 0;
    let mut count = |rows: usize| {
        deleted += u32::try_from(rows).unwrap_or(u32::MAX);
        limit.saturating_sub(deleted)
    };
    let mut left = limit;
    for statement in [PRUNE_EXPIRED, PRUNE_REVOKED] {
        left = count(connection.prepare_cached(statement)?.execute(params![cutoff, left])?);
    }
    let mut to_sweep = connection.prepare_cached(TO_SWEEP)?;
    let owners: Vec<(String, u32)> = to_sweep
        .query_map(params![cutoff, OWNERS_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut swept = 0;
    for (user, epoch) in &owners {
        if left == 0 {
            break;
        }
        let rows = connection.prepare_cached(PRUNE_ENDED)?.execute(params![user, epoch, left])?;
        left = count(rows);
        if left > 0 {
            connection.prepare_cached(SWEPT)?.execute(params![user, epoch])?;
            swept += 1;
        }
    }
    let looked_at_all = swept < OWNERS_AT_ONCE && left > 0;
    Ok(Step { deleted, is_last: looked_at_all })
}

fn epoch(connection: &Connection, user: &UserId) -> rusqlite::Result<Epoch> {
    let epoch = connection.prepare_cached(EPOCH)?.query_row([user.as_str()], |row| row.get(0)).optional()?;
    Ok(epoch.map_or_else(Epoch::default, Epoch::new))
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    const ACCOUNT: usize = TOKEN_COLUMNS + 1;
    let record = record(row)?;
    let epoch = Epoch::new(row.get(TOKEN_COLUMNS)?);
    // The address is never NULL, unless there is no such row.
    let has_account = row.get_ref(ACCOUNT)?.data_type() != rusqlite::types::Type::Null;
    let account = if has_account { Some(account(row, ACCOUNT, record.user.clone(), epoch)?) } else { None };
    Ok(Found::new(record, epoch).with_account(account))
}

/// Reads the [token columns](token_columns). A value that we cannot have written is an error, never passed over.
fn record(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let time = |column| row.get(column).map(|micros: Option<i64>| micros.map(Timestamp::from_micros));
    let id = TokenId::from_bytes(row.get(0)?);
    let user = UserId::new(row.get::<_, String>(1)?).map_err(|error| corrupt(1, error))?;
    let epoch = Epoch::new(row.get(2)?);
    let created_at = Timestamp::from_micros(row.get(10)?);
    let mut record = TokenRecord::new(id, user, epoch, row.get_ref(3)?.as_str()?, created_at);
    record.origin = Origin::parse(row.get_ref(4)?.as_str()?);
    record.name = row.get(5)?;
    record.hint = row.get(6)?;
    record.scopes = Scopes::parse_list(row.get_ref(7)?.as_str()?).map_err(|error| corrupt(7, error))?;
    record.meta = match row.get_ref(8)?.as_str()? {
        "{}" => serde_json::Map::new(),
        meta => serde_json::from_str(meta).map_err(|error| corrupt(8, error))?,
    };
    record.bound_to = row.get(9)?;
    record.expires_at = time(11)?;
    record.last_used_at = time(12)?;
    record.revoked_at = time(13)?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::params_from_iter;

    use super::*;
    use crate::{accounts, connection::open_reader, migrate};

    /// The plan of a statement, on a file without statistics, as we plan every one.
    fn plan(sql: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hallpass.db");
        migrate(&path).unwrap();
        let connection = open_reader(&path, Duration::ZERO).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nothing = vec![rusqlite::types::Null; statement.parameter_count()];
        let rows = statement.query_map(params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn no_statement_reads_a_whole_table() {
        let ours = [
            EPOCH,
            FIND,
            FIND_BY_ID,
            INSERT,
            WHY_NOT,
            TAKE,
            REVOKE,
            REVOKE_BY_ID,
            TOUCH,
            UPDATE,
            LIST,
            PRUNE_EXPIRED,
            PRUNE_REVOKED,
            TO_SWEEP,
            PRUNE_ENDED,
            SWEPT,
        ];
        for sql in ours.iter().chain(accounts::STATEMENTS) {
            let plan = plan(sql);
            // The conditional insert scans the one row that it is to insert, and what it counted.
            let is_small = |line: &str| line == "SCAN CONSTANT ROW" || line.starts_with("SCAN (subquery");
            let is_large =
                |line: &str| line.contains("SCAN") && !is_small(line) || line.contains("TEMP B-TREE");
            assert!(!plan.lines().any(is_large), "{sql}\n{plan}");
        }
    }

    #[test]
    fn a_look_up_is_planned_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hallpass.db");
        migrate(&path).unwrap();
        let connection = open_reader(&path, Duration::ZERO).unwrap();
        for number in 0..10_u8 {
            let mut find = connection.prepare_cached(FIND).unwrap();
            assert!(find.query_row([[number; 32]], |_| Ok(())).optional().unwrap().is_none());
            assert_eq!(find.get_status(rusqlite::StatementStatus::RePrepare), 0);
        }
    }

    #[test]
    fn counting_the_living_reads_an_index_alone() {
        for sql in [INSERT, accounts::COUNT_LIVING] {
            assert!(plan(sql).contains("USING COVERING INDEX hallpass_tokens_by_owner"), "{}", plan(sql));
        }
    }
}
