//! The guard, by what it promises. The rows are those of the two source documents.

#![cfg(test)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use hallpass::{
    Credentials, EmailAddress, Error, Expiry, Guard, Invalid, IssueError, MemoryStore, Origin, PlainToken,
    Purpose, Reason, Scopes, Timestamp, TokenStore, Unavailable, UserId, UserProvider, Wants,
    account::{Account, AccountStore, Accounts},
    any_of,
    event::{EventKind, Observers},
    store::ListQuery,
    testing::{self, FixedClock, Recorder, User, Users},
};

const PASSWORD: &str = "correct horse battery";
const DAY: Duration = Duration::from_hours(24);
const ALL: ListQuery = ListQuery { after: None, limit: 100, living_at: None };

struct Fixture {
    guard: Guard<Users>,
    users: Users,
    store: Arc<MemoryStore>,
    clock: Arc<FixedClock>,
    recorder: Arc<Recorder>,
    ada: User,
}

impl Fixture {
    async fn new() -> Self {
        let users = Users::new();
        let ada = users.add_with_password("ada@example.com", PASSWORD).await;
        let (store, clock, recorder) =
            (Arc::new(MemoryStore::new()), Arc::new(FixedClock::new()), Arc::new(Recorder::new()));
        let guard = Guard::builder(users.clone(), store.clone(), Purpose::api())
            .clock(clock.clone())
            .passwords(testing::passwords())
            .observers(Observers::new().and(recorder.clone()))
            .build();
        Self { guard, users, store, clock, recorder, ada }
    }

    /// Another guard over the same store, users and clock.
    fn guard_of(&self, purpose: Purpose) -> Guard<Users> {
        Guard::builder(self.users.clone(), self.store.clone(), purpose).clock(self.clock.clone()).build()
    }

    async fn token(&self) -> PlainToken {
        self.guard.generate(&self.ada).await.unwrap().plain().clone()
    }

    async fn reason(&self, token: &PlainToken) -> Option<Reason> {
        reason(self.guard.verify(token).await)
    }
}

fn reason<T>(verdict: Result<T, Error>) -> Option<Reason> {
    match verdict {
        Ok(_) => None,
        Err(Error::Denied(denied)) => Some(denied.reason().clone()),
        Err(Error::Unavailable(unavailable)) => panic!("{unavailable}"),
    }
}

