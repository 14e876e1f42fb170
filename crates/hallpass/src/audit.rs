//! The audit trail: events that are kept, with the request they came from.

use std::fmt;

use async_trait::async_trait;

use crate::{error::Unavailable, event::Event};

/// An event and where it came from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditEntry {
    /// What happened.
    pub event: Event,
    /// The request that caused it; `None` for the command line and for jobs.
    pub request_id: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
}

impl AuditEntry {
    /// An entry for an event that no request caused.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self { event, request_id: None, peer: None }
    }

    /// Adds the request.
    #[must_use]
    pub fn from_request(mut self, request_id: impl Into<String>, peer: Option<String>) -> Self {
        self.request_id = Some(request_id.into());
        self.peer = peer;
        self
    }
}

/// Where the audit trail is kept: append-only.
#[async_trait]
pub trait AuditStore: Send + Sync + fmt::Debug + 'static {
    /// Appends the entries in this order, all or none.
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), Unavailable>;
}
