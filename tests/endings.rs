//! Contacts that are gone from the CRM: what is done about them, when, and what a return takes back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use http::StatusCode;
use reteno_sync::checkpoint::{Approval, Incoming, SeenRows};
use reteno_sync::contact::{Contact, Field};
use reteno_sync::daemon::sender::Ended;
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::{Bound, Guard};
use reteno_sync::plan::policy::Ending;
use reteno_sync::reteno::body::DedupeOn;
use reteno_sync::sandbox::{Applied, CallKind, Canned, Effect, Fault, SandboxOptions};
use support::reads::{Record, body_of};
use support::{HOUR, MINUTE, World};

const TOWN: Field = Field::Town;
const OTHER: Record<'_> = ("other", &[(TOWN, "Lviv")]);
const ANN: Record<'_> = ("ann", &[(TOWN, "Kyiv"), (Field::Sms, "+380671234567"), (Field::FirstName, "Anneliese")]);
/// What must not stand anywhere after Ann was erased.
const TRACES: [&str; 4] = ["ann@example.com", "380671234567", "Anneliese", "Kyiv"];

fn options() -> SandboxOptions {
    SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() }
}

async fn begin(ending: Ending) -> World {
    let mut world = World::begin().await;
    world.policy.ending = ending;
    world.policy.groups = vec![9401];
    world.mapped.push(Field::segment("VIP"));
    world.mapped.push(Field::Subscriptions);
    world.settings.segment_names.insert(Field::segment("VIP"), "VIP".to_owned());
    world.crash().await;
    world
}

