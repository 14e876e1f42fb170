use hallpass::{PlainToken, Purpose, password::Passwords};
use http::Method;
use serde_json::{Value, json};

use crate::fixture::{ADA, Call, Fixture, Options, PASSWORD};

fn body(more: Value) -> Value {
    let mut body = json!({ "email": ADA, "password": PASSWORD });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn log_in(fixture: &Fixture, more: Value) -> crate::fixture::Answer {
    fixture.call(Call::post("/v1/login", body(more))).await
}

#[tokio::test]
async fn row_9_and_24_a_log_in_gives_exactly_the_four_keys_in_order() {
    let fixture = Fixture::new().await;
    let answer = log_in(&fixture, json!({ "name": "For the CLI app", "expires_in": "7 days" })).await;
    let json = answer.ok(200);
    let token = json["token"].as_str().unwrap();
    let expected = format!(
        r#"{{"type":"bearer","token":"{token}","expires_at":"2026-01-08T00:00:00Z","expires_in":604800}}"#
    );
    assert_eq!(answer.text(), expected);
    assert!(PlainToken::parse(token).is_ok());
}

#[tokio::test]
async fn row_24_the_expiry_keys_are_there_only_with_an_expiry() {
    let fixture = Fixture::new().await;
    let answer = log_in(&fixture, json!({ "expires_in": "never" })).await;
    let token = answer.ok(200)["token"].as_str().unwrap().to_owned();
    assert_eq!(answer.text(), format!(r#"{{"type":"bearer","token":"{token}"}}"#));
}

#[tokio::test]
async fn row_9_the_token_works_carries_everything_and_lives_a_year() {
    let fixture = Fixture::new().await;
    let json = log_in(&fixture, json!({})).await.ok(200);
    assert_eq!(json["expires_in"], 365 * 86_400);
    let auth = format!("Bearer {}", json["token"].as_str().unwrap());
    let me = fixture.get("/v1/me", &auth).await.ok(200);
    assert_eq!(me["user"]["email"], ADA);
    assert_eq!(me["token"]["scopes"], json!(["*"]));
    assert_eq!(me["token"]["name"], Value::Null);
}

#[tokio::test]
async fn row_22_and_23_name_scopes_and_meta_are_kept() {
    let fixture = Fixture::new().await;
    let wishes = json!({ "name": "Laptop", "scopes": ["b", "a"], "meta": { "ip_address": "192.168.1.0", "n": [1, null] } });
    let json = log_in(&fixture, wishes).await.ok(200);
    let auth = format!("Bearer {}", json["token"].as_str().unwrap());
    let me = fixture.get("/v1/me", &auth).await.ok(200);
    assert_eq!(me["token"]["name"], "Laptop");
    assert_eq!(me["token"]["scopes"], json!(["a", "b"]));
    assert_eq!(me["token"]["meta"], json!({ "ip_address": "192.168.1.0", "n": [1, null] }));
}

#[tokio::test]
async fn every_spelling_of_the_address_logs_in() {
    let fixture = Fixture::new().await;
    for email in ["ADA@example.com", "ada@EXAMPLE.COM", "\u{ff41}da@example.com"] {
        log_in(&fixture, json!({ "email": email })).await.ok(200);
    }
}

#[tokio::test]
async fn row_17_unknown_wrong_and_disabled_are_one_answer_to_the_byte() {
    let fixture = Fixture::new().await;
    fixture.guard.users().disable(&fixture.bob.id).await.unwrap();
    let mut answers = Vec::new();
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        (ADA, "wrong"),
        (ADA, ""),
        (crate::fixture::BOB, PASSWORD),
        (crate::fixture::BOB, "wrong"),
        ("no address at all", PASSWORD),
        ("", PASSWORD),
    ] {
        let call = Call::post("/v1/login", json!({ "email": email, "password": password }));
        let answer = fixture.call(call.header("x-request-id", "same")).await;
        answer.problem(401, "invalid_credentials");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"hallpass\"");
        answers.push(answer);
    }
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test]
async fn row_19_what_is_no_future_is_422_and_never_for_ever() {
    let fixture = Fixture::new().await;
    for text in [
        "0",
        "-1",
        "NaN",
        "1e18",
        "",
        " ",
        "1 fortnight",
        "9000 years",
        "8000 years",
        "0 days",
        "-7 days",
        "7 days ago",
        "7",
        "inf",
        "null",
        "1ns",
    ] {
        assert_eq!(log_in(&fixture, json!({ "expires_in": text })).await.field(), "expires_in", "{text:?}");
    }
    for number in [json!(0), json!(-1), json!(604_800), json!(1e18), json!(true), json!({}), json!(["1 day"])]
    {
        assert_eq!(log_in(&fixture, json!({ "expires_in": number })).await.field(), "expires_in");
    }
    let living = fixture.guard.revoke_all(&fixture.ada).await.unwrap();
    assert_eq!(living, 0, "nothing was made");
}

#[tokio::test]
async fn row_19_a_life_beyond_the_policy_is_422() {
    let month = hallpass::Expiry::parse("30 days").unwrap();
    let purpose = Purpose::api().life(month.clone()).longest(month);
    let fixture = Fixture::with(Options { purpose, ..Options::default() }).await;
    for text in ["31 days", "never"] {
        assert_eq!(log_in(&fixture, json!({ "expires_in": text })).await.field(), "expires_in");
    }
    log_in(&fixture, json!({ "expires_in": "30 days" })).await.ok(200);
}

#[tokio::test]
async fn wishes_that_cannot_be_had_are_422_and_name_the_field() {
    let fixture = Fixture::new().await;
    for (wish, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x".repeat(101) }), "name"),
        (json!({ "name": "two\nlines" }), "name"),
        (json!({ "name": "two\u{2028}lines" }), "name"),
        (json!({ "name": 7 }), "name"),
        (json!({ "scopes": ["a b"] }), "scopes"),
        (json!({ "scopes": "a" }), "scopes"),
        (json!({ "scopes": ["a", 7] }), "scopes[1]"),
        (json!({ "scopes": ["admin"] }), "scopes"),
        (json!({ "meta": [] }), "meta"),
        (json!({ "meta": { "much": "x".repeat(4096) } }), "meta"),
        (json!({ "email": null }), "email"),
        (json!({ "password": 7 }), "password"),
        (json!({ "grants": ["admin"] }), "grants"),
        (json!({ "Name": "x" }), "Name"),
    ] {
        assert_eq!(log_in(&fixture, wish.clone()).await.field(), field, "{wish}");
    }
}

#[tokio::test]
async fn a_password_in_the_wrong_place_is_not_repeated() {
    let fixture = Fixture::new().await;
    for wish in [json!({ "scopes": "hunter2-canary" }), json!({ "meta": "hunter2-canary" })] {
        let answer = log_in(&fixture, wish).await;
        answer.field();
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    }
}

#[tokio::test]
async fn nulls_stand_for_what_is_not_wished() {
    let fixture = Fixture::new().await;
    let wishes = json!({ "name": null, "expires_in": null, "scopes": null, "meta": null });
    let json = log_in(&fixture, wishes).await.ok(200);
    assert_eq!(json["expires_in"], 365 * 86_400, "null is not for ever");
}

#[tokio::test]
async fn a_secret_is_never_kept_by_caches() {
    let fixture = Fixture::new().await;
    assert_eq!(log_in(&fixture, json!({})).await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_cap_that_is_reached_is_409() {
    let fixture = Fixture::with(Options { cap: Some(1), ..Options::default() }).await;
    log_in(&fixture, json!({})).await.ok(200);
    log_in(&fixture, json!({})).await.problem(409, "conflict");
}

#[tokio::test]
async fn an_outage_is_503_and_not_a_refusal() {
    let fixture = Fixture::new().await;
    fixture.store.fail(true);
    let answer = log_in(&fixture, json!({})).await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("www-authenticate"), "");
}

#[tokio::test]
async fn a_storm_of_log_ins_is_shed_with_503_and_retry_after() {
    let passwords = Passwords::builder().threads(1).queue(1).build();
    let fixture = Fixture::with(Options { passwords, ..Options::default() }).await;
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let fixture = fixture.clone();
        storm.spawn(async move { log_in(&fixture, json!({})).await });
    }
    let answers = storm.join_all().await;
    let (served, shed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!served.is_empty() && !shed.is_empty(), "{} served, {} shed", served.len(), shed.len());
    for answer in shed {
        answer.problem(503, "unavailable");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
}

#[tokio::test]
async fn a_get_does_not_log_in() {
    let fixture = Fixture::new().await;
    let answer = fixture.call(Call::new(Method::GET, "/v1/login?email=a&password=b")).await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "POST");
}

#[tokio::test]
async fn who_is_disabled_while_the_password_is_checked_is_refused_like_anybody() {
    let fixture = Fixture::new().await;
    let logging_in = tokio::spawn({
        let fixture = fixture.clone();
        async move { log_in(&fixture, json!({})).await }
    });
    // It has read the account and waits for the hashing thread; the verdict cannot be taken before this thread rests again.
    tokio::task::yield_now().await;
    fixture.guard.users().disable(&fixture.ada.id).await.unwrap();
    logging_in.await.unwrap().problem(401, "invalid_credentials");
}
