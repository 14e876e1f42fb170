//! Tokens made and on disk, against a bare transaction that inserts as many rows at once.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hallpass::{Guard, Purpose, testing::Users};
use hallpass_sqlite::{Options, SqliteStore};
use rusqlite::{Connection, params};

use crate::{
    Plan,
    report::{Goal, Report, Sample},
};

const TASKS: usize = 64;

pub(crate) fn measure(plan: &Plan, folder: &Path, report: &mut Report) {
    eprintln!("durable creations");
    let (rounds, time) = plan.rounds();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let store =
        Arc::new(SqliteStore::open(folder.join("create.db"), Options::default()).expect("a new database"));
    let users = Users::new();
    let user = users.add("ada@example.com");
    let guard = Guard::new(users, store.clone(), Purpose::api());
    drop(SqliteStore::open(folder.join("bare.db"), Options::default()).expect("a new database"));
    let mut bare = Bare::open(&folder.join("bare.db"));

    let (mut ours, mut limit, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let before = store.counts().commits;
        let begin = Instant::now();
        let count = runtime.block_on(create(&guard, &user, time));
        let rate = count as f64 / begin.elapsed().as_secs_f64();
        let batches = (store.counts().commits - before).max(1);
        // The same number of rows in a transaction as the store reached by itself.
        let batch = (count / batches).max(1);
        let bare_rate = bare.run(time, batch);
        if round > 0 {
            ours.push(rate);
            limit.push(bare_rate);
            commits.push(batches as f64 / count as f64);
        }
    }
    let note = format!(
        "{:.0}/s against {:.0}/s",
        Sample::new(ours.clone()).median(),
        Sample::new(limit.clone()).median()
    );
    report.add(
        "durable creations, 64 tasks / bare batched transaction",
        Sample::ratios(&ours, &limit),
        "",
        Goal::AtLeast(0.8),
        note,
    );
    report.add(
        "commits, each with one fsync of the log, per creation",
        Sample::new(commits),
        "",
        Goal::Said,
        "",
    );
}

async fn create(guard: &Guard<Users>, user: &hallpass::testing::User, time: Duration) -> u64 {
    let (count, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let (guard, user, count) = (guard.clone(), user.clone(), Arc::clone(&count));
        tasks.spawn(async move {
            while begin.elapsed() < time {
                guard.generate(&user).name("For the benchmark").await.expect("a token");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    count.load(Ordering::Relaxed)
}

/// A connection with the store's own settings for durability, and nothing around it.
struct Bare {
    connection: Connection,
    number: u64,
}

impl Bare {
    fn open(path: &Path) -> Self {
        let connection = Connection::open(path).expect("the database");
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").expect("settings");
        Self { connection, number: 0 }
    }

    fn run(&mut self, time: Duration, batch: u64) -> f64 {
        let (begin, mut count) = (Instant::now(), 0);
        while begin.elapsed() < time {
            let transaction =
                self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate);
            let transaction = transaction.expect("a transaction");
            {
                let mut insert = transaction
                    .prepare_cached(
                        "INSERT INTO hallpass_tokens (hash, id, user_id, epoch, purpose, origin, name, hint, scopes, meta, bound_to, created_at, expires_at)
                         VALUES (?1, ?2, '1', 0, 'api', 'issued', 'For the benchmark', 'hp_...0000', '*', '{}', 'ada@example.com', ?3, ?4)",
                    )
                    .expect("the table as we know it");
                for _ in 0..batch {
                    self.number += 1;
                    let hash = crate::tokens::random(self.number);
                    let created =
                        1_767_225_600_000_000_i64 + i64::try_from(self.number).expect("a small number");
                    insert
                        .execute(params![
                            hash.as_slice(),
                            &crate::tokens::random(!self.number)[..16],
                            created,
                            created + 31_536_000_000_000_i64
                        ])
                        .expect("a row");
                }
            }
            transaction.commit().expect("a commit");
            count += batch;
        }
        count as f64 / begin.elapsed().as_secs_f64()
    }
}