/// Ann and another one are in Reteno.
async fn with_ann(ending: Ending) -> World {
    let mut world = begin(ending).await;
    world.reads_all(&[ANN, OTHER]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    world
}

fn is_deleted(world: &World, key: &str) -> bool {
    world.sandbox.contact_by_external_id(key).unwrap().deleted
}

// when somebody is gone

#[tokio::test(start_paused = true)]
async fn gone_needs_two_sightings_and_a_return_between_them_counts_anew() {
    let mut world = with_ann(Ending::Delete).await;
    let calls = world.call_count();
    assert_eq!(world.reads_all(&[OTHER]).await.gone, 1);
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    world.reads_all(&[ANN, OTHER]).await;
    world.reads_all(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.kinds_since(calls), []);
    world.reads_all(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.kinds_since(calls), [CallKind::DeleteContact]);
    assert!(is_deleted(&world, "ann") && !is_deleted(&world, "other"));
    world.loses(&[OTHER]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(calls).len(), 1, "it is done once");
}

#[tokio::test(start_paused = true)]
async fn the_crms_word_and_one_whole_read_are_two_sightings() {
    let mut world = with_ann(Ending::Delete).await;
    world.reads_changes(&[], &["ann"]).await;
    world.send_for(HOUR).await;
    assert!(!is_deleted(&world, "ann"));
    world.reads_all(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert!(is_deleted(&world, "ann"));
}

/// Reads of changes overlap: the same deletion is told again and again, also after the contact was restored.
#[tokio::test(start_paused = true)]
async fn the_same_word_told_again_is_no_second_sighting() {
    let mut world = with_ann(Ending::Delete).await;
    for _ in 0..4 {
        world.reads_changes(&[], &["ann"]).await;
    }
    world.reads_changes(&[ANN], &["ann"]).await;
    for _ in 0..4 {
        world.reads_changes(&[], &["ann"]).await;
        world.send_for(HOUR).await;
    }
    assert!(!is_deleted(&world, "ann"));
    world.reads(true, Lane::Reconcile, std::iter::once(support::contact("other", OTHER.1)), &["ann"]).await;
    world.send_for(HOUR).await;
    assert!(is_deleted(&world, "ann"), "a whole read that says it is deleted confirms it");
}

/// The page that says "deleted" was asked for before the fetch that brought the contact.
#[tokio::test(start_paused = true)]
async fn a_word_older_than_the_record_counts_for_nothing() {
    let world = with_ann(Ending::Delete).await;
    let asked = world.clock.now().0;
    tokio::time::advance(MINUTE).await;
    world.reads_changes(&[("ann", &[(TOWN, "Odesa")])], &[]).await;
    let context = world.context(asked, false);
    let page = world.store.call(move |checkpoint| {
        let gone = vec![Incoming::Deleted { key: "ann".to_owned(), is_confirmed: false, changed_at: None }];
        checkpoint.record_page(&context, &mut SeenRows::default(), gone, None)
    });
    assert_eq!(page.await.unwrap().balance.gone, 0);
    let mut world = world;
    world.reads_all(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert!(!is_deleted(&world, "ann"), "one sighting");
}

#[tokio::test(start_paused = true)]
async fn keep_does_nothing() {
    let mut world = with_ann(Ending::Keep).await;
    let calls = world.call_count();
    world.loses(&[OTHER]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(calls), []);
}

#[tokio::test(start_paused = true)]
async fn unsubscribe_acts_on_the_address_unless_somebody_else_has_it() {
    let mut world = with_ann(Ending::Unsubscribe).await;
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().into_iter().collect::<Vec<_>>(), ["ann@example.com"]);
    // merged: the address lives on with another record
    let heir: Record<'_> = ("heir", &[(Field::Email, "other@example.com")]);
    world.reads_all(&[OTHER, heir]).await;
    world.send_for(HOUR).await;
    world.loses(&[heir]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 1);
}

/// Without external ids Reteno has one contact for both records.
#[tokio::test(start_paused = true)]
async fn a_merged_record_takes_its_heirs_contact_with_it_in_no_case() {
    for ending in [Ending::Delete, Ending::Erase] {
        let mut world = by_email(ending).await;
        let heir = without_id("heir", &[(Field::Email, "ann@example.com"), (TOWN, "Rivne")]);
        let other = || without_id("other", OTHER.1);
        world.reads(true, Lane::Reconcile, [without_id("ann", ANN.1), heir.clone(), other()].into_iter(), &[]).await;
        world.send_for(HOUR).await;
        for _ in 0..3 {
            world.reads(true, Lane::Reconcile, [heir.clone(), other()].into_iter(), &[]).await;
            world.send_for(HOUR).await;
        }
        let ann = world.sandbox.contacts().into_iter().find(|c| c.email.as_deref() == Some("ann@example.com")).unwrap();
        assert!(!ann.deleted, "{ending:?}");
        assert_eq!(ann.fields["town"], "Rivne", "{ending:?}: the heir is sent in its place");
    }
}

fn without_id(key: &str, fields: &[(Field, &str)]) -> Contact {
    let mut contact = support::contact(key, fields);
    contact.fields.retain(|(field, _)| *field != Field::ExternalCustomerId);
    contact
}

async fn by_email(ending: Ending) -> World {
    let settings = reteno_sync::daemon::sender::SendSettings { dedupe_on: DedupeOn::Email, ..support::settings() };
    let mut world = World::with(options(), settings).await;
    world.policy.ending = ending;
    world.mapped.retain(|field| *field != Field::ExternalCustomerId);
    world
}

// deletion

#[tokio::test(start_paused = true)]
async fn who_is_known_by_the_external_id_only_is_deleted_by_it() {
    for (ending, kind) in [(Ending::Delete, CallKind::DeleteContact), (Ending::Erase, CallKind::EraseContact)] {
        let mut world = begin(ending).await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
        world.reads_all(&[ANN]).await;
        world.send_for(HOUR).await;
        world.reads_all(&[ANN, OTHER]).await;
        world.send_for(HOUR).await;
        let calls = world.call_count();
        // the answer is lost, and the process dies: the same call is made again
        world.sandbox.fault(Fault::on(kind, Effect::LoseRequest));
        world.loses(&[OTHER]).await;
        let stop = tokio_util::sync::CancellationToken::new();
        let sender = world.sender.as_mut().unwrap();
        let until = reteno_sync::daemon::sender::Until::Stopped;
        drop(tokio::time::timeout(Duration::from_secs(1), sender.run(until, &stop)).await);
        world.crash().await;
        assert_eq!(world.send_for(HOUR).await, Ended::Drained);
        assert_eq!(world.kinds_since(calls), [kind, kind], "nothing is posted to find it out");
        assert_eq!(world.calls_since(calls)[1].path, "/api/v1/contact");
        assert!(world.sandbox.contact_by_external_id("ann").is_none_or(|ann| ann.deleted));
        assert!(!is_deleted(&world, "other"));
        assert_eq!(world.sandbox.tally().contacts_created, 2);
    }
}

/// Reteno was never told of her: to make her there in order to erase her would be the opposite of what is asked.
#[tokio::test(start_paused = true)]
async fn who_never_reached_reteno_is_not_made_there_to_be_ended() {
    for ending in [Ending::Delete, Ending::Erase] {
        let mut world = begin(ending).await;
        world.reads_all(&[OTHER]).await;
        world.send_for(HOUR).await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::RefuseConnection).times(3));
        world.reads_all(&[ANN, OTHER]).await;
        let stop = tokio_util::sync::CancellationToken::new();
        let sender = world.sender.as_mut().unwrap();
        let until = reteno_sync::daemon::sender::Until::Stopped;
        drop(tokio::time::timeout(Duration::from_secs(1), sender.run(until, &stop)).await);
        let calls = world.call_count();
        world.loses(&[OTHER]).await;
        world.hours(12).await;
        assert_eq!(world.calls_naming("ann", calls), [], "{ending:?}");
        assert_eq!(world.sandbox.tally().contacts_created, 1, "{ending:?}");
        assert_eq!(world.alerts().await, Vec::<String>::new(), "{ending:?}");
        assert_eq!(world.status().await.deeds.len(), 0, "{ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_learnt_by_the_address_where_no_external_id_is_mapped() {
    let mut world = by_email(Ending::Delete).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    let other = || without_id("other", OTHER.1);
    world.reads(true, Lane::Reconcile, std::iter::once(without_id("ann", ANN.1)), &[]).await;
    world.send_for(HOUR).await;
    let calls = world.call_count();
    for _ in 0..3 {
        world.reads(true, Lane::Reconcile, std::iter::once(other()), &[]).await;
        world.send_for(HOUR).await;
    }
    let deleted: Vec<_> =
        world.sandbox.contacts().into_iter().map(|contact| (contact.email.unwrap(), contact.deleted)).collect();
    assert_eq!(deleted, [("ann@example.com".to_owned(), true), ("other@example.com".to_owned(), false)]);
    assert_eq!(world.sandbox.tally().contacts_created, 2);
    // the post that asks writes nothing
    let asked = world.calls_since(calls).into_iter().find(|call| body_of(call).contains("ann@")).unwrap();
    let body: serde_json::Value = serde_json::from_str(&body_of(&asked)).unwrap();
    assert_eq!(body["contactFields"], serde_json::json!(["email"]));
    assert_eq!((body["restoreDeleted"].as_bool(), body.get("customFieldsIDs")), (Some(false), None));
    assert!(!body.to_string().contains("Kyiv") && body.get("eventKeyForNewContacts").is_none());
}

#[tokio::test(start_paused = true)]
async fn who_is_deleted_in_reteno_already_needs_nothing() {
    for (is_known, is_erased) in [(true, false), (true, true), (false, false)] {
        let mut world = begin(Ending::Delete).await;
        if !is_known {
            world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
        }
        world.reads_all(&[ANN]).await;
        world.send_for(HOUR).await;
        world.reads_all(&[ANN, OTHER]).await;
        world.send_for(HOUR).await;
        assert!(if is_erased { world.sandbox.erase_contact("ann") } else { world.sandbox.delete_contact("ann") });
        world.loses(&[OTHER]).await;
        assert_eq!(world.send_for(HOUR).await, Ended::Drained);
        assert_eq!((world.alerts().await, world.rejections().await.len()), (Vec::<String>::new(), 0));
        assert!(world.sandbox.contact_by_external_id("ann").is_none_or(|ann| ann.deleted));
    }
}

/// 400 for six hours, then Reteno does it: what was listed and told is over.
#[tokio::test(start_paused = true)]
async fn a_refused_deletion_is_told_and_tried_again_and_its_trouble_ends() {
    let mut world = with_ann(Ending::Delete).await;
    let refused = Effect::Answer(Canned::json(StatusCode::BAD_REQUEST, r#"{"message":"no"}"#));
    world.sandbox.fault(Fault::on(CallKind::DeleteContact, refused));
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.alerts().await, ["delete-1-ann"]);
    assert_eq!(world.rejections().await.len(), 1);
    world.hours(7).await;
    assert!(is_deleted(&world, "ann"));
    assert_eq!((world.alerts().await, world.rejections().await.len()), (Vec::<String>::new(), 0));
}

/// The policy was `keep` when Ann was read: who she is was not kept, and Reteno never told its id.
#[tokio::test(start_paused = true)]
async fn what_nothing_names_is_told_and_does_not_hold_up_the_run() {
    for ending in [Ending::Delete, Ending::Erase] {
        let mut world = begin(Ending::Keep).await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
        world.reads_all(&[ANN]).await;
        world.send_for(HOUR).await;
        world.reads_all(&[OTHER]).await;
        world.policy.ending = ending;
        world.reads_all(&[OTHER]).await;
        let before = world.clock.now();
        assert_eq!(world.send_for(24 * HOUR).await, Ended::StillOpen);
        assert!(world.clock.now().since(before) < HOUR, "it waits for a person");
        world.hours(24).await;
        match ending {
            Ending::Erase => assert_eq!(world.alerts().await, ["erase-1-ann"]),
            Ending::Keep | Ending::Detach | Ending::Unsubscribe | Ending::Delete => {
                assert_eq!(world.rejections().await.len(), 1);
            }
        }
    }
}

// a return

#[tokio::test(start_paused = true)]
async fn who_returns_before_the_deletion_is_not_deleted() {
    for ending in [Ending::Delete, Ending::Erase, Ending::Detach, Ending::Unsubscribe] {
        let mut world = with_ann(ending).await;
        let calls = world.call_count();
        world.loses(&[OTHER]).await;
        world.reads_all(&[ANN, OTHER]).await;
        assert_eq!(world.send_for(HOUR).await, Ended::Drained, "{ending:?}");
        assert_eq!(world.kinds_since(calls), [], "{ending:?}");
    }
}

/// Held by the guard, and the CRM shows the contacts again: the hold is over, and nobody is erased when it is approved.
#[tokio::test(start_paused = true)]
async fn who_returns_while_the_erasure_is_held_is_not_erased() {
    let mut world = with_ann(Ending::Erase).await;
    world.policy.guard = Guard { is_on: true, holds_all: true, ..Guard::default() };
    world.reads_all(&[OTHER]).await;
    let holds = world.reads_all(&[OTHER]).await.holds;
    assert_eq!(holds.len(), 1);
    world.reads_all(&[ANN, OTHER]).await;
    let id = holds[0].id;
    assert_eq!(world.store.call(move |checkpoint| checkpoint.approve_hold(id)).await.unwrap(), Approval::Unknown);
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.tally().contacts_erased, 0);
}

#[tokio::test(start_paused = true)]
async fn who_returns_while_the_deletion_is_under_way_comes_back() {
    let mut world = with_ann(Ending::Delete).await;
    world.sandbox.fault(Fault::on(CallKind::DeleteContact, Effect::HoldAnswer));
    world.loses(&[OTHER]).await;
    let held = tokio::time::timeout(MINUTE, world.send_for(HOUR)).await;
    assert!(held.is_err());
    world.reads_changes(&[("ann", &[(TOWN, "Odesa")])], &[]).await;
    world.sandbox.release();
    world.send_for(HOUR).await;
    assert!(is_deleted(&world, "ann"));
    let odesa: Record<'_> = ("ann", &[(TOWN, "Odesa"), (Field::Sms, "+380671234567")]);
    assert!(world.status().await.sources[0].full_read_wanted);
    world.reads_all(&[odesa, OTHER]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert!(!is_deleted(&world, "ann"));
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Odesa"));
}

#[tokio::test(start_paused = true)]
async fn who_returns_after_our_deletion_is_restored_in_a_bulk_of_its_own() {
    let mut world = with_ann(Ending::Delete).await;
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    let calls = world.call_count();
    // one that is new comes in the same read, with the same fields
    let fresh: Record<'_> = ("fresh", &[(TOWN, "Kyiv"), (Field::Sms, "+380671234560"), (Field::FirstName, "Fritz")]);
    world.reads_all(&[ANN, OTHER, fresh]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let restoring: Vec<bool> =
        world.calls_since(calls).iter().map(|call| body_of(call).contains("\"restoreDeleted\":true")).collect();
    assert_eq!(restoring.iter().filter(|restores| **restores).count(), 1);
    for call in world.calls_since(calls) {
        let restores = body_of(&call).contains("\"restoreDeleted\":true");
        assert_eq!(body_of(&call).contains("ann@"), restores);
        assert_eq!(body_of(&call).contains("fresh@"), !restores);
    }
    assert!(!is_deleted(&world, "ann"));
    assert_eq!(world.reteno_holds("ann", "firstName").as_deref(), Some("Anneliese"));
    // once it is back, it is as any other
    let calls = world.call_count();
    world.sandbox.delete_contact("ann");
    world.reads_changes(&[("ann", &[(TOWN, "Odesa"), (Field::Sms, "+380671234567")])], &[]).await;
    world.send_for(HOUR).await;
    assert!(is_deleted(&world, "ann"), "a person deleted it: it stays so");
    assert_eq!(
        world.calls_since(calls).iter().filter(|call| body_of(call).contains("\"restoreDeleted\":true")).count(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn returns_are_counted_as_creations() {
    let mut world = begin(Ending::Delete).await;
    let keys: Vec<String> = (0..20).map(|key| format!("c{key}")).collect();
    let all: Vec<Record<'_>> = keys.iter().map(|key| (key.as_str(), OTHER.1)).chain([OTHER]).collect();
    world.reads_all(&all).await;
    world.send_for(HOUR).await;
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_deleted, 20);
    let mut guard = Guard::default();
    guard.bounds[6] = Bound { contacts: 15, percent: 100 };
    world.policy.guard = guard;
    let read = world.reads_all(&all).await;
    assert_eq!(read.holds.iter().map(|hold| (hold.verb.as_str(), hold.contacts)).collect::<Vec<_>>(), [("create", 20)]);
    world.send_for(HOUR).await;
    assert!(is_deleted(&world, "c0"), "held");
    let id = read.holds[0].id;
    world.store.call(move |checkpoint| checkpoint.approve_hold(id)).await.unwrap();
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert!(keys.iter().all(|key| !is_deleted(&world, key)));
}

/// A ghost with an older value: the deletion is done once more after its time, but not to one that came back.
#[tokio::test(start_paused = true)]
async fn a_repeated_deletion_is_off_when_the_contact_returns() {
    let mut world = with_ann(Ending::Delete).await;
    leave_ghost(&mut world, "Odesa").await;
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert!(is_deleted(&world, "ann"));
    world.reads_all(&[ANN, OTHER]).await;
    world.send_for(HOUR).await;
    assert!(!is_deleted(&world, "ann"));
    world.hours(15).await;
    assert!(!is_deleted(&world, "ann"));
    assert_eq!(world.sandbox.tally().contacts_deleted, 1);
}

/// The first copy of a post hangs; the second one is applied.
async fn leave_ghost(world: &mut World, town: &str) {
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.reads_changes(&[("ann", &[(TOWN, town), (Field::Sms, "+380671234567")])], &[]).await;
    world.send_for(MINUTE).await;
    assert_eq!(world.sandbox.unfinished_imports(), 1);
}

// segments

#[tokio::test(start_paused = true)]
async fn detach_leaves_the_segment_and_a_return_enters_it_again() {
    let vip = Field::segment("VIP");
    let ann: Record<'_> = ("ann", &[(vip, "in"), (TOWN, "Kyiv")]);
    let other: Record<'_> = ("other", &[(vip, "in")]);
    let mut world = begin(Ending::Detach).await;
    world.reads_all(&[ann, other]).await;
    world.send_for(HOUR).await;
    let in_vip = |world: &World, key: &str| world.sandbox.contact_by_external_id(key).unwrap().segments.contains("VIP");
    assert!(in_vip(&world, "ann") && in_vip(&world, "other"));
    let calls = world.call_count();
    world.loses(&[other]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(calls), [CallKind::Detach]);
    assert!(!in_vip(&world, "ann") && in_vip(&world, "other") && !is_deleted(&world, "ann"));
    world.reads_all(&[ann, other]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert!(in_vip(&world, "ann"));
    assert_detaches_are_sound(&world);
}

fn assert_detaches_are_sound(world: &World) {
    assert!(world.sandbox.tally().segments_emptied.is_empty());
    for call in world.sandbox.calls().iter().filter(|call| call.kind == CallKind::Detach) {
        let body: serde_json::Value = serde_json::from_str(&body_of(call)).unwrap();
        let lists: Vec<_> = body.as_object().unwrap().values().collect();
        assert_eq!(lists.len(), 1, "one kind of ids");
        assert!((1..=500).contains(&lists[0].as_array().unwrap().len()));
    }
}

/// 1,203 contacts, of which Reteno's ids are known of some only.
#[tokio::test(start_paused = true)]
async fn detaches_go_by_500_and_by_external_ids_where_retenos_are_unknown() {
    let mut world = begin(Ending::Detach).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    let vip: &[(Field, &str)] = &[(Field::segment("VIP"), "in")];
    let keys: Vec<String> = (0..1203).map(|key| format!("c{key}")).collect();
    let records: Vec<Record<'_>> = keys.iter().map(|key| (key.as_str(), vip)).collect();
    world.reads_all(&records[..602]).await;
    world.send_for(HOUR).await;
    world.reads_all(&records).await;
    world.send_for(HOUR).await;
    world.reads_all(&[OTHER]).await;
    world.reads_all(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_detached, 1203);
    let detaches: Vec<String> =
        world.sandbox.calls().iter().filter(|call| call.kind == CallKind::Detach).map(body_of).collect();
    assert_eq!(detaches.len(), 4);
    assert_eq!(detaches.iter().filter(|body| body.contains("externalCustomerIds")).count(), 2);
    assert_detaches_are_sound(&world);
}

/// Neither an external id nor Reteno's: it is learnt, and nobody is passed over as done.
#[tokio::test(start_paused = true)]
async fn a_detach_that_nothing_names_learns_the_id() {
    let mut world = by_email(Ending::Detach).await;
    world.policy.groups = vec![9401];
    world.mapped.push(Field::segment("VIP"));
    world.settings.segment_names.insert(Field::segment("VIP"), "VIP".to_owned());
    world.crash().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    let ann = without_id("ann", &[(Field::segment("VIP"), "in")]);
    world.reads(true, Lane::Reconcile, std::iter::once(ann), &[]).await;
    world.send_for(HOUR).await;
    for _ in 0..2 {
        world.reads(true, Lane::Reconcile, std::iter::once(without_id("other", OTHER.1)), &[]).await;
    }
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_detached, 1);
    assert_detaches_are_sound(&world);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_segment_is_one_alert_and_everybody_is_listed() {
    let mut world = begin(Ending::Detach).await;
    world.policy.groups = vec![777];
    world.reads_all(&[ANN, ("bob", &[]), ("cid", &[]), OTHER]).await;
    world.send_for(HOUR).await;
    let calls = world.call_count();
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.kinds_since(calls), [CallKind::Detach]);
    assert_eq!(world.alerts().await, ["segment-777"]);
    assert_eq!(world.rejections().await.len(), 3);
    world.hours(24).await;
    assert!(world.kinds_since(calls).len() <= 6, "{:?}", world.kinds_since(calls));
    assert_eq!(world.alerts().await, ["segment-777"]);
    assert_detaches_are_sound(&world);
}

// erasure

async fn assert_no_trace(world: &mut World) {
    world.hours(2).await;
    for trace in TRACES {
        assert_eq!(world.files_holding(trace), Vec::<String>::new(), "{trace}");
    }
    assert!(world.sandbox.contacts().iter().all(|contact| contact.email.as_deref() != Some("ann@example.com")));
}

async fn lift(world: &World) -> bool {
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.lift_tombstone(source, "ann")).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn an_erasure_leaves_nothing_but_its_tombstone_which_stops_a_return_until_it_is_lifted() {
    let mut world = with_ann(Ending::Erase).await;
    let calls = world.call_count();
    world.loses(&[OTHER]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(calls), [CallKind::EraseContact]);
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_no_trace(&mut world).await;
    assert_eq!(world.status().await.contacts, 1, "the row is gone");
    let source = world.source;
    assert!(world.store.call(move |checkpoint| checkpoint.erased_at(source, "ann")).await.unwrap().is_some());
    // the same record, and another one with her address, and one with her phone
    let alias: Record<'_> = ("alias", &[(Field::Email, "Ann@Example.com")]);
    let phone: Record<'_> = ("phone", &[(Field::Sms, "+380671234567")]);
    for _ in 0..2 {
        let read = world.reads_all(&[ANN, alias_lower(&alias), phone, OTHER]).await;
        assert_eq!(read.page.balance.rejected, 3);
        world.crash().await;
        assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    }
    assert_eq!(world.kinds_since(calls).len(), 1);
    assert_eq!(world.rejections().await.len(), 3);
    assert_no_trace(&mut world).await;
    assert!(lift(&world).await);
    assert!(world.rejections().await.iter().all(|row| row.key.as_deref() != Some("ann")));
    world.reads_all(&[ANN, OTHER]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"));
    world.crash().await;
    world.reads_changes(&[("ann", &[(TOWN, "Odesa"), (Field::Sms, "+380671234567")])], &[]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Odesa"), "lifted for good");
}

/// The mapping brings an address in its canonical form.
fn alias_lower<'a>(record: &Record<'a>) -> Record<'a> {
    (record.0, &[(Field::Email, "ann@example.com")])
}

/// From the tombstone on no call carries her, and the erasure waits for what is under way.
#[tokio::test(start_paused = true)]
async fn an_erasure_waits_for_an_import_that_is_applied_an_hour_later() {
    let mut world = with_ann(Ending::Erase).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(HOUR)));
    world
        .reads_changes(
            &[("ann", &[(TOWN, "Kyiv"), (Field::FirstName, "Anneliese"), (Field::Sms, "+380671234568")])],
            &[],
        )
        .await;
    world.send_for(MINUTE).await;
    let calls = world.call_count();
    world.loses(&[OTHER]).await;
    world.send_for(30 * MINUTE).await;
    // the CRM shows her for a moment, with another town
    world.reads_changes(&[("ann", &[(TOWN, "Odesa")])], &[]).await;
    world.send_for(20 * MINUTE).await;
    assert_eq!(world.kinds_since(calls), [], "the import is not applied yet");
    world.send_for(HOUR).await;
    assert_eq!(world.kinds_since(calls), [CallKind::EraseContact]);
    assert_no_trace(&mut world).await;
    assert_eq!(world.files_holding("380671234568"), Vec::<String>::new());
}

/// A new contact whose first import takes an hour: its id comes with the end of that import, and nothing else is asked.
#[tokio::test(start_paused = true)]
async fn an_erasure_takes_the_id_from_the_import_that_it_waits_for() {
    let mut world = begin(Ending::Erase).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(HOUR)));
    world.reads_all(&[ANN]).await;
    world.send_for(MINUTE).await;
    world.reads_all(&[OTHER]).await;
    world.reads_all(&[OTHER]).await;
    world.send_for(2 * HOUR).await;
    assert_eq!(world.calls_naming("ann@", 0), [CallKind::SubmitContacts]);
    assert_eq!(world.sandbox.tally().contacts_erased, 1);
    assert_no_trace(&mut world).await;
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_post_is_not_repeated_once_its_contact_is_to_be_erased() {
    let mut world = with_ann(Ending::Erase).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseRequest).times(40));
    world.reads_changes(&[("ann", &[(TOWN, "Odesa")]), ("bob", &[(TOWN, "Odesa")])], &[]).await;
    world.send_for(MINUTE).await;
    assert!(!world.status().await.imports.is_empty(), "a call that carries her waits for its answer");
    world.loses(&[("bob", &[(TOWN, "Odesa")]), OTHER]).await;
    let calls = world.call_count();
    world.send_for(MINUTE).await;
    world.sandbox.clear_faults();
    world.hours(1).await;
    assert_eq!(world.calls_naming("ann@", calls), []);
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_eq!(world.reteno_holds("bob", "town").as_deref(), Some("Odesa"), "whoever stood beside her is sent");
    assert_no_trace(&mut world).await;
    world.hours(14).await;
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_no_trace(&mut world).await;
    assert_eq!(world.status().await.contacts, 2);
}

/// A copy that nobody watches makes her anew, under another id, after she was erased.
#[tokio::test(start_paused = true)]
async fn an_erasure_is_done_again_after_the_time_of_a_ghost() {
    let mut world = with_ann(Ending::Erase).await;
    leave_ghost(&mut world, "Odesa").await;
    world.send_for(MINUTE).await;
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_erased, 1, "at once");
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    tokio::time::advance(HOUR).await;
    assert_eq!(world.sandbox.release_stuck(), 1);
    assert!(world.sandbox.contact_by_external_id("ann").is_some(), "the ghost has made her anew");
    // also by a process that was started in between
    world.crash().await;
    world.hours(14).await;
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_eq!(world.sandbox.tally().contacts_erased, 2);
    assert_no_trace(&mut world).await;
    assert_eq!(world.status().await.contacts, 1);
}

