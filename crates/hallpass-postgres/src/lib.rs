//! Hallpass tokens, accounts and audit trail in PostgreSQL.
//!
//! ```no_run
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use hallpass::{Guard, Purpose, account::Accounts};
//! use hallpass_postgres::{Options, PostgresStore};
//! use std::sync::Arc;
//!
//! let store = PostgresStore::connect("postgres://app:secret@localhost/app", Options::new()).await?;
//! let store = Arc::new(store); // the schema is there, made or brought up to date
//! let guard = Guard::new(Accounts::new(store.clone()), store, Purpose::api());
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The URL
//!
//! `postgres://user:password@host:5432/database?setting=value&…`, with the settings of libpq that the driver knows
//! (`application_name`, `connect_timeout`, `target_session_attrs`, several hosts, `host=/run/postgresql` for a Unix socket, …) and these:
//!
//! | setting | values |
//! |---|---|
//! | `sslmode` | `disable`, `prefer`, `require`, `verify-ca`, `verify-full`, each as in libpq |
//! | `sslrootcert` | a file with certificates of authorities in PEM, or `system` (the default): those of the operating system |
//! | `pgbouncer` | `true` behind a pooler in transaction mode: statements are not prepared, and nothing is set on a session |
//!
//! Without `sslmode`, a server on this machine (`localhost`, a loopback address, a Unix socket) is spoken to as `prefer` says: with TLS
//! if it has it, unverified. Any other server must prove its name, as `verify-full` says: where libpq would fall back to plain text,
//! this refuses. If one host of several is elsewhere, all are verified. `allow` is taken as `prefer`. As in libpq, `require` with a
//! `sslrootcert` verifies the authority.
//!
//! A statement that waits longer than its caller does is ended by the server. Behind a pooler that cannot be asked for: set
//! PgBouncer's `query_timeout`.
//!
//! # What it promises
//!
//! A verification is one statement, sent along with those of other callers over a few shared connections. Whatever makes, changes or
//! ends a token, an account or a password is answered when the server's disk has it, also where `synchronous_commit` is off for
//! everything else. A server that is down, frozen or cut off is [`Unavailable`] after [`Options::patience`] at
//! the latest, and is used again by itself when it is back.

mod accounts;
mod audit;
mod connector;
mod error;
mod link;
mod migrations;
mod readers;
mod statements;
mod target;
mod tls;
mod tokens;
mod value;
mod writers;

use std::{fmt, sync::Arc, time::Duration};

use hallpass::{
    Unavailable, UserId,
    naming::{Naming, UserIds},
};
use tokio_postgres::Row;

use crate::{
    connector::Connector,
    error::Failed,
    link::{Deadline, Step},
    migrations::Visit,
    readers::Readers,
    statements::{Sql, Statements},
    target::Target,
    value::Value,
    writers::Writers,
};

pub use error::OpenError;
pub use migrations::{Inspection, inspect, migrate, migrations, script};

/// A database with tokens, accounts and an audit trail: a [`TokenStore`](hallpass::TokenStore), an
/// [`AccountStore`](hallpass::account::AccountStore) and an [`AuditStore`](hallpass::audit::AuditStore). Cheap to clone.
///
/// Needs the tokio runtime that it was made in. A future that is dropped leaves its change made whole or not at all.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Arc<Connector>,
    readers: Readers,
    writers: Writers,
    statements: Statements,
    user_ids: UserIds,
    patience: Duration,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date; see [`Options::migrate`]. Waits five seconds for a server that does not answer.
    ///
    /// # Errors
    /// The database cannot be had, its schema is not one that this program made, or the user lacks a right. Each says what to do.
    pub async fn connect(url: &str, options: Options) -> Result<Self, OpenError> {
        let user_ids = options.naming.chosen_user_ids();
        let connector = Arc::new(Connector::new(Target::parse(url)?, user_ids, options.patience));
        let visit = Visit::over(&connector, &options.naming).await?;
        if options.migrate {
            for migration in visit.apply(migrations()).await? {
                tracing::info!(%migration, "the database was migrated");
            }
        }
        visit.check().await?;
        let inner = Inner {
            readers: Readers::new(Arc::clone(&connector), options.readers),
            writers: Writers::new(Arc::clone(&connector), options.writers),
            connector,
            statements: Statements::new(&options.naming),
            user_ids,
            patience: options.patience,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn sql(&self) -> &Statements {
        &self.inner.statements
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.inner.patience)
    }

    async fn read(&self, sql: &Sql, values: &[Value<'_>]) -> Result<Vec<Row>, Unavailable> {
        self.inner.readers.read(sql, values, self.deadline()).await
    }

    async fn write_step(&self, step: Step<'_>) -> Result<Vec<Row>, Failed> {
        let (rows, _) = self.inner.writers.write(step, None, self.deadline()).await?;
        Ok(rows)
    }

    /// Both in one transaction.
    async fn write_steps(&self, first: Step<'_>, second: Step<'_>) -> Result<(Vec<Row>, Vec<Row>), Failed> {
        self.inner.writers.write(first, Some(second), self.deadline()).await
    }

    /// Runs a statement that changes one row or none, and says whether it did.
    async fn change(&self, step: Step<'_>) -> Result<bool, Unavailable> {
        Ok(!self.write_step(step).await?.is_empty())
    }

    /// Refuses to write for an id that no user can have.
    fn accept_user(&self, user: &UserId) -> Result<(), Unavailable> {
        let user_ids = self.inner.user_ids;
        if user_ids.can_be(user) {
            return Ok(());
        }
        Err(Unavailable::new(match user_ids {
            UserIds::Integer => "user ids are 64-bit integers in this database, and this is none",
            _ => "user ids are UUIDs in this database, and this is none",
        }))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("target", self.inner.connector.target()).finish_non_exhaustive()
    }
}

/// How a database is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    naming: Naming,
    migrate: bool,
    patience: Duration,
    readers: usize,
    writers: usize,
}

impl Options {
    /// So long a server lets a caller wait: an answer must come within a second.
    const SERVER_PATIENCE: Duration = Duration::from_millis(800);
    /// So long a person at a terminal waits.
    const COMMAND_LINE_PATIENCE: Duration = Duration::from_secs(5);
    /// Each keeps one process of the server's busy, and more than there are cores would only fight over them.
    const READERS: usize = 2;
    /// Commits that wait for the disk wait together.
    const WRITERS: usize = 8;

    /// As a server needs it: waits 800 ms for an answer, migrates, and keeps two connections to read and up to eight to write.
    #[must_use]
    pub fn new() -> Self {
        Self {
            naming: Naming::new(),
            migrate: true,
            patience: Self::SERVER_PATIENCE,
            readers: Self::READERS,
            writers: Self::WRITERS,
        }
    }

    /// As the command line needs it: waits five seconds, and keeps one connection of each kind.
    #[must_use]
    pub fn command_line() -> Self {
        Self::new().patience(Self::COMMAND_LINE_PATIENCE).readers(1).writers(1)
    }

    /// Sets the names of the tables and the type of user ids.
    #[must_use]
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Sets whether to bring the schema up to date. If not, an older one is [`OpenError::Behind`].
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets how long a call may take in all, be it waiting for its turn, for a connection or for the server, before it is
    /// `Unavailable`.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how many connections look-ups share. At least one.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// Sets how many connections there may be to write. At least one.
    #[must_use]
    pub fn writers(mut self, writers: usize) -> Self {
        self.writers = writers;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
