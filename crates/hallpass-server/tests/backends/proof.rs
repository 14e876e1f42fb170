//! The long versions of these tests, and the lines of the table they give.

use std::{env, fmt, fs::OpenOptions, io::Write, time::Duration};

use hallpass_testbed::peak_resident_bytes;

use crate::{backend::Kind, server::Server};

/// Whether `scripts/proof` runs these tests, and not `scripts/test`.
pub(crate) fn is_on() -> bool {
    env::var("HALLPASS_PROOF").is_ok_and(|value| value == "1")
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) backend: Kind,
    pub(crate) fault: String,
    /// Creations and revocations that the server said were done.
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) revived: usize,
    pub(crate) wrong: usize,
    /// An answer during the fault.
    pub(crate) slowest: Option<Duration>,
    /// From the end of the fault to the first success.
    pub(crate) recovered: Duration,
    /// The most memory that the server ever had.
    pub(crate) resident_bytes: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slowest = self.slowest.map_or("-".to_owned(), |slowest| format!("{} ms", slowest.as_millis()));
        write!(
            f,
            "{}\t{}\t{}\t{}\t{}\t{}\t{slowest}\t{} ms\t{} MiB",
            self.backend,
            self.fault,
            self.acknowledged,
            self.lost,
            self.revived,
            self.wrong,
            self.recovered.as_millis(),
            self.resident_bytes >> 20,
        )
    }
}

impl Line {
    /// Shows it, and adds it to the file that `scripts/proof` prints.
    pub(crate) fn tell(&self) {
        println!("{self}");
        if let Some(path) = env::var_os("HALLPASS_PROOF_TABLE") {
            let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
            // In one piece: other tests write too.
            file.write_all(format!("{self}\n").as_bytes()).unwrap();
        }
    }
}

pub(crate) fn resident_bytes(server: &Server) -> u64 {
    peak_resident_bytes(server.pid()).unwrap_or_default()
}
