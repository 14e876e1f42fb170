//! The schema's migrations, and running them.
//!
//! MySQL and MariaDB commit each statement that changes a schema by itself, so a migration cannot be undone as a whole.
//! Instead each of its statements can be run again, and it is noted as run when all of them were.

use std::fmt::Write as _;

use hallpass::{
    Clock, SystemClock, Unavailable,
    migration::{Applied, Migration, pending},
    naming::{Naming, Table},
};
use mysql_async::{Error, Value};
use sha2::{Digest, Sha256};

use crate::{
    Options,
    columns::{Columns, bytes, hex, text},
    connection::{Address, Connection},
    error::{OpenError, corrupt},
    user_ids::Ids,
};

/// So long whoever migrates waits for another who does.
const LOCK_SECONDS: i64 = 30;

static MIGRATIONS: [Migration; 1] = [Migration::new(1, "first", include_str!("migrations/0001_first.sql"))];

/// Where it is noted what was run. Made after the first migration's own tables: a user who may not make those leaves nothing
/// behind.
const CREATE_NOTES: &str = "
CREATE TABLE IF NOT EXISTS {migrations} (
    version    INT UNSIGNED NOT NULL PRIMARY KEY,
    name       VARCHAR(100) NOT NULL,
    -- SHA-256 of the SQL, before names were filled in.
    checksum   BINARY(32)   NOT NULL,
    -- Microseconds since 1970-01-01T00:00:00Z.
    applied_at BIGINT       NOT NULL
) ENGINE = InnoDB, CHARACTER SET = utf8mb4, COLLATE = utf8mb4_bin;
";
const NOTES: &str = "SELECT version, checksum FROM {migrations}";
/// A cluster's nodes do not see each other's lock; then two may note the same.
const NOTE: &str = "
    INSERT INTO {migrations} (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)
    ON DUPLICATE KEY UPDATE version = version";
const NO_SUCH_TABLE: u16 = 1146;

const LOCK: &str = "SELECT GET_LOCK(?, ?)";
const UNLOCK: &str = "SELECT RELEASE_LOCK(?)";
const DATABASE: &str = "SELECT DATABASE()";

const ENGINES: &str = "
    SELECT table_name, engine FROM information_schema.tables
    WHERE table_schema = COALESCE(?, DATABASE()) AND table_name IN (?, ?, ?, ?)";
const DURABILITY: &str = "SELECT @@GLOBAL.innodb_doublewrite, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog";
const CIPHER: &str = "SHOW SESSION STATUS LIKE 'Ssl_cipher'";
const CLOCK: &str = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)";

/// The migrations that this program has, first to last. Their SQL has places for the names; [`script`] fills them.
#[must_use]
pub fn migrations() -> &'static [Migration] {
    &MIGRATIONS
}

/// All migrations as SQL with the names filled in, for whoever runs a migration tool of their own. It notes itself as run, and may
/// be run again.
///
/// # Errors
/// The options do not go together.
pub fn script(options: &Options) -> Result<String, OpenError> {
    let plan = Plan::new(options, &MIGRATIONS)?;
    let mut sql = String::new();
    for migration in plan.known {
        // Writing to a String does not fail.
        let _ = writeln!(sql, "-- {migration}\n");
        sql.push_str(&plan.fill(migration.sql()));
        sql.push_str(&plan.fill(CREATE_NOTES));
        let note = plan.fill("INSERT IGNORE INTO {migrations} (version, name, checksum, applied_at)");
        let checksum = hex(&migration.checksum());
        let _ = writeln!(
            sql,
            "{note}\n    VALUES ({}, '{}', UNHEX('{checksum}'), CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED));",
            migration.version(),
            migration.name(),
        );
    }
    Ok(sql)
}

/// Brings the database up to date and says which migrations it ran. Waits 30 seconds for others who do the same. Any number of
/// processes may do this at once; one that is killed is followed up by the next.
///
/// # Errors
/// The database cannot be had, or its schema is not one that this program made.
pub async fn migrate(url: &str, options: &Options) -> Result<Vec<Migration>, OpenError> {
    let address = Address::parse(url, options)?;
    apply(&address, &Plan::new(options, &MIGRATIONS)?).await
}

