//! How an application wants our tables named in its own database, and what its users' ids are.
//!
//! For the SQL stores, and without any driver: a store writes its statements out as templates, and [fills](Naming::fill) them
//! once, when it opens. So no name is ever put into a statement while requests are answered.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{error::Invalid, record::UserId};

/// The longest name that every database takes, in bytes: PostgreSQL's 63.
const NAME_MAX: usize = 63;
/// Leaves room for the longest of our own names.
const PREFIX_MAX: usize = 32;
const DEFAULT_PREFIX: &str = "hallpass_";

/// The names of our tables, the type of the application's user ids, and its table of users.
///
/// ```
/// use hallpass::naming::{Naming, Table, UserIds};
/// let naming = Naming::new()
///     .schema("auth")?
///     .prefix("acme_")?
///     .table(Table::Tokens, "api_tokens")?
///     .user_ids(UserIds::Integer)
///     .users("app.users", "id")?;
/// assert!(Naming::new().prefix("acme\"").is_err());
/// # Ok::<(), hallpass::Invalid>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    schema: Option<String>,
    prefix: String,
    tables: BTreeMap<&'static str, String>,
    user_ids: UserIds,
    users: Option<Users>,
}

/// The tables that an application may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Table {
    /// Tokens.
    Tokens,
    /// The epochs of their owners.
    Owners,
    /// The built-in accounts.
    Accounts,
    /// The audit trail.
    Audit,
    /// Which migrations were run.
    Migrations,
}

impl Table {
    /// What stands for it in a template, and comes after the prefix in its default name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Owners => "owners",
            Self::Accounts => "accounts",
            Self::Audit => "audit",
            Self::Migrations => "migrations",
        }
    }
}

/// What the application's user ids are in the database. At the [`TokenStore`](crate::TokenStore) they are text in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserIds {
    /// Any text of up to 255 bytes, compared byte for byte.
    #[default]
    Text,
    /// 64-bit signed integers. The built-in accounts cannot be used with these.
    Integer,
    /// UUIDs.
    Uuid,
}

impl UserIds {
    /// The number that this id is the one spelling of; `01` and `+1` are nobody's id.
    #[must_use]
    pub fn integer(id: &UserId) -> Option<i64> {
        let number: i64 = id.as_str().parse().ok()?;
        (number.to_string() == id.as_str()).then_some(number)
    }

    /// The 16 bytes that this id is the one spelling of: lower case, with hyphens.
    #[must_use]
    pub fn uuid(id: &UserId) -> Option<[u8; 16]> {
        let uuid = uuid::Uuid::try_parse(id.as_str()).ok()?;
        (uuid.to_string() == id.as_str()).then(|| uuid.into_bytes())
    }

    /// Whether a user can have this id at all.
    #[must_use]
    pub fn can_be(self, id: &UserId) -> bool {
        match self {
            Self::Text => true,
            Self::Integer => Self::integer(id).is_some(),
            Self::Uuid => Self::uuid(id).is_some(),
        }
    }
}

/// The application's own table of users.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Users {
    /// With its schema, if it was given one.
    table: Vec<String>,
    column: String,
}

/// What differs between databases in what is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What names are quoted with, on both sides.
    pub quote: char,
    /// The type of a column for [`UserIds::Text`], with its collation.
    pub text: &'static str,
    /// The type of a column for [`UserIds::Integer`].
    pub integer: &'static str,
    /// The type of a column for [`UserIds::Uuid`].
    pub uuid: &'static str,
}

impl Naming {
    /// `hallpass_tokens` and so on, in the database's default schema, for users whose ids are text.
    #[must_use]
    pub fn new() -> Self {
        Self {
            schema: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            tables: BTreeMap::new(),
            user_ids: UserIds::default(),
            users: None,
        }
    }

    /// Puts the tables into this schema, or, for MySQL, this database.
    ///
    /// # Errors
    /// A name that is refused; see [`table`](Self::table).
    pub fn schema(mut self, name: &str) -> Result<Self, Invalid> {
        self.schema = Some(accept_name("schema", name)?);
        Ok(self)
    }

    /// Begins all our names with this instead of `hallpass_`. May be empty.
    ///
    /// # Errors
    /// Over 32 bytes, or a character that is refused; see [`table`](Self::table).
    pub fn prefix(mut self, prefix: &str) -> Result<Self, Invalid> {
        if prefix.len() > PREFIX_MAX {
            return Err(Invalid::new("prefix", "a prefix of table names is at most 32 bytes"));
        }
        accept_characters("prefix", prefix)?;
        self.prefix = prefix.to_owned();
        Ok(self)
    }

