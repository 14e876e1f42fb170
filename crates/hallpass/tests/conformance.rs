//! The suite itself: the memory store passes it, and a store that breaks any one promise does not.

#![cfg(test)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use hallpass::{
    Epoch, HashedToken, MemoryStore, Timestamp, TokenId, TokenRecord, TokenStore, Unavailable, UserId,
    account::AccountStore,
    store::{Found, InsertError, ListQuery, Page, TokenChange, Touch, conformance},
};

#[tokio::test(flavor = "multi_thread")]
async fn row_14_memory_store_keeps_every_promise() {
    conformance::check_tokens(async || Arc::new(MemoryStore::new()) as Arc<dyn TokenStore>).await;
    conformance::check_accounts(async || {
        let store = Arc::new(MemoryStore::new());
        (Arc::clone(&store) as Arc<dyn AccountStore>, store as Arc<dyn TokenStore>)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_store_is_rejected() {
    let mut passed = Vec::new();
    for fault in Fault::ALL {
        let failures =
            conformance::token_failures(async || Arc::new(Broken::new(fault)) as Arc<dyn TokenStore>).await;
        if failures.is_empty() {
            passed.push(fault);
        }
    }
    assert!(passed.is_empty(), "the suite lets these faults pass: {passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_fault_is_not_rejected_by_the_same_wrapper() {
    let failures =
        conformance::token_failures(async || Arc::new(Broken::new(Fault::None)) as Arc<dyn TokenStore>).await;
    assert_eq!(failures.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), BTreeSet::new());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    InsertOverwrites,
    InsertIgnoresTheEpoch,
    InsertIgnoresTheCap,
    CapCountsTheDead,
    CapIsCheckedBeforeTheInsert,
    FindWritesTheLastUse,
    FindDeletesTheExpired,
    FindForgetsTheRevocation,
    FindRoundsTimesToMilliseconds,
    FindFoldsLetterCase,
    FindByIdIgnoresTheUser,
    OwnerOfForgetsTheDead,
    TakeIgnoresThePurpose,
    TakeIgnoresExpiry,
    TakeIgnoresTheEpoch,
    TakeChecksBeforeItTakes,
    TouchMovesBackwards,
    TouchRevives,
    RevokeAnswersBeforeItIsDone,
    RevokeMovesItsTime,
    RevokeByIdIgnoresTheUser,
    RevokeAllCountsTheDead,
    RevokeAllForgetsUnknownUsers,
    RevokeAllOnlyMarksWhatIsThere,
    UpdateChangesTheDead,
    UpdateIgnoresTheUser,
    ListForgetsTiesOfTheSameInstant,
    ListShowsOldestFirst,
    ListShowsTheExpiredAtEquality,
    ListMixesPurposes,
    PruneTakesTheLivingAtTheCutoff,
    PruneExceedsItsLimit,
    PruneForgetsTheRevoked,
    PruneForgetsTheEnded,
}

impl Fault {
    const ALL: [Self; 34] = [
        Self::InsertOverwrites,
        Self::InsertIgnoresTheEpoch,
        Self::InsertIgnoresTheCap,
        Self::CapCountsTheDead,
        Self::CapIsCheckedBeforeTheInsert,
        Self::FindWritesTheLastUse,
        Self::FindDeletesTheExpired,
        Self::FindForgetsTheRevocation,
        Self::FindRoundsTimesToMilliseconds,
        Self::FindFoldsLetterCase,
        Self::FindByIdIgnoresTheUser,
        Self::OwnerOfForgetsTheDead,
        Self::TakeIgnoresThePurpose,
        Self::TakeIgnoresExpiry,
        Self::TakeIgnoresTheEpoch,
        Self::TakeChecksBeforeItTakes,
        Self::TouchMovesBackwards,
        Self::TouchRevives,
        Self::RevokeAnswersBeforeItIsDone,
        Self::RevokeMovesItsTime,
        Self::RevokeByIdIgnoresTheUser,
        Self::RevokeAllCountsTheDead,
        Self::RevokeAllForgetsUnknownUsers,
        Self::RevokeAllOnlyMarksWhatIsThere,
        Self::UpdateChangesTheDead,
        Self::UpdateIgnoresTheUser,
        Self::ListForgetsTiesOfTheSameInstant,
        Self::ListShowsOldestFirst,
        Self::ListShowsTheExpiredAtEquality,
        Self::ListMixesPurposes,
        Self::PruneTakesTheLivingAtTheCutoff,
        Self::PruneExceedsItsLimit,
        Self::PruneForgetsTheRevoked,
        Self::PruneForgetsTheEnded,
    ];
}

/// A faithful store of its own, small and slow, with one fault. It shares nothing with the memory store, so that a
/// mistake in one is seen in the other.
#[derive(Debug)]
struct Broken {
    fault: Fault,
    rows: Mutex<Rows>,
    dawdlers: AtomicU32,
}

#[derive(Debug, Default)]
struct Rows {
    tokens: Vec<(HashedToken, TokenRecord)>,
    raises: Vec<(UserId, Timestamp)>,
    pending: Vec<(HashedToken, Timestamp)>,
}

impl Rows {
    fn epoch(&self, user: &UserId) -> Epoch {
        let raises = self.raises.iter().filter(|(raised, _)| raised == user).count();
        Epoch::new(u32::try_from(raises).unwrap())
    }

    fn row(&mut self, wanted: impl Fn(&HashedToken, &TokenRecord) -> bool) -> Option<&mut TokenRecord> {
        self.tokens.iter_mut().find(|(hash, record)| wanted(hash, record)).map(|(_, record)| record)
    }

    fn living(&self, record: &TokenRecord, now: Timestamp) -> bool {
        record.living(self.epoch(&record.user), now).is_ok()
    }
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self { fault, rows: Mutex::default(), dawdlers: AtomicU32::new(0) }
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Stays between two steps that should have been one until somebody else has made the first of them too, or it
    /// is clear that nobody will.
    async fn dawdle(&self) {
        let before = self.dawdlers.fetch_add(1, Ordering::SeqCst);
        for _ in 0..5_000 {
            if self.dawdlers.load(Ordering::SeqCst) > before + 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl TokenStore for Broken {
    async fn epoch(&self, user: &UserId) -> Result<Epoch, Unavailable> {
        Ok(self.rows().epoch(user))
    }

    async fn insert(
        &self,
        hash: &HashedToken,
        record: &TokenRecord,
        cap: Option<u32>,
    ) -> Result<(), InsertError> {
        let within = |rows: &Rows| {
            let counts = |other: &TokenRecord| {
                self.is(Fault::CapCountsTheDead) || rows.living(other, record.created_at)
            };
            let alike = |other: &TokenRecord| other.user == record.user && other.purpose == record.purpose;
            let count = rows.tokens.iter().filter(|(_, other)| alike(other) && counts(other)).count();
            cap.is_none_or(|cap| count < usize::try_from(cap).unwrap())
        };
        if self.is(Fault::CapIsCheckedBeforeTheInsert) {
            let early = within(&self.rows());
            self.dawdle().await;
            if !early {
                return Err(InsertError::CapReached);
            }
        }
        let mut rows = self.rows();
        let known = |(kept, other): &(HashedToken, TokenRecord)| kept == hash || other.id == record.id;
        if rows.tokens.iter().any(known) {
            if !self.is(Fault::InsertOverwrites) {
                return Err(InsertError::Conflict);
            }
            rows.tokens.retain(|row| !known(row));
        }
        if rows.epoch(&record.user) != record.epoch && !self.is(Fault::InsertIgnoresTheEpoch) {
            return Err(InsertError::Ended);
        }
        let lenient = self.is(Fault::InsertIgnoresTheCap) || self.is(Fault::CapIsCheckedBeforeTheInsert);
        if !lenient && !within(&rows) {
            return Err(InsertError::CapReached);
        }
        rows.tokens.push((*hash, record.clone()));
        Ok(())
    }

    async fn find(&self, hash: &HashedToken) -> Result<Option<Found>, Unavailable> {
        let mut rows = self.rows();
        let fold = |hash: &HashedToken| hash.as_bytes().to_ascii_lowercase();
        let same = |kept: &HashedToken| {
            kept == hash || self.is(Fault::FindFoldsLetterCase) && fold(kept) == fold(hash)
        };
        let Some(record) = rows.row(|kept, _| same(kept)) else { return Ok(None) };
        if self.is(Fault::FindWritesTheLastUse) {
            record.last_used_at = Some(Timestamp::from_micros(record.created_at.as_micros() + 1));
        }
        let mut record = record.clone();
        if self.is(Fault::FindForgetsTheRevocation) {
            record.revoked_at = None;
        }
        if self.is(Fault::FindRoundsTimesToMilliseconds) {
            record.created_at = Timestamp::from_micros(record.created_at.as_micros() / 1000 * 1000);
        }
        if self.is(Fault::FindDeletesTheExpired)
            && record.expires_at.is_some_and(|end| end <= record.created_at)
        {
            return Ok(None);
        }
        // Too late for this answer.
        for (hash, at) in std::mem::take(&mut rows.pending) {
            if let Some(record) = rows.row(|kept, _| *kept == hash) {
                record.revoked_at.get_or_insert(at);
            }
        }
        let epoch = rows.epoch(&record.user);
        Ok(Some(Found::new(record, epoch)))
    }

    async fn find_by_id(&self, user: &UserId, id: TokenId) -> Result<Option<Found>, Unavailable> {
        let mut rows = self.rows();
        let any = self.is(Fault::FindByIdIgnoresTheUser);
        let record = rows.row(|_, record| record.id == id && (any || record.user == *user)).cloned();
        Ok(record.map(|record| Found::new(record, rows.epoch(user))))
    }

    async fn owner_of(&self, id: TokenId) -> Result<Option<UserId>, Unavailable> {
        let mut rows = self.rows();
        let hidden = self.is(Fault::OwnerOfForgetsTheDead);
        let record = rows.row(|_, record| record.id == id && !(hidden && record.revoked_at.is_some()));
        Ok(record.map(|record| record.user.clone()))
    }

    async fn take(&self, hash: &HashedToken, purpose: &str, now: Timestamp) -> Result<bool, Unavailable> {
        let good = |rows: &mut Rows| {
            let Some(record) = rows.row(|kept, _| kept == hash).cloned() else { return false };
            let fresh = Epoch::default() == record.epoch && self.is(Fault::TakeIgnoresTheEpoch);
            let in_time = self.is(Fault::TakeIgnoresExpiry) || record.expires_at.is_none_or(|end| now < end);
            let current = fresh || rows.epoch(&record.user) == record.epoch;
            let wanted = self.is(Fault::TakeIgnoresThePurpose) || record.purpose == purpose;
            record.revoked_at.is_none() && in_time && current && wanted
        };
        if self.is(Fault::TakeChecksBeforeItTakes) {
            let early = good(&mut self.rows());
            self.dawdle().await;
            if early && let Some(record) = self.rows().row(|kept, _| kept == hash) {
                record.revoked_at = Some(now);
            }
            return Ok(early);
        }
        let mut rows = self.rows();
        let good = good(&mut rows);
        if good && let Some(record) = rows.row(|kept, _| kept == hash) {
            record.revoked_at = Some(now);
        }
        Ok(good)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Unavailable> {
        let mut rows = self.rows();
        for touch in touches {
            let Some(record) = rows.row(|_, record| record.id == touch.id) else { continue };
            if self.is(Fault::TouchRevives) {
                record.revoked_at = None;
            }
            if record.revoked_at.is_none() {
                let later = record.last_used_at.max(Some(touch.at));
                record.last_used_at =
                    if self.is(Fault::TouchMovesBackwards) { Some(touch.at) } else { later };
            }
        }
        Ok(())
    }

    async fn revoke(&self, hash: &HashedToken, now: Timestamp) -> Result<bool, Unavailable> {
        let mut rows = self.rows();
        if self.is(Fault::RevokeAnswersBeforeItIsDone) {
            rows.pending.push((*hash, now));
            return Ok(true);
        }
        let Some(record) = rows.row(|kept, _| kept == hash) else { return Ok(false) };
        let first = record.revoked_at.is_none();
        if first || self.is(Fault::RevokeMovesItsTime) {
            record.revoked_at = Some(now);
        }
        Ok(first)
    }

    async fn revoke_by_id(&self, user: &UserId, id: TokenId, now: Timestamp) -> Result<bool, Unavailable> {
        let any = self.is(Fault::RevokeByIdIgnoresTheUser);
        let mut rows = self.rows();
        let Some(record) = rows.row(|_, record| record.id == id && (any || record.user == *user)) else {
            return Ok(false);
        };
        let first = record.revoked_at.is_none();
        record.revoked_at.get_or_insert(now);
        Ok(first)
    }

    async fn revoke_all(&self, user: &UserId, now: Timestamp) -> Result<u64, Unavailable> {
        let mut rows = self.rows();
        let theirs = |record: &TokenRecord| record.user == *user;
        let counts =
            |record: &TokenRecord| self.is(Fault::RevokeAllCountsTheDead) || rows.living(record, now);
        let count = rows.tokens.iter().filter(|(_, record)| theirs(record) && counts(record)).count();
        if self.is(Fault::RevokeAllOnlyMarksWhatIsThere) {
            for (_, record) in &mut rows.tokens {
                if record.user == *user {
                    record.revoked_at.get_or_insert(now);
                }
            }
        } else if !self.is(Fault::RevokeAllForgetsUnknownUsers)
            || rows.tokens.iter().any(|(_, record)| theirs(record))
        {
            rows.raises.push((user.clone(), now));
        }
        Ok(u64::try_from(count).unwrap())
    }

    async fn update(
        &self,
        user: &UserId,
        id: TokenId,
        change: &TokenChange,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let mut rows = self.rows();
        let any = self.is(Fault::UpdateIgnoresTheUser);
        let Some(record) = rows.row(|_, record| record.id == id && (any || record.user == *user)).cloned()
        else {
            return Ok(false);
        };
        if !rows.living(&record, now) && !self.is(Fault::UpdateChangesTheDead) {
            return Ok(false);
        }
        let record = rows.row(|_, record| record.id == id).unwrap();
        record.name = change.name.clone().or(record.name.take());
        record.expires_at = change.expires_at.unwrap_or(record.expires_at);
        Ok(true)
    }

    async fn list(&self, user: &UserId, purpose: &str, query: &ListQuery) -> Result<Page, Unavailable> {
        let rows = self.rows();
        let place = |record: &TokenRecord| (record.created_at, record.id);
        let mut tokens: Vec<TokenRecord> = rows
            .tokens
            .iter()
            .map(|(_, record)| record.clone())
            .filter(|record| record.user == *user)
            .filter(|record| self.is(Fault::ListMixesPurposes) || record.purpose == purpose)
            .filter(|record| {
                query.living_at.is_none_or(|now| {
                    let at_equality =
                        self.is(Fault::ListShowsTheExpiredAtEquality) && record.expires_at == Some(now);
                    rows.living(record, now) || at_equality && record.revoked_at.is_none()
                })
            })
            .filter(|record| {
                query.after.is_none_or(|after| {
                    let after_place = (after.created_at, after.id);
                    if self.is(Fault::ListForgetsTiesOfTheSameInstant) {
                        record.created_at < after.created_at
                    } else if self.is(Fault::ListShowsOldestFirst) {
                        place(record) > after_place
                    } else {
                        place(record) < after_place
                    }
                })
            })
            .collect();
        tokens.sort_by_key(|record| std::cmp::Reverse(place(record)));
        if self.is(Fault::ListShowsOldestFirst) {
            tokens.reverse();
        }
        Ok(Page::from_one_more(tokens, rows.epoch(user), query.limit))
    }

    async fn prune(&self, cutoff: Timestamp, limit: u32) -> Result<u64, Unavailable> {
        let cutoff = match self.fault {
            Fault::PruneTakesTheLivingAtTheCutoff => cutoff.checked_add(Duration::from_micros(1)).unwrap(),
            _ => cutoff,
        };
        let limit =
            if self.is(Fault::PruneExceedsItsLimit) { usize::MAX } else { usize::try_from(limit).unwrap() };
        let mut rows = self.rows();
        let dead: Vec<HashedToken> = rows
            .tokens
            .iter()
            .filter(|(_, record)| {
                let raised =
                    rows.raises.iter().rev().find(|(user, _)| *user == record.user).map(|(_, at)| *at);
                let ended = raised.filter(|_| rows.epoch(&record.user) != record.epoch);
                record.expires_at.is_some_and(|end| end < cutoff)
                    || record.revoked_at.is_some_and(|end| end < cutoff)
                        && !self.is(Fault::PruneForgetsTheRevoked)
                    || ended.is_some_and(|end| end < cutoff) && !self.is(Fault::PruneForgetsTheEnded)
            })
            .map(|(hash, _)| *hash)
            .take(limit)
            .collect();
        rows.tokens.retain(|(hash, _)| !dead.contains(hash));
        Ok(u64::try_from(dead.len()).unwrap())
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}
