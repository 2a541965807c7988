//! Outages, and answers that are nobody's word: nobody is rejected, and nothing counts as done, on their account.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::fs;
use std::time::Duration;

use http::StatusCode;
use reteno_sync::checkpoint::CheckpointError;
use reteno_sync::clock::Clock;
use reteno_sync::contact::Field;
use reteno_sync::daemon::sender::Until;
use reteno_sync::plan::policy::Ending;
use reteno_sync::sandbox::{Applied, CallKind, Canned, Effect, Fault};
use support::reads::Record;
use support::{HOUR, MINUTE, World};
use tokio_util::sync::CancellationToken;

const TOWN: Field = Field::Town;

fn is_there(world: &World, key: &str) -> bool {
    world.sandbox.contact_by_external_id(key).is_some_and(|contact| !contact.deleted)
}

/// A gateway in front of Reteno answers with a page of its own: it says nothing of the contact.
#[tokio::test(start_paused = true)]
async fn a_gateways_page_is_neither_an_erasure_nor_a_refusal() {
    for (ending, kind) in [(Ending::Erase, CallKind::EraseContact), (Ending::Delete, CallKind::DeleteContact)] {
        for status in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
            let mut world = World::begin().await;
            world.policy.ending = ending;
            world.reads_all(&[("ann", &[]), ("other", &[])]).await;
            world.send_for(HOUR).await;
            let page = Effect::Answer(Canned::html(status));
            world.sandbox.fault(Fault::on(kind, page).times(3));
            world.loses(&[("other", &[])]).await;
            world.hours(2).await;
            assert!(!is_there(&world, "ann"), "{ending:?} {status}");
            assert_eq!(world.rejections().await.len(), 0, "{ending:?} {status}");
        }
    }
}

/// A page that stays is told, while everything else goes on.
#[tokio::test(start_paused = true)]
async fn an_erasure_that_only_a_gateway_answers_is_an_alert() {
    let mut world = World::begin().await;
    world.policy.ending = Ending::Erase;
    world.reads_all(&[("ann", &[]), ("other", &[])]).await;
    world.send_for(HOUR).await;
    let page = Effect::Answer(Canned::html(StatusCode::NOT_FOUND));
    world.sandbox.fault(Fault::on(CallKind::EraseContact, page).always());
    world.loses(&[("other", &[])]).await;
    for town in ["Lviv", "Kyiv", "Lutsk", "Rivne"] {
        world.crm_says(&[("other", &[(TOWN, town)])]).await;
        world.hours(3).await;
        assert_eq!(world.reteno_holds("other", "town").as_deref(), Some(town));
    }
    assert!(is_there(&world, "ann"));
    assert!(world.alerts().await.contains(&"unanswered-erase".to_owned()), "{:?}", world.alerts().await);
    world.sandbox.clear_faults();
    world.hours(2).await;
    assert!(!is_there(&world, "ann"));
    assert_eq!(world.alerts().await, Vec::<String>::new());
}

/// The page stands before the call that writes: the same body goes out again, and nobody is listed.
#[tokio::test(start_paused = true)]
async fn a_gateways_page_refuses_no_batch() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN, StatusCode::UNPROCESSABLE_ENTITY] {
        let mut world = World::begin().await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::Answer(Canned::html(status))).times(4));
        world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
        world.hours(2).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"), "{status}");
        assert_eq!(world.rejections().await.len(), 0, "{status}");
    }
}

/// One contact is edited while Reteno's imports end in ERROR for half a minute.
#[tokio::test(start_paused = true)]
async fn a_lone_edit_outlives_some_imports_that_fail() {
    for failures in [3, 5] {
        let mut world = World::begin().await;
        world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
        world.send_for(HOUR).await;
        let fails = Effect::FailImport(Applied::Nothing);
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, fails).times(failures));
        world.crm_says(&[("ann", &[(TOWN, "Lviv")])]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Lviv"), "{failures}");
        assert_eq!(world.rejections().await.len(), 0, "{failures}");
    }
}

