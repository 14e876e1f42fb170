//! Deleting what is long dead, and what a time to live has left behind.
//!
//! A token lies in three slots, so its deletion takes several commands. The first, in the slot of its owner, deletes what makes it a
//! token and notes in `buried` that two pointers remain. When they are deleted, so is the note. Whoever dies in between leaves the
//! note, and the next to prune goes on from there.

use std::sync::Arc;

use hallpass::{Epoch, HashedToken, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable};
use redis::cmd;
use tokio::task::JoinSet;

use crate::{
    error::corrupt,
    keys::{self, Owner, SHARDS},
    record::{epoch_text, parse_epoch},
    scripts,
    tokens::{Pointer, Present, Tokens, finished},
};

/// Shards that are looked at at once.
const SHARDS_AT_ONCE: usize = 16;
/// Tokens that are deleted at once. Each is a script of some microseconds, and others come in between.
const TOKENS_AT_ONCE: usize = 32;
/// Entries of an index that one command reads.
const ENTRIES_AT_ONCE: u64 = 500;

/// A token to be deleted, from a member that names it.
struct Lead {
    present: Present,
    /// When the epoch was raised, if somebody else keeps it.
    raised: String,
    owner: Owner,
    epoch: String,
    purpose: String,
    expires: String,
    place: String,
    /// The member, if it is one of deaths.
    death: String,
}

#[derive(PartialEq, Eq)]
enum Buried {
    Deleted,
    Nothing,
    Alive,
}

impl Tokens {
    /// `epochs` is who keeps them, if they are not kept here.
    pub(crate) async fn prune(
        &self,
        cutoff: Timestamp,
        limit: u32,
        epochs: Option<&dyn TokenStore>,
    ) -> Result<u64, Unavailable> {
        let (cutoff, limit) = (keys::instant(cutoff), u64::from(limit));
        let mut deleted = 0;
        for shard in self.shards_with_work(&cutoff).await? {
            self.unpoint_buried(shard).await?;
            deleted += self.prune_deaths(shard, &cutoff, limit - deleted).await?;
            deleted += self.prune_ended(shard, &cutoff, limit - deleted, epochs).await?;
            if deleted >= limit {
                break;
            }
        }
        Ok(deleted)
    }

    async fn shards_with_work(&self, cutoff: &str) -> Result<Vec<u16>, Unavailable> {
        let cutoff: Arc<str> = cutoff.into();
        let mut under_way = JoinSet::new();
        let mut with_work = Vec::new();
        for shard in 0..SHARDS {
            if under_way.len() >= SHARDS_AT_ONCE {
                with_work.extend(finished(under_way.join_next().await)?.flatten());
            }
            let (tokens, cutoff) = (self.clone(), Arc::clone(&cutoff));
            under_way.spawn(async move { Ok(tokens.has_work(shard, &cutoff).await?.then_some(shard)) });
        }
        while let Some(done) = under_way.join_next().await {
            with_work.extend(finished(Some(done))?.flatten());
        }
        Ok(with_work)
    }

