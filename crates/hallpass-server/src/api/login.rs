//! An e-mail address and a password for a token.

use axum::{Json, extract::State};
use hallpass::{
    Issue, NewToken,
    account::{Account, Accounts},
};
use serde::Deserialize;

use crate::{
    json::{JsonBody, Meta},
    problem::Problem,
    request,
    router::Service,
};

/// What is wanted, and the proof. No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    email: String,
    password: String,
    name: Option<String>,
    expires_in: Option<String>,
    scopes: Option<Vec<String>>,
    meta: Option<Meta>,
}

/// POST /v1/login. Without `scopes` the token carries `*`.
pub(super) async fn create(
    State(service): State<Service>,
    JsonBody(login): JsonBody<Login>,
) -> Result<Json<NewToken<Account>>, Problem> {
    let guard = service.guard();
    let mut issue = guard.attempt(&login.email, &login.password);
    if let Some(scopes) = login.scopes {
        issue = issue.scopes(scopes);
    }
    issue = with_options(issue, login.name, login.expires_in, login.meta);
    let token = issue.await.map_err(|error| Problem::not_logged_in(error, guard.realm()))?;
    request::proven(token.record());
    Ok(Json(token))
}

/// The options that a log-in and a new token have in common.
pub(super) fn with_options(
    mut issue: Issue<'_, Accounts>,
    name: Option<String>,
    expires_in: Option<String>,
    meta: Option<Meta>,
) -> Issue<'_, Accounts> {
    if let Some(name) = name {
        issue = issue.name(name);
    }
    if let Some(expires_in) = expires_in {
        issue = issue.expires_in(expires_in);
    }
    for (key, value) in meta.map(Meta::into_inner).unwrap_or_default() {
        issue = issue.meta(key, value);
    }
    issue
}
