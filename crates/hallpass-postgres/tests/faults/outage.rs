use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use hallpass::{HashedToken, TokenStore, store::InsertError};
use hallpass_postgres::PostgresStore;
use hallpass_testbed::{Fault, PgBouncer, Postgres, Proxy, Server};
use tokio::task::JoinSet;

use crate::{NOW, find, insert, open, timed, token};

/// How long an outage lasts here. Longer than any patience, so that whoever only waits is found out.
const OUTAGE: Duration = Duration::from_secs(3);

const SLOWEST: Duration = Duration::from_secs(1);
const SLOWEST_FROZEN: Duration = Duration::from_millis(1_500);
const SLOWEST_RETURN: Duration = Duration::from_secs(2);

/// Reads and writes from many tasks for as long as the outage lasts. All must be told so, in time.
async fn everybody_is_told(store: &PostgresStore, kept: HashedToken, slowest: Duration) {
    let until = Instant::now() + OUTAGE;
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut told = 0_u32;
            while Instant::now() < until {
                let (is_told, took) = match number % 4 {
                    0 => {
                        timed(async {
                            matches!(insert(&store, "ada").await, Err(InsertError::Unavailable(_)))
                        })
                        .await
                    }
                    1 => timed(async { store.revoke(&kept, NOW).await.is_err() }).await,
                    2 => timed(async { store.ready().await.is_err() }).await,
                    _ => timed(async { find(&store, &kept).await.is_err() }).await,
                };
                assert!(is_told, "an answer came out of nowhere");
                assert!(took < slowest, "an answer took {took:?}");
                told += 1;
                tokio::task::yield_now().await;
            }
            told
        });
    }
    while let Some(told) = tasks.join_next().await {
        assert!(told.unwrap() > 0);
    }
}

