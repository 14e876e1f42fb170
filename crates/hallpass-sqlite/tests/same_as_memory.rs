//! A long random walk over both stores: they must answer alike at every step.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must stop"
)]

mod fixture;

use std::collections::HashSet;

use fixture::{account, at, store, user};
use hallpass::{
    Epoch, HashedToken, MemoryStore, Origin, Scopes, TokenId, TokenRecord, TokenStore, UserId,
    account::AccountStore,
    password::StoredPassword,
    store::{Cursor, ListQuery, TokenChange, Touch},
};

/// Few enough that the walk meets the same users and tokens again and again.
const USERS: u64 = 4;
const TOKENS: u64 = 40;
const STEPS: u64 = 4000;

/// A small generator of numbers, so that a failing walk can be walked again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| value(self))
    }

    fn seconds(&mut self) -> i64 {
        self.below(50).try_into().unwrap()
    }

    fn user(&mut self) -> UserId {
        user(&format!("user{}", self.below(USERS)))
    }

    fn purpose(&mut self) -> &'static str {
        ["api", "session"][usize::try_from(self.below(2)).unwrap()]
    }

    fn hash(&mut self) -> HashedToken {
        HashedToken::from_bytes([u8::try_from(self.below(TOKENS)).unwrap(); 32])
    }

    fn id(&mut self) -> TokenId {
        TokenId::from_bytes([u8::try_from(self.below(TOKENS)).unwrap(); 16])
    }

    fn record(&mut self, epoch: Epoch, user: UserId) -> TokenRecord {
        let mut record = TokenRecord::new(self.id(), user, epoch, self.purpose(), at(self.seconds()));
        record.origin = if self.below(2) == 0 { Origin::Login } else { Origin::Issued };
        record.name = self.maybe(|dice| format!("name {}", dice.below(9)));
        record.hint = format!("hp_...{}", self.below(9));
        record.scopes = [Scopes::none(), Scopes::all(), Scopes::parse_list("a:b c").unwrap()]
            [usize::try_from(self.below(3)).unwrap()]
        .clone();
        if let Some(value) = self.maybe(|dice| dice.below(9)) {
            record
                .meta
                .insert("it's \"quoted\" \u{1F600}".into(), serde_json::json!([value, {"deep": null}]));
        }
        record.bound_to = self.maybe(|_| "ada@x.example".into());
        record.expires_at = self.maybe(|dice| at(dice.seconds()));
        record
    }
}

/// What an answer says, errors included.
fn said(answer: impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}

async fn step<S: TokenStore + AccountStore>(store: &S, dice: &mut Dice) -> String {
    let now = at(dice.seconds());
    match dice.below(22) {
        0..=4 => {
            let owner = dice.user();
            let mut epoch = store.epoch(&owner).await.unwrap();
            if dice.below(8) == 0 {
                epoch = Epoch::new(epoch.number() + 1);
            }
            let record = dice.record(epoch, owner);
            let cap = dice.maybe(|dice| u32::try_from(dice.below(6)).unwrap());
            let hash = dice.hash();
            said(store.insert(&hash, &record, cap).await)
        }
        5 => said(TokenStore::find(store, &dice.hash()).await),
        6 => said(store.find_by_id(&dice.user(), dice.id()).await),
        7 => said(store.take(&dice.hash(), dice.purpose(), now).await),
        8 => {
            let touches: Vec<_> = (0..3).map(|_| Touch { id: dice.id(), at: at(dice.seconds()) }).collect();
            said(store.touch(&touches).await)
        }
        9 => said(store.revoke(&dice.hash(), now).await),
        10 => said(store.revoke_by_id(&dice.user(), dice.id(), now).await),
        11 if dice.below(3) == 0 => said(store.revoke_all(&dice.user(), now).await),
        12 => {
            let change = TokenChange {
                name: dice.maybe(|dice| format!("renamed {}", dice.below(9))),
                expires_at: dice.maybe(|dice| dice.maybe(|dice| at(dice.seconds()))),
            };
            said(store.update(&dice.user(), dice.id(), &change, now).await)
        }
        13 | 14 => {
            let query = ListQuery {
                after: dice.maybe(|dice| Cursor { created_at: at(dice.seconds()), id: dice.id() }),
                limit: u32::try_from(dice.below(5) + 1).unwrap(),
                living_at: dice.maybe(|dice| at(dice.seconds())),
            };
            said(TokenStore::list(store, &dice.user(), dice.purpose(), &query).await)
        }
        15 if dice.below(4) == 0 => said(store.prune(at(dice.seconds() / 2), 1000).await),
        16 => said(store.create(&account(dice.user().as_str()), None).await),
        17 => {
            let owner = dice.user();
            let email = account(owner.as_str()).email;
            said((AccountStore::find(store, &owner).await, store.find_by_email(&email).await))
        }
        18 => {
            let after = dice.maybe(|dice| account(dice.user().as_str()).email);
            let limit = u32::try_from(dice.below(4)).unwrap();
            said(AccountStore::list(store, after.as_ref(), limit).await)
        }
        19 => {
            let owner = dice.user();
            let phc = |dice: &mut Dice| StoredPassword::from_phc(format!("phc {}", dice.below(2)));
            let (from, to) = (phc(dice), phc(dice));
            let set =
                if dice.below(4) == 0 { Some(store.set_password(&owner, &to, now).await) } else { None };
            let rehashed = store.rehash(&owner, &from, &to).await;
            let found = store.find_by_email(&account(owner.as_str()).email).await.unwrap();
            let phc = found.and_then(|(_, password)| password).map(|password| password.as_phc().to_owned());
            said((set, rehashed, phc))
        }
        20 if dice.below(2) == 0 => said(store.disable(&dice.user(), now).await),
        20 => said(store.enable(&dice.user()).await),
        21 if dice.below(4) == 0 => said(store.delete(&dice.user(), now).await),
        _ => said(store.epoch(&dice.user()).await),
    }
}

async fn everything<S: TokenStore>(store: &S) -> String {
    let mut all = Vec::new();
    for number in 0..TOKENS {
        let hash = HashedToken::from_bytes([u8::try_from(number).unwrap(); 32]);
        all.push(store.find(&hash).await.unwrap());
    }
    said(all)
}

#[tokio::test]
async fn every_answer_is_the_memory_stores() {
    let mut heard = HashSet::new();
    for seed in [1, 0xDEAD_BEEF, 77_777_777] {
        let (_folder, sqlite) = store();
        let memory = MemoryStore::new();
        let (mut dice, mut same_dice) = (Dice(seed), Dice(seed));
        for number in 0..STEPS {
            let expected = step(&memory, &mut dice).await;
            heard.insert(expected.clone());
            assert_eq!(step(&sqlite, &mut same_dice).await, expected, "seed {seed}, step {number}");
            if number % 100 == 0 {
                assert_eq!(
                    everything(&sqlite).await,
                    everything(&memory).await,
                    "seed {seed}, step {number}"
                );
            }
        }
    }

    // A walk that never met these would prove little.
    for answer in [
        "Ok(())",
        "Ok(true)",
        "Ok(false)",
        "Err(Conflict)",
        "Err(Ended)",
        "Err(CapReached)",
        "Ok(Some(2))",
        "Ok(3)",
    ] {
        assert!(heard.contains(answer), "{answer}");
    }
}
