//! Which server, from a URL.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    error::{OpenError, cause},
    tls::{self, Trust},
};

/// Connecting to one address takes at most this long, so that a second host gets its chance while somebody waits.
const CONNECT_MOST: Duration = Duration::from_millis(300);

/// What was sent and not acknowledged for so long is dropped, and the connection with it. A statement whose caller was told
/// that the database is out of reach must not arrive minutes later.
const UNHEARD_MOST: Duration = Duration::from_secs(2);

/// An idle connection that a firewall forgot is noticed after this and three more probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// How far TLS goes, as in libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// A server, or several that stand in for each other, and how to speak to it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    /// Whether a pooler gives each transaction another connection.
    pub(crate) pgbouncer: bool,
    /// Whether no byte leaves this machine.
    pub(crate) local: bool,
    /// Hosts and ports, for messages.
    pub(crate) server: String,
    pub(crate) database: String,
    pub(crate) user: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, OpenError> {
        let (ours, mut config) = split(url)?;
        let local = is_local(&config);
        let security = match ours.security {
            Some(security) => security,
            None if local => Security::Prefer,
            None => Security::VerifyFull,
        };
        let (mode, trust) = match (security, ours.root) {
            (Security::Disable, _) => (SslMode::Disable, Trust::Anybody),
            (Security::Prefer, _) => (SslMode::Prefer, Trust::Anybody),
            // As libpq: whoever names an authority wants it asked.
            (Security::Require, None) => (SslMode::Require, Trust::Anybody),
            (Security::Require | Security::VerifyCa, root) => (SslMode::Require, Trust::Authority(root)),
            (Security::VerifyFull, root) => (SslMode::Require, Trust::AuthorityAndName(root)),
        };
        config.ssl_mode(mode);
        let server = server(&config);
        let tls = tls::connector(trust).map_err(|cause| OpenError::Tls { server: server.clone(), cause })?;
        defaults(&mut config);
        let user = config.get_user().unwrap_or("of this process").to_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        Ok(Self { config, tls, pgbouncer: ours.pgbouncer, local, server, database, user })
    }
}

/// The password stays out of it.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("server", &self.server)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("pgbouncer", &self.pgbouncer)
            .finish_non_exhaustive()
    }
}

/// The settings in the URL that the driver does not know.
#[derive(Default)]
struct Ours {
    security: Option<Security>,
    /// `None` for the system's authorities.
    root: Option<PathBuf>,
    pgbouncer: bool,
}

fn split(url: &str) -> Result<(Ours, Config), OpenError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(refused("it begins with postgres:// or postgresql://"));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut ours = Ours::default();
    let mut theirs = Vec::new();
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(|_| refused("a value is not UTF-8"))?;
        match key {
            "sslmode" => ours.security = Some(security(&value)?),
            "sslrootcert" if value == "system" => ours.root = None,
            "sslrootcert" => ours.root = Some(PathBuf::from(&*value)),
            "pgbouncer" => {
                ours.pgbouncer = bool::from_str(&value).map_err(|_| refused("pgbouncer is true or false"))?;
            }
            _ => theirs.push(setting),
        }
    }
    let rest = if theirs.is_empty() { base.to_owned() } else { format!("{base}?{}", theirs.join("&")) };
    let config = Config::from_str(&rest).map_err(|error| refused(cause(&error)))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(refused("it names no host"));
    }
    Ok((ours, config))
}

fn security(word: &str) -> Result<Security, OpenError> {
    match word {
        "disable" => Ok(Security::Disable),
        "prefer" | "allow" => Ok(Security::Prefer),
        "require" => Ok(Security::Require),
        "verify-ca" => Ok(Security::VerifyCa),
        "verify-full" => Ok(Security::VerifyFull),
        _ => Err(refused("sslmode is disable, prefer, require, verify-ca or verify-full")),
    }
}

fn refused(message: impl Into<String>) -> OpenError {
    OpenError::Url { message: message.into() }
}

/// Whether no byte leaves this machine.
fn is_local(config: &Config) -> bool {
    let by_address = config.get_hostaddrs();
    if !by_address.is_empty() {
        return by_address.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

fn server(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let all: Vec<_> = if config.get_hosts().is_empty() { addresses.collect() } else { names.collect() };
    let all = all.iter().enumerate().map(|(place, name)| format!("{name}:{}", port(place)));
    all.collect::<Vec<_>>().join(", ")
}

/// What the URL does not say otherwise.
fn defaults(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_MOST);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNHEARD_MOST);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(KEEPALIVE_AFTER);
        config.keepalives_interval(KEEPALIVE_EVERY);
        config.keepalives_retries(KEEPALIVE_PROBES);
    }
    if config.get_application_name().is_none() {
        config.application_name("hallpass");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Target::parse(url).unwrap().config.get_ssl_mode()
    }

    fn message(url: &str) -> String {
        Target::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn a_server_elsewhere_is_verified_unless_the_url_says_otherwise() {
        for (url, expected) in [
            ("postgres://a@db.example/x", SslMode::Require),
            ("postgres://a@10.0.0.1/x", SslMode::Require),
            ("postgres://a@localhost,db.example/x", SslMode::Require),
            ("postgres://a@localhost/x", SslMode::Prefer),
            ("postgresql://a@127.0.0.1:1/x", SslMode::Prefer),
            ("postgres://a@[::1]/x", SslMode::Prefer),
            ("postgres://a@/x?host=/run/postgresql", SslMode::Prefer),
            ("postgres://a@db.example/x?sslmode=disable", SslMode::Disable),
            ("postgres://a@db.example/x?sslmode=prefer&application_name=y", SslMode::Prefer),
            ("postgres://a@localhost/x?sslmode=verify-full", SslMode::Require),
        ] {
            assert_eq!(mode(url), expected, "{url}");
        }
    }

    #[test]
    fn wrong_urls_say_what_is_wrong_and_not_the_password() {
        for (url, wanted) in [
            ("mysql://a:hunter2@b/c", "postgres://"),
            ("", "postgres://"),
            ("postgres://a:hunter2@b/c?sslmode=always", "sslmode is"),
            ("postgres://a:hunter2@b/c?pgbouncer=maybe", "pgbouncer is true or false"),
            ("postgres://a:hunter2@b:none/c", "port"),
            ("postgres://a:hunter2@b/c?nonsense=1", "nonsense"),
            ("postgres://a:hunter2@b/c?sslrootcert=/nowhere.pem", "/nowhere.pem"),
            ("postgres:///c", "no host"),
        ] {
            let message = message(url);
            assert!(message.contains(wanted), "{url}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn our_own_settings_do_not_reach_the_driver() {
        let target = Target::parse(
            "postgres://ada:hunter2@localhost:1,localhost:2/x?pgbouncer=true&target_session_attrs=read-write",
        )
        .unwrap();
        assert!(target.pgbouncer);
        assert_eq!(target.server, "localhost:1, localhost:2");
        assert_eq!(
            target.config.get_target_session_attrs(),
            tokio_postgres::config::TargetSessionAttrs::ReadWrite
        );
        assert!(!format!("{target:?}").contains("hunter2"));
    }
}
