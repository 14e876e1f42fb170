//! One request's state over a guard, with the words of `AdonisJS`.

use crate::{
    error::{Error, IssueError, Reason, Unavailable},
    guard::{Guard, Issue, NewToken, Verified},
    token::PlainToken,
    users::UserProvider,
};

/// Who is behind this request, as far as the handler asked.
///
/// | after | logged in | guest | authenticated | logged out | attempted | user |
/// |---|---|---|---|---|---|---|
/// | nothing yet | no | yes | no | no | no | none |
/// | `authenticate` or `check` succeeded | yes | no | yes | no | yes | the user |
/// | `authenticate` or `check` failed | no | yes | no | no | yes | none |
/// | `attempt` or `generate` alone | yes | no | no | no | no | the user |
/// | `authenticate`, then `attempt` | yes | no | yes | no | yes | the new user |
/// | `attempt`, then `authenticate` | yes | no | yes | no | yes | the user of the header's token |
/// | `revoke`, from any state | no | yes | no | yes | yes | none |
///
/// A failed `check` never makes a later `authenticate` pass.
#[derive(Debug)]
pub struct Auth<U: UserProvider> {
    guard: Guard<U>,
    header: Result<PlainToken, Reason>,
    user: Option<U::User>,
    verified: Option<Verified<U::User>>,
    attempted: bool,
    logged_out: bool,
}

