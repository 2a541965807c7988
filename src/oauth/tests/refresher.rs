//! The refresher against scripted answers, with tokio's time standing still between waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use secrecy::{ExposeSecret, SecretString};

use super::scripted::{Script, app, grant, invalid_grant, lost, not_sent, status, tokens, tokens_for};
use crate::clock::{Clock, Timestamp};
use crate::oauth::endpoint::TokenEndpoint;
use crate::oauth::lock::RefreshLock;
use crate::oauth::memory::MemoryVault;
use crate::oauth::refresher::Refresher;
use crate::oauth::standing::Standing;
use crate::oauth::token::{Condition, Grant, NoToken};
use crate::oauth::vault::{GrantVault, VaultError};
use crate::random::Random;

const START: Timestamp = Timestamp(1_700_000_000_000);
const LIFETIME: Duration = Duration::from_secs(1000);

/// A vault that can be told to fail.
#[derive(Default)]
struct Vault {
    inner: MemoryVault,
    load_fails: AtomicBool,
    store_fails: AtomicBool,
    reserve_fails: AtomicBool,
}

impl GrantVault for Vault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        if self.load_fails.load(Ordering::SeqCst) {
            return ready(Err(VaultError::Load { source: "disk error".into(), hint: None })).boxed();
        }
        self.inner.load()
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        if self.reserve_fails.load(Ordering::SeqCst) {
            return ready(Err(VaultError::Store { source: "disk full".into(), hint: None })).boxed();
        }
        ready(Ok(())).boxed()
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        if self.store_fails.load(Ordering::SeqCst) {
            return ready(Err(VaultError::Store { source: "disk full".into(), hint: None })).boxed();
        }
        self.inner.store(grant)
    }
}

struct World {
    vault: Arc<Vault>,
    script: Arc<Script>,
    clock: Clock,
    folder: tempfile::TempDir,
    refresher: Refresher,
}

impl World {
    /// A grant of 1000 s asked for at `START`, and these answers to come.
    async fn of(answers: Vec<super::scripted::Answer>) -> Self {
        Self::slow(answers, Duration::ZERO).await
    }

    async fn slow(answers: Vec<super::scripted::Answer>, delay: Duration) -> Self {
        let world = Self::empty(answers, delay);
        world.vault.store(&grant(START, LIFETIME)).await.unwrap();
        world
    }

    fn empty(answers: Vec<super::scripted::Answer>, delay: Duration) -> Self {
        let vault = Arc::new(Vault::default());
        let script = Script::slow(answers, delay);
        let clock = Clock::simulated(START);
        let folder = tempfile::tempdir().unwrap();
        let refresher = refresher(&vault, &script, &clock, &folder);
        Self { vault, script, clock, folder, refresher }
    }

    /// Another process on the same state directory.
    fn sibling(&self) -> Refresher {
        refresher(&self.vault, &self.script, &self.clock, &self.folder)
    }

    async fn stored(&self) -> Grant {
        self.vault.inner.load().await.unwrap().unwrap()
    }

    async fn token(&self) -> String {
        given(self.refresher.access_token().await)
    }
}

fn refresher(vault: &Arc<Vault>, script: &Arc<Script>, clock: &Clock, folder: &tempfile::TempDir) -> Refresher {
    let endpoint = TokenEndpoint::new(script.clone(), Arc::new(app()), clock.clone());
    Refresher::new(endpoint, vault.clone(), folder.path().join("refresh.lock"), clock.clone(), Random::seeded(1))
}

