use std::{fmt, marker::PhantomData, ops::Deref, sync::Arc};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use hallpass::{FullAccess, Guard, ScopeRule, UserProvider, Verified, Wants};
use http::request::Parts;

use crate::{
    passed::{self, Passed},
    rejection::Rejection,
    state::HasGuard,
};

/// The bearer of a good token that carries what `S` wants: an argument of a handler, so that it cannot be forgotten.
///
/// Without `S` the token must not have been narrowed. [`AnyScope`](hallpass::AnyScope) takes every good token.
///
/// `Option<Bearer<…>>` is `None` only if the request has no `Authorization` header at all; whatever is not good is refused.
///
/// If a [`BearerLayer`](crate::BearerLayer) of the same guard has verified the request, its verdict is used and
/// nothing is looked up again.
///
/// ```
/// use hallpass::{AnyScope, testing::Users};
/// use hallpass_axum::Bearer;
///
/// async fn greet(who: Option<Bearer<Users, AnyScope>>) -> String {
///     match who {
///         Some(who) => format!("Hello {}", who.user().email),
///         None => "Hello stranger".to_owned(),
///     }
/// }
/// ```
#[doc(alias("fetch_api_user", "middleware"))]
pub struct Bearer<U: UserProvider, S: ScopeRule = FullAccess> {
    guard: Guard<U>,
    held: Held<U::User>,
    rule: PhantomData<fn() -> S>,
}

/// Verified for this argument alone, or by a layer for everybody.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and should not cost an allocation"
)]
enum Held<User> {
    Own(Verified<User>),
    Shared(Arc<Verified<User>>),
}

impl<U: UserProvider, S: ScopeRule> Bearer<U, S> {
    /// The verified token, by itself.
    #[must_use]
    pub fn into_inner(self) -> Verified<U::User> {
        match self.held {
            Held::Own(verified) => verified,
            Held::Shared(verified) => Arc::unwrap_or_clone(verified),
        }
    }

    /// The owner, without the rest.
    #[must_use]
    pub fn into_user(self) -> U::User {
        self.into_inner().into_user()
    }

    /// The guard that verified the token: for making, listing and revoking its owner's others.
    #[must_use]
    pub fn guard(&self) -> &Guard<U> {
        &self.guard
    }

    /// Asks for more than `S` did, when what is wanted is known only inside the handler.
    ///
    /// # Errors
    /// The answer that names the missing scope.
    pub fn require(&self, wants: Wants) -> Result<(), Rejection> {
        (**self).require(wants).map_err(|error| Rejection::new(error, self.guard.realm()))
    }

    async fn from_parts(guard: Guard<U>, parts: &Parts) -> Result<Self, Rejection> {
        let held = match Passed::by(&guard, &parts.extensions) {
            Some(verified) => Held::Shared(Arc::clone(verified)),
            None => match passed::verify(&guard, &parts.headers).await {
                Ok(verified) => Held::Own(verified),
                Err(error) => return Err(Rejection::new(error, guard.realm())),
            },
        };
        let bearer = Self { guard, held, rule: PhantomData };
        bearer.require(S::WANTS)?;
        Ok(bearer)
    }
}

impl<U: UserProvider, S: ScopeRule> Deref for Bearer<U, S> {
    type Target = Verified<U::User>;

    fn deref(&self) -> &Self::Target {
        match &self.held {
            Held::Own(verified) => verified,
            Held::Shared(verified) => verified,
        }
    }
}

impl<U, S, St> FromRequestParts<St> for Bearer<U, S>
where
    U: UserProvider,
    S: ScopeRule,
    St: HasGuard<U> + Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &St) -> Result<Self, Rejection> {
        Self::from_parts(state.guard(), parts).await
    }
}

impl<U, S, St> OptionalFromRequestParts<St> for Bearer<U, S>
where
    U: UserProvider,
    S: ScopeRule,
    St: HasGuard<U> + Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &St) -> Result<Option<Self>, Rejection> {
        if passed::is_guest(&parts.headers) {
            return Ok(None);
        }
        Self::from_parts(state.guard(), parts).await.map(Some)
    }
}

/// The token's id, and nothing of its owner.
impl<U: UserProvider, S: ScopeRule> fmt::Debug for Bearer<U, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").field("token", &self.token().id).finish_non_exhaustive()
    }
}
