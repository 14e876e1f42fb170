//! What can go wrong while a test sets its table.

use std::io;

/// A server's programs are not on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server} is not installed ({program} is missing): run scripts/servers")]
pub struct Missing {
    pub(crate) server: &'static str,
    pub(crate) program: &'static str,
}

/// Why a server, a process or a proxy is not there to test with.
///
/// Always a fault of the table, never of what is tested: a test unwraps it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The programs are not installed.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The process ended, or did not become ready in time. The end of its log says why.
    #[error("{name}: {reason}; its log ends:\n{log}")]
    Process {
        /// The program's name.
        name: String,
        /// What was waited for.
        reason: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// A server answered, but not what was asked for.
    #[error("{asked}: {answer}")]
    Answer {
        /// What it was asked.
        asked: String,
        /// What it said.
        answer: String,
    },
    /// The operating system refused something.
    #[error("{doing}: {error}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        error: String,
    },
}

impl Failure {
    /// A closure for `map_err`, so that no error of the system comes without what was tried.
    pub(crate) fn system<E: ToString>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |error| Self::System { doing, error: error.to_string() }
    }

    pub(crate) fn answer(asked: impl Into<String>, answer: &impl ToString) -> Self {
        Self::Answer { asked: asked.into(), answer: answer.to_string() }
    }

    /// Somebody else was quicker to take the port: another one may work.
    pub(crate) fn is_taken_port(&self) -> bool {
        matches!(self, Self::Process { log, .. } if log.to_lowercase().contains("address already in use"))
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}
