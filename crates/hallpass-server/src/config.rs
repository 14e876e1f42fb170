//! The settings: a flag wins over the environment, the environment over the file, the file over the default.
//!
//! This file imports nothing of ours. What a text such as `7 days` means is found out where it is used, and a
//! [`Setting`] says where the text came from, so that a complaint can name the place to mend.

use std::{ffi::OsString, fmt, fs, io, net::SocketAddr, ops::Range, path::Path};

use serde::Deserialize;
use toml::Spanned;

mod starred;

pub(crate) use starred::starred;

/// The file that is read if no other is named, where there is one.
pub(crate) const FILE: &str = "hallpass.toml";

// One line a setting.
const LISTEN: Name = Name::new("listen", "--listen", "HALLPASS_LISTEN", "127.0.0.1:7700");
const DATABASE: Name = Name::new("database", "--database", "HALLPASS_DATABASE_URL", "sqlite:hallpass.db");
const TOKEN_STORE: Name = Name::new("token_store", "--token-store", "HALLPASS_TOKEN_STORE_URL", "");
const ALLOW_VOLATILE: Name =
    Name::new("allow_volatile", "--allow-volatile", "HALLPASS_ALLOW_VOLATILE", "false");
const TOKEN_PREFIX: Name = Name::new("token_prefix", "--token-prefix", "HALLPASS_TOKEN_PREFIX", "hp");
const TOKEN_LIFE: Name = Name::new("token_life", "--token-life", "HALLPASS_TOKEN_LIFE", "365 days");
const TOKEN_LIFE_MAX: Name =
    Name::new("token_life_max", "--token-life-max", "HALLPASS_TOKEN_LIFE_MAX", "never");
const TOKEN_CAP: Name = Name::new("token_cap", "--token-cap", "HALLPASS_TOKEN_CAP", "none");
const LOG_FORMAT: Name = Name::new("log_format", "--log-format", "HALLPASS_LOG_FORMAT", "text");
/// Without a default of its own: a server logs more than another verb.
const LOG: Name = Name::new("log", "--log", "HALLPASS_LOG", "");
const ALL: [&Name; 10] = [
    &LISTEN,
    &DATABASE,
    &TOKEN_STORE,
    &ALLOW_VOLATILE,
    &TOKEN_PREFIX,
    &TOKEN_LIFE,
    &TOKEN_LIFE_MAX,
    &TOKEN_CAP,
    &LOG,
    &LOG_FORMAT,
];

/// Which file to read: the one setting that is not in the file.
const CONFIG_VARIABLE: &str = "HALLPASS_CONFIG";

/// How a setting is said: in the file, as a flag, in the environment, and not at all.
struct Name {
    key: &'static str,
    flag: &'static str,
    variable: &'static str,
    default: &'static str,
}

impl Name {
    const fn new(
        key: &'static str,
        flag: &'static str,
        variable: &'static str,
        default: &'static str,
    ) -> Self {
        Self { key, flag, variable, default }
    }

    fn help(&self, text: &str) -> String {
        format!("{text}\n[env: {}] [default: {}]", self.variable, self.default)
    }
}

// The help of these is no doc comment: where they are flattened, it would replace the verb's own. The common ones come last.

#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub(crate) struct CommonFlags {
    #[arg(long, global = true, value_name = "URL", display_order = 100,
        help = DATABASE.help("Where accounts and tokens are: sqlite:FILE, postgres://…, mysql://…"))]
    database: Option<String>,

    #[arg(
        long,
        global = true,
        value_name = "URL",
        display_order = 100,
        help = "Where tokens are instead: redis://…, rediss://…, redis-cluster://…\n\
                [env: HALLPASS_TOKEN_STORE_URL] [default: the database]"
    )]
    token_store: Option<String>,

    #[arg(long, global = true, value_name = "true|false", display_order = 100,
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        help = ALLOW_VOLATILE.help("Accepts a store that may lose what it acknowledged"))]
    allow_volatile: Option<String>,

    #[arg(
        long,
        global = true,
        value_name = "FILE",
        display_order = 101,
        help = "A file with settings\n[env: HALLPASS_CONFIG] [default: hallpass.toml, if it exists]"
    )]
    config: Option<String>,

    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        display_order = 102,
        help = "What to log on stderr: off, error, warn, info, debug, trace\n\
                [env: HALLPASS_LOG, RUST_LOG] [default: info in serve, else warn]"
    )]
    log: Option<String>,

    #[arg(long, global = true, value_name = "FORMAT", display_order = 103,
        help = LOG_FORMAT.help("How to log: text, json"))]
    log_format: Option<String>,
}

