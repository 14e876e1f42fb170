//! The bearer header of RFC 6750: a header in, a status and a challenge out. No framework's types.

use crate::error::{Error, Reason};

/// The literal of RFC 8959 that may stand before a secret so that scanners find it.
const SECRET_TOKEN: &str = "secret-token:";

/// Reads the values of all `Authorization` headers of a request, and returns the one bearer credential.
///
/// The scheme is taken in any letter case and one or more spaces after it (RFC 9110, section 11.4). Blanks around the
/// value do not belong to it. Tokens in URLs, bodies and cookies are not looked for.
///
/// ```
/// use hallpass::{Reason, bearer};
/// assert_eq!(bearer::credentials([&b"bearer  abc"[..]]), Ok("abc"));
/// assert_eq!(bearer::credentials([]), Err(Reason::NoCredentials));
/// assert_eq!(bearer::credentials([&b"Basic abc"[..]]), Err(Reason::OtherScheme));
/// assert_eq!(bearer::credentials([&b"Bearer abc def"[..]]), Err(Reason::MalformedHeader));
/// ```
///
/// # Errors
/// [`Reason::NoCredentials`] if there is no header, [`Reason::OtherScheme`] if it is well-formed but of another
/// scheme, [`Reason::MalformedHeader`] for anything that is not one token68: a second header, a list, a quoted string.
pub fn credentials<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<&'a str, Reason> {
    let mut values = values.into_iter();
    let value = values.next().ok_or(Reason::NoCredentials)?;
    if values.next().is_some() {
        return Err(Reason::MalformedHeader);
    }
    let value = std::str::from_utf8(value).map_err(|_| Reason::MalformedHeader)?;
    let value = value.trim_matches([' ', '\t']);
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.is_empty() || !scheme.bytes().all(is_token_char) {
        return Err(Reason::MalformedHeader);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Reason::OtherScheme);
    }
    let rest = rest.trim_start_matches(' ');
    let token = rest.strip_prefix(SECRET_TOKEN).unwrap_or(rest);
    if is_token68(token) { Ok(token) } else { Err(Reason::MalformedHeader) }
}

