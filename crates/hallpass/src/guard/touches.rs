//! When tokens were last used: noted in memory, written in batches, never on a request's path.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    error::Unavailable,
    store::{TokenStore, Touch},
    token::TokenId,
};

/// A token's last use is kept to the minute, so at most one write per token and minute.
const RESOLUTION: Duration = Duration::from_mins(1);
/// How long a note may wait while requests come in.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// Notes held at most. What comes on top is dropped: a last use is a courtesy, memory is not.
const MOST: usize = 100_000;
/// Written at once: a store makes them in one step, and other writes wait for it.
const BATCH: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Touches {
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    /// Last uses not yet written.
    waiting: HashMap<TokenId, Timestamp>,
    /// When the oldest of them came, or when the last flush began.
    since: Option<Timestamp>,
}

impl Touches {
    /// Notes a use, unless the last one known is of the same minute.
    pub(super) fn note(
        &self,
        store: &Arc<dyn TokenStore>,
        id: TokenId,
        known: Option<Timestamp>,
        now: Timestamp,
    ) {
        if known.is_some_and(|known| now.since(known) < RESOLUTION) {
            return;
        }
        let due = {
            let mut noted = lock(&self.noted);
            let full = noted.waiting.len() >= MOST;
            match noted.waiting.get_mut(&id) {
                Some(at) if now.since(*at) >= RESOLUTION => *at = now,
                Some(_) => {}
                None if full => {}
                None => drop(noted.waiting.insert(id, now)),
            }
            let since = *noted.since.get_or_insert(now);
            let due = now.since(since) >= FLUSH_EVERY;
            if due {
                noted.since = Some(now);
            }
            due
        };
        if due && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (noted, store) = (Arc::clone(&self.noted), Arc::clone(store));
            runtime.spawn(async move {
                if let Err(error) = flush(&noted, &store).await {
                    tracing::warn!(%error, "cannot write when tokens were last used");
                }
            });
        }
    }

    pub(super) async fn flush(&self, store: &Arc<dyn TokenStore>) -> Result<(), Unavailable> {
        flush(&self.noted, store).await
    }
}

async fn flush(noted: &Mutex<Noted>, store: &Arc<dyn TokenStore>) -> Result<(), Unavailable> {
    let waiting = std::mem::take(&mut lock(noted).waiting);
    if waiting.is_empty() {
        return Ok(());
    }
    let touches: Vec<Touch> = waiting.into_iter().map(|(id, at)| Touch { id, at }).collect();
    let mut batches = touches.chunks(BATCH);
    while let Some(batch) = batches.next() {
        if let Err(unavailable) = store.touch(batch).await {
            let mut noted = lock(noted);
            for Touch { id, at } in batch.iter().chain(batches.flatten()) {
                noted.waiting.entry(*id).or_insert(*at);
            }
            return Err(unavailable);
        }
    }
    Ok(())
}

/// A panic of another thread between two lines here leaves the map whole.
fn lock(noted: &Mutex<Noted>) -> std::sync::MutexGuard<'_, Noted> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}
