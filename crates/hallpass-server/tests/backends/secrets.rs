//! No secret is in a log at TRACE, in an answer or an error, with the drivers' own logging on.

use hallpass_testbed::{MariaDb, Postgres, Redis};
use rustix::process::Signal;
use serde_json::json;

use crate::folder::Folder;

const PASSWORD: &str = "canary-in-the-coal-mine";
const STORE_PASSWORD: &str = "hunter2canary";

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn no_secret_is_in_the_log_at_trace_on_postgres() {
    let postgres = Postgres::options().password(STORE_PASSWORD).start().unwrap();
    no_secret_is_told(vec![database(postgres.database("secrets").unwrap())]);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn no_secret_is_in_the_log_at_trace_on_mariadb() {
    let mariadb = MariaDb::options().password(STORE_PASSWORD).start().unwrap();
    no_secret_is_told(vec![database(mariadb.database("secrets").unwrap())]);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn no_secret_is_in_the_log_at_trace_on_redis() {
    let redis = Redis::options().append_only().password(STORE_PASSWORD).start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("hallpass.db").display());
    no_secret_is_told(vec![database(file), ("HALLPASS_TOKEN_STORE_URL".to_owned(), redis.url())]);
}

fn database(url: String) -> (String, String) {
    ("HALLPASS_DATABASE_URL".to_owned(), url)
}

fn no_secret_is_told(mut variables: Vec<(String, String)>) {
    variables.push(("RUST_LOG".to_owned(), "trace".to_owned()));
    let folder = Folder::with(variables);
    let mut said = String::new();
    let ran = folder.pipe(&["user", "add", "ada@example.com", "--password-stdin"], PASSWORD).ok();
    said += &ran.stderr;
    let create = ["token", "create", "--user", "ada@example.com", "--name", "x", "--scope", "*"];
    let ran = folder.run(&create).ok();
    let token = ran.stdout.trim_end().to_owned();
    said += &ran.stderr;
    said += &folder.pipe(&["token", "verify"], &token).ok().stderr;
    let ran = folder.run(&["doctor"]);
    said += &ran.stdout;
    said += &ran.stderr;
    said += &folder.run(&["migrate"]).ok().stdout;

    let server = folder.serve(&[], &[]);
    assert!(server.takes(&token));
    let body = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
    let second = server.request("POST", "/v1/login", None, &body).1["token"].as_str().unwrap().to_owned();
    assert_eq!(server.request("POST", "/v1/logout", Some(&second), "").0, 200);
    server.stop(Signal::TERM);
    said += &folder.log();

    assert!(said.contains("login_succeeded"), "{said}");
    for secret in [PASSWORD, STORE_PASSWORD, &token[3..], &second[3..]] {
        let place = said.lines().find(|line| line.contains(secret));
        assert!(place.is_none(), "{secret} is in {place:?}");
        let hex = format!("{:02x?}", secret.as_bytes()).replace(", ", "");
        let hex = hex.trim_matches(['[', ']']).to_owned();
        assert!(!said.to_lowercase().contains(&hex), "{secret} is there in hex");
        let bytes: Vec<_> = secret.bytes().map(|byte| byte.to_string()).collect();
        assert!(!said.contains(&bytes.join(", ")), "{secret} is there as bytes");
    }
}
