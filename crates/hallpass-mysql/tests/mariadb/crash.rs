//! kill -9 of the database amid creations and revocations, with the weakest setting that is taken.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use hallpass::{HashedToken, TokenStore};
use hallpass_mysql::{MysqlStore, Options};
use hallpass_testbed::{MariaDb, Server};

use crate::sample::{NOW, token};

const ROUNDS: u32 = 5;
/// The database is killed when so many calls were acknowledged in a round.
const ENOUGH: usize = 500;

#[derive(Default)]
struct Acknowledged {
    created: HashSet<HashedToken>,
    /// Of those, which were revoked.
    revoked: HashSet<HashedToken>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn what_was_acknowledged_survives_kill_9_of_the_database_with_a_flush_setting_of_2() {
    let rounds = std::env::var("HALLPASS_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let options = MariaDb::options().fsync(true).set("innodb_flush_log_at_trx_commit", "2");
    let mut server = options.start().unwrap();
    let url = server.database("crash").unwrap();
    let store = Arc::new(MysqlStore::connect(&url, Options::new()).await.unwrap());
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));

    for round in 1..=rounds {
        let done = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..16)
            .map(|_| {
                let (store, done) = (Arc::clone(&store), Arc::clone(&done));
                let acknowledged = Arc::clone(&acknowledged);
                tokio::spawn(async move {
                    for number in 0_u64.. {
                        let (hash, record) = token("ada");
                        if store.insert(&hash, &record, None).await.is_err() {
                            break;
                        }
                        acknowledged.lock().unwrap().created.insert(hash);
                        if number % 2 == 0 {
                            let Ok(revoked) = store.revoke(&hash, NOW).await else { break };
                            assert!(revoked);
                            acknowledged.lock().unwrap().revoked.insert(hash);
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while done.load(Ordering::Relaxed) < ENOUGH {
            tokio::task::yield_now().await;
        }
        server.kill9().unwrap();
        for worker in workers {
            worker.await.unwrap();
        }
        server.restart().unwrap();

        let (created, revoked) = {
            let mut acknowledged = acknowledged.lock().unwrap();
            (std::mem::take(&mut acknowledged.created), std::mem::take(&mut acknowledged.revoked))
        };
        let (mut lost, mut revived) = (0, 0);
        for hash in &created {
            match store.find(hash).await.unwrap() {
                None => lost += 1,
                Some(found) if revoked.contains(hash) && found.record.revoked_at.is_none() => revived += 1,
                Some(_) => {}
            }
        }
        println!("round {round}: {} created, {} revoked", created.len(), revoked.len());
        assert_eq!((lost, revived), (0, 0), "lost and revived in round {round}");
    }
}
