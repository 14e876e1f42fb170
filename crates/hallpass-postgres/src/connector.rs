//! Making connections, one at a time.

use std::time::{Duration, Instant};

use hallpass::{Unavailable, naming::UserIds};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Error;

use crate::{
    error::{cause, late},
    link::{Deadline, Link},
    target::Target,
};

/// An attempt that takes longer has failed. Shorter than a caller waits, so that an attempt can fail before its caller gives up.
const ATTEMPT_MOST: Duration = Duration::from_millis(700);

/// After a failed attempt, so long nobody tries again and everybody is told: a database that is down, and then comes up, is
/// not met by a crowd.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes connections to one database.
///
/// Whoever needs one waits for its turn, and looks again whether somebody else made it meanwhile. So an outage costs one attempt
/// at a time, whatever the number of callers.
#[derive(Debug)]
pub(crate) struct Connector {
    target: Target,
    session: String,
    user_ids: UserIds,
    last_failure: Mutex<Option<Failure>>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    cause: String,
}

/// The right to make a connection.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    connector: &'a Connector,
    last_failure: MutexGuard<'a, Option<Failure>>,
}

impl Connector {
    /// `patience` is how long a caller waits for an answer.
    pub(crate) fn new(target: Target, user_ids: UserIds, patience: Duration) -> Self {
        let session = if target.pgbouncer { String::new() } else { session(patience) };
        Self { target, session, user_ids, last_failure: Mutex::new(None) }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) async fn turn(&self, deadline: Deadline) -> Result<Turn<'_>, Unavailable> {
        let last_failure = deadline.limit(self.last_failure.lock()).await.map_err(|_| late())?;
        match &*last_failure {
            Some(failure) if failure.at.elapsed() < PAUSE => Err(unreachable(failure.cause.clone())),
            _ => Ok(Turn { connector: self, last_failure }),
        }
    }

    /// Makes a connection without a turn, for whoever opens or migrates the database.
    pub(crate) async fn connect(&self) -> Result<Link, Error> {
        let (client, connection) = self.target.config.connect(self.target.tls.clone()).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = cause(&error), "a connection to the database ended");
            }
        });
        let link = Link::new(client, driver, !self.target.pgbouncer, self.user_ids);
        if !self.session.is_empty() {
            link.client.batch_execute(&self.session).await?;
        }
        Ok(link)
    }
}

impl Turn<'_> {
    pub(crate) async fn connect(mut self, deadline: Deadline) -> Result<Link, Unavailable> {
        let connected = deadline.or_after(ATTEMPT_MOST).limit(self.connector.connect()).await;
        let cause = match connected {
            Ok(Ok(link)) => {
                *self.last_failure = None;
                return Ok(link);
            }
            Ok(Err(error)) => cause(&error),
            Err(_) => "no connection was made in time".to_owned(),
        };
        tracing::warn!(server = self.connector.target.server, cause, "cannot connect to the database");
        *self.last_failure = Some(Failure { at: Instant::now(), cause: cause.clone() });
        Err(unreachable(cause))
    }
}

fn unreachable(cause: String) -> Unavailable {
    Unavailable::because("the database is out of reach", cause)
}

/// What is set on each connection. A pooler that gives each transaction another one would not keep it.
///
/// The server gives up on a statement soon after its caller did, so that no work piles up behind a lock. Compiling
/// statements as short as these is never worth it.
fn session(patience: Duration) -> String {
    let wait = patience.as_millis() + 100;
    format!(
        "SET statement_timeout = {wait}; SET lock_timeout = {wait}; \
         SET idle_in_transaction_session_timeout = {idle}; \
         SET default_transaction_isolation = 'read committed'; SET jit = off",
        idle = wait + 1_000,
    )
}