impl CommonFlags {
    /// The values of flags that may hold a password, each with the variable that may hold it instead.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [(DATABASE.variable, &self.database), (TOKEN_STORE.variable, &self.token_store)];
        all.into_iter().filter_map(|(variable, value)| Some((variable, value.as_deref()?)))
    }
}

#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct PrefixFlag {
    #[arg(long, value_name = "PREFIX", help = TOKEN_PREFIX.help("What a token's text begins with"))]
    token_prefix: Option<String>,
}

#[expect(clippy::struct_field_names, reason = "the names of the flags")]
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct LifeFlags {
    #[arg(long, value_name = "DURATION", help = TOKEN_LIFE.help("A token's life if none is asked for"))]
    token_life: Option<String>,

    #[arg(long, value_name = "DURATION", help = TOKEN_LIFE_MAX.help("The longest life that can be asked for"))]
    token_life_max: Option<String>,

    #[arg(long, value_name = "NUMBER", help = TOKEN_CAP.help("How many living tokens an account may have"))]
    token_cap: Option<String>,
}

#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ListenFlag {
    #[arg(long, value_name = "ADDRESS",
        help = LISTEN.help("Address and port to listen on; port 0 takes a free one"))]
    listen: Option<String>,
}

/// What was said on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) common: CommonFlags,
    pub(crate) prefix: PrefixFlag,
    pub(crate) life: LifeFlags,
    pub(crate) listen: ListenFlag,
}

