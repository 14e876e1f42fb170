//! How many statements a call takes, as the server counts them.

use hallpass::{TokenStore, store::Touch};
use hallpass_mysql::{MysqlStore, Options};
use hallpass_testbed::MariaDb;

use crate::sample::{NOW, later, token};

/// A server of one's own: it counts everybody's.
struct Counting {
    server: MariaDb,
    store: MysqlStore,
}

impl Counting {
    async fn start() -> Self {
        let server = MariaDb::start().unwrap();
        let url = server.database("counted").unwrap();
        let store = MysqlStore::connect(&url, Options::new().pool_size(1)).await.unwrap();
        Self { server, store }
    }

    fn count(&self, what: &str) -> u64 {
        let status = self.server.sql(&format!("SHOW GLOBAL STATUS LIKE '{what}'")).unwrap();
        status.split('\t').nth(1).unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_find_is_one_statement_that_was_prepared_once() {
    let Counting { store, .. } = &Counting::start().await;
    let counting = Counting::start().await;
    let (hash, record) = token("ada");
    counting.store.insert(&hash, &record, None).await.unwrap();
    let before = (counting.count("Com_stmt_execute"), counting.count("Com_stmt_prepare"));
    for _ in 0..100 {
        assert!(counting.store.find(&hash).await.unwrap().is_some());
    }
    let after = (counting.count("Com_stmt_execute"), counting.count("Com_stmt_prepare"));
    assert_eq!((after.0 - before.0, after.1 - before.1), (100, 0));
    store.ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_change_of_one_token_is_one_statement_and_last_uses_are_written_many_at_once() {
    let counting = Counting::start().await;
    let store = &counting.store;
    let mut touches = Vec::new();
    for _ in 0..150 {
        let (hash, record) = token("ada");
        store.insert(&hash, &record, None).await.unwrap();
        touches.push(Touch { id: record.id, at: later(1) });
        touches.push(Touch { id: record.id, at: later(2) });
    }
    let (hash, record) = token("bob");
    let before = counting.count("Com_stmt_execute");
    store.insert(&hash, &record, None).await.unwrap();
    store.revoke(&hash, NOW).await.unwrap();
    assert_eq!(counting.count("Com_stmt_execute") - before, 2);
    store.touch(&touches).await.unwrap();
    assert_eq!(counting.count("Com_stmt_execute") - before, 3);
    let used = "SELECT COUNT(*), MIN(last_used_at), MAX(last_used_at) FROM t_counted_1.hallpass_tokens WHERE user_id = 'ada'";
    let used = counting.server.sql(&used.replace("t_counted_1", &database(&counting))).unwrap();
    let latest = later(2).as_micros();
    assert_eq!(used, format!("150\t{latest}\t{latest}"));
}

fn database(counting: &Counting) -> String {
    let names = counting.server.sql("SELECT schema_name FROM information_schema.schemata").unwrap();
    names.lines().find(|name| name.starts_with("t_counted")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_20_no_statement_of_prune_deletes_more_than_a_hundred_rows() {
    let counting = Counting::start().await;
    let store = &counting.store;
    for number in 0..900 {
        let (hash, mut record) = token(if number % 3 == 0 { "ended" } else { "ada" });
        record.expires_at = (number % 3 == 1).then(|| later(-1));
        store.insert(&hash, &record, None).await.unwrap();
        if number % 3 == 2 {
            store.revoke(&hash, later(-1)).await.unwrap();
        }
    }
    store.revoke_all(&crate::sample::user("ended"), later(-1)).await.unwrap();
    let before = counting.count("Com_delete_multi");
    // In two calls, of which the second goes on with what the first has found.
    assert_eq!(store.prune(NOW, 450).await.unwrap(), 450);
    assert_eq!(store.prune(NOW, 1000).await.unwrap(), 450);
    let deletes = counting.count("Com_delete_multi") - before;
    // Of each way to die 300, and one batch in two parts.
    assert_eq!((deletes, counting.count("Com_delete")), (10, 0));
    assert_eq!(store.prune(NOW, 1000).await.unwrap(), 0);
}
