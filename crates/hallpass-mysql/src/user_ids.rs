//! User ids: text at the boundary, in the database what the application's own ids are.

use hallpass::{
    Invalid, Unavailable, UserId,
    naming::{Dialect, Naming, UserIds},
};
use mysql_async::Value;

use crate::error::corrupt;

/// The column that keeps user ids, where a foreign key needs more than [`UserIds`] says: it must have the very type of
/// the application's own column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserIdColumn {
    /// `VARBINARY(255)` for text, `BIGINT` for integers, `BINARY(16)` for UUIDs, whose bytes stand in their order.
    #[default]
    Native,
    /// `BIGINT UNSIGNED`, as Laravel and `AdonisJS` have it.
    UnsignedInteger,
    /// UUIDs as `CHAR(36)` in lower case, with this collation: that of the application's own column.
    UuidText(&'static str),
    /// `MariaDB`'s own type `UUID`.
    MariadbUuid,
}

/// How ids are written and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    kind: UserIds,
    column: UserIdColumn,
    dialect: Dialect,
}

impl Ids {
    pub(crate) fn new(naming: &Naming, column: UserIdColumn) -> Result<Self, Invalid> {
        let kind = naming.chosen_user_ids();
        let fits = match column {
            UserIdColumn::Native => true,
            UserIdColumn::UnsignedInteger => kind == UserIds::Integer,
            UserIdColumn::UuidText(collation) => {
                let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                kind == UserIds::Uuid && !collation.is_empty() && collation.bytes().all(word)
            }
            UserIdColumn::MariadbUuid => kind == UserIds::Uuid,
        };
        if !fits {
            return Err(Invalid::new("user_id_column", "does not go with the kind of the user ids"));
        }
        let uuid = match column {
            UserIdColumn::MariadbUuid => "UUID",
            // The collation is filled in afterwards: a dialect's texts are fixed.
            UserIdColumn::UuidText(_) => "CHAR(36) COLLATE ?",
            _ => "BINARY(16)",
        };
        let integer = if column == UserIdColumn::UnsignedInteger { "BIGINT UNSIGNED" } else { "BIGINT" };
        // Bytes, not text of a collation: those that both databases have pad with blanks, so that "a" would be "a ".
        let dialect = Dialect { quote: '`', text: "VARBINARY(255)", integer, uuid };
        Ok(Self { kind, column, dialect })
    }

    /// Fills a template.
    pub(crate) fn fill(&self, naming: &Naming, template: &str) -> String {
        let filled = naming.fill(template, &self.dialect);
        match self.column {
            UserIdColumn::UuidText(collation) => {
                filled.replace("CHAR(36) COLLATE ?", &format!("CHAR(36) COLLATE {collation}"))
            }
            _ => filled,
        }
    }

    /// The id as a statement takes it; `None` if no user can have it.
    pub(crate) fn value(&self, id: &UserId) -> Option<Value> {
        match (self.kind, self.column) {
            (UserIds::Integer, column) => {
                let number = UserIds::integer(id)?;
                (number >= 0 || column == UserIdColumn::Native).then_some(Value::Int(number))
            }
            (UserIds::Uuid, UserIdColumn::Native) => Some(Value::Bytes(UserIds::uuid(id)?.to_vec())),
            _ if self.kind.can_be(id) => Some(Value::Bytes(id.as_str().into())),
            _ => None,
        }
    }

    /// The id as a row has it.
    pub(crate) fn read(&self, value: Value) -> Result<UserId, Unavailable> {
        let text = match value {
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            Value::Bytes(bytes) if self.kind == UserIds::Uuid && self.column == UserIdColumn::Native => {
                uuid_text(&bytes)
            }
            Value::Bytes(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        };
        text.and_then(|text| UserId::new(text).ok()).ok_or_else(|| corrupt("user_id"))
    }
}

fn uuid_text(bytes: &[u8]) -> Option<String> {
    Some(hallpass::TokenId::from_bytes(bytes.try_into().ok()?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(kind: UserIds, column: UserIdColumn) -> Result<Ids, Invalid> {
        Ids::new(&Naming::new().user_ids(kind), column)
    }

    #[test]
    fn row_15_an_id_comes_back_as_it_was_given_in_every_kind_of_column() {
        let uuid = "018f4c8e-0000-7000-8000-00000000abcd";
        for (kind, column, id, sql) in [
            (UserIds::Text, UserIdColumn::Native, "a ", "VARBINARY(255)"),
            (UserIds::Integer, UserIdColumn::Native, "-7", "BIGINT"),
            (UserIds::Integer, UserIdColumn::UnsignedInteger, "7", "BIGINT UNSIGNED"),
            (UserIds::Uuid, UserIdColumn::Native, uuid, "BINARY(16)"),
            (UserIds::Uuid, UserIdColumn::MariadbUuid, uuid, "UUID"),
            (UserIds::Uuid, UserIdColumn::UuidText("ascii_bin"), uuid, "CHAR(36) COLLATE ascii_bin"),
        ] {
            let ids = ids(kind, column).unwrap();
            let id = UserId::new(id).unwrap();
            assert_eq!(ids.read(ids.value(&id).unwrap()).unwrap(), id);
            assert_eq!(ids.fill(&Naming::new().user_ids(kind), "{user_id}"), sql);
        }
    }

    #[test]
    fn an_id_that_nobody_can_have_has_no_value() {
        let id = |id: &str| UserId::new(id).unwrap();
        assert_eq!(ids(UserIds::Integer, UserIdColumn::Native).unwrap().value(&id("01")), None);
        assert_eq!(ids(UserIds::Integer, UserIdColumn::UnsignedInteger).unwrap().value(&id("-1")), None);
        assert_eq!(ids(UserIds::Uuid, UserIdColumn::Native).unwrap().value(&id("ada")), None);
    }

    #[test]
    fn a_column_that_does_not_go_with_the_ids_is_refused() {
        assert!(ids(UserIds::Text, UserIdColumn::UnsignedInteger).is_err());
        assert!(ids(UserIds::Integer, UserIdColumn::MariadbUuid).is_err());
        assert!(ids(UserIds::Uuid, UserIdColumn::UuidText("a, b")).is_err());
    }
}
