//! Where the database is, how it is reached, and what is set on each connection.

use std::{net::IpAddr, time::Duration};

use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts, Statement, Value, prelude::Queryable};
use url::Url;

use crate::{
    Options,
    columns::Columns,
    error::{Failure, OpenError, corrupt},
};

/// More than there are statements in this crate, so that none is ever closed again.
const STATEMENTS: usize = 64;

/// After so long without a word the operating system asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// No value of ours comes near it. Said here, so that it need not be asked for on each connection.
const PACKET_MOST: usize = 16 << 20;

/// `JSON_TABLE` came with 10.6.
const MARIADB_NEEDED: (u16, u16, u16) = (10, 6, 0);
/// CHECK came with 8.0.16, and `INSERT … ON DUPLICATE KEY UPDATE` settled with 8.0.19.
const MYSQL_NEEDED: (u16, u16, u16) = (8, 0, 19);

/// Set on each connection, whatever the server's own defaults are.
///
/// Strict mode: a value that does not fit is an error, and never cut to fit. No other engine than the one that is asked for.
/// `unique_checks`: without them a key may be there twice. A wait for a lock ends in a second, the least there is, and a
/// statement that nobody waits for any more is ended by the server. Each database skips the other's comment.
const SESSION: &str = "
    SET NAMES utf8mb4 COLLATE utf8mb4_bin,
        SESSION sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
        SESSION autocommit = 1, SESSION unique_checks = 1, SESSION foreign_key_checks = 1";
const WAITS: &str = "
    SET SESSION innodb_lock_wait_timeout = 1, SESSION lock_wait_timeout = 1
        /*M! , SESSION max_statement_time = 5 */
        /*!80000 , SESSION max_execution_time = 5000 */";
/// For migrations: an ALTER of many rows takes its time, and waits for statements that run.
const LONG_WAITS: &str = "
    SET SESSION innodb_lock_wait_timeout = 10, SESSION lock_wait_timeout = 10
        /*M! , SESSION max_statement_time = 0 */";
/// Each statement sees what was committed when it began. What needs more takes a lock on the owner's row; the gaps between
/// rows, which the databases' own default locks as well, would only make for deadlocks.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

const SERVER: &str = "SELECT VERSION(), @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.read_only";

/// Where the database is and how to log in.
#[derive(Clone)]
pub(crate) struct Address {
    opts: Opts,
    /// Host, port and database, for people.
    server: String,
    is_local: bool,
    allow_volatile: bool,
}

