//! Through a real socket, where the connection itself is the point. Nothing here waits for a time to pass: what should be
//! closed is read to its end.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use hallpass::event::Observers;
use hallpass_server::{Limits, observers::LogObserver, serve};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};

use crate::{
    fixture::{Call, Fixture, Options},
    log::{Log, tour},
};

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(100);

struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start(router: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, router, limits, async { drop(stopped.await) }));
        Self { address, stop: Some(stop), served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn stop(&mut self) {
        drop(self.stop.take());
    }

    async fn ended(self) {
        timeout(PATIENCE, self.served).await.unwrap().unwrap().unwrap();
    }
}

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

async fn write(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Everything until the other side closes, in whatever way.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    String::from_utf8(bytes).unwrap()
}

/// One answer with a Content-Length.
async fn answer(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        let mut bytes = [0; 4096];
        match timeout(PATIENCE, stream.read(&mut bytes)).await.expect("no answer") {
            Ok(0) | Err(_) => return None,
            Ok(count) => text.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
        }
    }
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

async fn is_healthy(running: &Running) -> bool {
    let mut stream = running.connect().await;
    write(&mut stream, HEALTH).await;
    answer(&mut stream).await.is_some_and(|text| text.starts_with("HTTP/1.1 200"))
}

#[tokio::test]
async fn a_head_that_does_not_come_is_waited_for_no_longer_than_allowed() {
    let router = Fixture::new().await.router;
    let limits = limits(|limits| limits.head_within = SHORT);
    let running = Running::start(router, limits).await;
    for begin in ["", "P", "GET", "GET /healthz HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = running.connect().await;
        write(&mut stream, begin).await;
        let begun = Instant::now();
        rest(&mut stream).await;
        assert!(begun.elapsed() >= SHORT / 2, "{begin:?}");
    }
    assert!(is_healthy(&running).await);
}

#[tokio::test]
async fn a_head_that_drips_is_not_waited_for_either() {
    let router = Fixture::new().await.router;
    let running = Running::start(router, limits(|limits| limits.head_within = SHORT)).await;
    let (mut reader, mut writer) = running.connect().await.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, reader.read_to_end(&mut bytes)).await.expect("the connection stays open");
    timeout(PATIENCE, dripping).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let router = Fixture::new().await.router;
    let running = Running::start(router, limits(|limits| limits.idle = SHORT)).await;
    let mut stream = running.connect().await;
    for _ in 0..3 {
        write(&mut stream, HEALTH).await;
        assert!(answer(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
    }
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_slow_handler_is_not_taken_for_an_idle_client() {
    let slow = Router::new().route("/", get(async || tokio::time::sleep(SHORT * 4).await));
    let limits = limits(|limits| (limits.idle, limits.head_within) = (SHORT, SHORT));
    let running = Running::start(slow, limits).await;
    let mut stream = running.connect().await;
    write(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_or_closed() {
    let running = Running::start(Fixture::new().await.router, Limits::default()).await;
    let head = |length| format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(length));
    let mut stream = running.connect().await;
    write(&mut stream, &head(15 * 1024)).await;
    assert!(answer(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
    for text in [
        head(17 * 1024),
        head(1024 * 1024),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20)),
    ] {
        let mut stream = running.connect().await;
        let _ = stream.write_all(text.as_bytes()).await;
        let text = rest(&mut stream).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
        assert!(!text.starts_with("HTTP/1.1 404"), "it was read to its end: {text}");
    }
    assert!(is_healthy(&running).await);
}

#[tokio::test]
async fn many_headers_are_431() {
    let running = Running::start(Fixture::new().await.router, Limits::default()).await;
    let mut stream = running.connect().await;
    write(&mut stream, &format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500))).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
}

// The clock stands still while anything is going on, and jumps to the next alarm when nothing is.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408_and_closed() {
    let day = Duration::from_hours(24);
    let router = Fixture::new().await.router;
    let running =
        Running::start(router, limits(|limits| (limits.idle, limits.head_within) = (day, day))).await;
    let mut stream = running.connect().await;
    write(
        &mut stream,
        "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    )
    .await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("request_timeout"), "{text}");
}

