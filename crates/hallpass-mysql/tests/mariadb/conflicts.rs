//! Transactions in each other's way: bounded retries, nothing twice, nothing half.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallpass::{
    EmailAddress, TokenStore, UserId,
    account::{Account, AccountStore, CreateError},
    store::{InsertError, Touch},
};
use hallpass_mysql::{MysqlStore, Options};
use hallpass_testbed::MariaDb;

use crate::sample::{NOW, find, later, token, user};

async fn store(about: &str) -> (Arc<MysqlStore>, String) {
    let url = MariaDb::shared().unwrap().database(about).unwrap();
    (Arc::new(MysqlStore::connect(&url, Options::new()).await.unwrap()), url)
}

/// From now on so many of a hundred changes of this kind fail as a deadlock does.
fn sabotage(url: &str, when: &str, table: &str, percent: u32) {
    let name = format!("{}_{table}", when.to_lowercase());
    let trigger = format!(
        "DELIMITER //\nCREATE OR REPLACE TRIGGER sabotage_{name} BEFORE {when} ON {table} FOR EACH ROW
         BEGIN IF RAND() * 100 < {percent} THEN
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found';
         END IF; END //"
    );
    MariaDb::sql_at(url, &trigger).unwrap();
}

fn count(url: &str, table: &str) -> String {
    MariaDb::sql_at(url, &format!("SELECT COUNT(*) FROM {table}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn deadlocks_in_five_of_a_hundred_are_tried_again_and_leave_no_duplicate() {
    let (store, url) = store("deadlocks").await;
    for (when, table) in [
        ("INSERT", "hallpass_tokens"),
        ("UPDATE", "hallpass_tokens"),
        ("INSERT", "hallpass_owners"),
        ("UPDATE", "hallpass_owners"),
        ("INSERT", "hallpass_accounts"),
    ] {
        sabotage(&url, when, table, 5);
    }
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..50 {
                    let (hash, record) = token(&format!("user {task} {number}"));
                    let cap = (number % 2 == 0).then_some(1);
                    store.insert(&hash, &record, cap).await.unwrap();
                    assert!(store.revoke(&hash, NOW).await.unwrap());
                    assert!(!store.revoke(&hash, later(1)).await.unwrap());
                    let email = EmailAddress::parse(&format!("u{task}n{number}@example.com")).unwrap();
                    let account = Account::new(UserId::random().unwrap(), email, NOW);
                    store.create(&account, None).await.unwrap();
                    assert_eq!(store.disable(&account.id, NOW).await.unwrap(), Some(0));
                    let raised = find(&*store, &hash).await.unwrap().unwrap().epoch.number();
                    assert_eq!(raised, 0);
                    store.revoke_all(&record.user, NOW).await.unwrap();
                    // Once, and not as often as it was tried.
                    assert_eq!(store.epoch(&record.user).await.unwrap().number(), 1);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count(&url, "hallpass_tokens"), "400");
    assert_eq!(count(&url, "hallpass_accounts"), "400");
    assert_eq!(count(&url, "hallpass_owners"), "800");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_conflict_that_does_not_end_is_an_outage_in_time_and_leaves_nothing() {
    let (store, url) = store("hopeless").await;
    sabotage(&url, "INSERT", "hallpass_tokens", 101);
    sabotage(&url, "INSERT", "hallpass_accounts", 101);
    for cap in [None, Some(1)] {
        let started = Instant::now();
        let (hash, record) = token("ada");
        let refused = store.insert(&hash, &record, cap).await.unwrap_err();
        assert!(matches!(refused, InsertError::Unavailable(_)), "{refused:?}");
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    let email = EmailAddress::parse("ada@example.com").unwrap();
    let account = Account::new(UserId::random().unwrap(), email, NOW);
    let refused = store.create(&account, None).await.unwrap_err();
    assert!(matches!(refused, CreateError::Unavailable(_)), "{refused:?}");
    for table in ["hallpass_tokens", "hallpass_accounts", "hallpass_owners"] {
        assert_eq!(count(&url, table), "0", "{table}");
    }
}

/// Otherwise it would hold the gaps between rows too, and so the whole table.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// A client that holds a transaction open until its pipe is closed.
fn holding(url: &str, statements: &str) -> std::process::Child {
    let (user_at, database) = url.strip_prefix("mysql://").unwrap().split_once('/').unwrap();
    let (name, address) = user_at.split_once('@').unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let mut client = std::process::Command::new("mariadb")
        .args(["--no-defaults", "--protocol=TCP", "--batch", "--skip-column-names", "--unbuffered"])
        .args(["--host", host, "--port", port, "--user", name, "--database", database])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tell(&mut client, &format!("{ISOLATION}; BEGIN; {statements} SELECT 'held';"));
    heard(&mut client, "held");
    client
}

fn tell(client: &mut std::process::Child, statements: &str) {
    use std::io::Write as _;
    let stdin = client.stdin.as_mut().unwrap();
    writeln!(stdin, "{statements}").unwrap();
    stdin.flush().unwrap();
}

fn heard(client: &mut std::process::Child, word: &str) {
    use std::io::Read as _;
    let (mut all, mut byte) = (String::new(), [0]);
    while !all.contains(word) {
        client.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        all.push(char::from(byte[0]));
    }
}

fn released(mut client: std::process::Child) {
    tell(&mut client, "ROLLBACK;");
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_row_that_another_holds_is_an_outage_in_time_and_done_when_it_is_free() {
    let (store, url) = store("held").await;
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    store.revoke_all(&user("bob"), NOW).await.unwrap();
    let held = holding(
        &url,
        "UPDATE hallpass_tokens SET name = 'x'; UPDATE hallpass_owners SET raised_at = raised_at + 1;",
    );
    let started = Instant::now();
    let refused = store.revoke(&hash, NOW).await;
    assert!(refused.is_err() && started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    // Reading waits for nobody, and others' rows are free.
    assert!(find(&*store, &hash).await.unwrap().is_some());
    let (other, record) = token("eve");
    store.insert(&other, &record, Some(3)).await.unwrap();
    assert!(store.revoke(&other, NOW).await.unwrap());
    released(held);
    // What was given up was not done later behind our back, or was: either way it is done now.
    store.revoke(&hash, NOW).await.unwrap();
    assert!(find(&*store, &hash).await.unwrap().unwrap().record.revoked_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_real_deadlock_is_lived_through() {
    let (store, url) = store("real").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (hash, record) = token("ada");
        store.insert(&hash, &record, None).await.unwrap();
        ids.push((record.id, hash));
    }
    ids.sort_unstable();
    let (hash, record) = token("bob");
    store.insert(&hash, &record, None).await.unwrap();
    let row = |index: usize| {
        let hex = ids[index].0.to_string().replace('-', "");
        format!("UPDATE hallpass_tokens SET name = 'x' WHERE id = UNHEX('{hex}');")
    };
    // It has changed more rows, so the database lets it go on and ends the other.
    let more =
        "INSERT INTO hallpass_owners (user_id, epoch) SELECT CONCAT('filler ', seq), 0 FROM seq_1_to_100;";
    let mut other = holding(&url, &format!("{more} {}", row(1)));
    let touching = tokio::spawn({
        let store = Arc::clone(&store);
        let touches: Vec<_> = ids.iter().map(|(id, _)| Touch { id: *id, at: later(5) }).collect();
        async move { store.touch(&touches).await }
    });
    // Holds the first, waits for the second.
    let waits = "SELECT COUNT(*) FROM information_schema.innodb_lock_waits";
    while MariaDb::shared().unwrap().sql(waits).unwrap() == "0" {
        assert!(!touching.is_finished());
    }
    tell(&mut other, &format!("{} COMMIT; SELECT 'through';", row(0)));
    heard(&mut other, "through");
    touching.await.unwrap().unwrap();
    released(other);
    for (_, hash) in &ids {
        let record = find(&*store, hash).await.unwrap().unwrap().record;
        assert_eq!((record.last_used_at, record.name.as_deref()), (Some(later(5)), Some("x")));
    }
}
