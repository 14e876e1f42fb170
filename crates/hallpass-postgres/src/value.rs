//! What goes into a statement and comes out of a row.

use std::{error::Error as StdError, fmt};

use bytes::{BufMut, BytesMut};
use hallpass::{Timestamp, TokenId, UserId, naming::UserIds};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

type BoxError = Box<dyn StdError + Sync + Send>;

/// A parameter of a statement. It knows its type, so that no statement relies on the server's guess, and an unnamed one is sent
/// without asking first.
///
/// Its `Debug` says nothing: the driver would log parameters, and hashes and passwords are among them.
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    Id(TokenId),
    Text(&'a str),
    MaybeText(Option<&'a str>),
    Json(&'a str),
    Int(i64),
    MaybeInt(Option<i64>),
    Bool(bool),
    /// NULL, which equals nothing, if no user can have this id.
    User(&'a UserId),
    Ids(Vec<Id>),
    MaybeIds(Vec<Option<Id>>),
    Ints(Vec<i64>),
    MaybeInts(Vec<Option<i64>>),
    Texts(Vec<&'a str>),
    MaybeTexts(Vec<Option<&'a str>>),
}

impl Value<'_> {
    pub(crate) fn at(time: Timestamp) -> Self {
        Self::Int(time.as_micros())
    }

    pub(crate) fn maybe_at(time: Option<Timestamp>) -> Self {
        Self::MaybeInt(time.map(Timestamp::as_micros))
    }

    pub(crate) fn sql_type(&self, user_ids: UserIds) -> Type {
        match self {
            Self::Bytes(_) => Type::BYTEA,
            Self::Id(_) => Type::UUID,
            Self::Text(_) | Self::MaybeText(_) => Type::TEXT,
            Self::Json(_) => Type::JSON,
            Self::Int(_) | Self::MaybeInt(_) => Type::INT8,
            Self::Bool(_) => Type::BOOL,
            Self::User(_) => user_type(user_ids),
            Self::Ids(_) | Self::MaybeIds(_) => Type::UUID_ARRAY,
            Self::Ints(_) | Self::MaybeInts(_) => Type::INT8_ARRAY,
            Self::Texts(_) | Self::MaybeTexts(_) => Type::TEXT_ARRAY,
        }
    }
}

pub(crate) fn user_type(user_ids: UserIds) -> Type {
    match user_ids {
        UserIds::Integer => Type::INT8,
        UserIds::Uuid => Type::UUID,
        _ => Type::TEXT,
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        match self {
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
            Self::Id(id) => Id(*id).to_sql(ty, out),
            Self::Text(text) | Self::Json(text) => {
                out.put_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            Self::MaybeText(text) => text.to_sql(ty, out),
            Self::Int(number) => number.to_sql(ty, out),
            Self::MaybeInt(number) => number.to_sql(ty, out),
            Self::Bool(bool) => bool.to_sql(ty, out),
            Self::User(id) => user_to_sql(id, ty, out),
            Self::Ids(ids) => ids.to_sql(ty, out),
            Self::MaybeIds(ids) => ids.to_sql(ty, out),
            Self::Ints(numbers) => numbers.to_sql(ty, out),
            Self::MaybeInts(numbers) => numbers.to_sql(ty, out),
            Self::Texts(texts) => texts.to_sql(ty, out),
            Self::MaybeTexts(texts) => texts.to_sql(ty, out),
        }
    }

    /// The types are those of [`Value::sql_type`].
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn user_to_sql(id: &UserId, ty: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
    match *ty {
        Type::INT8 => UserIds::integer(id).to_sql(ty, out),
        Type::UUID => Ok(UserIds::uuid(id).map_or(IsNull::Yes, |bytes| {
            out.put_slice(&bytes);
            IsNull::No
        })),
        _ => id.as_str().to_sql(ty, out),
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// A token's id as a uuid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) TokenId);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        Ok(Self(TokenId::from_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

/// A user's id, of whatever type the application's are.
pub(crate) struct User(pub(crate) UserId);

impl<'a> FromSql<'a> for User {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        let id = match *ty {
            Type::INT8 => UserId::from(i64::from_sql(ty, raw)?),
            // Text in the one spelling that is taken in.
            Type::UUID => UserId::new(TokenId::from_bytes(raw.try_into()?).to_string())?,
            _ => UserId::new(std::str::from_utf8(raw)?)?,
        };
        Ok(Self(id))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::TEXT | Type::INT8 | Type::UUID)
    }
}

/// The text of a JSON value.
pub(crate) struct Json<'a>(pub(crate) &'a str);

impl<'a> FromSql<'a> for Json<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value<'_>, user_ids: UserIds) -> Option<Vec<u8>> {
        let mut out = BytesMut::new();
        let null = value.to_sql(&value.sql_type(user_ids), &mut out).unwrap();
        matches!(null, IsNull::No).then(|| out.to_vec())
    }

    #[test]
    fn row_15_user_ids_read_back_in_every_type() {
        for (id, user_ids) in [
            ("ada", UserIds::Text),
            ("-42", UserIds::Integer),
            ("018f4c8e-0000-7000-8000-00000000abcd", UserIds::Uuid),
        ] {
            let id = UserId::new(id).unwrap();
            let raw = bytes(&Value::User(&id), user_ids).unwrap();
            assert_eq!(User::from_sql(&user_type(user_ids), &raw).unwrap().0, id);
        }
    }

    #[test]
    fn row_15_what_is_nobodys_id_is_null() {
        let id = UserId::new("\u{1}nobody").unwrap();
        assert_eq!(bytes(&Value::User(&id), UserIds::Integer), None);
        assert_eq!(bytes(&Value::User(&id), UserIds::Uuid), None);
        assert!(bytes(&Value::User(&id), UserIds::Text).is_some());
    }

    #[test]
    fn parameters_stay_out_of_the_drivers_log() {
        assert_eq!(format!("{:?}", Value::Text("$argon2id$secret")), "..");
        assert_eq!(format!("{:?}", Value::Bytes(&[7; 32])), "..");
    }
}
