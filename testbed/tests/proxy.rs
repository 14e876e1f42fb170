//! Each fault, over a plain echo server.
#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use hallpass_testbed::{Fault, Port, Proxy};

/// Long against what a working connection within one machine needs, short against a test's patience.
const NOTHING_COMES: Duration = Duration::from_millis(100);

/// Fails a test that would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends every byte back. Its threads end with their connections, the first one with the test program.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut from = stream?;
                let mut to = from.try_clone()?;
                std::io::copy(&mut from, &mut to)?;
                to.shutdown(std::net::Shutdown::Write)
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect_timeout(&proxy.address(), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn says_back(stream: &mut TcpStream, word: &[u8]) {
    stream.write_all(word).unwrap();
    hears(stream, word);
}

fn hears(stream: &mut TcpStream, word: &[u8]) {
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word);
}

fn hears_nothing(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(NOTHING_COMES)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn is_reset(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// The reset may be quicker than the client's own side of connecting.
fn is_turned_away(proxy: &Proxy) {
    match TcpStream::connect(proxy.address()) {
        Ok(mut stream) => is_reset(&mut stream),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn pass_hands_on_bytes_and_the_end_of_them() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    says_back(&mut stream, b"word");
    let large: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sent = large.clone();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&sent)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    writing.join().unwrap().unwrap();
    assert!(heard == large, "{} bytes of {} came back", heard.len(), large.len());
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn delay_makes_both_directions_late_without_making_them_slow() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    says_back(&mut stream, b"quick");
    let delay = Duration::from_millis(60);
    proxy.set(Fault::Delay(delay)).unwrap();
    let started = Instant::now();
    // Twenty at once are twice the delay late, not forty times.
    for _ in 0..20 {
        stream.write_all(b"word").unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    hears(&mut stream, b"word");
    assert!(started.elapsed() >= 2 * delay, "{:?}", started.elapsed());
    for _ in 1..20 {
        hears(&mut stream, b"word");
    }
    assert!(started.elapsed() < 20 * delay, "{:?}", started.elapsed());
}

#[test]
fn after_a_delay_nothing_stays_late_and_nothing_overtakes() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    says_back(&mut stream, b"quick");
    proxy.set(Fault::Delay(Duration::from_hours(1))).unwrap();
    stream.write_all(b"first").unwrap();
    hears_nothing(&mut stream);
    proxy.set(Fault::Pass).unwrap();
    stream.write_all(b"second").unwrap();
    hears(&mut stream, b"firstsecond");
}

#[test]
fn drop_keeps_connections_open_and_silent_and_delivers_afterwards() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    says_back(&mut stream, b"before");
    proxy.set(Fault::Drop).unwrap();
    stream.write_all(b"meanwhile").unwrap();
    hears_nothing(&mut stream);
    proxy.set(Fault::Pass).unwrap();
    hears(&mut stream, b"meanwhile");
    says_back(&mut stream, b"after");
}

#[test]
fn drop_hides_that_the_server_went_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut stream = connect(&proxy);
    let server = listener.accept().unwrap().0;
    proxy.set(Fault::Drop).unwrap();
    drop(server);
    hears_nothing(&mut stream);
    proxy.set(Fault::Pass).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn drop_makes_connecting_hang_and_lets_in_who_still_waits_afterwards() {
    let proxy = Proxy::start(echo()).unwrap();
    proxy.set(Fault::Drop).unwrap();
    for _ in 0..3 {
        let error = TcpStream::connect_timeout(&proxy.address(), NOTHING_COMES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    let address = proxy.address();
    let waiting = thread::spawn(move || TcpStream::connect_timeout(&address, PATIENCE));
    thread::sleep(NOTHING_COMES);
    proxy.set(Fault::Pass).unwrap();
    // The kernel asks again a second after its first packet was lost.
    let mut stream = waiting.join().unwrap().unwrap();
    says_back(&mut stream, b"at last");
    says_back(&mut connect(&proxy), b"at once");
    assert_eq!(proxy.accepted(), 2, "what filled the queue counts as a connection");
}

#[test]
fn refuse_turns_new_connections_away_and_leaves_open_ones() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    says_back(&mut stream, b"before");
    for _ in 0..10 {
        proxy.set(Fault::Refuse).unwrap();
        let error = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        says_back(&mut stream, b"meanwhile");
        proxy.set(Fault::Pass).unwrap();
        says_back(&mut connect(&proxy), b"again");
    }
}

#[test]
fn reset_ends_open_connections_at_once_and_new_ones_as_they_come() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut client = connect(&proxy);
    let mut server = listener.accept().unwrap().0;
    client.write_all(b"word").unwrap();
    hears(&mut server, b"word");
    proxy.set(Fault::Reset).unwrap();
    is_reset(&mut client);
    is_reset(&mut server);
    is_turned_away(&proxy);
    proxy.set(Fault::Pass).unwrap();
    let mut client = connect(&proxy);
    listener.accept().unwrap().0.write_all(b"well").unwrap();
    hears(&mut client, b"well");
}

#[test]
fn truncate_passes_so_many_bytes_and_closes() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut open = connect(&proxy);
    says_back(&mut open, b"before");
    proxy.set(Fault::Truncate(3)).unwrap();
    for stream in [&mut open, &mut connect(&proxy)] {
        stream.write_all(b"a long word").unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"a l");
    }
    let mut open = connect(&proxy);
    proxy.set(Fault::Truncate(0)).unwrap();
    assert_eq!(open.read(&mut [0]).unwrap(), 0);
    proxy.set(Fault::Pass).unwrap();
    says_back(&mut connect(&proxy), b"a long word");
}

#[test]
fn truncate_lets_the_server_hear_all_that_the_client_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    proxy.set(Fault::Truncate(1)).unwrap();
    let mut client = connect(&proxy);
    let mut server = listener.accept().unwrap().0;
    client.write_all(b"commit").unwrap();
    hears(&mut server, b"commit");
    server.write_all(b"done").unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"d");
}

#[test]
fn an_absent_server_is_a_reset_and_comes_back_by_itself() {
    let port = Port::claim().unwrap();
    let proxy = Proxy::start(port.address()).unwrap();
    is_turned_away(&proxy);
    let listener = TcpListener::bind(port.address()).unwrap();
    let mut client = connect(&proxy);
    listener.accept().unwrap().0.write_all(b"back").unwrap();
    hears(&mut client, b"back");
}

#[test]
fn faults_can_change_in_any_order() {
    let faults = [
        Fault::Pass,
        Fault::Delay(Duration::from_millis(1)),
        Fault::Drop,
        Fault::Refuse,
        Fault::Reset,
        Fault::Truncate(1),
    ];
    let proxy = Proxy::start(echo()).unwrap();
    for first in faults {
        for second in faults {
            for fault in [first, second, first, Fault::Pass] {
                proxy.set(fault).unwrap();
            }
            says_back(&mut connect(&proxy), b"still here");
        }
    }
}

#[test]
fn a_url_leads_through_the_proxy_and_a_dropped_proxy_is_gone() {
    let proxy = Proxy::start("127.0.0.1:5432".parse().unwrap()).unwrap();
    let address = proxy.address();
    assert_eq!(
        proxy.url("postgres://me:pw@127.0.0.1:5432/db?x=127.0.0.1:5432"),
        format!("postgres://me:pw@{address}/db?x=127.0.0.1:5432")
    );
    drop(proxy);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
