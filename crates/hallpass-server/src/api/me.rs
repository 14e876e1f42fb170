//! Who a token belongs to.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use hallpass::{AnyScope, Timestamp, UserId, account::Account};
use serde::Serialize;

use super::{caller::Caller, tokens::TokenView};

#[derive(Serialize)]
struct Me<'a> {
    user: UserView<'a>,
    token: TokenView<'a>,
}

/// What an account's owner sees of it.
#[derive(Serialize)]
struct UserView<'a> {
    id: &'a UserId,
    email: &'a str,
    confirmed_at: Option<Timestamp>,
    created_at: Timestamp,
}

/// GET /v1/me. The scopes are those that count at this moment, without privileged ones that were taken back.
pub(super) async fn show(caller: Caller<AnyScope>) -> Response {
    let verified = &caller.verified;
    let token = TokenView::from(verified.token()).with_scopes(verified.scopes());
    Json(Me { user: verified.user().into(), token }).into_response()
}

impl<'a> From<&'a Account> for UserView<'a> {
    fn from(account: &'a Account) -> Self {
        let Account { id, email, confirmed_at, created_at, .. } = account;
        Self { id, email: email.as_str(), confirmed_at: *confirmed_at, created_at: *created_at }
    }
}
