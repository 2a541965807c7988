//! Several contacts with one e-mail or phone: who is sent, who is listed, and what it costs when very many share one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use reteno_sync::checkpoint::{Configured, Incoming, RejectionKind, Rereading, SeenRows, Way};
use reteno_sync::contact::{Contact, Field, Unspoken};
use reteno_sync::plan::Lane;
use reteno_sync::plan::policy::Ending;
use reteno_sync::sandbox::StoredContact;
use support::tables::Tables;
use support::{HOUR, World, contact};

const TOWN: Field = Field::Town;
const HOME: &str = "home@example.com";

fn with_email(world: &World, email: &str) -> Vec<StoredContact> {
    let living = world.sandbox.contacts().into_iter().filter(|contact| !contact.deleted);
    living.filter(|contact| contact.email.as_deref() == Some(email)).collect()
}

async fn whole(world: &World, contacts: Vec<Contact>) {
    world.reads(true, Lane::Reconcile, contacts.into_iter(), &[]).await;
}

fn says(key: &str, email: &str, phone: &str) -> Contact {
    contact(key, &[(Field::Email, email), (Field::Sms, phone)])
}

/// x and y share a phone, y and z an address. x is sent before y, so nobody is sent before z.
#[tokio::test(start_paused = true)]
async fn the_loser_of_a_loser_is_sent() {
    let mut world = World::begin().await;
    let all = || {
        vec![
            says("x", "x@example.com", "+380671234567"),
            says("y", HOME, "+380671234567"),
            says("z", HOME, "+380671234568"),
        ]
    };
    for _ in 0..3 {
        whole(&world, all()).await;
        world.send_until_quiet().await;
    }
    assert_eq!(with_email(&world, HOME).len(), 1, "{:?}", world.rejections().await);
    // x leaves the CRM: y is sent, since it was there before z
    for _ in 0..3 {
        whole(&world, all().split_off(1)).await;
        world.send_until_quiet().await;
    }
    let listed = world.rejections().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].kind, listed[0].key.as_deref()), (RejectionKind::Shared, Some("z")));
}

/// The older of two cannot be made in Reteno, which refuses it: the other one is sent, until the older one is mended.
#[tokio::test(start_paused = true)]
async fn the_loser_of_a_refused_one_is_sent() {
    let mut world = World::begin().await;
    world.sandbox.poison(["x".to_owned()]);
    let lives = |key, town| contact(key, &[(Field::Email, HOME), (TOWN, town)]);
    for _ in 0..3 {
        whole(&world, vec![lives("x", "Kyiv"), lives("y", "Kyiv"), contact("z", &[(TOWN, "Kyiv")])]).await;
        world.send_until_quiet().await;
    }
    let ids =
        |world: &World| -> Vec<_> { with_email(world, HOME).into_iter().map(|found| found.external_id).collect() };
    assert_eq!(ids(&world), [Some("y".to_owned())], "{:?}", world.rejections().await);
    world.sandbox.poison([]);
    for _ in 0..2 {
        whole(&world, vec![lives("x", "Lviv"), lives("y", "Lviv"), contact("z", &[(TOWN, "Kyiv")])]).await;
        world.send_until_quiet().await;
    }
    assert_eq!(world.reteno_holds("x", "town").as_deref(), Some("Lviv"));
    assert_eq!(world.reteno_holds("y", "town").as_deref(), Some("Kyiv"), "one of the two is sent");
}

/// An older copy of the database is put back: who was not sent before is not sent now.
#[tokio::test(start_paused = true)]
async fn after_a_restore_the_same_one_is_sent() {
    let mut world = World::begin().await;
    let all = || {
        vec![
            contact("a", &[(Field::Email, HOME), (TOWN, "Kyiv")]),
            contact("b", &[(Field::Email, HOME), (TOWN, "Lviv")]),
        ]
    };
    whole(&world, all()).await;
    world.send_for(HOUR).await;
    let now = world.clock.now();
    world.store.call(move |checkpoint| checkpoint.forget_acknowledged(now, 6 * HOUR)).await.unwrap();
    for _ in 0..2 {
        whole(&world, all()).await;
        world.send_until_quiet().await;
    }
    let ids: Vec<_> = with_email(&world, HOME).into_iter().map(|contact| contact.external_id).collect();
    assert_eq!(ids, [Some("a".to_owned())], "{:?}", world.rejections().await);
}

