//! The guard, from the table of a CRM to the wire: what is held, what goes out all the same, and what releases it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use reteno_sync::checkpoint::{Approval, Approved, Incoming, ReadContext, SeenRows};
use reteno_sync::contact::Field;
use reteno_sync::daemon::sender::Ended;
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::{Bound, Guard, Verb};
use reteno_sync::plan::policy::{Ending, Policy};
use support::tables::{PEOPLE, Tables, own, table};
use support::{HOUR, MINUTE, World, contact};

const DAY: Duration = Duration::from_hours(24);

/// Everybody but the first `gone`, of 40; the last has moved to `town`.
fn without(gone: usize, town: &str) -> String {
    table(40, |n| match n {
        39 => Some(town.to_owned()),
        n => (n >= gone).then(|| own(n)),
    })
}

async fn loaded(section: &str) -> Tables {
    let mut crm = Tables::one(section).await;
    if section.contains("detach") {
        crm.table("crm").mapping =
            format!("{PEOPLE}[source.crm.segments]\nVIP = {{ always = true, group_id = 9401 }}\n");
        crm.world.settings.segment_names.insert(Field::segment("VIP"), "VIP".to_owned());
        crm.world.crash().await;
    }
    crm.cycle("crm", &table(40, |n| Some(own(n)))).await;
    assert_eq!((crm.living().len(), crm.holds().await.len()), (40, 0), "a declared first load is not held");
    crm
}

/// Twenty of forty gone, for each ending: nothing of it goes out before a person has approved it, all else does.
#[tokio::test(start_paused = true)]
async fn half_of_a_crm_is_gone() {
    for (ending, verb) in
        [("delete", "delete 20"), ("erase", "erase 20"), ("unsubscribe", "unsubscribe 20"), ("detach", "detach 20")]
    {
        let mut crm = loaded(&format!("on_delete = \"{ending}\"")).await;
        let first = crm.cycle("crm", &without(20, "A")).await;
        assert_eq!((first.balance.gone, first.balance.changed), (20, 1), "{ending}: {}", first.balance);
        assert!(crm.holds().await.is_empty(), "{ending}: one read proves nothing");
        let second = crm.cycle("crm", &without(20, "B")).await;
        assert_eq!(crm.held().await, [verb]);
        assert_eq!(crm.hold_alerts().await, 1);
        // those that are gone were not read: what was read adds up without them
        assert_eq!((second.balance.changed, second.balance.held, second.balance.gone), (1, 0, 20), "{ending}");
        assert_eq!(crm.town("c00039").as_deref(), Some("B"), "the rest goes out");
        let harm = |crm: &Tables| {
            let tally = crm.world.sandbox.tally();
            tally.contacts_deleted
                + tally.contacts_erased
                + tally.contacts_detached
                + crm.world.sandbox.unsubscribed().len() as u64
        };
        assert_eq!(harm(&crm), 0, "{ending}");
        // a third read holds nothing more, and a run that waits for all ends
        crm.read("crm", &without(20, "C")).await;
        assert_eq!(crm.world.send_for(HOUR).await, Ended::StillOpen);
        assert_eq!(crm.held().await, [verb]);
        // five come back: they leave the list, and what is approved is the rest
        crm.cycle("crm", &without(15, "C")).await;
        let hold = crm.holds().await.remove(0);
        assert_eq!(hold.contacts, 15, "{ending}");
        assert_eq!(crm.approve(hold.id).await.released, 15);
        assert_eq!(crm.world.send_for(2 * DAY).await, Ended::Drained, "{ending}");
        assert_eq!(harm(&crm), 15, "{ending}");
        assert_eq!(crm.hold_alerts().await, 0);
        if ending == "delete" || ending == "erase" {
            assert_eq!(crm.living().len(), 25, "{ending}");
        }
    }
}

