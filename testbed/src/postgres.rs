//! A private PostgreSQL.

mod ping;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use crate::folder::{Account, Folder, Place};
use crate::port::{Port, on_a_free_port};
use crate::server::{Server, fresh_name, shared, until_it_answers};
use crate::{Failure, Missing, Process, Program, programs, template};
pub(crate) use ping::ping;

const NAME: &str = "PostgreSQL";

/// Who may do everything, without a password.
pub(crate) const ADMIN: &str = "postgres";

/// Whom the URLs name: owner of its databases, and nothing more, as an application should be.
pub(crate) const USER: &str = "hallpass";

/// Many tests share one server, each with a few connections.
const MAX_CONNECTIONS: &str = "300";

/// A private PostgreSQL server, of the newest version that is installed.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Port,
    password: Option<String>,
    /// How it makes a database: the quicker way where nothing has to reach a disk, and known since version 15.
    copies_files: bool,
}

impl Postgres {
    /// Whether it is installed.
    ///
    /// # Errors
    /// `Missing` says what is not there.
    pub fn available() -> Result<(), Missing> {
        for program in ["postgres", "initdb"] {
            programs::find_postgres(program)?;
        }
        programs::find(NAME, "psql")?;
        Account::not_root().map(drop).ok_or(Missing { server: NAME, program: "the account `postgres`" })
    }

    /// Starts one with fsync off, for tests that do not crash it.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start() -> Result<Self, Failure> {
        Self::options().start()
    }

    /// How to start one otherwise.
    #[must_use]
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// The one server of this test program, with fsync off.
    ///
    /// # Errors
    /// As `start`; the same failure for all who ask.
    pub fn shared() -> Result<&'static Self, Failure> {
        static SHARED: OnceLock<Result<Postgres, Failure>> = OnceLock::new();
        shared(&SHARED, Self::start)
    }

    /// Makes an empty database for one test, and says its URL, as the application's user, who owns it. Its name begins with
    /// `t_` and `about`.
    ///
    /// # Errors
    /// `Answer`, when the server refuses.
    pub fn database(&self, about: &str) -> Result<String, Failure> {
        let name = fresh_name(about);
        let strategy = if self.copies_files { "STRATEGY file_copy" } else { "" };
        self.sql(&format!("CREATE DATABASE {name} OWNER {USER} {strategy}"))?;
        Ok(self.url_of(USER, self.password.as_deref(), &name))
    }

    /// The URL of the database `postgres`, as the application's user, who may make nothing there.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(USER, self.password.as_deref(), "postgres")
    }

    /// The URL of the database `postgres`, as the user who may do everything.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.url_of(ADMIN, None, "postgres")
    }

    /// Runs SQL in the database `postgres` as the user who may do everything. Gives the rows, one per line, columns separated by `|`.
    ///
    /// # Errors
    /// `Answer` with the server's words.
    pub fn sql(&self, sql: &str) -> Result<String, Failure> {
        Self::sql_at(&self.admin_url(), sql)
    }

    /// Runs SQL at a URL that `database` gave, or one through a PgBouncer or a `Proxy`.
    ///
    /// # Errors
    /// `Answer` with the server's words.
    pub fn sql_at(url: &str, sql: &str) -> Result<String, Failure> {
        let mut psql = Command::new(programs::find(NAME, "psql")?);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
        Ok(programs::run(&mut psql, Account::Mine, "")?.trim_end().to_owned())
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    fn url_of(&self, user: &str, password: Option<&str>, database: &str) -> String {
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://{user}{password}@{}/{database}", self.address())
    }
}

impl Server for Postgres {
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
        ping(self.address(), within)
    }

    fn kill9(&mut self) -> Result<(), Failure> {
        self.process.kill9()?;
        forget_shared_memory(&self.process);
        Ok(())
    }

    fn ready(&mut self) -> Result<(), Failure> {
        let address = self.address();
        until_it_answers(&mut self.process, |within| ping(address, within))
    }
}

/// How to start a PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    fsync: bool,
    password: Option<String>,
    settings: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

