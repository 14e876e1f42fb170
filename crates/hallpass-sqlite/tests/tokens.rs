//! What SQLite could get wrong about tokens.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must stop"
)]

mod fixture;

use std::{process::Command, sync::Arc};

use fixture::{account, all, at, folder, other, store, token, user};
use hallpass::{
    TokenStore,
    account::AccountStore,
    audit::{AuditEntry, AuditStore},
    event::{Event, EventKind},
    store::{InsertError, Touch},
};
use hallpass_sqlite::{Options, SqliteStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cap_of_10_under_200_parallel_inserts_yields_exactly_10() {
    let (_folder, store) = store();
    let store: Arc<dyn TokenStore> = Arc::new(store);
    let owner = user("ada");
    // Dead ones do not count.
    for _ in 0..5 {
        let (hash, mut record) = token(&owner);
        record.expires_at = Some(at(0));
        store.insert(&hash, &record, None).await.unwrap();
    }
    let inserting: Vec<_> = (0..200)
        .map(|_| {
            let (store, (hash, record)) = (Arc::clone(&store), token(&owner));
            tokio::spawn(async move { store.insert(&hash, &record, Some(10)).await })
        })
        .collect();
    let mut kept = 0;
    for insert in inserting {
        match insert.await.unwrap() {
            Ok(()) => kept += 1,
            Err(error) => assert!(matches!(error, InsertError::CapReached), "{error:?}"),
        }
    }
    assert_eq!(kept, 10);
    assert_eq!(store.list(&owner, "api", &all()).await.unwrap().tokens.len(), 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_100_parallel_takes_through_two_handles_exactly_one_wins() {
    let (_folder, one) = store();
    let two = SqliteStore::open(one.path(), Options::new()).unwrap();
    let (hash, record) = token(&user("ada"));
    one.insert(&hash, &record, None).await.unwrap();
    let taking: Vec<_> = (0..100)
        .map(|number| {
            let store = if number % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(async move { store.take(&hash, "api", at(1)).await.unwrap() })
        })
        .collect();
    let mut won = 0;
    for take in taking {
        won += u32::from(take.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn two_handles_see_each_others_changes_at_once() {
    let (_folder, one) = store();
    let two = SqliteStore::open(one.path(), Options::new()).unwrap();
    let owner = user("ada");
    let (hash, record) = token(&owner);
    for (here, there) in [(&one, &two), (&two, &one)] {
        let (hash, mut record) =
            (hallpass::HashedToken::from_bytes(*token(&owner).0.as_bytes()), token(&owner).1);
        record.epoch = there.epoch(&owner).await.unwrap();
        here.insert(&hash, &record, None).await.unwrap();
        assert_eq!(TokenStore::find(there, &hash).await.unwrap().unwrap().record, record);
        assert!(there.revoke(&hash, at(1)).await.unwrap());
        assert!(!here.revoke(&hash, at(2)).await.unwrap());
        let found = TokenStore::find(here, &hash).await.unwrap().unwrap();
        assert_eq!(found.record.revoked_at, Some(at(1)));
        here.revoke_all(&owner, at(3)).await.unwrap();
        assert_eq!(there.epoch(&owner).await.unwrap(), here.epoch(&owner).await.unwrap());
    }
    assert!(matches!(two.insert(&hash, &record, None).await, Err(InsertError::Ended)));
}

#[tokio::test]
async fn looking_up_writes_nothing() {
    let (_folder, store) = store();
    let owner = user("ada");
    let (hash, record) = token(&owner);
    store.create(&account("ada"), None).await.unwrap();
    store.insert(&hash, &record, None).await.unwrap();
    let files = || {
        let read = |ending: &str| {
            // By another process: closing a file drops the locks that this one has on it.
            let path = format!("{}{ending}", store.path().display());
            Command::new("cat").arg(path).output().unwrap().stdout
        };
        (read(""), read("-wal"))
    };
    let written = || (store.counts().writes, store.counts().commits);
    let (before, counts) = (files(), written());
    assert!(before.1.len() > 4096);
    for _ in 0..3 {
        let (wrong, _) = token(&owner);
        assert!(TokenStore::find(&store, &hash).await.unwrap().is_some());
        assert!(TokenStore::find(&store, &wrong).await.unwrap().is_none());
        store.find_by_id(&owner, record.id).await.unwrap();
        TokenStore::list(&store, &owner, "api", &all()).await.unwrap();
        store.epoch(&owner).await.unwrap();
        AccountStore::find(&store, &owner).await.unwrap();
        store.find_by_email(&account("ada").email).await.unwrap();
    }
    assert_eq!(files(), before);
    assert_eq!(written(), counts);
}

#[tokio::test]
async fn a_change_that_changes_nothing_leaves_the_row_as_it_was() {
    let (_folder, store) = store();
    let owner = user("ada");
    let (hash, record) = token(&owner);
    store.insert(&hash, &record, None).await.unwrap();
    assert!(store.revoke(&hash, at(5)).await.unwrap());
    let data_version = other(&store);
    let version = || data_version.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = version();
    assert!(!store.take(&hash, "api", at(6)).await.unwrap());
    assert!(!store.revoke(&hash, at(6)).await.unwrap());
    store.touch(&[Touch { id: record.id, at: at(6) }]).await.unwrap();
    store.ready().await.unwrap();
    assert_eq!(version(), before);
}

#[tokio::test]
async fn prune_deletes_what_a_raised_epoch_ended_and_looks_at_an_owner_once() {
    let (_folder, store) = store();
    let owner = user("ada");
    for number in 0..7 {
        let (hash, mut record) = token(&owner);
        record.expires_at = None;
        record.created_at = at(number);
        store.insert(&hash, &record, None).await.unwrap();
    }
    assert_eq!(store.revoke_all(&owner, at(10)).await.unwrap(), 7);
    let (alive, mut record) = token(&owner);
    record.epoch = store.epoch(&owner).await.unwrap();
    store.insert(&alive, &record, None).await.unwrap();

    assert_eq!(store.prune(at(10), 100).await.unwrap(), 0, "not before the cutoff");
    let unswept = || {
        let count = "SELECT count(*) FROM hallpass_owners WHERE swept_epoch < epoch";
        other(&store).query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(unswept(), 1);
    assert_eq!(store.prune(at(11), 3).await.unwrap(), 3);
    assert_eq!(store.prune(at(11), 3).await.unwrap(), 3);
    assert_eq!(store.prune(at(11), 3).await.unwrap(), 1);
    assert_eq!(unswept(), 0);
    assert_eq!(store.prune(at(11), 3).await.unwrap(), 0);
    assert!(TokenStore::find(&store, &alive).await.unwrap().is_some());
    store.revoke_all(&owner, at(20)).await.unwrap();
    assert_eq!(store.prune(at(21), 3).await.unwrap(), 1, "raised again, looked at again");
}

#[tokio::test]
async fn prune_deletes_as_many_as_it_is_told_and_no_others() {
    let (_folder, store) = store();
    let owner = user("ada");
    for number in 0..270 {
        let (hash, mut record) = token(&owner);
        record.expires_at = Some(at(if number < 260 { 1 } else { 5 }));
        record.revoked_at = (number >= 255).then(|| at(if number < 265 { 1 } else { 5 }));
        store.insert(&hash, &record, None).await.unwrap();
    }
    assert_eq!(store.prune(at(1), 1000).await.unwrap(), 0);
    assert_eq!(store.prune(at(5), 0).await.unwrap(), 0);
    assert_eq!(store.prune(at(5), 220).await.unwrap(), 220);
    assert_eq!(store.prune(at(5), 220).await.unwrap(), 45);
    assert_eq!(store.prune(at(5), 220).await.unwrap(), 0);
    assert_eq!(TokenStore::list(&store, &owner, "api", &all()).await.unwrap().tokens.len(), 5);
}

#[tokio::test]
async fn prune_passes_over_more_owners_than_it_looks_at_at_once() {
    let (_folder, store) = store();
    let raising = (0..450).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.revoke_all(&user(&format!("user{number}")), at(0)).await.unwrap() })
    });
    for raise in raising.collect::<Vec<_>>() {
        raise.await.unwrap();
    }
    let last = user("zoe");
    let (hash, mut record) = token(&last);
    record.expires_at = None;
    store.insert(&hash, &record, None).await.unwrap();
    store.revoke_all(&last, at(1)).await.unwrap();
    assert_eq!(store.prune(at(2), 100).await.unwrap(), 1);
    assert_eq!(store.prune(at(2), 100).await.unwrap(), 0);
}

#[tokio::test]
async fn ids_and_names_are_data_whatever_they_look_like() {
    let (_folder, store) = store();
    let texts = [
        "'; DROP TABLE hallpass_tokens; --",
        "\" OR 1=1 --",
        "%",
        "_",
        "ad?1",
        ":id",
        "Ünï\u{202E}cødé \u{1F600}",
        "ada' UNION SELECT * FROM hallpass_accounts --",
        "ADA",
        "ada",
    ];
    for text in texts {
        let owner = user(text);
        let (hash, mut record) = token(&owner);
        record.name = Some(text.into());
        record.purpose = text.into();
        record.bound_to = Some(text.into());
        record.meta.insert(text.into(), text.into());
        store.insert(&hash, &record, Some(1)).await.unwrap();
        assert_eq!(TokenStore::find(&store, &hash).await.unwrap().unwrap().record, record);
        let listed = TokenStore::list(&store, &owner, text, &all()).await.unwrap();
        assert_eq!(listed.tokens, [record], "{text}: and nobody else's");
        assert_eq!(store.revoke_all(&owner, at(1)).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn neither_the_text_of_a_token_nor_its_likes_are_in_the_files() {
    use hallpass::{PlainToken, Purpose};
    let (folder, store) = store();
    let plain = PlainToken::generate(&Purpose::api()).unwrap();
    let (_, record) = token(&user("ada"));
    store.insert(&plain.hash(), &record, None).await.unwrap();
    store.revoke(&plain.hash(), at(1)).await.unwrap();
    drop(store);
    let secret = plain.expose().as_bytes();
    let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let mut files = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let has = |canary: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
        assert!(!has(&secret[3..]) && !has(hex.as_bytes()));
        assert!(has(plain.hash().as_bytes()), "the hash is what is kept");
        files += 1;
    }
    assert_eq!(files, 1, "the last to close copies the log into the database");
}

#[tokio::test]
async fn a_value_that_no_program_of_ours_wrote_is_unavailable_and_says_why() {
    let (_folder, store) = store();
    let (hash, record) = token(&user("ada"));
    store.create(&account("ada"), None).await.unwrap();
    store.insert(&hash, &record, None).await.unwrap();
    let other = other(&store);
    other.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    for (spoil, mend) in [
        ("UPDATE hallpass_tokens SET id = x'00'", "UPDATE hallpass_tokens SET id = ?1"),
        ("UPDATE hallpass_tokens SET scopes = 'not\"a\"scope'", "UPDATE hallpass_tokens SET scopes = ''"),
        ("UPDATE hallpass_tokens SET meta = '[1]'", "UPDATE hallpass_tokens SET meta = '{}'"),
        ("UPDATE hallpass_tokens SET meta = '{'", "UPDATE hallpass_tokens SET meta = '{}'"),
        ("UPDATE hallpass_tokens SET epoch = -1", "UPDATE hallpass_tokens SET epoch = 0"),
        ("UPDATE hallpass_tokens SET epoch = 4294967296", "UPDATE hallpass_tokens SET epoch = 0"),
        ("UPDATE hallpass_tokens SET name = CAST(x'FF' AS TEXT)", "UPDATE hallpass_tokens SET name = NULL"),
        ("UPDATE hallpass_accounts SET grants = '\"'", "UPDATE hallpass_accounts SET grants = ''"),
        ("UPDATE hallpass_owners SET epoch = -1", "UPDATE hallpass_owners SET epoch = 0"),
    ] {
        assert_eq!(other.execute(spoil, []).unwrap(), 1, "{spoil}");
        let unavailable = TokenStore::find(&store, &hash).await.unwrap_err();
        assert!(std::error::Error::source(&unavailable).is_some(), "{spoil}");
        let id = record.id.as_bytes();
        if mend.contains("?1") { other.execute(mend, [id]) } else { other.execute(mend, []) }.unwrap();
        assert!(TokenStore::find(&store, &hash).await.unwrap().is_some(), "{mend}");
    }
}

#[tokio::test]
async fn the_schema_refuses_what_it_can() {
    let (_folder, store) = store();
    let (hash, record) = token(&user("ada"));
    store.insert(&hash, &record, None).await.unwrap();
    let other = other(&store);
    for spoil in [
        "UPDATE hallpass_tokens SET id = x'00'",
        "UPDATE hallpass_tokens SET hash = x'00'",
        "UPDATE hallpass_tokens SET meta = '[1]'",
        "UPDATE hallpass_tokens SET meta = '{'",
        "UPDATE hallpass_tokens SET epoch = -1",
        "UPDATE hallpass_tokens SET purpose = ''",
        "UPDATE hallpass_tokens SET created_at = 'soon'",
        "INSERT INTO hallpass_owners VALUES ('x', 1, NULL, 2)",
        "INSERT INTO hallpass_accounts VALUES ('no owner', 'a@b', NULL, '', 0, NULL, NULL)",
    ] {
        assert!(other.execute(spoil, []).is_err(), "{spoil}");
    }
}

#[tokio::test]
async fn the_audit_trail_is_only_ever_added_to() {
    let (_folder, store) = store();
    let entry = |kind| {
        let mut event = Event::new(kind, at(0));
        event.user = Some(user("ada"));
        event.token = Some(token(&user("ada")).1.id);
        event.purpose = Some("api".into());
        event.reason = Some(hallpass::Reason::Expired);
        event.count = Some(u64::MAX);
        AuditEntry::new(event).from_request("request 1", Some("192.0.2.1".into()))
    };
    store.append(&[entry(EventKind::TokenRefused), entry(EventKind::TokenRevoked)]).await.unwrap();
    store.append(&[AuditEntry::new(Event::new(EventKind::Pruned, at(1)))]).await.unwrap();
    let other = other(&store);
    let read = || {
        let mut statement =
            other.prepare("SELECT seq, kind, reason, request_id FROM hallpass_audit ORDER BY seq").unwrap();
        let rows =
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        rows.collect::<Result<Vec<(i64, String, Option<String>, Option<String>)>, _>>().unwrap()
    };
    let (expired, request) = (Some("expired".to_owned()), Some("request 1".to_owned()));
    let expected = [
        (1, "token_refused".to_owned(), expired.clone(), request.clone()),
        (2, "token_revoked".to_owned(), expired, request),
        (3, "pruned".to_owned(), None, None),
    ];
    assert_eq!(read(), expected);
    for change in ["DELETE FROM hallpass_audit", "UPDATE hallpass_audit SET kind = 'x'"] {
        assert!(other.execute(change, []).unwrap_err().to_string().contains("append-only"));
    }
    assert_eq!(read(), expected);
}

#[tokio::test]
async fn an_account_lives_and_dies_with_its_epoch() {
    let (_folder, store) = store();
    let ada = account("ada");
    store.create(&ada, None).await.unwrap();
    let (hash, record) = token(&ada.id);
    store.insert(&hash, &record, None).await.unwrap();
    let found = TokenStore::find(&store, &hash).await.unwrap().unwrap();
    assert_eq!(found.account, Some(ada.clone()), "read in the same statement");

    assert_eq!(store.delete(&ada.id, at(1)).await.unwrap(), Some(1));
    let found = TokenStore::find(&store, &hash).await.unwrap().unwrap();
    assert_eq!((found.account, found.epoch.number()), (None, 1));
    assert!(store.create(&ada, None).await.is_err(), "an id is never given twice");
    let mut again = account("eve");
    again.email = ada.email;
    store.create(&again, None).await.unwrap();
    let found = TokenStore::find(&store, &hash).await.unwrap().unwrap();
    assert_eq!((found.account, found.epoch.number()), (None, 1), "the address is free, the tokens stay dead");
}

#[tokio::test]
async fn a_process_that_changes_its_folder_keeps_its_file() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path, Options::new()).unwrap();
    assert!(store.path().is_absolute());
    assert_eq!(store.path(), path);
}
