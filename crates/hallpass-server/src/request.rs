//! What is known of the request being answered: its id, its peer, who it turned out to come from; and its line in the log.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use hallpass::{TokenId, TokenRecord, UserId};
use tracing::Instrument;

use crate::problem::ProblemCode;

/// Long enough for a UUID or the ids of tracing systems, short enough for a log line.
const ID_MAX: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// A request, for those who are called while it is answered.
#[derive(Debug)]
pub(crate) struct Context {
    id: HeaderValue,
    peer: Option<SocketAddr>,
    token: OnceLock<(UserId, TokenId)>,
}

/// The request that this task answers, if any.
pub(crate) fn current() -> Option<Arc<Context>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Notes for the log that this request proved to come from the holder of a token.
pub(crate) fn proven(token: &TokenRecord) {
    let _ = CURRENT.try_with(|context| context.token.set((token.user.clone(), token.id)));
}

impl Context {
    fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let id = sent_id(request.headers()).unwrap_or_else(made_id);
        Self { id, peer, token: OnceLock::new() }
    }

    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// The outermost layer: gives the request its id and context, the answer its general headers, and the log its line.
pub(crate) async fn around(request: Request, next: Next) -> Response {
    let context = Arc::new(Context::of(&request));
    let span = tracing::info_span!("request", request_id = context.id());
    let line = Line::begin(&request, Arc::clone(&context));
    let answer = CURRENT.scope(Arc::clone(&context), async {
        let mut line = line;
        let response = next.run(request).await;
        line.answered(&response);
        response
    });
    let mut response = answer.instrument(span).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, context.id.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The id that the client sent, if it is one that can stand in a log and in a header as it is.
fn sent_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut sent = headers.get_all(REQUEST_ID).iter();
    let id = sent.next().filter(|_| sent.next().is_none())?;
    let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let bytes = id.as_bytes();
    ((1..=ID_MAX).contains(&bytes.len()) && bytes.iter().all(is_sane)).then(|| id.clone())
}

fn made_id() -> HeaderValue {
    let mut buffer = uuid::Uuid::encode_buffer();
    let id: &str = uuid::Uuid::now_v7().as_hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("none"))
}

/// The line that the log gets when the request is over, also when its client went away before the answer.
struct Line {
    context: Arc<Context>,
    method: Method,
    route: Option<MatchedPath>,
    begun: Instant,
    answer: Option<(StatusCode, Option<&'static str>)>,
}

impl Line {
    fn begin(request: &Request, context: Arc<Context>) -> Self {
        Self {
            context,
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            begun: Instant::now(),
            answer: None,
        }
    }

    fn answered(&mut self, response: &Response) {
        let code = response.extensions().get::<ProblemCode>().map(|code| code.0);
        self.answer = Some((response.status(), code));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let (user, token) = self.context.token.get().map(|(user, token)| (user, token)).unzip();
        tracing::info!(
            method = self.method.as_str(),
            // The template and not the path: what somebody typed into an address may be a secret.
            route = self.route.as_ref().map_or("none", MatchedPath::as_str),
            status = self.answer.map(|(status, _)| status.as_u16()),
            code = self.answer.and_then(|(_, code)| code),
            micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            user = user.map(tracing::field::display),
            token = token.map(tracing::field::display),
            "{}",
            if self.answer.is_some() { "answered" } else { "the client went away" },
        );
    }
}
