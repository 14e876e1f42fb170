//! One connection, with its prepared statements.

use std::sync::Arc;

use hallpass::naming::UserIds;
use tokio::{
    sync::OnceCell,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_postgres::{
    Client, Error, Row, Statement,
    types::{ToSql, Type},
};

use crate::{
    statements::{Sql, Statements},
    value::Value,
};

/// Whatever the server's default is: under a stricter one, what waits for a lock would fail instead of seeing what it waited for.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// A statement with its parameters.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) sql: &'a Sql,
    pub(crate) values: &'a [Value<'a>],
}

/// A connection. It is closed when this is dropped, in the middle of whatever it does.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    driver: Driver,
    /// By slot; `None` if nothing may be prepared.
    prepared: Option<Arc<[OnceCell<Statement>]>>,
    user_ids: UserIds,
}

/// The task that reads and writes.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        // A graceful end would wait for answers, for ever if the server is frozen.
        self.0.abort();
    }
}

impl Link {
    pub(crate) fn new(client: Client, driver: JoinHandle<()>, can_prepare: bool, user_ids: UserIds) -> Self {
        let prepared = can_prepare.then(|| (0..Statements::COUNT).map(|_| OnceCell::new()).collect());
        Self { client, driver: Driver(driver), prepared, user_ids }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.driver.0.is_finished()
    }

    /// Runs a statement, in a transaction of its own. Any number of callers may do so at once: their statements are sent one after
    /// the other without waiting.
    pub(crate) async fn query(&self, sql: &Sql, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        let Some(prepared) = self.prepare(sql, values).await? else {
            let typed: Vec<_> = values
                .iter()
                .map(|value| (value as &(dyn ToSql + Sync), value.sql_type(self.user_ids)))
                .collect();
            return self.client.query_typed(&sql.text, &typed).await;
        };
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        self.client.query(prepared, &values).await
    }

    /// Runs two statements in one transaction, in one round trip: all four messages are sent before the first answer. If one
    /// fails, so does what comes after it, and the COMMIT is a ROLLBACK. Nobody else may use the connection meanwhile.
    ///
    /// A caller that goes away has either sent all of it or nothing.
    pub(crate) async fn transaction(
        &self,
        first: Step<'_>,
        second: Step<'_>,
    ) -> Result<(Vec<Row>, Vec<Row>), Error> {
        self.prepare(first.sql, first.values).await?;
        self.prepare(second.sql, second.values).await?;
        let (begun, first, second, committed) = tokio::join!(
            biased;
            self.client.batch_execute(BEGIN),
            self.query(first.sql, first.values),
            self.query(second.sql, second.values),
            self.client.batch_execute("COMMIT"),
        );
        begun?;
        let rows = (first?, second?);
        committed?;
        Ok(rows)
    }

    /// Waits until everything that was sent is answered.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        self.client.batch_execute("").await
    }

    async fn prepare(&self, sql: &Sql, values: &[Value<'_>]) -> Result<Option<&Statement>, Error> {
        let Some(cell) = self.prepared.as_ref().and_then(|prepared| prepared.get(sql.slot)) else {
            return Ok(None);
        };
        if let Some(statement) = cell.get() {
            return Ok(Some(statement));
        }
        let types: Vec<Type> = values.iter().map(|value| value.sql_type(self.user_ids)).collect();
        cell.get_or_try_init(|| self.client.prepare_typed(&sql.text, &types)).await.map(Some)
    }
}

/// Until when an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

/// The time is up.
pub(crate) struct Late;

impl Deadline {
    pub(crate) fn after(wait: std::time::Duration) -> Self {
        Self(Instant::now() + wait)
    }

    /// This, or `wait` from now, whichever is sooner.
    pub(crate) fn or_after(self, wait: std::time::Duration) -> Self {
        Self(self.0.min(Instant::now() + wait))
    }

    pub(crate) async fn limit<T>(self, what: impl Future<Output = T>) -> Result<T, Late> {
        timeout_at(self.0, what).await.map_err(|_| Late)
    }
}
