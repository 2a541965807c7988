//! Whom the CRM shows again, and what was to be done about them: found by a review that tried to do harm.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use http::StatusCode;
use reteno_sync::contact::{Consent, Contact, Field};
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::Guard;
use reteno_sync::plan::policy::{Ending, Policy};
use reteno_sync::reteno::body::DedupeOn;
use reteno_sync::sandbox::{CallKind, Canned, Effect, Fault, Readings, SandboxOptions};
use support::tables::{Table, Tables};
use support::{HOUR, MINUTE, World, consenting, contact, person};

const TOWN: Field = Field::Town;

fn options() -> SandboxOptions {
    SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() }
}

fn all_held() -> Guard {
    Guard { is_on: true, holds_all: true, ..Guard::default() }
}

fn at(key: &str, town: &str, t: i64) -> Contact {
    Contact { changed_at: Some(t), ..contact(key, &[(TOWN, town)]) }
}

fn without_id(key: &str, fields: &[(Field, &str)]) -> Contact {
    let mut c = contact(key, fields);
    c.fields.retain(|(f, _)| *f != Field::ExternalCustomerId);
    c
}

async fn whole(w: &World, cs: Vec<Contact>) -> support::reads::Read {
    w.reads(true, Lane::Reconcile, cs.into_iter(), &[]).await
}

/// The CRM was restored from a backup: what it says is older than what was believed, and she is there all the same.
#[tokio::test(start_paused = true)]
async fn who_is_back_with_an_older_change_time_is_not_erased() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Erase;
    whole(&w, vec![at("ann", "Kyiv", 200), at("other", "Lviv", 100)]).await;
    w.send_for(HOUR).await;
    w.policy.guard = all_held();
    whole(&w, vec![at("other", "Lviv", 100)]).await;
    let holds = whole(&w, vec![at("other", "Lviv", 100)]).await.holds;
    // the CRM was restored from a backup: she is back, with an older change time
    for _ in 0..3 {
        whole(&w, vec![at("ann", "Kyiv", 150), at("other", "Lviv", 100)]).await;
    }
    // and then edited
    whole(&w, vec![at("ann", "Odesa", 300), at("other", "Lviv", 100)]).await;
    let id = holds[0].id;
    w.store.call(move |c| c.approve_hold(id)).await.unwrap();
    w.send_for(HOUR).await;
    assert_eq!(w.sandbox.tally().contacts_erased, 0);
}

/// Lost, then refused: it would have been due again six hours later.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_was_refused_is_not_tried_again_on_one_who_is_back() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Delete;
    let both = || vec![contact("ann", &[(TOWN, "Kyiv")]), contact("other", &[(TOWN, "Lviv")])];
    whole(&w, both()).await;
    w.send_for(HOUR).await;
    w.sandbox.fault(Fault::on(CallKind::DeleteContact, Effect::LoseRequest));
    w.sandbox.fault(Fault::on(
        CallKind::DeleteContact,
        Effect::Answer(Canned::json(StatusCode::BAD_REQUEST, r#"{"message":"no"}"#)),
    ));
    for _ in 0..2 {
        whole(&w, vec![contact("other", &[(TOWN, "Lviv")])]).await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), w.send_for(HOUR)).await;
    whole(&w, both()).await;
    w.send_for(HOUR).await;
    for _ in 0..10 {
        whole(&w, both()).await;
        w.hours(1).await;
    }
    assert_eq!(w.sandbox.tally().contacts_deleted, 0);
}

