//! `hallpass user`: makes and manages accounts.

use hallpass::{
    EmailAddress, Scopes, Timestamp,
    account::{Account, CreateError},
};
use serde_json::{Value, json};

use super::Answer;
use crate::{
    app::App,
    ask,
    failure::Failure,
    output::{self, Output, table},
};

/// What `--admin` grants.
const ADMIN: &str = "admin";
/// Rows of a list if no number is given.
const LIST_LIMIT: u32 = 500;

/// Makes and manages accounts.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Makes an account that can log in at once
    #[command(after_help = "Examples:
  hallpass user add ada@example.com --admin
  pass show hallpass/ada | hallpass user add ada@example.com --password-stdin")]
    Add {
        /// The address to log in with
        email: String,
        /// Grants the privileged scope `admin`
        #[arg(long)]
        admin: bool,
        /// Reads the password from stdin; drops one newline at its end
        #[arg(long)]
        password_stdin: bool,
    },
    /// Lists the accounts
    #[command(after_help = "Examples:
  hallpass user list
  hallpass user list --json | jq -r '.users[].email'")]
    List {
        /// At most so many, sorted by address
        #[arg(long, value_name = "NUMBER", default_value_t = LIST_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Begins after this address, to go on where the last list ended
        #[arg(long, value_name = "EMAIL")]
        after: Option<String>,
    },
    /// Disables an account and ends all its tokens
    #[command(after_help = "Example:
  hallpass user disable ada@example.com")]
    Disable {
        /// The account's address
        email: String,
    },
    /// Enables a disabled account again; its old tokens stay dead
    #[command(after_help = "Example:
  hallpass user enable ada@example.com")]
    Enable {
        /// The account's address
        email: String,
    },
    /// Deletes an account for good and ends all its tokens
    #[command(after_help = "Example:
  hallpass user delete ada@example.com --yes")]
    Delete {
        /// The account's address
        email: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Sets a new password and ends all the account's tokens
    #[command(after_help = "Examples:
  hallpass user password ada@example.com
  pass show hallpass/ada | hallpass user password ada@example.com --password-stdin")]
    Password {
        /// The account's address
        email: String,
        /// Reads the password from stdin; drops one newline at its end
        #[arg(long)]
        password_stdin: bool,
    },
}

impl Verb {
    /// Whether it may be the first ever done on a new database.
    pub(crate) fn makes_database(&self) -> bool {
        matches!(self, Self::Add { .. })
    }
}

pub(crate) async fn run(verb: Verb, app: &App, out: Output) -> Result<Answer, Failure> {
    match verb {
        Verb::Add { email, admin, password_stdin } => add(app, out, &email, admin, password_stdin).await,
        Verb::List { limit, after } => list(app, out, limit, after.as_deref()).await,
        Verb::Disable { email } => disable(app, out, &email).await,
        Verb::Enable { email } => enable(app, out, &email).await,
        Verb::Delete { email, yes } => delete(app, out, &email, yes).await,
        Verb::Password { email, password_stdin } => password(app, out, &email, password_stdin).await,
    }
}

async fn add(
    app: &App,
    out: Output,
    email: &str,
    admin: bool,
    password_stdin: bool,
) -> Result<Answer, Failure> {
    let email = address(email)?;
    // Before the password is asked for: nobody likes to type one for nothing.
    if app.accounts.find_by_email(&email).await?.is_some() {
        return Err(taken(&email));
    }
    let password = ask::new_password(&app.passwords, password_stdin)?;
    let grants = if admin { Scopes::parse([ADMIN]) } else { Ok(Scopes::none()) };
    let grants = grants.map_err(|invalid| Failure::invalid("--admin", &invalid))?;
    let account =
        app.accounts.create(email.clone(), &password, grants).await.map_err(|error| match error {
            CreateError::Conflict => taken(&email),
            CreateError::Unavailable(unavailable) => unavailable.into(),
        })?;
    out.answer(
        || json!({ "user": as_json(&account) }),
        || format!("added {email}{}", if admin { " as an admin" } else { "" }),
    )?;
    out.remark(&format!(
        "  next: make a token with `hallpass token create --user {email} --name laptop --scope '*'`"
    ));
    Ok(Answer::Yes)
}

async fn list(app: &App, out: Output, limit: u32, after: Option<&str>) -> Result<Answer, Failure> {
    let after = after.map(address).transpose()?;
    let mut accounts = app.accounts.list(after.as_ref(), limit.saturating_add(1)).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = accounts.len() > limit;
    accounts.truncate(limit);
    let now = app.clock.now();
    let next = accounts.last().filter(|_| more).map(|last| last.email.to_string());
    out.answer(
        || json!({ "users": accounts.iter().map(as_json).collect::<Vec<_>>(), "next_after": next }),
        || match accounts.as_slice() {
            [] => "no accounts".to_owned(),
            accounts => as_table(accounts, now),
        },
    )?;
    if accounts.is_empty() && after.is_none() {
        out.remark("  next: make one with `hallpass user add you@example.com --admin`");
    }
    if let Some(next) = next {
        out.remark(&format!("  there are more: go on with --after {next}, or raise --limit"));
    }
    Ok(Answer::Yes)
}

