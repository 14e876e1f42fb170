//! The promises of [`TokenStore`].

use std::sync::Arc;

use super::{
    HOUR, NOW, Outcome, Sample, TokenCase, ensure, equal, insert, later, read, sample, sample_with, text,
    unchanged,
};
use crate::{
    clock::Timestamp,
    record::{Epoch, Origin, TokenRecord, UserId},
    scope::Scopes,
    store::{Cursor, InsertError, ListQuery, TokenChange, TokenStore, Touch},
    token::{HashedToken, TokenId},
};

type Store = Arc<dyn TokenStore>;

/// A case from an async function: its name is the promise.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$(TokenCase { name: stringify!($name), run: |store| -> Outcome { Box::pin($name(store)) } }),*]
    };
}

pub(super) const CASES: &[TokenCase] = cases![
    an_empty_store_finds_nothing_and_is_ready,
    insert_then_find_gives_back_every_field,
    times_are_kept_to_the_microsecond_up_to_the_year_9999,
    hashes_are_compared_byte_for_byte,
    user_ids_are_opaque_and_compared_byte_for_byte,
    insert_of_a_known_hash_or_id_is_a_conflict_and_changes_nothing,
    insert_under_another_epoch_is_refused,
    cap_counts_the_living_of_this_purpose_and_user_alone,
    cap_holds_under_parallel_inserts,
    find_by_id_finds_only_the_users_own,
    owner_of_names_the_owner_of_the_living_and_the_dead,
    take_uses_up_a_living_token_of_this_purpose_once,
    take_of_what_is_not_good_changes_nothing,
    take_succeeds_once_among_a_hundred_at_once,
    touch_moves_forward_only_and_changes_nothing_else,
    touch_never_brings_back_what_is_revoked_or_unknown,
    revoke_holds_for_the_next_find_and_keeps_its_first_time,
    revoke_by_id_leaves_another_users_token_alone,
    revoke_all_ends_every_purpose_and_counts_the_living,
    revoke_all_reaches_users_it_has_never_heard_of,
    revoke_all_leaves_no_racing_insert_alive,
    update_changes_the_named_columns_of_a_living_token,
    update_of_what_is_not_living_or_not_ones_own_changes_nothing,
    list_pages_newest_first_without_gaps_or_repeats,
    list_filters_the_living_as_the_record_itself_does,
    list_shows_one_users_tokens_of_one_purpose,
    prune_deletes_what_died_before_the_cutoff_and_nothing_else,
    prune_deletes_no_more_than_its_limit,
    prune_leaves_tokens_made_after_everything_was_ended,
];

fn user(id: &str) -> Result<UserId, String> {
    UserId::new(id).map_err(text)
}

async fn an_empty_store_finds_nothing_and_is_ready(store: Store) -> Result<(), String> {
    let Sample { hash, record } = sample("ada")?;
    store.ready().await.map_err(text)?;
    ensure(store.find(&hash).await.map_err(text)?.is_none(), "found")?;
    ensure(store.find_by_id(&record.user, record.id).await.map_err(text)?.is_none(), "found by id")?;
    ensure(!store.revoke(&hash, NOW).await.map_err(text)?, "revoked")?;
    ensure(!store.revoke_by_id(&record.user, record.id, NOW).await.map_err(text)?, "revoked by id")?;
    ensure(!store.take(&hash, "api", NOW).await.map_err(text)?, "taken")?;
    equal(&store.epoch(&record.user).await.map_err(text)?, &Epoch::default(), "epoch")?;
    equal(&store.prune(later(HOUR), 10).await.map_err(text)?, &0, "pruned")?;
    let page = store.list(&record.user, "api", &all()).await.map_err(text)?;
    ensure(page.tokens.is_empty() && page.next.is_none(), "listed")
}

