//! What the database and the driver say, in our words.

use std::{error::Error as StdError, io::ErrorKind};

use hallpass::{Invalid, Unavailable, migration::Mismatch};
use mysql_async::{DriverError, Error, IoError, ServerError};

/// Why a database was not opened or migrated, and what to do about it. None of its texts has a password in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL cannot be read.
    #[error("the database's URL {problem}: write mysql://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url {
        /// Completes the sentence.
        problem: String,
    },
    /// The names of the tables or the type of user ids cannot be had.
    #[error(transparent)]
    Naming(#[from] Invalid),
    /// Nobody answers.
    #[error("{server} does not answer: check the host and the port, and that the database runs")]
    Unreachable {
        /// Host, port and database.
        server: String,
        /// What the operating system says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The connection could not be encrypted.
    #[error(
        "no trusted connection to {server}: give the authority that signed its certificate as ?ssl-ca=FILE \
         (and the name in it as &ssl-name=NAME, if that is not the host's), or, on a network you trust, ?ssl-mode=disabled"
    )]
    Tls {
        /// Host, port and database.
        server: String,
        /// What the driver says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The user or the password is wrong.
    #[error("{server} refuses the log-in: check the user and the password in the URL")]
    Login {
        /// Host, port and database.
        server: String,
        /// What the server says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// There is no such database.
    #[error("there is no such database on {server}: make it with CREATE DATABASE, or correct the URL")]
    NoDatabase {
        /// Host, port and database.
        server: String,
    },
    /// The user may not do what is needed.
    #[error(
        "the user may not do what is needed on {server}: GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, \
         DROP on the database, and REFERENCES if tokens refer to your table of users"
    )]
    Privilege {
        /// Host, port and database.
        server: String,
        /// What the server says: which right, on what.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The server takes no more connections.
    #[error("{server} takes no more connections: raise its max_connections, or lower the pool's size")]
    Full {
        /// Host, port and database.
        server: String,
    },
    /// The server is too old.
    #[error("{server} runs {found}: it must be MySQL 8.0.19 or later, or MariaDB 10.6 or later")]
    OldServer {
        /// Host, port and database.
        server: String,
        /// What runs there.
        found: String,
    },
    /// What the server acknowledges does not survive its own end.
    #[error(
        "{server} has innodb_flush_log_at_trx_commit = 0 and may lose a revocation that was acknowledged: set it to 1 (or \
         2), or allow a volatile store"
    )]
    Volatile {
        /// Host, port and database.
        server: String,
    },
    /// A table of ours is kept by an engine without transactions.
    #[error("the table {table} on {server} is kept by {engine}: run ALTER TABLE … ENGINE = InnoDB")]
    Engine {
        /// Host, port and database.
        server: String,
        /// The table.
        table: String,
        /// Its engine.
        engine: String,
    },
    /// The schema is not one that this program made.
    #[error("cannot use {server}: {mismatch}")]
    Schema {
        /// Host, port and database.
        server: String,
        /// In which way.
        mismatch: Mismatch,
    },
    /// The schema is older than this program, and was not to be migrated.
    #[error("the schema on {server} is not up to date: run `hallpass migrate`")]
    Behind {
        /// Host, port and database.
        server: String,
    },
    /// Somebody else migrates, for longer than was waited.
    #[error("another program is migrating {server}: try again when it is done")]
    Busy {
        /// Host, port and database.
        server: String,
    },
    /// A migration failed. Run again, it goes on where it stopped.
    #[error("migration {migration} failed on {server}; when the cause is mended, run it again")]
    Migration {
        /// Host, port and database.
        server: String,
        /// Which one, as `0001_first`.
        migration: String,
        /// What the server says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Anything else.
    #[error("cannot open {server}")]
    Other {
        /// Host, port and database.
        server: String,
        /// What the server or the driver says.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn new(server: &str, error: Error) -> Self {
        let server = server.to_owned();
        match error {
            Error::Server(error) => Self::from_server(server, error),
            Error::Io(IoError::Tls(error)) => Self::Tls { server, source: error.into() },
            // A handshake that failed comes as an error of the stream.
            Error::Io(IoError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                Self::Tls { server, source: error.into() }
            }
            Error::Driver(error @ DriverError::NoClientSslFlagFromServer) => {
                Self::Tls { server, source: error.into() }
            }
            Error::Io(error) => Self::Unreachable { server, source: error.into() },
            Error::Driver(error @ DriverError::ConnectionClosed) => {
                Self::Unreachable { server, source: error.into() }
            }
            error => Self::Other { server, source: said(&error).into() },
        }
    }

    fn from_server(server: String, error: ServerError) -> Self {
        match error.code {
            1045 | 1130 | 1251 | 1275 | 1698 | 3118 | 4151 => Self::Login { server, source: error.into() },
            1049 => Self::NoDatabase { server },
            1044 | 1142 | 1143 | 1227 | 1370 => Self::Privilege { server, source: error.into() },
            1040 | 1203 | 1226 => Self::Full { server },
            _ => Self::Other { server, source: error.into() },
        }
    }
}