/// A family with one address, where the operator lets several contacts have one. One of them is erased or unsubscribed.
#[tokio::test(start_paused = true)]
async fn what_ends_one_of_a_family_leaves_the_others_alone() {
    for ending in ["erase", "unsubscribe"] {
        let mut crm = Tables::one(&format!("on_delete = \"{ending}\"")).await;
        crm.common = "[identity]\nunique = []\n".to_owned();
        let all = |town: &str| format!("id,mail,city\n1,{HOME},Kyiv\n2,{HOME},{town}\n");
        crm.cycle("crm", &all("Lviv")).await;
        assert_eq!(crm.living(), ["1", "2"]);
        let left = |town: &str| all(town).replace(&format!("1,{HOME},Kyiv\n"), "");
        for _ in 0..3 {
            crm.cycle("crm", &left("Lviv")).await;
        }
        crm.world.hours(12).await;
        assert!(crm.living().contains(&"2".to_owned()), "{ending}");
        for _ in 0..2 {
            crm.cycle("crm", &left("Odesa")).await;
        }
        assert_eq!(crm.town("2").as_deref(), Some("Odesa"), "{ending}: {:?}", crm.rejected().await);
        assert!(!crm.world.is_unsubscribed(HOME), "{ending}: somebody else has the address");
    }
}

/// A placeholder address in very many records: one entry in the list, and the next one is sent when the first leaves.
/// Deciding anew for each of the others at each record, this test would not come to its end.
#[tokio::test(start_paused = true)]
async fn an_address_that_thousands_share_is_one_entry() {
    let mut world = World::begin().await;
    world.policy.ending = Ending::Keep;
    let all = |from: u32| -> Vec<Contact> {
        (from..4000).map(|n| contact(&format!("c{n:05}"), &[(Field::Email, "no@email.com")])).collect()
    };
    whole(&world, all(0)).await;
    world.send_for(HOUR).await;
    let listed = world.rejections().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].contacts, listed[0].key.as_deref()), (3999, None));
    assert_eq!(listed[0].place.as_deref(), Some("c00001, c00002, c00003 and 3996 more"));
    assert_eq!(world.status().await.rejections, 3999);
    for _ in 0..2 {
        whole(&world, all(1)).await;
    }
    world.send_until_quiet().await;
    whole(&world, all(1)).await;
    world.send_until_quiet().await;
    assert!(world.sandbox.contact_by_external_id("c00001").is_some(), "{:?}", world.rejections().await);
    assert_eq!(world.rejections().await[0].contacts, 3998);
}

/// They all leave: each end lets the next one out, and none looks at those that have left before.
#[tokio::test(start_paused = true)]
async fn thousands_with_one_address_leave_one_after_the_other() {
    let world = World::begin().await;
    let all: Vec<Contact> =
        (0..4000).map(|n| contact(&format!("c{n:05}"), &[(Field::Email, "no@email.com")])).collect();
    whole(&world, all).await;
    for _ in 0..2 {
        whole(&world, vec![contact("other", &[])]).await;
    }
    assert_eq!(world.rejections().await.len(), 0);
}

/// An operator lets an address be: it is not counted until another contact is sent with it.
#[tokio::test(start_paused = true)]
async fn an_address_can_be_ignored() {
    let mut crm = Tables::one("").await;
    crm.cycle("crm", &format!("id,mail,city\na,{HOME},Kyiv\nb,{HOME},Lviv\nc,{HOME},Odesa\n")).await;
    assert_eq!(crm.world.status().await.rejections, 2);
    let ignore = async |crm: &Tables, text: &str| {
        let choice = reteno_sync::checkpoint::RejectionChoice::Contact(text.to_owned());
        crm.world.store.call(move |checkpoint| checkpoint.ignore_rejections(&choice)).await.unwrap()
    };
    assert_eq!(ignore(&crm, "nobody").await, 0);
    assert_eq!(ignore(&crm, "c").await, 1);
    assert_eq!(crm.world.status().await.rejections, 0);
    for _ in 0..3 {
        crm.cycle("crm", &format!("id,mail,city\nb,{HOME},Lviv\nc,{HOME},Odesa\n")).await;
    }
    assert_eq!(crm.world.status().await.rejections, 1, "{:?}", crm.rejected().await);
}