/// What a CRM may answer, with `on_delete = "delete"`: nothing, something that is broken, 30 % fewer, and a few fewer.
#[tokio::test(start_paused = true)]
async fn a_crm_that_answers_with_less_deletes_nobody_unasked() {
    let mut crm = loaded("on_delete = \"delete\"").await;
    for _ in 0..3 {
        let nothing = crm.cycle("crm", "id,mail,city\n").await;
        assert_eq!((nothing.balance.gone, nothing.is_full, nothing.warnings.len()), (0, false, 1));
        let broken = crm.cycle("crm", "id,mail,city\nc00001,c1@example.com,town 1\nc00002,c\n").await;
        assert_eq!((broken.balance.gone, broken.is_full), (0, false));
    }
    assert!(crm.held().await.is_empty());
    for _ in 0..2 {
        crm.cycle("crm", &without(12, "town 39")).await;
    }
    assert_eq!(crm.held().await, ["delete 12"]);
    // all are there again: the hold lapses with its alert
    crm.cycle("crm", &without(0, "town 39")).await;
    assert_eq!((crm.held().await.len(), crm.hold_alerts().await), (0, 0));
    assert_eq!(crm.world.sandbox.tally().contacts_deleted, 0);
    // a handful is a day's work
    for _ in 0..2 {
        crm.cycle("crm", &without(3, "town 39")).await;
    }
    crm.world.send_for(DAY).await;
    assert_eq!((crm.living().len(), crm.held().await.len()), (37, 0));
}

/// A contact that is there, though its record is left out or cannot be used, is not gone; what was held about it is off.
#[tokio::test(start_paused = true)]
async fn a_contact_that_is_spoken_of_is_not_gone() {
    let mut crm = loaded("on_delete = \"delete\"\nfilter = \"$[?@.city != 'left out']\"").await;
    let lacking = without(12, "town 39");
    let left_out = table(40, |n| Some(if n < 12 { "left out".to_owned() } else { own(n) }));
    // missing, there, missing: not twice in a row
    for text in [&lacking, &left_out, &lacking] {
        crm.cycle("crm", text).await;
    }
    assert!(crm.held().await.is_empty());
    crm.cycle("crm", &lacking).await;
    assert_eq!(crm.held().await, ["delete 12"]);
    crm.cycle("crm", &left_out).await;
    assert_eq!((crm.held().await.len(), crm.hold_alerts().await), (0, 0));
}

fn guarded(verb: Verb, contacts: u64) -> Guard {
    let mut guard = Guard::default();
    for (place, known) in Verb::ALL.into_iter().enumerate() {
        let bound = if known == verb { contacts } else { 1_000_000 };
        guard.bounds[place] = Bound { contacts: bound, percent: 100 };
    }
    guard
}

/// The CRM's word that a contact is deleted, and a read of the whole source that confirms it.
async fn delete_one(world: &World, key: &str) {
    for is_full in [false, true] {
        tokio::time::advance(Duration::from_secs(1)).await;
        let (context, key) = (world.context(world.clock.now().0, is_full), key.to_owned());
        let page = vec![Incoming::Deleted { key, is_confirmed: false, changed_at: None }];
        world
            .store
            .call(move |checkpoint| {
                checkpoint.record_page(&context, &mut SeenRows::default(), page, None)?;
                checkpoint.weigh_changes(context.source, &context.policy.guard, context.now)
            })
            .await
            .unwrap();
    }
}

