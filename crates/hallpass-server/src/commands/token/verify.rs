//! `hallpass token verify`: tells a token's holder whether it is good, or why not.
//!
//! Over HTTP the holder of a token never hears why it was refused. Here they sit at the database.

use hallpass::{Error, PlainToken, Reason, Timestamp, Verified, account::Account, bearer, store::Found};
use serde_json::json;

use super::{as_json, expires, owner_as_json};
use crate::{
    app::App,
    ask,
    commands::Answer,
    failure::Failure,
    output::{Output, Paint, painted, when},
};

/// The shortest and the longest text of a token: a prefix of 1 to 20 characters, `_`, and 49 characters.
const LENGTHS: std::ops::RangeInclusive<usize> = 51..=70;

/// Why a token is not good.
struct Refusal {
    /// The word that the log has for it.
    reason: &'static str,
    /// Completes the sentence "this token is not good: it …".
    explanation: String,
    /// When it died, if it did and that is known.
    at: Option<Timestamp>,
}

pub(super) async fn run(app: &App, out: Output) -> Result<Answer, Failure> {
    let text = ask::line_from_stdin("the token")?;
    match judge(app, text.trim()).await? {
        Ok(verified) => {
            let now = app.clock.now();
            let (token, owner) = (verified.token(), verified.user());
            out.answer(
                || json!({ "good": true, "token": as_json(token, "living"), "user": owner_as_json(owner) }),
                || {
                    format!(
                        "{}\n  owner      {}\n  name       {}\n  id         {}\n  scopes     {}\n  \
                         created    {}\n  expires    {}\n  last used  {}",
                        painted(Paint::Good, "This token is good."),
                        owner.email,
                        token.name.as_deref().unwrap_or("-"),
                        token.id,
                        verified.scopes(),
                        expires(Some(token.created_at), now),
                        expires(token.expires_at, now),
                        expires(token.last_used_at, now),
                    )
                },
            )?;
            Ok(Answer::Yes)
        }
        Err(Refusal { reason, explanation, at }) => {
            out.answer(
                || json!({ "good": false, "reason": reason, "explanation": format!("it {explanation}"), "at": at }),
                || format!("{} It {explanation}.", painted(Paint::Bad, "This token is not good.")),
            )?;
            Ok(Answer::No)
        }
    }
}

async fn judge(app: &App, text: &str) -> Result<Result<Verified<Account>, Refusal>, Failure> {
    if text.is_empty() {
        return Err(Failure::usage(
            "there is no token on stdin",
            "pipe it in: `hallpass token verify < token.txt`",
        ));
    }
    let header = format!("Bearer {text}");
    let token = match bearer::credentials([header.as_bytes()]).and_then(PlainToken::parse) {
        Ok(token) => token,
        Err(reason) => return Ok(Err(not_a_token(text, &reason))),
    };
    match app.guard.verify(&token).await {
        Ok(verified) => Ok(Ok(verified)),
        Err(Error::Unavailable(unavailable)) => Err(unavailable.into()),
        Err(Error::Denied(denied)) => explain(app, &token, denied.reason()).await.map(Err),
    }
}

fn not_a_token(text: &str, reason: &Reason) -> Refusal {
    let one_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let explanation = if text.contains(char::is_whitespace) {
        "has blanks or lines in it, and a token is one word. Give the token alone, without `Bearer`"
    } else if one_word && LENGTHS.contains(&text.len()) {
        "has the shape of a token, but its checksum is wrong: a character was changed, lost or added"
    } else if one_word {
        "has the wrong length for a token. Copy all of it"
    } else {
        "is no token: a token is made of letters, digits and `_` alone"
    };
    Refusal { reason: reason.as_str(), explanation: explanation.to_owned(), at: None }
}

async fn explain(app: &App, token: &PlainToken, reason: &Reason) -> Result<Refusal, Failure> {
    let now = app.clock.now();
    let found = app.tokens.find(&token.hash()).await?;
    let (explanation, at) = match (reason, &found) {
        (Reason::WrongPurpose, _) if token.prefix() != app.guard.purpose().text_prefix() => {
            let (has, wants) = (token.prefix(), app.guard.purpose().text_prefix());
            (format!("begins with `{has}_`, and API tokens of this service begin with `{wants}_`"), None)
        }
        (Reason::WrongPurpose, Some(found)) => {
            (format!("is for another purpose: {}", found.record.purpose), None)
        }
        (Reason::Expired, Some(Found { record, .. })) => {
            let at = record.expires_at;
            (format!("expired {}", expires(at, now)), at)
        }
        (Reason::Revoked, Some(Found { record, .. })) => {
            let at = record.revoked_at;
            (format!("was revoked {}", expires(at, now)), at)
        }
        (Reason::AddressChanged, _) => {
            ("was made for an address that is no longer its owner's".to_owned(), None)
        }
        (Reason::Ended | Reason::OwnerGone, Some(found)) => owner_ended_it(app, found, now).await?,
        _ => (
            "is unknown here: it belongs to another service or database, or died long ago and was pruned"
                .to_owned(),
            None,
        ),
    };
    Ok(Refusal { reason: reason.as_str(), explanation, at })
}

async fn owner_ended_it(
    app: &App,
    found: &Found,
    now: Timestamp,
) -> Result<(String, Option<Timestamp>), Failure> {
    Ok(match app.account_store.find(&found.record.user).await? {
        None => ("is dead: its owner's account was deleted".to_owned(), None),
        Some(Account { disabled_at: Some(at), .. }) => {
            (format!("is dead: its owner's account was disabled {} ({at})", when(at, now)), Some(at))
        }
        Some(_) => (
            "is dead: all of its owner's tokens were ended at once, by a new password, by being disabled for \
             a while, or by `revoke --all`"
                .to_owned(),
            None,
        ),
    })
}
