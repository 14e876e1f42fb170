//! The benchmarks: each prints a ratio against a limit, both measured in this run, in turn, several times.
//!
//! `scripts/bench` builds and runs it. `hallpass-bench --help` says what can be left out.

mod cold;
mod create;
mod idle;
mod load;
mod report;
mod routes;
mod tokens;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use report::Report;

const HELP: &str = "\
Measures Hallpass against its limits and prints the ratios.

usage: hallpass-bench [--quick] [--only NAME]... [--json] --server PATH

  --quick        shorter rounds, and no ten million tokens
  --only NAME    cold, routes, create or idle; may be given several times
  --json         the table as JSON on stdout
  --server PATH  the hallpass binary, built in release
";

/// What was asked for.
pub(crate) struct Plan {
    quick: bool,
    json: bool,
    only: Vec<String>,
    server: PathBuf,
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self {
            quick: false,
            json: false,
            only: Vec::new(),
            server: PathBuf::from("target/release/hallpass"),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => plan.quick = true,
                "--json" => plan.json = true,
                "--only" => plan.only.push(args.next().ok_or("--only takes a name")?),
                "--server" => {
                    let path = args.next().ok_or("--server takes a path")?;
                    plan.server = std::path::absolute(path).map_err(|error| error.to_string())?;
                }
                other => return Err(format!("what is {other}?\n\n{HELP}")),
            }
        }
        Ok(plan)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// How long one round of one contender takes, and how many rounds there are.
    pub(crate) fn rounds(&self) -> (usize, Duration) {
        if self.quick { (3, Duration::from_millis(400)) } else { (7, Duration::from_millis(1500)) }
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::from_args() {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let folder = tempfile::Builder::new().prefix("hallpass-bench").tempdir().expect("a temporary folder");
    let mut report = Report::default();
    if plan.wants("idle") {
        idle::measure(&plan, folder.path(), &mut report);
    }
    if plan.wants("create") {
        create::measure(&plan, folder.path(), &mut report);
    }
    if plan.wants("routes") {
        routes::measure(&plan, folder.path(), &mut report);
    }
    if plan.wants("cold") {
        cold::measure(&plan, folder.path(), &mut report);
    }
    report.print(plan.json);
    // A figure that is not reached is said, not hidden behind an exit status that nobody sees.
    ExitCode::SUCCESS
}
