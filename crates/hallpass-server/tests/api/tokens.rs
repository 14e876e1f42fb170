use std::time::Duration;

use hallpass::{Guard, Purpose, testing};
use http::Method;
use serde_json::{Value, json};

use crate::fixture::{Answer, Call, Fixture, Options};

const READ: &[&str] = &["tokens:read"];
const WRITE: &[&str] = &["tokens:write"];

fn bearer(made: &Value) -> String {
    format!("Bearer {}", made["token"].as_str().unwrap())
}

async fn create(fixture: &Fixture, auth: &str, more: Value) -> Answer {
    let mut body = json!({ "name": "CI", "scopes": ["tokens:read"] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fixture.post("/v1/tokens", auth, body).await
}

async fn delete(fixture: &Fixture, path: &str, auth: &str) -> Answer {
    fixture.call(Call::new(Method::DELETE, path).auth(auth)).await
}

async fn patch(fixture: &Fixture, path: &str, auth: &str, body: Value) -> Answer {
    fixture.call(Call::new(Method::PATCH, path).auth(auth).json(body)).await
}

fn path(made: &Value) -> String {
    format!("/v1/tokens/{}", made["id"].as_str().unwrap())
}

mod creating {
    use super::*;

    #[tokio::test]
    async fn row_10_a_new_token_is_shown_once_with_what_names_it() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        let answer = create(&fixture, &auth, json!({ "expires_in": "30 mins", "scopes": ["b", "a"] })).await;
        let json = answer.ok(201);
        let expected = format!(
            concat!(
                r#"{{"type":"bearer","token":{},"expires_at":"2026-01-01T00:30:00Z","expires_in":1800,"#,
                r#""id":{},"name":"CI","scopes":["a","b"],"hint":{}}}"#
            ),
            json["token"], json["id"], json["hint"],
        );
        assert_eq!(answer.text(), expected);
        assert_eq!(answer.header("cache-control"), "no-store");
        let token = json["token"].as_str().unwrap();
        assert!(token.ends_with(&json["hint"].as_str().unwrap()["hp_...".len()..]));
        for path in ["/v1/tokens", "/v1/tokens?ended=true", &path(&json), "/v1/me"] {
            assert!(!fixture.get(path, &auth).await.text().contains(token), "{path}");
        }
        fixture.get("/v1/me", &bearer(&json)).await.ok(200);
    }

    #[tokio::test]
    async fn row_10_name_and_scopes_must_be_said() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        for (body, field) in [
            (json!({ "scopes": [] }), "name"),
            (json!({ "name": null, "scopes": [] }), "name"),
            (json!({ "name": "", "scopes": [] }), "name"),
            (json!({ "name": "a" }), "scopes"),
            (json!({ "name": "a", "scopes": null }), "scopes"),
            (json!({ "name": "a", "scopes": ["admin"] }), "scopes"),
            (json!({ "name": "a", "scopes": [], "purpose": "session" }), "purpose"),
            (json!({ "name": "a", "scopes": [], "expires_in": 60 }), "expires_in"),
        ] {
            assert_eq!(fixture.post("/v1/tokens", &auth, body).await.field(), field);
        }
    }

    #[tokio::test]
    async fn row_19_what_is_no_future_is_422() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        for text in ["0", "-1", "NaN", "1e18", "", "1 fortnight", "8000 years"] {
            assert_eq!(create(&fixture, &auth, json!({ "expires_in": text })).await.field(), "expires_in");
        }
    }

    #[tokio::test]
    async fn needs_tokens_write_and_nothing_less() {
        let fixture = Fixture::new().await;
        for scopes in [&[][..], READ, &["tokens"], &["tokens:*"], &["Tokens:write"]] {
            let auth = fixture.acting(scopes).await;
            let answer = create(&fixture, &auth, json!({ "scopes": [] })).await;
            answer.problem(403, "insufficient_scope");
            let challenge = "Bearer realm=\"hallpass\", error=\"insufficient_scope\", scope=\"tokens:write\"";
            assert_eq!(answer.header("www-authenticate"), challenge);
        }
        create(&fixture, &fixture.acting(WRITE).await, json!({ "scopes": [] })).await.ok(201);
        create(&fixture, &fixture.acting(&["*"]).await, json!({})).await.ok(201);
    }

    #[tokio::test]
    async fn an_issued_token_mints_nothing_wider() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(&["tokens:write", "a"]).await;
        for scopes in [json!(["*"]), json!(["b"]), json!(["a", "tokens:read"])] {
            assert_eq!(create(&fixture, &auth, json!({ "scopes": scopes })).await.field(), "scopes");
        }
        create(&fixture, &auth, json!({ "scopes": ["a"] })).await.ok(201);
    }

    #[tokio::test]
    async fn an_issued_token_mints_nothing_longer_lived() {
        let fixture = Fixture::new().await;
        let maker = fixture.guard.generate(&fixture.ada).expires_in("1 hour").await.unwrap();
        let auth = format!("Bearer {}", maker.plain().expose());
        let clamped = create(&fixture, &auth, json!({})).await.ok(201);
        assert_eq!(clamped["expires_in"], 3600, "the default life is clamped");
        for excess in ["61 mins", "never"] {
            assert_eq!(create(&fixture, &auth, json!({ "expires_in": excess })).await.field(), "expires_in");
        }
        create(&fixture, &auth, json!({ "expires_in": "1 hour" })).await.ok(201);
        // And so on: a chain of tokens does not creep past the first.
        fixture.clock.advance(Duration::from_mins(59));
        let second = create(&fixture, &auth, json!({ "scopes": ["tokens:write"] })).await.ok(201);
        assert_eq!(second["expires_in"], 60);
        let answer =
            create(&fixture, &bearer(&second), json!({ "scopes": [], "expires_in": "2 mins" })).await;
        assert_eq!(answer.field(), "expires_in");
    }

    #[tokio::test]
    async fn a_log_in_mints_up_to_the_policy_itself() {
        let fixture = Fixture::new().await;
        let login = fixture.guard.attempt(crate::fixture::ADA, crate::fixture::PASSWORD).expires_in("1 hour");
        let auth = format!("Bearer {}", login.await.unwrap().plain().expose());
        let made = create(&fixture, &auth, json!({ "expires_in": "never" })).await.ok(201);
        assert!(made.get("expires_at").is_none());
        assert!(made.get("expires_in").is_none());
    }

    #[tokio::test]
    async fn two_hundred_at_once_under_a_cap_are_exactly_the_cap() {
        let fixture = Fixture::with(Options { cap: Some(50), ..Options::default() }).await;
        let auth = fixture.logged_in().await;
        let mut storm = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (fixture, auth) = (fixture.clone(), auth.clone());
            storm.spawn(async move { create(&fixture, &auth, json!({})).await });
        }
        let answers = storm.join_all().await;
        let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
        // The log-in's own token counts.
        assert_eq!(made.len(), 49);
        for answer in refused {
            answer.problem(409, "conflict");
        }
    }

    #[tokio::test]
    async fn a_cap_does_not_count_the_dead() {
        let fixture = Fixture::with(Options { cap: Some(2), ..Options::default() }).await;
        let auth = fixture.logged_in().await;
        let made = create(&fixture, &auth, json!({})).await.ok(201);
        create(&fixture, &auth, json!({})).await.problem(409, "conflict");
        delete(&fixture, &path(&made), &auth).await;
        create(&fixture, &auth, json!({ "expires_in": "1 hour" })).await.ok(201);
        fixture.clock.advance(Duration::from_hours(1));
        create(&fixture, &auth, json!({})).await.ok(201);
    }
}

