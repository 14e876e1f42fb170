//! The audit trail.

use async_trait::async_trait;
use hallpass::{
    Reason, TokenId, Unavailable, UserId,
    audit::{AuditEntry, AuditStore},
};
use mysql_async::Value;

use crate::{
    MysqlStore,
    columns::{bytes, text},
};

pub(crate) const APPEND: &str = "
    INSERT INTO {audit} (at, kind, user_id, token_id, purpose, reason, count, request_id, peer)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

#[async_trait]
impl AuditStore for MysqlStore {
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), Unavailable> {
        let rows = entries.iter().map(row).collect();
        Ok(self.pool.change_each(&self.sql.append, rows).await?)
    }
}

fn row(entry: &AuditEntry) -> Vec<Value> {
    let AuditEntry { event, request_id, peer, .. } = entry;
    vec![
        Value::Int(event.at.as_micros()),
        bytes(event.kind.as_str()),
        text(event.user.as_ref().map(UserId::as_str)),
        text(event.token.as_ref().map(TokenId::as_bytes)),
        text(event.purpose.as_deref()),
        text(event.reason.as_ref().map(Reason::as_str)),
        event.count.map_or(Value::NULL, |count| Value::Int(i64::try_from(count).unwrap_or(i64::MAX))),
        text(request_id.as_deref()),
        text(peer.as_deref()),
    ]
}
