//! One connection through the proxy.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Fault;

const CHUNK: usize = 16 * 1024;

/// What is held here at once in one direction. More waits in the sockets, and then in the sender.
const HELD: usize = 1024 * 1024;

type Faults = watch::Receiver<Fault>;

/// How a link comes to its end.
enum End {
    /// Both sides said that they have no more to send.
    Closed,
    /// As many bytes have passed as may.
    Cut,
    /// By order, or because one side is gone.
    Reset,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

/// Passes bytes until the link ends. The receiver goes after the sockets: the proxy waits for that.
pub(super) async fn run(mut client: TcpStream, target: SocketAddr, mut faults: Faults) {
    let mut server = None;
    let end = tokio::select! {
        biased;
        () = reset_ordered(faults.clone()) => End::Reset,
        end = pass(&mut client, &mut server, target, &mut faults) => end,
    };
    match end {
        End::Closed => {}
        End::Reset => {
            // A socket that refuses this is closed instead: it was gone already.
            let _ = client.set_zero_linger();
            let _ = server.as_ref().map(TcpStream::set_zero_linger);
        }
        End::Cut => {
            drop(server.take());
            tokio::select! {
                biased;
                () = reset_ordered(faults.clone()) => { let _ = client.set_zero_linger(); }
                () = close_kindly(&mut client) => {}
            }
        }
    }
    drop((client, server));
    drop(faults);
}

async fn reset_ordered(mut faults: Faults) {
    // The sender is gone only when the whole proxy is; that is no reason to go on either.
    let _ = faults.wait_for(|fault| *fault == Fault::Reset).await;
}

/// What the client still sends must be read, or the system would reset the connection instead of closing it.
async fn close_kindly(client: &mut TcpStream) {
    let _ = client.shutdown().await;
    let mut waste = vec![0; CHUNK];
    while matches!(client.read(&mut waste).await, Ok(1..)) {}
}

async fn pass(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    target: SocketAddr,
    faults: &mut Faults,
) -> End {
    let Ok(connected) = TcpStream::connect(target).await else { return End::Reset };
    let server = server.insert(connected);
    // Small answers must not wait for others: that would be a fault nobody asked for.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = Way { from: from_client, to: to_server, faults: faults.clone(), may_be_cut: false };
    let down = Way { from: from_server, to: to_client, faults: faults.clone(), may_be_cut: true };
    match tokio::try_join!(up.pass(), down.pass()) {
        Ok(_) => End::Closed,
        Err(end) => end,
    }
}

/// One direction of a link.
struct Way<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    faults: Faults,
    may_be_cut: bool,
}

impl Way<'_> {
    /// Ends well when the sender has no more to send and all of it was passed on.
    async fn pass(mut self) -> Result<(), End> {
        let mut fault = *self.faults.borrow_and_update();
        let mut may_pass = self.limit(fault);
        let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut held_bytes = 0;
        let mut more = true;
        let mut chunk = vec![0; CHUNK];
        loop {
            let flows = fault != Fault::Drop;
            if flows && may_pass == Some(0) {
                return Err(End::Cut);
            }
            if flows && !more && held.is_empty() {
                self.to.shutdown().await?;
                return Ok(());
            }
            // Without a delay in force, what was delayed goes at once; it never overtakes.
            let now = Instant::now();
            let due = held.front().map(|(due, _)| if matches!(fault, Fault::Delay(_)) { *due } else { now });
            let first = held.front().map_or(&[][..], |(_, bytes)| bytes);
            let first = first.get(..cap(may_pass, first.len())).unwrap_or(first);
            tokio::select! {
                biased;
                changed = self.faults.changed() => {
                    changed.map_err(|_| End::Reset)?;
                    fault = *self.faults.borrow_and_update();
                    may_pass = self.limit(fault);
                }
                written = write_when_due(&mut self.to, due.unwrap_or(now), first), if flows && due.is_some() => {
                    let written = written?;
                    held_bytes -= written;
                    may_pass = may_pass.map(|left| left.saturating_sub(written as u64));
                    if let Some((_, bytes)) = held.front_mut() {
                        bytes.drain(..written);
                        if bytes.is_empty() {
                            held.pop_front();
                        }
                    }
                }
                read = self.from.read(&mut chunk), if flows && more && held_bytes < HELD => {
                    let read = read?;
                    more = read > 0;
                    let delay = if let Fault::Delay(delay) = fault { delay } else { std::time::Duration::ZERO };
                    if let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) {
                        held_bytes += read;
                        held.push_back((Instant::now() + delay, bytes.to_vec()));
                    }
                }
            }
        }
    }

    fn limit(&self, fault: Fault) -> Option<u64> {
        match fault {
            Fault::Truncate(bytes) if self.may_be_cut => Some(bytes),
            _ => None,
        }
    }
}

fn cap(may_pass: Option<u64>, length: usize) -> usize {
    may_pass.map_or(length, |left| usize::try_from(left).unwrap_or(usize::MAX).min(length))
}

/// Dropping this before it is ready writes nothing.
async fn write_when_due(to: &mut WriteHalf<'_>, due: Instant, bytes: &[u8]) -> io::Result<usize> {
    sleep_until(due).await;
    to.write(bytes).await
}
