//! A verification that asks the database, against the same SELECT on a bare prepared statement.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hallpass::{Guard, PlainToken, Purpose, account::Accounts};
use hallpass_sqlite::{Options, SqliteStore};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    Plan,
    report::{Goal, Report, Sample, p50},
    tokens,
};

const TASKS: usize = 64;
/// Look-ups a task makes before it lets another one run: the same for both contenders.
const TURN: usize = 16;
/// Tokens that are asked for, spread over all there are.
const KNOWN: u64 = 100_000;

pub(crate) fn measure(plan: &Plan, folder: &Path, report: &mut Report) {
    let sizes: &[u64] = if plan.quick { &[10_000, 100_000] } else { &[10_000, 1_000_000, 10_000_000] };
    let mut small: Option<Contest> = None;
    for &size in sizes {
        eprintln!("cold verify, {size} tokens");
        let contest = contest(plan, &folder.join(format!("cold-{size}.db")), size);
        let ratio = Sample::ratios(&contest.ours, &contest.bare);
        let per_second = |rates: &[f64]| Sample::new(rates.to_vec()).median() / 1000.0;
        let note = format!("{:.0}k/s against {:.0}k/s", per_second(&contest.ours), per_second(&contest.bare));
        let goal = if size == 1_000_000 { Goal::AtLeast(0.7) } else { Goal::Said };
        report.add(format!("cold verify, {size} tokens, 64 tasks / bare SELECT"), ratio, "", goal, note);
        if let Some(small) = &small {
            let growth = (contest.ours_p50 / small.ours_p50) / (contest.bare_p50 / small.bare_p50);
            let note = format!(
                "p50 {:.1} → {:.1} µs, bare {:.1} → {:.1} µs",
                small.ours_p50, contest.ours_p50, small.bare_p50, contest.bare_p50
            );
            let what = format!("growth of p50 from {} to {size} tokens / bare SELECT's growth", sizes[0]);
            report.add(what, Sample::new(vec![growth]), "x", Goal::AtMost(1.1), note);
        } else {
            small = Some(contest);
        }
    }
}

struct Contest {
    /// Look-ups per second, round by round.
    ours: Vec<f64>,
    bare: Vec<f64>,
    /// Microseconds.
    ours_p50: f64,
    bare_p50: f64,
}

fn contest(plan: &Plan, path: &Path, size: u64) -> Contest {
    let known: Arc<[Known]> = tokens::fill(path, size, KNOWN.min(size)).into_iter().map(Known::new).collect();
    let store = Arc::new(SqliteStore::open(path, Options::default()).expect("the database"));
    let guard = Guard::new(Accounts::new(store.clone()), store, Purpose::api());
    let (ours, bare) = (Arc::new(Contender::Guard(guard)), Arc::new(Contender::Bare(path.to_owned())));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (rounds, time) = plan.rounds();
    let mut contest = Contest { ours: Vec::new(), bare: Vec::new(), ours_p50: 0.0, bare_p50: 0.0 };
    let (mut ours_times, mut bare_times) = (Vec::new(), Vec::new());
    // The first round warms the page cache and is not counted.
    for round in 0..=rounds {
        let (our_rate, our_times) = runtime.block_on(run(&ours, &known, time));
        let (bare_rate, times) = runtime.block_on(run(&bare, &known, time));
        if round > 0 {
            contest.ours.push(our_rate);
            contest.bare.push(bare_rate);
            ours_times.extend(our_times);
            bare_times.extend(times);
        }
    }
    contest.ours_p50 = p50(ours_times);
    contest.bare_p50 = p50(bare_times);
    contest
}

/// A token as its holder has it, and its hash, which the bare statement need not compute.
struct Known {
    token: PlainToken,
    hash: [u8; 32],
}

impl Known {
    fn new(token: PlainToken) -> Self {
        let hash = *token.hash().as_bytes();
        Self { token, hash }
    }
}

enum Contender {
    Guard(Guard<Accounts>),
    Bare(PathBuf),
}

impl Contender {
    async fn look_up(&self, known: &Known) {
        match self {
            Self::Guard(guard) => drop(guard.verify(&known.token).await.expect("a living token")),
            Self::Bare(path) => select(path, &known.hash),
        }
    }
}

/// Look-ups per second by all tasks, and the time of every eighth.
async fn run(contender: &Arc<Contender>, known: &Arc<[Known]>, time: Duration) -> (f64, Vec<Duration>) {
    let (count, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (contender, known, count) = (Arc::clone(contender), Arc::clone(known), Arc::clone(&count));
        tasks.spawn(async move {
            // A walk that visits all in an order that no cache foresees.
            let (mut place, mut done, mut times) = (task * 7919, 0, Vec::new());
            while begin.elapsed() < time {
                for turn in 0..TURN {
                    place =
                        place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let one = &known[(place >> 33) % known.len()];
                    if turn % 8 == 0 {
                        let begin = Instant::now();
                        contender.look_up(one).await;
                        times.push(begin.elapsed());
                    } else {
                        contender.look_up(one).await;
                    }
                }
                done += TURN as u64;
                tokio::task::yield_now().await;
            }
            count.fetch_add(done, Ordering::Relaxed);
            times
        });
    }
    let times = tasks.join_all().await.into_iter().flatten().collect();
    (count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64(), times)
}

thread_local! {
    static CONNECTION: RefCell<Option<(PathBuf, Connection)>> = const { RefCell::new(None) };
}

/// The bare statement: one connection a thread, prepared once, every column read and none copied.
fn select(path: &Path, hash: &[u8; 32]) {
    CONNECTION.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(open, _)| open != path) {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags).expect("the database");
            // Without it SQLite plans the statement anew for each value, and the limit would be no limit.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).expect("a setting");
            *slot = Some((path.to_owned(), connection));
        }
        let (_, connection) = slot.as_ref().expect("just opened");
        let mut statement = connection.prepare_cached(hallpass_sqlite::FIND).expect("the statement");
        let columns = statement.column_count();
        let mut rows = statement.query([hash.as_slice()]).expect("a query");
        let row = rows.next().expect("an answer").expect("a row");
        for column in 0..columns {
            std::hint::black_box(row.get_ref(column).expect("a column"));
        }
    });
}
