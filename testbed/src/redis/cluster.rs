//! Several Redis servers as one Redis Cluster: primaries only, the slots shared out evenly.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use super::{Redis, RedisOptions};
use crate::port::{Port, on_a_free_port};
use crate::server::{Server, shared};
use crate::{Failure, Missing};

const SLOTS: usize = 16_384;

/// As many as an election needs; fewer would not notice that one is gone.
const NODES: usize = 3;

/// How long a node may be silent before the others call it gone.
const NODE_TIMEOUT_MS: &str = "2000";

/// A new node waits two seconds by itself before it serves.
const FORMED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A private Redis Cluster.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Whether Redis is installed.
    ///
    /// # Errors
    /// `Missing` says what is not there.
    pub fn available() -> Result<(), Missing> {
        Redis::available()
    }

    /// Starts `nodes` primaries, three at the least, without persistence, and waits until each says that all is well.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start(nodes: usize) -> Result<Self, Failure> {
        Self::start_with(nodes, &Redis::options())
    }

    /// The same with options for every node.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(nodes: usize, options: &RedisOptions) -> Result<Self, Failure> {
        Redis::available()?;
        let nodes: Vec<_> = (0..nodes.max(NODES)).map(|_| start_node(options)).collect::<Result<_, _>>()?;
        let cluster = Self { nodes };
        cluster.form()?;
        cluster.ready()?;
        Ok(cluster)
    }

    /// The one cluster of this test program: three nodes with append-only persistence that does not wait for the disk.
    ///
    /// # Errors
    /// As `start`; the same failure for all who ask.
    pub fn shared() -> Result<&'static Self, Failure> {
        static SHARED: OnceLock<Result<RedisCluster, Failure>> = OnceLock::new();
        shared(&SHARED, || Self::start_with(NODES, &Redis::options().append_only()))
    }

    /// One URL with all nodes: `redis-cluster://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3`, a password before the first.
    #[must_use]
    pub fn url(&self) -> String {
        let all = self.nodes.iter().map(|node| node.address().to_string()).collect::<Vec<_>>().join(",");
        let password = self.nodes.first().and_then(|node| node.password.as_deref());
        let password = password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis-cluster://{password}{all}")
    }

    /// The URL of each node: `redis://...`.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The nodes; the first has the lowest slots.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The same, to be broken.
    pub fn nodes_mut(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// Waits until every node says that all slots are served and that it knows all the others.
    ///
    /// # Errors
    /// `Answer` with the last words of a node that does not after 30 s.
    pub fn ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + FORMED_WITHIN;
        for node in &self.nodes {
            loop {
                let info = node.command(&["CLUSTER", "INFO"])?.to_string();
                let says = |line: &str| info.lines().any(|said| said == line);
                if says("cluster_state:ok") && says(&format!("cluster_known_nodes:{}", self.nodes.len())) {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(Failure::answer("CLUSTER INFO", &info));
                }
                thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    fn form(&self) -> Result<(), Failure> {
        let count = self.nodes.len();
        for (index, node) in self.nodes.iter().enumerate() {
            let first = (index * SLOTS / count).to_string();
            let last = ((index + 1) * SLOTS / count - 1).to_string();
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
            // Each has its own from the start, so that they need not argue about it.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        let Some((first, others)) = self.nodes.split_first() else { return Ok(()) };
        for node in others {
            let port = node.port.number().to_string();
            let bus = node.bus.as_ref().map(|bus| bus.number().to_string()).unwrap_or_default();
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        Ok(())
    }
}

fn start_node(options: &RedisOptions) -> Result<Redis, Failure> {
    on_a_free_port(|port| {
        // Redis would otherwise add ten thousand to its port.
        let bus = Port::claim()?;
        options
            .clone()
            .set("cluster-enabled", "yes")
            .set("cluster-port", &bus.number().to_string())
            .set("cluster-node-timeout", NODE_TIMEOUT_MS)
            .start_on(port, Some(bus))
    })
}
