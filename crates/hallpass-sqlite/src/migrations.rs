//! The schema's migrations, and running them.

use std::path::Path;

use hallpass::{
    Clock, SystemClock,
    migration::{Applied, Migration, pending},
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::{
    Options,
    connection::{absolute, create, open_reader, open_writer},
    error::OpenError,
};

static MIGRATIONS: [Migration; 1] = [Migration::new(1, "first", include_str!("migrations/0001_first.sql"))];

/// Where it is noted what was run. It is made in the first migration's transaction.
const CREATE_NOTES: &str = "
    CREATE TABLE IF NOT EXISTS hallpass_migrations (
        version    INTEGER PRIMARY KEY CHECK (version > 0),
        name       TEXT    NOT NULL,
        -- SHA-256 of the SQL that was run.
        checksum   BLOB    NOT NULL CHECK (length(checksum) = 32),
        -- Microseconds since 1970-01-01T00:00:00Z.
        applied_at INTEGER NOT NULL
    ) STRICT";
const HAS_NOTES: &str = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'hallpass_migrations'";
const NOTES: &str = "SELECT version, checksum FROM hallpass_migrations";
const NOTE: &str =
    "INSERT INTO hallpass_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)";

/// The migrations that this program has, first to last.
#[must_use]
pub fn migrations() -> &'static [Migration] {
    &MIGRATIONS
}

/// Brings the file up to date, makes it if there is none, and says which migrations it ran. Waits five seconds for others
/// who write to it. Any number of processes may do this at once.
///
/// # Errors
/// The file cannot be had, or its schema is not one that this program made.
pub fn migrate(path: impl AsRef<Path>) -> Result<Vec<Migration>, OpenError> {
    let path = absolute(path.as_ref())?;
    create(&path)?;
    let mut connection = open_writer(&path, Options::MIGRATION_WAIT)?;
    apply(&mut connection, &path, &MIGRATIONS)
}

/// Looks at a file and changes nothing.
///
/// # Errors
/// The file cannot be had, or its schema is not one that this program made.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection, OpenError> {
    let path = absolute(path.as_ref())?;
    let connection = open_reader(&path, Options::MIGRATION_WAIT)?;
    let failed = |error| OpenError::new(&path, error);
    let left = left(&connection, &path, &MIGRATIONS)?;
    let journal_mode = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(failed)?;
    Ok(Inspection { pending: left, journal_mode })
}

/// What [`inspect`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The migrations that were not run yet.
    pub pending: &'static [Migration],
    /// `wal`, once a store was opened on the file.
    pub journal_mode: String,
}

/// Refuses a file that is not up to date.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    match left(connection, path, &MIGRATIONS)? {
        [] => Ok(()),
        [..] => Err(OpenError::Behind { path: path.to_owned() }),
    }
}

/// Runs what is left of `known`, each in a transaction of its own, and says which ran here.
pub(crate) fn apply(
    connection: &mut Connection,
    path: &Path,
    known: &[Migration],
) -> Result<Vec<Migration>, OpenError> {
    let mut ran = Vec::new();
    // The first look takes no lock, so that whoever has nothing to do waits for nobody.
    while !left(connection, path, known)?.is_empty() {
        let failed = |error| OpenError::new(path, error);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        // The second look is under the lock: another process may have run it meanwhile.
        let Some(next) = left(&transaction, path, known)?.first() else { break };
        let failed = |source: rusqlite::Error| OpenError::Migration {
            path: path.to_owned(),
            migration: next.to_string(),
            source: source.into(),
        };
        transaction.execute_batch(CREATE_NOTES).map_err(failed)?;
        transaction.execute_batch(next.sql()).map_err(failed)?;
        let now = SystemClock.now().as_micros();
        transaction
            .execute(NOTE, params![next.version(), next.name(), next.checksum(), now])
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        ran.push(*next);
    }
    Ok(ran)
}

fn left<'a>(
    connection: &Connection,
    path: &Path,
    known: &'a [Migration],
) -> Result<&'a [Migration], OpenError> {
    let applied = applied(connection).map_err(|error| OpenError::new(path, error))?;
    pending(known, &applied).map_err(|mismatch| OpenError::Schema { path: path.to_owned(), mismatch })
}

fn applied(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    if connection.query_row(HAS_NOTES, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare(NOTES)?;
    let rows = statement.query_map([], |row| Ok(Applied { version: row.get(0)?, checksum: row.get(1)? }))?;
    rows.collect()
}
