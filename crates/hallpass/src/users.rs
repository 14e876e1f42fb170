//! Where users come from.

use std::future::Future;

use crate::{
    account::Account,
    error::Unavailable,
    password::StoredPassword,
    record::{Epoch, UserId},
};

/// The application's own users, or the built-in [`Accounts`](crate::account::Accounts).
///
/// Only `id` and `find` are needed to guard routes. `credentials` is needed for
/// [`attempt`](crate::Guard::attempt); the rest has defaults that fail closed.
///
/// ```
/// use hallpass::{Unavailable, UserId, UserProvider};
///
/// #[derive(Clone)]
/// struct User { id: u64, name: String }
///
/// struct Users;
///
/// impl UserProvider for Users {
///     type User = User;
///
///     fn id(&self, user: &User) -> UserId {
///         user.id.into()
///     }
///
///     async fn find(&self, id: &UserId) -> Result<Option<User>, Unavailable> {
///         // SELECT … FROM users WHERE id = $1 AND active
///         Ok(id.as_str().parse().ok().map(|id| User { id, name: "Ada".into() }))
///     }
/// }
/// ```
pub trait UserProvider: Send + Sync + 'static {
    /// The user, as handlers get it.
    type User: Clone + Send + Sync + 'static;

    /// The user's id, the same for ever and never given to anybody else.
    fn id(&self, user: &Self::User) -> UserId;

    /// The user with this id, or `None` if there is none or they may no longer act: then every token of theirs is
    /// refused.
    ///
    /// # Errors
    /// [`Unavailable`] if the users are out of reach. Never `None` in that case.
    fn find(&self, id: &UserId) -> impl Future<Output = Result<Option<Self::User>, Unavailable>> + Send;

    /// The user who logs in under `uid` (an address, a name, any of several that are unique) with the stored form of
    /// their password. `None` if there is none or they may not log in. No password logs anybody in by default.
    ///
    /// # Errors
    /// [`Unavailable`] if the users are out of reach.
    fn credentials(
        &self,
        uid: &str,
    ) -> impl Future<Output = Result<Option<Credentials<Self::User>>, Unavailable>> + Send {
        let _ = uid;
        async { Ok(None) }
    }

    /// The address that tokens are bound to, if the purpose asks for it.
    fn address<'a>(&self, user: &'a Self::User) -> Option<&'a str> {
        let _ = user;
        None
    }

    /// Whether a user read by this provider carries their [`epoch`](Self::epoch). By default the token store keeps epochs,
    /// and a log-in asks it.
    const KEEPS_EPOCHS: bool = false;

    /// The epoch the user was read with; asked only if this provider [keeps epochs](Self::KEEPS_EPOCHS).
    fn epoch(&self, user: &Self::User) -> Epoch {
        let _ = user;
        Epoch::default()
    }

    /// Whether a privileged scope (`admin`, `introspect`) was granted to this user.
    fn is_granted(&self, user: &Self::User, scope: &str) -> bool {
        let _ = (user, scope);
        false
    }

    /// The user for an account that the store read together with the token, which saves a look-up. `None` has
    /// [`find`](Self::find) asked.
    fn user_of(&self, account: Account) -> Option<Self::User> {
        drop(account);
        None
    }

    /// The password that just logged `user` in, hashed anew because the stored form is weaker than today's. A
    /// provider should keep it, if the stored form is still the one it gave out. The default forgets it.
    ///
    /// # Errors
    /// [`Unavailable`]; the log-in goes on regardless.
    fn rehashed(
        &self,
        user: &Self::User,
        from: &StoredPassword,
        to: &StoredPassword,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send {
        let _ = (user, from, to);
        async { Ok(()) }
    }
}

/// A user and the stored form of their password, on the way to being checked.
#[derive(Clone)]
pub struct Credentials<User> {
    /// The user, who has proven nothing yet.
    pub user: User,
    /// The stored form of the password; `None` if the user has none, and cannot log in with one.
    pub password: Option<StoredPassword>,
}

impl<User> std::fmt::Debug for Credentials<User> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}
