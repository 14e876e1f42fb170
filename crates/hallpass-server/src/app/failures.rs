//! What to do about a store that was not opened.

use hallpass_sqlite::OpenError;

use crate::{
    config::Setting,
    failure::{Failure, with_causes},
};

/// What to do about a database that was not opened.
pub(crate) fn sqlite(error: &OpenError) -> Failure {
    const ELSEWHERE: &str = "or name another with --database sqlite:PATH";
    let (message, help) = match error {
        OpenError::Missing { path } => (
            format!("there is no database at {}", path.display()),
            format!("`hallpass serve` and `hallpass user add` make it; {ELSEWHERE}"),
        ),
        OpenError::NoFolder { path } => {
            let folder = path.parent().unwrap_or(path).display();
            (
                format!("the folder {folder} does not exist"),
                format!("make it: mkdir -p '{folder}'; {ELSEWHERE}"),
            )
        }
        OpenError::NotAFile { path } => {
            (format!("{} is not a file", path.display()), "name one with --database sqlite:PATH".to_owned())
        }
        OpenError::NotADatabase { path } => (
            format!("{} is not an SQLite database; it was not touched", path.display()),
            format!("restore it from a backup, {ELSEWHERE}"),
        ),
        OpenError::ReadOnly { path } => (
            format!("cannot write to {} or its folder", path.display()),
            format!("give this user the right to write to both, {ELSEWHERE}"),
        ),
        OpenError::Busy { path } => (
            format!("{} is busy: another program has been writing to it for seconds", path.display()),
            "try again when that is done".to_owned(),
        ),
        OpenError::Behind { path } => (
            format!("the schema of {} is older than this program", path.display()),
            "bring it up to date: `hallpass migrate`".to_owned(),
        ),
        OpenError::Schema { path, mismatch } => (
            format!("{} cannot be used: {mismatch}", path.display()),
            "see `hallpass --version`, and your backups".to_owned(),
        ),
        _ => (with_causes(error), "see `hallpass doctor`, then try again".to_owned()),
    };
    Failure::out_of_reach(message, help)
}

/// The stores' own texts say what to do, without a password. A URL that cannot be read is a setting used wrongly.
pub(super) fn postgres(setting: &Setting<String>, error: &hallpass_postgres::OpenError) -> Failure {
    use hallpass_postgres::OpenError;
    let help = match error {
        OpenError::Url { .. } => return unreadable(setting, error),
        OpenError::Unreachable { .. } => WHEN_IT_RUNS,
        OpenError::Behind { .. } => MIGRATE,
        OpenError::Schema { .. } => BACKUPS,
        OpenError::Busy { .. } => "try again when that is done",
        OpenError::Privilege { .. } => "then try again",
        _ => AGAIN,
    };
    Failure::out_of_reach(with_causes(error), help)
}

/// The same for `MySQL` and `MariaDB`.
pub(super) fn mysql(setting: &Setting<String>, error: &hallpass_mysql::OpenError) -> Failure {
    use hallpass_mysql::OpenError;
    let help = match error {
        OpenError::Url { .. } => return unreadable(setting, error),
        OpenError::Unreachable { .. } => WHEN_IT_RUNS,
        OpenError::Behind { .. } => MIGRATE,
        OpenError::Schema { .. } => BACKUPS,
        OpenError::Busy { .. } => "try again when that is done",
        OpenError::Volatile { .. } => {
            "set innodb_flush_log_at_trx_commit = 1 in the server's [mysqld] section, or start with --allow-volatile"
        }
        _ => AGAIN,
    };
    Failure::out_of_reach(with_causes(error), help)
}

/// The same for Redis.
pub(super) fn redis(setting: &Setting<Option<String>>, error: &hallpass_redis::OpenError) -> Failure {
    use hallpass_redis::OpenError;
    let help = match error {
        OpenError::Url { .. } => return unreadable(setting, error),
        OpenError::Unreachable { .. } => WHEN_IT_RUNS,
        OpenError::Volatile { .. } => {
            "CONFIG SET appendonly yes, and the same line in redis.conf; or start with --allow-volatile"
        }
        OpenError::Evicts { .. } => {
            "CONFIG SET maxmemory-policy noeviction, and the same line in redis.conf: --allow-volatile does not excuse it"
        }
        _ => AGAIN,
    };
    Failure::out_of_reach(with_causes(error), help)
}

const AGAIN: &str = "`hallpass doctor` may tell more; then try again";
const WHEN_IT_RUNS: &str = "try again when it runs; `hallpass doctor` shows where the URL comes from";
const MIGRATE: &str = "bring it up to date: `hallpass migrate`";
const BACKUPS: &str = "see `hallpass --version`, and your backups";

fn unreadable<T>(setting: &Setting<T>, error: &dyn std::error::Error) -> Failure {
    let text = error.to_string();
    // The sentence ends with what to write.
    let (message, help) = text.rsplit_once(": ").or_else(|| text.rsplit_once("; ")).unwrap_or((&text, AGAIN));
    setting.bad(message, help).into()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hallpass::migration::Mismatch;

    use super::*;

    #[test]
    fn a_database_that_is_not_opened_is_named_with_what_to_do() {
        let path = || PathBuf::from("/data/hallpass.db");
        let mismatch = Mismatch::Newer { found: 9, known: 1 };
        for (error, help) in [
            (OpenError::Missing { path: path() }, "hallpass user add"),
            (OpenError::NoFolder { path: path() }, "mkdir -p '/data'"),
            (OpenError::NotAFile { path: path() }, "--database sqlite:PATH"),
            (OpenError::NotADatabase { path: path() }, "restore it from a backup"),
            (OpenError::ReadOnly { path: path() }, "the right to write"),
            (OpenError::Busy { path: path() }, "try again"),
            (OpenError::Behind { path: path() }, "hallpass migrate"),
            (OpenError::Schema { path: path(), mismatch }, "hallpass --version"),
            (OpenError::Other { path: path(), source: "a reason".into() }, "hallpass doctor"),
        ] {
            let failure = sqlite(&error);
            assert_eq!(failure.status, crate::failure::Status::OutOfReach);
            assert!(failure.message.contains("/data"), "{failure:?}");
            assert!(failure.help.contains(help), "{failure:?}");
        }
    }
}
