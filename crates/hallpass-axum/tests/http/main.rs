//! What clients of a guarded application see, file by file: the header, the answers, the extractors, the layer.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is tests")]

mod answers;
mod auth;
mod bearer;
mod header;
mod layer;
mod sweep;
mod tower_stacks;

use std::sync::Arc;

use axum::{Router, body::Body};
use hallpass::{
    AnyScope, Guard, MemoryStore, PlainToken, Purpose, ScopeRule, Wants,
    testing::{self, FixedClock, User, Users},
};
use hallpass_axum::Bearer;
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::BodyExt;
use tower::ServiceExt;

const PASSWORD: &str = "correct horse battery";

struct ProfileRead;

impl ScopeRule for ProfileRead {
    const WANTS: Wants = Wants::Scope("profile:read");
}

/// A guard over a store that counts, and Ada, who has a password.
struct House {
    users: Users,
    store: Arc<MemoryStore>,
    clock: Arc<FixedClock>,
    guard: Guard<Users>,
    ada: User,
}

impl House {
    async fn new() -> Self {
        let users = Users::new();
        let ada = users.add_with_password("ada@example.com", PASSWORD).await;
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(FixedClock::new()));
        let guard = Guard::builder(users.clone(), store.clone(), Purpose::api())
            .clock(clock.clone())
            .passwords(testing::passwords())
            .realm("the house")
            .build();
        Self { users, store, clock, guard, ada }
    }

    /// Another guard over the same users and tokens.
    fn guard_of(&self, purpose: Purpose) -> Guard<Users> {
        Guard::builder(self.users.clone(), self.store.clone(), purpose)
            .clock(self.clock.clone())
            .realm("the house")
            .build()
    }

    /// A header of Ada's with these scopes.
    async fn header<const N: usize>(&self, scopes: [&str; N]) -> String {
        testing::acting_as(&self.guard, &self.ada, scopes).await
    }

    async fn token<const N: usize>(&self, scopes: [&str; N]) -> String {
        self.header(scopes).await["Bearer ".len()..].to_owned()
    }

    /// `GET /me` for any good token.
    fn me(&self) -> Router {
        Router::new().route("/me", axum::routing::get(me)).with_state(self.guard.clone())
    }

    /// How many calls to the store it takes to answer.
    async fn calls(&self, answer: impl Future<Output = Answer>) -> (u64, Answer) {
        let before = self.store.calls();
        let answer = answer.await;
        (self.store.calls() - before, answer)
    }
}

async fn me(who: Bearer<Users, AnyScope>) -> String {
    who.into_user().email
}

/// A text with the shape of a token, which nobody made.
fn stray(purpose: &Purpose) -> String {
    PlainToken::generate(purpose).unwrap().expose().to_owned()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    extensions: Extensions,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Everything that goes over the wire.
    fn wire(&self) -> (StatusCode, &HeaderMap, &str) {
        (self.status, &self.headers, &self.body)
    }

    /// The status and the code of the problem.
    fn problem(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["code"].as_str().unwrap().to_owned())
    }
}

async fn ask(app: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
        extensions: parts.extensions,
    }
}

/// `GET path` with these `Authorization` headers.
async fn get<const N: usize>(app: &Router, path: &str, headers: [&str; N]) -> Answer {
    ask(app, request(path, headers.map(str::as_bytes))).await
}

fn request<const N: usize>(path: &str, headers: [&[u8]; N]) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for header in headers {
        request.headers_mut().append(AUTHORIZATION, HeaderValue::from_bytes(header).unwrap());
    }
    request
}
