use serde_json::json;

use crate::folder::Folder;

/// Which database `user list` looked for: none of them is there.
fn looked_for(folder: &Folder, args: &[&str], variables: &[(&str, &str)]) -> String {
    let ran = folder.run_with(&[&["user", "list"], args].concat(), variables).fails(3);
    ["flag.db", "variable.db", "named.db", "file.db", "hallpass.db"]
        .into_iter()
        .find(|name| ran.stderr.contains(name))
        .unwrap_or_else(|| panic!("{ran:#?}"))
        .to_owned()
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let folder = Folder::new();
    let flag = ["--database", "sqlite:flag.db"];
    let variable = ("HALLPASS_DATABASE_URL", "sqlite:variable.db");
    assert_eq!(looked_for(&folder, &[], &[]), "hallpass.db");

    folder.write("hallpass.toml", "database = \"sqlite:file.db\"\n");
    assert_eq!(looked_for(&folder, &[], &[]), "file.db");

    folder.write("named.toml", "database = \"sqlite:named.db\"\n");
    assert_eq!(looked_for(&folder, &["--config", "named.toml"], &[]), "named.db");
    assert_eq!(looked_for(&folder, &[], &[("HALLPASS_CONFIG", "named.toml")]), "named.db");

    assert_eq!(looked_for(&folder, &[], &[variable]), "variable.db");
    assert_eq!(looked_for(&folder, &flag, &[variable]), "flag.db");
    assert_eq!(looked_for(&folder, &[], &[("HALLPASS_DATABASE_URL", "")]), "file.db");
}

#[test]
fn flags_are_taken_before_and_after_the_verb() {
    let folder = Folder::new();
    for args in [
        ["--database", "sqlite:x.db", "user", "list"],
        ["user", "--database", "sqlite:x.db", "list"],
        ["user", "list", "--database", "sqlite:x.db"],
    ] {
        folder.run(&args).fails(3).stderr_has("x.db");
    }
}

#[test]
fn an_unknown_key_names_its_line_and_hides_its_value() {
    let folder = Folder::new();
    folder.write("hallpass.toml", "listen = \"127.0.0.1:0\"\n\ndatabse = \"sqlite:hunter2\"\n");
    let ran = folder.run(&["user", "list"]).fails(2);
    assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
    ran.stderr_has("hallpass.toml, line 3: unknown key `databse`")
        .stderr_has("listen, database, token_store");
}

#[test]
fn a_bad_value_names_where_it_stands_and_what_to_write() {
    let folder = Folder::new();
    folder.write("hallpass.toml", "\nlisten = \"7700\"\n");
    folder.run(&["serve"]).fails(2).stderr_has("hallpass.toml, line 2, listen").stderr_has("127.0.0.1:7700");

    let folder = Folder::new();
    for (variable, value) in [
        ("HALLPASS_LISTEN", "localhost"),
        ("HALLPASS_TOKEN_CAP", "0"),
        ("HALLPASS_TOKEN_LIFE", "long"),
        ("HALLPASS_TOKEN_LIFE_MAX", "-1 day"),
        ("HALLPASS_TOKEN_PREFIX", "a b"),
        ("HALLPASS_LOG", "a=b=c"),
        ("HALLPASS_LOG_FORMAT", "xml"),
        ("HALLPASS_DATABASE_URL", "hallpass.db"),
        ("HALLPASS_DATABASE_URL", "oracle://ada:hunter2@localhost/x"),
        ("HALLPASS_DATABASE_URL", "postgres://ada:hunter2@localhost/x?sslmode=always"),
        ("HALLPASS_DATABASE_URL", "postgres://ada:hunter2@localhost:none/x"),
        ("HALLPASS_DATABASE_URL", "mysql://ada:hunter2@localhost"),
        ("HALLPASS_TOKEN_STORE_URL", "http://ada:hunter2@localhost"),
        ("HALLPASS_TOKEN_STORE_URL", "redis://ada:hunter2@"),
        ("HALLPASS_ALLOW_VOLATILE", "yes"),
        ("HALLPASS_DATABASE_URL", "sqlite:"),
        ("HALLPASS_DATABASE_URL", "sqlite::memory:"),
        ("HALLPASS_DATABASE_URL", "sqlite:x.db?mode=ro"),
        ("HALLPASS_CONFIG", "nowhere.toml"),
    ] {
        let ran = folder.run_with(&["serve"], &[(variable, value)]).fails(2);
        assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
        ran.stderr_has(variable);
    }
    assert!(!folder.database().exists());
}

#[test]
fn the_database_may_come_from_a_file() {
    let folder = Folder::new();
    folder.write("url", "sqlite:secret.db\n");
    folder.run_with(&["migrate"], &[("HALLPASS_DATABASE_URL_FILE", "url")]).ok();
    assert!(folder.path().join("secret.db").exists());
    let both = [("HALLPASS_DATABASE_URL_FILE", "url"), ("HALLPASS_DATABASE_URL", "sqlite:x.db")];
    folder.run_with(&["migrate"], &both).fails(2).stderr_has("set one of the two");
}

#[test]
fn every_spelling_of_the_path_is_understood() {
    let folder = Folder::new();
    let absolute = folder.path().join("c.db");
    for url in ["sqlite:a.db", "sqlite://b.db", &format!("sqlite://{}", absolute.display())] {
        folder.run(&["migrate", "--database", url]).ok();
    }
    for name in ["a.db", "b.db", "c.db"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let ran = Folder::new().run_with(&["user", "list", "--json"], &[("HALLPASS_TOKEN_CAP", "0")]).fails(2);
    let json: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(
        json,
        json!({ "error": {
            "message": "HALLPASS_TOKEN_CAP is \"0\"",
            "help": "write a number of tokens, 1 or more, or none"
        } })
    );
}
