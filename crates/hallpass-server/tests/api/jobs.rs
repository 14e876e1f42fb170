use std::time::Duration;

use hallpass::store::ListQuery;
use hallpass_server::jobs;
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

use crate::fixture::Fixture;

fn start(fixture: &Fixture) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(jobs::run(fixture.guard.clone(), async { drop(stopped.await) })))
}

async fn kept(fixture: &Fixture) -> usize {
    let query = ListQuery { after: None, limit: 100, living_at: None };
    fixture.guard.list(&fixture.ada, &query).await.unwrap().tokens.len()
}

#[tokio::test(start_paused = true)]
async fn row_20_tokens_dead_for_thirty_days_are_deleted_within_the_hour() {
    let fixture = Fixture::new().await;
    fixture.guard.generate(&fixture.ada).expires_in("1 day").await.unwrap();
    fixture.guard.generate(&fixture.ada).expires_in("2 days").await.unwrap();
    fixture.guard.generate(&fixture.ada).expires_in("never").await.unwrap();
    let (_stop, _jobs) = start(&fixture);
    fixture.clock.advance(Duration::from_hours(31 * 24));
    sleep(Duration::from_mins(2)).await;
    assert_eq!(kept(&fixture).await, 3, "dead for thirty days at most");
    fixture.clock.advance(Duration::from_micros(1));
    sleep(Duration::from_hours(1)).await;
    assert_eq!(kept(&fixture).await, 2);
    fixture.clock.advance(Duration::from_hours(24));
    sleep(Duration::from_hours(1)).await;
    assert_eq!(kept(&fixture).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_survived() {
    let fixture = Fixture::new().await;
    fixture.guard.generate(&fixture.ada).expires_in("1 day").await.unwrap();
    fixture.clock.advance(Duration::from_hours(32 * 24));
    let (_stop, _jobs) = start(&fixture);
    fixture.store.fail(true);
    sleep(Duration::from_hours(3)).await;
    fixture.store.fail(false);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(kept(&fixture).await, 0);
}

#[tokio::test(start_paused = true)]
async fn last_uses_are_written_within_seconds_and_at_the_end() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.acting(&[]).await, fixture.acting(&[]).await);
    let (stop, jobs) = start(&fixture);
    let first = fixture.guard.verify_header([first.as_bytes()]).await.unwrap().token().id;
    let last_use =
        async |id| fixture.guard.find_by_id(&fixture.ada, id).await.unwrap().unwrap().record.last_used_at;
    assert_eq!(last_use(first).await, None);
    sleep(Duration::from_secs(11)).await;
    assert!(last_use(first).await.is_some());

    let second = fixture.guard.verify_header([second.as_bytes()]).await.unwrap().token().id;
    drop(stop);
    jobs.await.unwrap();
    assert!(last_use(second).await.is_some());
}
