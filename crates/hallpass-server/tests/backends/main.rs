//! The service on every kind of store: two servers as one, outages, crashes.
//!
//! With `HALLPASS_PROOF=1` the same tests take longer and ask more, and each writes lines for the table of `scripts/proof`.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that cannot go on must stop the test, as the test itself may"
)]

#[path = "../cli/folder.rs"]
#[expect(dead_code, reason = "the tests of the command line use more of it")]
mod folder;
#[path = "../cli/server.rs"]
#[expect(dead_code, reason = "the tests of the command line use more of it")]
mod server;

mod backend;
mod proof;

mod crash;
mod doctor;
mod load;
mod outages;
mod read_only;
mod secrets;
mod starting;
mod together;

/// Long enough for any rule about passwords.
const PASSWORD: &str = "correct horse battery staple";
