//! `kill -9` of Redis amid creations and revocations: nothing that was acknowledged is lost, and nothing that was ended lives again.

#![cfg(test)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use hallpass::{
    Epoch, HashedToken, PlainToken, Purpose, Timestamp, TokenId, TokenRecord, TokenStore, UserId,
};
use hallpass_redis::{Options, RedisStore};
use hallpass_testbed::{Redis, Server};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_123_457);
const TASKS: usize = 32;
/// Killed so long after a round's first work; a little later in each, so that it hits everything once.
const WORK: Duration = Duration::from_millis(300);

/// What the callers were told.
#[derive(Default)]
struct Told {
    /// Kept, and nobody has tried to end it.
    living: Vec<HashedToken>,
    /// Ended.
    dead: Vec<HashedToken>,
}

/// Creates, revokes, redeems and ends all, until the server is gone.
async fn work(store: RedisStore, task: usize, told: Arc<Mutex<Told>>) {
    for number in 0.. {
        let user = UserId::new(format!("{task}-{number}")).unwrap();
        let hash = PlainToken::generate(&Purpose::api()).unwrap().hash();
        let id = TokenId::random().unwrap();
        let record = TokenRecord::new(id, user.clone(), Epoch::default(), "api", NOW);
        if store.insert(&hash, &record, None).await.is_err() {
            return;
        }
        let ended = match number % 6 {
            0 => store.revoke(&hash, NOW).await.map(drop),
            1 => store.revoke_by_id(&user, id, NOW).await.map(drop),
            2 => store.take(&hash, "api", NOW).await.map(drop),
            3 => store.revoke_all(&user, NOW).await.map(drop),
            _ => {
                told.lock().unwrap().living.push(hash);
                continue;
            }
        };
        // Otherwise it may be ended or not.
        if ended.is_ok() {
            told.lock().unwrap().dead.push(hash);
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    acknowledged: usize,
    lost: usize,
    revived: usize,
}

/// Whether a token is there and lives. The server has just read its files, and may still be slow.
async fn lives(store: &RedisStore, hash: &HashedToken) -> Option<bool> {
    for _ in 0..20 {
        if let Ok(found) = store.find(hash).await {
            return found.map(|found| found.record.living(found.epoch, NOW).is_ok());
        }
    }
    panic!("it does not come back")
}

async fn crash(mut redis: Redis) -> Count {
    let rounds =
        std::env::var("HALLPASS_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let mut count = Count::default();
    for round in 0..rounds {
        let told = Arc::new(Mutex::new(Told::default()));
        let options = Options::new().prefix(format!("round-{round}:"));
        let store = RedisStore::connect(&redis.url(), options.clone()).await.unwrap();
        let tasks: Vec<_> =
            (0..TASKS).map(|task| tokio::spawn(work(store.clone(), task, Arc::clone(&told)))).collect();
        tokio::time::sleep(WORK + Duration::from_millis(37) * round).await;
        redis.kill9().unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        redis.restart().unwrap();
        let store = RedisStore::connect(&redis.url(), options).await.unwrap();
        let told = std::mem::take(&mut *told.lock().unwrap());
        count.acknowledged += told.living.len() + 2 * told.dead.len();
        for hash in &told.living {
            count.lost += usize::from(lives(&store, hash).await != Some(true));
        }
        for hash in &told.dead {
            match lives(&store, hash).await {
                Some(false) => {}
                Some(true) => count.revived += 1,
                None => count.lost += 1,
            }
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_killed_redis_that_always_syncs_has_lost_nothing_and_revives_nothing() {
    let redis = Redis::options().append_only().set("appendfsync", "always").start().unwrap();
    let count = crash(redis).await;
    println!("{count:?}");
    assert!(count.acknowledged > 100, "{count:?}");
    assert_eq!((count.lost, count.revived), (0, 0), "{count:?}");
}