/// A system that only pushes tells nothing twice: what it told of a contact that is not sent for now is kept.
#[tokio::test(start_paused = true)]
async fn what_was_only_pushed_is_sent_when_its_turn_comes() {
    let mut world = World::begin().await;
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.note_rereading(source, Rereading::Never)).await.unwrap();
    world.sandbox.poison(["refused".to_owned()]);
    let push = async |world: &World, items: Vec<Incoming>| {
        let mut context = world.context(world.clock.now().0, false);
        context.way = Way::Announced { is_first_load: false };
        // the daemon weighs only what came
        let keys: Vec<String> = items.iter().filter_map(|item| item.key().map(str::to_owned)).collect();
        let recorded = world.store.call(move |checkpoint| {
            checkpoint.record_page(&context, &mut SeenRows::default(), items, None)?;
            let of = (context.source, context.began);
            checkpoint.weigh_records(of, &keys, &context.policy.guard, context.now).map(|_| ())
        });
        recorded.await.unwrap();
    };
    let pushed = |contact| Incoming::Pushed { contact, unspoken: Unspoken::default() };
    let mut all: Vec<Incoming> = (0..6).map(|n| pushed(contact(&format!("c{n}"), &[]))).collect();
    for (key, town) in [("a", "Kyiv"), ("b", "Lviv")] {
        all.push(pushed(contact(key, &[(Field::Email, HOME), (TOWN, town)])));
    }
    all.push(pushed(contact("refused", &[(TOWN, "Odesa")])));
    push(&world, all).await;
    world.send_until_quiet().await;
    assert_eq!(world.status().await.rejections, 2, "{:?}", world.rejections().await);
    tokio::time::advance(HOUR).await;
    push(&world, vec![Incoming::Deleted { key: "a".to_owned(), is_confirmed: true, changed_at: None }]).await;
    world.sandbox.poison([]);
    world.store.call(|checkpoint| checkpoint.retry_rejected(None)).await.unwrap();
    world.send_until_quiet().await;
    assert_eq!(world.reteno_holds("b", "town").as_deref(), Some("Lviv"), "{:?}", world.rejections().await);
    assert_eq!(world.reteno_holds("refused", "town").as_deref(), Some("Odesa"));
}

/// The operator lets several contacts have one phone from now on: those that waited for it are sent.
#[tokio::test(start_paused = true)]
async fn a_channel_that_may_be_shared_from_now_on_blocks_nobody() {
    let mut crm = Tables::one("").await;
    crm.all[0].mapping += "sms = \"phone\"\n";
    let all = "id,mail,phone,city\na,a@example.com,+380671234567,Kyiv\nb,b@example.com,+380671234567,Lviv\n";
    crm.cycle("crm", all).await;
    assert_eq!(crm.living(), ["a"]);
    crm.common = "[identity]\nunique = [\"email\"]\n".to_owned();
    for _ in 0..2 {
        crm.cycle("crm", all).await;
    }
    assert_eq!(crm.living(), ["a", "b"], "{:?}", crm.rejected().await);
    crm.cycle("crm", &format!("{all}c,c@example.com,+380671234567,Odesa\n")).await;
    assert_eq!(crm.living(), ["a", "b", "c"], "{:?}", crm.rejected().await);
}