/// Looks at a database and changes nothing.
///
/// # Errors
/// The database cannot be had, or its schema is not one that this program made.
pub async fn inspect(url: &str, options: &Options) -> Result<Inspection, OpenError> {
    let address = Address::parse(url, options)?;
    let plan = Plan::new(options, &MIGRATIONS)?;
    let mut connection = address.connect_patiently().await?;
    let left = plan.left(&mut connection, &address).await?;
    let before = SystemClock.now();
    let now = connection.ask(CLOCK).await.map_err(|error| address.failed(error))?;
    // The database's answer lies between the two.
    let here = before.as_micros().midpoint(SystemClock.now().as_micros());
    let there = now.and_then(|row| Columns::new(row).maybe_number("clock").ok()?).unwrap_or(here);
    let durability = connection.ask(DURABILITY).await.map_err(|error| address.failed(error))?;
    let cipher = connection.ask(CIPHER).await.map_err(|error| address.failed(error))?;
    let read = || -> Result<_, Unavailable> {
        let mut columns = Columns::new(durability.ok_or_else(|| corrupt("setting"))?);
        let doublewrite = columns.text("innodb_doublewrite")?;
        let has_binlog = columns.number::<i64>("log_bin")? != 0;
        let sync_binlog: i64 = columns.number("sync_binlog")?;
        let cipher = cipher.map(|row| {
            let mut columns = Columns::new(row);
            columns.value();
            columns.maybe_text("Ssl_cipher")
        });
        let encrypted = cipher.transpose()?.flatten().is_some_and(|cipher| !cipher.is_empty());
        Ok((doublewrite, has_binlog.then_some(sync_binlog), encrypted))
    };
    let (doublewrite, sync_binlog, encrypted) = read()
        .map_err(|error| OpenError::Other { server: address.server().to_owned(), source: error.into() })?;
    let server = connection.server().clone();
    connection.close().await;
    Ok(Inspection {
        doublewrite: ["1", "ON"].contains(&doublewrite.as_str()),
        sync_binlog,
        encrypted,
        local: address.is_local(),
        pending: left,
        version: server.version,
        flush_log_at_trx_commit: server.flush,
        read_only: server.read_only,
        clock_ahead_micros: there.saturating_sub(here),
    })
}

/// What [`inspect`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a finding of its own, to be told by itself")]
pub struct Inspection {
    /// The migrations that were not run yet.
    pub pending: &'static [Migration],
    /// What the server calls its version.
    pub version: String,
    /// `innodb_flush_log_at_trx_commit`. 1 (and MariaDB's 3): what is acknowledged is on the disk. 2: it is with the operating
    /// system, and survives the end of the server, but up to a second of it not the end of the machine. 0: it survives neither.
    pub flush_log_at_trx_commit: u8,
    /// Whether the server takes no changes: tokens are verified, and nothing else.
    pub read_only: bool,
    /// Whether a page that was written by half is mended after a crash of the machine (`innodb_doublewrite`).
    pub doublewrite: bool,
    /// `sync_binlog`, if there is a binary log. With 0 the log may lack, after a crash of the machine, what was acknowledged.
    pub sync_binlog: Option<i64>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Whether the connection does not leave this machine.
    pub local: bool,
    /// How far the server's clock is ahead of ours, in microseconds; negative if it is behind.
    pub clock_ahead_micros: i64,
}

/// What is to be run, under which names.
pub(crate) struct Plan<'a> {
    naming: &'a Naming,
    ids: Ids,
    known: &'static [Migration],
}

impl<'a> Plan<'a> {
    pub(crate) fn new(options: &'a Options, known: &'static [Migration]) -> Result<Self, OpenError> {
        Ok(Self { naming: &options.naming, ids: Ids::new(&options.naming, options.user_id_column)?, known })
    }

    /// With all that this program has.
    pub(crate) fn whole(options: &'a Options) -> Result<Self, OpenError> {
        Self::new(options, &MIGRATIONS)
    }

    fn fill(&self, template: &str) -> String {
        self.ids.fill(self.naming, template)
    }

    /// Refuses a table without transactions: it may have been there before us, or been changed since.
    pub(crate) async fn check_engines(
        &self,
        connection: &mut Connection,
        address: &Address,
    ) -> Result<(), OpenError> {
        let mut values = vec![text(self.naming.chosen_schema())];
        for table in [Table::Tokens, Table::Owners, Table::Accounts, Table::Audit] {
            values.push(bytes(self.naming.name(table)));
        }
        let rows = connection.ask_with(ENGINES, values).await.map_err(|error| address.failed(error))?;
        for row in rows {
            let mut columns = Columns::new(row);
            let read = (columns.text("table_name"), columns.maybe_text("engine"));
            let (Ok(table), Ok(engine)) = read else { continue };
            let engine = engine.unwrap_or_else(|| "none".to_owned());
            if engine != "InnoDB" {
                return Err(OpenError::Engine { server: address.server().to_owned(), table, engine });
            }
        }
        Ok(())
    }

    /// What was not run yet.
    pub(crate) async fn left(
        &self,
        connection: &mut Connection,
        address: &Address,
    ) -> Result<&'static [Migration], OpenError> {
        let applied = match connection.ask_with(&self.fill(NOTES), Vec::new()).await {
            Err(Error::Server(error)) if error.code == NO_SUCH_TABLE => Vec::new(),
            Err(error) => return Err(address.failed(error)),
            Ok(rows) => rows
                .into_iter()
                .map(|row| {
                    let mut columns = Columns::new(row);
                    let version = columns.number("version")?;
                    Ok(Applied { version, checksum: columns.bytes::<32>("checksum")?.to_vec() })
                })
                .collect::<Result<_, Unavailable>>()
                .map_err(|error| other(address, error))?,
        };
        pending(self.known, &applied)
            .map_err(|mismatch| OpenError::Schema { server: address.server().to_owned(), mismatch })
    }

    /// What a migration does, statement by statement.
    fn statements(&self, migration: &Migration) -> Vec<String> {
        let mut all = split(&self.fill(migration.sql()));
        all.extend(split(&self.fill(CREATE_NOTES)));
        all
    }

    /// The lock's name: that of the place where the notes are. The server has one set of names for all databases.
    async fn lock_name(&self, connection: &mut Connection) -> mysql_async::Result<String> {
        let mut schema = self.naming.chosen_schema().map(str::to_owned);
        if schema.is_none() {
            let row = connection.ask(DATABASE).await?;
            schema = row.and_then(|row| Columns::new(row).text("database").ok());
        }
        let schema = schema.unwrap_or_default();
        let place = Sha256::digest(format!("{schema}.{}", self.naming.name(Table::Migrations)));
        // A name has 64 characters at most.
        let place: String = hex(&place).chars().take(32).collect();
        Ok(format!("hallpass migrates {place}"))
    }
}

