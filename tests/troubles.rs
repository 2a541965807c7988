//! What networks, Reteno, people and clocks do to a program that sends: each history ends with what Reteno holds, and with
//! what an operator sees.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use http::StatusCode;
use reteno_sync::checkpoint::{Incoming, ReadContext, SeenRows, SendRules};
use reteno_sync::contact::Field;
use reteno_sync::daemon::sender::Ended;
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::Guard;
use reteno_sync::sandbox::{CallKind, Canned, Effect, Fault, SandboxOptions};
use support::{HOUR, MINUTE, World};

const TOWN: Field = Field::Town;

fn records<'a>(keys: &'a [String], fields: &'a [(Field, &'a str)]) -> Vec<(&'a str, &'a [(Field, &'a str)])> {
    keys.iter().map(|key| (key.as_str(), fields)).collect()
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("c{key}")).collect()
}

async fn alerts(world: &World) -> Vec<String> {
    world.status().await.alerts.into_iter().map(|alert| alert.name).collect()
}

/// All empty phones have the same print: it identifies nobody.
#[tokio::test(start_paused = true)]
async fn contacts_whose_phone_is_emptied_go_together() {
    let mut world = World::begin().await;
    for (number, phone) in [("1", "+380671234567"), ("2", "+380671234568"), ("3", "+380671234569")] {
        world.crm_says(&[(number, &[(Field::Sms, phone)])]).await;
    }
    world.send_for(HOUR).await;
    let posts = world.sandbox.tally().imports_accepted;
    world.crm_says(&[("1", &[(Field::Sms, "")]), ("2", &[(Field::Sms, "")]), ("3", &[(Field::Sms, "")])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.tally().imports_accepted, posts + 1);
    assert_eq!(world.reteno_holds("2", "sms"), None);
}

/// A takes another address, and B the one that A had: the calls must not be under way together.
#[tokio::test(start_paused = true)]
async fn an_address_that_passes_from_one_contact_to_another_is_locked_by_both() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(Field::Email, "old@example.com")]), ("2", &[])]).await;
    world.send_for(HOUR).await;
    world
        .crm_says(&[
            ("1", &[(Field::Email, "new@example.com")]),
            ("2", &[(Field::Email, "old@example.com"), (TOWN, "Kyiv")]),
        ])
        .await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let email = |key| world.reteno_holds(key, "email");
    assert_eq!((email("1").as_deref(), email("2").as_deref()), (Some("new@example.com"), Some("old@example.com")));
    let kinds: Vec<CallKind> = world.sandbox.calls().iter().map(|call| call.kind).collect();
    let posts: Vec<usize> = (0..kinds.len()).filter(|place| kinds[*place] == CallKind::SubmitContacts).collect();
    let [.., first, second] = posts.as_slice() else { panic!("two posts, not {posts:?}") };
    assert!(kinds[*first..*second].contains(&CallKind::ImportStatus), "the second waited for the first: {kinds:?}");
}

/// A proxy answers 502 to whatever holds one contact, each time, while other calls get through.
#[tokio::test(start_paused = true)]
async fn a_call_that_never_gets_a_clear_answer_is_given_up_and_its_contacts_go_on() {
    let mut world = World::begin().await;
    world.sandbox.jam(["c7".to_owned()]);
    world.crm_says(&records(&keys(40), &[(TOWN, "Kyiv")])).await;
    world.send_for(HOUR).await;
    assert_eq!(world.status().await.acknowledged, 0, "the same body goes out again and again");
    for hour in 0..12 {
        // something else gets through all the time: it is no outage
        let town = format!("town {hour}");
        world.crm_says(&[("other", &[(TOWN, &town), (Field::Sms, "+380671234567")])]).await;
        world.send_for(HOUR).await;
    }
    // everybody but the jammed one has arrived; nobody has refused that one, so it is tried on, under an alert
    assert_eq!(world.reteno_holds("c0", "town").as_deref(), Some("Kyiv"));
    assert_eq!((world.sandbox.contacts().len(), world.status().await.rejected), (40, 0));
    assert!(alerts(&world).await.iter().any(|name| name.starts_with("import-")));
    world.sandbox.jam([]);
    for _ in 0..30 {
        tokio::time::advance(HOUR).await;
        world.send_for(HOUR).await;
    }
    assert_eq!((world.sandbox.contacts().len(), world.status().await.rejected), (41, 0));
    assert_eq!(alerts(&world).await, Vec::<String>::new());
}

