//! Whoever reads the disk learns of nobody: while values wait, while the guard holds them, while a call's body is stored,
//! while an event waits; in the databases, their write-ahead logs and all other files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use reteno_sync::checkpoint::{Checkpoint, InboxEvent, OpenOptions};
use reteno_sync::contact::{Contact, Field};
use reteno_sync::plan::Lane;
use reteno_sync::random::Random;
use reteno_sync::sandbox::{CallKind, Effect, Fault};
use rusqlite::Connection;
use support::{HOUR, MINUTE, World, contact, guarded};

/// In every value of the people below, and in nothing else.
const CANARY: &str = "kanarie";

fn bird(number: usize, town: &str) -> Contact {
    let fields = [
        (Field::Email, format!("{CANARY}{number}@example.com")),
        (Field::FirstName, format!("Kanarie {number}")),
        (Field::Town, format!("{town}-{CANARY}")),
    ];
    let fields: Vec<(Field, &str)> = fields.iter().map(|(field, value)| (*field, value.as_str())).collect();
    contact(&number.to_string(), &fields)
}

#[track_caller]
fn assert_named_nowhere(world: &World, when: &str) {
    let wide: String = CANARY.chars().flat_map(|letter| [letter, '\0']).collect();
    for text in [CANARY, &wide] {
        assert_eq!(world.files_holding(text), Vec::<String>::new(), "{when}");
    }
}

async fn flock(world: &World, town: impl Fn(usize) -> String) -> usize {
    let birds = (0..60).map(|number| bird(number, &town(number)));
    let read = world.reads(true, Lane::FirstLoad, birds, &[]).await;
    read.holds.len()
}

#[tokio::test(start_paused = true)]
async fn nobody_is_named_while_values_wait_and_while_a_body_is_stored() {
    let mut world = World::begin().await;
    flock(&world, |number| format!("town {number}")).await;
    assert_eq!(world.status().await.open, 60);
    assert_named_nowhere(&world, "values wait");
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer).always());
    world.send_for(MINUTE).await;
    assert!(!world.status().await.imports.is_empty());
    assert_named_nowhere(&world, "a body is stored");
    world.crash().await;
    world.sandbox.clear_faults();
    world.send_until_quiet().await;
    assert_eq!(world.status().await.acknowledged, 60, "what was sealed is sent");
    assert_eq!(world.reteno_holds("7", "town").as_deref(), Some("town 7-kanarie"));
    world.store.call(Checkpoint::settle_disk).await.unwrap();
    assert_named_nowhere(&world, "at rest");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_named_while_the_guard_holds_values() {
    let mut world = World::begin().await;
    flock(&world, |number| format!("town {number}")).await;
    world.send_for(HOUR).await;
    world.policy = guarded();
    assert_eq!(flock(&world, |_| "one town".to_owned()).await, 1);
    world.send_for(HOUR).await;
    assert_eq!(world.status().await.held, 60);
    assert_named_nowhere(&world, "the guard holds values");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_named_while_an_event_waits() {
    let world = World::begin().await;
    let clock = world.clock.clone();
    let inbox = world.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
    let record = || format!("{{\"id\":\"1\",\"mail\":\"{CANARY}@example.com\"}}").into_bytes();
    let events = vec![
        InboxEvent::Whole { key: "1".to_owned(), record: record() },
        InboxEvent::WholeDeleted { key: "2".to_owned(), record: Some(record()) },
    ];
    inbox.store("crm", Some("a delivery"), events).await.unwrap();
    assert_eq!(inbox.count().await.unwrap()[0].rows, 2);
    assert_named_nowhere(&world, "an event waits");
}

/// An earlier version kept them in clear.
#[tokio::test(start_paused = true)]
async fn values_that_waited_in_clear_are_sealed_at_the_next_start() {
    let mut world = World::begin().await;
    flock(&world, |number| format!("town {number}")).await;
    world.close();
    write_in_clear(&world);
    assert!(!world.files_holding(CANARY).is_empty());
    world.crash().await;
    world.store.call(Checkpoint::settle_disk).await.unwrap();
    assert_named_nowhere(&world, "after the next start");
    world.send_until_quiet().await;
    assert_eq!(world.reteno_holds("7", "town").as_deref(), Some("town 7-kanarie"));
}

/// As an earlier version leaves it, in its schema; some of it may be sealed already.
fn write_in_clear(world: &World) {
    let connection = Connection::open(world.dir.path().join("reteno-sync.db")).unwrap();
    let encoded = reteno_sync::contact::Values::encode;
    for number in (0..60_usize).filter(|number| number % 5 > 0) {
        let mut values = reteno_sync::contact::Values::default();
        for (field, wanted) in bird(number, &format!("town {number}")).fields {
            values.set(field, wanted);
        }
        let changed = connection
            .execute(
                "UPDATE waiting SET vals = ?2 WHERE contact = (SELECT id FROM contact WHERE key = ?1)",
                rusqlite::params![number.to_string(), encoded(&values)],
            )
            .unwrap();
        assert_eq!(changed, 1);
    }
    connection.execute_batch("DROP INDEX IF EXISTS contact_ready; PRAGMA user_version = 7").unwrap();
}

/// `status` of a new version beside the daemon of the one before, which goes on writing in clear.
#[tokio::test(start_paused = true)]
async fn who_only_looks_changes_nothing_under_a_daemon_of_an_earlier_version() {
    let mut world = World::begin().await;
    flock(&world, |number| format!("town {number}")).await;
    world.close();
    write_in_clear(&world);
    let path = world.dir.path().join("reteno-sync.db");
    Connection::open(&path).unwrap().execute("DELETE FROM setting WHERE name = 'waiting values'", []).unwrap();
    let daemon = [std::fs::File::open(world.dir.path()), std::fs::File::open(world.dir.path().join("lock"))];
    for file in &daemon {
        file.as_ref().unwrap().lock().unwrap();
    }
    let reader = OpenOptions {
        dir: world.dir.path().to_owned(),
        key: None,
        sender: None,
        create: true,
        now: world.clock.now(),
        import_age_max: HOUR,
    };
    let look = || Checkpoint::open(&reader, &Random::seeded(9)).map(|_| ());
    let refused = look().expect_err("the daemon could not work in the present schema");
    assert!(refused.to_string().contains("older schema 7"), "{refused}");
    assert!(refused.hint().unwrap().contains("restart it"));
    let schema =
        |connection: &Connection| -> i64 { connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap() };
    assert_eq!(schema(&Connection::open(&path).unwrap()), 7);
    write_in_clear(&world);
    drop(daemon);
    // without a daemon whoever comes first brings it to the present schema
    look().unwrap();
    assert!(schema(&Connection::open(&path).unwrap()) > 7);
    world.crash().await;
    world.store.call(Checkpoint::settle_disk).await.unwrap();
    assert_named_nowhere(&world, "after the next start");
    world.send_until_quiet().await;
    assert_eq!(world.reteno_holds("7", "town").as_deref(), Some("town 7-kanarie"));
}