impl PostgresOptions {
    /// Whether it waits for the disk, as tests of durability and of speed do. Off by default: then its data is in memory, where
    /// there is room, and still outlives a `kill9`.
    #[must_use]
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    /// Any setting of `postgresql.conf`. Those given later win.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks the application's user for this password (SCRAM). Letters and digits only, as it goes into URLs as it is.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A file in the data folder that only the server can read; settings can name it without a path (`ssl_key_file`).
    #[must_use]
    pub fn file(mut self, name: &str, contents: &str) -> Self {
        self.files.push((name.to_owned(), contents.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start(self) -> Result<Postgres, Failure> {
        Postgres::available()?;
        on_a_free_port(|port| self.start_on(port))
    }

    fn start_on(&self, port: Port) -> Result<Postgres, Failure> {
        let binary = programs::find_postgres("postgres")?;
        let account = Account::not_root().unwrap_or(Account::Mine);
        let place = if self.fsync { Place::Disk } else { Place::Memory };
        let folder = Folder::owned_by(account, place)?;
        let version = programs::run(Command::new(&binary).arg("--version"), Account::Mine, "")?;
        let data = template::fill(&folder, "postgres", &version, |data| {
            let mut initdb = Command::new(programs::find_postgres("initdb")?);
            initdb
                .args(["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C", "-U", ADMIN, "-D"])
                .arg(data);
            programs::run(&mut initdb, account, "")?;
            let mut alone = Command::new(&binary);
            alone.args(["--single", "-F", "-D"]).arg(data).arg("postgres");
            programs::run(&mut alone, account, &format!("CREATE ROLE {USER} LOGIN\n")).map(drop)
        })?;
        folder.write("postgres/pg_hba.conf", access(self.password.is_some()))?;
        for (name, contents) in &self.files {
            folder.write(&format!("postgres/{name}"), contents)?;
        }

        let fsync = if self.fsync { "on" } else { "off" };
        let port_number = port.number().to_string();
        let fixed = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port_number),
            // A path for a socket has a limit of about a hundred bytes; nothing here needs one.
            ("unix_socket_directories", ""),
            ("logging_collector", "off"),
            ("max_connections", MAX_CONNECTIONS),
            // In files of the data folder, so that nothing stays in /dev/shm after a kill.
            ("dynamic_shared_memory_type", "mmap"),
            ("fsync", fsync),
            // Only a crash of the machine needs them, which nothing here survives.
            ("full_page_writes", fsync),
        ];
        let mut program = Program::new(binary).arg("-D").arg(data);
        let given = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed.into_iter().chain(given) {
            program = program.arg("-c").arg(format!("{name}={value}"));
        }
        // SIGINT stops cleanly without waiting for clients; SIGQUIT at once, and still frees the shared memory.
        let process = program.stops_by(Signal::INT).ends_by(Signal::QUIT).start_in(folder)?;
        let copies_files = !self.fsync && major(&version).is_some_and(|major| major >= 15);
        let mut postgres = Postgres { process, port, password: self.password.clone(), copies_files };
        postgres.ready()?;
        if let Some(password) = &self.password {
            postgres.sql(&format!("ALTER ROLE {USER} PASSWORD '{password}'"))?;
        }
        Ok(postgres)
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian ...)`
fn major(version: &str) -> Option<u32> {
    version.split_whitespace().nth(2)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Who may connect, in the words of `pg_hba.conf`; PgBouncer takes the same.
pub(crate) fn access(with_password: bool) -> String {
    let method = if with_password { "scram-sha-256" } else { "trust" };
    format!("host all {ADMIN} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 {method}\n")
}

/// PostgreSQL keeps a tiny System V segment as a lock, which outlives a SIGKILL. A restart would reuse it, but perhaps none comes,
/// and a machine has only so many. The seventh line of the pid file names it.
fn forget_shared_memory(process: &Process) {
    let pid_file = process.folder().join("postgres/postmaster.pid");
    let Ok(lines) = std::fs::read_to_string(pid_file) else { return };
    let Some(id) = lines.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else { return };
    // Without this tool a few bytes stay until the machine restarts.
    let _ = programs::run(Command::new("ipcrm").args(["-m", id]), process.place().account(), "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major("postgres"), None);
    }
}
