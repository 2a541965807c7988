//! Consent to e-mail: each promise of the design, played against the sandbox in the reading that hurts most, in which a
//! contact that is made, or given another address, takes that address off the list of unsubscribed ones.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use reteno_sync::checkpoint::{Approval, PageMode};
use reteno_sync::clock::Clock;
use reteno_sync::contact::{Consent, Contact, Field};
use reteno_sync::daemon::sender::{Ended, SendSettings, Until};
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::{Bound, Guard, Verb};
use reteno_sync::plan::policy::{Ending, Policy};
use reteno_sync::sandbox::{Applied, CallKind, Canned, ConsentAction, Effect, Fault, Readings, SandboxOptions};
use support::{
    HOUR, MINUTE, World, change_mapping, consenting, contact, guarded, last_cycle, person, person_in, settings, undo,
};
use tokio_util::sync::CancellationToken;

const NO: Option<Consent> = Some(Consent::No);
const YES: Option<Consent> = Some(Consent::Yes);
const SILENT: Option<Consent> = None;
const SECOND: Duration = Duration::from_secs(1);
const ANN: &str = "ann@example.com";
const NEW: &str = "new@example.com";

fn harsh(seed: u64) -> SandboxOptions {
    SandboxOptions {
        seed,
        access_token_lifetime: 10_000 * HOUR,
        readings: Readings { create_resubscribes: true, ..Readings::default() },
        ..SandboxOptions::default()
    }
}

async fn world_with(policy: Policy, settings: SendSettings) -> World {
    let mut world = World::with(harsh(1), settings).await;
    world.policy = policy;
    world
}

async fn world() -> World {
    world_with(consenting(), settings()).await
}

/// The sender works for this long, whatever hangs.
async fn work(world: &mut World, time: Duration) {
    let stop = CancellationToken::new();
    let _ = tokio::time::timeout(time, world.sender.as_mut().unwrap().run(Until::Stopped, &stop)).await;
}

/// Ann says yes, and Reteno holds her.
async fn ann_agrees() -> World {
    let mut world = world().await;
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert!(world.sandbox.unsubscribe_log().is_empty());
    world
}

/// What was done to an address by us: true for "no mail".
fn told_of(world: &World, email: &str) -> Vec<bool> {
    let log = world.sandbox.unsubscribe_log();
    let ours = log.iter().filter(|change| change.address == email && change.by.starts_with("call"));
    ours.map(|change| change.action == ConsentAction::Added).collect()
}

fn raises(world: &World) -> usize {
    world.sandbox.calls().iter().filter(|call| call.kind == CallKind::Resubscribe && call.status == Some(200)).count()
}

async fn rejections(world: &World) -> Vec<(Option<String>, String)> {
    let rows = world.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap();
    rows.into_iter().map(|row| (row.key, row.reason)).collect()
}

async fn restore(world: &World) {
    let now = world.clock.now();
    world.store.call(move |checkpoint| checkpoint.forget_acknowledged(now, 6 * HOUR)).await.unwrap();
}

fn twelve(consent: Option<Consent>) -> Vec<Contact> {
    (0..12).map(|n| person(&format!("c{n}"), &format!("c{n}@example.com"), consent)).collect()
}

// ---------------------------------------------------------------- lowering: at once

#[tokio::test(start_paused = true)]
async fn a_witnessed_no_goes_out_while_an_import_of_the_contact_is_under_way() {
    let mut world = ann_agrees().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.crm_tells(vec![person_in("Lviv", "ann", ANN, YES)]).await;
    work(&mut world, SECOND).await;
    assert_eq!(world.sandbox.unfinished_imports(), 1);
    world.crm_tells(vec![person_in("Lviv", "ann", ANN, NO)]).await;
    work(&mut world, SECOND).await;
    assert_eq!(world.sandbox.unfinished_imports(), 1);
    assert!(world.is_unsubscribed(ANN));
}

#[tokio::test(start_paused = true)]
async fn a_witnessed_no_goes_out_while_bulk_pauses_over_a_field() {
    let mut world = world().await;
    let with_wrong = |n: u32, consent| Contact { consent, ..contact(&format!("c{n}"), &[(Field::Additional(1), "x")]) };
    world.crm_tells((0..200).map(|n| with_wrong(n, YES)).collect()).await;
    world.send_for(MINUTE).await;
    let alerts = world.status().await.alerts;
    assert!(!alerts.is_empty(), "the field stops its contacts");
    world.crm_tells(vec![with_wrong(7, NO)]).await;
    work(&mut world, SECOND).await;
    assert!(world.is_unsubscribed("c7@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_witnessed_no_goes_out_when_every_post_is_taken() {
    let mut world = world_with(consenting(), SendSettings { posts_in_flight: 1, ..settings() }).await;
    world.crm_tells(vec![person("ann", ANN, YES), person("bob", "bob@example.com", YES)]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer).always());
    world.crm_tells(vec![person_in("Lviv", "bob", "bob@example.com", YES)]).await;
    work(&mut world, SECOND).await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    work(&mut world, SECOND).await;
    assert!(world.is_unsubscribed(ANN));
}

/// Deeds have their own bound of calls, and raises that hang must not use up that of the opt-outs.
#[tokio::test(start_paused = true)]
async fn a_witnessed_no_goes_out_when_every_other_deed_hangs() {
    let mut world = world().await;
    world.crm_tells(twelve(YES)).await;
    world.crm_tells(twelve(NO)).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::Resubscribe, Effect::HoldAnswer).always());
    for raised in twelve(YES).into_iter().take(9) {
        world.crm_tells(vec![raised]).await;
        work(&mut world, SECOND).await;
    }
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    work(&mut world, SECOND).await;
    assert!(world.is_unsubscribed(ANN));
}

