//! Child processes: clean environment, ready line, signals, and that none outlives the test.
#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hallpass_testbed::{Failure, Folder, Process, Program, peak_resident_bytes, resident_bytes};

const PATIENCE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Program {
    Program::new("/bin/sh").args(["-c", script])
}

fn exists(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

/// What ended by a signal is gone some microseconds later.
fn is_soon(what: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn children(process: &Process) -> Vec<u32> {
    let line = process.ready_line().unwrap();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_environment_is_empty_but_for_what_is_given() {
    let mut process = shell("env; echo ready").env("GIVEN", "value").ready_line("ready").start().unwrap();
    assert!(process.wait(PATIENCE).unwrap().unwrap().success());
    let log = process.log();
    let mut names: Vec<_> = log.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "LC_ALL", "PATH", "PWD", "TZ"]);
    assert!(log.contains("GIVEN=value\n"));
    assert!(log.contains(&format!("PWD={}\n", process.folder().display())), "{log}");
}

#[test]
fn the_ready_line_is_whole_and_that_of_the_latest_start() {
    let script = "printf 'listening on '; sleep 0.1; echo $$ >&2; sleep 100";
    let mut process = shell(script).ready_line("listening on").start().unwrap();
    let first = process.ready_line().unwrap().to_owned();
    assert_eq!(first, format!("listening on {}", process.pid().unwrap()));
    process.restart().unwrap();
    assert_eq!(process.ready_line().unwrap(), format!("listening on {}", process.pid().unwrap()));
    assert_ne!(process.ready_line().unwrap(), first);
}

#[test]
fn a_program_that_ends_instead_of_becoming_ready_says_why() {
    let failure = shell("echo 'no such database' >&2; exit 3").ready_line("ready").start().unwrap_err();
    assert!(matches!(failure, Failure::Process { .. }));
    assert!(failure.to_string().contains("no such database"), "{failure}");
}

#[test]
fn an_end_by_itself_and_a_clean_stop_are_told() {
    let mut process = shell("exit 7").start().unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().unwrap().code(), Some(7));
    assert_eq!(process.pid(), None);
    assert_eq!(process.wait(PATIENCE).unwrap(), None);

    let script = "trap 'echo stopped; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut process = shell(script).ready_line("ready").start().unwrap();
    assert_eq!(process.wait(Duration::ZERO).unwrap(), None);
    process.terminate().unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().unwrap().code(), Some(5));
    assert!(process.log().contains("stopped"));
}

#[test]
fn kill9_and_drop_end_a_process_with_its_children_in_other_groups() {
    // `setsid` is what PostgreSQL's processes do to leave the group.
    let script = "setsid sleep 100 & one=$!; sleep 100 & echo pids $$ $one $!; wait";
    for kill in [true, false] {
        let mut process = shell(script).ready_line("pids").start().unwrap();
        let pids = children(&process);
        let folder = process.folder().to_owned();
        assert!(pids.iter().all(|pid| exists(*pid)), "{pids:?}");
        if kill {
            process.kill9().unwrap();
            assert_eq!(process.pid(), None);
            assert!(folder.exists(), "a killed server's data must stay");
        } else {
            drop(process);
            assert!(!folder.exists());
        }
        assert!(!pids.iter().any(|pid| exists(*pid)), "{pids:?}");
    }
}

#[test]
fn a_frozen_process_does_nothing_and_goes_on_when_thawed() {
    let script = "(while :; do echo tick >>ticks; sleep 0.01; done) & echo ready; wait";
    let mut process = shell(script).ready_line("ready").start().unwrap();
    let ticks = process.folder().join("ticks");
    let size = || std::fs::metadata(&ticks).map_or(0, |about| about.len());
    assert!(is_soon(|| size() > 10));
    process.freeze().unwrap();
    let frozen = size();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(size(), frozen);
    process.thaw().unwrap();
    assert!(is_soon(|| size() > frozen));
    process.freeze().unwrap();
    // A frozen one can be ended too.
    drop(process);
}

#[test]
fn resident_memory_is_that_of_the_process() {
    let mine = resident_bytes(std::process::id()).unwrap();
    assert!((1 << 20..1 << 30).contains(&mine), "{mine}");
    assert!(peak_resident_bytes(std::process::id()).unwrap() >= mine);
    assert_eq!(resident_bytes(u32::MAX), None);
    let process = shell("sleep 100").start().unwrap();
    assert!(is_soon(|| process.resident_bytes().is_some_and(|bytes| bytes > 0)));
}

/// Not a test by itself: the part of the next one that dies.
#[test]
fn a_test_that_is_killed() {
    let Some(told) = std::env::var_os("HALLPASS_TESTBED_DIES") else { return };
    let script = "setsid sleep 100 & echo pids $$ $!; wait";
    let mut process = shell(script).ready_line("pids").start().unwrap();
    process.freeze().unwrap();
    let pids = children(&process);
    let told = Path::new(&told);
    let folder = process.folder().display();
    std::fs::write(told.with_extension("new"), format!("{} {}\n{folder}", pids[0], pids[1])).unwrap();
    std::fs::rename(told.with_extension("new"), told).unwrap();
    std::thread::sleep(10 * PATIENCE);
}

#[test]
fn a_killed_test_leaves_no_process_and_no_folder() {
    let folder = Folder::new().unwrap();
    let told = folder.path().join("told");
    let mut dies = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_test_that_is_killed", "--nocapture"])
        .env("HALLPASS_TESTBED_DIES", &told)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(is_soon(|| told.exists()));
    let told = std::fs::read_to_string(told).unwrap();
    let (pids, left) = told.split_once('\n').unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| exists(*pid)), "{pids:?}");
    dies.kill().unwrap();
    dies.wait().unwrap();
    assert!(is_soon(|| !pids.iter().any(|pid| exists(*pid))), "{pids:?}");
    assert!(is_soon(|| !Path::new(left).exists()), "{left}");
}
