//! The caller's own tokens.

use std::str::FromStr;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hallpass::{
    Epoch, Expiry, NewToken, Reason, Scopes, Timestamp, TokenId, TokenRecord,
    account::Account,
    store::{Cursor, Found, ListQuery},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{TokensRead, TokensWrite, caller::Caller, login::with_options};
use crate::{
    json::{JsonBody, Meta, NoBody, not_null},
    problem::{Kind, Problem},
    router::Service,
};

/// How many tokens a page has if the request does not say, and at most.
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 100;

/// What a token's owner sees of it.
#[derive(Serialize)]
pub(super) struct TokenView<'a> {
    id: TokenId,
    name: Option<&'a str>,
    hint: &'a str,
    purpose: &'a str,
    scopes: &'a Scopes,
    meta: &'a Map<String, Value>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

/// The same in a list, where the dead stand beside the living.
#[derive(Serialize)]
struct ListedToken<'a> {
    #[serde(flatten)]
    token: TokenView<'a>,
    revoked_at: Option<Timestamp>,
    state: &'static str,
}

/// GET /v1/tokens: the living ones, newest first; with `ended=true` the dead that are not pruned yet as well.
pub(super) async fn list(
    caller: Caller<TokensRead>,
    State(service): State<Service>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        tokens: Vec<ListedToken<'a>>,
        next_cursor: Option<String>,
    }

    let Query(pairs) = query.map_err(|_| unreadable_query())?;
    let guard = service.guard();
    let now = guard.now();
    let page = guard.list(caller.verified.user(), &list_query(&pairs, now)?).await?;
    let tokens = page.tokens.iter().map(|token| ListedToken::new(token, page.epoch, now)).collect();
    let next_cursor = page.next.as_ref().map(Cursor::to_string);
    Ok(Json(Answer { tokens, next_cursor }).into_response())
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    name: String,
    scopes: Vec<String>,
    expires_in: Option<String>,
    meta: Option<Meta>,
}

/// POST /v1/tokens. Nothing beyond what the caller's own token has.
pub(super) async fn create(
    caller: Caller<TokensWrite>,
    State(service): State<Service>,
    JsonBody(create): JsonBody<Create>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(flatten)]
        token: &'a NewToken<Account>,
        id: TokenId,
        name: Option<&'a str>,
        scopes: &'a Scopes,
        hint: &'a str,
    }

    let guard = service.guard();
    let issue = guard.mint(&caller.verified).scopes(create.scopes);
    let issue = with_options(issue, Some(create.name), create.expires_in, create.meta);
    let token = issue.await.map_err(|error| Problem::not_issued(error, guard.realm()))?;
    let TokenRecord { id, name, scopes, hint, .. } = token.record();
    let answer = Answer { token: &token, id: *id, name: name.as_deref(), scopes, hint };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// DELETE /v1/tokens: all of the caller's tokens of every purpose, the one that was sent included.
pub(super) async fn delete_all(
    caller: Caller<TokensWrite>,
    State(service): State<Service>,
    _: NoBody,
) -> Result<Json<Value>, Problem> {
    let revoked = service.guard().revoke_all(caller.verified.user()).await?;
    Ok(Json(json!({ "revoked": revoked })))
}

