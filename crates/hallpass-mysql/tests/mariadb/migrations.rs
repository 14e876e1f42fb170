//! Migrations: by many at once, cut off anywhere, by hand.

use hallpass::{TokenStore, naming::Naming};
use hallpass_mysql::{MysqlStore, OpenError, Options, inspect, migrate, migrations, script};
use hallpass_testbed::{Fault, MariaDb, Proxy, Server};

use crate::sample::token;

/// The whole schema and what is noted, but for when.
fn schema(url: &str) -> String {
    let tables = MariaDb::sql_at(url, "SHOW TABLES").unwrap();
    let mut whole = String::new();
    for table in tables.lines() {
        whole.push_str(&MariaDb::sql_at(url, &format!("SHOW CREATE TABLE {table}")).unwrap());
    }
    whole + &MariaDb::sql_at(url, "SELECT version, name, HEX(checksum) FROM hallpass_migrations").unwrap()
}

fn database(about: &str) -> String {
    MariaDb::shared().unwrap().database(about).unwrap()
}

/// What a migration leaves behind on an empty database.
async fn migrated() -> String {
    let url = database("whole");
    migrate(&url, &Options::new()).await.unwrap();
    schema(&url)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn eight_at_once_migrate_an_empty_database_once() {
    let url = database("raced");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { migrate(&url, &Options::new()).await })
        })
        .collect();
    let mut ran = Vec::new();
    for task in tasks {
        ran.extend(task.await.unwrap().unwrap());
    }
    assert_eq!(ran, migrations());
    assert_eq!(schema(&url), migrated().await);
    assert_eq!(migrate(&url, &Options::new()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_migration_that_was_killed_between_any_two_statements_is_made_whole_by_the_next() {
    let expected = migrated().await;
    let printed = script(&Options::new()).unwrap();
    let statements: Vec<_> = printed.split_inclusive(";\n").collect();
    assert!(statements.len() > 5);
    for killed_after in 0..=statements.len() {
        let url = database("killed");
        let before: String = statements.iter().copied().take(killed_after).collect();
        if killed_after > 0 {
            MariaDb::sql_at(&url, &before).unwrap();
        }
        let ran = migrate(&url, &Options::new()).await.unwrap();
        assert_eq!(ran.is_empty(), killed_after == statements.len(), "after {killed_after}");
        assert_eq!(schema(&url), expected, "after {killed_after} of {}", statements.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_migration_whose_connection_breaks_anywhere_leaves_no_lock_and_is_made_whole() {
    let expected = migrated().await;
    let proxy = Proxy::start(MariaDb::shared().unwrap().address()).unwrap();
    let url = database("cut");
    let (mut passed, mut cut) = (0, 0);
    loop {
        // A little further each time; what was made before is still there.
        proxy.set(Fault::Truncate(passed)).unwrap();
        passed += 40;
        match migrate(&proxy.url(&url), &Options::new()).await {
            Ok(_) => break,
            Err(_) => cut += 1,
        }
        assert!(passed < 10_000, "it never ends");
    }
    assert!(cut > 10, "cut {cut} times");
    assert_eq!(schema(&url), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn the_printed_sql_does_what_a_migration_does_and_may_be_run_twice() {
    let url = database("printed");
    let printed = script(&Options::new()).unwrap();
    for _ in 0..2 {
        MariaDb::sql_at(&url, &printed).unwrap();
    }
    assert_eq!(schema(&url), migrated().await);
    let store = MysqlStore::connect(&url, Options::new().migrate(false)).await.unwrap();
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    assert_eq!(store.find(&hash).await.unwrap().unwrap().record, record);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_schema_that_this_program_did_not_make_is_refused_and_left_alone() {
    for (about, change, why) in [
        ("newer", "INSERT INTO hallpass_migrations VALUES (2, 'later', REPEAT('x', 32), 1)", "version 2"),
        ("changed", "UPDATE hallpass_migrations SET checksum = REPEAT('x', 32)", "changed by hand"),
        ("hole", "UPDATE hallpass_migrations SET version = 2", "not noted as run"),
    ] {
        let url = database(about);
        migrate(&url, &Options::new()).await.unwrap();
        MariaDb::sql_at(&url, change).unwrap();
        let before = schema(&url);
        for refused in [
            MysqlStore::connect(&url, Options::new()).await.unwrap_err(),
            MysqlStore::connect(&url, Options::new().migrate(false)).await.unwrap_err(),
            migrate(&url, &Options::new()).await.unwrap_err(),
            inspect(&url, &Options::new()).await.unwrap_err(),
        ] {
            assert!(matches!(&refused, OpenError::Schema { .. }), "{refused:?}");
            assert!(refused.to_string().contains(why), "{refused}");
        }
        assert_eq!(schema(&url), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn an_older_schema_is_refused_if_it_is_not_to_be_migrated() {
    let url = database("behind");
    let refused = MysqlStore::connect(&url, Options::new().migrate(false)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Behind { .. }), "{refused:?}");
    assert!(refused.to_string().contains("hallpass migrate"), "{refused}");
    assert_eq!(MariaDb::sql_at(&url, "SHOW TABLES").unwrap(), "");
    let seen = inspect(&url, &Options::new()).await.unwrap();
    assert_eq!((seen.pending, seen.flush_log_at_trx_commit, seen.read_only), (migrations(), 1, false));
    assert!(seen.version.contains("MariaDB") && seen.clock_ahead_micros.abs() < 1_000_000, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn two_applications_in_one_database_do_not_meet() {
    let url = database("shared");
    let named = |prefix| Options::new().naming(Naming::new().prefix(prefix).unwrap());
    let a = MysqlStore::connect(&url, named("a_")).await.unwrap();
    let b = MysqlStore::connect(&url, named("b_")).await.unwrap();
    let (hash, record) = token("ada");
    a.insert(&hash, &record, None).await.unwrap();
    assert!(b.find(&hash).await.unwrap().is_none());
    b.insert(&hash, &record, None).await.unwrap();
}