/// A batch that a proxy answers 502 for hours pauses what is new for up to five minutes; opt-outs go on.
#[tokio::test(start_paused = true)]
async fn a_witnessed_no_goes_out_while_bulk_gets_no_answers() {
    let mut world = ann_agrees().await;
    world.sandbox.jam(["bob".to_owned()]);
    world.crm_tells(twelve(YES)).await;
    world.send_for(HOUR).await;
    world.crm_tells(vec![person("bob", "bob@example.com", YES)]).await;
    work(&mut world, HOUR).await;
    for no in twelve(NO) {
        let email = format!("{}@example.com", no.key);
        work(&mut world, 37 * SECOND).await;
        world.crm_tells(vec![no]).await;
        work(&mut world, SECOND).await;
        assert!(world.is_unsubscribed(&email), "{email}");
    }
}

/// What certainly was not sent is tried again by the usual steps, not in a busy loop.
#[tokio::test(start_paused = true)]
async fn an_opt_out_without_a_network_waits_as_all_do() {
    let mut world = ann_agrees().await;
    world.sandbox.fault(Fault::on(CallKind::Unsubscribe, Effect::RefuseConnection).times(5));
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    work(&mut world, 10 * SECOND).await;
    assert!(!world.is_unsubscribed(ANN));
    work(&mut world, 2 * MINUTE).await;
    assert!(world.is_unsubscribed(ANN));
}

// ---------------------------------------------------------------- lowering: again

#[tokio::test(start_paused = true)]
async fn a_no_is_told_again_after_the_import_that_makes_the_contact() {
    let mut world = world().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(MINUTE)));
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, SECOND).await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    work(&mut world, SECOND).await;
    assert!(world.is_unsubscribed(ANN), "at once");
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let log = world.sandbox.unsubscribe_log();
    assert!(log.iter().any(|change| change.action == ConsentAction::Removed), "the import took it off: {log:?}");
    assert!(world.is_unsubscribed(ANN));
}

#[tokio::test(start_paused = true)]
async fn a_no_is_told_again_when_the_time_of_a_ghost_is_over() {
    let mut world = world().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, SECOND).await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    assert!(world.is_unsubscribed(ANN));
    // the first copy lands as one that makes the contact
    assert!(world.sandbox.erase_contact("ann"));
    world.sandbox.release_stuck();
    assert!(!world.is_unsubscribed(ANN), "the ghost took it off");
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN));
}

#[tokio::test(start_paused = true)]
async fn a_no_is_told_again_after_a_crash() {
    let mut world = world().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(2 * HOUR)));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer));
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, MINUTE).await;
    world.crash().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    work(&mut world, MINUTE).await;
    assert!(world.is_unsubscribed(ANN));
    world.crash().await;
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN));
}

/// An import that certainly wrote nothing can have undone nothing: no call is wasted.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_again_after_a_call_that_wrote_nothing() {
    let mut world = world().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::Answer(Canned::too_many(None))).times(4));
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    assert_eq!(told_of(&world, ANN), [true, true], "once before and once after the call that made the contact");
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_mail_is_unsubscribed_before_and_after_the_call_that_makes_the_contact() {
    let mut world = world().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(told_of(&world, ANN), [true, true]);
    let kinds: Vec<CallKind> = world.sandbox.calls().iter().map(|call| call.kind).collect();
    let place = |kind| kinds.iter().position(|other| *other == kind).unwrap();
    assert!(place(CallKind::Unsubscribe) < place(CallKind::SubmitContacts), "{kinds:?}");
    assert!(world.is_unsubscribed(ANN));
}

/// As long as Reteno refuses the opt-out, the contact is not made.
#[tokio::test(start_paused = true)]
async fn a_contact_is_not_made_before_its_no_is_told() {
    let mut world = world().await;
    let refusal = Canned::json(http::StatusCode::BAD_REQUEST, r#"{"message":"no"}"#);
    world.sandbox.fault(Fault::on(CallKind::Unsubscribe, Effect::Answer(refusal)).times(3));
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    work(&mut world, HOUR).await;
    assert!(world.sandbox.contacts().is_empty());
    work(&mut world, 24 * HOUR).await;
    assert_eq!(world.sandbox.contacts().len(), 1);
    assert!(world.is_unsubscribed(ANN));
}

#[tokio::test(start_paused = true)]
async fn a_new_address_is_unsubscribed_before_and_after_and_the_old_one_stays_so() {
    let mut world = ann_agrees().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    let calls = world.sandbox.calls().len();
    world.crm_tells(vec![person("ann", NEW, NO)]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("ann", "email").as_deref(), Some(NEW));
    assert_eq!(told_of(&world, NEW), [true, true]);
    let kinds: Vec<CallKind> = world.sandbox.calls()[calls..].iter().map(|call| call.kind).collect();
    assert_eq!(kinds[..2], [CallKind::Unsubscribe, CallKind::SubmitContacts]);
    assert!(world.is_unsubscribed(ANN) && world.is_unsubscribed(NEW));
}

/// While an import carries the old address: `next` is what the record says then.
async fn an_old_address_stays_unsubscribed(next: Contact) -> World {
    let mut world = world().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(HOUR)));
    world.crm_tells(vec![with_phone(person("ann", ANN, YES))]).await;
    work(&mut world, SECOND).await;
    world.crm_tells(vec![with_phone(person("ann", ANN, NO))]).await;
    work(&mut world, SECOND).await;
    assert!(world.is_unsubscribed(ANN));
    world.crm_tells(vec![with_phone(next)]).await;
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN), "{:?}", world.sandbox.unsubscribe_log());
    world
}