/// Without external ids both records are one contact in Reteno.
#[tokio::test(start_paused = true)]
async fn who_was_typed_in_again_is_not_erased_by_an_approval() {
    let settings = reteno_sync::daemon::sender::SendSettings { dedupe_on: DedupeOn::Email, ..support::settings() };
    let mut w = World::with(options(), settings).await;
    w.policy.ending = Ending::Erase;
    w.mapped.retain(|f| *f != Field::ExternalCustomerId);
    let other = || without_id("other", &[(TOWN, "Lviv")]);
    whole(&w, vec![without_id("ann", &[(TOWN, "Kyiv")]), other()]).await;
    w.send_for(HOUR).await;
    w.policy.guard = all_held();
    whole(&w, vec![other()]).await;
    let holds = whole(&w, vec![other()]).await.holds;
    // typed in again, under another id
    for _ in 0..2 {
        whole(&w, vec![without_id("ann2", &[(Field::Email, "ann@example.com"), (TOWN, "Rivne")]), other()]).await;
        w.send_for(HOUR).await;
    }
    let id = holds[0].id;
    w.store.call(move |c| c.approve_hold(id)).await.unwrap();
    w.send_for(HOUR).await;
    assert_eq!(w.sandbox.tally().contacts_erased, 0);
}

/// Reteno answers 404 to our deletion: it was not ours.
#[tokio::test(start_paused = true)]
async fn whom_somebody_else_has_deleted_is_not_restored() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Delete;
    let both = || vec![contact("ann", &[(TOWN, "Kyiv")]), contact("other", &[(TOWN, "Lviv")])];
    whole(&w, both()).await;
    w.send_for(HOUR).await;
    assert!(w.sandbox.delete_contact("ann"));
    let unknown = Canned::json(StatusCode::NOT_FOUND, r#"{"message":"no such contact"}"#);
    w.sandbox.fault(Fault::on(CallKind::DeleteContact, Effect::Answer(unknown)));
    for _ in 0..2 {
        whole(&w, vec![contact("other", &[(TOWN, "Lviv")])]).await;
    }
    w.send_for(HOUR).await;
    whole(&w, both()).await;
    w.send_for(HOUR).await;
    let d = w.sandbox.contact_by_external_id("ann").unwrap().deleted;
    assert!(d, "never: whom a person deleted in Reteno stays deleted");
}

/// To ask for an id writes the address.
#[tokio::test(start_paused = true)]
async fn a_no_while_an_id_is_asked_for_is_told_once_more() {
    let o = SandboxOptions { readings: Readings { create_resubscribes: true, ..Readings::default() }, ..options() };
    let mut w = World::with(o, support::settings()).await;
    w.policy = consenting();
    w.mapped.push(Field::Subscriptions);
    w.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    whole(&w, vec![person("ann", "ann@example.com", Some(Consent::Yes))]).await;
    w.send_for(HOUR).await;
    assert!(w.sandbox.erase_contact("ann"));
    // categories come: the id is learnt
    w.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(10 * MINUTE)));
    let cat = |c| {
        let mut p = person("ann", "ann@example.com", c);
        p.fields.push((
            Field::Subscriptions,
            reteno_sync::contact::Wanted::Value(reteno_sync::contact::Personal::new("news".to_owned())),
        ));
        p
    };
    whole(&w, vec![cat(Some(Consent::Yes))]).await;
    let _ = tokio::time::timeout(MINUTE, w.send_for(HOUR)).await;
    whole(&w, vec![cat(Some(Consent::No))]).await;
    w.send_for(3 * HOUR).await;
    w.hours(10).await;
    assert!(w.is_unsubscribed("ann@example.com"));
}

/// The address comes back with another record, which says yes.
#[tokio::test(start_paused = true)]
async fn a_held_no_of_one_who_is_gone_silences_nobody() {
    let mut w = World::with(options(), support::settings()).await;
    w.policy = Policy { guard: all_held(), ..consenting() };
    let other = || person("other", "other@example.com", Some(Consent::Yes));
    whole(&w, vec![other()]).await;
    w.send_for(HOUR).await;
    let read = whole(&w, vec![other(), person("ann", "ann@example.com", Some(Consent::No))]).await;
    assert_eq!(read.holds.len(), 1);
    w.send_for(HOUR).await;
    for _ in 0..2 {
        whole(&w, vec![other()]).await;
        w.send_for(HOUR).await;
    }
    w.policy.guard = Guard { is_on: false, ..Guard::default() };
    for _ in 0..3 {
        whole(&w, vec![other(), person("ann2", "ann@example.com", Some(Consent::Yes))]).await;
        w.send_for(HOUR).await;
    }
    assert!(w.sandbox.contact_by_external_id("ann2").is_some());
}

