//! One command in Redis' own protocol, so that the table needs no driver.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What Redis answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// Text; bytes that are none are replaced.
    Text(String),
    /// A number.
    Number(i64),
    /// Several answers.
    List(Vec<Reply>),
    /// There is no such thing.
    Nothing,
    /// An error; `Redis::command` gives a `Failure` instead, this is for those inside a list.
    Error(String),
}

impl Reply {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Error(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(replies) => f.debug_list().entries(replies.iter().map(ToString::to_string)).finish(),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

pub(super) fn command(
    address: SocketAddr,
    password: Option<&str>,
    words: &[&str],
    within: Duration,
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, within)?;
    stream.set_read_timeout(Some(within))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    if let Some(password) = password {
        stream.write_all(&encode(&["AUTH", password]))?;
        if let Reply::Error(error) = read(&mut answers)? {
            return Err(io::Error::other(error));
        }
    }
    stream.write_all(&encode(words))?;
    read(&mut answers)
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

fn read(answers: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let strange = || io::Error::other(format!("not an answer of Redis: {line:?}"));
    let whole = line.strip_suffix("\r\n").ok_or_else(strange)?;
    let (kind, rest) = whole.split_at_checked(1).ok_or_else(strange)?;
    let number = || rest.parse::<i64>().map_err(|_| strange());
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Number(number()?)),
        "$" | "*" => match (kind, u64::try_from(number()?)) {
            (_, Err(_)) => Ok(Reply::Nothing),
            ("*", Ok(count)) => (0..count).map(|_| read(answers)).collect::<Result<_, _>>().map(Reply::List),
            (_, Ok(length)) => {
                let mut bytes = Vec::new();
                answers.take(length + 2).read_to_end(&mut bytes)?;
                let text = bytes.strip_suffix(b"\r\n").ok_or_else(strange)?;
                Ok(Reply::Text(String::from_utf8_lossy(text).into_owned()))
            }
        },
        _ => Err(strange()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_answer_is_read() {
        let text = |text: &str| Reply::Text(text.to_owned());
        for (bytes, expected) in [
            ("+OK\r\n", text("OK")),
            ("-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            (":-7\r\n", Reply::Number(-7)),
            ("$-1\r\n", Reply::Nothing),
            ("$4\r\na\r\nb\r\n", text("a\r\nb")),
            ("*2\r\n$1\r\na\r\n:1\r\n", Reply::List(vec![text("a"), Reply::Number(1)])),
        ] {
            assert_eq!(read(&mut bytes.as_bytes()).unwrap(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn half_an_answer_is_an_error() {
        for bytes in ["", "+OK", "$4\r\nab", "$2\r\nab", "*2\r\n:1\r\n", ":x\r\n", "?\r\n"] {
            assert!(read(&mut bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
