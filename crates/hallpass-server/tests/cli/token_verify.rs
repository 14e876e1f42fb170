use std::{sync::Arc, time::Duration};

use hallpass::{
    Clock, EmailAddress, Guard, Purpose, SystemClock,
    account::{Account, Accounts},
    testing::FixedClock,
};
use hallpass_sqlite::{Options, SqliteStore};
use serde_json::{Value, json};

use crate::folder::{Folder, members};

fn verdict(folder: &Folder, text: &str) -> Value {
    let ran = folder.pipe(&["token", "verify", "--json"], text);
    let json = ran.json();
    assert_eq!(ran.status, i32::from(json["good"] != true), "{ran:#?}");
    assert_eq!(ran.stderr, "", "{ran:#?}");
    json
}

/// What is said of a token that is not good: the reason and the explanation.
#[track_caller]
fn refusal(folder: &Folder, text: &str) -> (String, String) {
    let json = verdict(folder, text);
    assert_eq!(members(&json), ["at", "explanation", "good", "reason"]);
    let explanation = json["explanation"].as_str().unwrap();
    let ran = folder.pipe(&["token", "verify"], text).says_no();
    assert!(ran.stdout.starts_with("This token is not good. It "), "{ran:#?}");
    assert!(!ran.stdout.contains(text.trim()), "{ran:#?}");
    (json["reason"].as_str().unwrap().to_owned(), explanation.to_owned())
}

/// A guard on the folder's database, at a time of our own, with Ada's account.
fn guard_at(folder: &Folder, clock: Arc<dyn Clock>, purpose: Purpose) -> (Guard<Accounts>, Account) {
    let store = Arc::new(SqliteStore::open(folder.database(), Options::command_line()).unwrap());
    let accounts = Accounts::new(store.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ada = EmailAddress::parse("ada@example.com").unwrap();
    let ada = runtime.block_on(accounts.find_by_email(&ada)).unwrap().unwrap();
    (Guard::builder(accounts, store, purpose).clock(clock).build(), ada)
}

fn generate(guard: &Guard<Accounts>, user: &Account, expires_in: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let token = runtime.block_on(async { guard.generate(user).name("test").expires_in(expires_in).await });
    token.unwrap().plain().expose().to_owned()
}

#[test]
fn a_good_token_is_good_with_or_without_a_newline() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    for text in [&token, &format!("{token}\n"), &format!("  {token}\r\n"), &format!("secret-token:{token}")] {
        let json = verdict(&folder, text);
        assert_eq!(members(&json), ["good", "token", "user"]);
        assert_eq!((&json["good"], &json["user"]["email"]), (&json!(true), &json!("ada@example.com")));
        assert_eq!(json["token"]["state"], "living");
    }
    let ran = folder.pipe(&["token", "verify"], &token).ok();
    assert!(!ran.stdout.contains(&token));
    ran.stdout_has("This token is good.").stdout_has("ada@example.com").stdout_has("in 364 days (");
}

#[test]
fn verifying_writes_nothing() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    folder.pipe(&["token", "verify"], &token).ok();
    folder.pipe(&["token", "verify"], &format!("{token}x")).says_no();
    let json = folder.run(&["token", "list", "--user", "ada@example.com", "--json"]).ok().json();
    assert_eq!(json["tokens"][0]["last_used_at"], json!(null));
}

#[test]
fn what_is_no_token_is_told_by_its_fault() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    let swapped = format!("{}{}", &token[..51], if token.ends_with('0') { '1' } else { '0' });
    for (text, part) in [
        (format!("Bearer {token}"), "blanks"),
        (format!("{token}\n{token}"), "blanks or lines"),
        (swapped, "checksum is wrong"),
        (token[..30].to_owned(), "wrong length"),
        ("x".repeat(71), "wrong length"),
        (format!("\"{token}\""), "letters, digits and `_` alone"),
        ("påssword".to_owned(), "letters, digits and `_` alone"),
    ] {
        let (reason, explanation) = refusal(&folder, &text);
        assert!(explanation.contains(part), "{text:?}: {explanation}");
        assert!(["not_a_token", "malformed_header"].contains(&reason.as_str()), "{text:?}: {reason}");
    }
}

