//! The promises of [`AccountStore`].

use std::sync::Arc;

use super::{AccountCase, NOW, Outcome, ensure, equal, insert, later, read, sample_with, text};
use crate::{
    account::{Account, AccountStore, CreateError},
    address::EmailAddress,
    password::StoredPassword,
    record::{Epoch, UserId},
    scope::Scopes,
    store::{InsertError, TokenStore},
};

type Accounts = Arc<dyn AccountStore>;
type Tokens = Arc<dyn TokenStore>;

/// A case from an async function: its name is the promise.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$(AccountCase {
            name: stringify!($name),
            run: |accounts, tokens| -> Outcome { Box::pin($name(accounts, tokens)) },
        }),*]
    };
}

pub(super) const CASES: &[AccountCase] = cases![
    create_then_find_gives_back_every_field,
    an_unknown_account_is_none_everywhere,
    an_address_is_taken_once_and_a_conflict_changes_nothing,
    an_address_is_taken_once_among_many_at_once,
    find_of_a_token_brings_its_owners_account,
    list_goes_by_address_in_pages,
    set_password_ends_all_tokens_in_the_same_step,
    rehash_ends_nothing_and_replaces_only_what_it_was_made_from,
    disable_then_enable_revives_nothing,
    delete_then_register_again_revives_nothing,
];

fn account(email: &str) -> Result<Account, String> {
    let email = EmailAddress::parse(email).map_err(text)?;
    Ok(Account::new(UserId::random().map_err(text)?, email, NOW))
}

async fn created(accounts: &Accounts, email: &str) -> Result<Account, String> {
    let account = account(email)?;
    accounts.create(&account, Some(&password("first"))).await.map_err(text)?;
    Ok(account)
}

fn password(word: &str) -> StoredPassword {
    StoredPassword::from_phc(word)
}

async fn stored(accounts: &Accounts, account: &Account) -> Result<(Account, Option<StoredPassword>), String> {
    let found = accounts.find_by_email(&account.email).await.map_err(text)?;
    found.ok_or_else(|| "an account that was kept is not found".to_owned())
}

async fn create_then_find_gives_back_every_field(accounts: Accounts, _: Tokens) -> Result<(), String> {
    let mut full = account("zoë@bücher.example")?;
    full.grants = Scopes::parse(["admin"]).map_err(text)?;
    full.confirmed_at = Some(later(1));
    full.disabled_at = Some(later(2));
    let bare = account("ada@example.com")?;
    for (account, password) in [(&full, Some(password("$argon2id$"))), (&bare, None)] {
        accounts.create(account, password.as_ref()).await.map_err(text)?;
        equal(&stored(&accounts, account).await?, &(account.clone(), password), "by address")?;
        let found = accounts.find(&account.id).await.map_err(text)?;
        equal(&found.as_ref(), &Some(account), "by id")?;
    }
    Ok(())
}

async fn an_unknown_account_is_none_everywhere(accounts: Accounts, _: Tokens) -> Result<(), String> {
    let Account { id, email, .. } = account("ada@example.com")?;
    let what = "an unknown account";
    equal(&accounts.find(&id).await.map_err(text)?, &None, what)?;
    equal(&accounts.find_by_email(&email).await.map_err(text)?, &None, what)?;
    equal(&accounts.set_password(&id, &password("x"), NOW).await.map_err(text)?, &None, what)?;
    equal(&accounts.disable(&id, NOW).await.map_err(text)?, &None, what)?;
    equal(&accounts.enable(&id).await.map_err(text)?, &false, what)?;
    equal(&accounts.delete(&id, NOW).await.map_err(text)?, &None, what)?;
    accounts.rehash(&id, &password("x"), &password("y")).await.map_err(text)?;
    equal(&accounts.list(None, 10).await.map_err(text)?, &Vec::new(), what)
}

async fn an_address_is_taken_once_and_a_conflict_changes_nothing(
    accounts: Accounts,
    _: Tokens,
) -> Result<(), String> {
    let first = created(&accounts, "ada@example.com").await?;
    let verdict = accounts.create(&account("ADA@example.com")?, Some(&password("second"))).await;
    ensure(matches!(verdict, Err(CreateError::Conflict)), format!("{verdict:?} instead of a conflict"))?;
    let mut same_id = account("bob@example.com")?;
    same_id.id = first.id.clone();
    let verdict = accounts.create(&same_id, None).await;
    ensure(matches!(verdict, Err(CreateError::Conflict)), format!("{verdict:?} for a known id"))?;
    equal(&stored(&accounts, &first).await?, &(first, Some(password("first"))), "the first account")
}

async fn an_address_is_taken_once_among_many_at_once(accounts: Accounts, _: Tokens) -> Result<(), String> {
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let (accounts, account) = (Arc::clone(&accounts), account("ada@example.com")?);
        tasks.push(tokio::spawn(async move { accounts.create(&account, None).await.is_ok() }));
    }
    let mut taken = 0;
    for task in tasks {
        taken += u32::from(task.await.map_err(text)?);
    }
    equal(&taken, &1, "how many took it")
}

async fn find_of_a_token_brings_its_owners_account(accounts: Accounts, tokens: Tokens) -> Result<(), String> {
    let ada = created(&accounts, "ada@example.com").await?;
    let own = sample_with(ada.id.as_str(), |_| ())?;
    let foreign = sample_with("somebody without an account", |_| ())?;
    insert(&*tokens, &own).await?;
    insert(&*tokens, &foreign).await?;
    let found = tokens.find(&own.hash).await.map_err(text)?.ok_or("not found")?;
    equal(&found.account, &Some(ada), "the account")?;
    let found = tokens.find(&foreign.hash).await.map_err(text)?.ok_or("not found")?;
    equal(&found.account, &None, "the account of a user of the application's own")
}

