//! The connections, and the time that a call has.
//!
//! The driver's own pool hands each connection through a task of its own and may wait for ever on one that is cut off. Here a
//! connection goes back by the hand that took it, and only if it is known to be well; any other is closed.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hallpass::Unavailable;
use mysql_async::{Row, Value};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};

use crate::{
    connection::{Address, Changed, Connection, Sql},
    error::{Failure, OpenError},
};

/// How often a transaction that gave in to another is tried again. Of those that are in each other's way, one goes through
/// each time.
const RETRIES: u32 = 6;
/// Before the first of them; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// A connection that rested for longer is asked whether it still lives: the server, or something in between, may have forgotten it.
const RESTED: Duration = Duration::from_secs(1);
/// So long it has to answer.
const PING: Duration = Duration::from_millis(250);

/// One try of what [`Pool::retrying`] runs.
pub(crate) type Attempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

pub(crate) struct Pool {
    address: Address,
    /// The latest used is last, and first to be used again.
    idle: Mutex<Vec<Idle>>,
    slots: Semaphore,
    /// How long a call may take in all.
    patience: Duration,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(address: Address, first: Connection, size: usize, patience: Duration) -> Arc<Self> {
        let idle = Mutex::new(vec![Idle { connection: first, since: Instant::now() }]);
        Arc::new(Self { address, idle, slots: Semaphore::new(size.max(1)), patience })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The row that a reading statement finds.
    pub(crate) async fn row(&self, sql: &Sql, values: Vec<Value>) -> Result<Option<Row>, Unavailable> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// The rows that a reading statement finds. A connection that turns out to be broken is replaced once: reading twice
    /// does nothing twice.
    pub(crate) async fn rows(&self, sql: &Sql, values: Vec<Value>) -> Result<Vec<Row>, Unavailable> {
        self.rows_patiently(sql, values, self.patience).await
    }

    /// The same, for what is not part of a request.
    pub(crate) async fn rows_patiently(
        &self,
        sql: &Sql,
        values: Vec<Value>,
        patience: Duration,
    ) -> Result<Vec<Row>, Unavailable> {
        let reads = async {
            let mut lease = self.lease().await?;
            let mut outcome = lease.rows(sql, values.clone()).await;
            if let Err(Failure::Broken(_)) = &outcome {
                self.forget_idle();
                // In the same slot: a call that is being served does not queue again.
                lease = lease.renewed().await?;
                outcome = lease.rows(sql, values).await;
            }
            lease.give_back_unless_broken(&outcome);
            outcome
        };
        Ok(in_time(patience, reads).await?)
    }

    /// Runs one changing statement, which is a transaction by itself.
    pub(crate) async fn change(&self, sql: &Sql, values: Vec<Value>) -> Result<Changed, Failure> {
        self.retrying(|| Box::pin(self.change_once(sql, values.clone()))).await
    }

    async fn change_once(&self, sql: &Sql, values: Vec<Value>) -> Result<Changed, Failure> {
        let mut lease = self.lease().await?;
        let changed = lease.connection()?.change(sql, values).await;
        lease.give_back_unless_broken(&changed);
        changed
    }

    /// Runs one statement for many rows, in their order: all of them or none.
    pub(crate) async fn change_each(&self, sql: &Sql, rows: Vec<Vec<Value>>) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        self.retrying(|| Box::pin(self.change_each_once(sql, rows.clone()))).await
    }

    async fn change_each_once(&self, sql: &Sql, rows: Vec<Vec<Value>>) -> Result<(), Failure> {
        let mut transaction = self.begin().await?;
        let outcome = transaction.lease.connection()?.change_each(sql, rows).await;
        transaction.end(outcome).await
    }

