use hallpass::{Epoch, TokenStore, UserId, store::InsertError};
use hallpass_testbed::Postgres;
use tokio::task::JoinSet;

use crate::{NOW, insert, open, token};

/// A trigger that fails every 20th change, as if another transaction had got in the way. Sequences are not rolled back.
const QUARREL: &str = "
    CREATE SEQUENCE quarrels;
    CREATE FUNCTION quarrel() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        CASE nextval('quarrels') % 20
            WHEN 0 THEN RAISE EXCEPTION 'quarrel' USING ERRCODE = 'serialization_failure';
            WHEN 10 THEN RAISE EXCEPTION 'quarrel' USING ERRCODE = 'deadlock_detected';
            ELSE RETURN NEW;
        END CASE;
    END $$;
    CREATE TRIGGER quarrel AFTER INSERT OR UPDATE ON hallpass_tokens FOR EACH ROW EXECUTE FUNCTION quarrel();
    CREATE TRIGGER quarrel AFTER INSERT OR UPDATE ON hallpass_owners FOR EACH ROW EXECUTE FUNCTION quarrel();";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn deadlocks_and_serialization_failures_are_run_again_without_duplicates() {
    let url = Postgres::shared().unwrap().database("quarrel").unwrap();
    let store = open(&url).await;
    Postgres::sql_at(&url, QUARREL).unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0..25 {
                let user = format!("{task}/{number}");
                let (hash, _) = insert(&store, &user).await.unwrap();
                let (capped, record) = token(&user);
                store.insert(&capped, &record, Some(2)).await.unwrap();
                let (third, record) = token(&user);
                let verdict = store.insert(&third, &record, Some(2)).await;
                assert!(matches!(verdict, Err(InsertError::CapReached)), "{verdict:?}");
                assert!(store.revoke(&hash, NOW).await.unwrap());
                assert!(store.take(&capped, "api", NOW).await.unwrap());
                let user = UserId::new(user).unwrap();
                assert_eq!(store.revoke_all(&user, NOW).await.unwrap(), 0);
                assert_eq!(store.epoch(&user).await.unwrap(), Epoch::new(1));
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(Postgres::sql_at(&url, "SELECT count(*) FROM hallpass_tokens").unwrap(), "400");
    let quarrels: u32 = Postgres::sql_at(&url, "SELECT last_value FROM quarrels").unwrap().parse().unwrap();
    assert!(quarrels > 1000, "there was no quarrel: {quarrels}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test --servers runs it"]
async fn two_nodes_that_note_the_same_uses_do_not_wait_in_a_circle() {
    let url = Postgres::shared().unwrap().database("circle").unwrap();
    let stores = [open(&url).await, open(&url).await];
    let mut touches = Vec::new();
    for _ in 0..300 {
        let (_, record) = insert(&stores[0], "ada").await.unwrap();
        touches.push(hallpass::store::Touch { id: record.id, at: NOW });
    }
    let mut tasks = JoinSet::new();
    for number in 0..20_i64 {
        let (store, mut touches) = (stores[usize::try_from(number % 2).unwrap()].clone(), touches.clone());
        if number % 2 == 0 {
            touches.reverse();
        }
        for touch in &mut touches {
            touch.at = hallpass::Timestamp::from_micros(NOW.as_micros() + number);
        }
        tasks.spawn(async move { store.touch(&touches).await.unwrap() });
    }
    tasks.join_all().await;
    let latest = "SELECT DISTINCT last_used_at FROM hallpass_tokens";
    assert_eq!(Postgres::sql_at(&url, latest).unwrap(), (NOW.as_micros() + 19).to_string());
}
