//! `hallpass doctor`: looks at the settings and the stores, changes nothing, and says what to mend.

mod mysql;
mod postgres;
mod redis;
mod sqlite;

use std::time::Duration;

use hallpass::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::Answer;
use crate::{
    app::{self, App, Opening, Sight, flags_to_repeat},
    config::{BadSetting, Settings, starred},
    failure::{Failure, Status},
    output::{Output, Paint, painted, when},
};

/// 2026-01-01T00:00:00Z. This program is younger, so a clock that says less is wrong.
const EARLIEST: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// A row from the future is a clock that went back; a minute is forgiven, as between two machines.
const CLOCK_SLACK: Duration = Duration::from_mins(1);
/// Machines that ask the same server for the time are this close, the way to the database included.
const CLOCK_SLACK_KEPT: Duration = Duration::from_secs(5);

/// Checks the settings, the stores and the clock, and says what to mend
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  hallpass doctor
  hallpass doctor --json | jq '.checks[] | select(.state != \"ok\")'

Nothing is changed. Exit status: 0 all is well, or merely worth a look, 1 something is to be mended,
3 a store is out of reach.")]
pub(crate) struct Args {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    help: String,
}

pub(crate) async fn run(
    _: &Args,
    settings: Result<Settings, BadSetting>,
    out: Output,
) -> Result<Answer, Failure> {
    let (checks, status) = match settings {
        Err(bad) => (vec![Check::fail("settings", bad.message, bad.help)], Some(Status::No)),
        Ok(settings) => examine(&settings).await,
    };
    let failed = checks.iter().any(|check| check.state == State::Fail);
    out.answer(
        || {
            let state = checks.iter().map(|check| check.state).max_by_key(|state| *state as u8);
            let checks: Vec<_> = checks.iter().map(Check::as_json).collect();
            json!({ "state": state.unwrap_or(State::Ok).as_str(), "checks": checks })
        },
        || checks.iter().map(Check::as_text).collect(),
    )?;
    Ok(match status {
        Some(Status::OutOfReach) => Answer::OutOfReach,
        _ if failed => Answer::No,
        _ => Answer::Yes,
    })
}

async fn examine(settings: &Settings) -> (Vec<Check>, Option<Status>) {
    let mut checks = settings_checks(settings);
    let before = SystemClock.now();
    let seen = app::look(settings).await;
    // The database's own clock was read between the two.
    let now = before.checked_add(SystemClock.now().since(before) / 2).unwrap_or(before);
    let mut status = None;
    let mut is_current = false;
    match seen {
        Err(failure) => {
            checks.push(clock_check(now, None));
            status = Some(failure.status);
            checks.push(failure.into_check("database"));
        }
        Ok(Sight::Sqlite(found)) => {
            checks.push(clock_check(now, found.newest));
            checks.extend(sqlite::checks(&found));
            is_current = found.pending.is_empty();
            if is_current {
                checks.push(accounts_check(settings, found.has_accounts));
            }
        }
        Ok(Sight::Postgres(found)) => {
            checks.push(clock_check_beside(now, found.clock.as_micros().saturating_sub(now.as_micros())));
            checks.push(Check::ok("database", starred(&settings.database.value)));
            checks.extend(postgres::checks(&found));
            is_current = found.pending.is_empty() && found.missing_grants.is_empty();
        }
        Ok(Sight::Mysql(found)) => {
            checks.push(clock_check_beside(now, found.clock_ahead_micros));
            checks.push(Check::ok("database", starred(&settings.database.value)));
            checks.extend(mysql::checks(&found, settings.allow_volatile.value));
            is_current = found.pending.is_empty();
        }
    }
    match app::look_at_tokens(settings).await {
        Ok(None) => {}
        Ok(Some(seen)) => checks.extend(redis::checks(settings, &seen)),
        Err(failure) => {
            status = status.or(Some(failure.status));
            checks.push(failure.into_check("token store"));
        }
    }
    // Of what is out of reach or behind, the lines above tell more.
    if is_current && status.is_none() && !checks.iter().any(|check| check.name == "accounts") {
        checks.push(use_check(settings).await);
    }
    (checks, status)
}

/// Opens the stores as every other verb does, and reads.
async fn use_check(settings: &Settings) -> Check {
    let opened = App::open(settings, Opening::CommandLine).await;
    let app = match opened {
        Err(failure) => return failure.into_check("accounts"),
        Ok(app) => app,
    };
    let is_empty = app.has_no_accounts().await;
    app.close().await;
    match is_empty {
        Err(failure) => failure.into_check("accounts"),
        Ok(is_empty) => accounts_check(settings, !is_empty),
    }
}

fn settings_checks(settings: &Settings) -> Vec<Check> {
    let from = match &settings.file {
        Some(path) => format!("flags, environment and {path}"),
        None => "flags and environment; there is no settings file".to_owned(),
    };
    let mut checks = vec![match app::purpose(settings, &SystemClock) {
        Err(failure) => Check::fail("settings", failure.message, failure.help),
        Ok(_) => Check::ok("settings", from),
    }];
    let listen = settings.listen.value;
    checks.push(if listen.ip().is_loopback() {
        Check::ok("listen", format!("{listen}, this machine alone"))
    } else {
        let help = "tokens travel in clear: keep a TLS proxy in front, or listen on 127.0.0.1";
        Check::warn("listen", format!("{listen}, which other machines reach without TLS"), help)
    });
    let life = &settings.token_life.value;
    checks.push(if life.trim().eq_ignore_ascii_case("never") {
        let help = "set token_life to what you can live with if one leaks, such as '365 days'";
        Check::warn("token life", "tokens live for ever unless asked otherwise", help)
    } else {
        Check::ok("token life", format!("{life}; longest allowed: {}", settings.token_life_max.value))
    });
    checks
}

