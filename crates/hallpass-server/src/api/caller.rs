use std::marker::PhantomData;

use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, header::AUTHORIZATION, request::Parts},
};
use hallpass::{ScopeRule, Verified, account::Account};

use crate::{problem::Problem, request, router::Service};

/// The holder of the token that was sent, who has the scope that `S` wants. The first argument of a handler, so
/// that nothing else of the request is looked at before.
pub(super) struct Caller<S> {
    pub(super) verified: Verified<Account>,
    scope: PhantomData<S>,
}

impl<S: ScopeRule> FromRequestParts<Service> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let guard = service.guard();
        let refused = |error| Problem::refused(&error, guard.realm());
        let values = parts.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let verified = guard.verify_header(values).await.map_err(refused)?;
        request::proven(verified.token());
        verified.require(S::WANTS).map_err(refused)?;
        Ok(Self { verified, scope: PhantomData })
    }
}
