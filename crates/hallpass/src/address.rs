//! E-mail addresses in one canonical form.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use crate::error::Invalid;

/// The longest address, in characters, as `mix phx.gen.auth` has it.
const LONGEST: usize = 160;

/// An e-mail address in its canonical form: the only form that is stored, compared and mailed to.
///
/// The part before the @ is NFKC-normalised and lower-cased, the domain is turned to ASCII by IDNA. So two
/// spellings of one mailbox are one account on every store, byte for byte, whatever its collation.
///
/// ```
/// use hallpass::EmailAddress;
/// let address = EmailAddress::parse("Ada@Bücher.Example")?;
/// assert_eq!(address.as_str(), "ada@xn--bcher-kva.example");
/// assert!(EmailAddress::parse("no at sign").is_err());
/// # Ok::<(), hallpass::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress(Box<str>);

impl EmailAddress {
    /// Reads an address: something, an @, a domain, without blanks, at most 160 characters.
    ///
    /// Before the @ it takes the characters of an RFC 5321 dot-string, and letters and digits of any script; no quoted
    /// strings and no comments. What is invisible, or would end a mail header's line, is refused.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("email", "must be an address like name@example.com, without blanks");
        let too_long = || Invalid::new("email", "must be at most 160 characters");
        if text.chars().count() > LONGEST {
            return Err(too_long());
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(invalid)?;
        let local = canonical_local(local);
        if local.is_empty() || !local.chars().all(may_stand_before_at) {
            return Err(invalid());
        }
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| invalid())?;
        if domain.is_empty() {
            return Err(invalid());
        }
        let canonical = format!("{local}@{domain}");
        // Turning a domain to ASCII can make it longer.
        if canonical.chars().count() > LONGEST {
            return Err(too_long());
        }
        Ok(Self(canonical.into()))
    }

    /// The canonical form as a store read it.
    #[must_use]
    pub fn from_canonical(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// An address that no account can have, being none.
    pub(crate) fn nobody() -> Self {
        Self::from_canonical("nobody")
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says nothing: addresses are kept out of logs.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(..)")
    }
}

/// Normalising can bring forth upper case and lower-casing can undo normal form: both, until nothing changes.
fn canonical_local(local: &str) -> String {
    let step = |text: &str| text.nfkc().collect::<String>().to_lowercase().nfkc().collect::<String>();
    let mut form = step(local);
    // Twice is enough for all of Unicode 16; the bound is there so that a later Unicode cannot hang a log-in.
    for _ in 0..3 {
        let next = step(&form);
        if next == form {
            break;
        }
        form = next;
    }
    form
}

fn may_stand_before_at(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c)
    } else {
        c.is_alphanumeric()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(text: &str) -> Option<String> {
        EmailAddress::parse(text).ok().map(|address| address.to_string())
    }

    #[test]
    fn spellings_of_one_mailbox_are_one() {
        for (a, b) in [
            ("A@X.example", "a@x.example"),
            ("caf\u{e9}@x.example", "cafe\u{301}@x.example"),
            ("\u{ff41}da@x.example", "ada@x.example"),
            ("a@b\u{fc}cher.example", "a@xn--bcher-kva.example"),
            ("a@X.EXAMPLE", "a@x.example"),
        ] {
            assert_eq!(form(a), form(b));
            assert!(form(a).is_some(), "{a}");
        }
    }

    #[test]
    fn dotless_i_is_another_mailbox() {
        assert_ne!(form("m\u{131}ke@x.example"), form("mike@x.example"));
    }

    #[test]
    fn blanks_line_ends_and_invisible_characters_are_refused() {
        for text in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a b@c.example",
            "a@b c",
            "a\r\nBcc:x@y.example",
            "a\0@b.example",
            "a\u{2028}@b.example",
            "a\u{200b}@b.example",
            "a@b@c.example",
            "a@b.example\n",
            "\"a\"@b.example",
            "a,b@c.example",
            "a@b.example\0",
            "a<b>@c.example",
        ] {
            assert_eq!(form(text), None, "{text:?}");
        }
    }

    #[test]
    fn length_is_bounded_at_160_characters() {
        let at = |n: usize| format!("{}@x.example", "a".repeat(n - 10));
        assert!(form(&at(160)).is_some());
        assert!(form(&at(161)).is_none());
        let grows = format!("{}@b\u{fc}cher.example", "a".repeat(144));
        assert_eq!(grows.chars().count(), 159);
        assert!(form(&grows).is_none(), "too long in its canonical form");
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(text in "\\PC{1,20}@[a-zA-Z0-9ü]{1,10}\\.example") {
            if let Some(once) = form(&text) {
                prop_assert_eq!(form(&once), Some(once));
            }
        }
    }
}