#[tokio::test]
async fn who_sends_too_much_hears_413() {
    let running = Running::start(Fixture::new().await.router, Limits::default()).await;
    for length in [64 * 1024 + 1, 1024 * 1024] {
        let mut stream = running.connect().await;
        let head = format!(
            "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        write(&mut stream, &head).await;
        write(&mut stream, &" ".repeat(length - 1)).await;
        // A client that reads only when it has sent everything must not have lost the answer by then.
        assert!(timeout(SHORT, answer(&mut stream)).await.is_err(), "answered too early");
        write(&mut stream, "x").await;
        let text = answer(&mut stream).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 413") && text.contains("content_too_large"), "{text}");
    }
    let mut stream = running.connect().await;
    write(&mut stream, "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn garbage_after_a_request_ends_the_connection_alone() {
    let running = Running::start(Fixture::new().await.router, Limits::default()).await;
    for garbage in
        ["\x01\x02\x03\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n"]
    {
        let mut stream = running.connect().await;
        write(&mut stream, &format!("{HEALTH}{garbage}")).await;
        let text = rest(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(text.matches("HTTP/1.1 200").count() == 1, "{text}");
        assert!(text.matches("HTTP/1.1 4").count() <= 1, "{text}");
    }
    let smuggling = "POST /v1/logout HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = running.connect().await;
    write(&mut stream, smuggling).await;
    let text = rest(&mut stream).await;
    assert!(!text.contains("HTTP/1.1 200"), "{text}");
    assert!(is_healthy(&running).await);
}

#[tokio::test]
async fn connections_are_capped_and_the_next_one_waits_its_turn() {
    let router = Fixture::new().await.router;
    let running = Running::start(router, limits(|limits| limits.connections = 2)).await;
    let mut first = running.connect().await;
    let mut second = running.connect().await;
    for stream in [&mut first, &mut second] {
        write(stream, HEALTH).await;
        assert!(answer(stream).await.is_some());
    }
    let mut third = running.connect().await;
    write(&mut third, HEALTH).await;
    assert!(timeout(SHORT, answer(&mut third)).await.is_err(), "there was room for a third");
    drop(first);
    assert!(answer(&mut third).await.unwrap().starts_with("HTTP/1.1 200"));
    drop(second);
}

#[tokio::test]
async fn who_hangs_up_is_worked_for_no_longer() {
    struct Gone(Arc<Notify>);

    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    let (begun, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, gone) = (Arc::clone(&begun), Arc::clone(&gone));
        move || async move {
            let _gone = Gone(gone);
            begun.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let running = Running::start(Router::new().route("/", get(handler)), Limits::default()).await;
    let mut stream = running.connect().await;
    write(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(PATIENCE, begun.notified()).await.unwrap();
    drop(stream);
    timeout(PATIENCE, gone.notified()).await.unwrap();
}

#[tokio::test]
async fn stopped_it_answers_what_has_begun_and_takes_nothing_new() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        move || async move {
            begun.notify_one();
            go_on.notified().await;
            "done"
        }
    };
    let mut running = Running::start(Router::new().route("/", get(handler)), Limits::default()).await;
    let mut idle = running.connect().await;
    let mut busy = running.connect().await;
    write(&mut busy, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(PATIENCE, begun.notified()).await.unwrap();
    let address = running.address;
    running.stop();
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err());
    go_on.notify_one();
    let text = rest(&mut busy).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("done"), "{text}");
    assert!(text.contains("connection: close"), "{text}");
    running.ended().await;
}

#[tokio::test]
async fn stopped_it_answers_what_was_on_its_way_then() {
    let mut running = Running::start(Fixture::new().await.router, Limits::default()).await;
    let mut stream = running.connect().await;
    write(&mut stream, HEALTH).await;
    assert!(answer(&mut stream).await.is_some());
    // None of these has been accepted, or read, when the stop comes: this thread has not given way to the service.
    write(&mut stream, HEALTH).await;
    let fresh = std::net::TcpStream::connect(running.address).unwrap();
    fresh.set_nonblocking(true).unwrap();
    std::io::Write::write_all(&mut &fresh, HEALTH.as_bytes()).unwrap();
    running.stop();
    let text = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
    let text = rest(&mut TcpStream::from_std(fresh).unwrap()).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
    running.ended().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_when_the_drain_does() {
    let begun = Arc::new(Notify::new());
    let handler = {
        let begun = Arc::clone(&begun);
        move || async move {
            begun.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let router = Router::new().route("/", get(handler));
    let mut running = Running::start(router, limits(|limits| limits.drain_within = SHORT)).await;
    let mut stream = running.connect().await;
    write(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(PATIENCE, begun.notified()).await.unwrap();
    running.stop();
    assert_eq!(rest(&mut stream).await, "");
    running.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_under_load_it_drops_no_request() {
    for _ in 0..5 {
        let mut running = Running::start(Fixture::new().await.router, Limits::default()).await;
        let mut clients = JoinSet::new();
        let answered = Arc::new(Mutex::new(0));
        for _ in 0..16 {
            let (address, answered) = (running.address, Arc::clone(&answered));
            clients.spawn(async move {
                // Some make a connection for each request.
                while let Ok(mut stream) = TcpStream::connect(address).await {
                    for _ in 0..4 {
                        write(&mut stream, HEALTH).await;
                        let text = answer(&mut stream).await.expect("a request was dropped");
                        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
                        *answered.lock().unwrap() += 1;
                        if text.contains("connection: close") {
                            break;
                        }
                    }
                }
            });
        }
        while *answered.lock().unwrap() < 200 {
            tokio::task::yield_now().await;
        }
        running.stop();
        running.ended().await;
        timeout(PATIENCE, clients.join_all()).await.unwrap();
    }
}

/// A client that speaks HTTP/2 from the first byte.
async fn http2(running: &Running) -> hyper::client::conn::http2::SendRequest<Body> {
    let io = TokioIo::new(running.connect().await);
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn http2_get(client: &mut hyper::client::conn::http2::SendRequest<Body>, path: &str) -> StatusCode {
    client.ready().await.unwrap();
    let request = Request::get(format!("http://x{path}")).body(Body::empty()).unwrap();
    client.send_request(request).await.unwrap().status()
}

#[tokio::test]
async fn http_2_is_spoken_and_stops_as_gently() {
    let begun = Arc::new(Notify::new());
    let go_on = Arc::new(Notify::new());
    let slow = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        move || async move {
            begun.notify_one();
            go_on.notified().await;
        }
    };
    let router = Fixture::new().await.router.route("/slow", get(slow));
    let mut running = Running::start(router, Limits::default()).await;
    let mut client = http2(&running).await;
    assert_eq!(http2_get(&mut client, "/healthz").await, 200);
    assert_eq!(http2_get(&mut client, "/v1/me").await, 401);
    let slow = tokio::spawn({
        let mut client = client.clone();
        async move { http2_get(&mut client, "/slow").await }
    });
    timeout(PATIENCE, begun.notified()).await.unwrap();
    running.stop();
    // It says that it takes nothing new, while it still works on what it has.
    let more = || Request::get("http://x/healthz").body(Body::empty()).unwrap();
    let refused = async { while client.send_request(more()).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("it takes new requests");
    assert!(!slow.is_finished());
    go_on.notify_one();
    assert_eq!(timeout(PATIENCE, slow).await.unwrap().unwrap(), 200);
    running.ended().await;
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed() {
    let router = Fixture::new().await.router;
    let running = Running::start(router, limits(|limits| limits.idle = SHORT)).await;
    let mut client = http2(&running).await;
    assert_eq!(http2_get(&mut client, "/healthz").await, 200);
    timeout(PATIENCE, async {
        while client.ready().await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_peer_reaches_the_handlers() {
    let tell =
        async |axum::extract::ConnectInfo(peer): axum::extract::ConnectInfo<SocketAddr>| peer.to_string();
    let running = Running::start(Router::new().route("/", get(tell)), Limits::default()).await;
    let mut stream = running.connect().await;
    write(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let text = answer(&mut stream).await.unwrap();
    assert!(text.ends_with(&stream.local_addr().unwrap().to_string()), "{text}");
}

/// The same tour as in process, through all that reads and writes bytes.
#[tokio::test]
async fn no_secret_is_in_the_log_of_the_connections_either() {
    let observers = Observers::new().and(Arc::new(LogObserver));
    let fixture = Fixture::with(Options { observers, ..Options::default() }).await;
    let (log, _guard) = Log::capture();
    let running = Running::start(fixture.router.clone(), Limits::default()).await;
    let address = running.address;
    let http1 = async |call: Call| -> Value {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let mut request = call.into_request();
        request.headers_mut().insert("host", "x".parse().unwrap());
        let response = client.send_request(request).await.unwrap();
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap_or_default()
    };
    let http2 = async |call: Call| -> Value {
        let mut client = http2(&running).await;
        let mut request = call.into_request();
        *request.uri_mut() = format!("http://x{}", request.uri()).parse().unwrap();
        let response = client.send_request(request).await.unwrap();
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap_or_default()
    };
    let mut canaries = tour(&fixture, http1).await;
    canaries.extend(tour(&fixture, http2).await);
    let text = log.text();
    assert!(text.lines().count() > 30);
    for canary in canaries {
        let line = text.lines().find(|line| canary.is_in(line));
        assert_eq!(line, None);
    }
    assert!(text.contains("h2::"), "HTTP/2 itself was listened to");
}
