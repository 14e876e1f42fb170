//! The parts put together: the only room that names a database. Built once, from the settings.

use std::{path::PathBuf, sync::Arc};

use hallpass::{
    Clock, Expiry, Guard, Purpose, SystemClock, TokenStore,
    account::{Account, AccountStore, Accounts},
    event::Observers,
    migration::Migration,
    password::Passwords,
};
use hallpass_server::observers::{AuditObserver, AuditTrail, LogObserver};
use hallpass_sqlite::{OpenError, Options, SqliteStore};

/// What a look at the database finds.
pub(crate) use hallpass_sqlite::CheckUp;

use crate::{
    commands::user::address,
    config::{Origin, Setting, Settings},
    failure::{Failure, with_causes},
};

/// For what the database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// To serve: made if it is not there, and waited for as long as a request may wait.
    Server,
    /// For a verb that may be the first ever done: made if it is not there, and waited for as long as a person may.
    NewDatabase,
    /// For a verb that is about what is there already.
    CommandLine,
}

/// The parts, put together.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) accounts: Accounts,
    pub(crate) account_store: Arc<dyn AccountStore>,
    pub(crate) guard: Guard<Accounts>,
    pub(crate) tokens: Arc<dyn TokenStore>,
    pub(crate) passwords: Passwords,
    pub(crate) clock: Arc<dyn Clock>,
    trail: AuditTrail,
}

impl App {
    /// Opens the database and puts the parts together. To be called in a tokio runtime.
    pub(crate) fn open(settings: &Settings, opening: Opening) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let purpose = purpose(settings, &*clock)?;
        let path = sqlite_path(&settings.database)?;
        let options = match opening {
            Opening::Server => Options::new(),
            Opening::NewDatabase => Options::command_line(),
            Opening::CommandLine => Options::command_line().migrate(false),
        };
        let store = SqliteStore::open(path, options).map_err(|error| not_opened(&error))?;
        let store = Arc::new(store);

        let (audit, trail) = AuditObserver::start(store.clone());
        let observers = Observers::new().and(Arc::new(LogObserver)).and(audit);
        let passwords = Passwords::new();
        let accounts = Accounts::new(store.clone())
            .passwords(passwords.clone())
            .clock(Arc::clone(&clock))
            .observers(observers.clone());
        let guard = Guard::builder(accounts.clone(), store.clone(), purpose)
            .passwords(passwords.clone())
            .clock(Arc::clone(&clock))
            .observers(observers)
            .cap(settings.token_cap.value)
            .build();
        Ok(Self { accounts, account_store: store.clone(), guard, tokens: store, passwords, clock, trail })
    }

    /// The account with this address, as it was typed.
    pub(crate) async fn account(&self, email: &str) -> Result<Account, Failure> {
        let email = address(email)?;
        self.accounts.find_by_email(&email).await?.ok_or_else(|| {
            Failure::no(
                format!("there is no account {email}"),
                format!("`hallpass user list` shows the accounts there are; `hallpass user add {email}` makes this one"),
            )
        })
    }

    pub(crate) async fn has_no_accounts(&self) -> Result<bool, Failure> {
        Ok(self.accounts.list(None, 1).await?.is_empty())
    }

    /// Writes what is not yet written: the end of the audit trail.
    pub(crate) async fn close(self) {
        self.trail.finish().await;
    }
}

/// Brings the database's schema up to date, makes it if there is none, and says what was run.
pub(crate) fn migrate(settings: &Settings) -> Result<Vec<String>, Failure> {
    let ran =
        hallpass_sqlite::migrate(sqlite_path(&settings.database)?).map_err(|error| not_opened(&error))?;
    Ok(ran.iter().map(ToString::to_string).collect())
}

/// The migrations for the kind of database that is set.
pub(crate) fn migrations(settings: &Settings) -> Result<&'static [Migration], Failure> {
    sqlite_path(&settings.database)?;
    Ok(hallpass_sqlite::migrations())
}

/// Looks at the database closely and changes nothing.
pub(crate) fn check_up(settings: &Settings) -> Result<CheckUp, Failure> {
    hallpass_sqlite::check_up(sqlite_path(&settings.database)?).map_err(|error| not_opened(&error))
}

/// The flags, with a blank before each, that make another verb find the same database.
pub(crate) fn flags_to_repeat(settings: &Settings) -> String {
    match settings.database.origin {
        Origin::Flag(flag) => format!(" {flag} '{}'", settings.database.value),
        _ => String::new(),
    }
}

/// The policy of API tokens, as the settings have it.
pub(crate) fn purpose(settings: &Settings, clock: &dyn Clock) -> Result<Purpose, Failure> {
    let purpose = Purpose::api().prefix(settings.token_prefix.value.clone()).map_err(|invalid| {
        settings
            .token_prefix
            .bad(format!("{:?} is no prefix", settings.token_prefix.value), invalid.message())
    })?;
    let life = |setting: &Setting<String>| {
        let expiry = Expiry::parse(&setting.value).and_then(|life| life.at(clock.now()).map(|_| life));
        expiry.map_err(|invalid| {
            setting.bad(format!("{:?} is no length of life", setting.value), invalid.message())
        })
    };
    Ok(purpose.life(life(&settings.token_life)?).longest(life(&settings.token_life_max)?))
}

/// The file that `sqlite:PATH` names.
fn sqlite_path(database: &Setting<String>) -> Result<PathBuf, Failure> {
    const HELP: &str =
        "write sqlite:PATH, such as sqlite:hallpass.db or sqlite:/var/lib/hallpass/hallpass.db";
    let Some((scheme, rest)) = database.value.split_once(':') else {
        return Err(database.bad("this is no database URL", HELP).into());
    };
    if scheme != "sqlite" {
        let message = if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            format!("a database of the kind {scheme:?} is not known")
        } else {
            "this is no database URL".to_owned()
        };
        return Err(database.bad(message, HELP).into());
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains(['?', '\0']) {
        return Err(database.bad("there is no file named, or something behind its name", HELP).into());
    }
    if path.contains(":memory:") {
        return Err(database.bad("a database in memory is lost with the process", HELP).into());
    }
    Ok(PathBuf::from(path))
}

/// What to do about a database that was not opened.
pub(crate) fn not_opened(error: &OpenError) -> Failure {
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

#[cfg(test)]
mod tests {
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
            let failure = not_opened(&error);
            assert_eq!(failure.status, crate::failure::Status::OutOfReach);
            assert!(failure.message.contains("/data"), "{failure:?}");
            assert!(failure.help.contains(help), "{failure:?}");
        }
    }

    #[test]
    fn a_database_url_is_never_repeated() {
        for url in ["postgres://ada:hunter2@db/x", "hunter2", "sqlite:?hunter2", "hunter 2://", ""] {
            let setting = Setting { value: url.to_owned(), origin: Origin::Default };
            let failure = sqlite_path(&setting).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter"), "{failure:?}");
        }
    }
}
