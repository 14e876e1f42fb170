//! A private PgBouncer, in transaction mode, in front of a private PostgreSQL.

use std::net::SocketAddr;
use std::time::Duration;

use crate::folder::{Account, Folder, Place};
use crate::port::{Port, on_a_free_port};
use crate::server::{Server, until_it_answers};
use crate::{Failure, Missing, Postgres, Process, Program, postgres, programs};

const NAME: &str = "PgBouncer";

/// A private PgBouncer. Every transaction may run on another connection of the server.
///
/// It may outlive the PostgreSQL behind it.
#[derive(Debug)]
pub struct PgBouncer {
    process: Process,
    port: Port,
    behind: SocketAddr,
}

impl PgBouncer {
    /// Whether it is installed, and PostgreSQL with it.
    ///
    /// # Errors
    /// `Missing` says what is not there.
    pub fn available() -> Result<(), Missing> {
        programs::find(NAME, "pgbouncer")?;
        Postgres::available()
    }

    /// Starts one in transaction mode in front of `postgres`.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start(postgres: &Postgres) -> Result<Self, Failure> {
        Self::in_front_of(postgres, postgres.address())
    }

    /// The same, but reaching PostgreSQL at `address`: through a `Proxy`.
    ///
    /// # Errors
    /// As `start`.
    pub fn in_front_of(postgres: &Postgres, address: SocketAddr) -> Result<Self, Failure> {
        Self::available()?;
        on_a_free_port(|port| start_on(port, postgres, address))
    }

    /// The URL of a database of that PostgreSQL, but through here.
    #[must_use]
    pub fn url(&self, direct: &str) -> String {
        direct.replacen(&self.behind.to_string(), &self.address().to_string(), 1)
    }

    /// The URL of its own console, which knows `SHOW POOLS` and the like.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("postgres://{}@{}/pgbouncer", postgres::ADMIN, self.address())
    }
}

fn start_on(port: Port, postgres: &Postgres, address: SocketAddr) -> Result<PgBouncer, Failure> {
    let folder = Folder::owned_by(Account::not_root().unwrap_or(Account::Mine), Place::Disk)?;
    let password = postgres.password().unwrap_or_default();
    let users = format!("\"{}\" \"\"\n\"{}\" \"{password}\"\n", postgres::ADMIN, postgres::USER);
    let users = folder.write("users.txt", users)?;
    let access = folder.write("access.conf", postgres::access(postgres.password().is_some()))?;
    let settings = folder.write(
        "pgbouncer.ini",
        format!(
            "[databases]\n\
             * = host={} port={}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {}\n\
             unix_socket_dir =\n\
             auth_type = hba\n\
             auth_file = {}\n\
             auth_hba_file = {}\n\
             pool_mode = transaction\n\
             default_pool_size = 20\n\
             max_client_conn = 1000\n\
             admin_users = {}\n\
             server_login_retry = 0.1\n\
             ignore_startup_parameters = extra_float_digits\n",
            address.ip(),
            address.port(),
            port.number(),
            users.display(),
            access.display(),
            postgres::ADMIN,
        ),
    )?;
    // It has nothing to save, and SIGTERM, unlike SIGINT, does not wait for clients.
    let process = Program::new(programs::find(NAME, "pgbouncer")?).arg(settings).start_in(folder)?;
    let mut bouncer = PgBouncer { process, port, behind: postgres.address() };
    bouncer.ready()?;
    Ok(bouncer)
}

impl Server for PgBouncer {
    fn process(&self) -> &Process {
        &self.process
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn ping(&self, within: Duration) -> Result<(), Failure> {
        postgres::ping(self.address(), within)
    }

    fn ready(&mut self) -> Result<(), Failure> {
        let address = self.address();
        until_it_answers(&mut self.process, |within| postgres::ping(address, within))
    }
}
