//! `Auth`, for handlers that ask for themselves.

use axum::{
    Json, Router,
    routing::{get as on_get, post},
};
use hallpass::testing::{User, Users};
use hallpass_axum::{Auth, BearerLayer, Issued, Rejection};
use http::Request;
use serde_json::{Value, json};

use crate::{House, PASSWORD, ask, get};

async fn dashboard(mut auth: Auth<Users>) -> Result<String, Rejection> {
    let user = auth.authenticate().await?;
    Ok(format!("Hello {}", user.email))
}

async fn check(mut auth: Auth<Users>) -> Result<String, Rejection> {
    let good = auth.check().await?;
    Ok(format!("{good} {} {}", auth.is_authenticated(), auth.authentication_attempted()))
}

async fn state(auth: Auth<Users>) -> String {
    let user = auth.user().map(|user| &*user.email);
    format!("{user:?} {} {} {}", auth.is_guest(), auth.is_authenticated(), auth.authentication_attempted())
}

async fn login(mut auth: Auth<Users>, password: String) -> Result<Issued<User>, Rejection> {
    let token = auth.attempt("ada@example.com", &password, |token| token.name("For the CLI app")).await?;
    assert!(auth.is_logged_in() && !auth.is_authenticated());
    Ok(Issued(token))
}

async fn another(mut auth: Auth<Users>) -> Result<Issued<User>, Rejection> {
    let user = auth.authenticate().await?.clone();
    Ok(Issued(auth.generate(&user, |token| token.expires_in("1 fortnight")).await?))
}

async fn logout(mut auth: Auth<Users>) -> Result<Json<Value>, Rejection> {
    auth.revoke().await?;
    assert!(auth.is_logged_out());
    Ok(Json(json!({ "revoked": true })))
}

fn app(house: &House) -> Router {
    Router::new()
        .route("/dashboard", on_get(dashboard))
        .route("/check", on_get(check))
        .route("/state", on_get(state))
        .route("/login", post(login))
        .route("/another", on_get(another))
        .route("/logout", on_get(logout))
        .with_state(house.guard.clone())
}

#[tokio::test]
async fn row_25_authenticate_passes_or_is_401_in_the_guards_realm() {
    let house = House::new().await;
    let app = app(&house);
    assert_eq!(get(&app, "/dashboard", [&*house.header(["*"]).await]).await.body, "Hello ada@example.com");
    let refused = get(&app, "/dashboard", ["Bearer abc"]).await;
    assert_eq!(refused.wire(), get(&house.me(), "/me", ["Bearer abc"]).await.wire(), "as Bearer answers");
    assert_eq!(get(&app, "/dashboard", []).await.wire(), get(&house.me(), "/me", []).await.wire());
}

#[tokio::test]
async fn row_25_check_tells_without_raising_but_an_outage_is_503() {
    let house = House::new().await;
    let app = app(&house);
    let good = house.header(["*"]).await;
    assert_eq!(get(&app, "/check", [&*good]).await.body, "true true true");
    assert_eq!(get(&app, "/check", ["Bearer abc"]).await.body, "false false true");
    assert_eq!(get(&app, "/check", []).await.body, "false false true");
    house.store.fail(true);
    assert_eq!(get(&app, "/check", [&*good]).await.status, 503);
    assert_eq!(get(&app, "/dashboard", [&*good]).await.status, 503);
}

#[tokio::test]
async fn row_26_nothing_is_looked_up_before_the_handler_asks() {
    let house = House::new().await;
    let header = house.header(["*"]).await;
    let (calls, answer) = house.calls(get(&app(&house), "/state", [&*header])).await;
    assert_eq!((calls, &*answer.body), (0, "None true false false"));
}

#[tokio::test]
async fn row_26_and_29_behind_a_layer_it_is_authenticated_already() {
    let house = House::new().await;
    let app = app(&house).layer(BearerLayer::new(house.guard.clone()).optional());
    let header = house.header(["*"]).await;
    let (calls, answer) = house.calls(get(&app, "/state", [&*header])).await;
    assert_eq!((calls, &*answer.body), (1, "Some(\"ada@example.com\") false true true"));
    assert_eq!(get(&app, "/state", []).await.body, "None true false false");
}

#[tokio::test]
async fn row_17_and_27_log_in_use_the_token_log_out() {
    let house = House::new().await;
    let app = app(&house);
    let log_in = |password: &str| Request::post("/login").body(password.to_owned().into()).unwrap();

    let wrong = ask(&app, log_in("wrong")).await;
    assert_eq!(wrong.problem(), (401, "invalid_credentials".into()));
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer realm=\"the house\""));

    let token = ask(&app, log_in(PASSWORD)).await;
    assert_eq!(token.header("cache-control"), Some("no-store"));
    let header = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    assert_eq!(get(&app, "/dashboard", [&*header]).await.status, 200);
    assert_eq!(get(&app, "/another", [&*header]).await.problem(), (422, "invalid_field".into()));

    assert_eq!(get(&app, "/logout", [&*header]).await.body, "{\"revoked\":true}");
    assert_eq!(get(&app, "/dashboard", [&*header]).await.status, 401);
    assert_eq!(get(&app, "/logout", [&*header]).await.problem(), (401, "invalid_token".into()));
}

#[tokio::test]
async fn debug_shows_no_user() {
    let house = House::new().await;
    let app = Router::new()
        .route("/", on_get(async |auth: Auth<Users>| format!("{auth:?}")))
        .layer(BearerLayer::new(house.guard.clone()))
        .with_state(house.guard.clone());
    let shown = get(&app, "/", [&*house.header(["*"]).await]).await.body;
    assert!(shown.contains("is_authenticated: true") && !shown.contains("ada@"), "{shown}");
}