async fn list_goes_by_address_in_pages(accounts: Accounts, _: Tokens) -> Result<(), String> {
    let mut expected = Vec::new();
    for email in ["d@example.com", "a@example.com", "c@example.com", "b@example.com", "é@example.com"] {
        expected.push(created(&accounts, email).await?);
    }
    expected.sort_by(|a, b| a.email.cmp(&b.email));
    let mut seen: Vec<Account> = Vec::new();
    loop {
        let page = accounts.list(seen.last().map(|last| &last.email), 2).await.map_err(text)?;
        if page.is_empty() {
            break;
        }
        seen.extend(page);
        ensure(seen.len() <= 5, "the list does not end")?;
    }
    equal(&seen, &expected, "the list")
}

async fn set_password_ends_all_tokens_in_the_same_step(
    accounts: Accounts,
    tokens: Tokens,
) -> Result<(), String> {
    let ada = created(&accounts, "ada@example.com").await?;
    let token = sample_with(ada.id.as_str(), |_| ())?;
    let session = sample_with(ada.id.as_str(), |record| record.purpose = "session".to_owned())?;
    insert(&*tokens, &token).await?;
    insert(&*tokens, &session).await?;
    let ended = accounts.set_password(&ada.id, &password("second"), NOW).await.map_err(text)?;
    equal(&ended, &Some(2), "how many living tokens this ended")?;
    let (account, stored) = stored(&accounts, &ada).await?;
    equal(&(account.epoch, stored), &(Epoch::new(1), Some(password("second"))), "the account")?;
    equal(&tokens.epoch(&ada.id).await.map_err(text)?, &Epoch::new(1), "the epoch the tokens see")?;
    for sample in [&token, &session] {
        let (record, epoch) = read(&*tokens, sample).await?;
        ensure(record.living(epoch, NOW).is_err(), "a token outlived the password")?;
    }
    // A log-in that checked the old password a moment ago.
    let in_flight = sample_with(ada.id.as_str(), |_| ())?;
    let verdict = tokens.insert(&in_flight.hash, &in_flight.record, None).await;
    ensure(matches!(verdict, Err(InsertError::Ended)), format!("a log-in in flight: {verdict:?}"))
}

async fn rehash_ends_nothing_and_replaces_only_what_it_was_made_from(
    accounts: Accounts,
    tokens: Tokens,
) -> Result<(), String> {
    let ada = created(&accounts, "ada@example.com").await?;
    let token = sample_with(ada.id.as_str(), |_| ())?;
    insert(&*tokens, &token).await?;
    accounts.rehash(&ada.id, &password("stale"), &password("wrong")).await.map_err(text)?;
    equal(&stored(&accounts, &ada).await?, &(ada.clone(), Some(password("first"))), "after a stale rehash")?;
    accounts.rehash(&ada.id, &password("first"), &password("stronger")).await.map_err(text)?;
    equal(&stored(&accounts, &ada).await?, &(ada, Some(password("stronger"))), "after a rehash")?;
    let (record, epoch) = read(&*tokens, &token).await?;
    ensure(record.living(epoch, NOW).is_ok(), "a rehash ended a token")
}

async fn disable_then_enable_revives_nothing(accounts: Accounts, tokens: Tokens) -> Result<(), String> {
    let ada = created(&accounts, "ada@example.com").await?;
    let token = sample_with(ada.id.as_str(), |_| ())?;
    insert(&*tokens, &token).await?;
    equal(&accounts.disable(&ada.id, NOW).await.map_err(text)?, &Some(1), "how many this ended")?;
    equal(&accounts.disable(&ada.id, later(5)).await.map_err(text)?, &Some(0), "how many the second ended")?;
    equal(&stored(&accounts, &ada).await?.0.disabled_at, &Some(NOW), "since when it is disabled")?;
    ensure(accounts.enable(&ada.id).await.map_err(text)?, "not enabled")?;
    equal(&stored(&accounts, &ada).await?.0.disabled_at, &None, "enabled again")?;
    let (record, epoch) = read(&*tokens, &token).await?;
    ensure(record.living(epoch, NOW).is_err(), "an old token came back")
}

async fn delete_then_register_again_revives_nothing(
    accounts: Accounts,
    tokens: Tokens,
) -> Result<(), String> {
    let ada = created(&accounts, "ada@example.com").await?;
    let token = sample_with(ada.id.as_str(), |_| ())?;
    insert(&*tokens, &token).await?;
    equal(&accounts.delete(&ada.id, NOW).await.map_err(text)?, &Some(1), "how many this ended")?;
    equal(&accounts.find(&ada.id).await.map_err(text)?, &None, "the deleted account")?;
    let in_flight = sample_with(ada.id.as_str(), |_| ())?;
    let verdict = tokens.insert(&in_flight.hash, &in_flight.record, None).await;
    ensure(matches!(verdict, Err(InsertError::Ended)), format!("a token being made: {verdict:?}"))?;
    let again = created(&accounts, "ada@example.com").await?;
    ensure(again.id != ada.id, "an id was given away twice")?;
    let found =
        tokens.find(&token.hash).await.map_err(text)?.ok_or("the token vanished before it was pruned")?;
    ensure(found.record.living(found.epoch, NOW).is_err(), "an old token came back")?;
    equal(&found.account, &None, "the account of an old token")
}
