//! The schema's migrations, and running them.

use std::time::Duration;

use hallpass::{
    Clock, SystemClock, Timestamp,
    migration::{Applied, Migration, pending},
    naming::{Naming, Table, UserIds},
};
use tokio_postgres::{
    Error, Row,
    error::SqlState,
    types::{ToSql, Type},
};

use crate::{
    Options,
    connector::Connector,
    error::{OpenError, cause},
    link::{Deadline, Link},
    statements::DIALECT,
    target::Target,
};

static MIGRATIONS: [Migration; 1] = [Migration::new(1, "first", include_str!("migrations/0001_first.sql"))];

/// `AS MATERIALIZED`, `INCLUDE`, and identity columns that need no right of their own.
const SERVER_NEEDED: u32 = 12;

/// So long whoever opens or migrates a database waits for a connection, and for another who migrates.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever migrates holds this lock. One for all schemas of a database: two at once are rare, and in a hurry never.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7166182930)";
/// Above, a wait that ends in an error and not in a hang.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = 5000";

/// Where it is noted what was run. It is made in the first migration's transaction.
const CREATE_NOTES: &str = "
CREATE TABLE IF NOT EXISTS {migrations} (
    version    integer NOT NULL CONSTRAINT {.migrations_key} PRIMARY KEY CHECK (version > 0),
    name       text    NOT NULL,
    -- SHA-256 of the template that was run.
    checksum   bytea   NOT NULL CHECK (octet_length(checksum) = 32),
    -- Microseconds since 1970-01-01T00:00:00Z.
    applied_at bigint  NOT NULL
)";
/// Read from a table, whichever: only that makes a session hear of what others made since its transaction began.
const HAS_NOTES: &str = "SELECT to_regclass($1) IS NOT NULL FROM pg_class WHERE relname = 'pg_class'";
const NOTES: &str = "SELECT version, checksum FROM {migrations}";
const NOTE: &str = "INSERT INTO {migrations} (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";

const HAS_SCHEMA: &str = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
const USER_ID_TYPE: &str = "
    SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'user_id'";

/// What the store does to each table.
const RIGHTS: [(Table, &str); 5] = [
    (Table::Tokens, "SELECT, INSERT, UPDATE, DELETE"),
    (Table::Owners, "SELECT, INSERT, UPDATE"),
    (Table::Accounts, "SELECT, INSERT, UPDATE, DELETE"),
    (Table::Audit, "SELECT, INSERT"),
    (Table::Migrations, "SELECT"),
];
const MISSING_RIGHTS: &str = "
    SELECT format('GRANT %s ON TABLE %s TO %I', string_agg(wanted, ', ' ORDER BY place), name, current_user)
    FROM unnest($1, $2) AS needed (name, rights),
         unnest(string_to_array(rights, ', ')) WITH ORDINALITY AS one (wanted, place)
    WHERE NOT has_table_privilege(name, wanted)
    GROUP BY name ORDER BY name";
/// Why something could not be made, or looked at: `$1` is the schema, or NULL for the default one.
const MISSING_RIGHTS_TO_MIGRATE: &str = "
    WITH place AS (SELECT coalesce($1, current_schema()) AS name)
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = name)
            THEN format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
        WHEN NOT has_schema_privilege(name, 'USAGE') OR NOT has_schema_privilege(name, 'CREATE')
            THEN format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', name, current_user)
        END
    FROM place";

const INSPECT: &str = "
    SELECT current_setting('server_version'), current_setting('fsync')::boolean,
           current_setting('full_page_writes')::boolean, current_setting('synchronous_commit'),
           current_setting('transaction_read_only')::boolean,
           (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
           coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";

/// The migrations that this program has, first to last. Their SQL is a template; see [`script`].
#[must_use]
pub fn migrations() -> &'static [Migration] {
    &MIGRATIONS
}

