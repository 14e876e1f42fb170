//! A temporary folder, and the account that the server in it runs under.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Failure;

/// Linux keeps what is here in memory. Creating a database is creating hundreds of files, which takes a disk ten times as long.
const MEMORY: &str = "/dev/shm";

/// With less room than this, servers could fill it: PostgreSQL alone keeps up to 1 GiB of its log. Containers often have 64 MiB.
const ROOM_WANTED: u64 = 3 << 30;

/// A private folder that is removed with all that is in it when this value is dropped, or when the test's process dies.
#[derive(Debug)]
pub struct Folder {
    dir: TempDir,
    account: Account,
}

impl Folder {
    /// An empty folder in the system's place for temporary files, readable by its owner only.
    ///
    /// # Errors
    /// `System`, when it cannot be made.
    pub fn new() -> Result<Self, Failure> {
        Self::owned_by(Account::Mine, Place::Disk)
    }

    pub(crate) fn owned_by(account: Account, place: Place) -> Result<Self, Failure> {
        let place = match place {
            Place::Memory if memory_has_room() => MEMORY.into(),
            Place::Memory | Place::Disk => account.place(),
        };
        let dir = tempfile::Builder::new()
            .prefix("hallpass-testbed.")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(place)
            .map_err(Failure::system("making a temporary folder"))?;
        account.own(dir.path())?;
        Ok(Self { dir, account })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn account(&self) -> Account {
        self.account
    }

    /// Writes a file that only the account of the folder can read, and says where it is.
    ///
    /// # Errors
    /// `System`, when it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<PathBuf, Failure> {
        let path = self.path().join(name);
        fs::write(&path, contents)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .map_err(Failure::system(format!("writing {}", path.display())))?;
        self.account.own(&path)?;
        Ok(path)
    }
}

/// Whether a server's writes go to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Disk,
    /// As long as there is room, else to the disk.
    Memory,
}

fn memory_has_room() -> bool {
    rustix::fs::statvfs(MEMORY).is_ok_and(|about| about.f_bavail * about.f_frsize >= ROOM_WANTED)
}

/// Who runs a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// Whoever runs the tests.
    Mine,
    /// Another account, because this is root and the server refuses to run as root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// The account for a server that refuses root: `postgres` when this is root, else whoever this is.
    pub(crate) fn not_root() -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return Some(Self::Mine);
        }
        let accounts = fs::read_to_string("/etc/passwd").ok()?;
        let mut fields = accounts.lines().find(|line| line.starts_with("postgres:"))?.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self::Other { uid, gid })
    }

    /// Makes `command` run under this account.
    pub(crate) fn run(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
    }

    pub(crate) fn own(self, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Mine => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid), Some(gid))
                .map_err(Failure::system(format!("giving {} away", path.display()))),
        }
    }

    /// Where this account can have a temporary folder: a run of the tests may have a private one that only root may enter.
    fn place(self) -> PathBuf {
        let place = std::env::temp_dir();
        let everybody_may_pass =
            |folder: &Path| fs::metadata(folder).is_ok_and(|about| about.permissions().mode() & 0o001 != 0);
        if self == Self::Mine || place.ancestors().all(everybody_may_pass) { place } else { "/tmp".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_goes_with_its_value() {
        let folder = Folder::new().unwrap();
        let file = folder.write("key", "secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&file), 0o600);
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