async fn insert_then_find_gives_back_every_field(store: Store) -> Result<(), String> {
    let meta = serde_json::json!({
        "ip_address": "192.168.1.0", "n": -1.5, "big": 9_007_199_254_740_993_u64, "deep": [{"": null}, "\u{0}\u{1f600}'\"\\"],
        "pad": "x".repeat(3_900),
    });
    let full = sample_with("ada", |record| {
        record.origin = Origin::Login;
        record.name = Some("Zoë's laptop 🎉 '; DROP TABLE tokens; --".to_owned());
        record.scopes = Scopes::parse(["tokens:read", "profile:read", "!~"]).unwrap_or_default();
        record.meta = meta.as_object().cloned().unwrap_or_default();
        record.bound_to = Some("ada@example.com".to_owned());
        record.last_used_at = Some(later(1));
    })?;
    let bare = sample_with("ada", |record| {
        record.expires_at = None;
        record.scopes = Scopes::none();
    })?;
    for sample in [&full, &bare] {
        insert(&*store, sample).await?;
        let (record, epoch) = read(&*store, sample).await?;
        equal(&record, &sample.record, "record")?;
        equal(&epoch, &Epoch::default(), "epoch")?;
        unchanged(&*store, sample, "after a find").await?;
    }
    Ok(())
}

async fn times_are_kept_to_the_microsecond_up_to_the_year_9999(store: Store) -> Result<(), String> {
    // 2038-01-19 and one second on, and the last microsecond of the year 9999.
    for micros in [2_147_483_647_999_999, 2_147_483_648_000_001, 253_402_300_799_999_999] {
        let sample = sample_with("ada", |record| {
            record.created_at = Timestamp::from_micros(micros - 1);
            record.expires_at = Some(Timestamp::from_micros(micros));
        })?;
        insert(&*store, &sample).await?;
        unchanged(&*store, &sample, "times").await?;
    }
    Ok(())
}

async fn hashes_are_compared_byte_for_byte(store: Store) -> Result<(), String> {
    let mut kept = Vec::new();
    for bytes in
        [[0; 32], [255; 32], std::array::from_fn(|n| u8::try_from(n).unwrap_or(0)), [b'a'; 32], [b'A'; 32]]
    {
        let mut sample = sample("ada")?;
        sample.hash = HashedToken::from_bytes(bytes);
        insert(&*store, &sample).await?;
        kept.push(sample);
    }
    for sample in &kept {
        unchanged(&*store, sample, "record").await?;
        let mut near = *sample.hash.as_bytes();
        near[31] ^= 1;
        let near = HashedToken::from_bytes(near);
        ensure(store.find(&near).await.map_err(text)?.is_none(), "a hash that differs in one bit is found")?;
    }
    Ok(())
}

async fn user_ids_are_opaque_and_compared_byte_for_byte(store: Store) -> Result<(), String> {
    let longest = "\u{20ac}".repeat(85);
    let ids = [
        "a",
        "A",
        "a ",
        " a",
        "á",
        "a\u{301}",
        "1",
        "01",
        "1.0",
        "%",
        "_",
        "a'--",
        "\u{1f600}",
        "ß",
        "ss",
        &longest,
    ];
    let mut kept = Vec::new();
    for id in ids {
        let sample = sample(id)?;
        insert(&*store, &sample).await?;
        kept.push(sample);
    }
    for sample in &kept {
        let page = store.list(&sample.record.user, "api", &all()).await.map_err(text)?;
        equal(&page.tokens, &vec![sample.record.clone()], "the list of one user")?;
    }
    store.revoke_all(&user("a")?, NOW).await.map_err(text)?;
    for sample in kept.iter().skip(1) {
        let (record, epoch) = read(&*store, sample).await?;
        ensure(record.living(epoch, NOW).is_ok(), format!("ending \"a\" ended {:?}", record.user))?;
    }
    Ok(())
}

async fn insert_of_a_known_hash_or_id_is_a_conflict_and_changes_nothing(store: Store) -> Result<(), String> {
    let first = sample("ada")?;
    insert(&*store, &first).await?;
    let same_hash = Sample { hash: first.hash, record: sample("bob")?.record };
    let mut same_id = sample("bob")?;
    same_id.record.id = first.record.id;
    for second in [same_hash, same_id] {
        let verdict = store.insert(&second.hash, &second.record, None).await;
        ensure(matches!(verdict, Err(InsertError::Conflict)), format!("{verdict:?} instead of a conflict"))?;
        unchanged(&*store, &first, "the first token").await?;
        let page = store.list(&second.record.user, "api", &all()).await.map_err(text)?;
        ensure(page.tokens.is_empty(), "half of the second token was kept")?;
    }
    Ok(())
}

