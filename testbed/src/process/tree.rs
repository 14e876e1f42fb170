//! A process with all those it started, by `/proc`: PostgreSQL's processes leave their parent's process group, so that a
//! signal to the group reaches only the first of them.

use std::collections::HashMap;
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

/// The resident memory of the process `pid` in bytes now; `None` when there is none.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    status_kib(pid, "VmRSS:")
}

/// The most resident memory that the process `pid` ever had, in bytes.
#[must_use]
pub fn peak_resident_bytes(pid: u32) -> Option<u64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

pub(super) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

/// Stops the process first, so that it starts no other meanwhile. True when all were found stopped.
pub(super) fn stop(root: u32) -> bool {
    let _ = signal(root, Signal::STOP);
    let mut all = descendants(root);
    for pid in &all {
        let _ = signal(*pid, Signal::STOP);
    }
    all.push(root);
    all.iter().all(|pid| is_stopped(*pid))
}

pub(super) fn go_on(root: u32) {
    for pid in descendants(root) {
        let _ = signal(pid, Signal::CONT);
    }
    let _ = signal(root, Signal::CONT);
}

/// Kills all, the first one stopped until the others are known; says which they were.
pub(super) fn kill(root: u32) -> Vec<u32> {
    let _ = signal(root, Signal::STOP);
    let mut all = descendants(root);
    all.push(root);
    for pid in &all {
        let _ = signal(*pid, Signal::KILL);
    }
    all
}

/// Nothing is left but, perhaps, an entry that its parent has not looked at.
pub(super) fn is_gone(pid: u32) -> bool {
    parent_and_state(&format!("/proc/{pid}/stat")).is_none_or(|(_, state)| matches!(state, 'Z' | 'X'))
}

/// Stopped are all its threads, not only the first. One that is inside the kernel (`D`) counts: it runs no code of its own before it
/// stops, and one that waits for a child it just forked stays there as long as the child is stopped.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = thread.path().join("stat");
        parent_and_state(&stat.to_string_lossy())
            .is_none_or(|(_, state)| matches!(state, 'T' | 't' | 'D' | 'Z' | 'X'))
    })
}

fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some((parent, _)) = parent_and_state(&format!("/proc/{pid}/stat")) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let of_it = children.remove(&parent).unwrap_or_default();
        parents.extend(&of_it);
        found.extend(of_it);
    }
    found
}

/// `pid (name) state parent ...`, where the name may have blanks and parentheses.
fn parent_and_state(stat: &str) -> Option<(u32, char)> {
    let stat = fs::read_to_string(stat).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}
