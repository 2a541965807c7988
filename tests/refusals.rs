//! Who says no gets no mail whatever else their record brings; and who said no gets mail again only by a yes that was seen and
//! that the guard, or a person, let pass.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use reteno_sync::checkpoint::{Approval, Approved, Incoming, KeptOptOuts, Origin, Rereading, SeenRows, Weighed};
use reteno_sync::contact::{Consent, Contact, Field, Said, Unspoken};
use reteno_sync::daemon::sender::{SendSettings, Until};
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::{Guard, Verb};
use reteno_sync::plan::policy::{Ending, Policy};
use reteno_sync::reteno::body::DedupeOn;
use reteno_sync::sandbox::{CallKind, Effect, Fault, SandboxOptions};
use support::reads::body_of;
use support::tables::Tables;
use support::{HOUR, MINUTE, World, change_mapping, consenting, contact, guarded, last_cycle, person, settings, undo};
use tokio_util::sync::CancellationToken;

const NO: Option<Consent> = Some(Consent::No);
const YES: Option<Consent> = Some(Consent::Yes);
const ANN: &str = "ann@example.com";
const CONSENT: &str = "[source.crm.consent]\nemail = { path = \"news\", yes = [\"yes\"], no = [\"no\"] }";
const TWO: &str = "id,mail,city,news\n1,one@example.com,Kyiv,yes\n2,two@example.com,Kyiv,yes\n";

async fn world(policy: Policy) -> World {
    let mut world = World::begin().await;
    world.policy = policy;
    world
}

/// The sender works for this long, whatever is held.
async fn work(world: &mut World, time: Duration) {
    let stop = CancellationToken::new();
    let _ = tokio::time::timeout(time, world.sender.as_mut().unwrap().run(Until::Stopped, &stop)).await;
}

/// A record that is left out and says no.
fn refusing(key: &str, changed_at: Option<i64>, origin: Origin) -> Incoming {
    Incoming::Filtered { key: key.to_owned() }.saying(Said { consent: NO, changed_at }, origin)
}

/// Records that come together: what a system pushes, or a page of changes that is asked for now.
async fn bring(world: &World, items: Vec<Incoming>) {
    let context = world.context(world.clock.now().0, false);
    let recorded = world.store.call(move |checkpoint| {
        checkpoint.record_page(&context, &mut SeenRows::default(), items, None)?;
        checkpoint.weigh_changes(context.source, &context.policy.guard, context.now)
    });
    recorded.await.unwrap();
}

fn people(count: u32, consent: Option<Consent>) -> Vec<Contact> {
    (0..count).map(|n| person(&format!("c{n}"), &format!("c{n}@example.com"), consent)).collect()
}

async fn approve(world: &World, hold: i64) -> Approved {
    match world.store.call(move |checkpoint| checkpoint.approve_hold(hold)).await.unwrap() {
        Approval::Released(approved) => approved,
        other @ (Approval::Unknown | Approval::Unseen) => panic!("{other:?}"),
    }
}

async fn undo_also_unknown(world: &World, cycle: i64) -> (u64, u64) {
    let now = world.clock.now();
    world.store.call(move |checkpoint| checkpoint.undo_opt_outs_also_unknown(cycle, now)).await.unwrap()
}

// ---------------------------------------------------------------- a no, whatever else the record brings

