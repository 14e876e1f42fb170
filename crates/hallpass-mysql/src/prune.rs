//! Deleting what is long dead, few rows at a time.
//!
//! A row that was deleted stays in the indexes until the database has cleaned up behind, and whoever looks for more has to pass
//! over it. So what is dead is looked up thousands at a time, without a lock, and deleted a hundred at a time; what a call
//! does not get to is kept for the next.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hallpass::{Timestamp, Unavailable};
use mysql_async::Value;

use crate::{
    MysqlStore,
    columns::{Columns, bytes},
    connection::Sql,
};

/// Rows that one statement deletes, and so locks: a few milliseconds of work, where 50 are the most allowed.
const ROWS_AT_ONCE: usize = 100;

/// Rows that are looked up at once.
const FOUND_AT_ONCE: u32 = 5_000;

/// Owners that are looked at before it is noted that they were. Most have nothing to delete.
const OWNERS_AT_ONCE: u32 = 100;

/// Looking for the dead may take longer than a request may. The server ends it then as well.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const EXPIRED: &str = "SELECT seq FROM {tokens} WHERE expires_at < ? ORDER BY expires_at LIMIT ?";
pub(crate) const REVOKED: &str = "SELECT seq FROM {tokens} WHERE revoked_at < ? ORDER BY revoked_at LIMIT ?";
pub(crate) const TO_SWEEP: &str =
    "SELECT user_id, epoch FROM {owners} WHERE unswept < ? ORDER BY unswept LIMIT ?";
/// Reads the index of owners alone.
pub(crate) const ENDED: &str = "SELECT seq FROM {tokens} WHERE user_id = ? AND epoch <> ? LIMIT ?";
/// Unless it was raised again meanwhile.
pub(crate) const SWEPT: &str = "UPDATE {owners} SET unswept = NULL WHERE user_id = ? AND epoch = ?";

/// Given a JSON list of numbers. What was found is judged once more: a token's life may have been made longer meanwhile, where the
/// cutoff is near. What is dead by its epoch stays dead.
macro_rules! delete {
    ($only:literal) => {
        concat!(
            "DELETE t FROM JSON_TABLE(?, '$[*]' COLUMNS (seq BIGINT UNSIGNED PATH '$')) v
             STRAIGHT_JOIN {tokens} t ON t.seq = v.seq ",
            $only
        )
    };
}
pub(crate) const DELETE_EXPIRED: &str = delete!("WHERE t.expires_at < ?");
pub(crate) const DELETE_REVOKED: &str = delete!("WHERE t.revoked_at < ?");
pub(crate) const DELETE_ENDED: &str = delete!("");

/// What was found dead and not yet deleted.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Mutex<Option<Dead>>);

#[derive(Debug)]
struct Dead {
    /// By this cutoff.
    cutoff: Timestamp,
    way: Way,
    numbers: Vec<u64>,
}

/// How they died.
#[derive(Clone, Copy, Debug)]
enum Way {
    Expired,
    Revoked,
    Ended,
}

impl Backlog {
    /// What is left, if it is dead by `cutoff` too.
    fn take(&self, cutoff: Timestamp) -> Option<Dead> {
        self.lock().take().filter(|dead| dead.cutoff <= cutoff)
    }

    fn keep(&self, dead: Dead) {
        *self.lock() = Some(dead);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Dead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MysqlStore {
    /// Each statement is a transaction by itself.
    pub(crate) async fn prune_in_batches(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        let limit = u64::from(limit);
        let mut deleted = 0;
        let mut found = self.backlog.take(cutoff);
        while deleted < limit {
            let mut dead = match found.take() {
                Some(dead) => dead,
                None => match self.look_for_dead(cutoff).await? {
                    Some(dead) => dead,
                    None => break,
                },
            };
            while deleted < limit && !dead.numbers.is_empty() {
                let left = usize::try_from(limit - deleted).unwrap_or(usize::MAX);
                let rest = dead.numbers.len().saturating_sub(left.min(ROWS_AT_ONCE));
                let some = dead.numbers.split_off(rest);
                deleted += self.delete(dead.way, &some, cutoff).await?;
            }
            if !dead.numbers.is_empty() {
                self.backlog.keep(dead);
            }
        }
        Ok(deleted)
    }

    async fn delete(&self, way: Way, numbers: &[u64], cutoff: Timestamp) -> Result<u64, Unavailable> {
        let list: Vec<_> = numbers.iter().map(u64::to_string).collect();
        let mut values = vec![bytes(format!("[{}]", list.join(",")))];
        let sql = match way {
            Way::Expired => &self.sql.delete_expired,
            Way::Revoked => &self.sql.delete_revoked,
            Way::Ended => &self.sql.delete_ended,
        };
        if !matches!(way, Way::Ended) {
            values.push(Value::Int(cutoff.as_micros()));
        }
        Ok(self.pool.change(sql, values).await?.rows)
    }

    async fn look_for_dead(&self, cutoff: Timestamp) -> Result<Option<Dead>, Unavailable> {
        let instant = Value::Int(cutoff.as_micros());
        for (way, sql) in [(Way::Expired, &self.sql.expired), (Way::Revoked, &self.sql.revoked)] {
            let numbers = self.numbers(sql, vec![instant.clone()]).await?;
            if !numbers.is_empty() {
                return Ok(Some(Dead { cutoff, way, numbers }));
            }
        }
        loop {
            let values = vec![instant.clone(), Value::UInt(OWNERS_AT_ONCE.into())];
            let owners = self.pool.rows_patiently(&self.sql.to_sweep, values, PATIENCE).await?;
            let are_all = owners.len() < usize::try_from(OWNERS_AT_ONCE).unwrap_or(usize::MAX);
            let (mut swept, mut numbers) = (Vec::new(), Vec::new());
            for owner in owners {
                let mut columns = Columns::new(owner);
                let owner = vec![columns.value(), columns.value()];
                numbers = self.numbers(&self.sql.ended, owner.clone()).await?;
                if !numbers.is_empty() {
                    break;
                }
                swept.push(owner);
            }
            // In one transaction: one wait for the disk.
            self.pool.change_each(&self.sql.swept, swept).await?;
            if !numbers.is_empty() {
                return Ok(Some(Dead { cutoff, way: Way::Ended, numbers }));
            }
            if are_all {
                return Ok(None);
            }
        }
    }

    async fn numbers(&self, sql: &Sql, mut values: Vec<Value>) -> Result<Vec<u64>, Unavailable> {
        values.push(Value::UInt(FOUND_AT_ONCE.into()));
        let rows = self.pool.rows_patiently(sql, values, PATIENCE).await?;
        rows.into_iter().map(|row| Columns::new(row).number("seq")).collect()
    }
}