/// What a refused request is answered: the one place where an error becomes HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status: 400, 401, 403 or 503.
    pub status: u16,
    /// The stable code of the problem. For RFC 6750's own three it is also the challenge's `error`.
    pub code: &'static str,
    /// A sentence for people. The same for every token that is not good.
    pub detail: &'static str,
    /// The value of `WWW-Authenticate`, for 400, 401 and 403.
    pub challenge: Option<String>,
    /// The value of `Retry-After`, in seconds, for 503.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// The answer to `error` in the protection space `realm`, which must be printable ASCII.
    #[must_use]
    pub fn new(error: &Error, realm: &str) -> Self {
        let realm: String =
            realm.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        let refusal = |status, code, detail, challenge| Self {
            status,
            code,
            detail,
            challenge: Some(challenge),
            retry_after: None,
        };
        let with_code = |code| format!("Bearer realm=\"{realm}\", error=\"{code}\"");
        let reason = match error {
            Error::Denied(denied) => denied.reason(),
            Error::Unavailable(unavailable) => {
                return Self {
                    status: 503,
                    code: "unavailable",
                    detail: "The service cannot tell at this moment; try again soon.",
                    challenge: None,
                    retry_after: Some(unavailable.retry_after().as_secs().max(1)),
                };
            }
        };
        match reason {
            // RFC 6750, section 3.1: a request without credentials is told no error code.
            Reason::NoCredentials | Reason::OtherScheme => refusal(
                401,
                "invalid_token",
                "This needs a token: send the header \"Authorization: Bearer TOKEN\".",
                format!("Bearer realm=\"{realm}\""),
            ),
            Reason::MalformedHeader => refusal(
                400,
                "invalid_request",
                "The Authorization header must be one bearer token: \"Authorization: Bearer TOKEN\".",
                with_code("invalid_request"),
            ),
            Reason::InsufficientScope { wanted } => refusal(
                403,
                "insufficient_scope",
                "The token is good but does not carry the scope that this needs.",
                format!("{}, scope=\"{wanted}\"", with_code("insufficient_scope")),
            ),
            // Not an error of RFC 6750: no token was sent, so the challenge names none.
            Reason::UnknownUser | Reason::WrongPassword => refusal(
                401,
                "invalid_credentials",
                "The name and the password do not belong together.",
                format!("Bearer realm=\"{realm}\""),
            ),
            _ => refusal(401, "invalid_token", "The token is not good.", with_code("invalid_token")),
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110, section 11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Unavailable;

    fn read(value: &[u8]) -> Result<&str, Reason> {
        credentials([value])
    }

    #[test]
    fn scheme_in_any_case_and_one_or_more_spaces() {
        for value in [
            "Bearer abc",
            "bearer abc",
            "BEARER abc",
            "bEaReR    abc",
            "Bearer abc  ",
            "Bearer abc\t",
            " Bearer abc",
        ] {
            assert_eq!(read(value.as_bytes()), Ok("abc"), "{value:?}");
        }
    }

    #[test]
    fn what_is_not_one_token68_is_malformed() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "bearer\tabc",
            "Bearer\tabc",
            "Bearer \tabc",
            "Bearer abc def",
            "Bearer abc,def",
            "Bearer \"abc\"",
            "Bearer abc, Bearer def",
            "Bearer a=b",
            "Bearer =",
            "Bearer abc;",
            "Bearer \u{e9}",
            "Bearer secret-token:",
            "Bearer secret-token:secret-token:abc",
            "Bearer abc%20",
            "Bearer abc\0",
            "\"Bearer\" abc",
            "Bearer: abc",
        ] {
            assert_eq!(read(value.as_bytes()), Err(Reason::MalformedHeader), "{value:?}");
        }
        assert_eq!(read(b"Bearer \xff"), Err(Reason::MalformedHeader));
        assert_eq!(credentials([&b"Bearer abc"[..], b"Bearer abc"]), Err(Reason::MalformedHeader));
        assert_eq!(credentials([&b"Basic abc"[..], b"Bearer abc"]), Err(Reason::MalformedHeader));
    }

    #[test]
    fn another_scheme_is_told_apart() {
        for value in ["Basic YTpi", "Digest a=\"b\"", "Bearerabc", "Negotiate"] {
            assert_eq!(read(value.as_bytes()), Err(Reason::OtherScheme), "{value:?}");
        }
    }

    #[test]
    fn a_secret_token_literal_is_stripped_once() {
        assert_eq!(read(b"Bearer secret-token:abc"), Ok("abc"));
    }

    #[test]
    fn refusals_of_bad_tokens_are_one_answer() {
        let of = |reason: Reason| Refusal::new(&reason.into(), "hallpass");
        let reasons = [
            Reason::NotAToken,
            Reason::WrongPurpose,
            Reason::Unknown,
            Reason::Expired,
            Reason::Revoked,
            Reason::Ended,
            Reason::AddressChanged,
            Reason::OwnerGone,
        ];
        for reason in reasons {
            assert_eq!(of(reason), of(Reason::Unknown));
        }
        let unknown = of(Reason::Unknown);
        assert_eq!(unknown.status, 401);
        assert_eq!(unknown.challenge.as_deref(), Some("Bearer realm=\"hallpass\", error=\"invalid_token\""));
    }

    #[test]
    fn statuses_and_challenges_are_those_of_rfc_6750() {
        let of = |reason: Reason| Refusal::new(&reason.into(), "a \"quoted\"\r\n realm");
        assert_eq!(of(Reason::NoCredentials).challenge.as_deref(), Some("Bearer realm=\"a quoted realm\""));
        assert_eq!(of(Reason::OtherScheme), of(Reason::NoCredentials));
        assert_eq!(
            (of(Reason::MalformedHeader).status, of(Reason::MalformedHeader).code),
            (400, "invalid_request")
        );
        let scope = of(Reason::InsufficientScope { wanted: "a:b".into() });
        assert_eq!(scope.status, 403);
        assert!(scope.challenge.unwrap().ends_with("error=\"insufficient_scope\", scope=\"a:b\""));
    }

    #[test]
    fn row_17_an_unknown_user_and_a_wrong_password_are_one_answer_and_not_that_of_a_bad_token() {
        let of = |reason: Reason| Refusal::new(&reason.into(), "hallpass");
        assert_eq!(of(Reason::UnknownUser), of(Reason::WrongPassword));
        assert_eq!(of(Reason::UnknownUser).code, "invalid_credentials");
        assert_eq!(of(Reason::UnknownUser).challenge.as_deref(), Some("Bearer realm=\"hallpass\""));
    }

    #[test]
    fn an_outage_is_503_and_no_challenge() {
        let refusal = Refusal::new(&Unavailable::new("the database").into(), "hallpass");
        assert_eq!((refusal.status, refusal.challenge, refusal.retry_after), (503, None, Some(1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_bytes_give_one_token68_or_a_reason(value: Vec<u8>) {
            if let Ok(token) = credentials([&value[..]]) {
                prop_assert!(is_token68(token));
            }
        }

        #[test]
        fn any_bytes_after_the_scheme_give_one_token68_or_a_reason(rest: Vec<u8>) {
            let value = [b"Bearer ", &rest[..]].concat();
            if let Ok(token) = credentials([&value[..]]) {
                prop_assert!(is_token68(token));
            }
        }
    }
}