/// Deletions that come one at a time trip it too, and after a day it is free again.
#[tokio::test(start_paused = true)]
async fn deletions_one_by_one_are_counted_over_a_day() {
    let mut world = World::begin().await;
    let guard = guarded(Verb::Delete, 12);
    world.policy = Policy { guard, ending: Ending::Delete, ..world.policy };
    let keys: Vec<String> = (0..60).map(|n| format!("k{n:02}")).collect();
    let records: Vec<(&str, &[(Field, &str)])> = keys.iter().map(|key| (key.as_str(), [].as_slice())).collect();
    world.crm_says(&records).await;
    world.send_for(HOUR).await;
    for key in &keys[..20] {
        delete_one(&world, key).await;
        world.send_for(HOUR).await;
        tokio::time::advance(20 * MINUTE).await;
    }
    let living = |world: &World| world.sandbox.contacts().iter().filter(|contact| !contact.deleted).count();
    assert_eq!(living(&world), 48, "the thirteenth and all after it are held");
    let holds = world.store.call(|checkpoint| checkpoint.load_holds()).await.unwrap();
    // harm that comes one by one makes one list
    assert_eq!(holds.iter().map(|hold| hold.contacts).collect::<Vec<_>>(), [8]);
    assert!(holds[0].reason.contains("after 12 in the last 24 hours"), "{}", holds[0].reason);
    // which nobody has looked at since it grew
    let first = holds[0].id;
    let store = world.store.clone();
    let approve = || store.call(move |checkpoint| checkpoint.approve_hold(first));
    assert_eq!(approve().await.unwrap(), Approval::Unseen);
    world.send_for(HOUR).await;
    assert_eq!(living(&world), 48);
    // and which grows no more once somebody has
    world.store.call(move |checkpoint| checkpoint.note_seen(&[first])).await.unwrap();
    delete_one(&world, &keys[20]).await;
    assert_eq!(world.store.call(|checkpoint| checkpoint.load_holds()).await.unwrap().len(), 2);
    assert_eq!(approve().await.unwrap(), Approval::Released(Approved { released: 8, lapsed: 0 }));
    world.send_for(HOUR).await;
    assert_eq!(living(&world), 40);
    tokio::time::advance(25 * HOUR).await;
    delete_one(&world, &keys[40]).await;
    world.send_for(HOUR).await;
    assert_eq!(living(&world), 39, "a new day");
}

/// Only the harmful field waits: the other edits of the same contacts go out.
#[tokio::test(start_paused = true)]
async fn a_field_that_is_emptied_or_filled_alike_in_many_contacts_is_held_alone() {
    for (value, verb) in [("", "clear 20"), ("Kyiv", "overwrite 20")] {
        let mut crm = Tables::one("").await;
        crm.table("crm").mapping = format!("{PEOPLE}firstName = \"name\"\n");
        let rows = |name: &dyn Fn(usize) -> String, town: &dyn Fn(usize) -> String| {
            let rows = (0..40).map(|n| format!("c{n:05},c{n}@example.com,{},{}\n", town(n), name(n)));
            format!("id,mail,city,name\n{}", rows.collect::<String>())
        };
        let old = |n: usize| format!("old {n}");
        let emptied = |n: usize| if n < 20 { value.to_owned() } else { own(n) };
        crm.cycle("crm", &rows(&old, &own)).await;
        let read = crm.cycle("crm", &rows(&|n| format!("new {n}"), &emptied)).await;
        assert_eq!((read.balance.changed, read.balance.held), (20, 20));
        assert_eq!(crm.held().await, [verb]);
        for n in [0, 19, 20] {
            let key = format!("c{n:05}");
            assert_eq!(crm.world.reteno_holds(&key, "firstName"), Some(format!("new {n}")), "{verb}");
            assert_eq!(crm.town(&key), Some(own(n)), "{verb}");
        }
        // what is held is not counted again with the next edit of its contacts, neither in this list nor in another
        crm.cycle("crm", &rows(&|n| format!("newer {n}"), &emptied)).await;
        assert_eq!(crm.held().await, [verb]);
        assert_eq!(crm.world.reteno_holds("c00003", "firstName").as_deref(), Some("newer 3"));
        // one gets another town, and one its old one: neither is released with the value that was shown
        let some = |n: usize| match n {
            0 => "Lviv".to_owned(),
            1 => own(1),
            n => emptied(n),
        };
        crm.cycle("crm", &rows(&|n| format!("newer {n}"), &some)).await;
        let hold = crm.holds().await.remove(0);
        assert_eq!((hold.contacts, crm.town("c00000").as_deref()), (18, Some("Lviv")));
        assert_eq!(crm.world.status().await.acknowledged, 22, "nothing held counts as acknowledged");
        // approved while Reteno is not asked, and edited before it goes out: not weighed again
        let approved = crm.approve(hold.id).await;
        assert_eq!((approved.released, approved.lapsed), (18, 0));
        crm.cycle("crm", &rows(&|n| format!("newest {n}"), &some)).await;
        assert_eq!((crm.held().await.len(), crm.hold_alerts().await), (0, 0));
        assert_eq!(crm.town("c00001"), Some(own(1)));
        assert_eq!(crm.town("c00002").unwrap_or_default(), value);
        assert_eq!(crm.world.status().await.acknowledged, 40);
    }
}

