//! What SQLite says, in our words.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
};

use hallpass::{Unavailable, migration::Mismatch};
use rusqlite::{Error, ErrorCode, ffi, types::Type};

/// Why a database file was not opened or migrated, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file, and it was not to be made.
    #[error("there is no database at {}: check the path, or make one with `hallpass migrate`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The folder that should hold the file does not exist.
    #[error("the folder of {} does not exist: make it, or choose another path", path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// The path does not name a file.
    #[error("{} does not name a file to keep tokens in: give a path such as hallpass.db", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The file is something else. It was not touched.
    #[error("{} is not an SQLite database: choose another path, or restore it from a backup", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file, or the folder that SQLite must make two more files in, cannot be written to.
    #[error("cannot write to {} or its folder: give this user the right to write to both", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else holds the file, longer than was waited.
    #[error("{} is busy: another program is writing to it; try again when it is done", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The schema is not one that this program made.
    #[error("cannot use {}: {mismatch}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// In which way.
        mismatch: Mismatch,
    },
    /// The schema is older than this program, and was not to be migrated.
    #[error("the schema of {} is not up to date: run `hallpass migrate`", path.display())]
    Behind {
        /// The file.
        path: PathBuf,
    },
    /// A migration failed. Nothing of it was left behind.
    #[error("migration {migration} failed on {}, and nothing of it was left behind", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// Which one, as `0001_first`.
        migration: String,
        /// What SQLite says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The SQLite library that this program was linked with is too old.
    #[error(
        "this program was linked with SQLite {found}: it needs {needed} or later, or the feature `bundled`"
    )]
    OldSqlite {
        /// The library's version.
        found: &'static str,
        /// The first that will do.
        needed: &'static str,
    },
    /// Anything else.
    #[error("cannot open {}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What SQLite or the operating system says.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn new(path: &Path, error: Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::CannotOpen) if path.is_dir() => Self::NotAFile { path },
            // SQLite cannot make the files beside it, or may not look at it at all.
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path }
            }
            _ => Self::Other { path, source: error.into() },
        }
    }
}

/// An answer that SQLite did not give. No statement of ours has a value in its text, so the log may see the cause.
pub(crate) fn unavailable(error: Error) -> Unavailable {
    Unavailable::because(what_fails(&error), error)
}

/// Completes the sentence "unavailable: …".
pub(crate) fn what_fails(error: &Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "the database is busy",
        Some(ErrorCode::DiskFull) => "the database's disk is full",
        Some(ErrorCode::SystemIoFailure) => "the database's disk fails",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "the database is corrupt",
        Some(ErrorCode::ReadOnly) => "the database cannot be written to",
        Some(ErrorCode::ConstraintViolation) => "the database refuses a value",
        Some(_) => "the database fails",
        None => "the database has a value that cannot be read",
    }
}

pub(crate) fn is_busy(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Whether a statement failed by its own fault, and the connection, the file and the statements before it are well.
pub(crate) fn is_own_fault(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        None | Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

/// Why something new was not kept.
pub(crate) enum Failed {
    /// One of its keys is taken.
    Taken,
    Unavailable(Unavailable),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        const TAKEN: [i32; 2] = [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY];
        match error.sqlite_error() {
            Some(failure) if TAKEN.contains(&failure.extended_code) => Self::Taken,
            _ => Self::Unavailable(unavailable(error)),
        }
    }
}

impl From<Unavailable> for Failed {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

/// A value that no program of ours has written.
pub(crate) fn corrupt(column: usize, error: impl StdError + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
