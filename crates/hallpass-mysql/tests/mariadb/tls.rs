//! Whom a connection believes.

use hallpass_mysql::{MysqlStore, OpenError, Options};
use hallpass_testbed::MariaDb;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A server whose certificate is for `localhost`, and the authority that signed it.
struct Secured {
    server: MariaDb,
    folder: TempDir,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let ours = authority.self_signed(&authority_key).unwrap();
        std::fs::write(folder.path().join("ours.pem"), ours.pem()).unwrap();
        let stranger = authority.self_signed(&KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("strangers.pem"), stranger.pem()).unwrap();
        std::fs::write(folder.path().join("empty.pem"), "").unwrap();

        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
        let server = MariaDb::options()
            .file("server.crt", &certificate.pem())
            .file("server.key", &key.serialize_pem())
            .set("ssl_cert", "server.crt")
            .set("ssl_key", "server.key")
            .start()
            .unwrap();
        // In plain text it does not log in.
        server.sql("ALTER USER hallpass@'127.0.0.1' REQUIRE SSL").unwrap();
        Self { server, folder }
    }

    /// The server by its number, which its certificate does not have, or by its name.
    fn url(&self, by_name: bool, mode: &str, authority: Option<&str>) -> String {
        let url = self.server.database("tls").unwrap();
        let url = if by_name { url.replace("127.0.0.1", "localhost") } else { url };
        let folder = self.folder.path().display();
        let authority = authority.map(|file| format!("&ssl-ca={folder}/{file}"));
        format!("{url}?ssl-mode={mode}{}", authority.unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
async fn each_ssl_mode_believes_whom_it_should() {
    let secured = Secured::start();
    let (ours, strangers) = (Some("ours.pem"), Some("strangers.pem"));
    let named = "verify-identity&ssl-name=localhost";
    for (by_name, mode, authority) in [
        (false, "required", None),
        (false, "required", strangers),
        (true, "verify-identity", ours),
        (false, named, ours),
    ] {
        let connected = MysqlStore::connect(&secured.url(by_name, mode, authority), Options::new()).await;
        let store = connected.unwrap_or_else(|error| panic!("{by_name} {mode} {authority:?}: {error:?}"));
        hallpass::TokenStore::ready(&store).await.unwrap();
    }
    for (by_name, mode, authority) in [
        (false, "verify-identity", ours),
        (true, "verify-identity", strangers),
        (true, "verify-identity", None),
        (true, "verify-identity", Some("empty.pem")),
        (false, named, strangers),
        (true, "verify-identity&ssl-name=example.com", ours),
    ] {
        let refused = MysqlStore::connect(&secured.url(by_name, mode, authority), Options::new()).await;
        let error = refused.map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Tls { .. }), "{by_name} {mode} {authority:?}: {error:?}");
        assert!(error.to_string().contains("ssl-ca"), "{error}");
    }
    let plain = MysqlStore::connect(&secured.url(true, "disabled", None), Options::new()).await;
    assert!(matches!(plain, Err(OpenError::Login { .. })), "{plain:?}");
}