fn given(outcome: Result<SecretString, NoToken>) -> String {
    match outcome {
        Ok(token) => token.expose_secret().to_owned(),
        Err(NoToken::NeedsAuthorization) => "needs authorization".to_owned(),
        Err(NoToken::Temporarily(why)) => format!("temporarily: {why}"),
    }
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn half_of_the_lifetime_decides_and_every_refresh_carries_the_last_token_and_the_code() {
    let world = World::of(vec![tokens(1), tokens(2)]).await;
    pass(499).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-0", 0));
    pass(1).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-1", 1));
    pass(499).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-1", 1));
    pass(1).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-2", 2));
    let seen = world.script.seen();
    assert!(seen[0].body.contains("refresh_token=refresh-0&code=code-0&"), "{}", seen[0].body);
    assert!(seen[1].body.contains("refresh_token=refresh-1&code=code-0&"), "{}", seen[1].body);
    let stored = world.stored().await;
    assert_eq!((stored.serial, stored.authorized_at), (3, START));
    assert_eq!(stored.requested_at, START.plus(LIFETIME));
}

#[tokio::test(start_paused = true)]
async fn an_idle_process_refreshes_by_its_ticks() {
    let world = World::of(vec![tokens(1), tokens(2), tokens(3)]).await;
    let mut ticks = 0;
    while world.clock.now().since(START) < Duration::from_secs(1501) {
        let next = world.refresher.tick().await;
        let wait = next.since(world.clock.now());
        assert!(wait >= Duration::from_secs(1), "a tick that spins");
        tokio::time::sleep(wait).await;
        ticks += 1;
    }
    assert_eq!((world.script.count(), ticks), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_one_refresh() {
    let world = World::slow(vec![tokens(1)], Duration::from_secs(3)).await;
    pass(1000).await;
    let all = (0..20).map(|_| world.refresher.access_token());
    let given: Vec<String> = futures_util::future::join_all(all).await.into_iter().map(given).collect();
    assert!(given.iter().all(|token| token == "access-1"), "{given:?}");
    assert_eq!(world.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_living_token_serves_while_another_task_refreshes() {
    let world = World::slow(vec![tokens(1)], Duration::from_secs(3)).await;
    pass(600).await;
    let (first, second) = tokio::join!(world.refresher.access_token(), world.refresher.access_token());
    assert_eq!((given(first).as_str(), given(second).as_str()), ("access-1", "access-0"));
    assert_eq!(world.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_lose_the_new_pair() {
    let world = World::slow(vec![tokens(1)], Duration::from_secs(3)).await;
    pass(600).await;
    let gave_up = tokio::time::timeout(Duration::from_secs(1), world.refresher.access_token()).await;
    assert!(gave_up.is_err());
    world.refresher.quiesce().await;
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "refresh-1");
    assert_eq!(world.token().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn two_processes_refresh_once() {
    let world = World::slow(vec![tokens(1)], Duration::from_secs(3)).await;
    let sibling = world.sibling();
    // Both know the first pair.
    assert_eq!(given(sibling.access_token().await), world.token().await);
    pass(1000).await;
    let (ours, theirs) = tokio::join!(world.refresher.access_token(), sibling.access_token());
    assert_eq!((given(ours).as_str(), given(theirs).as_str()), ("access-1", "access-1"));
    assert_eq!(world.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_elsewhere_is_taken_over_before_asking() {
    let world = World::of(vec![tokens(1)]).await;
    let sibling = world.sibling();
    given(sibling.access_token().await);
    pass(500).await;
    assert_eq!(world.token().await, "access-1");
    // Within the time of its last read the sibling still knows the old pair, which has just been refused.
    assert_eq!(given(sibling.refused(&secret("access-0")).await), "access-1");
    assert_eq!(world.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_another_process_holds_the_lock_a_living_token_serves_and_nobody_waits() {
    let world = World::of(vec![tokens(1)]).await;
    let lock = RefreshLock::new(world.folder.path().join("refresh.lock"));
    let held = lock.acquire(Duration::ZERO).await.unwrap();
    pass(600).await;
    let before = world.clock.now();
    assert_eq!(world.token().await, "access-0");
    let next = world.refresher.tick().await;
    assert_eq!(world.clock.now(), before);
    assert_eq!(next, before.plus(Duration::from_secs(1)), "a tick that spins");
    pass(400).await;
    assert_eq!(world.token().await, "temporarily: another process is changing the tokens");
    assert_eq!(world.script.count(), 0);
    drop(held);
    pass(5).await;
    assert_eq!(world.token().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_the_old_refresh_token_is_tried_again_before_anyone_is_asked() {
    let world = World::of(vec![Err(lost()), status(200, r#"{"access_token":"acc"#), tokens(1)]).await;
    pass(500).await;
    assert_eq!(world.token().await, "access-0");
    // Not at once: backoff.
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-0", 1));
    pass(5).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-0", 2));
    pass(10).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-1", 3));
    assert!(world.script.seen().iter().all(|seen| seen.body.contains("refresh_token=refresh-0&")));
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_and_a_refusal_a_person_is_asked() {
    let world = World::of(vec![Err(lost()), invalid_grant()]).await;
    pass(500).await;
    world.token().await;
    assert_eq!(world.stored().await.condition, Condition::Active);
    pass(5).await;
    assert_eq!(world.token().await, "access-0");
    assert!(matches!(world.stored().await.condition, Condition::NeedsAuthorization { .. }));
}

#[tokio::test(start_paused = true)]
async fn failures_of_every_kind_discard_nothing_and_the_old_token_serves_until_its_end() {
    let failures = vec![
        status(503, ""),
        status(500, r#"{"error":"invalid_grant"}"#),
        status(429, ""),
        Err(not_sent()),
        Err(lost()),
        status(200, "<html>maintenance</html>"),
        status(401, r#"{"error":"invalid_client"}"#),
        status(400, r#"{"error":"invalid_request"}"#),
    ];
    let kinds = failures.len();
    let mut answers = failures;
    answers.extend((0..100).map(|_| status(502, "")));
    answers.push(tokens(1));
    let world = World::of(answers).await;
    for second in 0..1000 {
        assert_eq!(world.token().await, "access-0", "second {second}");
        pass(1).await;
    }
    // Doubling waits: no storm, yet attempts go on.
    assert!((6..=kinds + 1).contains(&world.script.count()), "{}", world.script.count());
    let ended = world.token().await;
    assert!(ended.starts_with("temporarily: "), "{ended}");
    assert!(!ended.contains("refresh-0"), "{ended}");
    let stored = world.stored().await;
    assert_eq!((stored.serial, &stored.condition), (1, &Condition::Active));
    // Once it has ended, a minute at most lies between two attempts; the hundred failures end in new tokens.
    let mut waited = 0;
    while world.token().await != "access-1" {
        pass(60).await;
        waited += 1;
        assert!(waited < 130, "it never recovered");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept() {
    let limited = http::Response::builder().status(429).header("retry-after", "100").body(bytes::Bytes::new()).unwrap();
    let world = World::of(vec![Ok(limited), tokens(1)]).await;
    pass(500).await;
    world.token().await;
    pass(99).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-0", 1));
    pass(1).await;
    assert_eq!(world.token().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn invalid_grant_is_known_at_once_and_the_access_token_serves_until_its_end() {
    let world = World::of(vec![invalid_grant()]).await;
    pass(500).await;
    assert_eq!(world.token().await, "access-0");
    let since = START.plus(Duration::from_secs(500));
    match world.refresher.condition().await {
        Standing::Granted { condition: Condition::NeedsAuthorization { since: at, reason }, .. } => {
            assert_eq!(at, since);
            assert!(!reason.contains("refresh-0"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.stored().await.condition, Condition::NeedsAuthorization { .. }));
    pass(499).await;
    assert_eq!(world.token().await, "access-0");
    pass(1).await;
    assert_eq!(world.token().await, "needs authorization");
    assert_eq!(world.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_authorization_resumes_within_a_second() {
    let world = World::of(vec![invalid_grant(), tokens(8)]).await;
    pass(1000).await;
    assert_eq!(world.token().await, "needs authorization");
    let now = world.clock.now();
    let mut anew = grant(now, LIFETIME);
    anew.access_token = secret("access-7");
    anew.serial = 9;
    world.vault.store(&anew).await.unwrap();
    // Read at most once a second.
    assert_eq!(world.token().await, "needs authorization");
    pass(1).await;
    assert_eq!(world.token().await, "access-7");
    assert!(matches!(
        world.refresher.condition().await,
        Standing::Granted { condition: Condition::Active, problem: None, .. }
    ));
    pass(500).await;
    assert_eq!(world.token().await, "access-8");
}

#[tokio::test(start_paused = true)]
async fn invalid_grant_is_not_believed_when_the_vault_has_changed_meanwhile() {
    let world = World::slow(vec![invalid_grant()], Duration::from_secs(3)).await;
    pass(1000).await;
    // A writer without the lock, while the answer is on its way.
    let writer = async {
        pass(1).await;
        let mut newer = grant(world.clock.now(), LIFETIME);
        newer.access_token = secret("access-5");
        newer.serial = 2;
        world.vault.store(&newer).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(world.refresher.access_token(), writer);
    assert_eq!(given(outcome), "access-5");
    assert_eq!(world.stored().await.condition, Condition::Active);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_cannot_be_stored_is_found_out_again() {
    let world = World::of(vec![invalid_grant(), invalid_grant()]).await;
    pass(500).await;
    world.vault.store_fails.store(true, Ordering::SeqCst);
    assert_eq!(world.token().await, "access-0");
    world.vault.store_fails.store(false, Ordering::SeqCst);
    pass(5).await;
    world.token().await;
    assert!(matches!(world.stored().await.condition, Condition::NeedsAuthorization { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_could_not_be_stored_is_not_used_and_is_stored_before_another_is_asked_for() {
    let world = World::of(vec![tokens(1)]).await;
    pass(500).await;
    world.vault.store_fails.store(true, Ordering::SeqCst);
    assert_eq!(world.token().await, "access-0");
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "refresh-0");
    match world.refresher.condition().await {
        Standing::Granted { problem: Some(problem), .. } => {
            assert_eq!(problem, "cannot store the tokens: disk full");
        }
        other => panic!("{other:?}"),
    }
    pass(20).await;
    assert_eq!(world.token().await, "access-0");
    world.vault.store_fails.store(false, Ordering::SeqCst);
    pass(20).await;
    assert_eq!(world.token().await, "access-1");
    assert_eq!(world.script.count(), 1);
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "refresh-1");
}

#[tokio::test(start_paused = true)]
async fn no_refresh_is_asked_for_that_could_not_be_stored() {
    let world = World::of(vec![tokens(1)]).await;
    pass(500).await;
    world.vault.reserve_fails.store(true, Ordering::SeqCst);
    assert_eq!(world.token().await, "access-0", "it lives, and so does its refresh token");
    assert_eq!(world.script.count(), 0);
    world.vault.reserve_fails.store(false, Ordering::SeqCst);
    pass(20).await;
    assert_eq!(world.token().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_could_not_be_stored_is_stored_on_the_way_out() {
    let world = World::of(vec![tokens(1)]).await;
    pass(500).await;
    world.vault.store_fails.store(true, Ordering::SeqCst);
    world.token().await;
    assert!(!world.refresher.saves_unstored().await);
    world.vault.store_fails.store(false, Ordering::SeqCst);
    world.refresher.quiesce().await;
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "refresh-1");
    assert!(world.refresher.saves_unstored().await);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_between_answer_and_store_the_old_refresh_token_is_tried() {
    let world = World::of(vec![tokens(1), tokens(2), tokens(3)]).await;
    pass(500).await;
    world.vault.store_fails.store(true, Ordering::SeqCst);
    world.token().await;
    world.vault.store_fails.store(false, Ordering::SeqCst);
    assert_eq!(given(world.sibling().access_token().await), "access-2");
    assert!(world.script.seen()[1].body.contains("refresh_token=refresh-0&"));
    // What the first process still holds aside is now too old to be stored over it.
    pass(20).await;
    assert_eq!(world.token().await, "access-2");
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "refresh-2");
    pass(500).await;
    assert_eq!(world.token().await, "access-3");
    assert!(world.script.seen()[2].body.contains("refresh_token=refresh-2&"));
}

#[tokio::test(start_paused = true)]
async fn a_pair_held_aside_is_forgotten_when_a_person_authorizes_anew() {
    let world = World::of(vec![tokens(1), tokens(2)]).await;
    pass(500).await;
    world.vault.store_fails.store(true, Ordering::SeqCst);
    world.token().await;
    world.vault.store_fails.store(false, Ordering::SeqCst);
    // An emptied vault counts anew: the serials alone would fit.
    let mut anew = grant(world.clock.now(), LIFETIME);
    anew.refresh_token = secret("refresh-new");
    world.vault.store(&anew).await.unwrap();
    pass(500).await;
    assert_eq!(world.token().await, "access-2");
    assert!(world.script.seen()[1].body.contains("refresh_token=refresh-new&"));
}

#[tokio::test(start_paused = true)]
async fn a_401_refreshes_once_for_all_who_saw_it() {
    let world = World::slow(vec![tokens(1)], Duration::from_secs(3)).await;
    assert_eq!(world.token().await, "access-0");
    let old = secret("access-0");
    let all = (0..10).map(|_| world.refresher.refused(&old));
    let given: Vec<String> = futures_util::future::join_all(all).await.into_iter().map(given).collect();
    assert!(given.iter().all(|token| token == "access-1"), "{given:?}");
    assert_eq!(world.script.count(), 1);
    // One who comes late gets the newer token without a request.
    assert_eq!(self::given(world.refresher.refused(&old).await), "access-1");
    assert_eq!(world.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_that_is_refused_too_causes_no_storm() {
    let world = World::of(vec![tokens(1), tokens(2)]).await;
    world.token().await;
    assert_eq!(given(world.refresher.refused(&secret("access-0")).await), "access-1");
    for _ in 0..50 {
        let outcome = given(world.refresher.refused(&secret("access-1")).await);
        assert!(outcome.starts_with("temporarily: reteno refuses an access token"), "{outcome}");
        assert!(world.token().await.starts_with("temporarily: "));
    }
    assert_eq!(world.script.count(), 1);
    pass(30).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-2", 2));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_refused_again_and_again_are_renewed_ever_more_rarely() {
    let world = World::of((1..=100).map(|number| tokens_for(number, 172_800)).collect()).await;
    let mut at = Vec::new();
    let began = world.clock.now();
    while world.clock.now().since(began) < Duration::from_hours(2) {
        let before = world.script.count();
        // whoever sends uses what it gets, and Reteno refuses it
        if let Ok(token) = world.refresher.access_token().await {
            drop(world.refresher.refused(&token).await);
        }
        if world.script.count() > before {
            at.push(world.clock.now().since(began).as_secs());
        }
        pass(5).await;
    }
    let gaps: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[..6], [30, 60, 120, 240, 480, 900]);
    assert!(gaps[6..].iter().all(|gap| *gap == 900), "{gaps:?}");
    // Once tokens have served for a quarter of an hour, the next refusal is met at once.
    pass(900).await;
    let token = world.refresher.access_token().await.unwrap();
    pass(900).await;
    let before = world.script.count();
    assert!(world.refresher.refused(&token).await.is_ok());
    assert_eq!(world.script.count(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_handed_out_again_while_the_refresh_fails() {
    let world = World::of(vec![status(503, ""), tokens(1)]).await;
    world.token().await;
    let outcome = given(world.refresher.refused(&secret("access-0")).await);
    assert!(outcome.starts_with("temporarily: cannot get tokens from reteno for now, status 503"), "{outcome}");
    assert!(world.token().await.starts_with("temporarily: "));
    assert_eq!(world.script.count(), 1);
    pass(30).await;
    assert_eq!(world.token().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_401_does_not_cut_a_backoff_short() {
    let world = World::of(vec![status(503, ""), tokens(1)]).await;
    pass(500).await;
    assert_eq!(world.token().await, "access-0");
    let outcome = given(world.refresher.refused(&secret("access-0")).await);
    assert!(outcome.starts_with("temporarily: "), "{outcome}");
    assert_eq!(world.script.count(), 1);
    pass(5).await;
    assert_eq!(given(world.refresher.refused(&secret("access-0")).await), "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_long_backoff_is_cut_to_a_minute_once_the_old_token_is_refused() {
    let mut answers: Vec<_> = (0..8).map(|_| status(503, "")).collect();
    answers.push(tokens(1));
    let world = World::of(vec![]).await;
    let script = Script::of(answers);
    let refresher = refresher(&world.vault, &script, &world.clock, &world.folder);
    let mut long = grant(START, Duration::from_hours(10));
    long.serial = 2;
    world.vault.store(&long).await.unwrap();
    pass(18_000).await;
    while script.count() < 8 {
        refresher.tick().await;
        pass(1).await;
    }
    // The ninth attempt is some ten minutes away.
    assert!(given(refresher.refused(&secret("access-0")).await).starts_with("temporarily: "));
    pass(60).await;
    assert_eq!(given(refresher.access_token().await), "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_living_token_that_a_refresh_hands_out_again_is_used_again() {
    let world = World::of(vec![tokens(0)]).await;
    world.token().await;
    assert_eq!(given(world.refresher.refused(&secret("access-0")).await), "access-0");
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-0", 1));
}

#[tokio::test(start_paused = true)]
async fn a_401_with_a_dead_refresh_token_needs_a_person_although_the_lifetime_is_not_over() {
    let world = World::of(vec![invalid_grant()]).await;
    world.token().await;
    assert_eq!(given(world.refresher.refused(&secret("access-0")).await), "needs authorization");
    assert_eq!(world.token().await, "needs authorization");
}

#[tokio::test(start_paused = true)]
async fn without_a_grant_a_person_is_needed_and_without_a_readable_vault_time() {
    let world = World::empty(vec![], Duration::ZERO);
    assert_eq!(world.token().await, "needs authorization");
    assert_eq!(world.refresher.condition().await, Standing::Unauthorized);
    world.vault.load_fails.store(true, Ordering::SeqCst);
    pass(1).await;
    assert_eq!(world.token().await, "temporarily: cannot read the stored tokens: disk error");
    assert!(matches!(world.refresher.condition().await, Standing::Unknown { .. }));
    world.vault.load_fails.store(false, Ordering::SeqCst);
    pass(1).await;
    assert_eq!(world.token().await, "needs authorization");
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_cannot_be_read_does_not_stop_a_living_token() {
    let world = World::of(vec![tokens(1)]).await;
    world.token().await;
    world.vault.load_fails.store(true, Ordering::SeqCst);
    pass(600).await;
    assert_eq!((world.token().await.as_str(), world.script.count()), ("access-0", 0));
    world.vault.load_fails.store(false, Ordering::SeqCst);
    pass(10).await;
    assert_eq!(world.token().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lives_for_moments_causes_no_storm() {
    let answers = (1..=40).map(|number| tokens_for(number, 0)).collect();
    let world = World::of(answers).await;
    pass(1000).await;
    for _ in 0..1000 {
        world.token().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((9..=12).contains(&world.script.count()), "{}", world.script.count());
}
