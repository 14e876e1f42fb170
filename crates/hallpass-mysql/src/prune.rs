//! Deleting what is long dead, few rows at a time.

use hallpass::{Timestamp, Unavailable};
use mysql_async::Value;

use crate::{
    MysqlStore,
    columns::{Columns, bytes},
};

/// Rows that one statement deletes, and so locks: a few milliseconds of work, where 50 are the most allowed.
const ROWS_AT_ONCE: u32 = 100;

/// Owners that are looked at before it is noted that they were. Most have nothing to delete.
const OWNERS_AT_ONCE: u32 = 100;

pub(crate) const EXPIRED: &str = "DELETE FROM {tokens} WHERE expires_at < ? ORDER BY expires_at LIMIT ?";
pub(crate) const REVOKED: &str = "DELETE FROM {tokens} WHERE revoked_at < ? ORDER BY revoked_at LIMIT ?";

pub(crate) const TO_SWEEP: &str =
    "SELECT user_id, epoch FROM {owners} WHERE unswept < ? ORDER BY unswept LIMIT ?";
/// Reads the index of owners alone, and locks nothing while it passes over the living, who may be many. What is dead by its
/// epoch stays dead, so it may be deleted a moment later by its number.
pub(crate) const ENDED: &str = "SELECT seq FROM {tokens} WHERE user_id = ? AND epoch <> ? LIMIT ?";
pub(crate) const DELETE_ENDED: &str = "
    DELETE t FROM JSON_TABLE(?, '$[*]' COLUMNS (seq BIGINT UNSIGNED PATH '$')) v
    STRAIGHT_JOIN {tokens} t ON t.seq = v.seq";
/// Unless it was raised again meanwhile.
pub(crate) const SWEPT: &str = "UPDATE {owners} SET unswept = NULL WHERE user_id = ? AND epoch = ?";

impl MysqlStore {
    /// Each statement is a transaction by itself and has the time of a call.
    pub(crate) async fn prune_in_batches(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        let cutoff = Value::Int(cutoff.as_micros());
        let mut left = limit;
        for sql in [&self.sql.prune_expired, &self.sql.prune_revoked] {
            loop {
                let some = left.min(ROWS_AT_ONCE);
                if some == 0 {
                    return Ok(limit.into());
                }
                let values = vec![cutoff.clone(), Value::UInt(some.into())];
                let deleted = u32::try_from(self.pool.change(sql, values).await?.rows).unwrap_or(some);
                left = left.saturating_sub(deleted);
                if deleted < some {
                    break;
                }
            }
        }
        while left > 0 {
            let values = vec![cutoff.clone(), Value::UInt(OWNERS_AT_ONCE.into())];
            let owners = self.pool.rows(&self.sql.to_sweep, values).await?;
            let are_all = owners.len() < usize::try_from(OWNERS_AT_ONCE).unwrap_or(usize::MAX);
            let mut swept = Vec::new();
            for owner in owners {
                let mut columns = Columns::new(owner);
                let (user, epoch) = (columns.value(), columns.value());
                left = self.sweep(&user, &epoch, left).await?;
                if left == 0 {
                    break;
                }
                swept.push(vec![user, epoch]);
            }
            // In one transaction: one wait for the disk.
            self.pool.change_each(&self.sql.swept, swept).await?;
            if are_all {
                break;
            }
        }
        Ok((limit - left).into())
    }

    /// Deletes what was ended of one owner's, and says what is left of the limit: nothing, if there may be more.
    async fn sweep(&self, user: &Value, epoch: &Value, mut left: u32) -> Result<u32, Unavailable> {
        while left > 0 {
            let some = left.min(ROWS_AT_ONCE);
            let values = vec![user.clone(), epoch.clone(), Value::UInt(some.into())];
            let mut numbers = Vec::new();
            for row in self.pool.rows(&self.sql.ended, values).await? {
                numbers.push(Columns::new(row).number::<u64>("seq")?.to_string());
            }
            if numbers.is_empty() {
                break;
            }
            let list = format!("[{}]", numbers.join(","));
            let deleted = self.pool.change(&self.sql.delete_ended, vec![bytes(list)]).await?.rows;
            left = left.saturating_sub(u32::try_from(deleted).unwrap_or(some));
            if numbers.len() < usize::try_from(some).unwrap_or(usize::MAX) {
                break;
            }
        }
        Ok(left)
    }
}