/// The same where nothing else is sent: the other half of the batch is what gets through.
#[tokio::test(start_paused = true)]
async fn a_part_without_an_answer_does_not_stop_the_other_parts() {
    let mut world = World::begin().await;
    world.crm_says(&[("first", &[(TOWN, "Kyiv")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.jam(["c7".to_owned()]);
    world.crm_says(&records(&keys(40), &[(TOWN, "Kyiv")])).await;
    world.send_for(7 * HOUR).await;
    assert_eq!(world.sandbox.contacts().len(), 1, "nothing has succeeded since: it could be an outage");
    world.crm_says(&[("first", &[(TOWN, "Lviv")])]).await;
    for _ in 0..6 {
        world.send_for(HOUR).await;
    }
    assert!(world.sandbox.contacts().len() >= 40, "{} contacts", world.sandbox.contacts().len());
}

/// A proxy that says "retry after 0 s" is no reason to send as fast as it answers.
#[tokio::test(start_paused = true)]
async fn an_empty_retry_after_does_not_make_a_storm() {
    let mut world = World::begin().await;
    let busy = Canned { retry_after: Some("0".to_owned()), ..Canned::html(StatusCode::SERVICE_UNAVAILABLE) };
    let fault = world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::Answer(busy)).always());
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    world.send_for(MINUTE).await;
    assert!((2..=8).contains(&world.sandbox.fired(fault)), "{} posts", world.sandbox.fired(fault));
}

/// One contact is held up by another one's import: the rest of its mask, in which something was refused, goes on.
#[tokio::test(start_paused = true)]
async fn a_contact_that_waits_for_another_ones_import_holds_up_nobody_else() {
    let mut world = World::begin().await;
    world.crm_says(&[("a", &[(Field::Email, "same@example.com"), (Field::Sms, "+380671234567")])]).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.send_for(MINUTE).await;
    world.crm_says(&[("b", &[(Field::Email, "same@example.com"), (TOWN, "Kyiv")])]).await;
    world.sandbox.poison(["c7".to_owned()]);
    world.crm_says(&records(&keys(40), &[(TOWN, "Kyiv")])).await;
    world.send_for(HOUR).await;
    assert_eq!(world.status().await.acknowledged, 39);
}

/// The host was down for a night: what Reteno finished meanwhile is asked for, not given up.
#[tokio::test(start_paused = true)]
async fn an_import_that_nobody_asked_about_for_a_day_is_asked_about_first() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    world.send_for(Duration::from_millis(50)).await;
    assert_eq!(world.sandbox.tally().imports_accepted, 1);
    tokio::time::advance(20 * HOUR).await;
    world.crash().await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.sandbox.tally().imports_accepted, 1, "nothing is sent twice");
    assert_eq!(alerts(&world).await, Vec::<String>::new());
}

/// The alert names the import; when neither it nor its ghost can do anything any more, it is over.
#[tokio::test(start_paused = true)]
async fn the_alert_of_an_abandoned_import_ends_with_its_ghost() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.send_for(7 * HOUR).await;
    assert_eq!(alerts(&world).await.len(), 1);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
    tokio::time::advance(7 * HOUR).await;
    world.send_for(MINUTE).await;
    assert_eq!(alerts(&world).await, Vec::<String>::new());
}