/// A contact that always breaks its import is named at last, also where the process is started again and again.
#[tokio::test(start_paused = true)]
async fn a_contact_whose_imports_always_fail_is_listed_after_an_hour() {
    let mut world = World::begin().await;
    let fails = Effect::FailImport(Applied::Nothing);
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, fails).always());
    world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
    for _ in 0..2 {
        world.send_for(20 * MINUTE).await;
        world.crash().await;
    }
    assert_eq!(world.rejections().await.len(), 0);
    for _ in 0..6 {
        world.send_for(20 * MINUTE).await;
        world.crash().await;
    }
    assert_eq!(world.rejections().await.len(), 1);
}

/// Reteno refuses a set of fields for hours (a field that is not there yet), and the process is started again meanwhile.
#[tokio::test(start_paused = true)]
async fn a_restart_during_a_refusal_of_everybody_rejects_nobody() {
    let mut world = World::begin().await;
    let keys = ["a", "b", "c", "d"];
    world.sandbox.poison(keys.map(str::to_owned));
    let records: Vec<Record<'_>> = keys.iter().map(|key| (*key, [(TOWN, "Kyiv")].as_slice())).collect();
    world.crm_says(&records).await;
    for _ in 0..8 {
        world.hours(1).await;
        world.crash().await;
        assert_eq!(world.status().await.rejected, 0);
        assert_eq!(world.alerts().await.iter().filter(|name| name.starts_with("mask-")).count(), 1, "it stands");
    }
    world.sandbox.poison([]);
    world.hours(3).await;
    assert!(keys.iter().all(|key| is_there(&world, key)), "{:?}", world.rejections().await);
    assert_eq!(world.alerts().await, Vec::<String>::new());
}

/// A person deletes a contact in Reteno; the CRM then changes that one alone, so that the mapping names nobody.
#[tokio::test(start_paused = true)]
async fn who_was_deleted_there_is_listed_also_when_sent_alone() {
    let mut world = World::begin().await;
    world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
    world.send_for(HOUR).await;
    assert!(world.sandbox.delete_contact("ann"));
    world.crm_says(&[("ann", &[(TOWN, "Lviv")])]).await;
    world.send_until_quiet().await;
    let status = world.status().await;
    assert_eq!((status.acknowledged, status.rejections), (0, 1));
}

/// The same while its categories are due too, which go by another call: neither is tried again and again.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_call_of_its_own_is_no_reason_to_send_a_refused_contact_again() {
    for is_deleted in [true, false] {
        let mut world = World::begin().await;
        world.mapped.push(Field::Subscriptions);
        world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
        world.send_for(HOUR).await;
        if is_deleted {
            assert!(world.sandbox.delete_contact("ann"));
        } else {
            world.sandbox.poison(["ann".to_owned()]);
        }
        let calls = world.call_count();
        world.crm_says(&[("ann", &[(TOWN, "Lviv"), (Field::Subscriptions, "news")])]).await;
        world.hours(2).await;
        let posts = world.kinds_since(calls).into_iter().filter(|kind| *kind == CallKind::SubmitContacts).count();
        assert!(posts <= 3, "{posts} posts");
        assert_eq!(world.status().await.acknowledged, 0);
    }
}

/// Reteno asks for peace, and the process is started anew.
#[tokio::test(start_paused = true)]
async fn the_next_process_waits_as_long_as_reteno_has_asked_for() {
    let mut world = World::begin().await;
    let busy = Effect::Answer(Canned::too_many(Some("1200")));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, busy));
    world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
    let asked_at = world.clock.now();
    world.send_for(MINUTE).await;
    let calls = world.call_count();
    world.crash().await;
    world.send_for(HOUR).await;
    let first = world.calls_since(calls)[0].at;
    assert!(first.since(asked_at) >= 20 * MINUTE, "{} s", first.since(asked_at).as_secs());
    assert!(is_there(&world, "ann"));
}

