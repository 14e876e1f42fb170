//! Opening and migrating: what can be wrong, and that each answer says what to do.

#![cfg(test)]

use hallpass::{
    Epoch, PlainToken, Purpose, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable, UserId,
    account::{Account, AccountStore, CreateError},
    migration::Mismatch,
    naming::{Naming, Table, UserIds},
    store::{Found, InsertError},
};
use hallpass_postgres::{OpenError, Options, PostgresStore, inspect, migrate, migrations, script};
use hallpass_testbed::Postgres;

fn shared() -> &'static Postgres {
    Postgres::shared().unwrap()
}

fn sql(url: &str, sql: &str) -> String {
    Postgres::sql_at(url, sql).unwrap()
}

/// The same database, as the user who may do everything.
fn as_admin(url: &str) -> String {
    url.replacen("hallpass@", "postgres@", 1)
}

async fn opened(url: &str) -> PostgresStore {
    PostgresStore::connect(url, Options::new()).await.unwrap()
}

async fn find(store: &PostgresStore, plain: &PlainToken) -> Result<Option<Found>, Unavailable> {
    TokenStore::find(store, &plain.hash()).await
}

async fn refused(url: &str, options: Options) -> OpenError {
    PostgresStore::connect(url, options).await.map(drop).unwrap_err()
}

/// All that is in the schema: to see that nothing changed, or that two schemas are the same.
fn everything(url: &str) -> String {
    let columns = "SELECT table_name, column_name, data_type, collation_name, is_nullable FROM information_schema.columns \
                   WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, ordinal_position";
    let rest = "SELECT indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog') ORDER BY 1";
    let constraints = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace >= 2200 ORDER BY 1, 2";
    [columns, rest, constraints].map(|query| sql(url, query)).join("\n--\n")
}