async fn insert_under_another_epoch_is_refused(store: Store) -> Result<(), String> {
    let early = sample_with("ada", |record| record.epoch = Epoch::new(1))?;
    let verdict = store.insert(&early.hash, &early.record, None).await;
    ensure(matches!(verdict, Err(InsertError::Ended)), format!("a future epoch: {verdict:?}"))?;
    store.revoke_all(&early.record.user, NOW).await.map_err(text)?;
    let late = sample("ada")?;
    let verdict = store.insert(&late.hash, &late.record, None).await;
    ensure(matches!(verdict, Err(InsertError::Ended)), format!("a past epoch: {verdict:?}"))?;
    ensure(store.find(&late.hash).await.map_err(text)?.is_none(), "a refused token was kept")?;
    insert(&*store, &early).await
}

async fn cap_counts_the_living_of_this_purpose_and_user_alone(store: Store) -> Result<(), String> {
    let dead_at_equality = sample_with("ada", |record| {
        record.created_at = later(-HOUR);
        record.expires_at = Some(NOW);
    })?;
    let revoked = sample("ada")?;
    let other_purpose = sample_with("ada", |record| record.purpose = "session".to_owned())?;
    let other_user = sample("bob")?;
    for sample in [&dead_at_equality, &revoked, &other_purpose, &other_user] {
        insert(&*store, sample).await?;
    }
    store.revoke(&revoked.hash, NOW).await.map_err(text)?;
    let capped = |sample: Sample| {
        let store = Arc::clone(&store);
        async move { store.insert(&sample.hash, &sample.record, Some(2)).await }
    };
    capped(sample_with("ada", |record| record.expires_at = None)?).await.map_err(text)?;
    capped(sample("ada")?).await.map_err(text)?;
    let verdict = capped(sample("ada")?).await;
    ensure(matches!(verdict, Err(InsertError::CapReached)), format!("a third of two: {verdict:?}"))?;
    store.revoke_all(&user("ada")?, NOW).await.map_err(text)?;
    capped(sample_with("ada", |record| record.epoch = Epoch::new(1))?).await.map_err(text)?;
    let none = sample("eve")?;
    let verdict = store.insert(&none.hash, &none.record, Some(0)).await;
    ensure(matches!(verdict, Err(InsertError::CapReached)), format!("a cap of zero: {verdict:?}"))
}

async fn cap_holds_under_parallel_inserts(store: Store) -> Result<(), String> {
    let mut tasks = Vec::new();
    for _ in 0..200 {
        let (store, sample) = (Arc::clone(&store), sample("ada")?);
        tasks.push(tokio::spawn(async move { store.insert(&sample.hash, &sample.record, Some(10)).await }));
    }
    let mut kept = 0;
    for task in tasks {
        match task.await.map_err(text)? {
            Ok(()) => kept += 1,
            Err(InsertError::CapReached) => {}
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    equal(&kept, &10, "inserts that succeeded")?;
    let page = store.list(&user("ada")?, "api", &all()).await.map_err(text)?;
    equal(&page.tokens.len(), &10, "tokens listed")
}

async fn find_by_id_finds_only_the_users_own(store: Store) -> Result<(), String> {
    let sample = sample("ada")?;
    insert(&*store, &sample).await?;
    let own = store.find_by_id(&sample.record.user, sample.record.id).await.map_err(text)?;
    equal(&own.map(|found| found.record), &Some(sample.record.clone()), "one's own")?;
    let other = store.find_by_id(&user("bob")?, sample.record.id).await.map_err(text)?;
    ensure(other.is_none(), "another user's token is found by its id")
}

async fn owner_of_names_the_owner_of_the_living_and_the_dead(store: Store) -> Result<(), String> {
    let (living, revoked) = (sample("ada")?, sample("bob")?);
    insert(&*store, &living).await?;
    insert(&*store, &revoked).await?;
    store.revoke(&revoked.hash, NOW).await.map_err(text)?;
    for sample in [&living, &revoked] {
        let owner = store.owner_of(sample.record.id).await.map_err(text)?;
        equal(&owner.as_ref(), &Some(&sample.record.user), "the owner")?;
    }
    let unknown = TokenId::random().map_err(text)?;
    equal(&store.owner_of(unknown).await.map_err(text)?, &None, "the owner of no token")
}

async fn take_uses_up_a_living_token_of_this_purpose_once(store: Store) -> Result<(), String> {
    let sample = sample_with("ada", |record| record.purpose = "confirm".to_owned())?;
    insert(&*store, &sample).await?;
    let last = later(HOUR - 1);
    ensure(store.take(&sample.hash, "confirm", last).await.map_err(text)?, "a living token is not taken")?;
    ensure(!store.take(&sample.hash, "confirm", last).await.map_err(text)?, "a token is taken twice")?;
    let mut expected = sample.record.clone();
    expected.revoked_at = Some(last);
    equal(&read(&*store, &sample).await?.0, &expected, "the token that was taken")
}

async fn take_of_what_is_not_good_changes_nothing(store: Store) -> Result<(), String> {
    let confirm = |record: &mut TokenRecord| record.purpose = "confirm".to_owned();
    let living = sample_with("ada", confirm)?;
    let ended = sample_with("bob", confirm)?;
    insert(&*store, &living).await?;
    insert(&*store, &ended).await?;
    store.revoke_all(&ended.record.user, NOW).await.map_err(text)?;
    let take = |sample: &Sample, purpose: &'static str, now| {
        let (store, hash) = (Arc::clone(&store), sample.hash);
        async move { store.take(&hash, purpose, now).await.map_err(text) }
    };
    ensure(!take(&living, "api", NOW).await?, "taken for another purpose")?;
    ensure(!take(&living, "", NOW).await?, "taken for no purpose")?;
    ensure(!take(&living, "confirm", later(HOUR)).await?, "taken at the instant of its death")?;
    unchanged(&*store, &living, "a token that was not taken").await?;
    ensure(!take(&ended, "confirm", NOW).await?, "taken after everything was ended")?;
    unchanged(&*store, &ended, "a token that was ended").await?;
    store.revoke(&living.hash, NOW).await.map_err(text)?;
    ensure(!take(&living, "confirm", NOW).await?, "taken after it was revoked")
}

async fn take_succeeds_once_among_a_hundred_at_once(store: Store) -> Result<(), String> {
    let sample = sample_with("ada", |record| record.purpose = "confirm".to_owned())?;
    insert(&*store, &sample).await?;
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let (store, hash) = (Arc::clone(&store), sample.hash);
        tasks.push(tokio::spawn(async move { store.take(&hash, "confirm", NOW).await }));
    }
    let mut taken = 0;
    for task in tasks {
        taken += u32::from(task.await.map_err(text)?.map_err(text)?);
    }
    equal(&taken, &1, "how many took it")
}

