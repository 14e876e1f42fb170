//! Whether the service lives, and whether it can do its work.

use std::time::Duration;

use axum::{Json, extract::State};
use hallpass::Unavailable;
use serde_json::{Value, json};

use crate::{problem::Problem, router::Service};

/// Longer than a busy store makes one wait, and short enough for a balancer's patience.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// GET /healthz: the process answers. It asks nobody, so that an outage of the database does not get it restarted.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// GET /readyz: the store answers.
pub(super) async fn ready(State(service): State<Service>) -> Result<Json<Value>, Problem> {
    let asked = tokio::time::timeout(READY_WITHIN, service.guard().tokens().ready());
    asked.await.map_err(|_| Unavailable::new("the store does not answer in time"))??;
    Ok(Json(json!({ "status": "ready" })))
}
