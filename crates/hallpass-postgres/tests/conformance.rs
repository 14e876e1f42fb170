//! The suite that every store must pass, over databases of their own.

#![cfg(test)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use hallpass::{
    TokenStore,
    account::AccountStore,
    naming::{Naming, Table},
    store::conformance,
};
use hallpass_postgres::{Options, PostgresStore};
use hallpass_testbed::{PgBouncer, Postgres};

fn shared() -> &'static Postgres {
    Postgres::shared().unwrap()
}

/// A store in a schema of its own, which is quicker to make than a database.
async fn fresh(url: &str, naming: &Naming) -> Arc<PostgresStore> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let schema = format!("Case-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let options = Options::new().naming(naming.clone().schema(&schema).unwrap());
    Arc::new(PostgresStore::connect(url, options).await.unwrap())
}

async fn check_tokens(url: &str, naming: Naming) {
    conformance::check_tokens(async || fresh(url, &naming).await as Arc<dyn TokenStore>).await;
}

async fn check_accounts(url: &str, naming: Naming) {
    conformance::check_accounts(async || {
        let store = fresh(url, &naming).await;
        (Arc::clone(&store) as Arc<dyn AccountStore>, store as Arc<dyn TokenStore>)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn row_15_postgresql_keeps_every_promise_of_a_token_store() {
    check_tokens(&shared().database("tokens").unwrap(), Naming::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn row_14_postgresql_keeps_every_promise_of_an_account_store() {
    check_accounts(&shared().database("accounts").unwrap(), Naming::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL and PgBouncer: scripts/test --servers runs it"]
async fn row_15_pgbouncer_in_transaction_mode_breaks_no_promise() {
    let bouncer = PgBouncer::start(shared()).unwrap();
    let url = format!("{}?pgbouncer=true", bouncer.url(&shared().database("bounced").unwrap()));
    check_tokens(&url, Naming::new()).await;
    check_accounts(&url, Naming::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn row_15_tables_named_by_the_application_break_no_promise() {
    let naming = Naming::new().prefix("").unwrap().table(Table::Tokens, "Api-Tokens").unwrap();
    check_tokens(&shared().database("named").unwrap(), naming.clone()).await;
    check_accounts(&shared().database("named").unwrap(), naming).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL and PgBouncer: scripts/test --servers runs it"]
async fn strict_isolation_by_default_breaks_no_promise() {
    let bouncer = PgBouncer::start(shared()).unwrap();
    let url = shared().database("strict").unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    shared()
        .sql(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"))
        .unwrap();
    let through = format!("{}?pgbouncer=true", bouncer.url(&url));
    for url in [&url, &through] {
        check_tokens(url, Naming::new()).await;
        check_accounts(url, Naming::new()).await;
    }
}
