//! Guards axum and tower applications with Hallpass tokens.
//!
//! Give the router a [`Guard`](hallpass::Guard) as its state, and ask for a [`Bearer`] in a handler's arguments:
//!
//! ```
//! use std::sync::Arc;
//!
//! use axum::{Router, routing::get};
//! use hallpass::{Guard, MemoryStore, Purpose, ScopeRule, Wants, testing::{self, Users}};
//! use hallpass_axum::Bearer;
//!
//! struct ProfileRead;
//! impl ScopeRule for ProfileRead {
//!     const WANTS: Wants = Wants::Scope("profile:read");
//! }
//!
//! async fn me(who: Bearer<Users, ProfileRead>) -> String {
//!     who.user().email.clone()
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # use axum::{body::Body, http::{Request, StatusCode}};
//! # use tower::ServiceExt;
//! let users = Users::new(); // your own type, with `impl hallpass::UserProvider`
//! # let ada = users.add("ada@example.com");
//! let guard = Guard::new(users, Arc::new(MemoryStore::new()), Purpose::api());
//! let app = Router::new().route("/me", get(me)).with_state(guard.clone());
//!
//! let request = Request::get("/me").header("authorization", testing::acting_as(&guard, &ada, ["profile:read"]).await);
//! let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
//! assert_eq!(answer.status(), StatusCode::OK);
//!
//! let answer = app.oneshot(Request::get("/me").body(Body::empty()).unwrap()).await.unwrap();
//! assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
//! # });
//! ```
//!
//! | in the arguments | takes |
//! |---|---|
//! | `Bearer<Users>` | a token that was not narrowed |
//! | `Bearer<Users, ProfileRead>` | a token that carries the scope |
//! | `Bearer<Users, AnyScope>` | any good token |
//! | `Option<Bearer<Users>>` | the same, and requests without any `Authorization` header |
//! | `Auth<Users>` | every request; the handler asks, in the words of `AdonisJS` |
//!
//! A state of your own works too, if the guard can be taken from it by `FromRef`. A state that has no guard does not compile:
//!
//! ```compile_fail
//! # use axum::{Router, routing::get};
//! # use hallpass::testing::Users;
//! # use hallpass_axum::Bearer;
//! async fn me(who: Bearer<Users>) -> String {
//!     who.user().email.clone()
//! }
//! let app: Router = Router::new().route("/me", get(me)).with_state(());
//! ```
//!
//! axum's message speaks of `Handler`; with `#[axum::debug_handler(state = …)]` on the handler it says which guard is missing.
//!
//! For a whole router, or a service that is not axum's, there is a [layer](BearerLayer). What is refused never reaches the
//! handler and is answered as RFC 6750 and RFC 9457 ask for: see [`Rejection`].

mod auth;
mod bearer;
mod issued;
mod layer;
mod passed;
mod rejection;
mod state;

pub use auth::Auth;
pub use bearer::Bearer;
pub use issued::Issued;
pub use layer::{BearerLayer, BearerService, ResponseFuture};
pub use rejection::Rejection;
pub use state::HasGuard;

/// The example of the README, which must compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
