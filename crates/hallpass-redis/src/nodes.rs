//! The servers themselves: which they are, and whether they may keep tokens.

use redis::{
    Client, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
    cmd,
};
use tokio::time::timeout;

use crate::{
    error::OpenError,
    keys::Prefix,
    link::{Line, Link, ONE_ATTEMPT, Target, single},
    scripts::PROBE,
};

/// `PEXPIRE … GT`, and scripts that say on their first line that they write.
const OLDEST: &str = "7.0.0";

/// A server that keeps tokens, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Where it is, as far as this side knows.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Whether it is part of a cluster.
    pub is_cluster: bool,
    /// Whether it is a copy of another.
    pub is_replica: bool,
    /// Whether every change is written to its append-only file.
    pub append_only: bool,
    /// When that file is brought to the disk: `always`, `everysec` or `no`. Not known if the user may not ask.
    pub append_fsync: Option<String>,
    /// What it does when it is full: `noeviction`, or a way of forgetting.
    pub eviction: String,
}

impl Node {
    fn parse(address: String, info: &str) -> Self {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        Self {
            address,
            version: field("redis_version"),
            is_cluster: field("cluster_enabled") == "1",
            is_replica: field("role") == "slave",
            append_only: field("aof_enabled") == "1",
            append_fsync: None,
            eviction: field("maxmemory_policy"),
        }
    }

    fn check(&self, wants_cluster: bool, allow_volatile: bool) -> Result<(), OpenError> {
        let address = self.address.clone();
        if !is_at_least(&self.version, OLDEST) {
            return Err(OpenError::Old { address, found: self.version.clone(), needed: OLDEST });
        }
        match (self.is_cluster, wants_cluster) {
            (true, false) => return Err(OpenError::IsCluster { address }),
            (false, true) => return Err(OpenError::NotCluster { address }),
            _ => {}
        }
        if self.is_replica && !wants_cluster {
            return Err(OpenError::Replica { address });
        }
        // Not excused by anything: a server that forgets when it stops forgets everything from some moment on; one that evicts forgets
        // an epoch here and a revocation there, and brings back what they ended.
        if self.eviction != "noeviction" {
            let policy = if self.eviction.is_empty() { "unknown" } else { &self.eviction };
            return Err(OpenError::Evicts { address, policy: policy.to_owned() });
        }
        if !self.append_only && !allow_volatile {
            return Err(OpenError::Volatile { address });
        }
        Ok(())
    }

    /// Says at every start what may be lost.
    fn warn(&self) {
        let address = &self.address;
        if !self.append_only {
            tracing::warn!(
                %address,
                "VOLATILE: this Redis does not persist what it acknowledges. When it stops, tokens made since its last snapshot \
                 are lost, and tokens revoked since then are good again. Set appendonly yes and appendfsync always"
            );
            return;
        }
        match self.append_fsync.as_deref() {
            Some("always") => {}
            Some("everysec") => tracing::warn!(
                %address,
                "appendfsync everysec: when this Redis or its machine dies, up to two seconds of acknowledged work may be lost: \
                 new tokens, and revocations, whose tokens are good again. appendfsync always loses nothing"
            ),
            Some(_) => tracing::warn!(
                %address,
                "appendfsync no: when this machine dies, half a minute of acknowledged work may be lost: new tokens, and \
                 revocations, whose tokens are good again. Set appendfsync always"
            ),
            None => tracing::warn!(
                %address,
                "cannot ask this Redis for appendfsync: unless it is always, a crash may lose acknowledged work"
            ),
        }
    }
}

/// An address that was read, and no connection yet.
pub(crate) struct Place {
    nodes: Vec<ConnectionInfo>,
    is_cluster: bool,
    is_tls: bool,
}

