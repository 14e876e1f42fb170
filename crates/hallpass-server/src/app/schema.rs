//! Bringing a database's schema up to date, and printing it.

use hallpass::{
    Invalid,
    naming::{Naming, UserIds},
};
use hallpass_mysql::UserIdColumn;

use super::{
    failures,
    place::{self, Kind},
};
use crate::{config::Settings, failure::Failure};

/// How an application wants the tables named in its own database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) schema: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) user_ids: UserIdType,
    /// The application's table of users and its key, as `app.users.id`.
    pub(crate) users: Option<String>,
}

/// What the application's user ids are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UserIdType {
    /// Any text
    #[default]
    Text,
    /// BIGINT
    Integer,
    /// BIGINT UNSIGNED, in MySQL and MariaDB
    UnsignedInteger,
    /// UUID, or BINARY(16) in MySQL
    Uuid,
}

/// The SQL of all migrations.
#[derive(Clone, Debug)]
pub(crate) struct Printed {
    pub(crate) migrations: Vec<String>,
    pub(crate) sql: String,
}

/// Brings the database's schema up to date, makes an SQLite file if there is none, and says what was run.
pub(crate) async fn migrate(settings: &Settings) -> Result<Vec<String>, Failure> {
    let setting = &settings.database;
    let ran = match Kind::of(setting)? {
        Kind::Sqlite => hallpass_sqlite::migrate(place::sqlite_path(setting)?)
            .map_err(|error| failures::sqlite(&error))?,
        Kind::Postgres => hallpass_postgres::migrate(&setting.value, &Naming::new())
            .await
            .map_err(|error| failures::postgres(setting, &error))?,
        Kind::Mysql => hallpass_mysql::migrate(&setting.value, &mysql_options(settings))
            .await
            .map_err(|error| failures::mysql(setting, &error))?,
    };
    Ok(ran.iter().map(ToString::to_string).collect())
}

/// The SQL for the kind of database that is set. Of its URL the beginning is enough, and none is opened.
pub(crate) fn print(settings: &Settings, names: &Names) -> Result<Printed, Failure> {
    let setting = &settings.database;
    let naming = || names.naming().map_err(|invalid| Failure::invalid("the naming", &invalid));
    let (migrations, sql) = match Kind::of(setting)? {
        Kind::Sqlite if !names.is_default() => {
            let message = "the tables of an SQLite file have fixed names";
            return Err(Failure::usage(
                message,
                "leave the flags about names out, or set another --database",
            ));
        }
        Kind::Sqlite => {
            let steps = hallpass_sqlite::migrations();
            let all = steps.iter().map(|step| format!("-- {step}\n{}", step.sql().trim_end()));
            (steps, all.collect::<Vec<_>>().join("\n\n"))
        }
        Kind::Postgres => {
            if names.user_ids == UserIdType::UnsignedInteger {
                let message = "PostgreSQL has no unsigned integers";
                return Err(Failure::usage(message, "write --user-ids integer"));
            }
            (hallpass_postgres::migrations(), hallpass_postgres::script(&naming()?, 0))
        }
        Kind::Mysql => {
            let column = match names.user_ids {
                UserIdType::UnsignedInteger => UserIdColumn::UnsignedInteger,
                _ => UserIdColumn::Native,
            };
            let options = mysql_options(settings).naming(naming()?).user_id_column(column);
            let sql = hallpass_mysql::script(&options).map_err(|error| failures::mysql(setting, &error))?;
            (hallpass_mysql::migrations(), sql)
        }
    };
    Ok(Printed { migrations: migrations.iter().map(ToString::to_string).collect(), sql })
}

pub(super) fn mysql_options(settings: &Settings) -> hallpass_mysql::Options {
    hallpass_mysql::Options::command_line().allow_volatile(settings.allow_volatile.value)
}

impl Names {
    fn is_default(&self) -> bool {
        let Self { schema, prefix, user_ids, users } = self;
        schema.is_none() && prefix.is_none() && users.is_none() && *user_ids == UserIdType::Text
    }

    fn naming(&self) -> Result<Naming, Invalid> {
        let mut naming = Naming::new().user_ids(match self.user_ids {
            UserIdType::Text => UserIds::Text,
            UserIdType::Integer | UserIdType::UnsignedInteger => UserIds::Integer,
            UserIdType::Uuid => UserIds::Uuid,
        });
        if let Some(schema) = &self.schema {
            naming = naming.schema(schema)?;
        }
        if let Some(prefix) = &self.prefix {
            naming = naming.prefix(prefix)?;
        }
        if let Some(users) = &self.users {
            let (table, column) = users.rsplit_once('.').unwrap_or((users, "id"));
            naming = naming.users(table, column)?;
        }
        Ok(naming)
    }
}
