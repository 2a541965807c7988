//! Sources whose contacts have no external id: Reteno finds them by their address. And sources that come and go.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use reteno_sync::contact::{Consent, Contact, Field};
use reteno_sync::daemon::sender::SendSettings;
use reteno_sync::plan::Lane;
use reteno_sync::plan::policy::Ending;
use reteno_sync::reteno::body::DedupeOn;
use reteno_sync::sandbox::{SandboxOptions, StoredContact};
use support::tables::{PEOPLE, Table, Tables};
use support::{HOUR, World, consenting, contact, settings};

const TOWN: Field = Field::Town;
const ANN: &str = "ann@example.com";

async fn world() -> World {
    let options = SandboxOptions { access_token_lifetime: 10_000 * HOUR, ..SandboxOptions::default() };
    World::with(options, SendSettings { dedupe_on: DedupeOn::Email, ..settings() }).await
}

fn without_id(key: &str, fields: &[(Field, &str)]) -> Contact {
    let mut contact = contact(key, fields);
    contact.fields.retain(|(field, _)| *field != Field::ExternalCustomerId);
    contact
}

fn living(world: &World) -> Vec<StoredContact> {
    world.sandbox.contacts().into_iter().filter(|contact| !contact.deleted).collect()
}

fn with_email(world: &World, email: &str) -> Vec<StoredContact> {
    living(world).into_iter().filter(|contact| contact.email.as_deref() == Some(email)).collect()
}

async fn whole(world: &World, contacts: Vec<Contact>) {
    world.reads(true, Lane::Reconcile, contacts.into_iter(), &[]).await;
}

/// A contact that we deleted is typed in again, under another CRM id, with the same address.
#[tokio::test(start_paused = true)]
async fn who_is_typed_in_again_after_our_deletion_is_in_reteno() {
    let mut world = world().await;
    world.policy.ending = Ending::Delete;
    let other = || without_id("other", &[]);
    whole(&world, vec![without_id("1", &[(Field::Email, ANN), (TOWN, "Kyiv")]), other()]).await;
    world.send_for(HOUR).await;
    for _ in 0..2 {
        whole(&world, vec![other()]).await;
        world.send_for(HOUR).await;
    }
    assert_eq!(with_email(&world, ANN).len(), 0);
    for _ in 0..2 {
        whole(&world, vec![without_id("2", &[(Field::Email, ANN), (TOWN, "Lviv")]), other()]).await;
        world.send_until_quiet().await;
    }
    assert_eq!(with_email(&world, ANN).len(), 1, "{:?}", world.rejections().await);
    assert_eq!(with_email(&world, ANN)[0].fields.get("town").map(String::as_str), Some("Lviv"));
}

/// A changed address is a rename of the contact that Reteno has: it is found by Reteno's id.
#[tokio::test(start_paused = true)]
async fn a_changed_address_makes_no_second_contact() {
    let mut world = world().await;
    let says = |email| vec![without_id("1", &[(Field::Email, email), (TOWN, "Kyiv")])];
    world.crm_tells(says("old@example.com")).await;
    world.send_for(HOUR).await;
    world.crm_tells(says("new@example.com")).await;
    world.send_until_quiet().await;
    let emails: Vec<_> = living(&world).into_iter().filter_map(|contact| contact.email).collect();
    assert_eq!(emails, ["new@example.com"]);
    assert!(world.rejections().await.is_empty());
}

/// A person gets another address in the CRM, and says no to mails in the same edit.
#[tokio::test(start_paused = true)]
async fn who_says_no_with_a_new_address_is_mailed_at_neither() {
    let mut world = world().await;
    world.policy = consenting();
    let says = |email, consent| Contact { consent, ..without_id("1", &[(Field::Email, email), (TOWN, "Kyiv")]) };
    world.crm_tells(vec![says("old@example.com", Some(Consent::Yes))]).await;
    world.send_for(HOUR).await;
    world.crm_tells(vec![says("new@example.com", Some(Consent::No))]).await;
    world.send_until_quiet().await;
    whole(&world, vec![says("new@example.com", Some(Consent::No))]).await;
    world.send_until_quiet().await;
    let emails = living(&world).into_iter().filter_map(|contact| contact.email);
    let mailed: Vec<_> = emails.filter(|email| !world.is_unsubscribed(email)).collect();
    assert!(mailed.is_empty(), "{mailed:?}; {} contacts of one person", living(&world).len());
}

/// The section `[source.crm]` gets another name: its contacts are in nobody's way, and when it is back they are there again.
#[tokio::test(start_paused = true)]
async fn a_renamed_source_is_sent_on() {
    let mapping = "email = \"mail\"\ntown = \"city\"\n".to_owned();
    let mut crm = Tables::of(world().await, vec![Table { name: "crm", section: "key = \"id\"".to_owned(), mapping }]);
    crm.common = "[reteno]\ndedupe_on = \"email\"\n".to_owned();
    let town = |crm: &Tables| with_email(&crm.world, "one@example.com")[0].fields.get("town").cloned().unwrap();
    crm.cycle("crm", "id,mail,city\n1,one@example.com,Kyiv\n").await;
    for (name, city) in [("amo", "Lviv"), ("crm", "Odesa"), ("amo", "Dnipro")] {
        crm.all[0].name = name;
        for _ in 0..2 {
            crm.cycle(name, &format!("id,mail,city\n1,one@example.com,{city}\n")).await;
        }
        assert_eq!(town(&crm), city, "{name}: {:?}", crm.rejected().await);
    }
}

/// A source is removed whose contacts another one has, too: it does not keep them alive.
#[tokio::test(start_paused = true)]
async fn a_removed_source_stops_no_erasure() {
    let table =
        |name| Table { name, section: "shares_ids = true\non_delete = \"erase\"".into(), mapping: PEOPLE.into() };
    let mut crm = Tables::of(World::begin().await, vec![table("crm"), table("erp")]);
    crm.all[1].mapping = "externalCustomerId = \"id\"\n87166 = \"city\"\n".replace("87166", "postcode");
    for name in ["crm", "erp"] {
        crm.cycle(name, "id,mail,city\n1,one@example.com,Kyiv\n2,two@example.com,Lviv\n").await;
    }
    assert_eq!(crm.living(), ["1", "2"]);
    crm.all.pop();
    for _ in 0..3 {
        crm.cycle("crm", "id,mail,city\n2,two@example.com,Lviv\n").await;
    }
    crm.world.hours(12).await;
    assert_eq!(crm.living(), ["2"], "{:?}", crm.rejected().await);
}