impl Place {
    /// No part of the address is in the error: it could be a password.
    pub(crate) fn parse(url: &str) -> Result<Self, OpenError> {
        let wrong = |what: &str| OpenError::Url { what: what.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("this is not an address"))?;
        let (is_cluster, plain) = match scheme {
            "redis" | "rediss" => (false, scheme),
            "redis-cluster" => (true, "redis"),
            "rediss-cluster" => (true, "rediss"),
            _ => return Err(wrong("the address does not begin with redis")),
        };
        if rest.contains('#') {
            return Err(wrong("an address has no part behind #: TLS always checks the server's certificate"));
        }
        let (login, hosts) = match rest.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), rest),
        };
        let hosts: Vec<&str> = if is_cluster { hosts.split(',').collect() } else { vec![hosts] };
        let mut nodes = Vec::new();
        for host in hosts {
            let info = format!("{plain}://{login}{host}").into_connection_info();
            let info = info.map_err(|_| wrong("what follows :// is not a host and port"))?;
            if is_cluster && info.redis_settings().db() != 0 {
                return Err(wrong("a cluster has no numbered databases"));
            }
            nodes.push(info);
        }
        Ok(Self { nodes, is_cluster, is_tls: plain == "rediss" })
    }

    pub(crate) fn address(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.addr().to_string()).collect();
        addresses.join(",")
    }

    /// Connects, after the first node that answers has said that it will do.
    pub(crate) async fn open(
        self,
        prefix: &Prefix,
        options: &super::Options,
    ) -> Result<(Link, Vec<Node>), OpenError> {
        let address = self.address();
        let failed = |error: RedisError| OpenError::new(&address, prefix.as_str(), error);
        if self.is_tls && rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(OpenError::NoTlsProvider);
        }
        let tls = self.is_tls.then(|| options.tls());
        self.ask_any(tls.clone(), prefix, options).await?;
        let target = if self.is_cluster {
            Target::cluster(self.nodes, tls).map_err(failed)?
        } else {
            let Some(node) = self.nodes.into_iter().next() else {
                return Err(OpenError::Url { what: "the address has no host".to_owned() });
            };
            Target::Single(Box::new(client(node, tls).map_err(failed)?))
        };
        let link = Link::open(target, options.timeout).await.map_err(failed)?;
        let nodes = inspect(&link, &address).await.map_err(failed)?;
        for node in &nodes {
            node.check(self.is_cluster, options.allow_volatile)?;
        }
        // That the user may run scripts, on every node.
        link.probe(PROBE).await.map_err(failed)?;
        for node in &nodes {
            node.warn();
        }
        Ok((link, nodes))
    }

    /// A plain connection to any of the nodes: the driver's connection to a cluster would not say what is wrong.
    async fn ask_any(
        &self,
        tls: Option<TlsCertificates>,
        prefix: &Prefix,
        options: &super::Options,
    ) -> Result<(), OpenError> {
        let mut last = OpenError::Url { what: "the address has no host".to_owned() };
        for info in &self.nodes {
            let address = info.addr().to_string();
            let failed = |error: RedisError| OpenError::new(&address, prefix.as_str(), error);
            let asked = async {
                let mut connection = single(&client(info.clone(), tls.clone())?).await?;
                cmd("INFO").query_async::<String>(&mut connection).await
            };
            match timeout(2 * ONE_ATTEMPT, asked)
                .await
                .unwrap_or_else(|late| Err(std::io::Error::from(late).into()))
            {
                Ok(info) => {
                    return Node::parse(address, &info).check(self.is_cluster, options.allow_volatile);
                }
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }
}

fn client(info: ConnectionInfo, tls: Option<TlsCertificates>) -> RedisResult<Client> {
    match tls {
        Some(tls) => Client::build_with_tls(info, tls),
        None => Client::open(info),
    }
}

/// Every node that keeps tokens, as it is now.
pub(crate) async fn inspect(link: &Link, address: &str) -> RedisResult<Vec<Node>> {
    let (info, mut fsync) = (cmd("INFO"), cmd("CONFIG"));
    fsync.arg("GET").arg("appendfsync");
    let asked = async {
        match link.line() {
            Line::Single(mut connection) => {
                let info: String = info.query_async(&mut connection).await?;
                let mut node = Node::parse(address.to_owned(), &info);
                node.append_fsync = fsync.query_async(&mut connection).await.ok().and_then(setting);
                Ok(vec![node])
            }
            Line::Cluster(mut cluster) => {
                let everywhere = || RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let infos: Vec<(String, String)> =
                    redis::from_redis_value(cluster.route_command(info, everywhere()).await?)?;
                let fsyncs = cluster.route_command(fsync, everywhere()).await.ok();
                let fsyncs: Vec<(String, Value)> =
                    fsyncs.and_then(|value| redis::from_redis_value(value).ok()).unwrap_or_default();
                let node = |(address, info): (String, String)| {
                    let own = fsyncs.iter().find(|(other, _)| *other == address);
                    let fsync = own.and_then(|(_, value)| setting(value.clone()));
                    let mut node = Node::parse(address, &info);
                    node.append_fsync = fsync;
                    node
                };
                Ok(infos.into_iter().map(node).collect())
            }
        }
    };
    timeout(3 * ONE_ATTEMPT, asked).await.unwrap_or_else(|late| Err(std::io::Error::from(late).into()))
}

/// The value of the one setting that was asked for.
fn setting(answer: Value) -> Option<String> {
    let pairs: Vec<(String, String)> = redis::from_redis_value(answer).ok()?;
    pairs.into_iter().next().map(|(_, value)| value)
}

fn is_at_least(found: &str, needed: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    numbers(found) >= numbers(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_say_what_is_wrong() {
        for (url, addresses) in [
            ("redis://localhost", "localhost:6379"),
            ("redis://u:p%40@127.0.0.1:1/2", "127.0.0.1:1"),
            ("rediss://h:2", "h:2"),
            ("redis-cluster://:p@a:1,b:2,[::1]:3", "a:1,b:2,::1:3"),
            ("rediss-cluster://a:1", "a:1"),
        ] {
            assert_eq!(Place::parse(url).unwrap().address(), addresses, "{url}");
        }
        for url in [
            "",
            "redis",
            "redis:",
            "http://h",
            "redis://:secret@",
            "redis://h:secret",
            "redis-cluster://:secret@a,,b",
            "redis-cluster://:secret@a:1/3",
            "rediss://:secret@h#insecure",
            "unix:///s",
            "redis+unix:///s",
        ] {
            let error = Place::parse(url).err().expect(url).to_string();
            assert!(error.contains("redis://HOST:PORT"), "{url}: {error}");
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(is_at_least("7.0.15", OLDEST) && is_at_least("10.0.0", OLDEST) && is_at_least("7.2", OLDEST));
        assert!(!is_at_least("6.2.14", OLDEST) && !is_at_least("", OLDEST));
    }
}
