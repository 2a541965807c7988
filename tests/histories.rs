//! The histories that go wrong in simpler programs, played against the sandbox. Each ends with what Reteno holds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use reteno_sync::checkpoint::{Incoming, SeenRows};
use reteno_sync::contact::Field;
use reteno_sync::daemon::sender::{Ended, RestoreDeleted};
use reteno_sync::sandbox::{Applied, CallKind, Effect, Fault, SandboxOptions};
use support::{HOUR, MINUTE, World};

const TOWN: Field = Field::Town;

#[tokio::test(start_paused = true)]
async fn a_contact_travels_and_is_acknowledged() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv"), (Field::Sms, "+380671234567")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
    assert_eq!(world.reteno_holds("1", "sms").as_deref(), Some("380671234567"));
    let status = world.status().await;
    assert_eq!((status.contacts, status.acknowledged, status.imports.len()), (1, 1, 0));
    let again = world.crm_says(&[("1", &[(TOWN, "Kyiv"), (Field::Sms, "+380671234567")])]).await;
    assert_eq!((again.balance.unchanged, again.balance.read), (1, 1));
    let calls = world.sandbox.tally().calls;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.tally().calls, calls, "an unchanged contact costs no call");
}

/// A acknowledged, B submitted, its import ends in ERROR after applying B, the CRM returns to A.
#[tokio::test(start_paused = true)]
async fn a_value_that_came_back_is_sent_when_the_last_import_is_uncertain() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "A")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::FailImport(Applied::All)));
    world.crm_says(&[("1", &[(TOWN, "B")])]).await;
    assert_eq!(world.send_for(Duration::from_millis(50)).await, Ended::StillOpen);
    world.crm_says(&[("1", &[(TOWN, "A")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("A"));
    assert_eq!(world.writes("1", "town"), ["A", "B", "A"]);
}

/// An import that never finishes and an edit every minute.
#[tokio::test(start_paused = true)]
async fn a_stuck_import_delays_only_its_members_and_its_late_release_does_not_stay() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "start")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    for minute in 0..(7 * 60) {
        let town = format!("edit {minute}");
        world.crm_says(&[("1", &[(TOWN, &town)])]).await;
        world.send_for(MINUTE).await;
    }
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("edit 419"));
    assert_eq!(world.writes("1", "town").iter().filter(|town| *town == "edit 419").count(), 1);
    let alerts = world.status().await.alerts;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(world.sandbox.release_stuck(), 1);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("edit 0"), "the ghost has landed");
    while world.status().await.contacts != world.status().await.acknowledged {
        world.send_for(HOUR).await;
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("edit 419"), "and does not stay");
    assert!(world.clock.now().since(support::START) < 14 * HOUR);
}

/// An answer lost after processing, an edit in between, the first copy applied last.
#[tokio::test(start_paused = true)]
async fn a_ghost_that_lands_last_does_not_stay() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "start")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.crm_says(&[("1", &[(TOWN, "first")])]).await;
    world.send_for(Duration::from_millis(10)).await;
    world.crm_says(&[("1", &[(TOWN, "edit")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::StillOpen, "what a ghost may overwrite waits");
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("edit"));
    assert_eq!(world.sandbox.tally().bodies_repeated, 1);
    tokio::time::advance(3 * HOUR).await;
    world.sandbox.release_stuck();
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("first"));
    tokio::time::advance(4 * HOUR).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("edit"));
}

/// A copy of the first value may still land; the second is under way when the third is typed.
#[tokio::test(start_paused = true)]
async fn an_edit_during_a_call_is_sent_at_its_end_although_a_ghost_lives() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "start")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.crm_says(&[("1", &[(TOWN, "first")])]).await;
    world.send_for(10 * MINUTE).await;
    assert_eq!(world.sandbox.tally().bodies_repeated, 1);
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(5 * MINUTE)));
    world.crm_says(&[("1", &[(TOWN, "second")])]).await;
    world.send_for(MINUTE).await;
    world.crm_says(&[("1", &[(TOWN, "third")])]).await;
    world.send_for(20 * MINUTE).await;
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("third"));
}

