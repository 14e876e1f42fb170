//! The end of the token that was sent.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
};
use hallpass::{AnyScope, PlainToken, bearer};
use serde_json::{Value, json};

use super::caller::Caller;
use crate::{json::NoBody, problem::Problem, router::Service};

/// POST /v1/logout. The whole text of the token is the right to end it, so any scopes will do.
pub(super) async fn create(
    _: Caller<AnyScope>,
    State(service): State<Service>,
    headers: HeaderMap,
    _: NoBody,
) -> Result<Json<Value>, Problem> {
    let guard = service.guard();
    let values = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let token = bearer::credentials(values)
        .and_then(PlainToken::parse)
        .map_err(|reason| Problem::not_issued(reason.into(), guard.realm()))?;
    // Whether this call or another at the same moment ended it: it is ended.
    guard.revoke(&token).await?;
    Ok(Json(json!({ "revoked": true })))
}
