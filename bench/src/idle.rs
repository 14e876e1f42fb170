//! What the service costs before anybody logs in.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use crate::{
    Plan,
    report::{Goal, Report, Sample},
};

const STARTS: usize = 9;

pub(crate) fn measure(plan: &Plan, folder: &Path, report: &mut Report) {
    eprintln!("idle server");
    let (mut ready, mut memory) = (Vec::new(), Vec::new());
    // The first start makes the database and is not counted.
    for start in 0..=STARTS {
        let begin = Instant::now();
        let server = Server::start(plan, folder);
        let took = begin.elapsed().as_secs_f64() * 1000.0;
        let resident = server.resident_mib();
        if start > 0 {
            ready.push(took);
            memory.push(resident);
        }
    }
    report.add("start to ready on an existing database", Sample::new(ready), " ms", Goal::AtMost(150.0), "");
    report.add("idle server, resident memory", Sample::new(memory), " MiB", Goal::AtMost(25.0), "");
}

/// Ended by its own pid when dropped.
struct Server(Child);

impl Server {
    fn start(plan: &Plan, folder: &Path) -> Self {
        let mut child = Command::new(&plan.server)
            .args(["serve", "--listen", "127.0.0.1:0", "--database", "sqlite:idle.db"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts: is it built in release?");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        assert!(line.starts_with("hallpass listening on"), "{line}");
        Self(child)
    }

    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
