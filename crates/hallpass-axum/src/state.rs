//! The guard comes out of the router's state, so that a router without one does not compile.

use axum_core::extract::FromRef;
use hallpass::{Guard, UserProvider};

/// A router's state from which a guard can be taken: whatever `Guard<U>` implements `FromRef` for. Do not implement it;
/// it is here for what the compiler says when there is no guard.
///
/// The guard itself is such a state. A state of your own becomes one like this:
///
/// ```
/// use axum::extract::FromRef;
/// use hallpass::{Guard, testing::Users};
///
/// #[derive(Clone, FromRef)]
/// struct AppState {
///     guard: Guard<Users>,
///     greeting: String,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the state `{Self}` holds no guard for `{U}`",
    label = "no `Guard<{U}>` can be taken from this router's state",
    note = "make the guard the state: `.with_state(guard)`",
    note = "or put it into `{Self}` and let axum take it out: `#[derive(FromRef)]`, or `impl FromRef<{Self}> for Guard<{U}>`"
)]
pub trait HasGuard<U: UserProvider> {
    /// The guard.
    fn guard(&self) -> Guard<U>;
}

#[diagnostic::do_not_recommend]
impl<U: UserProvider, S> HasGuard<U> for S
where
    Guard<U>: FromRef<S>,
{
    fn guard(&self) -> Guard<U> {
        Guard::from_ref(self)
    }
}
