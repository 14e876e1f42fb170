//! A temporary folder in which the binary is run.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::PASSWORD;

pub(crate) struct Folder {
    dir: TempDir,
    /// For every command that is run in it.
    variables: Vec<(String, String)>,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self::with(Vec::new())
    }

    /// With settings for every command that is run in it.
    pub(crate) fn with(variables: Vec<(String, String)>) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), variables }
    }

    /// With a database and `ada@example.com` in it.
    pub(crate) fn with_ada() -> Self {
        let folder = Self::new();
        folder.add_user("ada@example.com");
        folder
    }

    pub(crate) fn add_user(&self, email: &str) {
        self.pipe(&["user", "add", email, "--password-stdin"], PASSWORD).ok();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path().join("hallpass.db")
    }

    /// Not run yet: an environment of the folder's own variables alone, this folder, and nothing on stdin.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.args(args).env_clear().envs(variables).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&mut self.command(args))
    }

    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        Ran::of(self.command(args).envs(variables.iter().copied()))
    }

    pub(crate) fn pipe(&self, args: &[&str], stdin: &str) -> Ran {
        Ran::piped(&mut self.command(args), stdin.as_bytes())
    }

    /// Makes a token for Ada; its text.
    pub(crate) fn token(&self, more: &[&str]) -> String {
        let args = ["token", "create", "--user", "ada@example.com", "--name", "test", "--scope", "*"];
        self.run(&[&args, more].concat()).ok().stdout.trim_end().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Everything in the folder, in one piece.
    pub(crate) fn all_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                bytes.extend(fs::read(path).unwrap());
            }
        }
        bytes
    }
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn piped(command: &mut Command, stdin: &[u8]) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A program that does not want its stdin closes it: that is not this test's concern.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self:#?}");
        self
    }

    /// The answer was no, and stdout has it.
    #[track_caller]
    pub(crate) fn says_no(self) -> Self {
        assert_eq!(self.status, 1, "{self:#?}");
        assert_eq!(self.stderr, "", "{self:#?}");
        self
    }

    /// It failed with this status, a message and a help, and nothing on stdout.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        if let Ok(json) = serde_json::from_str::<Value>(&self.stderr) {
            assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:#?}");
            assert!(json["error"]["help"].as_str().is_some_and(|text| !text.is_empty()), "{self:#?}");
        } else {
            assert!(self.stderr.starts_with("error: "), "{self:#?}");
            let help = self.stderr.split("\n  help: ").nth(1);
            assert!(help.is_some_and(|help| !help.trim().is_empty()), "{self:#?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn stderr_has(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "{part:?} is not in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn stdout_has(self, part: &str) -> Self {
        assert!(self.stdout.contains(part), "{part:?} is not in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The names of an object's members, sorted.
#[track_caller]
pub(crate) fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
