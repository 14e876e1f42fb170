//! Each private server: starts, answers, breaks as asked, keeps what it should, and leaves nothing.
#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use hallpass_testbed::{Fault, MariaDb, PgBouncer, Postgres, Proxy, Redis, RedisCluster, Reply, Server};

/// A working server answers in far less, a frozen one in never.
const ANSWERS: Duration = Duration::from_secs(5);
const HANGS: Duration = Duration::from_millis(200);

/// Freezing makes it hang, thawing mends that; dropping leaves neither process nor folder nor an open port.
fn freezes_thaws_and_leaves_nothing(mut server: impl Server) {
    server.ping(ANSWERS).unwrap();
    server.freeze().unwrap();
    assert!(TcpStream::connect(server.address()).is_ok(), "the kernel still accepts");
    assert!(server.ping(HANGS).is_err());
    server.thaw().unwrap();
    server.ping(ANSWERS).unwrap();

    let pids = [server.pid().unwrap()];
    let all: Vec<u32> = pids.into_iter().chain(started_by(pids[0])).collect();
    assert!(server.resident_bytes().unwrap() > 1 << 20);
    let folder = server.process().folder().to_owned();
    let address = server.address();
    drop(server);
    assert!(all.iter().all(|pid| is_gone(*pid)), "{all:?}");
    assert!(!folder.exists());
    assert!(TcpStream::connect(address).is_err());
}

/// Its entry may stay a little longer, until whoever inherited it has looked.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

fn started_by(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| status.contains(&format!("\nPPid:\t{parent}\n")))
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(is_child).collect()
}