impl<U: UserProvider> Auth<U> {
    /// The state of a request with these values of `Authorization` headers. Nothing is looked up yet.
    pub fn new<'a>(guard: Guard<U>, values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let header = crate::bearer::credentials(values).and_then(PlainToken::parse);
        Self { guard, header, user: None, verified: None, attempted: false, logged_out: false }
    }

    /// The state of a request whose token this guard has verified already, in a layer that stands before the handlers:
    /// as after [`authenticate`](Self::authenticate).
    #[must_use]
    pub fn with_verified(mut self, verified: Verified<U::User>) -> Self {
        self.attempted = true;
        self.user = Some(verified.user().clone());
        self.verified = Some(verified);
        self
    }

    /// Verifies the token sent with this request.
    ///
    /// Every call verifies anew, so a token that ended meanwhile is refused.
    ///
    /// # Errors
    /// As [`Guard::verify`], and a refusal if the request has no token.
    pub async fn authenticate(&mut self) -> Result<&U::User, Error> {
        self.attempted = true;
        self.verified = None;
        self.user = None;
        let verified = match &self.header {
            Ok(token) => self.guard.verify(token).await?,
            Err(reason) => return Err(self.guard.refuse(reason.clone())),
        };
        let verified = self.verified.insert(verified);
        Ok(self.user.insert(verified.user().clone()))
    }

    /// The same without raising a refusal: whether the request has a good token.
    ///
    /// # Errors
    /// [`Unavailable`] if that cannot be told: an outage is not a guest.
    pub async fn check(&mut self) -> Result<bool, Unavailable> {
        match self.authenticate().await {
            Ok(_) => Ok(true),
            Err(Error::Denied(_)) => Ok(false),
            Err(Error::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    /// Checks a name and password, makes a token with the given options, and logs its owner in for this request.
    ///
    /// ```
    /// # use hallpass::{Auth, IssueError, NewToken, UserProvider};
    /// # async fn login<U: UserProvider>(auth: &mut Auth<U>) -> Result<NewToken<U::User>, IssueError> {
    /// let token = auth.attempt("ada@example.com", "a password", |token| token.expires_in("7 days")).await?;
    /// # Ok(token) }
    /// ```
    ///
    /// # Errors
    /// As [`Guard::attempt`].
    pub async fn attempt(
        &mut self,
        uid: &str,
        password: &str,
        options: impl for<'a> FnOnce(Issue<'a, U>) -> Issue<'a, U>,
    ) -> Result<NewToken<U::User>, IssueError> {
        let token = options(self.guard.attempt(uid, password)).await?;
        self.log_in(&token);
        Ok(token)
    }

    /// Makes a token for a user the application has made sure of, and logs them in for this request.
    ///
    /// # Errors
    /// As [`Guard::generate`].
    #[doc(alias = "login")]
    pub async fn generate(
        &mut self,
        user: &U::User,
        options: impl for<'a> FnOnce(Issue<'a, U>) -> Issue<'a, U>,
    ) -> Result<NewToken<U::User>, IssueError> {
        let token = options(self.guard.generate(user)).await?;
        self.log_in(&token);
        Ok(token)
    }

    fn log_in(&mut self, token: &NewToken<U::User>) {
        self.user = Some(token.user().clone());
        self.logged_out = false;
    }

    /// Ends the token sent with this request, after verifying it.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate): what is not good cannot be ended.
    pub async fn revoke(&mut self) -> Result<(), Error> {
        self.authenticate().await?;
        if let Ok(token) = &self.header {
            self.guard.revoke(token).await?;
        }
        self.user = None;
        self.verified = None;
        self.logged_out = true;
        Ok(())
    }

    /// The user, if logged in.
    #[must_use]
    pub fn user(&self) -> Option<&U::User> {
        self.user.as_ref()
    }

    /// The verified token, if authenticated.
    #[must_use]
    pub fn verified(&self) -> Option<&Verified<U::User>> {
        self.verified.as_ref()
    }

    /// Whether there is a user, by token or by log-in.
    #[must_use]
    #[doc(alias = "isLoggedIn")]
    pub fn is_logged_in(&self) -> bool {
        self.user.is_some()
    }

    /// The opposite of [`is_logged_in`](Self::is_logged_in).
    #[must_use]
    #[doc(alias = "isGuest")]
    pub fn is_guest(&self) -> bool {
        self.user.is_none()
    }

    /// Whether the request's own token was verified.
    #[must_use]
    #[doc(alias = "isAuthenticated")]
    pub fn is_authenticated(&self) -> bool {
        self.verified.is_some()
    }

    /// Whether the request's token was revoked during this request.
    #[must_use]
    #[doc(alias = "isLoggedOut")]
    pub fn is_logged_out(&self) -> bool {
        self.logged_out
    }

    /// Whether anybody asked for the request's token.
    #[must_use]
    #[doc(alias = "authenticationAttempted")]
    pub fn authentication_attempted(&self) -> bool {
        self.attempted
    }

    /// The guard.
    #[must_use]
    pub fn guard(&self) -> &Guard<U> {
        &self.guard
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        purpose::Purpose,
        store::MemoryStore,
        testing::{self, Users},
    };

    const PASSWORD: &str = "correct horse battery";

    struct Fixture {
        guard: Guard<Users>,
        store: Arc<MemoryStore>,
        header: Vec<u8>,
    }

    /// Ada with a token in the header, and Bob with a password.
    async fn fixture() -> Fixture {
        let users = Users::new();
        let ada = users.add("ada@example.com");
        users.add_with_password("bob@example.com", PASSWORD).await;
        let store = Arc::new(MemoryStore::new());
        let guard =
            Guard::builder(users, store.clone(), Purpose::api()).passwords(testing::passwords()).build();
        let header = testing::acting_as(&guard, &ada, ["*"]).await.into_bytes();
        Fixture { guard, store, header }
    }

    impl Fixture {
        fn good(&self) -> Auth<Users> {
            Auth::new(self.guard.clone(), [&self.header[..]])
        }

        fn bad(&self) -> Auth<Users> {
            Auth::new(self.guard.clone(), [&b"Bearer nonsense"[..]])
        }
    }

    /// logged in, guest, authenticated, logged out, attempted, user: a row of the table.
    fn row(auth: &Auth<Users>) -> (bool, bool, bool, bool, bool, Option<&str>) {
        let user = auth.user().map(|user| &*user.email);
        let Auth { logged_out, attempted, .. } = auth;
        (auth.is_logged_in(), auth.is_guest(), auth.is_authenticated(), *logged_out, *attempted, user)
    }

    const NOBODY: (bool, bool, bool, bool, bool, Option<&str>) = (false, true, false, false, false, None);
    const REFUSED: (bool, bool, bool, bool, bool, Option<&str>) = (false, true, false, false, true, None);

    #[tokio::test]
    async fn row_26_nothing_yet() {
        assert_eq!(row(&fixture().await.good()), NOBODY);
    }

    #[tokio::test]
    async fn row_26_authenticate_or_check_succeeded() {
        let fixture = fixture().await;
        let expected = (true, false, true, false, true, Some("ada@example.com"));
        let mut auth = fixture.good();
        auth.authenticate().await.unwrap();
        assert_eq!(row(&auth), expected);
        let mut auth = fixture.good();
        assert!(auth.check().await.unwrap());
        assert_eq!(row(&auth), expected);
    }

    #[tokio::test]
    async fn row_26_and_29_verified_by_a_layer_is_as_after_authenticate() {
        let fixture = fixture().await;
        let verified = fixture.guard.verify_header([&fixture.header[..]]).await.unwrap();
        let auth = fixture.good().with_verified(verified);
        assert_eq!(row(&auth), (true, false, true, false, true, Some("ada@example.com")));
    }

    #[tokio::test]
    async fn row_26_authenticate_or_check_failed_and_stays_failed() {
        let fixture = fixture().await;
        let mut auth = fixture.bad();
        assert!(auth.authenticate().await.is_err());
        assert_eq!(row(&auth), REFUSED);
        let mut auth = fixture.bad();
        assert!(!auth.check().await.unwrap());
        assert_eq!(row(&auth), REFUSED);
        assert!(auth.authenticate().await.is_err());
        assert_eq!(row(&auth), REFUSED);
    }

    #[tokio::test]
    async fn row_26_attempt_or_generate_alone() {
        let fixture = fixture().await;
        let expected = (true, false, false, false, false, Some("bob@example.com"));
        let mut auth = fixture.bad();
        let token = auth.attempt("bob@example.com", PASSWORD, |token| token).await.unwrap();
        assert_eq!(row(&auth), expected);
        let mut auth = fixture.bad();
        auth.generate(token.user(), |token| token).await.unwrap();
        assert_eq!(row(&auth), expected);
    }

    #[tokio::test]
    async fn row_26_a_failed_attempt_changes_nothing() {
        let mut auth = fixture().await.good();
        assert!(auth.attempt("bob@example.com", "wrong", |token| token).await.is_err());
        assert_eq!(row(&auth), NOBODY);
    }

    #[tokio::test]
    async fn row_26_authenticate_then_attempt() {
        let mut auth = fixture().await.good();
        auth.authenticate().await.unwrap();
        auth.attempt("bob@example.com", PASSWORD, |token| token).await.unwrap();
        assert_eq!(row(&auth), (true, false, true, false, true, Some("bob@example.com")));
    }

    #[tokio::test]
    async fn row_26_attempt_then_authenticate() {
        let mut auth = fixture().await.good();
        auth.attempt("bob@example.com", PASSWORD, |token| token).await.unwrap();
        auth.authenticate().await.unwrap();
        assert_eq!(row(&auth), (true, false, true, false, true, Some("ada@example.com")));
    }

    #[tokio::test]
    async fn row_26_and_27_revoke_from_any_state() {
        let expected = (false, true, false, true, true, None);
        for state in ["nothing", "authenticated", "attempted"] {
            let mut auth = fixture().await.good();
            match state {
                "authenticated" => drop(auth.authenticate().await.unwrap()),
                "attempted" => {
                    drop(auth.attempt("bob@example.com", PASSWORD, |token| token).await.unwrap());
                }
                _ => {}
            }
            auth.revoke().await.unwrap();
            assert_eq!(row(&auth), expected, "after {state}");
            assert!(auth.authenticate().await.is_err());
        }
    }

    #[tokio::test]
    async fn row_27_revoke_needs_a_good_token() {
        let mut auth = fixture().await.bad();
        assert!(auth.revoke().await.is_err());
        assert_eq!(row(&auth), REFUSED);
    }

    #[tokio::test]
    async fn row_25_an_outage_is_an_error_even_for_check() {
        let fixture = fixture().await;
        fixture.store.fail(true);
        assert!(fixture.good().check().await.is_err());
        assert!(matches!(fixture.good().authenticate().await, Err(Error::Unavailable(_))));
    }
}
