//! The JSON interface, one file a resource.

mod caller;
mod health;
mod login;
mod logout;
mod me;
mod tokens;

use axum::{
    Router,
    routing::{get, post},
};
use hallpass::{ScopeRule, Wants};

use crate::router::Service;

/// What lists one's tokens.
#[derive(Clone, Copy, Debug)]
struct TokensRead;

impl ScopeRule for TokensRead {
    const WANTS: Wants = Wants::Scope("tokens:read");
}

/// What makes, changes and ends one's tokens.
#[derive(Clone, Copy, Debug)]
struct TokensWrite;

impl ScopeRule for TokensWrite {
    const WANTS: Wants = Wants::Scope("tokens:write");
}

/// Every route, with the handler that answers each method.
pub(crate) fn routes() -> Router<Service> {
    Router::new()
        .route("/v1/login", post(login::create))
        .route("/v1/logout", post(logout::create))
        .route("/v1/me", get(me::show))
        .route("/v1/tokens", get(tokens::list).post(tokens::create).delete(tokens::delete_all))
        .route("/v1/tokens/{id}", get(tokens::show).patch(tokens::update).delete(tokens::delete))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
}