fn with_phone(mut contact: Contact) -> Contact {
    let phone = reteno_sync::contact::Personal::new("+380671234567".to_owned());
    contact.fields.push((Field::Sms, reteno_sync::contact::Wanted::Value(phone)));
    contact.fields.sort_by_key(|(field, _)| *field);
    contact
}

#[tokio::test(start_paused = true)]
async fn an_old_address_stays_unsubscribed_although_an_import_still_carries_it() {
    let world = an_old_address_stays_unsubscribed(person("ann", NEW, NO)).await;
    assert!(world.is_unsubscribed(NEW));
}

#[tokio::test(start_paused = true)]
async fn an_old_address_stays_unsubscribed_when_the_new_one_may_get_mail() {
    let world = an_old_address_stays_unsubscribed(person("ann", NEW, YES)).await;
    assert!(!world.is_unsubscribed(NEW));
}

#[tokio::test(start_paused = true)]
async fn an_old_address_stays_unsubscribed_when_it_is_cleared() {
    an_old_address_stays_unsubscribed(person("ann", "", NO)).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_says_nothing_any_more_takes_no_no_back() {
    let world = an_old_address_stays_unsubscribed(person("ann", ANN, SILENT)).await;
    assert_eq!(raises(&world), 0);
}

/// The no of the old address was never sent when the address changed, and the new one's no is taken back.
#[tokio::test(start_paused = true)]
async fn a_yes_of_the_new_address_takes_no_no_of_the_old_one_back() {
    let mut world = ann_agrees().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.crm_tells(vec![person("ann", NEW, NO)]).await;
    world.crm_tells(vec![person("ann", NEW, YES)]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert!(world.is_unsubscribed(ANN));
    assert!(!world.is_unsubscribed(NEW));
    assert_eq!(raises(&world), 0);
}

/// What was told under the old mapping, or before an older copy was put in place, is not undone by what is under way; the
/// new no is held meanwhile.
#[tokio::test(start_paused = true)]
async fn what_was_told_before_all_starts_anew_is_not_undone_by_what_is_under_way() {
    for restores in [false, true] {
        let mut world = world().await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(HOUR)));
        world.crm_tells(twelve(YES)).await;
        work(&mut world, SECOND).await;
        world.crm_tells(twelve(NO)).await;
        work(&mut world, SECOND).await;
        assert_eq!(world.sandbox.unsubscribed().len(), 12);
        world.policy = guarded();
        if restores {
            restore(&world).await;
            world.crash().await;
        } else {
            change_mapping(&world, 2).await;
        }
        let holds = world.crm_is(twelve(NO)).await.holds;
        assert!(holds.iter().any(|hold| hold.verb == "unsubscribe" && hold.contacts == 12), "{holds:?}");
        world.send_until_quiet().await;
        let log = world.sandbox.unsubscribe_log();
        assert!(log.iter().any(|change| change.action == ConsentAction::Removed), "the import took some off");
        assert_eq!(world.sandbox.unsubscribed().len(), 12, "restored: {restores}");
        assert_eq!(raises(&world), 0);
    }
}

// ---------------------------------------------------------------- two contacts with one address

#[tokio::test(start_paused = true)]
async fn of_two_contacts_with_one_address_the_stricter_wins() {
    let mut world = world().await;
    world.policy.unique = Vec::new();
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    // another one with the address is made, which takes it off
    world.crm_tells(vec![person("bob", ANN, YES)]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.contacts().len(), 2);
    assert!(world.is_unsubscribed(ANN));
    // one of them agrees
    world.crm_tells(vec![person("bob", ANN, NO)]).await;
    world.crm_tells(vec![person("bob", ANN, YES)]).await;
    world.send_for(HOUR).await;
    assert!(world.is_unsubscribed(ANN));
    assert_eq!(raises(&world), 0);
    // and now both do
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    world.send_for(HOUR).await;
    assert!(!world.is_unsubscribed(ANN));
}

#[tokio::test(start_paused = true)]
async fn across_sources_the_stricter_wins_also_where_one_knows_nothing_of_consent() {
    let mut world = world().await;
    world.policy.unique = Vec::new();
    let shop = world.other_source("shop").await;
    for (knows, source) in [(true, shop), (false, shop)] {
        let email = format!("{knows}@example.com");
        let (ann, bob) = (format!("ann{knows}"), format!("bob{knows}"));
        world.crm_tells(vec![person(&ann, &email, NO)]).await;
        world.send_for(HOUR).await;
        let says = if knows { YES } else { SILENT };
        let policy = Arc::new(Policy { has_consent: knows, ..world.policy.clone() });
        world
            .told(vec![person(&bob, &email, says)], |context| {
                context.source = source;
                context.policy = policy;
            })
            .await;
        assert_eq!(world.send_for(HOUR).await, Ended::Drained);
        assert!(world.is_unsubscribed(&email), "{knows}");
    }
}