/// All settings, wherever they came from.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: Setting<SocketAddr>,
    pub(crate) database: Setting<String>,
    /// `None`: the database.
    pub(crate) token_store: Setting<Option<String>>,
    pub(crate) allow_volatile: Setting<bool>,
    pub(crate) token_prefix: Setting<String>,
    pub(crate) token_life: Setting<String>,
    pub(crate) token_life_max: Setting<String>,
    pub(crate) token_cap: Setting<Option<u32>>,
    pub(crate) log: Setting<Option<String>>,
    pub(crate) log_format: Setting<LogFormat>,
    /// The file that was read, if one was.
    pub(crate) file: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// Where a value came from; its text completes "… in ORIGIN".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Environment(String),
    File { path: String, line: usize, key: &'static str },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(variable) => f.write_str(variable),
            Self::File { path, line, key } => write!(f, "{path}, line {line}, {key}"),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A setting that cannot be used, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadSetting {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl<T> Setting<T> {
    fn map<V>(self, read: impl FnOnce(T) -> Result<V, &'static str>) -> Result<Setting<V>, BadSetting>
    where
        T: Clone + fmt::Debug,
    {
        let Self { value, origin } = self;
        match read(value.clone()) {
            Ok(value) => Ok(Setting { value, origin }),
            Err(help) => Err(BadSetting { message: format!("{origin} is {value:?}"), help: help.to_owned() }),
        }
    }

    /// A complaint about this setting. The value is not repeated: it may hold a password.
    pub(crate) fn bad(&self, message: impl fmt::Display, help: impl Into<String>) -> BadSetting {
        BadSetting { message: format!("{}: {message}", self.origin), help: help.into() }
    }
}

impl Settings {
    /// Reads the settings; `environment` gives a variable's value.
    pub(crate) fn read(
        flags: &Flags,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, BadSetting> {
        let environment = Environment(environment);
        let file = find_file(flags.common.config.as_deref(), &environment)?;
        let sources = Sources { environment, file: &file };
        let Flags { common, prefix, life, listen } = flags;
        let keys = &file.keys;

        let listen = sources.text(&LISTEN, listen.listen.as_deref(), keys.listen.as_ref())?;
        let database = sources.secret(&DATABASE, common.database.as_deref(), keys.database.as_ref())?;
        let token_store =
            sources.secret(&TOKEN_STORE, common.token_store.as_deref(), keys.token_store.as_ref())?;
        let volatile =
            keys.allow_volatile.as_ref().map(|value| Spanned::new(value.span(), value.get_ref().to_string()));
        let allow_volatile =
            sources.text(&ALLOW_VOLATILE, common.allow_volatile.as_deref(), volatile.as_ref())?;
        let token_prefix =
            sources.text(&TOKEN_PREFIX, prefix.token_prefix.as_deref(), keys.token_prefix.as_ref())?;
        let token_life = sources.text(&TOKEN_LIFE, life.token_life.as_deref(), keys.token_life.as_ref())?;
        let token_life_max =
            sources.text(&TOKEN_LIFE_MAX, life.token_life_max.as_deref(), keys.token_life_max.as_ref())?;
        let cap = keys.token_cap.as_ref().map(|cap| Spanned::new(cap.span(), cap.get_ref().to_string()));
        let token_cap = sources.text(&TOKEN_CAP, life.token_cap.as_deref(), cap.as_ref())?;
        let log = sources.text(&LOG, common.log.as_deref(), keys.log.as_ref())?;
        let log = if log.value.is_empty() { sources.rust_log(log)? } else { log };
        let log_format = sources.text(&LOG_FORMAT, common.log_format.as_deref(), keys.log_format.as_ref())?;

        Ok(Self {
            listen: listen.map(|text| {
                text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:7700 or [::1]:7700")
            })?,
            database,
            token_store: Setting {
                value: Some(token_store.value).filter(|url| !url.is_empty()),
                origin: token_store.origin,
            },
            allow_volatile: allow_volatile.map(|text| text.parse().map_err(|_| "write true or false"))?,
            token_prefix,
            token_life,
            token_life_max,
            token_cap: token_cap.map(|text| match text.parse() {
                _ if text == "none" => Ok(None),
                Ok(cap @ 1..) => Ok(Some(cap)),
                _ => Err("write a number of tokens, 1 or more, or none"),
            })?,
            log: Setting { value: Some(log.value).filter(|text| !text.is_empty()), origin: log.origin },
            log_format: log_format.map(|text| match text.as_str() {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("write text or json"),
            })?,
            file: file.path,
        })
    }
}

struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    /// An empty variable is none: that is how a compose file leaves one out.
    fn get(&self, variable: &str) -> Result<Option<String>, BadSetting> {
        let Some(value) = (self.0)(variable).filter(|value| !value.is_empty()) else { return Ok(None) };
        value.into_string().map(Some).map_err(|_| BadSetting {
            message: format!("{variable} is not UTF-8 text"),
            help: "set it again, in plain text".to_owned(),
        })
    }
}

struct Sources<'a> {
    environment: Environment<'a>,
    file: &'a File,
}

impl Sources<'_> {
    fn text(
        &self,
        name: &Name,
        flag: Option<&str>,
        in_file: Option<&Spanned<String>>,
    ) -> Result<Setting<String>, BadSetting> {
        if let Some(value) = flag {
            return Ok(Setting { value: value.to_owned(), origin: Origin::Flag(name.flag) });
        }
        if let Some(value) = self.environment.get(name.variable)? {
            return Ok(Setting { value, origin: Origin::Environment(name.variable.to_owned()) });
        }
        if let Some(value) = in_file {
            let path = self.file.path.clone().unwrap_or_default();
            let line = line_at(&self.file.text, value.span());
            let origin = Origin::File { path, line, key: name.key };
            return Ok(Setting { value: value.get_ref().clone(), origin });
        }
        Ok(Setting { value: name.default.to_owned(), origin: Origin::Default })
    }

    /// The same, but the variable `…_FILE` may name a file that holds the value, and a flag in stars stands for the value of the
    /// variable: `main` starts the program anew like that, so that no list of processes shows a password.
    fn secret(
        &self,
        name: &Name,
        flag: Option<&str>,
        in_file: Option<&Spanned<String>>,
    ) -> Result<Setting<String>, BadSetting> {
        if let (Some(flag), Some(value)) = (flag, self.environment.get(name.variable)?)
            && flag != value
            && flag == starred(&value)
        {
            return Ok(Setting { value, origin: Origin::Flag(name.flag) });
        }
        let variable = format!("{}_FILE", name.variable);
        let Some(path) = self.environment.get(&variable)? else {
            return self.text(name, flag, in_file);
        };
        if self.environment.get(name.variable)?.is_some() {
            let message = format!("{} and {variable} are both set", name.variable);
            return Err(BadSetting { message, help: "set one of the two".to_owned() });
        }
        if flag.is_some() {
            return self.text(name, flag, in_file);
        }
        let text = fs::read_to_string(&path).map_err(|error| BadSetting {
            message: format!("{variable} names {path}, which cannot be read: {error}"),
            help: "name a file that holds the value and nothing else".to_owned(),
        })?;
        let value = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text).to_owned();
        Ok(Setting { value, origin: Origin::Environment(variable) })
    }

    /// What Rust programs agree on, where nothing of ours is set.
    fn rust_log(&self, otherwise: Setting<String>) -> Result<Setting<String>, BadSetting> {
        let value = self.environment.get("RUST_LOG")?;
        let origin = Origin::Environment("RUST_LOG".to_owned());
        Ok(value.map_or(otherwise, |value| Setting { value, origin }))
    }
}

