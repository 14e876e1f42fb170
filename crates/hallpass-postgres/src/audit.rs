//! The audit trail.

use async_trait::async_trait;
use hallpass::{
    Reason, Unavailable, UserId,
    audit::{AuditEntry, AuditStore},
    event::Event,
};

use crate::{
    PostgresStore,
    link::Step,
    statements::durably,
    value::{Id, Value},
};

pub(crate) const APPEND: &str = concat!(
    "INSERT INTO {audit} (at, kind, user_id, token_id, purpose, reason, count, request_id, peer)
     SELECT at, kind, user_id, token_id, purpose, reason, count, request_id, peer
     FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) WITH ORDINALITY
       AS entry (at, kind, user_id, token_id, purpose, reason, count, request_id, peer, place)
     WHERE ",
    durably!(),
    " ORDER BY place"
);

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), Unavailable> {
        if entries.is_empty() {
            return Ok(());
        }
        let events = || entries.iter().map(|entry| &entry.event);
        let texts = |text: fn(&Event) -> Option<&str>| Value::MaybeTexts(events().map(text).collect());
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let values = [
            Value::Ints(events().map(|event| event.at.as_micros()).collect()),
            Value::Texts(events().map(|event| event.kind.as_str()).collect()),
            texts(|event| event.user.as_ref().map(UserId::as_str)),
            Value::MaybeIds(events().map(|event| event.token.map(Id)).collect()),
            texts(|event| event.purpose.as_deref()),
            texts(|event| event.reason.as_ref().map(Reason::as_str)),
            Value::MaybeInts(events().map(|event| event.count.map(count)).collect()),
            Value::MaybeTexts(entries.iter().map(|entry| entry.request_id.as_deref()).collect()),
            Value::MaybeTexts(entries.iter().map(|entry| entry.peer.as_deref()).collect()),
        ];
        self.write_step(Step { sql: &self.sql().append, values: &values }).await?;
        Ok(())
    }
}