/// Nobody's call gives an address to Reteno before the no of somebody else who has it is told.
#[tokio::test(start_paused = true)]
async fn an_address_waits_for_the_no_of_whoever_has_it() {
    let mut world = world().await;
    world.policy.unique = Vec::new();
    world.crm_tells(vec![person("ann", ANN, NO), person("bob", ANN, YES)]).await;
    world.send_for(HOUR).await;
    let kinds: Vec<CallKind> = world.sandbox.calls().iter().map(|call| call.kind).collect();
    assert_eq!(kinds.first(), Some(&CallKind::Unsubscribe), "{kinds:?}");
    assert!(world.is_unsubscribed(ANN));
}

/// Ann's raise is under way when Bob, who has the address too, says no.
#[tokio::test(start_paused = true)]
async fn a_no_of_somebody_else_undoes_a_raise_that_is_under_way() {
    let mut world = world().await;
    world.policy.unique = Vec::new();
    world.crm_tells(vec![person("ann", ANN, NO), person("bob", ANN, YES)]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::Resubscribe, Effect::LoseRequest).times(3));
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, SECOND).await;
    world.crm_tells(vec![person("bob", ANN, NO)]).await;
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN));
    assert_eq!(raises(&world), 0, "it is not repeated");
}

// ---------------------------------------------------------------- the guard

