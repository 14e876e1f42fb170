//! Two servers on one database behave as one.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::json;

use crate::{
    PASSWORD,
    backend::{Backend, Disk, Kind},
    server::Server,
};

/// How many tokens are asked for at once over both servers, and how many an account may have.
const AT_ONCE: usize = 60;
const CAP: usize = 7;

#[test]
fn two_servers_on_one_sqlite_file_behave_as_one() {
    two_servers_behave_as_one(Kind::Sqlite);
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn two_servers_on_one_postgres_behave_as_one() {
    two_servers_behave_as_one(Kind::Postgres);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn two_servers_on_one_mariadb_behave_as_one() {
    two_servers_behave_as_one(Kind::MariaDb);
}

#[test]
#[ignore = "needs PgBouncer: scripts/test --servers runs it"]
fn two_servers_on_one_pgbouncer_behave_as_one() {
    two_servers_behave_as_one(Kind::PgBouncer);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn two_servers_on_one_redis_cluster_behave_as_one() {
    two_servers_behave_as_one(Kind::Cluster);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn two_servers_on_one_redis_behave_as_one() {
    two_servers_behave_as_one(Kind::Redis);
}

fn login(server: &Server) -> String {
    let body = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
    let (status, answer) = server.request("POST", "/v1/login", None, &body);
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().unwrap().to_owned()
}

fn two_servers_behave_as_one(kind: Kind) {
    let backend = Backend::new(kind, Disk::Memory);
    let (here, there) = (backend.folder(), backend.folder());
    // Both find an empty database and migrate it.
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(|| here.serve(&[], &[]));
        (there.serve(&[], &[]), one.join().unwrap())
    });
    here.add_user("ada@example.com");

    // What one makes is good at the other at once, and what one ends is dead there at once.
    for _ in 0..20 {
        let token = login(&one);
        assert!(other.takes(&token));
        assert_eq!(other.request("POST", "/v1/logout", Some(&token), "").0, 200);
        assert!(!one.takes(&token), "the very next request");
    }
    let (first, second) = (login(&one), login(&other));
    let (_, me) = one.request("GET", "/v1/me", Some(&first), "");
    let path = format!("/v1/tokens/{}", me["token"]["id"].as_str().unwrap());
    assert_eq!(other.request("DELETE", &path, Some(&second), "").0, 204);
    assert!(!one.takes(&first) && one.takes(&second));
    let all = [login(&one), login(&other), second];
    assert_eq!(one.request("DELETE", "/v1/tokens", Some(&all[0]), "").0, 200);
    assert!(all.iter().all(|token| !other.takes(token) && !one.takes(token)));

    // The command line is a third process.
    let token = here.token(&[]);
    assert!(one.takes(&token) && other.takes(&token));
    here.run(&["user", "disable", "ada@example.com"]).ok();
    assert!(!one.takes(&token) && !other.takes(&token));
    here.run(&["user", "enable", "ada@example.com"]).ok();
    assert!(!one.takes(&token) && !other.takes(&token), "an old token was revived");
    let (_, answer) = one.request("GET", "/readyz", None, "");
    assert_eq!(answer["status"], "ready");
}

#[test]
fn a_cap_holds_over_two_servers_on_one_sqlite_file() {
    a_cap_holds_over_two_servers(Kind::Sqlite);
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn a_cap_holds_over_two_servers_on_one_postgres() {
    a_cap_holds_over_two_servers(Kind::Postgres);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn a_cap_holds_over_two_servers_on_one_mariadb() {
    a_cap_holds_over_two_servers(Kind::MariaDb);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn a_cap_holds_over_two_servers_on_one_redis() {
    a_cap_holds_over_two_servers(Kind::Redis);
}

fn a_cap_holds_over_two_servers(kind: Kind) {
    let backend = Backend::new(kind, Disk::Memory);
    let (here, there) = (backend.folder(), backend.folder());
    here.add_user("ada@example.com");
    // It counts as well.
    let maker = here.token(&[]);
    let cap = [("HALLPASS_TOKEN_CAP", CAP.to_string())];
    let cap = cap.each_ref().map(|(name, value)| (*name, value.as_str()));
    let servers = [here.serve(&[], &cap), there.serve(&[], &cap)];
    let (made, outages) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let (server, maker, made, outages) = (&servers[number % 2], &maker, &made, &outages);
            scope.spawn(move || {
                let body = json!({ "name": "x", "scopes": ["a"] }).to_string();
                match server.request("POST", "/v1/tokens", Some(maker), &body) {
                    (201, _) => made.fetch_add(1, Ordering::Relaxed),
                    (409, _) => 0,
                    // All of them wait for one row: who is last may have waited too long.
                    (503, _) => outages.fetch_add(1, Ordering::Relaxed),
                    answer => panic!("{answer:?}"),
                };
            });
        }
    });
    let list = here.run(&["token", "list", "--user", "ada@example.com", "--json"]).ok().json();
    let living = list["tokens"].as_array().unwrap().len();
    let (made, outages) = (made.into_inner(), outages.into_inner());
    // Nobody is told of a token that is not there; one whose maker heard of an outage may be.
    assert!(made < living && living <= CAP, "{made} made, {outages} outages, {living} living");
    assert!(outages > 0 || living == CAP, "{made} made, {living} living");
}
