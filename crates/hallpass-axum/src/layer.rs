use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hallpass::{Guard, ScopeRule, UserProvider, Wants};
use http::{Request, Response, request::Parts};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    passed::{self, Passed},
    rejection::Rejection,
};

/// Guards a whole router, or any tower service of HTTP requests: what has no good token is answered here and goes no further.
///
/// As it is made it wants a token that was not narrowed. Handlers behind it find an `Arc<`[`Verified`](hallpass::Verified)`<User>>` in the
/// request's extensions, and [`Bearer`](crate::Bearer) and [`Auth`](crate::Auth) of the same guard do not verify again.
///
/// ```
/// use axum::{Router, routing::get};
/// use hallpass::{Guard, testing::Users};
/// use hallpass_axum::{Bearer, BearerLayer};
///
/// async fn report(who: Bearer<Users>) -> String {
///     format!("for {}", who.user().email)
/// }
///
/// fn app(guard: Guard<Users>) -> Router {
///     Router::new()
///         .route("/report", get(report))
///         .route_layer(BearerLayer::new(guard.clone()))
///         .route("/health", get(|| async { "fine" }))
///         .with_state(guard)
/// }
/// ```
///
/// A browser asks for permission (CORS) without its token: a layer that answers such requests must stand outside this one.
/// gRPC clients read the status of a refusal as their own: 401 as `UNAUTHENTICATED`, 403 as `PERMISSION_DENIED`, 503 as
/// `UNAVAILABLE`.
#[doc(alias("middleware", "plug", "pipeline"))]
pub struct BearerLayer<U: UserProvider> {
    rules: Rules<U>,
}

struct Rules<U: UserProvider> {
    guard: Guard<U>,
    wants: Wants,
    guests: bool,
}

impl<U: UserProvider> BearerLayer<U> {
    /// Wants a token that was not narrowed.
    #[must_use]
    pub fn new(guard: Guard<U>) -> Self {
        Self { rules: Rules { guard, wants: Wants::Everything, guests: false } }
    }

    /// Wants a token that carries `scope`.
    #[must_use]
    pub fn scope(self, scope: &'static str) -> Self {
        self.wants(Wants::Scope(scope))
    }

    /// Wants what `S` wants, as [`Bearer`](crate::Bearer) does.
    #[must_use]
    pub fn rule<S: ScopeRule>(self) -> Self {
        self.wants(S::WANTS)
    }

    /// Takes every good token, whatever its scopes.
    #[must_use]
    pub fn any_scope(self) -> Self {
        self.wants(Wants::Nothing)
    }

    /// Lets requests without any `Authorization` header through, as guests. A token that is sent must still be good.
    #[doc(alias("silent", "SilentAuth"))]
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.rules.guests = true;
        self
    }

    fn wants(mut self, wants: Wants) -> Self {
        self.rules.wants = wants;
        self
    }
}

impl<U: UserProvider, S> Layer<S> for BearerLayer<U> {
    type Service = BearerService<U, S>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerService { rules: self.rules.clone(), inner }
    }
}

/// A service behind a [`BearerLayer`].
pub struct BearerService<U: UserProvider, S> {
    rules: Rules<U>,
    inner: S,
}

impl<U, S, B, R> Service<Request<B>> for BearerService<U, S>
where
    U: UserProvider,
    S: Service<Request<B>, Response = Response<R>> + Clone,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was polled ready must be the one that is called; its clone may not be ready yet.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);

        let rules = &self.rules;
        let state = if rules.guests && passed::is_guest(request.headers()) {
            State::Let { response: inner.call(request) }
        } else if let Some(verified) = Passed::by(&rules.guard, request.extensions()) {
            match verified.require(rules.wants) {
                Ok(()) => State::Let { response: inner.call(request) },
                Err(error) => State::refused(Rejection::new(error, rules.guard.realm())),
            }
        } else {
            let (parts, body) = request.into_parts();
            State::Verifying { verdict: Box::pin(rules.clone().judge(parts)), rest: Some((inner, body)) }
        };
        ResponseFuture { state }
    }
}

impl<U: UserProvider> Rules<U> {
    /// Takes the request's head apart from its body, so that the body can be of any type.
    async fn judge(self, mut parts: Parts) -> Result<Parts, Rejection> {
        let Self { guard, wants, .. } = self;
        let verdict = passed::verify(&guard, &parts.headers).await;
        let verdict = verdict.and_then(|verified| verified.require(wants).map(|()| verified));
        match verdict {
            Ok(verified) => {
                Passed::leave(guard, verified, &mut parts.extensions);
                Ok(parts)
            }
            Err(error) => Err(Rejection::new(error, guard.realm())),
        }
    }
}

pin_project! {
    /// The answer of a [`BearerService`]. Dropping it stops the work wherever it is; the token is as good as before.
    pub struct ResponseFuture<S, B, F> {
        #[pin]
        state: State<S, B, F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F> {
        /// The service is held ready, and called only after a good verdict.
        Verifying { verdict: Verdict, rest: Option<(S, B)> },
        Let { #[pin] response: F },
        Refused { response: Option<Response<Full<Bytes>>> },
    }
}

/// The guard's future has no name, so it stands in a box: the one allocation of the layer's own. The inner service's does not.
type Verdict = Pin<Box<dyn Future<Output = Result<Parts, Rejection>> + Send>>;

impl<S, B, F> State<S, B, F> {
    fn refused(rejection: Rejection) -> Self {
        Self::Refused { response: Some(rejection.into_http()) }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, S::Future>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<Either<R, Full<Bytes>>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Verifying { verdict, rest } => {
                    match (ready!(verdict.as_mut().poll(cx)), rest.take()) {
                        (Ok(parts), Some((mut inner, body))) => {
                            State::Let { response: inner.call(Request::from_parts(parts, body)) }
                        }
                        (Err(rejection), _) => State::refused(rejection),
                        // Only a future that has given its answer has no rest.
                        (Ok(_), None) => return Poll::Pending,
                    }
                }
                StateProjection::Let { response } => {
                    return Poll::Ready(ready!(response.poll(cx)).map(|response| response.map(Either::Left)));
                }
                StateProjection::Refused { response } => {
                    return match response.take() {
                        Some(response) => Poll::Ready(Ok(response.map(Either::Right))),
                        None => Poll::Pending,
                    };
                }
            };
            state.set(next);
        }
    }
}

impl<U: UserProvider> Clone for Rules<U> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), ..*self }
    }
}

impl<U: UserProvider> Clone for BearerLayer<U> {
    fn clone(&self) -> Self {
        Self { rules: self.rules.clone() }
    }
}

impl<U: UserProvider, S: Clone> Clone for BearerService<U, S> {
    fn clone(&self) -> Self {
        Self { rules: self.rules.clone(), inner: self.inner.clone() }
    }
}

impl<U: UserProvider> fmt::Debug for Rules<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guard, wants, guests } = self;
        f.debug_struct("Rules").field("guard", guard).field("wants", wants).field("guests", guests).finish()
    }
}

impl<U: UserProvider> fmt::Debug for BearerLayer<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerLayer").field(&self.rules).finish()
    }
}

impl<U: UserProvider, S> fmt::Debug for BearerService<U, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerService").field(&self.rules).finish_non_exhaustive()
    }
}

impl<S, B, F> fmt::Debug for ResponseFuture<S, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture(..)")
    }
}