/// The address in the record that says no is mistyped, so that the record cannot be used.
#[tokio::test(start_paused = true)]
async fn a_no_in_a_rejected_record_goes_out() {
    let mut crm = Tables::one(CONSENT).await;
    crm.cycle("crm", TWO).await;
    let report = crm.cycle("crm", &TWO.replace("one@example.com,Kyiv,yes", "one(at)example.com,Kyiv,no")).await;
    assert_eq!(report.balance.rejected, 1, "{}", report.balance);
    assert!(crm.world.is_unsubscribed("one@example.com"), "{:?}", crm.rejected().await);
    assert!(!crm.world.is_unsubscribed("two@example.com"));
    // mended and with a yes: that is a witnessed change
    crm.cycle("crm", TWO).await;
    assert!(!crm.world.is_unsubscribed("one@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_no_in_a_record_that_the_filter_leaves_out_goes_out() {
    let mut crm = Tables::one(&format!("filter = \"$[?@.news == 'yes']\"\n{CONSENT}")).await;
    crm.cycle("crm", TWO).await;
    // also with a new address: Reteno has only the old one
    let left = TWO
        .replace("one@example.com,Kyiv,yes", "uno@example.com,Kyiv,no")
        .replace("two@example.com,Kyiv,yes", "two@example.com,Kyiv,no");
    let report = crm.cycle("crm", &left).await;
    assert_eq!(report.balance.filtered, 2, "{}", report.balance);
    assert!(crm.world.is_unsubscribed("one@example.com") && crm.world.is_unsubscribed("two@example.com"));
}

/// A file has the id twice: a record that is used and says yes, and a rejected one that says no. Whichever comes first, the
/// address does not go on the list and off it with every read.
#[tokio::test(start_paused = true)]
async fn two_records_of_one_id_do_not_lower_and_raise_by_turns() {
    let (used, rejected) = ("1,one@example.com,Kyiv,yes\n", "1,one(at)example.com,Kyiv,no\n");
    for (rows, is_lowered) in [([used, rejected], false), ([rejected, used], true)] {
        let mut crm = Tables::one(CONSENT).await;
        crm.cycle("crm", TWO).await;
        for _ in 0..3 {
            crm.cycle("crm", &format!("id,mail,city,news\n{}2,two@example.com,Kyiv,yes\n", rows.concat())).await;
        }
        let told = crm.world.sandbox.unsubscribe_log().len();
        assert_eq!((crm.world.is_unsubscribed("one@example.com"), told), (is_lowered, usize::from(is_lowered)));
    }
}

/// A rejected record with a lower change time than the one that is believed. One that a system pushes says nothing: it may come
/// late, or again. One that was asked for later counts when a later read shows it once more: the clocks were set back, or the
/// CRM was restored.
#[tokio::test(start_paused = true)]
async fn a_no_in_an_older_rejected_record_counts_when_a_later_read_shows_it_again() {
    for (origin, lowered) in [(Origin::Pushed, [false, false]), (Origin::Read, [false, true])] {
        let mut world = world(consenting()).await;
        let source = world.source;
        world.store.call(move |checkpoint| checkpoint.note_rereading(source, Rereading::ById)).await.unwrap();
        world.crm_tells(vec![Contact { changed_at: Some(2000), ..person("ann", ANN, YES) }]).await;
        world.send_for(HOUR).await;
        for is_lowered in lowered {
            tokio::time::advance(MINUTE).await;
            bring(&world, vec![refusing("ann", Some(1000), origin)]).await;
            let wanted = world.store.call(move |checkpoint| checkpoint.load_wanted(source, "", 9)).await.unwrap();
            assert_eq!(wanted.is_empty(), origin == Origin::Pushed, "it is fetched at once");
            world.send_for(HOUR).await;
            assert_eq!(world.is_unsubscribed(ANN), is_lowered, "{origin:?}");
        }
        bring(&world, vec![refusing("ann", Some(3000), origin)]).await;
        world.send_for(HOUR).await;
        assert!(world.is_unsubscribed(ANN));
        // and a page with a yes that was asked for before it does not take it back
        world.told(vec![person("ann", ANN, YES)], |context| context.asked_at -= 3_600_000 * 3).await;
        world.send_for(HOUR).await;
        assert!(world.is_unsubscribed(ANN));
    }
}

/// A system that only pushes says yes in a record that is used, and no in a later one that is filtered out or rejected. Both
/// come in one batch: the later word counts, also where it is the yes. A read that brings both is no different.
#[tokio::test(start_paused = true)]
async fn of_two_words_in_one_batch_the_later_one_counts() {
    let used = |changed_at, origin| {
        let contact = Contact { changed_at, ..person("ann", ANN, YES) };
        match origin {
            Origin::Pushed => Incoming::Pushed { contact, unspoken: Unspoken::default() },
            Origin::Read | Origin::Line => Incoming::Contact(contact),
        }
    };
    for (origin, dated) in
        [(Origin::Pushed, true), (Origin::Pushed, false), (Origin::Read, true), (Origin::Read, false)]
    {
        let at = |time: i64| dated.then_some(time);
        let mut world = world(consenting()).await;
        bring(&world, vec![used(at(1000), origin)]).await;
        world.send_for(HOUR).await;
        tokio::time::advance(MINUTE).await;
        bring(&world, vec![used(at(2000), origin), refusing("ann", at(3000), origin)]).await;
        world.send_for(HOUR).await;
        assert!(world.is_unsubscribed(ANN), "{origin:?}, {dated}");
        tokio::time::advance(MINUTE).await;
        bring(&world, vec![refusing("ann", at(4000), origin), used(at(5000), origin)]).await;
        world.send_for(HOUR).await;
        assert!(!world.is_unsubscribed(ANN), "{origin:?}, {dated}");
        // by its change time the no is the later one, in whatever order they come
        tokio::time::advance(MINUTE).await;
        bring(&world, vec![refusing("ann", Some(7000), origin), used(Some(6000), origin)]).await;
        world.send_for(HOUR).await;
        assert!(world.is_unsubscribed(ANN), "{origin:?}, {dated}");
    }
}

/// The record that says no brings the address of somebody who was erased: it is not used, and the known address gets no mail.
#[tokio::test(start_paused = true)]
async fn a_no_with_an_erased_address_is_of_the_known_one() {
    let mut world = world(Policy { ending: Ending::Erase, ..consenting() }).await;
    let all = || vec![person("ann", ANN, YES), person("bob", "bob@example.com", YES)];
    world.crm_is(all()).await;
    world.send_for(HOUR).await;
    for _ in 0..2 {
        tokio::time::advance(MINUTE).await;
        world.crm_is(all().split_off(1)).await;
        world.send_for(HOUR).await;
    }
    assert!(world.sandbox.contact_by_external_id("ann").is_none());
    for (consent, is_lowered) in [(YES, false), (NO, true)] {
        tokio::time::advance(MINUTE).await;
        world.crm_tells(vec![person("bob", ANN, consent)]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.is_unsubscribed("bob@example.com"), is_lowered);
    }
    assert!(!world.is_unsubscribed(ANN), "nothing is said to Reteno of who was erased");
}

/// Ann is gone from the CRM, and left her segment in Reteno, where she still gets mail. Her record comes back, is filtered
/// out, and says no. Nothing is left of whoever was deleted.
#[tokio::test(start_paused = true)]
async fn a_no_of_a_detached_contact_goes_out() {
    for (ending, is_lowered) in [(Ending::Detach, true), (Ending::Delete, false)] {
        let mut world = world(Policy { ending, groups: vec![9401], ..consenting() }).await;
        let all = || vec![person("ann", ANN, YES), person("bob", "bob@example.com", YES)];
        world.crm_is(all()).await;
        world.send_for(HOUR).await;
        for _ in 0..2 {
            tokio::time::advance(MINUTE).await;
            world.crm_is(all().split_off(1)).await;
            world.send_for(HOUR).await;
        }
        tokio::time::advance(MINUTE).await;
        bring(&world, vec![refusing("ann", None, Origin::Read)]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.is_unsubscribed(ANN), is_lowered, "{ending:?}");
    }
}

/// Twelve people say no in the edit in which they get another address, or lose it: both addresses get no more mail, at once.
#[tokio::test(start_paused = true)]
async fn a_no_with_a_new_address_is_of_the_old_one_too() {
    for address in ["m{n}@example.com", ""] {
        let mut world = world(guarded()).await;
        world.told(people(12, YES), |context| context.lane = Lane::FirstLoad).await;
        world.send_for(HOUR).await;
        let moved = (0..12).map(|n| {
            let mut person = person(&format!("c{n}"), &address.replace("{n}", &n.to_string()), NO);
            person.fields.extend(
                contact("x", &[(Field::Sms, &format!("+3806712345{n:02}"))])
                    .fields
                    .into_iter()
                    .filter(|(field, _)| *field == Field::Sms),
            );
            person
        });
        let weighed = world.crm_tells(moved.collect()).await;
        assert!(weighed.holds.iter().all(|hold| hold.verb != "unsubscribe"), "witnessed: {weighed:?}");
        work(&mut world, 12 * HOUR).await;
        for n in 0..12 {
            assert!(world.is_unsubscribed(&format!("c{n}@example.com")), "{n}, {address}");
            assert!(address.is_empty() || world.is_unsubscribed(&format!("m{n}@example.com")), "{n}");
        }
    }
}

/// The old address is carried by an import that has not ended: when it has, the address is told once more.
#[tokio::test(start_paused = true)]
async fn an_old_address_is_told_again_after_the_import_that_carries_it() {
    let options = SandboxOptions {
        access_token_lifetime: 1000 * HOUR,
        readings: reteno_sync::sandbox::Readings { create_resubscribes: true, ..Default::default() },
        ..SandboxOptions::default()
    };
    let mut world = World::with(options, settings()).await;
    world.policy = consenting();
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(5 * MINUTE)));
    world.crm_tells(vec![person("ann", ANN, YES)]).await;
    work(&mut world, MINUTE).await;
    world.crm_tells(vec![person("ann", "new@example.com", NO)]).await;
    work(&mut world, MINUTE).await;
    assert!(world.is_unsubscribed(ANN), "at once");
    world.send_until_quiet().await;
    assert!(world.is_unsubscribed(ANN) && world.is_unsubscribed("new@example.com"));
}

