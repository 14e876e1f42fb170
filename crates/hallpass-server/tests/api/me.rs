use std::time::Duration;

use hallpass::testing;

use crate::fixture::{ADA, Fixture};

#[tokio::test]
async fn row_21_the_answer_has_these_keys_in_this_order() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&["profile:read"]).await;
    let answer = fixture.get("/v1/me", &auth).await;
    let json = answer.ok(200);
    let (user, token) = (&json["user"], &json["token"]);
    let expected = format!(
        concat!(
            r#"{{"user":{{"id":{},"email":"{}","confirmed_at":"2026-01-01T00:00:00Z","created_at":"2026-01-01T00:00:00Z"}},"#,
            r#""token":{{"id":{},"name":"acting as","hint":{},"purpose":"api","scopes":["profile:read"],"meta":{{}},"#,
            r#""created_at":"2026-01-01T00:00:00Z","expires_at":"2027-01-01T00:00:00Z","last_used_at":null}}}}"#
        ),
        user["id"], ADA, token["id"], token["hint"],
    );
    assert_eq!(answer.text(), expected);
    assert!(!answer.text().contains(&auth["Bearer ".len()..]));
}

#[tokio::test]
async fn a_token_without_scopes_still_says_whose_it_is() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    fixture.get("/v1/me", &auth).await.ok(200);
}

#[tokio::test]
async fn the_last_use_is_told_once_it_was_written() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    fixture.get("/v1/me", &auth).await.ok(200);
    fixture.guard.flush_touches().await.unwrap();
    let me = fixture.get("/v1/me", &auth).await.ok(200);
    assert_eq!(me["token"]["last_used_at"], "2026-01-01T00:00:00Z");
}

#[tokio::test]
async fn row_4_dead_at_equality() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    fixture.clock.advance(Duration::from_hours(365 * 24) - Duration::from_micros(1));
    fixture.get("/v1/me", &auth).await.ok(200);
    fixture.clock.advance(Duration::from_micros(1));
    fixture.get("/v1/me", &auth).await.problem(401, "invalid_token");
}

#[tokio::test]
async fn disabled_and_enabled_again_the_token_stays_dead() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    let accounts = fixture.guard.users();
    accounts.disable(&fixture.ada.id).await.unwrap();
    fixture.get("/v1/me", &auth).await.problem(401, "invalid_token");
    accounts.enable(&fixture.ada.id).await.unwrap();
    fixture.get("/v1/me", &auth).await.problem(401, "invalid_token");
    let fresh = testing::acting_as(
        &fixture.guard,
        &fixture.guard.verify_credentials(ADA, crate::fixture::PASSWORD).await.unwrap(),
        ["a"],
    )
    .await;
    fixture.get("/v1/me", &fresh).await.ok(200);
}

#[tokio::test]
async fn an_outage_is_503_with_retry_after() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    fixture.store.fail(true);
    let answer = fixture.get("/v1/me", &auth).await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    fixture.store.fail(false);
    fixture.get("/v1/me", &auth).await.ok(200);
}
