//! What is left when a process dies between two commands, and when an answer is lost and the command is sent again.

use std::{collections::HashMap, sync::Arc};

use hallpass::{
    Epoch, HashedToken, MemoryStore, PlainToken, Purpose, Timestamp, TokenId, TokenRecord, TokenStore,
    UserId,
    store::{InsertError, ListQuery, TokenChange},
};
use hallpass_testbed::{Redis, RedisCluster};
use redis::{Value, cmd};

use crate::{
    Options, RedisStore,
    keys::{self, Owner},
    record::encode,
    scripts,
};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_123_457);
const HOUR: i64 = 3_600_000_000;
const ALL: ListQuery = ListQuery { after: None, limit: 100, living_at: None };

fn later(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() + micros)
}

/// Two stores over the same keys: one that dies, and one that looks at what is left.
struct Scene {
    dying: RedisStore,
    healthy: RedisStore,
    ada: UserId,
}

impl Scene {
    async fn new(url: &str) -> Self {
        let options = Options::new().prefix(Redis::prefix("half_done"));
        let dying = RedisStore::connect(url, options.clone()).await.unwrap();
        let healthy = RedisStore::connect(url, options).await.unwrap();
        Self { dying, healthy, ada: UserId::new("ada").unwrap() }
    }

    fn sample(&self) -> (HashedToken, TokenRecord) {
        let hash = PlainToken::generate(&Purpose::api()).unwrap().hash();
        let id = TokenId::random().unwrap();
        let mut record = TokenRecord::new(id, self.ada.clone(), Epoch::default(), "api", NOW);
        record.expires_at = Some(later(HOUR));
        (hash, record)
    }

    async fn kept(&self) -> (HashedToken, TokenRecord) {
        let (hash, record) = self.sample();
        self.healthy.insert(&hash, &record, None).await.unwrap();
        (hash, record)
    }

    fn die_after(&self, commands: u32) {
        self.dying.tokens.link.die_after(commands);
    }

    async fn is_listed(&self, record: &TokenRecord) -> bool {
        let page = self.healthy.list(&self.ada, "api", &ALL).await.unwrap();
        page.tokens.iter().any(|listed| listed.id == record.id)
    }

    /// That a token is nowhere: not found in any way, and not counted.
    async fn is_invisible(&self, hash: &HashedToken, record: &TokenRecord) {
        assert_eq!(self.healthy.find(hash).await.unwrap(), None);
        assert_eq!(self.healthy.find_by_id(&self.ada, record.id).await.unwrap(), None);
        assert_eq!(self.healthy.owner_of(record.id).await.unwrap(), None);
        assert!(!self.is_listed(record).await);
        assert!(!self.healthy.revoke(hash, NOW).await.unwrap());
        assert!(!self.healthy.take(hash, "api", NOW).await.unwrap());
        let (other, mut capped) = self.sample();
        capped.epoch = self.healthy.epoch(&self.ada).await.unwrap();
        self.healthy.insert(&other, &capped, Some(1)).await.expect("it counts for the cap");
        assert!(self.healthy.revoke(&other, NOW).await.unwrap());
    }

    /// All keys of this scene, with the instants they vanish at, in milliseconds of the server's clock; -1 is never.
    async fn keys(&self) -> HashMap<String, i64> {
        let mut keys = HashMap::new();
        for node in nodes(&self.healthy).await {
            let (prefix, mut connection) = (self.healthy.tokens.prefix.as_str(), node);
            let mut command = cmd("KEYS");
            command.arg(format!("{prefix}*"));
            let names: Vec<String> = command.query_async(&mut connection).await.unwrap();
            for name in names {
                let ttl: i64 = cmd("PEXPIRETIME").arg(&name).query_async(&mut connection).await.unwrap();
                keys.insert(name, ttl);
            }
        }
        keys
    }

    /// The same without the prefix and its note, and without the owner's epoch, which stays for ever.
    async fn leftovers(&self) -> HashMap<String, i64> {
        let mut keys = self.keys().await;
        keys.retain(|key, _| !key.ends_with("about") && !key.contains("}:o:"));
        keys
    }
}

async fn nodes(store: &RedisStore) -> Vec<redis::aio::MultiplexedConnection> {
    let mut connections = Vec::new();
    for node in store.nodes().await.unwrap() {
        let client = redis::Client::open(format!("redis://{}", node.address)).unwrap();
        connections.push(client.get_multiplexed_async_connection().await.unwrap());
    }
    connections
}

