//! The names of keys, and how times and ids are written in them and in the members of sorted sets.
//!
//! Everything here is ASCII and fixed for ever: another spelling would not find what is kept.

use hallpass::{HashedToken, Timestamp, TokenId, UserId};

/// How many hash tags there are. All that belongs to one user lies under one of them, and so in one slot of a cluster, where a
/// script changes it whole. The tag is a number computed from the user, not the user's own name, so that work which
/// goes over everything (pruning, and one day change numbers) can go tag by tag. 256 spread well over some fifty nodes.
/// Never change it: the tag is part of every key.
pub(crate) const SHARDS: u16 = 256;

/// What stands for "never" where instants are compared as text: greater than every instant, which has twenty digits too.
pub(crate) const NEVER: &str = "99999999999999999999";

/// The longest prefix of an application's choice.
const PREFIX_MAX: usize = 64;

/// What every key begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(Box<str>);

impl Prefix {
    /// Letters, digits and `_ - . : /`. A brace would be a hash tag of its own and tear a user's keys apart.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        let good = (1..=PREFIX_MAX).contains(&text.len()) && text.bytes().all(allowed);
        good.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Who uses this prefix, and how: see `about.rs`.
    pub(crate) fn about(&self) -> String {
        format!("{}about", self.0)
    }

    /// Hash of a token → its id and owner. Written once, deleted once, never changed.
    pub(crate) fn by_hash(&self, hash: &HashedToken) -> String {
        self.by_hash_text(&hex(hash))
    }

    pub(crate) fn by_hash_text(&self, hash: &str) -> String {
        format!("{}h:{hash}", self.0)
    }

    /// Id of a token → its hash and owner. Written once, deleted once, never changed.
    pub(crate) fn by_id(&self, id: TokenId) -> String {
        format!("{}i:{id}", self.0)
    }

    /// The keys of one owner.
    pub(crate) fn owner(&self, owner: &Owner) -> OwnerKeys<'_> {
        OwnerKeys { prefix: &self.0, owner: owner.clone() }
    }

    /// The keys that all owners of one shard share.
    pub(crate) fn shard(&self, shard: u16) -> ShardKeys {
        let Self(prefix) = self;
        ShardKeys {
            deaths: format!("{prefix}{{{shard}}}:deaths"),
            ended: format!("{prefix}{{{shard}}}:ended"),
            buried: format!("{prefix}{{{shard}}}:buried"),
        }
    }
}

/// A user's id as keys and members carry it: escaped, so that it contains no separator and no brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner(Box<str>);

impl Owner {
    pub(crate) fn new(user: &UserId) -> Self {
        Self(escape(user.as_str()).into())
    }