fn field<T: std::fmt::Debug>(verdict: Result<T, IssueError>) -> &'static str {
    match verdict {
        Err(IssueError::Invalid(invalid)) => Invalid::field(&invalid),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn row_1_and_2_what_is_generated_verifies_and_nothing_else_does() {
    let fixture = Fixture::new().await;
    let token = fixture.guard.generate(&fixture.ada).await.unwrap();
    let verified = fixture.guard.verify(token.plain()).await.unwrap();
    assert_eq!(verified.user(), &fixture.ada);
    assert_eq!(verified.token().id, token.record().id);
    let unknown = PlainToken::generate(&Purpose::api()).unwrap();
    assert_eq!(fixture.reason(&unknown).await, Some(Reason::Unknown));
}

#[tokio::test]
async fn row_2_an_outage_is_never_a_refusal() {
    let fixture = Fixture::new().await;
    let token = fixture.token().await;
    fixture.store.fail(true);
    assert!(matches!(fixture.guard.verify(&token).await, Err(Error::Unavailable(_))));
    assert!(matches!(fixture.guard.generate(&fixture.ada).await, Err(IssueError::Unavailable(_))));
    assert!(fixture.guard.revoke(&token).await.is_err());
    assert!(matches!(
        fixture.guard.attempt("ada@example.com", PASSWORD).await,
        Err(IssueError::Unavailable(_))
    ));
    fixture.store.fail(false);
    assert!(fixture.guard.verify(&token).await.is_ok());
}

#[tokio::test]
async fn row_3_and_13_purpose_matrix_of_guards_passes_on_the_diagonal_alone() {
    let fixture = Fixture::new().await;
    let mut guards: Vec<_> = Purpose::table().into_iter().map(|purpose| fixture.guard_of(purpose)).collect();
    // An application's own purpose that looks the same from outside.
    guards.push(fixture.guard_of(Purpose::new("twin", "hp").unwrap()));
    guards.push(fixture.guard_of(Purpose::new("single_twin", "hp").unwrap().single_use(true)));
    for (made, maker) in guards.iter().enumerate() {
        for (used, consumer) in guards.iter().enumerate() {
            let token = maker.generate(&fixture.ada).await.unwrap();
            let single_use = consumer.purpose().is_single_use();
            let (verified, redeemed) =
                (consumer.verify(token.plain()).await, consumer.redeem(token.plain()).await);
            assert_eq!(verified.is_ok(), made == used && !single_use, "verify {made} as {used}");
            assert_eq!(redeemed.is_ok(), made == used && single_use, "redeem {made} as {used}");
            if made != used {
                assert!(!consumer.revoke(token.plain()).await.unwrap(), "revoke {made} as {used}");
            }
        }
    }
}

#[tokio::test]
async fn row_13_any_of_accepts_either_and_says_which() {
    let fixture = Fixture::new().await;
    let session = fixture.guard_of(Purpose::session());
    let twin = fixture.guard_of(Purpose::new("twin", "hp").unwrap());
    let any = any_of([fixture.guard.clone(), session.clone(), twin.clone()]).unwrap();
    for guard in [&fixture.guard, &session, &twin] {
        let token = guard.generate(&fixture.ada).await.unwrap();
        let calls = fixture.store.calls();
        let verified = any.verify(token.plain()).await.unwrap();
        assert_eq!(verified.purpose(), guard.purpose().name());
        assert_eq!(fixture.store.calls() - calls, 1, "one store is asked once");
        assert!(any.revoke(token.plain()).await.unwrap());
        assert!(any.verify(token.plain()).await.is_err());
    }
    let foreign = fixture.guard_of(Purpose::confirm()).generate(&fixture.ada).await.unwrap();
    assert_eq!(reason(any.verify(foreign.plain()).await), Some(Reason::WrongPurpose));
    assert!(any_of(Vec::<Guard<Users>>::new()).is_none());
}

#[tokio::test]
async fn row_13_any_of_guards_that_are_any_of_others_accepts_all_of_them() {
    let fixture = Fixture::new().await;
    let guards = [Purpose::session(), Purpose::new("a", "a").unwrap(), Purpose::new("b", "b").unwrap()]
        .map(|p| fixture.guard_of(p));
    let [session, a, b] = guards.clone();
    let nested_first = any_of([any_of([session.clone(), a.clone()]).unwrap(), b.clone()]).unwrap();
    let nested_last = any_of([session, any_of([a, b]).unwrap()]).unwrap();
    for any in [nested_first, nested_last] {
        for guard in &guards {
            let token = guard.generate(&fixture.ada).await.unwrap();
            let verified = any.verify(token.plain()).await.unwrap();
            assert_eq!(verified.purpose(), guard.purpose().name());
        }
    }
}

#[tokio::test]
async fn row_4_and_19_dead_at_expires_at_to_the_microsecond() {
    let fixture = Fixture::new().await;
    let token = fixture.guard.generate(&fixture.ada).expires_in("30 mins").await.unwrap();
    fixture.clock.advance(Duration::from_mins(30) - Duration::from_micros(1));
    assert_eq!(fixture.reason(token.plain()).await, None);
    fixture.clock.advance(Duration::from_micros(1));
    assert_eq!(fixture.reason(token.plain()).await, Some(Reason::Expired));
}

#[tokio::test]
async fn row_4_an_api_token_lives_365_days_unless_told_otherwise() {
    let fixture = Fixture::new().await;
    let token = fixture.guard.generate(&fixture.ada).await.unwrap();
    assert_eq!(token.expires_in(), Some(365 * 24 * 60 * 60));
    let token = fixture.guard.generate(&fixture.ada).expires_in(Expiry::Never).await.unwrap();
    assert_eq!((token.expires_at(), token.expires_in()), (None, None));
}

#[tokio::test]
async fn row_5_a_bound_token_dies_with_the_address_but_not_with_its_letter_case() {
    let fixture = Fixture::new().await;
    let token = fixture.token().await;
    fixture.users.set_email(&fixture.ada, "ADA@Example.com");
    assert_eq!(fixture.reason(&token).await, None);
    fixture.users.set_email(&fixture.ada, "ada@elsewhere.example");
    assert_eq!(fixture.reason(&token).await, Some(Reason::AddressChanged));
    let unbound = fixture.guard_of(Purpose::new("unbound", "un").unwrap());
    let token = unbound.generate(&fixture.ada).await.unwrap();
    fixture.users.set_email(&fixture.ada, "ada@third.example");
    assert!(unbound.verify(token.plain()).await.is_ok());
}

#[tokio::test]
async fn row_14_login_by_any_uid_the_provider_knows_and_no_other() {
    let fixture = Fixture::new().await;
    assert!(fixture.guard.attempt("ADA@EXAMPLE.COM", PASSWORD).await.is_ok());
    assert_eq!(reason(fixture.guard.verify_credentials("1", PASSWORD).await), Some(Reason::UnknownUser));
}

#[tokio::test]
async fn row_17_unknown_name_and_wrong_password_are_one_refusal() {
    let fixture = Fixture::new().await;
    let _ = fixture.users.add("no-password@example.com");
    let disabled = fixture.users.add_with_password("disabled@example.com", PASSWORD).await;
    fixture.users.set_active(&disabled, false);
    let mut seen = Vec::new();
    for (uid, password) in [
        ("ada@example.com", "wrong"),
        ("nobody@example.com", PASSWORD),
        ("no-password@example.com", ""),
        ("disabled@example.com", PASSWORD),
        ("", ""),
    ] {
        let calls = fixture.store.calls();
        let refused = fixture.guard.attempt(uid, password).await.unwrap_err();
        assert!(matches!(refused, IssueError::Denied(_)));
        seen.push((refused.to_string(), fixture.store.calls() - calls));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    assert_eq!(fixture.guard.list(&fixture.ada, &ALL).await.unwrap().tokens.len(), 0);
}

#[tokio::test]
async fn row_17_and_18_a_login_is_remembered_as_one() {
    let fixture = Fixture::new().await;
    let token = fixture.guard.attempt("ada@example.com", PASSWORD).name("For the CLI app").await.unwrap();
    assert_eq!(token.user(), &fixture.ada);
    assert_eq!(token.record().origin, Origin::Login);
    assert_eq!(fixture.guard.generate(&fixture.ada).await.unwrap().record().origin, Origin::Issued);
}

#[tokio::test]
async fn row_19_bad_lives_are_errors_and_make_nothing() {
    let fixture = Fixture::new().await;
    for text in ["0", "-1", "NaN", "1e18", "", "1 fortnight", "9000 years", "0 days", "-7 days"] {
        assert_eq!(
            field(fixture.guard.generate(&fixture.ada).expires_in(text).await),
            "expires_in",
            "{text:?}"
        );
    }
    assert_eq!(field(fixture.guard.generate(&fixture.ada).expires_in(Duration::MAX).await), "expires_in");
    let limited = fixture.guard_of(Purpose::api().longest(Expiry::parse("30 days").unwrap()));
    for text in ["never", "31 days", "30 days 1 second"] {
        assert_eq!(field(limited.generate(&fixture.ada).expires_in(text).await), "expires_in", "{text:?}");
    }
    let clamped = limited.generate(&fixture.ada).await.unwrap();
    assert_eq!(clamped.expires_in(), Some(30 * 24 * 60 * 60), "the default life is cut to the limit");
    assert!(limited.generate(&fixture.ada).expires_in("30 days").await.is_ok());
    assert_eq!(fixture.guard.list(&fixture.ada, &ALL).await.unwrap().tokens.len(), 2);
}

#[tokio::test]
async fn row_21_to_23_properties_are_kept_and_told() {
    let fixture = Fixture::new().await;
    let token = fixture
        .guard
        .generate(&fixture.ada)
        .name("For the CLI app")
        .meta("ip_address", "192.168.1.0")
        .meta("id", 7)
        .scopes(["profile:read"])
        .await
        .unwrap();
    let record = fixture.guard.verify(token.plain()).await.unwrap().token().clone();
    assert_eq!(&record, token.record());
    assert_eq!(record.name.as_deref(), Some("For the CLI app"));
    assert_eq!(record.meta["ip_address"], "192.168.1.0");
    assert_eq!(record.meta["id"], 7, "a user's key is never spread over our own columns");
    assert_ne!(record.id.to_string(), "7");
    assert_eq!(record.hint, token.plain().hint());
    assert_eq!(token.token_type(), "bearer");
    assert_eq!(token.hash(), &token.plain().hash());
}

#[tokio::test]
async fn row_22_and_23_names_and_meta_are_bounded() {
    let fixture = Fixture::new().await;
    for name in ["", " ", "a\nb", "a\0b", "a\u{2028}b", "a\rb", &"x".repeat(101)] {
        assert_eq!(field(fixture.guard.generate(&fixture.ada).name(name).await), "name", "{name:?}");
    }
    assert!(fixture.guard.generate(&fixture.ada).name("ä".repeat(100)).await.is_ok());
    // {"k":"…"} is eight characters around the value.
    assert!(fixture.guard.generate(&fixture.ada).meta("k", "x".repeat(4096 - 8)).await.is_ok());
    assert_eq!(field(fixture.guard.generate(&fixture.ada).meta("k", "x".repeat(4096 - 7)).await), "meta");
}

/// A token whose meta no store can read back is an outage with every use, and so is its owner's list.
#[tokio::test]
async fn row_22_meta_that_could_not_be_read_back_is_refused() {
    let fixture = Fixture::new().await;
    let nested = |depth| (1..depth).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
    for depth in [126, 127, 128, 1000] {
        match fixture.guard.generate(&fixture.ada).meta("k", nested(depth)).await {
            Ok(token) => {
                let text = serde_json::to_string(&token.record().meta).unwrap();
                assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{depth}");
            }
            Err(error) => {
                assert!(depth > 126);
                assert_eq!(field::<()>(Err(error)), "meta");
            }
        }
    }
}

#[tokio::test]
async fn row_22_meta_reads_back_or_is_refused() {
    let fixture = Fixture::new().await;
    let nested = |depth| (0..depth).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    assert!(fixture.guard.generate(&fixture.ada).meta("k", nested(100)).meta("f", 0.1 + 0.2).await.is_ok());
    assert_eq!(field(fixture.guard.generate(&fixture.ada).meta("k", nested(200)).await), "meta");
}

#[tokio::test]
async fn last_uses_of_many_tokens_are_written_in_batches() {
    let fixture = Fixture::new().await;
    for _ in 0..1_001 {
        let token = fixture.token().await;
        fixture.guard.verify(&token).await.unwrap();
    }
    let calls = fixture.store.calls();
    fixture.guard.flush_touches().await.unwrap();
    assert_eq!(fixture.store.calls() - calls, 3);
    let query = ListQuery { limit: 2_000, ..ALL };
    let page = fixture.guard.list(&fixture.ada, &query).await.unwrap();
    assert!(page.tokens.iter().all(|token| token.last_used_at.is_some()));
}

#[tokio::test]
async fn row_24_json_has_exactly_the_seeds_keys_in_its_order() {
    let fixture = Fixture::new().await;
    let token = fixture.guard.generate(&fixture.ada).name("n").expires_in("7 days").await.unwrap();
    let text = token.plain().expose();
    assert_eq!(
        serde_json::to_string(&token).unwrap(),
        format!(
            r#"{{"type":"bearer","token":"{text}","expires_at":"2026-01-08T00:00:00Z","expires_in":604800}}"#
        )
    );
    let token = fixture.guard.generate(&fixture.ada).expires_in("never").await.unwrap();
    let text = token.plain().expose();
    assert_eq!(serde_json::to_string(&token).unwrap(), format!(r#"{{"type":"bearer","token":"{text}"}}"#));
}

#[tokio::test]
async fn row_27_revocation_needs_the_whole_secret_and_holds_at_once() {
    let fixture = Fixture::new().await;
    let (token, other) = (fixture.token().await, fixture.token().await);
    assert!(fixture.guard.revoke(&token).await.unwrap());
    assert_eq!(fixture.reason(&token).await, Some(Reason::Revoked));
    assert!(!fixture.guard.revoke(&token).await.unwrap());
    assert_eq!(fixture.reason(&other).await, None);
}

#[tokio::test]
async fn row_27_what_is_dead_already_is_not_revoked_and_its_record_stays_as_it_is() {
    let fixture = Fixture::new().await;
    let make = || async { fixture.guard.generate(&fixture.ada).expires_in("1 day").await.unwrap() };
    let (ended, id_of_ended) = {
        let t = make().await;
        (t.plain().clone(), t.record().id)
    };
    fixture.guard.revoke_all(&fixture.ada).await.unwrap();
    let (expired, id_of_expired) = {
        let t = make().await;
        (t.plain().clone(), t.record().id)
    };
    fixture.clock.advance(DAY);
    for (token, id) in [(ended, id_of_ended), (expired, id_of_expired)] {
        let before = TokenStore::find(&*fixture.store, &token.hash()).await.unwrap();
        let told = fixture.recorder.kinds().len();
        assert!(!fixture.guard.revoke(&token).await.unwrap());
        assert!(!fixture.guard.revoke_by_id(&fixture.ada, id).await.unwrap());
        assert_eq!(TokenStore::find(&*fixture.store, &token.hash()).await.unwrap(), before);
        assert_eq!(fixture.recorder.kinds().len(), told);
    }
}

#[tokio::test]
async fn row_28_verify_credentials_makes_no_token() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.guard.verify_credentials("ada@example.com", PASSWORD).await.unwrap(), fixture.ada);
    assert!(fixture.guard.list(&fixture.ada, &ALL).await.unwrap().tokens.is_empty());
    let same: &dyn TokenStore = fixture.guard.tokens();
    assert!(same.ready().await.is_ok());
    let _: &Users = fixture.guard.users();
}

#[tokio::test]
async fn row_31_observers_hear_everything_and_no_secret() {
    let fixture = Fixture::new().await;
    let token = fixture.guard.attempt("ada@example.com", PASSWORD).await.unwrap();
    fixture.guard.attempt("ada@example.com", "wrong").await.unwrap_err();
    let generated = fixture.guard.generate(&fixture.ada).await.unwrap();
    fixture.guard.revoke(token.plain()).await.unwrap();
    fixture.guard.verify(token.plain()).await.unwrap_err();
    fixture.guard.verify_header([&b"Bearer nonsense"[..]]).await.unwrap_err();
    fixture.guard.revoke_by_id(&fixture.ada, generated.record().id).await.unwrap();
    fixture.guard.revoke_all(&fixture.ada).await.unwrap();
    fixture.clock.advance(DAY);
    fixture.guard.prune(Duration::ZERO, |_| ()).await.unwrap();
    let expected = [
        EventKind::LoginSucceeded,
        EventKind::LoginRefused,
        EventKind::TokenCreated,
        EventKind::TokenRevoked,
        EventKind::TokenRefused,
        EventKind::TokenRefused,
        EventKind::TokenRevoked,
        EventKind::TokensEnded,
        EventKind::Pruned,
    ];
    assert_eq!(fixture.recorder.kinds(), expected);
    assert_eq!(fixture.recorder.events()[8].count, Some(2));
    let told = format!("{:?}", fixture.recorder.events());
    for canary in [token.plain().expose(), PASSWORD, "ada@example.com"] {
        assert!(!told.contains(canary));
    }
}

#[tokio::test]
async fn a_wrong_secret_writes_nothing() {
    let fixture = Fixture::new().await;
    let (expired, revoked) =
        (fixture.guard.generate(&fixture.ada).expires_in("1 second").await.unwrap(), fixture.token().await);
    fixture.guard.revoke(&revoked).await.unwrap();
    fixture.clock.advance(DAY);
    let before = fixture.guard.list(&fixture.ada, &ALL).await.unwrap();
    let unknown = PlainToken::generate(&Purpose::api()).unwrap();
    for token in [expired.plain(), &revoked, &unknown] {
        assert!(fixture.reason(token).await.is_some());
        assert!(fixture.guard.redeem(token).await.is_err());
    }
    fixture.guard.flush_touches().await.unwrap();
    assert_eq!(fixture.guard.list(&fixture.ada, &ALL).await.unwrap(), before);
}

#[tokio::test]
async fn garbage_and_foreign_prefixes_cost_no_look_up() {
    let fixture = Fixture::new().await;
    let token = fixture.token().await;
    let mut bad = token.expose().to_owned().into_bytes();
    bad[10] = if bad[10] == b'a' { b'b' } else { b'a' };
    let session = PlainToken::generate(&Purpose::session()).unwrap();
    let calls = fixture.store.calls();
    for text in [&bad[..], session.expose().as_bytes(), b"x", b""] {
        let header = [b"Bearer ", text].concat();
        assert!(fixture.guard.verify_header([&header[..]]).await.is_err());
    }
    assert_eq!(fixture.store.calls(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_redemptions_at_once_are_one() {
    let fixture = Fixture::new().await;
    let confirm = fixture.guard_of(Purpose::confirm());
    let token = confirm.generate(&fixture.ada).await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (confirm, plain) = (confirm.clone(), token.plain().clone());
            tokio::spawn(async move { confirm.redeem(&plain).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += u32::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
    assert_eq!(reason(confirm.redeem(token.plain()).await), Some(Reason::Revoked));
}

#[tokio::test]
async fn a_refused_redemption_does_not_use_the_token_up() {
    let fixture = Fixture::new().await;
    let confirm = fixture.guard_of(Purpose::confirm());
    let token = confirm.generate(&fixture.ada).await.unwrap();
    fixture.users.set_active(&fixture.ada, false);
    assert_eq!(reason(confirm.redeem(token.plain()).await), Some(Reason::OwnerGone));
    fixture.users.set_active(&fixture.ada, true);
    assert!(confirm.redeem(token.plain()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_holds_under_two_hundred_creations_at_once() {
    let fixture = Fixture::new().await;
    let guard =
        Guard::builder(fixture.users.clone(), fixture.store.clone(), Purpose::api()).cap(Some(7)).build();
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (guard, ada) = (guard.clone(), fixture.ada.clone());
            tokio::spawn(async move { guard.generate(&ada).await })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => made += 1,
            Err(IssueError::CapReached { cap: 7 }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(made, 7);
}

#[tokio::test]
async fn ending_everything_reaches_tokens_in_the_making() {
    let fixture = Fixture::new().await;
    let old = fixture.token().await;
    let verified = fixture.guard.verify(&old).await.unwrap();
    assert_eq!(fixture.guard.revoke_all(&fixture.ada).await.unwrap(), 1);
    assert_eq!(fixture.reason(&old).await, Some(Reason::Ended));
    assert!(
        matches!(fixture.guard.mint(&verified).await, Err(IssueError::Denied(_))),
        "minted by a dead token"
    );
    assert_eq!(fixture.reason(&fixture.token().await).await, None);
}

/// Users who are found only after every other task had its turn, or not at all while they are out of reach.
struct Hesitant {
    users: Users,
    out_of_reach: AtomicBool,
}

impl UserProvider for Hesitant {
    type User = User;

    fn id(&self, user: &User) -> UserId {
        self.users.id(user)
    }

    async fn find(&self, id: &UserId) -> Result<Option<User>, Unavailable> {
        if self.out_of_reach.load(Ordering::SeqCst) {
            return Err(Unavailable::new("the users are out of reach"));
        }
        tokio::task::yield_now().await;
        self.users.find(id).await
    }
}

fn hesitant(fixture: &Fixture, purpose: Purpose) -> Guard<Hesitant> {
    let users = Hesitant { users: fixture.users.clone(), out_of_reach: AtomicBool::new(false) };
    Guard::builder(users, fixture.store.clone(), purpose).clock(fixture.clock.clone()).build()
}

/// All of them have judged the token good before the first of them takes it.
#[tokio::test]
async fn a_hundred_redemptions_of_a_token_found_good_by_all_are_one() {
    let fixture = Fixture::new().await;
    let confirm = hesitant(&fixture, Purpose::confirm());
    let token = confirm.generate(&fixture.ada).await.unwrap().plain().clone();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (guard, token) = (confirm.clone(), token.clone());
            tokio::spawn(async move { guard.redeem(&token).await })
        })
        .collect();
    let mut good = 0;
    for task in tasks {
        match reason(task.await.unwrap()) {
            None => good += 1,
            Some(reason) => assert_eq!(reason, Reason::Revoked),
        }
    }
    assert_eq!(good, 1);
}

#[tokio::test]
async fn row_2_users_out_of_reach_are_an_outage_and_no_refusal() {
    let fixture = Fixture::new().await;
    let guard = hesitant(&fixture, Purpose::api());
    let token = guard.generate(&fixture.ada).await.unwrap();
    guard.users().out_of_reach.store(true, Ordering::SeqCst);
    assert!(matches!(guard.verify(token.plain()).await, Err(Error::Unavailable(_))));
    guard.users().out_of_reach.store(false, Ordering::SeqCst);
    assert!(guard.verify(token.plain()).await.is_ok());
}

#[tokio::test]
async fn row_17_an_unconfirmed_account_neither_logs_in_nor_has_good_tokens() {
    let (store, passwords) = (Arc::new(MemoryStore::new()), testing::passwords());
    let password = passwords.hash(&passwords.accept(PASSWORD).unwrap()).await.unwrap();
    let email = EmailAddress::parse("ada@example.com").unwrap();
    let mut ada = Account::new(UserId::from(1_u64), email, Timestamp::from_micros(0));
    let accounts = Accounts::new(store.clone()).passwords(passwords.clone());
    let guard = Guard::builder(accounts, store.clone(), Purpose::api()).passwords(passwords).build();
    store.create(&ada, Some(&password)).await.unwrap();
    let refused = guard.verify_credentials("ada@example.com", PASSWORD).await;
    assert_eq!(reason(refused), Some(Reason::UnknownUser));
    let token = guard.generate(&ada).await.unwrap();
    assert_eq!(reason(guard.verify(token.plain()).await), Some(Reason::OwnerGone));

    ada.id = UserId::from(2_u64);
    ada.email = EmailAddress::parse("bob@example.com").unwrap();
    ada.confirmed_at = Some(ada.created_at);
    store.create(&ada, Some(&password)).await.unwrap();
    assert!(guard.verify_credentials("bob@example.com", PASSWORD).await.is_ok());
    let token = guard.generate(&ada).await.unwrap();
    assert_eq!(reason(guard.verify(token.plain()).await), None);
}

/// The accounts raise their own epoch, and the store of the tokens has not heard of it.
#[tokio::test]
async fn tokens_kept_apart_from_their_accounts_die_with_the_accounts_epoch() {
    let (accounts, clock) = (Accounts::new(Arc::new(MemoryStore::new())), Arc::new(FixedClock::new()));
    let password = testing::passwords();
    let accounts = accounts.passwords(password.clone()).clock(clock.clone());
    let email = EmailAddress::parse("ada@example.com").unwrap();
    let password = password.accept(PASSWORD).unwrap();
    let ada = accounts.create(email, &password, Scopes::none()).await.unwrap();
    let guard =
        Guard::builder(accounts.clone(), Arc::new(MemoryStore::new()), Purpose::api()).clock(clock).build();
    let token = guard.generate(&ada).await.unwrap();
    assert!(guard.verify(token.plain()).await.is_ok());
    accounts.disable(&ada.id).await.unwrap();
    assert_eq!(reason(guard.verify(token.plain()).await), Some(Reason::OwnerGone));
    accounts.enable(&ada.id).await.unwrap();
    assert_eq!(reason(guard.verify(token.plain()).await), Some(Reason::Ended));
}

/// Users whose tokens are all ended while a log-in is between its look-up of the password and its insert.
struct Racing {
    users: Users,
    store: Arc<MemoryStore>,
    look_ups: AtomicU32,
}

impl UserProvider for Racing {
    type User = User;

    fn id(&self, user: &User) -> UserId {
        self.users.id(user)
    }

    async fn find(&self, id: &UserId) -> Result<Option<User>, Unavailable> {
        self.users.find(id).await
    }

    async fn credentials(&self, uid: &str) -> Result<Option<Credentials<User>>, Unavailable> {
        let found = self.users.credentials(uid).await?;
        if let Some(found) = &found
            && self.look_ups.fetch_add(1, Ordering::SeqCst) == 1
        {
            let now = Timestamp::from_micros(0);
            self.store.revoke_all(&self.id(&found.user), now).await?;
        }
        Ok(found)
    }
}

#[tokio::test]
async fn a_login_that_read_the_old_password_gets_no_token() {
    let Fixture { users, store, ada, .. } = Fixture::new().await;
    let racing = Racing { users, store: store.clone(), look_ups: AtomicU32::new(0) };
    let guard = Guard::builder(racing, store, Purpose::api()).passwords(testing::passwords()).build();
    let verdict = guard.attempt("ada@example.com", PASSWORD).await;
    assert!(matches!(verdict, Err(IssueError::Denied(_))), "{verdict:?}");
    assert!(guard.list(&ada, &ALL).await.unwrap().tokens.is_empty());
    assert!(guard.attempt("ada@example.com", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_disabled_or_deleted_owner_has_no_good_token() {
    let fixture = Fixture::new().await;
    let token = fixture.token().await;
    fixture.users.set_active(&fixture.ada, false);
    assert_eq!(fixture.reason(&token).await, Some(Reason::OwnerGone));
}

#[tokio::test]
async fn a_minted_token_is_nothing_wider_or_longer_lived_than_its_maker() {
    let fixture = Fixture::new().await;
    let issued = fixture.guard.generate(&fixture.ada).scopes(["a", "b"]).expires_in("7 days").await.unwrap();
    let maker = fixture.guard.verify(issued.plain()).await.unwrap();
    for scopes in [vec!["c"], vec!["a", "c"], vec!["*"], vec!["admin"]] {
        assert_eq!(field(fixture.guard.mint(&maker).scopes(&scopes).await), "scopes", "{scopes:?}");
    }
    for text in ["8 days", "never"] {
        assert_eq!(field(fixture.guard.mint(&maker).expires_in(text).await), "expires_in");
    }
    let minted = fixture.guard.mint(&maker).scopes(["a"]).await.unwrap();
    assert_eq!(minted.expires_at(), issued.expires_at(), "the default life is cut to the maker's");
    let minted = fixture.guard.mint(&maker).await.unwrap();
    assert_eq!(minted.record().scopes, Scopes::parse(["a", "b"]).unwrap());

    let id = minted.record().id;
    let longer = Expiry::parse("8 days").unwrap();
    let stretched = fixture.guard.change(&maker, id, None, Some(&longer)).await;
    assert_eq!(field(stretched), "expires_in", "nor does it stretch another");
}

#[tokio::test]
async fn a_login_mints_up_to_the_policys_own_limit() {
    let fixture = Fixture::new().await;
    let login = fixture.guard.attempt("ada@example.com", PASSWORD).expires_in("1 hour").await.unwrap();
    let maker = fixture.guard.verify(login.plain()).await.unwrap();
    let minted = fixture.guard.mint(&maker).scopes(["a"]).expires_in("never").await.unwrap();
    assert_eq!(minted.expires_at(), None);
    let second = fixture.guard.verify(minted.plain()).await.unwrap();
    assert_eq!(field(fixture.guard.mint(&second).scopes(["*"]).await), "scopes");
}

#[tokio::test]
async fn privileged_scopes_are_granted_by_name_and_asked_for_at_each_verification() {
    let fixture = Fixture::new().await;
    assert_eq!(field(fixture.guard.generate(&fixture.ada).scopes(["admin"]).await), "scopes");
    fixture.users.set_granted(&fixture.ada, &["admin"]);
    let star = fixture.token().await;
    let admin = fixture.guard.generate(&fixture.ada).scopes(["*", "admin"]).await.unwrap();
    assert!(!fixture.guard.verify(&star).await.unwrap().allows("admin"), "`*` never includes it");
    assert!(fixture.guard.verify(admin.plain()).await.unwrap().allows("admin"));
    fixture.users.set_granted(&fixture.ada, &[]);
    let verified = fixture.guard.verify(admin.plain()).await.unwrap();
    assert!(!verified.allows("admin") && verified.allows("anything else"));
    assert!(verified.require(Wants::Scope("admin")).is_err());
    assert!(verified.require(Wants::Everything).is_ok());
}

#[tokio::test]
async fn change_renames_and_extends_ones_own_living_tokens_alone() {
    let fixture = Fixture::new().await;
    let token = fixture.token().await;
    let maker = fixture.guard.verify(&token).await.unwrap();
    let bob = fixture.users.add("bob@example.com");
    let bobs = fixture.guard.generate(&bob).await.unwrap();
    assert!(fixture.guard.change(&maker, maker.token().id, Some("new"), None).await.unwrap());
    assert!(!fixture.guard.change(&maker, bobs.record().id, Some("mine"), None).await.unwrap());
    assert_eq!(field(fixture.guard.change(&maker, maker.token().id, Some("a\nb"), None).await), "name");
    let now = fixture.guard.verify(&token).await.unwrap();
    assert_eq!(now.token().name.as_deref(), Some("new"));
    assert_eq!(now.token().expires_at, maker.token().expires_at);
    fixture.guard.revoke(&token).await.unwrap();
    assert!(!fixture.guard.change(&maker, maker.token().id, Some("late"), None).await.unwrap());
}

#[tokio::test]
async fn a_narrow_token_shortens_a_wider_one_but_never_stretches_it() {
    let fixture = Fixture::new().await;
    let wide = fixture.guard.generate(&fixture.ada).expires_in("1 day").await.unwrap();
    let narrow = fixture.guard.generate(&fixture.ada).scopes(["a"]).expires_in("never").await.unwrap();
    let narrow = fixture.guard.verify(narrow.plain()).await.unwrap();
    let id = wide.record().id;
    for life in ["2 days", "never"] {
        let life = Expiry::parse(life).unwrap();
        assert_eq!(field(fixture.guard.change(&narrow, id, None, Some(&life)).await), "expires_in");
    }
    let hour = Expiry::parse("1 hour").unwrap();
    assert!(fixture.guard.change(&narrow, id, Some("renamed"), Some(&hour)).await.unwrap());
    let changed = fixture.guard.verify(wide.plain()).await.unwrap();
    assert_eq!(changed.token().expires_at, fixture.guard.now().checked_add(Duration::from_hours(1)));
    assert!(fixture.guard.change(&changed, narrow.token().id, None, Some(&hour)).await.unwrap());
}

#[tokio::test]
async fn a_last_use_is_noted_in_memory_and_written_once_a_minute() {
    let fixture = Fixture::new().await;
    let token = fixture.token().await;
    let last_use = async || {
        let page = fixture.guard.list(&fixture.ada, &ALL).await.unwrap();
        page.tokens[0].last_used_at
    };
    let first = fixture.guard.now();
    for _ in 0..3 {
        let calls = fixture.store.calls();
        fixture.guard.verify(&token).await.unwrap();
        assert_eq!(fixture.store.calls() - calls, 1, "no write in the request");
    }
    assert_eq!(last_use().await, None);
    fixture.guard.flush_touches().await.unwrap();
    assert_eq!(last_use().await, Some(first));

    fixture.clock.advance(Duration::from_secs(59));
    fixture.guard.verify(&token).await.unwrap();
    let calls = fixture.store.calls();
    fixture.guard.flush_touches().await.unwrap();
    assert_eq!(fixture.store.calls(), calls, "nothing to write within the minute");

    fixture.clock.advance(Duration::from_secs(1));
    fixture.guard.verify(&token).await.unwrap();
    fixture.store.fail(true);
    assert!(fixture.guard.flush_touches().await.is_err());
    fixture.store.fail(false);
    fixture.guard.flush_touches().await.unwrap();
    assert_eq!(last_use().await, Some(fixture.guard.now()), "kept over an outage");
}

#[tokio::test]
async fn a_last_use_is_written_by_itself_while_requests_come_in() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.token().await, fixture.token().await);
    fixture.guard.verify(&first).await.unwrap();
    fixture.clock.advance(Duration::from_secs(5));
    fixture.guard.verify(&second).await.unwrap();
    // The current-thread runtime runs the spawned flush when this task yields.
    tokio::task::yield_now().await;
    let page = fixture.guard.list(&fixture.ada, &ALL).await.unwrap();
    assert!(page.tokens.iter().all(|token| token.last_used_at.is_some()));
}

#[tokio::test]
async fn a_clock_that_steps_back_revives_nothing_that_was_revoked() {
    let fixture = Fixture::new().await;
    let token = fixture.token().await;
    let start = fixture.guard.now();
    fixture.clock.advance(DAY);
    fixture.guard.revoke(&token).await.unwrap();
    fixture.clock.set(start.saturating_sub(DAY));
    assert_eq!(fixture.reason(&token).await, Some(Reason::Revoked));
}

/// Whoever finds the queue full asked for it: so nobody is hashed for like somebody, and takes as long.
#[tokio::test]
async fn row_17_an_unknown_name_is_hashed_for_as_well() {
    let passwords = hallpass::password::Passwords::builder().threads(1).queue(1).build();
    let guard = Guard::builder(Users::new(), Arc::new(MemoryStore::new()), Purpose::api())
        .passwords(passwords)
        .build();
    let attempts: Vec<_> = (0..50)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.attempt("nobody@example.com", PASSWORD).await.map(drop) })
        })
        .collect();
    let mut shed = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Err(IssueError::Denied(denied)) => assert_eq!(*denied.reason(), Reason::UnknownUser),
            Err(IssueError::Unavailable(_)) => shed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(shed > 0 && shed < 50, "{shed} of 50 were shed");
}

#[tokio::test]
async fn a_full_hashing_queue_is_unavailable_and_says_when_to_come_back() {
    let users = Users::new();
    users.add_with_password("ada@example.com", PASSWORD).await;
    let passwords = hallpass::password::Passwords::builder().threads(1).queue(1).build();
    let guard =
        Guard::builder(users, Arc::new(MemoryStore::new()), Purpose::api()).passwords(passwords).build();
    let attempts: Vec<_> = (0..50)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.attempt("ada@example.com", PASSWORD).await.map(drop) })
        })
        .collect();
    let mut shed = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(()) => {}
            Err(IssueError::Unavailable(unavailable)) => {
                assert!(unavailable.retry_after() >= Duration::from_secs(1));
                shed += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(shed > 0 && shed < 50, "{shed} of 50 were shed");
}

#[tokio::test]
async fn debug_of_everything_on_the_way_says_no_secret() {
    let fixture = Fixture::new().await;
    let token = fixture.guard.attempt("ada@example.com", PASSWORD).await.unwrap();
    let verified = fixture.guard.verify(token.plain()).await.unwrap();
    let issue = fixture.guard.attempt("ada@example.com", PASSWORD);
    let said =
        format!("{:?} {:?} {:?} {:?} {:?}", token, token.plain(), issue, fixture.guard, verified.token());
    let digest = format!("{:02x?}", token.hash().as_bytes()).replace(", ", "");
    let decimals = format!("{:?}", token.hash().as_bytes());
    for canary in [
        token.plain().expose(),
        &token.plain().expose()[3..46],
        PASSWORD,
        &digest,
        decimals.trim_matches(['[', ']']),
    ] {
        assert!(!said.contains(canary), "{canary} in {said}");
    }
}