async fn touch_moves_forward_only_and_changes_nothing_else(store: Store) -> Result<(), String> {
    let sample = sample("ada")?;
    insert(&*store, &sample).await?;
    let id = sample.record.id;
    let mut expected = sample.record.clone();
    for (touched, kept) in [(5, 5), (3, 5), (5, 5), (9, 9)] {
        store.touch(&[Touch { id, at: later(touched) }]).await.map_err(text)?;
        expected.last_used_at = Some(later(kept));
        equal(&read(&*store, &sample).await?.0, &expected, "the token that was touched")?;
    }
    store.touch(&[]).await.map_err(text)
}

async fn touch_never_brings_back_what_is_revoked_or_unknown(store: Store) -> Result<(), String> {
    let (revoked, living) = (sample("ada")?, sample("ada")?);
    insert(&*store, &revoked).await?;
    insert(&*store, &living).await?;
    store.revoke(&revoked.hash, later(1)).await.map_err(text)?;
    let unknown = TokenId::random().map_err(text)?;
    let ids = [revoked.record.id, unknown, living.record.id];
    store.touch(&ids.map(|id| Touch { id, at: later(2) })).await.map_err(text)?;
    let mut expected = revoked.record.clone();
    expected.revoked_at = Some(later(1));
    equal(&read(&*store, &revoked).await?.0, &expected, "the revoked token")?;
    ensure(
        store.find_by_id(&user("ada")?, unknown).await.map_err(text)?.is_none(),
        "an unknown id came to life",
    )?;
    equal(&read(&*store, &living).await?.0.last_used_at, &Some(later(2)), "the one touched beside them")
}

async fn revoke_holds_for_the_next_find_and_keeps_its_first_time(store: Store) -> Result<(), String> {
    let sample = sample("ada")?;
    insert(&*store, &sample).await?;
    ensure(store.revoke(&sample.hash, later(1)).await.map_err(text)?, "not revoked")?;
    let mut expected = sample.record.clone();
    expected.revoked_at = Some(later(1));
    equal(&read(&*store, &sample).await?.0, &expected, "the revoked token")?;
    ensure(!store.revoke(&sample.hash, later(2)).await.map_err(text)?, "revoked twice")?;
    equal(&read(&*store, &sample).await?.0, &expected, "the token revoked twice")
}

