//! What fails is answered here, in one shape: `application/problem+json` of RFC 9457.

use std::{borrow::Cow, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hallpass::{Error, Invalid, IssueError, Reason, Unavailable, bearer::Refusal};
use hallpass_axum::Rejection;
use serde::Serialize;

use crate::request;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A kind of failure. Its code is a promise to clients; its title and status go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
}

/// Every way to fail, in the order of its status.
impl Kind {
    pub(crate) const INVALID_REQUEST: &Self =
        &Self::new(StatusCode::BAD_REQUEST, "invalid_request", "The request cannot be read");
    pub(crate) const INVALID_TOKEN: &Self =
        &Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "A good token is needed");
    pub(crate) const INVALID_CREDENTIALS: &Self =
        &Self::new(StatusCode::UNAUTHORIZED, "invalid_credentials", "The log-in was refused");
    pub(crate) const INSUFFICIENT_SCOPE: &Self =
        &Self::new(StatusCode::FORBIDDEN, "insufficient_scope", "The token may not do this");
    pub(crate) const NOT_FOUND: &Self =
        &Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here");
    pub(crate) const METHOD_NOT_ALLOWED: &Self =
        &Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This method is not for this path");
    pub(crate) const REQUEST_TIMEOUT: &Self =
        &Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The request took too long to arrive");
    pub(crate) const CONFLICT: &Self =
        &Self::new(StatusCode::CONFLICT, "conflict", "This cannot be done as things are");
    pub(crate) const CONTENT_TOO_LARGE: &Self =
        &Self::new(StatusCode::PAYLOAD_TOO_LARGE, "content_too_large", "The request's body is too large");
    pub(crate) const UNSUPPORTED_MEDIA_TYPE: &Self = &Self::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "The request's body is of another type",
    );
    pub(crate) const INVALID_FIELD: &Self =
        &Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", "A field is not acceptable");
    pub(crate) const INTERNAL: &Self =
        &Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "A fault of the service");
    pub(crate) const UNAVAILABLE: &Self =
        &Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service cannot answer now");

    const fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { status, code, title }
    }
}

/// A failure on its way out. The request's id is added when it becomes a response.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: &'static Kind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    challenge: Option<String>,
    retry_after: Option<u64>,
}

/// What is wrong with one field.
#[derive(Debug, Serialize)]
struct FieldError {
    field: String,
    message: String,
}

/// The code of the problem in a response, for the request's log line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProblemCode(pub(crate) &'static str);

impl Problem {
    pub(crate) fn new(kind: &'static Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), challenge: None, retry_after: None }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(Kind::NOT_FOUND, "Nothing that you may see is under this address.")
    }

    pub(crate) fn internal() -> Self {
        Self::new(Kind::INTERNAL, "This should not have happened. The log knows more, under this request id.")
    }

    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut problem =
            Self::new(Kind::INVALID_FIELD, "The request is well-formed, but a field of it cannot be taken.");
        problem.errors.push(FieldError { field: field.into(), message: message.into() });
        problem
    }

    /// What was refused, in the guard's own words.
    fn refused(refusal: Refusal) -> Self {
        let kind = match (refusal.status, refusal.code) {
            (400, _) => Kind::INVALID_REQUEST,
            (401, "invalid_credentials") => Kind::INVALID_CREDENTIALS,
            (401, _) => Kind::INVALID_TOKEN,
            (403, _) => Kind::INSUFFICIENT_SCOPE,
            _ => Kind::UNAVAILABLE,
        };
        Self {
            challenge: refusal.challenge,
            retry_after: refusal.retry_after,
            ..Self::new(kind, refusal.detail)
        }
    }

    /// A token that was not made for the holder of another.
    pub(crate) fn not_issued(error: IssueError, realm: &str) -> Self {
        match error {
            IssueError::Denied(denied) => Self::refused(Refusal::new(&denied.into(), realm)),
            IssueError::Unavailable(unavailable) => unavailable.into(),
            IssueError::Invalid(invalid) => invalid.into(),
            IssueError::CapReached { .. } => Self::new(Kind::CONFLICT, error.to_string()),
            _ => Self::internal(),
        }
    }

    /// A log-in that made no token: one answer for every reason that lies in the account, the name or the password.
    pub(crate) fn not_logged_in(error: IssueError, realm: &str) -> Self {
        match error {
            IssueError::Denied(_) => Self::refused(Refusal::new(&Reason::WrongPassword.into(), realm)),
            other => Self::not_issued(other, realm),
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let refusal = rejection.refusal().clone();
        // The cause travels with the response.
        if let Some(error) = rejection.into_response().extensions().get::<Arc<Error>>()
            && let Error::Unavailable(unavailable) = &**error
        {
            log(unavailable);
        }
        Self::refused(refusal)
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        log(&unavailable);
        // An outage has no challenge, and so no realm.
        Self::refused(Refusal::new(&unavailable.into(), ""))
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::field(invalid.field(), invalid.message())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'static str,
            status: u16,
            detail: &'a str,
            code: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
        }

        let Kind { status, code, title } = *self.kind;
        let context = request::current();
        let document = Document {
            r#type: format!("urn:hallpass:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            code,
            request_id: context.as_ref().map(|context| context.id()),
            errors: &self.errors,
        };
        // A struct of texts and numbers always is JSON.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.extensions_mut().insert(ProblemCode(code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
        if let Some(challenge) = self.challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The cause of an outage is for the log alone.
fn log(unavailable: &Unavailable) {
    let cause = std::error::Error::source(unavailable);
    tracing::warn!(%unavailable, cause = cause.map(tracing::field::display), "a part is out of reach");
}