mod listing {
    use super::*;

    async fn names(fixture: &Fixture, auth: &str, query: &str) -> (Vec<String>, Value) {
        let page = fixture.get(&format!("/v1/tokens{query}"), auth).await.ok(200);
        let name = |token: &Value| token["name"].as_str().unwrap().to_owned();
        (page["tokens"].as_array().unwrap().iter().map(name).collect(), page["next_cursor"].clone())
    }

    #[tokio::test]
    async fn row_10_an_entry_is_as_in_me_and_says_its_state() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(READ).await;
        let me = fixture.get("/v1/me", &auth).await.ok(200);
        let answer = fixture.get("/v1/tokens", &auth).await;
        let page = answer.ok(200);
        assert_eq!(page["next_cursor"], Value::Null);
        let mut entry = page["tokens"][0].as_object().unwrap().clone();
        assert_eq!(entry.remove("revoked_at"), Some(Value::Null));
        assert_eq!(entry.remove("state"), Some("living".into()));
        assert_eq!(Value::Object(entry), me["token"]);
        assert!(answer.text().starts_with(r#"{"tokens":[{"id":"#));
    }

    #[tokio::test]
    async fn pages_follow_each_other_newest_first_and_lose_nobody() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(READ).await;
        for number in 0..7 {
            // Two of each instant.
            fixture.clock.advance(Duration::from_secs((number + 1) % 2));
            fixture.guard.generate(&fixture.ada).name(number.to_string()).await.unwrap();
        }
        let (all, _) = names(&fixture, &auth, "").await;
        assert_eq!(all.len(), 8);
        assert_eq!(all[7], "acting as");
        let (mut seen, mut cursor, mut count) = (Vec::new(), String::new(), 0);
        loop {
            let (page, next) = names(&fixture, &auth, &format!("?limit=3{cursor}")).await;
            seen.extend(page);
            count += 1;
            let Some(next) = next.as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((seen, count), (all, 3));
    }

    #[tokio::test]
    async fn the_dead_are_there_only_when_asked_for() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(&["*"]).await;
        let revoked = create(&fixture, &auth, json!({ "name": "revoked" })).await.ok(201);
        delete(&fixture, &path(&revoked), &auth).await;
        create(&fixture, &auth, json!({ "name": "expired", "expires_in": "1 min" })).await.ok(201);
        fixture.clock.advance(Duration::from_mins(1));
        assert_eq!(names(&fixture, &auth, "").await.0, ["acting as"]);
        assert_eq!(names(&fixture, &auth, "?ended=false").await.0, ["acting as"]);
        let page = fixture.get("/v1/tokens?ended=true", &auth).await.ok(200);
        let mut states: Vec<_> = page["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| {
                (
                    token["name"].as_str().unwrap(),
                    token["state"].as_str().unwrap(),
                    token["revoked_at"].is_null(),
                )
            })
            .collect();
        states.sort_unstable();
        assert_eq!(
            states,
            [("acting as", "living", true), ("expired", "expired", true), ("revoked", "revoked", false)]
        );
    }

    #[tokio::test]
    async fn row_13_tokens_of_others_and_of_other_purposes_are_not_in_it() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(READ).await;
        testing::acting_as(&fixture.guard, &fixture.bob, ["*"]).await;
        let session =
            Guard::builder(fixture.guard.users().clone(), fixture.store.clone(), Purpose::session()).build();
        let session = session.generate(&fixture.ada).await.unwrap();
        assert_eq!(names(&fixture, &auth, "?ended=true").await.0, ["acting as"]);
        let one = format!("/v1/tokens/{}", session.record().id);
        fixture.get(&one, &auth).await.problem(404, "not_found");
    }

    #[tokio::test]
    async fn a_query_that_cannot_be_taken_is_422_and_named() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(READ).await;
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=-1", "limit"),
            ("limit=", "limit"),
            ("limit=1e1", "limit"),
            ("limit=99999999999999999999", "limit"),
            ("cursor=", "cursor"),
            ("cursor=x", "cursor"),
            ("cursor=1.2", "cursor"),
            ("cursor=99999999999999999999.00000000-0000-4000-8000-000000000000", "cursor"),
            ("ended=1", "ended"),
            ("ended", "ended"),
            ("end=true", "end"),
            ("limit=1&limit=2", "limit"),
            ("user=bob", "user"),
        ] {
            assert_eq!(fixture.get(&format!("/v1/tokens?{query}"), &auth).await.field(), field, "{query}");
        }
        for query in [
            "limit=1",
            "limit=100",
            "cursor=-1.00000000-0000-4000-8000-000000000000",
            "cursor=%31.00000000-0000-4000-8000-000000000000",
        ] {
            fixture.get(&format!("/v1/tokens?{query}"), &auth).await.ok(200);
        }
    }

    #[tokio::test]
    async fn needs_tokens_read() {
        let fixture = Fixture::new().await;
        for scopes in [&[][..], WRITE] {
            let auth = fixture.acting(scopes).await;
            let answer = fixture.get("/v1/tokens", &auth).await;
            answer.problem(403, "insufficient_scope");
            assert!(answer.header("www-authenticate").ends_with("scope=\"tokens:read\""));
        }
    }
}

