//! A page that is recorded between two steps of the sender gives a contact the address that another call holds: no two
//! unfinished calls share it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use reteno_sync::checkpoint::ReadContext;
use reteno_sync::contact::Field;
use reteno_sync::daemon::sender::Until;
use reteno_sync::sandbox::{CallKind, Effect, Fault, SandboxOptions};
use support::{HOUR, MINUTE, World, contact, settings};
use tokio_util::sync::CancellationToken;

const SUBS: Field = Field::Subscriptions;

async fn work(world: &mut World, time: Duration) {
    let stop = CancellationToken::new();
    let ends = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        ends.cancel();
    });
    world.sender.as_mut().unwrap().run(Until::Stopped, &stop).await.unwrap();
}

/// Says which overlaps there are where the page comes after so many turns at the database.
async fn overlaps_after(ticks: usize) -> Vec<String> {
    let options = SandboxOptions { access_token_lifetime: 10_000 * HOUR, ..SandboxOptions::default() };
    let mut world = World::with(options, settings()).await;
    world.mapped.push(SUBS);
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::OmitMapping));
    world.crm_tells(vec![contact("x", &[(Field::Email, "x@example.com"), (Field::Town, "a")])]).await;
    world.send_for(MINUTE).await;
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(HOUR)));
    world.crm_tells(vec![contact("y", &[(Field::Email, "y@example.com"), (Field::Town, "b")])]).await;
    work(&mut world, Duration::from_secs(5)).await;
    assert_eq!(world.sandbox.unfinished_imports(), 1);
    world.crm_tells(vec![contact("y", &[(Field::Email, "y2@example.com"), (Field::Town, "b")])]).await;
    // her categories are due, and Reteno's id of her is not known
    let x = |email| contact("x", &[(Field::Email, email), (Field::Town, "a"), (SUBS, "news")]);
    world.crm_tells(vec![x("x@example.com")]).await;
    work(&mut world, Duration::from_millis(20)).await;
    let deeds = world.status().await.deeds;
    assert!(deeds.iter().any(|deed| deed.kind == "learn"), "{deeds:?}");
    let mut sender = world.sender.take().unwrap();
    let stop = CancellationToken::new();
    let ends = stop.clone();
    let writer = async {
        for _ in 0..ticks {
            world.store.call(|_| Ok(())).await.unwrap();
        }
        world.crm_tells(vec![x("y@example.com")]).await;
        tokio::time::sleep(10 * MINUTE).await;
        ends.cancel();
    };
    let (ended, ()) = tokio::join!(sender.run(Until::Stopped, &stop), writer);
    ended.unwrap();
    world.sender = Some(sender);
    world.sandbox.overlaps().into_iter().filter(|o| !o.identical).map(|o| o.shared).collect()
}

#[tokio::test(start_paused = true)]
async fn a_page_between_two_steps_frees_no_lock_of_another_call() {
    let mut found = Vec::new();
    for ticks in 0..25 {
        let overlaps = overlaps_after(ticks).await;
        if !overlaps.is_empty() {
            found.push((ticks, overlaps));
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

const TOWN: Field = Field::Town;
const HOME: &str = "home@example.com";

/// One page of a source that tells towns only, of contacts that it shares with the CRM.
async fn shop_tells(world: &World, town: &str) {
    let shop = world.other_source("shop").await;
    let change = |context: &mut ReadContext| {
        (context.source, context.source_name) = (shop, "shop".to_owned());
        context.mapped = vec![Field::ExternalCustomerId, TOWN];
    };
    let mut ann = contact("ann", &[(TOWN, town)]);
    ann.fields.retain(|(field, _)| *field != Field::Email);
    world.told(vec![ann], change).await;
}

/// The shop's call about Ann names her by the address that the CRM tells; Bob has the same one, which shows only when the
/// call is begun. Who is planned with them never waits for that, whether Bob is in the same call or in one under way.
#[tokio::test(start_paused = true)]
async fn a_contact_that_collides_holds_up_no_neighbour() {
    let mut world = World::begin().await;
    (world.policy.shares_ids, world.policy.unique) = (true, Vec::new());
    let bob = |town| contact("bob", &[(Field::Email, HOME), (TOWN, town)]);
    let eve = |town| contact("eve", &[(Field::Email, "eve@example.com"), (TOWN, town)]);
    world.crm_tells(vec![contact("ann", &[(Field::Email, HOME)]), bob("Kyiv"), eve("Kyiv")]).await;
    world.send_until_quiet().await;
    shop_tells(&world, "Kyiv").await;
    world.send_until_quiet().await;
    let towns = |world: &World| ["ann", "bob", "eve"].map(|key| world.reteno_holds(key, "town").unwrap_or_default());
    assert_eq!(towns(&world), ["Kyiv", "Kyiv", "Kyiv"]);
    // all three in one call
    world.crm_tells(vec![bob("Lviv"), eve("Lviv")]).await;
    shop_tells(&world, "Lviv").await;
    world.send_for(10 * MINUTE).await;
    assert_eq!(towns(&world), ["Lviv", "Lviv", "Lviv"]);
    // Bob's is under way for an hour
    world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(HOUR)));
    world.crm_tells(vec![bob("Rivne")]).await;
    work(&mut world, MINUTE).await;
    world.crm_tells(vec![eve("Rivne")]).await;
    shop_tells(&world, "Rivne").await;
    work(&mut world, 10 * MINUTE).await;
    assert_eq!(towns(&world), ["Lviv", "Lviv", "Rivne"]);
    world.send_until_quiet().await;
    assert_eq!(towns(&world), ["Rivne", "Rivne", "Rivne"]);
    let overlaps: Vec<_> = world.sandbox.overlaps().into_iter().map(|overlap| overlap.shared).collect();
    assert!(overlaps.is_empty(), "{overlaps:?}");
}