fn clock_check(now: Timestamp, newest: Option<Timestamp>) -> Check {
    const HELP: &str = "set the clock, and have it kept by NTP: tokens expire by it";
    match newest {
        _ if now < EARLIEST => Check::fail("clock", format!("{now}, which is past"), HELP),
        Some(newest) if newest.since(now) > CLOCK_SLACK => Check::fail(
            "clock",
            format!("{now}, but the newest row is of {newest}, {}", when(newest, now)),
            HELP,
        ),
        _ => Check::ok("clock", now.to_string()),
    }
}

/// Each process judges by its own clock; so all must show the same time, and the database's stands for the others'.
fn clock_check_beside(now: Timestamp, ahead_micros: i64) -> Check {
    let own = clock_check(now, None);
    let apart = Duration::from_micros(ahead_micros.unsigned_abs());
    if own.state != State::Ok || apart <= CLOCK_SLACK_KEPT {
        return own;
    }
    let side = if ahead_micros > 0 { "ahead of" } else { "behind" };
    let found = format!("{now}; the database's is {:.1} s {side} it", apart.as_secs_f64());
    let help = "have both machines' clocks kept by NTP: tokens expire by the clock of whoever verifies them";
    if apart > CLOCK_SLACK { Check::fail("clock", found, help) } else { Check::warn("clock", found, help) }
}

/// Of the databases that are reached over a network.
fn schema_check(pending: &[hallpass::migration::Migration]) -> Check {
    if pending.is_empty() {
        return Check::ok("schema", "up to date");
    }
    let pending: Vec<_> = pending.iter().map(ToString::to_string).collect();
    Check::fail("schema", format!("behind by {}", pending.join(", ")), "run `hallpass migrate`")
}

/// `setting` turns encryption on.
fn encryption_check(name: &'static str, encrypted: bool, leaves_this_machine: bool, setting: &str) -> Check {
    match (encrypted, leaves_this_machine) {
        (true, _) => Check::ok(name, "the connection is encrypted"),
        (false, false) => Check::ok(name, "not used: the connection does not leave this machine"),
        (false, true) => {
            Check::fail(name, "not used: whoever is in between reads and changes what is sent", setting)
        }
    }
}

fn writing_check(read_only: bool, setting: &str) -> Check {
    if read_only {
        let found = "the server takes no changes: tokens are verified, and nothing else works";
        return Check::fail("writing", found, setting);
    }
    Check::ok("writing", "possible")
}

fn accounts_check(settings: &Settings, has_accounts: bool) -> Check {
    if has_accounts {
        return Check::ok("accounts", "there are some");
    }
    let help = format!("make one: `hallpass{} user add you@example.com --admin`", flags_to_repeat(settings));
    Check::warn("accounts", "there are none", help)
}

impl Failure {
    fn into_check(self, name: &'static str) -> Check {
        Check::fail(name, self.message, self.help)
    }
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), help: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), help: help.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), help: help.into() }
    }

    fn as_json(&self) -> Value {
        let help = Some(&self.help).filter(|help| !help.is_empty());
        json!({ "name": self.name, "state": self.state.as_str(), "found": self.found, "help": help })
    }

    fn as_text(&self) -> String {
        let Self { name, state, found, help } = self;
        let paint = match state {
            State::Ok => Paint::Good,
            State::Warn => Paint::Warning,
            State::Fail => Paint::Bad,
        };
        let word = painted(paint, &format!("{:<4}", state.as_str()));
        let help = if help.is_empty() { String::new() } else { format!("{:20}help: {help}\n", "") };
        format!("{word}  {name:<12}  {found}\n{help}")
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_program_or_the_newest_row_is_wrong() {
        let later = |seconds| EARLIEST.checked_add(Duration::from_secs(seconds)).unwrap();
        assert_eq!(clock_check(EARLIEST, None).state, State::Ok);
        assert_eq!(clock_check(EARLIEST, Some(later(60))).state, State::Ok);
        assert_eq!(clock_check(EARLIEST, Some(later(61))).state, State::Fail);
        assert_eq!(clock_check(EARLIEST.saturating_sub(Duration::from_secs(1)), None).state, State::Fail);
    }

    #[test]
    fn a_clock_apart_from_the_databases_is_worth_a_look_or_wrong() {
        for (seconds, state) in [
            (0, State::Ok),
            (5, State::Ok),
            (-5, State::Ok),
            (6, State::Warn),
            (-60, State::Warn),
            (61, State::Fail),
            (-61, State::Fail),
        ] {
            assert_eq!(clock_check_beside(EARLIEST, seconds * 1_000_000).state, state, "{seconds}");
        }
    }

    #[test]
    fn only_what_leaves_the_machine_must_be_encrypted() {
        for (encrypted, leaves, state) in [
            (true, true, State::Ok),
            (true, false, State::Ok),
            (false, false, State::Ok),
            (false, true, State::Fail),
        ] {
            assert_eq!(encryption_check("TLS", encrypted, leaves, "").state, state);
        }
    }
}
