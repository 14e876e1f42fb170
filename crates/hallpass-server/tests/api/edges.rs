use axum::{Router, routing::get};
use http::Method;

use crate::fixture::{Answer, Call, Fixture, send};

async fn ask(router: &Router, call: Call) -> Answer {
    send(router.clone(), call.into_request()).await
}

#[tokio::test]
async fn an_unknown_path_is_a_404_problem() {
    let fixture = Fixture::new().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/me",
        "/v1/me/",
        "/v1/tokens/",
        "/v1/tokens/a/b",
        "//v1/me",
        "/V1/me",
        "/%2e%2e",
    ] {
        fixture.call(Call::get(path)).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn another_method_is_a_405_problem_that_lists_those_allowed() {
    let fixture = Fixture::new().await;
    for (path, allow) in [
        ("/v1/login", "POST"),
        ("/v1/logout", "POST"),
        ("/v1/me", "GET,HEAD"),
        ("/v1/tokens", "GET,HEAD,POST,DELETE"),
        ("/v1/tokens/x", "GET,HEAD,PATCH,DELETE"),
        ("/healthz", "GET,HEAD"),
    ] {
        for method in [Method::PUT, Method::TRACE, Method::from_bytes(b"BREW").unwrap()] {
            let answer = fixture.call(Call::new(method, path)).await;
            answer.problem(405, "method_not_allowed");
            let mut methods: Vec<_> = answer.header("allow").split(',').collect();
            let mut expected: Vec<_> = allow.split(',').collect();
            methods.sort_unstable();
            expected.sort_unstable();
            assert_eq!(methods, expected, "{path}");
        }
        let options = fixture.call(Call::new(Method::OPTIONS, path)).await;
        assert_eq!((options.status.as_u16(), options.body.len()), (204, 0));
        assert!(options.header("allow").contains(allow.split(',').next().unwrap()));
        assert_eq!(options.header("access-control-allow-origin"), "", "no other origin is let in");
    }
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    let answer = fixture.call(Call::new(Method::HEAD, "/v1/me").auth(&auth)).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(fixture.call(Call::new(Method::HEAD, "/v1/me")).await.status, 401);
}

#[tokio::test]
async fn every_answer_has_an_id_and_is_kept_by_nobody() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    for call in [
        Call::get("/v1/me").auth(&auth),
        Call::get("/v1/me"),
        Call::get("/nowhere"),
        Call::get("/healthz"),
        Call::new(Method::PUT, "/v1/me"),
        Call::new(Method::OPTIONS, "/v1/me"),
        Call::new(Method::POST, "/v1/login"),
    ] {
        let answer = fixture.call(call).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(uuid::Uuid::parse_str(answer.header("x-request-id")).is_ok(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let fixture = Fixture::new().await;
    let longest = "x".repeat(64);
    for id in ["a", "A-z_0.9", &longest] {
        let answer = fixture.call(Call::get("/v1/me").header("x-request-id", id)).await;
        assert_eq!(answer.header("x-request-id"), id);
        assert_eq!(answer.problem(401, "invalid_token")["request_id"], id);
    }
    for id in ["", "a b", "a\tb", "a\"b", "a,b", "ä", "<a>", "a/b", &"x".repeat(65)] {
        let answer = fixture.call(Call::get("/v1/me").header("x-request-id", id)).await;
        assert!(uuid::Uuid::parse_str(answer.header("x-request-id")).is_ok(), "{id:?}");
    }
    let two = Call::get("/v1/me").header("x-request-id", "a").header("x-request-id", "b");
    assert!(uuid::Uuid::parse_str(fixture.call(two).await.header("x-request-id")).is_ok());
}

#[tokio::test]
async fn no_two_requests_are_given_one_id() {
    let fixture = Fixture::new().await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..1000 {
        assert!(ids.insert(fixture.call(Call::get("/healthz")).await.header("x-request-id").to_owned()));
    }
}

#[tokio::test]
async fn nested_into_an_application_it_answers_under_its_prefix_and_nowhere_else() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&[]).await;
    let app: Router = Router::new()
        .route("/hello", get(async || "hello"))
        .nest("/auth", fixture.router.clone())
        .fallback(async || (http::StatusCode::NOT_FOUND, "the application's own"));

    ask(&app, Call::get("/auth/v1/me").auth(&auth)).await.ok(200);
    ask(&app, Call::get("/auth/healthz")).await.ok(200);
    ask(&app, Call::get("/auth/nowhere")).await.problem(404, "not_found");
    ask(&app, Call::new(Method::PUT, "/auth/v1/me")).await.problem(405, "method_not_allowed");

    assert_eq!(ask(&app, Call::get("/hello")).await.text(), "hello");
    for path in ["/", "/nowhere", "/v1/me", "/authority", "/hello/auth"] {
        let answer = ask(&app, Call::get(path)).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (404, "the application's own"), "{path}");
        assert_eq!(answer.header("x-request-id"), "", "its answers are left as they are");
    }
    let put = ask(&app, Call::new(Method::PUT, "/hello")).await;
    assert_eq!((put.status.as_u16(), put.text()), (405, ""));
}

#[tokio::test]
async fn nested_into_an_application_without_a_fallback_it_gives_it_none() {
    let fixture = Fixture::new().await;
    let app: Router = Router::new().nest("/auth", fixture.router.clone());
    let answer = ask(&app, Call::get("/nowhere")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (404, ""));
    ask(&app, Call::get("/auth/nowhere")).await.problem(404, "not_found");
}
