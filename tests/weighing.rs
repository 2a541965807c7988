//! What the guard counts: of which contacts a share is one, what always passes, what a crash or another policy leaves behind,
//! and keys that change.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use reteno_sync::checkpoint::{Incoming, Rereading, SeenRows, Way};
use reteno_sync::contact::{Contact, Field, Unspoken};
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::{Bound, Guard, Verb};
use reteno_sync::plan::policy::{Ending, Policy};
use reteno_sync::sandbox::{CallKind, Effect, Fault, SandboxOptions};
use support::tables::{PEOPLE, Table, Tables};
use support::{HOUR, MINUTE, World, contact, lenient, settings};

fn ending(ending: Ending) -> Policy {
    Policy { guard: Guard::default(), ending, ..lenient() }
}

async fn loaded(policy: Policy, count: usize) -> World {
    let mut world = World::begin().await;
    world.policy = policy;
    world.reads(true, Lane::FirstLoad, range(0, count), &[]).await;
    world.send_for(HOUR).await;
    world
}

fn range(from: usize, to: usize) -> impl Iterator<Item = Contact> {
    (from..to).map(|n| contact(&format!("k{n:04}"), &[]))
}

async fn whole(world: &World, from: usize, to: usize) {
    world.reads(true, Lane::Reconcile, range(from, to), &[]).await;
}

fn living(world: &World) -> usize {
    world.sandbox.contacts().iter().filter(|contact| !contact.deleted).count()
}

async fn holds(world: &World) -> Vec<String> {
    let holds = world.store.call(|checkpoint| checkpoint.load_holds()).await.unwrap();
    holds.into_iter().map(|hold| format!("{} {}", hold.verb, hold.contacts)).collect()
}

/// A source has lost nearly all of its contacts over the years, and then loses most of the rest: forty are few of a thousand,
/// and most of fifty.
#[tokio::test(start_paused = true)]
async fn a_share_is_of_the_contacts_that_are_there_now() {
    let mut policy = ending(Ending::Delete);
    policy.guard.bounds[0] = Bound { contacts: 500, percent: 5 };
    let mut world = loaded(policy, 1000).await;
    for _ in 0..2 {
        whole(&world, 950, 1000).await;
    }
    world.store.call(|checkpoint| checkpoint.approve_hold(1)).await.unwrap();
    world.send_for(12 * HOUR).await;
    assert_eq!(living(&world), 50);
    tokio::time::advance(400 * HOUR).await;
    for _ in 0..2 {
        whole(&world, 990, 1000).await;
    }
    world.send_for(HOUR).await;
    assert_eq!((living(&world), holds(&world).await), (50, vec!["delete 40".to_owned()]));
}

/// What is let pass counts for a day: harm hour by hour does not get through in the end.
#[tokio::test(start_paused = true)]
async fn what_passed_twenty_hours_ago_still_counts() {
    let mut policy = ending(Ending::Delete);
    policy.guard.bounds[0] = Bound { contacts: 30, percent: 100 };
    let mut world = loaded(policy, 200).await;
    for (after, gone, left, held) in [(0, 20, 180, 0), (20, 32, 180, 1), (30, 40, 172, 1)] {
        tokio::time::advance(after * HOUR).await;
        for _ in 0..2 {
            whole(&world, gone, 200).await;
        }
        world.send_for(HOUR).await;
        assert_eq!((living(&world), holds(&world).await.len()), (left, held), "after {after} hours");
    }
}

/// Ten always pass, but not where they are more than half of all that there is: then only one does.
#[tokio::test(start_paused = true)]
async fn a_few_are_held_where_they_are_most_of_a_small_source() {
    for (count, gone, passes) in
        [(20, 10, true), (19, 10, false), (6, 5, false), (4, 2, true), (3, 2, false), (2, 1, true)]
    {
        let mut world = loaded(ending(Ending::Delete), count).await;
        for _ in 0..2 {
            whole(&world, gone, count).await;
        }
        world.send_for(HOUR).await;
        let left = if passes { count - gone } else { count };
        assert_eq!((living(&world), holds(&world).await.is_empty()), (left, passes), "{gone} of {count}");
    }
}

/// Ten do not pass either where the same read renamed keys: who is missing may stand there under another id.
#[tokio::test(start_paused = true)]
async fn a_few_are_held_where_the_same_read_renamed_keys() {
    for (renamed, passes) in [(0, true), (1, false)] {
        let mut world = loaded(ending(Ending::Delete), 30).await;
        let all = || {
            (5..30).map(|n| {
                let id = if n < 5 + renamed { format!("new-{n}") } else { format!("k{n:04}") };
                contact(&format!("k{n:04}"), &[(Field::ExternalCustomerId, id.as_str())])
            })
        };
        whole(&world, 5, 30).await;
        world.reads(true, Lane::Reconcile, all(), &[]).await;
        world.send_for(HOUR).await;
        assert_eq!(
            (living(&world), holds(&world).await.is_empty()),
            (if passes { 25 } else { 31 }, passes),
            "{renamed}"
        );
    }
}