/// A hold lapses when the CRM changes back; when the harm returns, it is weighed anew.
#[tokio::test(start_paused = true)]
async fn a_hold_lapses_when_the_crm_changes_back_and_the_same_harm_is_held_again() {
    let mut crm = loaded("").await;
    let wiped = table(40, |n| Some(if n < 20 { String::new() } else { own(n) }));
    crm.cycle("crm", &wiped).await;
    let first = crm.holds().await.remove(0);
    crm.cycle("crm", &table(40, |n| Some(own(n)))).await;
    assert_eq!((crm.held().await.len(), crm.hold_alerts().await), (0, 0));
    assert_eq!(crm.world.status().await.acknowledged, 40);
    crm.cycle("crm", &wiped).await;
    let second = crm.holds().await.remove(0);
    assert!(second.id > first.id, "a number is never given twice");
    assert_eq!(crm.town("c00000"), Some(own(0)));
    // changed to something else and wiped again, while another field waits too: not let through by the first weighing
    crm.cycle("crm", &table(40, |n| Some(if n < 20 { format!("x {n}") } else { own(n) }))).await;
    crm.cycle("crm", &wiped).await;
    assert_eq!((crm.held().await, crm.town("c00000").as_deref()), (vec!["clear 20".to_owned()], Some("x 0")));
}

/// New harm of a later cycle stands on another list; approving the first releases nothing of the second.
#[tokio::test(start_paused = true)]
async fn later_harm_is_another_list() {
    let mut crm = loaded("").await;
    let wiped = |many| table(40, move |n| Some(if n < many { String::new() } else { own(n) }));
    crm.cycle("crm", &wiped(12)).await;
    let seen = crm.holds().await[0].id;
    crm.world.store.call(move |checkpoint| checkpoint.note_seen(&[seen])).await.unwrap();
    crm.cycle("crm", &wiped(30)).await;
    assert_eq!(crm.held().await, ["clear 12", "clear 18"]);
    let holds = crm.holds().await;
    crm.approve(holds[0].id).await;
    crm.world.send_for(HOUR).await;
    let empty = (0..40).filter(|n| crm.town(&format!("c{n:05}")).is_none()).count();
    assert_eq!((empty, crm.held().await), (12, vec!["clear 18".to_owned()]));
}

