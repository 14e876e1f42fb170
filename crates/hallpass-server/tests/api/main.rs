//! The service from outside, by resource and outcome: in process, or through a socket where that is the point.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must stop"
)]
#![expect(clippy::needless_pass_by_value, reason = "`json!` reads better without an ampersand")]

mod audit;
mod bearer;
mod bodies;
mod edges;
mod fixture;
mod health;
mod jobs;
mod log;
mod login;
mod logout;
mod me;
mod socket;
mod tokens;
