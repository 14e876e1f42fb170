//! A token as the value of one key.
//!
//! ```text
//! 1 <hash> <epoch> <purpose> <created>.<id> <expires> <used> <revoked> <by>
//! <name, in JSON>
//! <the rest, in JSON>
//! ```
//!
//! The first line has what scripts compare and change, in fixed forms (see `keys.rs`); so that a script never has to read or write
//! JSON, in which Lua would lose digits. The last line never changes. `1` is the form; `-` is "not".

use hallpass::{Epoch, HashedToken, Origin, Scopes, TokenId, TokenRecord, Unavailable};
use serde::{Deserialize, Serialize};

use crate::{
    error::corrupt,
    keys::{self, Owner},
};

/// What never changes, and no script looks at.
#[derive(Serialize, Deserialize)]
struct Rest {
    user: String,
    origin: String,
    hint: String,
    scopes: String,
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    meta: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound_to: Option<String>,
}

pub(crate) fn epoch_text(epoch: Epoch) -> String {
    format!("{:010}", epoch.number())
}

/// An owner's epoch, from the value of its key: ten digits, and what else is kept there behind a blank.
pub(crate) fn parse_epoch(value: Option<&str>) -> Result<Epoch, Unavailable> {
    let Some(value) = value else { return Ok(Epoch::default()) };
    let digits = value.split(' ').next().filter(|digits| digits.len() == 10);
    digits.and_then(|digits| digits.parse().ok()).map(Epoch::new).ok_or_else(|| corrupt("an epoch"))
}

pub(crate) fn name_text(name: Option<&str>) -> Result<String, Unavailable> {
    serde_json::to_string(&name).map_err(|error| Unavailable::because("a name cannot be written", error))
}

pub(crate) fn encode(hash: &HashedToken, record: &TokenRecord) -> Result<String, Unavailable> {
    let rest = Rest {
        user: record.user.as_str().to_owned(),
        origin: record.origin.as_str().to_owned(),
        hint: record.hint.clone(),
        scopes: record.scopes.to_string(),
        meta: record.meta.clone(),
        bound_to: record.bound_to.clone(),
    };
    let rest = serde_json::to_string(&rest)
        .map_err(|error| Unavailable::because("a token cannot be written", error))?;
    let instant_or_not = |at: Option<_>| at.map_or_else(|| "-".to_owned(), keys::instant);
    Ok(format!(
        "1 {} {} {} {} {} {} {} -\n{}\n{rest}",
        keys::hex(hash),
        epoch_text(record.epoch),
        keys::escape(&record.purpose),
        keys::place(record.created_at, record.id),
        keys::instant_or_never(record.expires_at),
        instant_or_not(record.last_used_at),
        instant_or_not(record.revoked_at),
        name_text(record.name.as_deref())?,
    ))
}

/// Reads what [`encode`] wrote and scripts changed, with the hash in hexadecimal. What no program of ours has written is an error,
/// never passed over; so is a token that is not the one its key says.
pub(crate) fn decode<'a>(
    value: &'a str,
    owner: &Owner,
    id: &str,
) -> Result<(&'a str, TokenRecord), Unavailable> {
    read(value, owner, id).ok_or_else(|| corrupt("a token"))
}

fn read<'a>(value: &'a str, owner: &Owner, id: &str) -> Option<(&'a str, TokenRecord)> {
    let mut lines = value.splitn(3, '\n');
    let mut words = lines.next()?.split(' ');
    let (name, rest) = (lines.next()?, lines.next()?);
    if words.next()? != "1" {
        return None;
    }
    let hash = words.next()?;
    let epoch = parse_epoch(Some(words.next()?)).ok()?;
    let purpose = keys::unescape(words.next()?)?;
    let (created_at, kept_id) = words.next()?.split_once('.')?;
    let rest: Rest = serde_json::from_str(rest).ok()?;
    let user = owner.user().filter(|user| user.as_str() == rest.user)?;
    let token_id = TokenId::parse(kept_id).filter(|_| kept_id == id)?;
    let mut record = TokenRecord::new(token_id, user, epoch, &purpose, keys::parse_instant(created_at)?);
    let mut instant_unless = |not: &str| match words.next()? {
        word if word == not => Some(None),
        word => keys::parse_instant(word).map(Some),
    };
    record.expires_at = instant_unless(keys::NEVER)?;
    record.last_used_at = instant_unless("-")?;
    record.revoked_at = instant_unless("-")?;
    record.origin = Origin::parse(&rest.origin);
    record.name = serde_json::from_str(name).ok()?;
    record.hint = rest.hint;
    record.scopes = Scopes::parse_list(&rest.scopes).ok()?;
    record.meta = rest.meta;
    record.bound_to = rest.bound_to;
    Some((hash, record))
}

#[cfg(test)]
mod tests {
    use hallpass::{PlainToken, Purpose, Timestamp, UserId};

    use super::*;

    fn sample() -> (HashedToken, TokenRecord) {
        let hash = PlainToken::generate(&Purpose::api()).unwrap().hash();
        let user = UserId::new("a:b\n").unwrap();
        let id = TokenId::random().unwrap();
        let mut record = TokenRecord::new(id, user, Epoch::new(7), "api", Timestamp::from_micros(5));
        record.name = Some("two\nlines".to_owned());
        record.revoked_at = Some(Timestamp::from_micros(-1));
        (hash, record)
    }

    #[test]
    fn what_is_written_reads_back() {
        let (hash, record) = sample();
        let value = encode(&hash, &record).unwrap();
        let owner = Owner::new(&record.user);
        let (kept, again) = decode(&value, &owner, &record.id.to_string()).unwrap();
        assert_eq!((kept, again), (keys::hex(&hash).as_str(), record));
    }

    #[test]
    fn what_we_have_not_written_is_an_error_and_never_a_token() {
        let (hash, record) = sample();
        let value = encode(&hash, &record).unwrap();
        let (owner, id) = (Owner::new(&record.user), record.id.to_string());
        let other = Owner::new(&UserId::new("other").unwrap());
        assert!(decode(&value, &other, &id).is_err(), "another's token");
        assert!(decode(&value, &owner, &TokenId::random().unwrap().to_string()).is_err(), "another token");
        assert!(decode(&value.replacen('1', "2", 1), &owner, &id).is_err(), "another form");
        // Shortest of the last line is not JSON any more, whatever is cut off.
        for cut in 0..value.len() {
            assert!(value.get(..cut).is_none_or(|part| decode(part, &owner, &id).is_err()), "cut at {cut}");
        }
    }
}
