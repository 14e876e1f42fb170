use serde_json::json;

use crate::fixture::{Call, Fixture};

#[tokio::test]
async fn row_27_logging_out_ends_the_token_that_was_sent_and_no_other() {
    let fixture = Fixture::new().await;
    let (auth, other) = (fixture.logged_in().await, fixture.logged_in().await);
    let answer = fixture.call(Call::new(http::Method::POST, "/v1/logout").auth(&auth)).await;
    answer.ok(200);
    assert_eq!(answer.text(), r#"{"revoked":true}"#);
    fixture.get("/v1/me", &auth).await.problem(401, "invalid_token");
    fixture.get("/v1/me", &other).await.ok(200);
}

#[tokio::test]
async fn row_27_any_scopes_will_do() {
    let fixture = Fixture::new().await;
    for scopes in [&[][..], &["tokens:read"], &["*"]] {
        let auth = fixture.acting(scopes).await;
        fixture.post("/v1/logout", &auth, json!({})).await.ok(200);
    }
}

#[tokio::test]
async fn row_27_a_second_time_is_refused() {
    let fixture = Fixture::new().await;
    let auth = fixture.logged_in().await;
    fixture.post("/v1/logout", &auth, json!({})).await.ok(200);
    fixture.post("/v1/logout", &auth, json!({})).await.problem(401, "invalid_token");
}

#[tokio::test]
async fn without_a_token_it_is_401_without_an_error_code() {
    let fixture = Fixture::new().await;
    let answer = fixture.call(Call::new(http::Method::POST, "/v1/logout")).await;
    answer.problem(401, "invalid_token");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"hallpass\"");
}

#[tokio::test]
async fn a_body_that_wants_more_ends_nothing() {
    let fixture = Fixture::new().await;
    let auth = fixture.logged_in().await;
    assert_eq!(fixture.post("/v1/logout", &auth, json!({ "all": true })).await.field(), "all");
    let text = Call::new(http::Method::POST, "/v1/logout").auth(&auth).body("text/plain", "all");
    fixture.call(text).await.problem(415, "unsupported_media_type");
    fixture.get("/v1/me", &auth).await.ok(200);
}

#[tokio::test]
async fn a_get_ends_nothing() {
    let fixture = Fixture::new().await;
    let auth = fixture.logged_in().await;
    fixture.get("/v1/logout", &auth).await.problem(405, "method_not_allowed");
    fixture.get("/v1/me", &auth).await.ok(200);
}
