//! The verbs, one file each. Each does its work through an [`App`](crate::app::App) and prints one answer.

pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod migrate;
pub(crate) mod prune;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod user;

/// How a verb that was done came out, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    OutOfReach,
}
