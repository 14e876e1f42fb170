//! The command `hallpass`: one enum of verbs, one match.

mod app;
mod ask;
mod commands;
mod config;
mod failure;
mod output;

use std::{env, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};
use tokio::runtime::{Builder, Runtime};

use crate::{
    app::{App, Opening},
    commands::{Answer, completions, doctor, migrate, prune, serve, token, user},
    config::{CommonFlags, Flags, LogFormat, Settings, starred},
    failure::{Failure, Status},
    output::Output,
};

const SERVER_LOG: &str = "info";
/// What these stores may lose is told by every start of a server and by `doctor`, and need not be told by each verb.
const COMMAND_LINE_LOG: &str = "warn,hallpass_mysql=error,hallpass_redis=error";

/// Many small allocations per request: this one is faster at them than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Opaque API tokens: made once, kept hashed, verified fast, revoked for good.
#[derive(Parser, Debug)]
#[command(
    name = "hallpass",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
A first tour:
  hallpass serve
  hallpass user add you@example.com --admin
  hallpass token create --user you@example.com --name laptop --scope '*'

A flag wins over the environment, the environment over hallpass.toml (--token-life is token_life there).
HALLPASS_DATABASE_URL_FILE and HALLPASS_TOKEN_STORE_URL_FILE may name a file that holds the URL.
Exit status: 0 done, 1 the answer is no, 2 used wrongly, 3 a part is out of reach."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,

    #[command(flatten)]
    common: CommonFlags,

    /// Prints the answer as JSON on stdout, and errors as JSON on stderr
    #[arg(long, global = true, help_heading = "Settings", display_order = 104)]
    json: bool,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    Serve(serve::Args),
    #[command(
        subcommand_required = true,
        arg_required_else_help = true,
        after_help = "Example:\n  hallpass user add ada@example.com --admin"
    )]
    User {
        #[command(subcommand)]
        verb: user::Verb,
    },
    #[command(
        subcommand_required = true,
        arg_required_else_help = true,
        after_help = "Example:\n  hallpass token create --user ada@example.com --name laptop --scope '*'"
    )]
    Token {
        #[command(subcommand)]
        verb: token::Verb,
    },
    Prune(prune::Args),
    Migrate(migrate::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    #[cfg(unix)]
    hide_passwords(&cli.common);
    let out = Output::new(cli.json);
    match run(cli, out) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => Status::No.into(),
        Ok(Answer::OutOfReach) => Status::OutOfReach.into(),
        Err(failure) => {
            out.failure(&failure);
            failure.status.into()
        }
    }
}

/// Starts this program anew, as the same process, where a flag holds a password: every user of the machine can see what a program
/// was started with. Then stars stand there, and the value is in a variable, which others cannot see.
///
/// If that fails, the program goes on as it was started.
#[cfg(unix)]
fn hide_passwords(common: &CommonFlags) {
    use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

    let shown: Vec<_> = common
        .secrets()
        .map(|(variable, url)| (variable, url, starred(url)))
        .filter(|(_, url, shown)| url.contains("://") && shown != url)
        .collect();
    let (Ok(program), false) = (env::current_exe(), shown.is_empty()) else { return };
    let mut args = env::args_os().map(|arg| match arg.into_string() {
        Ok(arg) => OsString::from(shown.iter().fold(arg, |arg, (_, url, shown)| arg.replace(url, shown))),
        Err(arg) => arg,
    });
    let mut command = Command::new(program);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args);
    for (variable, url, _) in &shown {
        command.env(variable, url).env_remove(format!("{variable}_FILE"));
    }
    // It returns only if it failed.
    drop(command.exec());
}

