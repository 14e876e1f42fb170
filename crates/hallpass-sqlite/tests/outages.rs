//! Busy files, full queues, callers who go away, and the end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must stop"
)]

mod fixture;

use std::{
    future::Future,
    pin::Pin,
    process::Command,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use fixture::{all, at, folder, other, store, token, user};
use hallpass::{TokenStore, Unavailable, store::InsertError};
use hallpass_sqlite::{Options, SqliteStore};

/// Far longer than any of these tests takes.
const LONG: Duration = Duration::from_mins(1);

fn patient(wait: Duration) -> (tempfile::TempDir, SqliteStore) {
    let (folder, path) = folder();
    let store = SqliteStore::open(path, Options::new().busy_timeout(wait)).unwrap();
    (folder, store)
}

fn locked(store: &SqliteStore) -> rusqlite::Connection {
    let other = other(store);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// A call that was made: it waits in the queue, or has its answer already.
struct Called<F: Future> {
    future: Pin<Box<F>>,
    answer: Option<F::Output>,
}

fn call<F: Future>(future: F) -> Called<F> {
    let mut future = Box::pin(future);
    let answer = match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    };
    Called { future, answer }
}

impl<F: Future> Called<F> {
    async fn answer(self) -> F::Output {
        match self.answer {
            Some(answer) => answer,
            None => self.future.await,
        }
    }
}

async fn insert(store: &SqliteStore) -> Result<(), InsertError> {
    let (hash, record) = token(&user("ada"));
    store.insert(&hash, &record, None).await
}

#[tokio::test]
async fn a_busy_database_is_unavailable_after_the_timeout_and_readable_meanwhile() {
    let wait = Duration::from_millis(100);
    let (_folder, store) = patient(wait);
    let (hash, record) = token(&user("ada"));
    store.insert(&hash, &record, None).await.unwrap();
    let other = locked(&store);

    let begun = Instant::now();
    let unavailable = store.revoke(&hash, at(1)).await.unwrap_err();
    assert!(begun.elapsed() >= wait);
    assert_eq!(unavailable.to_string(), "unavailable: the database is busy");
    assert!(store.ready().await.is_err());
    let found = TokenStore::find(&store, &hash).await.unwrap().unwrap();
    assert_eq!(found.record.revoked_at, None);

    other.execute_batch("COMMIT").unwrap();
    assert!(store.revoke(&hash, at(1)).await.unwrap());
    store.ready().await.unwrap();
}

#[tokio::test]
async fn waiting_in_the_queue_counts_as_waiting() {
    let wait = Duration::from_millis(600);
    let (_folder, store) = patient(wait);
    let other = locked(&store);
    let first = call(insert(&store));
    tokio::time::sleep(wait / 6).await;
    let begun = Instant::now();
    let second = call(insert(&store));
    assert!(matches!(first.answer().await, Err(InsertError::Unavailable(_))));
    assert!(matches!(second.answer().await, Err(InsertError::Unavailable(_))));
    // Behind the first, and then for its own turn, it would have waited 1100 ms.
    assert!(begun.elapsed() < wait + Duration::from_millis(400));
    drop(other);
    insert(&store).await.unwrap();
}

#[tokio::test]
async fn what_waits_together_is_written_in_one_transaction() {
    let (_folder, store) = patient(LONG);
    insert(&store).await.unwrap();
    let before = store.counts();
    let other = locked(&store);
    let inserting: Vec<_> = (0..100).map(|_| call(insert(&store))).collect();
    drop(other);
    for insert in inserting {
        insert.answer().await.unwrap();
    }
    let counts = store.counts();
    assert_eq!((counts.writes - before.writes, counts.commits - before.commits), (100, 1));
}

#[tokio::test]
async fn a_conflict_in_the_middle_of_a_batch_leaves_its_neighbours() {
    let (_folder, store) = patient(LONG);
    let owner = user("ada");
    let (taken, _) = token(&owner);
    let other = locked(&store);
    let before = store.counts();
    let inserting: Vec<_> = (0..10)
        .map(|number| {
            let (hash, record) = token(&owner);
            // The first of these has the hash to itself, the others come too late.
            let hash = if number % 3 == 0 { taken } else { hash };
            let store = store.clone();
            call(async move { store.insert(&hash, &record, None).await })
        })
        .collect();
    drop(other);
    let mut conflicts = Vec::new();
    for (number, insert) in inserting.into_iter().enumerate() {
        match insert.answer().await {
            Ok(()) => {}
            Err(InsertError::Conflict) => conflicts.push(number),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(conflicts, [3, 6, 9]);
    assert_eq!(store.counts().commits - before.commits, 1);
    assert_eq!(TokenStore::list(&store, &owner, "api", &all()).await.unwrap().tokens.len(), 7);
}

#[tokio::test]
async fn a_full_queue_is_unavailable_at_once_and_what_was_taken_is_kept() {
    let (_folder, store) = patient(LONG);
    let other = locked(&store);
    let inserting: Vec<_> = (0..3000).map(|_| call(insert(&store))).collect();
    let refused_at_once = inserting.iter().filter(|insert| insert.answer.is_some()).count();
    assert!(refused_at_once > 0);
    drop(other);
    let (mut kept, mut refused) = (0_i64, 0);
    for insert in inserting {
        match insert.answer().await {
            Ok(()) => kept += 1,
            Err(InsertError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, refused_at_once);
    let count = "SELECT count(*) FROM hallpass_tokens";
    let rows: i64 = self::other(&store).query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, kept);
}

#[tokio::test]
async fn nothing_new_is_made_for_a_caller_who_went_away_but_a_revocation_is() {
    let (_folder, store) = patient(LONG);
    let owner = user("ada");
    let (hash, record) = token(&owner);
    store.insert(&hash, &record, None).await.unwrap();
    let other = locked(&store);
    let (unwanted, unwanted_record) = token(&owner);
    drop(call(store.insert(&unwanted, &unwanted_record, None)));
    drop(call(store.revoke(&hash, at(1))));
    drop(other);
    // Comes after both in the queue.
    store.ready().await.unwrap();
    assert!(TokenStore::find(&store, &unwanted).await.unwrap().is_none());
    assert!(TokenStore::find(&store, &hash).await.unwrap().unwrap().record.revoked_at.is_some());
}

#[tokio::test]
async fn dropping_the_last_handle_writes_what_is_queued_and_closes_the_file() {
    let (_folder, store) = patient(LONG);
    let path = store.path().to_owned();
    let owner = user("ada");
    let tokens: Vec<_> = (0..50).map(|_| token(&owner)).collect();
    for (hash, record) in &tokens {
        store.insert(hash, record, None).await.unwrap();
    }
    let other = locked(&store);
    for (hash, _) in &tokens {
        drop(call(store.revoke(hash, at(1))));
    }
    // Ends after the drop below has begun, or before: all the same.
    let unlocking = std::thread::spawn(move || drop(other));
    drop(store);
    unlocking.join().unwrap();
    assert!(!path.with_extension("db-wal").exists());

    let store = SqliteStore::open(&path, Options::new()).unwrap();
    let page = TokenStore::list(&store, &owner, "api", &all()).await.unwrap();
    assert!(page.tokens.iter().all(|token| token.revoked_at == Some(at(1))));
}

#[tokio::test]
async fn an_answer_is_there_after_the_process_was_killed() {
    const PATH: &str = "HALLPASS_TEST_KILLED";
    if let Some(path) = std::env::var_os(PATH) {
        let store = SqliteStore::open(path, Options::new()).unwrap();
        for _ in 0..20 {
            insert(&store).await.unwrap();
        }
        std::process::abort();
    }
    let (_folder, path) = folder();
    let killed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_answer_is_there_after_the_process_was_killed"])
        .env(PATH, &path)
        .output()
        .unwrap();
    assert!(!killed.status.success());
    let store = SqliteStore::open(&path, Options::new()).unwrap();
    assert_eq!(TokenStore::list(&store, &user("ada"), "api", &all()).await.unwrap().tokens.len(), 20);
}

#[tokio::test]
async fn an_unavailable_says_nothing_of_what_was_written() {
    let (_folder, store) = store();
    let mut record = token(&user("canary-user")).1;
    record.name = Some("canary-name".into());
    record.purpose = String::new();
    let refused = store.insert(&token(&user("x")).0, &record, None).await.unwrap_err();
    let InsertError::Unavailable(unavailable) = refused else { panic!("{refused}") };
    let said = everything_said(&unavailable);
    assert!(said.contains("CHECK") && !said.contains("canary"), "{said}");
}

fn everything_said(unavailable: &Unavailable) -> String {
    let source = std::error::Error::source(unavailable).map(ToString::to_string);
    format!("{unavailable} {unavailable:?} {source:?}")
}
