//! Schema migrations: numbered SQL that was embedded in the program, and what of it a database still needs.
//!
//! For the SQL stores, and without any driver: a store reads what its database says was [`Applied`], asks
//! [`pending`] what is left, and runs each in one transaction together with the note that it was run.

use std::{borrow::Cow, fmt};

use sha2::{Digest, Sha256};

/// One step of a schema. A step that was ever released is never edited: the next one changes what it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

impl Migration {
    /// Step number `version` (1 is the first), a name for people, and its SQL.
    #[must_use]
    pub const fn new(version: u32, name: &'static str, sql: &'static str) -> Self {
        Self { version, name, sql }
    }

    /// Its number. 1 is the first, and none is left out.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its statements.
    #[must_use]
    pub const fn sql(&self) -> &'static str {
        self.sql
    }

    /// The SHA-256 of its SQL. A checkout with other line ends has the same.
    #[must_use]
    pub fn checksum(&self) -> [u8; 32] {
        let sql = if self.sql.contains('\r') {
            Cow::Owned(self.sql.replace("\r\n", "\n"))
        } else {
            Cow::Borrowed(self.sql)
        };
        Sha256::digest(sql.as_bytes()).into()
    }
}

/// As `0001_first`.
impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}_{}", self.version, self.name)
    }
}

/// What a database says of a step that was run on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The step's number.
    pub version: i64,
    /// The [checksum](Migration::checksum) of the SQL that was run.
    pub checksum: Vec<u8>,
}

/// Why a database cannot be used or brought up to date by this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// A later program was here.
    #[error(
        "its schema is version {found}, and this program knows versions up to {known}: run a program at least as new as \
         the one that migrated it"
    )]
    Newer {
        /// The database's version.
        found: i64,
        /// The program's.
        known: u32,
    },
    /// A step has other SQL than the one that was run.
    #[error(
        "its schema was changed by hand: what was run as migration {migration} is not what this program has under that \
         name. Restore the database from a backup, or run the program that made it"
    )]
    Changed {
        /// The step, as `0001_first`.
        migration: String,
    },
    /// A step is missing between two that were run.
    #[error(
        "its schema was changed by hand: migration {missing} is not noted as run, but a later one is. Restore the \
         database from a backup"
    )]
    Missing {
        /// The number of the first that is missing.
        missing: i64,
    },
}

/// The steps among `known` that are yet to be run, in their order, on a database where `applied` were run.
///
/// # Errors
/// What was run is not how `known` begins.
pub fn pending<'a>(known: &'a [Migration], applied: &[Applied]) -> Result<&'a [Migration], Mismatch> {
    let mut applied: Vec<_> = applied.iter().collect();
    applied.sort_by_key(|applied| applied.version);
    for (applied, expected) in applied.iter().zip(1..) {
        if applied.version != expected {
            return Err(Mismatch::Missing { missing: expected });
        }
    }
    for (applied, migration) in applied.iter().zip(known) {
        if applied.checksum != migration.checksum() {
            return Err(Mismatch::Changed { migration: migration.to_string() });
        }
    }
    known.get(applied.len()..).ok_or_else(|| Mismatch::Newer {
        found: applied.last().map_or(0, |last| last.version),
        known: known.last().map_or(0, Migration::version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Migration; 3] =
        [Migration::new(1, "a", "A;"), Migration::new(2, "b", "B;"), Migration::new(3, "c", "C;")];

    fn applied(versions: &[i64]) -> Vec<Applied> {
        let checksum = |version: i64| {
            let known = KNOWN.iter().find(|known| i64::from(known.version()) == version);
            known.map_or_else(Vec::new, |known| known.checksum().to_vec())
        };
        versions.iter().map(|&version| Applied { version, checksum: checksum(version) }).collect()
    }

    #[test]
    fn what_was_run_is_not_run_again() {
        assert_eq!(pending(&KNOWN, &[]).unwrap(), KNOWN);
        assert_eq!(pending(&KNOWN, &applied(&[2, 1])).unwrap(), &KNOWN[2..]);
        assert_eq!(pending(&KNOWN, &applied(&[1, 2, 3])).unwrap(), []);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let refused = pending(&KNOWN, &applied(&[1, 2, 3, 4])).unwrap_err();
        assert_eq!(refused, Mismatch::Newer { found: 4, known: 3 });
    }

    #[test]
    fn other_sql_under_a_known_number_is_refused() {
        let mut applied = applied(&[1, 2]);
        applied[1].checksum = vec![0; 32];
        let refused = pending(&KNOWN, &applied).unwrap_err();
        assert_eq!(refused, Mismatch::Changed { migration: "0002_b".into() });
    }

    #[test]
    fn a_hole_is_refused() {
        for (versions, missing) in [(&[1, 3][..], 2), (&[2], 1), (&[0, 1], 1), (&[1, 1], 2)] {
            let refused = pending(&KNOWN, &applied(versions)).unwrap_err();
            assert_eq!(refused, Mismatch::Missing { missing }, "{versions:?}");
        }
    }

    #[test]
    fn line_ends_do_not_change_the_checksum() {
        let unix = Migration::new(1, "a", "A;\nB;\n");
        let other = Migration::new(1, "a", "A;\r\nB;\r\n");
        assert_eq!(unix.checksum(), other.checksum());
        assert_ne!(unix.checksum(), Migration::new(1, "a", "A; B; ").checksum());
    }
}
