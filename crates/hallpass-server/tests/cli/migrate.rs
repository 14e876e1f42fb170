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
    assert_eq!(json["migrations"][0]["name"], "0001_first");
    assert!(!folder.database().exists());
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