/// Nor where the same read rejected records.
#[tokio::test(start_paused = true)]
async fn a_few_are_held_where_the_same_read_rejected_records() {
    for rejected in [false, true] {
        let mut world = loaded(ending(Ending::Delete), 30).await;
        let mut context = world.context(world.clock.now().0, false);
        context.way = Way::Cycle(None);
        let deleted =
            (0..5).map(|n| Incoming::Deleted { key: format!("k{n:04}"), changed_at: None, is_confirmed: true });
        let reasons = vec![(None, "the id is damaged".to_owned())];
        let broken = rejected.then(|| Incoming::Rejected { key: None, place: "line 7".to_owned(), reasons });
        let items: Vec<_> = deleted.chain(broken).collect();
        let source = world.source;
        tokio::time::advance(MINUTE).await;
        let began = world.clock.now();
        (context.asked_at, context.began, context.now) = (began.0, began.0, began.0);
        let held = world
            .store
            .call(move |checkpoint| {
                checkpoint.begin_read(source, false, began)?;
                checkpoint.record_page(&context, &mut SeenRows::default(), items, None)?;
                checkpoint.weigh_changes(source, &context.policy.guard, began.0)
            })
            .await
            .unwrap();
        world.send_for(HOUR).await;
        assert_eq!((living(&world), held.holds.len()), if rejected { (30, 1) } else { (25, 0) });
    }
}

/// A system that only pushes: the process dies between the commit of a deletion and its weighing.
#[tokio::test(start_paused = true)]
async fn a_crash_before_the_weighing_leaves_nothing_unweighed() {
    let mut world = World::begin().await;
    world.policy = ending(Ending::Delete);
    let source = world.source;
    let pushed = async |world: &World, item: Incoming, dies: bool| {
        let mut context = world.context(world.clock.now().0, false);
        context.way = Way::Announced { is_first_load: false };
        let done = world.store.call(move |checkpoint| {
            checkpoint.note_rereading(source, Rereading::Never)?;
            checkpoint.record_page(&context, &mut SeenRows::default(), vec![item], None)?;
            if !dies {
                let keys = ["ann".to_owned()];
                checkpoint.weigh_records((source, context.began), &keys, &context.policy.guard, context.now)?;
            }
            Ok(())
        });
        done.await.unwrap();
    };
    let removed = || Incoming::Deleted { key: "ann".to_owned(), changed_at: None, is_confirmed: true };
    pushed(&world, Incoming::Pushed { contact: contact("ann", &[]), unspoken: Unspoken::default() }, false).await;
    world.send_for(HOUR).await;
    tokio::time::advance(MINUTE).await;
    pushed(&world, removed(), true).await;
    world.crash().await;
    // the event stands in the inbox, and is acted on again
    tokio::time::advance(MINUTE).await;
    pushed(&world, removed(), false).await;
    world.hours(2).await;
    assert!(world.sandbox.contact_by_external_id("ann").unwrap().deleted, "{:?}", world.status().await.deeds);
}

/// The operator has another word for those who are gone while a list of them is held: it holds for them, too.
#[tokio::test(start_paused = true)]
async fn another_policy_applies_to_those_whose_end_was_held() {
    for (now, verb) in [(Ending::Erase, Some("erase 12")), (Ending::Keep, None)] {
        let mut world = loaded(ending(Ending::Delete), 24).await;
        for _ in 0..2 {
            whole(&world, 12, 24).await;
        }
        assert_eq!(holds(&world).await, ["delete 12"]);
        world.settings.endings = vec![("crm".to_owned(), now)];
        world.policy.ending = now;
        world.crash().await;
        assert!(holds(&world).await.is_empty());
        for _ in 0..2 {
            whole(&world, 12, 24).await;
            world.send_for(HOUR).await;
        }
        assert_eq!(holds(&world).await, verb.into_iter().collect::<Vec<_>>());
        assert_eq!(living(&world), 24);
    }
}

/// Who comes back meanwhile is not ended by the new word.
#[tokio::test(start_paused = true)]
async fn another_policy_does_not_apply_to_those_who_are_back() {
    let mut world = loaded(ending(Ending::Delete), 24).await;
    for _ in 0..2 {
        whole(&world, 12, 24).await;
    }
    world.settings.endings = vec![("crm".to_owned(), Ending::Erase)];
    world.policy.ending = Ending::Erase;
    world.crash().await;
    whole(&world, 0, 24).await;
    // once more missing: one read proves nothing
    whole(&world, 12, 24).await;
    world.send_for(HOUR).await;
    assert!(holds(&world).await.is_empty());
    assert_eq!(living(&world), 24);
}

