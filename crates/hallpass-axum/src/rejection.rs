//! How a refusal is answered.

use std::{borrow::Cow, sync::Arc};

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hallpass::{Error, Invalid, IssueError, Unavailable, bearer::Refusal};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde::Serialize;

/// The protection space of an error that comes without its guard. It is the one of a guard that was given none.
const REALM: &str = "hallpass";

/// The answer to a request that is not let through, made of what the guard said.
///
/// | what happened | status | code |
/// |---|---|---|
/// | no `Authorization` header, or another scheme | 401 | `invalid_token`, but no `error` in the challenge |
/// | the header is not one bearer token | 400 | `invalid_request` |
/// | the token is not good, for whatever reason | 401 | `invalid_token` |
/// | it does not carry the scope | 403 | `insufficient_scope` |
/// | unknown name or wrong password | 401 | `invalid_credentials` |
/// | an option of a new token cannot be had | 422 | `invalid_field` |
/// | the owner has as many tokens as allowed | 409 | `conflict` |
/// | that cannot be told now | 503 | `unavailable` |
///
/// The challenge of RFC 6750 is in `WWW-Authenticate`, the wait in `Retry-After`. The body is `application/problem+json`
/// (RFC 9457) with `type`, `title`, `status`, `detail` and `code`, in this order, and for 422 the `errors`. No cache keeps it.
///
/// The [`Refusal`] stands in the response's extensions, so that a service further out can answer in other words, and so
/// does, for the log alone, the `Arc<`[`Error`]`>` it came from.
///
/// A handler that returns `Result<_, Rejection>` can use `?` on the errors of `hallpass`. They do not know their guard, so
/// where its realm is not "hallpass", use [`Rejection::new`].
///
/// ```
/// use hallpass::{Guard, testing::{User, Users}};
/// use hallpass_axum::Rejection;
///
/// async fn who(guard: &Guard<Users>, email: &str, password: &str) -> Result<User, Rejection> {
///     Ok(guard.verify_credentials(email, password).await?)
/// }
/// ```
#[derive(Debug)]
pub struct Rejection(Box<Inner>);

#[derive(Debug)]
struct Inner {
    refusal: Refusal,
    /// More exact than the refusal's own, where that is of use to an honest client.
    detail: Option<Cow<'static, str>>,
    invalid: Option<Invalid>,
    cause: Option<Arc<Error>>,
}

/// The order of the fields is that on the wire.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[FieldError<'a>; 1]>,
}

#[derive(Serialize)]
struct FieldError<'a> {
    field: &'static str,
    message: &'a str,
}

impl Rejection {
    /// The answer to an error in the protection space `realm`, which is that of the [guard](hallpass::Guard::realm).
    pub fn new(error: impl Into<IssueError>, realm: &str) -> Self {
        let error = match error.into() {
            IssueError::Denied(denied) => Error::Denied(denied),
            IssueError::Unavailable(unavailable) => Error::Unavailable(unavailable),
            IssueError::Invalid(invalid) => return Self::invalid(invalid),
            other => return Self::conflict(&other),
        };
        let refusal = Refusal::new(&error, realm);
        Self(Box::new(Inner { refusal, detail: None, invalid: None, cause: Some(Arc::new(error)) }))
    }

    /// Status, code and challenge, without the shape they are sent in.
    #[must_use]
    pub fn refusal(&self) -> &Refusal {
        &self.0.refusal
    }

    fn invalid(invalid: Invalid) -> Self {
        let refusal = without_challenge(422, "invalid_field", "A field's value cannot be accepted.");
        let detail = Some(invalid.to_string().into());
        Self(Box::new(Inner { refusal, detail, invalid: Some(invalid), cause: None }))
    }

    /// The cap is reached. What the core may add to its errors later is a wish that cannot be fulfilled, too.
    fn conflict(error: &IssueError) -> Self {
        let refusal = without_challenge(409, "conflict", "This cannot be done as things stand.");
        Self(Box::new(Inner { refusal, detail: Some(error.to_string().into()), invalid: None, cause: None }))
    }

    /// The answer as any HTTP stack takes it.
    pub(crate) fn into_http(self) -> http::Response<Full<Bytes>> {
        let mut response = http::Response::new(Full::new(Bytes::from(self.body())));
        let Inner { refusal, cause, .. } = *self.0;
        *response.status_mut() = status(&refusal);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = &refusal.challenge {
            // A scope of the application's own might not fit into a header; RFC 9110 wants a challenge all the same.
            let bare = HeaderValue::from_static("Bearer");
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(challenge).unwrap_or(bare));
        }
        if let Some(seconds) = refusal.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        let extensions = response.extensions_mut();
        extensions.insert(refusal);
        if let Some(cause) = cause {
            extensions.insert(cause);
        }
        response
    }

    fn body(&self) -> Vec<u8> {
        let Inner { refusal, detail, invalid, .. } = &*self.0;
        let status = status(refusal);
        let problem = Problem {
            r#type: format!("urn:hallpass:problem:{}", refusal.code),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.as_deref().unwrap_or(refusal.detail),
            code: refusal.code,
            errors: invalid
                .as_ref()
                .map(|invalid| [FieldError { field: invalid.field(), message: invalid.message() }]),
        };
        // Texts and a number: JSON has them all.
        serde_json::to_vec(&problem).unwrap_or_default()
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.into_http().map(Body::new)
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::new(error, REALM)
    }
}

impl From<IssueError> for Rejection {
    fn from(error: IssueError) -> Self {
        Self::new(error, REALM)
    }
}

impl From<Unavailable> for Rejection {
    fn from(unavailable: Unavailable) -> Self {
        Self::new(unavailable, REALM)
    }
}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Self::new(invalid, REALM)
    }
}

fn without_challenge(status: u16, code: &'static str, detail: &'static str) -> Refusal {
    Refusal { status, code, detail, challenge: None, retry_after: None }
}

/// A status that is none would be a mistake of ours, and lets nobody through.
fn status(refusal: &Refusal) -> StatusCode {
    StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}
