//! Everything a store does, given who keeps the epochs.
//!
//! See the crate's documentation for why each step is where it is.

use std::time::Duration;

use hallpass::{
    Epoch, HashedToken, Timestamp, TokenId, TokenRecord, Unavailable, UserId,
    store::{Cursor, InsertError, ListQuery, Page, TokenChange, Touch},
};
use redis::cmd;
use tokio::task::JoinSet;

use crate::{
    error::{corrupt, unavailable},
    keys::{self, Owner, Prefix},
    link::{Deadline, Link},
    record::{decode, encode, epoch_text, name_text, parse_epoch},
    scripts,
};

/// A time to live runs by the server's clock and counts from when a command arrives, so that only a clock that jumps could make it
/// end too early. This much more is given, so that a jump does not matter.
const SLACK: Duration = Duration::from_hours(1);
/// Pointers outlive what they point to: a value that nothing leads to could be listed and never be found.
const POINTER_SLACK: Duration = Duration::from_hours(2);
/// Tokens of a list that are read at once: enough to get past the dead, few enough that no command takes a millisecond.
const READ_AT_ONCE: (usize, usize) = (20, 200);
/// Touches that are under way at once.
const TOUCHES_AT_ONCE: usize = 64;

/// Tokens under one prefix, and all that is done with them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) prefix: Prefix,
    pub(crate) link: Link,
    /// How long an expired token is kept for lists.
    pub(crate) keep_expired: Duration,
}

/// Who keeps the epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Present {
    /// This store itself.
    Kept,
    /// Another database, which has just told the owner's.
    Told(Epoch),
}

/// What a hash leads to.
pub(crate) struct Pointer {
    pub(crate) id: String,
    pub(crate) owner: Owner,
}

impl Present {
    /// As scripts take it.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Kept => String::new(),
            Self::Told(epoch) => epoch_text(epoch),
        }
    }
}

impl Tokens {
    pub(crate) async fn epoch(&self, owner: &Owner) -> Result<Epoch, Unavailable> {
        let key = self.prefix.owner(owner).epoch();
        let value: Option<String> = self.link.ask(cmd("GET").arg(key), self.link.deadline()).await?;
        parse_epoch(value.as_deref())
    }

    /// Where a hash leads, which never changes.
    pub(crate) async fn pointer(
        &self,
        hash: &HashedToken,
        by: Deadline,
    ) -> Result<Option<Pointer>, Unavailable> {
        let key = self.prefix.by_hash(hash);
        let value: Option<String> = self.link.ask(cmd("GET").arg(key), by).await?;
        value.map(|value| Pointer::parse(&value)).transpose()
    }

    /// A token and its owner's epoch as they were at one moment. With a hash, only the token that has it: a pointer that was left by an
    /// insert that was given up may lead to another.
    pub(crate) async fn read(
        &self,
        at: &Pointer,
        hash: Option<&HashedToken>,
        by: Deadline,
    ) -> Result<Option<(TokenRecord, Epoch)>, Unavailable> {
        let keys = self.prefix.owner(&at.owner);
        let both = [keys.epoch(), keys.token(&at.id)];
        let (epoch, value): (Option<String>, Option<String>) =
            self.link.ask(cmd("MGET").arg(&both), by).await?;
        let Some(value) = value else { return Ok(None) };
        let (kept, record) = decode(&value, &at.owner, &at.id)?;
        if hash.is_some_and(|hash| keys::hex(hash) != kept) {
            return Ok(None);
        }
        Ok(Some((record, parse_epoch(epoch.as_deref())?)))
    }

