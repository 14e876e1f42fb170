//! Hallpass tokens, accounts and audit trail in MySQL (8.0.19 or later) or `MariaDB` (10.6 or later).
//!
//! ```no_run
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use hallpass::{Guard, Purpose, account::Accounts};
//! use hallpass_mysql::{MysqlStore, Options};
//! use std::sync::Arc;
//!
//! let url = "mysql://app:password@db.example.com/app"; // makes and migrates the tables
//! let store = Arc::new(MysqlStore::connect(url, Options::new()).await?);
//! let guard = Guard::new(Accounts::new(store.clone()), store, Purpose::api());
//! # assert!(guard.verify_header([b"Bearer hp_nonsense".as_slice()]).await.is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The URL
//!
//! `mysql://user:password@host:3306/database?setting=value&…`, with these settings:
//!
//! | setting | values |
//! |---|---|
//! | `ssl-mode` | `disabled`, `required` (encrypted, to whomever), `verify-identity` |
//! | `ssl-ca` | a file with the certificates of authorities in PEM; those of the web, if it is not given |
//! | `ssl-name` | the name in the server's certificate, if it is not the host's |
//! | `socket` | a Unix socket to connect to instead |
//!
//! Without `ssl-mode`, a server on this machine is spoken to in plain text; any other must prove its name. If the program has
//! rustls with more than one provider of cryptography, it must install one of them; the store installs none.
//!
//! # What it promises
//!
//! A verification is one statement, prepared once per connection. A server that is down, frozen or cut off is
//! [`Unavailable`](hallpass::Unavailable) after [`Options::patience`] at the latest, and is used again by itself when it is back.
//! What each session needs (strict mode, READ COMMITTED, utf8mb4, short waits for locks) is set on it, whatever the
//! server's own defaults are.
//!
//! The tables begin with `hallpass_`, or with what [`Options::naming`] says, so they can live in an application's own
//! database. Any number of processes may use one database.
//!
//! What the server acknowledges must survive it: `innodb_flush_log_at_trx_commit` is 1 (on the disk) or 2 (with the
//! operating system, so that a second's work may go with the machine). With 0 the store is not opened; see
//! [`Options::allow_volatile`].
//!
//! All of it is tested on `MariaDB` 10.11. The statements are such as MySQL 8 takes too, but no test of ours runs them there.

mod accounts;
mod audit;
mod columns;
mod connection;
mod error;
mod migrations;
mod pool;
mod prune;
mod statements;
mod tokens;
mod user_ids;

use std::{fmt, sync::Arc, time::Duration};

use hallpass::naming::Naming;
use tokio::time::timeout;

use crate::{
    connection::{Address, Connection},
    migrations::Plan,
    pool::Pool,
    prune::Backlog,
    statements::Statements,
    user_ids::Ids,
};

pub use error::OpenError;
pub use migrations::{Inspection, inspect, migrate, migrations, script};
pub use user_ids::UserIdColumn;

/// A database with tokens, accounts and an audit trail: a [`TokenStore`](hallpass::TokenStore), an
/// [`AccountStore`](hallpass::account::AccountStore) and an [`AuditStore`](hallpass::audit::AuditStore). Cheap to clone.
///
/// It keeps connections and makes new ones by itself when the database went away and came back. A call that gets no answer in
/// time is `Unavailable`; see [`Options::patience`]. A future that is dropped leaves its change made whole or not at
/// all.
///
/// All clones must be used in one runtime of tokio: a connection belongs to the one that made it.
#[derive(Clone)]
pub struct MysqlStore {
    pool: Arc<Pool>,
    sql: Arc<Statements>,
    ids: Ids,
    backlog: Arc<Backlog>,
}

impl MysqlStore {
    /// Opens the database and brings its schema up to date; see [`Options::migrate`].
    ///
    /// # Errors
    /// The database cannot be had, its settings would lose what was acknowledged, or its schema is not one that this program
    /// made. Each says what to do.
    pub async fn connect(url: &str, options: Options) -> Result<Self, OpenError> {
        let address = Address::parse(url, &options)?;
        let plan = Plan::whole(&options)?;
        let mut first = first_connection(&address).await?;
        warn_if_volatile(&address, first.server().flush);
        if !plan.left(&mut first, &address).await?.is_empty() {
            if !options.migrate {
                return Err(OpenError::Behind { server: address.server().to_owned() });
            }
            for migration in migrations::apply(&address, &plan).await? {
                tracing::info!(%migration, "the database was migrated");
            }
        }
        plan.check_engines(&mut first, &address).await?;
        let ids = Ids::new(&options.naming, options.user_id_column)?;
        let sql = Arc::new(Statements::new(&options.naming, &ids));
        // The database looks at the columns and at the user's rights here, and not first in the middle of a request.
        for statement in sql.all() {
            first.prepare(statement).await.map_err(|error| address.failed(error))?;
        }
        let pool = Pool::new(address, first, options.pool_size, options.patience);
        Ok(Self { pool, sql, ids, backlog: Arc::default() })
    }
}

