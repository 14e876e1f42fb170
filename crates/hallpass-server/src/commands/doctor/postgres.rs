//! What can be wrong with a PostgreSQL.

use super::{Check, encryption_check, schema_check, writing_check};
use crate::app::PostgresInspection;

const CONFIGURATION: &str = "in postgresql.conf, or by ALTER SYSTEM, and reload";

pub(super) fn checks(found: &PostgresInspection) -> Vec<Check> {
    let mut checks = vec![Check::ok("version", format!("PostgreSQL {}", found.server_version))];
    checks.push(encryption_check(
        "TLS",
        found.encrypted,
        !found.local,
        "take sslmode out of the URL, or set sslmode=verify-full, and ssl = on in postgresql.conf",
    ));
    checks.push(schema_check(found.pending));
    checks.push(if found.missing_grants.is_empty() {
        Check::ok("privileges", "all that are needed")
    } else {
        let help = format!("run as the tables' owner: {}", found.missing_grants.join("; "));
        Check::fail("privileges", "some are missing", help)
    });
    checks.push(writing_check(
        found.read_only,
        "name the primary in the URL (of several hosts: target_session_attrs=read-write), or set \
         default_transaction_read_only = off",
    ));
    checks.push(if found.fsync {
        Check::ok("fsync", "on")
    } else {
        let found = "off: when the machine ends, the whole database may be lost";
        Check::fail("fsync", found, format!("set fsync = on {CONFIGURATION}"))
    });
    checks.push(if found.full_page_writes {
        Check::ok("full_page_writes", "on")
    } else {
        let found = "off: a page written by half when the machine ends is not mended";
        Check::fail("full_page_writes", found, format!("set full_page_writes = on {CONFIGURATION}"))
    });
    checks.push(match found.synchronous_commit.as_str() {
        "off" => Check::ok(
            "synchronous_commit",
            "off: what makes, changes or ends tokens and accounts waits for the disk all the same; only notes of last uses do not",
        ),
        "local" => Check::ok("synchronous_commit", "local: what is answered is on the primary's disk, and a fail-over may lose it"),
        other => Check::ok("synchronous_commit", other),
    });
    checks
}
