use std::{convert::Infallible, fmt, ops::Deref};

use axum_core::extract::FromRequestParts;
use hallpass::{Guard, Issue, IssueError, NewToken, UserProvider, Verified};
use http::request::Parts;

use crate::{
    passed::{self, Passed},
    rejection::Rejection,
    state::HasGuard,
};

/// One request's state over the guard, for handlers that want to ask for themselves: [`hallpass::Auth`] with errors that a
/// handler can return.
///
/// It refuses nobody by itself: a handler that never asks guards nothing. Prefer [`Bearer`](crate::Bearer) where the answer
/// to "who is this?" decides whether the handler runs at all.
///
/// Behind a [`BearerLayer`](crate::BearerLayer) of the same guard it begins as after `authenticate`.
///
/// ```
/// use axum::Json;
/// use hallpass::testing::{User, Users};
/// use hallpass_axum::{Auth, Issued, Rejection};
/// use serde_json::{Value, json};
///
/// async fn login(mut auth: Auth<Users>) -> Result<Issued<User>, Rejection> {
///     let token = auth.attempt("ada@example.com", "her password", |token| token.expires_in("7 days")).await?;
///     Ok(Issued(token))
/// }
///
/// async fn dashboard(mut auth: Auth<Users>) -> Result<String, Rejection> {
///     let user = auth.authenticate().await?;
///     Ok(format!("Hello {}", user.email))
/// }
///
/// async fn logout(mut auth: Auth<Users>) -> Result<Json<Value>, Rejection> {
///     auth.revoke().await?;
///     Ok(Json(json!({ "revoked": true })))
/// }
/// ```
pub struct Auth<U: UserProvider>(hallpass::Auth<U>);

impl<U: UserProvider> Auth<U> {
    /// Verifies the token sent with this request, anew with every call.
    ///
    /// # Errors
    /// The answer to a request without a good token.
    pub async fn authenticate(&mut self) -> Result<&U::User, Rejection> {
        let guard = self.0.guard().clone();
        self.0.authenticate().await.map_err(|error| Rejection::new(error, guard.realm()))
    }

    /// The same without raising a refusal: whether the request has a good token.
    ///
    /// # Errors
    /// The answer while that cannot be told: an outage is not a guest.
    pub async fn check(&mut self) -> Result<bool, Rejection> {
        self.0.check().await.map_err(Rejection::from)
    }

    /// Checks a name and password, makes a token with the given options, and logs its owner in for this request.
    ///
    /// # Errors
    /// The answer to an unknown name or a wrong password, which is one, and to options that cannot be had.
    pub async fn attempt(
        &mut self,
        uid: &str,
        password: &str,
        options: impl for<'a> FnOnce(Issue<'a, U>) -> Issue<'a, U>,
    ) -> Result<NewToken<U::User>, Rejection> {
        let made = self.0.attempt(uid, password, options).await;
        self.or_reject(made)
    }

    /// Makes a token for a user the application has made sure of, and logs them in for this request.
    ///
    /// # Errors
    /// The answer to options that cannot be had.
    #[doc(alias = "login")]
    pub async fn generate(
        &mut self,
        user: &U::User,
        options: impl for<'a> FnOnce(Issue<'a, U>) -> Issue<'a, U>,
    ) -> Result<NewToken<U::User>, Rejection> {
        let made = self.0.generate(user, options).await;
        self.or_reject(made)
    }

    /// Ends the token sent with this request, after verifying it.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate): what is not good cannot be ended.
    pub async fn revoke(&mut self) -> Result<(), Rejection> {
        let revoked = self.0.revoke().await;
        self.or_reject(revoked)
    }

    /// The state without axum, whose errors are the core's own.
    #[must_use]
    pub fn into_inner(self) -> hallpass::Auth<U> {
        self.0
    }

    fn or_reject<T>(&self, result: Result<T, impl Into<IssueError>>) -> Result<T, Rejection> {
        result.map_err(|error| Rejection::new(error, self.0.guard().realm()))
    }
}

/// For the questions that cost nothing: `user`, `is_logged_in`, `is_guest`, `is_authenticated`, `is_logged_out`,
/// `authentication_attempted`.
impl<U: UserProvider> Deref for Auth<U> {
    type Target = hallpass::Auth<U>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<U, St> FromRequestParts<St> for Auth<U>
where
    U: UserProvider,
    St: HasGuard<U> + Send + Sync,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &St) -> Result<Self, Infallible> {
        let guard: Guard<U> = state.guard();
        let verified = Passed::by(&guard, &parts.extensions).map(|verified| Verified::clone(verified));
        let auth = hallpass::Auth::new(guard, passed::credentials(&parts.headers));
        Ok(Self(match verified {
            Some(verified) => auth.with_verified(verified),
            None => auth,
        }))
    }
}

/// The state, and nothing of the user.
impl<U: UserProvider> fmt::Debug for Auth<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("is_logged_in", &self.is_logged_in())
            .field("is_authenticated", &self.is_authenticated())
            .field("is_logged_out", &self.is_logged_out())
            .finish_non_exhaustive()
    }
}
