//! Which of two records counts, whatever the order in which they come; and values that a call must not lose.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use reteno_sync::checkpoint::Rereading;
use reteno_sync::clock::Clock;
use reteno_sync::contact::{Contact, Field, WriteRule};
use reteno_sync::daemon::sender::{RestoreDeleted, SendSettings};
use reteno_sync::plan::Lane;
use reteno_sync::sandbox::{Readings, SandboxOptions};
use support::reads::Record;
use support::{HOUR, MINUTE, START, World, contact, settings};

const TOWN: Field = Field::Town;
const HOUR_MS: i64 = 3_600_000;

async fn whole(world: &World, contacts: Vec<Contact>) {
    world.reads(true, Lane::Reconcile, contacts.into_iter(), &[]).await;
}

fn at(town: &str, millis: i64) -> Contact {
    Contact { changed_at: Some(START.0 + millis), ..contact("ann", &[(TOWN, town)]) }
}

/// Without change times: a whole read sees A; a fetch that was asked for before it answers late, with B.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_was_asked_for_before_a_whole_read_moves_nothing_back() {
    let mut world = World::begin().await;
    world.crm_says(&[("ann", &[(TOWN, "A")])]).await;
    world.send_for(HOUR).await;
    tokio::time::advance(HOUR).await;
    let asked = world.clock.now().0;
    tokio::time::advance(MINUTE).await;
    world.reads_all(&[("ann", &[(TOWN, "A")])]).await;
    tokio::time::advance(MINUTE).await;
    world.crm_said(asked, None, &[("ann", &[(TOWN, "B")])]).await;
    world.send_until_quiet().await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("A"));
    // what is asked for after it counts
    let asked = world.clock.now().0;
    world.crm_said(asked, None, &[("ann", &[(TOWN, "C")])]).await;
    world.send_until_quiet().await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("C"));
}