#[tokio::test(start_paused = true)]
async fn an_older_page_after_a_newer_fetch_moves_nothing_back() {
    let mut world = World::begin().await;
    let page_asked = world.clock.now().0;
    tokio::time::advance(MINUTE).await;
    world.crm_says(&[("1", &[(TOWN, "newer")])]).await;
    let late = world.crm_said(page_asked, None, &[("1", &[(TOWN, "older")])]).await;
    assert_eq!(late.balance.stale, 1);
    world.send_for(HOUR).await;
    assert_eq!(world.writes("1", "town"), ["newer"]);
    // a lower change time loses even when it was asked for later
    world.crm_said(world.clock.now().0, Some(2_000), &[("1", &[(TOWN, "second")])]).await;
    let late = world.crm_said(world.clock.now().0 + 1, Some(1_000), &[("1", &[(TOWN, "first")])]).await;
    assert_eq!(late.balance.stale, 1);
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("second"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_additional_field_rejects_nobody_and_raises_one_alert() {
    let mut world = World::begin().await;
    let keys: Vec<String> = (0..400).map(|key| format!("c{key}")).collect();
    let fields = [(Field::Additional(1), "x")];
    let records: Vec<(&str, &[(Field, &str)])> = keys.iter().map(|key| (key.as_str(), fields.as_slice())).collect();
    world.crm_says(&records).await;
    assert_eq!(world.send_for(HOUR).await, Ended::StillOpen);
    let status = world.status().await;
    assert_eq!((status.rejected, status.rejections, status.acknowledged), (0, 0, 0));
    assert_eq!(status.alerts.len(), 1, "{:?}", status.alerts);
    assert!(status.alerts[0].text.contains("additional field 1"), "{:?}", status.alerts);
    assert_eq!(world.sandbox.contacts().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_one_contact_that_fails_a_whole_batch_is_found_and_the_others_arrive() {
    let mut world = World::begin().await;
    world.sandbox.poison(["c77".to_owned(), "c300".to_owned()]);
    let keys: Vec<String> = (0..400).map(|key| format!("c{key}")).collect();
    let records: Vec<(&str, &[(Field, &str)])> = keys.iter().map(|key| (key.as_str(), [].as_slice())).collect();
    world.crm_says(&records).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let status = world.status().await;
    assert_eq!((status.rejected, status.acknowledged), (2, 398));
    assert_eq!(world.sandbox.contacts().len(), 398);
    // a change wakes it
    world.crm_says(&[("c77", &[(TOWN, "Lviv")])]).await;
    assert_eq!(world.status().await.rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn a_crash_with_an_intent_on_disk_repeats_the_same_bytes() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "A")])]).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.send_for(Duration::from_millis(1)).await;
    world.crash().await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.tally().bodies_repeated, 1);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("A"));
}

#[tokio::test(start_paused = true)]
async fn what_a_person_edited_in_reteno_survives_an_edit_of_another_field() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv"), (Field::FirstName, "Olena")])]).await;
    world.send_for(HOUR).await;
    world.crm_says(&[("1", &[(TOWN, "Lviv"), (Field::FirstName, "Olena")])]).await;
    world.send_for(HOUR).await;
    let last = world.sandbox.applied_log("1").pop().unwrap();
    // the external id finds the contact; beside it only the changed field is written
    assert_eq!(last.values.keys().collect::<Vec<_>>(), ["externalCustomerId", "town"]);
    // an empty field is cleared because a value was seen before
    world.crm_says(&[("1", &[(TOWN, ""), (Field::FirstName, "Olena")])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("1", "town"), None);
    assert_eq!(world.reteno_holds("1", "firstName").as_deref(), Some("Olena"));
}

