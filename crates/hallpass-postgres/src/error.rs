//! What PostgreSQL says, in our words.

use std::error::Error as StdError;

use hallpass::{Unavailable, migration::Mismatch, store::InsertError};
use tokio_postgres::{Error, error::SqlState};

/// Why a database was not opened or migrated, and what to do about it. No text here has a password in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL cannot be read.
    #[error(
        "cannot read the PostgreSQL URL: {message}; it looks like postgres://user:password@host:5432/database"
    )]
    Url {
        /// What is wrong with it, without the URL itself.
        message: String,
    },
    /// Nobody answers.
    #[error(
        "cannot reach PostgreSQL at {server}: {cause}. Check the host and port, and that the server runs"
    )]
    Unreachable {
        /// Host and port.
        server: String,
        /// What the driver says.
        cause: String,
    },
    /// The server refuses the user or the password.
    #[error(
        "PostgreSQL at {server} refuses the user {user}: {cause}. Check the password, or the server's pg_hba.conf"
    )]
    Refused {
        /// Host and port.
        server: String,
        /// The user.
        user: String,
        /// What the server says.
        cause: String,
    },
    /// There is no such database.
    #[error(
        "there is no database {database} at {server}: make it with `createdb {database}`, or correct the URL"
    )]
    NoDatabase {
        /// Host and port.
        server: String,
        /// The database.
        database: String,
    },
    /// TLS failed: no answer was believed, and no password was sent.
    #[error(
        "no TLS connection to {server}: {cause}. Give the certificate of its authority as sslrootcert=FILE, or choose \
         another sslmode in the URL"
    )]
    Tls {
        /// Host and port.
        server: String,
        /// What is wrong.
        cause: String,
    },
    /// The user lacks a right.
    #[error("the database user lacks a right: run as its owner `{grants}`")]
    Privilege {
        /// The statements that grant what is missing.
        grants: String,
    },
    /// The schema is not one that this program made.
    #[error("cannot use the database {database}: {mismatch}")]
    Schema {
        /// The database.
        database: String,
        /// In which way.
        mismatch: Mismatch,
    },
    /// The schema is older than this program, and was not to be migrated.
    #[error("the schema in the database {database} is not up to date: run `hallpass migrate`")]
    Behind {
        /// The database.
        database: String,
    },
    /// The tables were made for user ids of another type.
    #[error(
        "the tables in the database {database} have user ids of the type {found}, and {wanted} was asked for"
    )]
    UserIds {
        /// The database.
        database: String,
        /// The type of the column.
        found: String,
        /// The type that the options name.
        wanted: &'static str,
    },
    /// A migration failed. Nothing of it was left behind.
    #[error(
        "migration {migration} failed in the database {database}, and nothing of it was left behind: {cause}"
    )]
    Migration {
        /// The database.
        database: String,
        /// Which one, as `0001_first`.
        migration: String,
        /// What the server says.
        cause: String,
    },
    /// Somebody else migrates the database, longer than was waited.
    #[error("the database {database} is being migrated by another process: try again when it is done")]
    Busy {
        /// The database.
        database: String,
    },
    /// The server is too old.
    #[error("PostgreSQL at {server} has version {found}: version {needed} or later is needed")]
    OldServer {
        /// Host and port.
        server: String,
        /// Its version.
        found: String,
        /// The first that will do.
        needed: u32,
    },
    /// Anything else.
    #[error("cannot use the database {database}: {cause}")]
    Other {
        /// The database.
        database: String,
        /// What the server or the driver says.
        cause: String,
    },
}

/// What went wrong, for logs. Not the server's details: those quote rows, with their hashes.
pub(crate) fn cause(error: &Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("{} ({})", answer.message(), answer.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// An answer that the database did not give. No statement of ours has a value in its text, so the log may see the cause.
pub(crate) fn unavailable(error: &Error) -> Unavailable {
    Unavailable::because(what_fails(error), cause(error))
}

/// No answer within the time that a caller is willing to wait.
pub(crate) fn late() -> Unavailable {
    Unavailable::new("the database does not answer in time")
}

/// Completes the sentence "unavailable: …".
fn what_fails(error: &Error) -> &'static str {
    let Some(code) = error.code() else {
        return "the connection to the database is lost";
    };
    match *code {
        SqlState::READ_ONLY_SQL_TRANSACTION => "the database cannot be written to",
        SqlState::DISK_FULL => "the database's disk is full",
        SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => "the database does not answer in time",
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => "the database is busy",
        SqlState::INSUFFICIENT_PRIVILEGE => "the database user lacks a right",
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN => {
            "the database lacks a table or column of ours"
        }
        SqlState::TOO_MANY_CONNECTIONS => "the database has too many connections",
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            "the database is going down or coming up"
        }
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => {
            "the database forgets prepared statements: behind a PgBouncer add pgbouncer=true to the URL"
        }
        // Class 23: integrity constraints. Class 22: data.
        _ if code.code().starts_with("23") || code.code().starts_with("22") => "the database refuses a value",
        _ => "the database fails",
    }
}

/// Whether the same statements may well succeed when they are run again from the start. They left nothing behind.
pub(crate) fn is_passing(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// Whether the connection cannot be relied on any more: it is gone or going, what was prepared on it is stale, or it leads to a
/// server that has become a read-only replica.
pub(crate) fn is_of_the_connection(error: &Error) -> bool {
    let Some(code) = error.code() else { return true };
    matches!(
        *code,
        SqlState::INVALID_SQL_STATEMENT_NAME
            | SqlState::DUPLICATE_PSTATEMENT
            | SqlState::FEATURE_NOT_SUPPORTED
            | SqlState::READ_ONLY_SQL_TRANSACTION
    ) || code.code().starts_with("57P")
        || code.code().starts_with("08")
}

/// Why something was not written.
#[derive(Debug)]
pub(crate) enum Failed {
    /// One of its keys is taken.
    Taken,
    /// The application has no such user.
    NoUser,
    Unavailable(Unavailable),
}

impl From<&Error> for Failed {
    fn from(error: &Error) -> Self {
        match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => Self::Taken,
            Some(&SqlState::FOREIGN_KEY_VIOLATION) => Self::NoUser,
            _ => Self::Unavailable(unavailable(error)),
        }
    }
}

impl From<Unavailable> for Failed {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<Failed> for Unavailable {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Taken | Failed::NoUser => Self::new("the database refuses a value"),
            Failed::Unavailable(unavailable) => unavailable,
        }
    }
}

/// A value that no program of ours has written.
#[derive(Debug)]
pub(crate) struct Corrupt(Box<dyn StdError + Send + Sync>);

impl<E: StdError + Send + Sync + 'static> From<E> for Corrupt {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<Corrupt> for Unavailable {
    fn from(Corrupt(source): Corrupt) -> Self {
        Self::because("the database has a value that cannot be read", source)
    }
}

impl From<Corrupt> for InsertError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Unavailable(corrupt.into())
    }
}
