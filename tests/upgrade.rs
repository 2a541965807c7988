//! A database of an earlier version is taken over: who is sent for a shared address stays so, and nobody is sent twice.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use reteno_sync::contact::{Contact, Field};
use reteno_sync::plan::Lane;
use rusqlite::Connection;
use support::{HOUR, World, contact};

const HOME: &str = "home@example.com";
/// The schema of version 0.1.0 before shared addresses were stored.
const OLD: [&str; 4] = [
    include_str!("../migrations/01-spine/up.sql"),
    include_str!("../migrations/02-protections/up.sql"),
    include_str!("../migrations/03-uploads/up.sql"),
    include_str!("../migrations/04-hints/up.sql"),
];

async fn whole(world: &World, contacts: Vec<Contact>) {
    world.reads(true, Lane::Reconcile, contacts.into_iter(), &[]).await;
}

fn columns(connection: &Connection, schema: &str, table: &str) -> Vec<String> {
    let mut query = connection.prepare(&format!("SELECT name FROM {schema}.pragma_table_info('{table}')")).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Writes the present database anew in the old schema, with all that the old one could hold.
fn write_old(dir: &std::path::Path) {
    let (now, old) = (dir.join("reteno-sync.db"), dir.join("old.db"));
    let connection = Connection::open(&old).unwrap();
    for sql in OLD {
        connection.execute_batch(sql).unwrap();
    }
    connection.pragma_update(None, "user_version", i64::try_from(OLD.len()).unwrap()).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute("ATTACH ?1 AS now", [now.to_str().unwrap()]).unwrap();
    let tables: Vec<String> = {
        let mut query = connection
            .prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    for table in tables {
        let known = columns(&connection, "main", &table).join(", ");
        connection.execute(&format!("INSERT INTO main.{table} ({known}) SELECT {known} FROM now.{table}"), []).unwrap();
    }
    drop(connection);
    for ending in ["-wal", "-shm"] {
        drop(std::fs::remove_file(dir.join(format!("reteno-sync.db{ending}"))));
    }
    std::fs::rename(old, now).unwrap();
}

#[tokio::test(start_paused = true)]
async fn shared_addresses_of_an_earlier_version_are_taken_over() {
    let mut world = World::begin().await;
    let all = |from: usize| -> Vec<Contact> {
        let mut all: Vec<Contact> =
            ["a", "b", "d"][from..].iter().map(|key| contact(key, &[(Field::Email, HOME)])).collect();
        all.push(contact("c", &[]));
        all
    };
    whole(&world, all(0)).await;
    world.send_for(HOUR).await;
    world.store.call(reteno_sync::checkpoint::Checkpoint::settle_disk).await.unwrap();
    world.close();
    write_old(world.dir.path());
    world.crash().await;
    let posts = world.sandbox.tally().imports_accepted;
    whole(&world, all(0)).await;
    world.send_until_quiet().await;
    assert_eq!(world.sandbox.tally().imports_accepted, posts, "nothing has changed");
    let listed = world.rejections().await;
    assert_eq!((listed.len(), listed[0].contacts, listed[0].place.as_deref()), (1, 2, Some("b, d")));
    // the one that is sent leaves: the next one is sent
    for _ in 0..3 {
        whole(&world, all(1)).await;
        world.send_until_quiet().await;
    }
    assert!(world.sandbox.contact_by_external_id("b").is_some(), "{:?}", world.rejections().await);
    assert!(world.sandbox.contact_by_external_id("d").is_none());
}
