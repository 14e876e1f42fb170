//! What counts as a bearer header, and what it is answered.

use axum::{
    Router,
    body::Body,
    routing::{get as on_get, post},
};
use http::{Request, StatusCode};

use crate::{House, ask, get, me, stray};

#[tokio::test]
async fn row_7_scheme_in_any_case_and_one_or_more_spaces_pass() {
    let house = House::new().await;
    let token = house.token(["*"]).await;
    for (scheme, tail) in
        [("Bearer ", ""), ("bearer ", ""), ("BEARER  ", ""), ("bEaReR      ", ""), ("Bearer ", "  ")]
    {
        let answer = get(&house.me(), "/me", [&*format!("{scheme}{token}{tail}")]).await;
        assert_eq!(
            (answer.status, &*answer.body),
            (StatusCode::OK, "ada@example.com"),
            "{scheme:?} {tail:?}"
        );
    }
}

#[tokio::test]
async fn a_secret_token_literal_before_the_token_is_stripped_once() {
    let house = House::new().await;
    let token = house.token(["*"]).await;
    assert_eq!(get(&house.me(), "/me", [&*format!("Bearer secret-token:{token}")]).await.status, 200);
    let twice = format!("Bearer secret-token:secret-token:{token}");
    assert_eq!(get(&house.me(), "/me", [&*twice]).await.status, 400);
}

#[tokio::test]
async fn what_is_not_one_token68_is_400_and_asks_nobody() {
    let house = House::new().await;
    let token = house.token(["*"]).await;
    for header in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer secret-token:".to_owned(),
        format!("Bearer\t{token}"),
        format!("Bearer \t{token}"),
        format!("Bearer {token},"),
        format!("Bearer {token}, Bearer {token}"),
        format!("Bearer {token},{token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {token} extra=words"),
        format!("Bearer \"{token}\""),
        format!("Bearer '{token}'"),
        format!("Bearer <{token}>"),
        format!("Bearer {token}%20"),
        format!("Bearer {token}\u{e9}"),
        format!("Bearer: {token}"),
        format!("\"Bearer\" {token}"),
    ] {
        let (calls, answer) = house.calls(get(&house.me(), "/me", [&*header])).await;
        assert_eq!((calls, answer.problem()), (0, (400, "invalid_request".into())), "{header:?}");
        let challenge = "Bearer realm=\"the house\", error=\"invalid_request\"";
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{header:?}");
    }
}

#[tokio::test]
async fn a_second_header_is_400_even_if_both_are_good() {
    let house = House::new().await;
    let header = &*house.header(["*"]).await;
    for headers in [[header, header], ["Basic YTpi", header], [header, "Basic YTpi"], [header, ""]] {
        let (calls, answer) = house.calls(get(&house.me(), "/me", headers)).await;
        assert_eq!((calls, answer.problem()), (0, (400, "invalid_request".into())));
    }
}

#[tokio::test]
async fn no_header_and_another_scheme_are_401_without_an_error_code() {
    let house = House::new().await;
    let token = house.token(["*"]).await;
    let none = get(&house.me(), "/me", []).await;
    assert_eq!(none.status, 401);
    assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"the house\""));
    for header in ["Basic YTpi".to_owned(), format!("Token {token}"), format!("Bearer{token}"), token] {
        let (calls, answer) = house.calls(get(&house.me(), "/me", [&*header])).await;
        assert_eq!((calls, answer.wire()), (0, none.wire()), "{header:?}");
    }
}

#[tokio::test]
async fn one_token68_that_is_not_ours_is_401_and_asks_nobody() {
    let house = House::new().await;
    let good = house.token(["*"]).await;
    let mut bad_checksum = good.clone();
    let last = if bad_checksum.pop() == Some('0') { '1' } else { '0' };
    bad_checksum.push(last);
    for token in [
        bad_checksum,
        good.replace('_', "-"),
        good.to_lowercase(),
        format!("{good}="),
        "abc".into(),
        "a".repeat(5000),
    ] {
        let (calls, answer) = house.calls(get(&house.me(), "/me", [&*format!("Bearer {token}")])).await;
        assert_eq!((calls, answer.problem()), (0, (401, "invalid_token".into())), "{token}");
        let challenge = "Bearer realm=\"the house\", error=\"invalid_token\"";
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
}

#[tokio::test]
async fn a_token_elsewhere_than_in_the_header_is_not_looked_at() {
    let house = House::new().await;
    let token = house.token(["*"]).await;
    let app = Router::new().route("/me", on_get(me).merge(post(me))).with_state(house.guard.clone());
    let none = get(&app, "/me", []).await;
    let form = format!("access_token={token}");
    for request in [
        Request::get(format!("/me?access_token={token}")),
        Request::get(format!("/me?token={token}")),
        Request::get("/me")
            .header("cookie", format!("access_token={token}; token={token}; Authorization={token}")),
        Request::get("/me").header("proxy-authorization", format!("Bearer {token}")),
        Request::get("/me").header("x-authorization", format!("Bearer {token}")),
        Request::get("/me").header("x-api-key", &token),
        Request::post("/me").header("content-type", "application/x-www-form-urlencoded"),
    ] {
        let (calls, answer) = house.calls(ask(&app, request.body(Body::from(form.clone())).unwrap())).await;
        assert_eq!((calls, answer.wire()), (0, none.wire()));
    }
}

#[tokio::test]
async fn a_token_nobody_made_costs_one_look_up() {
    let house = House::new().await;
    let header = format!("Bearer {}", stray(house.guard.purpose()));
    let (calls, answer) = house.calls(get(&house.me(), "/me", [&*header])).await;
    assert_eq!((calls, answer.problem()), (1, (401, "invalid_token".into())));
}
