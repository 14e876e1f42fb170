//! A service on a memory store, with Ada and Bob, at a time that stands still.

use std::sync::Arc;

use axum::{Router, body::Body};
use hallpass::{
    EmailAddress, Guard, MemoryStore, Purpose, Scopes,
    account::{Account, Accounts},
    event::Observers,
    password::Passwords,
    testing::{self, FixedClock},
};
use hallpass_server::{Service, router};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const ADA: &str = "ada@example.com";
pub(crate) const BOB: &str = "bob@example.com";

#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) router: Router,
    pub(crate) guard: Guard<Accounts>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) ada: Account,
    pub(crate) bob: Account,
}

/// What a test may want to be otherwise.
pub(crate) struct Options {
    pub(crate) cap: Option<u32>,
    pub(crate) observers: Observers,
    pub(crate) passwords: Passwords,
    pub(crate) purpose: Purpose,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cap: None,
            observers: Observers::new(),
            passwords: testing::passwords(),
            purpose: Purpose::api(),
        }
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(FixedClock::new());
        let accounts = Accounts::new(store.clone())
            .passwords(options.passwords.clone())
            .clock(clock.clone())
            .observers(options.observers.clone());
        let guard = Guard::builder(accounts, store.clone(), options.purpose)
            .passwords(options.passwords)
            .clock(clock.clone())
            .observers(options.observers)
            .cap(options.cap)
            .build();
        let ada = add(&guard, ADA).await;
        let bob = add(&guard, BOB).await;
        let router = router(Service::new(guard.clone()));
        Self { router, guard, store, clock, ada, bob }
    }

    /// Ada's header with these scopes.
    pub(crate) async fn acting(&self, scopes: &[&str]) -> String {
        testing::acting_as(&self.guard, &self.ada, scopes.iter().copied()).await
    }

    /// The header of a token that Ada got by logging in.
    pub(crate) async fn logged_in(&self) -> String {
        let token = self.guard.attempt(ADA, PASSWORD).await.unwrap();
        format!("Bearer {}", token.plain().expose())
    }

    pub(crate) async fn get(&self, path: &str, auth: &str) -> Answer {
        self.call(Call::get(path).auth(auth)).await
    }

    pub(crate) async fn post(&self, path: &str, auth: &str, body: Value) -> Answer {
        self.call(Call::post(path, body).auth(auth)).await
    }

    pub(crate) async fn call(&self, call: Call) -> Answer {
        send(self.router.clone(), call.into_request()).await
    }
}

async fn add(guard: &Guard<Accounts>, email: &str) -> Account {
    let password = testing::passwords().accept(PASSWORD).unwrap();
    guard.users().create(EmailAddress::parse(email).unwrap(), &password, Scopes::none()).await.unwrap()
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// A request in the making.
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: &str, body: Value) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    pub(crate) fn auth(self, value: &str) -> Self {
        self.header("authorization", value)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn into_request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Body::from(self.body)).unwrap()
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The problem in it, which must be whole and belong to the status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["code"], code);
        assert_eq!(problem["type"], format!("urn:hallpass:problem:{code}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }

    /// The one field that a 422 complains of.
    #[track_caller]
    pub(crate) fn field(&self) -> String {
        let problem = self.problem(422, "invalid_field");
        let errors = problem["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{problem}");
        assert!(errors[0]["message"].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        errors[0]["field"].as_str().unwrap().to_owned()
    }
}
