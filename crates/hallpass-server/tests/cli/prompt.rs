//! A person at a terminal. The test holds the other end of it.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::{PASSWORD, folder::Folder};

/// Far more than any step takes, so that a fault ends the test.
const DEADLINE: Duration = Duration::from_secs(20);

struct Terminal {
    ours: File,
    child: Child,
    shown: String,
}

impl Terminal {
    fn run(folder: &Folder, args: &[&str]) -> Self {
        Self::run_with(folder, args, &[])
    }

    fn run_with(folder: &Folder, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let theirs = || Stdio::from(OpenOptions::new().read(true).write(true).open(name).unwrap());
        let child = folder
            .command(args)
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(theirs())
            .stderr(theirs())
            .stdout(theirs())
            .spawn()
            .unwrap();
        Self { ours: File::from(ours), child, shown: String::new() }
    }

    /// Reads until this is shown.
    fn until(&mut self, text: &str) -> &mut Self {
        let begun = Instant::now();
        while !self.shown.contains(text) {
            assert!(begun.elapsed() < DEADLINE && self.read(), "{text:?} is not shown: {:?}", self.shown);
        }
        self
    }

    /// `false` at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 1024];
        match self.ours.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
                true
            }
            // Linux says so when the last of the other end is closed.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until nothing typed is shown: what is typed earlier would be thrown away.
    fn hidden(&mut self) -> &mut Self {
        let begun = Instant::now();
        while tcgetattr(self.ours.as_fd()).unwrap().local_modes.contains(LocalModes::ECHO) {
            assert!(begun.elapsed() < DEADLINE, "it is shown what is typed: {:?}", self.shown);
            std::thread::yield_now();
        }
        self
    }

    fn type_in(&mut self, text: &str) -> &mut Self {
        self.ours.write_all(text.as_bytes()).unwrap();
        self
    }

    /// The exit status, and all that was shown.
    fn end(mut self) -> (i32, String) {
        while self.read() {}
        (self.child.wait().unwrap().code().unwrap_or(-1), std::mem::take(&mut self.shown))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_password_is_asked_for_twice_and_not_shown() {
    let folder = Folder::new();
    let mut terminal = Terminal::run(&folder, &["user", "add", "ada@example.com"]);
    terminal.until("New password").hidden().type_in(&format!("{PASSWORD}\n"));
    terminal.until("The same again").hidden().type_in(&format!("{PASSWORD}\n"));
    let (status, shown) = terminal.end();
    assert_eq!(status, 0, "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert!(shown.contains("added ada@example.com"), "{shown}");
    folder.token(&[]);
}

#[test]
fn two_passwords_that_differ_are_asked_for_again() {
    let folder = Folder::new();
    let mut terminal = Terminal::run(&folder, &["user", "add", "ada@example.com"]);
    terminal.until("New password").hidden().type_in(&format!("{PASSWORD}\n"));
    terminal.until("The same again").hidden().type_in("something else\n");
    terminal.until("not the same").until("New password");
    drop(terminal);
    folder.run(&["user", "disable", "ada@example.com"]).fails(1);
}

#[test]
fn deleting_asks_and_takes_no_for_an_answer() {
    let folder = Folder::with_ada();
    let mut terminal = Terminal::run(&folder, &["user", "delete", "ada@example.com"]);
    terminal.until("Delete ada@example.com").hidden().type_in("n");
    let (status, shown) = terminal.end();
    assert_eq!(status, 1, "{shown}");
    assert!(shown.contains("nothing was done"), "{shown}");

    let mut terminal = Terminal::run(&folder, &["user", "delete", "ada@example.com"]);
    terminal.until("Delete ada@example.com").hidden().type_in("y");
    let (status, shown) = terminal.end();
    assert_eq!(status, 0, "{shown}");
}

#[test]
fn a_terminal_has_colours_unless_it_wants_none() {
    let folder = Folder::with_ada();
    let (_, shown) = Terminal::run(&folder, &["doctor"]).end();
    assert!(shown.contains("\u{1b}[32mok"), "{shown:?}");

    for wish in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let (_, shown) = Terminal::run_with(&folder, &["doctor"], &[wish]).end();
        assert!(shown.contains("ok    schema") && !shown.contains('\u{1b}'), "{wish:?}: {shown:?}");
    }
    let (_, shown) = Terminal::run_with(&folder, &["doctor"], &[("NO_COLOR", "")]).end();
    assert!(shown.contains("\u{1b}[32mok"), "{shown:?}");
}
