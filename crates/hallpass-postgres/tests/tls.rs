//! Whom a connection believes.

#![cfg(test)]

use std::path::PathBuf;

use hallpass::TokenStore;
use hallpass_postgres::{OpenError, Options, PostgresStore};
use hallpass_testbed::Postgres;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A server whose certificate is for `localhost`, and the authority that signed it.
struct Secured {
    server: Postgres,
    folder: TempDir,
}

impl Secured {
    fn start(ssl: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        std::fs::write(folder.path().join("ours.pem"), authority_certificate.pem()).unwrap();
        let stranger = authority.self_signed(&KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("strangers.pem"), stranger.pem()).unwrap();
        std::fs::write(folder.path().join("empty.pem"), "").unwrap();

        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let names = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &issuer).unwrap();
        let mut options = Postgres::options();
        if ssl {
            options = options
                .file("server.crt", &certificate.pem())
                .file("server.key", &key.serialize_pem())
                .set("ssl", "on")
                .set("ssl_cert_file", "server.crt")
                .set("ssl_key_file", "server.key");
        }
        Self { server: options.start().unwrap(), folder }
    }

    /// The server by its number, which its certificate does not have, or by its name.
    fn url(&self, by_name: bool, mode: &str, root: Option<&str>) -> String {
        let url = self.server.database("tls").unwrap();
        let url = if by_name { url.replace("127.0.0.1", "localhost") } else { url };
        let root = root.map(|root| format!("&sslrootcert={}", self.file(root).display()));
        format!("{url}?sslmode={mode}{}", root.unwrap_or_default())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

async fn connect(url: &str) -> Result<PostgresStore, OpenError> {
    PostgresStore::connect(url, Options::new()).await
}

/// Whether its connections are encrypted, as the server sees it.
async fn is_encrypted(store: &PostgresStore, server: &Postgres) -> bool {
    store.ready().await.unwrap();
    let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'hallpass'";
    server.sql(sql).unwrap() == "t"
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn each_sslmode_believes_whom_it_should() {
    let secured = Secured::start(true);
    let (ours, strangers) = (Some("ours.pem"), Some("strangers.pem"));
    for (by_name, mode, root) in [
        (false, "prefer", None),
        (false, "require", None),
        // Of no meaning without a verification, as in libpq.
        (false, "prefer", strangers),
        (false, "require", ours),
        (false, "verify-ca", ours),
        (true, "verify-ca", ours),
        (true, "verify-full", ours),
    ] {
        let store = connect(&secured.url(by_name, mode, root)).await.unwrap();
        assert!(is_encrypted(&store, &secured.server).await, "{mode}");
    }
    for (by_name, mode, root) in [
        (false, "require", strangers),
        (true, "verify-ca", strangers),
        (true, "verify-ca", None),
        (true, "verify-full", strangers),
        (true, "verify-full", None),
        (false, "verify-full", ours),
        (true, "verify-full", Some("empty.pem")),
        (true, "verify-full", Some("missing.pem")),
    ] {
        let error = connect(&secured.url(by_name, mode, root)).await.map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Tls { .. }), "{mode} {root:?}: {error}");
        assert!(error.to_string().contains("sslrootcert"), "{error}");
    }
    let plain = connect(&secured.url(true, "disable", None)).await.unwrap();
    assert!(!is_encrypted(&plain, &secured.server).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn a_server_without_tls_is_spoken_to_only_where_the_mode_allows() {
    let bare = Secured::start(false);
    connect(&bare.url(false, "prefer", None)).await.unwrap();
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = connect(&bare.url(true, mode, Some("ours.pem"))).await.map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Tls { .. }), "{mode}: {error}");
    }
}
