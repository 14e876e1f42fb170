//! The connection: one for all callers, pipelined, and replaced when it breaks.
//!
//! The driver's own connection to a cluster repeats a command whose answer was lost, and so does [`Link::ask`]; what is sent here must
//! bear being run twice. The scripts do: see `scripts.rs`.

use std::{
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hallpass::Unavailable;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind,
    Value,
    aio::MultiplexedConnection,
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::error::unavailable;

/// So long one attempt to connect, or one answer of a node of a cluster, may take: well within the time of a call, so that a second
/// attempt fits.
pub(crate) const ONE_ATTEMPT: Duration = Duration::from_millis(400);
/// Between two attempts to reconnect. A server that is back must be found at once, and an attempt costs one packet.
const PAUSE: Duration = Duration::from_millis(100);
/// The driver's repetitions in a cluster: each follows a redirection, or waits out a moment of change.
const CLUSTER_RETRIES: u32 = 8;
const CLUSTER_PAUSE_MS: (u64, u64) = (10, 100);

/// When an answer must have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn within(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }
}

/// Where to connect to.
pub(crate) enum Target {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Target {
    pub(crate) fn cluster(
        nodes: Vec<redis::ConnectionInfo>,
        tls: Option<redis::TlsCertificates>,
    ) -> RedisResult<Self> {
        let (shortest, longest) = CLUSTER_PAUSE_MS;
        let mut builder = ClusterClient::builder(nodes)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(shortest)
            .max_retry_wait(longest)
            .connection_timeout(ONE_ATTEMPT)
            .response_timeout(ONE_ATTEMPT);
        if let Some(tls) = tls {
            builder = builder.certs(tls);
        }
        builder.build().map(Box::new).map(Self::Cluster)
    }

    async fn connect(&self) -> RedisResult<Line> {
        match self {
            Self::Single(client) => single(client).await.map(Line::Single),
            Self::Cluster(client) => client.get_async_connection().await.map(Line::Cluster),
        }
    }
}

pub(crate) async fn single(client: &Client) -> RedisResult<MultiplexedConnection> {
    // Answers are waited for by whoever asks.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(ONE_ATTEMPT)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) enum Line {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Line {
    pub(crate) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// The connection of a store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    current: RwLock<Numbered>,
    reconnecting: AtomicBool,
    /// The number of the current connection, for those who wait for a new one.
    number: watch::Sender<u64>,
    wait: Duration,
    /// How many more commands are sent before the process dies, so to speak.
    #[cfg(test)]
    left: std::sync::atomic::AtomicU32,
}

#[derive(Clone)]
struct Numbered {
    line: Line,
    number: u64,
}

impl Link {
    pub(crate) async fn open(target: Target, wait: Duration) -> RedisResult<Self> {
        let line = match timeout(wait, target.connect()).await {
            Ok(line) => line?,
            Err(elapsed) => return Err(std::io::Error::from(elapsed).into()),
        };
        let shared = Shared {
            target,
            current: RwLock::new(Numbered { line, number: 0 }),
            reconnecting: AtomicBool::new(false),
            number: watch::Sender::new(0),
            wait,
            #[cfg(test)]
            left: std::sync::atomic::AtomicU32::new(u32::MAX),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// When a call that begins now must be answered.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::within(self.shared.wait)
    }

    pub(crate) fn line(&self) -> Line {
        self.shared.current().line
    }

    /// Asks, and asks again over a new connection if this one turns out to be dead: a server or a proxy may have closed it while
    /// nobody was looking.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd, by: Deadline) -> Result<T, Unavailable> {
        let answer = self.try_ask(command, by).await?.map_err(unavailable)?;
        read(answer)
    }

