//! Connections that one caller at a time writes through.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hallpass::Unavailable;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_postgres::{Error, Row};

use crate::{
    connector::Connector,
    error::{Failed, is_of_the_connection, is_passing, late},
    link::{Deadline, Link, Step},
};

/// How often a transaction is run that ends in a deadlock or a failure to serialize. Each time it left nothing behind.
const TRIES: u32 = 4;

/// How long a connection whose caller went away is waited for. Then it is closed.
const SETTLE_MOST: Duration = Duration::from_secs(1);

/// A small pool.
#[derive(Debug)]
pub(crate) struct Writers {
    pool: Arc<Pool>,
    connector: Arc<Connector>,
}

#[derive(Debug)]
struct Pool {
    permits: Arc<Semaphore>,
    /// The one used last is used first, so that those that are too many are seldom touched.
    idle: Mutex<Vec<Link>>,
}

impl Writers {
    pub(crate) fn new(connector: Arc<Connector>, most: usize) -> Self {
        let permits = Arc::new(Semaphore::new(most.max(1)));
        Self { pool: Arc::new(Pool { permits, idle: Mutex::default() }), connector }
    }

    /// Runs one statement, or two in a transaction; again if others got in the way. Not again if the connection was lost: it may
    /// have been done.
    pub(crate) async fn write(
        &self,
        first: Step<'_>,
        second: Option<Step<'_>>,
        deadline: Deadline,
    ) -> Result<(Vec<Row>, Vec<Row>), Failed> {
        let mut tries = 1;
        loop {
            match self.attempt(first, second, deadline).await? {
                Ok(rows) => return Ok(rows),
                Err(error) if is_passing(&error) && tries < TRIES => tries += 1,
                Err(error) => return Err(Failed::from(&error)),
            }
        }
    }

    async fn attempt(
        &self,
        first: Step<'_>,
        second: Option<Step<'_>>,
        deadline: Deadline,
    ) -> Result<Result<(Vec<Row>, Vec<Row>), Error>, Unavailable> {
        let mut lease = self.lease(deadline).await?;
        let Some(link) = &lease.link else { return Err(late()) };
        let work = async {
            match second {
                None => Ok((link.query(first.sql, first.values).await?, Vec::new())),
                Some(second) => link.transaction(first, second).await,
            }
        };
        // Whoever is late leaves the lease unsettled.
        let answer = deadline.limit(work).await.map_err(|_| late())?;
        if answer.as_ref().is_err_and(is_of_the_connection) {
            lease.link = None;
        }
        lease.settled = true;
        Ok(answer)
    }

    async fn lease(&self, deadline: Deadline) -> Result<Lease, Unavailable> {
        let permit = deadline.limit(Arc::clone(&self.pool.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| late())?.map_err(|_| Unavailable::new("the store is closed"))?;
        let link = match self.pool.take() {
            Some(link) => link,
            None => self.connector.turn(deadline).await?.connect(deadline).await?,
        };
        let pool = Arc::clone(&self.pool);
        Ok(Lease { link: Some(link), permit: Some(permit), pool, settled: false })
    }
}

impl Pool {
    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|link| !link.is_closed());
        idle.pop()
    }

    fn give_back(&self, link: Link) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
    }
}

/// A connection for one caller.
struct Lease {
    link: Option<Link>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
    /// Nothing is under way on it.
    settled: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        if self.settled {
            self.pool.give_back(link);
            return;
        }
        // The caller gave up or went away. What was sent is done by the server all the same; when it is, the connection is as
        // good as before. Closing it instead would let hasty clients cost a connection each.
        let (pool, permit) = (Arc::clone(&self.pool), self.permit.take());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Ok(())) = Deadline::after(SETTLE_MOST).limit(link.settle()).await {
                    pool.give_back(link);
                }
                drop(permit);
            });
        }
    }
}
