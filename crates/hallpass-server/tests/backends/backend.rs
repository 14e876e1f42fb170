//! The stores that the service is tried on, each with a private server of its own.

use std::{any::Any, fmt, net::SocketAddr};

use hallpass_testbed::{MariaDb, PgBouncer, Postgres, Proxy, Redis, RedisCluster};
use tempfile::TempDir;

use crate::folder::Folder;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    PgBouncer,
    MariaDb,
    /// Tokens in Redis; accounts and epochs in an SQLite file.
    Redis,
    /// The same on a cluster of three.
    Cluster,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::PgBouncer => "PgBouncer",
            Self::MariaDb => "MariaDB",
            Self::Redis => "Redis + SQLite",
            Self::Cluster => "Redis Cluster + SQLite",
        })
    }
}

/// Whether the database's files outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Nothing waits for a disk.
    Memory,
    /// As weak as the settings may be: what is acknowledged must outlive the database's process all the same.
    Weak,
}

/// A database, and its server if it has one.
pub(crate) struct Backend {
    pub(crate) kind: Kind,
    /// What stands before the server or in its place.
    _beside: Option<Box<dyn Any>>,
    server: Option<Box<dyn hallpass_testbed::Server>>,
    database: String,
    token_store: Option<String>,
    /// Of the SQLite file.
    _dir: Option<TempDir>,
}

impl Backend {
    pub(crate) fn new(kind: Kind, disk: Disk) -> Self {
        let weak = disk == Disk::Weak;
        let dir =
            matches!(kind, Kind::Sqlite | Kind::Redis | Kind::Cluster).then(|| tempfile::tempdir().unwrap());
        let file = dir.as_ref().map(|dir| format!("sqlite:{}", dir.path().join("hallpass.db").display()));
        let mut beside: Option<Box<dyn Any>> = None;
        let (server, database, token_store): (Option<Box<dyn hallpass_testbed::Server>>, _, _) = match kind {
            Kind::Sqlite => (None, file.unwrap(), None),
            Kind::Postgres | Kind::PgBouncer => {
                let options = Postgres::options().fsync(weak).set("synchronous_commit", "off");
                let server = options.start().unwrap();
                let mut url = server.database("service").unwrap();
                if kind == Kind::PgBouncer {
                    let bouncer = PgBouncer::start(&server).unwrap();
                    url = format!("{}?pgbouncer=true", bouncer.url(&url));
                    beside = Some(Box::new(bouncer));
                }
                (Some(Box::new(server)), url, None)
            }
            Kind::MariaDb => {
                let options = MariaDb::options().fsync(weak).set("innodb_flush_log_at_trx_commit", "2");
                let server = options.start().unwrap();
                let url = server.database("service").unwrap();
                (Some(Box::new(server)), url, None)
            }
            Kind::Redis => {
                // `everysec` may lose what it acknowledged also when only its process ends, and the service says so.
                let fsync = if weak { "always" } else { "everysec" };
                let server = Redis::options().append_only().set("appendfsync", fsync).start().unwrap();
                let url = server.url();
                (Some(Box::new(server)), file.unwrap(), Some(url))
            }
            Kind::Cluster => {
                let cluster = RedisCluster::start_with(3, &Redis::options().append_only()).unwrap();
                let url = cluster.url();
                beside = Some(Box::new(cluster));
                (None, file.unwrap(), Some(url))
            }
        };
        Self { kind, _beside: beside, server, database, token_store, _dir: dir }
    }

    /// A folder in which every command uses this database.
    pub(crate) fn folder(&self) -> Folder {
        Folder::with(self.variables(str::to_owned))
    }

    /// The same through a proxy.
    pub(crate) fn folder_through(&self, proxy: &Proxy) -> Folder {
        Folder::with(self.variables(|url| proxy.url(url)))
    }

    fn variables(&self, through: impl Fn(&str) -> String) -> Vec<(String, String)> {
        let mut variables = vec![("HALLPASS_DATABASE_URL".to_owned(), through(&self.database))];
        variables
            .extend(self.token_store.iter().map(|url| ("HALLPASS_TOKEN_STORE_URL".to_owned(), through(url))));
        variables
    }

    /// Whether its accounts are in an SQLite file.
    pub(crate) fn is_on_a_file(&self) -> bool {
        self.token_store.is_some() || self.kind == Kind::Sqlite
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    pub(crate) fn server(&mut self) -> &mut dyn hallpass_testbed::Server {
        self.server.as_mut().unwrap().as_mut()
    }
}
