use crate::folder::Folder;

const VERBS: [&[&str]; 17] = [
    &["serve"],
    &["user", "add"],
    &["user", "list"],
    &["user", "disable"],
    &["user", "enable"],
    &["user", "delete"],
    &["user", "password"],
    &["token", "create"],
    &["token", "list"],
    &["token", "revoke"],
    &["token", "verify"],
    &["prune"],
    &["migrate"],
    &["doctor"],
    &["completions"],
    &["user"],
    &["token"],
];

#[test]
fn every_verb_has_help_with_an_example_and_the_settings() {
    let folder = Folder::new();
    for verb in VERBS {
        let ran = folder.run(&[verb, &["--help"]].concat()).ok();
        assert_eq!(ran.stderr, "");
        let example = format!("  hallpass {}", verb.join(" "));
        assert!(ran.stdout.contains(&example), "no example of {verb:?} in {}", ran.stdout);
        for flag in ["--json", "--database", "--config"] {
            assert!(ran.stdout.contains(flag), "{flag} of {verb:?}");
        }
    }
}

#[test]
fn no_help_is_wider_than_a_terminal_of_120() {
    let folder = Folder::new();
    for verb in VERBS {
        let ran = folder.run(&[verb, &["--help"]].concat()).ok();
        for line in ran.stdout.lines() {
            assert!(line.chars().count() <= 120, "{verb:?}: {line}");
        }
    }
}

#[test]
fn without_a_verb_help_is_shown_and_the_status_is_2() {
    for args in [&[][..], &["user"], &["token"]] {
        let ran = Folder::new().run(args);
        assert_eq!(ran.status, 2);
        assert!(ran.stderr.contains("Usage: hallpass"), "{ran:#?}");
    }
}

#[test]
fn the_version_is_told() {
    Folder::new().run(&["--version"]).ok().stdout_has(concat!("hallpass ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_misspelt_verb_or_flag_gets_a_tip_and_status_2() {
    let folder = Folder::new();
    folder.run(&["usr", "list"]).fails(2).stderr_has("user");
    folder.run(&["user", "lst"]).fails(2).stderr_has("list");
    folder.run(&["user", "list", "--jsn"]).fails(2).stderr_has("--json");
    folder.run(&["user", "add"]).fails(2).stderr_has("<EMAIL>");
    folder.run(&["user", "list", "--limit", "0"]).fails(2);
}

#[test]
fn with_json_even_a_misspelt_verb_is_told_as_json() {
    let ran = Folder::new().run(&["usr", "--json"]).fails(2);
    let json: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert!(json["error"]["message"].as_str().unwrap().contains("usr"));
}

#[test]
fn completions_are_printed_for_every_shell() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        folder.run(&["completions", shell]).ok().stdout_has("password-stdin");
    }
    let json = folder.run(&["completions", "bash", "--json"]).ok().json();
    assert_eq!(json["shell"], "bash");
    assert!(json["script"].as_str().unwrap().contains("hallpass"));
}

#[test]
fn nothing_is_coloured_where_no_terminal_is() {
    let folder = Folder::new();
    let ran = folder.run(&["user", "list"]).fails(3);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
    let ran = folder.run(&["--help"]).ok();
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:#?}");
}
