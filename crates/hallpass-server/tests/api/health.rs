use serde_json::json;

use crate::fixture::{Call, Fixture};

#[tokio::test]
async fn alive_whatever_the_store_does() {
    let fixture = Fixture::new().await;
    fixture.store.fail(true);
    let before = fixture.store.calls();
    let answer = fixture.call(Call::get("/healthz")).await;
    assert_eq!(answer.ok(200), json!({ "status": "ok" }));
    assert_eq!(fixture.store.calls(), before);
}

#[tokio::test]
async fn ready_when_the_store_is() {
    let fixture = Fixture::new().await;
    fixture.call(Call::get("/readyz")).await.ok(200);
    fixture.store.fail(true);
    let answer = fixture.call(Call::get("/readyz")).await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    fixture.store.fail(false);
    fixture.call(Call::get("/readyz")).await.ok(200);
}
