//! Writing: one thread, one connection, many writes in one transaction.
//!
//! Making a write durable means waiting for the disk, and the disk takes as long for a hundred writes as for one. So
//! the thread takes all that wait, runs each inside a savepoint of one transaction, and answers none of them before
//! the COMMIT came back. A write that fails by its own fault is undone alone; when the file or the disk fails, all of
//! the batch fail and the file is opened anew.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use hallpass::Unavailable;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    connection::open_writer,
    error::{Failed, OpenError, is_busy, is_own_fault, what_fails},
};

/// Writes in one transaction at most. More would gain little, and whoever comes next waits for all of them.
const BATCH_MOST: usize = 256;
/// Writes that may wait. A disk that takes 50 ms for a batch still gets through them in less than half a second; what
/// comes on top is told at once.
const QUEUE_MOST: usize = 2048;

/// The share of the last COMMIT's time that may be spent on waiting for as many writes as it had. Whoever was just
/// answered often comes back at once, and would otherwise find that a transaction of one or two has begun without them, and
/// wait for the disk twice.
const GATHER_SHARE: u32 = 8;
/// The longest such wait.
const GATHER_MOST: Duration = Duration::from_millis(2);

/// A handle on the thread. Dropping it ends the thread after what is queued.
pub(crate) struct Writer {
    /// `None` only while being dropped.
    queue: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    patience: Duration,
    counts: Arc<Counts>,
}

/// What was written so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) writes: AtomicU64,
    pub(crate) commits: AtomicU64,
}

impl Writer {
    pub(crate) fn start(connection: Connection, path: &Path, patience: Duration) -> io::Result<Self> {
        let (queue, jobs) = bounded(QUEUE_MOST);
        let counts = Arc::new(Counts::default());
        let desk = Desk {
            jobs,
            waiting: Vec::new(),
            last: Batch::default(),
            connection: Some(connection),
            path: path.to_owned(),
            counts: Arc::clone(&counts),
        };
        let thread = thread::Builder::new().name("hallpass-sqlite".into()).spawn(move || desk.run())?;
        Ok(Self { queue: Some(queue), thread: Some(thread), patience, counts })
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Runs `work` in a transaction and answers when it is durable. If the caller goes away, it is run all the same.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.queue(work, false).await.map_err(|failed| match failed {
            Failed::Taken => Unavailable::new("a key is taken that nothing new was to have"),
            Failed::Unavailable(unavailable) => unavailable,
        })
    }

    /// The same for what makes something new. If the caller goes away before its turn, it is not run: nobody would know of
    /// what was made.
    pub(crate) async fn write_new<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failed> {
        self.queue(work, true).await
    }

    async fn queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        needs_caller: bool,
    ) -> Result<T, Failed> {
        let ended = || Unavailable::new("the database's writer has ended");
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.patience;
        let task = Task { work: Some(work), outcome: None, reply, deadline, needs_caller };
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.try_send(Box::new(task)).map_err(|refused| match refused {
            TrySendError::Full(_) => Unavailable::new("too many writes wait for the database"),
            TrySendError::Disconnected(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended().into()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the database's writer panicked");
        }
    }
}

/// One write, and who waits for it.
trait Job: Send {
    /// Until when the caller is willing to wait for its turn.
    fn deadline(&self) -> Instant;
    fn is_wanted(&self) -> bool;
    /// Runs it and keeps the outcome. `Err` if it failed, whoever's fault it was.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Replaces the outcome.
    fn fail(&mut self, failed: Failed);
    /// Tells the outcome, or that there is none.
    fn answer(self: Box<Self>);
}

struct Task<W, T> {
    work: Option<W>,
    outcome: Option<Result<T, Failed>>,
    reply: oneshot::Sender<Result<T, Failed>>,
    deadline: Instant,
    needs_caller: bool,
}

impl<W, T> Job for Task<W, T>
where
    W: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_wanted(&self) -> bool {
        !self.needs_caller || !self.reply.is_closed()
    }

    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.outcome = Some(Ok(work(connection)?));
        Ok(())
    }

    fn fail(&mut self, failed: Failed) {
        self.outcome = Some(Err(failed));
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or_else(|| Err(Unavailable::new("the write was not run").into()));
        // A caller that went away does not want to know.
        let _ = self.reply.send(outcome);
    }
}

/// What the thread works with.
struct Desk {
    jobs: Receiver<Box<dyn Job>>,
    /// Taken from the queue, not answered yet.
    waiting: Vec<Box<dyn Job>>,
    last: Batch,
    /// `None` after an error that may be the connection's.
    connection: Option<Connection>,
    path: PathBuf,
    counts: Arc<Counts>,
}

/// A batch that was committed.
#[derive(Default)]
struct Batch {
    size: usize,
    /// How long its COMMIT took.
    commit: Duration,
}