/// Without an external id the question for her id hangs: its copy would make her anew.
#[tokio::test(start_paused = true)]
async fn a_ghost_of_the_question_for_the_id_is_waited_for_as_well() {
    let mut world = without_ann_id(Ending::Erase).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    loses_ann(&world).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_erased, 1);
    world.sandbox.release_stuck();
    assert_eq!(with_anns_address(&world).len(), 1);
    world.hours(14).await;
    assert_eq!(with_anns_address(&world).len(), 0);
    assert_no_trace(&mut world).await;
}

/// Ann and another one are in Reteno, both without an external id; Reteno's id of Ann is not known here.
async fn without_ann_id(ending: Ending) -> World {
    let world = by_email(ending).await;
    let mut world = world;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    world.reads(true, Lane::Reconcile, std::iter::once(without_id("ann", ANN.1)), &[]).await;
    world.send_for(HOUR).await;
    let both = [without_id("ann", ANN.1), without_id("other", OTHER.1)];
    world.reads(true, Lane::Reconcile, both.into_iter(), &[]).await;
    world.send_for(HOUR).await;
    world
}

async fn loses_ann(world: &World) {
    for _ in 0..2 {
        world.reads(true, Lane::Reconcile, std::iter::once(without_id("other", OTHER.1)), &[]).await;
    }
}

