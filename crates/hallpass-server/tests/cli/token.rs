use std::process::Stdio;

use serde_json::{Value, json};

use crate::folder::{Folder, Ran, members};

const TOKEN: [&str; 11] = [
    "created_at",
    "expires_at",
    "hint",
    "id",
    "last_used_at",
    "meta",
    "name",
    "purpose",
    "revoked_at",
    "scopes",
    "state",
];

fn create(folder: &Folder, more: &[&str]) -> Ran {
    folder.run(&[&["token", "create", "--user", "ada@example.com"], more].concat())
}

fn list(folder: &Folder, more: &[&str]) -> Value {
    let args = ["token", "list", "--user", "ada@example.com", "--json"];
    folder.run(&[&args, more].concat()).ok().json()
}

#[test]
fn create_prints_the_token_alone_on_stdout_and_the_rest_on_stderr() {
    let folder = Folder::with_ada();
    let ran = create(&folder, &["--name", "laptop", "--scope", "*", "--expires-in", "7 days"]).ok();
    let token = ran.stdout.strip_suffix('\n').unwrap();
    assert!(token.starts_with("hp_") && token.len() == 52, "{token}");
    let listed = &list(&folder, &[])["tokens"][0];
    assert_eq!((&listed["name"], &listed["scopes"]), (&json!("laptop"), &json!(["*"])));
    for part in ["laptop", "in 6 days (", listed["id"].as_str().unwrap(), listed["hint"].as_str().unwrap()] {
        assert!(ran.stderr.contains(part), "{part:?} is not in {ran:#?}");
    }
    assert!(!ran.stderr.contains(token));
    folder.pipe(&["token", "verify"], token).ok();
}

#[test]
fn create_json_is_the_envelope_of_the_http_interface() {
    let folder = Folder::with_ada();
    let json =
        create(&folder, &["--name", "x", "--scope", "a", "--scope", "b", "--expires-in", "1h30m", "--json"])
            .ok()
            .json();
    let all = ["email", "expires_at", "expires_in", "hint", "id", "name", "scopes", "token", "type"];
    assert_eq!(members(&json), all);
    assert_eq!(json["type"], "bearer");
    assert_eq!(json["expires_in"], 5400);
    assert_eq!(json["scopes"], json!(["a", "b"]));

    let json =
        create(&folder, &["--name", "x", "--scope", "a", "--expires-in", "never", "--json"]).ok().json();
    assert_eq!(members(&json), ["email", "hint", "id", "name", "scopes", "token", "type"]);
}

#[test]
fn create_keeps_meta_and_lives_365_days_by_default() {
    let folder = Folder::with_ada();
    let more = ["--name", "ci", "--scope", "deploy", "--meta", "host=ci-7", "--meta", "note=a=b"];
    create(&folder, &more).ok().stderr_has("in 364 days");
    assert_eq!(list(&folder, &[])["tokens"][0]["meta"], json!({ "host": "ci-7", "note": "a=b" }));
}

#[test]
fn create_refuses_what_cannot_be_had_and_names_the_flag() {
    let folder = Folder::with_ada();
    for life in ["0", "-1", "NaN", "1e18", "", "1 fortnight", "9000 years", "0 days"] {
        let flag = format!("--expires-in={life}");
        create(&folder, &["--name", "x", "--scope", "a", &flag]).fails(2).stderr_has("--expires-in");
    }
    for name in ["", " ", "a\nb", &"x".repeat(101)] {
        create(&folder, &["--name", name, "--scope", "a"]).fails(2).stderr_has("--name");
    }
    for scope in ["", "a b", "a\"b"] {
        create(&folder, &["--name", "x", "--scope", scope]).fails(2).stderr_has("--scope");
    }
    create(&folder, &["--name", "x", "--scope", "admin"]).fails(2).stderr_has("--scope");
    create(&folder, &["--name", "x"]).fails(2).stderr_has("--scope <SCOPE>");
    create(&folder, &["--scope", "a"]).fails(2).stderr_has("--name <NAME>");
    create(&folder, &["--name", "x", "--scope", "a", "--meta", "novalue"]).fails(2).stderr_has("KEY=VALUE");
    create(&folder, &["--name", "x", "--scope", "a", "--meta", "=v"]).fails(2).stderr_has("KEY=VALUE");
    let twice = ["--name", "x", "--scope", "a", "--meta", "k=1", "--meta", "k=2"];
    create(&folder, &twice).fails(2).stderr_has("--meta k is given twice");
    let long = format!("k={}", "x".repeat(4096));
    create(&folder, &["--name", "x", "--scope", "a", "--meta", &long]).fails(2).stderr_has("--meta");
    assert_eq!(list(&folder, &["--ended"])["tokens"], json!([]));
}

