//! `hallpass token`: makes, lists, ends and explains tokens.

mod verify;

use std::collections::HashSet;

use hallpass::{
    Invalid, IssueError, NewToken, Reason, Timestamp, TokenId, TokenRecord,
    account::Account,
    store::{ListQuery, Page},
};
use serde_json::{Value, json};

use super::{
    Answer,
    user::{self, tokens},
};
use crate::{
    app::App,
    ask,
    config::{CommonFlags, Flags, LifeFlags, PrefixFlag},
    failure::Failure,
    output::{self, Output, table},
};

/// Rows of a list if no number is given.
const LIST_LIMIT: u32 = 500;

/// Makes, lists, ends and explains tokens.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Makes a token and prints it alone on stdout, this once; the rest goes to stderr
    #[command(after_help = "Examples:
  hallpass token create --user ada@example.com --name laptop --scope '*'
  hallpass token create --user ada@example.com --name ci --scope deploy --expires-in '7 days'

'*' is all of the owner's own rights; quote it, or the shell replaces it by file names.")]
    Create(CreateArgs),
    /// Lists an account's tokens, newest first
    #[command(after_help = "Examples:
  hallpass token list --user ada@example.com
  hallpass token list --user ada@example.com --ended --json")]
    List {
        /// The owner's address
        #[arg(long, value_name = "EMAIL")]
        user: String,
        /// Lists the dead ones too, until they are pruned
        #[arg(long)]
        ended: bool,
        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = LIST_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Ends a token by its id, or all of an account's tokens
    #[command(after_help = "Examples:
  hallpass token revoke 3f0c9a52-7a0e-4d3c-9a55-0d8b6f1f8f10
  hallpass token revoke --user ada@example.com --all --yes")]
    Revoke(RevokeArgs),
    /// Reads a token from stdin and explains whether it is good, or why not (exit status 0 or 1)
    #[command(after_help = "Examples:
  hallpass token verify < token.txt
  pass show hallpass/token | hallpass token verify --json

It is read from stdin, never from the command line, which other users of the machine can see.")]
    Verify {
        #[command(flatten, next_help_heading = "Settings")]
        prefix: PrefixFlag,
        /// A token does not belong here; taken so that it is not repeated in an error.
        #[arg(hide = true, allow_hyphen_values = true, trailing_var_arg = true)]
        given: Vec<String>,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    /// The owner's address
    #[arg(long, value_name = "EMAIL")]
    user: String,
    /// What its owner calls it, 1 to 100 characters
    #[arg(long)]
    name: String,
    /// How long it lives: '7 days', 1h30m, P30D, never [default: --token-life]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// What it may do, '*' for all its owner may; say it again for more
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    /// Something to keep with it; say it again for more
    #[arg(long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
    #[command(flatten, next_help_heading = "Settings")]
    prefix: PrefixFlag,
    #[command(flatten)]
    life: LifeFlags,
}

#[derive(clap::Args, Debug)]
pub(crate) struct RevokeArgs {
    /// The token's id, as lists show it
    #[arg(required_unless_present = "all", conflicts_with_all = ["user", "all"])]
    id: Option<String>,
    /// The owner's address, with --all
    #[arg(long, value_name = "EMAIL", requires = "all")]
    user: Option<String>,
    /// Ends all of the account's tokens, and those being made just now
    #[arg(long, requires = "user")]
    all: bool,
    /// Does not ask
    #[arg(long)]
    yes: bool,
}

impl Verb {
    pub(crate) fn flags(&self, common: CommonFlags) -> Flags {
        let flags = Flags { common, ..Flags::default() };
        match self {
            Self::Create(CreateArgs { prefix, life, .. }) => {
                Flags { prefix: prefix.clone(), life: life.clone(), ..flags }
            }
            Self::Verify { prefix, .. } => Flags { prefix: prefix.clone(), ..flags },
            Self::List { .. } | Self::Revoke(_) => flags,
        }
    }
}

pub(crate) async fn run(verb: Verb, app: &App, out: Output) -> Result<Answer, Failure> {
    match verb {
        Verb::Create(args) => create(app, out, args).await,
        Verb::List { user, ended, limit } => list(app, out, &user, ended, limit).await,
        Verb::Revoke(RevokeArgs { id: Some(id), .. }) => revoke(app, out, &id).await,
        Verb::Revoke(RevokeArgs { user, yes, .. }) => {
            revoke_all(app, out, &user.unwrap_or_default(), yes).await
        }
        Verb::Verify { given, .. } if !given.is_empty() => Err(Failure::usage(
            "a token is read from stdin, never from the command line",
            "if that was a token, other users of this machine may have seen it, and your shell may remember it: \
             revoke it",
        )),
        Verb::Verify { .. } => verify::run(app, out).await,
    }
}

async fn create(app: &App, out: Output, args: CreateArgs) -> Result<Answer, Failure> {
    let account = app.account(&args.user).await?;
    if !account.is_active() {
        return Err(Failure::no(
            format!("{} is not active, so its tokens would be refused", account.email),
            format!("`hallpass user enable {}` enables it again", account.email),
        ));
    }
    let mut issue = app.guard.generate(&account).name(&args.name).scopes(&args.scopes);
    if let Some(expires_in) = &args.expires_in {
        issue = issue.expires_in(expires_in.as_str());
    }
    for (key, value) in read_meta(&args.meta)? {
        issue = issue.meta(key, value);
    }
    let token = issue.await.map_err(|error| not_made(&account, error))?;
    if let Err(error) = out.write(|| new_as_json(&token), || token.plain().expose().to_owned()) {
        // The text is lost, and what is lost must not live.
        app.guard.revoke(token.plain()).await?;
        return Err(Failure::out_of_reach(
            format!("cannot write the token, so it was revoked: {error}"),
            "send the output to a place that can be written, and run it again",
        ));
    }
    out.remark(&about_new(&token, app.clock.now()));
    Ok(Answer::Yes)
}

async fn list(app: &App, out: Output, user: &str, ended: bool, limit: u32) -> Result<Answer, Failure> {
    let account = app.account(user).await?;
    let now = app.clock.now();
    let query = ListQuery { after: None, limit, living_at: (!ended).then_some(now) };
    let page = app.guard.list(&account, &query).await?;
    let more = page.next.is_some();
    out.answer(
        || {
            let tokens = page.tokens.iter().map(|token| as_json(token, state(&page, token, now)));
            json!({ "tokens": tokens.collect::<Vec<_>>(), "more": more })
        },
        || match page.tokens.as_slice() {
            [] if ended => format!("{} has no tokens", account.email),
            [] => format!("{} has no living tokens", account.email),
            _ => as_table(&page, ended, now),
        },
    )?;
    if more {
        out.remark("  there are more: raise --limit");
    }
    Ok(Answer::Yes)
}

async fn revoke(app: &App, out: Output, id: &str) -> Result<Answer, Failure> {
    // What is given is not repeated: it may be a token.
    let id = TokenId::parse(id).ok_or_else(|| {
        Failure::usage(
            "that is no token id",
            "an id looks like 3f0c9a52-7a0e-4d3c-9a55-0d8b6f1f8f10; `hallpass token list --user EMAIL` shows it",
        )
    })?;
    let unknown = || {
        Failure::no(
            format!("there is no token {id}"),
            "`hallpass token list --user EMAIL --ended` shows the ids",
        )
    };
    let owner = app.tokens.owner_of(id).await?.ok_or_else(unknown)?;
    let Some(account) = app.account_store.find(&owner).await? else {
        return Err(Failure::no(
            format!("the token {id} is dead already: its owner's account was deleted"),
            "nothing is left to do",
        ));
    };
    let found = app.guard.find_by_id(&account, id).await?.ok_or_else(unknown)?;
    if !app.guard.revoke_by_id(&account, id).await? {
        let at = found.record.revoked_at.map(|at| format!(" {}", output::when(at, app.clock.now())));
        let message = format!("the token {id} was revoked already{}", at.unwrap_or_default());
        return Err(Failure::no(message, "nothing is left to do"));
    }
    out.answer(
        || json!({ "revoked": 1, "id": id, "email": account.email.as_str() }),
        || {
            let name = found.record.name.as_deref().unwrap_or("without a name");
            format!("revoked {} ({name}) of {}", found.record.hint, account.email)
        },
    )?;
    Ok(Answer::Yes)
}

async fn revoke_all(app: &App, out: Output, user: &str, yes: bool) -> Result<Answer, Failure> {
    let account = app.account(user).await?;
    let email = &account.email;
    ask::confirm(yes, &format!("End all tokens of {email}, for good?"))?;
    let ended = app.guard.revoke_all(&account).await?;
    out.answer(
        || json!({ "revoked": ended, "email": email.as_str() }),
        || format!("ended {} of {email}", tokens(ended)),
    )?;
    Ok(Answer::Yes)
}

fn read_meta(pairs: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut seen = HashSet::new();
    let mut meta = Vec::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Failure::usage(
                format!("--meta {pair:?} has no key"),
                "write --meta KEY=VALUE, such as --meta host=ci-7",
            )
        })?;
        if !seen.insert(key) {
            let message = format!("--meta {key} is given twice");
            return Err(Failure::usage(message, "give each key once"));
        }
        meta.push((key.to_owned(), value.to_owned()));
    }
    Ok(meta)
}