async fn revoke_by_id_leaves_another_users_token_alone(store: Store) -> Result<(), String> {
    let sample = sample("ada")?;
    insert(&*store, &sample).await?;
    let id = sample.record.id;
    ensure(!store.revoke_by_id(&user("bob")?, id, NOW).await.map_err(text)?, "revoked by another user")?;
    unchanged(&*store, &sample, "the token").await?;
    ensure(store.revoke_by_id(&sample.record.user, id, NOW).await.map_err(text)?, "not revoked")?;
    ensure(!store.revoke_by_id(&sample.record.user, id, NOW).await.map_err(text)?, "revoked twice")?;
    equal(&read(&*store, &sample).await?.0.revoked_at, &Some(NOW), "the time")
}

async fn revoke_all_ends_every_purpose_and_counts_the_living(store: Store) -> Result<(), String> {
    let samples = [
        sample("ada")?,
        sample_with("ada", |record| record.purpose = "session".to_owned())?,
        sample_with("ada", |record| record.expires_at = Some(NOW))?,
        sample("ada")?,
    ];
    for sample in &samples {
        insert(&*store, sample).await?;
    }
    let [.., revoked] = &samples;
    store.revoke(&revoked.hash, NOW).await.map_err(text)?;
    let bob = sample("bob")?;
    insert(&*store, &bob).await?;
    equal(&store.revoke_all(&user("ada")?, NOW).await.map_err(text)?, &2, "the count of the living")?;
    equal(&store.epoch(&user("ada")?).await.map_err(text)?, &Epoch::new(1), "the epoch")?;
    for sample in &samples {
        let (record, epoch) = read(&*store, sample).await?;
        ensure(record.living(epoch, NOW).is_err(), "a token outlived the end of all")?;
    }
    let (record, epoch) = read(&*store, &bob).await?;
    ensure(record.living(epoch, NOW).is_ok(), "another user's token was ended")?;
    equal(&store.revoke_all(&user("ada")?, NOW).await.map_err(text)?, &0, "the count of the dead")?;
    equal(&store.epoch(&user("ada")?).await.map_err(text)?, &Epoch::new(2), "the epoch after the second")
}

async fn revoke_all_reaches_users_it_has_never_heard_of(store: Store) -> Result<(), String> {
    equal(&store.revoke_all(&user("new")?, NOW).await.map_err(text)?, &0, "the count")?;
    let in_flight = sample("new")?;
    let verdict = store.insert(&in_flight.hash, &in_flight.record, None).await;
    ensure(matches!(verdict, Err(InsertError::Ended)), format!("a token being made: {verdict:?}"))
}

async fn revoke_all_leaves_no_racing_insert_alive(store: Store) -> Result<(), String> {
    let mut samples = Vec::new();
    for _ in 0..64 {
        samples.push(sample("ada")?);
    }
    let mut tasks = Vec::new();
    for (number, sample) in samples.clone().into_iter().enumerate() {
        let (store, ada) = (Arc::clone(&store), user("ada")?);
        tasks.push(tokio::spawn(async move {
            if number == 32 {
                store.revoke_all(&ada, NOW).await.map_err(text)?;
            }
            match store.insert(&sample.hash, &sample.record, None).await {
                Ok(()) | Err(InsertError::Ended) => Ok(()),
                Err(error) => Err(format!("{error:?}")),
            }
        }));
    }
    for task in tasks {
        task.await.map_err(text)??;
    }
    for sample in &samples {
        if let Some(found) = store.find(&sample.hash).await.map_err(text)? {
            ensure(
                found.record.living(found.epoch, NOW).is_err(),
                "a racing insert outlived the end of all",
            )?;
        }
    }
    Ok(())
}

async fn update_changes_the_named_columns_of_a_living_token(store: Store) -> Result<(), String> {
    let sample = sample_with("ada", |record| record.name = Some("old".to_owned()))?;
    insert(&*store, &sample).await?;
    let mut expected = sample.record.clone();
    let steps = [
        TokenChange { name: Some("new".to_owned()), expires_at: None },
        TokenChange { name: None, expires_at: Some(Some(later(2 * HOUR))) },
        TokenChange { name: Some("both".to_owned()), expires_at: Some(None) },
        TokenChange::default(),
    ];
    for change in steps {
        let changed =
            store.update(&sample.record.user, sample.record.id, &change, NOW).await.map_err(text)?;
        ensure(changed, format!("{change:?} was not made"))?;
        expected.name = change.name.or(expected.name);
        expected.expires_at = change.expires_at.unwrap_or(expected.expires_at);
        equal(&read(&*store, &sample).await?.0, &expected, "the changed token")?;
    }
    Ok(())
}

