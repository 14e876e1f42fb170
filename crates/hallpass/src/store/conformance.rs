//! The suite that every store must pass: a store is whatever passes it.
//!
//! It is public, so that anyone's store can run it. Each case gets a store of its own, empty.
//!
//! ```
//! use hallpass::{MemoryStore, TokenStore, store::conformance};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
//! conformance::check_tokens(async || Arc::new(MemoryStore::new()) as Arc<dyn TokenStore>).await;
//! # });
//! ```
//!
//! Run it in a multi-threaded tokio runtime: some cases race.

mod accounts;
mod tokens;

use std::{fmt, pin::Pin, sync::Arc};

use crate::{
    account::AccountStore,
    clock::Timestamp,
    purpose::Purpose,
    record::{Epoch, TokenRecord, UserId},
    scope::Scopes,
    store::TokenStore,
    token::{HashedToken, PlainToken, TokenId},
};

/// Panics with the list of all broken promises, if any, of stores of tokens made by `fresh`.
///
/// # Panics
/// A promise is broken.
pub async fn check_tokens(fresh: impl AsyncFn() -> Arc<dyn TokenStore>) {
    report(&token_failures(fresh).await);
}

/// The same for stores that keep accounts beside tokens; `fresh` makes one store, seen as both.
///
/// # Panics
/// A promise is broken.
pub async fn check_accounts(fresh: impl AsyncFn() -> (Arc<dyn AccountStore>, Arc<dyn TokenStore>)) {
    let mut failures = Vec::new();
    for case in accounts::CASES {
        let (accounts, tokens) = fresh().await;
        failures
            .extend((case.run)(accounts, tokens).await.err().map(|what| Failure { case: case.name, what }));
    }
    report(&failures);
}

/// The promises that stores of tokens made by `fresh` break. For testing the suite itself.
pub async fn token_failures(fresh: impl AsyncFn() -> Arc<dyn TokenStore>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for case in tokens::CASES {
        let store = fresh().await;
        failures.extend((case.run)(store).await.err().map(|what| Failure { case: case.name, what }));
    }
    failures
}

#[expect(clippy::panic, reason = "a failed suite must fail the test that runs it")]
fn report(failures: &[Failure]) {
    if !failures.is_empty() {
        let list: Vec<_> = failures.iter().map(ToString::to_string).collect();
        panic!("{} promises are broken:\n{}", failures.len(), list.join("\n"));
    }
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    case: &'static str,
    what: String,
}

impl Failure {
    /// The case's name: the promise, in words.
    #[must_use]
    pub fn case(&self) -> &'static str {
        self.case
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "- {}: {}", self.case, self.what)
    }
}

type Outcome = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

struct TokenCase {
    name: &'static str,
    run: fn(Arc<dyn TokenStore>) -> Outcome,
}

struct AccountCase {
    name: &'static str,
    run: fn(Arc<dyn AccountStore>, Arc<dyn TokenStore>) -> Outcome,
}

/// When the tokens of the suite are made: far enough from the epoch, and with odd microseconds.
const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_123_457);
const HOUR: i64 = 3_600_000_000;

fn later(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() + micros)
}

/// A token in the making, with its hash.
#[derive(Clone)]
struct Sample {
    hash: HashedToken,
    record: TokenRecord,
}

/// A random token of `user`, of the purpose `api`, made at `NOW` under epoch 0, living for an hour.
fn sample(user: &str) -> Result<Sample, String> {
    let plain = PlainToken::generate(&Purpose::api()).map_err(text)?;
    let id = TokenId::random().map_err(text)?;
    let user = UserId::new(user).map_err(text)?;
    let mut record = TokenRecord::new(id, user, Epoch::default(), "api", NOW);
    record.hint = plain.hint();
    record.scopes = Scopes::all();
    record.expires_at = Some(later(HOUR));
    Ok(Sample { hash: plain.hash(), record })
}

/// The same, with changes.
fn sample_with(user: &str, change: impl FnOnce(&mut TokenRecord)) -> Result<Sample, String> {
    let mut sample = sample(user)?;
    change(&mut sample.record);
    Ok(sample)
}

async fn insert(store: &dyn TokenStore, sample: &Sample) -> Result<(), String> {
    store.insert(&sample.hash, &sample.record, None).await.map_err(text)
}

/// The record as the store has it now, with the epoch it told.
async fn read(store: &dyn TokenStore, sample: &Sample) -> Result<(TokenRecord, Epoch), String> {
    let found = store.find(&sample.hash).await.map_err(text)?.ok_or("a token that was kept is not found")?;
    Ok((found.record, found.epoch))
}

/// That the store has this very record, byte for byte.
async fn unchanged(store: &dyn TokenStore, sample: &Sample, what: &str) -> Result<(), String> {
    let (record, _) = read(store, sample).await?;
    equal(&record, &sample.record, what)
}

fn ensure(holds: bool, what: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn equal<T: PartialEq + fmt::Debug>(found: &T, expected: &T, what: &str) -> Result<(), String> {
    ensure(found == expected, format!("{what}: found {found:?}, expected {expected:?}"))
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
