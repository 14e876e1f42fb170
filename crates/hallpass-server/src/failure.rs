//! How a verb fails: what went wrong, what to do next, and the exit status that scripts see.

use std::process::ExitCode;

use hallpass::{Invalid, Unavailable};

use crate::config::BadSetting;

/// The exit status, as `WIRE.md` fixes it. 0 is: done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The answer is no.
    No = 1,
    /// Used wrongly.
    Usage = 2,
    /// A part is out of reach.
    OutOfReach = 3,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// A verb that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// What went wrong; never a secret.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) help: String,
}

impl Failure {
    pub(crate) fn no(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { status: Status::No, message: message.into(), help: help.into() }
    }

    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { status: Status::Usage, message: message.into(), help: help.into() }
    }

    pub(crate) fn out_of_reach(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { status: Status::OutOfReach, message: message.into(), help: help.into() }
    }

    /// What was asked for cannot be had; `flag` is the place on the command line to mend.
    pub(crate) fn invalid(flag: &str, invalid: &Invalid) -> Self {
        Self::usage(format!("{flag} cannot be used"), format!("{} {}", flag, invalid.message()))
    }
}

impl From<BadSetting> for Failure {
    fn from(bad: BadSetting) -> Self {
        Self::usage(bad.message, bad.help)
    }
}

/// The operator is told the causes too.
impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        let message = with_causes(&unavailable);
        let message = message.strip_prefix("unavailable: ").unwrap_or(&message);
        Self::out_of_reach(message, "try again in a while; `hallpass doctor` may tell more")
    }
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
