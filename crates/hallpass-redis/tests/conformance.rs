//! The suite that every store must pass: on a single node, on a cluster of three, and beside SQLite.

#![cfg(test)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use hallpass::{TokenStore, account::AccountStore, store::conformance};
use hallpass_redis::{Beside, Options, RedisStore};
use hallpass_sqlite::SqliteStore;
use hallpass_testbed::{Redis, RedisCluster};
use tempfile::TempDir;

/// A store of its own, empty, on servers that others use too.
async fn store(url: &str) -> Arc<dyn TokenStore> {
    let options = Options::new().prefix(Redis::prefix("conformance"));
    Arc::new(RedisStore::connect(url, options).await.unwrap())
}

/// SQLite files in one folder, a new file each.
struct Files {
    folder: TempDir,
    next: AtomicU32,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), next: AtomicU32::new(0) }
    }

    async fn beside(&self, url: &str) -> Arc<Beside> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.db"));
        let database = Arc::new(SqliteStore::open(path, hallpass_sqlite::Options::new()).unwrap());
        let options = Options::new().prefix(Redis::prefix("beside"));
        Arc::new(RedisStore::beside(url, options, database).await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn row_16_redis_keeps_every_promise_of_a_token_store() {
    let url = Redis::shared().unwrap().url();
    conformance::check_tokens(async || store(&url).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn row_16_a_redis_cluster_keeps_every_promise_of_a_token_store() {
    let url = RedisCluster::shared().unwrap().url();
    conformance::check_tokens(async || store(&url).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn redis_beside_sqlite_keeps_every_promise_of_a_token_store() {
    let (url, files) = (Redis::shared().unwrap().url(), Files::new());
    conformance::check_tokens(async || files.beside(&url).await as Arc<dyn TokenStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn redis_beside_sqlite_keeps_every_promise_of_an_account_store() {
    let (url, files) = (Redis::shared().unwrap().url(), Files::new());
    conformance::check_accounts(async || {
        let store = files.beside(&url).await;
        (Arc::clone(&store) as Arc<dyn AccountStore>, store as Arc<dyn TokenStore>)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_redis_cluster_beside_sqlite_keeps_every_promise_of_both() {
    let (url, files) = (RedisCluster::shared().unwrap().url(), Files::new());
    conformance::check_tokens(async || files.beside(&url).await as Arc<dyn TokenStore>).await;
    conformance::check_accounts(async || {
        let store = files.beside(&url).await;
        (Arc::clone(&store) as Arc<dyn AccountStore>, store as Arc<dyn TokenStore>)
    })
    .await;
}
