//! Our tables in the application's own schema: names, kinds of user ids, a foreign key to its users.

use hallpass::{
    Epoch, TokenStore, UserId,
    account::{Account, AccountStore},
    naming::{Naming, Table, UserIds},
    store::{InsertError, ListQuery},
};
use hallpass_mysql::{MysqlStore, OpenError, Options, UserIdColumn};
use hallpass_testbed::MariaDb;

use crate::sample::{NOW, find, later, token, user};

const ADA: &str = "018f4c8e-0000-7000-8000-00000000abcd";
const NOBODY: &str = "018f4c8e-0000-7000-8000-00000000ffff";

/// A user `known` of the application's, and one that it has not.
async fn a_real_foreign_key(options: Options, column: &str, value: &str, known: &str, unknown: &str) {
    let url = MariaDb::shared().unwrap().database("foreign_key").unwrap();
    let app = format!(
        "CREATE TABLE users (id {column} PRIMARY KEY) ENGINE = InnoDB; INSERT INTO users VALUES ({value})"
    );
    MariaDb::sql_at(&url, &app).unwrap();
    let store = MysqlStore::connect(&url, options).await.unwrap();

    let (hash, record) = token(known);
    store.insert(&hash, &record, Some(3)).await.unwrap();
    assert_eq!(find(&store, &hash).await.unwrap().unwrap().record, record, "{column}");
    assert_eq!(store.find_by_id(&record.user, record.id).await.unwrap().unwrap().record, record);
    assert_eq!(store.owner_of(record.id).await.unwrap().as_ref(), Some(&record.user));
    let query = ListQuery { after: None, limit: 10, living_at: Some(NOW) };
    let page = TokenStore::list(&store, &record.user, "api", &query).await.unwrap();
    assert_eq!(page.tokens.as_slice(), std::slice::from_ref(&record));

    // Whoever the application does not know, or nobody can be, gets no token.
    for nobody in [unknown, "no such id at all"] {
        for cap in [None, Some(3)] {
            let (hash, record) = token(nobody);
            let refused = store.insert(&hash, &record, cap).await.unwrap_err();
            assert!(matches!(refused, InsertError::Ended), "{column} {nobody}: {refused:?}");
        }
        let nobody = user(nobody);
        assert!(store.find_by_id(&nobody, record.id).await.unwrap().is_none());
        assert!(!store.revoke_by_id(&nobody, record.id, NOW).await.unwrap());
    }

    assert_eq!(store.revoke_all(&record.user, NOW).await.unwrap(), 1);
    assert_eq!(store.prune(later(1), 10).await.unwrap(), 1);
    let (hash, mut record) = token(known);
    record.epoch = Epoch::new(1);
    store.insert(&hash, &record, None).await.unwrap();
    // A user who goes takes the tokens along, and one who comes back under the id begins where the other ended.
    MariaDb::sql_at(&url, "DELETE FROM users").unwrap();
    assert!(find(&store, &hash).await.unwrap().is_none());
    assert_eq!(store.epoch(&record.user).await.unwrap(), Epoch::new(1));
}

fn users(ids: UserIds) -> Options {
    Options::new().naming(Naming::new().user_ids(ids).users("users", "id").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_15_user_ids_may_be_integers() {
    a_real_foreign_key(users(UserIds::Integer), "BIGINT", "-9007199254740993", "-9007199254740993", "1")
        .await;
    let unsigned = users(UserIds::Integer).user_id_column(UserIdColumn::UnsignedInteger);
    a_real_foreign_key(unsigned, "BIGINT UNSIGNED", "9223372036854775807", "9223372036854775807", "-1").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_15_user_ids_may_be_uuids() {
    let quoted = format!("'{ADA}'");
    let bytes = format!("UNHEX(REPLACE('{ADA}', '-', ''))");
    a_real_foreign_key(users(UserIds::Uuid), "BINARY(16)", &bytes, ADA, NOBODY).await;
    let own = users(UserIds::Uuid).user_id_column(UserIdColumn::MariadbUuid);
    a_real_foreign_key(own, "UUID", &quoted, ADA, NOBODY).await;
    for collation in ["utf8mb4_general_ci", "ascii_bin"] {
        let text = users(UserIds::Uuid).user_id_column(UserIdColumn::UuidText(collation));
        let column = format!("CHAR(36) COLLATE {collation}");
        a_real_foreign_key(text, &column, &quoted, ADA, NOBODY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_15_user_ids_may_be_text_with_a_foreign_key() {
    a_real_foreign_key(users(UserIds::Text), "VARBINARY(255)", "'ada '", "ada ", "ada").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn row_15_tables_live_in_another_database_under_chosen_names() {
    let server = MariaDb::shared().unwrap();
    let (url, other) = (server.database("app").unwrap(), server.database("auth").unwrap());
    let schema = other.rsplit('/').next().unwrap();
    let naming = Naming::new().schema(schema).unwrap().prefix("acme-").unwrap();
    let naming = naming.table(Table::Tokens, "API$tokens").unwrap();
    let store = MysqlStore::connect(&url, Options::new().naming(naming)).await.unwrap();
    let (hash, record) = token("ada");
    store.insert(&hash, &record, None).await.unwrap();
    assert_eq!(store.revoke_all(&record.user, NOW).await.unwrap(), 1);
    assert_eq!(store.prune(later(1), 10).await.unwrap(), 1);
    assert_eq!(MariaDb::sql_at(&url, "SHOW TABLES").unwrap(), "");
    let tables = MariaDb::sql_at(&other, "SHOW TABLES").unwrap();
    assert_eq!(tables, "API$tokens\nacme-accounts\nacme-audit\nacme-migrations\nacme-owners");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn a_foreign_key_of_another_type_fails_and_leaves_nothing() {
    let url = MariaDb::shared().unwrap().database("mismatch").unwrap();
    MariaDb::sql_at(&url, "CREATE TABLE users (id INT UNSIGNED PRIMARY KEY)").unwrap();
    let refused = MysqlStore::connect(&url, users(UserIds::Integer)).await.unwrap_err();
    assert!(
        matches!(&refused, OpenError::Migration { migration, .. } if migration == "0001_first"),
        "{refused:?}"
    );
    assert_eq!(MariaDb::sql_at(&url, "SHOW TABLES").unwrap(), "users");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn the_built_in_accounts_go_with_uuids_and_not_with_integers() {
    let url = MariaDb::shared().unwrap().database("accounts").unwrap();
    let email = hallpass::EmailAddress::parse("ada@example.com").unwrap();
    let account = Account::new(UserId::random().unwrap(), email, NOW);
    for (prefix, ids, works) in [("u_", UserIds::Uuid, true), ("i_", UserIds::Integer, false)] {
        let naming = Naming::new().prefix(prefix).unwrap().user_ids(ids);
        let store = MysqlStore::connect(&url, Options::new().naming(naming)).await.unwrap();
        let created = store.create(&account, None).await;
        assert_eq!(created.is_ok(), works, "{created:?}");
        let found = AccountStore::find(&store, &account.id).await.unwrap();
        assert_eq!(found.is_some(), works);
    }
}
