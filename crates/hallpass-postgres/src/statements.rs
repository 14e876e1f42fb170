//! All statements, with the application's names filled in once.

use hallpass::naming::{Dialect, Naming};

use crate::{accounts, audit, tokens};

/// How this database spells what a template leaves open.
pub(crate) const DIALECT: Dialect =
    Dialect { quote: '"', text: "text COLLATE \"C\"", integer: "bigint", uuid: "uuid" };

/// A condition that is always true, and makes this transaction's commit wait for the disk.
///
/// An answer is a promise. Whoever runs the database may have chosen asynchronous commit for all of it, which is fine for what
/// can be done over, but not for a revocation. It is judged once, before the first row is written, costs no round trip, and ends
/// with the transaction, so that it also works behind a pooler. `remote_apply` is stronger and stays.
macro_rules! durably {
    () => {
        "(SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                            WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)) <> ''"
    };
}
pub(crate) use durably;

/// One statement.
#[derive(Debug)]
pub(crate) struct Sql {
    /// Its place among all statements.
    pub(crate) slot: usize,
    pub(crate) text: String,
}

macro_rules! statements {
    ($($name:ident: $template:expr,)*) => {
        /// All statements.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $(pub(crate) $name: Sql,)*
        }

        impl Statements {
            pub(crate) const COUNT: usize = [$(stringify!($name)),*].len();

            pub(crate) fn new(naming: &Naming) -> Self {
                let mut slots = 0..;
                let mut sql = |template| {
                    Sql { slot: slots.next().unwrap_or_default(), text: naming.fill(template, &DIALECT) }
                };
                Self { $($name: sql($template),)* }
            }
        }
    };
}

statements! {
    find: tokens::FIND,
    epoch: tokens::EPOCH,
    find_by_id: tokens::FIND_BY_ID,
    owner_of: tokens::OWNER_OF,
    lock_owner: tokens::LOCK_OWNER,
    insert: tokens::INSERT,
    take: tokens::TAKE,
    touch: tokens::TOUCH,
    revoke: tokens::REVOKE,
    revoke_by_id: tokens::REVOKE_BY_ID,
    raise: tokens::RAISE,
    count_ended: tokens::COUNT_ENDED,
    update: tokens::UPDATE,
    list: tokens::LIST,
    prune_expired: tokens::PRUNE_EXPIRED,
    prune_revoked: tokens::PRUNE_REVOKED,
    prune_ended: tokens::PRUNE_ENDED,
    swept: tokens::SWEPT,
    ready: tokens::READY,
    create_account: accounts::CREATE,
    find_account: accounts::FIND,
    find_account_by_email: accounts::FIND_BY_EMAIL,
    list_accounts: accounts::LIST,
    set_password: accounts::SET_PASSWORD,
    rehash: accounts::REHASH,
    disable: accounts::DISABLE,
    enable: accounts::ENABLE,
    delete_account: accounts::DELETE,
    append: audit::APPEND,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_and_no_default_name_is_written_out() {
        let naming = Naming::new().schema("s").unwrap().prefix("x_").unwrap();
        let all = format!("{:?}", Statements::new(&naming));
        assert!(!all.contains("hallpass_"), "{all}");
        assert!(!all.contains("{tokens}") && !all.contains("{owners}") && all.contains("x_tokens"), "{all}");
    }
}
