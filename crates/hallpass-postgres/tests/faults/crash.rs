use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use hallpass::{Epoch, HashedToken, TokenStore, UserId};
use hallpass_postgres::PostgresStore;
use hallpass_testbed::{Postgres, Server};
use tokio::task::JoinSet;

use crate::{NOW, find, insert, open, token};

/// Enough to be in the middle of it.
const ACKNOWLEDGED_BEFORE_THE_KILL: usize = 300;

/// What was answered with `Ok`.
#[derive(Default)]
struct Promises {
    living: Vec<HashedToken>,
    revoked: Vec<HashedToken>,
    ended: Vec<(HashedToken, UserId)>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_killed_database_that_commits_later_has_all_that_was_acknowledged() {
    let rounds = std::env::var("HALLPASS_CRASH_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    // What is committed asynchronously stays in memory for ten seconds: whoever relies on it loses it here.
    let mut server = Postgres::options()
        .fsync(true)
        .set("synchronous_commit", "off")
        .set("wal_writer_delay", "10s")
        .start()
        .unwrap();
    let url = server.database("crash").unwrap();
    let store = open(&url).await;
    for round in 0..rounds {
        let promises = Arc::new(Mutex::new(Promises::default()));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for task in 0..8 {
            let (store, promises) = (store.clone(), Arc::clone(&promises));
            let (acknowledged, over) = (Arc::clone(&acknowledged), Arc::clone(&over));
            tasks.spawn(async move {
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    number += 1;
                    if work(&store, &format!("{round}/{task}/{number}"), &promises).await {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while acknowledged.load(Ordering::Relaxed) < ACKNOWLEDGED_BEFORE_THE_KILL {
            tokio::task::yield_now().await;
        }
        server = tokio::task::spawn_blocking(move || {
            server.kill9().unwrap();
            server
        })
        .await
        .unwrap();
        over.store(true, Ordering::Relaxed);
        tasks.join_all().await;
        server = tokio::task::spawn_blocking(move || {
            server.restart().unwrap();
            server
        })
        .await
        .unwrap();
        let promises = std::mem::take(&mut *promises.lock().unwrap());
        kept(&store, promises).await;
    }
}

/// One of each kind of change. Says whether all was acknowledged.
async fn work(store: &PostgresStore, user: &str, promises: &Mutex<Promises>) -> bool {
    let Ok((living, _)) = insert(store, user).await else { return false };
    promises.lock().unwrap().living.push(living);
    let (capped, record) = token(user);
    if store.insert(&capped, &record, Some(10)).await.is_err() {
        return false;
    }
    if store.revoke(&capped, NOW).await.is_err() {
        return false;
    }
    promises.lock().unwrap().revoked.push(capped);
    let other = format!("{user}/ended");
    let Ok((ended, record)) = insert(store, &other).await else { return false };
    if store.revoke_all(&record.user, NOW).await.is_err() {
        return false;
    }
    promises.lock().unwrap().ended.push((ended, record.user));
    true
}

async fn kept(store: &PostgresStore, promises: Promises) {
    let Promises { living, revoked, ended } = promises;
    let mut lost = 0;
    let mut revived = 0;
    for hash in &living {
        lost += u32::from(again(store, hash).await.is_none());
    }
    for hash in &revoked {
        revived += u32::from(again(store, hash).await.is_none_or(|found| found.record.revoked_at.is_none()));
    }
    for (hash, user) in &ended {
        revived += u32::from(again(store, hash).await.is_none_or(|found| found.epoch != Epoch::new(1)));
        assert_eq!(store.epoch(user).await.unwrap(), Epoch::new(1));
    }
    assert!(!living.is_empty() && !revoked.is_empty() && !ended.is_empty());
    assert_eq!(
        (lost, revived),
        (0, 0),
        "of {} lost, of {} revived",
        living.len(),
        revoked.len() + ended.len()
    );
}

/// The first calls after the return may come too early.
async fn again(store: &PostgresStore, hash: &HashedToken) -> Option<hallpass::store::Found> {
    let begun = std::time::Instant::now();
    loop {
        match find(store, hash).await {
            Ok(found) => return found,
            Err(unavailable) => assert!(begun.elapsed().as_secs() < 2, "{unavailable}"),
        }
        tokio::task::yield_now().await;
    }
}