/// An import hangs, and a later batch of the same fields is refused: the others must not wait for the one that hangs.
#[tokio::test(start_paused = true)]
async fn an_import_that_hangs_does_not_stop_the_search_for_a_bad_contact() {
    let mut world = World::begin().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    world.crm_says(&[("hung", &[(TOWN, "x")])]).await;
    world.send_for(MINUTE).await;
    world.sandbox.poison(["c7".to_owned()]);
    world.crm_says(&records(&keys(40), &[(TOWN, "Kyiv")])).await;
    world.send_for(HOUR).await;
    let status = world.status().await;
    assert_eq!((status.acknowledged, status.rejected), (39, 1));
}

/// Reteno refuses the contact for its address, which is not among the fields that were due; the CRM mends the address
/// before the refusal comes.
#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_swallow_an_edit_of_another_field() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv")]), ("2", &[(TOWN, "Kyiv")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.poison(["1".to_owned()]);
    world.crm_says(&[("1", &[(TOWN, "Lviv")])]).await;
    world.send_for(Duration::from_millis(500)).await;
    // the same field of another contact gets through: the next refusal of the first one is proof
    let refusal = world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer).after(1));
    world.crm_says(&[("2", &[(TOWN, "Lviv")])]).await;
    let held = tokio::time::timeout(MINUTE, world.send_for(HOUR)).await;
    assert!(held.is_err() && world.sandbox.fired(refusal) == 1);
    world.sandbox.poison([]);
    world.crm_says(&[("1", &[(TOWN, "Lviv"), (Field::Email, "mended@example.com")])]).await;
    world.sandbox.release();
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("1", "town").as_deref(), Some("Lviv"));
    assert_eq!(world.reteno_holds("1", "email").as_deref(), Some("mended@example.com"));
    assert_eq!(world.status().await.rejected, 0);
}

/// 403 until the operator mends the app's scope and restarts: the alert of the process before ends with the first call.
#[tokio::test(start_paused = true)]
async fn an_alert_ends_although_another_process_raised_it() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    let forbidden = Effect::Answer(Canned::json(StatusCode::FORBIDDEN, r#"{"message":"scope"}"#));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, forbidden).always());
    world.send_for(MINUTE).await;
    assert_eq!(alerts(&world).await, ["refused-by-reteno"]);
    world.sandbox.clear_faults();
    world.crash().await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(alerts(&world).await, Vec::<String>::new());
}

/// Retry-After is about the account: no other call goes out meanwhile, also when one beside it succeeded.
#[tokio::test(start_paused = true)]
async fn while_reteno_asks_for_peace_nothing_goes_out() {
    let mut world = World::begin().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::Answer(Canned::too_many(Some("60")))));
    world.crm_says(&[("1", &[(TOWN, "Kyiv")]), ("2", &[(Field::Sms, "+380671234567")])]).await;
    assert_eq!(world.send_for(30 * Duration::from_secs(1)).await, Ended::StillOpen);
    let calls = world.sandbox.tally().calls;
    assert_eq!(calls, 2, "both were on the line together");
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
}

/// Reteno takes connections and never answers: `sync --wait` ends all the same, once its requests have timed out.
#[tokio::test(start_paused = true)]
async fn after_its_deadline_nothing_more_is_begun() {
    let mut world = World::begin().await;
    let fault = world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseRequest).always());
    world.crm_says(&records(&keys(5), &[(TOWN, "Kyiv")])).await;
    assert_eq!(world.send_for(MINUTE).await, Ended::StillOpen);
    let fired = world.sandbox.fired(fault);
    assert_eq!(world.send_for(Duration::ZERO).await, Ended::StillOpen);
    assert_eq!(world.sandbox.fired(fault), fired);
}

/// Fields that Reteno refuses do not keep other changes out of sight, however many contacts wait with them.
#[tokio::test(start_paused = true)]
async fn contacts_of_a_paused_mask_leave_the_window_to_others() {
    let mut world = World::begin().await;
    world.crm_says(&records(&keys(50), &[(Field::Additional(1), "x")])).await;
    world.send_for(MINUTE).await;
    assert_eq!(world.status().await.acknowledged, 0);
    let mask = vec![Field::ExternalCustomerId, Field::Email, Field::Additional(1)];
    world.crm_says(&[("late", &[(TOWN, "Kyiv")])]).await;
    let (now, bounds) = (world.clock.now(), std::collections::BTreeMap::from([(mask, 0)]));
    let due =
        world.store.call(move |checkpoint| checkpoint.load_due(now, 10, &bounds, &SendRules::default())).await.unwrap();
    assert_eq!((due.candidates.len(), due.is_more), (1, false));
}

