//! What a token may do. Everything here fails closed.

use std::{collections::BTreeSet, fmt};

use crate::error::Invalid;

/// Scopes that are granted to an account by hand. `*` never includes them, and a token that names one has it
/// only as long as its owner does.
const PRIVILEGED: [&str; 2] = ["admin", "introspect"];

/// All of the owner's own rights.
const ALL: &str = "*";

const LONGEST: usize = 100;
const MOST: usize = 64;

/// The scopes of a token: a set of names, or `*`.
///
/// An empty set allows nothing. Comparison is exact: no wildcard but `*`, no hierarchy.
///
/// ```
/// use hallpass::Scopes;
/// let scopes = Scopes::parse(["profile:read"])?;
/// assert!(scopes.allow("profile:read"));
/// assert!(!scopes.allow("profile:write"));
/// assert!(Scopes::all().allow("profile:write"));
/// assert!(!Scopes::all().allow("admin"));
/// # Ok::<(), hallpass::Invalid>(())
/// ```
#[doc(alias("ability", "abilities"))]
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Scopes(BTreeSet<Box<str>>);

impl Scopes {
    /// `*`: all of the owner's own rights.
    #[must_use]
    pub fn all() -> Self {
        Self(BTreeSet::from([ALL.into()]))
    }

    /// No rights: such a token only says who its owner is.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes the names one by one.
    ///
    /// # Errors
    /// A name that is no scope-token of RFC 6749 section 3.3 (printable ASCII without blank, `"` and `\`), one
    /// over 100 characters, or more than 64 of them.
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, Invalid> {
        let mut set = BTreeSet::new();
        for name in names {
            let name = name.as_ref();
            if !is_scope_token(name) {
                return Err(Invalid::new(
                    "scopes",
                    "a scope is 1 to 100 printable ASCII characters without blanks, quotes and backslashes",
                ));
            }
            set.insert(name.into());
            if set.len() > MOST {
                return Err(Invalid::new("scopes", "at most 64 scopes"));
            }
        }
        Ok(Self(set))
    }

    /// Takes a blank-separated list, as stores keep it and OAuth writes it.
    ///
    /// # Errors
    /// As [`Scopes::parse`].
    pub fn parse_list(text: &str) -> Result<Self, Invalid> {
        Self::parse(text.split(' ').filter(|name| !name.is_empty()))
    }

    /// Whether these scopes give `scope`, as far as the token is concerned. What the owner may do is asked of
    /// [`Verified::allows`](crate::Verified::allows).
    #[must_use]
    pub fn allow(&self, scope: &str) -> bool {
        self.0.contains(scope) && scope != ALL || self.is_all() && !is_privileged(scope)
    }

    /// Whether these are all of the owner's own rights.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.contains(ALL)
    }

    /// Whether nothing here goes beyond `maker`: the rule for a token that mints another.
    #[must_use]
    pub fn within(&self, maker: &Self) -> bool {
        self.iter().all(|scope| if scope == ALL { maker.is_all() } else { maker.allow(scope) })
    }

    /// These scopes without the privileged ones that `granted` refuses.
    #[must_use]
    pub(crate) fn granted(mut self, granted: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|scope| !is_privileged(scope) || granted(scope));
        self
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// The blank-separated list that [`Scopes::parse_list`] takes.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl serde::Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// What a handler wants of a token, as a type, so that it stands in the handler's argument list.
///
/// ```
/// use hallpass::{ScopeRule, Wants};
/// struct ProfileRead;
/// impl ScopeRule for ProfileRead {
///     const WANTS: Wants = Wants::Scope("profile:read");
/// }
/// ```
pub trait ScopeRule: Send + Sync + 'static {
    /// What is wanted.
    const WANTS: Wants;
}

/// See [`ScopeRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A token that was not narrowed: scope `*`.
    Everything,
    /// Any good token, whatever its scopes.
    Nothing,
    /// This scope, by name or through `*`.
    Scope(&'static str),
}

/// Wants a token that was not narrowed. The rule when a handler names no scope.
#[derive(Clone, Copy, Debug)]
pub struct FullAccess;

impl ScopeRule for FullAccess {
    const WANTS: Wants = Wants::Everything;
}

/// Takes any good token. For handlers that give away nothing but who the owner is.
#[derive(Clone, Copy, Debug)]
pub struct AnyScope;

impl ScopeRule for AnyScope {
    const WANTS: Wants = Wants::Nothing;
}

fn is_privileged(scope: &str) -> bool {
    PRIVILEGED.contains(&scope)
}

fn is_scope_token(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        Scopes::parse_list(text).unwrap()
    }

    #[test]
    fn empty_scopes_allow_nothing() {
        assert!(!Scopes::none().allow("a"));
        assert!(!Scopes::none().allow(""));
        assert!(!Scopes::none().allow("*"));
    }

    #[test]
    fn star_allows_all_but_the_privileged() {
        assert!(Scopes::all().allow("anything"));
        for scope in PRIVILEGED {
            assert!(!Scopes::all().allow(scope));
            assert!(scopes(scope).allow(scope));
            assert!(!scopes(scope).granted(|_| false).allow(scope));
        }
    }

    #[test]
    fn comparison_is_exact() {
        for near in ["profile", "profile:", "profile:read ", "Profile:read", "profile:*", "*"] {
            assert!(!scopes("profile:read").allow(near), "{near}");
        }
    }

    #[test]
    fn nothing_mints_beyond_itself() {
        assert!(scopes("a").within(&scopes("a b")));
        assert!(!scopes("a c").within(&scopes("a b")));
        assert!(scopes("a").within(&Scopes::all()));
        assert!(!Scopes::all().within(&scopes("a b")));
        assert!(Scopes::all().within(&Scopes::all()));
        assert!(!scopes("admin").within(&Scopes::all()));
        assert!(Scopes::none().within(&Scopes::none()));
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for name in ["", "a b", "a\"b", "a\\b", "ä", "a\n", "\u{7f}"] {
            assert!(Scopes::parse([name]).is_err(), "{name:?}");
        }
        assert!(Scopes::parse(["x".repeat(101)]).is_err());
        assert!(Scopes::parse((0..65).map(|n| n.to_string())).is_err());
    }

    #[test]
    fn the_list_reads_back() {
        let many = scopes("b a tokens:read");
        assert_eq!(many.to_string(), "a b tokens:read");
        assert_eq!(Scopes::parse_list(&many.to_string()).unwrap(), many);
    }
}
