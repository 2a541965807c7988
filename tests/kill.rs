//! `kill -9` at the moments between which a program can lose or double something. Each time a real process dies and the
//! next one takes over; what counts is what the sandbox then holds and how often it was sent.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::time::Duration;

use program::{Installation, PATIENCE, happens, watch};
use reteno_sync::sandbox::{CallKind, Effect, Fault, Phase, RefreshGrace, SandboxOptions};

/// Holds the checkpoint's write lock: the process can read on, and stands still at its next write.
fn stop_writes(installation: &Installation) -> rusqlite::Connection {
    let lock = rusqlite::Connection::open(installation.path("state/reteno-sync.db")).unwrap();
    lock.busy_timeout(PATIENCE).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

/// The next process brings everything to its end: `bodies` is how often the one body was accepted by Reteno.
async fn recovers(installation: &Installation, bodies: u64) {
    let next = installation.run(&["sync", "--wait", "1m"]).await;
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!(installation.held(), [("1".into(), "Kyiv".into()), ("2".into(), "Lviv".into())]);
    let tally = installation.sandbox.tally();
    assert_eq!((tally.imports_accepted, tally.bodies_repeated), (bodies, bodies - 1), "every repeat is byte for byte");
    assert_eq!(tally.contacts_created, 2);
    let different = installation.sandbox.overlaps().into_iter().filter(|overlap| !overlap.identical);
    assert_eq!(different.count(), 0);
    let again = installation.run(&["sync"]).await;
    assert_eq!((again.code, installation.sandbox.tally().imports_accepted), (0, bodies), "nothing is left to send");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_post() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseRequest));
    let posting = watch(&installation, CallKind::SubmitContacts, Phase::Before);
    let running = installation.start(&["sync"]);
    happens(posting).await;
    running.kill().await;
    assert_eq!(installation.sandbox.tally().imports_accepted, 0, "Reteno has not seen it");
    recovers(&installation, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_post_before_its_answer() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer));
    let posted = watch(&installation, CallKind::SubmitContacts, Phase::After);
    let running = installation.start(&["sync"]);
    happens(posted).await;
    running.kill().await;
    recovers(&installation, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_answer_before_the_id_is_stored() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer));
    let posted = watch(&installation, CallKind::SubmitContacts, Phase::After);
    let mut running = installation.start(&["-v", "-v", "sync"]);
    happens(posted).await;
    let lock = stop_writes(&installation);
    installation.sandbox.release();
    running.says("submitted").await;
    running.kill().await;
    drop(lock);
    recovers(&installation, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_poll_and_the_acknowledgement() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    installation.sandbox.fault(Fault::on(CallKind::ImportStatus, Effect::HoldAnswer));
    let polled = watch(&installation, CallKind::ImportStatus, Phase::After);
    let mut running = installation.start(&["-v", "-v", "sync"]);
    happens(polled).await;
    let lock = stop_writes(&installation);
    installation.sandbox.release();
    running.says("an import has ended").await;
    running.kill().await;
    drop(lock);
    recovers(&installation, 1).await;
}

/// The account of the next two: a killed client may use its refresh token again until the new one was used.
async fn with_ended_access_token() -> Installation {
    let instant = Duration::from_millis(1);
    let installation = Installation::with(SandboxOptions {
        import_delay: instant..=instant,
        refresh_grace: RefreshGrace::UntilUsed,
        ..SandboxOptions::default()
    })
    .await;
    installation.authorize().await;
    installation.sandbox.expire_access_tokens();
    installation.sandbox.fault(Fault::on(CallKind::TokenRefresh, Effect::HoldAnswer));
    installation
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_refresh_before_its_answer() {
    let installation = with_ended_access_token().await;
    let refreshed = watch(&installation, CallKind::TokenRefresh, Phase::After);
    let running = installation.start(&["sync"]);
    happens(refreshed).await;
    running.kill().await;
    recovers(&installation, 1).await;
    assert_eq!(installation.sandbox.tally().tokens_given, 3, "authorized, lost, refreshed again");
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_refresh_after_its_answer_before_it_is_stored() {
    let installation = with_ended_access_token().await;
    let refreshed = watch(&installation, CallKind::TokenRefresh, Phase::After);
    let mut running = installation.start(&["-v", "-v", "sync"]);
    happens(refreshed).await;
    let lock = stop_writes(&installation);
    installation.sandbox.release();
    running.says("Reteno has renewed the tokens").await;
    running.kill().await;
    drop(lock);
    recovers(&installation, 1).await;
    assert_eq!(installation.sandbox.tally().tokens_given, 3, "authorized, lost, refreshed again");
}
