//! What can be wrong with a Redis that keeps the tokens.

use super::{Check, encryption_check};
use crate::{
    app::{Node, TokenSight},
    config::{Settings, starred},
};

pub(super) fn checks(settings: &Settings, seen: &TokenSight) -> Vec<Check> {
    let url = settings.token_store.value.as_deref().map(starred).unwrap_or_default();
    let mut checks = vec![Check::ok("token store", url)];
    checks.push(encryption_check(
        "Redis TLS",
        seen.is_encrypted,
        seen.leaves_this_machine,
        "begin the URL with rediss:// or rediss-cluster://, and set tls-port in redis.conf",
    ));
    for node in &seen.nodes {
        checks.extend(node_checks(node, settings.allow_volatile.value));
    }
    checks
}

fn node_checks(node: &Node, allow_volatile: bool) -> [Check; 4] {
    let at = |found: &str| format!("{found} ({})", node.address);
    let append_only = if node.append_only {
        Check::ok("appendonly", at("yes"))
    } else {
        let found = at("no: when it ends, new tokens are lost and revoked ones live again");
        let help = "CONFIG SET appendonly yes, and the same line in redis.conf";
        if allow_volatile {
            Check::warn("appendonly", found, help)
        } else {
            Check::fail("appendonly", found, format!("{help}; without it, serve needs --allow-volatile"))
        }
    };
    let help = "CONFIG SET appendfsync always, and the same line in redis.conf";
    let append_fsync = match node.append_fsync.as_deref() {
        _ if !node.append_only => Check::ok("appendfsync", at("of no effect without appendonly")),
        Some("always") => Check::ok("appendfsync", at("always")),
        Some("everysec") => Check::warn(
            "appendfsync",
            at(
                "everysec: up to two seconds of new tokens and revocations are lost when it ends; what ends all of a user's \
                tokens is in the database",
            ),
            help,
        ),
        Some(other) => Check::warn(
            "appendfsync",
            at(&format!(
                "{other}: up to half a minute of new tokens and revocations is lost when its machine ends"
            )),
            help,
        ),
        None => Check::warn(
            "appendfsync",
            at("not told to this user"),
            "make sure that it is always: redis-cli CONFIG GET appendfsync; or allow +config|get",
        ),
    };
    let eviction = if node.eviction == "noeviction" {
        Check::ok("maxmemory-policy", at("noeviction"))
    } else {
        let found = at(&format!("{}: when it is full, it forgets revocations", node.eviction));
        Check::fail(
            "maxmemory-policy",
            found,
            "CONFIG SET maxmemory-policy noeviction, and the same line in redis.conf",
        )
    };
    [Check::ok("version", at(&format!("Redis {}", node.version))), append_only, append_fsync, eviction]
}
