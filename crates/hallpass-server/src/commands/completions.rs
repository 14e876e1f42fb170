//! `hallpass completions`: what a shell needs to complete our verbs and flags.

use clap_complete::Shell;
use serde_json::json;

use super::Answer;
use crate::{failure::Failure, output::Output};

/// Prints a script that has a shell complete verbs and flags
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  hallpass completions bash > ~/.local/share/bash-completion/completions/hallpass")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut command: clap::Command, out: Output) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "hallpass", &mut script);
    let script = String::from_utf8_lossy(&script);
    out.answer(|| json!({ "shell": args.shell.to_string(), "script": script }), || script.to_string())?;
    Ok(Answer::Yes)
}
