//! Databases full of tokens.

use std::{path::Path, time::Instant};

use hallpass::{Clock, PlainToken, Purpose, SystemClock};
use hallpass_sqlite::SqliteStore;
use rusqlite::{Connection, params};

/// How many accounts share the tokens.
const ACCOUNTS: u64 = 50_000;

/// Makes a database of `count` living tokens and returns up to `known` of them as their holders have them.
///
/// The rows are written by SQL of our own, hundreds of thousands a second, in the very form in which the store writes
/// them: at the end some are verified by a guard.
pub(crate) fn fill(path: &Path, count: u64, known: u64) -> Vec<PlainToken> {
    let begin = Instant::now();
    drop(SqliteStore::open(path, hallpass_sqlite::Options::default()).expect("a new database"));
    let mut connection = Connection::open(path).expect("the database");
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000;").expect("settings");
    let indexes = drop_indexes(&connection);
    let (purpose, now) = (Purpose::api(), SystemClock.now().as_micros());
    let mut tokens = Vec::new();
    let transaction = connection.transaction().expect("a transaction");
    {
        let mut owner = transaction
            .prepare("INSERT INTO hallpass_owners (user_id, epoch, swept_epoch) VALUES (?1, 0, 0)")
            .expect("the table as we know it");
        let mut account = transaction
            .prepare(
                "INSERT INTO hallpass_accounts (id, email, grants, created_at, confirmed_at)
                 VALUES (?1, ?2, '', ?3, ?3)",
            )
            .expect("the table as we know it");
        for number in 0..ACCOUNTS {
            owner.execute([user(number)]).expect("an owner");
            account.execute(params![user(number), email(number), now]).expect("an account");
        }
        let mut insert = transaction
            .prepare(
                "INSERT INTO hallpass_tokens (hash, id, user_id, epoch, purpose, origin, name, hint, scopes, meta, bound_to, created_at, expires_at)
                 VALUES (?1, ?2, ?3, 0, 'api', 'issued', ?4, ?5, '*', '{}', ?6, ?7, ?8)",
            )
            .expect("the table as we know it");
        for number in 0..count {
            // Spread over all rows, so that look-ups go everywhere.
            let keep = number % count.div_ceil(known).max(1) == 0;
            let (hash, hint) = if keep {
                let token = PlainToken::generate(&purpose).expect("randomness");
                let row = (*token.hash().as_bytes(), token.hint());
                tokens.push(token);
                row
            } else {
                (random(number), "hp_...0000".to_owned())
            };
            let id = &random(!number)[..16];
            let owner = number % ACCOUNTS;
            let created = now + i64::try_from(number).expect("a small number");
            insert
                .execute(params![
                    hash.as_slice(),
                    id,
                    user(owner),
                    format!("token {number}"),
                    hint,
                    email(owner),
                    created,
                    created + 31_536_000_000_000_i64
                ])
                .expect("a row");
        }
    }
    transaction.commit().expect("a commit");
    for sql in indexes {
        connection.execute_batch(&sql).expect("an index");
    }
    connection.execute_batch("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE);").expect("a checkpoint");
    eprintln!("  filled {} with {count} tokens in {:.0?}", path.display(), begin.elapsed());
    tokens
}

fn user(number: u64) -> String {
    format!("0190a1b2-0000-4000-8000-{number:012}")
}

fn email(number: u64) -> String {
    format!("user-{number}@example.com")
}

/// Indexes that can be made anew when all rows are there, which is faster.
fn drop_indexes(connection: &Connection) -> Vec<String> {
    let mut list = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'hallpass_tokens' AND sql IS NOT NULL")
        .expect("the schema");
    let rows = list
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .expect("the indexes");
    let rows: Vec<_> = rows.map(|row| row.expect("an index")).collect();
    for (name, _) in &rows {
        connection.execute_batch(&format!("DROP INDEX {name}")).expect("the index goes");
    }
    rows.into_iter().map(|(_, sql)| sql).collect()
}

/// 32 bytes that look random, without asking for randomness ten million times.
pub(crate) fn random(number: u64) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(number.to_le_bytes()).into()
}
