//! The service from outside, by resource and outcome: in process, or through a socket where that is the point.

#![cfg(test)]

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
