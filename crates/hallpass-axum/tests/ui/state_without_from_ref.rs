//! The state holds a guard, but nothing says how to take it out.

use hallpass::{Guard, testing::Users};
use hallpass_axum::Bearer;

#[derive(Clone)]
struct AppState {
    guard: Guard<Users>,
}

#[axum::debug_handler(state = AppState)]
async fn me(who: Bearer<Users>) -> String {
    who.user().email.clone()
}

fn main() {}
