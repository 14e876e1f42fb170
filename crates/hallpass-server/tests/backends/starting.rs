//! The start, and every verb, on each kind of store: what is wrong is told with what to do, and nothing is left half done.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use hallpass_testbed::{Fault, MariaDb, Postgres, Proxy, Redis};

use crate::{
    PASSWORD,
    backend::{Backend, Disk, Kind},
    folder::Folder,
};

/// A person at a terminal waits no longer for the first word, on a machine with other work to do.
const WORD_WITHIN: Duration = Duration::from_secs(10);

fn folder(database: &str, token_store: Option<&str>) -> Folder {
    let mut variables = vec![("HALLPASS_DATABASE_URL".to_owned(), database.to_owned())];
    variables.extend(token_store.map(|url| ("HALLPASS_TOKEN_STORE_URL".to_owned(), url.to_owned())));
    Folder::with(variables)
}

/// Every verb says that the store is out of reach, in time, and shows no password.
fn is_out_of_reach(folder: &Folder, why: &str) {
    let token = "hp_0000000000000000000000000000000000000000000000000";
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["user", "list"],
        &["user", "add", "ada@example.com", "--password-stdin"],
        &["token", "list", "--user", "ada@example.com"],
        &["prune"],
    ] {
        let begin = Instant::now();
        let ran = folder.pipe(args, PASSWORD).fails(3).stderr_has(why);
        assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
        assert!(begin.elapsed() < WORD_WITHIN, "{:?}: {ran:#?}", begin.elapsed());
    }
    // One that is no token is none wherever tokens are.
    assert!([1, 3].contains(&folder.pipe(&["token", "verify"], token).status));
    let ran = folder.run(&["doctor", "--json"]);
    assert_eq!(ran.status, 3, "{ran:#?}");
    assert!(ran.stdout.contains(why) && !ran.stdout.contains("hunter2"), "{ran:#?}");
}

#[test]
fn a_database_that_is_not_there_is_out_of_reach_at_the_start() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    is_out_of_reach(&folder(&format!("postgres://ada:hunter2@{nobody}/x"), None), "cannot reach PostgreSQL");
    is_out_of_reach(&folder(&format!("mysql://ada:hunter2@{nobody}/x"), None), "does not answer");
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("hallpass.db").display());
    folder(&file, None).run(&["migrate"]).ok();
    is_out_of_reach(&folder(&file, Some(&format!("redis://:hunter2@{nobody}"))), "cannot be reached");
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn a_database_that_does_not_answer_is_out_of_reach_at_the_start() {
    let backend = Backend::new(Kind::Postgres, Disk::Memory);
    let proxy = Proxy::start(backend.address()).unwrap();
    let folder = backend.folder_through(&proxy);
    proxy.set(Fault::Drop).unwrap();
    is_out_of_reach(&folder, "cannot reach PostgreSQL");
}

#[test]
#[ignore = "needs PostgreSQL, MariaDB and Redis: scripts/test --servers runs it"]
fn wrong_passwords_and_names_are_told_with_what_to_do() {
    let postgres = Postgres::options().password("hunter1").start().unwrap();
    let url = postgres.database("x").unwrap();
    let wrong = url.replacen("hunter1", "hunter2", 1);
    is_out_of_reach(&folder(&wrong, None), "Check the password");
    let elsewhere = format!("{url}_not");
    folder(&elsewhere, None).run(&["serve", "--listen", "127.0.0.1:0"]).fails(3).stderr_has("createdb");

    let mariadb = MariaDb::options().password("hunter1").start().unwrap();
    let url = mariadb.database("x").unwrap();
    let wrong = url.replacen("hunter1", "hunter2", 1);
    is_out_of_reach(&folder(&wrong, None), "check the user and the password");

    let redis = Redis::options().append_only().password("hunter1").start().unwrap();
    let wrong = redis.url().replacen("hunter1", "hunter2", 1);
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("hallpass.db").display());
    folder(&file, None).run(&["migrate"]).ok();
    is_out_of_reach(&folder(&file, Some(&wrong)), "check user and password");
}

