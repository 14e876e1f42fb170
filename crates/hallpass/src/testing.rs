//! For tests, yours and ours: a clock that stands still, users, and a way to act as one of them.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use hallpass::{Guard, MemoryStore, Purpose, testing::{self, FixedClock, Users}};
//! use std::{sync::Arc, time::Duration};
//!
//! let users = Users::new();
//! let ada = users.add("ada@example.com");
//! let clock = Arc::new(FixedClock::new());
//! let guard = Guard::builder(users, Arc::new(MemoryStore::new()), Purpose::api()).clock(clock.clone()).build();
//!
//! let header = testing::acting_as(&guard, &ada, ["profile:read"]).await;
//! assert!(guard.verify_header([header.as_bytes()]).await.is_ok());
//!
//! clock.advance(Duration::from_secs(366 * 24 * 60 * 60));
//! assert!(guard.verify_header([header.as_bytes()]).await.is_err());
//! # });
//! ```

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::{Clock, Timestamp},
    error::Unavailable,
    event::{Event, EventKind, Observer},
    guard::Guard,
    password::{Passwords, StoredPassword},
    record::UserId,
    users::{Credentials, UserProvider},
};

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000_000;

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct FixedClock(AtomicI64);

impl FixedClock {
    /// It is 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicI64::new(START))
    }

    /// Moves it forward.
    pub fn advance(&self, duration: Duration) {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Moves it anywhere, backwards too.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Default for FixedClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A user for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// A small number as text, as many applications have it.
    pub id: String,
    /// Also the name to log in under.
    pub email: String,
}

/// A handful of users in memory. Clones share them.
#[derive(Clone, Default)]
pub struct Users(Arc<Mutex<Vec<Row>>>);

struct Row {
    user: User,
    password: Option<StoredPassword>,
    active: bool,
    granted: Vec<String>,
}

impl Users {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user who has no password.
    #[must_use]
    pub fn add(&self, email: &str) -> User {
        let mut rows = self.rows();
        let user = User { id: (rows.len() + 1).to_string(), email: email.to_owned() };
        rows.push(Row { user: user.clone(), password: None, active: true, granted: Vec::new() });
        user
    }

    /// Adds a user with a password, which [`passwords`] checks quickly.
    ///
    /// # Panics
    /// The password is not acceptable.
    #[expect(clippy::expect_used, reason = "a fixture that cannot be set up must stop the test")]
    pub async fn add_with_password(&self, email: &str, password: &str) -> User {
        let passwords = passwords();
        let new = passwords.accept(password).expect("an acceptable password");
        let stored = passwords.hash(&new).await.expect("an idle queue");
        let user = self.add(email);
        self.change(&user, |row| row.password = Some(stored));
        user
    }

    /// The user may no longer act, or may again.
    pub fn set_active(&self, user: &User, active: bool) {
        self.change(user, |row| row.active = active);
    }

    /// Moves the user to another address.
    pub fn set_email(&self, user: &User, email: &str) {
        self.change(user, |row| email.clone_into(&mut row.user.email));
    }

    /// Grants privileged scopes, and takes back those not named.
    pub fn set_granted(&self, user: &User, scopes: &[&str]) {
        self.change(user, |row| row.granted = scopes.iter().map(|&scope| scope.to_owned()).collect());
    }

    fn change(&self, user: &User, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows().iter_mut().find(|row| row.user.id == user.id) {
            change(row);
        }
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Users(..)")
    }
}

impl UserProvider for Users {
    type User = User;

    #[expect(clippy::expect_used, reason = "a number is an id")]
    fn id(&self, user: &User) -> UserId {
        UserId::new(&*user.id).expect("a number is an id")
    }

    async fn find(&self, id: &UserId) -> Result<Option<User>, Unavailable> {
        let rows = self.rows();
        Ok(rows.iter().find(|row| row.active && row.user.id == id.as_str()).map(|row| row.user.clone()))
    }

    async fn credentials(&self, uid: &str) -> Result<Option<Credentials<User>>, Unavailable> {
        let rows = self.rows();
        let row = rows.iter().find(|row| row.active && row.user.email.eq_ignore_ascii_case(uid));
        Ok(row.map(|row| Credentials { user: row.user.clone(), password: row.password.clone() }))
    }

    fn address<'a>(&self, user: &'a User) -> Option<&'a str> {
        Some(&user.email)
    }

    fn is_granted(&self, user: &User, scope: &str) -> bool {
        let rows = self.rows();
        rows.iter().any(|row| row.user.id == user.id && row.granted.iter().any(|granted| granted == scope))
    }

    async fn rehashed(
        &self,
        user: &User,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> Result<(), Unavailable> {
        self.change(user, |row| {
            if row.password.as_ref() == Some(from) {
                row.password = Some(to.clone());
            }
        });
        Ok(())
    }
}

/// Password checks that cost nothing and protect nothing.
#[must_use]
pub fn passwords() -> Passwords {
    Passwords::builder().worthless().build()
}

/// The value of an `Authorization` header that acts as `user`, with these scopes: a real token in the guard's store.
///
/// # Panics
/// The guard makes no such token.
#[expect(clippy::expect_used, reason = "a fixture that cannot be set up must stop the test")]
pub async fn acting_as<U: UserProvider>(
    guard: &Guard<U>,
    user: &U::User,
    scopes: impl IntoIterator<Item = &str>,
) -> String {
    let token = guard.generate(user).name("acting as").scopes(scopes).await.expect("a token");
    format!("Bearer {}", token.plain().expose())
}

/// An observer that remembers.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// Nothing happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What happened so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The kinds of what happened so far, oldest first.
    #[must_use]
    pub fn kinds(&self) -> Vec<EventKind> {
        self.events().into_iter().map(|event| event.kind).collect()
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}
