use crate::{
    error::{Error, Reason},
    record::TokenRecord,
    scope::{Scopes, Wants},
};

/// A good token and its owner. Only a guard can make one.
#[derive(Clone, Debug)]
pub struct Verified<User> {
    user: User,
    token: TokenRecord,
    scopes: Scopes,
}

impl<User> Verified<User> {
    pub(super) fn new(user: User, token: TokenRecord, scopes: Scopes) -> Self {
        Self { user, token, scopes }
    }

    /// The owner.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The owner, without the rest.
    pub fn into_user(self) -> User {
        self.user
    }

    /// The token's record.
    pub fn token(&self) -> &TokenRecord {
        &self.token
    }

    /// The name of the purpose that matched.
    pub fn purpose(&self) -> &str {
        &self.token.purpose
    }

    /// What the token may do at this moment: its own scopes, without privileged ones that its owner no longer has.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Whether the token and its owner's rights give `scope`.
    pub fn allows(&self, scope: &str) -> bool {
        self.scopes.allow(scope)
    }

    /// Whether this is what a handler wants.
    ///
    /// # Errors
    /// [`Reason::InsufficientScope`] with the scope that is missing.
    pub fn require(&self, wants: Wants) -> Result<(), Error> {
        let (allowed, wanted) = match wants {
            Wants::Nothing => return Ok(()),
            Wants::Everything => (self.scopes.is_all(), "*"),
            Wants::Scope(scope) => (self.allows(scope), scope),
        };
        if allowed { Ok(()) } else { Err(Reason::InsufficientScope { wanted: wanted.into() }.into()) }
    }
}