/// A duplicate that stood in the shadow of another contact.
#[tokio::test(start_paused = true)]
async fn who_was_never_sent_is_not_made_to_be_deleted() {
    for ending in [Ending::Delete, Ending::Erase] {
        let mut w = World::begin().await;
        w.policy.ending = ending;
        w.policy.unique = vec![Field::Email];
        let ann = || contact("ann", &[(TOWN, "Kyiv")]);
        whole(&w, vec![ann(), contact("dup", &[(Field::Email, "ann@example.com"), (TOWN, "Rivne")])]).await;
        w.send_for(HOUR).await;
        let calls = w.call_count();
        for _ in 0..2 {
            whole(&w, vec![ann()]).await;
            w.send_for(HOUR).await;
        }
        assert_eq!(w.kinds_since(calls), [], "{ending:?}");
    }
}

/// With a ghost that could bring the contact back, it would be done once more.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_ends_after_the_return_is_not_repeated() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Delete;
    let both = || vec![contact("ann", &[(TOWN, "Kyiv")]), contact("other", &[(TOWN, "Lviv")])];
    whole(&w, both()).await;
    w.send_for(HOUR).await;
    w.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    w.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    w.reads_changes(&[("ann", &[(TOWN, "Odesa")])], &[]).await;
    w.send_for(MINUTE).await;
    w.sandbox.fault(Fault::on(CallKind::DeleteContact, Effect::HoldAnswer));
    for _ in 0..2 {
        whole(&w, vec![contact("other", &[(TOWN, "Lviv")])]).await;
    }
    assert!(tokio::time::timeout(MINUTE, w.send_for(HOUR)).await.is_err(), "the deletion is under way");
    whole(&w, both()).await;
    w.sandbox.release();
    w.send_for(HOUR).await;
    for _ in 0..3 {
        whole(&w, both()).await;
        w.send_for(HOUR).await;
    }
    w.hours(15).await;
    assert_eq!(w.sandbox.tally().contacts_deleted, 1);
}

/// A row's number is never given twice: calls under way name it.
#[tokio::test(start_paused = true)]
async fn an_answer_about_one_ends_nothing_of_another() {
    let mut w = World::with(options(), support::settings()).await;
    w.policy = Policy { ending: Ending::Erase, ..consenting() };
    let other = || person("other", "other@example.com", Some(Consent::Yes));
    let ann = |c| person("ann", "ann@example.com", Some(c));
    let bob = |c| person("bob", "bob@example.com", Some(c));
    whole(&w, vec![other(), ann(Consent::Yes)]).await;
    w.send_for(HOUR).await;
    // her opt-out gets no answer for long
    w.sandbox.fault(Fault::on(CallKind::Unsubscribe, Effect::HoldAnswer));
    whole(&w, vec![other(), ann(Consent::No)]).await;
    let _ = tokio::time::timeout(Duration::from_secs(5), w.send_for(HOUR)).await;
    for _ in 0..2 {
        whole(&w, vec![other()]).await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), w.send_for(HOUR)).await;
    // somebody new says no at first sight, and the guard holds it
    w.policy.guard = all_held();
    whole(&w, vec![other(), bob(Consent::No)]).await;
    w.sandbox.release();
    w.send_for(HOUR).await;
    w.hours(2).await;
    let left = w.store.call(|c| c.load_holds()).await.unwrap();
    for h in left {
        let id = h.id;
        w.store.call(move |c| c.approve_hold(id)).await.unwrap();
    }
    w.send_for(HOUR).await;
    assert!(w.is_unsubscribed("bob@example.com") || w.sandbox.contact_by_external_id("bob").is_none());
}