/// Twenty deaths at random moments of a first load that is edited meanwhile, with answers lost and imports that fail.
#[tokio::test(start_paused = true)]
async fn twenty_crashes_lose_nothing_and_no_older_value_stays() {
    const CONTACTS: usize = 600;
    let seed = 7;
    let random = reteno_sync::random::Random::seeded(seed);
    let draw = |bound: usize| usize::try_from(u64::from_le_bytes(random.bytes::<8>()) % bound as u64).unwrap();
    let mut settings = support::settings();
    settings.batch_contacts_max = 100;
    let options = SandboxOptions { seed, access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
    let mut world = World::with(options, settings).await;
    let mut towns: Vec<String> = (0..CONTACTS).map(|contact| format!("town {contact}")).collect();
    for round in 0..20 {
        for (contact, town) in towns.iter().enumerate() {
            let key = contact.to_string();
            world.crm_says(&[(&key, &[(TOWN, town)])]).await;
        }
        match draw(4) {
            0 => drop(world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer).after(1))),
            1 => drop(world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::FailImport(Applied::Part)))),
            2 => drop(world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(2 * HOUR)))),
            _ => {}
        }
        let life = Duration::from_millis(draw(4000) as u64);
        let sending = world.send_for(HOUR);
        assert!(tokio::time::timeout(life, sending).await.is_err() || round > 0, "seed {seed}: it dies at work");
        world.crash().await;
        for _ in 0..30 {
            let contact = draw(CONTACTS);
            towns[contact] = format!("town {contact} of round {round}");
        }
    }
    for (contact, town) in towns.iter().enumerate() {
        world.crm_says(&[(&contact.to_string(), &[(TOWN, town)])]).await;
    }
    for _ in 0..40 {
        if world.send_for(HOUR).await == Ended::Drained {
            break;
        }
        tokio::time::advance(HOUR).await;
    }
    let wrong = (0..CONTACTS).filter(|contact| {
        world.reteno_holds(&contact.to_string(), "town").as_deref() != Some(towns[*contact].as_str())
    });
    assert_eq!(wrong.count(), 0, "seed {seed}");
    let status = world.status().await;
    assert_eq!((status.acknowledged, status.imports.len(), status.rejected), (CONTACTS as u64, 0, 0), "seed {seed}");
    assert_eq!(world.sandbox.contacts().len(), CONTACTS, "seed {seed}: nobody is there twice");
    let different = world.sandbox.overlaps().into_iter().filter(|overlap| !overlap.identical && !overlap.earlier_stuck);
    eprintln!(
        "seed {seed}: wrong 0, bodies repeated {}, overlaps of different bodies {}",
        world.sandbox.tally().bodies_repeated,
        different.count()
    );
}

/// The mapping loses a field while an import carries it: then nothing is wanted that is not known, and yet the contact is
/// under way.
#[tokio::test(start_paused = true)]
async fn a_field_that_leaves_the_mapping_while_an_import_carries_it_stops_nothing() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    world.send_for(HOUR).await;
    world.crm_says(&[("1", &[(TOWN, "Lviv")])]).await;
    assert_eq!(world.send_for(Duration::from_millis(50)).await, Ended::StillOpen);
    let mut context = world.context(world.clock.now().0, true);
    context.mapped.retain(|field| *field != TOWN);
    let items = vec![Incoming::Contact(support::contact("1", &[]))];
    let page =
        world.store.call(move |checkpoint| checkpoint.record_page(&context, &mut SeenRows::default(), items, None));
    assert_eq!(page.await.unwrap().balance.changed, 1);
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let status = world.status().await;
    assert_eq!((status.acknowledged, status.imports.len()), (1, 0));
}

