//! Says in the log what was sent and acknowledged: once it rests, and at least every few minutes while it goes on.

use std::time::Duration;

use tokio::sync::watch;

use super::sender::SendCounts;

/// Nothing has changed for so long: what a cycle brought has gone out.
const RESTS_FOR: Duration = Duration::from_secs(20);
/// A first load goes on for hours.
const TOLD_EVERY: Duration = Duration::from_mins(5);

/// Logs the counts of a sender for as long as it lives; never ends by itself.
pub(super) async fn log_counts(mut counts: watch::Receiver<SendCounts>) {
    let mut told = *counts.borrow_and_update();
    while let Some(words) = next_words(&mut told, &mut counts).await {
        tracing::info!("{words}");
    }
    std::future::pending::<()>().await;
}

/// The next line, when it is time for it; `None` once the sender is gone.
async fn next_words(told: &mut SendCounts, counts: &mut watch::Receiver<SendCounts>) -> Option<String> {
    loop {
        counts.changed().await.ok()?;
        let began = tokio::time::Instant::now();
        while began.elapsed() < TOLD_EVERY {
            match tokio::time::timeout(RESTS_FOR, counts.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        let now = *counts.borrow_and_update();
        if let Some(words) = words_of(*told, now) {
            *told = now;
            return Some(words);
        }
    }
}

/// What came of it since; `None` where nothing did that a person asks for.
fn words_of(told: SendCounts, now: SendCounts) -> Option<String> {
    let since = |count: fn(&SendCounts) -> u64| count(&now) - count(&told);
    let (sent, posts) = (since(|counts| counts.sent), since(|counts| counts.posts));
    let (acknowledged, rejected) = (since(|counts| counts.acknowledged), since(|counts| counts.rejected));
    let deeds = since(|counts| counts.deeds);
    if sent + acknowledged + rejected + deeds == 0 {
        return None;
    }
    let deeds = if deeds > 0 { format!("; opt-outs, deletions and the like {deeds}") } else { String::new() };
    Some(format!("sent {sent} contacts in {posts} calls: acknowledged {acknowledged}, rejected {rejected}{deeds}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_came_since_the_last_one() {
        let counts = |sent, posts, acknowledged, rejected, deeds| SendCounts {
            posts,
            sent,
            deeds,
            acknowledged,
            rejected,
            ..SendCounts::default()
        };
        let told = counts(10, 2, 10, 0, 0);
        assert_eq!(words_of(told, told), None);
        assert_eq!(words_of(told, counts(10, 5, 10, 0, 0)), None, "calls that were lost are the outage's alert");
        let words = words_of(told, counts(56, 3, 52, 4, 2)).unwrap();
        let wanted = "sent 46 contacts in 1 calls: acknowledged 42, rejected 4; opt-outs, deletions and the like 2";
        assert_eq!(words, wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_comes_once_things_rest_and_every_five_minutes_while_they_go_on() {
        let (sender, mut counts) = watch::channel(SendCounts::default());
        let began = tokio::time::Instant::now();
        let sending = async {
            for second in 0..600 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sender.send_modify(|counts| counts.sent = second + 1);
            }
            std::future::pending::<()>().await;
        };
        let mut told = SendCounts::default();
        let lines = async {
            let mut lines = Vec::new();
            for _ in 0..2 {
                let words = next_words(&mut told, &mut counts).await.unwrap();
                lines.push((began.elapsed().as_secs(), words.split(" in").next().unwrap().to_owned()));
            }
            lines
        };
        let lines = tokio::select! {
            lines = lines => lines,
            () = sending => Vec::new(),
        };
        assert_eq!(lines, [(301, "sent 301 contacts".to_owned()), (620, "sent 299 contacts".to_owned())]);
        drop(sender);
        assert_eq!(next_words(&mut told, &mut counts).await, None);
    }
}