/// Reteno cannot be reached: nothing counts as sent, an alert says so after a minute, and ends with the first call.
#[tokio::test(start_paused = true)]
async fn an_outage_is_told_and_its_end_too() {
    let mut world = World::begin().await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::RefuseConnection).always());
    world.crm_says(&[("1", &[(TOWN, "Kyiv")])]).await;
    world.send_for(Duration::from_secs(20)).await;
    assert_eq!(alerts(&world).await, Vec::<String>::new());
    world.send_for(3 * MINUTE).await;
    assert_eq!(alerts(&world).await, ["outage"]);
    let counts = *world.sender.as_ref().unwrap().watch_counts().borrow();
    assert_eq!((counts.posts, counts.sent), (0, 0));
    world.sandbox.clear_faults();
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(alerts(&world).await, Vec::<String>::new());
    let counts = *world.sender.as_ref().unwrap().watch_counts().borrow();
    assert_eq!((counts.posts, counts.sent), (1, 1));
}

/// Every import of a first load hangs: what just changed has a place all the same.
#[tokio::test(start_paused = true)]
async fn a_first_load_that_hangs_leaves_room_for_what_just_changed() {
    let mut settings = support::settings();
    settings.batch_contacts_max = 1;
    let options = SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
    let mut world = World::with(options, settings).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport).times(32));
    let context = ReadContext { lane: Lane::FirstLoad, ..world.context(world.clock.now().0, true) };
    let items = keys(40).iter().map(|key| Incoming::Contact(support::contact(key, &[]))).collect();
    let page =
        world.store.call(move |checkpoint| checkpoint.record_page(&context, &mut SeenRows::default(), items, None));
    page.await.unwrap();
    world.send_for(10 * MINUTE).await;
    let hanging = world.sandbox.unfinished_imports();
    assert!((20..32).contains(&hanging), "{hanging} hang");
    world.sandbox.clear_faults();
    world.crm_says(&[("live", &[(TOWN, "Kyiv")])]).await;
    world.send_for(MINUTE).await;
    assert_eq!(world.reteno_holds("live", "town").as_deref(), Some("Kyiv"));
}

/// A late copy may still overwrite the town, and the empty name is held by the guard: the town is not posted again and again.
#[tokio::test(start_paused = true)]
async fn a_field_in_doubt_is_sent_once_more_whatever_else_is_due() {
    let mut world = World::begin().await;
    world.crm_says(&[("ann", &[(TOWN, "Kyiv"), (Field::FirstName, "Ann")])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(5 * HOUR)));
    world.crm_says(&[("ann", &[(TOWN, "Lviv"), (Field::FirstName, "Ann")])]).await;
    world.send_for(MINUTE).await;
    world.policy.guard = Guard { holds_all: true, ..Guard::default() };
    world.crm_says(&[("ann", &[(TOWN, "Odesa"), (Field::FirstName, "")])]).await;
    assert_eq!(world.status().await.held, 1);
    let before = world.sandbox.tally().imports_accepted;
    world.send_for(HOUR).await;
    world.hours(1).await;
    let posts = world.sandbox.tally().imports_accepted - before;
    assert!(posts <= 1, "{posts} posts of one value");
    world.hours(30).await;
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Odesa"), "the late copy has landed before");
    assert_eq!(world.reteno_holds("ann", "firstName").as_deref(), Some("Ann"));
    let posts = world.sandbox.tally().imports_accepted - before;
    assert_eq!(posts, 2, "once under the late copy, and once more when it cannot land any more");
}