#[derive(Debug, Default)]
struct File {
    path: Option<String>,
    text: String,
    keys: Keys,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    listen: Option<Spanned<String>>,
    database: Option<Spanned<String>>,
    token_store: Option<Spanned<String>>,
    allow_volatile: Option<Spanned<Switch>>,
    token_prefix: Option<Spanned<String>>,
    token_life: Option<Spanned<String>>,
    token_life_max: Option<Spanned<String>>,
    token_cap: Option<Spanned<Cap>>,
    log: Option<Spanned<String>>,
    log_format: Option<Spanned<String>>,
}

/// A cap is a number to most, and a text to those who write `"none"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Cap {
    Number(i64),
    Text(String),
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// The same for what is on or off.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Switch {
    Bool(bool),
    Text(String),
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

fn find_file(flag: Option<&str>, environment: &Environment<'_>) -> Result<File, BadSetting> {
    let named = match flag {
        Some(path) => Some((path.to_owned(), "--config")),
        None => environment.get(CONFIG_VARIABLE)?.map(|path| (path, CONFIG_VARIABLE)),
    };
    let (path, by) = named.clone().unwrap_or_else(|| (FILE.to_owned(), "the default"));
    match fs::read_to_string(Path::new(&path)) {
        Ok(text) => read_file(path, text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(File::default()),
        Err(error) => Err(BadSetting {
            message: format!("{path} (named by {by}) cannot be read: {error}"),
            help: "name a settings file that exists and that you may read".to_owned(),
        }),
    }
}

fn read_file(path: String, text: String) -> Result<File, BadSetting> {
    match toml::from_str::<Keys>(&text) {
        Ok(keys) => Ok(File { path: Some(path), text, keys }),
        // The error's own text repeats the line, which may hold a password: take the parts that do not.
        Err(error) => {
            let line = error.span().map_or(1, |span| line_at(&text, span));
            let unknown =
                error.message().strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
            let (message, help) = if let Some((key, _)) = unknown {
                (format!("unknown key `{key}`"), known_keys())
            } else {
                let message = error.message().split(", expected").next().unwrap_or_default();
                (mask_texts(message), "write `key = \"value\"`, one to a line".to_owned())
            };
            Err(BadSetting { message: format!("{path}, line {line}: {message}"), help })
        }
    }
}

fn known_keys() -> String {
    format!("the keys are {}", ALL.map(|name| name.key).join(", "))
}

/// A parser's message without the texts it quotes.
fn mask_texts(message: &str) -> String {
    let parts = message.split('"').enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { part } else { "\"…\"" }).collect()
}