/// The operator sets `on_delete = "keep"` and starts again.
#[tokio::test(start_paused = true)]
async fn what_was_decided_under_another_policy_is_off() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Erase;
    let both = || vec![contact("ann", &[(TOWN, "Kyiv")]), contact("other", &[(TOWN, "Lviv")])];
    whole(&w, both()).await;
    w.send_for(HOUR).await;
    for _ in 0..2 {
        whole(&w, vec![contact("other", &[(TOWN, "Lviv")])]).await;
    }
    w.policy.ending = Ending::Keep;
    w.settings.endings = vec![("crm".to_owned(), Ending::Keep)];
    w.crash().await;
    whole(&w, vec![contact("other", &[(TOWN, "Lviv")])]).await;
    w.send_for(HOUR).await;
    assert_eq!(w.sandbox.tally().contacts_erased, 0);
}

/// What was believed before the end does not count.
#[tokio::test(start_paused = true)]
async fn who_is_back_after_the_deletion_is_restored_however_old_the_record() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Delete;
    whole(&w, vec![at("ann", "Kyiv", 200), at("other", "Lviv", 100)]).await;
    w.send_for(HOUR).await;
    for _ in 0..2 {
        whole(&w, vec![at("other", "Lviv", 100)]).await;
    }
    w.send_for(HOUR).await;
    for _ in 0..4 {
        whole(&w, vec![at("ann", "Kyiv", 150), at("other", "Lviv", 100)]).await;
        w.send_for(HOUR).await;
    }
    assert!(!w.sandbox.contact_by_external_id("ann").unwrap().deleted);
}

/// It was held, and is not any more.
#[tokio::test(start_paused = true)]
async fn an_address_that_lives_on_with_another_record_is_not_unsubscribed() {
    let mut w = World::with(options(), support::settings()).await;
    w.policy = Policy { ending: Ending::Unsubscribe, ..consenting() };
    let other = || person("other", "other@example.com", Some(Consent::Yes));
    whole(&w, vec![other(), person("ann", "ann@example.com", Some(Consent::Yes))]).await;
    w.send_for(HOUR).await;
    w.policy.guard = all_held();
    whole(&w, vec![other()]).await;
    let h = whole(&w, vec![other()]).await.holds;
    for _ in 0..2 {
        whole(&w, vec![other(), person("ann2", "ann@example.com", Some(Consent::Yes))]).await;
        w.send_for(HOUR).await;
    }
    let id = h[0].id;
    w.store.call(move |c| c.approve_hold(id)).await.unwrap();
    w.send_for(HOUR).await;
    assert!(!w.is_unsubscribed("ann@example.com"));
}

#[tokio::test(start_paused = true)]
async fn when_everything_was_last_read_is_known_after_a_restart_and_reading_changes_does_not_move_it() {
    let world = World::begin().await;
    let full = |world: &World| {
        let store = world.store.clone();
        async move { store.call(|checkpoint| Ok(checkpoint.load_source("crm")?.full_read_at)).await.unwrap() }
    };
    assert_eq!(full(&world).await, None);
    world.loads_first(&[("ann", &[])]).await;
    let first = full(&world).await;
    assert!(first.is_some());
    tokio::time::advance(HOUR).await;
    world.reads_changes(&[("ann", &[])], &[]).await;
    assert_eq!(full(&world).await, first, "a missed reconcile is made up for when the daemon starts");
    world.reads_all(&[("ann", &[])]).await;
    assert!(full(&world).await > first);
}

