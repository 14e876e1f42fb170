//! How refusals are answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{FromRef, State},
    routing::get as on_get,
};
use hallpass::{
    Error, Guard, Purpose, Reason, Scopes, Wants,
    bearer::Refusal,
    testing::{self, Users},
};
use hallpass_axum::{Bearer, Issued, Rejection};

use crate::{House, PASSWORD, ProfileRead, get, stray};

#[tokio::test]
async fn row_7_whatever_is_wrong_with_a_token_is_one_401_byte_for_byte() {
    let house = House::new().await;
    let unknown = format!("Bearer {}", stray(house.guard.purpose()));

    let expired = house.guard.generate(&house.ada).expires_in("1 hour").await.unwrap();
    let expired = format!("Bearer {}", expired.plain().expose());
    house.clock.advance(Duration::from_hours(1));

    let revoked = house.guard.generate(&house.ada).await.unwrap();
    house.guard.revoke(revoked.plain()).await.unwrap();
    let revoked = format!("Bearer {}", revoked.plain().expose());

    let eve = house.users.add("eve@example.com");
    let ended = testing::acting_as(&house.guard, &eve, ["*"]).await;
    house.guard.revoke_all(&eve).await.unwrap();

    let bob = house.users.add("bob@example.com");
    let disabled = testing::acting_as(&house.guard, &bob, ["*"]).await;
    house.users.set_active(&bob, false);

    let mia = house.users.add("mia@example.com");
    let moved = testing::acting_as(&house.guard, &mia, ["*"]).await;
    let _ = house.users.set_email(&mia, "mia@example.org");

    let same_prefix = house.guard_of(Purpose::new("deploy", "hp").unwrap());
    let wrong_purpose = testing::acting_as(&same_prefix, &house.ada, ["*"]).await;
    let other_prefix = testing::acting_as(&house.guard_of(Purpose::session()), &house.ada, ["*"]).await;

    let bad_checksum = format!("{}{}", &unknown[..unknown.len() - 6], "zzzzzz");

    let first = get(&house.me(), "/me", [&*unknown]).await;
    assert_eq!(first.status, 401);
    for (why, header) in [
        ("expired", expired),
        ("revoked", revoked),
        ("ended", ended),
        ("disabled user", disabled),
        ("changed address", moved),
        ("wrong purpose", wrong_purpose),
        ("other prefix", other_prefix),
        ("bad checksum", bad_checksum),
        ("no token of ours", "Bearer abc".to_owned()),
    ] {
        assert_eq!(get(&house.me(), "/me", [&*header]).await.wire(), first.wire(), "{why}");
    }
}

#[tokio::test]
async fn the_body_is_problem_json_with_five_members_in_order_and_nothing_is_cached() {
    let house = House::new().await;
    let answer = get(&house.me(), "/me", ["Bearer abc"]).await;
    let expected = r#"{"type":"urn:hallpass:problem:invalid_token","title":"Unauthorized","status":401,"detail":"The token is not good.","code":"invalid_token"}"#;
    assert_eq!(answer.body, expected);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for header in ["Basic a", "Bearer a b"] {
        assert_eq!(get(&house.me(), "/me", [header]).await.header("cache-control"), Some("no-store"));
    }
}

async fn profile(who: Bearer<Users, ProfileRead>) -> String {
    who.into_user().email
}

async fn everything(who: Bearer<Users>) -> String {
    who.into_user().email
}

async fn by_hand(who: Bearer<Users, ProfileRead>) -> Result<&'static str, Rejection> {
    who.require(Wants::Scope("profile:write"))?;
    Ok("written")
}

fn scoped(house: &House) -> Router {
    Router::new()
        .route("/profile", on_get(profile))
        .route("/everything", on_get(everything))
        .route("/by-hand", on_get(by_hand))
        .with_state(house.guard.clone())
}

