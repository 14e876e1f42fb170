//! The command line from outside: the binary is run, in an empty environment and a folder of its own.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper that cannot go on must stop the test, as the test itself may"
)]

mod folder;
#[expect(dead_code, reason = "the tests of the backends use more of it")]
mod server;

mod doctor;
mod help;
mod migrate;
mod prompt;
mod prune;
mod secrets;
mod serve;
mod settings;
mod token;
mod token_verify;
mod user;

/// Long enough for any rule about passwords.
const PASSWORD: &str = "correct horse battery staple";
