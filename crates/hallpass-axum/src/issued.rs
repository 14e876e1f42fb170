use axum_core::response::{IntoResponse, Response};
use bytes::Bytes;
use hallpass::{NewToken, Unavailable};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};

use crate::rejection::Rejection;

/// The answer that hands a new token to its holder: `{"type":"bearer","token":…,"expires_at":…,"expires_in":…}`, the last
/// two only if it expires, and marked so that no cache keeps it.
///
/// ```
/// use hallpass::{Guard, testing::{User, Users}};
/// use hallpass_axum::{Issued, Rejection};
///
/// async fn login(guard: &Guard<Users>, email: &str, password: &str) -> Result<Issued<User>, Rejection> {
///     Ok(Issued(guard.attempt(email, password).name("For the CLI app").await?))
/// }
/// ```
#[derive(Debug)]
pub struct Issued<User>(pub NewToken<User>);

impl<User> IntoResponse for Issued<User> {
    fn into_response(self) -> Response {
        let json = match serde_json::to_vec(&self.0) {
            Ok(json) => Bytes::from(json),
            Err(error) => {
                let unavailable = Unavailable::because("a new token cannot be written as JSON", error);
                return Rejection::from(unavailable).into_response();
            }
        };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (headers, json).into_response()
    }
}
