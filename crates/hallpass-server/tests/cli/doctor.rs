use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use hallpass::{
    Clock, EmailAddress, SystemClock, UserId,
    account::{Account, AccountStore},
    testing::FixedClock,
};
use hallpass::{Guard, Purpose, account::Accounts};
use hallpass_sqlite::{Options, SqliteStore};
use serde_json::Value;

use crate::folder::{Folder, Ran, members};

/// The checks that are not ok, as `name state`.
fn not_ok(ran: &Ran) -> Vec<String> {
    let json = ran.json();
    let checks = json["checks"].as_array().unwrap().iter().filter(|check| check["state"] != "ok");
    let told = |check: &Value| {
        assert!(check["help"].as_str().is_some_and(|help| !help.is_empty()), "{check}");
        format!("{} {}", check["name"].as_str().unwrap(), check["state"].as_str().unwrap())
    };
    checks.map(told).collect()
}

#[test]
fn all_is_well_on_a_new_database_with_an_account() {
    let folder = Folder::with_ada();
    let ran = folder.run(&["doctor", "--json"]).ok();
    assert_eq!(not_ok(&ran), Vec::<String>::new());
    let json = ran.json();
    assert_eq!(members(&json), ["checks", "state"]);
    assert_eq!(json["state"], "ok");
    let names: Vec<_> =
        json["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in [
        "settings",
        "listen",
        "clock",
        "database",
        "schema",
        "journal mode",
        "writing",
        "integrity",
        "permissions",
        "disk",
        "accounts",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert_eq!(members(&json["checks"][0]), ["found", "help", "name", "state"]);
    folder.run(&["doctor"]).ok().stdout_has("ok    journal mode  wal");
}

#[test]
fn it_changes_nothing_and_makes_no_database() {
    let folder = Folder::new();
    let ran = folder.run(&["doctor", "--json"]);
    assert_eq!(ran.status, 3, "{ran:#?}");
    assert_eq!(not_ok(&ran), ["database fail"]);
    assert!(!folder.database().exists());
}

#[test]
fn no_accounts_is_worth_a_look() {
    let folder = Folder::new();
    folder.run(&["migrate"]).ok();
    assert_eq!(not_ok(&folder.run(&["doctor", "--json"]).ok()), ["accounts warn"]);
}

#[test]
fn a_file_for_everybody_is_to_be_mended() {
    let folder = Folder::with_ada();
    fs::set_permissions(folder.database(), PermissionsExt::from_mode(0o644)).unwrap();
    let ran = folder.run(&["doctor"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (1, ""));
    ran.stdout_has("fail  permissions").stdout_has("chmod 600");
}

#[test]
fn a_file_that_is_no_database_is_out_of_reach() {
    let folder = Folder::new();
    folder.write(
        "hallpass.db",
        "this is a text, and a long one, so that nobody takes it for a header of anything".repeat(99),
    );
    let ran = folder.run(&["doctor", "--json"]);
    assert_eq!(ran.status, 3);
    assert_eq!(not_ok(&ran), ["database fail"]);
}

#[test]
fn a_damaged_file_is_to_be_mended() {
    let folder = Folder::with_ada();
    let mut bytes = fs::read(folder.database()).unwrap();
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 64].fill(0xff);
    folder.write("hallpass.db", bytes);
    let ran = folder.run(&["doctor", "--json"]);
    assert_ne!(ran.status, 0);
    assert!(not_ok(&ran).contains(&"integrity fail".to_owned()), "{ran:#?}");
}

#[test]
fn bad_settings_are_to_be_mended() {
    let folder = Folder::with_ada();
    let ran = folder.run_with(&["doctor", "--json"], &[("HALLPASS_LISTEN", "nowhere")]);
    assert_eq!((ran.status, not_ok(&ran)), (1, vec!["settings fail".to_owned()]));
    let ran = folder.run_with(&["doctor", "--json"], &[("HALLPASS_TOKEN_LIFE", "long")]);
    assert_eq!((ran.status, not_ok(&ran)), (1, vec!["settings fail".to_owned()]));
    folder.write("hallpass.toml", "nonsense = 1");
    let ran = folder.run(&["doctor", "--json"]);
    assert_eq!((ran.status, not_ok(&ran)), (1, vec!["settings fail".to_owned()]));
}

#[test]
fn risky_settings_are_worth_a_look() {
    let folder = Folder::with_ada();
    let risky = [("HALLPASS_LISTEN", "0.0.0.0:7700"), ("HALLPASS_TOKEN_LIFE", "never")];
    let ran = folder.run_with(&["doctor", "--json"], &risky).ok();
    assert_eq!(not_ok(&ran), ["listen warn", "token life warn"]);
}

#[test]
fn a_row_from_the_future_is_a_wrong_clock() {
    let folder = Folder::with_ada();
    let store = Arc::new(SqliteStore::open(folder.database(), Options::command_line()).unwrap());
    let clock = Arc::new(FixedClock::new());
    clock.set(SystemClock.now().checked_add(Duration::from_hours(24)).unwrap());
    let guard =
        Guard::builder(Accounts::new(store.clone()), store.clone(), Purpose::api()).clock(clock).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let email = EmailAddress::parse("bob@example.com").unwrap();
        let bob = Account::new(UserId::random().unwrap(), email, SystemClock.now());
        store.create(&bob, None).await.unwrap();
        guard.generate(&bob).await.unwrap();
    });
    drop((guard, store));
    let ran = folder.run(&["doctor", "--json"]);
    assert_eq!((ran.status, not_ok(&ran)), (1, vec!["clock fail".to_owned()]));
}
