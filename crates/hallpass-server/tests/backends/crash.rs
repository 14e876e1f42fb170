//! `kill -9` amid creations and revocations, of the server or of the database: what was acknowledged stays.

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    backend::{Backend, Disk, Kind},
    proof::{Line, resident_bytes},
    server::Server,
};

/// Rounds in `scripts/test`, on a file and on a server; `scripts/test --long` and `scripts/proof` ask for 100.
const ROUNDS: usize = 20;
const ROUNDS_ON_A_SERVER: usize = 5;
const CLIENTS: usize = 8;
/// Of the tokens of earlier rounds, so many are looked at after each; all of them after the last.
const LOOK_BACK: usize = 1000;
/// So long a database may take to read its log and answer again, on a machine with other work to do.
const UP_AGAIN: Duration = Duration::from_secs(30);

/// What the server said of one token, and what it was asked.
#[derive(Debug)]
struct Told {
    token: String,
    /// Its end was asked for; whether it happened is open until it is acknowledged.
    asked_to_end: bool,
    said_ended: bool,
}

#[test]
fn kill_9_of_the_server_loses_nothing_and_revives_nothing_on_sqlite() {
    kill_the_server(Kind::Sqlite, ROUNDS);
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn kill_9_of_the_server_loses_nothing_and_revives_nothing_on_postgres() {
    kill_the_server(Kind::Postgres, ROUNDS_ON_A_SERVER);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn kill_9_of_the_server_loses_nothing_and_revives_nothing_on_mariadb() {
    kill_the_server(Kind::MariaDb, ROUNDS_ON_A_SERVER);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn kill_9_of_the_server_loses_nothing_and_revives_nothing_on_redis() {
    kill_the_server(Kind::Redis, ROUNDS_ON_A_SERVER);
}

fn kill_the_server(kind: Kind, rounds: usize) {
    let rounds = wanted(rounds);
    let backend = Backend::new(kind, Disk::Weak);
    let folder = backend.folder();
    folder.add_user("ada@example.com");
    let maker = folder.token(&[]);
    let mut verdict = Verdict::default();
    for round in 0..rounds {
        let server = folder.serve(&[], &[]);
        verdict.round(&server.address, &maker, enough(round), || server.signal(Signal::KILL));
        drop(server);

        // On a file, the log of the killed server is read when the next one opens it: that must not take long, or fail.
        let begin = Instant::now();
        let server = folder.serve(&[], &[]);
        verdict.recovered(begin.elapsed());
        verdict.check(&server, round + 1 == rounds);
        server.stop(Signal::KILL);
    }
    verdict.tell(kind, &format!("kill -9 of the server, {rounds} rounds"));
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn kill_9_of_postgres_with_asynchronous_commit_loses_nothing_and_revives_nothing() {
    kill_the_database(Kind::Postgres);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn kill_9_of_mariadb_with_flush_setting_2_loses_nothing_and_revives_nothing() {
    kill_the_database(Kind::MariaDb);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn kill_9_of_redis_with_append_only_loses_nothing_and_revives_nothing() {
    kill_the_database(Kind::Redis);
}

/// One server lives through all of it.
fn kill_the_database(kind: Kind) {
    let rounds = wanted(ROUNDS_ON_A_SERVER);
    let mut backend = Backend::new(kind, Disk::Weak);
    let folder = backend.folder();
    folder.add_user("ada@example.com");
    let maker = folder.token(&[]);
    let server = folder.serve(&[], &[]);
    let mut verdict = Verdict::default();
    for round in 0..rounds {
        verdict.round(&server.address, &maker, enough(round), || backend.server().kill9().unwrap());
        backend.server().restart().unwrap();
        let begin = Instant::now();
        while server.request("GET", "/readyz", None, "").0 != 200 {
            assert!(begin.elapsed() < UP_AGAIN, "not ready: {}", folder.log());
        }
        verdict.recovered(begin.elapsed());
        verdict.check(&server, round + 1 == rounds);
    }
    verdict.tell(kind, &format!("kill -9 of the database, {rounds} rounds"));
}

fn wanted(rounds: usize) -> usize {
    env::var("HALLPASS_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(rounds)
}

/// After so many acknowledgements the round ends: another moment in each.
fn enough(round: usize) -> usize {
    60 + round * 37 % 400
}

#[derive(Default)]
struct Verdict {
    told: Vec<Told>,
    acknowledged: usize,
    lost: usize,
    revived: usize,
    slowest_recovery: Duration,
    resident_bytes: u64,
}

impl Verdict {
    /// Has clients make and end tokens, and in the middle of it runs `kill`.
    fn round(&mut self, address: &str, maker: &str, enough: usize, kill: impl FnOnce()) {
        let (told, acknowledged, over) =
            (Mutex::new(Vec::new()), AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| client(address, maker, &told, &acknowledged, &over));
            }
            while acknowledged.load(Ordering::SeqCst) < enough {
                thread::yield_now();
            }
            kill();
            over.store(true, Ordering::SeqCst);
        });
        self.told.extend(told.into_inner().unwrap());
        self.acknowledged += acknowledged.into_inner();
    }

    fn recovered(&mut self, after: Duration) {
        self.slowest_recovery = self.slowest_recovery.max(after);
    }

    fn check(&mut self, server: &Server, all: bool) {
        let known = if all { 0 } else { self.told.len().saturating_sub(LOOK_BACK) };
        for Told { token, asked_to_end, said_ended } in &self.told[known..] {
            match (server.takes(token), asked_to_end, said_ended) {
                (false, false, _) => self.lost += 1,
                (true, _, true) => self.revived += 1,
                _ => {}
            }
        }
        self.resident_bytes = self.resident_bytes.max(resident_bytes(server));
    }

    fn tell(self, backend: Kind, fault: &str) {
        let line = Line {
            backend,
            fault: fault.to_owned(),
            acknowledged: self.acknowledged,
            lost: self.lost,
            revived: self.revived,
            wrong: 0,
            slowest: None,
            recovered: self.slowest_recovery,
            resident_bytes: self.resident_bytes,
        };
        line.tell();
        assert_eq!((line.lost, line.revived), (0, 0), "tokens lost, tokens revived: {line}");
    }
}

/// Makes tokens, and ends every other one, until the server is gone, or the round is over.
fn client(
    address: &str,
    maker: &str,
    told: &Mutex<Vec<Told>>,
    acknowledged: &AtomicUsize,
    over: &AtomicBool,
) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let body = json!({ "name": "crash", "scopes": ["profile:read"] }).to_string();
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let answer = match ask(&mut stream, "POST", "/v1/tokens", maker, &body) {
            None => return,
            Some((201, answer)) => answer,
            // The database is gone, or was a moment ago.
            Some((503, _)) => continue,
            Some(answer) => panic!("{answer:?}"),
        };
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