fn not_made(account: &Account, error: IssueError) -> Failure {
    let email = &account.email;
    match error {
        IssueError::Invalid(invalid) => Failure::invalid(flag_of(&invalid), &invalid),
        IssueError::Unavailable(unavailable) => unavailable.into(),
        IssueError::CapReached { cap } => Failure::no(
            format!("{email} has {}, which is the most that --token-cap allows", tokens(cap.into())),
            format!("end one: `hallpass token list --user {email}`, then `hallpass token revoke ID`"),
        ),
        // Its tokens were ended, or it was disabled or deleted, while this one was being made.
        _ => Failure::no(
            format!("the tokens of {email} were ended at this moment, and this one with them"),
            "run it again, if the account is still meant to have one",
        ),
    }
}

fn flag_of(invalid: &Invalid) -> &'static str {
    match invalid.field() {
        "expires_in" => "--expires-in",
        "scopes" => "--scope",
        "meta" => "--meta",
        _ => "--name",
    }
}

/// As `POST /v1/tokens` answers, and whose it is.
fn new_as_json(token: &NewToken<Account>) -> Value {
    let mut json = serde_json::to_value(token).unwrap_or_default();
    let record = token.record();
    if let Value::Object(json) = &mut json {
        json.insert("id".to_owned(), json!(record.id));
        json.insert("name".to_owned(), json!(record.name));
        json.insert("scopes".to_owned(), json!(record.scopes.iter().collect::<Vec<_>>()));
        json.insert("hint".to_owned(), json!(record.hint));
        json.insert("email".to_owned(), json!(token.user().email.as_str()));
    }
    json
}

