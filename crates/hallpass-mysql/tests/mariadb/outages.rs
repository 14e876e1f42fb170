//! The database killed, frozen, cut off, or taking no changes: an outage in time, never a wrong answer, and back by itself.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hallpass::{HashedToken, TokenStore};
use hallpass_mysql::{MysqlStore, Options};
use hallpass_testbed::{Fault, MariaDb, Proxy, Server};
use tokio::task::JoinHandle;

use crate::sample::{NOW, token};

/// So long each outage lasts. `scripts/proof` has longer ones.
const OUTAGE: Duration = Duration::from_secs(3);
const IN_TIME: Duration = Duration::from_secs(1);
const IN_TIME_FROZEN: Duration = Duration::from_millis(1500);
const BACK: Duration = Duration::from_secs(2);

/// What callers saw.
#[derive(Debug, Default)]
struct Seen {
    served: u32,
    unavailable: u32,
    wrong: u32,
    slowest: Duration,
    /// Of the last answer that was not `Unavailable`.
    last_served: Option<Instant>,
}

/// Callers who never stop asking for one token and making others.
struct Callers {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    fn start(store: &Arc<MysqlStore>, hash: HashedToken) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let tasks = (0..24)
            .map(|number| {
                let (store, seen, stop) = (Arc::clone(store), Arc::clone(&seen), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let started = Instant::now();
                        // The answer, and whether it is right.
                        let answer = if number % 3 == 0 {
                            let (new, record) = token("somebody");
                            match store.insert(&new, &record, None).await {
                                Ok(()) => Ok(true),
                                Err(hallpass::store::InsertError::Unavailable(why)) => Err(why),
                                Err(_) => Ok(false),
                            }
                        } else {
                            store.find(&hash).await.map(|found| found.is_some())
                        };
                        let took = started.elapsed();
                        {
                            let mut seen = seen.lock().unwrap();
                            seen.slowest = seen.slowest.max(took);
                            match answer {
                                Ok(right) => {
                                    seen.served += 1;
                                    seen.wrong += u32::from(!right);
                                    seen.last_served = Some(Instant::now());
                                }
                                Err(_) => seen.unavailable += 1,
                            }
                        }
                        // About 200 calls a second, of all together.
                        tokio::time::sleep(Duration::from_millis(120).saturating_sub(took)).await;
                    }
                })
            })
            .collect();
        Self { seen, stop, tasks }
    }

    /// What was seen since the last time.
    fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    async fn until_served(&self, within: Duration) -> Duration {
        let started = Instant::now();
        while self.seen.lock().unwrap().last_served.is_none_or(|at| at < started) {
            assert!(started.elapsed() < within, "not served {within:?} after the return");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    }

    async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.seen.lock().map(|mut seen| std::mem::take(&mut *seen)).unwrap()
    }
}

/// Breaks, waits, mends, and looks at what callers saw.
async fn outage(
    store: &Arc<MysqlStore>,
    what: &str,
    in_time: Duration,
    breaks: impl FnOnce(),
    mends: impl FnOnce(),
) {
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    let callers = Callers::start(store, hash);
    callers.until_served(BACK).await;
    tokio::task::block_in_place(breaks);
    // Calls that were answered already.
    tokio::time::sleep(in_time).await;
    let first = callers.take();
    tokio::time::sleep(OUTAGE).await;
    let during = callers.take();
    tokio::task::block_in_place(mends);
    let back = callers.until_served(BACK).await;
    let after = callers.stop().await;
    println!("{what}: {during:?}, back after {back:?}");
    assert_eq!(first.wrong + during.wrong + after.wrong, 0, "{what}: wrong answers");
    assert_eq!(during.served, 0, "{what}: served by nobody");
    assert!(during.unavailable > 50, "{what}: {during:?}");
    let slowest = first.slowest.max(during.slowest).max(after.slowest);
    assert!(slowest < in_time, "{what}: an answer took {slowest:?}");
    assert!(store.revoke(&hash, NOW).await.unwrap());
}

