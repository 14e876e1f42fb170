//! The layer on axum's routers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Extension, Router, routing::get as on_get};
use hallpass::{
    AnyScope, Purpose, Verified,
    testing::{self, User, Users},
};
use hallpass_axum::{Bearer, BearerLayer};

use crate::{House, ProfileRead, get, me};

type Who = Option<Extension<Arc<Verified<User>>>>;

/// A handler that knows nothing of guards.
async fn whoever(who: Who) -> String {
    who.map_or("stranger".to_owned(), |Extension(who)| who.user().email.clone())
}

fn behind(layer: BearerLayer<Users>) -> Router {
    Router::new().route("/", on_get(whoever)).layer(layer)
}

#[tokio::test]
async fn row_7_and_29_a_whole_router_is_guarded_once() {
    let house = House::new().await;
    let app = Router::new()
        .route("/a", on_get(whoever))
        .route("/b", on_get(whoever))
        .route_layer(BearerLayer::new(house.guard.clone()))
        .route("/open", on_get(whoever));
    let header = house.header(["*"]).await;
    for path in ["/a", "/b"] {
        assert_eq!(get(&app, path, [&*header]).await.body, "ada@example.com");
        assert_eq!(get(&app, path, []).await.wire(), get(&house.me(), "/me", []).await.wire());
        assert_eq!(get(&app, path, ["Bearer abc"]).await.problem(), (401, "invalid_token".into()));
    }
    assert_eq!(get(&app, "/open", []).await.body, "stranger");
    assert_eq!(get(&app, "/nowhere", []).await.status, 404, "route_layer guards routes alone");
    let all = app.layer(BearerLayer::new(house.guard.clone()));
    assert_eq!(get(&all, "/nowhere", []).await.status, 401);
}

#[tokio::test]
async fn row_29_what_the_layer_wants_is_full_access_unless_it_says_otherwise() {
    let house = House::new().await;
    let layer = || BearerLayer::new(house.guard.clone());
    let (all, narrow, none) =
        (house.header(["*"]).await, house.header(["profile:read"]).await, house.header([]).await);
    for (name, layer, statuses) in [
        ("full", layer(), [200, 403, 403]),
        ("scope", layer().scope("profile:read"), [200, 200, 403]),
        ("rule", layer().rule::<ProfileRead>(), [200, 200, 403]),
        ("any", layer().any_scope(), [200, 200, 200]),
        ("optional", layer().optional(), [200, 403, 403]),
        ("optional scope", layer().optional().scope("profile:read"), [200, 200, 403]),
    ] {
        let app = behind(layer);
        for (header, status) in [&all, &narrow, &none].into_iter().zip(statuses) {
            assert_eq!(get(&app, "/", [&**header]).await.status, status, "{name}");
        }
    }
    let refused = get(&behind(layer().scope("profile:read")), "/", [&*none]).await;
    let challenge = "Bearer realm=\"the house\", error=\"insufficient_scope\", scope=\"profile:read\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
}

#[tokio::test]
async fn row_29_an_optional_layer_lets_guests_through_and_refuses_what_is_bad() {
    let house = House::new().await;
    let app = behind(BearerLayer::new(house.guard.clone()).optional());
    assert_eq!(get(&app, "/", []).await.body, "stranger");
    let good = house.header(["*"]).await;
    assert_eq!(get(&app, "/", [&*good]).await.body, "ada@example.com");
    for (header, status) in [("", 400), ("Bearer", 400), ("Basic YTpi", 401), ("Bearer abc", 401)] {
        assert_eq!(get(&app, "/", [header]).await.status, status, "{header:?}");
    }
    assert_eq!(get(&app, "/", [&*good, &*good]).await.status, 400);
    house.store.fail(true);
    assert_eq!(get(&app, "/", [&*good]).await.status, 503);
}

