//! A close look at the stores, which changes nothing: what `hallpass doctor` judges.

pub(crate) use hallpass_mysql::Inspection as MysqlInspection;
pub(crate) use hallpass_postgres::Inspection as PostgresInspection;
pub(crate) use hallpass_redis::Node;
pub(crate) use hallpass_sqlite::CheckUp;

use hallpass::naming::Naming;

use super::{
    failures,
    place::{self, Kind},
    schema::mysql_options,
    stores::redis_options,
};
use crate::{config::Settings, failure::Failure};

/// What was seen of the database.
#[derive(Debug)]
pub(crate) enum Sight {
    Sqlite(Box<CheckUp>),
    Postgres(PostgresInspection),
    Mysql(MysqlInspection),
}

/// What was seen of the Redis with the tokens.
#[derive(Debug)]
pub(crate) struct TokenSight {
    pub(crate) nodes: Vec<Node>,
    pub(crate) is_encrypted: bool,
    pub(crate) leaves_this_machine: bool,
}

/// Looks at the database.
pub(crate) async fn look(settings: &Settings) -> Result<Sight, Failure> {
    let setting = &settings.database;
    match Kind::of(setting)? {
        Kind::Sqlite => {
            let found = hallpass_sqlite::check_up(place::sqlite_path(setting)?);
            Ok(Sight::Sqlite(Box::new(found.map_err(|error| failures::sqlite(&error))?)))
        }
        Kind::Postgres => {
            let found = hallpass_postgres::inspect(&setting.value, &Naming::new()).await;
            Ok(Sight::Postgres(found.map_err(|error| failures::postgres(setting, &error))?))
        }
        Kind::Mysql => {
            let found = hallpass_mysql::inspect(&setting.value, &mysql_options(settings)).await;
            Ok(Sight::Mysql(found.map_err(|error| failures::mysql(setting, &error))?))
        }
    }
}

/// Looks at the Redis with the tokens, if they are not in the database.
pub(crate) async fn look_at_tokens(settings: &Settings) -> Result<Option<TokenSight>, Failure> {
    let setting = &settings.token_store;
    let Some(url) = place::token_store(setting)? else { return Ok(None) };
    // What it would be refused for is told as one of several things, not instead of them.
    let options = redis_options(settings).allow_volatile(true);
    let nodes = hallpass_redis::inspect(url, options).await;
    Ok(Some(TokenSight {
        nodes: nodes.map_err(|error| failures::redis(setting, &error))?,
        is_encrypted: url.starts_with("rediss"),
        leaves_this_machine: place::leaves_this_machine(url),
    }))
}