    async fn has_work(&self, shard: u16, cutoff: &str) -> Result<bool, Unavailable> {
        let keys = self.prefix.shard(shard);
        for key in [keys.deaths, keys.ended] {
            if !self.members_before(&key, cutoff, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        self.link.ask(cmd("EXISTS").arg(keys.buried), self.link.deadline()).await
    }

    async fn members_before(&self, key: &str, before: &str, limit: u64) -> Result<Vec<String>, Unavailable> {
        let mut range = cmd("ZRANGEBYLEX");
        range.arg(key).arg("-").arg(format!("({before}")).arg("LIMIT").arg(0).arg(limit);
        self.link.ask(&range, self.link.deadline()).await
    }

    /// Those that have an instant of death of their own.
    async fn prune_deaths(&self, shard: u16, cutoff: &str, limit: u64) -> Result<u64, Unavailable> {
        let key = self.prefix.shard(shard).deaths;
        let mut deleted = 0;
        while deleted < limit {
            let asked = (limit - deleted).min(ENTRIES_AT_ONCE);
            let members = self.members_before(&key, cutoff, asked).await?;
            let is_last = u64::try_from(members.len()).unwrap_or(u64::MAX) < asked;
            let leads = members.into_iter().map(Lead::from_death).collect::<Result<Vec<_>, _>>()?;
            deleted += self.bury_all(leads, cutoff).await?.0;
            if is_last {
                break;
            }
        }
        Ok(deleted)
    }

    /// Those of owners whose tokens were all ended.
    async fn prune_ended(
        &self,
        shard: u16,
        cutoff: &str,
        limit: u64,
        epochs: Option<&dyn TokenStore>,
    ) -> Result<u64, Unavailable> {
        let key = self.prefix.shard(shard).ended;
        let mut deleted = 0;
        while deleted < limit {
            let owners = self.members_before(&key, cutoff, ENTRIES_AT_ONCE).await?;
            let mut swept = 0_u64;
            for member in &owners {
                let (raised, owner) = member.split_once(':').ok_or_else(|| corrupt("an index"))?;
                let owner = Owner::from_escaped(owner);
                let (count, is_clean) = self.sweep(&owner, raised, cutoff, limit - deleted, epochs).await?;
                deleted += count;
                swept += u64::from(is_clean && self.is_swept(&owner, member, epochs).await?);
                if deleted >= limit {
                    break;
                }
            }
            // Whoever could not be swept would be found again at once.
            if swept == 0 || swept < ENTRIES_AT_ONCE {
                break;
            }
        }
        Ok(deleted)
    }

    /// Deletes an owner's tokens of earlier epochs; says how many, and whether that was all of them.
    async fn sweep(
        &self,
        owner: &Owner,
        raised: &str,
        cutoff: &str,
        limit: u64,
        epochs: Option<&dyn TokenStore>,
    ) -> Result<(u64, bool), Unavailable> {
        let states = self.prefix.owner(owner).states();
        let epoch = self.present_epoch(owner, epochs).await?;
        let present = match epochs {
            None => Present::Kept,
            Some(_) => Present::Told(epoch),
        };
        let mut deleted = 0;
        while deleted < limit {
            let asked = (limit - deleted).min(ENTRIES_AT_ONCE);
            let members = self.members_before(&states, &epoch_text(epoch), asked).await?;
            let is_last = u64::try_from(members.len()).unwrap_or(u64::MAX) < asked;
            let lead = |member: String| Lead::from_state(&member, present, raised, owner);
            let leads = members.into_iter().map(lead).collect::<Result<Vec<_>, _>>()?;
            let (count, all_dead) = self.bury_all(leads, cutoff).await?;
            deleted += count;
            if !all_dead || is_last {
                return Ok((deleted, all_dead));
            }
        }
        Ok((deleted, false))
    }

    async fn is_swept(
        &self,
        owner: &Owner,
        member: &str,
        epochs: Option<&dyn TokenStore>,
    ) -> Result<bool, Unavailable> {
        let epoch = epoch_text(self.present_epoch(owner, epochs).await?);
        let keys = [self.prefix.owner(owner).states(), self.prefix.shard(owner.shard()).ended];
        let forgotten: u32 =
            scripts::SWEPT.run(&self.link, &keys, &[&epoch, member], self.link.deadline()).await?;
        Ok(forgotten == 1)
    }

    async fn present_epoch(
        &self,
        owner: &Owner,
        epochs: Option<&dyn TokenStore>,
    ) -> Result<Epoch, Unavailable> {
        match epochs {
            None => self.epoch(owner).await,
            Some(epochs) => epochs.epoch(&owner.user().ok_or_else(|| corrupt("a user's id"))?).await,
        }
    }

    /// How many were deleted, and whether none turned out to be alive.
    async fn bury_all(&self, leads: Vec<Lead>, cutoff: &str) -> Result<(u64, bool), Unavailable> {
        let cutoff: Arc<str> = cutoff.into();
        let mut under_way = JoinSet::new();
        let (mut deleted, mut all_dead) = (0, true);
        let mut count = |buried: Option<Buried>| {
            deleted += u64::from(buried == Some(Buried::Deleted));
            all_dead &= buried != Some(Buried::Alive);
        };
        for lead in leads {
            if under_way.len() >= TOKENS_AT_ONCE {
                count(finished(under_way.join_next().await)?);
            }
            let (tokens, cutoff) = (self.clone(), Arc::clone(&cutoff));
            under_way.spawn(async move { tokens.bury(&lead, &cutoff).await });
        }
        while let Some(done) = under_way.join_next().await {
            count(finished(Some(done))?);
        }
        Ok((deleted, all_dead))
    }

    async fn bury(&self, lead: &Lead, cutoff: &str) -> Result<Buried, Unavailable> {
        let (_, id) = lead.place.split_once('.').ok_or_else(|| corrupt("an index"))?;
        let owner = self.prefix.owner(&lead.owner);
        let shard = self.prefix.shard(lead.owner.shard());
        let (removed, hash): (i64, String) = scripts::BURY
            .run(
                &self.link,
                &[
                    owner.epoch(),
                    owner.token(id),
                    owner.list(),
                    owner.states(),
                    shard.deaths,
                    shard.buried.clone(),
                ],
                &[
                    &lead.present.text(),
                    &lead.raised,
                    lead.owner.as_str(),
                    cutoff,
                    &lead.epoch,
                    &lead.purpose,
                    &lead.expires,
                    &lead.place,
                    &lead.death,
                ],
                self.link.deadline(),
            )
            .await?;
        if removed < 0 {
            return Ok(Buried::Alive);
        }
        self.unpoint_one(&shard.buried, &format!("{id}:{hash}")).await?;
        Ok(if removed > 0 { Buried::Deleted } else { Buried::Nothing })
    }

    /// Deletes a token that was refused after all, and of which nobody has heard.
    pub(crate) async fn discard(&self, hash: &HashedToken, record: &TokenRecord) -> Result<(), Unavailable> {
        let owner = Owner::new(&record.user);
        let present = Present::Told(record.epoch);
        let at = Pointer::new(&owner, record.id);
        self.end(present, &at, Some(hash), None, record.created_at, self.link.deadline()).await?;
        let lead = Lead {
            present,
            raised: String::new(),
            owner,
            epoch: epoch_text(record.epoch),
            purpose: keys::escape(&record.purpose),
            expires: keys::instant_or_never(record.expires_at),
            place: keys::place(record.created_at, record.id),
            death: String::new(),
        };
        // Whatever is revoked died before never.
        self.bury(&lead, keys::NEVER).await.map(drop)
    }

    /// Goes on where somebody who pruned has died.
    async fn unpoint_buried(&self, shard: u16) -> Result<(), Unavailable> {
        let key = self.prefix.shard(shard).buried;
        let members: Vec<String> = self.link.ask(cmd("SMEMBERS").arg(&key), self.link.deadline()).await?;
        for member in members {
            self.unpoint_one(&key, &member).await?;
        }
        Ok(())
    }

    /// Deletes the two pointers to a token that is deleted, then the note of it.
    async fn unpoint_one(&self, buried: &str, member: &str) -> Result<(), Unavailable> {
        let by = self.link.deadline();
        let (id, hash) = member.split_once(':').ok_or_else(|| corrupt("an index"))?;
        let id = TokenId::parse(id).ok_or_else(|| corrupt("an index"))?;
        let hash = match hash {
            "" => self.by_id(id, by).await?.map(|(hash, _)| hash),
            hash => Some(hash.to_owned()),
        };
        let pointers =
            hash.map(|hash| self.prefix.by_hash_text(&hash)).into_iter().chain([self.prefix.by_id(id)]);
        for key in pointers {
            self.link.ask::<u32>(cmd("UNLINK").arg(key), by).await?;
        }
        self.link.ask::<u32>(cmd("SREM").arg(buried).arg(member), by).await?;
        Ok(())
    }
}

impl Lead {
    /// `death:epoch:purpose:expires:place:owner`, see `token.lua`.
    fn from_death(member: String) -> Result<Self, Unavailable> {
        let mut parts = member.split(':').skip(1).map(str::to_owned);
        let mut next = || parts.next().ok_or_else(|| corrupt("an index"));
        let (epoch, purpose, expires, place) = (next()?, next()?, next()?, next()?);
        let owner = Owner::from_escaped(&next()?);
        // Under its own epoch it is not ended by any other: here only its own instant of death counts.
        let present = parse_epoch(Some(&epoch)).map(Present::Told)?;
        Ok(Self { present, raised: String::new(), owner, epoch, purpose, expires, place, death: member })
    }

    /// `epoch:kind:purpose:expires:place`.
    fn from_state(member: &str, present: Present, raised: &str, owner: &Owner) -> Result<Self, Unavailable> {
        let mut parts = member.split(':').map(str::to_owned);
        let mut next = || parts.next().ok_or_else(|| corrupt("an index"));
        let (epoch, _, purpose, expires, place) = (next()?, next()?, next()?, next()?, next()?);
        let (raised, death) = (raised.to_owned(), String::new());
        Ok(Self { present, raised, owner: owner.clone(), epoch, purpose, expires, place, death })
    }
}