/// GET /v1/tokens/{id}, dead or alive.
pub(super) async fn show(
    caller: Caller<TokensRead>,
    State(service): State<Service>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let found = find(&service, &caller.verified, token_id(id)?).await?;
    Ok(ListedToken::found(&found, service.guard().now()))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Update {
    // A null would have two meanings, "leave it" and "take it away"; for a life the second would be "for ever".
    #[serde(default, deserialize_with = "not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    expires_in: Option<String>,
}

/// PATCH /v1/tokens/{id}. A life is counted from now.
pub(super) async fn update(
    caller: Caller<TokensWrite>,
    State(service): State<Service>,
    id: Result<Path<String>, PathRejection>,
    JsonBody(update): JsonBody<Update>,
) -> Result<Response, Problem> {
    let (guard, id) = (service.guard(), token_id(id)?);
    let expires_in = update.expires_in.as_deref().map(Expiry::parse).transpose()?;
    let changed = guard
        .change(&caller.verified, id, update.name.as_deref(), expires_in.as_ref())
        .await
        .map_err(|error| Problem::not_issued(error, guard.realm()))?;
    let found = find(&service, &caller.verified, id).await?;
    if !changed {
        return Err(Problem::new(Kind::CONFLICT, "This token has ended. What has ended cannot be changed."));
    }
    Ok(ListedToken::found(&found, guard.now()))
}

/// DELETE /v1/tokens/{id}. One that has ended already is as ended as was wished for.
pub(super) async fn delete(
    caller: Caller<TokensWrite>,
    State(service): State<Service>,
    id: Result<Path<String>, PathRejection>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    let id = token_id(id)?;
    if !service.guard().revoke_by_id(caller.verified.user(), id).await? {
        find(&service, &caller.verified, id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn find(
    service: &Service,
    caller: &hallpass::Verified<Account>,
    id: TokenId,
) -> Result<Found, Problem> {
    service.guard().find_by_id(caller.user(), id).await?.ok_or_else(Problem::not_found)
}

/// What is no id is nobody's id.
fn token_id(id: Result<Path<String>, PathRejection>) -> Result<TokenId, Problem> {
    let Path(text) = id.map_err(|_| Problem::not_found())?;
    TokenId::parse(&text).ok_or_else(Problem::not_found)
}

fn list_query(pairs: &[(String, String)], now: Timestamp) -> Result<ListQuery, Problem> {
    let mut query = ListQuery { after: None, limit: PAGE, living_at: Some(now) };
    for (index, (key, value)) in pairs.iter().enumerate() {
        if pairs.iter().take(index).any(|(earlier, _)| earlier == key) {
            return Err(Problem::field(key, "is given twice"));
        }
        match key.as_str() {
            "cursor" => {
                let cursor = Cursor::parse(value);
                let cursor =
                    cursor.ok_or_else(|| Problem::field("cursor", "must be a next_cursor of this list"));
                query.after = Some(cursor?);
            }
            "limit" => {
                let limit = u32::from_str(value).ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                query.limit =
                    limit.ok_or_else(|| Problem::field("limit", format!("must be 1 to {PAGE_MAX}")))?;
            }
            "ended" => match value.as_str() {
                "true" => query.living_at = None,
                "false" => query.living_at = Some(now),
                _ => return Err(Problem::field("ended", "must be true or false")),
            },
            _ => return Err(Problem::field(key, "is not known here")),
        }
    }
    Ok(query)
}

fn unreadable_query() -> Problem {
    Problem::new(Kind::INVALID_REQUEST, "The part of the address after the question mark cannot be read.")
}

impl<'a> TokenView<'a> {
    pub(super) fn with_scopes(self, scopes: &'a Scopes) -> Self {
        Self { scopes, ..self }
    }
}

impl<'a> From<&'a TokenRecord> for TokenView<'a> {
    fn from(record: &'a TokenRecord) -> Self {
        Self {
            id: record.id,
            name: record.name.as_deref(),
            hint: &record.hint,
            purpose: &record.purpose,
            scopes: &record.scopes,
            meta: &record.meta,
            created_at: record.created_at,
            expires_at: record.expires_at,
            last_used_at: record.last_used_at,
        }
    }
}

impl<'a> ListedToken<'a> {
    fn new(record: &'a TokenRecord, epoch: Epoch, now: Timestamp) -> Self {
        let state = match record.living(epoch, now) {
            Ok(()) => "living",
            Err(Reason::Expired) => "expired",
            Err(_) => "revoked",
        };
        Self { token: record.into(), revoked_at: record.revoked_at, state }
    }

    fn found(found: &Found, now: Timestamp) -> Response {
        Json(ListedToken::new(&found.record, found.epoch, now)).into_response()
    }
}