/// Without external ids the address is the key: while the guard holds a change of very many keys, the new address does not go
/// out with another edit, which would make a second contact.
#[tokio::test(start_paused = true)]
async fn a_held_address_is_no_key_of_another_edit() {
    let by_email = SendSettings { dedupe_on: DedupeOn::Email, ..settings() };
    let options = SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
    let mut world = World::with(options, by_email).await;
    world.policy = guarded();
    let one = |n: u32, email: &str, town: &str, consent| {
        let mut contact =
            Contact { consent, ..contact(&format!("c{n}"), &[(Field::Email, email), (Field::Town, town)]) };
        contact.fields.retain(|(field, _)| *field != Field::ExternalCustomerId);
        contact
    };
    let first = (0..12).map(|n| one(n, &format!("c{n}@example.com"), "Kyiv", YES)).collect();
    world.told(first, |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    let moved = (0..12).map(|n| one(n, &format!("m{n}@example.com"), "Lviv", NO)).collect();
    let weighed = world.crm_tells(moved).await;
    assert_eq!((weighed.held.len(), weighed.holds[0].verb.as_str()), (12, "rename"));
    work(&mut world, 12 * HOUR).await;
    let posted = world.calls_since(0).into_iter().filter(|call| call.kind == CallKind::SubmitContacts);
    assert!(posted.into_iter().all(|call| !body_of(&call).contains("m3@")), "the new address is in no post");
    assert!((0..12).all(|n| world.is_unsubscribed(&format!("c{n}@example.com"))));
    assert!((0..12).all(|n| world.is_unsubscribed(&format!("m{n}@example.com"))));
    approve(&world, weighed.holds[0].id).await;
    work(&mut world, HOUR).await;
    assert!(world.sandbox.contacts().iter().any(|contact| contact.email.as_deref() == Some("m3@example.com")));
}

// ---------------------------------------------------------------- raising is guarded

/// Three hundred have said no; an export says yes of everybody.
async fn all_say_yes_after_no() -> (World, Weighed) {
    let mut world = world(guarded()).await;
    world.policy.guard = Guard { is_on: false, ..Guard::default() };
    world.told(people(300, NO), |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 300);
    world.policy.guard = Guard::default();
    let weighed = world.crm_is(people(300, YES)).await;
    (world, weighed)
}

#[tokio::test(start_paused = true)]
async fn very_many_raises_are_held_until_a_person_approves_and_their_hour_begins_then() {
    let (mut world, weighed) = all_say_yes_after_no().await;
    assert_eq!((weighed.holds[0].verb.as_str(), weighed.holds[0].contacts), ("resubscribe", 300), "{weighed:?}");
    work(&mut world, 5 * HOUR).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 300, "and held ones do not expire");
    assert!(world.rejections().await.is_empty());
    // one says no again, one says nothing, one moves: theirs is over
    let other = person("c3", "m3@example.com", YES);
    world.crm_tells(vec![person("c1", "c1@example.com", NO), person("c2", "c2@example.com", None), other]).await;
    let approved = approve(&world, weighed.holds[0].id).await;
    assert_eq!((approved.released, approved.lapsed), (297, 2));
    work(&mut world, HOUR).await;
    let left: Vec<_> = world.sandbox.unsubscribed().into_iter().collect();
    assert_eq!(left, ["c1@example.com", "c2@example.com", "c3@example.com"]);
}

