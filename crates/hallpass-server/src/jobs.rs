//! What a running service does by itself, beside answering.

use std::time::Duration;

use hallpass::{Guard, UserProvider};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often dead tokens are looked for.
const PRUNE_EVERY: Duration = Duration::from_hours(1);
/// How long the first look waits: the start of a service has better things to do.
const PRUNE_FIRST: Duration = Duration::from_mins(1);
/// How long dead tokens are kept, for their owner's list and for whoever looks into an incident.
const KEEP_DEAD: Duration = Duration::from_hours(30 * 24);
/// How often last uses are written when no request comes that would have them written.
const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// Prunes every hour and writes last uses every ten seconds, until `shutdown`; then writes the last uses once more.
/// Spawn it beside [`serve`](crate::serve), and let `shutdown` come when that has ended.
///
/// What fails is logged and tried again at its next time.
pub async fn run<U: UserProvider>(guard: Guard<U>, shutdown: impl Future<Output = ()>) {
    let start = Instant::now();
    let mut prune = interval_at(start + PRUNE_FIRST, PRUNE_EVERY);
    let mut flush = interval_at(start + FLUSH_EVERY, FLUSH_EVERY);
    for interval in [&mut prune, &mut flush] {
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            _ = prune.tick() => tokio::select! {
                biased;
                () = &mut shutdown => break,
                // One that the end interrupts is whole up to its last batch.
                () = prune_dead(&guard) => {}
            },
            // Not interrupted: the uses on their way would be lost.
            _ = flush.tick() => flush_touches(&guard).await,
        }
    }
    flush_touches(&guard).await;
}

async fn prune_dead<U: UserProvider>(guard: &Guard<U>) {
    match guard.prune(KEEP_DEAD, |_| ()).await {
        Ok(count) => tracing::info!(count, "pruned tokens that died more than 30 days ago"),
        Err(error) => tracing::warn!(%error, "cannot prune dead tokens now"),
    }
}

async fn flush_touches<U: UserProvider>(guard: &Guard<U>) {
    if let Err(error) = guard.flush_touches().await {
        tracing::warn!(%error, "cannot write when tokens were last used");
    }
}
