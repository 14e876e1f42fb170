use std::process::Stdio;

use serde_json::json;

use crate::folder::Folder;

#[test]
fn migrate_makes_a_database_and_then_has_nothing_to_do() {
    let folder = Folder::new();
    let json = folder.run(&["migrate", "--json"]).ok().json();
    assert_eq!(json, json!({ "database": "sqlite:hallpass.db", "migrated": ["0001_first"] }));
    folder.run(&["migrate"]).ok().stdout_has("up to date");
    assert_eq!(folder.run(&["migrate", "--json"]).ok().json()["migrated"], json!([]));
}

#[test]
fn migrate_print_writes_sql_and_touches_no_database() {
    let folder = Folder::new();
    let ran = folder.run(&["migrate", "--print"]).ok();
    assert!(ran.stdout.starts_with("-- 0001_first\n"), "{ran:#?}");
    assert!(ran.stdout.contains("CREATE TABLE hallpass_tokens"));
    let json = folder.run(&["migrate", "--print", "--json"]).ok().json();
    assert_eq!(json["migrations"], json!(["0001_first"]));
    assert!(json["sql"].as_str().unwrap().contains("CREATE TABLE hallpass_tokens"));
    assert!(!folder.database().exists());
}

#[test]
fn row_15_migrate_print_writes_the_sql_of_each_kind_of_database_without_one() {
    let folder = Folder::new();
    let print = |database: &str, more: &[&str]| {
        folder.run(&[&["migrate", "--print", "--database", database], more].concat())
    };
    for database in ["postgres:", "postgresql://nowhere.invalid/x", "mysql:", "mariadb://nowhere.invalid/x"] {
        let ran = print(database, &[]).ok();
        assert!(ran.stdout.contains("hallpass_tokens") && ran.stdout.contains("0001_first"), "{ran:#?}");
    }
    let own = ["--schema", "auth", "--table-prefix", "acme_", "--users", "app.users.id"];
    let ran = print("postgres:", &[&own[..], &["--user-ids", "uuid"]].concat()).ok();
    for part in ["\"auth\".\"acme_tokens\"", "REFERENCES \"app\".\"users\"", "uuid"] {
        assert!(ran.stdout.contains(part), "{part} is not in {ran:#?}");
    }
    let ran = print("mysql:", &[&own[..], &["--user-ids", "unsigned-integer"]].concat()).ok();
    for part in ["`auth`.`acme_tokens`", "REFERENCES `app`.`users`", "BIGINT UNSIGNED"] {
        assert!(ran.stdout.contains(part), "{part} is not in {ran:#?}");
    }
    print("postgres:", &["--table-prefix", "a\"b"]).fails(2);
    print("postgres:", &["--user-ids", "unsigned-integer"]).fails(2).stderr_has("integer");
    print("sqlite:", &["--schema", "auth"]).fails(2).stderr_has("fixed names");
    folder.run(&["migrate", "--schema", "auth"]).fails(2).stderr_has("--print");
}

#[test]
fn many_at_once_leave_one_whole_schema() {
    let folder = Folder::new();
    let children: Vec<_> =
        (0..8).map(|_| folder.command(&["migrate"]).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    folder.run(&["doctor"]).ok();
}