/// A prefix is added to the external ids of a source; where Reteno does not follow, each contact would be there twice.
#[tokio::test(start_paused = true)]
async fn a_change_of_very_many_keys_is_held_and_goes_out_when_a_person_says_so() {
    let mut crm = Tables::one("").await;
    let rows: Vec<String> = (0..40).map(|n| format!("{n},c{n}@example.com,town {n}\n")).collect();
    let all = format!("id,mail,city\n{}", rows.concat());
    crm.cycle("crm", &all).await;
    assert_eq!(crm.living().len(), 40);
    crm.table("crm").mapping = PEOPLE.replace("\"id\"", "{ path = \"id\", prefix = \"crm-\" }");
    let report = crm.cycle("crm", &all).await;
    let held: Vec<_> = report.verdicts.iter().filter(|verdict| verdict.holds).map(|verdict| verdict.verb).collect();
    assert_eq!(held, [Verb::Rename]);
    // another edit does not carry the new id out
    crm.cycle("crm", &all.replace("town 7", "Lviv")).await;
    crm.world.hours(12).await;
    assert_eq!(crm.held().await, ["rename 40"]);
    assert_eq!(living(&crm.world), 40);
    assert!(crm.living().iter().all(|id| !id.starts_with("crm-")), "{:?}", crm.living());
    let hold = crm.holds().await[0].id;
    assert_eq!(crm.approve(hold).await.released, 40);
    crm.world.send_for(HOUR).await;
    assert!(crm.living().contains(&"crm-7".to_owned()));
}

/// A gone contact leaves its segment while an older copy of an import is under way, and that copy lands last.
#[tokio::test(start_paused = true)]
async fn a_copy_that_lands_after_the_detach_does_not_put_the_contact_back() {
    let vip = Field::segment("VIP");
    let mut settings = settings();
    settings.segment_names.insert(vip, "VIP".to_owned());
    let options = SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
    let mut world = World::with(options, settings).await;
    world.mapped.push(vip);
    world.policy.ending = Ending::Detach;
    world.policy.groups = vec![9401];
    world.reads_all(&[("ann", &[]), ("other", &[])]).await;
    world.send_for(HOUR).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(5 * HOUR)));
    world.reads_changes(&[("ann", &[(vip, "in")])], &[]).await;
    world.send_for(MINUTE).await;
    let in_vip = |world: &World| world.sandbox.contact_by_external_id("ann").unwrap().segments.contains("VIP");
    assert!(in_vip(&world));
    world.loses(&[("other", &[])]).await;
    world.send_for(MINUTE).await;
    assert!(!in_vip(&world), "detached");
    world.hours(30).await;
    assert!(world.status().await.imports.is_empty(), "every copy is over");
    assert!(!in_vip(&world));
}

/// One contact of two sources is gone from both and erased, while an edit of the other row waits.
#[tokio::test(start_paused = true)]
async fn an_edit_of_the_other_source_brings_no_erased_person_back() {
    let section = "shares_ids = true\non_delete = \"erase\"\n".to_owned();
    let table = |name, mapping: &str| Table { name, section: section.clone(), mapping: mapping.to_owned() };
    let all = vec![
        table("crm", "externalCustomerId = \"id\"\nemail = \"mail\"\nfirstName = \"name\"\n"),
        table("erp", "externalCustomerId = \"id\"\nsms = \"phone\"\ntown = \"city\"\n"),
    ];
    let mut crm = Tables::of(World::begin().await, all);
    let mails = "id,mail,name\n1,one@example.com,Olena\n2,two@example.com,Ivan\n3,three@example.com,Max\n";
    let phones = "id,phone,city\n1,+380671234567,Kyiv\n2,+380671234568,Lviv\n3,+380671234569,Lviv\n";
    for _ in 0..3 {
        crm.cycle("crm", mails).await;
        crm.cycle("erp", phones).await;
    }
    assert_eq!(crm.living(), ["1", "2", "3"]);
    crm.read("crm", &mails.replace("Ivan", "Petro")).await;
    for _ in 0..2 {
        crm.read("crm", &mails.replace("2,two@example.com,Ivan\n", "")).await;
        crm.read("erp", &phones.replace("2,+380671234568,Lviv\n", "")).await;
    }
    crm.world.hours(30).await;
    assert_eq!(crm.world.sandbox.tally().contacts_erased, 1);
    assert_eq!(crm.living(), ["1", "3"]);
    let known = crm.world.status().await.contacts;
    assert_eq!(known, 4, "nothing is kept of the other row either");
}
