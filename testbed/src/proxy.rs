//! A proxy that breaks connections on request.

mod link;

use std::future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as answers;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::{Failure, Port};

/// More clients than any test has may connect at once.
const BACKLOG: u32 = 1024;

/// Connections that fill the queue come from here, so that they are known again. On Linux all of 127.0.0.0/8 is this machine.
const FILLER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A connection within one machine takes microseconds; one that takes longer will not be accepted.
const FULL_AFTER: Duration = Duration::from_millis(30);

/// With a queue of none the kernel still takes one; others may have been waiting.
const FILLERS_AT_MOST: u32 = 64;

/// What the proxy does to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    Pass,
    /// Everything arrives later by this much, in each direction. Connecting to the proxy itself is not delayed.
    Delay(Duration),
    /// Packets vanish both ways: connections stay open and nothing arrives, neither bytes nor an end, and connecting hangs.
    /// What was sent meanwhile arrives afterwards, as TCP would send it again.
    Drop,
    /// New connections are refused; those that are open go on.
    Refuse,
    /// Connections are reset (RST), open ones at once, new ones as soon as they are made.
    Reset,
    /// Each connection passes this many bytes more from the server to the client, and is closed then. What the client sends arrives.
    Truncate(u64),
}

/// A TCP proxy on a port of its own, with a thread of its own: a test that blocks does not stop it.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    target: SocketAddr,
    orders: Option<mpsc::UnboundedSender<Order>>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

type Order = (Fault, answers::Sender<io::Result<()>>);

impl Proxy {
    /// Starts one in front of `target`, which need not be there yet. It passes everything.
    ///
    /// # Errors
    /// `System`, when it cannot listen.
    pub fn start(target: SocketAddr) -> Result<Self, Failure> {
        let port = Port::claim()?;
        let address = port.address();
        let (orders, received) = mpsc::unbounded_channel();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::system("starting a proxy"))?;
        let thread = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(serve(Door::closed(address), target, received, &counter)))
            .map_err(Failure::system("starting a proxy"))?;
        let proxy = Self { port, target, orders: Some(orders), accepted, thread: Some(thread) };
        proxy.set(Fault::Pass)?;
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The URL of what is behind it, but through here.
    #[must_use]
    pub fn url(&self, direct: &str) -> String {
        direct.replacen(&self.target.to_string(), &self.address().to_string(), 1)
    }

    /// Changes what it does. It does so when this returns: no byte passes any more that should not. Blocks for some milliseconds.
    ///
    /// # Errors
    /// `System`, when it cannot listen again after `Refuse`.
    pub fn set(&self, fault: Fault) -> Result<(), Failure> {
        let (answer, answered) = answers::channel();
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send((fault, answer)).is_ok());
        let done = if sent { answered.recv().ok() } else { None };
        let done = done.unwrap_or_else(|| Err(io::Error::other("the proxy is gone")));
        done.map_err(Failure::system(format!("setting a proxy to {fault:?}")))
    }

    /// How many connections it accepted so far, including those that it reset.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there, and a test noticed it.
            let _ = thread.join();
        }
    }
}

/// Everything runs on one thread. So no link is in the middle of passing bytes while the fault is changed here.
async fn serve(
    mut door: Door,
    target: SocketAddr,
    mut orders: mpsc::UnboundedReceiver<Order>,
    accepted: &AtomicUsize,
) {
    let (faults, _) = watch::channel(Fault::Pass);
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => {
                let Some((fault, answer)) = order else { return };
                faults.send_replace(fault);
                let done = door.set(fault).await;
                if fault == Fault::Reset {
                    // Each link has a receiver, and drops it after its sockets.
                    faults.closed().await;
                }
                // Whoever asked waits for it.
                let _ = answer.send(done);
            }
            Ok((client, from)) = door.accept() => {
                if from.ip() != FILLER {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(link::run(client, target, faults.subscribe()));
                }
            }
        }
    }
}

/// Where clients come in.
struct Door {
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// While it is not empty, nobody is let in: these fill the queue of the listener.
    fillers: Vec<TcpStream>,
}

impl Door {
    fn closed(address: SocketAddr) -> Self {
        Self { address, listener: None, fillers: Vec::new() }
    }

    async fn set(&mut self, fault: Fault) -> io::Result<()> {
        match fault {
            Fault::Refuse => {
                self.listener = None;
                self.fillers.clear();
            }
            Fault::Drop => self.block().await?,
            Fault::Pass | Fault::Delay(_) | Fault::Reset | Fault::Truncate(_) => {
                let listener = self.open()?;
                rustix::net::listen(&*listener, BACKLOG.cast_signed())?;
                self.fillers.clear();
            }
        }
        Ok(())
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.listener {
            Some(listener) if self.fillers.is_empty() => listener.accept().await,
            _ => future::pending().await,
        }
    }

    fn open(&mut self) -> io::Result<&mut TcpListener> {
        let listener = if let Some(listener) = self.listener.take() {
            listener
        } else {
            let socket = TcpSocket::new_v4()?;
            // Connections from before may still be there; nobody else listens, as the port is claimed.
            socket.set_reuseaddr(true)?;
            socket.bind(self.address)?;
            socket.listen(BACKLOG)?
        };
        Ok(self.listener.insert(listener))
    }

    /// The kernel drops the packets of whoever connects to a full queue. That is the same to the client as if the network did.
    async fn block(&mut self) -> io::Result<()> {
        let address = self.address;
        let listener = self.open()?;
        rustix::net::listen(&*listener, 0)?;
        for _ in 0..FILLERS_AT_MOST {
            let socket = TcpSocket::new_v4()?;
            socket.bind((FILLER, 0).into())?;
            match timeout(FULL_AFTER, socket.connect(address)).await {
                Ok(filler) => self.fillers.push(filler?),
                Err(_) => return Ok(()),
            }
        }
        Err(io::Error::other("the queue of connections does not get full"))
    }
}
