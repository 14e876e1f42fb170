use std::marker::PhantomData;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use hallpass::{
    AnyScope, Guard, ScopeRule, Verified,
    account::{Account, Accounts},
};
use hallpass_axum::Bearer;

use crate::{problem::Problem, request, router::Service};

/// The holder of the token that was sent, who has the scope that `S` wants. The first argument of a handler, so
/// that nothing else of the request is looked at before.
///
/// It is [`Bearer`], with the refusal in this service's words and the token noted for the log.
pub(super) struct Caller<S> {
    pub(super) verified: Verified<Account>,
    scope: PhantomData<S>,
}

impl<S: ScopeRule> FromRequestParts<Service> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let bearer = Bearer::<Accounts, AnyScope>::from_request_parts(parts, service).await?;
        // Before the scope is judged: the log names also the token that had too few.
        request::proven(bearer.token());
        bearer.require(S::WANTS)?;
        Ok(Self { verified: bearer.into_inner(), scope: PhantomData })
    }
}

impl FromRef<Service> for Guard<Accounts> {
    fn from_ref(service: &Service) -> Self {
        service.guard().clone()
    }
}
