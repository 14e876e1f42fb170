//! Hallpass tokens in Redis: on a single node, on a Redis Cluster, or beside a database that keeps the accounts.
//!
//! ```no_run
//! # async fn example(users: hallpass::testing::Users) -> Result<(), Box<dyn std::error::Error>> {
//! use hallpass::{Guard, Purpose};
//! use hallpass_redis::{Options, RedisStore};
//! use std::sync::Arc;
//!
//! let store = Arc::new(RedisStore::connect("redis://127.0.0.1", Options::new()).await?);
//! let guard = Guard::new(users, store, Purpose::api());
//! # Ok(()) }
//! ```
//!
//! Accounts live in an SQL store; [`RedisStore::beside`] puts the tokens here and leaves the rest there.
//!
//! # What is where, and why
//!
//! A look-up begins with a hash, which does not say whose token it is; everything else begins with the user. A cluster has no
//! transaction over two slots. So whatever belongs to one user lies in one slot, where a script reads and changes it in one step: the
//! tokens themselves, their epoch, the list, and the index that counts the living. What lies elsewhere, by hash and by id, are two
//! pointers to it, which are written once and never changed: a pointer can be missing or lead nowhere, but it cannot be wrong.
//!
//! | key | what | slot |
//! |---|---|---|
//! | `PREFIXh:HASH` | pointer: id and user of a token | its own |
//! | `PREFIXi:ID` | pointer: hash and user | its own |
//! | `PREFIX{N}:t:USER:ID` | the token | the user's |
//! | `PREFIX{N}:o:USER` | the user's epoch, when it was raised | the user's |
//! | `PREFIX{N}:l:USER` | their tokens by purpose and creation, for lists | the user's |
//! | `PREFIX{N}:s:USER` | their tokens by epoch, state, purpose and expiry, for counts | the user's |
//! | `PREFIX{N}:deaths`, `:ended`, `:buried` | what prune has to do | the users' of one N |
//! | `PREFIXabout` | what the prefix is used for | its own |
//!
//! N is one of 256 numbers and computed from the user.
//!
//! - **Verifying** takes two commands, one after the other: the pointer, then the token and the epoch, which an `MGET` reads at one
//!   moment. A single command could not know the second slot; keeping the epoch beside each token would make
//!   "end everything" a walk over all of them that can stop half-way. On a single node a script could do both, but it costs
//!   the server half as much again as the two commands, and names keys it was not told of.
//! - **Creating** writes the pointers, then the token with its conditions. Whoever dies before the last step leaves pointers that
//!   lead nowhere: such a token cannot be verified, is in no list and counts for no cap. They vanish with the time to live, or, for a token
//!   that was never to expire, remain: some 300 bytes for a crash at that moment.
//! - **Revoking, redeeming, ending everything, renaming** are one script each. A new expiry lengthens the lives of the pointers first.
//! - **Pruning** deletes the token and notes, in the same step, that its pointers remain; then deletes them, then the note.
//!
//! # Expiry
//!
//! A token is judged by its record, to the microsecond, as on every store. The time to live only tidies up: it is counted from the
//! token's own creation (so the server's clock need not agree with anybody's), and lasts [`Options::keep_expired`] and an
//! hour longer than the token, so that an expired one can be listed until it is pruned. A revoked or ended token keeps its time
//! to live; if it has none it stays until it is pruned. What the time to live leaves behind in the shared indexes, some 200 bytes for a
//! token, prune removes; so prune now and then.
//!
//! # What survives what
//!
//! Redis answers before the disk has what it acknowledges, unless told otherwise. **With `appendonly yes` and `appendfsync
//! always`** nothing that was acknowledged is lost when the process or the machine dies. **With `everysec`**, the default, the
//! machine's death loses up to about two seconds, and so can the death of the process alone, if the disk was slow at that moment: Redis
//! then holds back what it writes while the disk is busy, and answers all the same. What is lost can be a revocation. **Without
//! `appendonly`** everything since the last snapshot is lost, and this store refuses to open unless
//! [`allow_volatile`](Options::allow_volatile) is set. A server that evicts keys is always refused.
//! Replicas receive what was acknowledged a little later, so a fail-over can lose it too.
//!
//! Beside a database, raised epochs (all of a user's tokens ended, a password changed, an account disabled) are as durable as
//! the database, whatever happens to Redis.

mod alone;
mod beside;
mod error;
#[cfg(test)]
mod half_done;
mod keys;
mod link;
mod nodes;
mod prune;
mod record;
mod scripts;
mod tokens;

use std::{fmt, sync::Arc, time::Duration};

use hallpass::{TokenStore, Unavailable, account::AccountStore};
use redis::{TlsCertificates, cmd};

use crate::{keys::Prefix, link::Link, nodes::Place, tokens::Tokens};

pub use beside::Beside;
pub use error::OpenError;
pub use nodes::Node;

/// Tokens in Redis: a [`TokenStore`]. Cheap to clone.
///
/// All callers share one connection, on which their commands follow one another without waiting; it is replaced by itself when it
/// breaks. A future that is dropped leaves its change made whole or not at all.
#[derive(Clone)]
pub struct RedisStore {
    tokens: Tokens,
    address: Arc<str>,
}

