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
    error::{is_busy, is_own_fault, unavailable},
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
        let Some(mut guard) = self.free() else { return Err(Unavailable::new("the database is closed")) };
        if guard.is_none() {
            let opened = open_reader(&self.path, self.patience);
            *guard =
                Some(opened.map_err(|error| Unavailable::because("the database cannot be opened", error))?);
        }
        let Some(connection) = &*guard else { return Err(Unavailable::new("the database is closed")) };

        let outcome = self.unjammed(connection, work);
        if outcome.as_ref().is_err_and(|error| !is_own_fault(error)) {
            *guard = None;
        }
        outcome.map_err(unavailable)
    }

    /// How many reads there were so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// With the log, readers wait only while a crashed writer's log is recovered. Should that ever take longer, those who
    /// come after the first must not wait one after the other on the runtime's few threads: they are told at once.
    fn unjammed<T>(
        &self,
        connection: &Connection,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let jammed = self.jammed.load(Ordering::Relaxed);
        if jammed {
            connection.busy_timeout(Duration::ZERO)?;
        }
        let outcome = work(connection);
        if jammed {
            connection.busy_timeout(self.patience)?;
        }
        let busy = outcome.as_ref().is_err_and(is_busy);
        if busy != jammed {
            self.jammed.store(busy, Ordering::Relaxed);
        }
        outcome
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
