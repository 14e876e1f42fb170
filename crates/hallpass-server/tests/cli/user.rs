use serde_json::json;

use crate::{
    PASSWORD,
    folder::{Folder, Ran, members},
};

const ACCOUNT: [&str; 7] = ["confirmed_at", "created_at", "disabled_at", "email", "grants", "id", "state"];

#[test]
fn add_makes_the_database_and_an_account_that_can_log_in() {
    let folder = Folder::new();
    let ran = folder.pipe(&["user", "add", "Ada@Example.com", "--password-stdin"], PASSWORD).ok();
    assert_eq!(ran.stdout, "added ada@example.com\n");
    let server = folder.serve(&[], &[]);
    let login = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
    assert_eq!(server.request("POST", "/v1/login", None, &login).0, 200);
}

#[test]
fn add_json_has_the_account() {
    let folder = Folder::new();
    let args = ["user", "add", "ada@example.com", "--admin", "--password-stdin", "--json"];
    let ran = folder.pipe(&args, PASSWORD).ok();
    assert_eq!(ran.stderr, "");
    let json = ran.json();
    assert_eq!(members(&json), ["user"]);
    assert_eq!(members(&json["user"]), ACCOUNT);
    assert_eq!(json["user"]["email"], "ada@example.com");
    assert_eq!(json["user"]["grants"], json!(["admin"]));
    assert_eq!(json["user"]["state"], "active");
}

#[test]
fn add_drops_one_newline_of_the_password_and_no_more() {
    let folder = Folder::new();
    for (email, piped, password) in [
        ("a@example.com", format!("{PASSWORD}\n"), PASSWORD.to_owned()),
        ("b@example.com", format!("{PASSWORD}\r\n"), PASSWORD.to_owned()),
        ("c@example.com", format!("{PASSWORD}\n\n"), format!("{PASSWORD}\n")),
        ("d@example.com", format!("  {PASSWORD} "), format!("  {PASSWORD} ")),
    ] {
        folder.pipe(&["user", "add", email, "--password-stdin"], &piped).ok();
        let server = folder.serve(&[], &[]);
        let login = json!({ "email": email, "password": password }).to_string();
        assert_eq!(server.request("POST", "/v1/login", None, &login).0, 200, "{piped:?}");
    }
}

#[test]
fn add_refuses_a_short_a_long_or_a_binary_password() {
    let folder = Folder::new();
    let add = ["user", "add", "ada@example.com", "--password-stdin"];
    folder.pipe(&add, "fourteen chars").fails(2).stderr_has("at least 15 characters");
    folder.pipe(&add, "").fails(2).stderr_has("at least 15 characters");
    folder.pipe(&add, &"a".repeat(4097)).fails(2).stderr_has("at most 4096 bytes");
    Ran::piped(&mut folder.command(&add), &[0xff; 20]).fails(2).stderr_has("UTF-8");
    assert_eq!(folder.run(&["user", "list", "--json"]).ok().json()["users"], json!([]));
}

#[test]
fn add_without_a_terminal_says_how_to_pipe_the_password() {
    Folder::new().run(&["user", "add", "ada@example.com"]).fails(2).stderr_has("--password-stdin");
}

#[test]
fn add_refuses_an_address_that_is_taken_or_none() {
    let folder = Folder::with_ada();
    let ran = folder.pipe(&["user", "add", "ADA@example.com", "--password-stdin"], PASSWORD).fails(1);
    ran.stderr_has("there is an account ada@example.com already").stderr_has("user password");
    for email in ["", "ada", "a b@example.com", "a@b@c.example", "a\r\n@example.com"] {
        folder
            .pipe(&["user", "add", email, "--password-stdin"], PASSWORD)
            .fails(2)
            .stderr_has("name@example.com");
    }
}

#[test]
fn list_shows_accounts_by_address_with_their_state() {
    let folder = Folder::with_ada();
    folder.pipe(&["user", "add", "zoe@example.com", "--admin", "--password-stdin"], PASSWORD).ok();
    folder.add_user("bob@example.com");
    folder.run(&["user", "disable", "bob@example.com"]).ok();

    let ran = folder.run(&["user", "list"]).ok();
    let rows: Vec<Vec<_>> =
        ran.stdout.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(
        rows,
        [
            ["EMAIL", "STATE", "GRANTS"],
            ["ada@example.com", "active", "-"],
            ["bob@example.com", "disabled", "-"],
            ["zoe@example.com", "active", "admin"]
        ]
    );

    let json = folder.run(&["user", "list", "--json"]).ok().json();
    assert_eq!(members(&json), ["next_after", "users"]);
    assert_eq!(json["next_after"], json!(null));
    assert_eq!(members(&json["users"][0]), ACCOUNT);
    assert_eq!(json["users"][1]["state"], "disabled");
}

