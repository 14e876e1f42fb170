//! Tokens in Redis beside a database that keeps epochs and accounts: what neither of the two can promise alone.

#![cfg(test)]

use std::sync::Arc;

use hallpass::{
    EmailAddress, Epoch, HashedToken, MemoryStore, PlainToken, Purpose, Timestamp, TokenId, TokenRecord,
    TokenStore, UserId,
    account::{Account, AccountStore},
    store::{InsertError, ListQuery},
};
use hallpass_redis::{Beside, Options, RedisStore};
use hallpass_testbed::Redis;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_123_457);
const LATER: Timestamp = Timestamp::from_micros(1_767_225_600_123_458);
const ALL: ListQuery = ListQuery { after: None, limit: 1000, living_at: None };

async fn scene() -> (Arc<MemoryStore>, Beside) {
    let database = Arc::new(MemoryStore::new());
    let options = Options::new().prefix(Redis::prefix("beside"));
    let url = Redis::shared().unwrap().url();
    let store = RedisStore::beside(&url, options, Arc::clone(&database)).await.unwrap();
    (database, store)
}

fn sample(user: &UserId, epoch: u32) -> (HashedToken, TokenRecord) {
    let hash = PlainToken::generate(&Purpose::api()).unwrap().hash();
    let id = TokenId::random().unwrap();
    (hash, TokenRecord::new(id, user.clone(), Epoch::new(epoch), "api", NOW))
}

async fn lives(store: &Beside, hash: &HashedToken) -> Option<bool> {
    let found = TokenStore::find(store, hash).await.unwrap();
    found.map(|found| found.record.living(found.epoch, NOW).is_ok())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn an_insert_that_races_with_the_end_of_all_is_dead_or_gone() {
    let (_, store) = scene().await;
    let mut gone = 0;
    for round in 0..300 {
        let user = UserId::new(round.to_string()).unwrap();
        let (hash, record) = sample(&user, 0);
        let insert = tokio::spawn({
            let (store, record) = (store.clone(), record.clone());
            async move { store.insert(&hash, &record, None).await }
        });
        for _ in 0..round % 4 {
            tokio::task::yield_now().await;
        }
        store.revoke_all(&user, NOW).await.unwrap();
        match insert.await.unwrap() {
            Ok(()) => assert_eq!(lives(&store, &hash).await, Some(false)),
            Err(InsertError::Ended) => {
                gone += 1;
                assert_eq!(lives(&store, &hash).await, None);
                let page = TokenStore::list(&store, &user, "api", &ALL).await.unwrap();
                assert!(page.tokens.is_empty(), "a refused token is listed");
                assert_eq!(store.owner_of(record.id).await.unwrap(), None);
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{gone} of 300 were refused");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn what_the_database_ends_by_itself_is_ended_here() {
    let (database, store) = scene().await;
    let email = EmailAddress::parse("ada@example.com").unwrap();
    let ada = Account::new(UserId::random().unwrap(), email, NOW);
    store.create(&ada, None).await.unwrap();
    let (hash, record) = sample(&ada.id, 0);
    store.insert(&hash, &record, None).await.unwrap();
    assert_eq!(lives(&store, &hash).await, Some(true));
    database.disable(&ada.id, NOW).await.unwrap();
    assert_eq!(lives(&store, &hash).await, Some(false));
    assert!(!store.take(&hash, "api", NOW).await.unwrap());
    database.enable(&ada.id).await.unwrap();
    assert_eq!(lives(&store, &hash).await, Some(false));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn prune_goes_by_the_databases_epochs() {
    let (_, store) = scene().await;
    let (ended, other) = (UserId::new("ended").unwrap(), UserId::new("other").unwrap());
    let old = sample(&ended, 0);
    let living = sample(&other, 0);
    store.insert(&old.0, &old.1, None).await.unwrap();
    store.insert(&living.0, &living.1, None).await.unwrap();
    assert_eq!(store.revoke_all(&ended, NOW).await.unwrap(), 1);
    let new = sample(&ended, 1);
    store.insert(&new.0, &new.1, None).await.unwrap();
    assert_eq!(store.prune(NOW, 100).await.unwrap(), 0, "it died at the cutoff");
    assert_eq!(store.prune(LATER, 100).await.unwrap(), 1);
    assert_eq!(lives(&store, &old.0).await, None);
    assert_eq!(lives(&store, &new.0).await, Some(true));
    assert_eq!(lives(&store, &living.0).await, Some(true));
    assert_eq!(store.prune(LATER, 100).await.unwrap(), 0);
}

/// The note in Redis is made before the database is asked. Here it says no; a process that died in between leaves the same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn an_end_of_all_that_only_began_ends_nothing_and_prunes_nothing() {
    let (_, store) = scene().await;
    let no_account = UserId::new("ada").unwrap();
    let (hash, record) = sample(&no_account, 0);
    store.insert(&hash, &record, None).await.unwrap();
    assert_eq!(store.disable(&no_account, NOW).await.unwrap(), None);
    assert_eq!(lives(&store, &hash).await, Some(true));
    assert_eq!(store.prune(LATER, 100).await.unwrap(), 0);
    assert_eq!(lives(&store, &hash).await, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn an_outage_of_the_database_is_no_answer() {
    let (database, store) = scene().await;
    let ada = UserId::new("ada").unwrap();
    let (hash, record) = sample(&ada, 0);
    store.insert(&hash, &record, None).await.unwrap();
    database.fail(true);
    assert!(TokenStore::find(&store, &hash).await.is_err());
    assert!(store.find_by_id(&ada, record.id).await.is_err());
    assert!(store.take(&hash, "api", NOW).await.is_err());
    assert!(TokenStore::list(&store, &ada, "api", &ALL).await.is_err());
    assert!(store.revoke_all(&ada, NOW).await.is_err());
    assert!(store.ready().await.is_err());
    let (other, record) = sample(&ada, 0);
    assert!(store.insert(&other, &record, None).await.is_err());
    database.fail(false);
    assert_eq!(lives(&store, &hash).await, Some(true));
    assert_eq!(lives(&store, &other).await, None);
}