    /// The same; an error that the server itself tells is for the caller to look at.
    pub(crate) async fn try_ask(
        &self,
        command: &Cmd,
        by: Deadline,
    ) -> Result<RedisResult<Value>, Unavailable> {
        #[cfg(test)]
        self.spend()?;
        let mut is_second = false;
        loop {
            let Numbered { mut line, number } = self.shared.current();
            let error = match timeout_at(by.0, line.ask(command)).await {
                Ok(Err(error)) if is_lost(&error) => error,
                Ok(answer) => return Ok(answer),
                // Frozen, or its packets are dropped: nobody can tell, and a connection whose packets were dropped for long takes
                // as long again to come back. Other callers keep this one until there is a new one.
                Err(elapsed) => {
                    self.reconnect(number);
                    return Err(Unavailable::because("Redis does not answer in time", elapsed));
                }
            };
            self.reconnect(number);
            if is_second || !self.renewed(number, by).await {
                return Err(unavailable(error));
            }
            is_second = true;
        }
    }

    /// Runs a script without keys on every node that keeps tokens.
    pub(crate) async fn probe(&self, script: &str) -> RedisResult<()> {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(0);
        let Numbered { line, number } = self.shared.current();
        let asked = async {
            match line {
                Line::Single(mut connection) => command.query_async::<Value>(&mut connection).await,
                Line::Cluster(mut cluster) => {
                    let everywhere =
                        (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::AllSucceeded));
                    cluster.route_command(command, RoutingInfo::MultiNode(everywhere)).await
                }
            }
        };
        let answer = timeout(self.shared.wait, asked).await;
        let answer = answer.unwrap_or_else(|elapsed| Err(std::io::Error::from(elapsed).into()));
        if answer.as_ref().is_err_and(is_lost) {
            self.reconnect(number);
        }
        answer.map(drop)
    }

    /// Sends so many commands more, and none after them.
    #[cfg(test)]
    pub(crate) fn die_after(&self, commands: u32) {
        self.shared.left.store(commands, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> u32 {
        self.shared.left.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    fn spend(&self) -> Result<(), Unavailable> {
        let one_less = |left: u32| if left == u32::MAX { Some(left) } else { left.checked_sub(1) };
        let left = self.shared.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        left.map(drop).map_err(|_| Unavailable::new("the process is dead"))
    }

    /// Whether there is a newer connection before the deadline.
    async fn renewed(&self, number: u64, by: Deadline) -> bool {
        let mut numbers = self.shared.number.subscribe();
        let newer = numbers.wait_for(|current| *current > number);
        matches!(timeout_at(by.0, newer).await, Ok(Ok(_)))
    }

    /// Has a new connection made in the background, unless that is being done, or was done since.
    fn reconnect(&self, number: u64) {
        let shared = &self.shared;
        if shared.reconnecting.swap(true, Ordering::AcqRel) {
            return;
        }
        if shared.current().number > number {
            shared.reconnecting.store(false, Ordering::Release);
            return;
        }
        tokio::spawn(reconnect(Arc::downgrade(shared)));
    }
}

/// An answer of another shape than ours is an error, never passed over.
pub(crate) fn read<T: FromRedisValue>(answer: Value) -> Result<T, Unavailable> {
    T::from_redis_value(answer)
        .map_err(|error| Unavailable::because("Redis has a value that cannot be read", error))
}

/// Until it succeeds, or the store is dropped.
async fn reconnect(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        // Longer than a single attempt, as a cluster has several nodes to be asked.
        let line = timeout(2 * ONE_ATTEMPT, shared.target.connect()).await;
        if let Ok(Ok(line)) = line {
            let number = {
                let mut current = shared.current.write().unwrap_or_else(PoisonError::into_inner);
                let number = current.number + 1;
                *current = Numbered { line, number };
                number
            };
            shared.reconnecting.store(false, Ordering::Release);
            shared.number.send_replace(number);
            tracing::info!("connected to Redis again");
            return;
        }
        drop(shared);
        sleep(PAUSE).await;
    }
}

impl Shared {
    fn current(&self) -> Numbered {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether the connection is to blame, or leads to the wrong place. A primary that became a replica keeps its connections.
fn is_lost(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(ServerErrorKind::ReadOnly)
    )
}