/// The CRM's change time goes back (the end of summer time, a restored CRM); the CRM is read whole every night.
#[tokio::test(start_paused = true)]
async fn a_change_time_that_went_back_counts_at_the_second_sighting() {
    let mut world = World::begin().await;
    whole(&world, vec![at("Kyiv", HOUR_MS)]).await;
    world.send_for(HOUR).await;
    for (night, town) in [(1, "Kyiv"), (2, "Lviv"), (3, "Lviv")] {
        tokio::time::advance(24 * HOUR).await;
        whole(&world, vec![at("Lviv", HOUR_MS / 2)]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some(town), "night {night}");
    }
    // from then on the lower time is the one that is believed
    whole(&world, vec![at("Odesa", HOUR_MS / 2 + 1)]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Odesa"));
}

/// An index that lags shows an older version again and again: a record that agrees with what is believed takes each back.
#[tokio::test(start_paused = true)]
async fn an_older_version_that_is_contradicted_in_between_never_counts() {
    let mut world = World::begin().await;
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.note_rereading(source, Rereading::ById)).await.unwrap();
    world.crm_tells(vec![at("Kyiv", HOUR_MS)]).await;
    world.send_for(HOUR).await;
    for _ in 0..4 {
        tokio::time::advance(MINUTE).await;
        world.crm_tells(vec![at("Lviv", HOUR_MS / 2)]).await;
        assert_eq!(world.status().await.wanted, 1, "it is fetched by its id");
        tokio::time::advance(MINUTE).await;
        world.crm_tells(vec![at("Kyiv", HOUR_MS)]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"));
    }
}

/// A change time far in the future was believed before this was known to be a mistake: it freezes nobody.
#[tokio::test(start_paused = true)]
async fn a_change_time_in_the_future_freezes_nobody() {
    let mut world = World::begin().await;
    whole(&world, vec![at("Kyiv", 70 * 365 * 24 * HOUR_MS)]).await;
    world.send_for(HOUR).await;
    tokio::time::advance(HOUR).await;
    whole(&world, vec![at("Lviv", HOUR_MS)]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Lviv"));
}

/// Single calls are allowed, and Reteno wipes what they leave out; a record does not speak of the town.
#[tokio::test(start_paused = true)]
async fn a_single_call_wipes_no_field_that_its_record_does_not_speak_of() {
    let readings = Readings { single_wipes_absent: true, ..Readings::default() };
    let settings = SendSettings { restore_deleted: RestoreDeleted::Live, ..settings() };
    let options = SandboxOptions { access_token_lifetime: 10_000 * HOUR, readings, ..SandboxOptions::default() };
    let mut world = World::with(options, settings).await;
    world.crm_says(&[("ann", &[(TOWN, "Kyiv"), (Field::FirstName, "Ann")])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"));
    world.crm_says(&[("ann", &[(Field::FirstName, "Anna")])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("ann", "firstName").as_deref(), Some("Anna"));
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"), "{:?}", world.status().await.acknowledged);
}

/// A field that is written at first sight only; its contact is refused at first, and mended.
#[tokio::test(start_paused = true)]
async fn a_first_sight_field_is_written_when_the_contact_is_made() {
    let mut world = World::begin().await;
    world.policy.write_rules = vec![(TOWN, WriteRule::AtFirstSight)];
    world.sandbox.poison(["ann".to_owned()]);
    let others: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
    let mut records: Vec<Record<'_>> =
        others.iter().map(|key| (key.as_str(), [(TOWN, "Kyiv"), (Field::FirstName, "Ivan")].as_slice())).collect();
    records.push(("ann", &[(TOWN, "Kyiv"), (Field::FirstName, "Ann")]));
    world.reads_all(&records).await;
    world.send_until_quiet().await;
    assert_eq!(world.status().await.rejected, 1);
    world.sandbox.poison([]);
    records.pop();
    records.push(("ann", &[(TOWN, "Kyiv"), (Field::FirstName, "Anna")]));
    for _ in 0..2 {
        world.reads_all(&records).await;
        world.send_until_quiet().await;
    }
    assert_eq!(world.reteno_holds("ann", "firstName").as_deref(), Some("Anna"));
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"));
}

/// What is said of a contact never claims that all is well where the record that was read last says otherwise.
#[tokio::test(start_paused = true)]
async fn a_story_tells_of_a_last_record_that_is_not_believed() {
    let mut world = World::begin().await;
    let story = async |world: &World| {
        let told = world.store.call(|checkpoint| {
            let source = checkpoint.load_source("crm")?;
            Ok(checkpoint.load_story(&source, "ann")?.unwrap().waits_for)
        });
        told.await.unwrap()
    };
    whole(&world, vec![at("Kyiv", HOUR_MS)]).await;
    world.send_for(HOUR).await;
    assert!(story(&world).await.starts_with("nothing: Reteno holds"));
    tokio::time::advance(HOUR).await;
    whole(&world, vec![at("Lviv", HOUR_MS / 2)]).await;
    assert!(story(&world).await.starts_with("a second look"), "{}", story(&world).await);
    whole(&world, vec![at("Kyiv", HOUR_MS)]).await;
    assert!(story(&world).await.starts_with("nothing: Reteno holds"));
    let context = world.context(world.clock.now().0, false);
    let refused = reteno_sync::checkpoint::Incoming::Rejected {
        key: Some("ann".to_owned()),
        place: String::new(),
        reasons: vec![(Some(Field::Email), "is not an address".to_owned())],
    };
    let page = world.store.call(move |checkpoint| {
        checkpoint.record_page(&context, &mut reteno_sync::checkpoint::SeenRows::default(), vec![refused], None)
    });
    page.await.unwrap();
    assert!(story(&world).await.starts_with("a record that can be used"), "{}", story(&world).await);
}

/// The clock was days ahead when the lower change time was first seen, and is set right: the next whole read is the second
/// sighting, and what was asked for before a whole read counts no more than it did.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_keeps_the_order_of_reads() {
    for days in [1, 10] {
        let ahead = days * 24 * HOUR;
        let mut world = World::begin().await;
        world.clock = Clock::simulated(world.clock.now().plus(ahead));
        world.crash().await;
        whole(&world, vec![at("Kyiv", HOUR_MS)]).await;
        world.send_for(HOUR).await;
        tokio::time::advance(HOUR).await;
        whole(&world, vec![at("Lviv", HOUR_MS / 2)]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"), "{days} days");
        world.clock = Clock::simulated(world.clock.now().minus(ahead));
        world.crash().await;
        tokio::time::advance(HOUR).await;
        whole(&world, vec![at("Lviv", HOUR_MS / 2)]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Lviv"), "{days} days");
    }
}

/// A fetch is asked for, the source is read whole, the clock is set right, and the fetch answers late.
#[tokio::test(start_paused = true)]
async fn a_late_fetch_moves_nothing_back_after_the_clock_was_set_back() {
    let ahead = 10 * 24 * HOUR;
    let mut world = World::begin().await;
    world.crm_says(&[("ann", &[(TOWN, "A")])]).await;
    world.send_for(HOUR).await;
    world.clock = Clock::simulated(world.clock.now().plus(ahead));
    world.crash().await;
    let asked = world.clock.now().minus(ahead).0;
    tokio::time::advance(HOUR).await;
    world.reads_all(&[("ann", &[(TOWN, "A")])]).await;
    world.hours(1).await;
    world.clock = Clock::simulated(world.clock.now().minus(ahead));
    world.crash().await;
    world.crm_said(asked, None, &[("ann", &[(TOWN, "B")])]).await;
    world.send_until_quiet().await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("A"));
}