mod showing {
    use super::*;

    #[tokio::test]
    async fn one_is_as_in_the_list_dead_or_alive() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(&["*"]).await;
        let made = create(&fixture, &auth, json!({ "meta": { "k": "v" } })).await.ok(201);
        let list = fixture.get("/v1/tokens?limit=2", &auth).await.ok(200);
        let shown = fixture.get(&path(&made), &auth).await.ok(200);
        assert!(list["tokens"].as_array().unwrap().contains(&shown));
        assert_eq!(shown["meta"], json!({ "k": "v" }));
        delete(&fixture, &path(&made), &auth).await;
        assert_eq!(fixture.get(&path(&made), &auth).await.ok(200)["state"], "revoked");
    }

    #[tokio::test]
    async fn anothers_and_what_is_no_id_are_one_404() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(&["*"]).await;
        let bobs = fixture.guard.generate(&fixture.bob).await.unwrap();
        let bobs_auth = format!("Bearer {}", bobs.plain().expose());
        let id = bobs.record().id.to_string();
        let unknown = "00000000-0000-4000-8000-000000000000";
        let mut answers = Vec::new();
        for id in [
            &id,
            unknown,
            &id.to_uppercase(),
            &id.replace('-', ""),
            &format!("{{{id}}}").replace('{', "%7B").replace('}', "%7D"),
            "1",
            "0",
            "%00",
            "%ff",
            "%2e%2e",
            "null",
            "'%20OR%201=1--",
            &"x".repeat(3000),
        ] {
            for (method, body) in [
                (Method::GET, None),
                (Method::DELETE, None),
                (Method::PATCH, Some(json!({ "name": "mine" }))),
            ] {
                let mut call = Call::new(method, &format!("/v1/tokens/{id}")).auth(&auth);
                call = call.header("x-request-id", "same");
                if let Some(body) = body {
                    call = call.json(body);
                }
                let answer = fixture.call(call).await;
                answer.problem(404, "not_found");
                answers.push(answer);
            }
        }
        assert!(answers.iter().all(|answer| answer == &answers[0]));
        let mine = fixture.get("/v1/me", &bobs_auth).await.ok(200);
        assert_eq!(mine["token"]["name"], Value::Null, "unchanged and alive");
    }
}

