//! What a layer leaves in a request for those behind it: who verified it, and what came out.

use std::sync::Arc;

use hallpass::{Error, Guard, UserProvider, Verified};
use http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION};

/// The verdict is kept together with its guard, because it is good for that guard alone.
pub(crate) struct Passed<U: UserProvider> {
    guard: Guard<U>,
    verified: Arc<Verified<U::User>>,
}

impl<U: UserProvider> Passed<U> {
    /// Leaves the verdict for our own extractors, and the user for everybody else.
    pub(crate) fn leave(guard: Guard<U>, verified: Verified<U::User>, extensions: &mut Extensions) {
        let verified = Arc::new(verified);
        extensions.insert(Arc::clone(&verified));
        extensions.insert(Self { guard, verified });
    }

    /// What this very guard found when it verified the request before.
    pub(crate) fn by<'a>(guard: &Guard<U>, extensions: &'a Extensions) -> Option<&'a Arc<Verified<U::User>>> {
        let passed = extensions.get::<Self>()?;
        passed.guard.is_same(guard).then_some(&passed.verified)
    }
}

impl<U: UserProvider> Clone for Passed<U> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), verified: Arc::clone(&self.verified) }
    }
}

/// Verifies a request's own credential.
pub(crate) async fn verify<U: UserProvider>(
    guard: &Guard<U>,
    headers: &HeaderMap,
) -> Result<Verified<U::User>, Error> {
    guard.verify_header(credentials(headers)).await
}

/// All of them: a second header must not go unseen.
pub(crate) fn credentials(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes)
}

/// A guest is who sends no credentials, not who sends bad ones.
pub(crate) fn is_guest(headers: &HeaderMap) -> bool {
    !headers.contains_key(AUTHORIZATION)
}
