//! What cannot be opened says why, and what to do.

use std::error::Error as _;

use hallpass_mysql::{MysqlStore, OpenError, Options, migrate};
use hallpass_testbed::{MariaDb, Server};

async fn refused(url: &str) -> OpenError {
    refused_with(url, Options::new()).await
}

async fn refused_with(url: &str, options: Options) -> OpenError {
    MysqlStore::connect(url, options).await.unwrap_err()
}

/// The whole text with its causes.
fn told(error: &OpenError) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_wrong_password_says_to_check_it_and_does_not_show_it() {
    let server = MariaDb::options().password("right").start().unwrap();
    let url = server.database("password").unwrap();
    assert!(MysqlStore::connect(&url, Options::new()).await.is_ok());
    let error = refused(&url.replace("right", "hunter2")).await;
    assert!(matches!(error, OpenError::Login { .. }), "{error:?}");
    let told = told(&error);
    assert!(told.contains("check the user and the password") && !told.contains("hunter2"), "{told}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn nobody_there_and_no_such_database_are_told_apart() {
    let server = MariaDb::shared().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refused(&format!("mysql://u:hunter2@{free}/d")).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(
        told(&error).contains("does not answer") && !told(&error).contains("hunter2"),
        "{}",
        told(&error)
    );

    let root = server.admin_url();
    let error = refused(&root.replace("/mysql", "/nothing_here")).await;
    assert!(matches!(error, OpenError::NoDatabase { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_missing_right_says_which_and_leaves_nothing_half_written() {
    let server = MariaDb::shared().unwrap();
    let url = server.database("rights").unwrap();
    let name = url.rsplit('/').next().unwrap();
    let as_poor = url.replace("hallpass@", "poor@");
    server
        .sql(&format!("CREATE USER poor@'127.0.0.1'; GRANT SELECT ON {name}.* TO poor@'127.0.0.1'"))
        .unwrap();
    let error = refused(&as_poor).await;
    assert!(matches!(error, OpenError::Privilege { .. }), "{error:?}");
    assert!(
        told(&error).contains("GRANT") && told(&error).contains("CREATE command denied"),
        "{}",
        told(&error)
    );
    assert_eq!(MariaDb::sql_at(&url, "SHOW TABLES").unwrap(), "");

    // Enough to migrate, too little to work: found when opening, not in the middle of a request.
    server.sql(&format!("GRANT CREATE, INSERT, UPDATE ON {name}.* TO poor@'127.0.0.1'")).unwrap();
    let error = refused(&as_poor).await;
    assert!(told(&error).contains("DELETE command denied"), "{}", told(&error));
    server.sql(&format!("GRANT DELETE ON {name}.* TO poor@'127.0.0.1'")).unwrap();
    assert!(MysqlStore::connect(&as_poor, Options::new()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_server_that_loses_what_it_acknowledged_is_refused_unless_allowed() {
    let mut server = MariaDb::options().set("innodb_flush_log_at_trx_commit", "0").start().unwrap();
    let url = server.database("volatile").unwrap();
    let error = refused(&url).await;
    assert!(matches!(error, OpenError::Volatile { .. }), "{error:?}");
    assert!(error.to_string().contains("innodb_flush_log_at_trx_commit = 0"), "{error}");
    let store = MysqlStore::connect(&url, Options::new().allow_volatile(true)).await.unwrap();
    hallpass::TokenStore::ready(&store).await.unwrap();

    // One that comes back so is refused as well.
    server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2").unwrap();
    let store = MysqlStore::connect(&url, Options::new()).await.unwrap();
    hallpass::TokenStore::ready(&store).await.unwrap();
    server.kill9().unwrap();
    server.restart().unwrap();
    let error = hallpass::TokenStore::ready(&store).await.unwrap_err();
    assert!(error.to_string().contains("innodb_flush_log_at_trx_commit = 0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_table_without_transactions_or_of_another_shape_is_refused() {
    let url = MariaDb::shared().unwrap().database("engine").unwrap();
    migrate(&url, &Options::new()).await.unwrap();
    MariaDb::sql_at(&url, "ALTER TABLE hallpass_owners ENGINE = MyISAM").unwrap();
    let error = refused(&url).await;
    assert!(matches!(error, OpenError::Engine { .. }), "{error:?}");
    assert!(error.to_string().contains("hallpass_owners") && error.to_string().contains("MyISAM"), "{error}");

    MariaDb::sql_at(
        &url,
        "ALTER TABLE hallpass_owners ENGINE = InnoDB; ALTER TABLE hallpass_audit DROP COLUMN peer",
    )
    .unwrap();
    let error = refused(&url).await;
    assert!(told(&error).contains("'peer'"), "{}", told(&error));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_server_that_speaks_no_tls_is_refused_where_it_must_prove_itself() {
    let url = MariaDb::shared().unwrap().database("tls").unwrap();
    for mode in ["required", "verify-identity"] {
        let error = refused(&format!("{url}?ssl-mode={mode}")).await;
        assert!(matches!(error, OpenError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains("ssl-ca="), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_full_server_says_so() {
    let server = MariaDb::options().set("max_connections", "10").start().unwrap();
    let url = server.database("full").unwrap();
    let name = url.rsplit('/').next().unwrap();
    server
        .sql(&format!("GRANT USAGE ON *.* TO hallpass@'127.0.0.1' WITH MAX_USER_CONNECTIONS 2; USE {name}"))
        .unwrap();
    let first = MysqlStore::connect(&url, Options::new()).await.unwrap();
    let second = MysqlStore::connect(&url, Options::new()).await.unwrap();
    let error = refused(&url).await;
    assert!(matches!(error, OpenError::Full { .. }), "{error:?}");
    drop((first, second));
}