#[test]
fn create_with_an_unquoted_star_is_refused() {
    // What a shell makes of --scope * in a folder with two files.
    let folder = Folder::with_ada();
    create(&folder, &["--name", "x", "--scope", "Cargo.lock", "Cargo.toml"])
        .fails(2)
        .stderr_has("Cargo.toml");
}

#[test]
fn create_revokes_a_token_that_could_not_be_written() {
    let folder = Folder::with_ada();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for stdout in [Stdio::from(full), Stdio::from(closed)] {
        let args = ["token", "create", "--user", "ada@example.com", "--name", "x", "--scope", "*"];
        let output = folder.command(&args).stdout(stdout).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("so it was revoked"), "{stderr}");
    }
    let states = list(&folder, &["--ended"]);
    let states: Vec<_> = states["tokens"].as_array().unwrap().iter().map(|token| &token["state"]).collect();
    assert_eq!(states, ["revoked", "revoked"]);
}

#[test]
fn create_for_a_disabled_account_is_a_no() {
    let folder = Folder::with_ada();
    folder.run(&["user", "disable", "ada@example.com"]).ok();
    create(&folder, &["--name", "x", "--scope", "a"])
        .fails(1)
        .stderr_has("hallpass user enable ada@example.com");
}

#[test]
fn create_keeps_to_the_policy() {
    let folder = Folder::with_ada();
    let with = |flags: &[&str]| create(&folder, &[&["--name", "x", "--scope", "a"], flags].concat());
    with(&["--token-life-max", "7 days", "--expires-in", "8 days"]).fails(2).stderr_has("longest allowed");
    with(&["--token-life-max", "7 days", "--expires-in", "never"]).fails(2).stderr_has("longest allowed");
    with(&["--token-life-max", "7 days"]).ok().stderr_has("in 6 days");
    with(&["--token-prefix", "acme_ci"]).ok().stdout_has("acme_ci_");
    let capped = with(&["--token-cap", "2"]).fails(1);
    capped.stderr_has("2 tokens").stderr_has("hallpass token revoke ID");
    with(&["--token-prefix", "a-b"]).fails(2).stderr_has("--token-prefix");
    with(&["--token-life", "soon"]).fails(2).stderr_has("--token-life");
}

#[test]
fn a_grant_is_needed_for_a_privileged_scope() {
    let folder = Folder::new();
    folder.pipe(&["user", "add", "ada@example.com", "--admin", "--password-stdin"], crate::PASSWORD).ok();
    create(&folder, &["--name", "x", "--scope", "admin"]).ok();
    create(&folder, &["--name", "x", "--scope", "introspect"]).fails(2).stderr_has("not granted");
}

