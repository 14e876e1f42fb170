//! The state is the guard of other users.

use hallpass::{Guard, account::Accounts, testing::Users};
use hallpass_axum::Auth;

#[axum::debug_handler(state = Guard<Accounts>)]
async fn me(auth: Auth<Users>) -> String {
    format!("{auth:?}")
}

fn main() {}
