//! Reading: connections that cannot write, one per core, used in-line.
//!
//! A look-up takes microseconds, less than handing it to another thread would. Readers never wait for the writer,
//! and each statement sees what was committed before it began.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use hallpass::Unavailable;
use rusqlite::Connection;

use crate::{
    connection::open_reader,
    error::{OpenError, is_busy, is_own_fault, unavailable},
};

/// Each connection may keep two megabytes of the file in memory, and beyond so many cores the file's own locks are what
/// readers wait for.
const READERS_MOST: usize = 32;

pub(crate) struct Readers {
    /// Opened when first needed, and again after an error that may be the connection's.
    connections: Box<[Mutex<Option<Connection>>]>,
    path: PathBuf,
    patience: Duration,
    /// The last reader waited in vain.
    jammed: AtomicBool,
    count: AtomicU64,
}

impl Readers {
    pub(crate) fn new(path: &Path, patience: Duration) -> Self {
        let count = available_parallelism().map_or(1, NonZero::get).min(READERS_MOST);
        let connections = (0..count).map(|_| Mutex::new(None)).collect();
        Self {
            connections,
            path: path.to_owned(),
            patience,
            jammed: AtomicBool::new(false),
            count: AtomicU64::new(0),
        }
    }

    /// Runs `work` on the first connection that is free, beginning with this thread's own.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Unavailable> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let Some(mut slot) = self.free() else { return Err(Unavailable::new("the database is closed")) };
        // With the log, readers wait only while a crashed writer's log is recovered. Should that ever take longer, those
        // who come after the first must not wait one after the other on the runtime's few threads: they are told at once.
        let jammed = self.jammed.load(Ordering::Relaxed);
        let wait = if jammed { Duration::ZERO } else { self.patience };
        let outcome = read_in(&mut slot, &self.path, wait, work);
        let busy = matches!(outcome, Err(Unread { busy: true, .. }));
        if busy != jammed {
            self.jammed.store(busy, Ordering::Relaxed);
        }
        outcome.map_err(|unread| unread.unavailable)
    }

    /// How many reads there were so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn free(&self) -> Option<MutexGuard<'_, Option<Connection>>> {
        let own = place() % self.connections.len().max(1);
        let (before, from_own) = self.connections.split_at(own);
        for connection in from_own.iter().chain(before) {
            match connection.try_lock() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Some(emptied(connection, poisoned)),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let own = from_own.first()?;
        Some(own.lock().unwrap_or_else(|poisoned| emptied(own, poisoned)))
    }
}

/// Why nothing was read.
struct Unread {
    busy: bool,
    unavailable: Unavailable,
}

impl From<rusqlite::Error> for Unread {
    fn from(error: rusqlite::Error) -> Self {
        Self { busy: is_busy(&error), unavailable: unavailable(error) }
    }
}

impl From<OpenError> for Unread {
    fn from(error: OpenError) -> Self {
        let busy = matches!(error, OpenError::Busy { .. });
        Self { busy, unavailable: Unavailable::because("the database cannot be opened", error) }
    }
}

fn read_in<T>(
    slot: &mut Option<Connection>,
    path: &Path,
    wait: Duration,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Unread> {
    let connection = match slot {
        Some(connection) => connection,
        None => slot.insert(open_reader(path, wait)?),
    };
    let outcome = connection.busy_timeout(wait).and_then(|()| work(connection));
    if outcome.as_ref().is_err_and(|error| !is_own_fault(error)) {
        *slot = None;
    }
    Ok(outcome?)
}

/// A panic in the middle of a read may have left a statement open.
fn emptied<'a>(
    connection: &Mutex<Option<Connection>>,
    poisoned: PoisonError<MutexGuard<'a, Option<Connection>>>,
) -> MutexGuard<'a, Option<Connection>> {
    let mut guard = poisoned.into_inner();
    *guard = None;
    connection.clear_poison();
    guard
}

/// A number of this thread's own, so that threads seldom meet at a connection.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    PLACE.with(|place| *place)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        time::Instant,
    };

    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.db");
        // Without the log, whoever writes can keep readers out.
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE numbers (number); INSERT INTO numbers VALUES (7)").unwrap();
        (folder, path)
    }

    fn number(connection: &Connection) -> rusqlite::Result<i64> {
        connection.prepare_cached("SELECT number FROM numbers")?.query_row([], |row| row.get(0))
    }

    #[test]
    fn of_those_who_are_kept_out_only_the_first_waits() {
        let (_folder, path) = file();
        let wait = Duration::from_secs(1);
        let readers = Readers::new(&path, wait);
        assert_eq!(readers.read(number).unwrap(), 7);
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();

        let begun = Instant::now();
        assert!(readers.read(number).is_err());
        assert!(begun.elapsed() >= wait);
        let begun = Instant::now();
        for _ in 0..64 {
            assert!(readers.read(number).is_err());
        }
        assert!(begun.elapsed() < wait);

        drop(other);
        assert_eq!(readers.read(number).unwrap(), 7);
        assert!(!readers.jammed.load(Ordering::Relaxed));
    }

    #[test]
    fn a_panic_in_a_read_spoils_no_later_one() {
        let (_folder, path) = file();
        let readers = Readers::new(&path, Duration::ZERO);
        for _ in 0..=readers.connections.len() {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                readers.read(|_| -> rusqlite::Result<()> { panic!("on purpose") })
            }));
            assert!(panicked.is_err());
            assert_eq!(readers.read(number).unwrap(), 7);
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let (_folder, path) = file();
        let readers = Readers::new(&path, Duration::ZERO);
        assert!(readers.read(|connection| connection.execute("DELETE FROM numbers", [])).is_err());
        assert_eq!(readers.read(number).unwrap(), 7);
    }

    #[test]
    fn more_threads_than_connections_take_turns() {
        let (_folder, path) = file();
        let readers = Readers::new(&path, Duration::from_mins(1));
        std::thread::scope(|scope| {
            for _ in 0..4 * readers.connections.len() {
                scope.spawn(|| (0..100).for_each(|_| assert_eq!(readers.read(number).unwrap(), 7)));
            }
        });
    }
}
