use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;

use crate::{PASSWORD, folder::Folder};

#[test]
fn the_ready_line_is_exact_and_names_the_real_port() {
    let folder = Folder::with_ada();
    let server = folder.serve(&[], &[]);
    let port = server.address.strip_prefix("127.0.0.1:").unwrap();
    assert_ne!(port, "0");
    assert_eq!(server.ready_line, format!("hallpass listening on http://127.0.0.1:{port}\n"));
    assert_eq!(server.request("GET", "/healthz", None, "").0, 200);
    assert_eq!(server.request("GET", "/readyz", None, "").0, 200);
}

#[test]
fn with_json_the_ready_line_is_json_and_so_is_the_log() {
    let folder = Folder::with_ada();
    let server = folder.serve(&["--json"], &[]);
    server.request("GET", "/v1/me", None, "");
    server.stop(Signal::TERM);
    let log = folder.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn the_first_start_makes_the_database_and_says_how_to_make_an_account() {
    let folder = Folder::new();
    let server = folder.serve(&["--database", "sqlite:other.db"], &[]);
    assert!(folder.path().join("other.db").exists());
    let hint = "hallpass --database 'sqlite:other.db' user add you@example.com --admin";
    assert!(folder.log().contains(hint), "{}", folder.log());
    drop(server);
    folder
        .pipe(
            &["user", "add", "a@example.com", "--password-stdin", "--database", "sqlite:other.db"],
            PASSWORD,
        )
        .ok();
    let _server = folder.serve(&["--database", "sqlite:other.db"], &[]);
    assert!(!folder.log().contains("user add"), "{}", folder.log());
}

#[test]
fn sigterm_and_sigint_end_it_with_0() {
    let folder = Folder::with_ada();
    for signal in [Signal::TERM, Signal::INT] {
        let server = folder.serve(&[], &[]);
        let status = server.stop(signal);
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", folder.log());
        assert!(folder.log().contains("stopped"), "{}", folder.log());
    }
}

#[test]
fn a_last_use_is_written_before_the_end() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    let server = folder.serve(&[], &[]);
    assert!(server.takes(&token));
    server.stop(Signal::TERM);
    let list = folder.run(&["token", "list", "--user", "ada@example.com", "--json"]).ok().json();
    assert!(list["tokens"][0]["last_used_at"].is_string(), "{list}");
}

#[test]
fn the_command_line_works_on_the_file_of_a_running_server() {
    let folder = Folder::with_ada();
    let server = folder.serve(&[], &[]);
    let token = folder.token(&[]);
    assert!(server.takes(&token));

    let list = folder.run(&["token", "list", "--user", "ada@example.com", "--json"]).ok().json();
    folder.run(&["token", "revoke", list["tokens"][0]["id"].as_str().unwrap()]).ok();
    assert!(!server.takes(&token));

    let other = folder.token(&[]);
    assert!(server.takes(&other));
    folder.run(&["user", "disable", "ada@example.com"]).ok();
    assert!(!server.takes(&other));
    folder.run(&["user", "enable", "ada@example.com"]).ok();
    assert!(!server.takes(&other));

    folder.add_user("bob@example.com");
    let login = json!({ "email": "bob@example.com", "password": PASSWORD }).to_string();
    assert_eq!(server.request("POST", "/v1/login", None, &login).0, 200);
    folder.run(&["prune", "--older-than", "0"]).ok().stdout_has("pruned 2 tokens");
    folder.run(&["doctor"]).ok();
}

#[test]
fn many_command_lines_at_once_beside_a_server_lose_nothing() {
    let folder = Folder::with_ada();
    let server = folder.serve(&[], &[]);
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let made: Vec<_> = (0..8).map(|_| scope.spawn(|| folder.token(&[]))).collect();
        made.into_iter().map(|made| made.join().unwrap()).collect()
    });
    assert!(tokens.iter().all(|token| server.takes(token)));
}

#[test]
fn the_settings_of_tokens_reach_the_server() {
    let folder = Folder::with_ada();
    let settings =
        [("HALLPASS_TOKEN_PREFIX", "acme"), ("HALLPASS_TOKEN_LIFE", "1 hour"), ("HALLPASS_TOKEN_CAP", "1")];
    let server = folder.serve(&["--token-life-max", "2 hours"], &settings);
    let login = |more: serde_json::Value| {
        let mut body = json!({ "email": "ada@example.com", "password": PASSWORD });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.request("POST", "/v1/login", None, &body.to_string())
    };
    assert_eq!(login(json!({ "expires_in": "3 hours" })).0, 422);
    let (status, answer) = login(json!({}));
    assert_eq!((status, &answer["expires_in"]), (200, &json!(3600)));
    assert!(answer["token"].as_str().unwrap().starts_with("acme_"));
    assert_ne!(login(json!({})).0, 200);
}

#[test]
fn a_port_in_use_is_out_of_reach_and_no_database_is_made() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = folder.run(&["serve", "--listen", &address]).fails(3);
    ran.stderr_has(&format!("cannot listen on {address}")).stderr_has("--listen 127.0.0.1:");
    assert!(!folder.database().exists());
}

#[test]
fn an_address_of_another_machine_is_out_of_reach() {
    // TEST-NET-1 of RFC 5737.
    Folder::new().run(&["serve", "--listen", "192.0.2.1:7700"]).fails(3).stderr_has("no such address");
}

#[test]
fn a_file_that_is_no_database_is_out_of_reach_and_left_alone() {
    let folder = Folder::new();
    let text = "a letter to somebody, long enough to be taken for a page of a database. ".repeat(99);
    folder.write("hallpass.db", &text);
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["user", "list"], &["migrate"]] {
        folder
            .run(args)
            .fails(3)
            .stderr_has("is not an SQLite database")
            .stderr_has("--database sqlite:PATH");
    }
    assert_eq!(std::fs::read_to_string(folder.database()).unwrap(), text);
}

#[test]
fn a_folder_that_cannot_be_written_or_is_not_there_is_out_of_reach() {
    let folder = Folder::new();
    folder.write("file", "");
    for (url, part) in [
        ("sqlite:nowhere/hallpass.db", "mkdir -p"),
        ("sqlite:file/hallpass.db", "file"),
        // A folder that even root cannot write to.
        ("sqlite:/proc/hallpass.db", "/proc"),
        ("sqlite:/sys/hallpass.db", "/sys"),
        ("sqlite:/", "is not a file"),
        ("sqlite:.", "is not a file"),
    ] {
        folder.run(&["serve", "--listen", "127.0.0.1:0", "--database", url]).fails(3).stderr_has(part);
        folder.run(&["user", "list", "--database", url]).fails(3);
    }
}

#[test]
fn the_log_level_is_obeyed() {
    let folder = Folder::with_ada();
    let server = folder.serve(&["--log", "off"], &[]);
    server.request("GET", "/v1/me", None, "");
    server.stop(Signal::TERM);
    assert_eq!(folder.log(), "");
}

#[test]
fn with_few_files_it_takes_fewer_connections_and_says_so() {
    let folder = Folder::with_ada();
    let binary = env!("CARGO_BIN_EXE_hallpass");
    let script = format!("ulimit -n 200; exec '{binary}' serve --listen 127.0.0.1:0");
    let server = folder.serve_by(std::process::Command::new("sh").args(["-c", &script]));
    assert!(folder.log().contains("few files may be open"), "{}", folder.log());
    // More than it takes at once, and no more than the kernel lets wait.
    let held: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(&server.address).unwrap()).collect();
    drop(held);
    assert_eq!(server.request("GET", "/readyz", None, "").0, 200);
}
