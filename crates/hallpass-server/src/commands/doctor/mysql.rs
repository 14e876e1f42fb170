//! What can be wrong with a `MySQL` or `MariaDB`.

use super::{Check, encryption_check, schema_check, writing_check};
use crate::app::MysqlInspection;

const FLUSH: &str = "innodb_flush_log_at_trx_commit";
const CONFIGURATION: &str = "in the server's [mysqld] section, and by SET GLOBAL";

pub(super) fn checks(found: &MysqlInspection, allow_volatile: bool) -> Vec<Check> {
    let mut checks = vec![Check::ok("version", found.version.clone())];
    checks.push(encryption_check(
        "TLS",
        found.encrypted,
        !found.local,
        "take ssl-mode out of the URL, or set ssl-mode=verify-identity, and ssl_cert and ssl_key in the server's [mysqld] section",
    ));
    checks.push(schema_check(found.pending));
    checks.push(writing_check(
        found.read_only,
        "name the primary in the URL, or SET GLOBAL read_only = OFF if it is the primary",
    ));
    let help = format!("set {FLUSH} = 1 {CONFIGURATION}");
    checks.push(match found.flush_log_at_trx_commit {
        0 => {
            let found = "0: up to a second of what was acknowledged is lost when the database ends, and revoked tokens live again";
            if allow_volatile { Check::warn(FLUSH, found, help) } else { Check::fail(FLUSH, found, help) }
        }
        2 => Check::warn(
            FLUSH,
            "2: nothing is lost when the database ends; when the machine ends, up to a second of what was acknowledged",
            help,
        ),
        other => Check::ok(FLUSH, other.to_string()),
    });
    checks.push(if found.doublewrite {
        Check::ok("innodb_doublewrite", "on")
    } else {
        Check::warn(
            "innodb_doublewrite",
            "off: a page written by half when the machine ends is not mended, unless the file system writes pages whole",
            "set innodb_doublewrite = ON in the server's [mysqld] section, and restart it",
        )
    });
    checks.extend(found.sync_binlog.map(|sync| {
        if sync == 1 {
            return Check::ok("sync_binlog", "1");
        }
        let found =
            format!("{sync}: when the machine ends, replicas may have less than was acknowledged, or more");
        Check::warn("sync_binlog", found, format!("set sync_binlog = 1 {CONFIGURATION}"))
    }));
    checks
}
