//! `hallpass doctor` on databases with servers of their own: it names the setting, and how to change it.

use hallpass_testbed::{MariaDb, Postgres, Redis};
use serde_json::Value;

use crate::{
    backend::{Backend, Disk, Kind},
    folder::Folder,
};

/// The checks that are not ok, as `name state`; each must say what to do.
fn not_ok(folder: &Folder) -> Vec<String> {
    let json = folder.run(&["doctor", "--json"]).json();
    let checks = json["checks"].as_array().unwrap().iter().filter(|check| check["state"] != "ok");
    let told = |check: &Value| {
        assert!(check["help"].as_str().is_some_and(|help| !help.is_empty()), "{check}");
        format!("{} {}", check["name"].as_str().unwrap(), check["state"].as_str().unwrap())
    };
    checks.map(told).collect()
}

fn names(folder: &Folder) -> Vec<String> {
    let json = folder.run(&["doctor", "--json"]).json();
    let checks = json["checks"].as_array().unwrap().iter();
    checks.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs PostgreSQL, MariaDB and Redis: scripts/test --servers runs it"]
fn all_is_well_where_everything_is_set_well() {
    for kind in [Kind::Postgres, Kind::MariaDb, Kind::Redis, Kind::Cluster] {
        let backend = Backend::new(kind, Disk::Weak);
        let folder = backend.folder();
        folder.add_user("ada@example.com");
        let weak: &[&str] = match kind {
            Kind::MariaDb => &["innodb_flush_log_at_trx_commit warn"],
            Kind::Cluster => &["appendfsync warn"; 3],
            _ => &[],
        };
        assert_eq!(not_ok(&folder), weak, "{kind}");
        let names = names(&folder);
        for name in ["clock", "accounts", "database", "schema"] {
            assert!(names.iter().any(|other| other == name), "{kind}: {name} is not among {names:?}");
        }
    }
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn each_weak_setting_of_postgres_is_named() {
    let postgres = Postgres::options().fsync(false).set("full_page_writes", "off").start().unwrap();
    let url = postgres.database("weak").unwrap();
    let folder = Folder::with(vec![("HALLPASS_DATABASE_URL".to_owned(), url.clone())]);
    assert!(not_ok(&folder).contains(&"schema fail".to_owned()));
    folder.add_user("ada@example.com");
    assert_eq!(not_ok(&folder), ["fsync fail", "full_page_writes fail"]);
    folder.run(&["doctor"]).says_no().stdout_has("set fsync = on").stdout_has("set full_page_writes = on");

    let admin = url.replacen("hallpass@", "postgres@", 1);
    Postgres::sql_at(&admin, "REVOKE DELETE ON hallpass_tokens FROM hallpass").unwrap();
    assert!(not_ok(&folder).contains(&"privileges fail".to_owned()));
    folder.run(&["doctor"]).says_no().stdout_has("GRANT");
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn each_weak_setting_of_mariadb_is_named() {
    let mariadb = MariaDb::options()
        .set("innodb_flush_log_at_trx_commit", "0")
        .set("innodb_doublewrite", "0")
        .set("log_bin", "log")
        .set("sync_binlog", "0")
        .start()
        .unwrap();
    let mut variables = vec![("HALLPASS_DATABASE_URL".to_owned(), mariadb.database("weak").unwrap())];
    variables.push(("HALLPASS_ALLOW_VOLATILE".to_owned(), "true".to_owned()));
    let folder = Folder::with(variables);
    folder.add_user("ada@example.com");
    let weak = ["innodb_flush_log_at_trx_commit warn", "innodb_doublewrite warn", "sync_binlog warn"];
    assert_eq!(not_ok(&folder), weak);
    folder.run(&["doctor"]).ok().stdout_has("set sync_binlog = 1").stdout_has("innodb_doublewrite = ON");
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn each_weak_setting_of_redis_is_named() {
    let redis = Redis::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("hallpass.db").display());
    let folder = Folder::with(vec![
        ("HALLPASS_DATABASE_URL".to_owned(), file),
        ("HALLPASS_TOKEN_STORE_URL".to_owned(), redis.url()),
    ]);
    folder.run(&["migrate"]).ok();
    assert!(not_ok(&folder).contains(&"appendonly fail".to_owned()));
    redis.command(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    for (fsync, state) in [("everysec", "warn"), ("no", "warn"), ("always", "ok")] {
        redis.command(&["CONFIG", "SET", "appendfsync", fsync]).unwrap();
        let found = not_ok(&folder).contains(&format!("appendfsync {state}"));
        assert_eq!(found, state != "ok", "{fsync}");
    }
}
