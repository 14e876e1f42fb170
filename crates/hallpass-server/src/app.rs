//! The parts put together: the only room that names a database. Built once, from the settings.

mod failures;
mod looks;
mod place;
mod schema;
mod stores;

use std::sync::Arc;

use hallpass::{
    Clock, Expiry, Guard, Purpose, SystemClock, TokenStore,
    account::{Account, AccountStore, Accounts},
    event::Observers,
    password::Passwords,
};
use hallpass_server::observers::{AuditObserver, AuditTrail, LogObserver};

pub(crate) use failures::sqlite as sqlite_failure;
pub(crate) use looks::{
    CheckUp, MysqlInspection, Node, PostgresInspection, Sight, TokenSight, look, look_at_tokens,
};
pub(crate) use schema::{Names, UserIdType, migrate, print};

use crate::{
    app::stores::Stores,
    commands::user::address,
    config::{Origin, Setting, Settings, starred},
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
    trail: AuditTrail,
}

impl App {
    /// Opens the stores and puts the parts together. The stores belong to the tokio runtime in which this is called.
    pub(crate) async fn open(settings: &Settings, opening: Opening) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let purpose = purpose(settings, &*clock)?;
        let Stores { tokens, accounts: account_store, audit } = Stores::open(settings, opening).await?;

        let (audit, trail) = AuditObserver::start(audit);
        let observers = Observers::new().and(Arc::new(LogObserver)).and(audit);
        let passwords = Passwords::new();
        let accounts = Accounts::new(Arc::clone(&account_store))
            .passwords(passwords.clone())
            .clock(Arc::clone(&clock))
            .observers(observers.clone());
        let guard = Guard::builder(accounts.clone(), Arc::clone(&tokens), purpose)
            .passwords(passwords.clone())
            .clock(Arc::clone(&clock))
            .observers(observers)
            .cap(settings.token_cap.value)
            .build();
        Ok(Self { accounts, account_store, guard, tokens, passwords, clock, trail })
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

/// The flags, with a blank before each, that make another verb find the same stores. Stars stand for a password.
pub(crate) fn flags_to_repeat(settings: &Settings) -> String {
    let Settings { database, token_store, allow_volatile, .. } = settings;
    let flag = |origin: &Origin, value: String| match origin {
        Origin::Flag(flag) => format!(" {flag}{value}"),
        _ => String::new(),
    };
    let url = |url: &str| format!(" '{}'", starred(url));
    let volatile = if allow_volatile.value { String::new() } else { "=false".to_owned() };
    flag(&database.origin, url(&database.value))
        + &flag(&token_store.origin, url(token_store.value.as_deref().unwrap_or_default()))
        + &flag(&allow_volatile.origin, volatile)
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