fn with_anns_address(world: &World) -> Vec<reteno_sync::sandbox::StoredContact> {
    let all = world.sandbox.contacts().into_iter();
    all.filter(|contact| contact.email.as_deref() == Some("ann@example.com")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failed_import_of_an_erased_contact_is_not_sent_again() {
    let mut world = with_ann(Ending::Erase).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::FailImport(Applied::Nothing)));
    world.reads_changes(&[("ann", &[(TOWN, "Odesa")]), ("bob", &[(TOWN, "Odesa")])], &[]).await;
    world.send_for(Duration::from_millis(50)).await;
    let calls = world.call_count();
    world.loses(&[("bob", &[(TOWN, "Odesa")]), OTHER]).await;
    world.hours(2).await;
    assert_eq!(world.calls_naming("ann@", calls), []);
    assert_eq!(world.reteno_holds("bob", "town").as_deref(), Some("Odesa"));
    assert_no_trace(&mut world).await;
}

/// Deleted in Reteno by a person, and its id unknown here: its external id names it among the deleted ones, too.
#[tokio::test(start_paused = true)]
async fn who_was_deleted_there_is_erased_by_the_external_id() {
    let mut world = begin(Ending::Erase).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    world.reads_all(&[ANN]).await;
    world.send_for(HOUR).await;
    world.reads_all(&[ANN, OTHER]).await;
    world.send_for(HOUR).await;
    world.sandbox.delete_contact("ann");
    world.loses(&[OTHER]).await;
    world.hours(2).await;
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_eq!(world.alerts().await, Vec::<String>::new());
    assert_no_trace(&mut world).await;
}