/// It works again by itself, soon.
async fn it_returns(store: &PostgresStore, kept: HashedToken) {
    let begun = Instant::now();
    loop {
        let works =
            find(store, &kept).await.is_ok_and(|found| found.is_some()) && insert(store, "ada").await.is_ok();
        assert!(begun.elapsed() < SLOWEST_RETURN, "not back after {:?}", begun.elapsed());
        if works {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A store with every connection in use, and a token in it.
async fn warm(url: &str) -> (PostgresStore, HashedToken) {
    let store = open(url).await;
    let (kept, _) = insert(&store, "ada").await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..32 {
        let store = store.clone();
        tasks.spawn(async move {
            insert(&store, "bob").await.unwrap();
            find(&store, &kept).await.unwrap();
        });
    }
    tasks.join_all().await;
    (store, kept)
}

/// Blocks a thread for what the testbed does.
async fn break_it<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_killed_database_is_unavailable_at_once_and_used_again_when_it_is_back() {
    let mut server = Postgres::options().fsync(true).start().unwrap();
    let (store, kept) = warm(&server.database("killed").unwrap()).await;
    server.kill9().unwrap();
    everybody_is_told(&store, kept, SLOWEST).await;
    let server = break_it(move || {
        server.restart().unwrap();
        server
    })
    .await;
    it_returns(&store, kept).await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_frozen_database_is_unavailable_in_time_and_used_again_when_it_is_back() {
    let mut server = Postgres::start().unwrap();
    let (store, kept) = warm(&server.database("frozen").unwrap()).await;
    server.freeze().unwrap();
    everybody_is_told(&store, kept, SLOWEST_FROZEN).await;
    server.thaw().unwrap();
    it_returns(&store, kept).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_database_that_is_cut_off_is_unavailable_in_time_and_used_again_when_it_is_back() {
    let server = Postgres::start().unwrap();
    let proxy = Arc::new(Proxy::start(server.address()).unwrap());
    let (store, kept) = warm(&proxy.url(&server.database("cut_off").unwrap())).await;
    let other = Arc::clone(&proxy);
    break_it(move || other.set(Fault::Drop).unwrap()).await;
    everybody_is_told(&store, kept, SLOWEST).await;
    let other = Arc::clone(&proxy);
    break_it(move || other.set(Fault::Pass).unwrap()).await;
    it_returns(&store, kept).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL and PgBouncer: scripts/test --servers runs it"]
async fn a_frozen_database_behind_pgbouncer_is_unavailable_in_time() {
    let mut server = Postgres::start().unwrap();
    let bouncer = PgBouncer::start(&server).unwrap();
    let url = format!("{}?pgbouncer=true", bouncer.url(&server.database("bounced").unwrap()));
    let (store, kept) = warm(&url).await;
    server.freeze().unwrap();
    everybody_is_told(&store, kept, SLOWEST_FROZEN).await;
    server.thaw().unwrap();
    it_returns(&store, kept).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_crowd_does_not_storm_a_database_that_is_down() {
    let server = Postgres::start().unwrap();
    let proxy = Arc::new(Proxy::start(server.address()).unwrap());
    let (store, kept) = warm(&proxy.url(&server.database("storm").unwrap())).await;
    let other = Arc::clone(&proxy);
    break_it(move || other.set(Fault::Reset).unwrap()).await;
    let before = proxy.accepted();
    everybody_is_told(&store, kept, SLOWEST).await;
    let attempts = proxy.accepted() - before;
    // One at a time, and a tenth of a second between them.
    assert!(attempts <= 35, "{attempts} attempts in {OUTAGE:?}");
    let other = Arc::clone(&proxy);
    break_it(move || other.set(Fault::Pass).unwrap()).await;
    it_returns(&store, kept).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn readers_do_not_notice_that_connections_are_ended() {
    let server = Postgres::start().unwrap();
    let url = server.database("ended").unwrap();
    let (store, kept) = warm(&url).await;
    let mut readers = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for _ in 0..8 {
        let (store, stopped) = (store.clone(), stopped.clone());
        readers.spawn(async move {
            while !*stopped.borrow() {
                assert!(find(&store, &kept).await.unwrap().is_some());
            }
        });
    }
    for _ in 0..5 {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'hallpass'";
        server.sql(end).unwrap();
        find(&store, &kept).await.unwrap();
    }
    stop.send(true).unwrap();
    readers.join_all().await;
    it_returns(&store, kept).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn on_a_read_only_database_verification_goes_on_and_writes_are_unavailable() {
    let server = Postgres::start().unwrap();
    let (store, kept) = warm(&server.database("read_only").unwrap()).await;
    server.sql("ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
    server.sql("SELECT pg_reload_conf()").unwrap();
    let refused = loop {
        // The server tells its sessions a moment later.
        if let Err(unavailable) = store.revoke(&token("eve").0, NOW).await {
            break unavailable;
        }
        tokio::task::yield_now().await;
    };
    assert!(refused.to_string().contains("cannot be written to"), "{refused}");
    for _ in 0..20 {
        assert!(find(&store, &kept).await.unwrap().is_some());
        assert!(store.revoke(&kept, NOW).await.is_err());
        assert!(store.revoke_all(&token("ada").1.user, NOW).await.is_err());
        assert!(insert(&store, "ada").await.is_err());
    }
    server.sql("ALTER SYSTEM RESET default_transaction_read_only").unwrap();
    server.sql("SELECT pg_reload_conf()").unwrap();
    it_returns(&store, kept).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn callers_who_go_away_leave_the_connections_as_they_were() {
    let server = Postgres::start().unwrap();
    let url = server.database("hasty").unwrap();
    let (store, kept) = warm(&url).await;
    let pids = || {
        server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'hallpass' ORDER BY 1").unwrap()
    };
    let before = pids();
    for _ in 0..200 {
        let (hash, record) = token("ada");
        let mut insert = std::pin::pin!(store.insert(&hash, &record, Some(1_000_000)));
        // Polled once, so that it is under way, and dropped.
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(insert.as_mut().poll(context))).await;
        assert!(polled.is_pending());
    }
    it_returns(&store, kept).await;
    assert_eq!(pids(), before, "connections were made anew");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_server_that_is_dead_or_read_only_is_passed_over_for_one_that_writes() {
    let servers = [
        Postgres::options().set("default_transaction_read_only", "on").start().unwrap(),
        Postgres::start().unwrap(),
    ];
    let url = servers[1].database("primary").unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    let hosts = format!("127.0.0.1:1,{},{}", servers[0].address(), servers[1].address());
    let (store, kept) =
        warm(&format!("postgres://hallpass@{hosts}/{name}?target_session_attrs=read-write")).await;
    assert!(store.revoke(&kept, NOW).await.unwrap());
}