/// The SQL of all migrations after number `after` (0 for all), with the names filled in: for those who run their own
/// migration tool. Each is a transaction, and notes that it was run, so that a store finds the schema up to date.
///
/// ```
/// use hallpass::naming::Naming;
/// let sql = hallpass_postgres::script(&Naming::new().prefix("acme_")?, 0);
/// assert!(sql.contains("CREATE TABLE \"acme_tokens\""));
/// # Ok::<(), hallpass::Invalid>(())
/// ```
#[must_use]
pub fn script(naming: &Naming, after: u32) -> String {
    let mut script = String::new();
    for migration in MIGRATIONS.iter().filter(|migration| migration.version() > after) {
        let checksum = migration.checksum().map(|byte| format!("{byte:02x}")).concat();
        let lines = [
            format!("-- Hallpass, migration {migration}"),
            "BEGIN;".to_owned(),
            naming
                .chosen_schema()
                .map_or_else(String::new, |schema| format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";")),
            format!("{};", naming.fill(CREATE_NOTES, &DIALECT).trim_start()),
            naming.fill(migration.sql(), &DIALECT),
            naming.fill("INSERT INTO {migrations} (version, name, checksum, applied_at)", &DIALECT),
            format!(
                "VALUES ({}, '{}', '\\x{checksum}', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);",
                migration.version(),
                migration.name(),
            ),
            "COMMIT;\n".to_owned(),
        ];
        script.push_str(&lines.join("\n"));
    }
    script
}

/// Brings a database up to date and says which migrations it ran. Waits five seconds for others who do the same. Any number of
/// processes may do this at once; a migration that is interrupted leaves nothing behind.
///
/// # Errors
/// The database cannot be had, its schema is not one that this program made, or the user lacks a right.
pub async fn migrate(url: &str, naming: &Naming) -> Result<Vec<Migration>, OpenError> {
    Visit::begin(url, naming).await?.apply(&MIGRATIONS).await
}

/// Looks at a database and changes nothing.
///
/// # Errors
/// The database cannot be had, or its schema is not one that this program made.
pub async fn inspect(url: &str, naming: &Naming) -> Result<Inspection, OpenError> {
    let visit = Visit::begin(url, naming).await?;
    let left = visit.left(&MIGRATIONS).await?;
    let missing_grants = if left.is_empty() { visit.missing_rights().await? } else { Vec::new() };
    let rows = visit.ask(INSPECT, &[]).await?;
    let row = rows.first().ok_or_else(|| visit.other("no answer to a question"))?;
    let read = || -> Result<Inspection, Error> {
        Ok(Inspection {
            pending: left,
            missing_grants,
            server_version: row.try_get(0)?,
            fsync: row.try_get(1)?,
            full_page_writes: row.try_get(2)?,
            synchronous_commit: row.try_get(3)?,
            read_only: row.try_get(4)?,
            clock: Timestamp::from_micros(row.try_get(5)?),
            encrypted: row.try_get(6)?,
            local: visit.target.local,
        })
    };
    read().map_err(|error| visit.failed(&error))
}

/// What [`inspect`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a finding of its own, to be told by itself")]
pub struct Inspection {
    /// The migrations that were not run yet.
    pub pending: &'static [Migration],
    /// Statements that would give the user the rights it lacks. Looked at if no migration is pending.
    pub missing_grants: Vec<String>,
    /// As the server says it: `15.14`.
    pub server_version: String,
    /// Whether the server waits for the disk at all. If not, nothing survives a crash of its machine.
    pub fsync: bool,
    /// Whether a page that was written by half is mended after a crash of the machine.
    pub full_page_writes: bool,
    /// What a commit waits for, by default. Ours wait for the disk at least.
    pub synchronous_commit: String,
    /// Whether the server takes no writes: a replica, or one that was set so.
    pub read_only: bool,
    /// What time it is there.
    pub clock: Timestamp,
    /// Whether the connection is encrypted; behind a pooler, the pooler's own.
    pub encrypted: bool,
    /// Whether the connection does not leave this machine.
    pub local: bool,
}

/// A connection to look at the schema, and to change it.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    link: Link,
    target: Target,
    naming: &'a Naming,
}

impl<'a> Visit<'a> {
    async fn begin(url: &str, naming: &'a Naming) -> Result<Self, OpenError> {
        let options = Options::command_line();
        Self::over(&Connector::new(Target::parse(url)?, naming.chosen_user_ids(), options.patience), naming)
            .await
    }

