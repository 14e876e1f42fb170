//! What a token is for, and the policy that comes with it.

use std::{borrow::Cow, time::Duration};

use crate::{error::Invalid, expiry::Expiry};

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The policy table. The lives are those of `mix phx.gen.auth`, except where we are stricter on purpose: a
/// reset link lives 30 minutes, as OWASP's Forgot Password cheat sheet asks for a short life.
///
/// | name | prefix | life | single use | bound to the address |
/// |---|---|---|---|---|
/// | api | hp | 365 days | no | yes |
/// | session | hps | 60 days | no | no |
/// | confirm | hpc | 7 days | yes | yes |
/// | `reset_password` | hpr | 30 minutes | yes | yes |
/// | `change_email` | hpe | 7 days | yes | yes |
const TABLE: [Policy; 5] = [API, SESSION, CONFIRM, RESET_PASSWORD, CHANGE_EMAIL];
const API: Policy =
    Policy { name: "api", prefix: "hp", life: DAY.saturating_mul(365), single_use: false, bound: true };
const SESSION: Policy =
    Policy { name: "session", prefix: "hps", life: DAY.saturating_mul(60), single_use: false, bound: false };
const CONFIRM: Policy =
    Policy { name: "confirm", prefix: "hpc", life: DAY.saturating_mul(7), single_use: true, bound: true };
const RESET_PASSWORD: Policy = Policy {
    name: "reset_password",
    prefix: "hpr",
    life: MINUTE.saturating_mul(30),
    single_use: true,
    bound: true,
};
const CHANGE_EMAIL: Policy = Policy {
    name: "change_email",
    prefix: "hpe",
    life: DAY.saturating_mul(7),
    single_use: true,
    bound: true,
};

struct Policy {
    name: &'static str,
    prefix: &'static str,
    life: Duration,
    single_use: bool,
    bound: bool,
}

/// The longest prefix, without the underscore that ends it.
pub(crate) const PREFIX_MAX: usize = 20;

/// What a token is for. A token of one purpose never works for another.
///
/// The five of an account system are here; an application adds its own:
///
/// ```
/// use hallpass::{Expiry, Purpose};
/// let deploy = Purpose::new("deploy", "acme_deploy")?.life(Expiry::parse("1 hour")?).longest(Expiry::parse("1 day")?);
/// assert_eq!(deploy.name(), "deploy");
/// # Ok::<(), hallpass::Invalid>(())
/// ```
#[doc(alias("context", "type"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    name: Cow<'static, str>,
    prefix: Cow<'static, str>,
    life: Expiry,
    longest: Expiry,
    single_use: bool,
    bound: bool,
}

impl Purpose {
    /// API tokens: personal access tokens, and what `attempt` gives to apps and scripts.
    #[must_use]
    pub fn api() -> Self {
        API.into()
    }

    /// A browser's session.
    #[must_use]
    pub fn session() -> Self {
        SESSION.into()
    }

    /// The mailed link that proves an address.
    #[must_use]
    pub fn confirm() -> Self {
        CONFIRM.into()
    }

    /// The mailed link that sets a new password.
    #[must_use]
    pub fn reset_password() -> Self {
        RESET_PASSWORD.into()
    }

    /// The mailed link that moves an account to a new address.
    #[must_use]
    pub fn change_email() -> Self {
        CHANGE_EMAIL.into()
    }

    /// All purposes of the policy table.
    #[must_use]
    pub fn table() -> Vec<Self> {
        TABLE.into_iter().map(Self::from).collect()
    }

