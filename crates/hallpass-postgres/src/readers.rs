//! Connections that many callers read through at once.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use hallpass::Unavailable;
use tokio_postgres::{Error, Row};

use crate::{
    connector::Connector,
    error::{is_of_the_connection, is_passing, late, unavailable},
    link::{Deadline, Link},
    statements::Sql,
    value::Value,
};

/// A few connections. Each sends the statements of all its callers one after the other, without waiting for answers.
///
/// A connection on which a caller waited in vain is given up: perhaps its packets go nowhere, and a new one would get through.
/// The callers who still wait on it keep it until they are done.
#[derive(Debug)]
pub(crate) struct Readers {
    lanes: Vec<Lane>,
    next: AtomicUsize,
    connector: Arc<Connector>,
}

/// One of the connections, while there is one.
type Lane = RwLock<Option<Arc<Link>>>;

impl Readers {
    pub(crate) fn new(connector: Arc<Connector>, lanes: usize) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| RwLock::default()).collect();
        Self { lanes, next: AtomicUsize::new(0), connector }
    }

    /// Runs a statement that only reads; once more if the first time failed for a reason that has passed.
    pub(crate) async fn read(
        &self,
        sql: &Sql,
        values: &[Value<'_>],
        deadline: Deadline,
    ) -> Result<Vec<Row>, Unavailable> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        let Some(lane) = self.lanes.get(number) else {
            return Err(Unavailable::new("there is no connection to read through"));
        };
        match self.attempt(lane, sql, values, deadline).await? {
            Ok(rows) => return Ok(rows),
            Err(error) if is_of_the_connection(&error) || is_passing(&error) => {}
            Err(error) => return Err(unavailable(&error)),
        }
        // On the same lane: its connection, if that was the fault, is a new one now. The others may have gone with it.
        self.attempt(lane, sql, values, deadline).await?.map_err(|error| unavailable(&error))
    }

    async fn attempt(
        &self,
        lane: &Lane,
        sql: &Sql,
        values: &[Value<'_>],
        deadline: Deadline,
    ) -> Result<Result<Vec<Row>, Error>, Unavailable> {
        let link = match present(lane) {
            Some(link) => link,
            None => self.connect(lane, deadline).await?,
        };
        let Ok(answer) = deadline.limit(link.query(sql, values)).await else {
            retire(lane, &link);
            return Err(late());
        };
        if answer.as_ref().is_err_and(is_of_the_connection) {
            retire(lane, &link);
        }
        Ok(answer)
    }

    async fn connect(&self, lane: &Lane, deadline: Deadline) -> Result<Arc<Link>, Unavailable> {
        let turn = self.connector.turn(deadline).await?;
        if let Some(link) = present(lane) {
            return Ok(link);
        }
        let link = Arc::new(turn.connect(deadline).await?);
        *lane.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link));
        Ok(link)
    }
}

fn present(lane: &Lane) -> Option<Arc<Link>> {
    let link = lane.read().unwrap_or_else(PoisonError::into_inner);
    link.as_ref().filter(|link| !link.is_closed()).cloned()
}

/// Unless somebody did so already, and there is another in its place.
fn retire(lane: &Lane, link: &Arc<Link>) {
    let mut lane = lane.write().unwrap_or_else(PoisonError::into_inner);
    lane.take_if(|present| Arc::ptr_eq(present, link));
}
