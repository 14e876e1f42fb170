//! Data folders that are initialised once and then copied: initialising takes seconds, a copy takes milliseconds.
//!
//! The copies are kept under cargo's target folder, for all test programs and later runs; `cargo clean` removes them.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs, io};

use crate::Failure;
use crate::folder::Folder;

/// Raised when what goes into a template changes.
const RECIPE: u32 = 1;

/// Makes `name` in `folder`: by copying an earlier one of the same `version`, else by `initialise`, which gets the path.
pub(crate) fn fill(
    folder: &Folder,
    name: &str,
    version: &str,
    initialise: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    // Tests that start together wait for one to initialise, instead of all doing so.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();

    let data = folder.path().join(name);
    let kept = shelf().map(|shelf| shelf.join(format!("{name}-{}-recipe-{RECIPE}", plain(version))));
    if kept.as_deref().is_some_and(|kept| copy(kept, &data).is_ok()) {
        own_all(folder, &data)?;
        return Ok(data);
    }
    // There is none, or only half of it could be read.
    if data.exists() {
        fs::remove_dir_all(&data).map_err(Failure::system("clearing a data folder"))?;
    }
    initialise(&data)?;
    if let Some(kept) = kept {
        // Not to keep it costs time only. The next one initialises again.
        let _ = keep(&data, &kept);
    }
    Ok(data)
}

/// Cargo's target folder has a marker file, and the test program is somewhere below it.
fn shelf() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let target = program.ancestors().skip(1).filter(|folder| folder.join("CACHEDIR.TAG").is_file()).last()?;
    Some(target.join("testbed"))
}

fn plain(version: &str) -> String {
    version.trim().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}

/// Copies to a place beside, then renames: nobody ever sees half a template, and of two at once one wins.
fn keep(data: &Path, kept: &Path) -> io::Result<()> {
    let shelf = kept.parent().unwrap_or(kept);
    fs::create_dir_all(shelf)?;
    let beside = tempfile::Builder::new().prefix(".new.").tempdir_in(shelf)?;
    let copied = beside.path().join("data");
    copy(data, &copied)?;
    fs::rename(copied, kept)
}

/// Files keep their modes; folders are private, as PostgreSQL demands.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let entries = fs::read_dir(from)?;
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn own_all(folder: &Folder, path: &Path) -> Result<(), Failure> {
    folder.account().own(path)?;
    if path.is_dir() {
        let listing = format!("listing {}", path.display());
        for entry in fs::read_dir(path).map_err(Failure::system(listing.clone()))? {
            own_all(folder, &entry.map_err(Failure::system(listing.clone()))?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_initialised_once_and_copied_whole() {
        // A version of its own, so that an earlier run's template does not count.
        let version = format!("test of {}", std::process::id());
        let mut times = 0;
        for _ in 0..2 {
            let folder = Folder::new().unwrap();
            let data = fill(&folder, "example", &version, |data| {
                times += 1;
                fs::create_dir_all(data.join("deep")).unwrap();
                fs::write(data.join("deep/file"), "kept").unwrap();
                Ok(())
            });
            assert_eq!(fs::read_to_string(data.unwrap().join("deep/file")).unwrap(), "kept");
        }
        assert_eq!(times, 1);
        let _ =
            fs::remove_dir_all(shelf().unwrap().join(format!("example-{}-recipe-{RECIPE}", plain(&version))));
    }
}
