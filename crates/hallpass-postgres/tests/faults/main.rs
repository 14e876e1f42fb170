//! Databases that are killed, frozen, cut off, read-only or quarrelsome.

#![cfg(test)]

mod crash;
mod outage;
mod quarrel;

use std::time::{Duration, Instant};

use hallpass::{
    Epoch, HashedToken, PlainToken, Purpose, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable,
    UserId,
    store::{Found, InsertError},
};
use hallpass_postgres::{Options, PostgresStore};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_123_457);

async fn open(url: &str) -> PostgresStore {
    PostgresStore::connect(url, Options::new()).await.unwrap()
}

fn token(user: &str) -> (HashedToken, TokenRecord) {
    let user = UserId::new(user).unwrap();
    let record = TokenRecord::new(TokenId::random().unwrap(), user, Epoch::default(), "api", NOW);
    (PlainToken::generate(&Purpose::api()).unwrap().hash(), record)
}

/// Keeps a new token.
async fn insert(store: &PostgresStore, user: &str) -> Result<(HashedToken, TokenRecord), InsertError> {
    let (hash, record) = token(user);
    store.insert(&hash, &record, None).await?;
    Ok((hash, record))
}

async fn find(store: &PostgresStore, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
    TokenStore::find(store, hash).await
}

/// What came out, and how long it took.
async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (what.await, begun.elapsed())
}