fn run(cli: Cli, out: Output) -> Result<Answer, Failure> {
    let Cli { verb, common, .. } = cli;
    let flags = match &verb {
        Verb::Serve(args) => args.flags(common),
        Verb::Token { verb } => verb.flags(common),
        _ => Flags { common, ..Flags::default() },
    };
    let settings = || Settings::read(&flags, &|name| env::var_os(name));
    // Doctor reports bad settings itself, and completions need none.
    let settings = match verb {
        Verb::Completions(args) => return completions::run(&args, Cli::command(), out),
        Verb::Doctor(args) => return one_thread()?.block_on(doctor::run(&args, settings(), out)),
        _ => settings()?,
    };
    let is_server = matches!(verb, Verb::Serve(_));
    log_to_stderr(&settings, if is_server { SERVER_LOG } else { COMMAND_LINE_LOG }, out)?;

    match verb {
        Verb::Serve(_) => all_cores()?.block_on(serve::run(&settings, out)),
        Verb::User { verb } => {
            let opening = if verb.makes_database() { Opening::NewDatabase } else { Opening::CommandLine };
            with_app(&settings, opening, async |app| user::run(verb, app, out).await)
        }
        Verb::Token { verb } => {
            with_app(&settings, Opening::CommandLine, async |app| token::run(verb, app, out).await)
        }
        Verb::Prune(args) => {
            with_app(&settings, Opening::CommandLine, async |app| prune::run(args, app, out).await)
        }
        Verb::Migrate(args) => one_thread()?.block_on(migrate::run(&args, &settings, out)),
        Verb::Doctor(_) | Verb::Completions(_) => Ok(Answer::Yes),
    }
}

fn with_app(
    settings: &Settings,
    opening: Opening,
    work: impl AsyncFnOnce(&App) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    one_thread()?.block_on(async {
        let app = App::open(settings, opening).await?;
        let answer = work(&app).await;
        app.close().await;
        answer
    })
}

fn one_thread() -> Result<Runtime, Failure> {
    started(Builder::new_current_thread().enable_all().build())
}

fn all_cores() -> Result<Runtime, Failure> {
    started(Builder::new_multi_thread().enable_all().build())
}

fn started(runtime: std::io::Result<Runtime>) -> Result<Runtime, Failure> {
    runtime.map_err(|error| {
        Failure::out_of_reach(
            format!("cannot start threads: {error}"),
            "see the limits of this user and machine",
        )
    })
}

fn log_to_stderr(settings: &Settings, default: &str, out: Output) -> Result<(), Failure> {
    let wanted = settings.log.value.as_deref().unwrap_or(default);
    let filter = tracing_subscriber::EnvFilter::builder().parse(wanted).map_err(|_| {
        settings
            .log
            .bad("this is no log level", "write error, warn, info, debug, trace or off, or a tracing filter")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::colours_on(&std::io::stderr()));
    if settings.log_format.value == LogFormat::Json || out.is_json() {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
    Ok(())
}

/// Help and version are answers; the rest is told like any other failure.
fn not_parsed(error: &clap::Error) -> ExitCode {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Status::Usage.into()
        }
        _ => {
            let failure = used_wrongly(error);
            // The flag was not parsed, so it is looked for.
            Output::new(env::args_os().any(|arg| arg == "--json")).failure(&failure);
            failure.status.into()
        }
    }
}

/// Takes a parser's message apart: what is wrong, and its tips and usage as help.
fn used_wrongly(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut blocks = text.trim().split("\n\n").map(str::trim);
    let message = blocks.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let mut help: Vec<_> = blocks
        .map(|block| block.trim_start_matches("tip: "))
        .map(|block| block.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|block| !block.is_empty() && !block.starts_with("For more information"))
        .collect();
    if help.is_empty() {
        help.push("--help shows what can be given".to_owned());
    }
    Failure::usage(hide_tokens(&message), hide_tokens(&help.join("\n")))
}

/// A parser repeats what it did not understand, which may be a token in the wrong place.
fn hide_tokens(text: &str) -> String {
    const LONGEST_WORD: usize = 45;
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !is_inside(c)) {
        let word = piece.trim_end_matches(|c| !is_inside(c));
        if word.len() > LONGEST_WORD {
            shown.push('…');
            shown.push_str(piece.get(word.len()..).unwrap_or_default());
        } else {
            shown.push_str(piece);
        }
    }
    shown
}