/// One contact of two sources is gone from both, and comes back in the one that lost it first.
#[tokio::test(start_paused = true)]
async fn who_returns_in_one_of_two_sources_is_restored() {
    let section = "shares_ids = true\non_delete = \"delete\"\n";
    let table = |name, mapping: &str| Table { name, section: section.to_owned(), mapping: mapping.to_owned() };
    let first = table("crm", "externalCustomerId = \"id\"\nemail = \"mail\"\n");
    let second = table("erp", "externalCustomerId = \"id\"\nsms = \"phone\"\ntown = \"city\"\n");
    let mut crm = Tables::of(World::begin().await, vec![first, second]);
    let mails = "id,mail\n1,one@example.com\n2,two@example.com\n";
    let phones = "id,phone,city\n1,+380671234567,Kyiv\n2,+380671234568,Lviv\n";
    for _ in 0..3 {
        crm.cycle("crm", mails).await;
        crm.cycle("erp", phones).await;
    }
    assert_eq!(crm.living(), ["1", "2"]);
    let mails_left = mails.replace("2,two@example.com\n", "");
    let phones_left = phones.replace("2,+380671234568,Lviv\n", "");
    for _ in 0..3 {
        crm.cycle("crm", &mails_left).await;
        crm.cycle("erp", phones).await;
    }
    for _ in 0..3 {
        crm.cycle("crm", &mails_left).await;
        crm.cycle("erp", &phones_left).await;
    }
    assert_eq!(crm.living(), ["1"], "gone from both");
    // back in the CRM, not in the ERP
    for _ in 0..5 {
        crm.cycle("crm", mails).await;
        crm.cycle("erp", &phones_left).await;
    }
    assert_eq!(crm.living(), ["1", "2"], "{:?}", crm.rejected().await);
}

/// Two records are one contact in Reteno, and one of them is gone: the contact of the other is not deleted.
#[tokio::test(start_paused = true)]
async fn a_contact_that_another_record_is_lives_on() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Delete;
    let one = |key, email| contact(key, &[(Field::ExternalCustomerId, "both"), (Field::Email, email)]);
    let b = || vec![one("b", "b@example.com"), contact("other", &[])];
    whole(&w, [b(), vec![one("a", "a@example.com")]].concat()).await;
    w.send_until_quiet().await;
    for _ in 0..3 {
        whole(&w, b()).await;
        w.send_for(HOUR).await;
    }
    assert_eq!(w.sandbox.tally().contacts_deleted, 0);
    assert!(!w.sandbox.contact_by_external_id("both").unwrap().deleted);
}

/// A contact comes back while its deletion gets no answer, and a late copy of an import is still under way: the deletion is
/// over with its answer, and is not kept for the end of that copy.
#[tokio::test(start_paused = true)]
async fn a_deletion_of_one_who_is_back_is_not_kept_for_a_late_copy() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Delete;
    let all = || vec![contact("ann", &[(TOWN, "Lviv")]), contact("other", &[])];
    whole(&w, vec![contact("ann", &[(TOWN, "Kyiv")]), contact("other", &[])]).await;
    w.send_for(HOUR).await;
    w.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    w.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(5 * HOUR)));
    whole(&w, all()).await;
    w.send_for(MINUTE).await;
    w.sandbox.fault(Fault::on(CallKind::DeleteContact, Effect::LoseAnswer));
    for _ in 0..2 {
        whole(&w, vec![contact("other", &[])]).await;
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let until = reteno_sync::daemon::sender::Until::Stopped;
    let _ = tokio::time::timeout(Duration::from_millis(10), w.sender.as_mut().unwrap().run(until, &stop)).await;
    assert_eq!(w.sandbox.tally().contacts_deleted, 1);
    whole(&w, all()).await;
    w.send_for(MINUTE).await;
    let deeds = w.status().await.deeds;
    assert!(deeds.iter().all(|deed| deed.kind != "delete"), "{deeds:?}");
    // its values were dropped with the deletion, and come with the next read
    whole(&w, all()).await;
    w.hours(24).await;
    assert!(!w.sandbox.contact_by_external_id("ann").unwrap().deleted);
}

