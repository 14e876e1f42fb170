//! Opening and migrating files, good and bad.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must stop"
)]

mod fixture;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Barrier,
    thread,
};

use fixture::{account, at, folder, token, user};
use hallpass::{TokenStore, account::AccountStore};
use hallpass_sqlite::{OpenError, Options, SqliteStore, inspect, migrate, migrations};
use rusqlite::Connection;

/// The environment variable that makes this test binary migrate a file and end.
const MIGRATE: &str = "HALLPASS_TEST_MIGRATE";

fn is_whole(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM hallpass_migrations"), 1);
    assert_eq!(
        count(
            "SELECT count(*) FROM sqlite_master
             WHERE name LIKE 'hallpass_%' AND type IN ('table', 'trigger') AND name <> 'hallpass_migrations'"
        ),
        6
    );
    assert_eq!(inspect(path).unwrap().pending, []);
}

#[test]
fn a_missing_file_is_made_whole() {
    let (_folder, path) = folder();
    assert_eq!(migrate(&path).unwrap(), migrations());
    is_whole(&path);
    assert_eq!(migrate(&path).unwrap(), []);
    assert_eq!(inspect(&path).unwrap().journal_mode, "wal");
}

#[cfg(unix)]
#[test]
fn a_new_file_is_for_its_owners_eyes_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder();
    let _store = SqliteStore::open(&path, Options::new()).unwrap();
    for beside in ["", "-wal", "-shm"] {
        let path = format!("{}{beside}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path}");
    }
}

#[test]
fn eight_threads_at_once_on_an_empty_file_migrate_it_once() {
    for _ in 0..5 {
        let (_folder, path) = folder();
        let start = Barrier::new(8);
        let ran: usize = thread::scope(|scope| {
            let migrating: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        migrate(&path).unwrap().len()
                    })
                })
                .collect();
            migrating.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(ran, 1);
        is_whole(&path);
    }
}

#[test]
fn eight_processes_at_once_on_an_empty_file_leave_it_whole() {
    let (_folder, path) = folder();
    let processes: Vec<_> = (0..8).map(|_| migrating_process(&path)).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    is_whole(&path);
}

#[test]
fn processes_killed_while_they_migrate_leave_it_whole_or_untouched() {
    for wait in 0..20 {
        let (_folder, path) = folder();
        let mut process = migrating_process(&path);
        // Whenever it is hit, even if never, the same must hold; so this wait makes no test flaky.
        thread::sleep(std::time::Duration::from_millis(wait));
        process.kill().unwrap();
        process.wait().unwrap();
        migrate(&path).unwrap();
        is_whole(&path);
    }
}