async fn disable(app: &App, out: Output, email: &str) -> Result<Answer, Failure> {
    let account = app.account(email).await?;
    let ended = app.accounts.disable(&account.id).await?.ok_or_else(|| gone(&account))?;
    let email = &account.email;
    out.answer(
        || json!({ "disabled": true, "email": email.as_str(), "revoked": ended }),
        || match account.disabled_at {
            Some(_) => format!("{email} was disabled already"),
            None => format!("disabled {email} and ended {}", tokens(ended)),
        },
    )?;
    Ok(Answer::Yes)
}

async fn enable(app: &App, out: Output, email: &str) -> Result<Answer, Failure> {
    let account = app.account(email).await?;
    if !app.accounts.enable(&account.id).await? {
        return Err(gone(&account));
    }
    let email = &account.email;
    out.answer(
        || json!({ "enabled": true, "email": email.as_str() }),
        || match account.disabled_at {
            Some(_) => format!("enabled {email}; the tokens it had stay dead"),
            None => format!("{email} was enabled already"),
        },
    )?;
    Ok(Answer::Yes)
}

async fn delete(app: &App, out: Output, email: &str, yes: bool) -> Result<Answer, Failure> {
    let account = app.account(email).await?;
    let email = &account.email;
    ask::confirm(yes, &format!("Delete {email} and end all its tokens, for good?"))?;
    let ended = app.accounts.delete(&account.id).await?.ok_or_else(|| gone(&account))?;
    out.answer(
        || json!({ "deleted": true, "email": email.as_str(), "revoked": ended }),
        || format!("deleted {email} and ended {}", tokens(ended)),
    )?;
    Ok(Answer::Yes)
}

async fn password(app: &App, out: Output, email: &str, from_stdin: bool) -> Result<Answer, Failure> {
    let account = app.account(email).await?;
    let password = ask::new_password(&app.passwords, from_stdin)?;
    let ended = app.accounts.set_password(&account.id, &password).await?.ok_or_else(|| gone(&account))?;
    let email = &account.email;
    out.answer(
        || json!({ "changed": true, "email": email.as_str(), "revoked": ended }),
        || format!("changed the password of {email} and ended {}", tokens(ended)),
    )?;
    Ok(Answer::Yes)
}

/// An address as it was typed.
pub(crate) fn address(text: &str) -> Result<EmailAddress, Failure> {
    EmailAddress::parse(text).map_err(|invalid| {
        Failure::usage(format!("{text:?} is no e-mail address"), format!("it {}", invalid.message()))
    })
}

/// "no tokens", "1 token", "5 tokens".
pub(crate) fn tokens(count: u64) -> String {
    match count {
        0 => "no tokens".to_owned(),
        1 => "1 token".to_owned(),
        _ => format!("{count} tokens"),
    }
}

pub(crate) fn as_json(account: &Account) -> Value {
    json!({
        "id": account.id,
        "email": account.email.as_str(),
        "state": state(account),
        "grants": account.grants.iter().collect::<Vec<_>>(),
        "created_at": account.created_at,
        "confirmed_at": account.confirmed_at,
        "disabled_at": account.disabled_at,
    })
}

fn as_table(accounts: &[Account], now: Timestamp) -> String {
    table(
        ["EMAIL", "STATE", "GRANTS", "CREATED"],
        accounts.iter().map(|account| {
            let grants = account.grants.to_string();
            [
                account.email.to_string(),
                state(account).to_owned(),
                if grants.is_empty() { "-".to_owned() } else { grants },
                output::when(account.created_at, now),
            ]
        }),
    )
}

fn state(account: &Account) -> &'static str {
    match (account.disabled_at, account.confirmed_at) {
        (Some(_), _) => "disabled",
        (None, None) => "unconfirmed",
        (None, Some(_)) => "active",
    }
}

fn taken(email: &EmailAddress) -> Failure {
    Failure::no(
        format!("there is an account {email} already"),
        format!("`hallpass user password {email}` gives it a new password"),
    )
}

/// Deleted by somebody else between our look and our step.
fn gone(account: &Account) -> Failure {
    Failure::no(
        format!("the account {} was deleted meanwhile", account.email),
        "`hallpass user list` shows the accounts there are",
    )
}
