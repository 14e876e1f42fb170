//! What every server can be made to do.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::{Failure, Process};

/// While a server starts, an answer that takes longer than this is asked for again.
const START_PING: Duration = Duration::from_millis(500);

/// A private server. It ends, and its folder goes, when its value is dropped.
pub trait Server: fmt::Debug + Send + Sync {
    /// The running program.
    fn process(&self) -> &Process;

    /// The same, to be broken.
    fn process_mut(&mut self) -> &mut Process;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Asks something in the server's own protocol, on a connection of its own.
    ///
    /// # Errors
    /// `Answer`, when no right answer came `within` that time.
    fn ping(&self, within: Duration) -> Result<(), Failure>;

    /// Its process id; `None` after it was stopped or killed.
    fn pid(&self) -> Option<u32> {
        self.process().pid()
    }

    /// Its resident memory in bytes, without that of processes it started.
    fn resident_bytes(&self) -> Option<u64> {
        self.process().resident_bytes()
    }

    /// Kills all its processes by SIGKILL and waits until none is left. `restart` starts it again.
    ///
    /// # Errors
    /// `Process`, when one of them does not go.
    fn kill9(&mut self) -> Result<(), Failure> {
        self.process_mut().kill9()
    }

    /// Stops all its processes by SIGSTOP: connections stay open, new ones are accepted by the kernel, nothing answers.
    ///
    /// # Errors
    /// `Process`, when it is not there or does not stop.
    fn freeze(&mut self) -> Result<(), Failure> {
        self.process_mut().freeze()
    }

    /// Lets it go on after `freeze`.
    ///
    /// # Errors
    /// `Process`, when it is not there.
    fn thaw(&mut self) -> Result<(), Failure> {
        self.process_mut().thaw()
    }

    /// Stops it cleanly. `restart` starts it again.
    ///
    /// # Errors
    /// `Process`, when it does not stop.
    fn stop(&mut self) -> Result<(), Failure> {
        self.process_mut().stop()
    }

    /// Starts it again on the same port and data, and waits until it answers; stops it cleanly first if it runs.
    ///
    /// # Errors
    /// `Process`, when it does not stop or does not become ready.
    fn restart(&mut self) -> Result<(), Failure> {
        self.process_mut().restart()?;
        self.ready()
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// `Process`, when it ends instead or takes longer than 30 s.
    fn ready(&mut self) -> Result<(), Failure>;
}

/// Makes `server` wait until a ping is answered. `ping` must not need the server's value, which is borrowed to see whether it ended.
pub(crate) fn until_it_answers(
    process: &mut Process,
    ping: impl Fn(Duration) -> Result<(), Failure>,
) -> Result<(), Failure> {
    process.until(|| ping(START_PING).is_ok())
}

/// The one server of a test program, started by whoever asks first. Nobody drops it: the watcher ends it with the test's process.
pub(crate) fn shared<S>(
    slot: &'static OnceLock<Result<S, Failure>>,
    start: impl FnOnce() -> Result<S, Failure>,
) -> Result<&'static S, Failure> {
    slot.get_or_init(start).as_ref().map_err(Clone::clone)
}

/// A name that no other test of this server has, beginning with what the test is about.
///
/// The letters are such that the name needs no quotes anywhere.
pub(crate) fn fresh_name(about: &str) -> String {
    static USED: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);
    let plain: String = about
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .take(40)
        .collect();
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = used.get_or_insert_default().entry(plain.clone()).or_insert(0);
    *times += 1;
    format!("t_{plain}_{times}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_never_the_same() {
        assert_eq!(fresh_name("It's \"quoted\"; ü"), "t_it_s__quoted_____1");
        assert_eq!(fresh_name("It's \"quoted\"; ü"), "t_it_s__quoted_____2");
        assert!(fresh_name(&"long".repeat(100)).len() < 63, "PostgreSQL cuts names at 63 bytes");
    }
}
