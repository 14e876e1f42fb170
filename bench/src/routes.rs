//! A guarded axum route against the same route without a guard.

use std::{net::SocketAddr, path::Path, sync::Arc};

use axum::{Json, Router, extract::FromRef, routing::get};
use hallpass::{Guard, PlainToken, Purpose, ScopeRule, Wants, account::Accounts};
use hallpass_axum::Bearer;
use hallpass_sqlite::{Options, SqliteStore};

use crate::{
    Plan,
    load::{self, Request},
    report::{Goal, Report, Sample},
    tokens,
};

const CONNECTIONS: usize = 64;
const TOKENS: u64 = 100_000;

struct ProfileRead;

impl ScopeRule for ProfileRead {
    const WANTS: Wants = Wants::Scope("profile:read");
}

#[derive(Clone)]
struct App {
    guard: Guard<Accounts>,
}

impl FromRef<App> for Guard<Accounts> {
    fn from_ref(app: &App) -> Self {
        app.guard.clone()
    }
}

pub(crate) fn measure(plan: &Plan, folder: &Path, report: &mut Report) {
    eprintln!("routes, {CONNECTIONS} connections");
    let path = folder.join("routes.db");
    let known = tokens::fill(&path, TOKENS, 10_000);
    let store = Arc::new(SqliteStore::open(&path, Options::default()).expect("the database"));
    let guard = Guard::new(Accounts::new(store.clone()), store.clone(), Purpose::api());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let address = serve(&runtime, App { guard });

    let bare = || vec![Request::get("/bare", None, "HTTP/1.1 200")];
    let good = || {
        let request = |token: &PlainToken| {
            Request::get("/guarded", Some(&format!("Bearer {}", token.expose())), "HTTP/1.1 200")
        };
        known.iter().map(request).collect::<Vec<_>>()
    };
    let garbage = || {
        let text = known[0].expose();
        // The last digit of the checksum, changed.
        let (body, last) = text.split_at(text.len() - 1);
        let other = if last == "0" { "1" } else { "0" };
        vec![Request::get("/guarded", Some(&format!("Bearer {body}{other}")), "HTTP/1.1 401")]
    };
    let (rounds, time) = plan.rounds();
    let (mut bare_rates, mut good_rates, mut garbage_rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut statements = 0;
    for round in 0..=rounds {
        let one = load::run(address, CONNECTIONS, time, bare());
        let two = load::run(address, CONNECTIONS, time, good());
        let before = store.counts().reads;
        let three = load::run(address, CONNECTIONS, time, garbage());
        statements += store.counts().reads - before;
        if round > 0 {
            bare_rates.push(one);
            good_rates.push(two);
            garbage_rates.push(three);
        }
    }
    let rate = |rates: &[f64]| Sample::new(rates.to_vec()).median() / 1000.0;
    let against = |rates: &[f64]| format!("{:.0}k/s against {:.0}k/s", rate(rates), rate(&bare_rates));
    report.add(
        "guarded route, cache off / bare route",
        Sample::ratios(&good_rates, &bare_rates),
        "",
        Goal::AtLeast(0.75),
        against(&good_rates),
    );
    report.add(
        "garbage tokens, bad checksum / bare route",
        Sample::ratios(&garbage_rates, &bare_rates),
        "",
        Goal::AtLeast(0.95),
        format!("{}; answers of 401", against(&garbage_rates)),
    );
    report.add(
        "statements for garbage tokens",
        Sample::new(vec![statements as f64]),
        "",
        Goal::AtMost(0.0),
        "",
    );
}

fn serve(runtime: &tokio::runtime::Runtime, app: App) -> SocketAddr {
    let router = Router::new().route("/bare", get(bare)).route("/guarded", get(guarded)).with_state(app);
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async { axum::serve(listener, router).await });
        address
    })
}

/// Both routes answer with a body of one size.
fn me(email: &str) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "email": email, "plan": "a plan of some length, as bodies have" }))
}

async fn bare() -> Json<serde_json::Value> {
    me("user-12345@example.com")
}

async fn guarded(who: Bearer<Accounts, ProfileRead>) -> Json<serde_json::Value> {
    me(who.user().email.as_str())
}
