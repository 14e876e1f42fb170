//! The suite that every store must pass, on databases of their own.

#![cfg(test)]

use std::sync::Arc;

use hallpass::{TokenStore, account::AccountStore, store::conformance};
use hallpass_mysql::{MysqlStore, Options};
use hallpass_testbed::MariaDb;

async fn store() -> Arc<MysqlStore> {
    let url = MariaDb::shared().unwrap().database("conformance").unwrap();
    Arc::new(MysqlStore::connect(&url, Options::new()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test runs it"]
async fn row_15_mariadb_keeps_every_promise_of_a_token_store() {
    conformance::check_tokens(async || store().await as Arc<dyn TokenStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test runs it"]
async fn row_14_mariadb_keeps_every_promise_of_an_account_store() {
    conformance::check_accounts(async || {
        let store = store().await;
        (Arc::clone(&store) as Arc<dyn AccountStore>, store as Arc<dyn TokenStore>)
    })
    .await;
}
