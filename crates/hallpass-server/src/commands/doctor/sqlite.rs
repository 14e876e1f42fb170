//! What can be wrong with an SQLite file.

use std::path::Path;

use super::{Check, schema_check};
use crate::app::{CheckUp, sqlite_failure};

/// Below this, the write-ahead log may not find the room it needs.
const FREE_BYTES_MIN: u64 = 100 << 20;

pub(super) fn checks(found: &CheckUp) -> Vec<Check> {
    let mut checks = vec![Check::ok("database", found.path.display().to_string())];
    checks.push(schema_check(found.pending));
    checks.push(if found.journal_mode == "wal" {
        Check::ok("journal mode", "wal")
    } else {
        let help = "run `hallpass migrate`, on a disk of this machine: network file systems cannot do it";
        Check::fail("journal mode", format!("{}, not wal", found.journal_mode), help)
    });
    checks.extend(found.writing.as_ref().map(|writing| match writing {
        Ok(true) => Check::ok("writing", "possible, and waits for the disk (synchronous = FULL)"),
        Ok(false) => {
            let help = "this is a fault of the program: please report it";
            Check::fail("writing", "possible, but does not wait for the disk", help)
        }
        Err(error) => sqlite_failure(error).into_check("writing"),
    }));
    checks.push(if found.damage.is_empty() {
        Check::ok("integrity", "no page is damaged")
    } else {
        let help = "stop the server, keep a copy of the file, and restore the last good backup";
        Check::fail("integrity", found.damage.join("; "), help)
    });
    checks.push(permissions_check(&found.path));
    checks.extend(disk_check(&found.path));
    checks
}

#[cfg(unix)]
fn permissions_check(path: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt;
    let mode = match path.metadata() {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) => return Check::warn("permissions", error.to_string(), "look at the folder's rights"),
    };
    if mode % 0o10 == 0 {
        Check::ok("permissions", format!("{mode:03o}"))
    } else {
        let help = format!("there are password hashes in it: chmod 600 '{}'*", path.display());
        Check::fail("permissions", format!("{mode:03o}: every user of this machine gets at the file"), help)
    }
}

#[cfg(not(unix))]
fn permissions_check(path: &Path) -> Check {
    Check::ok("permissions", format!("not looked at here: {}", path.display()))
}

/// `None` where the system does not tell.
#[cfg(unix)]
fn disk_check(path: &Path) -> Option<Check> {
    let disk = rustix::fs::statvfs(path.parent()?).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Some(if free >= FREE_BYTES_MIN {
        Check::ok("disk", format!("{} GiB free", free >> 30))
    } else {
        Check::warn(
            "disk",
            format!("{} MiB free", free >> 20),
            "make room: with a full disk no token is made and none is revoked",
        )
    })
}

#[cfg(not(unix))]
fn disk_check(_: &Path) -> Option<Check> {
    None
}
