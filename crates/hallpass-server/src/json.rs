//! Bodies: bounded in size and time, of the right type, and without a member that nobody asked for.

use std::{fmt, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};

use crate::problem::{Kind, Problem};

/// The largest body that is taken.
const BODY_MAX: usize = 64 * 1024;
/// How much of one that is too large is read and thrown away, because a client that is still sending when its
/// connection is closed never reads the answer.
const DISCARD_MAX: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How much of a member's name is repeated to who sent it.
const NAME_MAX: usize = 100;

/// A JSON object with exactly the members of `T`.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        accept_type(&parts.headers)?;
        parse(&read(&parts.headers, body).await?).map(Self)
    }
}

/// No body, or `{}`: what somebody else puts there means something that would not be done.
pub(crate) struct NoBody;

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Empty {}

        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body).await?;
        if !bytes.is_empty() {
            accept_type(&parts.headers)?;
            parse::<Empty>(&bytes)?;
        }
        Ok(Self)
    }
}

/// One header saying `application/json`, in UTF-8 and not compressed.
fn accept_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let text = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok());
    let mut parts = text.unwrap_or_default().split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if !is_json || !is_utf8 || headers.contains_key(header::CONTENT_ENCODING) {
        let detail = "The body must be JSON: send the header \"Content-Type: application/json\".";
        return Err(Problem::new(Kind::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > DISCARD_MAX as u64) {
        return Err(too_large());
    }
    tokio::time::timeout(BODY_WITHIN, collect(body)).await.unwrap_or_else(|_| {
        let detail = format!("The body did not arrive within {} seconds.", BODY_WITHIN.as_secs());
        Err(Problem::new(Kind::REQUEST_TIMEOUT, detail))
    })
}

async fn collect(mut body: Body) -> Result<Bytes, Problem> {
    let (mut taken, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::new(Kind::INVALID_REQUEST, "The body broke off.");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        seen += data.len();
        if seen <= BODY_MAX {
            taken.extend_from_slice(&data);
        } else if seen > DISCARD_MAX {
            break;
        }
    }
    if seen > BODY_MAX { Err(too_large()) } else { Ok(taken.into()) }
}

fn too_large() -> Problem {
    Problem::new(Kind::CONTENT_TOO_LARGE, format!("A body may have at most {BODY_MAX} bytes."))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed = || Problem::new(Kind::INVALID_REQUEST, "The body is not well-formed JSON in UTF-8.");
    let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
    // Whether it is JSON at all comes before what is in it.
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| malformed())?;
    // Serde would take an array for an object, its values for the members in their order.
    if !text.trim_start().starts_with('{') {
        return Err(Problem::field("", "the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        match error.inner().classify() {
            Category::Data => explain(&path, &error.inner().to_string()),
            // Numbers out of range, halves of surrogate pairs, and what is nested too deeply.
            Category::Io | Category::Syntax | Category::Eof => malformed(),
        }
    })
}

/// Serde's message without the value that it quotes, which may be a password in the wrong place.
fn explain(path: &str, message: &str) -> Problem {
    let quoted = || {
        let name = message.split('`').nth(1).unwrap_or_default();
        name.chars().take(NAME_MAX).collect::<String>()
    };
    if message.starts_with("missing field") {
        return Problem::field(quoted(), "is required");
    }
    if message.starts_with("unknown field") {
        return Problem::field(quoted(), "is not known here");
    }
    if message.starts_with("duplicate field") {
        return Problem::field(quoted(), "is given twice");
    }
    let (message, _) = message.rsplit_once(" at line ").unwrap_or((message, ""));
    let wanted = message.rsplit_once("expected ").map_or("something else", |(_, wanted)| wanted);
    Problem::field(path, format!("must be {wanted}"))
}

/// For an optional member that must have a value if it is there.
pub(crate) fn not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// A JSON object of the client's own, in which no name stands twice, at any depth: of two values one would
/// silently be lost.
#[derive(Debug)]
pub(crate) struct Meta(Map<String, Value>);

impl Meta {
    pub(crate) fn into_inner(self) -> Map<String, Value> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Meta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Meta, A::Error> {
                object(members).map(Meta)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Any JSON value in which no name stands twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        object(members).map(Value::Object)
    }
}

fn object<'de, A: MapAccess<'de>>(mut members: A) -> Result<Map<String, Value>, A::Error> {
    let mut object = Map::new();
    while let Some(name) = members.next_key::<String>()? {
        if object.contains_key(&name) {
            return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
        }
        let Unique(value) = members.next_value()?;
        object.insert(name, value);
    }
    Ok(object)
}