/// A record that speaks of a town alone cannot be sent without saying whose it is: its source is read in full first.
#[tokio::test(start_paused = true)]
async fn a_partial_record_waits_for_the_address_that_it_lacks() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    world.send_for(HOUR).await;
    let partial = |key: &str| {
        let mut contact = support::contact(key, &[(TOWN, "Lviv")]);
        contact.fields.retain(|(field, _)| *field != Field::Email);
        vec![Incoming::Contact(contact)]
    };
    let (context, items) = (world.context(world.clock.now().0, false), partial("1"));
    let page =
        world.store.call(move |checkpoint| checkpoint.record_page(&context, &mut SeenRows::default(), items, None));
    page.await.unwrap();
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("Kyiv"), "nothing went out without a channel");
    let status = world.status().await;
    assert_eq!((status.starved, status.rejected, status.sources[0].full_read_wanted), (1, 0, true));
    world.crm_says(&[("1", &[(TOWN, "Lviv")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("Lviv"));
}

/// The clock was a week ahead when a record was read: what is read after it was mended must be believed.
#[tokio::test(start_paused = true)]
async fn a_read_from_the_future_does_not_freeze_its_contact() {
    let mut world = World::begin().await;
    let ahead = world.clock.now().plus(7 * 24 * HOUR).0;
    world.crm_said(ahead, None, &[("1", &[(TOWN, "Kyiv")])]).await;
    world.send_for(HOUR).await;
    let now = world.crm_says(&[("1", &[(TOWN, "Lviv")])]).await;
    assert_eq!((now.balance.changed, now.balance.stale), (1, 0));
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("Lviv"));
}

/// With `restore_deleted = "live"` a change goes by a single call: by the key at first, by Reteno's id once it is known. A
/// lost answer is asked again after the minute in which Reteno would refuse it, byte for byte.
#[tokio::test(start_paused = true)]
async fn live_changes_go_by_single_calls_where_the_operator_allows_it() {
    let mut settings = support::settings();
    settings.restore_deleted = RestoreDeleted::Live;
    let options = SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
    let mut world = World::with(options, settings).await;
    let count = |world: &World, kind, status| world.sandbox.counts().get(&(kind, status)).copied().unwrap_or(0);
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(count(&world, CallKind::UpsertContact, Some(200)), 1);
    // somebody deletes the contact in Reteno, and it changes in the CRM: the call brings it back, as the operator chose
    assert!(world.sandbox.delete_contact("1"));
    world.sandbox.fault(Fault::on(CallKind::UpdateContact, Effect::LoseAnswer));
    world.crm_says(&[("1", &[(TOWN, "Lviv")])]).await;
    let began = world.clock.now();
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let contact = world.sandbox.contact_by_external_id("1").unwrap();
    assert_eq!((contact.deleted, contact.fields["town"].as_str()), (false, "Lviv"));
    assert!(world.clock.now().since(began) >= MINUTE, "a 409 is never success");
    assert_eq!(count(&world, CallKind::SubmitContacts, Some(200)), 0);
    let status = world.status().await;
    assert_eq!((status.acknowledged, status.rejected), (1, 0));
}

/// The default: nothing that somebody deleted in Reteno comes back, and the contact is listed as skipped.
#[tokio::test(start_paused = true)]
async fn a_contact_that_was_deleted_in_reteno_stays_deleted_and_is_listed() {
    let mut world = World::begin().await;
    let keys: Vec<String> = (0..60).map(|key| format!("c{key}")).collect();
    for town in ["Kyiv", "Lviv"] {
        for key in &keys {
            world.crm_says(&[(key, &[(TOWN, town)])]).await;
        }
        world.send_for(HOUR).await;
        if town == "Kyiv" {
            assert!(world.sandbox.delete_contact("c7"));
        }
    }
    assert!(world.sandbox.contact_by_external_id("c7").unwrap().deleted);
    let status = world.status().await;
    assert_eq!((status.acknowledged, status.rejected), (59, 1));
    let rejections = world.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap();
    assert_eq!(rejections.iter().map(|row| row.key.as_deref()).collect::<Vec<_>>(), [Some("c7")]);
    assert!(rejections[0].reason.contains("deleted there"), "{}", rejections[0].reason);
}

/// It dies after Reteno took a body and before the answer: the copy that nobody watches lands after the repeat and an edit.
#[tokio::test(start_paused = true)]
async fn a_copy_from_before_a_crash_that_lands_last_does_not_stay() {
    let mut world = World::begin().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer));
    world.crm_says(&[("1", &[(TOWN, "first")])]).await;
    assert!(tokio::time::timeout(MINUTE, world.send_for(HOUR)).await.is_err(), "no answer comes");
    world.crash().await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.tally().bodies_repeated, 1);
    world.crm_says(&[("1", &[(TOWN, "edit")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::StillOpen, "what that copy may overwrite waits");
    assert_eq!(world.sandbox.release_stuck(), 1);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("first"));
    tokio::time::advance(7 * HOUR).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("edit"));
}
