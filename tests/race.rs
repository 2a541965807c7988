//! A page that is recorded between two steps of the sender gives a contact the address that another call holds: no two
//! unfinished calls share it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

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