    /// As a key's value or a member has it.
    pub(crate) fn from_escaped(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` if no program of ours has written it.
    pub(crate) fn user(&self) -> Option<UserId> {
        UserId::new(unescape(&self.0)?).ok()
    }

    pub(crate) fn shard(&self) -> u16 {
        // The remainder is below SHARDS.
        u16::try_from(crc32fast::hash(self.0.as_bytes()) % u32::from(SHARDS)).unwrap_or_default()
    }
}

/// See [`Prefix::owner`].
pub(crate) struct OwnerKeys<'a> {
    prefix: &'a str,
    owner: Owner,
}

impl OwnerKeys<'_> {
    /// The epoch and when it was last raised.
    pub(crate) fn epoch(&self) -> String {
        self.named("o")
    }

    /// One token: the user is in the name, so that nobody's id leads to another's token.
    pub(crate) fn token(&self, id: &str) -> String {
        format!("{}{{{}}}:t:{}:{id}", self.prefix, self.owner.shard(), self.owner.as_str())
    }

    /// All tokens, by purpose and creation.
    pub(crate) fn list(&self) -> String {
        self.named("l")
    }

    /// All tokens, by epoch, state, purpose and expiry.
    pub(crate) fn states(&self) -> String {
        self.named("s")
    }

    fn named(&self, kind: &str) -> String {
        format!("{}{{{}}}:{kind}:{}", self.prefix, self.owner.shard(), self.owner.as_str())
    }
}

/// See [`Prefix::shard`].
pub(crate) struct ShardKeys {
    /// Tokens that have an instant of death of their own, by that instant.
    pub(crate) deaths: String,
    /// Owners whose tokens were all ended, by when, until prune has looked at them.
    pub(crate) ended: String,
    /// Tokens that prune has deleted and whose two pointers it has yet to delete.
    pub(crate) buried: String,
}

/// Twenty digits that sort as the instants do, also those before 1970.
pub(crate) fn instant(at: Timestamp) -> String {
    format!("{:020}", at.as_micros().cast_unsigned() ^ (1 << 63))
}

pub(crate) fn instant_or_never(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.to_owned(), instant)
}

/// Reads what [`instant`] writes.
pub(crate) fn parse_instant(text: &str) -> Option<Timestamp> {
    let digits = text.len() == NEVER.len() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = text.parse().ok().filter(|_| digits)?;
    Some(Timestamp::from_micros((number ^ (1 << 63)).cast_signed()))
}

/// A token's place in a list: sorts by creation, then id.
pub(crate) fn place(created_at: Timestamp, id: TokenId) -> String {
    format!("{}.{id}", instant(created_at))
}

pub(crate) fn hex(hash: &HashedToken) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().map_or('0', char::from);
    hash.as_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Writes everything but letters, digits and `_ - . @` as `%` and two digits, so that what separates parts of a key or member
/// (`:`, and `;` as the end of a range) and braces cannot be in it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            for half in [byte >> 4, byte & 15] {
                escaped.extend(char::from_digit(u32::from(half), 16));
            }
        }
    }
    escaped
}

pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_sort_as_text() {
        let micros = [i64::MIN, -1, 0, 1, 1_767_225_600_123_457, 253_402_300_799_999_999, i64::MAX];
        let texts: Vec<_> = micros.iter().map(|micros| instant(Timestamp::from_micros(*micros))).collect();
        assert!(texts.is_sorted() && texts.iter().all(|text| text.as_str() < NEVER), "{texts:?}");
        for (micros, text) in micros.into_iter().zip(&texts) {
            assert_eq!(parse_instant(text), Some(Timestamp::from_micros(micros)));
        }
        for text in ["", "1", NEVER, "+0000000000000000001", "-0000000000000000001"] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }

    #[test]
    fn user_ids_are_escaped_without_loss_or_separators() {
        let mut seen = std::collections::HashSet::new();
        for id in ["a", "A", "1", "a:b", "a;b", "}x{", "%41", "zoë 🎉", "a b", "a%20b", "\u{1}", "a@b.c"] {
            let user = UserId::new(id).unwrap();
            let owner = Owner::new(&user);
            assert_eq!(owner.user(), Some(user));
            assert!(!owner.as_str().contains([':', ';', '{', '}', ' ', '\n']), "{owner:?}");
            assert!(seen.insert(owner.as_str().to_owned()));
        }
    }

    #[test]
    fn keys_are_fixed_for_ever() {
        // Computed by another program: CRC-32 of the escaped id, modulo 256.
        let prefix = Prefix::parse("hallpass:").unwrap();
        let keys = |id: &str| prefix.owner(&Owner::new(&UserId::new(id).unwrap()));
        assert_eq!(keys("ada").epoch(), "hallpass:{104}:o:ada");
        assert_eq!(keys("a:b").list(), "hallpass:{183}:l:a%3ab");
        assert_eq!(keys("ada").token("x"), "hallpass:{104}:t:ada:x");
    }

    #[test]
    fn a_prefix_has_no_hash_tag() {
        for bad in ["", "{a}", "a{", "a b", "ü", &"a".repeat(65)] {
            assert_eq!(Prefix::parse(bad), None, "{bad}");
        }
    }
}
