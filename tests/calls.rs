//! Calls beside the fields of a contact: segments, categories, the double opt-in, events for new contacts; what restores;
//! and one contact's month.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::time::Duration;

use http::StatusCode;
use reteno_sync::checkpoint::RejectionKind;
use reteno_sync::contact::{Consent, Contact, Field};
use reteno_sync::daemon::sender::{Ended, SendSettings};
use reteno_sync::plan::Lane;
use reteno_sync::plan::policy::Ending;
use reteno_sync::random::Random;
use reteno_sync::reteno::start::SubscribeOptions;
use reteno_sync::sandbox::{Applied, CallKind, Canned, Effect, Fault, SandboxOptions};
use support::reads::{Record, body_of};
use support::{HOUR, MINUTE, World};

const TOWN: Field = Field::Town;
const SUBS: Field = Field::Subscriptions;

fn options() -> SandboxOptions {
    SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() }
}

fn vip() -> Field {
    Field::segment("VIP")
}

fn letters() -> Field {
    Field::segment("Newsletter")
}

async fn begin_with(settings: SendSettings) -> World {
    let mut settings = settings;
    settings.segment_names.insert(vip(), "VIP".to_owned());
    settings.segment_names.insert(letters(), "Newsletter".to_owned());
    let mut world = World::with(options(), settings).await;
    world.mapped.extend([vip(), letters(), SUBS]);
    world
}

async fn begin() -> World {
    begin_with(support::settings()).await
}

fn segments(world: &World, key: &str) -> Vec<String> {
    world.sandbox.contact_by_external_id(key).unwrap().segments.into_iter().collect()
}

fn categories(world: &World, key: &str) -> Vec<String> {
    world.sandbox.contact_by_external_id(key).unwrap().subscriptions.into_iter().collect()
}

// segments

#[tokio::test(start_paused = true)]
async fn contacts_of_one_read_are_grouped_by_what_they_enter_and_leave() {
    let mut world = begin().await;
    let (vip, letters) = (vip(), letters());
    // one is always in; the condition of the other holds for some
    world
        .reads_all(&[
            ("a", &[(letters, "in"), (vip, "in")]),
            ("b", &[(letters, "in"), (vip, "")]),
            ("c", &[(letters, "in"), (vip, "in")]),
            ("d", &[(letters, "in"), (vip, "")]),
        ])
        .await;
    let calls = world.call_count();
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(calls).len(), 2, "those with a condition that holds, and those without");
    assert_eq!(
        (segments(&world, "a"), segments(&world, "b")),
        (vec!["Newsletter".into(), "VIP".into()], vec!["Newsletter".into()])
    );
    // one enters, one leaves, one changes a field as well, one nothing
    let calls = world.call_count();
    world
        .reads_all(&[
            ("a", &[(letters, "in"), (vip, "")]),
            ("b", &[(letters, "in"), (vip, "in")]),
            ("c", &[(letters, "in"), (vip, ""), (TOWN, "Kyiv")]),
            ("d", &[(letters, "in"), (vip, "")]),
        ])
        .await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let bodies: Vec<String> = world.calls_since(calls).iter().map(body_of).collect();
    assert_eq!(bodies.len(), 3);
    let all: Vec<Vec<String>> = ["a", "b", "c", "d"].iter().map(|key| segments(&world, key)).collect();
    assert_eq!(all, [vec!["Newsletter"], vec!["Newsletter", "VIP"], vec!["Newsletter"], vec!["Newsletter"]]);
    assert!(bodies.iter().all(|body| body.contains("groupNamesExclude") || body.contains("groupNames")));
    assert!(!bodies.iter().any(|body| body.contains("d@example.com") || body.contains("\"Newsletter\"")));
    assert_eq!(world.reteno_holds("c", "town").as_deref(), Some("Kyiv"));
    assert!(world.sandbox.tally().segments_emptied.is_empty());
    let again = world.call_count();
    world.reads_all(&[("a", &[(letters, "in"), (vip, "")]), ("b", &[(letters, "in"), (vip, "in")])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.kinds_since(again), []);
}

