//! The audit trail.

use async_trait::async_trait;
use hallpass::{
    Reason, TokenId, Unavailable, UserId,
    audit::{AuditEntry, AuditStore},
};
use rusqlite::params;

use crate::SqliteStore;

const APPEND: &str = "
    INSERT INTO hallpass_audit (at, kind, user_id, token_id, purpose, reason, count, request_id, peer)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), Unavailable> {
        let entries = entries.to_vec();
        self.inner
            .writer
            .write(move |connection| {
                let mut append = connection.prepare_cached(APPEND)?;
                for AuditEntry { event, request_id, peer, .. } in &entries {
                    append.execute(params![
                        event.at.as_micros(),
                        event.kind.as_str(),
                        event.user.as_ref().map(UserId::as_str),
                        event.token.as_ref().map(TokenId::as_bytes),
                        event.purpose,
                        event.reason.as_ref().map(Reason::as_str),
                        event.count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
                        request_id,
                        peer,
                    ])?;
                }
                Ok(())
            })
            .await
    }
}
