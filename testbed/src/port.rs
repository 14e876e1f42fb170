//! A free port that stays ours.
//!
//! Binding port 0, closing, and handing the number to a server loses races: the kernel gives the same number to the next
//! outgoing connection, and at the latest a restart on the same port finds it taken. So ports are chosen below the range the
//! kernel hands out by itself, and a claim on the number is held for as long as the server lives.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::Failure;

/// Linux hands out 32768 to 60999 by itself; well-known services are below these.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// How often a server that found its port taken by a stranger gets another one.
const ATTEMPTS: u32 = 5;

/// A port on 127.0.0.1 that no other test takes while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: Option<UnixListener>,
}

impl Port {
    /// Takes a port on which nobody listens.
    ///
    /// # Errors
    /// `System`, when all ten thousand are taken.
    pub fn claim() -> Result<Self, Failure> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes that start together begin at different places, only to save attempts.
        #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
        let start = (std::process::id() as u16).wrapping_mul(97);
        for _ in 0..COUNT {
            let number = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let Ok(claim) = claim(number) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        Err(Failure::system("finding a free port")("all are taken"))
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// Starts something on a free port, and again on another one when a stranger was quicker.
pub(crate) fn on_a_free_port<T>(mut start: impl FnMut(Port) -> Result<T, Failure>) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        match start(Port::claim()?) {
            Err(failure) if failure.is_taken_port() && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

/// An abstract socket's name is exactly as wide as a port: one network namespace. Only one process can have it, and it
/// vanishes with that process.
#[cfg(target_os = "linux")]
fn claim(number: u16) -> io::Result<Option<UnixListener>> {
    use std::os::linux::net::SocketAddrExt;
    let name = std::os::unix::net::SocketAddr::from_abstract_name(format!("hallpass-testbed-port-{number}"))?;
    UnixListener::bind_addr(&name).map(Some)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Linux")]
fn claim(_: u16) -> io::Result<Option<UnixListener>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_free_and_not_given_twice() {
        let ports: Vec<_> = (0..100).map(|_| Port::claim().unwrap()).collect();
        let mut numbers: Vec<_> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
        for port in &ports {
            TcpListener::bind(port.address()).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_claim_ends_with_its_value() {
        let port = Port::claim().unwrap();
        assert!(claim(port.number()).is_err(), "two could have the same port");
        let number = port.number();
        drop(port);
        assert!(claim(number).is_ok());
    }

    #[test]
    fn a_port_that_a_stranger_took_is_replaced_a_bounded_number_of_times() {
        let taken = || Failure::Process {
            name: "a server".to_owned(),
            reason: "ended".to_owned(),
            log: "bind: Address already in use".to_owned(),
        };
        let mut attempts = 0;
        let started = on_a_free_port(|port| {
            attempts += 1;
            if attempts < 3 { Err(taken()) } else { Ok(port) }
        });
        assert!(started.is_ok());
        let mut attempts = 0;
        let refused = on_a_free_port(|_| -> Result<(), _> {
            attempts += 1;
            Err(taken())
        });
        assert!(refused.is_err());
        assert_eq!(attempts, ATTEMPTS);
    }
}
