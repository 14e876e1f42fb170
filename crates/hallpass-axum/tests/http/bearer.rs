//! The extractors in a handler's arguments.

use axum::{Router, extract::FromRef, routing::get as on_get};
use hallpass::{
    AnyScope, FullAccess, Guard, Purpose, any_of,
    testing::{self, Users},
};
use hallpass_axum::{Bearer, Rejection};

use crate::{House, ProfileRead, get};

#[tokio::test]
async fn row_7_the_bearer_has_the_user_the_token_and_the_guard() {
    async fn about(who: Bearer<Users, AnyScope>) -> String {
        let (user, token, scopes) = (who.user(), who.token(), who.scopes());
        let same = who.guard().purpose().name() == who.purpose();
        format!("{} {:?} {scopes} {same}", user.email, token.name)
    }
    let house = House::new().await;
    let app = Router::new().route("/", on_get(about)).with_state(house.guard.clone());
    let header = house.header(["a", "b"]).await;
    assert_eq!(get(&app, "/", [&*header]).await.body, "ada@example.com Some(\"acting as\") a b true");
}

#[tokio::test]
async fn a_plain_bearer_refuses_a_narrowed_token_and_any_scope_takes_it() {
    let house = House::new().await;
    let app = Router::new()
        .route("/plain", on_get(async |_: Bearer<Users>| "in"))
        .route("/full", on_get(async |_: Bearer<Users, FullAccess>| "in"))
        .route("/any", on_get(async |_: Bearer<Users, AnyScope>| "in"))
        .route("/profile", on_get(async |_: Bearer<Users, ProfileRead>| "in"))
        .with_state(house.guard.clone());
    let (all, narrow, none) =
        (house.header(["*"]).await, house.header(["profile:read"]).await, house.header([]).await);
    for (path, statuses) in [
        ("/plain", [200, 403, 403]),
        ("/full", [200, 403, 403]),
        ("/any", [200, 200, 200]),
        ("/profile", [200, 200, 403]),
    ] {
        let asked = [
            get(&app, path, [&*all]).await,
            get(&app, path, [&*narrow]).await,
            get(&app, path, [&*none]).await,
        ];
        assert_eq!(asked.map(|answer| answer.status.as_u16()), statuses, "{path}");
    }
}

#[tokio::test]
async fn row_29_an_optional_bearer_is_none_only_without_any_header() {
    async fn greet(who: Option<Bearer<Users, ProfileRead>>) -> String {
        who.map_or("stranger".to_owned(), |who| who.into_user().email)
    }
    let house = House::new().await;
    let app = Router::new().route("/", on_get(greet)).with_state(house.guard.clone());
    assert_eq!(get(&app, "/", []).await.body, "stranger");
    assert_eq!(get(&app, "/", [&*house.header(["*"]).await]).await.body, "ada@example.com");

    let (other, good) = (house.header(["other"]).await, house.header(["profile:read"]).await);
    assert_eq!(get(&app, "/", [&*other]).await.status, 403);
    for (header, status) in [("", 400), ("Bearer", 400), ("Basic YTpi", 401), ("Bearer abc", 401)] {
        assert_eq!(get(&app, "/", [header]).await.status, status, "{header:?}");
    }
    assert_eq!(get(&app, "/", [&*good, &*good]).await.status, 400);
    house.store.fail(true);
    assert_eq!(get(&app, "/", [&*good]).await.status, 503);
    assert_eq!(get(&app, "/", []).await.body, "stranger", "a guest needs no store");
}

#[tokio::test]
async fn a_handler_may_take_the_rejection_into_its_own_hands() {
    async fn greet(who: Result<Bearer<Users>, Rejection>) -> String {
        who.map_or_else(|rejection| rejection.refusal().code.to_owned(), |who| who.into_user().email)
    }
    let house = House::new().await;
    let app = Router::new().route("/", on_get(greet)).with_state(house.guard.clone());
    assert_eq!(get(&app, "/", ["Bearer abc"]).await.body, "invalid_token");
}

#[tokio::test]
async fn row_13_any_of_accepts_either_guard_and_says_which_matched() {
    async fn purpose(who: Bearer<Users>) -> String {
        who.purpose().to_owned()
    }
    let house = House::new().await;
    let session = house.guard_of(Purpose::session());
    let deploy = house.guard_of(Purpose::new("deploy", "hpd").unwrap());
    let either = any_of([house.guard.clone(), session.clone()]).unwrap();
    let app = Router::new().route("/", on_get(purpose)).with_state(either);
    for (guard, expected) in [(&house.guard, "api"), (&session, "session")] {
        let header = testing::acting_as(guard, &house.ada, ["*"]).await;
        assert_eq!(get(&app, "/", [&*header]).await.body, expected);
    }
    let header = testing::acting_as(&deploy, &house.ada, ["*"]).await;
    assert_eq!(get(&app, "/", [&*header]).await.status, 401);
}

#[tokio::test]
async fn row_13_a_token_of_one_guard_never_passes_another() {
    let house = House::new().await;
    let guards: Vec<_> = Purpose::table().into_iter().map(|purpose| house.guard_of(purpose)).collect();
    for maker in &guards {
        let header = testing::acting_as(maker, &house.ada, ["*"]).await;
        for reader in &guards {
            let app = Router::new().route("/me", on_get(crate::me)).with_state(reader.clone());
            let status = get(&app, "/me", [&*header]).await.status;
            let same = maker.is_same(reader) && !maker.purpose().is_single_use();
            assert_eq!(status, if same { 200 } else { 401 }, "{maker:?} {reader:?}");
        }
    }
}

#[tokio::test]
async fn row_13_two_guards_in_one_state_are_told_apart_by_a_newtype_of_the_users() {
    /// The same people, behind another guard.
    #[derive(Clone)]
    struct Staff(Users);
    impl hallpass::UserProvider for Staff {
        type User = testing::User;
        fn id(&self, user: &testing::User) -> hallpass::UserId {
            self.0.id(user)
        }
        async fn find(&self, id: &hallpass::UserId) -> Result<Option<testing::User>, hallpass::Unavailable> {
            self.0.find(id).await
        }
    }
    #[derive(Clone, FromRef)]
    struct Guards {
        people: Guard<Users>,
        staff: Guard<Staff>,
    }
    let house = House::new().await;
    let staff = Guard::new(Staff(house.users.clone()), house.store.clone(), Purpose::session());
    let app = Router::new()
        .route("/people", on_get(async |_: Bearer<Users>| "in"))
        .route("/staff", on_get(async |_: Bearer<Staff>| "in"))
        .with_state(Guards { people: house.guard.clone(), staff: staff.clone() });
    let person = house.header(["*"]).await;
    let member = testing::acting_as(&staff, &house.ada, ["*"]).await;
    assert_eq!(get(&app, "/people", [&*person]).await.status, 200);
    assert_eq!(get(&app, "/people", [&*member]).await.status, 401);
    assert_eq!(get(&app, "/staff", [&*member]).await.status, 200);
    assert_eq!(get(&app, "/staff", [&*person]).await.status, 401);
}

#[tokio::test]
async fn debug_shows_neither_the_user_nor_the_token() {
    let house = House::new().await;
    let app = Router::new()
        .route("/", on_get(async |who: Bearer<Users>| format!("{who:?}")))
        .with_state(house.guard.clone());
    let header = house.header(["*"]).await;
    let shown = get(&app, "/", [&*header]).await.body;
    assert!(
        shown.starts_with("Bearer {") && !shown.contains("ada@") && !shown.contains(&header[10..]),
        "{shown}"
    );
}
