//! One query in PostgreSQL's own protocol, so that a ping needs no driver.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::ADMIN;
use crate::Failure;

const PROTOCOL_3: i32 = 196_608;

/// Connects, runs `SELECT 1`, and wants a row.
pub(crate) fn ping(address: SocketAddr, within: Duration) -> Result<(), Failure> {
    match select_one(address, Instant::now() + within) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::answer("SELECT 1", &"no row")),
        Err(error) => Err(Failure::answer("SELECT 1", &error)),
    }
}

fn select_one(address: SocketAddr, deadline: Instant) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    // Its own messages are small, and waiting for an acknowledgement would take longer than the query.
    stream.set_nodelay(true)?;
    let mut startup = PROTOCOL_3.to_be_bytes().to_vec();
    startup.extend(format!("user\0{ADMIN}\0database\0postgres\0\0").bytes());
    stream.write_all(&with_length(&startup))?;
    until_idle(&mut stream, deadline)?;
    stream.write_all(b"Q")?;
    stream.write_all(&with_length(b"SELECT 1\0"))?;
    let has_row = until_idle(&mut stream, deadline)?;
    stream.write_all(b"X")?;
    stream.write_all(&with_length(b""))?;
    Ok(has_row)
}

/// Reads messages until `Z` (ready for a query); whether a `D` (row) was among them.
fn until_idle(stream: &mut TcpStream, deadline: Instant) -> io::Result<bool> {
    let mut has_row = false;
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length).saturating_sub(4);
        let mut body = Vec::new();
        stream.take(u64::from(length)).read_to_end(&mut body)?;
        match kind {
            [b'E'] => return Err(io::Error::other(String::from_utf8_lossy(&body).replace('\0', " "))),
            [b'D'] => has_row = true,
            [b'Z'] => return Ok(has_row),
            _ => {}
        }
    }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
