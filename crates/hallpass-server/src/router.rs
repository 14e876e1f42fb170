//! The router, to serve alone or to nest into an application.

use std::any::Any;

use axum::{
    Router,
    body::Body,
    http::{Method, StatusCode},
    middleware,
    response::{IntoResponse, Response},
};
use hallpass::{Guard, account::Accounts};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    api,
    problem::{Kind, Problem},
    request,
};

/// What the router serves: the tokens of one guard, for the built-in accounts. Cheap to clone.
///
/// The store behind the guard is asked whether the service is ready.
#[derive(Clone, Debug)]
pub struct Service {
    guard: Guard<Accounts>,
}

impl Service {
    /// Serves the tokens of `guard`.
    #[must_use]
    pub fn new(guard: Guard<Accounts>) -> Self {
        Self { guard }
    }

    /// The guard whose tokens are served, for routes of one's own beside these.
    #[must_use]
    pub fn guard(&self) -> &Guard<Accounts> {
        &self.guard
    }
}

/// The routes `/v1/…`, `/healthz` and `/readyz`, ready to serve, or to nest under a prefix of an application:
/// `app.nest("/auth", router(service))`. Nest it, do not merge it: it answers what it does not know with a 404 of its own,
/// which under a prefix concerns nobody else.
///
/// Every answer has an `X-Request-Id`, is marked `no-store`, and gives the log one line. Failures are
/// `application/problem+json`.
pub fn router(service: Service) -> Router {
    finish(api::routes().with_state(service))
}

/// The layers around all routes, which must be there when they are called.
fn finish(routes: Router) -> Router {
    routes
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(async || Problem::not_found())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(request::around))
}

/// Axum adds the `Allow` header to either answer.
async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = "Another method is needed here; the Allow header lists them.";
    Problem::new(Kind::METHOD_NOT_ALLOWED, detail).into_response()
}

/// What was panicked with stays with the panic hook: it may quote what the client sent.
fn panicked(_: Box<dyn Any + Send>) -> Response<Body> {
    tracing::error!("a handler panicked");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use axum::{http::Request, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing_of_it() {
        async fn panics() {
            panic!("the secret");
        }
        let app = finish(Router::new().route("/", get(panics)));
        let response = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(response.headers().contains_key("x-request-id"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], "internal");
        assert!(!problem.to_string().contains("secret"));
    }
}
