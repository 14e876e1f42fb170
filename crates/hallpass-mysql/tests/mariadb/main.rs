//! The store on a real MariaDB: `scripts/test` runs these.

#![cfg(test)]

mod conflicts;
mod conformance;
mod crash;
mod migrations;
mod opening;
mod outages;
mod own_schema;
mod sample;
mod statements;
mod tls;
mod values;