/// Deleted in Reteno by a person, and neither its id nor an external one is known here: it cannot be found, so a person
/// has to.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_erased_is_an_alert_that_stays_until_it_is() {
    let mut world = without_ann_id(Ending::Erase).await;
    call(&world, "DELETE", &format!("contact/{}", with_anns_address(&world)[0].id), "");
    loses_ann(&world).await;
    world.hours(30).await;
    world.crash().await;
    world.hours(1).await;
    assert_eq!(world.alerts().await, ["erase-1-ann"]);
    // somebody restores it there
    call(&world, "POST", "contact", r#"{"channels":[{"type":"email","value":"ann@example.com"}]}"#);
    world.hours(8).await;
    assert_eq!(world.alerts().await, Vec::<String>::new());
    assert_no_trace(&mut world).await;
}

/// What somebody does by hand.
fn call(world: &World, method: &str, path: &str, body: &'static str) {
    let token = world.sandbox.issue_tokens().access_token;
    let request = http::Request::builder()
        .method(method)
        .uri(format!("https://reteno.com/api/v1/{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(bytes::Bytes::from(body));
    world.sandbox.answer(request.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_refused_erasure_is_told_until_it_is_done() {
    let mut world = with_ann(Ending::Erase).await;
    let refused = Effect::Answer(Canned::json(StatusCode::BAD_REQUEST, r#"{"message":"no"}"#));
    world.sandbox.fault(Fault::on(CallKind::EraseContact, refused).times(2));
    world.loses(&[OTHER]).await;
    world.hours(3).await;
    assert_eq!(world.alerts().await, ["erase-1-ann"]);
    world.hours(14).await;
    assert_eq!(world.alerts().await, Vec::<String>::new());
    assert_no_trace(&mut world).await;
}

/// Power is lost while a line is appended to `tombstones.log`; later somebody is erased, and an older copy is put back.
#[tokio::test(start_paused = true)]
async fn a_torn_line_of_the_tombstones_takes_no_other_with_it() {
    for torn in [b"erased 17954352".as_slice(), b"done 00", b"\xff\xfe"] {
        let mut world = with_ann(Ending::Erase).await;
        world.hours(2).await;
        let database = world.dir.path().join("reteno-sync.db");
        let copy = std::fs::read(&database).unwrap();
        std::fs::write(world.dir.path().join("tombstones.log"), torn).unwrap();
        world.crash().await;
        world.loses(&[OTHER]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.sandbox.tally().contacts_erased, 1);
        world.close();
        for name in ["reteno-sync.db-wal", "reteno-sync.db-shm"] {
            drop(std::fs::remove_file(world.dir.path().join(name)));
        }
        std::fs::write(&database, copy).unwrap();
        world.crash().await;
        world.reads_all(&[ANN, OTHER]).await;
        world.hours(2).await;
        assert!(world.sandbox.contact_by_external_id("ann").is_none());
        assert!(world.alerts().await.contains(&"tombstones".to_owned()), "{:?}", world.alerts().await);
    }
}

/// While the file cannot be written, nobody is erased, and nobody is let back.
#[tokio::test(start_paused = true)]
async fn the_file_of_tombstones_is_written_before_the_database() {
    let mut world = with_ann(Ending::Erase).await;
    let file = world.dir.path().join("tombstones.log");
    std::fs::create_dir(&file).unwrap();
    world.loses(&[OTHER]).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let run = world.sender.as_mut().unwrap().run(reteno_sync::daemon::sender::Until::Stopped, &stop);
    assert!(tokio::time::timeout(HOUR, run).await.unwrap().is_err());
    assert!(!is_entombed(&world).await);
    assert_eq!(world.sandbox.tally().contacts_erased, 0);
    std::fs::remove_dir(&file).unwrap();
    world.crash().await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_erased, 1);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let source = world.source;
    let lifted = world.store.call(move |checkpoint| checkpoint.lift_tombstone(source, "ann")).await;
    assert!(lifted.is_err());
    assert!(is_entombed(&world).await);
}

async fn is_entombed(world: &World) -> bool {
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.erased_at(source, "ann")).await.unwrap().is_some()
}

/// Two records of one person were merged: the one that stays is not stopped by the tombstone of the other.
#[tokio::test(start_paused = true)]
async fn the_tombstone_of_a_merged_record_leaves_its_heir_alone() {
    let mut world = with_ann(Ending::Erase).await;
    let heir: Record<'_> = ("heir", &[(Field::Email, "ann@example.com"), (TOWN, "Rivne")]);
    world.reads_all(&[ANN, heir, OTHER]).await;
    world.send_for(HOUR).await;
    assert!(world.sandbox.contact_by_external_id("heir").is_none(), "in the shadow of the older");
    for _ in 0..3 {
        world.reads_all(&[heir, OTHER]).await;
        world.send_for(HOUR).await;
    }
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_eq!(world.reteno_holds("heir", "town").as_deref(), Some("Rivne"));
    // both gone: then nobody may come with that address
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reads_all(&[("new", heir.1), OTHER]).await.page.balance.rejected, 1);
}

// a restored older checkpoint

struct Copy(tempfile::TempDir);

async fn copy(world: &mut World) -> Copy {
    world.hours(2).await;
    let aside = tempfile::tempdir().unwrap();
    for name in ["reteno-sync.db", "key"] {
        std::fs::copy(world.dir.path().join(name), aside.path().join(name)).unwrap();
    }
    // the copy is recognised by the starts since
    world.crash().await;
    Copy(aside)
}

/// Only the database is put back: what lies beside it stays.
async fn put_back(world: &mut World, copy: &Copy) {
    world.close();
    for name in ["reteno-sync.db-wal", "reteno-sync.db-shm"] {
        drop(std::fs::remove_file(world.dir.path().join(name)));
    }
    std::fs::copy(copy.0.path().join("reteno-sync.db"), world.dir.path().join("reteno-sync.db")).unwrap();
    world.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_older_checkpoint_knows_who_was_erased() {
    let mut world = with_ann(Ending::Erase).await;
    let week_old = copy(&mut world).await;
    world.loses(&[OTHER]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_erased, 1);
    put_back(&mut world, &week_old).await;
    assert!(world.alerts().await.contains(&"restored".to_owned()));
    let calls = world.call_count();
    // the CRM shows her, and then does not
    assert_eq!(world.reads_all(&[ANN, OTHER]).await.page.balance.rejected, 1);
    world.hours(2).await;
    world.loses(&[OTHER]).await;
    world.hours(8).await;
    assert_eq!(world.calls_naming("ann@", calls), []);
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_eq!(world.status().await.contacts, 1);
    assert_no_trace(&mut world).await;
}

/// The tombstone stood and Reteno had not erased yet: the older copy goes on, once a person lets it.
#[tokio::test(start_paused = true)]
async fn a_restored_older_checkpoint_ends_an_erasure_that_was_under_way() {
    let mut world = with_ann(Ending::Erase).await;
    let week_old = copy(&mut world).await;
    world.sandbox.fault(Fault::on(CallKind::EraseContact, Effect::LoseRequest).times(5));
    world.loses(&[OTHER]).await;
    world.send_for(Duration::from_secs(10)).await;
    put_back(&mut world, &week_old).await;
    world.sandbox.clear_faults();
    world.policy.guard = Guard::default();
    let read = world.reads_all(&[ANN, OTHER]).await;
    assert_eq!(read.page.balance.rejected, 1);
    assert_eq!(read.holds.iter().map(|hold| hold.verb.as_str()).collect::<Vec<_>>(), ["erase"]);
    world.hours(2).await;
    assert!(world.sandbox.contact_by_external_id("ann").is_some(), "held");
    let id = read.holds[0].id;
    world.store.call(move |checkpoint| checkpoint.approve_hold(id)).await.unwrap();
    world.hours(15).await;
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    assert_no_trace(&mut world).await;
}