#[tokio::test(start_paused = true)]
async fn an_approved_raise_that_is_not_told_within_an_hour_is_dropped() {
    let (mut world, weighed) = all_say_yes_after_no().await;
    tokio::time::advance(3 * HOUR).await;
    approve(&world, weighed.holds[0].id).await;
    let now = world.clock.now();
    world.store.call(move |checkpoint| checkpoint.start_raises(now)).await.unwrap();
    tokio::time::advance(HOUR + MINUTE).await;
    work(&mut world, MINUTE).await;
    assert_eq!(world.sandbox.unsubscribed().len(), 300);
    assert_eq!(world.rejections().await.len(), 300);
}

/// Raises one by one are counted over a day, and a few always pass.
#[tokio::test(start_paused = true)]
async fn raises_are_counted_over_a_day() {
    let mut world = world(guarded()).await;
    world.policy.guard.bounds[Verb::ALL.iter().position(|verb| *verb == Verb::Resubscribe).unwrap()].contacts = 12;
    world.policy.guard.bounds[Verb::ALL.iter().position(|verb| *verb == Verb::Resubscribe).unwrap()].percent = 100;
    world.policy.guard.is_on = false;
    world.told(people(40, NO), |context| context.lane = Lane::FirstLoad).await;
    world.send_for(HOUR).await;
    world.policy.guard.is_on = true;
    for n in 0..20 {
        world.crm_tells(vec![person(&format!("c{n}"), &format!("c{n}@example.com"), YES)]).await;
        work(&mut world, MINUTE).await;
    }
    assert_eq!(world.sandbox.unsubscribed().len(), 28);
    assert_eq!(world.status().await.holds.len(), 1);
}

