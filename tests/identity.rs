//! Who is who: contacts that share a channel, sources that share their contacts, external ids that change, and whose a
//! field is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use reteno_sync::contact::{Field, WriteRule};
use reteno_sync::daemon::sender::Ended;
use reteno_sync::plan::policy::Policy;
use reteno_sync::sandbox::{CallKind, Readings, SandboxOptions};
use support::tables::{PEOPLE, Table, Tables};
use support::{HOUR, MINUTE, World, settings};

const TOWN: Field = Field::Town;

fn bulk_bodies(world: &World) -> Vec<serde_json::Value> {
    let calls = world.sandbox.calls().into_iter().filter(|call| call.kind == CallKind::SubmitContacts);
    calls.map(|call| serde_json::from_slice(&call.body.unwrap()).unwrap()).collect()
}

const SHARED: &str = "id,mail,city\na,one@example.com,Kyiv\nb,one@example.com,Lviv\nc,c@example.com,Odesa\n";

/// Each rule has one winner; the losers are listed, and nothing moves over five reads.
#[tokio::test(start_paused = true)]
async fn of_contacts_with_one_address_one_is_sent_and_nothing_flaps() {
    for (rule, winner, loser) in [("oldest", "a", "b"), ("newest", "b", "a"), ("first_source", "a", "b")] {
        let mut crm = Tables::one("").await;
        crm.common = format!("[identity]\nshared_channel = \"{rule}\"\n");
        for cycle in 0..5 {
            let town = format!("town {cycle}");
            let read = crm.cycle("crm", &SHARED.replace("Odesa", &town)).await;
            // the one that the newest takes the place of counted before that came
            let rejected = u64::from(cycle > 0 || rule != "newest");
            assert_eq!(read.balance.rejected, rejected, "{rule} {cycle}: {}", read.balance);
            assert_eq!(crm.living(), [winner, "c"], "{rule} {cycle}");
            let listed = format!("crm {loser}: has the same e-mail or phone as {winner} of source crm");
            let rejected = crm.rejected().await;
            assert!(rejected.len() == 1 && rejected[0].starts_with(&listed), "{rejected:?}");
        }
        // the loser's own edits do not let it out
        for town in ["x", "y"] {
            crm.cycle("crm", &SHARED.replace("Kyiv", town).replace("Lviv", town)).await;
            assert_eq!((crm.living(), crm.rejected().await.len()), (vec![winner.to_owned(), "c".to_owned()], 1));
            assert_eq!(crm.town(winner).as_deref(), Some(town));
        }
        assert!(crm.world.sandbox.overlaps().is_empty());
    }
}