async fn update_of_what_is_not_living_or_not_ones_own_changes_nothing(store: Store) -> Result<(), String> {
    let living = sample("ada")?;
    let expired = sample_with("ada", |record| record.expires_at = Some(NOW))?;
    let revoked = sample("ada")?;
    let ended = sample("eve")?;
    for sample in [&living, &expired, &revoked, &ended] {
        insert(&*store, sample).await?;
    }
    store.revoke(&revoked.hash, NOW).await.map_err(text)?;
    store.revoke_all(&ended.record.user, NOW).await.map_err(text)?;
    let change = TokenChange { name: Some("new".to_owned()), expires_at: Some(None) };
    for (what, owner, sample) in [
        ("another's", "bob", &living),
        ("an expired", "ada", &expired),
        ("a revoked", "ada", &revoked),
        ("an ended", "eve", &ended),
    ] {
        let before = read(&*store, sample).await?;
        let changed = store.update(&user(owner)?, sample.record.id, &change, NOW).await.map_err(text)?;
        ensure(!changed, format!("{what} token was changed"))?;
        equal(&read(&*store, sample).await?, &before, what)?;
    }
    Ok(())
}

async fn list_pages_newest_first_without_gaps_or_repeats(store: Store) -> Result<(), String> {
    let mut expected = Vec::new();
    for number in 0..23 {
        // Several of one instant, so that the id decides.
        let sample = sample_with("ada", |record| record.created_at = later(number / 5))?;
        insert(&*store, &sample).await?;
        expected.push(sample.record);
    }
    expected.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
    for limit in [1, 4, 22, 23, 24] {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let query = ListQuery { after, limit, living_at: None };
            let page = store.list(&user("ada")?, "api", &query).await.map_err(text)?;
            ensure(
                page.tokens.len() <= usize::try_from(limit).unwrap_or(usize::MAX),
                "a page over its limit",
            )?;
            seen.extend(page.tokens);
            pages += 1;
            after = page.next;
            // A cursor goes over the wire.
            equal(&after.and_then(|next| Cursor::parse(&next.to_string())), &after, "the cursor as text")?;
            if after.is_none() {
                break;
            }
            ensure(pages < 30, "the list does not end")?;
        }
        equal(&seen, &expected, &format!("the list in pages of {limit}"))?;
    }
    Ok(())
}

async fn list_filters_the_living_as_the_record_itself_does(store: Store) -> Result<(), String> {
    let lives = [None, Some(later(-1)), Some(NOW), Some(later(1)), Some(later(HOUR))];
    for epoch in [0, 1] {
        for expires_at in lives {
            for revoke in [false, true] {
                let sample = sample_with("ada", |record| {
                    record.created_at = later(-HOUR);
                    record.epoch = Epoch::new(epoch);
                    record.expires_at = expires_at;
                })?;
                insert(&*store, &sample).await?;
                if revoke {
                    // Later than the instant asked about: revoked is revoked, whatever the clock says.
                    store.revoke(&sample.hash, later(2 * HOUR)).await.map_err(text)?;
                }
            }
        }
        if epoch == 0 {
            store.revoke_all(&user("ada")?, NOW).await.map_err(text)?;
        }
    }
    let everything = store.list(&user("ada")?, "api", &all()).await.map_err(text)?;
    equal(&everything.tokens.len(), &20, "tokens in all")?;
    for now in [later(-1), NOW, later(1), later(HOUR), later(3 * HOUR)] {
        let query = ListQuery { living_at: Some(now), ..all() };
        let living = store.list(&user("ada")?, "api", &query).await.map_err(text)?;
        let mut expected = everything.tokens.clone();
        expected.retain(|record| record.living(everything.epoch, now).is_ok());
        equal(&living.tokens, &expected, "the living")?;
        equal(&living.epoch, &Epoch::new(1), "the epoch")?;
    }
    Ok(())
}

