//! `hallpass serve`: runs the server until it is told to stop.

use std::{io, net::SocketAddr};

use hallpass_server::{Limits, Service, jobs, router, serve};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::Answer;
use crate::{
    app::{App, Opening, flags_to_repeat},
    config::{CommonFlags, Flags, LifeFlags, ListenFlag, PrefixFlag, Settings, starred},
    failure::Failure,
    output::Output,
};

/// Connections that may wait in the kernel's queue while as many as allowed are open. With the usual 128, a storm of
/// clients would be told nothing and try again after a second, and then after two.
const WAITING: u32 = 1024;
/// Files that are open beside connections: the database on every core, its log, the runtime's own.
const FILES_BESIDE: u64 = 128;

/// Runs the server
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  hallpass serve
  hallpass serve --listen 127.0.0.1:8080 --database sqlite:/var/lib/hallpass/hallpass.db
  HALLPASS_TOKEN_LIFE_MAX='90 days' hallpass serve
  hallpass serve --database postgres://hallpass@db.example.com/hallpass --token-store redis://cache.example.com

The database is brought up to date at the start (an SQLite file is made). If it cannot be reached then, the exit status is 3;
if it cannot be reached later, requests are answered with 503 until it can.
SIGTERM and Ctrl-C have it answer what was asked, and stop.")]
pub(crate) struct Args {
    #[command(flatten, next_help_heading = "Settings")]
    listen: ListenFlag,
    #[command(flatten)]
    prefix: PrefixFlag,
    #[command(flatten)]
    life: LifeFlags,
}

impl Args {
    pub(crate) fn flags(&self, common: CommonFlags) -> Flags {
        let Self { listen, prefix, life } = self.clone();
        Flags { common, prefix, life, listen }
    }
}

pub(crate) async fn run(settings: &Settings, out: Output) -> Result<Answer, Failure> {
    // The port first: who starts it twice by mistake should not touch the database.
    let listener = listen(settings)?;
    let app = App::open(settings, Opening::Server).await?;
    if app.has_no_accounts().await? {
        out.remark(&format!(
            "There are no accounts yet. This makes one, from another terminal:\n\n  hallpass{} user add you@example.com --admin\n",
            flags_to_repeat(settings)
        ));
    }
    let stop = stop_signal()?;
    let address = listener.local_addr().map_err(|error| cannot_listen(settings, &error))?;
    let url = format!("http://{address}");
    let token_store = settings.token_store.value.as_deref().map(starred);
    tracing::info!(%address, database = starred(&settings.database.value), token_store, "started");
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "this address is not loopback and carries tokens: keep a TLS proxy in front of it");
    }

    let (finish, finished) = oneshot::channel::<()>();
    let jobs = tokio::spawn(jobs::run(app.guard.clone(), async { drop(finished.await) }));
    // Before the ready line: who reads it may open as many connections as there are to be had.
    let limits = limits();
    out.answer(|| json!({ "listening": url }), || format!("hallpass listening on {url}"))?;
    let served = serve(listener, router(Service::new(app.guard.clone())), limits, stop).await;
    // The jobs last: they write what the last requests left.
    drop(finish);
    let jobs = jobs.await;
    app.close().await;
    served.map_err(|error| cannot_listen(settings, &error))?;
    if let Err(error) = jobs {
        tracing::error!(%error, "the background jobs ended early");
    }
    tracing::info!("stopped");
    Ok(Answer::Yes)
}

/// As many connections as files can be open, after asking for more: without a file, the store could not be read.
fn limits() -> Limits {
    let mut limits = Limits::default();
    let wanted = u64::from(limits.connections) + FILES_BESIDE;
    let allowed = getrlimit(Resource::Nofile);
    let mut files = allowed.current.unwrap_or(u64::MAX);
    if files < wanted {
        let more = allowed.maximum.unwrap_or(u64::MAX).min(wanted);
        if setrlimit(Resource::Nofile, Rlimit { current: Some(more), ..allowed }).is_ok() {
            files = more;
        }
    }
    if files < wanted {
        limits.connections = u32::try_from(files.saturating_sub(FILES_BESIDE)).unwrap_or(1).max(1);
        tracing::warn!(files, connections = limits.connections, "few files may be open: raise `ulimit -n`");
    }
    limits
}

fn listen(settings: &Settings) -> Result<TcpListener, Failure> {
    bind(settings.listen.value).map_err(|error| cannot_listen(settings, &error))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that it can be started again at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

fn cannot_listen(settings: &Settings, error: &io::Error) -> Failure {
    let address = settings.listen.value;
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens there: stop it, or choose another port with --listen {}:{}",
            address.ip(),
            address.port().checked_add(1).unwrap_or_default()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: try --listen 127.0.0.1:7700".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports under 1024 need privileges: choose a higher one with --listen".to_owned()
        }
        _ => "choose another address with --listen".to_owned(),
    };
    Failure::out_of_reach(format!("cannot listen on {address}: {error}"), help)
}

/// Taken over before the ready line: who reads it may send a signal at once.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let take = |kind| {
        signal(kind).map_err(|error| {
            Failure::out_of_reach(format!("cannot handle signals: {error}"), "see the system's limits")
        })
    };
    let (mut terminate, mut interrupt) = (take(SignalKind::terminate())?, take(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    })
}
