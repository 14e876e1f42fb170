//! `kill -9` of the server amid creations and revocations: what was acknowledged stays.

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::folder::Folder;

/// Rounds in `scripts/test`; `scripts/test --long` asks for 100.
const ROUNDS: usize = 20;
const CLIENTS: usize = 8;

/// What the server said of one token, and what it was asked.
#[derive(Debug)]
struct Told {
    token: String,
    /// Its end was asked for; whether it happened is open until it is acknowledged.
    asked_to_end: bool,
    said_ended: bool,
}

#[test]
fn kill_9_loses_nothing_acknowledged_and_revives_nothing_revoked() {
    let rounds =
        env::var("HALLPASS_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let folder = Folder::with_ada();
    let maker = folder.token(&[]);
    let mut all: Vec<Told> = Vec::new();
    let (mut lost, mut revived, mut slowest) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        let server = folder.serve(&[], &[]);
        let enough = 60 + round * 37 % 400;
        let told = Mutex::new(Vec::new());
        let acknowledged = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| client(&server.address, &maker, &told, &acknowledged));
            }
            while acknowledged.load(Ordering::SeqCst) < enough {
                thread::yield_now();
            }
            server.signal(Signal::KILL);
        });
        drop(server);
        all.extend(told.into_inner().unwrap());

        // The log of the killed server is read when the next one opens the file: that must not take long, or fail.
        let begin = std::time::Instant::now();
        let server = folder.serve(&[], &[]);
        slowest = slowest.max(begin.elapsed());
        // The latest after each round, and all of them after the last.
        let known = if round + 1 == rounds { 0 } else { all.len().saturating_sub(1000) };
        for Told { token, asked_to_end, said_ended } in &all[known..] {
            match (server.takes(token), asked_to_end, said_ended) {
                (false, false, _) => lost += 1,
                (true, _, true) => revived += 1,
                _ => {}
            }
        }
        server.stop(Signal::KILL);
    }
    println!("{rounds} rounds, {} tokens, slowest start after a kill {slowest:?}", all.len());
    assert_eq!((lost, revived), (0, 0), "tokens lost, tokens revived");
}

/// Makes tokens, and ends every other one, until the server is gone.
fn client(address: &str, maker: &str, told: &Mutex<Vec<Told>>, acknowledged: &AtomicUsize) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let body = json!({ "name": "crash", "scopes": ["profile:read"] }).to_string();
    for number in 0.. {
        let Some((201, answer)) = ask(&mut stream, "POST", "/v1/tokens", maker, &body) else { return };
        let token = answer["token"].as_str().unwrap().to_owned();
        acknowledged.fetch_add(1, Ordering::SeqCst);
        let asked_to_end = number % 2 == 1;
        let said_ended =
            asked_to_end && matches!(ask(&mut stream, "POST", "/v1/logout", &token, ""), Some((200, _)));
        if said_ended {
            acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        told.lock().unwrap().push(Told { token, asked_to_end, said_ended });
    }
}

/// One request on an open connection; `None` if the server is gone.
fn ask(stream: &mut TcpStream, method: &str, path: &str, token: &str, body: &str) -> Option<(u16, Value)> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: hallpass\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
        if body.len() >= length {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            return Some((status, serde_json::from_str(body).ok()?));
        }
    }
}
