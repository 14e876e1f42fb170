//! Which databases the URLs in the settings name.

use std::path::PathBuf;

use crate::config::{BadSetting, Setting};

const HELP: &str = "write sqlite:PATH, such as sqlite:hallpass.db, or postgres://USER:PASSWORD@HOST/DATABASE, or \
                    mysql://USER:PASSWORD@HOST/DATABASE";
const SQLITE_HELP: &str =
    "write sqlite:PATH, such as sqlite:hallpass.db or sqlite:/var/lib/hallpass/hallpass.db";
const TOKENS_HELP: &str = "write redis://HOST:PORT, or redis-cluster://HOST:PORT,HOST:PORT; with TLS rediss:// or \
                           rediss-cluster://";

/// The kinds of databases that keep accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
    /// `MariaDB` too.
    Mysql,
}

impl Kind {
    /// From what the URL begins with.
    pub(super) fn of(database: &Setting<String>) -> Result<Self, BadSetting> {
        let Some((scheme, _)) = database.value.split_once(':') else {
            return Err(database.bad("this is no database URL", HELP));
        };
        match scheme {
            "sqlite" => Ok(Self::Sqlite),
            "postgres" | "postgresql" => Ok(Self::Postgres),
            "mysql" | "mariadb" => Ok(Self::Mysql),
            "redis" | "rediss" | "redis-cluster" | "rediss-cluster" => Err(database.bad(
                "Redis keeps tokens, not accounts",
                "give this URL as --token-store, and a database for the accounts as --database",
            )),
            _ if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Err(database.bad(format!("a database of the kind {scheme:?} is not known"), HELP))
            }
            _ => Err(database.bad("this is no database URL", HELP)),
        }
    }
}

/// The file that `sqlite:PATH` names.
pub(super) fn sqlite_path(database: &Setting<String>) -> Result<PathBuf, BadSetting> {
    let rest = database.value.split_once(':').map_or("", |(_, rest)| rest);
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains(['?', '\0']) {
        return Err(database.bad("there is no file named, or something behind its name", SQLITE_HELP));
    }
    if path.contains(":memory:") {
        return Err(database.bad("a database in memory is lost with the process", SQLITE_HELP));
    }
    Ok(PathBuf::from(path))
}

/// The Redis that keeps the tokens, if they are not in the database.
pub(super) fn token_store(setting: &Setting<Option<String>>) -> Result<Option<&str>, BadSetting> {
    let Some(url) = setting.value.as_deref() else { return Ok(None) };
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("redis" | "rediss" | "redis-cluster" | "rediss-cluster") if !hosts(url).is_empty() => {
            Ok(Some(url))
        }
        _ => Err(setting.bad("this is no URL of a token store", TOKENS_HELP)),
    }
}

/// Whether a connection to where this URL leads leaves the machine.
pub(super) fn leaves_this_machine(url: &str) -> bool {
    !hosts(url).split(',').all(|host| {
        let name = match host.strip_prefix('[') {
            Some(address) => address.split(']').next(),
            None => host.split(':').next(),
        };
        let name = name.unwrap_or_default();
        name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    })
}

fn hosts(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    hosts.split(['/', '?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    #[test]
    fn a_database_url_is_never_repeated() {
        for url in ["oracle://ada:hunter2@db/x", "hunter2", "sqlite:?hunter2", "hunter 2://", ""] {
            let setting = Setting { value: url.to_owned(), origin: Origin::Default };
            let bad = Kind::of(&setting).and_then(|_| sqlite_path(&setting)).unwrap_err();
            assert!(!format!("{bad:?}").contains("hunter"), "{bad:?}");
            let url = if url.is_empty() { "redis://ada:hunter2@" } else { url };
            let setting = Setting { value: Some(url.to_owned()), origin: Origin::Default };
            let bad = token_store(&setting).unwrap_err();
            assert!(!format!("{bad:?}").contains("hunter"), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_elsewhere() {
        for url in ["redis://localhost", "redis://:p@127.0.0.1:1/2", "redis-cluster://[::1]:1,127.0.0.2:3"] {
            assert!(!leaves_this_machine(url), "{url}");
        }
        for url in ["redis://h", "redis://127.0.0.1@h", "redis-cluster://127.0.0.1:1,h:2", "redis://"] {
            assert!(leaves_this_machine(url), "{url}");
        }
    }
}