/// In and out while the import hangs, and it lands last.
#[tokio::test(start_paused = true)]
async fn a_membership_that_a_ghost_brings_back_does_not_stay() {
    let mut world = begin().await;
    world.reads_all(&[("a", &[])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.reads_changes(&[("a", &[(vip(), "in")])], &[]).await;
    world.send_for(MINUTE).await;
    world.reads_changes(&[("a", &[(vip(), "")])], &[]).await;
    world.send_for(7 * HOUR).await;
    world.sandbox.release_stuck();
    assert_eq!(segments(&world, "a"), ["VIP"]);
    world.hours(8).await;
    assert_eq!(segments(&world, "a"), Vec::<String>::new());
}

// subscription categories

#[tokio::test(start_paused = true)]
async fn categories_are_replaced_whole_after_the_contact_is_made_and_emptied_later() {
    let mut world = begin().await;
    world.reads_all(&[("a", &[(SUBS, "news,offers"), (TOWN, "Kyiv")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(0), [CallKind::SubmitContacts, CallKind::SetSubscriptions]);
    assert_eq!(categories(&world, "a"), ["news", "offers"]);
    world.reads_changes(&[("a", &[(SUBS, "offers"), (TOWN, "Kyiv")])], &[]).await;
    world.send_for(HOUR).await;
    assert_eq!(categories(&world, "a"), ["offers"]);
    world.reads_changes(&[("a", &[(SUBS, ""), (TOWN, "Lviv")])], &[]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!((categories(&world, "a"), world.reteno_holds("a", "town")), (vec![], Some("Lviv".to_owned())));
    let last = world.calls_since(0).into_iter().rfind(|call| call.kind == CallKind::SetSubscriptions).unwrap();
    assert_eq!(body_of(&last), r#"{"subscriptions":[]}"#);
}

#[tokio::test(start_paused = true)]
async fn categories_of_a_contact_whose_id_is_unknown_wait_for_it() {
    let mut world = begin().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    world.reads_all(&[("a", &[(SUBS, "news"), (TOWN, "Kyiv")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(0), [CallKind::SubmitContacts, CallKind::SubmitContacts, CallKind::SetSubscriptions]);
    assert_eq!(categories(&world, "a"), ["news"]);
    assert_eq!(world.writes("a", "town"), ["Kyiv"], "the question writes nothing");
    assert_eq!(world.alerts().await, Vec::<String>::new());
}

/// Reteno tells no ids at all for half a day.
#[tokio::test(start_paused = true)]
async fn categories_whose_id_is_not_told_are_asked_for_again_hours_later() {
    let mut world = begin().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping).times(3));
    world.reads_all(&[("a", &[(SUBS, "news")])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.alerts().await, ["learn-1-a"]);
    world.hours(14).await;
    assert_eq!(categories(&world, "a"), ["news"]);
    assert!(world.kinds_since(0).len() <= 5, "{:?}", world.kinds_since(0));
    assert_eq!((world.alerts().await, world.rejections().await.len()), (Vec::<String>::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn categories_of_a_contact_that_was_deleted_in_reteno_are_listed() {
    for is_known in [true, false] {
        let mut world = begin().await;
        if !is_known {
            world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
        }
        world.reads_all(&[("a", &[(TOWN, "Kyiv")]), ("b", &[(TOWN, "Kyiv")])]).await;
        world.send_for(HOUR).await;
        world.sandbox.delete_contact("a");
        let subs: &[(Field, &str)] = &[(SUBS, "news"), (TOWN, "Kyiv")];
        world.reads_changes(&[("a", subs), ("b", subs)], &[]).await;
        world.hours(4).await;
        assert_eq!(categories(&world, "b"), ["news"]);
        assert!(world.sandbox.contact_by_external_id("a").unwrap().deleted);
        let listed: Vec<_> = world.rejections().await.into_iter().filter_map(|row| row.key).collect();
        assert_eq!(listed, ["a"], "known: {is_known}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_categories_are_listed_and_others_go_on() {
    let mut world = begin().await;
    world.reads_all(&[("a", &[(SUBS, "nonsense")]), ("b", &[(SUBS, "news")]), ("c", &[(SUBS, "offers")])]).await;
    world.hours(8).await;
    assert_eq!(
        (categories(&world, "b"), categories(&world, "c")),
        (vec!["news".to_owned()], vec!["offers".to_owned()])
    );
    let listed: Vec<_> = world.rejections().await.into_iter().filter_map(|row| row.key).collect();
    assert_eq!(listed, ["a"]);
    world.reads_changes(&[("a", &[(SUBS, "news")])], &[]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!((categories(&world, "a"), world.rejections().await.len()), (vec!["news".to_owned()], 0));
}

/// The answer is lost, and the set is edited before the repeat.
#[tokio::test(start_paused = true)]
async fn the_last_set_wins_whatever_answers_are_lost() {
    for effect in [Effect::LoseAnswer, Effect::LoseRequest, Effect::CutAnswer] {
        let mut world = begin().await;
        world.reads_all(&[("a", &[])]).await;
        world.send_for(HOUR).await;
        world.sandbox.fault(Fault::on(CallKind::SetSubscriptions, effect.clone()).times(2));
        world.reads_changes(&[("a", &[(SUBS, "news")])], &[]).await;
        world.send_for(Duration::from_millis(100)).await;
        world.reads_changes(&[("a", &[(SUBS, "offers"), (TOWN, "Kyiv")])], &[]).await;
        world.send_for(HOUR).await;
        world.crash().await;
        world.hours(14).await;
        assert_eq!(categories(&world, "a"), ["offers"], "{effect:?}");
        assert_eq!(world.status().await.acknowledged, 1);
    }
}

// the double opt-in

async fn begin_form() -> World {
    let options = SubscribeOptions {
        form_type: Some("footer".to_owned()),
        groups: vec!["Newsletter".to_owned()],
        subscriptions: vec!["news".to_owned()],
    };
    let settings = SendSettings { forms: vec![("crm".to_owned(), options)], ..support::settings() };
    let mut world = begin_with(settings).await;
    world.policy.is_form = true;
    world
}

fn subscribes(world: &World) -> usize {
    world.kinds_since(0).iter().filter(|kind| **kind == CallKind::Subscribe).count()
}

fn email_status(world: &World, key: &str) -> Option<String> {
    let path = world.dir.path().join("reteno-sync.db");
    let database = rusqlite::Connection::open(path).unwrap();
    database.query_row("SELECT email_status FROM contact WHERE key = ?1", [key], |row| row.get(0)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_forms_contact_is_subscribed_once_and_never_updated() {
    let mut world = begin_form().await;
    world.reads_changes(&[("a", &[(TOWN, "Kyiv")])], &[]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(0), [CallKind::Subscribe]);
    let body = body_of(&world.calls_since(0)[0]);
    assert!(body.contains(r#""formType":"footer""#) && body.contains("Newsletter") && body.contains("news"), "{body}");
    assert_eq!(email_status(&world, "a").as_deref(), Some("NEED_CONFIRMATION"));
    assert_eq!(
        (categories(&world, "a"), segments(&world, "a")),
        (vec!["news".to_owned()], vec!["Newsletter".to_owned()])
    );
    world.reads_changes(&[("a", &[(TOWN, "Lviv"), (Field::Email, "new@example.com")])], &[]).await;
    world.reads_all(&[("a", &[(TOWN, "Odesa")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(0), [CallKind::Subscribe], "an edit is no new contact");
}

#[tokio::test(start_paused = true)]
async fn a_double_opt_in_with_an_uncertain_outcome_is_listed_and_never_sent_again() {
    let repeated = Effect::Answer(Canned::json(StatusCode::CONFLICT, r#"{"message":"repeated"}"#));
    let broken = Effect::Answer(Canned::html(StatusCode::BAD_GATEWAY));
    for effect in [Effect::LoseAnswer, Effect::LoseRequest, Effect::CutAnswer, repeated, broken] {
        let mut world = begin_form().await;
        world.sandbox.fault(Fault::on(CallKind::Subscribe, effect.clone()));
        world.reads_changes(&[("a", &[(TOWN, "Kyiv")]), ("b", &[])], &[]).await;
        world.send_for(HOUR).await;
        world.reads_changes(&[("a", &[(TOWN, "Lviv")])], &[]).await;
        world.hours(14).await;
        world.crash().await;
        world.reads_all(&[("a", &[(TOWN, "Odesa")]), ("b", &[])]).await;
        assert_eq!(world.send_for(HOUR).await, Ended::Drained);
        assert_eq!((subscribes(&world), world.kinds_since(0).len()), (2, 2), "{effect:?}");
        let rows = world.rejections().await;
        assert_eq!(rows.len(), 1, "{effect:?}: {rows:?}");
        assert!(rows[0].kind == RejectionKind::Doubtful && rows[0].reason.contains("may have been sent"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_double_opt_in_under_way_in_a_crash_is_listed_and_never_sent_again() {
    let mut world = begin_form().await;
    world.sandbox.fault(Fault::on(CallKind::Subscribe, Effect::HoldAnswer));
    world.reads_changes(&[("a", &[(TOWN, "Kyiv")])], &[]).await;
    assert!(tokio::time::timeout(MINUTE, world.send_for(HOUR)).await.is_err());
    world.crash().await;
    world.sandbox.release();
    world.hours(14).await;
    assert_eq!((subscribes(&world), world.rejections().await.len()), (1, 1));
}

/// The record is edited while the call is on the line: that is no reason for another letter.
#[tokio::test(start_paused = true)]
async fn an_edit_during_the_double_opt_in_sends_no_second_letter() {
    let mut world = begin_form().await;
    world.sandbox.fault(Fault::on(CallKind::Subscribe, Effect::HoldAnswer));
    world.reads_changes(&[("a", &[(TOWN, "Kyiv")])], &[]).await;
    assert!(tokio::time::timeout(MINUTE, world.send_for(HOUR)).await.is_err());
    world.reads_changes(&[("a", &[(TOWN, "Lviv")])], &[]).await;
    world.sandbox.release();
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.kinds_since(0), [CallKind::Subscribe]);
}

#[tokio::test(start_paused = true)]
async fn a_double_opt_in_that_certainly_did_not_go_out_is_made_later_once() {
    let busy = Effect::Answer(Canned::too_many(Some("30")));
    for effect in [busy, Effect::RefuseConnection] {
        let mut world = begin_form().await;
        world.sandbox.fault(Fault::on(CallKind::Subscribe, effect));
        world.reads_changes(&[("a", &[(TOWN, "Kyiv")])], &[]).await;
        assert_eq!(world.send_for(HOUR).await, Ended::Drained);
        assert_eq!((world.sandbox.tally().workflows_started, world.rejections().await.len()), (1, 0));
    }
}

/// An older checkpoint takes all as unknown; nobody is asked to confirm twice.
#[tokio::test(start_paused = true)]
async fn a_restored_checkpoint_sends_no_letter_twice() {
    let mut world = begin_form().await;
    world.reads_changes(&[("a", &[(TOWN, "Kyiv")])], &[]).await;
    world.hours(1).await;
    let now = world.clock.now();
    world.store.call(move |checkpoint| checkpoint.forget_acknowledged(now, 6 * HOUR)).await.unwrap();
    world.reads_all(&[("a", &[(TOWN, "Kyiv")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(subscribes(&world), 1);
}

// the event for new contacts

fn with_event(in_full_reads: bool) -> SendSettings {
    SendSettings {
        event_key: Some("new_contact".to_owned()),
        event_in_full_reads: in_full_reads,
        ..support::settings()
    }
}

fn fired(world: &World) -> Vec<String> {
    world.sandbox.events_fired().into_iter().map(|(_, contact)| contact).collect()
}

#[tokio::test(start_paused = true)]
async fn the_event_is_for_contacts_that_just_came_and_for_no_others() {
    let mut world = begin_with(with_event(false)).await;
    world.loads_first(&[("first", &[])]).await;
    world.send_for(HOUR).await;
    world.reads_all(&[("first", &[]), ("found", &[])]).await;
    world.send_for(HOUR).await;
    assert_eq!(fired(&world), Vec::<String>::new());
    world.reads_changes(&[("new", &[]), ("first", &[(TOWN, "Kyiv")])], &[]).await;
    world.send_for(HOUR).await;
    world.reads_changes(&[("new", &[(TOWN, "Kyiv")])], &[]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(fired(&world), ["new"]);
    let with_key: Vec<String> =
        world.calls_since(0).iter().map(body_of).filter(|body| body.contains("eventKeyForNewContacts")).collect();
    assert!(with_key.len() == 1 && !with_key[0].contains("first@"));
}

#[tokio::test(start_paused = true)]
async fn the_second_key_lets_full_reads_make_the_event_and_no_key_none() {
    let mut world = begin_with(with_event(true)).await;
    world.loads_first(&[("first", &[])]).await;
    world.send_for(HOUR).await;
    assert_eq!(fired(&world), ["first"]);
    let mut world = begin().await;
    world.reads_changes(&[("new", &[])], &[]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.calls_naming("eventKey", 0), []);
}

#[tokio::test(start_paused = true)]
async fn an_event_with_an_uncertain_outcome_is_listed_and_not_made_again() {
    let failed = Effect::FailImport(Applied::Part);
    for effect in [Effect::LoseAnswer, Effect::LoseRequest, Effect::CutAnswer, failed, Effect::StickImport] {
        let mut world = begin_with(with_event(false)).await;
        world.reads_changes(&[("old", &[])], &[]).await;
        world.send_for(HOUR).await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, effect.clone()));
        world.reads_changes(&[("a", &[(TOWN, "Kyiv")]), ("b", &[(TOWN, "Kyiv")])], &[]).await;
        world.hours(16).await;
        for key in ["a", "b"] {
            assert_eq!(world.reteno_holds(key, "town").as_deref(), Some("Kyiv"), "{effect:?}");
            assert!(fired(&world).iter().filter(|fired| *fired == key).count() <= 1, "{effect:?}");
        }
        let listed: Vec<_> = world.rejections().await.into_iter().map(|row| (row.key.unwrap(), row.kind)).collect();
        let doubtful = |key: &str| (key.to_owned(), RejectionKind::Doubtful);
        assert_eq!(listed, [doubtful("a"), doubtful("b")], "{effect:?}");
        assert_eq!(world.calls_naming("eventKeyForNewContacts", 0).len(), 2, "{effect:?}");
        assert_eq!(world.status().await.acknowledged, 3, "{effect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_under_way_in_a_crash_is_listed_and_not_made_again() {
    let mut world = begin_with(with_event(false)).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer));
    world.reads_changes(&[("a", &[(TOWN, "Kyiv")])], &[]).await;
    assert!(tokio::time::timeout(MINUTE, world.send_for(HOUR)).await.is_err());
    world.crash().await;
    world.sandbox.release();
    world.hours(14).await;
    assert_eq!((fired(&world), world.rejections().await.len()), (vec!["a".to_owned()], 1));
    assert_eq!(world.calls_naming("eventKeyForNewContacts", 0).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_certainly_was_not_made_is_made_later_once() {
    let refused = Effect::Answer(Canned::json(StatusCode::BAD_REQUEST, r#"{"message":"no"}"#));
    for effect in [Effect::Answer(Canned::too_many(Some("30"))), Effect::RefuseConnection, refused] {
        let mut world = begin_with(with_event(false)).await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, effect.clone()));
        world.reads_changes(&[("a", &[(TOWN, "Kyiv")])], &[]).await;
        world.hours(8).await;
        assert_eq!((fired(&world), world.rejections().await.len()), (vec!["a".to_owned()], 0), "{effect:?}");
    }
}

/// Reteno names the contact among the failed ones: it was not made, so its event is still to come.
#[tokio::test(start_paused = true)]
async fn a_contact_that_was_refused_by_name_has_its_event_when_it_is_mended() {
    let mut world = begin_with(with_event(false)).await;
    world.reads_changes(&[("a", &[(Field::Sms, "+1")]), ("b", &[(Field::Sms, "+380671234567")])], &[]).await;
    world.send_for(HOUR).await;
    assert_eq!(fired(&world), ["b"]);
    world.reads_changes(&[("a", &[(Field::Sms, "+380671234569")])], &[]).await;
    world.send_for(HOUR).await;
    assert_eq!(fired(&world), ["b", "a"]);
}

// what restores

/// A long random history under `restore_deleted = never`: only what we deleted ourselves is restored, in a bulk of its own.
#[tokio::test(start_paused = true)]
async fn under_never_nothing_restores_but_a_contact_that_we_deleted() {
    let mut restored = 0;
    for seed in 1..=2 {
        restored += random_history(seed).await;
    }
    assert!(restored > 0, "the histories restore somebody");
}

async fn random_history(seed: u64) -> usize {
    let mut world = begin_with(with_event(false)).await;
    world.policy.ending = Ending::Delete;
    let random = Random::seeded(seed);
    let dice = |sides: u64| usize::try_from(u64::from_le_bytes(random.bytes::<8>()) % sides).unwrap();
    let towns = ["Kyiv", "Lviv", "Odesa"];
    let mut present = [true; 8];
    let keys: Vec<String> = (0..8).map(|key| format!("c{key}")).collect();
    let effects = [Effect::LoseAnswer, Effect::LoseRequest, Effect::StickImport, Effect::FailImport(Applied::Part)];
    let kinds = [CallKind::SubmitContacts, CallKind::DeleteContact, CallKind::SetSubscriptions];
    let (mut ours, mut is_restored) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..40 {
        let who = dice(8);
        match dice(8) {
            0 | 1 => present[who] = !present[who],
            2 => drop(world.sandbox.delete_contact(&keys[who])),
            3 => drop(world.sandbox.fault(Fault::on(kinds[dice(3)], effects[dice(4)].clone()))),
            4 => world.crash().await,
            5 => drop(world.sandbox.release_stuck()),
            _ => tokio::time::advance(HOUR).await,
        }
        let edits: Vec<[(Field, &str); 3]> = (0..8)
            .map(|_| [(TOWN, towns[dice(3)]), (SUBS, ["news", "offers", ""][dice(3)]), (vip(), ["in", ""][dice(2)])])
            .collect();
        let there: Vec<Record<'_>> = (0..8)
            .filter(|key| present[*key])
            .map(|key| (keys[key].as_str(), edits[key].as_slice()))
            .chain([("rest", [].as_slice())])
            .collect();
        if dice(3) == 0 {
            world.reads_changes(&there, &[]).await;
        } else {
            world.reads_all(&there).await;
        }
        world.send_for(MINUTE * 20).await;
    }
    for call in world.calls_since(0) {
        assert!(
            !matches!(call.kind, CallKind::UpsertContact | CallKind::UpdateContact | CallKind::Subscribe),
            "{call:?}"
        );
        if call.kind == CallKind::DeleteContact {
            ours.insert(call.path.rsplit('/').next().unwrap().to_owned());
        }
        if call.kind != CallKind::SubmitContacts {
            continue;
        }
        let body: serde_json::Value = serde_json::from_str(&body_of(&call)).unwrap();
        if body["restoreDeleted"] == serde_json::json!(false) {
            continue;
        }
        is_restored += 1;
        for contact in body["contacts"].as_array().unwrap() {
            let key = contact["externalCustomerId"].as_str().unwrap();
            let id = world.sandbox.contact_by_external_id(key).unwrap().id.to_string();
            assert!(ours.contains(&id), "seed {seed}: {key} is restored and we have not deleted it");
        }
    }
    assert!(world.sandbox.tally().segments_emptied.is_empty());
    is_restored
}

// the month

struct Month {
    world: World,
    table: Vec<[String; 5]>,
    calls: usize,
}

impl Month {
    async fn day(&mut self, day: u32, event: &str) {
        self.world.send_for(HOUR).await;
        let kinds = self.world.kinds_since(self.calls);
        self.calls = self.world.call_count();
        let state = |key: &str| {
            self.world.sandbox.contact_by_external_id(key).map_or("not there".to_owned(), |contact| {
                let town = contact.fields.get("town").cloned().unwrap_or_default();
                format!("{}{town}", if contact.deleted { "deleted, " } else { "" })
            })
        };
        let mail = self.world.sandbox.unsubscribed().contains("ann@example.com");
        let row = [
            format!("{day}: {event}"),
            format!("{kinds:?}"),
            state("ann"),
            state("heir"),
            if mail { "unsubscribed" } else { "subscribed" }.to_owned(),
        ];
        self.table.push(row);
        tokio::time::advance(23 * HOUR).await;
    }

    fn last(&self) -> [&str; 4] {
        let [_, calls, ann, heir, mail] = self.table.last().unwrap();
        [calls, ann, heir, mail]
    }

    async fn reads(&self, contacts: Vec<Contact>) {
        let rest = support::contact("rest", &[]);
        self.world.reads(true, Lane::Live, contacts.into_iter().chain([rest]), &[]).await;
    }
}

fn says(key: &str, town: &str, consent: Consent) -> Contact {
    let fields = [(Field::Email, "ann@example.com"), (TOWN, town)];
    Contact { consent: Some(consent), ..support::contact(key, &fields) }
}

#[tokio::test(start_paused = true)]
async fn the_month_of_one_contact() {
    let mut world = begin().await;
    world.policy.has_consent = true;
    world.policy.ending = Ending::Delete;
    world.reads_all(&[("rest", &[])]).await;
    world.send_for(HOUR).await;
    let calls = world.call_count();
    let mut month = Month { world, table: Vec::new(), calls };
    lives(&mut month).await;
    ends(&mut month).await;
    assert!(month.world.sandbox.overlaps().is_empty());
    println!(
        "| day | calls | contact `ann` in Reteno | contact `heir` in Reteno | address |\n| --- | --- | --- | --- | --- |"
    );
    for row in &month.table {
        println!("| {} |", row.join(" | "));
    }
}

async fn lives(month: &mut Month) {
    let none = "not there";

    month.reads(vec![says("ann", "Kyiv", Consent::Yes)]).await;
    month.day(1, "created").await;
    assert_eq!(month.last(), ["[SubmitContacts]", "Kyiv", none, "subscribed"]);

    month.reads(vec![says("ann", "Lviv", Consent::Yes)]).await;
    month.day(3, "edited").await;
    assert_eq!(month.last(), ["[SubmitContacts]", "Lviv", none, "subscribed"]);

    month.reads(vec![says("ann", "Lviv", Consent::No)]).await;
    month.day(6, "opted out in the CRM").await;
    assert_eq!(month.last(), ["[Unsubscribe]", "Lviv", none, "unsubscribed"]);

    month.reads(vec![says("ann", "Lviv", Consent::Yes)]).await;
    month.day(9, "opted in again in the CRM").await;
    assert_eq!(month.last(), ["[Resubscribe]", "Lviv", none, "subscribed"]);

    month.world.sandbox.person_unsubscribes("ann@example.com");
    month.day(12, "opted out in Reteno").await;
    assert_eq!(month.last(), ["[]", "Lviv", none, "unsubscribed"]);

    month.reads(vec![says("ann", "Odesa", Consent::Yes)]).await;
    month.day(15, "edited again").await;
    assert_eq!(month.last(), ["[SubmitContacts]", "Odesa", none, "unsubscribed"], "nothing resubscribes her");
}

async fn ends(month: &mut Month) {
    let none = "not there";
    // a second record of hers, and then the first one is merged into it
    month.reads(vec![says("ann", "Odesa", Consent::Yes), says("heir", "Rivne", Consent::Yes)]).await;
    month.day(18, "a second record with her address").await;
    assert_eq!(month.last(), ["[]", "Odesa", none, "unsubscribed"], "the older is sent");
    month.reads(vec![says("heir", "Rivne", Consent::Yes)]).await;
    month.day(19, "merged: her CRM id is missing once").await;
    assert_eq!(month.last(), ["[]", "Odesa", none, "unsubscribed"]);
    month.reads(vec![says("heir", "Rivne", Consent::Yes)]).await;
    month.reads(vec![says("heir", "Rivne", Consent::Yes)]).await;
    month.day(20, "merged: missing twice").await;
    let [calls, rest @ ..] = month.last();
    assert_eq!(rest, ["deleted, Odesa", "Rivne", "unsubscribed"]);
    assert!(calls.contains("DeleteContact") && !calls.contains("Resubscribe"), "{calls}");

    month.reads(vec![]).await;
    month.reads(vec![]).await;
    month.day(23, "deleted in the CRM").await;
    assert_eq!(month.last(), ["[DeleteContact]", "deleted, Odesa", "deleted, Rivne", "unsubscribed"]);

    month.reads(vec![says("heir", "Poltava", Consent::Yes)]).await;
    month.day(25, "there again").await;
    assert_eq!(month.last(), ["[SubmitContacts]", "deleted, Odesa", "Poltava", "unsubscribed"]);

    month.world.policy.ending = Ending::Erase;
    month.reads(vec![]).await;
    month.reads(vec![]).await;
    month.day(28, "deleted in the CRM, which now erases").await;
    assert_eq!(month.last(), ["[EraseContact]", "deleted, Odesa", none, "unsubscribed"]);

    month.reads(vec![says("heir", "Poltava", Consent::Yes), says("ann", "Poltava", Consent::Yes)]).await;
    month.day(30, "the CRM shows her again").await;
    assert_eq!(month.last(), ["[]", "deleted, Odesa", none, "unsubscribed"], "the tombstone stops her");
}