    /// Runs `once`, and again as long as it gives in to others; all of it in the time that a call has.
    pub(crate) async fn retrying<'a, T>(&self, once: impl Fn() -> Attempt<'a, T>) -> Result<T, Failure> {
        let tries = async {
            let mut pause = FIRST_PAUSE;
            for _ in 0..RETRIES {
                match once().await {
                    Err(Failure::Conflict(_)) => {}
                    outcome => return outcome,
                }
                sleep(pause).await;
                pause *= 2;
            }
            once().await
        };
        in_time(self.patience, tries).await
    }

    /// A transaction. Dropping it, or failing in it, undoes it.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>, Failure> {
        let mut lease = self.lease().await?;
        lease.connection()?.run("START TRANSACTION").await?;
        Ok(Transaction { lease })
    }

    /// Waits for a slot and takes a connection that rests, or makes one.
    async fn lease(&self) -> Result<Lease<'_>, Failure> {
        let slot = self.slots.acquire().await;
        let slot = slot.map_err(|_| Unavailable::new("the store is closed"))?;
        let lease = Lease { pool: self, connection: None, _slot: slot };
        let Some(Idle { mut connection, since }) = self.idle().pop() else { return lease.renewed().await };
        if since.elapsed() > RESTED && !matches!(timeout(PING, connection.ping()).await, Ok(Ok(()))) {
            self.forget_idle();
            return lease.renewed().await;
        }
        Ok(Lease { connection: Some(connection), ..lease })
    }

    async fn connect(&self) -> Result<Connection, Unavailable> {
        self.address.connect().await.map_err(|error| {
            let what = match &error {
                OpenError::Volatile { .. } => {
                    "the database came back with innodb_flush_log_at_trx_commit = 0"
                }
                OpenError::Full { .. } => "the database takes no more connections",
                OpenError::Login { .. } => "the database refuses its user",
                _ => "the database is out of reach",
            };
            Unavailable::because(what, error)
        })
    }

    /// Closes what rests.
    fn forget_idle(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A panic of another thread between two lines here leaves the list whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // What is cut off here is dropped, and its connection closed: nobody would read the answer that still comes.
    let too_late = |_| Err(Unavailable::new("the database does not answer in time").into());
    timeout(patience, work).await.unwrap_or_else(too_late)
}

/// A connection in use. It is closed if it is not given back.
struct Lease<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    _slot: SemaphorePermit<'a>,
}

impl Lease<'_> {
    fn connection(&mut self) -> Result<&mut Connection, Failure> {
        self.connection.as_mut().ok_or_else(|| Unavailable::new("the connection is gone").into())
    }

    async fn rows(&mut self, sql: &Sql, values: Vec<Value>) -> Result<Vec<Row>, Failure> {
        Ok(self.connection()?.rows(sql, values).await?)
    }

    async fn renewed(mut self) -> Result<Self, Failure> {
        self.connection = Some(self.pool.connect().await?);
        Ok(self)
    }

    fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.idle().push(Idle { connection, since: Instant::now() });
        }
    }

    /// After a statement that is a transaction by itself.
    fn give_back_unless_broken<T>(self, outcome: &Result<T, Failure>) {
        match outcome {
            Ok(_) | Err(Failure::Taken | Failure::NoUser | Failure::Conflict(_)) => self.give_back(),
            Err(Failure::Broken(_)) => self.pool.forget_idle(),
            // It may be the connection's own fault, and a new one is soon made.
            Err(Failure::Unavailable(_)) => {}
        }
    }
}

/// Statements that are done together or not at all.
pub(crate) struct Transaction<'a> {
    lease: Lease<'a>,
}

impl Transaction<'_> {
    pub(crate) async fn row(&mut self, sql: &Sql, values: Vec<Value>) -> Result<Option<Row>, Failure> {
        Ok(self.lease.connection()?.row(sql, values).await?)
    }

    pub(crate) async fn change(&mut self, sql: &Sql, values: Vec<Value>) -> Result<Changed, Failure> {
        self.lease.connection()?.change(sql, values).await
    }

    /// Commits after success and undoes after failure. A commit that gets no answer may have been done or not.
    pub(crate) async fn end<T>(mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let last = match &outcome {
            Ok(_) => "COMMIT",
            // A broken connection is undone by the server.
            Err(Failure::Broken(_)) => {
                self.lease.pool.forget_idle();
                return outcome;
            }
            Err(_) => "ROLLBACK",
        };
        let connection = self.lease.connection()?;
        match (connection.run(last).await, outcome) {
            (Ok(()), outcome) => {
                self.lease.give_back_unless_broken(&outcome);
                outcome
            }
            (Err(error), Ok(_)) => Err(error.into()),
            (Err(_), outcome) => outcome,
        }
    }
}
