use std::{
    io,
    sync::{Arc, Mutex},
};

use hallpass::{EmailAddress, PlainToken, account::AccountStore, event::Observers};
use hallpass_server::observers::LogObserver;
use http::Method;
use serde_json::{Value, json};
use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};

use crate::fixture::{ADA, Call, Fixture, Options, PASSWORD};

/// What this thread logs from now on, at every level.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines that requests leave.
    fn answered(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["fields"]["message"] == "answered").collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn logging() -> Fixture {
    let observers = Observers::new().and(Arc::new(LogObserver));
    Fixture::with(Options { observers, ..Options::default() }).await
}

#[tokio::test]
async fn a_request_leaves_one_line_with_its_route_and_never_its_path() {
    let fixture = logging().await;
    let auth = fixture.acting(&["*"]).await;
    let made = fixture.guard.verify_header([auth.as_bytes()]).await.unwrap();
    let (log, _guard) = Log::capture();
    let call = Call::get("/v1/tokens/canary-path?canary=query").auth(&auth).header("x-request-id", "the-id");
    fixture.call(call).await.problem(404, "not_found");
    let lines = log.answered();
    assert_eq!(lines.len(), 1);
    let (line, fields) = (&lines[0], &lines[0]["fields"]);
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["span"]["request_id"], "the-id");
    assert_eq!(
        (&fields["method"], &fields["route"], &fields["status"], &fields["code"]),
        (&json!("GET"), &json!("/v1/tokens/{id}"), &json!(404), &json!("not_found"))
    );
    assert!(fields["micros"].is_u64());
    assert_eq!(fields["user"], fixture.ada.id.as_str());
    assert_eq!(fields["token"], made.token().id.to_string());
    assert!(!log.text().contains("canary"), "{}", log.text());
}

#[tokio::test]
async fn a_request_that_proves_nothing_names_nobody() {
    let fixture = logging().await;
    let (log, _guard) = Log::capture();
    fixture.call(Call::get("/canary")).await.problem(404, "not_found");
    let fields = &log.answered()[0]["fields"];
    assert_eq!((&fields["route"], &fields["status"]), (&json!("none"), &json!(404)));
    assert!(fields.get("user").is_none() && fields.get("token").is_none());
    assert!(!log.text().contains("canary"));
}

#[tokio::test]
async fn a_token_with_too_few_scopes_is_named() {
    let fixture = logging().await;
    let auth = fixture.acting(&[]).await;
    let (log, _guard) = Log::capture();
    fixture.get("/v1/tokens", &auth).await.problem(403, "insufficient_scope");
    let fields = &log.answered()[0]["fields"];
    assert_eq!((&fields["code"], &fields["user"]), (&json!("insufficient_scope"), &json!(fixture.ada.id)));
}

#[tokio::test]
async fn nested_the_route_is_told_with_its_prefix() {
    let fixture = logging().await;
    let app = axum::Router::new().nest("/auth", fixture.router.clone());
    let (log, _guard) = Log::capture();
    for path in ["/auth/v1/tokens/x", "/auth/canary"] {
        crate::fixture::send(app.clone(), Call::get(path).into_request()).await;
    }
    let routes: Vec<_> = log.answered().iter().map(|line| line["fields"]["route"].clone()).collect();
    assert_eq!(routes, ["/auth/v1/tokens/{id}", "none"]);
    assert!(!log.text().contains("canary"));
}

#[tokio::test]
async fn row_2_and_31_the_log_knows_the_reason_and_which_request_it_was() {
    let fixture = logging().await;
    let (log, _guard) = Log::capture();
    let unknown = PlainToken::generate(fixture.guard.purpose()).unwrap();
    let call =
        Call::get("/v1/me").auth(&format!("Bearer {}", unknown.expose())).header("x-request-id", "first");
    fixture.call(call).await.problem(401, "invalid_token");
    let wrong = Call::post("/v1/login", json!({ "email": ADA, "password": "wrong" }));
    fixture.call(wrong.header("x-request-id", "second")).await.problem(401, "invalid_credentials");
    let events: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line["fields"]["message"] == "event")
        .map(|line| {
            format!("{} {} {}", line["span"]["request_id"], line["fields"]["kind"], line["fields"]["reason"])
        })
        .collect();
    assert_eq!(
        events,
        [r#""first" "token_refused" "unknown""#, r#""second" "login_refused" "wrong_password""#]
    );
}

#[tokio::test]
async fn the_cause_of_an_outage_is_in_the_log_and_not_in_the_answer() {
    let fixture = logging().await;
    let auth = fixture.acting(&["*"]).await;
    fixture.store.fail(true);
    for call in [Call::get("/v1/me").auth(&auth), Call::get("/readyz")] {
        let (log, _guard) = Log::capture();
        let answer = fixture.call(call).await;
        assert!(log.text().contains("the store was told to fail"), "{}", log.text());
        assert!(!answer.text().contains("told to fail"));
    }
}

#[tokio::test]
async fn a_client_that_went_away_leaves_a_line_too() {
    let fixture = logging().await;
    let (log, _guard) = Log::capture();
    let body = crate::bodies::streamed(std::iter::repeat(None));
    let request =
        http::Request::post("/v1/login").header("content-type", "application/json").body(body).unwrap();
    let answer = crate::fixture::send(fixture.router.clone(), request);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(1), answer).await.is_err());
    let line =
        log.lines().into_iter().find(|line| line["fields"]["message"] == "the client went away").unwrap();
    assert_eq!(line["fields"]["route"], "/v1/login");
    assert!(line["fields"].get("status").is_none());
}

/// A secret in every form in which it could slip into a log.
pub(crate) struct Canary {
    forms: Vec<String>,
}

