use rustix::process::Signal;
use serde_json::json;

use crate::folder::Folder;

const PASSWORD: &str = "canary-in-the-coal-mine";
const WRONG_PASSWORD: &str = "cuckoo-in-the-clock-tower";

/// In raw, hex, base64 and percent form.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes: Vec<_> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let (hex, percent) = (bytes.concat(), format!("%{}", bytes.join("%")));
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex, percent.to_uppercase(), percent];
    forms.extend(base64_cores(secret.as_bytes()));
    forms.into_iter().map(String::into_bytes).collect()
}

/// The part of its base64 that does not depend on what stands before and behind, for each of the three alignments.
fn base64_cores(secret: &[u8]) -> impl Iterator<Item = String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..3).map(|skip| {
        let groups = secret[skip..].chunks_exact(3);
        groups
            .flat_map(|group| {
                let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
                [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize]))
            })
            .collect()
    })
}

#[track_caller]
fn is_free_of(bytes: &[u8], secret: &str, place: &str) {
    for form in forms(secret) {
        let found = bytes.windows(form.len()).any(|window| window == form);
        assert!(!found, "a secret is in {place}, as {}", String::from_utf8_lossy(&form));
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    for form in forms(PASSWORD) {
        let hidden = [b"before ", form.as_slice(), b" behind"].concat();
        let found = std::panic::catch_unwind(|| is_free_of(&hidden, PASSWORD, "a test"));
        assert!(found.is_err(), "{}", String::from_utf8_lossy(&form));
    }
}

#[test]
fn no_secret_is_in_the_files_or_in_the_log_at_trace() {
    let folder = Folder::new();
    let trace = [("RUST_LOG", "trace")];
    let mut said = Vec::new();
    let mut pipe = |args: &[&str], stdin: &str| {
        let mut command = folder.command(args);
        command.envs(trace);
        let ran = crate::folder::Ran::piped(&mut command, stdin.as_bytes());
        said.extend(ran.stderr.as_bytes());
        ran
    };
    pipe(&["user", "add", "ada@example.com", "--password-stdin"], PASSWORD).ok();
    let create = ["token", "create", "--user", "ada@example.com", "--name", "x", "--scope", "*"];
    let token = pipe(&create, "").ok().stdout.trim_end().to_owned();
    pipe(&["token", "verify"], &token).ok();

    let server = folder.serve(&[], &trace);
    assert!(server.takes(&token));
    let login = |password: &str| {
        let body = json!({ "email": "ada@example.com", "password": password }).to_string();
        server.request("POST", "/v1/login", None, &body)
    };
    let second = login(PASSWORD).1["token"].as_str().unwrap().to_owned();
    assert_eq!(login(WRONG_PASSWORD).0, 401);
    // While the server runs, part of it is in the write-ahead log.
    let running = folder.all_bytes();
    server.stop(Signal::TERM);
    pipe(&["user", "password", "ada@example.com", "--password-stdin"], WRONG_PASSWORD).ok();
    assert_eq!(pipe(&["token", "verify"], &token).status, 1);

    assert!(folder.log().contains("login_succeeded"), "{}", folder.log());
    for secret in [PASSWORD, WRONG_PASSWORD, &token[3..], &second[3..]] {
        is_free_of(&running, secret, "the files of a running server, with its log");
        is_free_of(&folder.all_bytes(), secret, "the files, with the server's log");
        is_free_of(&said, secret, "stderr");
    }
}
