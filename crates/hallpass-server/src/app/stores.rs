//! The stores, opened from the settings.

use std::sync::Arc;

use hallpass::{TokenStore, account::AccountStore, audit::AuditStore};
use hallpass_mysql::MysqlStore;
use hallpass_postgres::PostgresStore;
use hallpass_redis::RedisStore;
use hallpass_sqlite::SqliteStore;

use super::{
    Opening, failures,
    place::{self, Kind},
};
use crate::{config::Settings, failure::Failure};

/// So long a person at a terminal waits for Redis, as for the databases.
const COMMAND_LINE_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Where tokens, accounts and the audit trail are kept.
pub(super) struct Stores {
    pub(super) tokens: Arc<dyn TokenStore>,
    pub(super) accounts: Arc<dyn AccountStore>,
    pub(super) audit: Arc<dyn AuditStore>,
}

impl Stores {
    pub(super) async fn open(settings: &Settings, opening: Opening) -> Result<Self, Failure> {
        let setting = &settings.database;
        let (is_server, migrates) = (opening == Opening::Server, opening != Opening::CommandLine);
        // Both are looked at before either is touched.
        let (kind, redis) = (Kind::of(setting)?, place::token_store(&settings.token_store)?);
        match kind {
            Kind::Sqlite => {
                use hallpass_sqlite::Options;
                let options = if is_server { Options::new() } else { Options::command_line() };
                let path = place::sqlite_path(setting)?;
                let opened = SqliteStore::open(path, options.migrate(migrates));
                let store = opened.map_err(|error| failures::sqlite(&error))?;
                Self::of(store, redis, settings, is_server).await
            }
            Kind::Postgres => {
                use hallpass_postgres::Options;
                let options = if is_server { Options::new() } else { Options::command_line() };
                let opened = PostgresStore::connect(&setting.value, options.migrate(migrates)).await;
                let store = opened.map_err(|error| failures::postgres(setting, &error))?;
                Self::of(store, redis, settings, is_server).await
            }
            Kind::Mysql => {
                use hallpass_mysql::Options;
                let options = if is_server { Options::new() } else { Options::command_line() };
                let options = options.migrate(migrates).allow_volatile(settings.allow_volatile.value);
                let opened = MysqlStore::connect(&setting.value, options).await;
                let store = opened.map_err(|error| failures::mysql(setting, &error))?;
                Self::of(store, redis, settings, is_server).await
            }
        }
    }

    /// All in `database`, or the tokens in Redis: then the database keeps the epochs, and so decides what is ended.
    async fn of<S>(
        database: S,
        redis: Option<&str>,
        settings: &Settings,
        is_server: bool,
    ) -> Result<Self, Failure>
    where
        S: TokenStore + AccountStore + AuditStore,
    {
        let database = Arc::new(database);
        let audit = Arc::clone(&database);
        let Some(url) = redis else {
            return Ok(Self { tokens: Arc::clone(&database) as _, accounts: database, audit });
        };
        let options = redis_options(settings);
        let options = if is_server { options } else { options.timeout(COMMAND_LINE_WAIT) };
        let opened = RedisStore::beside(url, options, database).await;
        let tokens = Arc::new(opened.map_err(|error| failures::redis(&settings.token_store, &error))?);
        Ok(Self { accounts: Arc::clone(&tokens) as _, tokens, audit })
    }
}

pub(super) fn redis_options(settings: &Settings) -> hallpass_redis::Options {
    // A library chooses no cryptography for a whole process, so the program does. Another start of it did so already, if this fails.
    drop(rustls::crypto::ring::default_provider().install_default());
    hallpass_redis::Options::new().allow_volatile(settings.allow_volatile.value)
}
