//! Opening a connection, and what is set on each.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::error::{OpenError, is_busy};

/// STRICT tables came with 3.37, JSON functions in every build with 3.38.
const SQLITE_NEEDED: (i32, &str) = (3_038_000, "3.38.0");

/// More than there are statements in this crate.
const STATEMENTS: usize = 64;

/// What a connection may keep of the file in memory, in KiB. The operating system keeps the rest: on a million tokens a
/// larger cache gained nothing that could be measured, and it is there once per core.
const CACHE_KIB: u32 = 2048;

/// The log is cut back to this size, in bytes, when it was copied into the database: after a large prune it would
/// otherwise stay as large as it ever was.
const LOG_KEPT: u32 = 16 << 20;

/// Between two attempts at what SQLite does not wait for by itself.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the file is: absolute, so that a process that changes its folder finds it again.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    // SQLite would take the first two for a database in memory, of which each connection has its own.
    let names_nothing = path.as_os_str().is_empty() || path == Path::new(":memory:") || path.is_dir();
    let absolute = std::path::absolute(path).ok().filter(|_| !names_nothing);
    absolute.ok_or_else(|| OpenError::NotAFile { path: path.to_owned() })
}

/// Makes an empty file, which is an empty database, unless there is one.
pub(crate) fn create(path: &Path) -> Result<(), OpenError> {
    // Closing a file drops the locks that the process has on it, also those that SQLite took through another
    // descriptor. So nobody may come between the making and the closing of a new file.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);

    let path = path.to_owned();
    match create_private(&path) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            io::ErrorKind::NotFound if !path.parent().is_some_and(Path::exists) => {
                Err(OpenError::NoFolder { path })
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Err(OpenError::ReadOnly { path })
            }
            _ => Err(OpenError::Other { path, source: error.into() }),
        },
    }
}

/// For the owner's eyes alone: there are password hashes in it. SQLite gives the files beside it the same rights.
fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A connection that may write, to a file that exists.
pub(crate) fn open_writer(path: &Path, patience: Duration) -> Result<Connection, OpenError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, patience)?;
    let failed = |error| OpenError::new(path, error);
    if connection.is_readonly("main").map_err(failed)? {
        return Err(OpenError::ReadOnly { path: path.to_owned() });
    }
    use_log(&connection, patience).map_err(failed)?;
    // FULL: an answer is a promise, so each COMMIT waits for the disk. fullfsync: on macOS the disk would otherwise
    // answer before it has written; elsewhere it changes nothing. temp_store: what a savepoint needs for its undoing
    // stays in memory.
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
             PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = {LOG_KEPT};"
        ))
        .map_err(failed)?;
    Ok(connection)
}

/// A connection that cannot write, to a file that exists.
pub(crate) fn open_reader(path: &Path, patience: Duration) -> Result<Connection, OpenError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, patience)
}

fn open(path: &Path, access: OpenFlags, patience: Duration) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_NEEDED.0 {
        return Err(OpenError::OldSqlite { found: rusqlite::version(), needed: SQLITE_NEEDED.1 });
    }
    if !path.exists() {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let failed = |error| OpenError::new(path, error);
    // No mutex of SQLite's own: a connection is used by one thread at a time, and the compiler sees to it.
    let connection =
        Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(patience).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans depend on the schema alone. Otherwise SQLite would plan a cached statement again whenever its values were
    // cleared, which is at each use, and a look-up would take six times as long.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB};")).map_err(failed)?;
    Ok(connection)
}

/// Sets the write-ahead log, in which readers and the writer do not wait for each other. The file remembers it.
fn use_log(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        // Of several who change the mode of a new file at once, SQLite turns all but one away without waiting.
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(error) if !is_busy(&error) => return Err(error),
            Ok(_) | Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Ok(_) => return Err(rusqlite::Error::InvalidPath("the file system has no shared memory".into())),
            Err(error) => return Err(error),
        }
    }
}
