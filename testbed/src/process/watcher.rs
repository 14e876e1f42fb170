//! Ends a server when the test's process dies without doing so: by a panic that aborts, by SIGKILL, or simply at its end with a
//! server in a `static`, which is never dropped.
//!
//! A small shell holds the reading end of a pipe. The kernel closes the other end with the test's process, whatever ended that.

use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::Signal;

use super::scrub;
use crate::Failure;

/// `$1` is the folder, `$2` the signal that ends the server at once. One level of children is enough here: no server's children
/// have children of their own.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pid=
while read -r verb arg; do
    case $verb in
        watch) pid=$arg ;;
        release) pid= ;;
        done) exit 0 ;;
    esac
done
children() {
    for file in $(grep -ls "^PPid:[[:space:]]*$pid\$" /proc/[0-9]*/status); do
        child=${file#/proc/}
        echo "${child%/status}"
    done
}
if [ -n "$pid" ]; then
    if [ "$2" != KILL ]; then
        kill -CONT $(children) "$pid"
        kill -"$2" "$pid"
        left=60
        while [ "$left" -gt 0 ] && kill -0 "$pid"; do
            sleep 0.05
            left=$((left - 1))
        done
    fi
    # Stopped it starts no others, and as long as it is there the others are known by it.
    kill -STOP "$pid"
    kill -KILL $(children) "$pid"
fi
rm -rf -- "$1"
"#;

#[derive(Debug)]
pub(super) struct Watcher {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watcher {
    pub(super) fn start(folder: &Path, ends_by: Signal) -> Result<Self, Failure> {
        let mut command = Command::new("/bin/sh");
        scrub(&mut command);
        let signal = if ends_by == Signal::QUIT { "QUIT" } else { "KILL" };
        let mut shell = command
            .args(["-c", SCRIPT, "hallpass-testbed-watcher"])
            .arg(folder)
            .arg(signal)
            // Not in the test's group: what ends the group (Ctrl-C, a test runner) must leave this to tidy up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Failure::system("starting the watcher"))?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    pub(super) fn watch(&mut self, pid: u32) {
        self.say(&format!("watch {pid}\n"));
    }

    /// The process has ended: its number may belong to another one soon.
    pub(super) fn release(&mut self) {
        self.say("release\n");
    }

    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            // A watcher that somebody killed cannot be told; the test still ends its servers itself.
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.say("done\n");
        self.pipe = None;
        let _ = self.shell.wait();
    }
}