fn about_new(token: &NewToken<Account>, now: Timestamp) -> String {
    let record = token.record();
    format!(
        "  owner    {}\n  name     {}\n  id       {}\n  hint     {}\n  scopes   {}\n  expires  {}\n\
         Shown this once: keep it like a password.",
        token.user().email,
        record.name.as_deref().unwrap_or_default(),
        record.id,
        record.hint,
        record.scopes,
        expires(record.expires_at, now),
    )
}

pub(super) fn as_json(token: &TokenRecord, state: &str) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "hint": token.hint,
        "purpose": token.purpose,
        "state": state,
        "scopes": token.scopes.iter().collect::<Vec<_>>(),
        "meta": token.meta,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    })
}

fn as_table(page: &Page, ended: bool, now: Timestamp) -> String {
    let name = |token: &TokenRecord| token.name.clone().unwrap_or_else(|| "-".to_owned());
    let used = |token: &TokenRecord| {
        token.last_used_at.map_or_else(|| "never".to_owned(), |at| output::when(at, now))
    };
    let created = |token: &TokenRecord| output::when(token.created_at, now);
    let soon = |token: &TokenRecord| token.expires_at.map_or("never".to_owned(), |at| output::when(at, now));
    if ended {
        return table(
            ["ID", "NAME", "HINT", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED"],
            page.tokens.iter().map(|token| {
                let state = state(page, token, now).to_owned();
                let id = token.id.to_string();
                let scopes = token.scopes.to_string();
                [id, name(token), token.hint.clone(), scopes, state, created(token), soon(token), used(token)]
            }),
        );
    }
    table(
        ["ID", "NAME", "HINT", "SCOPES", "CREATED", "EXPIRES", "LAST USED"],
        page.tokens.iter().map(|token| {
            let id = token.id.to_string();
            let scopes = token.scopes.to_string();
            [id, name(token), token.hint.clone(), scopes, created(token), soon(token), used(token)]
        }),
    )
}

fn state(page: &Page, token: &TokenRecord, now: Timestamp) -> &'static str {
    match token.living(page.epoch, now) {
        Ok(()) => "living",
        Err(Reason::Revoked) => "revoked",
        Err(Reason::Expired) => "expired",
        Err(_) => "ended",
    }
}

/// "in 6 days (2026-11-28T10:00:00Z)", or "never".
pub(super) fn expires(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "never".to_owned(), |at| format!("{} ({at})", output::when(at, now)))
}

pub(super) fn owner_as_json(account: &Account) -> Value {
    user::as_json(account)
}