/// The winner leaves the CRM, or gets another address: the loser is sent; when the winner returns, it wins again.
#[tokio::test(start_paused = true)]
async fn a_loser_is_sent_when_its_winner_leaves() {
    let mut crm = Tables::one("").await;
    crm.cycle("crm", SHARED).await;
    assert_eq!(crm.living(), ["a", "c"]);
    let without_a = SHARED.replace("a,one@example.com,Kyiv\n", "");
    for _ in 0..3 {
        crm.cycle("crm", &without_a).await;
    }
    assert_eq!(crm.living(), ["a", "b", "c"]);
    assert!(crm.rejected().await.is_empty());
    for _ in 0..2 {
        crm.cycle("crm", SHARED).await;
        assert_eq!(crm.rejected().await.len(), 1);
    }
    crm.cycle("crm", &SHARED.replace("Lviv", "unsent")).await;
    assert_eq!(crm.town("b").as_deref(), Some("Lviv"));

    let mut crm = Tables::one("").await;
    crm.cycle("crm", SHARED).await;
    for _ in 0..2 {
        crm.cycle("crm", &SHARED.replace("a,one@", "a,two@")).await;
    }
    assert_eq!(crm.living(), ["a", "b", "c"]);
    assert_eq!(crm.world.reteno_holds("b", "email").as_deref(), Some("one@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_loser_that_changes_its_address_is_sent() {
    let mut crm = Tables::one("").await;
    crm.cycle("crm", SHARED).await;
    crm.cycle("crm", &SHARED.replace("b,one@", "b,other@")).await;
    assert_eq!((crm.living(), crm.rejected().await.len()), (vec!["a".into(), "b".into(), "c".into()], 0));
    // and back
    crm.cycle("crm", &SHARED.replace("Lviv", "Dnipro")).await;
    assert_eq!((crm.rejected().await.len(), crm.town("b").as_deref()), (1, Some("Lviv")));
}

/// A phone that two share while each has an address of its own; and one in the shadow of two.
#[tokio::test(start_paused = true)]
async fn a_phone_is_shared_as_an_address_is() {
    let mut world = World::begin().await;
    let sms = |phone| (Field::Sms, phone);
    world.crm_says(&[("c", &[sms("+380671234568")])]).await;
    world.crm_says(&[("a", &[sms("+380671234567")]), ("b", &[sms("+380671234567")])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.contacts().len(), 2);
    // another address does not let b out: the phone is still shared
    let other = (Field::Email, "elsewhere@example.com");
    world.crm_says(&[("b", &[sms("+380671234567"), other])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.contacts().len(), 2);
    // out of one shadow into another
    world.crm_says(&[("b", &[sms("+380671234568"), other])]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.contacts().len(), 2);
    world.crm_says(&[("b", &[sms("+380671234569"), other])]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(world.reteno_holds("b", "sms").as_deref(), Some("380671234569"));
}

fn two(first: &str, second: &str, sections: (&str, &str), world: World) -> Tables {
    let table = |name, section: &str, mapping: &str| Table { name, section: section.into(), mapping: mapping.into() };
    Tables::of(world, vec![table("crm", sections.0, first), table("erp", sections.1, second)])
}

#[tokio::test(start_paused = true)]
async fn two_sources_by_prefix_are_different_people_and_share_addresses_by_the_rule() {
    let mapping = |prefix| PEOPLE.replace("\"id\"", &format!("{{ path = \"id\", prefix = \"{prefix}\" }}"));
    let mut crm = two(&mapping("c-"), &mapping("e-"), ("", ""), World::begin().await);
    crm.common = "[identity]\nshared_channel = \"first_source\"\n".to_owned();
    crm.cycle("erp", "id,mail,city\n1,one@example.com,Kyiv\n2,two@example.com,Lviv\n").await;
    assert_eq!(crm.living(), ["e-1", "e-2"]);
    crm.cycle("crm", "id,mail,city\n1,other@example.com,Odesa\n2,two@example.com,Dnipro\n").await;
    // e-2 stays in Reteno as it was, and the one of the first source is sent from now on
    assert_eq!(crm.living(), ["c-1", "c-2", "e-1", "e-2"]);
    assert_eq!(crm.rejected().await.len(), 1);
    crm.cycle("erp", "id,mail,city\n1,one@example.com,Kyiv\n2,two@example.com,unsent\n").await;
    assert_eq!(crm.town("e-2").as_deref(), Some("Lviv"));
}

const SHARING: &str = "shares_ids = true\non_delete = \"delete\"\n";
const MAILS: &str = "externalCustomerId = \"id\"\nemail = \"mail\"\n";
const PHONES: &str = "externalCustomerId = \"id\"\nsms = \"phone\"\ntown = \"city\"\n";

/// One contact of two sources: one in Reteno, and gone only when it is gone from both.
#[tokio::test(start_paused = true)]
async fn a_contact_of_two_sources_is_gone_when_it_is_gone_from_both() {
    let mut crm = two(MAILS, PHONES, (SHARING, SHARING), World::begin().await);
    let (mails, phones) = (
        "id,mail\n1,one@example.com\n2,two@example.com\n",
        "id,phone,city\n1,+380671234567,Kyiv\n2,+380671234568,Lviv\n",
    );
    for _ in 0..3 {
        crm.cycle("crm", mails).await;
        crm.cycle("erp", phones).await;
    }
    assert_eq!((crm.living(), crm.rejected().await.len()), (vec!["1".into(), "2".into()], 0));
    assert_eq!(crm.world.reteno_holds("1", "email").as_deref(), Some("one@example.com"));
    assert_eq!(
        (crm.world.reteno_holds("1", "sms").as_deref(), crm.town("1").as_deref()),
        (Some("380671234567"), Some("Kyiv"))
    );
    for _ in 0..3 {
        crm.cycle("crm", &mails.replace("2,two@example.com\n", "")).await;
        crm.cycle("erp", phones).await;
    }
    assert_eq!(crm.living(), ["1", "2"], "the other source still has it");
    for _ in 0..2 {
        crm.cycle("erp", &phones.replace("2,+380671234568,Lviv\n", "")).await;
    }
    assert_eq!(crm.living(), ["1"]);
}

/// A source without a channel adds its fields to the contacts of another: the channel comes from there.
#[tokio::test(start_paused = true)]
async fn a_source_without_a_channel_adds_to_the_contacts_of_another() {
    const TOWNS: &str = "externalCustomerId = \"id\"\ntown = \"city\"\n";
    let sharing = "shares_ids = true\n";
    let mut crm = two(MAILS, TOWNS, (sharing, sharing), World::begin().await);
    let towns = "id,city\n1,Kyiv\n2,Lviv\n";
    // before the other source has told of them there is nothing to add to
    crm.cycle("erp", towns).await;
    assert!(crm.living().is_empty());
    let rejected = crm.rejected().await;
    assert!(rejected.len() == 2 && rejected[0].contains("no source that shares its id"), "{rejected:?}");
    crm.cycle("crm", "id,mail\n1,one@example.com\n").await;
    crm.cycle("erp", towns).await;
    assert_eq!((crm.living(), crm.town("1").as_deref()), (vec!["1".to_owned()], Some("Kyiv")));
    assert_eq!(crm.rejected().await.len(), 1);
    // long after: the address is kept for it, sealed
    crm.cycle("erp", &towns.replace("Kyiv", "Odesa")).await;
    assert_eq!(crm.town("1").as_deref(), Some("Odesa"));
    assert_eq!(crm.world.reteno_holds("1", "email").as_deref(), Some("one@example.com"));
    assert_eq!(crm.world.sandbox.contacts().len(), 1);
}

async fn renaming(rename_by_id: bool) -> World {
    let readings = Readings { rename_by_id, ..Readings::default() };
    let lifetime = 1000 * HOUR;
    World::with(SandboxOptions { access_token_lifetime: lifetime, readings, ..SandboxOptions::default() }, settings())
        .await
}

const MAIL: (Field, &str) = (Field::Email, "same@example.com");

/// A changed external id is a rename: by bulk, found by Reteno's id, and only the id is written.
#[tokio::test(start_paused = true)]
async fn a_changed_external_id_is_a_rename() {
    let mut world = renaming(true).await;
    let says = |id| [(Field::ExternalCustomerId, id), MAIL, (TOWN, "Kyiv")];
    world.crm_says(&[("1", &says("old"))]).await;
    world.send_for(HOUR).await;
    let id = world.sandbox.contact_by_external_id("old").unwrap().id;
    world.crm_says(&[("1", &says("new"))]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    let contacts = world.sandbox.contacts();
    assert_eq!((contacts.len(), contacts[0].id, contacts[0].external_id.as_deref()), (1, id, Some("new")));
    let body = bulk_bodies(&world).pop().unwrap();
    assert_eq!((&body["dedupeOn"], &body["restoreDeleted"]), (&"id".into(), &false.into()));
    assert_eq!(
        (&body["contactFields"], &body["contacts"][0]["id"]),
        (&serde_json::json!(["externalCustomerId"]), &id.into())
    );
    assert_eq!(world.sandbox.tally().contacts_deleted, 0);
}

/// Where Reteno does not rename, the contact is listed: not forced, not tried again before it changes.
#[tokio::test(start_paused = true)]
async fn a_rename_that_reteno_does_not_honour_is_listed_once() {
    let mut world = renaming(false).await;
    let says = |id, town| [(Field::ExternalCustomerId, id), MAIL, (TOWN, town)];
    world.crm_says(&[("1", &says("old", "Kyiv"))]).await;
    world.send_for(HOUR).await;
    for _ in 0..5 {
        world.crm_says(&[("1", &says("new", "Kyiv"))]).await;
        world.send_for(HOUR).await;
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!(bulk_bodies(&world).len(), 2);
    let rows = world.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].reason.contains("did not rename"), "{}", rows[0].reason);
    assert_eq!(world.status().await.rejected, 1);
    // the CRM takes it back: nothing is left to do but to say so
    world.crm_says(&[("1", &says("old", "Kyiv"))]).await;
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!((world.status().await.rejected, world.status().await.acknowledged), (0, 1));
}

/// The new id is another contact's in Reteno, for both readings.
#[tokio::test(start_paused = true)]
async fn a_rename_onto_the_id_of_another_is_listed() {
    for honoured in [true, false] {
        let mut world = renaming(honoured).await;
        world
            .crm_says(&[("1", &[(Field::ExternalCustomerId, "one")]), ("2", &[(Field::ExternalCustomerId, "two")])])
            .await;
        world.send_for(HOUR).await;
        world.crm_says(&[("2", &[(Field::ExternalCustomerId, "one")])]).await;
        world.send_for(12 * HOUR).await;
        let rows = world.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap();
        assert_eq!(rows.len(), 1, "{honoured}: {rows:?}");
        assert_eq!(world.sandbox.contact_by_external_id("one").unwrap().email.as_deref(), Some("1@example.com"));
        assert!(world.sandbox.contact_by_external_id("two").is_some());
    }
}

/// Each rule of ownership with its effect in Reteno.
#[tokio::test(start_paused = true)]
async fn a_field_is_written_by_its_rule() {
    let (name, key) = (Field::FirstName, "1");
    for (rule, after_edit, after_clear) in [
        (WriteRule::Always, Some("Bob"), None),
        (WriteRule::NeverClear, Some("Bob"), Some("Bob")),
        (WriteRule::AtFirstSight, Some("Ann"), Some("Ann")),
    ] {
        let mut world = World::begin().await;
        world.policy = Policy { write_rules: vec![(name, rule)], ..world.policy };
        for (said, town, held) in [("Ann", "a", Some("Ann")), ("Bob", "b", after_edit), ("", "c", after_clear)] {
            world.crm_says(&[(key, &[(name, said), (TOWN, town)])]).await;
            assert_eq!(world.send_for(HOUR).await, Ended::Drained);
            assert_eq!(world.reteno_holds(key, "firstName").as_deref(), held, "{rule:?} {said}");
            assert_eq!(world.reteno_holds(key, "town").as_deref(), Some(town));
        }
    }
}

/// An empty field of the CRM leaves alone what Reteno has, unless it was filled before, or the operator asks.
#[tokio::test(start_paused = true)]
async fn an_empty_field_at_first_sight_is_no_wish() {
    for (clears, kept) in [(false, Some("by hand")), (true, None)] {
        let mut crm = Tables::one(&format!("clear_at_first_sight = {clears}")).await;
        // somebody else has filled it in, in Reteno
        crm.world.source = crm.world.store.call(|checkpoint| checkpoint.load_source("other")).await.unwrap().id;
        crm.world.crm_says(&[("1", &[(TOWN, "by hand")])]).await;
        crm.world.send_for(HOUR).await;
        crm.cycle("crm", "id,mail,city\n1,1@example.com,\n").await;
        assert_eq!(crm.town("1").as_deref(), kept, "clear_at_first_sight = {clears}");
    }
}

/// What somebody edited in Reteno and nobody changed in the CRM survives every bulk call.
#[tokio::test(start_paused = true)]
async fn a_field_that_the_crm_did_not_change_is_never_written() {
    let mut world = World::begin().await;
    let says = |name, town| [(Field::FirstName, name), (TOWN, town), (Field::Additional(87166), "gold")];
    world.crm_says(&[("1", &says("Ann", "Kyiv"))]).await;
    world.send_for(HOUR).await;
    // someone edits the name in Reteno, as another program would
    let by_hand = serde_json::json!({
        "contacts": [{ "externalCustomerId": "1", "firstName": "by hand",
                       "channels": [{ "type": "email", "value": "1@example.com" }] }],
        "dedupeOn": "externalCustomerId", "contactFields": ["firstName"], "customFieldsIDs": [],
        "restoreDeleted": false, "groupNames": [], "groupNamesExclude": [],
    });
    let token = world.sandbox.issue_tokens().access_token;
    let request = http::Request::post("https://reteno.com/api/v1/contacts")
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", "application/json; charset=UTF-8")
        .body(serde_json::to_vec(&by_hand).unwrap().into())
        .unwrap();
    drop(world.sandbox.answer(request));
    tokio::time::advance(MINUTE).await;
    assert_eq!(world.reteno_holds("1", "firstName").as_deref(), Some("by hand"));
    for town in ["Lviv", "Odesa"] {
        world.crm_says(&[("1", &says("Ann", town))]).await;
        world.send_for(HOUR).await;
        assert_eq!(world.reteno_holds("1", "town").as_deref(), Some(town));
        assert_eq!(world.reteno_holds("1", "firstName").as_deref(), Some("by hand"));
    }
    world.crm_says(&[("1", &says("Eve", "Odesa"))]).await;
    world.send_for(HOUR).await;
    assert_eq!(world.reteno_holds("1", "firstName").as_deref(), Some("Eve"));
}

/// Five edits within the window are one post with the last value.
#[tokio::test(start_paused = true)]
async fn half_typed_edits_are_one_post() {
    let mut world = World::begin().await;
    world.crm_says(&[("1", &[(TOWN, "start")])]).await;
    world.send_for(HOUR).await;
    world.policy = Policy { quiet_for: Duration::from_secs(10), ..world.policy };
    for town in ["K", "Ky", "Kyi", "Kyiv", "Kyiv!"] {
        world.crm_says(&[("1", &[(TOWN, town)])]).await;
        world.send_for(Duration::from_secs(4)).await;
    }
    assert_eq!(world.send_for(HOUR).await, Ended::Drained);
    assert_eq!((world.writes("1", "town"), bulk_bodies(&world).len()), (vec!["start".into(), "Kyiv!".into()], 2));
}