impl RedisStore {
    /// Connects, and makes sure that this Redis can keep tokens: its version, that it persists what it acknowledges, that it never
    /// evicts a key. What may be lost all the same is a warning in the log, at every start.
    ///
    /// `url` is `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, or for a cluster `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`, of
    /// which one that answers is enough. With TLS `rediss://` or `rediss-cluster://`.
    ///
    /// # Errors
    /// Each says what to do.
    pub async fn connect(url: &str, options: Options) -> Result<Self, OpenError> {
        Self::open(url, options, "tokens and epochs").await
    }

    /// The same for tokens alone: `database` keeps the epochs and the accounts, and decides what is ended.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn beside<S>(url: &str, options: Options, database: Arc<S>) -> Result<Beside, OpenError>
    where
        S: TokenStore + AccountStore,
    {
        let redis = Self::open(url, options, "tokens beside a database").await?;
        Ok(Beside { redis, epochs: Arc::clone(&database) as _, accounts: database })
    }

    async fn open(url: &str, options: Options, wanted: &'static str) -> Result<Self, OpenError> {
        let prefix = Prefix::parse(&options.prefix).ok_or(OpenError::Prefix)?;
        let place = Place::parse(url)?;
        let address = place.address();
        let (link, _) = place.open(&prefix, &options).await?;
        settle(&link, &prefix, &address, wanted).await?;
        let tokens = Tokens { prefix, link, keep_expired: options.keep_expired };
        Ok(Self { tokens, address: address.into() })
    }

    /// The servers that keep the tokens, as they are now.
    ///
    /// # Errors
    /// [`Unavailable`] if they are out of reach.
    pub async fn nodes(&self) -> Result<Vec<Node>, Unavailable> {
        nodes::inspect(&self.tokens.link, &self.address).await.map_err(error::unavailable)
    }
}

/// Looks at the servers that `url` names and changes nothing.
///
/// # Errors
/// As [`RedisStore::connect`].
pub async fn inspect(url: &str, options: Options) -> Result<Vec<Node>, OpenError> {
    let prefix = Prefix::parse(&options.prefix).ok_or(OpenError::Prefix)?;
    let (_, nodes) = Place::parse(url)?.open(&prefix, &options).await?;
    Ok(nodes)
}

/// Writes what this prefix is used for, or makes sure that it is what it was. Tokens whose epochs are kept in one place must never be
/// judged by epochs of another.
async fn settle(link: &Link, prefix: &Prefix, address: &str, wanted: &'static str) -> Result<(), OpenError> {
    const FORM: &str = "hallpass 1: ";
    let wanted_value = format!("{FORM}{wanted}");
    let found = async {
        let mut set = cmd("SET");
        set.arg(prefix.about()).arg(&wanted_value).arg("NX");
        for command in [&set, cmd("GET").arg(prefix.about())] {
            match link.try_ask(command, link.deadline()).await {
                Ok(Ok(redis::Value::Nil | redis::Value::Okay)) => {}
                Ok(Ok(value)) => return Ok(redis::from_redis_value(value).unwrap_or_default()),
                Ok(Err(error)) => return Err(OpenError::new(address, prefix.as_str(), error)),
                Err(unavailable) => {
                    return Err(OpenError::Unreachable {
                        address: address.to_owned(),
                        source: unavailable.into(),
                    });
                }
            }
        }
        Ok(String::new())
    };
    let found: String = found.await?;
    if found == wanted_value {
        return Ok(());
    }
    Err(OpenError::OtherUse { prefix: prefix.as_str().to_owned(), found, wanted })
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.address)
            .field("prefix", &self.tokens.prefix)
            .finish()
    }
}

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    prefix: String,
    timeout: Duration,
    keep_expired: Duration,
    allow_volatile: bool,
    root_certificates: Option<Vec<u8>>,
}

impl Options {
    /// So long a call may take: an answer must come within a second.
    const TIMEOUT: Duration = Duration::from_millis(800);
    /// So long an expired token can be listed, if nobody prunes: as long as the command line's own `prune` leaves it.
    const KEEP_EXPIRED: Duration = Duration::from_hours(30 * 24);

    /// Keys begin with `hallpass:`, a call takes 800 ms at most, an expired token vanishes after 30 days, and nothing may be lost.
    #[must_use]
    pub fn new() -> Self {
        Self {
            prefix: "hallpass:".to_owned(),
            timeout: Self::TIMEOUT,
            keep_expired: Self::KEEP_EXPIRED,
            allow_volatile: false,
            root_certificates: None,
        }
    }

    /// Sets what all keys begin with: 1 to 64 letters, digits and any of `_ - . : /`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long a call may take before it is `Unavailable`. In milliseconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long an expired token can still be listed before it vanishes by itself. In days; whoever has many short-lived
    /// tokens saves memory with less. Pruning may delete it earlier.
    #[must_use]
    pub fn keep_expired(mut self, keep: Duration) -> Self {
        self.keep_expired = keep;
        self
    }

    /// Sets whether to accept a Redis without append-only persistence: when it stops, tokens are lost and revoked ones are good again.
    #[must_use]
    pub fn allow_volatile(mut self, allow: bool) -> Self {
        self.allow_volatile = allow;
        self
    }

    /// Sets which certificates may sign the server's, in PEM, instead of the system's own.
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    fn tls(&self) -> TlsCertificates {
        TlsCertificates { client_tls: None, root_cert: self.root_certificates.clone() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("keep_expired", &self.keep_expired)
            .field("allow_volatile", &self.allow_volatile)
            .finish_non_exhaustive()
    }
}