/// Many new contacts at once after the first load are held, their lapse is that they are gone again; edits go out.
#[tokio::test(start_paused = true)]
async fn very_many_new_contacts_are_held_and_lapse_when_they_are_gone() {
    for ending in ["keep", "delete"] {
        let mut crm = loaded(&format!("on_delete = \"{ending}\"")).await;
        let grown = table(60, |n| Some(if n == 0 { "edited".to_owned() } else { own(n) }));
        let read = crm.cycle("crm", &grown).await;
        assert_eq!((read.balance.created, read.balance.held, read.balance.changed), (20, 20, 1));
        assert_eq!(crm.held().await, ["create 20"]);
        assert_eq!((crm.living().len(), crm.town("c00000").as_deref()), (40, Some("edited")));
        // edited meanwhile, they are not counted once more
        let edited = table(60, |n| Some(if n < 40 { own(n) } else { format!("moved {n}") }));
        crm.cycle("crm", &edited).await;
        assert_eq!(crm.held().await, ["create 20"]);
        for _ in 0..2 {
            crm.cycle("crm", &table(50, |n| Some(own(n)))).await;
        }
        assert_eq!(crm.held().await, ["create 10"], "{ending}");
        let hold = crm.holds().await.remove(0);
        crm.approve(hold.id).await;
        assert_eq!(crm.world.send_for(HOUR).await, Ended::Drained);
        assert_eq!(crm.living().len(), 50, "{ending}: whoever is gone was never made");
        assert_eq!(crm.world.sandbox.tally().contacts_created, 50);
        assert_eq!(crm.town("c00049"), Some(own(49)));
        // they come again, and are new
        crm.cycle("crm", &table(60, |n| Some(own(n)))).await;
        assert_eq!((crm.living().len(), crm.held().await.len()), (60, 0), "{ending}");
    }
}

/// During a full read nothing that it makes or changes goes out before its end, except in a first load.
#[tokio::test(start_paused = true)]
async fn creates_of_a_full_read_wait_for_its_end() {
    let mut world = World::begin().await;
    for (lane, sent) in [(Lane::FirstLoad, 1), (Lane::Reconcile, 0)] {
        let context = ReadContext { lane, ..world.context(world.clock.now().0, true) };
        let page = vec![Incoming::Contact(contact(&lane.number().to_string(), &[(Field::Town, "Kyiv")]))];
        let read = context.clone();
        let mut seen = SeenRows::default();
        world.store.call(move |checkpoint| checkpoint.record_page(&read, &mut seen, page, None)).await.unwrap();
        let before = world.sandbox.contacts().len();
        world.send_for(HOUR).await;
        assert_eq!(world.sandbox.contacts().len() - before, sent, "{}", lane.name());
        let guard = world.policy.guard.clone();
        world
            .store
            .call(move |checkpoint| checkpoint.weigh_changes(context.source, &guard, context.now))
            .await
            .unwrap();
        world.send_for(HOUR).await;
    }
    assert_eq!(world.sandbox.contacts().len(), 2);
}

/// Contacts that are new, and edited again and again before they go out, are counted once.
#[tokio::test(start_paused = true)]
async fn half_typed_contacts_are_counted_once_and_sent_once() {
    let mut world = World::begin().await;
    let keys: Vec<String> = (0..12).map(|n| format!("k{n:02}")).collect();
    let quiet_for = Duration::from_secs(10);
    world.policy = Policy { guard: guarded(Verb::Create, 15), quiet_for, ..world.policy };
    for edit in ["K", "Ky", "Kyi", "Kyiv", "Kyiv!"] {
        let fields = [(Field::Town, edit)];
        let records: Vec<(&str, &[(Field, &str)])> = keys.iter().map(|key| (key.as_str(), fields.as_slice())).collect();
        world.crm_says(&records).await;
        world.send_for(Duration::from_secs(3)).await;
        assert!(world.sandbox.contacts().is_empty(), "{edit}");
    }
    assert_eq!(world.send_for(HOUR).await, Ended::Drained, "a run waits for what rests");
    assert_eq!(world.store.call(|checkpoint| checkpoint.count_held()).await.unwrap(), 0);
    assert_eq!((world.writes("k00", "town"), world.sandbox.tally().imports_accepted), (vec!["Kyiv!".to_owned()], 1));
}

