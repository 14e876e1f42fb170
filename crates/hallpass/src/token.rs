//! The text of a token, and the hash that stands for it.
//!
//! A text is `<prefix>_` + 43 digits of base 62 (256 random bits) + 6 digits of base 62 (the CRC-32 of everything
//! before them, prefix included). The alphabet is `[0-9A-Za-z_]`, so that a double click selects all of it and
//! no encoding changes it. The checksum is there to tell garbage from tokens without a look-up, and to let
//! secret scanners be sure; it adds no security.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    error::{Reason, Unavailable},
    purpose::{PREFIX_MAX, Purpose},
};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 62^43 is the first power of 62 that exceeds 2^256.
const SECRET_LEN: usize = 43;
/// 62^6 is the first power of 62 that exceeds 2^32.
const CHECKSUM_LEN: usize = 6;
const BODY_LEN: usize = SECRET_LEN + CHECKSUM_LEN;
const TEXT_MAX: usize = PREFIX_MAX + 1 + BODY_LEN;
const HINT_LEN: usize = 4;

/// A token as its holder has it. Made by [`generate`](Self::generate) or read by [`parse`](Self::parse), shown
/// by [`expose`](Self::expose) alone, wiped from memory when dropped.
///
/// ```
/// use hallpass::{PlainToken, Purpose};
/// let token = PlainToken::generate(&Purpose::api())?;
/// assert!(token.expose().starts_with("hp_"));
/// assert_eq!(token.expose().len(), 52);
/// let again = PlainToken::parse(token.expose())?;
/// assert_eq!(again.hash(), token.hash());
/// assert_eq!(format!("{token:?}"), "PlainToken(hp_...)");
/// # Ok::<(), hallpass::Error>(())
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PlainToken {
    bytes: [u8; TEXT_MAX],
    len: usize,
}

impl PlainToken {
    /// Makes a token from 256 bits of the operating system's randomness.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn generate(purpose: &Purpose) -> Result<Self, Unavailable> {
        let mut bits = [0; 32];
        random(&mut bits)?;
        let token = Self::from_bits(purpose, bits);
        bits.zeroize();
        Ok(token)
    }

    /// Reads a text: its length, alphabet and checksum, in this order, and nothing else.
    ///
    /// # Errors
    /// [`Reason::NotAToken`] for whatever [`generate`](Self::generate) could not have made.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let bytes = text.as_bytes();
        // The shortest prefix is one character, then the underscore.
        if !(2 + BODY_LEN..=TEXT_MAX).contains(&bytes.len()) {
            return Err(Reason::NotAToken);
        }
        if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(Reason::NotAToken);
        }
        let (checked, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
        if checksum != base62::<CHECKSUM_LEN>([crc32fast::hash(checked)]) {
            return Err(Reason::NotAToken);
        }
        let (prefix, secret) = checked.split_at(checked.len() - SECRET_LEN);
        // The alphabet is in ASCII order, so texts compare as the numbers they stand for.
        let in_range = secret <= base62::<SECRET_LEN>([u32::MAX; 8]).as_slice() && !secret.contains(&b'_');
        if !prefix.ends_with(b"_") || !in_range {
            return Err(Reason::NotAToken);
        }
        Ok(Self::from_parts(&[bytes]))
    }

    /// The text itself. It is for the holder alone: for an answer that is marked `no-store`, and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        let text = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// What the text begins with, before the underscore.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.expose().get(..self.len - BODY_LEN - 1).unwrap_or_default()
    }

    /// The hash that stands for this token in a store.
    #[must_use]
    pub fn hash(&self) -> HashedToken {
        HashedToken(Sha256::digest(self.expose().as_bytes()).into())
    }

    /// What may be shown of it in lists: the prefix and the last four characters, which are of the checksum.
    #[must_use]
    pub fn hint(&self) -> String {
        let tail = self.expose().get(self.len - HINT_LEN..).unwrap_or_default();
        format!("{}_...{tail}", self.prefix())
    }

    fn from_bits(purpose: &Purpose, bits: [u8; 32]) -> Self {
        let mut limbs = [0; 8];
        for (limb, chunk) in limbs.iter_mut().zip(bits.chunks_exact(4)) {
            *limb = chunk.iter().fold(0, |limb, byte| limb << 8 | u32::from(*byte));
        }
        let mut secret = base62::<SECRET_LEN>(limbs);
        limbs.zeroize();
        let mut token = Self::from_parts(&[purpose.text_prefix().as_bytes(), b"_", &secret]);
        secret.zeroize();
        let checksum = base62::<CHECKSUM_LEN>([crc32fast::hash(token.expose().as_bytes())]);
        token.append(&checksum);
        token
    }

    fn from_parts(parts: &[&[u8]]) -> Self {
        let mut token = Self { bytes: [0; TEXT_MAX], len: 0 };
        for part in parts {
            token.append(part);
        }
        token
    }

    /// Callers keep to `TEXT_MAX`: `Purpose` bounds the prefix and `parse` the text.
    fn append(&mut self, part: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.len).zip(part) {
            *place = *byte;
        }
        self.len += part.len();
    }
}

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlainToken({}_...)", self.prefix())
    }
}

/// The SHA-256 of a token's text: the only form that reaches a store.
///
/// Plain SHA-256 is right for 256 random bits, which no dictionary contains (OWASP ASVS 5.0, 6.5.2); it is also
/// why verification costs nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HashedToken([u8; 32]);