/// A clock that was days ahead is set right while things wait: by a process that was started anew, or in a running one.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_nobody_wait() {
    for days in [1, 10, 14] {
        let ahead = days * 24 * HOUR;
        let mut world = World::begin().await;
        world.policy.ending = Ending::Delete;
        world.reads_all(&[("ann", &[(TOWN, "Kyiv")]), ("bob", &[]), ("eve", &[(TOWN, "Kyiv")])]).await;
        world.send_for(HOUR).await;
        world.clock = Clock::simulated(world.clock.now().plus(ahead));
        world.crash().await;
        // Ann waits two seconds after a refusal, Bob's deletion six hours, and Eve for an import that is under way
        let refused = || Effect::Answer(Canned::json(StatusCode::BAD_REQUEST, "{}"));
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, refused()));
        world.sandbox.fault(Fault::on(CallKind::DeleteContact, refused()));
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(HOUR)));
        world.loses(&[("ann", &[(TOWN, "Lviv")]), ("eve", &[(TOWN, "Kyiv")])]).await;
        world.send_for(Duration::from_secs(1)).await;
        world.crm_says(&[("eve", &[(TOWN, "Lviv")])]).await;
        world.send_for(Duration::from_secs(1)).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"));
        assert!(is_there(&world, "bob"));
        world.clock = Clock::simulated(world.clock.now().minus(ahead));
        world.crash().await;
        world.hours(8).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Lviv"), "{days} days");
        assert_eq!(world.reteno_holds("eve", "town").as_deref(), Some("Lviv"), "{days} days");
        assert!(!is_there(&world, "bob"), "{days} days");
        let status = world.status().await;
        assert_eq!((status.open, status.imports.len(), status.deeds.len()), (0, 0, 0), "{days} days");
    }
}

/// The disk is full when the intent of a deletion is written, and its counter beside the database is not. Nothing goes out
/// from that sender any more; the one that begins anew makes the call, and nothing else about the contact before it.
#[tokio::test(start_paused = true)]
async fn an_intent_that_could_not_be_counted_keeps_other_calls_off() {
    let mut world = World::begin().await;
    world.policy.ending = Ending::Delete;
    world.reads_all(&[("ann", &[]), ("other", &[])]).await;
    world.send_for(HOUR).await;
    world.loses(&[("other", &[])]).await;
    let counter = world.dir.path().join("generation");
    let (kept, aside) = (fs::read(&counter).unwrap(), counter.with_extension("new"));
    fs::remove_file(&counter).unwrap();
    fs::create_dir(&aside).unwrap();
    let calls = world.call_count();
    let mut sender = world.sender.take().unwrap();
    let failed = sender.run(Until::Drained(HOUR), &CancellationToken::new()).await;
    assert!(matches!(failed, Err(CheckpointError::File { .. })), "{failed:?}");
    drop(sender);
    assert_eq!((world.call_count(), world.status().await.imports.len()), (calls, 1));
    fs::remove_dir(&aside).unwrap();
    fs::write(&counter, &kept).unwrap();
    // she is back, and no deletion gets through for a while
    let page = Effect::Answer(Canned::html(StatusCode::NOT_FOUND));
    world.sandbox.fault(Fault::on(CallKind::DeleteContact, page).times(3));
    tokio::time::advance(MINUTE).await;
    world.crm_says(&[("ann", &[(TOWN, "Lviv")])]).await;
    world.resume().await;
    world.hours(12).await;
    let kinds = world.kinds_since(calls);
    let submits = kinds.iter().position(|kind| *kind == CallKind::SubmitContacts).unwrap_or(kinds.len());
    let deletes = |kinds: &[CallKind]| kinds.iter().filter(|kind| **kind == CallKind::DeleteContact).count();
    assert_eq!((deletes(&kinds[..submits]), deletes(&kinds[submits..])), (4, 0), "{kinds:?}");
    assert!(fs::read(&counter).unwrap() > kept, "the deletion is counted before it goes out");
}