    /// With a connection of its own.
    pub(crate) async fn over(connector: &Connector, naming: &'a Naming) -> Result<Self, OpenError> {
        let target = connector.target().clone();
        let link = match Deadline::after(PATIENCE).limit(connector.connect()).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return Err(not_connected(&target, &error)),
            Err(_) => {
                let cause = "no answer within five seconds".to_owned();
                return Err(OpenError::Unreachable { server: target.server, cause });
            }
        };
        let visit = Self { link, target, naming };
        visit.check_version().await?;
        Ok(visit)
    }

    async fn check_version(&self) -> Result<(), OpenError> {
        let rows = self.ask("SELECT current_setting('server_version_num')", &[]).await?;
        let number: String = self.first(&rows)?;
        let number: u32 = number.parse().unwrap_or_default();
        if number >= SERVER_NEEDED * 10_000 {
            return Ok(());
        }
        let found = format!("{}.{}", number / 10_000, number % 10_000);
        Err(OpenError::OldServer { server: self.target.server.clone(), found, needed: SERVER_NEEDED })
    }

    /// Refuses a database that is not up to date, that has other user ids, or whose user lacks a right.
    pub(crate) async fn check(&self) -> Result<(), OpenError> {
        if !self.left(&MIGRATIONS).await?.is_empty() {
            return Err(OpenError::Behind { database: self.target.database.clone() });
        }
        let wanted = match self.naming.chosen_user_ids() {
            UserIds::Integer => "bigint",
            UserIds::Uuid => "uuid",
            _ => "text",
        };
        let tokens = self.fill("{tokens}");
        let found: String = self.first(&self.ask(USER_ID_TYPE, &[(&tokens, Type::TEXT)]).await?)?;
        if found != wanted {
            let database = self.target.database.clone();
            return Err(OpenError::UserIds { database, found, wanted });
        }
        let missing = self.missing_rights().await?;
        if missing.is_empty() { Ok(()) } else { Err(OpenError::Privilege { grants: missing.join("; ") }) }
    }

    async fn missing_rights(&self) -> Result<Vec<String>, OpenError> {
        let names: Vec<_> =
            RIGHTS.iter().map(|(table, _)| self.fill(&format!("{{{}}}", table.word()))).collect();
        let rights: Vec<_> = RIGHTS.iter().map(|(_, rights)| *rights).collect();
        let needed: [(&(dyn ToSql + Sync), Type); 2] =
            [(&names, Type::TEXT_ARRAY), (&rights, Type::TEXT_ARRAY)];
        let rows = self.ask(MISSING_RIGHTS, &needed).await?;
        let grants = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        grants.map_err(|error| self.failed(&error))
    }

    /// Runs what is left of `known`, each in a transaction of its own, and says which ran here.
    pub(crate) async fn apply(&self, known: &[Migration]) -> Result<Vec<Migration>, OpenError> {
        let mut ran = Vec::new();
        // The first look takes no lock, so that whoever has nothing to do waits for nobody.
        while !self.left(known).await?.is_empty() {
            let step = self.apply_next(known).await;
            if !matches!(step, Ok(Some(_))) {
                // A failure here was a failure before.
                let _ = self.link.client.batch_execute("ROLLBACK").await;
            }
            match step? {
                Some(migration) => ran.push(migration),
                None => break,
            }
        }
        Ok(ran)
    }

    async fn apply_next(&self, known: &[Migration]) -> Result<Option<Migration>, OpenError> {
        let client = &self.link.client;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; {LOCK_WAIT}; {LOCK}"
        );
        client.batch_execute(&begin).await.map_err(|error| self.failed(&error))?;
        // The second look is under the lock: another process may have run it meanwhile.
        let Some(next) = self.left(known).await?.first() else { return Ok(None) };
        let run = async {
            if let Some(schema) = self.naming.chosen_schema() {
                let rows = client.query_typed(HAS_SCHEMA, &[(&schema, Type::TEXT)]).await?;
                // `IF NOT EXISTS` asks for the right to make one even if there is one.
                if !rows.first().is_some_and(|row| row.try_get(0).unwrap_or_default()) {
                    client.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?;
                }
            }
            client.batch_execute(&self.fill(CREATE_NOTES)).await?;
            client.batch_execute(&self.fill(next.sql())).await?;
            let version = i32::try_from(next.version()).unwrap_or(i32::MAX);
            let (checksum, now) = (next.checksum(), SystemClock.now().as_micros());
            let note: [(&(dyn ToSql + Sync), Type); 4] = [
                (&version, Type::INT4),
                (&next.name(), Type::TEXT),
                (&checksum.as_slice(), Type::BYTEA),
                (&now, Type::INT8),
            ];
            client.query_typed(&self.fill(NOTE), &note).await?;
            client.batch_execute("COMMIT").await
        };
        match run.await {
            Ok(()) => Ok(Some(*next)),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let _ = client.batch_execute("ROLLBACK").await;
                Err(self.lacks_a_right(&error).await)
            }
            Err(error) => Err(OpenError::Migration {
                database: self.target.database.clone(),
                migration: next.to_string(),
                cause: cause(&error),
            }),
        }
    }

    async fn left<'k>(&self, known: &'k [Migration]) -> Result<&'k [Migration], OpenError> {
        let notes = self.fill("{migrations}");
        let has_notes = match self.link.client.query_typed(HAS_NOTES, &[(&notes, Type::TEXT)]).await {
            Ok(rows) => self.first(&rows)?,
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                return Err(self.lacks_a_right(&error).await);
            }
            Err(error) => return Err(self.failed(&error)),
        };
        let mut applied = Vec::new();
        if has_notes {
            let rows = match self.link.client.query_typed(&self.fill(NOTES), &[]).await {
                Ok(rows) => rows,
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    return Err(OpenError::Privilege { grants: self.missing_rights().await?.join("; ") });
                }
                Err(error) => return Err(self.failed(&error)),
            };
            for row in rows {
                let read =
                    || Ok(Applied { version: row.try_get::<_, i32>(0)?.into(), checksum: row.try_get(1)? });
                applied.push(read().map_err(|error: Error| self.failed(&error))?);
            }
        }
        let database = self.target.database.clone();
        pending(known, &applied).map_err(|mismatch| OpenError::Schema { database, mismatch })
    }

    async fn lacks_a_right(&self, error: &Error) -> OpenError {
        let schema = self.naming.chosen_schema();
        let asked = self.ask(MISSING_RIGHTS_TO_MIGRATE, &[(&schema, Type::TEXT)]).await;
        let grants = asked.ok().and_then(|rows| rows.first()?.try_get::<_, Option<String>>(0).ok()?);
        match grants {
            Some(grants) => OpenError::Privilege { grants },
            // A table of the application's, perhaps: the server names it.
            None => self.failed(error),
        }
    }

    async fn ask(&self, sql: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, OpenError> {
        self.link.client.query_typed(sql, values).await.map_err(|error| self.failed(&error))
    }

    fn first<T: for<'t> tokio_postgres::types::FromSql<'t>>(&self, rows: &[Row]) -> Result<T, OpenError> {
        let row = rows.first().ok_or_else(|| self.other("no answer to a question"))?;
        row.try_get(0).map_err(|error| self.failed(&error))
    }

    fn fill(&self, template: &str) -> String {
        self.naming.fill(template, &DIALECT)
    }

    fn failed(&self, error: &Error) -> OpenError {
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => OpenError::Busy { database: self.target.database.clone() },
            _ => self.other(cause(error)),
        }
    }

    fn other(&self, cause: impl Into<String>) -> OpenError {
        OpenError::Other { database: self.target.database.clone(), cause: cause.into() }
    }
}

fn not_connected(target: &Target, error: &Error) -> OpenError {
    let Target { server, database, user, .. } = target.clone();
    let text = cause(error);
    match error.code() {
        Some(&SqlState::INVALID_CATALOG_NAME) => OpenError::NoDatabase { server, database },
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            OpenError::Refused { server, user, cause: text }
        }
        Some(_) => OpenError::Other { database, cause: text },
        None if text.starts_with("error performing TLS handshake") => OpenError::Tls { server, cause: text },
        None if text.contains("password") => OpenError::Refused { server, user, cause: text },
        None => OpenError::Unreachable { server, cause: text },
    }
}