/// In a declared first load many say no: that protects them, and is held only where most do, as by a mapping that is the wrong
/// way round.
#[tokio::test(start_paused = true)]
async fn the_opt_outs_of_a_first_load_go_out_unless_most_say_no() {
    for (refusing, is_held) in [(20, false), (21, true)] {
        let mut world = world(guarded()).await;
        let all = (0..50).map(|n| {
            let said = if n < refusing {
                NO
            } else if n < 40 {
                YES
            } else {
                None
            };
            person(&format!("c{n}"), &format!("c{n}@example.com"), said)
        });
        let weighed = world.told(all.collect(), |context| context.lane = Lane::FirstLoad).await;
        assert_eq!(!weighed.holds.is_empty(), is_held, "{weighed:?}");
        work(&mut world, HOUR).await;
        assert_eq!(world.sandbox.unsubscribed().len(), if is_held { 0 } else { 20 });
    }
}

// ---------------------------------------------------------------- taking opt-outs back

/// Ann opted out long ago; a mapping the wrong way round lowers her address again. Taking that read back raises only those
/// whose record had said yes before it.
#[tokio::test(start_paused = true)]
async fn an_undo_raises_nobody_whose_record_had_said_no_or_nothing() {
    let mut world = world(consenting()).await;
    let all = |ann, bob, eve| {
        vec![person("ann", ANN, ann), person("bob", "bob@example.com", bob), person("eve", "eve@example.com", eve)]
    };
    world.crm_is(all(YES, YES, None)).await;
    world.send_for(HOUR).await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    tokio::time::advance(40 * 24 * HOUR).await;
    // any later opt-out forgets which of the old ones could be taken back
    world.crm_tells(vec![person("max", "max@example.com", YES)]).await;
    world.crm_tells(vec![person("max", "max@example.com", NO)]).await;
    world.send_for(HOUR).await;
    tokio::time::advance(MINUTE).await;
    change_mapping(&world, 2).await;
    world.crm_is(all(NO, NO, NO)).await;
    world.send_for(HOUR).await;
    let cycle = last_cycle(&world).await;
    tokio::time::advance(MINUTE).await;
    change_mapping(&world, 3).await;
    world.crm_is(all(None, YES, None)).await;
    world.send_for(HOUR).await;
    assert_eq!(undo(&world, cycle).await, (1, 2));
    world.send_for(HOUR).await;
    let left = |world: &World| ["ann", "bob", "eve"].map(|name| world.is_unsubscribed(&format!("{name}@example.com")));
    assert_eq!(left(&world), [true, false, true]);
    let kept = world.store.call(move |checkpoint| checkpoint.load_kept_opt_outs(cycle)).await.unwrap().unwrap();
    let wanted = KeptOptOuts { all: 2, said_no_before: 1, unknown_before: 1, ..KeptOptOuts::default() };
    assert_eq!(kept, wanted);
    // a person may decide about the unknown one, never about who said no
    assert_eq!(undo_also_unknown(&world, cycle).await, (1, 1));
    world.send_for(HOUR).await;
    assert_eq!(left(&world), [true, false, false]);
}

