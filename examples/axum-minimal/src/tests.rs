//! A template for the tests of your own application: a clock that stands still, passwords that cost nothing, and
//! `acting_as`, which gives the header of somebody who is logged in.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use hallpass::{
    Guard, MemoryStore, Purpose,
    testing::{self, FixedClock},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::users::{User, Users};

const PASSWORD: &str = "correct horse battery";

struct Fixture {
    app: Router,
    guard: Guard<Users>,
    clock: Arc<FixedClock>,
    ada: User,
}

impl Fixture {
    async fn new() -> Self {
        let passwords = testing::passwords();
        let password = passwords.hash(&passwords.accept(PASSWORD).unwrap()).await.unwrap();
        let clock = Arc::new(FixedClock::new());
        let guard = Guard::builder(
            Users::new([("ada@example.com", password)]),
            Arc::new(MemoryStore::new()),
            Purpose::api(),
        )
        .passwords(passwords)
        .clock(clock.clone())
        .build();
        let ada = User { id: 1, email: "ada@example.com".to_owned() };
        Self { app: crate::app(guard.clone()), guard, clock, ada }
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.app.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn get_me(&self, authorization: &str) -> (StatusCode, Value) {
        let request = Request::get("/me").header("authorization", authorization);
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    async fn log_in(&self, body: Value) -> (StatusCode, Value) {
        let request = Request::post("/login").header("content-type", "application/json");
        self.ask(request.body(body.to_string().into()).unwrap()).await
    }
}

#[tokio::test]
async fn row_8_me_says_who_i_am_to_a_token_with_the_scope() {
    let fixture = Fixture::new().await;
    for scope in ["profile:read", "*"] {
        let header = testing::acting_as(&fixture.guard, &fixture.ada, [scope]).await;
        let (status, me) = fixture.get_me(&header).await;
        assert_eq!((status, me), (StatusCode::OK, json!({ "id": 1, "email": "ada@example.com" })));
    }
}

#[tokio::test]
async fn row_8_me_is_403_to_a_token_with_another_scope() {
    let fixture = Fixture::new().await;
    let header = testing::acting_as(&fixture.guard, &fixture.ada, ["profile:write"]).await;
    let (status, problem) = fixture.get_me(&header).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("insufficient_scope")));
}

#[tokio::test]
async fn row_8_me_is_401_without_a_good_token() {
    let fixture = Fixture::new().await;
    for header in ["Bearer nonsense", "Basic YWRhOmFkYQ=="] {
        assert_eq!(fixture.get_me(header).await.0, StatusCode::UNAUTHORIZED);
    }
    let nothing = Request::get("/me").body(Body::empty()).unwrap();
    assert_eq!(fixture.ask(nothing).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn row_8_a_log_in_lasts_seven_days() {
    let fixture = Fixture::new().await;
    let (status, token) = fixture.log_in(json!({ "email": "ada@example.com", "password": PASSWORD })).await;
    assert_eq!((status, &token["type"]), (StatusCode::OK, &json!("bearer")));
    let header = format!("Bearer {}", token["token"].as_str().unwrap());

    fixture.clock.advance(Duration::from_hours(7 * 24) - Duration::from_micros(1));
    assert_eq!(fixture.get_me(&header).await.0, StatusCode::OK);
    fixture.clock.advance(Duration::from_micros(1));
    assert_eq!(fixture.get_me(&header).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn row_8_an_unknown_name_and_a_wrong_password_are_one_refusal() {
    let fixture = Fixture::new().await;
    let wrong = fixture.log_in(json!({ "email": "ada@example.com", "password": "wrong" })).await;
    let unknown = fixture.log_in(json!({ "email": "bob@example.com", "password": PASSWORD })).await;
    assert_eq!((wrong.0, &wrong.1["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_credentials")));
    assert_eq!(unknown, wrong);
}

#[tokio::test]
async fn row_8_and_27_log_out_ends_the_token_it_is_asked_with() {
    let fixture = Fixture::new().await;
    let mine = testing::acting_as(&fixture.guard, &fixture.ada, ["*"]).await;
    let other = testing::acting_as(&fixture.guard, &fixture.ada, ["*"]).await;
    let log_out = Request::post("/logout").header("authorization", &mine).body(Body::empty()).unwrap();
    assert_eq!(fixture.ask(log_out).await, (StatusCode::OK, json!({ "revoked": true })));
    assert_eq!(fixture.get_me(&mine).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.get_me(&other).await.0, StatusCode::OK);
}
