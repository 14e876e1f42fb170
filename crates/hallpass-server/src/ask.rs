//! What a verb asks the person who runs it: a password that is not shown, and "are you sure".

use std::io::{self, IsTerminal, Read};

use hallpass::password::{NewPassword, Passwords};

use crate::failure::Failure;

/// More than any password: what is read from a pipe stops here.
const INPUT_MAX: u64 = 64 * 1024;

/// A new password, from stdin if so wished, else typed twice and not shown.
pub(crate) fn new_password(passwords: &Passwords, from_stdin: bool) -> Result<NewPassword, Failure> {
    let text = if from_stdin { password_from_stdin()? } else { typed_password()? };
    passwords.accept(text).map_err(|invalid| {
        Failure::usage(
            "this password cannot be used",
            format!("it {}; a few random words make a good one", invalid.message()),
        )
    })
}

/// All of stdin but one newline at its end, which most programs add.
pub(crate) fn line_from_stdin(what: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(INPUT_MAX).read_to_end(&mut bytes).map_err(|error| {
        Failure::out_of_reach(format!("cannot read {what} from stdin: {error}"), "pipe it in, or type it")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{what} on stdin is not UTF-8 text"), "send it as UTF-8"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Whether to go on with something that cannot be undone. Without a terminal nobody can be asked.
pub(crate) fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage("this cannot be undone", "add --yes if you are sure"));
    }
    match dialoguer::Confirm::new().with_prompt(question).default(false).interact() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::no("nothing was done", "run it again and answer y, if you are sure")),
        Err(error) => Err(no_terminal(&error, "add --yes if you are sure")),
    }
}

fn password_from_stdin() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::usage(
            "--password-stdin wants the password from a pipe, and stdin is a terminal, which would show it",
            "leave --password-stdin out to be asked for the password",
        ));
    }
    line_from_stdin("the password")
}

fn typed_password() -> Result<String, Failure> {
    let help = "pipe the password in, and add --password-stdin";
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for the password on", help));
    }
    dialoguer::Password::new()
        .with_prompt("New password (not shown)")
        .with_confirmation("The same again", "the two are not the same; once more")
        .report(false)
        .interact()
        .map_err(|error| no_terminal(&error, help))
}

fn no_terminal(error: &dialoguer::Error, help: &str) -> Failure {
    Failure::usage(format!("cannot ask on this terminal: {error}"), help)
}