    pub(crate) async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        let by = self.link.deadline();
        let Some((_, owner)) = self.by_id(id, by).await? else { return Ok(None) };
        let key = self.prefix.owner(&owner).token(&id.to_string());
        let is_there: bool = self.link.ask(cmd("EXISTS").arg(key), by).await?;
        if !is_there {
            return Ok(None);
        }
        owner.user().map(Some).ok_or_else(|| corrupt("a user's id"))
    }

    /// The hash, as text, and the owner that an id leads to.
    pub(crate) async fn by_id(
        &self,
        id: TokenId,
        by: Deadline,
    ) -> Result<Option<(String, Owner)>, Unavailable> {
        let value: Option<String> = self.link.ask(cmd("GET").arg(self.prefix.by_id(id)), by).await?;
        let Some(value) = value else { return Ok(None) };
        let (hash, owner) = value.split_once(' ').ok_or_else(|| corrupt("a pointer"))?;
        Ok(Some((hash.to_owned(), Owner::from_escaped(owner))))
    }

    /// Pointers first, the token last: until the script has run there is nothing that could be listed, counted or verified.
    pub(crate) async fn insert(
        &self,
        present: Present,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        let by = self.link.deadline();
        let owner = Owner::new(&record.user);
        let value = encode(hash, record)?;
        let lives_for = record.expires_at.map(|end| end.since(record.created_at));
        let forward = (self.prefix.by_id(record.id), format!("{} {}", keys::hex(hash), owner.as_str()));
        let backward = (self.prefix.by_hash(hash), format!("{} {}", record.id, owner.as_str()));
        let mut written = Vec::new();
        let mut is_sole = true;
        for (key, value) in [&forward, &backward] {
            match self.point(key, value, lives_for, by).await? {
                Pointed::New => written.push(key),
                // As this very call would have written it, and perhaps has, and did not hear the answer.
                Pointed::Same => is_sole = false,
                Pointed::Other => {
                    self.unpoint(&written, by).await;
                    return Err(InsertError::Conflict);
                }
            }
        }
        let keys = self.prefix.owner(&owner);
        let token = keys.token(&record.id.to_string());
        let deaths = self.prefix.shard(owner.shard()).deaths;
        let verdict: String = scripts::INSERT
            .run(
                &self.link,
                &[keys.epoch(), token, keys.list(), keys.states(), deaths],
                &[
                    &present.text(),
                    owner.as_str(),
                    &value,
                    &self.lifetime(lives_for, SLACK),
                    &cap.map(|cap| cap.to_string()).unwrap_or_default(),
                    &keys::instant(record.created_at),
                    if is_sole { "1" } else { "0" },
                ],
                by,
            )
            .await?;
        let refusal = match verdict.as_str() {
            "kept" => return Ok(()),
            "conflict" => InsertError::Conflict,
            "ended" => InsertError::Ended,
            "cap" => InsertError::CapReached,
            _ => return Err(corrupt("an answer").into()),
        };
        self.unpoint(&written, by).await;
        Err(refusal)
    }

    /// Writes a pointer unless there is one.
    async fn point(
        &self,
        key: &str,
        value: &str,
        lives_for: Option<Duration>,
        by: Deadline,
    ) -> Result<Pointed, Unavailable> {
        let mut command = cmd("SET");
        command.arg(key).arg(value).arg("NX");
        let lifetime = self.lifetime(lives_for, POINTER_SLACK);
        if !lifetime.is_empty() {
            command.arg("PX").arg(lifetime);
        }
        if self.link.ask::<Option<String>>(&command, by).await?.is_some() {
            return Ok(Pointed::New);
        }
        let kept: Option<String> = self.link.ask(cmd("GET").arg(key), by).await?;
        Ok(if kept.as_deref() == Some(value) { Pointed::Same } else { Pointed::Other })
    }

    /// Takes back the pointers of an insert that was refused. If that fails they lead nowhere, and are in nobody's way.
    async fn unpoint(&self, written: &[&String], by: Deadline) {
        for key in written {
            if let Err(error) = self.link.ask::<u32>(cmd("UNLINK").arg(*key), by).await {
                tracing::debug!(%error, "a pointer that leads nowhere was left behind");
            }
        }
    }

    /// In milliseconds, as text; empty for ever.
    fn lifetime(&self, lives_for: Option<Duration>, slack: Duration) -> String {
        let whole = |lives_for: Duration| lives_for.saturating_add(self.keep_expired).saturating_add(slack);
        lives_for.map(|lives_for| whole(lives_for).as_millis().to_string()).unwrap_or_default()
    }

    pub(crate) async fn end(
        &self,
        present: Present,
        at: &Pointer,
        hash: Option<&HashedToken>,
        taken_for: Option<&str>,
        now: Timestamp,
        by: Deadline,
    ) -> Result<bool, Unavailable> {
        let keys = self.prefix.owner(&at.owner);
        let deaths = self.prefix.shard(at.owner.shard()).deaths;
        let done: u32 = scripts::END
            .run(
                &self.link,
                &[keys.epoch(), keys.token(&at.id), keys.states(), deaths],
                &[
                    &present.text(),
                    at.owner.as_str(),
                    &hash.map(keys::hex).unwrap_or_default(),
                    &keys::instant(now),
                    &scripts::mark()?,
                    if taken_for.is_some() { "take" } else { "revoke" },
                    &taken_for.map(keys::escape).unwrap_or_default(),
                ],
                by,
            )
            .await?;
        Ok(done == 1)
    }

    pub(crate) async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        let mut under_way = JoinSet::new();
        for touch in touches {
            if under_way.len() >= TOUCHES_AT_ONCE {
                finished(under_way.join_next().await)?;
            }
            let (tokens, touch) = (self.clone(), *touch);
            under_way.spawn(async move { tokens.touch_one(touch).await });
        }
        while let Some(done) = under_way.join_next().await {
            finished(Some(done))?;
        }
        Ok(())
    }

    async fn touch_one(&self, Touch { id, at }: Touch) -> Result<(), Unavailable> {
        let by = self.link.deadline();
        let Some((_, owner)) = self.by_id(id, by).await? else { return Ok(()) };
        let key = self.prefix.owner(&owner).token(&id.to_string());
        scripts::TOUCH.run::<u32>(&self.link, &[key], &[&keys::instant(at)], by).await.map(drop)
    }

    /// Raises the epoch that is kept here.
    pub(crate) async fn raise(&self, owner: &Owner, now: Timestamp) -> Result<u64, Unavailable> {
        let (keys, shard) = (self.prefix.owner(owner), self.prefix.shard(owner.shard()));
        let args = [&keys::instant(now), owner.as_str(), &scripts::mark()?];
        scripts::RAISE
            .run(&self.link, &[keys.epoch(), keys.states(), shard.ended], &args, self.link.deadline())
            .await
    }

    /// Notes that another database raises the epoch, from `epoch`, and says how many tokens live under that.
    pub(crate) async fn note(&self, owner: &Owner, epoch: Epoch, now: Timestamp) -> Result<u64, Unavailable> {
        let (keys, shard) = (self.prefix.owner(owner), self.prefix.shard(owner.shard()));
        let args = [&epoch_text(epoch), owner.as_str(), &keys::instant(now)];
        scripts::NOTE
            .run(&self.link, &[keys.epoch(), keys.states(), shard.ended], &args, self.link.deadline())
            .await
    }

    /// Lengthens the lives of the pointers first, and never shortens them: they must outlive the token at every moment.
    pub(crate) async fn update(
        &self,
        present: Present,
        owner: &Owner,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let by = self.link.deadline();
        let lives_for = change.expires_at.map(|end| end.map(|end| end.since(now)));
        if let Some(lives_for) = lives_for {
            let Some((hash, _)) = self.by_id(id, by).await?.filter(|(_, kept)| kept == owner) else {
                return Ok(false);
            };
            let lifetime = self.lifetime(lives_for, POINTER_SLACK);
            for key in [self.prefix.by_hash_text(&hash), self.prefix.by_id(id)] {
                let mut command = cmd(if lifetime.is_empty() { "PERSIST" } else { "PEXPIRE" });
                command.arg(key);
                if !lifetime.is_empty() {
                    command.arg(&lifetime).arg("GT");
                }
                self.link.ask::<u32>(&command, by).await?;
            }
        }
        let keys = self.prefix.owner(owner);
        let token = keys.token(&id.to_string());
        let deaths = self.prefix.shard(owner.shard()).deaths;
        let name = change.name.as_deref().map(|name| name_text(Some(name))).transpose()?;
        let done: u32 = scripts::UPDATE
            .run(
                &self.link,
                &[keys.epoch(), token, keys.list(), keys.states(), deaths],
                &[
                    &present.text(),
                    owner.as_str(),
                    &keys::instant(now),
                    &name.unwrap_or_default(),
                    &change.expires_at.map(keys::instant_or_never).unwrap_or_default(),
                    &lives_for.map(|lives_for| self.lifetime(lives_for, SLACK)).unwrap_or_default(),
                ],
                by,
            )
            .await?;
        Ok(done == 1)
    }

    pub(crate) async fn list(
        &self,
        present: Present,
        owner: &Owner,
        purpose: &str,
        query: &ListQuery,
    ) -> Result<Page, Unavailable> {
        let keys = self.prefix.owner(owner);
        let purpose = keys::escape(purpose);
        let wanted = usize::try_from(query.limit).unwrap_or(usize::MAX).saturating_add(1);
        let mut below = match &query.after {
            Some(Cursor { created_at, id }) => format!("({purpose}:{}", keys::place(*created_at, *id)),
            None => format!("({purpose};"),
        };
        let mut found = Vec::new();
        loop {
            let by = self.link.deadline();
            let at_once = wanted.saturating_sub(found.len()).clamp(READ_AT_ONCE.0, READ_AT_ONCE.1);
            let mut range = cmd("ZREVRANGEBYLEX");
            range.arg(keys.list()).arg(&below).arg(format!("[{purpose}:")).arg("LIMIT").arg(0).arg(at_once);
            let members: Vec<String> = self.link.ask(&range, by).await?;
            let ids: Vec<&str> =
                members.iter().filter_map(|member| Some(member.rsplit_once('.')?.1)).collect();
            // The epoch and these tokens at one moment.
            let mut read = cmd("MGET");
            read.arg(keys.epoch());
            for id in &ids {
                read.arg(keys.token(id));
            }
            let mut values: Vec<Option<String>> = self.link.ask(&read, by).await?;
            let epoch = match present {
                Present::Told(epoch) => epoch,
                Present::Kept => parse_epoch(values.first().and_then(Option::as_deref))?,
            };
            for (value, id) in values.drain(..).skip(1).zip(&ids) {
                // Its time to live is over, and prune has not been here yet.
                let Some(value) = value else { continue };
                let (_, record) = decode(&value, owner, id)?;
                if query.living_at.is_none_or(|now| record.living(epoch, now).is_ok()) {
                    found.push(record);
                }
            }
            match members.last() {
                Some(last) if members.len() == at_once && found.len() < wanted => below = format!("({last}"),
                _ => return Ok(Page::from_one_more(found, epoch, query.limit)),
            }
        }
    }

    /// Whether every node could write.
    pub(crate) async fn ready(&self) -> Result<(), Unavailable> {
        self.link.probe(scripts::PROBE).await.map_err(unavailable)
    }
}

enum Pointed {
    New,
    Same,
    Other,
}

impl Pointer {
    pub(crate) fn new(owner: &Owner, id: TokenId) -> Self {
        Self { id: id.to_string(), owner: owner.clone() }
    }

    fn parse(value: &str) -> Result<Self, Unavailable> {
        let (id, owner) = value.split_once(' ').ok_or_else(|| corrupt("a pointer"))?;
        Ok(Self { id: id.to_owned(), owner: Owner::from_escaped(owner) })
    }
}

/// A panic of a task of ours is an answer that did not come.
pub(crate) fn finished<T>(
    done: Option<Result<Result<T, Unavailable>, tokio::task::JoinError>>,
) -> Result<Option<T>, Unavailable> {
    match done {
        None => Ok(None),
        Some(Ok(result)) => result.map(Some),
        Some(Err(error)) => Err(Unavailable::because("a task was ended", error)),
    }
}
