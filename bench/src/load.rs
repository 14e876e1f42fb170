//! A load of our own: as many connections as asked for, each with one request under way, on one thread.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) struct Request {
    /// The bytes of the whole request.
    pub(crate) bytes: Vec<u8>,
    /// What its answer's first line must begin with.
    pub(crate) status: &'static str,
}

impl Request {
    pub(crate) fn get(path: &str, authorization: Option<&str>, status: &'static str) -> Self {
        let header = authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
        Self { bytes: format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{header}\r\n").into_bytes(), status }
    }
}

/// Requests per second over `connections` connections for `time`. Every answer is read whole and its status checked.
pub(crate) fn run(address: SocketAddr, connections: usize, time: Duration, requests: Vec<Request>) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let begin = Instant::now();
        let requests: Arc<[Request]> = requests.into();
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..connections {
            clients.spawn(client(address, Arc::clone(&requests), number, begin + time));
        }
        let total: u64 = clients.join_all().await.into_iter().sum();
        total as f64 / begin.elapsed().as_secs_f64()
    })
}

async fn client(address: SocketAddr, requests: Arc<[Request]>, number: usize, end: Instant) -> u64 {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut buffer = vec![0; 16 * 1024];
    let mut count = 0;
    let mut next = number;
    while Instant::now() < end {
        let request = &requests[next % requests.len()];
        next += 1;
        stream.write_all(&request.bytes).await.expect("a request is written");
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await.expect("an answer is read");
            assert!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(length) = whole(&buffer[..filled]) {
                assert_eq!(length, filled, "one answer at a time");
                break;
            }
        }
        let first = &buffer[..filled.min(64)];
        assert!(first.starts_with(request.status.as_bytes()), "{}", String::from_utf8_lossy(first));
        count += 1;
    }
    count
}

/// The length of the answer in `bytes`, if it is all there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head of ASCII");
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().expect("a length"));
    (bytes.len() >= head + length).then_some(head + length)
}