/// Two reads have opted the address out: taking one back is not enough.
#[tokio::test(start_paused = true)]
async fn an_undo_does_not_take_back_what_another_read_asked_for() {
    let mut world = world(Policy { ending: Ending::Unsubscribe, ..consenting() }).await;
    let bob = || person("bob", "bob@example.com", YES);
    world.crm_is(vec![person("ann", ANN, YES), bob()]).await;
    world.send_for(HOUR).await;
    let mut cycles = Vec::new();
    // by a wrong mapping
    tokio::time::advance(MINUTE).await;
    change_mapping(&world, 2).await;
    world.crm_is(vec![person("ann", ANN, NO), bob()]).await;
    world.send_for(HOUR).await;
    cycles.push(last_cycle(&world).await);
    change_mapping(&world, 3).await;
    tokio::time::advance(MINUTE).await;
    world.crm_is(vec![person("ann", ANN, YES), bob()]).await;
    // and by her own word
    tokio::time::advance(MINUTE).await;
    world.crm_tells(vec![person("ann", ANN, NO)]).await;
    world.send_for(HOUR).await;
    tokio::time::advance(MINUTE).await;
    world.crm_tells(vec![person("ann", ANN, None)]).await;
    cycles.push(last_cycle(&world).await);
    for cycle in cycles {
        assert_eq!(undo(&world, cycle).await, (0, 1));
    }
    world.send_for(HOUR).await;
    assert!(world.is_unsubscribed(ANN));
}
