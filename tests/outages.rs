//! Outages, and answers that are nobody's word: nobody is rejected, and nothing counts as done, on their account.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use http::StatusCode;
use reteno_sync::contact::Field;
use reteno_sync::plan::policy::Ending;
use reteno_sync::sandbox::{CallKind, Canned, Effect, Fault};
use support::{HOUR, World};

const TOWN: Field = Field::Town;

fn is_there(world: &World, key: &str) -> bool {
    world.sandbox.contact_by_external_id(key).is_some_and(|contact| !contact.deleted)
}

/// A gateway in front of Reteno answers with a page of its own: it says nothing of the contact.
#[tokio::test(start_paused = true)]
async fn a_gateways_page_is_neither_an_erasure_nor_a_refusal() {
    for (ending, kind) in [(Ending::Erase, CallKind::EraseContact), (Ending::Delete, CallKind::DeleteContact)] {
        for status in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
            let mut world = World::begin().await;
            world.policy.ending = ending;
            world.reads_all(&[("ann", &[]), ("other", &[])]).await;
            world.send_for(HOUR).await;
            let page = Effect::Answer(Canned::html(status));
            world.sandbox.fault(Fault::on(kind, page).times(3));
            world.loses(&[("other", &[])]).await;
            world.hours(2).await;
            assert!(!is_there(&world, "ann"), "{ending:?} {status}");
            assert_eq!(world.rejections().await.len(), 0, "{ending:?} {status}");
        }
    }
}

/// A page that stays is told, while everything else goes on.
#[tokio::test(start_paused = true)]
async fn an_erasure_that_only_a_gateway_answers_is_an_alert() {
    let mut world = World::begin().await;
    world.policy.ending = Ending::Erase;
    world.reads_all(&[("ann", &[]), ("other", &[])]).await;
    world.send_for(HOUR).await;
    let page = Effect::Answer(Canned::html(StatusCode::NOT_FOUND));
    world.sandbox.fault(Fault::on(CallKind::EraseContact, page).always());
    world.loses(&[("other", &[])]).await;
    for town in ["Lviv", "Kyiv", "Lutsk", "Rivne"] {
        world.crm_says(&[("other", &[(TOWN, town)])]).await;
        world.hours(3).await;
        assert_eq!(world.reteno_holds("other", "town").as_deref(), Some(town));
    }
    assert!(is_there(&world, "ann"));
    assert!(world.alerts().await.contains(&"unanswered-erase".to_owned()), "{:?}", world.alerts().await);
    world.sandbox.clear_faults();
    world.hours(2).await;
    assert!(!is_there(&world, "ann"));
    assert_eq!(world.alerts().await, Vec::<String>::new());
}

/// The page stands before the call that writes: the same body goes out again, and nobody is listed.
#[tokio::test(start_paused = true)]
async fn a_gateways_page_refuses_no_batch() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN, StatusCode::UNPROCESSABLE_ENTITY] {
        let mut world = World::begin().await;
        world.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::Answer(Canned::html(status))).times(4));
        world.crm_says(&[("ann", &[(TOWN, "Kyiv")])]).await;
        world.hours(2).await;
        assert_eq!(world.reteno_holds("ann", "town").as_deref(), Some("Kyiv"), "{status}");
        assert_eq!(world.rejections().await.len(), 0, "{status}");
    }
}
