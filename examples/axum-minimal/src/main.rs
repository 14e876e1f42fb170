//! Log in, who am I, log out: the smallest complete application on `hallpass-axum`.
//!
//! Run it with `cargo run -p axum-minimal`, then paste what it prints. `users.rs` stands for your own user table,
//! `tests.rs` shows how to test an application like this.

#[cfg(test)]
mod tests;
mod users;

use std::{env, error::Error, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use hallpass::{Guard, MemoryStore, Purpose, ScopeRule, Wants, password::Passwords};
use hallpass_axum::{Auth, Bearer, Issued, Rejection};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use users::{User, Users};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "somebody is waiting for the lines to paste")]
async fn main() -> Result<(), Box<dyn Error>> {
    let passwords = Passwords::new();
    let password = passwords.hash(&passwords.accept("correct horse battery")?).await?;
    let users = Users::new([("ada@example.com", password)]);
    // Tokens in memory are gone with the process; `hallpass-sqlite` keeps them.
    let guard =
        Guard::builder(users, Arc::new(MemoryStore::new()), Purpose::api()).passwords(passwords).build();

    let listener = TcpListener::bind(env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let login = r#"{"email":"ada@example.com","password":"correct horse battery"}"#;
    let address = listener.local_addr()?;
    println!("curl --json '{login}' http://{address}/login");
    println!("curl -H 'Authorization: Bearer TOKEN' http://{address}/me");
    Ok(axum::serve(listener, app(guard)).await?)
}

fn app(guard: Guard<Users>) -> Router {
    Router::new()
        .route("/login", post(login))
        .route("/me", get(me))
        .route("/logout", post(logout))
        .with_state(guard)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    password: String,
}

async fn login(
    State(guard): State<Guard<Users>>,
    Json(login): Json<Login>,
) -> Result<Issued<User>, Rejection> {
    let token = guard.attempt(&login.email, &login.password).name("curl").expires_in("7 days").await?;
    Ok(Issued(token))
}

/// What `me` wants of a token. As it is a type, it stands in the argument list and cannot be forgotten.
struct ProfileRead;

impl ScopeRule for ProfileRead {
    const WANTS: Wants = Wants::Scope("profile:read");
}

async fn me(who: Bearer<Users, ProfileRead>) -> Json<User> {
    Json(who.into_user())
}

async fn logout(mut auth: Auth<Users>) -> Result<Json<Value>, Rejection> {
    auth.revoke().await?;
    Ok(Json(json!({ "revoked": true })))
}
