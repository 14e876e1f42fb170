//! Opaque API tokens for Rust: made once, kept hashed, verified fast, revoked for good.
//!
//! A [`Guard`] makes tokens of one [`Purpose`] and says whose they are. It asks a [`UserProvider`] who the users are and
//! keeps hashes of the tokens in a [`TokenStore`]. Frameworks come on top (`hallpass-axum`), databases below (`hallpass-sqlite`).
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use hallpass::{Guard, MemoryStore, Purpose, testing::{self, Users}};
//! use std::sync::Arc;
//!
//! let users = Users::new();
//! users.add_with_password("user@example.com", "correct horse battery").await;
//! # let (users, passwords) = (users, testing::passwords());
//! # let guard = Guard::builder(users, Arc::new(MemoryStore::new()), Purpose::api()).passwords(passwords).build();
//! # #[cfg(any())]
//! let guard = Guard::new(users, Arc::new(MemoryStore::new()), Purpose::api());
//!
//! let ip = "192.168.1.0";
//! let token = guard.attempt("user@example.com", "correct horse battery")
//!     .name("For the CLI app").expires_in("7 days").meta("ip_address", ip).await?;
//! assert_eq!(token.expires_in(), Some(604_800));
//!
//! let header = format!("Bearer {}", token.plain().expose());
//! let who = guard.verify_header([header.as_bytes()]).await?;
//! assert_eq!(who.user().email, "user@example.com");
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

pub mod account;
mod address;
pub mod audit;
mod auth;
pub mod bearer;
mod clock;
mod error;
pub mod event;
mod expiry;
mod guard;
pub mod migration;
pub mod naming;
pub mod password;
mod prune;
mod purpose;
mod record;
mod scope;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;
mod users;

pub use address::EmailAddress;
pub use auth::Auth;
pub use clock::{Clock, SystemClock, Timestamp};
pub use error::{Denied, Error, Invalid, IssueError, Reason, Unavailable};
pub use expiry::{Expiry, Life};
pub use guard::{Guard, GuardBuilder, Issue, NewToken, Verified, any_of};
pub use prune::prune;
pub use purpose::Purpose;
pub use record::{Epoch, Origin, TokenRecord, UserId};
pub use scope::{AnyScope, FullAccess, ScopeRule, Scopes, Wants};
pub use store::{MemoryStore, TokenStore};
pub use token::{HashedToken, PlainToken, TokenId};
pub use users::{Credentials, UserProvider};