impl Address {
    pub(crate) fn parse(url: &str, options: &Options) -> Result<Self, OpenError> {
        let problem = |problem: &str| OpenError::Url { problem: problem.to_owned() };
        // What the URL's parser says is not passed on: it might quote the password.
        let mut url = Url::parse(url).map_err(|_| problem("cannot be read"))?;
        if !["mysql", "mariadb"].contains(&url.scheme()) {
            return Err(problem("does not begin with mysql://"));
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned) else {
            return Err(problem("names no host"));
        };
        let port = url.port().unwrap_or(3306);
        let database = url.path().trim_start_matches('/').to_owned();
        if database.is_empty() || database.contains('/') {
            return Err(problem("names no database"));
        }
        let asked = Asked::parse(&url)?;
        url.set_query(None);
        url.set_fragment(None);
        // A scheme that the driver does not know.
        let bare = url.as_str().replacen("mariadb://", "mysql://", 1);
        let opts = Opts::from_url(&bare).map_err(|_| problem("cannot be read"))?;

        let is_local = asked.socket.is_some() || is_this_machine(&host);
        let tls = match asked.mode {
            Some(mode) => mode,
            None if is_local => SslMode::Disabled,
            None => SslMode::VerifyIdentity,
        };
        let ip_or_host = host.trim_matches(['[', ']']).to_owned();
        let opts = OptsBuilder::from_opts(opts)
            // Given apart from the URL, so that the name is looked up without blocking the thread.
            .ip_or_hostname(ip_or_host)
            .tcp_port(port)
            // The driver would otherwise look for a socket file and leave the address it was given.
            .prefer_socket(false)
            .ssl_opts(tls.options(&asked))
            .socket(asked.socket)
            .tcp_keepalive(Some(KEEPALIVE))
            .stmt_cache_size(STATEMENTS)
            .max_allowed_packet(Some(PACKET_MOST))
            // Connections are looked after by our own pool.
            .wait_timeout(Some(0))
            // A change counts the rows it found, whether or not they were so already.
            .client_found_rows(true);
        let server = format!("{host}:{port}/{database}");
        Ok(Self { opts: opts.into(), server, is_local, allow_volatile: options.allow_volatile })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Whether no byte leaves this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// A connection as the store uses it.
    pub(crate) async fn connect(&self) -> Result<Connection, OpenError> {
        let connection = self.connect_with(WAITS).await?;
        // Looked at each time: the server may have come back with another setting.
        if connection.server.flush == 0 && !self.allow_volatile {
            return Err(OpenError::Volatile { server: self.server.clone() });
        }
        Ok(connection)
    }

    /// A connection that takes its time, and asks nothing of the server's settings.
    pub(crate) async fn connect_patiently(&self) -> Result<Connection, OpenError> {
        self.connect_with(LONG_WAITS).await
    }

    async fn connect_with(&self, waits: &str) -> Result<Connection, OpenError> {
        let failed = |error| self.failed(error);
        let mut conn = Conn::new(self.opts.clone()).await.map_err(failed)?;
        for setting in [SESSION, waits, ISOLATION] {
            conn.query_drop(setting).await.map_err(failed)?;
        }
        let row = conn.query_first(SERVER).await.map_err(failed)?;
        let unreadable = |error: hallpass::Unavailable| OpenError::Other {
            server: self.server.clone(),
            source: error.into(),
        };
        let server = Server::read(row).map_err(unreadable)?;
        let needed = if server.is_mariadb() { MARIADB_NEEDED } else { MYSQL_NEEDED };
        if conn.server_version() < needed {
            return Err(OpenError::OldServer { server: self.server.clone(), found: server.version });
        }
        Ok(Connection { conn, prepared: Vec::new(), server })
    }

    pub(crate) fn failed(&self, error: mysql_async::Error) -> OpenError {
        OpenError::new(&self.server, error)
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What the URL asks for after the question mark.
#[derive(Default)]
struct Asked {
    mode: Option<SslMode>,
    /// The authority's certificate, in PEM.
    authority: Option<Vec<u8>>,
    /// The name that the server's certificate has, if it is another than the host's.
    name: Option<String>,
    socket: Option<String>,
}

impl Asked {
    fn parse(url: &Url) -> Result<Self, OpenError> {
        let mut asked = Self::default();
        for (name, value) in url.query_pairs() {
            match &*name {
                "ssl-mode" => asked.mode = Some(SslMode::parse(&value)?),
                "ssl-ca" => {
                    let unreadable = |error: std::io::Error| OpenError::Url {
                        problem: format!("names ssl-ca={value}, which cannot be read ({error})"),
                    };
                    asked.authority = Some(std::fs::read(&*value).map_err(unreadable)?);
                }
                "ssl-name" => asked.name = Some(value.into_owned()),
                "socket" => asked.socket = Some(value.into_owned()),
                unknown => {
                    let problem = format!(
                        "has the unknown parameter {unknown:?}; there are ssl-mode, ssl-ca and socket"
                    );
                    return Err(OpenError::Url { problem });
                }
            }
        }
        Ok(asked)
    }
}

/// How far the connection is encrypted and the server proven, in MySQL's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SslMode {
    Disabled,
    Required,
    VerifyIdentity,
}

impl SslMode {
    fn parse(word: &str) -> Result<Self, OpenError> {
        match word.to_ascii_lowercase().replace('_', "-").as_str() {
            "disabled" => Ok(Self::Disabled),
            "required" => Ok(Self::Required),
            "verify-identity" => Ok(Self::VerifyIdentity),
            // Not `preferred`: whoever sits in between would prefer not to. Not `verify-ca`: the driver cannot do it.
            _ => Err(OpenError::Url {
                problem: format!(
                    "asks for ssl-mode={word}; there are disabled, required and verify-identity"
                ),
            }),
        }
    }

    fn options(self, asked: &Asked) -> Option<SslOpts> {
        let roots = asked.authority.clone().map(Into::into);
        let options = SslOpts::default()
            // An authority that was named is the only one.
            .with_disable_built_in_roots(roots.is_some() && self != Self::Required)
            .with_root_certs(roots.into_iter().collect())
            .with_danger_tls_hostname_override(asked.name.clone())
            .with_danger_accept_invalid_certs(self == Self::Required);
        (self != Self::Disabled).then_some(options)
    }
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) version: String,
    /// Its `innodb_flush_log_at_trx_commit`.
    pub(crate) flush: u8,
    pub(crate) read_only: bool,
}

impl Server {
    fn read(row: Option<Row>) -> Result<Self, hallpass::Unavailable> {
        let mut columns = Columns::new(row.ok_or_else(|| corrupt("version"))?);
        Ok(Self {
            version: columns.text("version")?,
            flush: columns.number("innodb_flush_log_at_trx_commit")?,
            read_only: columns.number::<i64>("read_only")? != 0,
        })
    }

    pub(crate) fn is_mariadb(&self) -> bool {
        self.version.to_ascii_lowercase().contains("mariadb")
    }
}

/// One of the store's fixed statements, with the tables' names filled in.
#[derive(Debug)]
pub(crate) struct Sql {
    text: String,
    /// Its place among those that a connection has prepared.
    place: usize,
}

impl Sql {
    pub(crate) fn new(text: String, place: usize) -> Self {
        Self { text, place }
    }
}

/// What a change did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed {
    /// Rows that it found.
    pub(crate) rows: u64,
    /// What the statement put into `LAST_INSERT_ID`.
    pub(crate) told: Option<u64>,
}

/// A connection and the statements that were prepared on it.
pub(crate) struct Connection {
    conn: Conn,
    prepared: Vec<Option<Statement>>,
    server: Server,
}