fn urls() -> [String; 2] {
    [Redis::shared().unwrap().url(), RedisCluster::shared().unwrap().url()]
}

/// Runs `act` on ever more commands until it succeeds, and `look` after each.
async fn at_every_step(act: impl AsyncFn(u32) -> bool) {
    let mut steps = 0;
    while !act(steps).await {
        steps += 1;
        assert!(steps < 100, "it never succeeds");
    }
    assert!(steps > 0, "it needs no command");
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn an_insert_that_dies_leaves_nothing_to_be_seen_and_can_be_repeated() {
    for url in urls() {
        at_every_step(async |steps| {
            let scene = Scene::new(&url).await;
            let (hash, record) = scene.sample();
            scene.die_after(steps);
            let done = scene.dying.insert(&hash, &record, Some(1)).await.is_ok();
            if done {
                assert!(scene.healthy.find(&hash).await.unwrap().is_some());
                return true;
            }
            // What is left vanishes by itself.
            for (key, ttl) in scene.leftovers().await {
                assert!(ttl > 0, "{key} stays for ever after {steps} commands");
            }
            scene.is_invisible(&hash, &record).await;
            scene.healthy.insert(&hash, &record, Some(1)).await.unwrap();
            assert_eq!(scene.healthy.find(&hash).await.unwrap().unwrap().record, record);
            false
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_refused_insert_that_dies_leaves_nothing_to_be_seen() {
    for url in urls() {
        at_every_step(async |steps| {
            let scene = Scene::new(&url).await;
            let (hash, record) = scene.sample();
            scene.healthy.revoke_all(&scene.ada, NOW).await.unwrap();
            scene.die_after(steps);
            let verdict = scene.dying.insert(&hash, &record, None).await;
            scene.is_invisible(&hash, &record).await;
            // Refused, and all that it wrote is taken back.
            let ended = matches!(verdict, Err(InsertError::Ended));
            let (by_hash, by_id) =
                (scene.healthy.tokens.prefix.by_hash(&hash), scene.healthy.tokens.prefix.by_id(record.id));
            let left = scene.leftovers().await;
            ended && !left.contains_key(&by_hash) && !left.contains_key(&by_id)
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn an_insert_of_a_known_id_that_dies_leads_nobody_to_the_token_of_that_id() {
    for url in urls() {
        at_every_step(async |steps| {
            let scene = Scene::new(&url).await;
            let (hash, record) = scene.kept().await;
            let (other, mut same_id) = scene.sample();
            same_id.id = record.id;
            scene.die_after(steps);
            let verdict = scene.dying.insert(&other, &same_id, None).await;
            assert_eq!(scene.healthy.find(&other).await.unwrap(), None, "after {steps} commands");
            assert_eq!(scene.healthy.find(&hash).await.unwrap().unwrap().record, record);
            matches!(verdict, Err(InsertError::Conflict))
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_refused_insert_takes_back_what_it_wrote() {
    for url in urls() {
        let scene = Scene::new(&url).await;
        let (hash, record) = scene.kept().await;
        let before = scene.keys().await;
        let (other, mut second) = scene.sample();
        let verdict = scene.healthy.insert(&hash, &second, None).await;
        assert!(matches!(verdict, Err(InsertError::Conflict)), "a known hash: {verdict:?}");
        let verdict = scene.healthy.insert(&other, &second, Some(1)).await;
        assert!(matches!(verdict, Err(InsertError::CapReached)), "{verdict:?}");
        second.epoch = Epoch::new(1);
        let verdict = scene.healthy.insert(&other, &second, None).await;
        assert!(matches!(verdict, Err(InsertError::Ended)), "{verdict:?}");
        second.id = record.id;
        let verdict = scene.healthy.insert(&other, &second, None).await;
        assert!(matches!(verdict, Err(InsertError::Conflict)), "a known id: {verdict:?}");
        assert_eq!(scene.keys().await, before);
    }
}

/// As a process that died left it: the second token's pointer is there, and leads to the id of the first.
#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_pointer_that_leads_to_a_token_of_another_hash_leads_nowhere() {
    for url in urls() {
        let scene = Scene::new(&url).await;
        let (_, record) = scene.kept().await;
        let (other, _) = scene.sample();
        let tokens = &scene.healthy.tokens;
        let mut set = cmd("SET");
        set.arg(tokens.prefix.by_hash(&other)).arg(format!("{} ada", record.id));
        tokens.link.ask::<()>(&set, tokens.link.deadline()).await.unwrap();
        assert_eq!(scene.healthy.find(&other).await.unwrap(), None);
        assert!(!scene.healthy.revoke(&other, NOW).await.unwrap());
        assert!(!scene.healthy.take(&other, "api", NOW).await.unwrap());
        let kept = scene.healthy.find_by_id(&scene.ada, record.id).await.unwrap().unwrap();
        assert_eq!(kept.record, record);
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_changed_expiry_that_dies_leaves_a_token_whole_and_findable_for_all_its_life() {
    let ends = [Some(later(100 * HOUR)), Some(later(1)), None];
    for (url, end) in urls().iter().flat_map(|url| ends.map(|end| (url, end))) {
        at_every_step(async |steps| {
            let scene = Scene::new(url).await;
            let (hash, record) = scene.kept().await;
            scene.die_after(steps);
            let change = TokenChange { name: Some("new".to_owned()), expires_at: Some(end) };
            let done = scene.dying.update(&scene.ada, record.id, &change, NOW).await.is_ok();
            let found = scene.healthy.find(&hash).await.unwrap().unwrap().record;
            let mut changed = record.clone();
            (changed.name, changed.expires_at) = (Some("new".to_owned()), end);
            assert_eq!(found, if done { changed } else { record.clone() });
            // Nothing that leads to it, or lists it, ends before it.
            let keys = scene.keys().await;
            let ttl = |part: &str| {
                let found =
                    keys.iter().find(|(key, _)| key.contains(part)).unwrap_or_else(|| panic!("{part}"));
                if *found.1 < 0 { i64::MAX } else { *found.1 }
            };
            let token = ttl("}:t:");
            for part in [":h:", ":i:", "}:l:", "}:s:"] {
                assert!(ttl(part) >= token, "{part} ends before the token: {keys:?}");
            }
            done
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn ending_tokens_is_done_or_not_done() {
    for url in urls() {
        at_every_step(async |steps| {
            let scene = Scene::new(&url).await;
            let (first, second) = (scene.kept().await, scene.kept().await);
            scene.die_after(steps);
            let done = scene.dying.revoke_all(&scene.ada, NOW).await.is_ok();
            let mut living = 0;
            for (hash, _) in [&first, &second] {
                let found = scene.healthy.find(hash).await.unwrap().unwrap();
                living += u32::from(found.record.living(found.epoch, NOW).is_ok());
            }
            assert_eq!(living, if done { 0 } else { 2 });
            done
        })
        .await;
        at_every_step(async |steps| {
            let scene = Scene::new(&url).await;
            let (hash, _) = scene.kept().await;
            scene.die_after(steps);
            let done = scene.dying.take(&hash, "api", NOW).await.is_ok();
            assert_eq!(scene.healthy.take(&hash, "api", NOW).await.unwrap(), !done);
            done
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_prune_that_dies_revives_nothing_and_the_next_one_leaves_no_key_behind() {
    const PLENTY: u32 = 1_000_000;
    for url in urls() {
        let prune = async |commands: u32| {
            let scene = Scene::new(&url).await;
            let (revoked, ended) = (scene.kept().await, scene.kept().await);
            scene.healthy.revoke(&revoked.0, NOW).await.unwrap();
            scene.healthy.revoke_all(&scene.ada, NOW).await.unwrap();
            scene.die_after(commands);
            let done = scene.dying.prune(later(1), 100).await.is_ok();
            for (hash, _) in [&revoked, &ended] {
                let found = scene.healthy.find(hash).await.unwrap();
                assert!(found.is_none_or(|found| found.record.living(found.epoch, NOW).is_err()));
            }
            scene.healthy.prune(later(1), 100).await.unwrap();
            assert_eq!(scene.leftovers().await, HashMap::new(), "after {commands} commands");
            (done, scene.dying.tokens.link.left())
        };
        // The first makes the servers know the scripts.
        prune(PLENTY).await;
        let (done, left) = prune(PLENTY).await;
        assert!(done);
        // Most of them only ask each shard for work.
        let commands = PLENTY - left;
        for fewer in 1..20 {
            assert!(!prune(commands - fewer).await.0, "{fewer} fewer of {commands}");
        }
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn what_a_time_to_live_leaves_behind_is_passed_over_and_pruned() {
    for url in urls() {
        let scene = Scene::new(&url).await;
        let gone = [scene.kept().await, scene.kept().await, scene.kept().await];
        let kept = scene.kept().await;
        scene.healthy.revoke(&gone[1].0, NOW).await.unwrap();
        let tokens = &scene.healthy.tokens;
        let owner = Owner::new(&scene.ada);
        for (_, record) in &gone {
            let key = tokens.prefix.owner(&owner).token(&record.id.to_string());
            tokens.link.ask::<u32>(cmd("UNLINK").arg(key), tokens.link.deadline()).await.unwrap();
        }
        for (hash, record) in &gone {
            assert_eq!(scene.healthy.find(hash).await.unwrap(), None);
            assert_eq!(scene.healthy.owner_of(record.id).await.unwrap(), None);
            assert!(!scene.is_listed(record).await);
        }
        assert!(scene.is_listed(&kept.1).await);
        assert_eq!(scene.healthy.prune(later(HOUR), 100).await.unwrap(), 1, "the revoked one");
        assert_eq!(scene.healthy.prune(later(HOUR + 1), 100).await.unwrap(), 3);
        assert_eq!(scene.leftovers().await, HashMap::new());
    }
}

/// No step of ours leaves such an entry; a backup that was put back in part could.
#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn an_index_that_is_wrong_about_a_token_does_not_make_prune_delete_it() {
    let [url, _] = urls();
    let database = Arc::new(MemoryStore::new());
    let ada = UserId::new("ada").unwrap();
    let options = Options::new().prefix(Redis::prefix("wrong"));
    let store = RedisStore::beside(&url, options, Arc::clone(&database)).await.unwrap();
    store.revoke_all(&ada, NOW).await.unwrap();
    let (hash, id) = (PlainToken::generate(&Purpose::api()).unwrap().hash(), TokenId::random().unwrap());
    let record = TokenRecord::new(id, ada, Epoch::new(1), "api", NOW);
    store.insert(&hash, &record, None).await.unwrap();

    let tokens = &store.redis().tokens;
    let deaths = tokens.prefix.shard(Owner::new(&record.user).shard()).deaths;
    let (place, died) = (keys::place(NOW, id), keys::instant(later(-1)));
    let mut forge = cmd("ZADD");
    forge.arg(&deaths).arg(0).arg(format!("{died}:0000000001:api:{died}:{place}:ada"));
    tokens.link.ask::<u32>(&forge, tokens.link.deadline()).await.unwrap();
    assert_eq!(store.prune(later(1), 100).await.unwrap(), 0);
    assert_eq!(TokenStore::find(&store, &hash).await.unwrap().unwrap().record, record);
    let left: u32 = tokens.link.ask(cmd("ZCARD").arg(&deaths), tokens.link.deadline()).await.unwrap();
    assert_eq!(left, 0, "it is still there");
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_time_to_live_never_ends_before_the_token_and_an_immortal_one_has_none() {
    for url in urls() {
        let scene = Scene::new(&url).await;
        // Kept for an hour and 30 days; the slack is one hour for the token and two for what leads to it.
        let first = scene.kept().await;
        let (now, _): (i64, i64) =
            cmd("TIME").query_async(&mut nodes(&scene.healthy).await[0]).await.unwrap();
        let hours = |at: i64| (at - now * 1000 + 60_000) / 3_600_000;
        for (key, ttl) in scene.leftovers().await {
            let expected = match key.as_str() {
                key if key.ends_with(":deaths") => {
                    assert_eq!(ttl, -1);
                    continue;
                }
                key if key.contains(":h:") || key.contains(":i:") => 723,
                _ => 722,
            };
            assert_eq!(hours(ttl), expected, "{key}");
        }
        let before = scene.leftovers().await;
        let (_, record) = &first;
        scene.healthy.revoke_by_id(&scene.ada, record.id, NOW).await.unwrap();
        assert_eq!(scene.leftovers().await, before, "a revocation changes no time to live");
        let (hash, mut record) = scene.sample();
        record.expires_at = None;
        scene.healthy.insert(&hash, &record, None).await.unwrap();
        let keys = scene.keys().await;
        let forever = |part: &str| keys.iter().any(|(key, ttl)| key.contains(part) && *ttl == -1);
        for part in [&record.id.to_string(), &keys::hex(&hash), "}:l:", "}:s:"] {
            assert!(forever(part), "{part}: {keys:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn a_command_that_is_sent_twice_is_done_once_and_answers_the_same() {
    for url in urls() {
        let scene = Scene::new(&url).await;
        let tokens = &scene.healthy.tokens;
        let owner = Owner::new(&scene.ada);
        let (names, shard) = (tokens.prefix.owner(&owner), tokens.prefix.shard(owner.shard()));
        let (hash, record) = scene.sample();
        let token = names.token(&record.id.to_string());
        let now = keys::instant(NOW);

        let keys = [names.epoch(), token.clone(), names.list(), names.states(), shard.deaths.clone()];
        let value = encode(&hash, &record).unwrap();
        for (sole, verdict) in [("1", "kept"), ("1", "kept"), ("0", "conflict")] {
            let args = ["", "ada", &value, "1000000", "1", &now, sole];
            let by = tokens.link.deadline();
            let heard: String = scripts::INSERT.run(&tokens.link, &keys, &args, by).await.unwrap();
            assert_eq!(heard, verdict);
        }

        let keys = [names.epoch(), token, names.states(), shard.deaths.clone()];
        for (mark, done) in [("one", 1), ("one", 1), ("two", 0), ("one", 1)] {
            let args = ["", "ada", "", &now, mark, "take", "api"];
            let by = tokens.link.deadline();
            let heard: u32 = scripts::END.run(&tokens.link, &keys, &args, by).await.unwrap();
            assert_eq!(heard, done, "{mark}");
        }

        scene.kept().await;
        let keys = [names.epoch(), names.states(), shard.ended.clone()];
        for (mark, living, epoch) in [("one", 1, 1), ("one", 1, 1), ("two", 0, 2)] {
            let by = tokens.link.deadline();
            let heard: u64 = scripts::RAISE.run(&tokens.link, &keys, &[&now, "ada", mark], by).await.unwrap();
            assert_eq!(heard, living, "{mark}");
            assert_eq!(scene.healthy.epoch(&scene.ada).await.unwrap(), Epoch::new(epoch), "{mark}");
        }

        // A note of who was ended is not forgotten while something is left.
        let (keys, member) = ([names.states(), shard.ended], format!("{now}:ada"));
        let by = tokens.link.deadline();
        let forgotten: u32 =
            scripts::SWEPT.run(&tokens.link, &keys, &["0000000002", &member], by).await.unwrap();
        assert_eq!(forgotten, 0);
    }
}

#[tokio::test]
#[ignore = "needs Redis: scripts/test --servers runs it"]
async fn what_we_have_not_written_is_an_outage_and_never_an_answer() {
    for url in urls() {
        let scene = Scene::new(&url).await;
        let (hash, record) = scene.kept().await;
        let tokens = &scene.healthy.tokens;
        let names = tokens.prefix.owner(&Owner::new(&scene.ada));
        let token = names.token(&record.id.to_string());
        for key in [token, tokens.prefix.by_hash(&hash), names.epoch()] {
            let value: Value = tokens.link.ask(cmd("GET").arg(&key), tokens.link.deadline()).await.unwrap();
            let mut spoil = cmd("SET");
            spoil.arg(&key).arg(b"\xffnonsense");
            tokens.link.ask::<()>(&spoil, tokens.link.deadline()).await.unwrap();
            assert!(scene.healthy.find(&hash).await.is_err(), "{key}");
            assert!(scene.healthy.take(&hash, "api", NOW).await.is_err(), "{key}");
            let Value::BulkString(value) = value else {
                let mut unset = cmd("DEL");
                unset.arg(&key);
                tokens.link.ask::<u32>(&unset, tokens.link.deadline()).await.unwrap();
                continue;
            };
            let mut mend = cmd("SET");
            mend.arg(&key).arg(value);
            tokens.link.ask::<()>(&mend, tokens.link.deadline()).await.unwrap();
        }
        assert_eq!(scene.healthy.find(&hash).await.unwrap().unwrap().record, record);
    }
}