#[test]
fn list_shows_the_living_and_the_ended_only_when_asked() {
    let folder = Folder::with_ada();
    create(&folder, &["--name", "first", "--scope", "*"]).ok();
    create(&folder, &["--name", "second", "--scope", "read", "--expires-in", "never"]).ok();
    let json = list(&folder, &[]);
    assert_eq!(members(&json), ["more", "tokens"]);
    assert_eq!(json["more"], false);
    assert_eq!(members(&json["tokens"][0]), TOKEN);
    assert_eq!(json["tokens"][0]["name"], "second");
    let id = json["tokens"][1]["id"].as_str().unwrap();
    folder.run(&["token", "revoke", id]).ok().stdout_has("first");

    let names = |json: &Value| -> Vec<_> {
        let tokens = json["tokens"].as_array().unwrap().iter();
        tokens.map(|token| format!("{} {}", token["name"], token["state"])).collect()
    };
    assert_eq!(names(&list(&folder, &[])), [r#""second" "living""#]);
    assert_eq!(names(&list(&folder, &["--ended"])), [r#""second" "living""#, r#""first" "revoked""#]);

    let table = folder.run(&["token", "list", "--user", "ada@example.com", "--ended"]).ok();
    assert!(table.stdout.starts_with("ID "), "{table:#?}");
    table.stdout_has("STATE").stdout_has("revoked").stdout_has("in 364 days").stdout_has("never");
}

#[test]
fn list_says_when_there_are_more() {
    let folder = Folder::with_ada();
    for _ in 0..3 {
        create(&folder, &["--name", "x", "--scope", "a"]).ok();
    }
    let args = ["token", "list", "--user", "ada@example.com", "--limit", "2"];
    folder.run(&args).ok().stderr_has("--limit");
    assert_eq!(list(&folder, &["--limit", "2"])["more"], true);
    assert_eq!(list(&folder, &["--limit", "3"])["more"], false);
}

#[test]
fn list_of_no_tokens_is_told() {
    let folder = Folder::with_ada();
    folder.run(&["token", "list", "--user", "ada@example.com"]).ok().stdout_has("has no living tokens");
    assert_eq!(list(&folder, &[]), json!({ "tokens": [], "more": false }));
}

#[test]
fn revoke_by_id_ends_that_token_alone_and_only_once() {
    let folder = Folder::with_ada();
    folder.add_user("bob@example.com");
    let (token, other) = (folder.token(&[]), folder.token(&[]));
    let id = list(&folder, &[])["tokens"][1]["id"].as_str().unwrap().to_owned();

    let json = folder.run(&["token", "revoke", &id, "--json"]).ok().json();
    assert_eq!(json, json!({ "revoked": 1, "id": id, "email": "ada@example.com" }));
    folder.pipe(&["token", "verify"], &token).says_no();
    folder.pipe(&["token", "verify"], &other).ok();
    folder.run(&["token", "revoke", &id]).fails(1).stderr_has("revoked already");
}

#[test]
fn revoke_of_an_unknown_id_is_a_no_and_of_no_id_a_misuse_that_repeats_nothing() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    let unknown = "00000000-0000-4000-8000-000000000000";
    folder.run(&["token", "revoke", unknown]).fails(1).stderr_has("there is no token");
    for id in [&token, "1", "", "{00000000-0000-4000-8000-000000000000}", "' OR 1=1 --"] {
        let ran = folder.run(&["token", "revoke", id]).fails(2);
        assert!(!ran.stderr.contains(&token), "{ran:#?}");
    }
    folder.pipe(&["token", "verify"], &token).ok();
}

#[test]
fn revoke_of_a_deleted_owners_token_says_it_is_dead() {
    let folder = Folder::with_ada();
    folder.token(&[]);
    let id = list(&folder, &[])["tokens"][0]["id"].as_str().unwrap().to_owned();
    folder.run(&["user", "delete", "ada@example.com", "--yes"]).ok();
    folder.run(&["token", "revoke", &id]).fails(1).stderr_has("dead already");
}

#[test]
fn revoke_all_asks_first_and_says_how_many() {
    let folder = Folder::with_ada();
    let tokens = [folder.token(&[]), folder.token(&[])];
    let all = ["token", "revoke", "--user", "ada@example.com", "--all"];
    folder.run(&all).fails(2).stderr_has("--yes");
    folder.run(&all[..4]).fails(2).stderr_has("--all");
    folder.run(&["token", "revoke", "--all", "--yes"]).fails(2).stderr_has("--user");
    folder.run(&["token", "revoke"]).fails(2);
    let json = folder.run(&[&all[..], &["--yes", "--json"]].concat()).ok().json();
    assert_eq!(json, json!({ "revoked": 2, "email": "ada@example.com" }));
    for token in tokens {
        folder.pipe(&["token", "verify"], &token).says_no();
    }
    folder.run(&[&all[..], &["--yes"]].concat()).ok().stdout_has("ended no tokens");
}