async fn list_shows_one_users_tokens_of_one_purpose(store: Store) -> Result<(), String> {
    let samples =
        [sample("ada")?, sample_with("ada", |record| record.purpose = "session".to_owned())?, sample("bob")?];
    for sample in &samples {
        insert(&*store, sample).await?;
    }
    let page = store.list(&user("ada")?, "api", &all()).await.map_err(text)?;
    let [first, ..] = samples;
    equal(&page.tokens, &vec![first.record], "the list")
}

async fn prune_deletes_what_died_before_the_cutoff_and_nothing_else(store: Store) -> Result<(), String> {
    let cutoff = NOW;
    let old = |expires_at| {
        move |record: &mut TokenRecord| {
            record.created_at = later(-HOUR);
            record.expires_at = expires_at;
        }
    };
    let kept = [
        sample_with("ada", old(None))?,
        sample_with("ada", old(Some(cutoff)))?,
        sample_with("ada", old(Some(later(1))))?,
    ];
    let gone = [sample_with("ada", old(Some(later(-1))))?, sample_with("ada", old(Some(later(-2))))?];
    let revoked_before = sample_with("ada", old(None))?;
    let revoked_at = sample_with("ada", old(None))?;
    let ended_before = sample_with("bob", old(None))?;
    let ended_at = sample_with("eve", old(None))?;
    for sample in kept.iter().chain(&gone).chain([&revoked_before, &revoked_at, &ended_before, &ended_at]) {
        insert(&*store, sample).await?;
    }
    store.revoke(&revoked_before.hash, later(-1)).await.map_err(text)?;
    store.revoke(&revoked_at.hash, cutoff).await.map_err(text)?;
    store.revoke_all(&ended_before.record.user, later(-1)).await.map_err(text)?;
    store.revoke_all(&ended_at.record.user, cutoff).await.map_err(text)?;
    equal(&store.prune(cutoff, 100).await.map_err(text)?, &4, "how many were deleted")?;
    for sample in kept.iter().chain([&revoked_at, &ended_at]) {
        read(&*store, sample).await?;
    }
    for sample in gone.iter().chain([&revoked_before, &ended_before]) {
        let found = store.find(&sample.hash).await.map_err(text)?;
        ensure(found.is_none(), "what died before the cutoff is still there")?;
    }
    equal(&store.prune(cutoff, 100).await.map_err(text)?, &0, "how many were deleted the second time")?;
    equal(&store.prune(later(1), 100).await.map_err(text)?, &3, "how many died at the cutoff itself")
}

async fn prune_deletes_no_more_than_its_limit(store: Store) -> Result<(), String> {
    for number in 0..9 {
        let sample = sample_with(if number < 6 { "ada" } else { "bob" }, |record| {
            record.created_at = later(-HOUR);
            record.expires_at = (number < 3).then(|| later(-2));
        })?;
        insert(&*store, &sample).await?;
        if (3..6).contains(&number) {
            store.revoke(&sample.hash, later(-2)).await.map_err(text)?;
        }
    }
    store.revoke_all(&user("bob")?, later(-2)).await.map_err(text)?;
    let mut counts = Vec::new();
    loop {
        let count = store.prune(NOW, 2).await.map_err(text)?;
        counts.push(count);
        ensure(count <= 2, format!("{count} deleted at a limit of 2"))?;
        // A full batch says that there may be more; anything less says that there is none.
        if count < 2 {
            break;
        }
        ensure(counts.len() < 20, "pruning does not end")?;
    }
    equal(&counts.iter().sum::<u64>(), &9, "how many were deleted in all")
}

async fn prune_leaves_tokens_made_after_everything_was_ended(store: Store) -> Result<(), String> {
    let old = sample_with("ada", |record| record.expires_at = None)?;
    insert(&*store, &old).await?;
    for round in 1..=2 {
        store.revoke_all(&user("ada")?, later(-1)).await.map_err(text)?;
        let new = sample_with("ada", |record| {
            record.epoch = Epoch::new(round);
            record.expires_at = None;
        })?;
        insert(&*store, &new).await?;
        equal(&store.prune(NOW, 100).await.map_err(text)?, &1, "how many were deleted")?;
        let (record, epoch) = read(&*store, &new).await?;
        ensure(record.living(epoch, NOW).is_ok(), "the new token is dead")?;
    }
    Ok(())
}

fn all() -> ListQuery {
    ListQuery { after: None, limit: 1000, living_at: None }
}