#[tokio::test]
async fn a_missing_scope_is_403_and_says_which() {
    let house = House::new().await;
    let app = scoped(&house);
    let narrow = house.header(["profile:read"]).await;
    let other = house.header(["profile:write", "profile"]).await;
    for (path, header, wanted) in [
        ("/profile", &other, "profile:read"),
        ("/everything", &narrow, "*"),
        ("/by-hand", &narrow, "profile:write"),
    ] {
        let answer = get(&app, path, [&**header]).await;
        assert_eq!(answer.problem(), (403, "insufficient_scope".into()), "{path}");
        let challenge =
            format!("Bearer realm=\"the house\", error=\"insufficient_scope\", scope=\"{wanted}\"");
        assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let all = house.header(["*"]).await;
    for (path, header) in
        [("/profile", &narrow), ("/profile", &all), ("/everything", &all), ("/by-hand", &all)]
    {
        assert_eq!(get(&app, path, [&**header]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_store_out_of_reach_is_503_with_retry_after_and_never_a_refusal() {
    let house = House::new().await;
    let (good, unknown) = (house.header(["*"]).await, format!("Bearer {}", stray(house.guard.purpose())));
    house.store.fail(true);
    for header in [&good, &unknown] {
        let answer = get(&house.me(), "/me", [&**header]).await;
        assert_eq!(answer.problem(), (503, "unavailable".into()));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("www-authenticate"), None);
        assert!(!answer.body.contains("told to fail"), "the cause is for the log");
    }
    assert_eq!(get(&house.me(), "/me", ["Bearer abc"]).await.status, 401, "garbage needs no store");
    house.store.fail(false);
    assert_eq!(get(&house.me(), "/me", [&*good]).await.status, 200);
}

#[tokio::test]
async fn a_service_further_out_finds_the_refusal_and_the_log_its_cause() {
    let house = House::new().await;
    let answer = get(&house.me(), "/me", ["Bearer abc"]).await;
    assert_eq!(answer.extensions.get::<Refusal>().unwrap().code, "invalid_token");
    let cause = answer.extensions.get::<Arc<Error>>().unwrap();
    assert!(matches!(&**cause, Error::Denied(denied) if *denied.reason() == Reason::NotAToken));
}

#[tokio::test]
async fn row_7_a_handler_is_not_run_when_refused() {
    #[derive(Clone, FromRef)]
    struct AppState {
        guard: Guard<Users>,
        runs: Arc<AtomicUsize>,
    }
    async fn handler(State(runs): State<Arc<AtomicUsize>>, _: Bearer<Users>) {
        runs.fetch_add(1, Ordering::SeqCst);
    }
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .route("/", on_get(handler))
        .with_state(AppState { guard: house.guard.clone(), runs: runs.clone() });
    let narrow = house.header(["profile:read"]).await;
    for header in ["Bearer abc", "Basic abc", "", &*narrow] {
        assert!(get(&app, "/", [header]).await.status.is_client_error());
    }
    get(&app, "/", []).await;
    house.store.fail(true);
    get(&app, "/", [&*narrow]).await;
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    house.store.fail(false);
    get(&app, "/", [&*house.header(["*"]).await]).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn row_17_handlers_return_the_errors_of_the_guard_with_a_question_mark() {
    type Handled = Result<Issued<testing::User>, Rejection>;
    async fn login(State(guard): State<Guard<Users>>) -> Handled {
        Ok(Issued(guard.attempt("ada@example.com", PASSWORD).expires_in("7 days").await?))
    }
    async fn wrong_password(State(guard): State<Guard<Users>>) -> Handled {
        Ok(Issued(guard.attempt("ada@example.com", "wrong").await?))
    }
    async fn unknown_user(State(guard): State<Guard<Users>>) -> Handled {
        let user = guard.verify_credentials("nobody@example.com", "wrong").await?;
        Ok(Issued(guard.generate(&user).await?))
    }
    async fn fortnight(State(guard): State<Guard<Users>>) -> Handled {
        Ok(Issued(guard.attempt("ada@example.com", PASSWORD).expires_in("1 fortnight").await?))
    }
    async fn invalid() -> Result<(), Rejection> {
        Scopes::parse([""])?;
        Ok(())
    }
    async fn list(State(guard): State<Guard<Users>>, who: Bearer<Users>) -> Result<String, Rejection> {
        Ok(guard.revoke_all(who.user()).await?.to_string())
    }
    let house = House::new().await;
    let guard = Guard::builder(house.users.clone(), house.store.clone(), Purpose::api())
        .passwords(testing::passwords())
        .clock(house.clock.clone())
        .cap(Some(1))
        .build();
    let app = Router::new()
        .route("/login", on_get(login))
        .route("/wrong-password", on_get(wrong_password))
        .route("/unknown-user", on_get(unknown_user))
        .route("/fortnight", on_get(fortnight))
        .route("/invalid", on_get(invalid))
        .route("/list", on_get(list))
        .with_state(guard);

    let token = get(&app, "/login", []).await;
    assert_eq!((token.status.as_u16(), token.header("cache-control")), (200, Some("no-store")));
    assert_eq!(token.header("content-type"), Some("application/json"));
    let keys: Vec<_> = token.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["expires_at", "expires_in", "token", "type"]);
    assert!(token.body.starts_with("{\"type\":\"bearer\",\"token\":\"hp_"));

    let capped = get(&app, "/login", []).await;
    assert_eq!(capped.problem(), (409, "conflict".into()));

    let wrong = get(&app, "/wrong-password", []).await;
    assert_eq!(wrong.problem(), (401, "invalid_credentials".into()));
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer realm=\"hallpass\""));
    assert_eq!(get(&app, "/unknown-user", []).await.wire(), wrong.wire());

    let fortnight = get(&app, "/fortnight", []).await;
    assert_eq!(fortnight.problem(), (422, "invalid_field".into()));
    assert_eq!(fortnight.json()["errors"][0]["field"], "expires_in");
    assert_eq!(get(&app, "/invalid", []).await.problem(), (422, "invalid_field".into()));

    let header = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    assert_eq!(get(&app, "/list", [&*header]).await.body, "1");
}

#[test]
fn a_scope_that_fits_into_no_header_is_challenged_all_the_same() {
    use axum::response::IntoResponse;
    let error = Error::from(Reason::InsufficientScope { wanted: "two\nlines".into() });
    let response = Rejection::from(error).into_response();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["www-authenticate"]),
        (403, &"Bearer".parse().unwrap())
    );
}
