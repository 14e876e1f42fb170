//! URLs as they may be shown.

/// What stands for a password.
const STARS: &str = "***";

/// A URL without what may be a secret in it: the password, and everything behind the question mark, where another may be. What is
/// odd is hidden rather than shown.
pub(crate) fn starred(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // `sqlite:PATH` names a file; anything else is nothing that can be told.
        return if url.starts_with("sqlite:") { url.to_owned() } else { STARS.to_owned() };
    };
    if scheme == "sqlite" {
        return url.to_owned();
    }
    // The last `@`: a password that was not encoded may have others, and a `/` or `?`.
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let login = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        None => String::new(),
        // Then it was no login, but an `@` further behind.
        Some((user, _)) if user.contains(['/', '?', '#']) => format!("{STARS}@"),
        // Redis takes a word alone for a user, and people take it for the place of the password.
        Some((_, "")) if scheme.starts_with("redis") => format!("{STARS}@"),
        Some((user, "")) => format!("{user}@"),
        Some((user, _)) => format!("{user}:{STARS}@"),
    };
    let place = place.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{login}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("sqlite:hallpass.db", "sqlite:hallpass.db"),
            ("sqlite://a@b.db", "sqlite://a@b.db"),
            ("postgres://ada@db/x", "postgres://ada@db/x"),
            ("postgres://ada:hunter2@db:1/x?sslmode=require", "postgres://ada:***@db:1/x"),
            ("postgres://ada:hunter2/?#@x:hunter2@db/x", "postgres://ada:***@db/x"),
            ("postgres://db/x?user=ada&password=hunter2", "postgres://db/x"),
            ("postgres://db/x?user=ada&password=hunter2@", "postgres://***@"),
            ("postgres://db:1/x?password=hunter2@2", "postgres://db:***@2"),
            ("mysql://ada:hunter2@[::1]:3306/x#hunter2", "mysql://ada:***@[::1]:3306/x"),
            ("redis://:hunter2@h/0", "redis://:***@h/0"),
            ("rediss://hunter2@h", "rediss://***@h"),
            ("redis-cluster://u:hunter2@a:1,b:2", "redis-cluster://u:***@a:1,b:2"),
            ("hunter2", "***"),
            ("", "***"),
        ] {
            assert_eq!(starred(url), shown);
            assert_eq!(starred(shown), shown, "what is shown stays as it is");
        }
    }
}
