//! What Redis says, in our words.

use std::error::Error as StdError;

use hallpass::Unavailable;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why Redis cannot keep tokens, and what to do about it.
///
/// No text has a password in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is none.
    #[error(
        "{what}: give redis://HOST:PORT, or redis-cluster://HOST:PORT,HOST:PORT; with TLS rediss:// or rediss-cluster://"
    )]
    Url {
        /// What is wrong with it.
        what: String,
    },
    /// The prefix cannot begin keys.
    #[error("a prefix of keys is 1 to 64 letters, digits and any of _ - . : / : choose another")]
    Prefix,
    /// TLS is asked for, and the program has not chosen who does the cryptography. A library does not choose for it.
    #[error(
        "TLS needs a cryptography provider: call rustls::crypto::ring::default_provider().install_default() first"
    )]
    NoTlsProvider,
    /// Nobody answers there.
    #[error("Redis at {address} cannot be reached: check the address, and that it runs")]
    Unreachable {
        /// Where.
        address: String,
        /// What the driver says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The name or password is not accepted, or one is missing.
    #[error(
        "Redis at {address} refuses the log-in: check user and password (redis://USER:PASSWORD@HOST:PORT)"
    )]
    Login {
        /// Where.
        address: String,
    },
    /// The user may not run a command that is needed.
    #[error(
        "the user may not do what is needed on Redis at {address}: allow it +@all -@admin -@dangerous +info on the keys {prefix}* ({detail})"
    )]
    Privilege {
        /// Where.
        address: String,
        /// What all keys begin with.
        prefix: String,
        /// What Redis says.
        detail: String,
    },
    /// The server is too old.
    #[error("Redis at {address} is version {found}: {needed} or later is needed")]
    Old {
        /// Where.
        address: String,
        /// Its version.
        found: String,
        /// The first that will do.
        needed: &'static str,
    },
    /// The address is for a single node and leads to a cluster.
    #[error(
        "Redis at {address} is part of a cluster: begin the address with redis-cluster:// or rediss-cluster://"
    )]
    IsCluster {
        /// Where.
        address: String,
    },
    /// The address is for a cluster and leads to a single node.
    #[error("Redis at {address} is not part of a cluster: begin the address with redis:// or rediss://")]
    NotCluster {
        /// Where.
        address: String,
    },
    /// The server is a copy that cannot be written to.
    #[error("Redis at {address} is a replica: give the address of its primary")]
    Replica {
        /// Where.
        address: String,
    },
    /// The server deletes keys of its own choice when it is full. That could be an epoch, and everything it ended would live again.
    #[error(
        "Redis at {address} evicts keys when it is full (maxmemory-policy {policy}), which could bring ended tokens back: \
         set maxmemory-policy noeviction"
    )]
    Evicts {
        /// Where.
        address: String,
        /// Its policy.
        policy: String,
    },
    /// The server forgets what it acknowledged when it stops.
    #[error(
        "Redis at {address} does not persist what it acknowledges: set appendonly yes (and appendfsync always), \
         or accept by allow_volatile that a crash loses new tokens and brings revoked ones back"
    )]
    Volatile {
        /// Where.
        address: String,
    },
    /// Tokens with this prefix were made by another kind of store, or by a later version of this one.
    #[error(
        "the keys {prefix}* are of another use ({found}), and this one is {wanted}: choose another prefix"
    )]
    OtherUse {
        /// What all keys begin with.
        prefix: String,
        /// What is there.
        found: String,
        /// What was going to use it.
        wanted: &'static str,
    },
    /// Anything else.
    #[error("Redis at {address} cannot be used")]
    Other {
        /// Where.
        address: String,
        /// What the driver says.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn new(address: &str, prefix: &str, error: RedisError) -> Self {
        let address = address.to_owned();
        match error.kind() {
            _ if is_login_refused(&error) => Self::Login { address },
            ErrorKind::Server(ServerErrorKind::NoPerm) => {
                let detail = error.detail().unwrap_or_default().to_owned();
                Self::Privilege { address, prefix: prefix.to_owned(), detail }
            }
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::Replica { address },
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => {
                Self::Unreachable { address, source: error.into() }
            }
            _ => Self::Other { address, source: error.into() },
        }
    }
}

fn is_login_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || error.code().is_some_and(|code| code == "NOAUTH" || code == "WRONGPASS")
}

/// An answer that Redis did not give. No argument of a command is in an error's text, so the log may see the cause.
pub(crate) fn unavailable(error: RedisError) -> Unavailable {
    Unavailable::because(what_fails(&error), error)
}

/// Completes the sentence "unavailable: …".
fn what_fails(error: &RedisError) -> &'static str {
    match error.kind() {
        _ if is_login_refused(error) => "Redis refuses the log-in",
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => "Redis cannot be reached",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "Redis is reading its files",
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
            "Redis is a replica that cannot be written to"
        }
        ErrorKind::Server(ServerErrorKind::ClusterDown) => "the Redis cluster is down",
        ErrorKind::Server(ServerErrorKind::NoPerm) => "the user may not do this on Redis",
        _ => match error.code() {
            Some("OOM") => "Redis is out of memory",
            Some("MISCONF") => "Redis cannot write to its disk",
            Some("HALLPASS") => "Redis has a value that cannot be read",
            _ => "Redis fails",
        },
    }
}

/// A value that no program of ours has written.
pub(crate) fn corrupt(what: &str) -> Unavailable {
    Unavailable::new(format!("Redis has {what} that cannot be read"))
}