    /// A purpose of the application's own: reusable, not bound to the address, for ever unless
    /// [`life`](Self::life) says otherwise.
    ///
    /// # Errors
    /// A name outside 1 to 40 characters of `[a-z0-9_]`, or a prefix outside 1 to 20 of `[0-9A-Za-z_]`.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        prefix: impl Into<Cow<'static, str>>,
    ) -> Result<Self, Invalid> {
        let name = name.into();
        let lower = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if !(1..=40).contains(&name.len()) || !name.bytes().all(lower) {
            return Err(Invalid::new("purpose", "a name is 1 to 40 characters of a-z, 0-9 and _"));
        }
        let blank = Self {
            name,
            prefix: Cow::Borrowed(""),
            life: Expiry::Never,
            longest: Expiry::Never,
            single_use: false,
            bound: false,
        };
        blank.prefix(prefix)
    }

    /// Sets the text that its tokens begin with, before an underscore.
    ///
    /// # Errors
    /// A prefix outside 1 to 20 characters of `[0-9A-Za-z_]`.
    pub fn prefix(mut self, prefix: impl Into<Cow<'static, str>>) -> Result<Self, Invalid> {
        let prefix = prefix.into();
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !(1..=PREFIX_MAX).contains(&prefix.len()) || !prefix.bytes().all(word) {
            return Err(Invalid::new("prefix", "a prefix is 1 to 20 characters of 0-9, A-Z, a-z and _"));
        }
        self.prefix = prefix;
        Ok(self)
    }

    /// Sets the life of a token for which none is asked.
    #[must_use]
    pub fn life(mut self, life: Expiry) -> Self {
        self.life = life;
        self
    }

    /// Sets the longest life that can be asked for. With a limit, "never" is refused.
    #[must_use]
    pub fn longest(mut self, longest: Expiry) -> Self {
        self.longest = longest;
        self
    }

    /// Sets whether a token is used up by [`redeem`](crate::Guard::redeem), and good for nothing else.
    #[must_use]
    pub fn single_use(mut self, single_use: bool) -> Self {
        self.single_use = single_use;
        self
    }

    /// Sets whether a token dies when its owner's address changes.
    #[must_use]
    pub fn bound_to_address(mut self, bound: bool) -> Self {
        self.bound = bound;
        self
    }

    /// The name, as stores keep it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its tokens begin with, before an underscore.
    #[must_use]
    pub fn text_prefix(&self) -> &str {
        &self.prefix
    }

    /// The life of a token for which none is asked.
    #[must_use]
    pub fn default_life(&self) -> &Expiry {
        &self.life
    }

    /// The longest life that can be asked for.
    #[must_use]
    pub fn longest_life(&self) -> &Expiry {
        &self.longest
    }

    /// Whether a token is used up by its first use.
    #[must_use]
    pub fn is_single_use(&self) -> bool {
        self.single_use
    }

    /// Whether a token dies when its owner's address changes.
    #[must_use]
    pub fn is_bound_to_address(&self) -> bool {
        self.bound
    }
}

impl From<Policy> for Purpose {
    fn from(policy: Policy) -> Self {
        let life = Expiry::from(policy.life);
        // What is mailed must not be stretched by whoever asks for it.
        let longest = if policy.single_use { life.clone() } else { Expiry::Never };
        Self {
            name: Cow::Borrowed(policy.name),
            prefix: Cow::Borrowed(policy.prefix),
            life,
            longest,
            single_use: policy.single_use,
            bound: policy.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn row_3_no_two_purposes_share_a_name_or_a_prefix() {
        let table = Purpose::table();
        let names: HashSet<_> = table.iter().map(Purpose::name).collect();
        let prefixes: HashSet<_> = table.iter().map(Purpose::text_prefix).collect();
        assert_eq!((names.len(), prefixes.len()), (table.len(), table.len()));
    }

    #[test]
    fn row_4_lives_are_those_of_the_seed_or_stricter() {
        let life = |purpose: Purpose| purpose.default_life().clone();
        assert_eq!(life(Purpose::api()), Expiry::from(365 * DAY));
        assert_eq!(life(Purpose::confirm()), Expiry::from(7 * DAY));
        assert_eq!(life(Purpose::reset_password()), Expiry::from(30 * MINUTE));
        assert_eq!(life(Purpose::change_email()), Expiry::from(7 * DAY));
        assert_eq!(life(Purpose::session()), Expiry::from(60 * DAY));
    }

    #[test]
    fn names_and_prefixes_outside_the_alphabet_are_refused() {
        for prefix in ["", "a-b", "a b", "ä", "aaaaaaaaaaaaaaaaaaaaa"] {
            assert!(Purpose::new("x", prefix).is_err(), "{prefix:?}");
        }
        for name in ["", "A", "a-b", "ä"] {
            assert!(Purpose::new(name, "x").is_err(), "{name:?}");
        }
    }
}
