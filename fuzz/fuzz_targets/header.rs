//! Any bytes as the value of an `Authorization` header: a refusal or the one good token, never a panic, and no look-up
//! for what is not a token.
#![no_main]

use std::sync::{Arc, LazyLock};

use hallpass::{Error, Guard, MemoryStore, Purpose, testing::Users};
use libfuzzer_sys::fuzz_target;

struct Fixture {
    runtime: tokio::runtime::Runtime,
    guard: Guard<Users>,
    store: Arc<MemoryStore>,
    good: String,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let users = Users::new();
    let ada = users.add("ada@example.com");
    let store = Arc::new(MemoryStore::new());
    let guard = Guard::new(users, store.clone(), Purpose::api());
    let token = runtime.block_on(async { guard.generate(&ada).await }).unwrap();
    let good = token.plain().expose().to_owned();
    Fixture { runtime, guard, store, good }
});

fuzz_target!(|value: &[u8]| {
    let fixture = &*FIXTURE;
    let before = fixture.store.calls();
    match fixture.runtime.block_on(fixture.guard.verify_header([value])) {
        Ok(_) => assert!(String::from_utf8_lossy(value).contains(&fixture.good)),
        Err(Error::Denied(_)) => {}
        Err(Error::Unavailable(error)) => panic!("{error}"),
    }
    let token = hallpass::bearer::credentials([value]).ok().and_then(|text| hallpass::PlainToken::parse(text).ok());
    assert!(token.is_some() || fixture.store.calls() == before);
});
