//! The application's own users. Here they are a list; yours are probably a table.

use hallpass::{Credentials, Unavailable, UserId, UserProvider, password::StoredPassword};
use serde::Serialize;

/// A user as handlers see them: without the password, in any form.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) email: String,
}

pub(crate) struct Users(Vec<(User, StoredPassword)>);

impl Users {
    pub(crate) fn new<const N: usize>(users: [(&str, StoredPassword); N]) -> Self {
        let rows = (1..).zip(users);
        Self(rows.map(|(id, (email, password))| (User { id, email: email.to_owned() }, password)).collect())
    }
}

impl UserProvider for Users {
    type User = User;

    fn id(&self, user: &User) -> UserId {
        user.id.into()
    }

    // SELECT id, email FROM users WHERE id = $1 AND active
    async fn find(&self, id: &UserId) -> Result<Option<User>, Unavailable> {
        Ok(self.0.iter().find(|(user, _)| self.id(user) == *id).map(|(user, _)| user.clone()))
    }

    // SELECT id, email, password FROM users WHERE email = $1 AND active
    async fn credentials(&self, uid: &str) -> Result<Option<Credentials<User>>, Unavailable> {
        let row = self.0.iter().find(|(user, _)| user.email.eq_ignore_ascii_case(uid));
        Ok(row.map(|(user, password)| Credentials { user: user.clone(), password: Some(password.clone()) }))
    }

    // With this, a token dies when its owner's address changes.
    fn address<'a>(&self, user: &'a User) -> Option<&'a str> {
        Some(&user.email)
    }
}
