//! A database that takes no changes: tokens are verified all the same, and what would change something is an outage.

use std::time::{Duration, Instant};

use hallpass_testbed::{MariaDb, Postgres};
use serde_json::json;

use crate::{PASSWORD, folder::Folder, server::Server};

/// To see the server notice.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn on_a_read_only_postgres_tokens_are_verified_and_writes_are_503() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.database("read_only").unwrap();
    let name = url.rsplit('/').next().unwrap();
    // Open connections would go on as they are.
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    let set = |value: &str| {
        postgres.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}")).unwrap();
        postgres.sql(&end).unwrap();
    };
    read_only(&url, set, true);
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn to_a_postgres_user_without_the_right_to_write_tokens_are_verified_and_writes_are_503() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.database("no_right").unwrap();
    let admin = url.replacen("hallpass@", "postgres@", 1);
    read_only(
        &url,
        |value| {
            let change = match value {
                "on" => "REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM hallpass",
                _ => "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO hallpass",
            };
            Postgres::sql_at(&admin, change).unwrap();
        },
        false,
    );
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn on_a_read_only_mariadb_tokens_are_verified_and_writes_are_503() {
    let mariadb = MariaDb::start().unwrap();
    let url = mariadb.database("read_only").unwrap();
    read_only(
        &url,
        |value| {
            mariadb.sql(&format!("SET GLOBAL read_only = {value}")).unwrap();
        },
        true,
    );
}

/// `starts` says whether a server may start on a database in that state.
fn read_only(url: &str, set: impl Fn(&str), starts: bool) {
    let folder = Folder::with(vec![("HALLPASS_DATABASE_URL".to_owned(), url.to_owned())]);
    folder.add_user("ada@example.com");
    let (good, dead) = (folder.token(&[]), folder.token(&[]));
    let server = folder.serve(&[], &[]);
    assert_eq!(server.request("POST", "/v1/logout", Some(&dead), "").0, 200);

    set("on");
    settle(&server, &good);
    for _ in 0..20 {
        assert!(server.takes(&good));
        assert!(!server.takes(&dead));
    }
    assert_eq!(server.request("GET", "/v1/tokens", Some(&good), "").0, 200);
    let body = json!({ "name": "x", "scopes": ["a"] }).to_string();
    let login = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
    for (method, path, token, body) in [
        ("POST", "/v1/tokens", Some(good.as_str()), body.as_str()),
        ("POST", "/v1/login", None, &login),
        ("POST", "/v1/logout", Some(&good), ""),
        ("DELETE", "/v1/tokens", Some(&good), ""),
    ] {
        let (status, answer) = server.request(method, path, token, body);
        assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{method} {path}");
    }
    assert!(server.takes(&good), "what was not written has not happened");
    let beside = Folder::with(vec![("HALLPASS_DATABASE_URL".to_owned(), url.to_owned())]);
    if starts {
        // There is nothing to migrate.
        assert!(beside.serve(&[], &[]).takes(&good));
        beside.run(&["doctor"]).says_no().stdout_has("takes no changes");
    } else {
        beside.run(&["serve", "--listen", "127.0.0.1:0"]).fails(3).stderr_has("GRANT");
        beside.run(&["doctor"]).says_no().stdout_has("GRANT");
    }

    set("off");
    settle(&server, &good);
    let begin = Instant::now();
    while server.request("POST", "/v1/tokens", Some(&good), &body).0 != 201 {
        assert!(begin.elapsed() < PATIENCE, "it does not write again: {}", folder.log());
    }
}

/// Lets the server find out that its connections are gone.
fn settle(server: &Server, good: &str) {
    let begin = Instant::now();
    while server.request("GET", "/v1/me", Some(good), "").0 != 200 {
        assert!(begin.elapsed() < PATIENCE, "it does not verify again");
    }
}
