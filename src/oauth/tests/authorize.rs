//! The authorization run from the address to the stored grant, by every way an answer can come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use oauth2::RedirectUrl;
use secrecy::ExposeSecret;
use tokio::io::{AsyncWriteExt, BufReader};

use super::scripted::{Answer, Script, app, grant, invalid_grant, lost, not_sent, status, tokens};
use crate::clock::{Clock, Timestamp};
use crate::oauth::admission::{Admission, Candidate};
use crate::oauth::authorize::{Authorizer, CallbackPage, Mandate, PendingAuthorization, complete_callback};
use crate::oauth::authorize_error::{AuthorizeError, Unproven};
use crate::oauth::conversation::{Concluded, Meeting, build_invitation, callback_address, run_authorize};
use crate::oauth::desk::{AuthorizationDesk, Ending, Settled};
use crate::oauth::endpoint::TokenEndpoint;
use crate::oauth::lock::RefreshLock;
use crate::oauth::memory::{MemoryDesk, MemoryVault};
use crate::oauth::reaction::TokenError;
use crate::oauth::response::Origin;
use crate::oauth::token::Grant;
use crate::oauth::vault::{GrantVault, VaultError};
use crate::random::Random;

struct World {
    authorizer: Authorizer,
    desk: MemoryDesk,
    vault: Arc<MemoryVault>,
    script: Arc<Script>,
    folder: tempfile::TempDir,
}

impl World {
    fn of(answers: Vec<Answer>) -> Self {
        let vault = Arc::new(MemoryVault::default());
        let (script, folder) = (Script::of(answers), tempfile::tempdir().unwrap());
        let authorizer = authorizer(vault.clone(), &script, &folder);
        Self { authorizer, desk: MemoryDesk::default(), vault, script, folder }
    }

    /// Begins and returns the state.
    async fn begun(&self) -> String {
        let (pending, _) = self.authorizer.begin(&self.desk, &Random::seeded(7)).await.unwrap();
        pending.state.secret().clone()
    }

    async fn callback(&self, query: &str) -> CallbackPage {
        complete_callback(&self.authorizer, &self.desk, query).await
    }

    async fn outcome(&self) -> Option<Settled> {
        self.desk.pending().await.unwrap().and_then(|(_, outcome)| outcome)
    }

    async fn stored(&self) -> Option<Grant> {
        GrantVault::load(&*self.vault).await.unwrap()
    }

    async fn pasted(&self, text: &str) -> Result<Grant, AuthorizeError> {
        self.authorizer.complete(&self.desk, text, Origin::Pasted).await
    }
}

const PROGRAM: &str = "reteno-sync --config there.toml";

fn authorizer(vault: Arc<dyn Admission>, script: &Arc<Script>, folder: &tempfile::TempDir) -> Authorizer {
    let clock = Clock::simulated(Timestamp(1_000_000));
    let endpoint = TokenEndpoint::new(script.clone(), Arc::new(app()), clock.clone());
    Authorizer::new(endpoint, vault, folder.path().join("refresh.lock"), clock, mandate())
}

fn mandate() -> Mandate {
    Mandate { source: "reteno".to_owned(), allows_new_account: false, program: PROGRAM.to_owned() }
}