#[tokio::test]
async fn row_29_an_extractor_behind_a_layer_of_the_same_guard_looks_nothing_up() {
    let house = House::new().await;
    let app = Router::new()
        .route("/me", on_get(me))
        .route("/maybe", on_get(async |who: Option<Bearer<Users>>| who.unwrap().into_user().email))
        .route("/full", on_get(async |_: Bearer<Users>| "in"))
        .layer(BearerLayer::new(house.guard.clone()).any_scope())
        .layer(BearerLayer::new(house.guard.clone()).any_scope())
        .with_state(house.guard.clone());
    let header = house.header(["*"]).await;
    let (alone, _) = house.calls(get(&house.me(), "/me", [&*header])).await;
    for path in ["/me", "/maybe"] {
        let (calls, answer) = house.calls(get(&app, path, [&*header])).await;
        assert_eq!((calls, &*answer.body), (alone, "ada@example.com"));
    }
    let narrow = house.header(["profile:read"]).await;
    assert_eq!(get(&app, "/full", [&*narrow]).await.status, 403, "the scope is asked for again");
}

#[tokio::test]
async fn row_29_an_inner_layer_asks_for_its_scope_without_a_second_look_up() {
    let house = House::new().await;
    let app = Router::new()
        .route("/", on_get(whoever))
        .route_layer(BearerLayer::new(house.guard.clone()).rule::<ProfileRead>())
        .layer(BearerLayer::new(house.guard.clone()).any_scope());
    let (good, other) = (house.header(["profile:read"]).await, house.header(["other"]).await);
    assert_eq!(house.calls(get(&app, "/", [&*good])).await.0, 1);
    let (calls, answer) = house.calls(get(&app, "/", [&*other])).await;
    assert_eq!((calls, answer.status.as_u16()), (1, 403));
}

#[tokio::test]
async fn row_13_what_another_guard_verified_never_passes() {
    let house = House::new().await;
    let session = house.guard_of(Purpose::session());
    let twin = house.guard_of(Purpose::api());
    let app = |layer| {
        Router::new()
            .route("/me", on_get(me))
            .route("/maybe", on_get(async |_: Option<Bearer<Users, AnyScope>>| "in"))
            .layer(BearerLayer::new(layer))
            .with_state(house.guard.clone())
    };
    let header = testing::acting_as(&session, &house.ada, ["*"]).await;
    for path in ["/me", "/maybe"] {
        assert_eq!(
            get(&app(session.clone()), path, [&*header]).await.problem(),
            (401, "invalid_token".into())
        );
    }
    // A twin might have other rules; what it verified is verified again.
    let header = house.header(["*"]).await;
    let (calls, answer) = house.calls(get(&app(twin), "/me", [&*header])).await;
    assert_eq!((calls, answer.status.as_u16()), (2, 200));
}

#[tokio::test]
async fn row_13_of_two_layers_each_wants_a_token_of_its_own() {
    let house = House::new().await;
    let app = Router::new()
        .route("/", on_get(whoever))
        .layer(BearerLayer::new(house.guard.clone()))
        .layer(BearerLayer::new(house.guard_of(Purpose::session())));
    for guard in [house.guard.clone(), house.guard_of(Purpose::session())] {
        let header = testing::acting_as(&guard, &house.ada, ["*"]).await;
        assert_eq!(get(&app, "/", [&*header]).await.status, 401);
    }
}

#[tokio::test]
async fn row_7_nothing_behind_the_layer_runs_when_it_refuses() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = async move || counted.fetch_add(1, Ordering::SeqCst).to_string();
    let app = Router::new().route("/", on_get(handler)).layer(BearerLayer::new(house.guard.clone()));
    let narrow = house.header(["profile:read"]).await;
    for header in ["", "Bearer abc", "Basic YTpi", &*narrow] {
        assert!(get(&app, "/", [header]).await.status.is_client_error());
    }
    get(&app, "/", []).await;
    house.store.fail(true);
    assert_eq!(get(&app, "/", [&*narrow]).await.status, 503);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}
