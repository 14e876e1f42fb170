//! The example as a newcomer meets it: started, and asked over the network with what it prints.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

/// Ends the server also when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_starts_and_the_line_it_prints_logs_in() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_axum-minimal"));
    let mut server = Running(command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap());
    // Held to the end: it goes on printing.
    let mut output = BufReader::new(server.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();

    let body = line.split('\'').nth(1).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.strip_suffix("/login").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        connection,
        "POST /login HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains("cache-control: no-store") && answer.contains("{\"type\":\"bearer\",\"token\":\"hp_")
    );
}