impl Canary {
    pub(crate) fn new(secret: &[u8]) -> Self {
        let each = |form: fn(&u8) -> String| secret.iter().map(form).collect::<Vec<_>>().concat();
        let hex = each(|byte| format!("{byte:02x}"));
        let percent = each(|byte| format!("%{byte:02X}"));
        let escaped: String =
            secret
                .iter()
                .map(|&byte| {
                    if byte.is_ascii_alphanumeric() {
                        char::from(byte).into()
                    } else {
                        format!("%{byte:02X}")
                    }
                })
                .collect();
        let bytes = format!("{secret:?}");
        let list = bytes.trim_matches(['[', ']']);
        let base64 = base64(secret);
        let url = base64.replace('+', "-").replace('/', "_");
        let raw = std::str::from_utf8(secret).unwrap_or(&hex);
        let forms = [
            raw,
            &hex.to_uppercase(),
            &hex,
            &percent,
            &percent.to_lowercase(),
            &escaped,
            list,
            &base64,
            &url,
        ];
        Self { forms: forms.map(str::to_owned).into() }
    }

    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form))
    }
}

/// Without the last, incomplete group, which depends on what follows.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let number = group.iter().fold(0, |number: usize, byte| number << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[number >> shift & 63]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

/// Everything the service can do, well and badly; answers with the canaries that must not be seen anywhere.
pub(crate) async fn tour<F: AsyncFn(Call) -> Value>(fixture: &Fixture, call: F) -> Vec<Canary> {
    let body = |password: &str| json!({ "email": ADA, "password": password, "meta": { "k": "meta-canary" } });
    let login = call(Call::post("/v1/login", body(PASSWORD))).await;
    let first = login["token"].as_str().unwrap().to_owned();
    let auth = format!("Bearer {first}");
    call(Call::post("/v1/login", body("wrong-canary-password"))).await;
    call(Call::post("/v1/login", json!({ "email": "unknown-canary@example.com", "password": "x" }))).await;
    call(Call::post("/v1/login", json!({ "email": ADA, "password": ["array-canary"] }))).await;
    call(Call::new(Method::POST, "/v1/login").body("application/json", "{\"password\":\"broken-canary"))
        .await;
    let wishes = json!({ "name": "name-canary", "scopes": ["tokens:read"], "expires_in": "7 days" });
    let made = call(Call::post("/v1/tokens", wishes.clone()).auth(&auth)).await;
    let second = made["token"].as_str().unwrap().to_owned();
    let one = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    call(Call::get("/v1/me").auth(&auth)).await;
    call(Call::get("/v1/tokens?limit=1&ended=true").auth(&auth)).await;
    call(Call::get(&one).auth(&format!("Bearer {second}"))).await;
    call(Call::post("/v1/tokens", wishes).auth(&format!("Bearer {second}"))).await;
    call(Call::new(Method::PATCH, &one).auth(&auth).json(json!({ "name": "other-canary" }))).await;
    call(Call::new(Method::PATCH, &one).auth(&auth).json(json!({ "expires_in": "text-canary" }))).await;
    let near = format!("{}{}", &second[..51], if second.ends_with('0') { '1' } else { '0' });
    call(Call::get("/v1/me").auth(&format!("Bearer {near}"))).await;
    call(Call::get("/v1/me").auth("Basic YmFzaWMtY2FuYXJ5OmJhc2ljLWNhbmFyeQ==")).await;
    call(Call::get(&format!("/v1/me?access_token={second}"))).await;
    call(Call::get(&format!("/{second}"))).await;
    call(Call::get("/v1/me").header("cookie", "cookie-canary=1")).await;
    fixture.store.fail(true);
    call(Call::get("/v1/me").auth(&auth)).await;
    call(Call::post("/v1/login", body(PASSWORD))).await;
    fixture.store.fail(false);
    call(Call::new(Method::DELETE, &one).auth(&auth)).await;
    call(Call::new(Method::POST, "/v1/logout").auth(&auth)).await;

    let ada = EmailAddress::parse(ADA).unwrap();
    let (_, stored) = fixture.store.find_by_email(&ada).await.unwrap().unwrap();
    let stored = stored.unwrap();
    let mut secrets: Vec<Vec<u8>> =
        [PASSWORD, ADA, &first, &second, &near, stored.as_phc(), "canary", "YmFzaWMtY2FuYXJ5"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    for token in [&first, &second] {
        secrets.push(PlainToken::parse(token).unwrap().hash().as_bytes().to_vec());
        // Half of a secret is too much, too.
        secrets.push(token.as_bytes()[3..25].to_vec());
    }
    secrets.iter().map(|secret| Canary::new(secret)).collect()
}

#[tokio::test]
async fn no_secret_and_no_address_is_in_the_log_at_its_loudest() {
    let fixture = logging().await;
    let (log, _guard) = Log::capture();
    let canaries = tour(&fixture, async |call| {
        let answer = fixture.call(call).await;
        serde_json::from_slice(&answer.body).unwrap_or_default()
    })
    .await;
    let text = log.text();
    assert!(text.lines().count() > 30, "{text}");
    for canary in canaries {
        assert!(!canary.is_in(&text), "{:?} in\n{text}", canary.forms[0]);
    }
}

#[test]
fn a_canary_is_seen_in_every_form() {
    let canary = Canary::new(b"a+b@c.d/e");
    for form in [
        "xa+b@c.d/ex",
        "612b6240632e642f65",
        "612B6240632E642F65",
        "a%2Bb%40c%2Ed%2Fe",
        "YStiQGMuZC9l",
        "[97, 43, 98, 64, 99, 46, 100, 47, 101]",
    ] {
        assert!(canary.is_in(form), "{form}");
    }
    assert!(!canary.is_in("a+b@c.d/"));
}
