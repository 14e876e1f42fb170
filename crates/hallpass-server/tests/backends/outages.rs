//! The database is killed, frozen, or cut off: the service says so, quickly, and says nothing else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hallpass_testbed::{Fault, Proxy};

use crate::{
    backend::{Backend, Disk, Kind},
    load::{Answer, Asked, Load, Tokens},
    proof::{self, Line, resident_bytes},
};

/// How long an outage lasts, and how much is asked meanwhile; in `scripts/proof` the second.
const LENGTHS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];
const RATES: [u32; 2] = [60, 200];
/// How long it goes well before each outage and after.
const CALM: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

/// Answers within this; within the second where the database is frozen: its kernel still takes what it is sent.
const SLOWEST: Duration = Duration::from_secs(1);
const SLOWEST_FROZEN: Duration = Duration::from_millis(1500);
/// The first success comes within this after the return.
const RECOVERY: Duration = Duration::from_secs(2);
/// To tell a slow recovery from none.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(15);

/// One at a time: each measures.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Killed,
    Frozen,
    Cut,
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn while_postgres_is_killed_frozen_or_cut_off_answers_are_503_in_time() {
    outages(Kind::Postgres);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn while_mariadb_is_killed_frozen_or_cut_off_answers_are_503_in_time() {
    outages(Kind::MariaDb);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn while_redis_is_killed_frozen_or_cut_off_answers_are_503_in_time() {
    outages(Kind::Redis);
}

fn outages(kind: Kind) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut backend = Backend::new(kind, Disk::Weak);
    let proxy = Proxy::start(backend.address()).unwrap();
    let folder = backend.folder_through(&proxy);
    folder.add_user("ada@example.com");
    let maker = folder.token(&[]);
    let good: Vec<_> = (0..10).map(|_| folder.token(&[])).collect();
    let dead: Vec<_> = (0..5).map(|_| folder.token(&[])).collect();
    let server = folder.serve(&[], &[]);
    for token in &dead {
        assert_eq!(server.request("POST", "/v1/logout", Some(token), "").0, 200);
    }
    let tokens = Arc::new(Tokens { good, dead, maker });
    let long = usize::from(proof::is_on());

    for outage in [Outage::Killed, Outage::Frozen, Outage::Cut] {
        let load = Load::start(&server.address, Arc::clone(&tokens), RATES[long]);
        thread::sleep(CALM[long]);
        let asked = Instant::now();
        match outage {
            Outage::Killed => backend.server().kill9().unwrap(),
            Outage::Frozen => backend.server().freeze().unwrap(),
            Outage::Cut => proxy.set(Fault::Drop).unwrap(),
        }
        let begun = Instant::now();
        thread::sleep(LENGTHS[long]);
        let ending = Instant::now();
        match outage {
            Outage::Killed => backend.server().restart().unwrap(),
            Outage::Frozen => backend.server().thaw().unwrap(),
            Outage::Cut => proxy.set(Fault::Pass).unwrap(),
        }
        let ended = Instant::now();
        let success = load.wait_for(RECOVERY_PATIENCE, |answer| {
            answer.asked == Asked::Good && answer.status == 200 && answer.begun >= ending
        });
        thread::sleep(CALM[long]);
        let answers = load.stop();
        let recovered = success.map(|at| at.saturating_duration_since(ended));

        let made: Vec<_> = answers.iter().filter_map(|answer| answer.made.as_deref()).collect();
        let line = Line {
            backend: kind,
            fault: format!("{outage:?} for {} s, {} requests/s", LENGTHS[long].as_secs(), RATES[long]),
            acknowledged: made.len(),
            lost: made.iter().filter(|token| !server.takes(token)).count()
                + tokens.good.iter().filter(|token| !server.takes(token)).count(),
            revived: tokens.dead.iter().filter(|token| server.takes(token)).count(),
            wrong: answers.iter().filter(|answer| !answer.is_right()).count(),
            slowest: slowest(&answers, asked, ended, |asked| asked != Asked::Alive),
            recovered: recovered.unwrap_or(Duration::MAX),
            resident_bytes: resident_bytes(&server),
        };
        line.tell();
        judge(&line, outage, &answers, [asked, begun, ending, ended]);
    }
}

/// The slowest answer to what was asked for between the two.
fn slowest(
    answers: &[Answer],
    from: Instant,
    to: Instant,
    is_one: impl Fn(Asked) -> bool,
) -> Option<Duration> {
    let touched =
        answers.iter().filter(|answer| answer.begun >= from && answer.begun <= to && is_one(answer.asked));
    touched.map(|answer| answer.took).max()
}

fn judge(line: &Line, outage: Outage, answers: &[Answer], [asked, begun, ending, ended]: [Instant; 4]) {
    let wrong: Vec<_> = answers.iter().filter(|answer| !answer.is_right()).take(5).collect();
    assert!(wrong.is_empty(), "wrong answers: {wrong:?}; {line}");
    assert_eq!((line.lost, line.revived), (0, 0), "tokens lost, tokens revived: {line}");

    let before = answers.iter().filter(|answer| answer.ended() < asked && answer.asked == Asked::Good);
    assert!(before.clone().any(|answer| answer.status == 200), "it never went well: {line}");
    let during: Vec<_> = answers.iter().filter(|answer| answer.is_within(begun, ending)).collect();
    for kind in [Asked::Good, Asked::Dead, Asked::Make, Asked::Ready] {
        let of_it: Vec<_> = during.iter().filter(|answer| answer.asked == kind).collect();
        assert!(!of_it.is_empty(), "{kind:?} was never asked: {line}");
        let other = of_it.iter().find(|answer| answer.status != 503);
        assert!(other.is_none(), "not an outage: {other:?}; {line}");
    }
    assert!(during.iter().any(|answer| answer.asked == Asked::Alive), "{line}");

    // What a request takes that asks no store is this machine's other work, and the client's.
    let own = slowest(answers, asked, ended, |asked| asked == Asked::Alive).unwrap_or_default();
    let limit = if outage == Outage::Frozen { SLOWEST_FROZEN } else { SLOWEST };
    assert!(line.slowest.unwrap_or_default() <= limit + own, "too slow (the machine itself {own:?}): {line}");
    assert!(line.recovered <= RECOVERY + own, "recovered too late (the machine itself {own:?}): {line}");
}