mod changing {
    use super::*;

    #[tokio::test]
    async fn a_name_and_a_life_counted_from_now() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        let made = create(&fixture, &auth, json!({})).await.ok(201);
        let renamed = patch(&fixture, &path(&made), &auth, json!({ "name": "New" })).await.ok(200);
        assert_eq!(
            (&renamed["name"], &renamed["expires_at"]),
            (&json!("New"), &json!("2027-01-01T00:00:00Z"))
        );
        fixture.clock.advance(Duration::from_hours(1));
        let changed = patch(&fixture, &path(&made), &auth, json!({ "expires_in": "1 hour" })).await.ok(200);
        assert_eq!(
            (&changed["name"], &changed["expires_at"]),
            (&json!("New"), &json!("2026-01-01T02:00:00Z"))
        );
        let never = patch(&fixture, &path(&made), &auth, json!({ "expires_in": "never" })).await.ok(200);
        assert_eq!(never["expires_at"], Value::Null);
        assert_eq!(patch(&fixture, &path(&made), &auth, json!({})).await.ok(200), never);
    }

    #[tokio::test]
    async fn a_null_is_422_and_never_for_ever() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        let made = create(&fixture, &auth, json!({})).await.ok(201);
        for (body, field) in [
            (json!({ "expires_in": null }), "expires_in"),
            (json!({ "name": null }), "name"),
            (json!({ "name": "" }), "name"),
            (json!({ "expires_in": 0 }), "expires_in"),
            (json!({ "expires_in": "0" }), "expires_in"),
            (json!({ "scopes": ["*"] }), "scopes"),
            (json!({ "expires_at": null }), "expires_at"),
        ] {
            assert_eq!(patch(&fixture, &path(&made), &auth, body).await.field(), field);
        }
        let shown = fixture.get(&path(&made), &auth).await.ok(200);
        assert_eq!(shown["expires_at"], "2027-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn an_issued_token_stretches_none_beyond_itself() {
        let fixture = Fixture::new().await;
        let maker = fixture.guard.generate(&fixture.ada).expires_in("1 hour").await.unwrap();
        let auth = format!("Bearer {}", maker.plain().expose());
        let own = format!("/v1/tokens/{}", maker.record().id);
        for excess in ["2 hours", "never"] {
            assert_eq!(
                patch(&fixture, &own, &auth, json!({ "expires_in": excess })).await.field(),
                "expires_in"
            );
        }
        patch(&fixture, &own, &auth, json!({ "expires_in": "1 min" })).await.ok(200);
    }

    #[tokio::test]
    async fn what_has_ended_is_409_and_stays_dead() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        let made = create(&fixture, &auth, json!({})).await.ok(201);
        delete(&fixture, &path(&made), &auth).await;
        let body = json!({ "expires_in": "never", "name": "again" });
        patch(&fixture, &path(&made), &auth, body).await.problem(409, "conflict");
        fixture.get("/v1/me", &bearer(&made)).await.problem(401, "invalid_token");
    }

    #[tokio::test]
    async fn needs_tokens_write() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(READ).await;
        let own = fixture.get("/v1/me", &auth).await.ok(200)["token"].clone();
        patch(&fixture, &path(&own), &auth, json!({ "name": "x" })).await.problem(403, "insufficient_scope");
    }
}

