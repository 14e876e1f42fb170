use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use hallpass::{
    Timestamp, Unavailable,
    audit::{AuditEntry, AuditStore},
    event::{Event, EventKind, Observer, Observers},
};
use hallpass_server::observers::AuditObserver;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::fixture::{ADA, Call, Fixture, Options, PASSWORD, send};

#[derive(Debug)]
struct Trail {
    entries: Mutex<Vec<AuditEntry>>,
    failing: AtomicBool,
    /// Every append takes one, if it is to wait.
    permits: Option<Semaphore>,
}

impl Trail {
    fn new(permits: Option<usize>) -> Arc<Self> {
        let permits = permits.map(Semaphore::new);
        Arc::new(Self { entries: Mutex::default(), failing: false.into(), permits })
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.entries.lock().unwrap().iter().map(|entry| entry.event.kind.as_str()).collect()
    }
}

#[async_trait]
impl AuditStore for Trail {
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), Unavailable> {
        if let Some(permits) = &self.permits {
            permits.acquire().await.unwrap().forget();
        }
        if self.failing.load(Ordering::SeqCst) {
            return Err(Unavailable::new("the trail was told to fail"));
        }
        self.entries.lock().unwrap().extend_from_slice(entries);
        Ok(())
    }
}

#[tokio::test]
async fn row_31_events_are_kept_with_the_request_and_the_peer_they_came_from() {
    let trail = Trail::new(None);
    let (observer, writer) = AuditObserver::start(trail.clone());
    let fixture =
        Fixture::with(Options { observers: Observers::new().and(observer), ..Options::default() }).await;
    let mut login = Call::post("/v1/login", json!({ "email": ADA, "password": PASSWORD }))
        .header("x-request-id", "the-id")
        .into_request();
    let peer: std::net::SocketAddr = "[::ffff:192.0.2.7]:4711".parse().unwrap();
    login.extensions_mut().insert(axum::extract::ConnectInfo(peer));
    let auth =
        format!("Bearer {}", send(fixture.router.clone(), login).await.ok(200)["token"].as_str().unwrap());
    fixture.call(Call::post("/v1/login", json!({ "email": ADA, "password": "wrong" }))).await;
    fixture.post("/v1/tokens", &auth, json!({ "name": "a", "scopes": [] })).await.ok(201);
    fixture.post("/v1/logout", &auth, json!({})).await.ok(200);
    fixture.get("/v1/me", &auth).await.problem(401, "invalid_token");
    assert_eq!(writer.dropped(), 0);
    writer.finish().await;

    // The refused token is for the log alone: garbage must not fill the trail.
    assert_eq!(
        trail.kinds(),
        [
            "account_created",
            "account_created",
            "login_succeeded",
            "login_refused",
            "token_created",
            "token_revoked"
        ]
    );
    let entries = trail.entries.lock().unwrap();
    assert_eq!((&entries[0].request_id, &entries[0].peer), (&None, &None), "no request");
    assert_eq!(entries[2].request_id.as_deref(), Some("the-id"));
    assert_eq!(entries[2].peer.as_deref(), Some("192.0.2.7"));
    assert_eq!(entries[2].event.user.as_ref(), Some(&fixture.ada.id));
    assert!(entries[3].request_id.is_some() && entries[3].peer.is_none());
}

fn happen(observer: &AuditObserver, micros: i64) {
    observer.observe(&Event::new(EventKind::TokenCreated, Timestamp::from_micros(micros)));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_trail_is_waited_out_in_order() {
    let trail = Trail::new(None);
    trail.failing.store(true, Ordering::SeqCst);
    let (observer, writer) = AuditObserver::start(trail.clone());
    for micros in 0..1000 {
        happen(&observer, micros);
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(trail.kinds().is_empty());
    trail.failing.store(false, Ordering::SeqCst);
    writer.finish().await;
    let order: Vec<_> =
        trail.entries.lock().unwrap().iter().map(|entry| entry.event.at.as_micros()).collect();
    assert_eq!(order, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_finds_the_queue_full_is_counted_and_makes_nobody_wait() {
    let (log, _guard) = crate::log::Log::capture();
    let trail = Trail::new(Some(0));
    let (observer, writer) = AuditObserver::start(trail.clone());
    for micros in 0..20_000 {
        happen(&observer, micros);
    }
    let dropped = writer.dropped();
    assert!(dropped > 0);
    trail.permits.as_ref().unwrap().add_permits(1_000);
    writer.finish().await;
    assert_eq!(trail.entries.lock().unwrap().len() as u64 + dropped, 20_000);
    assert!(log.text().contains(&format!("\"entries\":{dropped}")), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_trail_that_stays_away_does_not_hold_up_the_end() {
    let trail = Trail::new(None);
    trail.failing.store(true, Ordering::SeqCst);
    let (observer, writer) = AuditObserver::start(trail.clone());
    happen(&observer, 0);
    let begun = tokio::time::Instant::now();
    writer.finish().await;
    assert_eq!(begun.elapsed().as_secs(), 5);
}