fn migrating_process(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_migrates", "--ignored"])
        .env(MIGRATE, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "it is run by the tests that need another process"]
fn the_process_that_migrates() {
    if let Some(path) = std::env::var_os(MIGRATE) {
        SqliteStore::open(path, Options::new()).unwrap();
    }
}

#[test]
fn a_power_cut_after_any_statement_of_a_migration_leaves_nothing_of_it() {
    let sql = migrations()[0].sql();
    // Each statement ends at the end of a line; those inside a trigger do not.
    let ends: Vec<_> =
        sql.match_indices(";\n").map(|(at, _)| at + 2).filter(|at| !in_trigger(sql, *at)).collect();
    assert!(ends.len() > 8);
    for end in ends {
        let (folder, path) = folder();
        let connection = Connection::open(&path).unwrap();
        // A cache of no pages writes what is not yet committed to the log.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA cache_size = 0; BEGIN IMMEDIATE;")
            .unwrap();
        connection.execute_batch(&sql[..end]).unwrap();
        // What a crash would leave behind.
        let crashed = folder.path().join("crashed.db");
        copy(&path, &crashed);
        copy(&beside(&path, "-wal"), &beside(&crashed, "-wal"));
        migrate(&crashed).unwrap();
        is_whole(&crashed);
    }
}

fn in_trigger(sql: &str, at: usize) -> bool {
    sql[..at].rfind("\nBEGIN\n").is_some_and(|begin| !sql[begin..at].contains("END;\n"))
}

fn beside(path: &Path, ending: &str) -> std::path::PathBuf {
    format!("{}{ending}", path.display()).into()
}

/// By another process: closing a file drops the locks that this one has on it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_newer_schema_is_refused_and_says_so() {
    let (_folder, path) = folder();
    migrate(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute("INSERT INTO hallpass_migrations VALUES (2, 'later', zeroblob(32), 0)", [])
        .unwrap();
    let refused = SqliteStore::open(&path, Options::new()).unwrap_err();
    assert!(matches!(refused, OpenError::Schema { .. }));
    assert!(refused.to_string().contains("version 2, and this program knows versions up to 1"), "{refused}");
    assert!(matches!(inspect(&path), Err(OpenError::Schema { .. })));
    assert!(matches!(migrate(&path), Err(OpenError::Schema { .. })));
}

#[test]
fn a_changed_checksum_is_refused_and_says_so() {
    let (_folder, path) = folder();
    migrate(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute("UPDATE hallpass_migrations SET checksum = zeroblob(32)", [])
        .unwrap();
    let refused = SqliteStore::open(&path, Options::new()).unwrap_err();
    assert!(refused.to_string().contains("0001_first"), "{refused}");
}

#[test]
fn tables_that_are_in_the_way_are_left_alone() {
    let (_folder, path) = folder();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE hallpass_audit (mine TEXT)").unwrap();
    let refused = SqliteStore::open(&path, Options::new()).unwrap_err();
    assert!(matches!(refused, OpenError::Migration { .. }), "{refused}");
    let count = "SELECT count(*) FROM sqlite_master";
    assert_eq!(connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let (_folder, path) = folder();
    let text = "no database, ".repeat(1000);
    fs::write(&path, &text).unwrap();
    for migrate in [true, false] {
        let refused = SqliteStore::open(&path, Options::new().migrate(migrate)).unwrap_err();
        assert!(matches!(refused, OpenError::NotADatabase { .. }), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn what_names_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [Path::new(""), Path::new(":memory:"), folder.path()] {
        let refused = SqliteStore::open(path, Options::new()).unwrap_err();
        assert!(matches!(refused, OpenError::NotAFile { .. }), "{refused:?}");
    }
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("hallpass.db");
    let refused = SqliteStore::open(path, Options::new()).unwrap_err();
    assert!(matches!(refused, OpenError::NoFolder { .. }), "{refused:?}");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_refused_and_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = folder();
    // One without a file, and one with a file from before the folder was closed.
    let old = folder.path().join("old.db");
    migrate(&old).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.path().join("probe"), "").is_ok() {
        // Root may write anywhere but here.
        let refused = SqliteStore::open("/proc/hallpass.db", Options::new()).unwrap_err();
        assert!(matches!(refused, OpenError::ReadOnly { .. } | OpenError::Other { .. }), "{refused:?}");
        return;
    }
    for path in [path, old] {
        let refused = SqliteStore::open(path, Options::new()).unwrap_err();
        assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused:?}");
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn without_migrating_nothing_is_made_or_changed() {
    let (_folder, path) = folder();
    let options = Options::new().migrate(false);
    assert!(matches!(SqliteStore::open(&path, options), Err(OpenError::Missing { .. })));
    assert!(matches!(inspect(&path), Err(OpenError::Missing { .. })));
    assert!(!path.exists());

    Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    assert_eq!(inspect(&path).unwrap().pending, migrations());
    let before = fs::read(&path).unwrap();
    assert!(matches!(SqliteStore::open(&path, options), Err(OpenError::Behind { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);

    migrate(&path).unwrap();
    assert!(SqliteStore::open(&path, options).is_ok());
}

#[tokio::test]
async fn an_applications_own_file_can_hold_the_tables() {
    let (_folder, path) = folder();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE users (id); INSERT INTO users VALUES (1)")
        .unwrap();
    let store = SqliteStore::open(&path, Options::new()).unwrap();
    let (hash, record) = token(&user("1"));
    store.insert(&hash, &record, None).await.unwrap();
    store.create(&account("ada"), None).await.unwrap();
    assert_eq!(store.revoke_all(&user("1"), at(1)).await.unwrap(), 1);
    let users = "SELECT count(*) FROM users";
    assert_eq!(Connection::open(&path).unwrap().query_row(users, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}