async fn through_a_proxy(server: &MariaDb) -> (Arc<MysqlStore>, Proxy) {
    let proxy = Proxy::start(server.address()).unwrap();
    let url = proxy.url(&server.database("outage").unwrap());
    (Arc::new(MysqlStore::connect(&url, Options::new()).await.unwrap()), proxy)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_killed_database_is_unavailable_within_a_second_and_found_again() {
    let server = Mutex::new(MariaDb::start().unwrap());
    let url = server.lock().unwrap().database("outage").unwrap();
    let store = Arc::new(MysqlStore::connect(&url, Options::new()).await.unwrap());
    let kill = || server.lock().unwrap().kill9().unwrap();
    let restart = || server.lock().unwrap().restart().unwrap();
    outage(&store, "killed", IN_TIME, kill, restart).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_frozen_database_is_unavailable_within_a_second_and_a_half_and_goes_on() {
    let server = Mutex::new(MariaDb::start().unwrap());
    let url = server.lock().unwrap().database("outage").unwrap();
    let store = Arc::new(MysqlStore::connect(&url, Options::new()).await.unwrap());
    let freeze = || server.lock().unwrap().freeze().unwrap();
    let thaw = || server.lock().unwrap().thaw().unwrap();
    outage(&store, "frozen", IN_TIME_FROZEN, freeze, thaw).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_database_that_is_cut_off_is_unavailable_within_a_second_and_found_again() {
    let server = MariaDb::start().unwrap();
    for fault in [Fault::Drop, Fault::Reset, Fault::Truncate(0)] {
        let (store, proxy) = through_a_proxy(&server).await;
        let breaks = || proxy.set(fault).unwrap();
        let mends = || proxy.set(Fault::Pass).unwrap();
        outage(&store, &format!("{fault:?}"), IN_TIME, breaks, mends).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn answers_that_break_off_anywhere_are_never_taken_for_whole() {
    let server = MariaDb::start().unwrap();
    let (store, proxy) = through_a_proxy(&server).await;
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    let (mut broken, mut whole) = (0, 0);
    for bytes in (0..4000).step_by(37) {
        proxy.set(Fault::Truncate(bytes)).unwrap();
        match store.find(&hash).await {
            Ok(Some(found)) => {
                assert_eq!(found.record, record);
                whole += 1;
            }
            Ok(None) => panic!("an answer that broke off after {bytes} bytes was taken for no such token"),
            Err(_) => broken += 1,
        }
    }
    assert!(broken > 10 && whole > 10, "{broken} broken, {whole} whole");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_connection_that_was_closed_while_it_rested_is_not_noticed() {
    let mut server = MariaDb::start().unwrap();
    let url = server.database("rested").unwrap();
    let store = MysqlStore::connect(&url, Options::new()).await.unwrap();
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    server.kill9().unwrap();
    server.restart().unwrap();
    // Nobody asked while it was away, so nobody need hear of it.
    assert_eq!(store.find(&hash).await.unwrap().unwrap().record, record);
    assert!(store.revoke(&hash, NOW).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_database_that_takes_no_changes_goes_on_verifying() {
    let server = MariaDb::start().unwrap();
    let url = server.database("read_only").unwrap();
    let store = MysqlStore::connect(&url, Options::new()).await.unwrap();
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    server.sql("SET GLOBAL read_only = 1").unwrap();
    assert_eq!(store.find(&hash).await.unwrap().unwrap().record, record);
    store.ready().await.unwrap();
    let error = store.revoke(&hash, NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "unavailable: the database cannot be written to");
    assert!(store.revoke_all(&record.user, NOW).await.is_err());
    server.sql("SET GLOBAL read_only = 0").unwrap();
    assert!(store.revoke(&hash, NOW).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_caller_who_goes_away_leaves_the_work_whole_or_undone_and_no_slot_taken() {
    let server = MariaDb::start().unwrap();
    let url = server.database("cancelled").unwrap();
    let store = Arc::new(MysqlStore::connect(&url, Options::new().pool_size(2)).await.unwrap());
    for round in 0..200 {
        let (hash, record) = token(&format!("user {round}"));
        let inserting = store.insert(&hash, &record, Some(1));
        let gone = tokio::time::timeout(Duration::from_micros(round * 10), inserting).await.is_err();
        let kept = store.find(&hash).await.unwrap();
        if !gone {
            assert!(kept.is_some());
        }
        store.ready().await.unwrap();
    }
}
