//! Bounds of stored times, and orders of writes, that no other test would miss.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::time::Duration;

use reteno_sync::checkpoint::{Incoming, SeenRows};
use reteno_sync::clock::Timestamp;
use reteno_sync::contact::Field;
use reteno_sync::sandbox::{CallKind, Effect, Fault};
use support::{HOUR, MINUTE, World, contact};

const TOWN: Field = Field::Town;
/// No wait of ours is longer.
const WAIT_MAX: Duration = Duration::from_hours(360);
const MOMENT: Duration = Duration::from_millis(1);

/// The database as another program meets it.
fn database(world: &World) -> rusqlite::Connection {
    rusqlite::Connection::open(world.dir.path().join("reteno-sync.db")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_never_stored_without_the_rows_before_it() {
    let world = World::begin().await;
    let page = |world: &World| {
        let context = world.context(world.clock.now().0, false);
        let items = vec![Incoming::Contact(contact("ann", &[(TOWN, "Kyiv")]))];
        let store = world.store.clone();
        async move {
            let record = move |checkpoint: &mut reteno_sync::checkpoint::Checkpoint| {
                checkpoint.record_page(&context, &mut SeenRows::default(), items, Some("behind ann"))
            };
            store.call(record).await
        }
    };
    let cursor = |world: &World| {
        let store = world.store.clone();
        async move { store.call(|checkpoint| checkpoint.load_source("crm")).await.unwrap().cursor }
    };
    // the rows cannot be written
    database(&world).execute_batch("ALTER TABLE waiting RENAME TO elsewhere").unwrap();
    assert!(page(&world).await.is_err());
    assert_eq!(cursor(&world).await, None);
    database(&world).execute_batch("ALTER TABLE elsewhere RENAME TO waiting").unwrap();
    page(&world).await.unwrap();
    assert_eq!(cursor(&world).await.as_deref(), Some("behind ann"));
}

#[tokio::test(start_paused = true)]
async fn what_certainly_was_not_written_leaves_known_what_was_known() {
    let mut world = World::begin().await;
    world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::RefuseConnection).always());
    world.crm_says(&[("ann", &[(TOWN, "Lviv")])]).await;
    world.send_for(MINUTE).await;
    world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
    world.sandbox.clear_faults();
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_received, 1, "Reteno holds what the CRM wants again");
    assert_eq!(world.status().await.acknowledged, 1);
    // a field that Reteno was never told of is unknown again, so it is sent
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::RefuseConnection).always());
    world.crm_says(&[("ann", &[(TOWN, "Kyiv"), (Field::FirstName, "Ann")])]).await;
    world.send_for(MINUTE).await;
    world.sandbox.clear_faults();
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("ann", "firstName").as_deref(), Some("Ann"));
}

#[tokio::test(start_paused = true)]
async fn a_time_beyond_every_wait_is_due_now() {
    for (ahead, is_sent) in [(Duration::from_hours(359), false), (Duration::from_hours(361), true)] {
        let mut world = World::begin().await;
        world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
        let until = world.clock.now().plus(ahead).0;
        database(&world).execute("UPDATE contact SET not_before = ?1", [until]).unwrap();
        world.send_for(MINUTE).await;
        assert_eq!(world.sandbox.contacts().len(), usize::from(is_sent), "{ahead:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ghost_is_kept_until_its_very_end_and_while_a_call_of_its_time_is_unfinished() {
    let world = World::begin().await;
    let now = world.clock.now();
    // (end of the ghost, when an unfinished call was posted, whether the ghost is kept)
    let cases = [
        (now, None, false),
        (now.plus(MOMENT), None, true),
        (now.plus(WAIT_MAX), None, true),
        (now.plus(WAIT_MAX).plus(MOMENT), None, false),
        (now.minus(HOUR), Some(now.minus(HOUR)), false),
        (now.minus(HOUR), Some(now.minus(HOUR).minus(MOMENT)), true),
        (now.minus(HOUR), Some(now), false),
    ];
    let insert = "INSERT INTO import (state, call, mask, contacts, created_at, posts, posted_at, ghost_until, body) \
                  VALUES (?1, 'bulk', x'', 1, ?2, 1, ?2, ?3, ?4)";
    for (until, posted, is_kept) in cases {
        let database = database(&world);
        database.execute("DELETE FROM import", []).unwrap();
        let ghost = ("ghost", now.minus(2 * HOUR).0, Some(until.0), None::<Vec<u8>>);
        database.execute(insert, ghost).unwrap();
        if let Some(Timestamp(posted)) = posted {
            database.execute(insert, ("intent", posted, None::<i64>, Some(vec![1_u8]))).unwrap();
        }
        world.store.call(move |checkpoint| checkpoint.forget_ghosts(now)).await.unwrap();
        let left = "SELECT count(*) FROM import WHERE state = 'ghost'";
        let left: i64 = database.query_row(left, [], |row| row.get(0)).unwrap();
        assert_eq!(left, i64::from(is_kept), "{until} {posted:?}");
    }
}
