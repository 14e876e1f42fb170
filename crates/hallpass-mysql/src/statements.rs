//! The store's statements, with the tables' names filled in: made once, when the store is opened.
//!
//! They are written out beside the functions that run them.

use hallpass::naming::Naming;

use crate::{accounts, audit, connection::Sql, prune, tokens, user_ids::Ids};

/// Makes a struct of statements, each with a place of its own, from templates.
macro_rules! statements {
    ($($name:ident: $template:expr),* $(,)?) => {
        #[derive(Debug)]
        pub(crate) struct Statements {
            $(pub(crate) $name: Sql,)*
        }

        impl Statements {
            pub(crate) fn new(naming: &Naming, ids: &Ids) -> Self {
                let mut places = 0..;
                let mut fill = |template: &str| {
                    Sql::new(ids.fill(naming, template), places.next().unwrap_or_default())
                };
                Self { $($name: fill($template),)* }
            }

            /// Every one of them.
            pub(crate) fn all(&self) -> Vec<&Sql> {
                vec![$(&self.$name),*]
            }
        }
    };
}

statements! {
    find: tokens::FIND,
    find_by_id: tokens::FIND_BY_ID,
    epoch: tokens::EPOCH,
    owner_of: tokens::OWNER_OF,
    insert: tokens::INSERT,
    lock_owner: tokens::LOCK_OWNER,
    count_for_cap: tokens::COUNT_FOR_CAP,
    take: tokens::TAKE,
    revoke: tokens::REVOKE,
    revoke_by_id: tokens::REVOKE_BY_ID,
    touch: tokens::TOUCH,
    update: tokens::UPDATE,
    list: tokens::LIST,
    list_living: tokens::LIST_LIVING,
    ready: tokens::READY,
    raise: accounts::RAISE,
    count_ended: accounts::COUNT_ENDED,
    create_owner: accounts::CREATE_OWNER,
    create_account: accounts::CREATE,
    find_account: accounts::FIND,
    find_by_email: accounts::FIND_BY_EMAIL,
    list_accounts: accounts::LIST,
    set_password: accounts::SET_PASSWORD,
    rehash: accounts::REHASH,
    disable: accounts::DISABLE,
    enable: accounts::ENABLE,
    delete_account: accounts::DELETE,
    append: audit::APPEND,
    expired: prune::EXPIRED,
    revoked: prune::REVOKED,
    to_sweep: prune::TO_SWEEP,
    ended: prune::ENDED,
    swept: prune::SWEPT,
    delete_expired: prune::DELETE_EXPIRED,
    delete_revoked: prune::DELETE_REVOKED,
    delete_ended: prune::DELETE_ENDED,
}
