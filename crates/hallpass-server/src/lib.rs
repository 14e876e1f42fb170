//! The hallpass service as a library: the router to mount in an application of one's own, and what a process around it
//! needs.
//!
//! ```
//! use hallpass::{Guard, MemoryStore, Purpose, account::Accounts};
//! use hallpass_server::{Service, router};
//! use std::sync::Arc;
//!
//! let store = Arc::new(MemoryStore::new());
//! let guard = Guard::new(Accounts::new(store.clone()), store, Purpose::api());
//! let app: axum::Router = axum::Router::new().nest("/auth", router(Service::new(guard)));
//! ```
//!
//! The whole process is [`serve`] with that router, [`jobs::run`] beside it, and the [`observers`] in the guard and the
//! accounts:
//!
//! ```no_run
//! use hallpass::{Guard, MemoryStore, Purpose, account::Accounts, event::Observers};
//! use hallpass_server::{Limits, Service, jobs, observers::LogObserver, router, serve};
//! use std::sync::Arc;
//!
//! # async fn run() -> std::io::Result<()> {
//! let store = Arc::new(MemoryStore::new());
//! let observers = Observers::new().and(Arc::new(LogObserver));
//! let accounts = Accounts::new(store.clone()).observers(observers.clone());
//! let guard = Guard::builder(accounts, store, Purpose::api()).observers(observers).build();
//!
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! let (stopped, has_stopped) = tokio::sync::oneshot::channel::<()>();
//! let jobs = tokio::spawn(jobs::run(guard.clone(), async { drop(has_stopped.await) }));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:7700").await?;
//! serve(listener, router(Service::new(guard)), Limits::default(), stop).await?;
//! drop(stopped);
//! jobs.await?;
//! # Ok(()) }
//! ```

mod api;
pub mod jobs;
mod json;
mod listen;
pub mod observers;
mod problem;
mod request;
mod router;

pub use listen::{Limits, serve};
pub use router::{Service, router};
