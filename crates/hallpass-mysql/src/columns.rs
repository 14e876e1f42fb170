//! Reading a row, column after column. A value that we cannot have written is an error, never passed over.

use std::{fmt::Write as _, vec::IntoIter};

use hallpass::{Timestamp, Unavailable};
use mysql_async::{Row, Value};

use crate::error::corrupt;

/// The values of a row, in their order.
pub(crate) struct Columns(IntoIter<Value>);

impl Columns {
    pub(crate) fn new(row: Row) -> Self {
        Self(
            row.unwrap_raw()
                .into_iter()
                .map(|value| value.unwrap_or(Value::NULL))
                .collect::<Vec<_>>()
                .into_iter(),
        )
    }

    /// The next value, whatever it is; NULL after the last.
    pub(crate) fn value(&mut self) -> Value {
        self.0.next().unwrap_or(Value::NULL)
    }

    pub(crate) fn maybe_text(&mut self, column: &str) -> Result<Option<String>, Unavailable> {
        match self.value() {
            Value::NULL => Ok(None),
            Value::Bytes(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| corrupt(column)),
            _ => Err(corrupt(column)),
        }
    }

    pub(crate) fn text(&mut self, column: &str) -> Result<String, Unavailable> {
        self.maybe_text(column)?.ok_or_else(|| corrupt(column))
    }

    pub(crate) fn maybe_number(&mut self, column: &str) -> Result<Option<i64>, Unavailable> {
        match self.value() {
            Value::NULL => Ok(None),
            Value::Int(number) => Ok(Some(number)),
            Value::UInt(number) => number.try_into().map(Some).map_err(|_| corrupt(column)),
            // In the text protocol numbers are text.
            Value::Bytes(digits) => {
                let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
                number.map(Some).ok_or_else(|| corrupt(column))
            }
            _ => Err(corrupt(column)),
        }
    }

    pub(crate) fn number<N: TryFrom<i64>>(&mut self, column: &str) -> Result<N, Unavailable> {
        let number = self.maybe_number(column)?.ok_or_else(|| corrupt(column))?;
        number.try_into().map_err(|_| corrupt(column))
    }

    pub(crate) fn maybe_time(&mut self, column: &str) -> Result<Option<Timestamp>, Unavailable> {
        Ok(self.maybe_number(column)?.map(Timestamp::from_micros))
    }

    pub(crate) fn time(&mut self, column: &str) -> Result<Timestamp, Unavailable> {
        self.number(column).map(Timestamp::from_micros)
    }

    pub(crate) fn bytes<const N: usize>(&mut self, column: &str) -> Result<[u8; N], Unavailable> {
        let Value::Bytes(bytes) = self.value() else { return Err(corrupt(column)) };
        bytes.try_into().map_err(|_| corrupt(column))
    }
}

/// A value for a statement: NULL for `None`.
pub(crate) fn time(time: Option<Timestamp>) -> Value {
    time.map_or(Value::NULL, |time| Value::Int(time.as_micros()))
}

/// The same for text or bytes.
pub(crate) fn text(text: Option<impl AsRef<[u8]>>) -> Value {
    text.map_or(Value::NULL, |text| Value::Bytes(text.as_ref().to_vec()))
}

/// Text or bytes that are there.
pub(crate) fn bytes(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bytes(bytes.as_ref().to_vec())
}

/// Bytes as `UNHEX` takes them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
