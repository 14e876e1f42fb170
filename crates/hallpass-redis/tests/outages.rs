//! A Redis that is killed, frozen, cut off: every answer is `Unavailable` in time, none is wrong, and all is well soon after.

#![cfg(test)]

use std::time::{Duration, Instant};

use hallpass::{
    Epoch, HashedToken, PlainToken, Purpose, Timestamp, TokenId, TokenRecord, TokenStore, UserId,
};
use hallpass_redis::{Options, RedisStore};
use hallpass_testbed::{Fault, Proxy, Redis, RedisCluster, Server};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_123_457);

/// An answer must come within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// After the server is back, the first success must come within this.
const BACK_WITHIN: Duration = Duration::from_secs(2);

fn sample(user: &str) -> (HashedToken, TokenRecord) {
    let hash = PlainToken::generate(&Purpose::api()).unwrap().hash();
    let user = UserId::new(user).unwrap();
    (hash, TokenRecord::new(TokenId::random().unwrap(), user, Epoch::default(), "api", NOW))
}

/// A store with a token of some users each, so that every node of a cluster has some.
struct Scene {
    store: RedisStore,
    tokens: Vec<(HashedToken, TokenRecord)>,
}

impl Scene {
    async fn new(url: &str) -> Self {
        let store = RedisStore::connect(url, Options::new().prefix(Redis::prefix("outages"))).await.unwrap();
        let tokens: Vec<_> = (0..12).map(|number| sample(&number.to_string())).collect();
        for (hash, record) in &tokens {
            store.insert(hash, record, None).await.unwrap();
        }
        Self { store, tokens }
    }

    /// Asks everything at once; nothing may be answered wrongly or late. Says how many calls failed, of how many.
    async fn round(&self) -> (usize, usize) {
        let mut calls = tokio::task::JoinSet::new();
        for (hash, record) in self.tokens.clone() {
            let store = self.store.clone();
            calls.spawn(async move {
                let began = Instant::now();
                let failed = match store.find(&hash).await {
                    Ok(found) => {
                        assert_eq!(found.expect("a token that is there").record, record);
                        false
                    }
                    Err(_) => true,
                };
                (failed, began.elapsed())
            });
            let store = self.store.clone();
            calls.spawn(async move {
                let (began, (hash, record)) = (Instant::now(), sample("new"));
                (store.insert(&hash, &record, None).await.is_err(), began.elapsed())
            });
            let store = self.store.clone();
            calls.spawn(async move {
                let began = Instant::now();
                let failed = match store.find(&sample("nobody").0).await {
                    Ok(found) => {
                        assert_eq!(found, None);
                        false
                    }
                    Err(_) => true,
                };
                (failed, began.elapsed())
            });
        }
        let (began, store) = (Instant::now(), self.store.clone());
        calls.spawn(async move { (store.ready().await.is_err(), began.elapsed()) });
        let answers = calls.join_all().await;
        for (_, took) in &answers {
            assert!(*took < ANSWERED_WITHIN, "an answer after {took:?}");
        }
        (answers.iter().filter(|(failed, _)| *failed).count(), answers.len())
    }

    async fn is_out(&self) {
        for _ in 0..3 {
            let (failed, all) = self.round().await;
            assert_eq!(failed, all, "some were answered");
        }
    }

    async fn is_back(&self, since: Instant) {
        while self.round().await.0 > 0 {
            assert!(since.elapsed() < BACK_WITHIN, "not back after {:?}", since.elapsed());
        }
        assert!(since.elapsed() < BACK_WITHIN, "back after {:?}", since.elapsed());
    }
}

fn persistent() -> Redis {
    Redis::options().append_only().set("appendfsync", "always").start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_killed_redis_is_unavailable_and_found_again() {
    let mut redis = persistent();
    let scene = Scene::new(&redis.url()).await;
    redis.kill9().unwrap();
    scene.is_out().await;
    redis.restart().unwrap();
    scene.is_back(Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_frozen_redis_is_unavailable_and_found_again() {
    let mut redis = persistent();
    let scene = Scene::new(&redis.url()).await;
    redis.freeze().unwrap();
    scene.is_out().await;
    redis.thaw().unwrap();
    scene.is_back(Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_redis_that_is_cut_off_is_unavailable_and_found_again() {
    let redis = persistent();
    let proxy = Proxy::start(redis.address()).unwrap();
    let scene = Scene::new(&proxy.url(&redis.url())).await;
    for fault in [Fault::Drop, Fault::Reset, Fault::Truncate(0)] {
        proxy.set(fault).unwrap();
        scene.is_out().await;
        proxy.set(Fault::Pass).unwrap();
        scene.is_back(Instant::now()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_connection_that_was_closed_while_idle_is_not_an_outage() {
    let redis = persistent();
    let proxy = Proxy::start(redis.address()).unwrap();
    let scene = Scene::new(&proxy.url(&redis.url())).await;
    proxy.set(Fault::Reset).unwrap();
    proxy.set(Fault::Pass).unwrap();
    assert_eq!(scene.round().await.0, 0);
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    assert_eq!(scene.round().await.0, 0);
    redis.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(scene.round().await.0, 0);
}

/// The command arrives, its answer does not, and it is sent again over a new connection.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_change_whose_answer_was_lost_is_made_once_and_answered() {
    let redis = persistent();
    let proxy = Proxy::start(redis.address()).unwrap();
    let store = RedisStore::connect(&proxy.url(&redis.url()), Options::new()).await.unwrap();
    let (_, record) = sample("ada");
    // Not by hash: that would ask for the pointer first.
    for round in 0..10 {
        let (hash, mut record) = (sample("ada").0, record.clone());
        record.id = TokenId::random().unwrap();
        store.insert(&hash, &record, None).await.unwrap();
        let accepted = proxy.accepted();
        proxy.set(Fault::Truncate(0)).unwrap();
        let revoking = {
            let (store, user, id) = (store.clone(), record.user.clone(), record.id);
            tokio::spawn(async move { store.revoke_by_id(&user, id, NOW).await })
        };
        while proxy.accepted() == accepted {
            tokio::task::yield_now().await;
        }
        proxy.set(Fault::Pass).unwrap();
        assert!(revoking.await.unwrap().unwrap(), "round {round}: done, and denied");
        assert!(!store.revoke_by_id(&record.user, record.id, NOW).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_cluster_without_one_node_is_never_wrong_nor_late_and_comes_back() {
    let options = Redis::options().append_only().set("appendfsync", "always");
    let mut cluster = RedisCluster::start_with(3, &options).unwrap();
    let scene = Scene::new(&cluster.url()).await;

    cluster.nodes_mut()[1].freeze().unwrap();
    for _ in 0..3 {
        assert!(scene.round().await.0 > 0, "nothing noticed");
    }
    cluster.nodes_mut()[1].thaw().unwrap();
    cluster.ready().unwrap();
    scene.is_back(Instant::now()).await;

    cluster.nodes_mut()[1].kill9().unwrap();
    for _ in 0..3 {
        assert!(scene.round().await.0 > 0, "nothing noticed");
    }
    cluster.nodes_mut()[1].restart().unwrap();
    cluster.ready().unwrap();
    scene.is_back(Instant::now()).await;

    for node in cluster.nodes_mut() {
        node.freeze().unwrap();
    }
    scene.is_out().await;
    for node in cluster.nodes_mut() {
        node.thaw().unwrap();
    }
    cluster.ready().unwrap();
    scene.is_back(Instant::now()).await;
}
