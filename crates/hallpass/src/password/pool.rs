//! The hashing threads and their bounded queue.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use argon2::Block;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::oneshot;

use crate::error::Unavailable;

/// How much nicer than the rest a hashing thread is; the kernel gives a thread at 10 about a tenth of the share
/// of one at 0 when both want the same core.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// How long a password may wait for its turn. On a loaded machine the queue holds more than a second's work, and who
/// waited this long has likely pressed reload: the turn goes to somebody newer.
const WAIT_MOST: Duration = Duration::from_millis(1500);

pub(super) struct Pool {
    threads: usize,
    queue: usize,
    patience: Duration,
    jobs: OnceLock<Sender<Job>>,
}

impl Pool {
    /// Starts nothing yet: an idle service holds neither threads nor their memory.
    pub(super) fn new(threads: usize, queue: usize, patience: Duration) -> Self {
        Self { threads, queue, patience, jobs: OnceLock::new() }
    }

    /// Runs `work` on a hashing thread, unless nobody waits for it any more when its turn comes.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let asked = Instant::now();
        let job: Job = Box::new(move |memory| {
            if answer.is_closed() {
                return;
            }
            let _ = answer.send((asked.elapsed() < WAIT_MOST).then(|| work(memory)));
        });
        let too_many = || {
            Unavailable::new("too many passwords are being checked at once")
                .retry_after_at_least(self.patience)
        };
        self.jobs.get_or_init(|| self.start()).try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => too_many(),
            TrySendError::Disconnected(_) => Unavailable::new("the hashing threads have ended"),
        })?;
        let done = answered.await.map_err(|_| Unavailable::new("hashing a password failed"))?;
        done.ok_or_else(too_many)
    }

    fn start(&self) -> Sender<Job> {
        let (sender, receiver) = crossbeam_channel::bounded::<Job>(self.queue);
        for number in 0..self.threads {
            let receiver = receiver.clone();
            let name = format!("hallpass-hash-{number}");
            // With fewer threads than asked for the work goes on; with none, every `run` says so.
            if let Err(error) = thread::Builder::new().name(name).spawn(move || serve(&receiver)) {
                tracing::error!(%error, "cannot start a password hashing thread");
            }
        }
        sender
    }
}

/// Ends when the pool is dropped and the queue is empty.
fn serve(jobs: &Receiver<Job>) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of a password hashing thread");
    }
    let mut memory = Vec::new();
    for job in jobs {
        // Whoever waits for it hears that it failed; the thread is for all the others.
        if catch_unwind(AssertUnwindSafe(|| job(&mut memory))).is_err() {
            tracing::error!("a password hashing job panicked");
            memory = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// A pool of one thread that is busy until the returned sender is used or dropped.
    async fn busy(queue: usize) -> (Arc<Pool>, std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let pool = Arc::new(Pool::new(1, queue, Duration::from_secs(3)));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let running = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                let work = move |_: &mut Vec<Block>| {
                    let _ = started.send(());
                    let _ = held.recv();
                };
                pool.run(work).await.unwrap();
            }
        });
        has_started.await.unwrap();
        (pool, release, running)
    }

    #[tokio::test]
    async fn a_full_queue_says_so_at_once_and_when_to_come_back() {
        let (pool, release, running) = busy(2).await;
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(pool.run(|_| ()))).collect();
        for wait in &mut waiting {
            assert!(futures_poll(wait.as_mut()).await.is_none());
        }
        let refused = pool.run(|_| ()).await.unwrap_err();
        assert_eq!(refused.retry_after(), Duration::from_secs(3));
        drop(release);
        running.await.unwrap();
        for wait in waiting {
            wait.await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_hangs_up_is_not_hashed_for() {
        let (pool, release, running) = busy(2).await;
        let done = Arc::new(AtomicUsize::new(0));
        let count = |done: &Arc<AtomicUsize>| {
            let done = Arc::clone(done);
            move |_: &mut Vec<Block>| done.fetch_add(1, Ordering::SeqCst)
        };
        let mut gone = Box::pin(pool.run(count(&done)));
        assert!(futures_poll(gone.as_mut()).await.is_none());
        drop(gone);
        drop(release);
        running.await.unwrap();
        pool.run(count(&done)).await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn who_waited_too_long_is_told_to_come_back_and_not_hashed_for() {
        let (pool, release, running) = busy(2).await;
        let mut late = Box::pin(pool.run(|_| ()));
        assert!(futures_poll(late.as_mut()).await.is_none());
        // The one test that lets time pass: the bound is of the pool's own threads, which no clock is handed to.
        thread::sleep(WAIT_MOST);
        drop(release);
        running.await.unwrap();
        assert_eq!(late.await.unwrap_err().retry_after(), Duration::from_secs(3));
        pool.run(|_| ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_fails_one_job_and_not_its_thread() {
        let pool = Pool::new(1, 4, Duration::from_secs(1));
        assert!(pool.run(|_| panic!("on purpose")).await.is_err());
        pool.run(|_| ()).await.unwrap();
    }

    /// Polls once: the answer if there is one already.
    async fn futures_poll<F: Future + ?Sized>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