/// The file of tombstones cannot be written: then nothing of the erasure has begun in the database either, or an older copy
/// of it would bring the contact back.
#[tokio::test(start_paused = true)]
async fn an_erasure_begins_in_the_file_of_tombstones() {
    let mut w = World::begin().await;
    w.policy.ending = Ending::Erase;
    let all = || vec![contact("ann", &[]), contact("other", &[])];
    whole(&w, all()).await;
    w.send_for(HOUR).await;
    for _ in 0..2 {
        whole(&w, vec![contact("other", &[])]).await;
    }
    let file = w.dir.path().join("tombstones.log");
    std::fs::create_dir(&file).unwrap();
    let now = w.clock.now();
    let begun = w.store.call(move |checkpoint| checkpoint.load_due_deeds(now, 10, HOUR)).await;
    assert!(begun.is_err(), "{begun:?}");
    std::fs::remove_dir(&file).unwrap();
    whole(&w, all()).await;
    assert!(w.rejections().await.is_empty(), "{:?}", w.rejections().await);
    w.send_for(HOUR).await;
    assert_eq!(w.sandbox.tally().contacts_erased, 0);
}

/// A record without a change time is believed by the order of reads, and leaves the known time of the contact: an older record
/// that comes late does not overwrite it.
#[tokio::test(start_paused = true)]
async fn a_record_without_a_change_time_does_not_make_older_ones_news() {
    let mut w = World::begin().await;
    for (changed_at, town) in [(Some(2000), "Kyiv"), (None, "Lviv"), (Some(1000), "Odesa")] {
        w.crm_said(w.clock.now().0, changed_at, &[("ann", &[(TOWN, town)])]).await;
        w.send_for(HOUR).await;
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!(w.reteno_holds("ann", "town").as_deref(), Some("Lviv"));
}

/// Very many contacts wait for something, and a person agrees to mails: that goes out within its hour.
#[tokio::test(start_paused = true)]
async fn very_many_deeds_that_wait_do_not_hide_a_raise() {
    let mut w = World::begin().await;
    w.policy = Policy { ending: Ending::Delete, ..consenting() };
    let many = || (0..40).map(|n| contact(&format!("c{n}"), &[]));
    let ann = |consent| person("ann", "ann@example.com", consent);
    whole(&w, many().chain([ann(Some(Consent::No))]).collect()).await;
    w.send_for(HOUR).await;
    for _ in 0..2 {
        whole(&w, vec![ann(Some(Consent::No))]).await;
    }
    w.crm_tells(vec![ann(Some(Consent::Yes))]).await;
    let now = w.clock.now();
    let due = w.store.call(move |checkpoint| checkpoint.load_due_deeds(now, 10, HOUR)).await.unwrap();
    assert_eq!(due.len(), 11, "ten of each kind");
    assert_eq!(due[0].kind, reteno_sync::plan::deed::DeedKind::Resubscribe);
}

/// A deletion gets no answer and is made again; she returns and is restored; then the first copy of the deletion lands.
#[tokio::test(start_paused = true)]
async fn a_late_copy_of_a_deletion_does_not_take_away_who_is_back() {
    let mut world = World::begin().await;
    world.policy.ending = Ending::Delete;
    let is_there = |world: &World| world.sandbox.contact_by_external_id("ann").is_some_and(|ann| !ann.deleted);
    world.reads_all(&[("ann", &[(TOWN, "Kyiv")]), ("other", &[])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::DeleteContact, Effect::LoseRequest));
    world.loses(&[("other", &[])]).await;
    world.send_for(HOUR).await;
    assert!(!is_there(&world), "the repeat has deleted her");
    world.reads_all(&[("ann", &[(TOWN, "Lviv")]), ("other", &[])]).await;
    world.send_for(10 * MINUTE).await;
    assert!(is_there(&world), "restored");
    // what the late copy does
    assert!(world.sandbox.delete_contact("ann"));
    world.hours(14).await;
    assert!(is_there(&world), "{:?}", world.rejections().await);
    assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Lviv"));
}