#[tokio::test(start_paused = true)]
async fn a_no_at_first_sight_is_counted_and_its_contact_is_not_made_while_it_is_held() {
    let mut world = world_with(guarded(), settings()).await;
    let weighed = world.told(twelve(NO), |context| context.lane = Lane::FirstLoad).await;
    assert_eq!((weighed.held.len(), weighed.holds.len()), (12, 1));
    work(&mut world, HOUR).await;
    assert!(world.sandbox.contacts().is_empty());
    assert!(world.sandbox.unsubscribed().is_empty());
    let hold = weighed.holds[0].id;
    let approval = world.store.call(move |checkpoint| checkpoint.approve_hold(hold)).await.unwrap();
    assert!(matches!(approval, Approval::Released(_)));
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.contacts().len(), 12);
    assert_eq!(world.sandbox.unsubscribed().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_witnessed_no_is_never_counted() {
    let mut world = world_with(guarded(), settings()).await;
    world.told(twelve(YES), |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    let weighed = world.crm_tells(twelve(NO)).await;
    assert_eq!(weighed.held.len(), 0);
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 12);
    // nor is it counted among what passed in the last day: ten at first sight still go
    let more = (0..10).map(|n| person(&format!("d{n}"), &format!("d{n}@example.com"), NO)).collect();
    assert_eq!(world.crm_tells(more).await.held.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_no_of_a_changed_mapping_is_counted_and_other_edits_go_on() {
    let mut world = world_with(guarded(), settings()).await;
    world.told(twelve(YES), |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    change_mapping(&world, 2).await;
    let weighed = world.crm_is(twelve(NO)).await;
    assert_eq!(weighed.held.len(), 12);
    // another field goes on, another address does not
    let edits = vec![person_in("Lviv", "c1", "c1@example.com", NO), person_in("Odesa", "c2", NEW, NO)];
    world.crm_tells(edits).await;
    work(&mut world, HOUR).await;
    assert_eq!(world.reteno_holds("c1", "town").as_deref(), Some("Lviv"));
    assert!(!world.is_unsubscribed("c1@example.com"));
    assert!(world.is_unsubscribed(NEW) || world.reteno_holds("c2", "email").as_deref() != Some(NEW));
    let hold = weighed.holds[0].id;
    let approval = world.store.call(move |checkpoint| checkpoint.approve_hold(hold)).await.unwrap();
    assert!(matches!(approval, Approval::Released(_)));
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.unsubscribed().len(), 13, "twelve, and the new address");
    assert_eq!(world.reteno_holds("c2", "email").as_deref(), Some(NEW));
}

/// Twelve new addresses at once, each with a no that is held: the addresses are not told, the towns are.
#[tokio::test(start_paused = true)]
async fn while_a_no_is_held_its_contact_is_not_given_the_new_address() {
    let mut world = world_with(guarded(), settings()).await;
    world.told(twelve(NO), |context| context.policy = Arc::new(consenting())).await;
    world.send_for(HOUR).await;
    let moved: Vec<_> =
        (0..12).map(|n| person_in("Lviv", &format!("c{n}"), &format!("m{n}@example.com"), NO)).collect();
    let weighed = world.crm_tells(moved).await;
    assert_eq!(weighed.holds.len(), 1);
    work(&mut world, HOUR).await;
    assert_eq!(world.reteno_holds("c3", "town").as_deref(), Some("Lviv"));
    assert_eq!(world.reteno_holds("c3", "email").as_deref(), Some("c3@example.com"));
    // one goes back to the old address: that is no longer held
    world.crm_tells(vec![person_in("Odesa", "c4", "c4@example.com", NO)]).await;
    work(&mut world, HOUR).await;
    assert_eq!(world.reteno_holds("c4", "town").as_deref(), Some("Odesa"));
    assert!(world.is_unsubscribed("c4@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_no_that_is_held_and_then_witnessed_goes_out() {
    let mut world = world_with(guarded(), settings()).await;
    assert_eq!(world.told(twelve(NO), |context| context.lane = Lane::FirstLoad).await.held.len(), 12);
    world.crm_tells(vec![person("c1", "c1@example.com", SILENT)]).await;
    world.crm_tells(vec![person("c1", "c1@example.com", NO)]).await;
    work(&mut world, HOUR).await;
    assert!(world.is_unsubscribed("c1@example.com"));
    assert_eq!(world.sandbox.contacts().len(), 1, "and its contact is made");
}

#[tokio::test(start_paused = true)]
async fn the_opt_outs_of_contacts_that_are_gone_are_counted() {
    let mut world = world_with(Policy { ending: Ending::Unsubscribe, ..guarded() }, settings()).await;
    let stays = || person("stays", "stays@example.com", YES);
    let all = |mut contacts: Vec<Contact>| {
        contacts.push(stays());
        contacts
    };
    world.told(all(twelve(YES)), |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    tokio::time::advance(HOUR).await;
    world.crm_is(vec![stays()]).await;
    tokio::time::advance(HOUR).await;
    let weighed = world.crm_is(vec![stays()]).await;
    assert_eq!(weighed.holds.len(), 1, "{weighed:?}");
    work(&mut world, HOUR).await;
    assert!(world.sandbox.unsubscribed().is_empty());
}

/// A witnessed no that could not be sent yet stays one when its contact is gone, or all is seen anew.
#[tokio::test(start_paused = true)]
async fn a_witnessed_no_that_waits_is_not_held_for_another_reason() {
    let gone = Policy { ending: Ending::Unsubscribe, ..guarded() };
    for changes_mapping in [true, false] {
        let mut world = world_with(gone.clone(), settings()).await;
        let stays = person("stays", "stays@example.com", YES);
        let policy = Arc::new(consenting());
        world.told(twelve(YES), |context| context.policy = policy).await;
        world.crm_tells(vec![stays.clone()]).await;
        world.send_for(HOUR).await;
        tokio::time::advance(HOUR).await;
        // nothing is sent meanwhile
        world.crm_tells(twelve(NO)).await;
        if changes_mapping {
            change_mapping(&world, 2).await;
            world.crm_is(twelve(NO)).await;
        } else {
            tokio::time::advance(HOUR).await;
            world.crm_is(vec![stays.clone()]).await;
            tokio::time::advance(HOUR).await;
            world.crm_is(vec![stays]).await;
        }
        work(&mut world, HOUR).await;
        assert_eq!(world.sandbox.unsubscribed().len(), 12, "mapping: {changes_mapping}");
    }
}

// ---------------------------------------------------------------- raising

#[tokio::test(start_paused = true)]
async fn a_witnessed_yes_raises_once() {
    let mut world = ann_agrees().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert!(!world.is_unsubscribed(ANN));
    // and the person has the last word
    world.sandbox.person_unsubscribes(ANN);
    for town in ["Lviv", "Odesa"] {
        world.crm_tells(vec![person_in(town, "ann", ANN, YES)]).await;
        world.crm_is(vec![person_in(town, "ann", ANN, YES)]).await;
        world.send_for(HOUR).await;
    }
    assert!(world.is_unsubscribed(ANN));
    assert_eq!(raises(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_witnessed_change_from_no_to_yes_raises_nothing() {
    let histories: [&[(&str, Option<Consent>)]; 6] = [
        // first sight
        &[(ANN, YES)],
        // nothing said in between
        &[(ANN, NO), (ANN, SILENT), (ANN, YES)],
        &[(ANN, SILENT), (ANN, YES)],
        // first sight is of an address
        &[(ANN, NO), (NEW, YES)],
        &[(ANN, NO), (NEW, NO), (ANN, YES)],
        &[(ANN, NO), (NEW, SILENT), (ANN, YES)],
    ];
    for history in histories {
        let mut world = world().await;
        world.sandbox.person_unsubscribes(ANN);
        world.sandbox.person_unsubscribes(NEW);
        for (email, consent) in history {
            world.crm_tells(vec![person("ann", email, *consent)]).await;
            world.send_for(HOUR).await;
        }
        assert_eq!(raises(&world), 0, "{history:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_mapping_and_a_return_raise_nothing() {
    for returns in [false, true] {
        let mut world = ann_agrees().await;
        world.crm_is(vec![person("ann", ANN, NO), person("bob", "bob@example.com", YES)]).await;
        world.send_for(HOUR).await;
        if returns {
            for _ in 0..2 {
                tokio::time::advance(MINUTE).await;
                world.crm_is(vec![person("bob", "bob@example.com", YES)]).await;
            }
            tokio::time::advance(MINUTE).await;
        } else {
            change_mapping(&world, 2).await;
        }
        world.crm_is(vec![person("ann", ANN, YES), person("bob", "bob@example.com", YES)]).await;
        world.send_for(HOUR).await;
        assert_eq!(raises(&world), 0, "returns: {returns}");
        assert!(world.is_unsubscribed(ANN));
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_that_lacks_a_contact_is_no_return_so_that_its_no_stays_witnessed() {
    let mut world = ann_agrees().await;
    let others = || vec![person("bob", "bob@example.com", YES)];
    world.crm_is([vec![person("ann", ANN, YES)], others()].concat()).await;
    tokio::time::advance(MINUTE).await;
    world.crm_is(others()).await;
    tokio::time::advance(MINUTE).await;
    // the guard lets no opt-out of first sight pass
    world.policy.guard =
        Guard { is_on: true, bounds: [Bound { contacts: 0, percent: 0 }; Verb::ALL.len()], ..Guard::default() };
    let weighed = world.crm_is([vec![person("ann", ANN, NO)], others()].concat()).await;
    assert!(weighed.holds.is_empty(), "a witnessed no is never held");
    world.send_for(HOUR).await;
    assert!(world.is_unsubscribed(ANN));
    // and what was no stays so, without being told once more
    tokio::time::advance(MINUTE).await;
    world.crm_is(others()).await;
    tokio::time::advance(MINUTE).await;
    world.crm_is([vec![person("ann", ANN, NO)], others()].concat()).await;
    world.send_for(HOUR).await;
    assert_eq!(told_of(&world, ANN), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_restored_checkpoint_raises_nothing() {
    let mut world = ann_agrees().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::Resubscribe, Effect::RefuseConnection).always());
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, SECOND).await;
    world.sandbox.clear_faults();
    restore(&world).await;
    world.crash().await;
    world.crm_is(vec![person("ann", ANN, YES)]).await;
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN));
    assert_eq!(raises(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn a_raise_that_is_not_confirmed_within_an_hour_is_dropped_and_listed() {
    let effects = [Effect::RefuseConnection, Effect::LoseRequest, Effect::Answer(Canned::too_many(Some("5000")))];
    for effect in effects {
        let mut world = ann_agrees().await;
        world.crm_tells(vec![person("ann", ANN, NO)]).await;
        world.send_for(HOUR).await;
        world.sandbox.fault(Fault::on(CallKind::Resubscribe, effect.clone()).always());
        world.crm_tells(vec![person("ann", ANN, YES)]).await;
        work(&mut world, HOUR + MINUTE).await;
        world.sandbox.clear_faults();
        world.send_until_quiet().await;
        assert_eq!(raises(&world), 0, "{effect:?}");
        assert!(world.is_unsubscribed(ANN));
        let listed = rejections(&world).await;
        assert!(listed.iter().any(|(_, reason)| reason.contains("within an hour")), "{effect:?}: {listed:?}");
    }
}

/// The hour counts from the record, not from the call: what waited long before it went out is not repeated for another.
#[tokio::test(start_paused = true)]
async fn the_hour_of_a_raise_counts_from_its_record() {
    let mut world = ann_agrees().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::Resubscribe, Effect::LoseRequest).always());
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    tokio::time::advance(59 * MINUTE).await;
    work(&mut world, SECOND).await;
    tokio::time::advance(2 * MINUTE).await;
    world.sandbox.clear_faults();
    world.send_until_quiet().await;
    assert_eq!(raises(&world), 0);
}

/// The process dies with a raise that was not answered, and comes back hours later.
#[tokio::test(start_paused = true)]
async fn a_raise_is_not_repeated_by_a_process_that_comes_back_after_hours() {
    let mut world = ann_agrees().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::Resubscribe, Effect::LoseRequest));
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, SECOND).await;
    tokio::time::advance(5 * HOUR).await;
    world.crash().await;
    world.send_until_quiet().await;
    assert_eq!(raises(&world), 0);
    assert!(world.is_unsubscribed(ANN));
    assert_eq!(rejections(&world).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_raise_is_cancelled_by_a_later_no() {
    // it waits, is under way, was lost on the way, was carried out and nobody knows
    let effects = [None, Some(Effect::HoldAnswer), Some(Effect::LoseRequest), Some(Effect::LoseAnswer)];
    for effect in effects {
        let mut world = ann_agrees().await;
        world.crm_tells(vec![person("ann", ANN, NO)]).await;
        world.send_for(HOUR).await;
        if let Some(effect) = effect.clone() {
            world.sandbox.fault(Fault::on(CallKind::Resubscribe, effect));
        }
        world.crm_tells(vec![person("ann", ANN, YES)]).await;
        if effect.is_some() {
            work(&mut world, SECOND).await;
        }
        let before = raises(&world);
        world.crm_tells(vec![person("ann", ANN, NO)]).await;
        work(&mut world, SECOND).await;
        assert!(world.is_unsubscribed(ANN), "at once: {effect:?}");
        world.sandbox.release();
        world.send_until_quiet().await;
        assert!(world.is_unsubscribed(ANN), "{effect:?}");
        assert_eq!(raises(&world), before, "nothing more is raised: {effect:?}");
    }
}

/// A raise whose copy lands last, after the no was told.
#[tokio::test(start_paused = true)]
async fn a_raise_that_lands_after_the_no_does_not_stay() {
    let mut world = ann_agrees().await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::Resubscribe, Effect::LoseRequest));
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, SECOND).await;
    // the clock is set back meanwhile, so that the no seems older than the raise
    world.clock = Clock::simulated(world.clock.now().minus(HOUR));
    world.crash().await;
    let ahead = world.clock.now().plus(HOUR).0;
    world.told(vec![person("ann", ANN, NO)], |context| context.asked_at = ahead + 1).await;
    work(&mut world, MINUTE).await;
    assert!(world.is_unsubscribed(ANN));
    let told = told_of(&world, ANN).len();
    world.send_until_quiet().await;
    assert!(told_of(&world, ANN).len() > told, "it is told again when the raise can land no more");
}

/// The no is told while an older raise waits behind an import, and the words alternate.
#[tokio::test(start_paused = true)]
async fn words_that_alternate_quickly_end_in_the_last_one() {
    let mut world = ann_agrees().await;
    world.sandbox.fault(Fault::on(CallKind::Unsubscribe, Effect::LoseAnswer).times(3));
    for word in [NO, YES, NO, YES, NO, YES] {
        world.crm_tells(vec![person("ann", ANN, word)]).await;
        work(&mut world, Duration::from_millis(30)).await;
    }
    world.send_until_quiet().await;
    assert!(!world.is_unsubscribed(ANN), "{:?}", world.sandbox.unsubscribe_log());
    for word in [NO, YES, NO] {
        world.crm_tells(vec![person("ann", ANN, word)]).await;
        work(&mut world, Duration::from_millis(30)).await;
    }
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN));
}

// ---------------------------------------------------------------- undo, baseline

#[tokio::test(start_paused = true)]
async fn an_inverted_mapping_is_cured() {
    let mut world = world().await;
    let all = |consent: fn(usize) -> Option<Consent>| -> Vec<Contact> {
        (0..50).map(|n| person(&format!("c{n}"), &format!("c{n}@example.com"), consent(n))).collect()
    };
    // ten of fifty want no mail
    world.crm_is(all(|n| if n < 10 { NO } else { YES })).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 10);
    // one of those that the CRM calls willing has unsubscribed by himself
    world.sandbox.person_unsubscribes("c20@example.com");
    tokio::time::advance(MINUTE).await;
    change_mapping(&world, 2).await;
    world.crm_is(all(|n| if n < 10 { YES } else { NO })).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 50);
    let cycle = last_cycle(&world).await;
    assert_eq!(undo(&world, cycle).await, (0, 40), "as long as the records say no, nothing is restored");
    // one moved meanwhile, and another says no since
    tokio::time::advance(MINUTE).await;
    change_mapping(&world, 3).await;
    world
        .crm_is(
            (0..50)
                .map(|n| match n {
                    30 => person("c30", NEW, YES),
                    n => person(&format!("c{n}"), &format!("c{n}@example.com"), if n < 10 { NO } else { YES }),
                })
                .collect(),
        )
        .await;
    world.crm_tells(vec![person("c31", "c31@example.com", NO)]).await;
    world.send_for(HOUR).await;
    world.sandbox.person_unsubscribes(NEW);
    assert_eq!(undo(&world, cycle).await, (38, 2));
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let left = world.sandbox.unsubscribed();
    for n in 0..50 {
        // c20, too: this program lowered him after he had done so by himself, which nobody can see
        let is_left = n < 10 || n == 30 || n == 31;
        assert_eq!(left.contains(&format!("c{n}@example.com")), is_left, "c{n}");
    }
    assert!(left.contains(NEW), "a new address is never part of it");
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_is_not_confirmed_can_be_made_again() {
    let mut world = ann_agrees().await;
    change_mapping(&world, 2).await;
    world.crm_is(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    change_mapping(&world, 3).await;
    world.crm_is(vec![person("ann", ANN, YES)]).await;
    world.send_for(HOUR).await;
    let cycle = last_cycle(&world).await;
    world.sandbox.fault(Fault::on(CallKind::Resubscribe, Effect::RefuseConnection).always());
    assert_eq!(undo(&world, cycle).await, (1, 0));
    work(&mut world, 2 * HOUR).await;
    assert!(world.is_unsubscribed(ANN));
    world.sandbox.clear_faults();
    assert_eq!(undo(&world, cycle).await, (1, 0));
    // twice is no more than once
    work(&mut world, Duration::from_millis(1)).await;
    undo(&world, cycle).await;
    world.send_for(HOUR).await;
    assert!(!world.is_unsubscribed(ANN));
    assert_eq!(undo(&world, cycle).await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_baseline_tells_nothing_and_starts_from_what_it_saw() {
    let mut world = world().await;
    let seen = vec![person("ann", ANN, NO), person("bob", "bob@example.com", YES)];
    world.told(seen, |context| context.mode = PageMode::Baseline).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.calls().len(), 0);
    // a no that was there before is protected by whatever is written later
    world.sandbox.person_unsubscribes(ANN);
    world.crm_tells(vec![person("ann", NEW, NO), person("bob", "bob@example.com", NO)]).await;
    world.send_for(HOUR).await;
    assert!([ANN, NEW, "bob@example.com"].iter().all(|email| world.is_unsubscribed(email)));
}

/// A contact that a baseline took as held, and that Reteno did not have: the call that makes it is followed by its no.
#[tokio::test(start_paused = true)]
async fn a_no_of_a_baseline_is_told_after_the_call_that_makes_the_contact() {
    let mut world = world().await;
    world.told(vec![person("ann", ANN, NO)], |context| context.mode = PageMode::Baseline).await;
    world.sandbox.person_unsubscribes(ANN);
    // the external id changes, which is sent
    let renamed = Contact { key: "ann".to_owned(), ..person("ann", ANN, NO) };
    let mut fields = renamed.fields.clone();
    fields.push((Field::Town, reteno_sync::contact::Wanted::Value(reteno_sync::contact::Personal::new("Lviv"))));
    fields.sort_by_key(|(field, _)| *field);
    world.crm_tells(vec![Contact { fields, ..renamed }]).await;
    world.send_until_quiet().await;
    assert_eq!(world.sandbox.contacts().len(), 1);
    assert!(world.is_unsubscribed(ANN), "{:?}", world.sandbox.unsubscribe_log());
}

// ---------------------------------------------------------------- privacy

/// Every byte of the state directory.
fn state_of(world: &World) -> Vec<u8> {
    let files = std::fs::read_dir(world.dir.path()).unwrap();
    files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn holds(state: &[u8], text: &str) -> bool {
    state.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn no_address_stands_in_clear_text_once_all_is_done() {
    let mut world = ann_agrees().await;
    for (email, word) in [(ANN, NO), (ANN, YES), (ANN, NO), (NEW, NO), (NEW, YES), (NEW, NO)] {
        world.crm_tells(vec![with_phone(person("ann", email, word))]).await;
        world.sandbox.fault(Fault::on(CallKind::Unsubscribe, Effect::LoseAnswer));
        work(&mut world, MINUTE).await;
    }
    world.send_until_quiet().await;
    tokio::time::advance(HOUR).await;
    world.send_for(2 * MINUTE).await;
    world.store.call(reteno_sync::checkpoint::Checkpoint::settle_disk).await.unwrap();
    let state = state_of(&world);
    assert!(holds(&state, "reteno-sync") || !state.is_empty());
    for secret in [ANN, NEW, "example.com", "380671234567"] {
        assert!(!holds(&state, secret), "{secret} stands in the state directory");
    }
    let database = rusqlite::Connection::open(world.dir.path().join("reteno-sync.db")).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM deed"), 0, "what a deed needed goes with it");
    assert_eq!(count("SELECT count(*) FROM import"), 0);
    assert_eq!(count("SELECT count(*) FROM told"), 0, "so does what was kept for a call under way");
    assert_eq!(count("SELECT count(*) FROM contact WHERE identity IS NOT NULL"), 1, "the row keeps it, sealed");
}

/// Sealed also while it waits.
#[tokio::test(start_paused = true)]
async fn a_deed_that_is_held_keeps_its_address_sealed() {
    let mut world = world_with(guarded(), settings()).await;
    world.told(twelve(YES), |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    change_mapping(&world, 2).await;
    world.crm_is(twelve(NO)).await;
    work(&mut world, 2 * MINUTE).await;
    world.store.call(reteno_sync::checkpoint::Checkpoint::settle_disk).await.unwrap();
    assert!(!holds(&state_of(&world), "example.com"));
}

/// A guard that lets ten through is told apart from one that is off.
#[tokio::test(start_paused = true)]
async fn a_handful_at_first_sight_is_not_held() {
    let bounds = [Bound { contacts: 0, percent: 0 }; Verb::ALL.len()];
    let policy = Policy { guard: Guard { bounds, ..Guard::default() }, ..consenting() };
    let mut world = world_with(policy, settings()).await;
    world.told(twelve(NO).into_iter().take(10).collect(), |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 10);
}

/// A part of an import was written before it ended in ERROR.
#[tokio::test(start_paused = true)]
async fn a_no_is_told_again_after_an_import_that_failed() {
    let mut world = world().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::FailImport(Applied::All)));
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN));
}

/// A record that speaks of consent alone, of a contact whose address was never kept: it is fetched, not guessed.
#[tokio::test(start_paused = true)]
async fn a_no_without_an_address_at_hand_waits_for_it_and_then_goes_out() {
    let mut world = world().await;
    // known from a time when consent was not mapped
    let policy = Arc::new(support::lenient());
    world.told(vec![person("ann", ANN, SILENT)], |context| context.policy = policy).await;
    world.send_for(HOUR).await;
    let partial = |word| {
        let mut contact = person("ann", ANN, word);
        contact.fields.retain(|(field, _)| *field == Field::ExternalCustomerId);
        contact
    };
    world.crm_tells(vec![partial(YES)]).await;
    world.crm_tells(vec![partial(NO)]).await;
    work(&mut world, MINUTE).await;
    assert!(world.status().await.sources[0].full_read_wanted);
    world.crm_is(vec![person("ann", ANN, NO)]).await;
    work(&mut world, MINUTE).await;
    assert!(world.is_unsubscribed(ANN));
}

/// An older copy of the database is put back that was made an hour ago, in the same start of the daemon: since then she
/// was raised, and left by Reteno's own link.
#[tokio::test(start_paused = true)]
async fn a_copy_of_the_same_hour_raises_nothing_twice() {
    let mut world = World::begin().await;
    world.policy = consenting();
    for consent in [YES, NO] {
        world.crm_tells(vec![person("ann", ANN, consent)]).await;
        world.send_for(HOUR).await;
    }
    world.store.call(reteno_sync::checkpoint::Checkpoint::settle_disk).await.unwrap();
    let database = world.dir.path().join("reteno-sync.db");
    let copy = std::fs::read(&database).unwrap();
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    world.send_for(HOUR).await;
    assert!(!world.is_unsubscribed(ANN));
    world.sandbox.person_unsubscribes(ANN);
    world.close();
    for name in ["reteno-sync.db-wal", "reteno-sync.db-shm"] {
        drop(std::fs::remove_file(world.dir.path().join(name)));
    }
    std::fs::write(&database, copy).unwrap();
    world.crash().await;
    assert_eq!(world.alerts().await, ["restored"]);
    world.crm_is(vec![person("ann", ANN, YES)]).await;
    world.send_for(HOUR).await;
    assert!(world.is_unsubscribed(ANN));
}

/// One count for a call, not for each of those whom it names.
#[tokio::test(start_paused = true)]
async fn the_counter_moves_once_for_each_call_that_cannot_be_taken_back() {
    let mut world = World::begin().await;
    world.policy = consenting();
    let people = |consent| (0..40).map(|n| person(&format!("c{n}"), &format!("c{n}@example.com"), consent)).collect();
    let counted = |world: &World| {
        let text = std::fs::read_to_string(world.dir.path().join("generation")).unwrap();
        text.lines().filter_map(|line| line.trim().parse::<u64>().ok()).max().unwrap()
    };
    world.crm_tells(people(YES)).await;
    let before = counted(&world);
    world.send_for(HOUR).await;
    assert_eq!(counted(&world), before, "contacts that are written count for nothing");
    for (consent, calls) in [(Consent::No, 1), (Consent::Yes, 2)] {
        world.crm_tells(people(Some(consent))).await;
        world.send_for(HOUR).await;
        assert_eq!(counted(&world), before + calls);
    }
}
