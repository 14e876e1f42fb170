//! A private MariaDB.

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::folder::{Account, Folder, Place};
use crate::port::{Port, on_a_free_port};
use crate::server::{Server, fresh_name, shared, until_it_answers};
use crate::{Failure, Missing, Process, Program, programs, template};

const NAME: &str = "MariaDB";

/// Whom the URLs name: it may do everything in its databases and nothing else, as an application should.
const USER: &str = "hallpass";

/// The default of 96 MiB would be copied for every server.
const LOG_FILE_SIZE: &str = "--innodb-log-file-size=8M";

/// The version of the protocol in the first message of every MySQL and MariaDB.
const PROTOCOL_10: u8 = 10;

/// A private MariaDB server.
#[derive(Debug)]
pub struct MariaDb {
    process: Process,
    port: Port,
    password: Option<String>,
}

impl MariaDb {
    /// Whether it is installed.
    ///
    /// # Errors
    /// `Missing` says what is not there.
    pub fn available() -> Result<(), Missing> {
        for program in ["mariadbd", "mariadb-install-db", "mariadb"] {
            programs::find(NAME, program)?;
        }
        Ok(())
    }

    /// Starts one with its own default settings, without a binary log, with its data in memory.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start() -> Result<Self, Failure> {
        Self::options().start()
    }

    /// How to start one otherwise.
    #[must_use]
    pub fn options() -> MariaDbOptions {
        MariaDbOptions::default()
    }

    /// The one server of this test program, with its data in memory.
    ///
    /// # Errors
    /// As `start`; the same failure for all who ask.
    pub fn shared() -> Result<&'static Self, Failure> {
        static SHARED: OnceLock<Result<MariaDb, Failure>> = OnceLock::new();
        shared(&SHARED, Self::start)
    }

    /// Makes an empty database for one test, and says its URL, as the application's user. Its name begins with `t_` and `about`.
    ///
    /// # Errors
    /// `Answer`, when the server refuses.
    pub fn database(&self, about: &str) -> Result<String, Failure> {
        let name = fresh_name(about);
        self.sql(&format!("CREATE DATABASE {name}; GRANT ALL ON {name}.* TO {USER}@'127.0.0.1'"))?;
        Ok(self.url_of(&name))
    }

    /// The URL without a database, as the application's user.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("")
    }

    /// The URL of the database `mysql`, as the user who may do everything.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("mysql://root@{}/mysql", self.address())
    }

    /// Runs SQL as the user who may do everything. Gives the rows, one per line, columns separated by tabs.
    ///
    /// # Errors
    /// `Answer` with the server's words.
    pub fn sql(&self, sql: &str) -> Result<String, Failure> {
        Self::sql_at(&self.admin_url(), sql)
    }

    /// Runs SQL at a URL that `database` gave, or one through a `Proxy`.
    ///
    /// # Errors
    /// `Answer` with the server's words.
    pub fn sql_at(url: &str, sql: &str) -> Result<String, Failure> {
        let strange = || Failure::answer(url, &"not a URL of this table");
        let parts = url.strip_prefix("mysql://").and_then(|rest| rest.split_once('@'));
        let (who, place) = parts.ok_or_else(strange)?;
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (address, database) = place.split_once('/').ok_or_else(strange)?;
        let (host, port) = address.split_once(':').ok_or_else(strange)?;
        let mut client = Command::new(programs::find(NAME, "mariadb")?);
        client.args(["--no-defaults", "--protocol=TCP", "--batch", "--skip-column-names"]);
        client.args(["--host", host, "--port", port, "--user", user, "--database", database]);
        client.arg(format!("--password={password}")).arg("--execute").arg(sql);
        Ok(programs::run(&mut client, Account::Mine, "")?.trim_end().to_owned())
    }

    fn url_of(&self, database: &str) -> String {
        let password = self.password.as_deref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("mysql://{USER}{password}@{}/{database}", self.address())
    }
}

impl Server for MariaDb {
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

    fn ready(&mut self) -> Result<(), Failure> {
        let address = self.address();
        until_it_answers(&mut self.process, |within| ping(address, within))
    }
}

/// How to start a MariaDB.
#[derive(Debug, Clone, Default)]
pub struct MariaDbOptions {
    fsync: bool,
    password: Option<String>,
    settings: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

impl MariaDbOptions {
    /// Whether it waits for the disk, as tests of durability and of speed do. Off by default: then its data is in memory, where
    /// there is room, and still outlives a `kill9`. No setting of the server's differs.
    #[must_use]
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    /// Any setting of `mariadbd`, such as `innodb_flush_log_at_trx_commit`. Those given later win.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The password of the application's user. Letters and digits only, as it goes into URLs as it is.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A file in the data folder that only the server can read; settings can name it without a path (`ssl_key`).
    #[must_use]
    pub fn file(mut self, name: &str, contents: &str) -> Self {
        self.files.push((name.to_owned(), contents.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start(self) -> Result<MariaDb, Failure> {
        MariaDb::available()?;
        on_a_free_port(|port| self.start_on(port))
    }

    fn start_on(&self, port: Port) -> Result<MariaDb, Failure> {
        let binary = programs::find(NAME, "mariadbd")?;
        let place = if self.fsync { Place::Disk } else { Place::Memory };
        let folder = Folder::owned_by(Account::Mine, place)?;
        let version =
            programs::run(Command::new(&binary).args(["--no-defaults", "--version"]), Account::Mine, "")?;
        // It insists on being told that root may run it, and to be told so by another user is an error.
        let as_root = rustix::process::getuid().is_root().then_some("--user=root");
        let data = template::fill(&folder, "mariadb", &version, |data| {
            let mut install = Command::new(programs::find(NAME, "mariadb-install-db")?);
            install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            install.args(as_root).arg(LOG_FILE_SIZE).arg(format!("--datadir={}", data.display()));
            programs::run(&mut install, Account::Mine, "").map(drop)
        })?;
        for (name, contents) in &self.files {
            folder.write(&format!("mariadb/{name}"), contents)?;
        }
        let password = self.password.as_deref().unwrap_or_default();
        let user = format!(
            "CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{password}';\n\
             CREATE USER IF NOT EXISTS root@'127.0.0.1';\n\
             GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
        );
        let user = folder.write("users.sql", user)?;

        let mut program = Program::new(binary)
            .arg("--no-defaults")
            .args(as_root)
            .arg(LOG_FILE_SIZE)
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--port={}", port.number()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .arg(format!("--pid-file={}", folder.path().join("pid").display()))
            .arg(format!("--init-file={}", user.display()))
            .args([
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--skip-log-bin",
                "--max-connections=300",
            ])
            // Pings that do not log in are no reason to lock 127.0.0.1 out.
            .args(["--host-cache-size=0", "--log-warnings=1"]);
        for (name, value) in &self.settings {
            program = program.arg(format!("--{}={value}", name.replace('_', "-")));
        }
        let process = program.start_in(folder)?;
        let mut server = MariaDb { process, port, password: self.password.clone() };
        server.ready()?;
        Ok(server)
    }
}

/// Connects and wants the greeting, which every MariaDB sends first.
fn ping(address: SocketAddr, within: Duration) -> Result<(), Failure> {
    let greeted = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_read_timeout(Some(within))?;
        // Three bytes of length, one of sequence, then the message.
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        Ok(head.last() == Some(&PROTOCOL_10))
    };
    match greeted() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::answer("greeting", &"an error instead of a greeting")),
        Err(error) => Err(Failure::answer("greeting", &error)),
    }
}