fn kills_and_restarts(server: &mut impl Server) {
    let before = (server.address(), server.pid().unwrap());
    let workers = started_by(before.1);
    server.kill9().unwrap();
    assert!(started_by(before.1).is_empty());
    assert!(workers.iter().all(|pid| is_gone(*pid)), "{workers:?}");
    assert!(server.ping(HANGS).is_err());
    server.restart().unwrap();
    assert_eq!(server.address(), before.0);
    assert_ne!(server.pid().unwrap(), before.1);
    server.ping(ANSWERS).unwrap();
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn postgres_starts_quickly_answers_and_leaves_nothing() {
    drop(Postgres::start().unwrap());
    let started = Instant::now();
    let postgres = Postgres::start().unwrap();
    println!("PostgreSQL started in {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(postgres.sql("SHOW fsync").unwrap(), "off");
    freezes_thaws_and_leaves_nothing(postgres);
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn postgres_keeps_what_it_acknowledged_over_kill_9_and_restart() {
    let mut postgres = Postgres::options().fsync(true).set("work_mem", "5MB").start().unwrap();
    assert_eq!(postgres.sql("SHOW fsync").unwrap(), "on");
    assert_eq!(postgres.sql("SHOW work_mem").unwrap(), "5MB");
    let url = postgres.database("kept").unwrap();
    Postgres::sql_at(&url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1), (2)").unwrap();
    kills_and_restarts(&mut postgres);
    assert_eq!(Postgres::sql_at(&url, "SELECT n FROM kept ORDER BY n").unwrap(), "1\n2");
    postgres.restart().unwrap();
    postgres.kill9().unwrap();
    postgres.stop().unwrap();
    postgres.restart().unwrap();
    assert_eq!(Postgres::sql_at(&url, "SELECT count(*) FROM kept").unwrap(), "2");
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn postgres_leaves_no_shared_memory_behind() {
    let segment = |postgres: &Postgres| {
        let file = postgres.process().folder().join("postgres/postmaster.pid");
        let lines = std::fs::read_to_string(file).unwrap();
        lines.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let exists = |id: &str| {
        let all = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        all.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
    };
    for kill in [true, false] {
        let mut postgres = Postgres::start().unwrap();
        let id = segment(&postgres);
        assert!(exists(&id));
        if kill {
            postgres.kill9().unwrap();
        }
        drop(postgres);
        assert!(!exists(&id));
    }
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn postgres_gives_each_test_an_empty_database_of_an_ordinary_user() {
    let postgres = Postgres::shared().unwrap();
    assert_eq!(Postgres::shared().unwrap().pid(), postgres.pid());
    let (one, two) = (postgres.database("mine").unwrap(), postgres.database("mine").unwrap());
    assert_ne!(one, two);
    Postgres::sql_at(&one, "CREATE TABLE mine (n int)").unwrap();
    let failure = Postgres::sql_at(&two, "SELECT * FROM mine").unwrap_err();
    assert!(failure.to_string().contains("does not exist"), "{failure}");
    let user = "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user";
    assert_eq!(Postgres::sql_at(&one, user).unwrap(), "f");
    assert!(Postgres::sql_at(&one, "ALTER SYSTEM SET fsync = on").is_err());
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn postgres_with_a_password_wants_it() {
    let postgres = Postgres::options().password("right").start().unwrap();
    let url = postgres.database("locked").unwrap();
    assert_eq!(Postgres::sql_at(&url, "SELECT 1").unwrap(), "1");
    assert!(Postgres::sql_at(&url.replace("right", "wrong"), "SELECT 1").is_err());
    assert!(Postgres::sql_at(&url.replace(":right", ""), "SELECT 1").is_err());
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
fn two_servers_of_a_kind_run_beside_each_other() {
    let (one, two) = (Postgres::start().unwrap(), Postgres::start().unwrap());
    one.sql("CREATE TABLE only_here (n int)").unwrap();
    assert!(two.sql("SELECT * FROM only_here").is_err());
    drop(one);
    two.ping(ANSWERS).unwrap();
}

#[test]
#[ignore = "needs PgBouncer: scripts/test --servers runs it"]
fn pgbouncer_passes_queries_and_takes_turns_by_transaction() {
    for password in [None, Some("right")] {
        let mut options = Postgres::options();
        if let Some(password) = password {
            options = options.password(password);
        }
        let postgres = options.start().unwrap();
        let bouncer = PgBouncer::start(&postgres).unwrap();
        let url = bouncer.url(&postgres.database("bounced").unwrap());
        assert!(url.contains(&bouncer.address().to_string()));
        Postgres::sql_at(&url, "CREATE TABLE t (n int)").unwrap();
        Postgres::sql_at(&url, "INSERT INTO t VALUES (7)").unwrap();
        assert_eq!(Postgres::sql_at(&url, "SELECT n FROM t").unwrap(), "7");
        if password.is_some() {
            assert!(Postgres::sql_at(&url.replace("right", "wrong"), "SELECT 1").is_err());
        }
        let settings = Postgres::sql_at(&bouncer.admin_url(), "SHOW CONFIG").unwrap();
        assert!(settings.contains("\npool_mode|transaction|"), "{settings}");
        freezes_thaws_and_leaves_nothing(bouncer);
    }
}

#[test]
#[ignore = "needs PgBouncer: scripts/test --servers runs it"]
fn pgbouncer_comes_back_and_can_stand_before_a_proxy() {
    let postgres = Postgres::start().unwrap();
    let proxy = Proxy::start(postgres.address()).unwrap();
    let mut bouncer = PgBouncer::in_front_of(&postgres, proxy.address()).unwrap();
    let url = bouncer.url(&postgres.database("behind").unwrap());
    assert_eq!(Postgres::sql_at(&url, "SELECT 1").unwrap(), "1");
    assert!(proxy.accepted() > 0);
    proxy.set(Fault::Drop).unwrap();
    assert!(bouncer.ping(HANGS).is_err());
    proxy.set(Fault::Pass).unwrap();
    kills_and_restarts(&mut bouncer);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn mariadb_starts_quickly_answers_and_leaves_nothing() {
    drop(MariaDb::start().unwrap());
    let started = Instant::now();
    let mariadb = MariaDb::start().unwrap();
    println!("MariaDB started in {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    freezes_thaws_and_leaves_nothing(mariadb);
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn mariadb_keeps_what_it_acknowledged_over_kill_9_and_restart() {
    let mut mariadb =
        MariaDb::options().fsync(true).set("innodb_flush_log_at_trx_commit", "2").start().unwrap();
    assert_eq!(mariadb.sql("SELECT @@innodb_flush_log_at_trx_commit").unwrap(), "2");
    let url = mariadb.database("kept").unwrap();
    let name = url.rsplit('/').next().unwrap();
    mariadb
        .sql(&format!("CREATE TABLE {name}.kept (n int); INSERT INTO {name}.kept VALUES (1), (2)"))
        .unwrap();
    kills_and_restarts(&mut mariadb);
    assert_eq!(mariadb.sql(&format!("SELECT n FROM {name}.kept ORDER BY n")).unwrap(), "1\n2");
    mariadb.restart().unwrap();
    assert_eq!(mariadb.sql(&format!("SELECT count(*) FROM {name}.kept")).unwrap(), "2");
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn mariadb_gives_each_test_an_empty_database_of_an_ordinary_user() {
    let mariadb = MariaDb::shared().unwrap();
    assert_eq!(MariaDb::shared().unwrap().pid(), mariadb.pid());
    assert_eq!(mariadb.sql("SELECT @@innodb_flush_log_at_trx_commit").unwrap(), "1");
    let (one, two) = (mariadb.database("mine").unwrap(), mariadb.database("mine").unwrap());
    assert_ne!(one, two);
    MariaDb::sql_at(&one, "CREATE TABLE mine (n int)").unwrap();
    let failure = MariaDb::sql_at(&two, "SELECT * FROM mine").unwrap_err();
    assert!(failure.to_string().contains("doesn't exist"), "{failure}");
    assert!(MariaDb::sql_at(&one, "SET GLOBAL max_connections = 1").is_err());
    assert!(MariaDb::sql_at(&one, "CREATE DATABASE another").is_err());
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn mariadb_with_a_password_wants_it() {
    let mariadb = MariaDb::options().password("right").start().unwrap();
    let url = mariadb.database("locked").unwrap();
    assert_eq!(MariaDb::sql_at(&url, "SELECT 1").unwrap(), "1");
    let failure = MariaDb::sql_at(&url.replace("right", "wrong"), "SELECT 1").unwrap_err();
    assert!(failure.to_string().contains("Access denied"), "{failure}");
}

#[test]
#[ignore = "needs PostgreSQL, PgBouncer, MariaDB and Redis: scripts/test --servers runs it"]
fn what_is_installed_is_available() {
    for available in [
        Postgres::available(),
        PgBouncer::available(),
        MariaDb::available(),
        Redis::available(),
        RedisCluster::available(),
    ] {
        available.unwrap();
    }
}

#[test]
#[ignore = "needs MariaDB: scripts/test --servers runs it"]
fn mariadb_does_not_mind_many_pings() {
    let mariadb = MariaDb::shared().unwrap();
    for _ in 0..200 {
        mariadb.ping(ANSWERS).unwrap();
    }
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn redis_starts_quickly_answers_and_leaves_nothing() {
    let started = Instant::now();
    let redis = Redis::start().unwrap();
    println!("Redis started in {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    freezes_thaws_and_leaves_nothing(redis);
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn redis_with_append_only_keeps_what_it_acknowledged_and_without_does_not() {
    for keeps in [true, false] {
        let mut options = Redis::options().set("maxmemory-policy", "allkeys-lru");
        if keeps {
            options = options.append_only().set("appendfsync", "always");
        }
        let mut redis = options.start().unwrap();
        let policy = redis.command(&["CONFIG", "GET", "maxmemory-policy"]).unwrap();
        assert!(policy.to_string().contains("allkeys-lru"), "{policy}");
        redis.command(&["SET", "key", "a value\r\nof two lines"]).unwrap();
        kills_and_restarts(&mut redis);
        let kept = redis.command(&["GET", "key"]).unwrap();
        assert_eq!(kept.text(), keeps.then_some("a value\r\nof two lines"));
    }
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn redis_with_a_password_wants_it() {
    let redis = Redis::options().password("right").start().unwrap();
    assert!(redis.url().starts_with("redis://:right@127.0.0.1:"));
    assert_eq!(redis.command(&["INCR", "n"]).unwrap(), Reply::Number(1));
    let log_in = redis.command(&["AUTH", "wrong"]).unwrap_err();
    assert!(log_in.to_string().contains("WRONGPASS"), "{log_in}");
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn redis_is_shared_and_prefixes_are_not() {
    let redis = Redis::shared().unwrap();
    assert_eq!(Redis::shared().unwrap().pid(), redis.pid());
    assert_ne!(Redis::prefix("mine"), Redis::prefix("mine"));
    let settings = redis.command(&["CONFIG", "GET", "appendonly"]).unwrap();
    assert!(settings.to_string().contains("yes"), "{settings}");
}

#[test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
fn redis_cluster_shares_the_slots_out_and_a_killed_node_comes_back() {
    let started = Instant::now();
    let options = Redis::options().append_only().password("right");
    let mut cluster = RedisCluster::start_with(3, &options).unwrap();
    println!("Redis Cluster started in {:?}", started.elapsed());
    let all = cluster.url();
    assert!(all.starts_with("redis-cluster://:right@127.0.0.1:"), "{all}");
    assert_eq!(all.split(',').count(), 3);
    assert_eq!(cluster.urls().len(), 3);
    // The slot of `foo` is 12182, the last third's; of `bar` 5061, the first's.
    let [first, _, last] = cluster.nodes() else { panic!("not three nodes") };
    last.command(&["SET", "foo", "1"]).unwrap();
    first.command(&["SET", "bar", "1"]).unwrap();
    let moved = first.command(&["GET", "foo"]).unwrap_err();
    assert!(moved.to_string().contains(&format!("MOVED 12182 {}", last.address())), "{moved}");

    kills_and_restarts(&mut cluster.nodes_mut()[2]);
    cluster.ready().unwrap();
    assert_eq!(cluster.nodes()[2].command(&["GET", "foo"]).unwrap().text(), Some("1"));
    let pids: Vec<_> = cluster.nodes().iter().map(|node| node.pid().unwrap()).collect();
    drop(cluster);
    assert!(pids.iter().all(|pid| is_gone(*pid)));
}
