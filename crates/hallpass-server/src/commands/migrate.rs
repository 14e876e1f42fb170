//! `hallpass migrate`: brings the database's schema up to date, or prints it.

use serde_json::json;

use super::Answer;
use crate::{app, config::Settings, failure::Failure, output::Output};

/// Brings the database's schema up to date, or prints its SQL
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  hallpass migrate
  hallpass migrate --print > schema.sql

`serve` and `user add` do this by themselves. Any number of processes may do it at once.")]
pub(crate) struct Args {
    /// Prints the SQL of all migrations and opens no database
    #[arg(long)]
    print: bool,
}

pub(crate) fn run(args: &Args, settings: &Settings, out: Output) -> Result<Answer, Failure> {
    if args.print { print(settings, out) } else { migrate(settings, out) }
}

fn migrate(settings: &Settings, out: Output) -> Result<Answer, Failure> {
    let ran = app::migrate(settings)?;
    out.answer(
        || json!({ "database": settings.database.value, "migrated": ran }),
        || match ran.as_slice() {
            [] => format!("{} is up to date", settings.database.value),
            ran => format!("{} is up to date now: ran {}", settings.database.value, ran.join(", ")),
        },
    )?;
    Ok(Answer::Yes)
}

fn print(settings: &Settings, out: Output) -> Result<Answer, Failure> {
    let steps = app::migrations(settings)?;
    out.answer(
        || {
            let steps = steps.iter().map(|step| json!({ "name": step.to_string(), "sql": step.sql() }));
            json!({ "migrations": steps.collect::<Vec<_>>() })
        },
        || {
            let steps = steps.iter().map(|step| format!("-- {step}\n{}", step.sql().trim_end()));
            steps.collect::<Vec<_>>().join("\n\n")
        },
    )?;
    Ok(Answer::Yes)
}