/// Runs what is left, and says which ran here.
pub(crate) async fn apply(address: &Address, plan: &Plan<'_>) -> Result<Vec<Migration>, OpenError> {
    let mut connection = address.connect_patiently().await?;
    // The first look takes no lock, so that whoever has nothing to do waits for nobody.
    if plan.left(&mut connection, address).await?.is_empty() {
        connection.close().await;
        return Ok(Vec::new());
    }
    let failed = |error| address.failed(error);
    let name = plan.lock_name(&mut connection).await.map_err(failed)?;
    let locked = connection.ask_with(LOCK, vec![bytes(&name), Value::Int(LOCK_SECONDS)]).await;
    let locked = locked.map_err(failed)?.into_iter().next();
    if locked.and_then(|row| Columns::new(row).maybe_number("lock").ok()?) != Some(1) {
        return Err(OpenError::Busy { server: address.server().to_owned() });
    }
    // The second look is under the lock: another process may have run it meanwhile.
    let left = plan.left(&mut connection, address).await?;
    for migration in left {
        run(&mut connection, plan, migration).await.map_err(|error| explain(address, migration, error))?;
    }
    // A connection that ends gives it back as well.
    drop(connection.ask_with(UNLOCK, vec![bytes(&name)]).await);
    connection.close().await;
    Ok(left.to_vec())
}

async fn run(connection: &mut Connection, plan: &Plan<'_>, migration: &Migration) -> mysql_async::Result<()> {
    for statement in plan.statements(migration) {
        connection.run(&statement).await?;
    }
    let values = vec![
        Value::UInt(migration.version().into()),
        bytes(migration.name()),
        bytes(migration.checksum()),
        Value::Int(SystemClock.now().as_micros()),
    ];
    connection.ask_with(&plan.fill(NOTE), values).await.map(drop)
}

/// A missing right is told as such; anything else is the migration's.
fn explain(address: &Address, migration: &Migration, error: Error) -> OpenError {
    match address.failed(error) {
        OpenError::Other { server, source } => {
            OpenError::Migration { server, migration: migration.to_string(), source }
        }
        known => known,
    }
}

fn other(address: &Address, error: Unavailable) -> OpenError {
    OpenError::Other { server: address.server().to_owned(), source: error.into() }
}

/// The statements of a text in which each ends at the end of a line, and a comment has a line of its own.
fn split(sql: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    for line in sql.lines().filter(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty()) {
        let (part, ends) = line.trim_end().strip_suffix(';').map_or((line, false), |part| (part, true));
        if let Some(statement) = statements.last_mut() {
            statement.push_str(part);
            statement.push('\n');
        }
        if ends {
            statements.push(String::new());
        }
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_into_statements_without_its_comments() {
        let sql = "-- one; two\nCREATE TABLE a (\n    -- a column;\n    b INT\n);\n\nDROP TABLE c;\n-- end";
        assert_eq!(split(sql), ["CREATE TABLE a (\n    b INT\n)\n", "DROP TABLE c\n"]);
    }

    #[test]
    fn every_statement_of_every_migration_can_be_run_again() {
        let options = Options::new();
        let plan = Plan::whole(&options).unwrap();
        for migration in migrations() {
            for statement in plan.statements(migration) {
                assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS `"), "{statement}");
                assert!(statement.contains("ENGINE = InnoDB"), "{statement}");
                assert!(!statement.contains('{'), "a place was not filled: {statement}");
            }
        }
    }

    #[test]
    fn the_printed_sql_has_the_chosen_names_and_notes_itself() {
        let naming = Naming::new().schema("auth").unwrap().prefix("acme_").unwrap();
        let naming = naming.users("app.users", "id").unwrap();
        let printed = script(&Options::new().naming(naming)).unwrap();
        assert!(printed.contains("CREATE TABLE IF NOT EXISTS `auth`.`acme_tokens`"));
        assert!(printed.contains("REFERENCES `app`.`users` (`id`) ON DELETE CASCADE"));
        assert!(printed.contains("INSERT IGNORE INTO `auth`.`acme_migrations`"));
        assert!(!printed.contains("hallpass_"), "{printed}");
    }
}