/// One new field in the mapping over 10,000 contacts, above and below the bound.
#[tokio::test(start_paused = true)]
async fn a_mapping_with_one_new_field_over_ten_thousand_contacts() {
    for (bound, is_held) in [(9_999, true), (10_000, false)] {
        let many = 10_000;
        let mut crm = Tables::one("").await;
        crm.common = format!(
            "[guard]\nmapping = {{ contacts = {bound} }}\noverwrite = {{ contacts = 1000000, percent = 100 }}\n"
        );
        let rows = (0..many).map(|n| format!("c{n:05},c{n}@example.com,town {n},street {n}\n"));
        let text = format!("id,mail,city,street\n{}", rows.collect::<String>());
        crm.cycle("crm", &text).await;
        let calls = crm.world.sandbox.tally().imports_accepted;
        crm.table("crm").mapping = format!("{PEOPLE}address = \"street\"\n");
        let read = crm.cycle("crm", &text).await;
        assert_eq!(read.by_mapping.iter().collect::<Vec<_>>(), [(&vec![Field::Address], &many)]);
        assert_eq!(read.balance.read, many);
        let sent = crm.world.sandbox.tally().imports_accepted - calls;
        if is_held {
            assert_eq!((read.balance.held, sent), (many, 0));
            assert_eq!(crm.held().await, ["mapping 10000"]);
            let hold = crm.holds().await.remove(0);
            crm.approve(hold.id).await;
            crm.world.send_for(HOUR).await;
        } else {
            assert_eq!((read.balance.held, sent), (0, 4), "3000 contacts a call");
        }
        assert_eq!(crm.world.status().await.acknowledged, many);
        assert_eq!(crm.world.writes("c00001", "town"), ["town 1"], "no other field is written");
        // the mapping is not new for ever
        crm.table("crm").section = String::new();
        let edited = text.replace(",town 1,", ",moved,");
        assert_eq!(crm.cycle("crm", &edited).await.balance.held, 0);
    }
}

/// An older checkpoint is put in place: all that does harm is held, the rest is sent, and nobody is made twice.
#[tokio::test(start_paused = true)]
async fn after_a_restore_all_harm_is_held_and_the_rest_is_sent() {
    let mut crm = loaded("on_delete = \"delete\"").await;
    crm.cycle("crm", &table(40, |n| Some(if n < 2 { String::new() } else { own(n) }))).await;
    let now = crm.world.clock.now();
    crm.world.store.call(move |checkpoint| checkpoint.forget_acknowledged(now, 6 * HOUR)).await.unwrap();
    crm.world.crash().await;
    let later = table(40, |n| match n {
        0 | 1 | 3 => Some(String::new()),
        5 => Some("moved".to_owned()),
        n => (n > 8).then(|| own(n)),
    });
    for _ in 0..3 {
        crm.cycle("crm", &later).await;
    }
    crm.world.send_for(DAY).await;
    let held = crm.held().await;
    assert!(held.iter().all(|hold| hold.starts_with("clear") || hold.starts_with("delete")), "{held:?}");
    assert!(held.contains(&"clear 3".to_owned()), "{held:?}");
    assert_eq!((crm.town("c00005").as_deref(), crm.town("c00003")), (Some("moved"), Some(own(3))));
    assert_eq!((crm.living().len(), crm.world.sandbox.tally().contacts_created), (40, 40));
}

/// What one source does is not counted against another.
#[tokio::test(start_paused = true)]
async fn each_source_has_bounds_of_its_own() {
    let mut world = World::begin().await;
    world.policy = Policy { guard: guarded(Verb::Clear, 12), ..world.policy };
    let other = world.store.call(|checkpoint| checkpoint.load_source("erp")).await.unwrap().id;
    for source in [world.source, other] {
        world.source = source;
        let keys: Vec<String> = (0..11).map(|n| format!("s{}-{n:02}", source.0)).collect();
        for town in ["Kyiv", ""] {
            let fields = [(Field::Town, town)];
            let records: Vec<(&str, &[(Field, &str)])> =
                keys.iter().map(|key| (key.as_str(), fields.as_slice())).collect();
            world.crm_says(&records).await;
            world.send_for(HOUR).await;
        }
    }
    assert_eq!(world.store.call(|checkpoint| checkpoint.count_held()).await.unwrap(), 0, "11 each, not 22 of one");
}
