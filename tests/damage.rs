//! A damaged file beside the database stops nobody: it is set aside and kept, an alert says what may be lost, and what can
//! be found again is read again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::path::PathBuf;

use reteno_sync::checkpoint::{Inbox, InboxEvent};
use reteno_sync::plan::policy::Ending;
use support::{HOUR, World};

const FILE: &str = "tombstones.log";

fn names(world: &World, part: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = files.filter(|path| path.to_str().unwrap().contains(part)).collect();
    found.sort();
    found
}

// the inbox

async fn open_inbox(world: &World) -> Inbox {
    let clock = world.clock.clone();
    world.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap()
}

async fn announce(inbox: &Inbox, keys: std::ops::Range<u32>) {
    let events = keys.map(|key| InboxEvent::Hint { key: key.to_string(), is_deleted: false }).collect();
    inbox.store("crm", None, events).await.unwrap();
}

async fn is_asked(world: &World) -> bool {
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.take_read_request(source)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_damaged_inbox_is_set_aside_and_every_source_is_read() {
    let spoils: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[..100].fill(0x55),
        // the root of a table
        |bytes| bytes[8192..8300].fill(0x55),
        |bytes| bytes.truncate(bytes.len() / 2),
    ];
    for (place, spoil) in spoils.into_iter().enumerate() {
        let mut world = World::begin().await;
        announce(&open_inbox(&world).await, 0..500).await;
        world.close();
        let path = world.dir.path().join("inbox.db");
        let mut bytes = fs::read(&path).unwrap();
        spoil(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        for ending in ["-wal", "-shm"] {
            drop(fs::remove_file(world.dir.path().join(format!("inbox.db{ending}"))));
        }
        world.crash().await;
        let counted = world.store.call(|checkpoint| checkpoint.count_inbox()).await;
        assert!(counted.is_ok(), "{place}: whoever only looks is told what can be told");
        let inbox = open_inbox(&world).await;
        assert_eq!(world.alerts().await, ["inbox-set-aside"], "{place}");
        assert!(is_asked(&world).await, "{place}");
        announce(&inbox, 0..1).await;
        assert_eq!(inbox.count().await.unwrap()[0].rows, 1, "{place}");
        let aside = names(&world, "inbox.db.damaged-");
        assert_eq!(fs::read(&aside[0]).unwrap(), bytes, "{place}: it is kept as it was");
        // the next start reads nothing anew, and forgets once a person has looked
        drop(inbox);
        world.crash().await;
        drop(open_inbox(&world).await);
        assert_eq!((world.alerts().await.len(), is_asked(&world).await), (1, false), "{place}");
        for path in &aside {
            fs::remove_file(path).unwrap();
        }
        drop(open_inbox(&world).await);
        assert!(world.alerts().await.is_empty(), "{place}");
    }
}

// tombstones

async fn erased(keys: &[&str]) -> World {
    let mut world = World::begin().await;
    world.policy.ending = Ending::Erase;
    let all: Vec<support::reads::Record<'_>> =
        keys.iter().map(|key| (*key, &[][..])).chain([("other", &[][..])]).collect();
    world.reads_all(&all).await;
    world.send_for(HOUR).await;
    world.loses(&[("other", &[])]).await;
    world.send_for(HOUR).await;
    world.hours(2).await;
    assert_eq!(world.sandbox.tally().contacts_erased, keys.len() as u64);
    world
}

async fn is_entombed(world: &World, key: &'static str) -> bool {
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.erased_at(source, key)).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn a_bad_byte_in_the_tombstones_costs_nobody_theirs() {
    let mut world = erased(&["ann", "bob"]).await;
    let path = world.dir.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] = 0xff;
    fs::write(&path, &bytes).unwrap();
    world.crash().await;
    assert_eq!(world.alerts().await, ["tombstones"]);
    let aside = names(&world, "tombstones.log.damaged-");
    assert_eq!(fs::read(&aside[0]).unwrap(), bytes, "it is kept as it was");
    fs::remove_file(&aside[0]).unwrap();
    for _ in 0..2 {
        for key in ["ann", "bob"] {
            assert!(is_entombed(&world, key).await, "{key}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap().matches("erased ").count(), 2, "the new file has both");
        world.crash().await;
        assert!(world.alerts().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_line_erases_nobody_anew_who_was_let_back() {
    let mut world = erased(&["ann"]).await;
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.lift_tombstone(source, "ann")).await.unwrap();
    world.reads_all(&[("ann", &[]), ("other", &[])]).await;
    world.send_for(HOUR).await;
    assert!(world.sandbox.contact_by_external_id("ann").is_some());
    let path = world.dir.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("lifted", "li?ted")).unwrap();
    for _ in 0..2 {
        world.crash().await;
        world.hours(2).await;
        assert!(!is_entombed(&world, "ann").await);
    }
    assert_eq!(world.sandbox.tally().contacts_erased, 1);
}

/// The append failed, and so nobody was let back: the line has all its digits, but not its end.
#[tokio::test(start_paused = true)]
async fn a_line_without_its_end_has_not_happened() {
    let mut world = erased(&["ann"]).await;
    let path = world.dir.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    let grave = text.split(' ').nth(2).unwrap();
    fs::write(&path, format!("{text}lifted {grave}")).unwrap();
    world.crash().await;
    assert!(is_entombed(&world, "ann").await);
    // nor does the next line give it one
    fs::write(&path, format!("{text}lifted {grave}")).unwrap();
    world.reads_all(&[("bob", &[]), ("other", &[])]).await;
    world.send_for(HOUR).await;
    world.loses(&[("other", &[])]).await;
    world.send_for(HOUR).await;
    world.crash().await;
    assert!(is_entombed(&world, "ann").await);
    assert!(is_entombed(&world, "bob").await);
}
