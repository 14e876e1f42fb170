//! The parts put together: the only room that names a database. Built once, from the settings.

use std::{path::PathBuf, sync::Arc};

use hallpass::{
    Clock, Expiry, Guard, MemoryStore, Purpose, SystemClock, TokenStore,
    account::{Account, AccountStore, Accounts},
    event::Observers,
    password::Passwords,
};

use crate::{
    commands::user::address,
    config::{Origin, Setting, Settings},
    failure::Failure,
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
    database: Setting<String>,
}

impl App {
    pub(crate) async fn open(settings: &Settings, opening: Opening) -> Result<Self, Failure> {
        let purpose = purpose(settings, &SystemClock)?;
        let path = sqlite_path(&settings.database)?;
        let _ = (path, opening);
        let store = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let passwords = Passwords::new();
        let observers = Observers::new();
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
        let database = settings.database.clone();
        Ok(Self { accounts, account_store: store.clone(), guard, tokens: store, passwords, clock, database })
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

    /// Where the database is, without anything secret.
    pub(crate) fn location(&self) -> &str {
        &self.database.value
    }

    /// The flags, with a blank before each, that make another verb find the same database.
    pub(crate) fn flags_to_repeat(&self) -> String {
        match self.database.origin {
            Origin::Flag(flag) => format!(" {flag} '{}'", self.database.value),
            _ => String::new(),
        }
    }

    /// Writes what is not yet written.
    pub(crate) async fn close(self) {}
}

/// The policy of API tokens, as the settings have it.
pub(crate) fn purpose(settings: &Settings, clock: &dyn Clock) -> Result<Purpose, Failure> {
    let purpose = Purpose::api().prefix(settings.token_prefix.value.clone()).map_err(|invalid| {
        settings.token_prefix.bad(format!("{:?} is no prefix", settings.token_prefix.value), invalid.message())
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
    const HELP: &str = "write sqlite:PATH, such as sqlite:hallpass.db or sqlite:/var/lib/hallpass/hallpass.db";
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