fn token(user: &str) -> (PlainToken, TokenRecord) {
    let user = UserId::new(user).unwrap();
    let at = Timestamp::from_micros(1_767_225_600_123_457);
    let record = TokenRecord::new(TokenId::random().unwrap(), user, Epoch::default(), "api", at);
    (PlainToken::generate(&Purpose::api()).unwrap(), record)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn eight_at_once_migrate_an_empty_database_once() {
    let url = shared().database("raced").unwrap();
    let naming = Naming::new().schema("auth").unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (url, naming) = (url.clone(), naming.clone());
            tokio::spawn(async move { migrate(&url, &naming).await.unwrap().len() })
        })
        .collect();
    let mut ran = 0;
    for task in tasks {
        ran += task.await.unwrap();
    }
    assert_eq!(ran, migrations().len());
    let options = Options::new().migrate(false).naming(naming);
    PostgresStore::connect(&url, options).await.unwrap().ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_migration_that_is_cut_off_leaves_nothing_and_is_run_again() {
    let url = shared().database("cut_off").unwrap();
    // What the last statement of the migration would make is there already: all before it must go.
    sql(&url, "CREATE FUNCTION hallpass_audit_is_append_only() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    let before = everything(&url);
    let error = migrate(&url, &Naming::new()).await.unwrap_err();
    assert!(matches!(&error, OpenError::Migration { migration, .. } if migration == "0001_first"), "{error}");
    assert_eq!(everything(&url), before);
    sql(&url, "DROP FUNCTION hallpass_audit_is_append_only");
    opened(&url).await.ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_schema_that_is_behind_newer_or_changed_is_refused_and_left_alone() {
    let url = shared().database("versions").unwrap();
    let unmigrated = refused(&url, Options::new().migrate(false)).await;
    assert!(matches!(unmigrated, OpenError::Behind { .. }), "{unmigrated}");
    assert!(unmigrated.to_string().contains("hallpass migrate"), "{unmigrated}");
    assert_eq!(inspect(&url, &Naming::new()).await.unwrap().pending, migrations());
    assert_eq!(sql(&url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");

    opened(&url).await;
    let insert = "INSERT INTO hallpass_migrations VALUES (2, 'later', decode(repeat('00', 32), 'hex'), 0)";
    sql(&url, insert);
    let newer = refused(&url, Options::new()).await;
    assert!(
        matches!(newer, OpenError::Schema { mismatch: Mismatch::Newer { found: 2, known: 1 }, .. }),
        "{newer}"
    );
    sql(&url, "DELETE FROM hallpass_migrations WHERE version = 2");
    sql(&url, "UPDATE hallpass_migrations SET checksum = decode(repeat('00', 32), 'hex')");
    let changed = refused(&url, Options::new()).await;
    assert!(matches!(changed, OpenError::Schema { mismatch: Mismatch::Changed { .. }, .. }), "{changed}");
    assert!(changed.to_string().contains("changed by hand"), "{changed}");
    assert!(migrate(&url, &Naming::new()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn row_15_the_printed_sql_makes_the_same_schema() {
    for naming in [Naming::new(), Naming::new().schema("auth").unwrap().user_ids(UserIds::Uuid)] {
        let (by_us, by_hand) = (shared().database("by_us").unwrap(), shared().database("by_hand").unwrap());
        migrate(&by_us, &naming).await.unwrap();
        sql(&by_hand, &script(&naming, 0));
        assert_eq!(everything(&by_hand), everything(&by_us));
        let options = Options::new().migrate(false).naming(naming.clone());
        PostgresStore::connect(&by_hand, options).await.unwrap().ready().await.unwrap();
        assert_eq!(migrate(&by_hand, &naming).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_wrong_address_or_database_says_what_to_do() {
    let url = shared().database("address").unwrap();
    let nobody = refused("postgres://hallpass@127.0.0.1:1/x", Options::new()).await;
    assert!(matches!(nobody, OpenError::Unreachable { .. }), "{nobody}");
    assert!(nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
    let (server, _) = url.rsplit_once('/').unwrap();
    let nowhere = refused(&format!("{server}/nowhere"), Options::new()).await;
    assert!(matches!(nowhere, OpenError::NoDatabase { .. }), "{nowhere}");
    assert!(nowhere.to_string().contains("createdb nowhere"), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_wrong_password_is_named_and_not_shown() {
    let server = Postgres::options().password("right").start().unwrap();
    let url = server.database("password").unwrap();
    opened(&url).await;
    for wrong in [url.replacen(":right@", ":hunter2@", 1), url.replacen(":right@", "@", 1)] {
        let error = refused(&wrong, Options::new()).await;
        assert!(matches!(&error, OpenError::Refused { user, .. } if user == "hallpass"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_missing_right_names_the_grant() {
    let url = shared().database("rights").unwrap();
    let admin = as_admin(&url);
    let (_, database) = url.rsplit_once('/').unwrap();
    sql(&admin, &format!("ALTER DATABASE {database} OWNER TO postgres"));

    // To make the tables.
    sql(&admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let no_tables = refused(&url, Options::new()).await.to_string();
    assert!(no_tables.contains("GRANT USAGE, CREATE ON SCHEMA public TO hallpass"), "{no_tables}");
    let in_schema = Options::new().naming(Naming::new().schema("auth").unwrap());
    let no_schema = refused(&url, in_schema.clone()).await.to_string();
    assert!(no_schema.contains(&format!("GRANT CREATE ON DATABASE {database} TO hallpass")), "{no_schema}");
    assert_eq!(sql(&admin, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'hallpass%'"), "0");

    // To look at them.
    migrate(&admin, &Naming::new().schema("auth").unwrap()).await.unwrap();
    let no_look = refused(&url, in_schema).await.to_string();
    assert!(no_look.contains("GRANT USAGE, CREATE ON SCHEMA auth TO hallpass"), "{no_look}");

    // To use them. What the answer says is what it takes.
    migrate(&admin, &Naming::new()).await.unwrap();
    let OpenError::Privilege { grants } = refused(&url, Options::new()).await else {
        panic!("another error")
    };
    assert!(
        grants.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE \"hallpass_tokens\" TO hallpass"),
        "{grants}"
    );
    sql(&admin, &grants);
    let store = opened(&url).await;
    store.ready().await.unwrap();
    let (plain, record) = token("ada");
    store.insert(&plain.hash(), &record, Some(1)).await.unwrap();
    assert_eq!(inspect(&url, &Naming::new()).await.unwrap().missing_grants, Vec::<String>::new());

    // Taken away later.
    sql(&admin, "REVOKE UPDATE ON hallpass_tokens FROM hallpass");
    let unavailable = store.revoke(&plain.hash(), record.created_at).await.unwrap_err();
    assert!(unavailable.to_string().contains("lacks a right"), "{unavailable}");
    let found = inspect(&url, &Naming::new()).await.unwrap();
    assert_eq!(found.missing_grants, ["GRANT UPDATE ON TABLE \"hallpass_tokens\" TO hallpass"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn row_15_tokens_refer_to_the_applications_users() {
    let url = shared().database("users").unwrap();
    sql(&url, "CREATE SCHEMA app; CREATE TABLE app.\"Users\" (\"Id\" bigint PRIMARY KEY)");
    sql(&url, "INSERT INTO app.\"Users\" VALUES (1), (2)");
    let naming = Naming::new().user_ids(UserIds::Integer).users("app.Users", "Id").unwrap();
    let store = PostgresStore::connect(&url, Options::new().naming(naming)).await.unwrap();

    let (plain, record) = token("1");
    store.insert(&plain.hash(), &record, None).await.unwrap();
    let found = find(&store, &plain).await.unwrap().unwrap();
    assert_eq!(found.record, record);
    assert_eq!(store.owner_of(record.id).await.unwrap(), Some(record.user.clone()));

    // A user whom the application does not have, or no longer.
    let (ghost, record_of_ghost) = token("3");
    let verdict = store.insert(&ghost.hash(), &record_of_ghost, None).await;
    assert!(matches!(verdict, Err(InsertError::Ended)), "{verdict:?}");
    let verdict = store.insert(&ghost.hash(), &record_of_ghost, Some(5)).await;
    assert!(matches!(verdict, Err(InsertError::Ended)), "{verdict:?}");
    sql(&url, "DELETE FROM app.\"Users\" WHERE \"Id\" = 1");
    assert!(find(&store, &plain).await.unwrap().is_none());

    // What cannot be anybody's id finds nothing, and writes nothing.
    for text in ["01", "ada", "9223372036854775808"] {
        let (nobody, record) = token(text);
        assert_eq!(store.epoch(&record.user).await.unwrap(), Epoch::default());
        assert!(store.find_by_id(&record.user, record.id).await.unwrap().is_none());
        let unavailable = store.insert(&nobody.hash(), &record, None).await.unwrap_err();
        assert!(unavailable.to_string().contains("64-bit integers"), "{unavailable}");
        assert!(store.revoke_all(&record.user, record.created_at).await.is_err());
    }
    assert_eq!(sql(&url, "SELECT count(*) FROM hallpass_owners"), "0");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn row_15_uuids_are_ids_also_of_built_in_accounts() {
    let url = shared().database("uuids").unwrap();
    let naming = Naming::new().user_ids(UserIds::Uuid);
    let store = PostgresStore::connect(&url, Options::new().naming(naming)).await.unwrap();
    let email = hallpass::EmailAddress::parse("ada@example.com").unwrap();
    let at = Timestamp::from_micros(1);
    let account = Account::new(UserId::random().unwrap(), email.clone(), at);
    store.create(&account, None).await.unwrap();
    let again = Account::new(UserId::random().unwrap(), email, at);
    assert!(matches!(store.create(&again, None).await, Err(CreateError::Conflict)));
    assert_eq!(sql(&url, "SELECT count(*) FROM hallpass_owners"), "1", "half of an account was kept");
    let (plain, record) = token(account.id.as_str());
    store.insert(&plain.hash(), &record, None).await.unwrap();
    assert_eq!(find(&store, &plain).await.unwrap().unwrap().account, Some(account.clone()));
    assert_eq!(store.disable(&account.id, at).await.unwrap(), Some(1));

    let other = refused(&url, Options::new()).await;
    assert!(matches!(&other, OpenError::UserIds { found, wanted: "text", .. } if found == "uuid"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn the_audit_trail_cannot_be_changed() {
    let url = shared().database("audit").unwrap();
    opened(&url).await;
    for change in
        ["UPDATE hallpass_audit SET at = 0", "DELETE FROM hallpass_audit", "TRUNCATE hallpass_audit"]
    {
        let refused = Postgres::sql_at(&url, change).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_value_that_nobody_wrote_is_unavailable() {
    let url = shared().database("corrupt").unwrap();
    let store = opened(&url).await;
    for change in ["scopes = 'a\"b'", "meta = '{\"a\": 1e999}'"] {
        let (plain, record) = token("ada");
        store.insert(&plain.hash(), &record, None).await.unwrap();
        sql(&url, &format!("UPDATE hallpass_tokens SET {change} WHERE id = '{}'", record.id));
        let unavailable = find(&store, &plain).await.unwrap_err();
        assert!(unavailable.to_string().contains("cannot be read"), "{unavailable}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_meta_of_64_kib_is_kept() {
    let store = opened(&shared().database("meta").unwrap()).await;
    let (plain, mut record) = token("ada");
    record.meta.insert("pad".to_owned(), "x".repeat(65_536).into());
    store.insert(&plain.hash(), &record, None).await.unwrap();
    assert_eq!(find(&store, &plain).await.unwrap().unwrap().record, record);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn tables_of_two_applications_live_side_by_side() {
    let url = shared().database("two").unwrap();
    let other = Naming::new().prefix("other_").unwrap().table(Table::Migrations, "done").unwrap();
    let (a, b) =
        (opened(&url).await, PostgresStore::connect(&url, Options::new().naming(other)).await.unwrap());
    let (plain, record) = token("ada");
    a.insert(&plain.hash(), &record, None).await.unwrap();
    assert!(find(&a, &plain).await.unwrap().is_some());
    assert!(find(&b, &plain).await.unwrap().is_none());
}
