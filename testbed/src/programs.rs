//! Where the installed programs are.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use crate::failure::Missing;
use crate::folder::Account;
use crate::{Failure, process};

/// Debian installs servers where an ordinary user's PATH does not look.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Debian's PostgreSQL is not on the PATH at all: there is a folder per version.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

pub(crate) fn find(server: &'static str, program: &'static str) -> Result<PathBuf, Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SERVER_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or(Missing { server, program })
}

/// One of PostgreSQL's own programs, of the newest version that is installed.
pub(crate) fn find_postgres(program: &'static str) -> Result<PathBuf, Missing> {
    let versions = fs::read_dir(POSTGRES_VERSIONS).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let file = entry.path().join("bin").join(program);
            file.is_file().then_some((version, file))
        })
        .max();
    newest.map_or_else(|| find("PostgreSQL", program), |(_, file)| Ok(file))
}

/// Runs a program to its end in a clean environment, with `input` as its input, and gives what it printed.
pub(crate) fn run(command: &mut Command, account: Account, input: &str) -> Result<String, Failure> {
    use std::io::Write as _;
    use std::process::Stdio;

    let name = command.get_program().to_string_lossy().into_owned();
    process::scrub(command);
    account.run(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Failure::system(format!("starting {name}")))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ends without reading says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(Failure::system(format!("waiting for {name}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Failure::answer(name, &String::from_utf8_lossy(&said).trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let missing = find("Example", "no-such-program").unwrap_err();
        let said = "Example is not installed (no-such-program is missing): run scripts/servers";
        assert_eq!(missing.to_string(), said);
        assert_eq!(Failure::from(missing).to_string(), said);
        assert!(find("Example", "sh").is_ok());
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let failure = run(Command::new("/bin/sh").args(["-c", "cat; exit 1"]), Account::Mine, "no room");
        assert_eq!(failure.unwrap_err().to_string(), "/bin/sh: no room");
    }
}
