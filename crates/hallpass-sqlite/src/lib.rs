//! Hallpass tokens, accounts and audit trail in an SQLite file.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("hallpass.db");
//! use hallpass::{Guard, Purpose, account::Accounts};
//! use hallpass_sqlite::{Options, SqliteStore};
//! use std::sync::Arc;
//!
//! let store = Arc::new(SqliteStore::open(&path, Options::new())?); // makes and migrates the file
//! let guard = Guard::new(Accounts::new(store.clone()), store, Purpose::api());
//! # assert!(guard.verify_header([b"Bearer hp_nonsense".as_slice()]).await.is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The tables begin with `hallpass_`, so they can live in an application's own file, which is then set to the
//! write-ahead log. Any number of processes may use one file, on one machine: not over a network file system.

mod accounts;
mod audit;
mod check_up;
mod connection;
mod error;
mod migrations;
mod readers;
mod tokens;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    connection::{absolute, create, open_reader, open_writer},
    readers::Readers,
    writer::Writer,
};

pub use check_up::{CheckUp, check_up};
pub use error::OpenError;
pub use migrations::{Inspection, inspect, migrate, migrations};
/// The statement of a look-up by hash, for who measures the store against the bare driver.
#[doc(hidden)]
pub use tokens::FIND;

/// A file with tokens, accounts and an audit trail: a [`TokenStore`](hallpass::TokenStore), an
/// [`AccountStore`](hallpass::account::AccountStore) and an [`AuditStore`](hallpass::audit::AuditStore). Cheap to clone.
///
/// Look-ups run in-line, on the caller's thread, in microseconds. Changes run on one thread of the store's own, many in one
/// transaction, and are answered when the disk has them. A future that is dropped leaves its change made whole or
/// not at all.
///
/// Dropping the last clone makes the changes that are queued, and closes the file.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// Before the writer: the last connection to be closed copies the log into the database, and a reader cannot.
    readers: Readers,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date; see [`Options::migrate`].
    ///
    /// Blocks while it does so: milliseconds, or up to five seconds while another process migrates.
    ///
    /// # Errors
    /// The file cannot be had, or its schema is not one that this program made. Each says what to do.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let path = absolute(path.as_ref())?;
        if options.migrate {
            create(&path)?;
        } else {
            // Looked at before the file is changed in any way.
            migrations::check(&open_reader(&path, options.busy_timeout)?, &path)?;
        }
        let mut connection = open_writer(&path, Options::MIGRATION_WAIT)?;
        if options.migrate {
            for migration in migrations::apply(&mut connection, &path, migrations())? {
                tracing::info!(%migration, "the database was migrated");
            }
        }
        let failed = |source: std::io::Error| OpenError::Other { path: path.clone(), source: source.into() };
        let writer = Writer::start(connection, &path, options.busy_timeout).map_err(failed)?;
        let readers = Readers::new(&path, options.busy_timeout);
        Ok(Self { inner: Arc::new(Inner { path, readers, writer }) })
    }

    /// The file, with its whole path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// How much was read and written through this store so far, for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.inner.writer.counts();
        Counts {
            reads: self.inner.readers.count(),
            writes: counts.writes.load(Ordering::Relaxed),
            commits: counts.commits.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    busy_timeout: Duration,
    migrate: bool,
}

impl Options {
    /// So long a server lets a caller wait for a busy file: an answer must come within a second.
    const SERVER_WAIT: Duration = Duration::from_millis(800);
    /// So long a person at a terminal waits.
    const COMMAND_LINE_WAIT: Duration = Duration::from_secs(5);
    /// So long whoever opens a file waits for another who migrates it.
    pub(crate) const MIGRATION_WAIT: Duration = Duration::from_secs(5);

    /// As a server needs it: waits 800 ms for a busy file, makes it and migrates it.
    #[must_use]
    pub fn new() -> Self {
        Self { busy_timeout: Self::SERVER_WAIT, migrate: true }
    }

    /// As the command line needs it: waits five seconds for a busy file.
    #[must_use]
    pub fn command_line() -> Self {
        Self::new().busy_timeout(Self::COMMAND_LINE_WAIT)
    }

    /// Sets how long a call waits for its turn, be it behind other calls or behind another process that is writing,
    /// before it is `Unavailable`. To the millisecond; the disk's own time is not in it.
    #[must_use]
    pub fn busy_timeout(mut self, wait: Duration) -> Self {
        self.busy_timeout = wait;
        self
    }

    /// Sets whether to make the file and to bring its schema up to date. If not, a missing file is
    /// [`OpenError::Missing`] and an older schema [`OpenError::Behind`].
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// See [`SqliteStore::counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Look-ups, each one statement.
    pub reads: u64,
    /// Changes that were asked for and answered, refused ones included.
    pub writes: u64,
    /// Transactions they were made in: each waited once for the disk.
    pub commits: u64,
}
