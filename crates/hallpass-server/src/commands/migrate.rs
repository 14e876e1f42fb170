//! `hallpass migrate`: brings the database's schema up to date, or prints it.

use serde_json::json;

use super::Answer;
use crate::{
    app::{self, Names, UserIdType},
    config::{Settings, starred},
    failure::Failure,
    output::Output,
};

/// Brings the database's schema up to date, or prints its SQL
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  hallpass migrate
  hallpass migrate --print > schema.sql
  hallpass migrate --print --database postgres: --schema auth --user-ids uuid --users app.users.id

`serve` and `user add` do this by themselves. Any number of processes may do it at once.
To print, the beginning of the URL is enough: no database is opened.")]
pub(crate) struct Args {
    /// Prints the SQL of all migrations and opens no database
    #[arg(long)]
    print: bool,
    /// Prints it for this schema, or with MySQL for this database
    #[arg(long, value_name = "NAME", requires = "print")]
    schema: Option<String>,
    /// Prints it for tables that begin with this instead of `hallpass_`
    #[arg(long, value_name = "PREFIX", requires = "print")]
    table_prefix: Option<String>,
    /// Prints it for user ids of this type
    #[arg(long, value_enum, value_name = "TYPE", requires = "print")]
    user_ids: Option<UserIdType>,
    /// Prints it with a foreign key to the application's own table of users, such as `app.users.id`
    #[arg(long, value_name = "TABLE.COLUMN", requires = "print")]
    users: Option<String>,
}

pub(crate) async fn run(args: &Args, settings: &Settings, out: Output) -> Result<Answer, Failure> {
    if args.print { print(args, settings, out) } else { migrate(settings, out).await }
}

async fn migrate(settings: &Settings, out: Output) -> Result<Answer, Failure> {
    let ran = app::migrate(settings).await?;
    let database = starred(&settings.database.value);
    out.answer(
        || json!({ "database": database, "migrated": ran }),
        || match ran.as_slice() {
            [] => format!("{database} is up to date"),
            ran => format!("{database} is up to date now: ran {}", ran.join(", ")),
        },
    )?;
    Ok(Answer::Yes)
}

fn print(args: &Args, settings: &Settings, out: Output) -> Result<Answer, Failure> {
    let names = Names {
        schema: args.schema.clone(),
        prefix: args.table_prefix.clone(),
        user_ids: args.user_ids.unwrap_or_default(),
        users: args.users.clone(),
    };
    let printed = app::print(settings, &names)?;
    out.answer(|| json!({ "migrations": printed.migrations, "sql": printed.sql }), || printed.sql.clone())?;
    Ok(Answer::Yes)
}