    /// Gives one table a name of its own, which the prefix does not come before.
    ///
    /// # Errors
    /// An empty name, one over 63 bytes, or one with anything but letters, digits, `_`, `-` and `$`. In particular there is no
    /// way to write a quote.
    pub fn table(mut self, table: Table, name: &str) -> Result<Self, Invalid> {
        self.tables.insert(table.word(), accept_name("table", name)?);
        Ok(self)
    }

    /// Sets what user ids are.
    #[must_use]
    pub fn user_ids(mut self, user_ids: UserIds) -> Self {
        self.user_ids = user_ids;
        self
    }

    /// Names the application's own table of users and its key: tokens then refer to it, and are deleted with their user.
    /// The table may be given with its schema, as `app.users`.
    ///
    /// # Errors
    /// A name that is refused; see [`table`](Self::table).
    pub fn users(mut self, table: &str, column: &str) -> Result<Self, Invalid> {
        let parts: Vec<_> =
            table.split('.').map(|part| accept_name("users", part)).collect::<Result<_, _>>()?;
        if parts.len() > 2 {
            return Err(Invalid::new("users", "a table is given as `users` or `schema.users`"));
        }
        self.users = Some(Users { table: parts, column: accept_name("users", column)? });
        Ok(self)
    }

    /// The schema, if one was chosen.
    #[must_use]
    pub fn chosen_schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// What user ids are.
    #[must_use]
    pub fn chosen_user_ids(&self) -> UserIds {
        self.user_ids
    }

    /// The name of a table, without schema and quotes.
    #[must_use]
    pub fn name(&self, table: Table) -> String {
        self.plain(table.word()).into_owned()
    }

