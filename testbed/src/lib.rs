//! Private throw-away database servers, processes that never outlive a test, and a proxy that breaks connections on request.
//!
//! Every server here is started from the installed programs, on a port of 127.0.0.1 that was free, in a temporary folder, and is
//! ended by its own process id: when its value is dropped, or when the test's process dies. No server of the user's is ever touched.
//! While they run, these servers trust everybody on this machine. Linux only, as it reads `/proc`.
//!
//! # A test that needs a server
//!
//! It is marked as ignored, with the reason, so that plain `cargo test` shows on any machine that it did not run and why.
//! `scripts/test` installs the servers and runs the ignored tests too. Asked for like that, a test whose server is missing fails:
//! nothing passes without having run.
//!
//! ```no_run
//! use hallpass_testbed::Postgres;
//!
//! # #[allow(clippy::test_attr_in_doctest)]
//! #[test]
//! #[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
//! fn a_revoked_token_stays_revoked() {
//!     let url = Postgres::shared().unwrap().database("revoked").unwrap();
//!     // ...
//! }
//! ```
//!
//! `shared` gives one server per test program, started by the first test that asks; each test gets a database, or a key prefix,
//! of its own. A shared server cannot be hurt: `kill9`, `freeze` and `restart` need a server that the test started for itself.
//!
//! # A test that breaks things
//!
//! ```no_run
//! use std::time::Duration;
//! use hallpass_testbed::{Fault, Postgres, Proxy, Server};
//!
//! # fn main() -> Result<(), hallpass_testbed::Failure> {
//! let mut postgres = Postgres::options().fsync(true).set("synchronous_commit", "off").start()?;
//! let direct = postgres.database("outage")?;
//! let proxy = Proxy::start(postgres.address())?;
//! let url = proxy.url(&direct);
//! proxy.set(Fault::Drop)?;
//! proxy.set(Fault::Pass)?;
//! postgres.freeze()?;
//! postgres.thaw()?;
//! postgres.kill9()?;
//! postgres.restart()?;
//! # Ok(())
//! # }
//! ```

mod failure;
mod folder;
mod mariadb;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod programs;
mod proxy;
mod redis;
mod server;
mod template;

pub use failure::{Failure, Missing};
pub use folder::Folder;
pub use mariadb::{MariaDb, MariaDbOptions};
pub use pgbouncer::PgBouncer;
pub use port::Port;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Process, Program, peak_resident_bytes, resident_bytes};
pub use proxy::{Fault, Proxy};
pub use redis::{Redis, RedisCluster, RedisOptions, Reply};
pub use server::Server;
