//! What is changed in one slot, in one step.
//!
//! A script runs whole or not at all: Redis runs one at a time, writes what it changed to its log as one entry, and ours are
//! refused before their first command where they could not write. All keys of a script are named to it and lie in one slot.
//!
//! A script may be run twice by one call, when its first answer was lost and the driver asks again. So that the second run does
//! nothing and answers the same, the caller's [mark](mark) is kept with what was changed.

use std::sync::LazyLock;

use hallpass::{TokenId, Unavailable};
use redis::{ErrorKind, FromRedisValue, ServerErrorKind, cmd};

use crate::{
    error::unavailable,
    link::{Deadline, Link, read},
};

/// A script that all of ours begin with.
macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("scripts/token.lua"), include_str!($file))));
    };
}

script!(INSERT, "scripts/insert.lua");
script!(END, "scripts/end.lua");
script!(TOUCH, "scripts/touch.lua");
script!(UPDATE, "scripts/update.lua");
script!(RAISE, "scripts/raise.lua");
script!(NOTE, "scripts/note.lua");
script!(BURY, "scripts/bury.lua");
script!(SWEPT, "scripts/swept.lua");

/// Does nothing, where a script could write.
pub(crate) const PROBE: &str = "#!lua\nreturn 1";

pub(crate) struct Script {
    code: &'static str,
    /// The name that Redis gives to this text.
    sha: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, sha: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Runs it by its name, or by its text where the node does not know it (yet, or since it was restarted).
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        link: &Link,
        keys: &[String],
        args: &[&str],
        by: Deadline,
    ) -> Result<T, Unavailable> {
        let command = |verb: &str, script: &str| {
            let mut command = cmd(verb);
            command.arg(script).arg(keys.len()).arg(keys).arg(args);
            command
        };
        match link.try_ask(&command("EVALSHA", &self.sha), by).await? {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.ask(&command("EVAL", self.code), by).await
            }
            answer => read(answer.map_err(unavailable)?),
        }
    }
}

/// What tells one call from another, so that a script knows its own work again.
pub(crate) fn mark() -> Result<String, Unavailable> {
    TokenId::random().map(|id| id.to_string())
}