mod ending {
    use super::*;

    #[tokio::test]
    async fn one_is_204_and_dead_at_once() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        let made = create(&fixture, &auth, json!({})).await.ok(201);
        let answer = delete(&fixture, &path(&made), &auth).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
        fixture.get("/v1/me", &bearer(&made)).await.problem(401, "invalid_token");
        fixture.get("/v1/me", &auth).await.ok(200);
        // A client whose answer was lost may ask again.
        assert_eq!(delete(&fixture, &path(&made), &auth).await.status, 204);
    }

    #[tokio::test]
    async fn all_of_mine_of_every_purpose_and_none_of_others() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        create(&fixture, &auth, json!({})).await.ok(201);
        let session =
            Guard::builder(fixture.guard.users().clone(), fixture.store.clone(), Purpose::session())
                .clock(fixture.clock.clone())
                .build();
        let page = session.generate(&fixture.ada).await.unwrap();
        let bobs = testing::acting_as(&fixture.guard, &fixture.bob, []).await;
        let answer = delete(&fixture, "/v1/tokens", &auth).await;
        assert_eq!(answer.ok(200), json!({ "revoked": 3 }));
        fixture.get("/v1/me", &auth).await.problem(401, "invalid_token");
        assert!(session.verify(page.plain()).await.is_err());
        fixture.get("/v1/me", &bobs).await.ok(200);
    }

    #[tokio::test]
    async fn needs_tokens_write() {
        let fixture = Fixture::new().await;
        let auth = fixture.acting(READ).await;
        let own = fixture.get("/v1/me", &auth).await.ok(200)["token"].clone();
        for path in [&path(&own), "/v1/tokens"] {
            delete(&fixture, path, &auth).await.problem(403, "insufficient_scope");
        }
        fixture.get("/v1/me", &auth).await.ok(200);
    }

    #[tokio::test]
    async fn a_body_that_wants_something_else_ends_nothing() {
        let fixture = Fixture::new().await;
        let auth = fixture.logged_in().await;
        let call = Call::new(Method::DELETE, "/v1/tokens").auth(&auth).json(json!({ "name": "CI" }));
        assert_eq!(fixture.call(call).await.field(), "name");
        fixture.get("/v1/me", &auth).await.ok(200);
    }
}

#[tokio::test]
async fn an_outage_is_503_on_every_route() {
    let fixture = Fixture::new().await;
    let auth = fixture.acting(&["*"]).await;
    fixture.store.fail(true);
    for call in [
        Call::get("/v1/tokens"),
        Call::post("/v1/tokens", json!({ "name": "a", "scopes": [] })),
        Call::new(Method::DELETE, "/v1/tokens"),
        Call::get("/v1/tokens/x"),
        Call::new(Method::PATCH, "/v1/tokens/x").json(json!({})),
        Call::new(Method::DELETE, "/v1/tokens/x"),
        Call::new(Method::POST, "/v1/logout"),
    ] {
        let answer = fixture.call(call.auth(&auth)).await;
        answer.problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
}