/// A row that cannot be sent any more, and that was not told so when it came to that, does not stop who waits behind it.
#[tokio::test(start_paused = true)]
async fn one_that_waits_and_cannot_be_sent_is_passed_over() {
    let mut world = World::begin().await;
    let all = |from: usize| -> Vec<Contact> {
        ["a", "b", "c"][from..].iter().map(|key| contact(key, &[(Field::Email, HOME)])).collect()
    };
    whole(&world, all(0)).await;
    world.send_for(HOUR).await;
    let other = database(&world);
    let ended = "UPDATE contact SET stuck = 4, acknowledged = x'' WHERE key = 'b' AND blocked_by IS NOT NULL";
    assert_eq!(other.execute(ended, []).unwrap(), 1);
    let leaves = |key: &str| Incoming::Deleted { key: key.to_owned(), is_confirmed: true, changed_at: None };
    tokio::time::advance(HOUR).await;
    let context = world.context(world.clock.now().0, false);
    let gone = vec![leaves("a")];
    let page = world.store.call(move |c| c.record_page(&context, &mut SeenRows::default(), gone, None));
    page.await.unwrap();
    whole(&world, all(2)).await;
    world.send_until_quiet().await;
    assert!(world.sandbox.contact_by_external_id("c").is_some(), "{:?}", world.rejections().await);
}

fn database(world: &World) -> rusqlite::Connection {
    rusqlite::Connection::open(world.dir.path().join("reteno-sync.db")).unwrap()
}

/// Leaves the database as an older program did, which stored no address that several contacts may have.
fn forget_addresses(world: &World) {
    database(world).execute_batch("DELETE FROM channel; DELETE FROM setting WHERE name = 'stored_addresses'").unwrap();
}

fn addresses(world: &World) -> i64 {
    database(world).query_row("SELECT count(*) FROM channel", [], |row| row.get(0)).unwrap()
}

/// Both contacts are settled before the upgrade, so that no page looks at them; one is erased, and the other one keeps the
/// address that they share.
#[tokio::test(start_paused = true)]
async fn after_an_upgrade_an_erasure_leaves_the_others_their_address() {
    let mut crm = Tables::one("on_delete = \"erase\"").await;
    crm.common = "[identity]\nunique = []\n".to_owned();
    crm.cycle("crm", &format!("id,mail,city\n1,{HOME},Kyiv\n2,{HOME},Lviv\n")).await;
    forget_addresses(&crm.world);
    for town in ["Lviv", "Lviv", "Lviv", "Odesa", "Odesa"] {
        crm.cycle("crm", &format!("id,mail,city\n2,{HOME},{town}\n")).await;
        crm.world.hours(3).await;
    }
    assert_eq!(crm.living(), ["2"]);
    assert_eq!(crm.town("2").as_deref(), Some("Odesa"), "{:?}", crm.rejected().await);
}

/// All contacts are settled when their source comes to share its ids.
#[tokio::test(start_paused = true)]
async fn ids_that_a_source_comes_to_share_later_are_stored() {
    let mut crm = Tables::one("").await;
    let people = "id,mail,city\na,a@example.com,Kyiv\nb,b@example.com,Lviv\n";
    crm.cycle("crm", people).await;
    assert_eq!(addresses(&crm.world), 2);
    crm.table("crm").section = "shares_ids = true\n".to_owned();
    crm.cycle("crm", people).await;
    assert_eq!(addresses(&crm.world), 4);
}

/// A step that the program did not live to see the end of is made again.
#[tokio::test(start_paused = true)]
async fn the_addresses_of_very_many_are_stored_in_steps() {
    let world = World::begin().await;
    let many = (0..1234).map(|n| says(&format!("k{n}"), &format!("k{n}@example.com"), "+380671234567"));
    whole(&world, many.collect()).await;
    let all = addresses(&world);
    forget_addresses(&world);
    let configured = Configured { sources: vec![("crm".to_owned(), false)], ..Configured::default() };
    for (after, last, stored) in [
        (0, Some(500), 1000),
        (0, Some(500), 1000),
        (500, Some(1000), 2000),
        (1000, Some(1234), all),
        (1234, None, all),
        (0, None, all),
    ] {
        let configured = configured.clone();
        let next = world.store.call(move |checkpoint| checkpoint.store_known_addresses(&configured, after)).await;
        assert_eq!((next.unwrap(), addresses(&world)), (last, stored));
    }
}
