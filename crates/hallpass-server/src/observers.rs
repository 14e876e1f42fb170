//! Those who watch what happens: the log and the audit trail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hallpass::{
    audit::{AuditEntry, AuditStore},
    event::{Event, EventKind, Observer},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::request;

/// How many entries may wait to be written. At some 300 bytes each they never take more than a few MiB.
const QUEUE: usize = 8_192;
/// How many entries are appended at once: enough to share a commit, few enough to hold no lock for long.
const BATCH: usize = 256;
/// How long to wait before a batch that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the end of the process may wait for the trail to be written.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Writes every event to the log, at the level "info".
#[derive(Clone, Copy, Debug, Default)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn observe(&self, event: &Event) {
        tracing::info!(
            kind = event.kind.as_str(),
            user = event.user.as_ref().map(tracing::field::display),
            token = event.token.as_ref().map(tracing::field::display),
            purpose = event.purpose.as_deref(),
            reason = event.reason.as_ref().map(hallpass::Reason::as_str),
            count = event.count,
            "event"
        );
    }
}

/// Hands events to an [`AuditStore`], with the request they came from, without making the request wait.
///
/// A refused token ([`EventKind::TokenRefused`]) is left to the log: whoever sends garbage must not be able to
/// have it written down without end.
#[derive(Debug)]
pub struct AuditObserver {
    queue: mpsc::Sender<AuditEntry>,
    dropped: Arc<AtomicU64>,
}

/// The writing end of an [`AuditObserver`].
#[derive(Debug)]
pub struct AuditTrail {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    dropped: Arc<AtomicU64>,
}

impl AuditObserver {
    /// Starts the task that appends to `store`, in a tokio runtime.
    ///
    /// A batch that the store could not take is tried again until it can. An answer that was lost on the way can make an
    /// entry appear twice. While that lasts the queue fills; what finds it full is dropped, counted and logged.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(store: Arc<dyn AuditStore>) -> (Arc<Self>, AuditTrail) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(store, waiting, stopped, Arc::clone(&dropped)));
        let observer = Self { queue, dropped: Arc::clone(&dropped) };
        (Arc::new(observer), AuditTrail { stop, task, dropped })
    }
}

impl Observer for AuditObserver {
    fn observe(&self, event: &Event) {
        if event.kind == EventKind::TokenRefused {
            return;
        }
        let mut entry = AuditEntry::new(event.clone());
        if let Some(context) = request::current() {
            let peer = context.peer().map(|peer| peer.ip().to_canonical().to_string());
            entry = entry.from_request(context.id(), peer);
        }
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AuditTrail {
    /// How many entries were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is waiting and ends; gives up after five seconds. What is observed from now on is dropped, so
    /// finish last.
    pub async fn finish(self) {
        let Self { stop, mut task, .. } = self;
        // The task does not end by itself, so it hears this.
        let _ = stop.send(());
        if timeout(FINISH_WITHIN, &mut task).await.is_err() {
            task.abort();
            tracing::error!("the audit store is out of reach: the last entries of the trail are lost");
        }
    }
}

async fn write(
    store: Arc<dyn AuditStore>,
    mut waiting: mpsc::Receiver<AuditEntry>,
    mut stopped: oneshot::Receiver<()>,
    dropped: Arc<AtomicU64>,
) {
    let (mut batch, mut told, mut stopping) = (Vec::new(), 0, false);
    loop {
        tokio::select! {
            // Entries that came before the stop are taken before it.
            biased;
            count = waiting.recv_many(&mut batch, BATCH) => if count == 0 { break },
            _ = &mut stopped, if !stopping => {
                stopping = true;
                // From now on `recv_many` gives what is left and then nothing.
                waiting.close();
            }
        }
        append(&*store, &mut batch).await;
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told {
            tracing::error!(entries = lost - told, "the audit queue was full: entries of the trail are lost");
            told = lost;
        }
    }
}

async fn append(store: &dyn AuditStore, batch: &mut Vec<AuditEntry>) {
    while !batch.is_empty() {
        let begun = Instant::now();
        match store.append(batch).await {
            Ok(()) => batch.clear(),
            Err(unavailable) => {
                tracing::warn!(%unavailable, took = ?begun.elapsed(), "cannot write the audit trail yet");
                sleep(RETRY_AFTER).await;
            }
        }
    }
}
