//! A light and steady load, and what was answered to it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    time::{MissedTickBehavior, interval, timeout},
};

/// An answer that takes longer is none. Far over what is allowed, so that it is seen how far over an answer is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// With a token that is good.
    Good,
    /// With a token that was revoked.
    Dead,
    /// For a new token.
    Make,
    Ready,
    /// Asks nobody: what it takes is this machine's and the client's own doing.
    Alive,
}

/// One in twenty of each that is not the common case.
const MIX: [Asked; 20] = {
    let mut mix = [Asked::Good; 20];
    mix[4] = Asked::Dead;
    mix[9] = Asked::Make;
    mix[14] = Asked::Alive;
    mix[19] = Asked::Ready;
    mix
};

/// Who asks.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) good: Vec<String>,
    pub(crate) dead: Vec<String>,
    pub(crate) maker: String,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) asked: Asked,
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    /// 0 if there was none.
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    /// The token that was made.
    pub(crate) made: Option<String>,
}

impl Answer {
    pub(crate) fn ended(&self) -> Instant {
        self.begun + self.took
    }

    pub(crate) fn is_within(&self, from: Instant, to: Instant) -> bool {
        self.begun >= from && self.ended() <= to
    }

    /// An outage is told as one; nothing else is.
    pub(crate) fn is_right(&self) -> bool {
        match (self.asked, self.status) {
            (Asked::Alive, status) => status == 200,
            (_, 503) => self.retry_after,
            (Asked::Good | Asked::Ready, 200) | (Asked::Dead, 401) | (Asked::Make, 201) => true,
            _ => false,
        }
    }
}

/// A load that goes on until it is stopped.
#[derive(Debug)]
pub(crate) struct Load {
    answers: Arc<Mutex<Vec<Answer>>>,
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Load {
    /// Asks so many times a second, whether or not answers come.
    pub(crate) fn start(address: &str, tokens: Arc<Tokens>, per_second: u32) -> Self {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (answers, over, address) = (Arc::clone(&answers), Arc::clone(&over), address.to_owned());
            move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(run(address, tokens, per_second, answers, over));
            }
        });
        Self { answers, over, thread }
    }

    /// Waits until such an answer came, or this long.
    pub(crate) fn wait_for(&self, within: Duration, is_it: impl Fn(&Answer) -> bool) -> Option<Instant> {
        let begin = Instant::now();
        while begin.elapsed() < within {
            let first =
                self.answers.lock().unwrap().iter().filter(|answer| is_it(answer)).map(Answer::ended).min();
            if first.is_some() {
                return first;
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Stops it, waits for the answers that are on their way, and gives all.
    pub(crate) fn stop(self) -> Vec<Answer> {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.answers.lock().unwrap())
    }
}

async fn run(
    address: String,
    tokens: Arc<Tokens>,
    per_second: u32,
    answers: Arc<Mutex<Vec<Answer>>>,
    over: Arc<AtomicBool>,
) {
    let mut tick = interval(Duration::from_secs(1) / per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        tick.tick().await;
        let (address, tokens, answers) = (address.clone(), Arc::clone(&tokens), Arc::clone(&answers));
        asking.spawn(async move {
            let answer = ask(&address, &tokens, number).await;
            answers.lock().unwrap().push(answer);
        });
        while asking.try_join_next().is_some() {}
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
}

async fn ask(address: &str, tokens: &Tokens, number: usize) -> Answer {
    let asked = MIX[number % MIX.len()];
    let (method, path, token) = match asked {
        Asked::Good => ("GET", "/v1/me", tokens.good[number % tokens.good.len()].as_str()),
        Asked::Dead => ("GET", "/v1/me", tokens.dead[number % tokens.dead.len()].as_str()),
        Asked::Make => ("POST", "/v1/tokens", tokens.maker.as_str()),
        Asked::Ready => ("GET", "/readyz", ""),
        Asked::Alive => ("GET", "/healthz", ""),
    };
    let body = if asked == Asked::Make { r#"{"name":"load","scopes":["a"]}"# } else { "" };
    let authorization =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: hallpass\r\nConnection: close\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let begun = Instant::now();
    let text = timeout(PATIENCE, exchange(address, &request)).await;
    let took = begun.elapsed();
    let text = text.ok().and_then(Result::ok).unwrap_or_default();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    Answer {
        asked,
        begun,
        took,
        status: head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default(),
        retry_after: head.to_ascii_lowercase().contains("\r\nretry-after: "),
        made: body["token"].as_str().filter(|_| asked == Asked::Make).map(str::to_owned),
    }
}

async fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