#[test]
fn a_list_whose_reader_went_away_ends_quietly() {
    let folder = Folder::with_ada();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let output = folder.command(&["user", "list"]).stdout(closed).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]));
}

#[test]
fn list_goes_on_where_it_ended() {
    let folder = Folder::with_ada();
    folder.add_user("bob@example.com");
    folder.add_user("zoe@example.com");
    let first = folder.run(&["user", "list", "--limit", "2", "--json"]).ok().json();
    assert_eq!(first["next_after"], "bob@example.com");
    folder.run(&["user", "list", "--limit", "2"]).ok().stderr_has("--after bob@example.com");
    let rest = folder.run(&["user", "list", "--after", "bob@example.com", "--json"]).ok().json();
    assert_eq!(rest["users"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next_after"], json!(null));
}

#[test]
fn list_of_nobody_says_how_to_begin() {
    let folder = Folder::new();
    folder.run(&["migrate"]).ok();
    folder.run(&["user", "list"]).ok().stdout_has("no accounts").stderr_has("hallpass user add");
    assert_eq!(folder.run(&["user", "list", "--json"]).ok().json()["users"], json!([]));
}

#[test]
fn disable_and_enable_leave_old_tokens_dead() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    folder.pipe(&["token", "verify"], &token).ok();

    let json = folder.run(&["user", "disable", "ada@example.com", "--json"]).ok().json();
    assert_eq!(json, json!({ "disabled": true, "email": "ada@example.com", "revoked": 1 }));
    folder.pipe(&["token", "verify"], &token).says_no();
    folder.run(&["user", "disable", "ada@example.com"]).ok().stdout_has("disabled already");

    let json = folder.run(&["user", "enable", "ada@example.com", "--json"]).ok().json();
    assert_eq!(json, json!({ "enabled": true, "email": "ada@example.com" }));
    folder.pipe(&["token", "verify"], &token).says_no();
    folder.run(&["user", "enable", "ada@example.com"]).ok().stdout_has("enabled already");
    folder.token(&[]);
}

#[test]
fn delete_asks_first_and_frees_the_address() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    folder.run(&["user", "delete", "ada@example.com"]).fails(2).stderr_has("--yes");
    folder.pipe(&["user", "delete", "ada@example.com"], "y\n").fails(2).stderr_has("--yes");
    let json = folder.run(&["user", "delete", "ada@example.com", "--yes", "--json"]).ok().json();
    assert_eq!(json, json!({ "deleted": true, "email": "ada@example.com", "revoked": 1 }));
    folder.run(&["user", "delete", "ada@example.com", "--yes"]).fails(1);

    folder.add_user("ada@example.com");
    folder.pipe(&["token", "verify"], &token).says_no();
}

#[test]
fn password_is_changed_and_ends_all_tokens() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    let args = ["user", "password", "ada@example.com", "--password-stdin", "--json"];
    folder.pipe(&args, "short").fails(2);
    folder.pipe(&["token", "verify"], &token).ok();

    let json = folder.pipe(&args, "another horse, another battery").ok().json();
    assert_eq!(json, json!({ "changed": true, "email": "ada@example.com", "revoked": 1 }));
    folder.pipe(&["token", "verify"], &token).says_no();

    let server = folder.serve(&[], &[]);
    let status = |password: &str| {
        let login = json!({ "email": "ada@example.com", "password": password }).to_string();
        server.request("POST", "/v1/login", None, &login).0
    };
    assert_eq!((status(PASSWORD), status("another horse, another battery")), (401, 200));
}

#[test]
fn an_unknown_account_is_a_no_that_says_where_to_look() {
    let folder = Folder::with_ada();
    for args in [
        &["user", "disable", "bob@example.com"][..],
        &["user", "enable", "bob@example.com"],
        &["user", "delete", "bob@example.com", "--yes"],
        &["user", "password", "bob@example.com", "--password-stdin"],
        &["token", "create", "--user", "bob@example.com", "--name", "x", "--scope", "x"],
        &["token", "list", "--user", "bob@example.com"],
        &["token", "revoke", "--user", "bob@example.com", "--all", "--yes"],
    ] {
        let ran = folder.run(args).fails(1);
        ran.stderr_has("there is no account bob@example.com").stderr_has("hallpass user list");
    }
}
