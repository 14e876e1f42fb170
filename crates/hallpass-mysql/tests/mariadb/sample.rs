//! Tokens to try things with.

use hallpass::{
    Epoch, HashedToken, PlainToken, Purpose, Scopes, Timestamp, TokenId, TokenRecord, TokenStore,
    Unavailable, UserId, store::Found,
};

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_123_457);

pub(crate) fn later(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() + micros)
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

/// A random token that lives for ever, made under epoch 0.
pub(crate) fn token(of: &str) -> (HashedToken, TokenRecord) {
    let plain = PlainToken::generate(&Purpose::api()).unwrap();
    let id = TokenId::random().unwrap();
    let mut record = TokenRecord::new(id, user(of), Epoch::default(), "api", NOW);
    record.hint = plain.hint();
    record.scopes = Scopes::all();
    (plain.hash(), record)
}

/// `find` of tokens: the store has one of accounts too.
pub(crate) async fn find(store: &dyn TokenStore, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
    store.find(hash).await
}
