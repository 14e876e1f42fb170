//! The suite that every store must pass, over files of their own.

#![cfg(test)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use hallpass::{TokenStore, account::AccountStore, store::conformance};
use hallpass_sqlite::{Options, SqliteStore};
use tempfile::TempDir;

/// Stores in one folder, a new file each.
struct Files {
    folder: TempDir,
    next: AtomicU32,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), next: AtomicU32::new(0) }
    }

    fn store(&self) -> Arc<SqliteStore> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.db"));
        Arc::new(SqliteStore::open(path, Options::new()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_sqlite_keeps_every_promise_of_a_token_store() {
    let files = Files::new();
    conformance::check_tokens(async || files.store() as Arc<dyn TokenStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_sqlite_keeps_every_promise_of_an_account_store() {
    let files = Files::new();
    conformance::check_accounts(async || {
        let store = files.store();
        (Arc::clone(&store) as Arc<dyn AccountStore>, store as Arc<dyn TokenStore>)
    })
    .await;
}
