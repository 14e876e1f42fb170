//! `hallpass doctor`: looks at the settings and the database, changes nothing, and says what to mend.

use std::path::Path;

use hallpass::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::Answer;
use crate::{
    app::{self, CheckUp, flags_to_repeat},
    config::{BadSetting, Settings},
    failure::{Failure, Status},
    output::{Output, Paint, painted, when},
};

/// 2026-01-01T00:00:00Z. This program is younger, so a clock that says less is wrong.
const EARLIEST: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// A row from the future is a clock that went back; a minute is forgiven, as between two machines.
const CLOCK_SLACK: std::time::Duration = std::time::Duration::from_mins(1);
/// Below this, the write-ahead log may not find the room it needs.
const FREE_BYTES_MIN: u64 = 100 << 20;

/// Checks the settings, the database and the clock, and says what to mend
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  hallpass doctor
  hallpass doctor --json | jq '.checks[] | select(.state != \"ok\")'

Nothing is changed. Exit status: 0 all is well, or merely worth a look, 1 something is to be mended,
3 the database is out of reach.")]
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

pub(crate) fn run(_: &Args, settings: Result<Settings, BadSetting>, out: Output) -> Result<Answer, Failure> {
    let (checks, status) = match settings {
        Err(bad) => (vec![Check::fail("settings", bad.message, bad.help)], Some(Status::No)),
        Ok(settings) => examine(&settings),
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

fn examine(settings: &Settings) -> (Vec<Check>, Option<Status>) {
    let mut checks = settings_checks(settings);
    let now = SystemClock.now();
    match app::check_up(settings) {
        Err(failure) => {
            checks.push(clock_check(now, None));
            checks.push(Check::fail("database", failure.message, failure.help));
            (checks, Some(failure.status))
        }
        Ok(found) => {
            checks.push(clock_check(now, found.newest));
            checks.extend(database_checks(&found));
            checks.push(permissions_check(&found.path));
            checks.extend(disk_check(&found.path));
            if found.pending.is_empty() {
                checks.push(accounts_check(settings, found.has_accounts));
            }
            (checks, None)
        }
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

fn database_checks(found: &CheckUp) -> Vec<Check> {
    let mut checks = vec![Check::ok("database", found.path.display().to_string())];
    checks.push(if found.pending.is_empty() {
        Check::ok("schema", "up to date")
    } else {
        let pending: Vec<_> = found.pending.iter().map(ToString::to_string).collect();
        Check::fail("schema", format!("behind by {}", pending.join(", ")), "run `hallpass migrate`")
    });
    checks.push(if found.journal_mode == "wal" {
        Check::ok("journal mode", "wal")
    } else {
        let help = "run `hallpass migrate`, on a disk of this machine: network file systems cannot do it";
        Check::fail("journal mode", format!("{}, not wal", found.journal_mode), help)
    });
    checks.extend(found.writing.as_ref().map(|writing| match writing {
        Ok(true) => Check::ok("writing", "possible, and waits for the disk (synchronous = FULL)"),
        Ok(false) => {
            let help = "this is a fault of the program: please report it";
            Check::fail("writing", "possible, but does not wait for the disk", help)
        }
        Err(error) => {
            let failure = app::not_opened(error);
            Check::fail("writing", failure.message, failure.help)
        }
    }));
    checks.push(if found.damage.is_empty() {
        Check::ok("integrity", "no page is damaged")
    } else {
        let help = "stop the server, keep a copy of the file, and restore the last good backup";
        Check::fail("integrity", found.damage.join("; "), help)
    });
    checks
}

fn accounts_check(settings: &Settings, has_accounts: bool) -> Check {
    if has_accounts {
        return Check::ok("accounts", "there are some");
    }
    let help = format!("make one: `hallpass{} user add you@example.com --admin`", flags_to_repeat(settings));
    Check::warn("accounts", "there are none", help)
}

#[cfg(unix)]
fn permissions_check(path: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt;
    let mode = match path.metadata() {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) => return Check::warn("permissions", error.to_string(), "look at the folder's rights"),
    };
    if mode % 0o10 == 0 {
        Check::ok("permissions", format!("{mode:03o}"))
    } else {
        let help = format!("there are password hashes in it: chmod 600 '{}'*", path.display());
        Check::fail("permissions", format!("{mode:03o}: every user of this machine gets at the file"), help)
    }
}

#[cfg(not(unix))]
fn permissions_check(path: &Path) -> Check {
    Check::ok("permissions", format!("not looked at here: {}", path.display()))
}

/// `None` where the system does not tell.
#[cfg(unix)]
fn disk_check(path: &Path) -> Option<Check> {
    let disk = rustix::fs::statvfs(path.parent()?).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Some(if free >= FREE_BYTES_MIN {
        Check::ok("disk", format!("{} GiB free", free >> 30))
    } else {
        Check::warn(
            "disk",
            format!("{} MiB free", free >> 20),
            "make room: with a full disk no token is made and none is revoked",
        )
    })
}

#[cfg(not(unix))]
fn disk_check(_: &Path) -> Option<Check> {
    None
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_before_the_program_or_the_newest_row_is_wrong() {
        let later = |seconds| EARLIEST.checked_add(Duration::from_secs(seconds)).unwrap();
        assert_eq!(clock_check(EARLIEST, None).state, State::Ok);
        assert_eq!(clock_check(EARLIEST, Some(later(60))).state, State::Ok);
        assert_eq!(clock_check(EARLIEST, Some(later(61))).state, State::Fail);
        assert_eq!(clock_check(EARLIEST.saturating_sub(Duration::from_secs(1)), None).state, State::Fail);
    }
}
