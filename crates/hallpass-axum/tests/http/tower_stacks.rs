//! The layer on services that are not axum's: any body in, any body out, and tower's rules kept.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Ready,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hallpass::{
    Guard, MemoryStore, Purpose, Unavailable, UserId, UserProvider, Verified,
    testing::{self, User, Users},
};
use hallpass_axum::BearerLayer;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::House;

fn asked<B>(header: &str, body: B) -> Request<B> {
    Request::post("/").header("authorization", header).body(body).unwrap()
}

async fn echo(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let who = request.extensions().get::<Arc<Verified<User>>>().unwrap().user().email.clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::new(Full::from([who.as_bytes(), b": ", &body].concat())))
}

#[tokio::test]
async fn a_plain_tower_stack_is_guarded_and_its_body_untouched() {
    let house = House::new().await;
    let service = ServiceBuilder::new().layer(BearerLayer::new(house.guard.clone())).service_fn(echo);
    let header = house.header(["*"]).await;
    let answer = service.clone().oneshot(asked(&header, Full::from("hello"))).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ada@example.com: hello");

    let refused = service.oneshot(asked("Bearer abc", Full::from("hello"))).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let length = refused.body().size_hint().exact();
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(length, Some(body.len() as u64));
    assert!(body.starts_with(b"{\"type\":\"urn:hallpass:problem:invalid_token\""));
}

/// A body as gRPC has it: with trailers and an error of its own, and here also tied to its thread.
struct Stream {
    left: u8,
    thread: Rc<Cell<u8>>,
}

#[derive(Debug, PartialEq)]
struct Status(&'static str);

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Status {}

impl Body for Stream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.thread.set(self.thread.get() + 1);
        self.left = self.left.saturating_sub(1);
        Poll::Ready(match self.left {
            2 => Some(Ok(Frame::data(Bytes::from_static(b"message")))),
            1 => Some(Ok(Frame::trailers(
                [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect(),
            ))),
            _ => Some(Err(Status("cut off"))),
        })
    }
}

#[tokio::test]
async fn bodies_with_trailers_and_errors_of_their_own_that_are_not_even_send_pass() {
    let house = House::new().await;
    let service = BearerLayer::new(house.guard.clone());
    let service = tower::Layer::layer(
        &service,
        service_fn(async |request: Request<Stream>| Ok::<_, Infallible>(Response::new(request.into_body()))),
    );
    let thread = Rc::new(Cell::new(0));
    let body = Stream { left: 3, thread: thread.clone() };
    let answer = service.oneshot(asked(&house.header(["*"]).await, body)).await.unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "message");
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.frame().await.unwrap().unwrap_err().downcast_ref(), Some(&Status("cut off")));
    assert_eq!(thread.get(), 3);
}

/// Answers only if this very instance was polled ready since its last call, and counts its calls.
#[derive(Default)]
struct Strict {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Request<Full<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Err("the service's own error"))
    }
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    let house = House::new().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let strict = Strict { ready: false, calls: Arc::clone(&calls) };
    let header = house.header(["*"]).await;
    let once = BearerLayer::new(house.guard.clone()).optional();
    let mut service = ServiceBuilder::new().layer(once.clone()).layer(once).service(strict);
    for _ in 0..3 {
        let error = service.ready().await.unwrap().call(asked(&header, Full::default())).await.unwrap_err();
        assert_eq!(error, "the service's own error");
        let guest = Request::new(Full::default());
        assert!(service.ready().await.unwrap().call(guest).await.is_err());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_full_service_holds_requests_back_and_a_refused_one_gives_its_place_free() {
    let house = House::new().await;
    let mut service = ServiceBuilder::new()
        .layer(BearerLayer::new(house.guard.clone()))
        .concurrency_limit(1)
        .service_fn(echo);
    for _ in 0..3 {
        let refused =
            service.ready().await.unwrap().call(asked("Bearer abc", Full::default())).await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    let held = service.ready().await.unwrap().call(asked("Bearer abc", Full::default()));
    let mut context = Context::from_waker(Waker::noop());
    assert!(Service::<Request<Full<Bytes>>>::poll_ready(&mut service, &mut context).is_pending());
    drop(held);
    assert!(Service::<Request<Full<Bytes>>>::poll_ready(&mut service, &mut context).is_ready());
}

/// Users whose table answers only when the test lets it.
struct SlowUsers {
    users: Users,
    gate: Arc<Semaphore>,
}

impl UserProvider for SlowUsers {
    type User = User;

    fn id(&self, user: &User) -> UserId {
        self.users.id(user)
    }

    async fn find(&self, id: &UserId) -> Result<Option<User>, Unavailable> {
        self.gate.acquire().await.unwrap().forget();
        self.users.find(id).await
    }
}

#[tokio::test]
async fn a_request_given_up_midway_runs_nothing_and_harms_nothing() {
    let (users, gate) = (Users::new(), Arc::new(Semaphore::new(0)));
    let ada = users.add("ada@example.com");
    let users = SlowUsers { users, gate: Arc::clone(&gate) };
    let guard = Guard::new(users, Arc::new(MemoryStore::new()), Purpose::api());
    let header = testing::acting_as(&guard, &ada, ["*"]).await;
    let service = ServiceBuilder::new().layer(BearerLayer::new(guard)).service_fn(echo);

    let mut given_up = Box::pin(service.clone().oneshot(asked(&header, Full::default())));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(given_up.as_mut().poll(&mut context).is_pending());
    }
    drop(given_up);

    gate.add_permits(1);
    let answer = service.oneshot(asked(&header, Full::default())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[test]
fn futures_and_services_can_go_to_other_threads() {
    fn goes<T: Send + 'static>(_: &T) {}
    fn check(guard: Guard<Users>) {
        let mut service = ServiceBuilder::new().layer(BearerLayer::new(guard)).service(Strict::default());
        goes(&service);
        goes(&service.call(Request::new(Full::default())));
    }
    let _ = check;
}
