use hallpass::{Guard, PlainToken, Purpose, testing};
use proptest::prelude::*;
use tower::ServiceExt;

use crate::fixture::{Answer, Call, Fixture};

async fn me(fixture: &Fixture, values: &[&[u8]]) -> Answer {
    let mut request = Call::get("/v1/me").header("x-request-id", "same").into_request();
    for value in values {
        request.headers_mut().append("authorization", http::HeaderValue::from_bytes(value).unwrap());
    }
    crate::fixture::send(fixture.router.clone(), request).await
}

/// One changed character in the middle.
fn garbled(auth: &str) -> String {
    let mut text = auth.to_owned();
    let last = text.pop().unwrap();
    text.push(if last == 'A' { 'B' } else { 'A' });
    text
}

#[tokio::test]
async fn row_7_every_token_that_is_not_good_gets_the_same_401_to_the_byte() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    let revoked = fixture.acting(&[]).await;
    fixture.guard.revoke(&PlainToken::parse(&revoked["Bearer ".len()..]).unwrap()).await.unwrap();
    let short = fixture.guard.generate(&fixture.ada).expires_in("1 second").await.unwrap();
    let expired = format!("Bearer {}", short.plain().expose());
    let disabled = testing::acting_as(&fixture.guard, &fixture.bob, []).await;
    fixture.guard.users().disable(&fixture.bob.id).await.unwrap();
    let unknown = PlainToken::generate(&Purpose::api()).unwrap();
    fixture.clock.advance(std::time::Duration::from_secs(1));

    let mut bad = vec![
        garbled(&auth),
        revoked,
        expired,
        disabled,
        format!("Bearer {}", unknown.expose()),
        "Bearer nonsense".to_owned(),
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x".to_owned(),
        format!("Bearer {}", "x".repeat(4096)),
        auth.to_uppercase(),
        format!("{auth}="),
    ];
    // A token of every other purpose, made over the same store.
    for purpose in Purpose::table() {
        if purpose != Purpose::api() {
            let guard = Guard::builder(fixture.guard.users().clone(), fixture.store.clone(), purpose)
                .clock(fixture.clock.clone())
                .build();
            bad.push(testing::acting_as(&guard, &fixture.ada, ["*"]).await);
        }
    }
    let first = me(&fixture, &[b"Bearer x"]).await;
    first.problem(401, "invalid_token");
    assert_eq!(first.header("www-authenticate"), "Bearer realm=\"hallpass\", error=\"invalid_token\"");
    for value in &bad {
        assert_eq!(me(&fixture, &[value.as_bytes()]).await, first, "{value}");
    }
    me(&fixture, &[auth.as_bytes()]).await.ok(200);
}

#[tokio::test]
async fn row_3_a_token_of_another_purpose_is_refused_also_with_this_ones_prefix() {
    let fixture = Fixture::new().await;
    for purpose in Purpose::table() {
        let is_api = purpose == Purpose::api();
        let purpose = purpose.prefix("hp").unwrap().single_use(false);
        let guard = Guard::builder(fixture.guard.users().clone(), fixture.store.clone(), purpose)
            .clock(fixture.clock.clone())
            .build();
        let auth = testing::acting_as(&guard, &fixture.ada, ["*"]).await;
        let status = if is_api { 200 } else { 401 };
        assert_eq!(me(&fixture, &[auth.as_bytes()]).await.status, status);
    }
}

#[tokio::test]
async fn what_is_not_one_token68_is_400() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    let token = &auth["Bearer ".len()..];
    for value in [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer\t{token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},"),
        format!("Bearer \"{token}\""),
        format!("Bearer {token}\u{e9}"),
        String::new(),
    ] {
        let answer = me(&fixture, &[value.as_bytes()]).await;
        answer.problem(400, "invalid_request");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"hallpass\", error=\"invalid_request\"");
    }
    me(&fixture, &[auth.as_bytes(), auth.as_bytes()]).await.problem(400, "invalid_request");
    me(&fixture, &[auth.as_bytes(), b"Basic YTpi"]).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn without_credentials_or_with_another_scheme_there_is_no_error_code() {
    let fixture = Fixture::new().await;
    let none = me(&fixture, &[]).await;
    none.problem(401, "invalid_token");
    assert_eq!(none.header("www-authenticate"), "Bearer realm=\"hallpass\"");
    assert_eq!(me(&fixture, &[b"Basic YTpi"]).await, none);
}