#[test]
fn no_token_at_all_is_a_misuse() {
    let folder = Folder::with_ada();
    folder.run(&["token", "verify"]).fails(2).stderr_has("there is no token on stdin");
    folder.pipe(&["token", "verify"], "\n").fails(2);
}

#[test]
fn a_token_on_the_command_line_is_refused_and_not_repeated() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    for args in [
        &["token", "verify", &token][..],
        &["token", "verify", "--json", &token],
        &["token", &token],
        &["token", "list", "--user", "ada@example.com", &token],
        &["user", "list", &format!("--token={token}")],
        &[&token],
    ] {
        let ran = folder.pipe(args, &token).fails(2);
        assert!(!ran.stderr.contains(&token), "{ran:#?}");
    }
}

#[test]
fn an_unknown_token_is_told_as_unknown() {
    let (folder, elsewhere) = (Folder::with_ada(), Folder::with_ada());
    let (reason, explanation) = refusal(&folder, &elsewhere.token(&[]));
    assert_eq!(reason, "unknown");
    assert!(explanation.contains("another service or database"), "{explanation}");
}

#[test]
fn an_expired_token_is_told_when() {
    let folder = Folder::with_ada();
    let past = SystemClock.now().saturating_sub(Duration::from_hours(72));
    let clock = FixedClock::new();
    clock.set(past);
    let (guard, ada) = guard_at(&folder, Arc::new(clock), Purpose::api());
    let token = generate(&guard, &ada, "1 day");
    let json = verdict(&folder, &token);
    let died = past.checked_add(Duration::from_hours(24)).unwrap().to_string();
    assert_eq!((&json["reason"], &json["at"]), (&json!("expired"), &json!(died)));
    folder
        .pipe(&["token", "verify"], &token)
        .says_no()
        .stdout_has(&format!("It expired 2 days ago ({died})."));
}

#[test]
fn a_revoked_token_is_told_when() {
    let folder = Folder::with_ada();
    let token = folder.token(&[]);
    let list = folder.run(&["token", "list", "--user", "ada@example.com", "--json"]).ok().json();
    folder.run(&["token", "revoke", list["tokens"][0]["id"].as_str().unwrap()]).ok();
    let (reason, explanation) = refusal(&folder, &token);
    assert_eq!(reason, "revoked");
    assert!(explanation.starts_with("it was revoked "), "{explanation}");
    assert!(verdict(&folder, &token)["at"].is_string());
}

#[test]
fn a_token_that_its_owner_lost_is_told_why() {
    let folder = Folder::with_ada();
    let all = ["token", "revoke", "--user", "ada@example.com", "--all", "--yes"];

    let token = folder.token(&[]);
    folder.run(&all).ok();
    let (reason, explanation) = refusal(&folder, &token);
    assert_eq!(reason, "ended");
    assert!(explanation.contains("all of its owner's tokens were ended"), "{explanation}");

    let token = folder.token(&[]);
    folder.run(&["user", "disable", "ada@example.com"]).ok();
    assert!(refusal(&folder, &token).1.contains("was disabled"));

    folder.run(&["user", "delete", "ada@example.com", "--yes"]).ok();
    assert!(refusal(&folder, &token).1.contains("account was deleted"));
}

#[test]
fn row_3_a_token_of_another_purpose_or_prefix_is_told_so() {
    let folder = Folder::with_ada();
    let (reason, explanation) = refusal(&folder, &folder.token(&["--token-prefix", "acme"]));
    assert_eq!(reason, "wrong_purpose");
    assert!(explanation.contains("`acme_`") && explanation.contains("`hp_`"), "{explanation}");
    let acme = folder.token(&["--token-prefix", "acme"]);
    folder.pipe(&["token", "verify", "--token-prefix", "acme"], &acme).ok();

    let purpose = Purpose::confirm().prefix("hp").unwrap();
    let (guard, ada) = guard_at(&folder, Arc::new(SystemClock), purpose);
    let (reason, explanation) = refusal(&folder, &generate(&guard, &ada, "1 day"));
    assert_eq!(reason, "wrong_purpose");
    assert!(explanation.contains("another purpose: confirm"), "{explanation}");
}