fn warn_if_volatile(address: &Address, flush: u8) {
    match flush {
        0 => tracing::warn!(
            server = address.server(),
            "innodb_flush_log_at_trx_commit is 0: up to a second of what was acknowledged is lost when the database \
             ends, and tokens that were revoked in it live again; set it to 1"
        ),
        2 => tracing::warn!(
            server = address.server(),
            "innodb_flush_log_at_trx_commit is 2: when the machine ends (not the database alone), up to a second of \
             what was acknowledged is lost, and tokens that were revoked in it live again; set it to 1"
        ),
        _ => {}
    }
}

/// In a task of its own: if the program has two providers of cryptography and chose neither, rustls panics.
async fn first_connection(address: &Address) -> Result<Connection, OpenError> {
    let server = address.server().to_owned();
    let connecting = tokio::spawn({
        let address = address.clone();
        async move { timeout(Options::OPEN_WAIT, address.connect()).await }
    });
    match connecting.await {
        Ok(Ok(connected)) => connected,
        Ok(Err(late)) => Err(OpenError::Unreachable { server, source: late.into() }),
        Err(panicked) => Err(OpenError::Tls { server, source: panicked.into() }),
    }
}

impl fmt::Debug for MysqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlStore").field("server", &self.pool.address().server()).finish_non_exhaustive()
    }
}

/// How a database is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pool_size: usize,
    patience: Duration,
    migrate: bool,
    allow_volatile: bool,
    naming: Naming,
    user_id_column: UserIdColumn,
}

impl Options {
    /// Connections at most. Each is a thread or so in the server; more than its cores have work for only wait there instead of
    /// here.
    const POOL_SIZE: usize = 16;
    /// So long a server lets a caller wait: an answer must come within a second.
    const SERVER_WAIT: Duration = Duration::from_millis(800);
    /// So long a person at a terminal waits.
    const COMMAND_LINE_WAIT: Duration = Duration::from_secs(5);
    /// So long whoever opens a database waits for it to answer.
    pub(crate) const OPEN_WAIT: Duration = Duration::from_secs(5);

    /// As a server needs it: 16 connections, 800 ms for a call, migrates.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pool_size: Self::POOL_SIZE,
            patience: Self::SERVER_WAIT,
            migrate: true,
            allow_volatile: false,
            naming: Naming::new(),
            user_id_column: UserIdColumn::Native,
        }
    }

    /// As the command line needs it: 2 connections, five seconds for a call.
    #[must_use]
    pub fn command_line() -> Self {
        Self::new().pool_size(2).patience(Self::COMMAND_LINE_WAIT)
    }

    /// Sets the most connections that are made. At least 1.
    #[must_use]
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Sets how long a call takes at most, with the wait for a connection and for other transactions in it, before it is
    /// `Unavailable`. Noting many last uses is many calls in this sense; so is pruning, which looks for the dead for up to five
    /// seconds.
    #[must_use]
    pub fn patience(mut self, wait: Duration) -> Self {
        self.patience = wait;
        self
    }

    /// Sets whether to bring the schema up to date. If not, an older one is [`OpenError::Behind`].
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets whether a server that may lose what it acknowledged (`innodb_flush_log_at_trx_commit = 0`) will do. If not, it is
    /// [`OpenError::Volatile`], and `Unavailable` if it comes back so.
    #[must_use]
    pub fn allow_volatile(mut self, allow: bool) -> Self {
        self.allow_volatile = allow;
        self
    }

    /// Sets the names of the tables, what user ids are, and which table of the application's own they refer to. A schema, in
    /// MySQL, is another database on the same server.
    #[must_use]
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Sets the type of the column that keeps user ids, where the application's own table needs one other than the usual.
    #[must_use]
    pub fn user_id_column(mut self, column: UserIdColumn) -> Self {
        self.user_id_column = column;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