#[tokio::test]
async fn the_scheme_may_be_in_any_case_and_the_token_carry_its_literal() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    let token = &auth["Bearer ".len()..];
    for value in
        [format!("bEARER   {token}"), format!("Bearer secret-token:{token}"), format!("Bearer {token}  ")]
    {
        me(&fixture, &[value.as_bytes()]).await.ok(200);
    }
}

#[tokio::test]
async fn a_token_counts_from_the_header_alone() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    let token = &auth["Bearer ".len()..];
    let calls = [
        Call::get(&format!("/v1/me?access_token={token}")),
        Call::get("/v1/me")
            .header("cookie", &format!("access_token={token}; token={token}; Authorization={token}")),
        Call::get("/v1/me").body("application/x-www-form-urlencoded", format!("access_token={token}")),
        Call::get("/v1/me").header("proxy-authorization", &auth),
        Call::get("/v1/me").header("x-authorization", &auth),
    ];
    for call in calls {
        let answer = fixture.call(call).await;
        answer.problem(401, "invalid_token");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"hallpass\"");
    }
}

#[tokio::test]
async fn garbage_costs_no_look_up_on_any_route() {
    let fixture = Fixture::new().await;
    let auth = garbled(&fixture.acting(&["*"]).await);
    let before = fixture.store.calls();
    for call in [
        Call::get("/v1/me"),
        Call::get("/v1/tokens"),
        Call::post("/v1/tokens", serde_json::json!({ "name": "a", "scopes": [] })),
        Call::new(http::Method::DELETE, "/v1/tokens"),
        Call::new(http::Method::POST, "/v1/logout"),
    ] {
        fixture.call(call.auth(&auth)).await.problem(401, "invalid_token");
    }
    assert_eq!(fixture.store.calls(), before);
}

#[tokio::test]
async fn a_refused_token_writes_nothing() {
    let fixture = Fixture::new().await;
    let made = fixture.guard.generate(&fixture.ada).name("mine").expires_in("1 day").await.unwrap();
    let auth = format!("Bearer {}", made.plain().expose());
    let row = || async { fixture.guard.find_by_id(&fixture.ada, made.record().id).await.unwrap().unwrap() };
    let before = row().await;
    me(&fixture, &[garbled(&auth).as_bytes()]).await.problem(401, "invalid_token");
    let id = before.record.id.to_string();
    me(&fixture, &[format!("Bearer {id}").as_bytes()]).await.problem(401, "invalid_token");
    fixture.clock.advance(std::time::Duration::from_hours(24));
    me(&fixture, &[auth.as_bytes()]).await.problem(401, "invalid_token");
    fixture.guard.flush_touches().await.unwrap();
    assert_eq!(row().await, before);
}

#[tokio::test]
async fn every_byte_at_every_position_is_answered() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    for position in 0..auth.len() {
        for byte in 0..=u8::MAX {
            let mut value = auth.clone().into_bytes();
            value[position] = byte;
            // What cannot stand in a header at all the HTTP library refuses.
            if http::HeaderValue::from_bytes(&value).is_err() {
                continue;
            }
            let status = me(&fixture, &[&value]).await.status.as_u16();
            let same = value.eq_ignore_ascii_case(auth.as_bytes()) && value[7..] == auth.as_bytes()[7..];
            assert!(if same { status == 200 } else { status == 400 || status == 401 }, "{value:?}: {status}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_header_is_answered_without_5xx(value: Vec<u8>, scheme in "(Bearer |bearer  |Basic |)") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let value = [scheme.as_bytes(), &value].concat();
        if let Ok(value) = http::HeaderValue::from_bytes(&value) {
            let status = runtime.block_on(async {
                let fixture = Fixture::new().await;
                let mut request = Call::get("/v1/me").into_request();
                request.headers_mut().insert("authorization", value);
                fixture.router.oneshot(request).await.unwrap().status()
            });
            prop_assert!(status == 400 || status == 401, "{status}");
        }
    }
}
