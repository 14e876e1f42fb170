//! Values that do not fit, that nobody of ours wrote, or that the log may not see.

use std::error::Error as _;

use hallpass::{
    EmailAddress, Epoch, TokenStore,
    account::{Account, AccountStore, CreateError},
    audit::{AuditEntry, AuditStore},
    event::{Event, EventKind},
    store::InsertError,
};
use hallpass_mysql::{MysqlStore, Options};
use hallpass_testbed::MariaDb;

use crate::sample::{NOW, find, later, token, user};

async fn store(about: &str) -> (MysqlStore, String) {
    let url = MariaDb::shared().unwrap().database(about).unwrap();
    (MysqlStore::connect(&url, Options::new()).await.unwrap(), url)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_value_that_does_not_fit_is_refused_and_not_cut_to_fit() {
    let (store, url) = store("fit").await;
    let (hash, mut record) = token("ada");
    record.meta.insert("much".to_owned(), "x".repeat(64 << 10).into());
    let error = store.insert(&hash, &record, None).await.unwrap_err();
    assert!(matches!(error, InsertError::Unavailable(_)), "{error:?}");

    let (hash, mut record) = token("ada");
    record.name = Some("hunter2 ".repeat(100));
    let InsertError::Unavailable(error) = store.insert(&hash, &record, None).await.unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(error.to_string(), "unavailable: the database refuses a value");
    assert!(!format!("{error:?} {}", error.source().unwrap()).contains("hunter2"), "{error:?}");
    assert_eq!(MariaDb::sql_at(&url, "SELECT COUNT(*) FROM hallpass_tokens").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_value_that_nobody_of_ours_wrote_is_an_outage_and_never_a_verdict() {
    let (store, url) = store("corrupt").await;
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    for change in
        ["scopes = 'two  blanks and \"quotes\"'", "user_id = 0xFF", "purpose = 0xFF", "epoch = 4294967295"]
    {
        MariaDb::sql_at(&url, &format!("UPDATE hallpass_tokens SET {change}")).unwrap();
        let found = find(&store, &hash).await;
        if change.starts_with("epoch") {
            // The greatest number is one.
            continue;
        }
        let error = found.unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{change}: {error}");
        MariaDb::sql_at(&url, "UPDATE hallpass_tokens SET scopes = '*', user_id = 'ada', purpose = 'api'")
            .unwrap();
    }
    let found = find(&store, &hash).await.unwrap().unwrap();
    assert_eq!(found.record.epoch, Epoch::new(u32::MAX));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn addresses_that_differ_only_in_collation_are_two() {
    let (store, _) = store("collation").await;
    let emails = ["strasse@example.com", "stra\u{df}e@example.com", "\u{e9}@example.com", "e@example.com"];
    for email in emails {
        let email = EmailAddress::parse(email).unwrap();
        let account = Account::new(hallpass::UserId::random().unwrap(), email.clone(), NOW);
        store.create(&account, None).await.unwrap();
        let again = Account::new(hallpass::UserId::random().unwrap(), email, NOW);
        let refused = store.create(&again, None).await.unwrap_err();
        assert!(matches!(refused, CreateError::Conflict), "{refused:?}");
    }
    assert_eq!(AccountStore::list(&store, None, 10).await.unwrap().len(), emails.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn the_audit_trail_is_kept_in_order_and_all_or_none() {
    let (store, url) = store("audit").await;
    let entry = |kind, request: &str| {
        let mut event = Event::new(kind, NOW);
        event.user = Some(user("ada"));
        event.count = Some(3);
        AuditEntry::new(event).from_request(request, Some("192.0.2.1".to_owned()))
    };
    store
        .append(&[entry(EventKind::TokenCreated, "one"), entry(EventKind::TokensEnded, "two")])
        .await
        .unwrap();
    store.append(&[]).await.unwrap();
    // The second is too long, so the first is not kept either.
    let too_long = "x".repeat(300);
    let refused = store
        .append(&[entry(EventKind::TokenCreated, "three"), entry(EventKind::TokenCreated, &too_long)])
        .await;
    assert!(refused.is_err());
    let trail =
        MariaDb::sql_at(&url, "SELECT request_id, user_id, count FROM hallpass_audit ORDER BY seq").unwrap();
    assert_eq!(trail, "one\tada\t3\ntwo\tada\t3");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_20_pruning_a_great_many_owners_looks_at_each_once() {
    let (store, url) = store("owners").await;
    for number in 0..250 {
        store.revoke_all(&user(&format!("owner {number}")), later(-1)).await.unwrap();
    }
    for number in [3, 249] {
        let (hash, mut record) = token(&format!("owner {number}"));
        record.epoch = Epoch::new(1);
        store.insert(&hash, &record, None).await.unwrap();
    }
    MariaDb::sql_at(&url, "UPDATE hallpass_owners SET epoch = 2 WHERE user_id = 'owner 249'").unwrap();
    assert_eq!(store.prune(NOW, 500).await.unwrap(), 1);
    assert_eq!(MariaDb::sql_at(&url, "SELECT COUNT(unswept) FROM hallpass_owners").unwrap(), "0");
    assert_eq!(store.prune(NOW, 500).await.unwrap(), 0);
}