    /// Fills a template.
    ///
    /// | in the template | becomes |
    /// |---|---|
    /// | `{tokens}` or another [`Table::word`] | the table's name, quoted, with its schema |
    /// | `{any_other}` | prefix and word, quoted, with the schema: functions, for instance |
    /// | `{.any}` | prefix and word, quoted, without the schema: indexes, constraints, triggers |
    /// | `{user_id}` | the type of a column of user ids |
    /// | `{users_key}` | `, FOREIGN KEY (user_id) REFERENCES …`, or nothing: last in a table |
    ///
    /// Anything else in braces stays as it is.
    ///
    /// ```
    /// use hallpass::naming::{Dialect, Naming};
    /// let dialect = Dialect { quote: '"', text: "text COLLATE \"C\"", integer: "bigint", uuid: "uuid" };
    /// let naming = Naming::new().schema("auth")?;
    /// assert_eq!(naming.fill("SELECT 1 FROM {tokens}", &dialect), "SELECT 1 FROM \"auth\".\"hallpass_tokens\"");
    /// # Ok::<(), hallpass::Invalid>(())
    /// ```
    #[must_use]
    pub fn fill(&self, template: &str, dialect: &Dialect) -> String {
        let mut filled = String::with_capacity(template.len() * 2);
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            match after.split_once('}') {
                Some((inside, behind)) if is_placeholder(inside) => {
                    filled.push_str(&self.replacement(inside, dialect));
                    rest = behind;
                }
                _ => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    fn replacement(&self, placeholder: &str, dialect: &Dialect) -> String {
        let quoted = |name: &str| format!("{0}{name}{0}", dialect.quote);
        match placeholder {
            "user_id" => match self.user_ids {
                UserIds::Text => dialect.text.to_owned(),
                UserIds::Integer => dialect.integer.to_owned(),
                UserIds::Uuid => dialect.uuid.to_owned(),
            },
            "users_key" => self.users.as_ref().map_or_else(String::new, |users| {
                let table: Vec<_> = users.table.iter().map(|part| quoted(part)).collect();
                let column = quoted(&users.column);
                format!(
                    ",\n    FOREIGN KEY (user_id) REFERENCES {} ({column}) ON DELETE CASCADE",
                    table.join(".")
                )
            }),
            word => match (word.strip_prefix('.'), &self.schema) {
                (Some(word), _) => quoted(&format!("{}{word}", self.prefix)),
                (None, None) => quoted(&self.plain(word)),
                (None, Some(schema)) => format!("{}.{}", quoted(schema), quoted(&self.plain(word))),
            },
        }
    }

    fn plain(&self, word: &str) -> Cow<'_, str> {
        match self.tables.get(word) {
            Some(name) => name.into(),
            None => format!("{}{word}", self.prefix).into(),
        }
    }
}

impl Default for Naming {
    fn default() -> Self {
        Self::new()
    }
}

fn is_placeholder(inside: &str) -> bool {
    let word = inside.strip_prefix('.').unwrap_or(inside);
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn accept_name(field: &'static str, name: &str) -> Result<String, Invalid> {
    if !(1..=NAME_MAX).contains(&name.len()) {
        return Err(Invalid::new(field, "a name in the database is 1 to 63 bytes"));
    }
    accept_characters(field, name)?;
    Ok(name.to_owned())
}

fn accept_characters(field: &'static str, name: &str) -> Result<(), Invalid> {
    match name.chars().find(|c| !c.is_alphanumeric() && !"_-$".contains(*c)) {
        None => Ok(()),
        Some(refused) => Err(Invalid::new(
            field,
            format!("{refused:?} cannot stand in a name in the database: use letters, digits, _, - and $"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect { quote: '"', text: "text", integer: "bigint", uuid: "uuid" };

    fn fill(naming: &Naming, template: &str) -> String {
        naming.fill(template, &DIALECT)
    }

    #[test]
    fn row_15_tables_are_named_by_the_application() {
        let template = "{tokens} {.tokens_by_end} {append_only} {user_id}{users_key}";
        assert_eq!(
            fill(&Naming::new(), template),
            "\"hallpass_tokens\" \"hallpass_tokens_by_end\" \"hallpass_append_only\" text"
        );
        let naming = Naming::new().schema("auth").unwrap().prefix("").unwrap();
        let naming = naming.table(Table::Tokens, "Api-Tokens").unwrap().user_ids(UserIds::Integer);
        assert_eq!(
            fill(&naming.users("app.users", "id").unwrap(), template),
            "\"auth\".\"Api-Tokens\" \"tokens_by_end\" \"auth\".\"append_only\" bigint,\n    \
             FOREIGN KEY (user_id) REFERENCES \"app\".\"users\" (\"id\") ON DELETE CASCADE"
        );
    }

    #[test]
    fn other_braces_stay() {
        for text in ["'{}'", "{", "}", "{A}", "{ tokens }", "{.}", "a{b", "'{\"a\": {}}'", "{1,2}"] {
            assert_eq!(fill(&Naming::new(), text), text);
        }
        assert_eq!(fill(&Naming::new(), "{{tokens}"), "{\"hallpass_tokens\"");
    }

    #[test]
    fn row_15_a_name_with_a_quote_in_it_is_refused() {
        for name in ["a\"b", "a`b", "a'b", "a;b", "a b", "a.b", "a\\b", "a\0b", "a{b}", "", &"x".repeat(64)] {
            assert!(Naming::new().schema(name).is_err(), "{name:?}");
            assert!(Naming::new().table(Table::Tokens, name).is_err(), "{name:?}");
            assert!(Naming::new().users("users", name).is_err(), "{name:?}");
            assert!(name.is_empty() || Naming::new().prefix(name).is_err(), "{name:?}");
        }
        let refused = Naming::new().schema("a\"b").unwrap_err().to_string();
        assert!(refused.contains("'\"'") && refused.starts_with("schema"), "{refused}");
        assert!(Naming::new().users("a.b.c", "id").is_err());
        assert!(Naming::new().users("a.", "id").is_err());
    }

    #[test]
    fn row_15_an_id_has_one_spelling() {
        let id = |text: &str| UserId::new(text).unwrap();
        assert_eq!(UserIds::integer(&id("-7")), Some(-7));
        for text in ["01", "+1", " 1", "1.0", "-0", "9223372036854775808", "a"] {
            assert!(!UserIds::Integer.can_be(&id(text)), "{text}");
        }
        let uuid = "018f4c8e-0000-7000-8000-00000000abcd";
        assert!(UserIds::Uuid.can_be(&id(uuid)));
        for text in [uuid.to_uppercase(), uuid.replace('-', ""), format!("{{{uuid}}}"), "1".to_owned()] {
            assert!(!UserIds::Uuid.can_be(&id(&text)), "{text}");
        }
        assert!(UserIds::Text.can_be(&id("01")));
    }
}
