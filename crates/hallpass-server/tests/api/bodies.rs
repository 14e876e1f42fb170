use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use http::{Method, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{ADA, Answer, Call, Fixture, PASSWORD, send};

fn good() -> Value {
    json!({ "email": ADA, "password": PASSWORD })
}

async fn log_in(fixture: &Fixture, body: impl Into<Vec<u8>>) -> Answer {
    fixture.call(Call::new(Method::POST, "/v1/login").body("application/json", body)).await
}

#[tokio::test]
async fn what_is_not_json_is_400() {
    let fixture = Fixture::new().await;
    for body in [
        "",
        " ",
        "{",
        "{}}",
        "nonsense",
        "{'email':1}",
        "{\"email\":}",
        "{\"email\":\"a\",}",
        "\u{feff}{}",
        "{\"email\":\"\\ud800\"}",
        "[",
        "{\"email\":\"a\nb\"}",
        "NaN",
    ] {
        log_in(&fixture, body).await.problem(400, "invalid_request");
    }
    let trailing = format!("{} {{}}", good());
    log_in(&fixture, trailing).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn what_is_not_utf_8_is_400() {
    let fixture = Fixture::new().await;
    for body in
        [&b"{\"email\":\"\xff\"}"[..], b"\xff\xfe{\0}\0", b"{\"\xc3\x28\":1}", b"{\"name\":\"\xed\xa0\x80\"}"]
    {
        log_in(&fixture, body).await.problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn deep_nesting_is_400_and_no_overflow() {
    let fixture = Fixture::new().await;
    for (open, close, most) in [("[", "]", 30_000), ("{\"a\":", "}", 10_000)] {
        for depth in [200, most] {
            let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let body = format!("{{\"meta\":{{\"a\":{nest}}}}}");
            log_in(&fixture, body).await.problem(400, "invalid_request");
            assert!(log_in(&fixture, nest).await.status.is_client_error());
        }
    }
}

#[tokio::test]
async fn what_is_no_object_is_422() {
    let fixture = Fixture::new().await;
    for body in ["null", "[]", "1", "\"text\"", "true", &format!("[\"{ADA}\",\"{PASSWORD}\"]")] {
        assert_eq!(log_in(&fixture, body).await.field(), "");
    }
}

#[tokio::test]
async fn unknown_missing_and_doubled_members_are_422_and_named() {
    let fixture = Fixture::new().await;
    let doubled = format!(r#"{{"email":"{ADA}","password":"x","password":"{PASSWORD}"}}"#);
    for (body, field) in [
        (r#"{"email":"a"}"#, "password"),
        (r#"{"password":"a"}"#, "email"),
        ("{}", "email"),
        (r#"{"email":"a","password":"b","admin":true}"#, "admin"),
        (r#"{"email":"a","password":"b","expiresIn":"1 day"}"#, "expiresIn"),
        (&doubled, "password"),
        (r#"{"email":"a","password":"b","meta":{"k":1,"k":2}}"#, "k"),
        (r#"{"email":"a","password":"b","meta":{"a":[{"k":1,"k":2}]}}"#, "k"),
    ] {
        assert_eq!(log_in(&fixture, body).await.field(), field, "{body}");
    }
    let long = format!(r#"{{"{}":1}}"#, "x".repeat(10_000));
    assert_eq!(log_in(&fixture, long).await.field().len(), 100);
}

#[tokio::test]
async fn another_type_is_415() {
    let fixture = Fixture::new().await;
    for content_type in [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json-seq",
        "application/json; charset=latin1",
        "application/json, text/plain",
    ] {
        let call = Call::new(Method::POST, "/v1/login").body(content_type, good().to_string());
        fixture.call(call).await.problem(415, "unsupported_media_type");
    }
    let none = Request::post("/v1/login").body(Body::from(good().to_string())).unwrap();
    send(fixture.router.clone(), none).await.problem(415, "unsupported_media_type");
    let two = Call::post("/v1/login", good()).header("content-type", "application/json");
    fixture.call(two).await.problem(415, "unsupported_media_type");
    let packed = Call::post("/v1/login", good()).header("content-encoding", "gzip");
    fixture.call(packed).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn json_in_utf_8_is_taken_however_it_is_spelt() {
    let fixture = Fixture::new().await;
    for content_type in [
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        "application/json; charset=\"utf-8\"",
        "application/json; q=1",
    ] {
        let call = Call::new(Method::POST, "/v1/login").body(content_type, good().to_string());
        fixture.call(call).await.ok(200);
    }
}

#[tokio::test]
async fn a_body_of_64_kib_is_taken_and_one_more_byte_is_413() {
    let fixture = Fixture::new().await;
    let padded = |length: usize| {
        let body = good().to_string();
        format!("{}{body}", " ".repeat(length - body.len()))
    };
    log_in(&fixture, padded(64 * 1024)).await.ok(200);
    for length in [64 * 1024 + 1, 2 * 1024 * 1024] {
        log_in(&fixture, padded(length)).await.problem(413, "content_too_large");
    }
}

/// A body of frames that come from a function, without a length said before.
pub(crate) fn streamed(frames: impl Iterator<Item = Option<&'static [u8]>> + Send + 'static) -> Body {
    struct Frames<I>(I);

    impl<I: Iterator<Item = Option<&'static [u8]>> + Unpin> http_body::Body for Frames<I> {
        type Data = bytes::Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
            match self.0.next() {
                Some(Some(data)) => {
                    std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes::Bytes::from_static(data)))))
                }
                Some(None) => std::task::Poll::Pending,
                None => std::task::Poll::Ready(None),
            }
        }
    }

    Body::new(Frames(Box::new(frames) as Box<dyn Iterator<Item = _> + Send>))
}

#[tokio::test]
async fn a_body_without_a_length_is_413_before_it_ends() {
    let fixture = Fixture::new().await;
    let endless = streamed(std::iter::repeat(Some(&[b' '; 4096][..])));
    let request =
        Request::post("/v1/login").header("content-type", "application/json").body(endless).unwrap();
    send(fixture.router.clone(), request).await.problem(413, "content_too_large");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408_after_ten_seconds() {
    let fixture = Fixture::new().await;
    let stalled = streamed(std::iter::once(Some(&b"{"[..])).chain(std::iter::repeat(None)));
    let request =
        Request::post("/v1/login").header("content-type", "application/json").body(stalled).unwrap();
    let begun = tokio::time::Instant::now();
    send(fixture.router.clone(), request).await.problem(408, "request_timeout");
    assert!((10..11).contains(&begun.elapsed().as_secs()));
}

#[tokio::test]
async fn a_refused_token_has_its_body_left_unread() {
    let fixture = Fixture::new().await;
    let stalled = streamed(std::iter::repeat(None));
    let request =
        Request::post("/v1/tokens").header("content-type", "application/json").body(stalled).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), send(fixture.router.clone(), request));
    answer.await.unwrap().problem(401, "invalid_token");
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop_oneof!["7 days", "never", "0", "-1", "P30D", "9000 years"].prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,5}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn members() -> impl Strategy<Value = Value> {
    let name = prop_oneof!["email", "password", "name", "scopes", "expires_in", "meta", "[a-z]{1,3}"];
    prop::collection::hash_map(name, json_value(), 0..6)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_json_and_any_bytes_are_answered_without_5xx(body in members(), bytes: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let auth = fixture.logged_in().await;
            let made = fixture.guard.generate(&fixture.ada).await.unwrap();
            let one = format!("/v1/tokens/{}", made.record().id);
            for body in [body.to_string().into_bytes(), bytes] {
                for (method, path) in [
                    (Method::POST, "/v1/login"),
                    (Method::POST, "/v1/tokens"),
                    (Method::PATCH, &one),
                    (Method::DELETE, &one),
                    (Method::POST, "/v1/logout"),
                ] {
                    let call = Call::new(method, path).auth(&auth).body("application/json", body.clone());
                    let status = fixture.call(call).await.status;
                    assert!(!status.is_server_error(), "{path}: {status}");
                }
            }
        });
    }
}