impl Desk {
    fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.jobs.recv() {
                    Ok(job) => self.waiting.push(job),
                    Err(_) => break,
                }
            }
            self.gather();
            self.batch();
        }
        // Closing the last connection to the file copies the log into it and removes the log. Readers are closed by now.
        if let Some(Err((_, error))) = self.connection.take().map(Connection::close) {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
    }

    /// Takes what else is queued, and waits a little for those who are likely to come.
    fn gather(&mut self) {
        self.fill();
        let until = Instant::now() + GATHER_MOST.min(self.last.commit / GATHER_SHARE);
        while self.waiting.len() < self.last.size {
            let Ok(job) = self.jobs.recv_deadline(until) else { return };
            self.waiting.push(job);
        }
    }

    /// Takes what else is queued.
    fn fill(&mut self) {
        let room = BATCH_MOST.saturating_sub(self.waiting.len());
        self.waiting.extend(self.jobs.try_iter().take(room));
    }

    /// Runs and answers what waits, unless another process is writing: then whoever may wait longer stays.
    fn batch(&mut self) {
        self.dismiss();
        let Some(patience) = self.waiting.iter().map(|job| job.deadline()).min() else { return };
        let patience = patience.saturating_duration_since(Instant::now());

        let failed = match self.begin(patience) {
            Ok(true) => {
                // While others wrote, more may have come.
                self.fill();
                self.run_all().and_then(|()| self.commit()).err().map(Failure::from)
            }
            Ok(false) => return,
            Err(failure) => Some(failure),
        };
        match failed {
            None => {
                self.last.size = self.waiting.len();
                let writes = u64::try_from(self.last.size).unwrap_or(u64::MAX);
                self.counts.writes.fetch_add(writes, Ordering::Relaxed);
                self.counts.commits.fetch_add(1, Ordering::Relaxed);
            }
            Some(failure) => {
                // Whether the disk has it or not, nobody here knows: the file is opened anew and shows it.
                self.connection = None;
                for job in &mut self.waiting {
                    job.fail(failure.tell().into());
                }
            }
        }
        for job in self.waiting.drain(..) {
            job.answer();
        }
    }

    /// Answers those who waited long enough and drops those who went away.
    fn dismiss(&mut self) {
        let now = Instant::now();
        self.waiting.retain(|job| job.is_wanted());
        for mut job in self.waiting.extract_if(.., |job| job.deadline() <= now) {
            job.fail(Unavailable::new("the database is busy").into());
            job.answer();
        }
    }

    /// Begins a transaction; `false` if another process is writing and did not stop in time.
    fn begin(&mut self, patience: Duration) -> Result<bool, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_writer(&self.path, patience)?,
        };
        let connection = self.connection.insert(connection);
        // SQLite counts in whole milliseconds, and zero would be a look without a wait.
        let begun = connection
            .busy_timeout(patience.max(Duration::from_millis(1)))
            .and_then(|()| execute(connection, "BEGIN IMMEDIATE"));
        match begun {
            Ok(()) => Ok(true),
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs each in a savepoint. `Err` if the fault is not one write's own.
    fn run_all(&mut self) -> rusqlite::Result<()> {
        let Some(connection) = &self.connection else { return Err(rusqlite::Error::InvalidQuery) };
        for job in &mut self.waiting {
            execute(connection, "SAVEPOINT one")?;
            if let Err(error) = job.run(connection) {
                // SQLite ends the whole transaction on some errors; then there is no savepoint to go back to.
                if !is_own_fault(&error) || connection.is_autocommit() {
                    return Err(error);
                }
                execute(connection, "ROLLBACK TO one")?;
                job.fail(error.into());
            }
            execute(connection, "RELEASE one")?;
        }
        Ok(())
    }

    fn commit(&mut self) -> rusqlite::Result<()> {
        let Some(connection) = &self.connection else { return Err(rusqlite::Error::InvalidQuery) };
        let begun = Instant::now();
        execute(connection, "COMMIT")?;
        self.last.commit = begun.elapsed();
        Ok(())
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Why a whole batch failed, to be told to each who waits.
struct Failure {
    what: &'static str,
    cause: String,
}

impl Failure {
    fn tell(&self) -> Unavailable {
        Unavailable::because(self.what, self.cause.clone())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self { what: what_fails(&error), cause: error.to_string() }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self { what: "the database cannot be opened", cause: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::connection::create;

    const LONG: Duration = Duration::from_mins(1);
    const ADD: &str = "INSERT INTO numbers (number, text) VALUES (?1, ?2)";

    struct Numbers {
        _folder: tempfile::TempDir,
        path: PathBuf,
        writer: Writer,
    }

    impl Numbers {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("numbers.db");
            create(&path).unwrap();
            let connection = open_writer(&path, LONG).unwrap();
            connection.execute_batch("CREATE TABLE numbers (number INTEGER PRIMARY KEY, text TEXT)").unwrap();
            let writer = Writer::start(connection, &path, LONG).unwrap();
            Self { _folder: folder, path, writer }
        }

        fn other(&self) -> Connection {
            Connection::open(&self.path).unwrap()
        }

        fn all(&self) -> Vec<i64> {
            let other = self.other();
            let mut statement = other.prepare("SELECT number FROM numbers ORDER BY number").unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        }

        async fn add(&self, number: i64) -> Result<(), Failed> {
            self.writer.write_new(move |connection| add(connection, number, "")).await
        }

        /// Runs these in one batch and tells which answered with success.
        async fn together<const N: usize>(&self, works: [Work; N]) -> [bool; N] {
            let other = self.other();
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            let before = self.writer.counts().commits.load(Ordering::Relaxed);
            let mut calls = works.map(|work| Box::pin(self.writer.write_new(work)));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            for call in &mut calls {
                assert!(call.as_mut().poll(&mut context).is_pending());
            }
            drop(other);
            let mut outcomes = [false; N];
            for (outcome, call) in outcomes.iter_mut().zip(calls) {
                *outcome = call.await.is_ok();
            }
            assert!(self.writer.counts().commits.load(Ordering::Relaxed) - before <= 1);
            outcomes
        }
    }

    type Work = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

    fn add(connection: &Connection, number: i64, text: &str) -> rusqlite::Result<()> {
        connection.execute(ADD, rusqlite::params![number, text]).map(drop)
    }

    fn adds(number: i64) -> Work {
        Box::new(move |connection| add(connection, number, ""))
    }

    #[tokio::test]
    async fn what_fails_by_its_own_fault_is_undone_alone_and_wholly() {
        let numbers = Numbers::new();
        let fails_at_its_end: Work = Box::new(|connection| {
            add(connection, 100, "")?;
            add(connection, 1, "taken")
        });
        let reads_nonsense: Work = Box::new(|connection| {
            add(connection, 101, "")?;
            connection.query_row("SELECT 'text'", [], |row| row.get::<_, i64>(0)).map(drop)
        });
        let outcomes = numbers.together([adds(1), fails_at_its_end, adds(2), reads_nonsense, adds(3)]).await;
        assert_eq!(outcomes, [true, false, true, false, true]);
        assert_eq!(numbers.all(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_taken_key_is_told_apart() {
        let numbers = Numbers::new();
        numbers.add(1).await.ok().unwrap();
        assert!(matches!(numbers.add(1).await, Err(Failed::Taken)));
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_whole_batch_and_the_next_one_is_well() {
        let numbers = Numbers::new();
        numbers.add(1).await.ok().unwrap();
        let fills_the_disk: Work = Box::new(|connection| {
            // A limit of this connection alone: opened anew, the file may grow again.
            connection.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()))?;
            add(connection, 3, &"text".repeat(100_000))
        });
        let outcomes = numbers.together([adds(2), fills_the_disk, adds(4)]).await;
        assert_eq!(outcomes, [false, false, false]);
        assert_eq!(numbers.all(), [1]);
        numbers.add(5).await.ok().unwrap();
        assert_eq!(numbers.all(), [1, 5]);
    }

    #[tokio::test]
    async fn a_commit_that_fails_fails_the_whole_batch() {
        let numbers = Numbers::new();
        numbers
            .other()
            .execute_batch("CREATE TABLE child (number REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
            .unwrap();
        let fails_at_commit: Work =
            Box::new(|connection| connection.execute("INSERT INTO child VALUES (999)", []).map(drop));
        let outcomes = numbers.together([adds(1), fails_at_commit, adds(2)]).await;
        assert_eq!(outcomes, [false, false, false]);
        assert_eq!(numbers.all(), [0_i64; 0]);
        numbers.add(3).await.ok().unwrap();
        assert_eq!(numbers.all(), [3]);
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_ended_fails_the_whole_batch() {
        let numbers = Numbers::new();
        let ends_it: Work = Box::new(|connection| {
            connection.execute_batch("ROLLBACK")?;
            add(connection, 1, "")?;
            add(connection, 1, "taken")
        });
        let outcomes = numbers.together([adds(2), ends_it, adds(3)]).await;
        assert_eq!(outcomes, [false, false, false]);
        numbers.add(4).await.ok().unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_not_made_anew() {
        let numbers = Numbers::new();
        let fills_the_disk: Work = Box::new(|connection| {
            connection.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()))?;
            add(connection, 3, &"text".repeat(100_000))
        });
        std::fs::rename(&numbers.path, numbers.path.with_extension("away")).unwrap();
        assert!(numbers.writer.write_new(fills_the_disk).await.is_err());
        assert!(numbers.add(1).await.is_err());
        assert!(!numbers.path.exists());
        std::fs::rename(numbers.path.with_extension("away"), &numbers.path).unwrap();
        numbers.add(2).await.ok().unwrap();
    }

    #[tokio::test]
    async fn an_answer_is_durable_and_visible_to_others() {
        let numbers = Numbers::new();
        for number in 0..20 {
            numbers.add(number).await.ok().unwrap();
            assert_eq!(numbers.all().last(), Some(&number));
        }
        let connection = open_writer(&numbers.path, LONG).unwrap();
        let full: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!(full, 2);
    }
}