impl Connection {
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) async fn rows(&mut self, sql: &Sql, values: Vec<Value>) -> mysql_async::Result<Vec<Row>> {
        let statement = self.prepare(sql).await?;
        self.conn.exec(statement, values).await
    }

    pub(crate) async fn row(&mut self, sql: &Sql, values: Vec<Value>) -> mysql_async::Result<Option<Row>> {
        let statement = self.prepare(sql).await?;
        self.conn.exec_first(statement, values).await
    }

    pub(crate) async fn change(&mut self, sql: &Sql, values: Vec<Value>) -> Result<Changed, Failure> {
        let statement = self.prepare(sql).await?;
        self.conn.exec_drop(statement, values).await?;
        Ok(Changed { rows: self.conn.affected_rows(), told: self.conn.last_insert_id() })
    }

    /// The same for many rows, in their order.
    pub(crate) async fn change_each(&mut self, sql: &Sql, rows: Vec<Vec<Value>>) -> Result<(), Failure> {
        let statement = self.prepare(sql).await?;
        for values in rows {
            self.conn.exec_drop(&statement, values).await?;
        }
        Ok(())
    }

    /// Runs a text without values.
    pub(crate) async fn run(&mut self, text: &str) -> mysql_async::Result<()> {
        self.conn.query_drop(text).await
    }

    /// Asks a text without values for one row.
    pub(crate) async fn ask(&mut self, text: &str) -> mysql_async::Result<Option<Row>> {
        self.conn.query_first(text).await
    }

    /// Runs a text that is not among the prepared, with values.
    pub(crate) async fn ask_with(&mut self, text: &str, values: Vec<Value>) -> mysql_async::Result<Vec<Row>> {
        self.conn.exec(text, values).await
    }

    pub(crate) async fn ping(&mut self) -> mysql_async::Result<()> {
        self.conn.ping().await
    }

    /// Says goodbye, so that the server does not note an aborted connection.
    pub(crate) async fn close(self) {
        // It is gone either way.
        drop(self.conn.disconnect().await);
    }

    /// The driver keeps what it prepared; this keeps it from reading the text again each time.
    pub(crate) async fn prepare(&mut self, sql: &Sql) -> mysql_async::Result<Statement> {
        if let Some(Some(statement)) = self.prepared.get(sql.place) {
            return Ok(statement.clone());
        }
        let statement = self.conn.prep(sql.text.as_str()).await?;
        if self.prepared.len() <= sql.place {
            self.prepared.resize(sql.place + 1, None);
        }
        if let Some(place) = self.prepared.get_mut(sql.place) {
            *place = Some(statement.clone());
        }
        Ok(statement)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("id", &self.conn.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, String> {
        Address::parse(url, &Options::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_that_cannot_be_used_says_why_and_never_the_password() {
        for (url, why) in [
            ("", "cannot be read"),
            ("mysql", "cannot be read"),
            ("postgres://u:hunter2@h/d", "mysql://"),
            ("mysql:///d", "names no host"),
            ("mysql://u:hunter2@h", "names no database"),
            ("mysql://u:hunter2@h/", "names no database"),
            ("mysql://u:hunter2@h/a/b", "names no database"),
            ("mysql://u:hunter2@h:x/d", "cannot be read"),
            ("mysql://u:hunter2@h/d?ssl-mode=preferred", "verify-identity"),
            ("mysql://u:hunter2@h/d?ssl-mode=verify-ca", "verify-identity"),
            ("mysql://u:hunter2@h/d?ssl-ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
            ("mysql://u:hunter2@h/d?sslmode=disable", "unknown parameter \"sslmode\""),
        ] {
            let told = address(url).map(|_| ()).unwrap_err();
            assert!(told.contains(why) && !told.contains("hunter2"), "{url}: {told}");
        }
    }

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is_unless_told_otherwise() {
        let tls = |url: &str| address(url).unwrap().opts.ssl_opts().cloned();
        let strict = tls("mysql://u:p@db.example.com/d").unwrap();
        assert!(!strict.accept_invalid_certs() && !strict.skip_domain_validation());
        for here in ["127.0.0.1", "[::1]", "localhost"] {
            assert!(tls(&format!("mysql://u:p@{here}:3307/d")).is_none(), "{here}");
        }
        assert!(tls("mysql://u:p@localhost.example.com/d").is_some());
        assert!(tls("mysql://u:p@localhost/d?socket=/run/mysqld/mysqld.sock").is_none());
        assert!(tls("mysql://u:p@db.example.com/d?ssl-mode=disabled").is_none());
        assert!(tls("mysql://u:p@127.0.0.1/d?ssl-mode=VERIFY_IDENTITY").is_some());
    }

    #[test]
    fn user_and_password_are_decoded_and_not_shown() {
        let address = address("mariadb://a%40b:p%3Aw@db.example.com:3307/tokens").unwrap();
        assert_eq!(address.server(), "db.example.com:3307/tokens");
        assert_eq!((address.opts.user(), address.opts.pass()), (Some("a@b"), Some("p:w")));
        assert_eq!((address.opts.db_name(), address.opts.tcp_port()), (Some("tokens"), 3307));
    }
}
