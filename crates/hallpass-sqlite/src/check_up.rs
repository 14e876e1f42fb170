//! A careful look at a file, for `hallpass doctor` and its like.

use std::path::{Path, PathBuf};

use hallpass::{Timestamp, migration::Migration};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    Options,
    connection::{absolute, open_reader, open_writer},
    error::OpenError,
    migrations::inspect,
};

/// What SQLite calls the level at which a COMMIT waits for the disk.
const FULL: i64 = 2;

/// Both tables are appended to, so the last rows are the newest, and no index is needed to find them.
const NEWEST_TOKEN: &str = "SELECT created_at FROM hallpass_tokens ORDER BY rowid DESC LIMIT 1";
const NEWEST_ENTRY: &str = "SELECT at FROM hallpass_audit ORDER BY seq DESC LIMIT 1";
const HAS_ACCOUNTS: &str = "SELECT EXISTS (SELECT 1 FROM hallpass_accounts)";
/// The first ten faults tell enough.
const QUICK_CHECK: &str = "PRAGMA quick_check(10)";

/// Looks at a file more closely than [`inspect`]: reads all of it, and takes and gives back the lock for writing. Changes
/// nothing. Blocks for as long as it takes to read the file.
///
/// # Errors
/// The file cannot be had, or its schema is not one that this program made.
pub fn check_up(path: impl AsRef<Path>) -> Result<CheckUp, OpenError> {
    let path = absolute(path.as_ref())?;
    let inspection = inspect(&path)?;
    let connection = open_reader(&path, Options::MIGRATION_WAIT)?;
    let failed = |error| OpenError::new(&path, error);
    let is_current = inspection.pending.is_empty();
    let (mut newest, mut has_accounts) = (None, false);
    if is_current {
        newest = newest_row(&connection).map_err(failed)?;
        has_accounts = connection.query_row(HAS_ACCOUNTS, [], |row| row.get(0)).map_err(failed)?;
    }
    // A file in another mode would be changed by being opened for writing.
    let writing = (is_current && inspection.journal_mode == "wal").then(|| try_writing(&path));
    Ok(CheckUp {
        pending: inspection.pending,
        journal_mode: inspection.journal_mode,
        damage: damage(&connection),
        writing,
        newest,
        has_accounts,
        path,
    })
}

/// What [`check_up`] saw.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckUp {
    /// The file, with its whole path.
    pub path: PathBuf,
    /// The migrations that were not run yet.
    pub pending: &'static [Migration],
    /// `wal`, once a store was opened on the file.
    pub journal_mode: String,
    /// Whether it can be written to, and then whether a COMMIT of ours waits for the disk. Not tried on a file that is not up to
    /// date or not in `wal` mode.
    pub writing: Option<Result<bool, OpenError>>,
    /// What is damaged, in SQLite's words; empty if nothing is.
    pub damage: Vec<String>,
    /// When the newest token or entry of the audit trail was made.
    pub newest: Option<Timestamp>,
    /// Whether there is any account.
    pub has_accounts: bool,
}

fn newest_row(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let newest = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional();
    Ok(newest(NEWEST_TOKEN)?.max(newest(NEWEST_ENTRY)?).map(Timestamp::from_micros))
}

fn damage(connection: &Connection) -> Vec<String> {
    let look = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(QUICK_CHECK)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    };
    match look() {
        Ok(rows) => rows.into_iter().filter(|row| row != "ok").collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn try_writing(path: &Path) -> Result<bool, OpenError> {
    let connection = open_writer(path, Options::MIGRATION_WAIT)?;
    let failed = |error| OpenError::new(path, error);
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK;").map_err(failed)?;
    let level: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).map_err(failed)?;
    Ok(level == FULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteStore;

    #[test]
    fn a_new_file_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hallpass.db");
        assert!(matches!(check_up(&path), Err(OpenError::Missing { .. })));
        drop(SqliteStore::open(&path, Options::new()).unwrap());
        let found = check_up(&path).unwrap();
        assert_eq!((found.pending, found.journal_mode.as_str()), (&[][..], "wal"));
        assert!(matches!(found.writing, Some(Ok(true))));
        assert_eq!((found.damage.as_slice(), found.newest, found.has_accounts), (&[][..], None, false));
    }

    #[test]
    fn another_journal_mode_is_seen_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hallpass.db");
        drop(SqliteStore::open(&path, Options::new()).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
        drop(connection);
        for _ in 0..2 {
            let found = check_up(&path).unwrap();
            assert_eq!(found.journal_mode, "delete");
            assert!(found.writing.is_none());
        }
    }

    #[test]
    fn a_damaged_page_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hallpass.db");
        drop(SqliteStore::open(&path, Options::new()).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        // Past the schema, which must be read to get so far.
        let third = bytes.len() / 4096 / 2 * 4096;
        bytes[third..third + 64].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(!check_up(&path).unwrap().damage.is_empty());
    }
}
