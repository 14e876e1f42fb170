//! The suite that every store must pass, on databases of their own.

use std::sync::Arc;

use hallpass::{TokenStore, account::AccountStore, store::conformance};
use hallpass_mysql::{MysqlStore, Options};
use hallpass_testbed::{MariaDb, MariaDbOptions};

async fn store(server: &MariaDb) -> Arc<MysqlStore> {
    let url = server.database("conformance").unwrap();
    Arc::new(MysqlStore::connect(&url, Options::new()).await.unwrap())
}

async fn check(server: &MariaDb) {
    conformance::check_tokens(async || store(server).await as Arc<dyn TokenStore>).await;
    conformance::check_accounts(async || {
        let store = store(server).await;
        (Arc::clone(&store) as Arc<dyn AccountStore>, store as Arc<dyn TokenStore>)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_15_mariadb_keeps_every_promise_of_a_store() {
    check(MariaDb::shared().unwrap()).await;
}

/// Everything that a server's administrator may have set otherwise, and that a promise hangs on.
fn unlike_us() -> MariaDbOptions {
    let options = MariaDb::options();
    [
        ("sql_mode", "ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH"),
        ("transaction_isolation", "SERIALIZABLE"),
        ("autocommit", "0"),
        ("character_set_server", "latin1"),
        ("collation_server", "latin1_swedish_ci"),
        ("default_storage_engine", "MyISAM"),
        ("innodb_default_row_format", "compact"),
        ("lower_case_table_names", "1"),
        ("innodb_flush_log_at_trx_commit", "2"),
    ]
    .into_iter()
    .fold(options, |options, (name, value)| options.set(name, value))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_15_mariadb_keeps_them_whatever_its_own_defaults_are() {
    check(&unlike_us().start().unwrap()).await;
}
