//! A Redis that cannot keep tokens is refused when it is opened, with words that say what to do, and nothing is written to it.

#![cfg(test)]

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hallpass::{
    Epoch, PlainToken, Purpose, Timestamp, TokenId, TokenRecord, TokenStore, UserId, store::InsertError,
};
use hallpass_redis::{OpenError, Options, RedisStore};
use hallpass_sqlite::SqliteStore;
use hallpass_testbed::{Port, Redis, RedisCluster, RedisOptions, Reply, Server};

fn persistent() -> RedisOptions {
    Redis::options().append_only()
}

async fn refused(url: &str, options: Options) -> OpenError {
    let error = RedisStore::connect(url, options).await.expect_err(url);
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    error
}

fn is_empty(redis: &Redis) -> bool {
    redis.command(&["DBSIZE"]).unwrap() == Reply::Number(0)
}

/// Says what it must say.
#[track_caller]
fn says(error: &OpenError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_redis_that_evicts_is_refused_whatever_is_allowed() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let redis = persistent().set("maxmemory-policy", policy).start().unwrap();
        for allow in [false, true] {
            let error = refused(&redis.url(), Options::new().allow_volatile(allow)).await;
            assert!(matches!(error, OpenError::Evicts { .. }), "{error:?}");
            says(&error, &[policy, "set maxmemory-policy noeviction", &redis.address().to_string()]);
        }
        assert!(is_empty(&redis));
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_redis_without_append_only_persistence_is_refused_unless_that_is_allowed() {
    let redis = Redis::start().unwrap();
    let error = refused(&redis.url(), Options::new()).await;
    assert!(matches!(error, OpenError::Volatile { .. }), "{error:?}");
    says(&error, &["appendonly yes", "allow_volatile"]);
    assert!(is_empty(&redis));
    let store = RedisStore::connect(&redis.url(), Options::new().allow_volatile(true)).await.unwrap();
    store.ready().await.unwrap();
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn every_start_says_what_may_be_lost() {
    for (options, word) in [
        (Redis::options(), Some("VOLATILE")),
        (persistent().set("appendfsync", "everysec"), Some("two seconds")),
        (persistent().set("appendfsync", "no"), Some("half a minute")),
        (persistent().set("appendfsync", "always"), None),
    ] {
        let redis = options.start().unwrap();
        for _ in 0..2 {
            let log = Log::default();
            let _guard = tracing::subscriber::set_default(log.clone());
            RedisStore::connect(&redis.url(), Options::new().allow_volatile(true)).await.unwrap();
            let lines = log.0.lock().unwrap().join("\n");
            match word {
                Some(word) => assert!(lines.contains(word), "{lines:?} does not say {word}"),
                None => assert_eq!(lines, ""),
            }
        }
    }
}

/// Warnings, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message<'a>(&'a mut String);
        impl tracing::field::Visit for Message<'_> {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let _ = std::fmt::Write::write_fmt(&mut *self.0, format_args!("{value:?} "));
            }
        }
        let mut text = String::new();
        event.record(&mut Message(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_wrong_or_missing_password_is_told_as_such() {
    let redis = persistent().password("right").start().unwrap();
    let cluster = RedisCluster::start_with(3, &persistent().password("right")).unwrap();
    for (url, scheme) in [(redis.url(), "redis://"), (cluster.url(), "redis-cluster://")] {
        RedisStore::connect(&url, Options::new()).await.unwrap();
        for login in [":secret@", "secret:secret@", ""] {
            let url = url.replace(&format!("{scheme}:right@"), &format!("{scheme}{login}"));
            let error = refused(&url, Options::new()).await;
            assert!(matches!(error, OpenError::Login { .. }), "{url}: {error:?}");
            says(&error, &["check user and password"]);
        }
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_user_without_the_rights_is_told_which_and_one_with_just_those_will_do() {
    let redis = persistent().start().unwrap();
    let rights = "+@all -@admin -@dangerous +info";
    let allow = |name: &str, rules: &str| {
        let mut words = vec!["ACL", "SETUSER", name, "on", ">secret"];
        words.extend(rules.split(' '));
        redis.command(&words).unwrap();
        format!("redis://{name}:secret@{}", redis.address())
    };
    for (name, rules) in [
        ("reader", "~* +@all -@write"),
        ("elsewhere", "~other:* +@all"),
        ("blind", "~* +@all -info"),
        ("scriptless", "~* +@all -@scripting"),
    ] {
        let error = refused(&allow(name, rules), Options::new()).await;
        assert!(matches!(error, OpenError::Privilege { .. }), "{name}: {error:?}");
        says(&error, &[rights, "hallpass:*"]);
    }
    let url = allow("enough", &format!("~hallpass:* {rights}"));
    let store = RedisStore::connect(&url, Options::new()).await.unwrap();
    store.ready().await.unwrap();
    every_method_works(&store).await;
}

async fn every_method_works(store: &RedisStore) {
    let now = Timestamp::from_micros(1_767_225_600_123_457);
    let (hash, id) = (PlainToken::generate(&Purpose::api()).unwrap().hash(), TokenId::random().unwrap());
    let ada = UserId::new("ada").unwrap();
    let mut record = TokenRecord::new(id, ada.clone(), Epoch::default(), "api", now);
    record.expires_at = Some(now);
    store.insert(&hash, &record, None).await.unwrap();
    store.touch(&[hallpass::store::Touch { id, at: now }]).await.unwrap();
    let change = hallpass::store::TokenChange { name: None, expires_at: Some(None) };
    store.update(&ada, id, &change, Timestamp::from_micros(0)).await.unwrap();
    assert!(store.find(&hash).await.unwrap().is_some());
    assert!(store.owner_of(id).await.unwrap().is_some());
    assert!(store.revoke(&hash, now).await.unwrap());
    store.revoke_all(&ada, now).await.unwrap();
    let query = hallpass::store::ListQuery { after: None, limit: 1, living_at: None };
    assert_eq!(store.list(&ada, "api", &query).await.unwrap().tokens.len(), 1);
    assert_eq!(store.prune(Timestamp::from_micros(now.as_micros() + 1), 1).await.unwrap(), 1);
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_single_node_for_a_cluster_and_the_other_way_round_are_told_apart() {
    let (redis, cluster) = (Redis::shared().unwrap(), RedisCluster::shared().unwrap());
    let error = refused(&redis.url().replace("redis://", "redis-cluster://"), Options::new()).await;
    assert!(matches!(error, OpenError::NotCluster { .. }), "{error:?}");
    let error = refused(&cluster.urls()[0], Options::new()).await;
    assert!(matches!(error, OpenError::IsCluster { .. }), "{error:?}");
    says(&error, &["redis-cluster://"]);
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_replica_is_refused() {
    let primary = persistent().start().unwrap();
    let port = primary.address().port().to_string();
    let replica = persistent().set("replicaof", &format!("127.0.0.1 {port}")).start().unwrap();
    let error = refused(&replica.url(), Options::new()).await;
    assert!(matches!(error, OpenError::Replica { .. }), "{error:?}");
    says(&error, &["primary"]);
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn where_nobody_answers_is_told_within_two_seconds() {
    let mut redis = persistent().start().unwrap();
    let url = redis.url();
    redis.freeze().unwrap();
    for url in [&url, "redis://127.0.0.1:1", "redis-cluster://127.0.0.1:1,127.0.0.1:2"] {
        let began = Instant::now();
        let error = refused(url, Options::new()).await;
        assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{url}: {:?}", began.elapsed());
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn one_node_of_the_address_is_enough_for_a_cluster() {
    let url = RedisCluster::shared().unwrap().urls()[2].replace("redis://", "redis-cluster://127.0.0.1:1,");
    let options = Options::new().prefix(Redis::prefix("one"));
    let store = RedisStore::connect(&url, options).await.unwrap();
    assert_eq!(store.nodes().await.unwrap().len(), 3);
    every_method_works(&store).await;
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn tokens_under_epochs_of_one_place_are_not_judged_by_those_of_another() {
    let url = Redis::shared().unwrap().url();
    let options = Options::new().prefix(Redis::prefix("other_use"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beside.db");
    let database = Arc::new(SqliteStore::open(path, hallpass_sqlite::Options::new()).unwrap());
    RedisStore::connect(&url, options.clone()).await.unwrap();
    RedisStore::connect(&url, options.clone()).await.expect("the same use again");
    let error = RedisStore::beside(&url, options.clone(), database).await.unwrap_err();
    assert!(matches!(error, OpenError::OtherUse { .. }), "{error:?}");
    says(&error, &["choose another prefix"]);
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_later_form_is_refused() {
    let redis = persistent().start().unwrap();
    redis.command(&["SET", "hallpass:about", "hallpass 2: tokens and epochs"]).unwrap();
    let error = refused(&redis.url(), Options::new()).await;
    assert!(matches!(error, OpenError::OtherUse { .. }), "{error:?}");
    says(&error, &["hallpass 2"]);
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_full_redis_is_not_ready_and_keeps_no_half_of_a_token() {
    let redis = persistent().set("maxmemory", "3mb").start().unwrap();
    let store = RedisStore::connect(&redis.url(), Options::new()).await.unwrap();
    let ada = UserId::new("ada").unwrap();
    let now = Timestamp::from_micros(1_767_225_600_123_457);
    let mut kept = Vec::new();
    let refused = loop {
        assert!(kept.len() < 10_000, "it is never full");
        let hash = PlainToken::generate(&Purpose::api()).unwrap().hash();
        let mut record =
            TokenRecord::new(TokenId::random().unwrap(), ada.clone(), Epoch::default(), "api", now);
        record.meta.insert("pad".to_owned(), "x".repeat(64 * 1024).into());
        match store.insert(&hash, &record, None).await {
            Ok(()) => kept.push((hash, record)),
            Err(InsertError::Unavailable(_)) => break hash,
            Err(error) => panic!("{error}"),
        }
    };
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    assert!(store.ready().await.is_err());
    assert_eq!(store.find(&refused).await.unwrap(), None);
    let query = hallpass::store::ListQuery { after: None, limit: 1000, living_at: None };
    assert_eq!(store.list(&ada, "api", &query).await.unwrap().tokens.len(), kept.len());
    // Verification goes on.
    for (hash, record) in &kept {
        assert_eq!(store.find(hash).await.unwrap().unwrap().record, *record);
    }
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    store.ready().await.unwrap();
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn tls_is_spoken_and_the_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // One that signs itself, for 127.0.0.1.
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=hallpass test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args([
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &path("key"),
            "-out",
            &path("cert"),
        ])
        .output()
        .expect("openssl makes the certificate");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (key, cert) =
        (std::fs::read_to_string(path("key")).unwrap(), std::fs::read_to_string(path("cert")).unwrap());
    let redis = persistent()
        .file("key.pem", &key)
        .file("cert.pem", &cert)
        .set("tls-key-file", "key.pem")
        .set("tls-cert-file", "cert.pem")
        .set("tls-auth-clients", "no")
        .start()
        .unwrap();
    // The testbed speaks no TLS: it listens for both.
    let port = Port::claim().unwrap().number();
    redis.command(&["CONFIG", "SET", "tls-port", &port.to_string()]).unwrap();
    let url = format!("rediss://127.0.0.1:{port}");
    let trusting = Options::new().root_certificates(cert);

    let error = refused(&url, trusting.clone()).await;
    assert!(matches!(error, OpenError::NoTlsProvider), "{error:?}");
    rustls::crypto::ring::default_provider().install_default().unwrap();

    let store = RedisStore::connect(&url, trusting.clone()).await.unwrap();
    every_method_works(&store).await;
    refused(&url, Options::new()).await;
    let wrong_name = url.replace("127.0.0.1", "localhost");
    refused(&wrong_name, trusting.clone()).await;
    refused(&redis.url().replace("redis://", "rediss://"), trusting).await;
}