#[test]
#[ignore = "needs MariaDB and Redis: scripts/test --servers runs it"]
fn a_store_that_may_lose_acknowledged_work_is_refused_unless_allowed() {
    let mariadb = MariaDb::options().set("innodb_flush_log_at_trx_commit", "0").start().unwrap();
    let here = folder(&mariadb.database("volatile").unwrap(), None);
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    here.run(&serve).fails(3).stderr_has("innodb_flush_log_at_trx_commit = 1").stderr_has("--allow-volatile");
    here.run(&["doctor"]).says_no().stdout_has("set innodb_flush_log_at_trx_commit = 1");
    let server = here.serve(&["--allow-volatile"], &[]);
    assert!(here.log().contains("innodb_flush_log_at_trx_commit is 0"), "{}", here.log());
    drop(server);
    drop(here.serve(&[], &[("HALLPASS_ALLOW_VOLATILE", "true")]));

    let redis = Redis::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("hallpass.db").display());
    folder(&file, None).run(&["migrate"]).ok();
    let here = folder(&file, Some(&redis.url()));
    here.run(&serve).fails(3).stderr_has("appendonly yes").stderr_has("--allow-volatile");
    drop(here.serve(&["--allow-volatile"], &[]));
    assert!(here.log().contains("VOLATILE"), "{}", here.log());
    here.run(&["doctor"]).says_no().stdout_has("CONFIG SET appendonly yes");

    // Nothing excuses forgetting.
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    for args in [&serve[..], &["doctor"]] {
        let ran = here.run_with(args, &[("HALLPASS_ALLOW_VOLATILE", "true")]);
        assert_eq!(ran.status, 3, "{ran:#?}");
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains("CONFIG SET maxmemory-policy noeviction"), "{said}");
    }
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn a_password_on_the_command_line_is_not_in_the_list_of_processes() {
    let postgres = Postgres::options().password("hunter2").start().unwrap();
    let url = postgres.database("titles").unwrap();
    let folder = Folder::new();
    let server = folder.serve(&["--database", &url], &[]);
    let seen = fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    let seen = String::from_utf8_lossy(&seen).replace('\0', " ");
    assert!(!seen.contains("hunter2") && seen.contains("postgres://hallpass:***@"), "{seen}");
    assert_eq!(server.request("GET", "/readyz", None, "").0, 200);
    // What it says for another terminal, and in its log, has stars too.
    let log = folder.log();
    assert!(log.contains("hallpass --database 'postgres://hallpass:***@"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    let ran = folder.run(&["migrate", "--database", &url, "--json"]).ok();
    assert!(ran.stdout.contains("***") && !ran.stdout.contains("hunter2"), "{ran:#?}");
}

#[test]
#[ignore = "needs PostgreSQL, MariaDB and Redis: scripts/test --servers runs it"]
fn every_verb_works_on_every_kind_of_store() {
    for kind in [Kind::Postgres, Kind::PgBouncer, Kind::MariaDb, Kind::Redis, Kind::Cluster] {
        let backend = Backend::new(kind, Disk::Memory);
        let folder = backend.folder();
        // Nothing was made yet.
        folder.run(&["user", "list"]).fails(3).stderr_has("hallpass");
        let ran = folder.run(&["doctor"]);
        assert_eq!(ran.status, if backend.is_on_a_file() { 3 } else { 1 }, "{kind}: {ran:#?}");
        folder.run(&["migrate", "--json"]).ok().stdout_has("0001_first");
        folder.run(&["migrate"]).ok().stdout_has("is up to date");
        folder.run(&["doctor"]);
        folder.add_user("ada@example.com");
        let token = folder.token(&[]);
        folder.pipe(&["token", "verify"], &token).ok();
        let list = folder.run(&["token", "list", "--user", "ada@example.com", "--json"]).ok().json();
        folder.run(&["token", "revoke", list["tokens"][0]["id"].as_str().unwrap()]).ok();
        folder.pipe(&["token", "verify"], &token).says_no();
        let other = folder.token(&[]);
        folder.run(&["token", "revoke", "--user", "ada@example.com", "--all", "--yes"]).ok();
        folder.pipe(&["token", "verify"], &other).says_no();
        folder.run(&["prune", "--older-than", "0"]).ok().stdout_has("pruned 2 tokens");
        folder.run(&["user", "delete", "ada@example.com", "--yes"]).ok();
        folder.run(&["user", "list"]).ok();
    }
}