fn line_at(text: &str, span: Range<usize>) -> usize {
    text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, path::PathBuf};

    use super::*;

    /// Every setting: how to say it as a flag and in the file, and how to read it back as text.
    type Case =
        (&'static Name, fn(&mut Flags, String), fn(&Settings) -> (String, &Origin), [&'static str; 4]);

    const CASES: [Case; 10] = [
        (
            &LISTEN,
            |flags, value| flags.listen.listen = Some(value),
            |settings| (settings.listen.value.to_string(), &settings.listen.origin),
            ["127.0.0.1:1", "127.0.0.1:2", "[::1]:3", "127.0.0.1:7700"],
        ),
        (
            &DATABASE,
            |flags, value| flags.common.database = Some(value),
            |settings| (settings.database.value.clone(), &settings.database.origin),
            ["sqlite:1", "sqlite:2", "sqlite:3", "sqlite:hallpass.db"],
        ),
        (
            &TOKEN_STORE,
            |flags, value| flags.common.token_store = Some(value),
            |settings| (settings.token_store.value.clone().unwrap_or_default(), &settings.token_store.origin),
            ["redis://1", "redis://2", "redis://3", ""],
        ),
        (
            &ALLOW_VOLATILE,
            |flags, value| flags.common.allow_volatile = Some(value),
            |settings| (settings.allow_volatile.value.to_string(), &settings.allow_volatile.origin),
            ["true", "false", "true", "false"],
        ),
        (
            &TOKEN_PREFIX,
            |flags, value| flags.prefix.token_prefix = Some(value),
            |settings| (settings.token_prefix.value.clone(), &settings.token_prefix.origin),
            ["a", "b", "c", "hp"],
        ),
        (
            &TOKEN_LIFE,
            |flags, value| flags.life.token_life = Some(value),
            |settings| (settings.token_life.value.clone(), &settings.token_life.origin),
            ["1 day", "2 days", "3 days", "365 days"],
        ),
        (
            &TOKEN_LIFE_MAX,
            |flags, value| flags.life.token_life_max = Some(value),
            |settings| (settings.token_life_max.value.clone(), &settings.token_life_max.origin),
            ["1 day", "2 days", "3 days", "never"],
        ),
        (
            &TOKEN_CAP,
            |flags, value| flags.life.token_cap = Some(value),
            |settings| {
                let cap = settings.token_cap.value.map_or("none".to_owned(), |cap| cap.to_string());
                (cap, &settings.token_cap.origin)
            },
            ["1", "2", "3", "none"],
        ),
        (
            &LOG,
            |flags, value| flags.common.log = Some(value),
            |settings| (settings.log.value.clone().unwrap_or_default(), &settings.log.origin),
            ["error", "warn", "debug", ""],
        ),
        (
            &LOG_FORMAT,
            |flags, value| flags.common.log_format = Some(value),
            |settings| {
                (format!("{:?}", settings.log_format.value).to_lowercase(), &settings.log_format.origin)
            },
            ["json", "text", "json", "text"],
        ),
    ];

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, text: &str) -> PathBuf {
            let path = self.0.path().join("settings.toml");
            fs::write(&path, text).unwrap();
            path
        }
    }

    fn read(flags: &Flags, variables: &[(&str, &str)]) -> Result<Settings, BadSetting> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Settings::read(flags, &|name| variables.get(name).map(OsString::from))
    }

    fn read_text(text: &str) -> Result<Settings, BadSetting> {
        let folder = Folder::new();
        let path = folder.file(text);
        read(&Flags::default(), &[("HALLPASS_CONFIG", path.to_str().unwrap())])
    }

    #[test]
    fn flag_wins_over_environment_over_file_over_default() {
        let folder = Folder::new();
        for (name, set_flag, value_of, [by_flag, by_environment, by_file, by_default]) in CASES {
            let path = folder.file(&format!("# a comment\n{} = \"{by_file}\"\n", name.key));
            let path = path.to_str().unwrap();
            let config = ("HALLPASS_CONFIG", path);
            let variable = (name.variable, by_environment);
            let mut flags = Flags::default();

            let default = read(&flags, &[]).unwrap();
            assert_eq!(value_of(&default), (by_default.to_owned(), &Origin::Default));

            let file = read(&flags, &[config]).unwrap();
            let origin = Origin::File { path: path.to_owned(), line: 2, key: name.key };
            assert_eq!(value_of(&file), (by_file.to_owned(), &origin));

            let environment = read(&flags, &[config, variable]).unwrap();
            let origin = Origin::Environment(name.variable.to_owned());
            assert_eq!(value_of(&environment), (by_environment.to_owned(), &origin));

            set_flag(&mut flags, by_flag.to_owned());
            let flag = read(&flags, &[config, variable]).unwrap();
            assert_eq!(value_of(&flag), (by_flag.to_owned(), &Origin::Flag(name.flag)));
        }
    }

    #[test]
    fn an_empty_variable_is_none() {
        let settings =
            read(&Flags::default(), &[("HALLPASS_LISTEN", ""), ("HALLPASS_TOKEN_CAP", "")]).unwrap();
        assert_eq!(settings.listen.origin, Origin::Default);
        assert_eq!(settings.token_cap.value, None);
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_keys_there_are() {
        let bad =
            read_text("listen = \"127.0.0.1:1\"\n\ndatabse = \"postgres://me:hunter2@db\"\n").unwrap_err();
        assert!(bad.message.ends_with("settings.toml, line 3: unknown key `databse`"), "{bad:?}");
        assert!(bad.help.contains("database, token_store"), "{bad:?}");
        assert!(!format!("{bad:?}").contains("hunter2"));
    }

    #[test]
    fn a_broken_file_names_its_line_and_repeats_no_value() {
        for text in [
            "\nlisten = 7700\n",
            "\ndatabase = \"sqlite:hunter2\n",
            "\nlog = [\"hunter2\"]\n",
            "\nlisten = \"a\"\nlisten = \"hunter2\"\n",
            "\ntoken_cap = { hunter2 = \"hunter2\" }\n",
            "\n[database]\nurl = \"hunter2\"\n",
            "\nhallpass\n",
        ] {
            let bad = read_text(text).unwrap_err();
            assert!(bad.message.contains("settings.toml, line "), "{bad:?}");
            assert!(!bad.message.contains("line 1:"), "{bad:?}");
            assert!(!format!("{bad:?}").contains("hunter2"), "{bad:?}");
        }
    }

    #[test]
    fn values_that_cannot_be_used_say_what_to_write() {
        for (variable, value) in [
            ("HALLPASS_LISTEN", "7700"),
            ("HALLPASS_LISTEN", "localhost:7700"),
            ("HALLPASS_LISTEN", "127.0.0.1:70000"),
            ("HALLPASS_TOKEN_CAP", "0"),
            ("HALLPASS_TOKEN_CAP", "-1"),
            ("HALLPASS_TOKEN_CAP", "many"),
            ("HALLPASS_TOKEN_CAP", "4294967296"),
            ("HALLPASS_LOG_FORMAT", "xml"),
            ("HALLPASS_ALLOW_VOLATILE", "yes"),
        ] {
            let bad = read(&Flags::default(), &[(variable, value)]).unwrap_err();
            assert_eq!(bad.message, format!("{variable} is {value:?}"));
            assert!(bad.help.starts_with("write "), "{bad:?}");
        }
    }

    #[test]
    fn a_cap_in_the_file_is_a_number_or_a_text() {
        assert_eq!(read_text("token_cap = 5").unwrap().token_cap.value, Some(5));
        assert_eq!(read_text("token_cap = \"none\"").unwrap().token_cap.value, None);
        assert!(read_text("token_cap = 0").is_err());
    }

    #[test]
    fn a_switch_in_the_file_is_a_bool_or_a_text() {
        assert!(read_text("allow_volatile = true").unwrap().allow_volatile.value);
        assert!(read_text("allow_volatile = \"true\"").unwrap().allow_volatile.value);
        assert!(read_text("allow_volatile = 1").is_err());
    }

    #[test]
    fn a_flag_in_stars_stands_for_the_variable_with_the_password() {
        let url = "postgres://ada:hunter2@db/x?sslmode=require";
        let mut flags = Flags::default();
        flags.common.database = Some(starred(url));
        let settings = read(&flags, &[("HALLPASS_DATABASE_URL", url)]).unwrap();
        assert_eq!(
            (settings.database.value.as_str(), settings.database.origin),
            (url, Origin::Flag("--database"))
        );
        let other = ("HALLPASS_DATABASE_URL", "postgres://ada:hunter2@other/x");
        assert_eq!(read(&flags, &[other]).unwrap().database.value, starred(url));
    }

    #[test]
    fn a_named_file_must_exist() {
        let bad = read(&Flags::default(), &[("HALLPASS_CONFIG", "/nowhere/hallpass.toml")]).unwrap_err();
        assert!(bad.message.contains("/nowhere/hallpass.toml (named by HALLPASS_CONFIG)"), "{bad:?}");
    }

    #[test]
    fn a_secret_can_be_given_as_a_file() {
        let folder = Folder::new();
        let path = folder.file("sqlite:elsewhere.db\n");
        let variable = ("HALLPASS_DATABASE_URL_FILE", path.to_str().unwrap());

        let settings = read(&Flags::default(), &[variable]).unwrap();
        assert_eq!(settings.database.value, "sqlite:elsewhere.db");

        let both = read(&Flags::default(), &[variable, ("HALLPASS_DATABASE_URL", "sqlite:x")]).unwrap_err();
        assert_eq!(both.help, "set one of the two");

        let missing = read(&Flags::default(), &[("HALLPASS_DATABASE_URL_FILE", "/nowhere")]).unwrap_err();
        assert!(missing.message.contains("/nowhere"), "{missing:?}");

        let mut flags = Flags::default();
        flags.common.database = Some("sqlite:flag".to_owned());
        assert_eq!(read(&flags, &[variable]).unwrap().database.value, "sqlite:flag");
    }

    #[test]
    fn rust_log_counts_where_nothing_of_ours_is_set() {
        let rust_log = ("RUST_LOG", "trace");
        let settings = read(&Flags::default(), &[rust_log]).unwrap();
        assert_eq!(settings.log.value.as_deref(), Some("trace"));
        let settings = read(&Flags::default(), &[rust_log, ("HALLPASS_LOG", "warn")]).unwrap();
        assert_eq!(settings.log.value.as_deref(), Some("warn"));
    }
}
