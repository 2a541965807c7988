//! Whether the daemon does what it is there for, for `/readyz`: it is authorized, has read each source once, and what waits
//! gets on. What a source or Reteno cannot do at the moment is no lack of readiness before it has lasted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::checkpoint::CheckpointError;
use crate::config::SourceConfig;
use crate::listener::Readiness;
use crate::oauth::{Condition, Standing};
use crate::report;
use crate::source::HttpSource;

use super::run::{RunError, Shared};
use super::sending::SendCounts;

/// Something waits, and Reteno has acknowledged and refused nothing for so long. Its imports end within minutes: a shorter
/// bound would tell of a busy hour there, a longer one too late of an outage.
const STANDSTILL_MAX: Duration = Duration::from_mins(30);
/// How old the word may be.
const LOOKED_EVERY: Duration = Duration::from_secs(5);

/// Keeps the word of `/readyz` true.
pub(super) async fn keep_readiness(shared: Arc<Shared>) -> Result<(), RunError> {
    let (mut progress, mut others) = (shared.progress.subscribe(), shared.others.subscribe());
    let mut stalled_since = None;
    loop {
        let looked = look(&shared, &mut stalled_since).await;
        let word = match &looked {
            Ok(word) => word.clone(),
            Err(error) => Readiness::NotReady(report::chain(error)),
        };
        shared.ready.send_if_modified(|known| std::mem::replace(known, word.clone()) != word);
        looked?;
        tokio::select! {
            () = tokio::time::sleep(LOOKED_EVERY) => {}
            changed = progress.changed() => {
                changed.expect("the sender is in what this task shares");
                stalled_since = None;
            }
            changed = others.changed() => changed.expect("the sender is in what this task shares"),
            () = shared.stop.soft.cancelled() => return Ok(()),
        }
    }
}

/// Notes whenever Reteno has said the last word about a contact, for as long as a sender lives; never ends by itself.
pub(super) async fn note_progress(mut counts: watch::Receiver<SendCounts>, progress: &watch::Sender<u64>) {
    let said = |counts: &SendCounts| counts.acknowledged + counts.rejected + counts.deeds;
    let mut known = said(&counts.borrow_and_update());
    while counts.changed().await.is_ok() {
        let now = said(&counts.borrow_and_update());
        if now != known {
            known = now;
            progress.send_modify(|times| *times += 1);
        }
    }
    std::future::pending::<()>().await;
}

async fn look(shared: &Shared, stalled_since: &mut Option<Instant>) -> Result<Readiness, CheckpointError> {
    let now = shared.around.clock.now();
    let looked =
        shared.around.store.call(move |checkpoint| Ok((checkpoint.load_sources()?, checkpoint.has_waiting(now)?)));
    let (sources, waits) = looked.await?;
    // one that is only announced, or read on demand, has no first read to wait for
    let reads = |source: &&SourceConfig| {
        let snapshots = || shared.links.find(&source.name).and_then(HttpSource::snapshot_every);
        source.schedule.is_some() || source.reconcile.is_some() || snapshots().is_some()
    };
    let is_read = |name: &str| sources.iter().any(|row| row.name == name && row.last_ended_at.is_some());
    let configured = shared.config.sources.iter().filter(reads).map(|source| source.name.as_str());
    let unread = configured.filter(|name| !is_read(name)).collect::<Vec<_>>();
    *stalled_since = waits.then(|| stalled_since.unwrap_or_else(Instant::now));
    let stalled = stalled_since.map_or(Duration::ZERO, |since| since.elapsed());
    let lacks = lacks_grant(&shared.account.refresher.condition().await, shared.around.clock.now());
    Ok(judge(lacks, &unread, stalled))
}

/// Why nothing can be sent, as far as the tokens tell.
fn lacks_grant(standing: &Standing, now: crate::clock::Timestamp) -> Option<String> {
    match standing {
        Standing::Unauthorized => Some("Reteno has not authorized this program".to_owned()),
        Standing::Unknown { problem } => Some(format!("the tokens cannot be read: {problem}")),
        Standing::Granted { condition: Condition::NeedsAuthorization { .. }, access_token_expires_at, .. }
            if *access_token_expires_at <= now =>
        {
            Some("Reteno refuses to renew the tokens".to_owned())
        }
        Standing::Granted { .. } => None,
    }
}

/// Pure: the first lack in this order is told.
fn judge(lacks_grant: Option<String>, unread: &[&str], stalled: Duration) -> Readiness {
    if let Some(reason) = lacks_grant {
        return Readiness::NotReady(reason);
    }
    if !unread.is_empty() {
        return Readiness::NotReady(format!("not read to its end yet: {}", unread.join(", ")));
    }
    if stalled > STANDSTILL_MAX {
        let minutes = stalled.as_secs() / 60;
        return Readiness::NotReady(format!("contacts wait, and Reteno has acknowledged none for {minutes} minutes"));
    }
    Readiness::Ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn it_is_ready_with_tokens_after_a_first_read_while_things_get_on() {
        let word = |lacks: Option<&str>, unread: &[&str], minutes: u64| match judge(
            lacks.map(str::to_owned),
            unread,
            Duration::from_mins(minutes),
        ) {
            Readiness::Ready => String::new(),
            Readiness::NotReady(reason) => reason,
        };
        assert_eq!(word(None, &[], 0), "");
        assert_eq!(word(None, &[], 30), "");
        assert_eq!(word(None, &[], 31), "contacts wait, and Reteno has acknowledged none for 31 minutes");
        assert_eq!(word(None, &["crm", "shop"], 31), "not read to its end yet: crm, shop");
        assert_eq!(word(Some("no tokens"), &["crm"], 31), "no tokens");
    }

    #[test]
    fn tokens_that_cannot_be_renewed_serve_to_their_end() {
        let granted = |condition| Standing::Granted {
            condition,
            access_token_expires_at: Timestamp(1000),
            refresh_token_expires_at: None,
            problem: None,
        };
        let refused =
            granted(Condition::NeedsAuthorization { reason: "invalid_grant".to_owned(), since: Timestamp(0) });
        assert_eq!(lacks_grant(&refused, Timestamp(999)), None);
        assert!(lacks_grant(&refused, Timestamp(1000)).is_some());
        assert_eq!(lacks_grant(&granted(Condition::Active), Timestamp(2000)), None);
        assert!(lacks_grant(&Standing::Unauthorized, Timestamp(0)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_last_word_about_a_contact_is_progress() {
        let (counts, progress) = (watch::Sender::new(SendCounts::default()), watch::Sender::new(0));
        let receiver = counts.subscribe();
        let noting = note_progress(receiver, &progress);
        tokio::pin!(noting);
        for (sent, acknowledged, expected) in [(10, 0, 0), (10, 10, 1), (20, 10, 1)] {
            counts.send_replace(SendCounts { posts: sent, sent, acknowledged, ..SendCounts::default() });
            assert!(futures_util::poll!(&mut noting).is_pending());
            assert_eq!(*progress.borrow(), expected);
        }
    }
}
