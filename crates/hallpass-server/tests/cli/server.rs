//! `hallpass serve` as a child of the test, on a free port, ended with it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::folder::Folder;

pub(crate) struct Server {
    child: Child,
    pub(crate) ready_line: String,
    pub(crate) address: String,
}

impl Folder {
    /// Starts a server and waits for its ready line. Its stderr goes to `serve.log` in the folder.
    pub(crate) fn serve(&self, args: &[&str], variables: &[(&str, &str)]) -> Server {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        self.serve_by(self.command(&args).envs(variables.iter().copied()))
    }

    /// The same by a command of the test's own.
    pub(crate) fn serve_by(&self, command: &mut Command) -> Server {
        let log = File::create(self.path().join("serve.log")).unwrap();
        let mut child = command.current_dir(self.path()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut ready_line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready_line).unwrap();
        let address =
            ready_line.trim_end().trim_end_matches("\"}").split("http://").nth(1).unwrap_or_default();
        let address = address.to_owned();
        assert!(!address.is_empty(), "{ready_line:?} {}", self.log());
        Server { child, ready_line, address }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("serve.log")).unwrap_or_default()
    }
}

impl Server {
    /// Sends a signal and waits for the end.
    pub(crate) fn stop(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// A request with this token; the status and the body.
    pub(crate) fn request(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let authorization =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: hallpass\r\nConnection: close\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Whether the server takes this token.
    pub(crate) fn takes(&self, token: &str) -> bool {
        match self.request("GET", "/v1/me", Some(token), "").0 {
            200 => true,
            401 => false,
            status => panic!("an answer of {status}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