/// Why a statement or a transaction was not done, or why nobody knows whether it was.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A key is taken. Nothing was done.
    Taken,
    /// The application's table has no such user. Nothing was done.
    NoUser,
    /// Two transactions were in each other's way, and this one gave in. Nothing was done; again, it may go well.
    Conflict(Unavailable),
    /// The connection broke. Whether the statement was done, nobody here knows.
    Broken(Unavailable),
    /// No answer.
    Unavailable(Unavailable),
}

impl Failure {
    /// For what neither makes a new key nor refers to a user.
    pub(crate) fn into_unavailable(self) -> Unavailable {
        match self {
            Self::Taken => Unavailable::new("a key is taken that nothing new was to have"),
            Self::NoUser => Unavailable::new("the database misses a user"),
            Self::Conflict(why) | Self::Broken(why) | Self::Unavailable(why) => why,
        }
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        failure.into_unavailable()
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let because = |what| Unavailable::because(what, said(&error));
        let Error::Server(server) = &error else {
            return Self::Broken(because("the connection to the database broke"));
        };
        match server.code {
            1062 => Self::Taken,
            1216 | 1452 => Self::NoUser,
            // A deadlock; a lock that was waited for too long; a row that changed since it was read; a cluster's conflict.
            1213 | 1205 | 1020 | 3101 => Self::Conflict(because("the database is busy")),
            code => Self::Unavailable(because(what_fails(code))),
        }
    }
}

/// Completes the sentence "unavailable: …".
fn what_fails(code: u16) -> &'static str {
    match code {
        1036 | 1290 | 1792 | 1836 => "the database cannot be written to",
        1044 | 1045 | 1142 | 1143 | 1227 | 1698 => "the database refuses its user",
        1040 | 1203 | 1226 => "the database takes no more connections",
        1021 | 1114 => "the database's disk is full",
        1665 => "the database's binlog_format is STATEMENT: set it to ROW or MIXED",
        1969 | 3024 => "the database is too slow",
        1053 | 1079 | 1317 | 1927 | 3169 => "the database is being stopped",
        1264 | 1366 | 1406 | 3819 | 4025 => "the database refuses a value",
        1054 | 1146 => "the database has another schema",
        _ => "the database fails",
    }
}

/// What the log may see: a message about a value would quote it, and values are addresses and hashes.
fn said(error: &Error) -> String {
    match error {
        Error::Server(ServerError { code, state, .. }) if quotes_a_value(*code, state) => {
            format!("error {code} ({state})")
        }
        Error::Server(error) => error.to_string(),
        Error::Io(error) => error.to_string(),
        Error::Driver(DriverError::FromRow { .. } | DriverError::FromValue { .. }) => {
            "a value of another type".to_owned()
        }
        Error::Driver(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Data exceptions (class 22) and broken constraints (class 23) quote it, and a few of no class of their own.
fn quotes_a_value(code: u16, state: &str) -> bool {
    state.starts_with("22") || state.starts_with("23") || [1292, 1300, 1366, 1411].contains(&code)
}

/// A value that no program of ours has written.
pub(crate) fn corrupt(column: &str) -> Unavailable {
    Unavailable::because(
        "the database has a value that cannot be read",
        format!("column {column} has a value that no program of ours has written"),
    )
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn server(code: u16, state: &str) -> Error {
        let message = "Duplicate entry 'ada@example.com' for key 'by_email'".to_owned();
        Error::Server(ServerError { code, message, state: state.to_owned() })
    }

    #[test]
    fn no_value_reaches_the_log() {
        for error in [server(1406, "22001"), server(1366, "HY000"), server(1048, "23000")] {
            let why = Failure::from(error).into_unavailable();
            let told = format!("{why} {why:?} {}", why.source().unwrap());
            assert!(!told.contains("ada"), "{told}");
        }
    }

    #[test]
    fn what_may_be_tried_again_is_told_from_what_may_have_been_done() {
        assert!(matches!(Failure::from(server(1062, "23000")), Failure::Taken));
        assert!(matches!(Failure::from(server(1452, "23000")), Failure::NoUser));
        assert!(matches!(Failure::from(server(1213, "40001")), Failure::Conflict(_)));
        assert!(matches!(Failure::from(server(1205, "HY000")), Failure::Conflict(_)));
        let closed = Error::Driver(DriverError::ConnectionClosed);
        assert!(matches!(Failure::from(closed), Failure::Broken(_)));
        assert!(matches!(Failure::from(server(1290, "HY000")), Failure::Unavailable(_)));
    }
}