impl HashedToken {
    /// The hash as a store read it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes that a store keeps.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Says nothing: whoever can write to the database could use a digest seen in a log.
impl fmt::Debug for HashedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedToken(..)")
    }
}

/// A token's public name: random, good for lists, logs and revocation by its owner, and for nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(uuid::Uuid);

impl TokenId {
    /// A new random id.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, Unavailable> {
        let mut bytes = [0; 16];
        random(&mut bytes)?;
        Ok(Self(uuid::Builder::from_random_bytes(bytes).into_uuid()))
    }

    /// Reads the one spelling that [`Display`](fmt::Display) writes; any other text is no id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(uuid::Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }

    /// The id as a store read it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// The 16 bytes that a store keeps.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Randomness of the operating system: the one place that asks for it.
#[expect(clippy::disallowed_methods, reason = "this is the one home of randomness")]
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Unavailable> {
    getrandom::fill(bytes)
        .map_err(|error| Unavailable::because("the operating system gives no randomness", error))
}

/// Writes a big-endian number of 32-bit limbs in `LEN` digits of base 62, leading zeros included.
fn base62<const LEN: usize>(mut limbs: impl AsMut<[u32]>) -> [u8; LEN] {
    let mut digits = [b'0'; LEN];
    for digit in digits.iter_mut().rev() {
        let mut rest: u64 = 0;
        for limb in limbs.as_mut() {
            let value = rest << 32 | u64::from(*limb);
            // Both fit: the quotient because rest < 62, the rest because it is one.
            *limb = u32::try_from(value / 62).unwrap_or_default();
            rest = value % 62;
        }
        *digit = usize::try_from(rest).ok().and_then(|rest| ALPHABET.get(rest)).copied().unwrap_or(b'0');
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(bits: [u8; 32]) -> PlainToken {
        PlainToken::from_bits(&Purpose::api(), bits)
    }

    #[test]
    fn format_is_fixed_for_ever() {
        // Computed by another program from the words at the top of this file.
        let counting: Vec<u8> = (0..32).collect();
        let mut small = [0; 32];
        small[31] = 62;
        for (bits, text) in [
            ([0; 32], "hp_00000000000000000000000000000000000000000003BZBqH"),
            (small, "hp_00000000000000000000000000000000000000000103Ltdtc"),
            ([255; 32], "hp_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp106J7L3"),
            (counting.try_into().unwrap(), "hp_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf2OmuOT"),
        ] {
            assert_eq!(token(bits).expose(), text);
        }
    }

    #[test]
    fn row_1_the_hash_is_sha_256_of_the_text() {
        let token = token([7; 32]);
        assert_eq!(token.hash().as_bytes()[..], Sha256::digest(token.expose())[..]);
    }

    #[test]
    fn debug_says_neither_secret_nor_digest() {
        let token = token([7; 32]);
        assert_eq!(format!("{token:?} {:?}", token.hash()), "PlainToken(hp_...) HashedToken(..)");
    }

    #[test]
    fn numbers_of_more_than_256_bits_are_no_tokens() {
        let text = format!("hp_{}", "z".repeat(43));
        let checksum = base62::<6>([crc32fast::hash(text.as_bytes())]);
        let text = format!("{text}{}", std::str::from_utf8(&checksum).unwrap());
        assert_eq!(PlainToken::parse(&text).unwrap_err(), Reason::NotAToken);
    }

    #[test]
    fn a_foreign_character_is_no_token_even_with_the_right_checksum() {
        let body = "0".repeat(SECRET_LEN);
        for checked in [
            format!("hp-x_{body}"),
            format!("h\u{e9}_{body}"),
            format!("hp_{}-", "0".repeat(SECRET_LEN - 1)),
            format!("hp_{} ", "0".repeat(SECRET_LEN - 1)),
            format!("hp_{}\u{e9}", "0".repeat(SECRET_LEN - 2)),
        ] {
            let checksum = base62::<6>([crc32fast::hash(checked.as_bytes())]);
            let text = checked + std::str::from_utf8(&checksum).unwrap();
            assert_eq!(PlainToken::parse(&text).unwrap_err(), Reason::NotAToken, "{text}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = TokenId::random().unwrap();
        let text = id.to_string();
        assert_eq!(TokenId::parse(&text), Some(id));
        for other in [
            text.to_uppercase(),
            format!("{{{text}}}"),
            text.replace('-', ""),
            format!(" {text}"),
            "1".into(),
        ] {
            assert!(other == text || TokenId::parse(&other).is_none(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_reads_back(bits: [u8; 32], prefix in "[0-9A-Za-z_]{1,20}") {
            let purpose = Purpose::api().prefix(prefix.clone()).unwrap();
            let token = PlainToken::from_bits(&purpose, bits);
            let again = PlainToken::parse(token.expose()).unwrap();
            prop_assert_eq!(again.expose(), token.expose());
            prop_assert_eq!(again.prefix(), prefix);
            prop_assert_eq!(again.hash(), token.hash());
        }

        #[test]
        fn one_changed_character_is_no_token(bits: [u8; 32], place in 0usize..52, byte in 0u8..128) {
            let text = token(bits).expose().to_owned();
            let mut changed = text.clone().into_bytes();
            changed[place] = byte;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert!(changed == text || PlainToken::parse(&changed).is_err());
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,90}") {
            let _ = PlainToken::parse(&text);
        }
    }
}
