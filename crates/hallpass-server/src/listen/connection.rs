//! One connection, from its first byte to its last.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, Response, Version, header},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};
use tower::Service;

use super::{
    Limits, Stage,
    pulse::{Felt, Pulse},
};

/// Requests at once on one HTTP/2 connection. More would let one client have the work of thousands of connections.
const STREAMS: u32 = 64;
/// What an HTTP/2 client may send unasked, on one stream and on all: no more than the largest body.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How much of an answer waits in memory for an HTTP/2 client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// hyper takes no smaller buffer.
const HEAD_BYTES_MIN: usize = 8 * 1024;

/// How every connection is answered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    builder: Builder<TokioExecutor>,
    router: Router,
    limits: Limits,
    stage: watch::Receiver<Stage>,
}

impl Connections {
    pub(super) fn new(router: Router, limits: Limits, stage: watch::Receiver<Stage>) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        let head = limits.head_bytes.max(HEAD_BYTES_MIN);
        // hyper's own limit of time for a head also ends idle connections: ours tells the two apart.
        builder.http1().max_buf_size(head).header_read_timeout(None);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER);
        Self { builder, router, limits, stage }
    }

    /// Answers all requests of a connection.
    pub(super) async fn answer(self, stream: TcpStream, peer: SocketAddr) {
        let Self { builder, router, limits, mut stage } = self;
        // Answers are small: waiting for more to send only makes them late.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch Nagle's algorithm off");
        }
        let pulse = Arc::new(Pulse::new());
        let io = TokioIo::new(Felt::new(stream, Arc::clone(&pulse)));
        let service = service_fn(|request| respond(router.clone(), request, peer, Arc::clone(&pulse)));
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut alarm = pin!(sleep_until(Instant::now() + limits.head_within));
        let mut told = Stage::Serving;
        loop {
            tokio::select! {
                biased;
                now = next(&mut stage, told) => match now {
                    Stage::Cut => return,
                    stage => {
                        told = stage;
                        pulse.drain();
                    }
                },
                end = run(connection.as_mut(), alarm.as_mut(), &pulse, &limits) => match end {
                    End::Idle if !pulse.is_draining() => pulse.drain(),
                    _ => return,
                },
            }
            // HTTP/2 has a way to say that this is the end; HTTP/1 hears it with its next answer.
            if pulse.is_http2() {
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The stage after the one that was told; the last if nobody serves any more.
async fn next(stage: &mut watch::Receiver<Stage>, told: Stage) -> Stage {
    stage.wait_for(|stage| *stage != told).await.map_or(Stage::Cut, |stage| *stage)
}

/// How waiting for a connection ended.
enum End {
    Closed,
    /// Nothing came for too long.
    Idle,
    /// Something came, but not all of it, for too long.
    Slow,
}

/// Until the connection ends, or has waited long enough.
async fn run<E: Into<Box<dyn Error + Send + Sync>>>(
    mut connection: Pin<&mut impl Future<Output = Result<(), E>>>,
    mut alarm: Pin<&mut Sleep>,
    pulse: &Pulse,
    limits: &Limits,
) -> End {
    poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            if let Err(error) = ended {
                let error: Box<dyn Error + Send + Sync> = error.into();
                tracing::debug!(%error, "a connection failed");
            }
            return Poll::Ready(End::Closed);
        }
        waited(alarm.as_mut(), context, pulse, limits)
    })
    .await
}

/// The alarm is only moved when it must ring earlier, or has rung too early: not with every request.
fn waited(
    mut alarm: Pin<&mut Sleep>,
    context: &mut Context<'_>,
    pulse: &Pulse,
    limits: &Limits,
) -> Poll<End> {
    loop {
        // While a request is answered nothing is waited for, but the alarm must ring again after it.
        let deadline = pulse.deadline(limits);
        if let Some(deadline) = deadline.filter(|deadline| *deadline < alarm.deadline()) {
            alarm.as_mut().reset(deadline);
        }
        if alarm.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let now = Instant::now();
        match deadline {
            Some(deadline) if deadline <= now => {
                return Poll::Ready(if pulse.is_idle() { End::Idle } else { End::Slow });
            }
            Some(deadline) => alarm.as_mut().reset(deadline),
            None => alarm.as_mut().reset(now + limits.head_within),
        }
    }
}

async fn respond(
    mut router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    pulse: Arc<Pulse>,
) -> Result<Response<Body>, Infallible> {
    let is_http2 = request.version() == Version::HTTP_2;
    let answering = pulse.request(is_http2);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.call(request).await?;
    drop(answering);
    if pulse.is_draining() && !is_http2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
