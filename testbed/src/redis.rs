//! A private Redis, alone or as a cluster.

mod cluster;
mod resp;

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use crate::folder::Folder;
use crate::port::{Port, on_a_free_port};
use crate::server::{Server, fresh_name, shared, until_it_answers};
use crate::{Failure, Missing, Process, Program, programs};
pub use cluster::RedisCluster;
pub use resp::Reply;

const NAME: &str = "Redis";

/// For commands of the table itself. A private server on this machine answers in far less.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A private Redis server.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
    // The port for other nodes, when it is one of a cluster.
    bus: Option<Port>,
    password: Option<String>,
}

impl Redis {
    /// Whether it is installed.
    ///
    /// # Errors
    /// `Missing` says what is not there.
    pub fn available() -> Result<(), Missing> {
        programs::find(NAME, "redis-server").map(drop)
    }

    /// Starts one that keeps nothing on disk.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start() -> Result<Self, Failure> {
        Self::options().start()
    }

    /// How to start one otherwise.
    #[must_use]
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// The one server of this test program, with append-only persistence that does not wait for the disk, so that it passes as a
    /// primary store.
    ///
    /// # Errors
    /// As `start`; the same failure for all who ask.
    pub fn shared() -> Result<&'static Self, Failure> {
        static SHARED: OnceLock<Result<Redis, Failure>> = OnceLock::new();
        shared(&SHARED, || Self::options().append_only().start())
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_deref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{password}{}", self.address())
    }

    /// A prefix for the keys of one test, which no other test of this program has: `t_`, `about`, a number, `:`.
    #[must_use]
    pub fn prefix(about: &str) -> String {
        format!("{}:", fresh_name(about))
    }

    /// Runs one command on a connection of its own.
    ///
    /// # Errors
    /// `Answer` with the server's words when it answers with an error.
    pub fn command(&self, words: &[&str]) -> Result<Reply, Failure> {
        command(self.address(), self.password.as_deref(), words, ANSWER_WITHIN)
    }
}

impl Server for Redis {
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
        command(self.address(), self.password.as_deref(), &["PING"], within).map(drop)
    }

    fn ready(&mut self) -> Result<(), Failure> {
        let (address, password) = (self.address(), self.password.clone());
        until_it_answers(&mut self.process, |within| {
            command(address, password.as_deref(), &["PING"], within).map(drop)
        })
    }
}

/// How to start a Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    password: Option<String>,
    settings: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

impl RedisOptions {
    /// Any setting of `redis.conf`, such as `maxmemory-policy`. Those given later win.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Append-only persistence. `set("appendfsync", "always")` makes it wait for the disk.
    #[must_use]
    pub fn append_only(self) -> Self {
        self.set("appendonly", "yes")
    }

    /// Asks for this password. Letters and digits only, as it goes into URLs as it is.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A file in the server's folder that only the server can read; settings can name it without a path (`tls-key-file`).
    #[must_use]
    pub fn file(mut self, name: &str, contents: &str) -> Self {
        self.files.push((name.to_owned(), contents.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// `Missing`, or why it did not start.
    pub fn start(self) -> Result<Redis, Failure> {
        Redis::available()?;
        on_a_free_port(|port| self.start_on(port, None))
    }

    fn start_on(&self, port: Port, bus: Option<Port>) -> Result<Redis, Failure> {
        let folder = Folder::new()?;
        for (name, contents) in &self.files {
            folder.write(name, contents)?;
        }
        let port_number = port.number().to_string();
        let mut program = Program::new(programs::find(NAME, "redis-server")?)
            .args(["--bind", "127.0.0.1", "--port", &port_number, "--save", "", "--daemonize", "no", "--dir"])
            .arg(folder.path());
        if let Some(password) = &self.password {
            program = program.args(["--requirepass", password, "--masterauth", password]);
        }
        for (name, value) in &self.settings {
            program = program.arg(format!("--{name}")).arg(value);
        }
        let process = program.start_in(folder)?;
        let mut redis = Redis { process, port, bus, password: self.password.clone() };
        redis.ready()?;
        Ok(redis)
    }
}

fn command(
    address: SocketAddr,
    password: Option<&str>,
    words: &[&str],
    within: Duration,
) -> Result<Reply, Failure> {
    resp::command(address, password, words, within)
        .map_err(|error| Failure::answer(words.join(" "), &error))
        .and_then(|reply| match reply {
            Reply::Error(error) => Err(Failure::answer(words.join(" "), &error)),
            reply => Ok(reply),
        })
}
