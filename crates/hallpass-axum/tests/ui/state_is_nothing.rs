//! The router was given no state at all.

use axum::{Router, routing::get};
use hallpass::testing::Users;
use hallpass_axum::Bearer;

async fn me(who: Bearer<Users>) -> String {
    who.user().email.clone()
}

fn main() {
    let _: Router = Router::new().route("/me", get(me));
}