#[test]
fn the_address_carries_what_reteno_asks_for_and_a_fresh_state() {
    let random = Random::seeded(7);
    let (first, second) = (PendingAuthorization::begin(&app(), &random), PendingAuthorization::begin(&app(), &random));
    let pairs: Vec<(String, String)> = first.url.query_pairs().into_owned().collect();
    let find = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(find("response_type"), Some("code"));
    assert_eq!(find("client_id"), Some("client-id"));
    assert_eq!(find("redirect_uri"), Some("http://127.0.0.1:8400/callback"));
    assert_eq!(find("state"), Some(first.state.secret().as_str()));
    assert_eq!(pairs.len(), 4);
    assert_eq!(first.state.secret().len(), 64);
    assert_ne!(first.state.secret(), second.state.secret());
    assert!(!format!("{first:?}").contains("cret"));
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_exchanged_stored_and_settled() {
    let world = World::of(vec![tokens(1)]);
    world.vault.store(&grant(Timestamp(0), Duration::from_secs(5))).await.unwrap();
    let state = world.begun().await;
    let page = world.callback(&format!("code=C1&state={state}")).await;
    assert_eq!((page.status, page.title), (200, "Authorization done"));
    assert_eq!(world.outcome().await, Some(Settled::Done));
    let stored = world.stored().await.unwrap();
    assert_eq!(stored.code.expose_secret(), "C1");
    assert_eq!(stored.refresh_token.expose_secret(), "refresh-1");
    assert_eq!((stored.serial, stored.authorized_at), (2, Timestamp(1_000_000)));
}

#[tokio::test(start_paused = true)]
async fn a_reloaded_page_is_still_done_and_exchanges_nothing() {
    let world = World::of(vec![tokens(1)]);
    let state = world.begun().await;
    let query = format!("code=C1&state={state}");
    assert_eq!(world.callback(&query).await, world.callback(&query).await);
    assert_eq!(world.script.count(), 1);
    assert_eq!(world.callback("code=C1&state=forged").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn the_same_answer_at_two_doors_at_once_is_exchanged_once() {
    let world = World::of(vec![tokens(1)]);
    let state = world.begun().await;
    let (query, url) = (format!("code=C1&state={state}"), format!("http://h/callback?code=C1&state={state}"));
    let (page, pasted) = tokio::join!(world.callback(&query), world.pasted(&url));
    assert_eq!((page.status, pasted.is_ok(), world.script.count()), (200, true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_state_is_refused_and_leaves_the_authorization_waiting() {
    let world = World::of(vec![tokens(1)]);
    let state = world.begun().await;
    for forged in ["code=EVIL&state=forged", "code=EVIL", "error=access_denied", "error=access_denied&state=x", ""] {
        let page = world.callback(forged).await;
        assert_eq!(page.status, 400, "{forged}");
        assert!(!page.message.contains("EVIL"));
        assert_eq!(world.outcome().await, None, "{forged}");
    }
    assert_eq!(world.script.count(), 0);
    assert_eq!(world.callback(&format!("code=C1&state={state}")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_shown_and_settled() {
    let world = World::of(vec![]);
    let state = world.begun().await;
    let page = world.callback(&format!("error=access_denied&state={state}")).await;
    assert_eq!((page.status, page.title), (403, "Access refused"));
    assert!(matches!(world.outcome().await, Some(Settled::Failed { .. })));
    // What has failed waits for nothing more.
    assert_eq!(world.callback(&format!("code=C&state={state}")).await.status, 410);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_that_nobody_began_or_that_is_too_old_or_of_another_source() {
    let world = World::of(vec![]);
    assert!(matches!(world.pasted("C1").await, Err(AuthorizeError::NotPending)));
    let state = world.begun().await;
    tokio::time::sleep(Duration::from_mins(15)).await;
    assert_eq!(world.callback(&format!("code=C&state={state}")).await.status, 410);
    let (mut record, _) = world.desk.pending().await.unwrap().unwrap();
    record.source = "crm".to_owned();
    record.created_at = world.authorizer.clock().now();
    world.desk.open(record).await.unwrap();
    assert!(matches!(world.pasted("C1").await, Err(AuthorizeError::NotPending)));
    assert_eq!(world.script.count(), 0);
}

/// A vault on a full disk; one that is known to be full, or one that fills up while a code is exchanged.
struct Full {
    is_known: bool,
}

impl Admission for Full {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        ready(Ok(None)).boxed()
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        let full = VaultError::Store { source: "no space left on device".into(), hint: None };
        ready(if self.is_known { Err(full) } else { Ok(()) }).boxed()
    }

    fn keep<'a>(&'a self, _: &'a Candidate) -> BoxFuture<'a, Result<(), VaultError>> {
        ready(Err(VaultError::Store { source: "no space left on device".into(), hint: None })).boxed()
    }

    fn kept(&self) -> BoxFuture<'_, Result<Option<Candidate>, VaultError>> {
        ready(Ok(None)).boxed()
    }

    fn admit<'a>(&'a self, _: &'a Candidate) -> BoxFuture<'a, Result<Grant, AuthorizeError>> {
        panic!("nothing is kept that could be admitted")
    }
}

/// Keeps what it gets, and proves it only once Reteno's API answers.
#[derive(Default)]
struct Doubtful {
    inner: MemoryVault,
    answers: AtomicBool,
}

impl Admission for Doubtful {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        Admission::load(&self.inner)
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        ready(Ok(())).boxed()
    }

    fn keep<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), VaultError>> {
        self.inner.keep(candidate)
    }

    fn kept(&self) -> BoxFuture<'_, Result<Option<Candidate>, VaultError>> {
        self.inner.kept()
    }

    fn admit<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<Grant, AuthorizeError>> {
        if self.answers.load(Ordering::SeqCst) {
            return self.inner.admit(candidate);
        }
        ready(Err(AuthorizeError::NotProven { why: Unproven::ForNow, source: "status 503".into() })).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_own_message_and_hint() {
    let cases: Vec<(Answer, &str, Ending)> = vec![
        (invalid_grant(), "reteno refused the authorization code: it was used before or has expired", Ending::Failed),
        (
            status(401, r#"{"error":"invalid_client"}"#),
            "cannot exchange the authorization code: reteno refused the client id or secret",
            Ending::Configuration,
        ),
        (
            Err(not_sent()),
            "cannot exchange the authorization code: cannot get tokens from reteno for now, no connection: \
             cannot reach uaa.example:443: connection refused",
            Ending::TryAgain,
        ),
        (
            Err(lost()),
            "cannot exchange the authorization code: the answer to the token request was lost, the connection broke: \
             no answer from uaa.example:443: connection reset",
            Ending::TryAgain,
        ),
        (
            status(400, r#"{"error":"redirect_uri_mismatch"}"#),
            "cannot exchange the authorization code: reteno refused the token request with the error \
             redirect_uri_mismatch",
            Ending::Failed,
        ),
        (status(200, r#"{"access_token":"A"}"#), "reteno gave no refresh token", Ending::Failed),
    ];
    let mut hints = std::collections::BTreeSet::new();
    for (answer, expected, ending) in cases {
        let world = World::of(vec![answer]);
        world.begun().await;
        let error = world.pasted("C1").await.unwrap_err();
        assert_eq!((crate::oauth::chain(&error).as_str(), error.ending()), (expected, ending));
        assert!(hints.insert(error.hint(PROGRAM)), "{expected}: its hint is another's");
        assert_eq!(world.outcome().await, Some(error.settled(PROGRAM)));
        assert!(world.stored().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_that_did_not_reach_reteno_may_be_given_again() {
    let world = World::of(vec![Err(not_sent()), status(503, ""), tokens(1)]);
    let state = world.begun().await;
    let query = format!("code=C1&state={state}");
    assert_eq!(world.callback(&query).await.status, 502);
    assert!(world.pasted("C1").await.is_err());
    assert_eq!(world.callback(&query).await.status, 200);
    assert_eq!(world.outcome().await, Some(Settled::Done));
}

/// A world whose tokens cannot be proven yet.
fn doubtful(answers: Vec<Answer>) -> (World, Arc<Doubtful>) {
    let vault = Arc::new(Doubtful::default());
    let mut world = World::of(answers);
    world.authorizer = authorizer(vault.clone(), &world.script, &world.folder);
    (world, vault)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_proven_yet_is_kept_and_proven_later_without_a_person() {
    let (world, vault) = doubtful(vec![tokens(1)]);
    let state = world.begun().await;
    let query = format!("code=C1&state={state}");
    let page = world.callback(&query).await;
    assert_eq!((page.status, page.title), (503, "Authorization failed"));
    assert!(matches!(world.outcome().await, Some(Settled::Failed { ending: Ending::TryAgain, .. })));
    let again = world.authorizer.prove_kept(&world.desk, Duration::ZERO).await;
    assert!(matches!(again, Err(AuthorizeError::NotProven { why: Unproven::ForNow, .. })));
    vault.answers.store(true, Ordering::SeqCst);
    let granted = world.authorizer.prove_kept(&world.desk, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(granted.code.expose_secret(), "C1");
    assert_eq!(world.outcome().await, Some(Settled::Done));
    assert!(matches!(world.authorizer.prove_kept(&world.desk, Duration::ZERO).await, Ok(None)));
    assert_eq!((world.callback(&query).await.status, world.script.count()), (200, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reloaded_page_proves_what_is_kept_and_exchanges_nothing() {
    let (world, vault) = doubtful(vec![tokens(1)]);
    let state = world.begun().await;
    let query = format!("code=C1&state={state}");
    assert_eq!(world.callback(&query).await.status, 503);
    vault.answers.store(true, Ordering::SeqCst);
    assert_eq!(world.callback("code=C1&state=forged").await.status, 400);
    assert_eq!((world.callback(&query).await.status, world.script.count()), (200, 1));
}

#[tokio::test(start_paused = true)]
async fn proving_an_earlier_grant_does_not_end_the_authorization_begun_after_it() {
    let (world, vault) = doubtful(vec![tokens(1)]);
    let first = world.begun().await;
    world.callback(&format!("code=C1&state={first}")).await;
    world.authorizer.begin(&world.desk, &Random::seeded(8)).await.unwrap();
    vault.answers.store(true, Ordering::SeqCst);
    assert!(world.authorizer.prove_kept(&world.desk, Duration::ZERO).await.unwrap().is_some());
    assert_eq!(world.outcome().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_unwritable_state_directory_is_named_before_the_code_is_spent() {
    let world = World::of(vec![]);
    world.begun().await;
    let absent = world.folder.path().join("absent").join("refresh.lock");
    let endpoint = TokenEndpoint::new(world.script.clone(), Arc::new(app()), world.authorizer.clock().clone());
    let clock = world.authorizer.clock().clone();
    let blocked = Authorizer::new(endpoint, world.vault.clone(), absent.clone(), clock, mandate());
    let error = blocked.complete(&world.desk, "C1", Origin::Pasted).await.unwrap_err();
    let begun = blocked.begin(&world.desk, &Random::seeded(7)).await;
    assert!(matches!(begun, Err(AuthorizeError::Lock(_))), "nobody is sent to a browser in vain");
    assert!(
        crate::oauth::chain(&error).starts_with(&format!("cannot change the tokens: cannot lock {}", absent.display()))
    );
    assert!(error.hint(PROGRAM).contains("state_dir"));
    assert_eq!(world.script.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_cannot_be_stored_is_no_grant() {
    let world = World::of(vec![tokens(1)]);
    world.begun().await;
    let full = authorizer(Arc::new(Full { is_known: false }), &world.script, &world.folder);
    let error = full.complete(&world.desk, "C1", Origin::Pasted).await.unwrap_err();
    assert_eq!(
        crate::oauth::chain(&error),
        "cannot keep the authorization: cannot store the tokens: no space left on device"
    );
    assert_eq!(world.outcome().await, Some(error.settled(PROGRAM)));
}

#[tokio::test(start_paused = true)]
async fn no_code_is_spent_for_a_grant_that_could_not_be_kept() {
    let world = World::of(vec![tokens(1)]);
    world.begun().await;
    let full = authorizer(Arc::new(Full { is_known: true }), &world.script, &world.folder);
    assert!(full.complete(&world.desk, "C1", Origin::Pasted).await.is_err());
    assert_eq!(world.script.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_grant_waits_for_a_refresh_under_way() {
    let world = World::of(vec![tokens(1)]);
    world.begun().await;
    let lock = RefreshLock::new(world.folder.path().join("refresh.lock"));
    let held = lock.acquire(Duration::ZERO).await.unwrap();
    let refresh = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut refreshed = grant(Timestamp(0), Duration::from_secs(5));
        refreshed.serial = 6;
        world.vault.store(&refreshed).await.unwrap();
        drop(held);
    };
    let (granted, ()) = tokio::join!(world.pasted("C1"), refresh);
    assert_eq!(granted.unwrap().serial, 7);
    assert_eq!(world.stored().await.unwrap().access_token.expose_secret(), "access-1");
}

// The conversation.

fn listening() -> Meeting {
    Meeting { listening: Some("127.0.0.1:8400".parse().unwrap()), ssh_target: "USER@HOST".to_owned() }
}

fn deaf() -> Meeting {
    Meeting { listening: None, ..listening() }
}

async fn talk(world: &World, meeting: &Meeting, input: &[u8]) -> (Result<Concluded, AuthorizeError>, String) {
    let mut output = Vec::new();
    let ended = run_authorize(&world.authorizer, &world.desk, &Random::seeded(7), meeting, (input, &mut output)).await;
    (ended, String::from_utf8(output).unwrap())
}

#[test]
fn the_invitation_names_the_address_the_tunnel_and_the_prompt() {
    let pending = PendingAuthorization::begin(&app(), &Random::seeded(7));
    let text = build_invitation(&pending, &listening());
    assert!(text.contains(&format!("\n  {}\n", pending.url)), "{text}");
    assert!(text.contains("\n  ssh -L 8400:127.0.0.1:8400 USER@HOST\n"), "{text}");
    assert!(text.contains("paste the address"), "{text}");
    let text = build_invitation(&pending, &deaf());
    assert!(!text.contains("ssh") && text.contains("paste the address"), "{text}");
}

#[test]
fn only_a_loopback_callback_is_listened_for() {
    let rows = [
        ("http://127.0.0.1:8400/callback", Some("127.0.0.1:8400")),
        ("http://localhost:9/callback", Some("127.0.0.1:9")),
        ("http://[::1]:8400/callback", Some("[::1]:8400")),
        ("http://127.0.0.1/callback", Some("127.0.0.1:80")),
        ("https://127.0.0.1:8400/callback", None),
        ("http://127.0.0.1:8400/other", None),
        ("http://10.0.0.1:8400/callback", None),
        ("https://example.com/callback", None),
    ];
    for (uri, expected) in rows {
        let address = callback_address(RedirectUrl::new(uri.to_owned()).unwrap().url());
        assert_eq!(address.map(|address| address.to_string()).as_deref(), expected, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pasted_code_concludes_and_is_not_printed() {
    let world = World::of(vec![tokens(1)]);
    let (ended, printed) = talk(&world, &deaf(), b"\nC0DE-1\n").await;
    match ended.unwrap() {
        Concluded::Granted(grant) => assert_eq!(grant.code.expose_secret(), "C0DE-1"),
        Concluded::LeftOpen => panic!("left open"),
    }
    for secret in ["C0DE-1", "access-1", "refresh-1", "cret"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_cannot_be_right_may_be_followed_by_a_better_one() {
    let world = World::of(vec![tokens(1)]);
    let input = b"what now?\nhttp://127.0.0.1:8400/callback?code=C&state=old\nC1\n";
    let (ended, printed) = talk(&world, &listening(), input).await;
    assert!(matches!(ended, Ok(Concluded::Granted(_))));
    assert!(printed.contains("there is no authorization code in the answer\nhint: "), "{printed}");
    assert!(printed.contains("(its state is wrong)\nhint: "), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_conversation() {
    let world = World::of(vec![]);
    let (ended, _) = talk(&world, &deaf(), b"http://h/callback?error=access_denied\n").await;
    assert!(matches!(ended, Err(AuthorizeError::Refused)));
    let world = World::of(vec![invalid_grant()]);
    assert!(matches!(talk(&world, &deaf(), b"USED\nUSED\n").await.0, Err(AuthorizeError::CodeRefused)));
    let world = World::of(vec![Err(not_sent())]);
    let ended = talk(&world, &deaf(), b"C1\n").await.0;
    assert!(matches!(ended, Err(AuthorizeError::Exchange(TokenError::Temporary { .. }))));
}

#[tokio::test(start_paused = true)]
async fn without_a_listener_and_without_input_it_is_left_open_for_a_script() {
    let world = World::of(vec![tokens(1)]);
    let (ended, printed) = talk(&world, &deaf(), b"").await;
    assert!(matches!(ended, Ok(Concluded::LeftOpen)));
    assert!(printed.contains(&format!("{PROGRAM} authorize --auth-response URL")), "{printed}");
    // The script's part, in a later process.
    let (_, url) = printed.split_once("state=").unwrap();
    let state = url.split(['&', '\n']).next().unwrap();
    world.pasted(&format!("http://127.0.0.1:8400/callback?code=C1&state={state}")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_listener_ends_the_wait_at_the_terminal() {
    let world = World::of(vec![tokens(1)]);
    // The terminal stays open and silent; `silent` must live until the end.
    let (silent, terminal) = tokio::io::duplex(64);
    let mut output = Vec::new();
    let random = Random::seeded(7);
    let state = PendingAuthorization::begin(&app(), &Random::seeded(7)).state;
    let meeting = listening();
    let ends = (BufReader::new(terminal), &mut output);
    let conversation = run_authorize(&world.authorizer, &world.desk, &random, &meeting, ends);
    let browser = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        world.callback(&format!("code=C1&state={}", state.secret())).await
    };
    let (ended, page) = tokio::join!(conversation, browser);
    assert_eq!(page.status, 200);
    assert!(matches!(ended, Ok(Concluded::Granted(grant)) if grant.serial == 1));
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_at_the_listener_reaches_the_terminal_also_after_its_input_ended() {
    let world = World::of(vec![]);
    let state = PendingAuthorization::begin(&app(), &Random::seeded(7)).state;
    let meeting = listening();
    let browser = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        world.callback(&format!("error=access_denied&state={}", state.secret())).await
    };
    let ((ended, _), page) = tokio::join!(talk(&world, &meeting, b""), browser);
    assert_eq!(page.status, 403);
    match ended {
        Err(AuthorizeError::FailedElsewhere { message, hint, ending: Ending::Failed }) => {
            assert_eq!((message, Some(hint)), (page.message, page.hint));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_after_fifteen_minutes_or_when_another_one_is_begun() {
    let world = World::of(vec![]);
    let (ended, _) = talk(&world, &listening(), b"").await;
    assert!(matches!(ended, Err(AuthorizeError::TimedOut)));
    let (mut keyboard, terminal) = tokio::io::duplex(64);
    let mut output = Vec::new();
    let (random, meeting) = (Random::seeded(8), listening());
    let ends = (BufReader::new(terminal), &mut output);
    let conversation = run_authorize(&world.authorizer, &world.desk, &random, &meeting, ends);
    let other = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.begun().await;
        keyboard.write_all(b"\n").await.unwrap();
    };
    let (ended, ()) = tokio::join!(conversation, other);
    assert!(matches!(ended, Err(AuthorizeError::Superseded)));
}
