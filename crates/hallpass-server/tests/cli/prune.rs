use serde_json::json;

use crate::folder::Folder;

#[test]
fn prune_deletes_the_dead_that_are_old_enough() {
    let folder = Folder::with_ada();
    folder.token(&[]);
    folder.token(&[]);
    folder.run(&["token", "revoke", "--user", "ada@example.com", "--all", "--yes"]).ok();
    let living = folder.token(&[]);

    let json = folder.run(&["prune", "--json"]).ok().json();
    assert_eq!(json, json!({ "pruned": 0, "older_than": "30 days", "older_than_seconds": 2_592_000 }));
    folder.run(&["prune", "--older-than", "0"]).ok().stdout_has("pruned 2 tokens that were dead");
    folder.run(&["prune"]).ok().stdout_has("pruned no tokens that died more than 30 days ago");
    folder.pipe(&["token", "verify"], &living).ok();
}

#[test]
fn prune_refuses_what_is_no_length_of_time() {
    let folder = Folder::with_ada();
    for text in ["never", "", "-1", "yesterday", "9000 years"] {
        folder.run(&["prune", &format!("--older-than={text}")]).fails(2).stderr_has("--older-than");
    }
}
