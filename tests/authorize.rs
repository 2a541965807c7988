//! The authorization as an operator and a browser meet it: the real program, a sandbox Reteno over HTTP, and a GET in the
//! place of the person who presses "allow".
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use program::{Installation, PATIENCE, REDIRECT, Ran};
use reteno_sync::checkpoint::{Checkpoint, OpenOptions};
use reteno_sync::clock::Clock;
use reteno_sync::http::Exchange as _;
use reteno_sync::http::socket::{HttpExchange, Timeouts};
use reteno_sync::random::Random;
use reteno_sync::sandbox::{CallKind, Canned, Effect, Fault, Phase, Sandbox, SandboxOptions};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

const HOUR: Duration = Duration::from_hours(1);

fn options() -> SandboxOptions {
    let instant = Duration::from_millis(1);
    SandboxOptions { import_delay: instant..=instant, ..SandboxOptions::default() }
}

/// An installation whose app is registered with a callback on this machine, where nobody listens yet.
async fn at_loopback() -> (Installation, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let redirect_uri = format!("http://{free}/callback");
    let sandbox = Sandbox::new(SandboxOptions { redirect_uri: redirect_uri.clone(), ..options() }, Clock::system());
    let listening = sandbox.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let installation = Installation { dir: tempfile::tempdir().unwrap(), sandbox, listening };
    installation.configure("");
    rewrite(&installation, REDIRECT, &redirect_uri);
    installation.crm_says(&[("1", "Kyiv"), ("2", "Lviv")]);
    (installation, free)
}

/// The same, with the daemon's listener at the callback's address.
async fn with_listener() -> Installation {
    let (installation, address) = at_loopback().await;
    rewrite(&installation, "\"off\"", &format!("\"{address}\""));
    installation
}

/// The daemon reads the file at once, and again in five minutes.
fn scheduled(installation: &Installation) {
    rewrite(installation, "kind = \"file\"", "kind = \"file\"\nschedule = \"*/5 * * * *\"");
}

fn rewrite(installation: &Installation, from: &str, to: &str) {
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// The configuration leads to the account of another sandbox.
fn lead_to(installation: &Installation, from: &Installation, to: &Installation) {
    let (from, to) = (from.listening.address().to_string(), to.listening.address().to_string());
    rewrite(installation, &from, &to);
}

/// How this installation's program is called, as hints say it.
fn program(installation: &Installation) -> String {
    format!("reteno-sync --config {}", installation.path("config.toml").display())
}

/// Begins an authorization with these arguments at the account of `account`, and gives what the browser brings back.
async fn begin(installation: &Installation, account: &Installation, arguments: &[&str]) -> String {
    let begun = installation.run(arguments).await;
    let url = begun.stdout.split_whitespace().find(|word| word.starts_with(&account.listening.authorize_url()));
    account.sandbox.authorize(url.unwrap_or_else(|| panic!("no address in {begun:?}")), true).unwrap()
}

async fn answer(installation: &Installation, response: &str) -> Ran {
    installation.run(&["authorize", "--auth-response", response]).await
}

/// A GET as a browser makes it: status and page.
async fn browse(url: &str) -> (u16, String) {
    let browser = HttpExchange::new(Timeouts { connect: PATIENCE, read: PATIENCE, total: PATIENCE }, 1 << 20);
    let answer = browser.exchange(http::Request::get(url).body(Bytes::new()).unwrap()).await.unwrap();
    (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
}

/// Sends something for each request of a kind that has been carried out.
fn watch(installation: &Installation, kind: CallKind) -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    installation.sandbox.on_request(move |seen| {
        if seen.kind == kind && seen.phase == Phase::After {
            // after the test has seen enough nobody listens
            let _ = sender.send(());
        }
    });
    receiver
}

async fn happens(moment: &mut mpsc::UnboundedReceiver<()>) {
    tokio::time::timeout(PATIENCE, moment.recv()).await.expect("it happens").unwrap();
}

fn exchanges(installation: &Installation) -> usize {
    installation.sandbox.calls().iter().filter(|call| call.kind == CallKind::TokenExchange).count()
}

/// Makes the stored tokens this much older than they are.
fn age_tokens(installation: &Installation, by: Duration) {
    let (clock, random) = (Clock::system(), Random::system());
    let options = OpenOptions {
        dir: installation.path("state"),
        key: None,
        sender: None,
        create: false,
        now: clock.now(),
        import_age_max: HOUR,
    };
    let mut checkpoint = Checkpoint::open(&options, &random).unwrap().checkpoint;
    let mut grant = checkpoint.load_grant().unwrap().expect("it is authorized");
    grant.requested_at.0 -= i64::try_from(by.as_millis()).unwrap();
    grant.serial += 1;
    checkpoint.store_grant(&grant, &random).unwrap();
}

async fn status(installation: &Installation) -> Value {
    installation.run(&["status", "--output", "json"]).await.json()
}

/// The texts and hints of the standing alerts named `authorization`.
fn authorization_alerts(status: &Value) -> Vec<(String, String)> {
    let text = |alert: &Value, key: &str| alert[key].as_str().unwrap().to_owned();
    let alerts = status["alerts"].as_array().unwrap().iter().filter(|alert| alert["name"] == "authorization");
    alerts.map(|alert| (text(alert, "text"), text(alert, "hint"))).collect()
}

/// A command that talks with its operator.
struct Dialogue {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Lines<BufReader<ChildStdout>>,
    said: String,
}

impl Dialogue {
    fn begin(installation: &Installation, arguments: &[&str]) -> Self {
        let mut child = installation.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let (keyboard, screen) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, keyboard, screen: BufReader::new(screen).lines(), said: String::new() }
    }

    /// What the browser brings back from the address it prints.
    async fn granted(&mut self, installation: &Installation, allow: bool) -> String {
        let authorize_url = installation.listening.authorize_url();
        let search = async {
            while let Some(line) = self.screen.next_line().await.unwrap() {
                hear(&mut self.said, &line);
                if line.trim().starts_with(&authorize_url) {
                    return line.trim().to_owned();
                }
            }
            panic!("it prints no address: {}", self.said)
        };
        let url = tokio::time::timeout(PATIENCE, search).await.expect("it prints an address");
        installation.sandbox.authorize(&url, allow).unwrap()
    }

    async fn enter(&mut self, line: &str) {
        self.keyboard.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn end(mut self) -> Ran {
        let reading = async {
            while let Some(line) = self.screen.next_line().await.unwrap() {
                hear(&mut self.said, &line);
            }
        };
        let ended = async { tokio::join!(reading, self.child.wait_with_output()).1.unwrap() };
        let output = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
        drop(self.keyboard);
        Ran {
            code: output.status.code().expect("nobody killed it"),
            stdout: self.said,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn hear(said: &mut String, line: &str) {
    said.push_str(line);
    said.push('\n');
}

// Granted, by each of the ways an answer can come.

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_on_response_authorizes_and_tells_the_account_and_the_expiries() {
    let installation = Installation::begin().await;
    let back = installation.redirect(true).await;
    let done = answer(&installation, &back).await;
    assert_eq!(done.code, 0, "{done:?}");
    for words in ["authorized", "Sandbox Ltd", "access token ends", "refresh token ends"] {
        assert!(done.stdout.contains(words), "{words} is missing: {done:?}");
    }
    // the same answer again changes nothing, and tells the same to a program
    let again = installation.run(&["--output", "json", "authorize", "--auth-response", &back]).await;
    assert_eq!((again.code, exchanges(&installation)), (0, 1), "{again:?}");
    let told = again.json();
    assert_eq!((told["account"].as_str(), told["version"]["version"].as_str()), (Some("Sandbox Ltd"), Some("sandbox")));
    assert!(told["access_token_expires_at"].as_str() < told["refresh_token_expires_at"].as_str(), "{told}");
    // what is no answer to it is not told to have worked
    let other = answer(&installation, "some-code").await;
    assert_eq!((other.code, other.stdout.contains("authorized")), (1, false), "{other:?}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.held().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_own_listener_shows_the_browser_that_it_is_done() {
    let (installation, address) = at_loopback().await;
    let mut command = Dialogue::begin(&installation, &["--authorize"]);
    let back = command.granted(&installation, true).await;
    assert!(back.starts_with(&format!("http://{address}/callback?")));
    // anyone may send a browser there
    let (forged, page) = browse(&format!("http://{address}/callback?code=EVIL&state=forged")).await;
    assert!(forged == 400 && page.contains("its state is wrong") && !page.contains("EVIL"), "{forged} {page}");
    let (shown, page) = browse(&back).await;
    assert!(shown == 200 && page.contains("<h1>Authorization done</h1>"), "{shown} {page}");
    let done = command.end().await;
    assert!(done.code == 0 && done.stdout.contains("Sandbox Ltd"), "{done:?}");
    let tunnel = format!("ssh -L {}:{address} USER@HOST", address.port());
    assert!(done.stdout.contains(&tunnel), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_browser_is_shown_there_and_ends_the_command() {
    let (installation, _) = at_loopback().await;
    let mut command = Dialogue::begin(&installation, &["--authorize"]);
    let back = command.granted(&installation, false).await;
    let (shown, page) = browse(&back).await;
    assert!(shown == 403 && page.contains("<h1>Access refused</h1>"), "{shown} {page}");
    assert!(page.contains(&format!("{} --authorize", program(&installation))), "{page}");
    let refused = command.end().await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("access was refused on Reteno's page"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_or_a_bare_code_can_be_pasted() {
    let installation = Installation::begin().await;
    for is_bare in [false, true] {
        let mut command = Dialogue::begin(&installation, &["authorize"]);
        let back = command.granted(&installation, true).await;
        let code =
            url::Url::parse(&back).unwrap().query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
        command.enter("what do you want?").await;
        command.enter(if is_bare { &code } else { &back }).await;
        let done = command.end().await;
        assert!(done.code == 0 && done.stdout.contains("Sandbox Ltd"), "{done:?}");
        assert!(done.stdout.contains("there is no authorization code in the answer"), "{done:?}");
        assert!(!format!("{done:?}").contains(&code), "a code is no word for a screen: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_the_words_for_a_person_leave_stdout_to_the_document() {
    let (installation, _) = at_loopback().await;
    let mut child = installation.command(&["authorize", "--output", "json"]).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
    let authorize_url = installation.listening.authorize_url();
    let search = async {
        while let Some(line) = words.next_line().await.unwrap() {
            if line.trim().starts_with(&authorize_url) {
                return line.trim().to_owned();
            }
        }
        panic!("no address on stderr")
    };
    let url = tokio::time::timeout(PATIENCE, search).await.expect("it prints an address");
    assert_eq!(browse(&installation.sandbox.authorize(&url, true).unwrap()).await.0, 200);
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["account"], "Sandbox Ltd");
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

// Not granted: each cause with its message, its hint and its code.

#[track_caller]
fn assert_failed(ran: &Ran, code: i32, message: &str, hint: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(message), "{message:?} is missing: {ran:?}");
    let hints = ran.stderr.lines().filter(|line| line.starts_with("hint: "));
    assert!(hints.into_iter().any(|line| line.contains(hint)), "{hint:?} is missing: {ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_a_wrong_state_and_a_spent_code_each_say_what_to_do() {
    let installation = Installation::begin().await;
    let command = format!("`{} --authorize`", program(&installation));

    let nobody = answer(&installation, "C1").await;
    assert_failed(&nobody, 1, "no authorization is waiting for an answer", &command);

    let back = installation.redirect(false).await;
    assert!(back.contains("error=access_denied"));
    assert_failed(&answer(&installation, &back).await, 1, "access was refused on Reteno's page", &command);

    let back = installation.redirect(true).await;
    let (before, state) = back.split_once("state=").unwrap();
    let forged = format!("{before}state={}", "0".repeat(state.len()));
    assert_failed(&answer(&installation, &forged).await, 1, "its state is wrong", "not an older one");
    assert_eq!(exchanges(&installation), 0, "nothing of it reaches Reteno");
    assert_eq!(answer(&installation, &back).await.code, 0, "the right answer is still awaited");

    let code = url::Url::parse(&back).unwrap().query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    installation.redirect(true).await;
    assert_failed(&answer(&installation, &code).await, 1, "it was used before or has expired", &command);
    assert_eq!(installation.run(&["sync"]).await.code, 0, "the tokens in force serve on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_code_and_a_wrong_secret_each_say_what_to_do() {
    let installation = Installation::with(SandboxOptions { code_lifetime: Duration::ZERO, ..options() }).await;
    let back = installation.redirect(true).await;
    let command = format!("`{} --authorize`", program(&installation));
    assert_failed(&answer(&installation, &back).await, 1, "it was used before or has expired", &command);

    let installation = Installation::begin().await;
    rewrite(&installation, "sandbox-secret", "another-secret");
    let back = installation.redirect(true).await;
    let refused = answer(&installation, &back).await;
    assert_failed(&refused, 78, "reteno refused the client id or secret", "reteno.client_secret");
    assert!(!refused.stderr.contains("another-secret"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_the_same_answer_can_be_given_again() {
    let installation = Installation::begin().await;
    let back = installation.redirect(true).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (there, nowhere) = (installation.listening.token_url(), format!("http://{closed}/uaa/oauth/token"));
    rewrite(&installation, &there, &nowhere);
    assert_failed(&answer(&installation, &back).await, 75, "no connection", "check the network");
    rewrite(&installation, &nowhere, &there);
    let done = answer(&installation, &back).await;
    assert_eq!(done.code, 0, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_be_used_is_named_before_anyone_opens_a_browser() {
    let installation = Installation::begin().await;
    std::fs::write(installation.path("state"), "a file").unwrap();
    let failed = installation.run(&["authorize"]).await;
    let place = installation.path("state").display().to_string();
    assert_failed(&failed, 1, &place, &place);
    assert!(!failed.stdout.contains("http"), "{failed:?}");
}

// The first use of fresh tokens.

/// Reteno's word that it is not to be asked for two minutes: nobody waits that long in a command.
fn busy() -> Effect {
    Effect::Answer(Canned::too_many(Some("120")))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_cannot_be_proven_now_are_kept_and_need_no_second_browser() {
    for kind in [CallKind::Version, CallKind::AccountInfo] {
        let installation = Installation::begin().await;
        let back = installation.redirect(true).await;
        installation.sandbox.fault(Fault::on(kind, busy()).times(2));
        assert_failed(
            &answer(&installation, &back).await,
            75,
            "cannot prove the new tokens",
            "what was granted is kept",
        );
        assert_eq!(installation.run(&["sync"]).await.code, 77, "what is not proven is not used");
        assert_failed(&installation.run(&["authorize"]).await, 75, "cannot prove the new tokens", "is kept");
        let done = installation.run(&["authorize"]).await;
        assert!(done.code == 0 && done.stdout.contains("Sandbox Ltd"), "{done:?}");
        assert_eq!((installation.run(&["sync"]).await.code, exchanges(&installation)), (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_process_that_died_before_their_proof_are_proven_by_the_next() {
    let installation = Installation::begin().await;
    let back = installation.redirect(true).await;
    installation.sandbox.fault(Fault::on(CallKind::Version, Effect::HoldAnswer));
    let mut asked = watch(&installation, CallKind::Version);
    let dying = installation.start(&["authorize", "--auth-response", &back]);
    happens(&mut asked).await;
    dying.kill().await;
    let done = installation.run(&["authorize"]).await;
    assert!(done.code == 0 && done.stdout.contains("Sandbox Ltd"), "{done:?}");
    assert_eq!(exchanges(&installation), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_proves_what_a_command_could_not() {
    let installation = Installation::begin().await;
    scheduled(&installation);
    let back = installation.redirect(true).await;
    installation.sandbox.fault(Fault::on(CallKind::AccountInfo, busy()));
    assert_eq!(answer(&installation, &back).await.code, 75);
    let mut posted = watch(&installation, CallKind::SubmitContacts);
    let daemon = installation.start(&["run"]);
    happens(&mut posted).await;
    daemon.signal(Signal::TERM);
    let ended = daemon.end().await;
    assert_eq!((ended.code, exchanges(&installation)), (0, 1), "{ended:?}");
    assert_eq!(installation.held().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_the_api_refuses_are_forgotten() {
    let installation = Installation::begin().await;
    let back = installation.redirect(true).await;
    let forbidden = Canned::json(http::StatusCode::FORBIDDEN, r#"{"message":"no such scope"}"#);
    installation.sandbox.fault(Fault::on(CallKind::Version, Effect::Answer(forbidden)));
    let refused = answer(&installation, &back).await;
    assert_failed(&refused, 1, "reteno's API refuses the new tokens", "Full access to API");
    assert!(refused.stderr.contains("no such scope"), "{refused:?}");
    installation.authorize().await;
    assert_eq!(exchanges(&installation), 2, "a person was asked again");
}

// Which account.

/// Accounts that look alike on a screen, where what names a person is masked, and are not.
#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_refused_however_alike_they_look() {
    let named = |name: &str, email: &str| SandboxOptions {
        organisation_name: name.to_owned(),
        user_email: email.to_owned(),
        ..options()
    };
    let pairs = [
        (named("First Ltd", "same@example.com"), named("Second Ltd", "same@example.com")),
        (named("one@example.com", "same@example.com"), named("two@example.com", "same@example.com")),
        (named("+380 44 555 66 77", "same@example.com"), named("+380 44 555 66 78", "same@example.com")),
        (named("", "one@example.com"), named("", "two@example.com")),
        (named("Same Ltd", "one@example.com"), named("Same Ltd", "two@example.com")),
    ];
    for (first, second) in pairs {
        let label = second.organisation_name.clone();
        let (installation, other) = (Installation::with(first).await, Installation::with(second).await);
        installation.authorize().await;
        lead_to(&installation, &installation, &other);
        let back = begin(&installation, &other, &["authorize"]).await;
        let again = format!("{} --authorize --new-account", program(&installation));
        let refused = answer(&installation, &back).await;
        assert_failed(&refused, 78, "these tokens are for another account", &again);
        assert!(!refused.stderr.contains("@example.com"), "{label}: {refused:?}");
        // nothing of it is in force, or kept
        lead_to(&installation, &other, &installation);
        assert_eq!(installation.run(&["sync"]).await.code, 0, "{label}");
        assert_eq!((installation.held().len(), other.held().len()), (2, 0), "{label}");
        assert_eq!(installation.run(&["authorize"]).await.code, 75, "{label}: a person is asked anew");
        // a user of the first account is welcome
        installation.authorize().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_refused_on_the_browsers_page_too() {
    let (installation, address) = at_loopback().await;
    let redirect_uri = format!("http://{address}/callback");
    let second = SandboxOptions { organisation_name: "Second Ltd".into(), redirect_uri, ..options() };
    let sandbox = Sandbox::new(second, Clock::system());
    let listening = sandbox.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let other = Installation { dir: tempfile::tempdir().unwrap(), sandbox, listening };
    let mut command = Dialogue::begin(&installation, &["authorize"]);
    assert_eq!(browse(&command.granted(&installation, true).await).await.0, 200);
    assert_eq!(command.end().await.code, 0);
    lead_to(&installation, &installation, &other);
    let mut command = Dialogue::begin(&installation, &["authorize"]);
    let (shown, page) = browse(&command.granted(&other, true).await).await;
    assert_eq!(shown, 409, "{page}");
    for words in ["Second Ltd", "Sandbox Ltd", "--authorize --new-account"] {
        assert!(page.contains(words), "{words} is missing: {page}");
    }
    let ended = command.end().await;
    assert_failed(&ended, 78, "these tokens are for another account", "--authorize --new-account");
}

/// Two accounts; the checkpoint belongs to the first and has sent everything there.
async fn two_accounts() -> (Installation, Installation) {
    let second = SandboxOptions { organisation_name: "Second Ltd".into(), ..options() };
    let (installation, other) = (Installation::begin().await, Installation::with(second).await);
    installation.authorize().await;
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    lead_to(&installation, &installation, &other);
    (installation, other)
}

/// Whoever was greeted in one account is not greeted again in the next.
#[tokio::test(flavor = "multi_thread")]
async fn another_account_starts_nothing_for_whom_it_was_started_before() {
    let second = SandboxOptions { organisation_name: "Second Ltd".into(), ..options() };
    let (installation, other) = (Installation::begin().await, Installation::with(second).await);
    installation.configure("new_contacts_event = \"crm_new\"\nnew_contacts_event_in_full_reads = true");
    installation.authorize().await;
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.sandbox.events_fired().len(), 2);
    lead_to(&installation, &installation, &other);
    let back = begin(&installation, &other, &["authorize", "--new-account"]).await;
    assert_eq!(answer(&installation, &back).await.code, 0);
    installation.crm_says(&[("1", "Kyiv"), ("2", "Lviv"), ("3", "Rivne")]);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(other.held().len(), 3);
    let greeted: Vec<String> = other.sandbox.events_fired().into_iter().map(|(_, contact)| contact).collect();
    assert_eq!(greeted, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_that_was_asked_for_gets_everything() {
    // the flag where it begins, where it ends, or at both: asked for is asked for
    for (at_begin, at_end) in [(true, false), (false, true), (true, true)] {
        let (installation, other) = two_accounts().await;
        let arguments = |with: bool| if with { vec!["authorize", "--new-account"] } else { vec!["authorize"] };
        let back = begin(&installation, &other, &arguments(at_begin)).await;
        let mut ending = arguments(at_end);
        ending.extend(["--auth-response", &back]);
        let done = installation.run(&ending).await;
        assert!(done.code == 0 && done.stdout.contains("Second Ltd"), "{at_begin} {at_end}: {done:?}");
        assert_eq!(installation.run(&["sync"]).await.code, 0);
        assert_eq!(other.held(), installation.held(), "all of it is sent to the new account");
        assert_eq!(other.held().len(), 2);
        // from now on the checkpoint belongs to it
        let back = begin(&installation, &other, &["authorize"]).await;
        assert_eq!(answer(&installation, &back).await.code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_ends_with_the_authorization_that_it_was_given_for() {
    let (installation, other) = two_accounts().await;
    begin(&installation, &other, &["authorize", "--new-account"]).await;
    let back = begin(&installation, &other, &["authorize"]).await;
    assert_failed(&answer(&installation, &back).await, 78, "another account", "--new-account");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_not_taken_over_while_a_daemon_sends() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    let mut daemon = installation.start(&["run"]);
    daemon.says("is running").await;
    for arguments in [&["authorize", "--new-account"][..], &["--authorize", "--new-account", "--auth-response", "C1"]] {
        let busy = installation.run(arguments).await;
        assert_failed(&busy, 75, "`reteno-sync run` (process ", "stop it first");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    // begun with nobody there, and answered beside a daemon that came up meanwhile
    let back = begin(&installation, &installation, &["authorize", "--new-account"]).await;
    let mut daemon = installation.start(&["run"]);
    daemon.says("is running").await;
    assert_failed(&answer(&installation, &back).await, 75, "`reteno-sync run` (process ", "stop it first");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    assert_eq!(answer(&installation, &back).await.code, 0, "its code is not spent");
}

// Beside a daemon.

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_serves_the_callback_and_sends_without_a_restart() {
    let installation = with_listener().await;
    scheduled(&installation);
    let mut daemon = installation.start(&["run"]);
    daemon.says("Reteno has not authorized this program").await;
    let mut posted = watch(&installation, CallKind::SubmitContacts);
    let mut command = Dialogue::begin(&installation, &["--authorize"]);
    let (shown, page) = browse(&command.granted(&installation, true).await).await;
    assert!(shown == 200 && page.contains("Authorization done"), "{shown} {page}");
    let done = command.end().await;
    assert!(done.code == 0 && done.stdout.contains("Sandbox Ltd"), "{done:?}");
    happens(&mut posted).await;
    daemon.says("the alert has ended").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    assert_eq!(installation.held().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_code_that_is_being_exchanged() {
    let installation = with_listener().await;
    let mut daemon = installation.start(&["run"]);
    daemon.says("is running").await;
    let mut command = Dialogue::begin(&installation, &["--authorize"]);
    let back = command.granted(&installation, true).await;
    installation.sandbox.fault(Fault::on(CallKind::TokenExchange, Effect::HoldAnswer));
    let mut exchanged = watch(&installation, CallKind::TokenExchange);
    // a browser that goes away
    let browser = tokio::spawn(async move { browse(&back).await });
    happens(&mut exchanged).await;
    browser.abort();
    daemon.signal(Signal::TERM);
    daemon.says("the stop waits for it").await;
    installation.sandbox.release();
    assert_eq!(daemon.end().await.code, 0);
    assert_eq!(status(&installation).await["tokens"]["state"], "authorized");
    assert_eq!(command.end().await.code, 0);
}

// A person is needed.

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_sync_ends_with_77_and_the_exact_command() {
    let installation = Installation::begin().await;
    let command = format!("run `{} --authorize`", program(&installation));
    let refused = installation.run(&["sync"]).await;
    assert_failed(&refused, 77, "Reteno has not authorized this program", &command);
    let alerts = authorization_alerts(&status(&installation).await);
    assert!(alerts.len() == 1 && alerts[0].1 == command, "{alerts:?}");
    installation.authorize().await;
    assert_eq!(authorization_alerts(&status(&installation).await), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_refresh_token_is_told_once_a_start_while_the_access_token_serves_and_ends_with_77_after_it() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    let dead = Canned::json(http::StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant"}"#);
    installation.sandbox.fault(Fault::on(CallKind::TokenRefresh, Effect::Answer(dead)).always());
    // half of the access token's life is over
    age_tokens(&installation, 30 * HOUR);
    let alert = "alert=\"authorization\"";
    let first = installation.run(&["sync"]).await;
    assert_eq!((first.code, first.stderr.matches(alert).count()), (0, 1), "{first:?}");
    assert_eq!(installation.held().len(), 2, "sending goes on");
    let second = installation.run(&["sync"]).await;
    // what stands wrong is told again at each start
    assert_eq!((second.code, second.stderr.matches(alert).count()), (0, 1), "{second:?}");
    let told = status(&installation).await;
    assert_eq!(told["tokens"]["state"], "needs authorization");
    let command = format!("run `{} --authorize`", program(&installation));
    let alerts = authorization_alerts(&told);
    assert!(alerts.len() == 1 && alerts[0].0.contains("refuses to renew") && alerts[0].1 == command, "{alerts:?}");
    // the access token has ended
    age_tokens(&installation, 20 * HOUR);
    let ended = installation.run(&["sync"]).await;
    assert_failed(&ended, 77, "Reteno has not authorized this program", &command);
    assert_eq!(ended.stderr.matches(alert).count(), 1, "{ended:?}");
    installation.sandbox.clear_faults();
    installation.authorize().await;
    assert_eq!(authorization_alerts(&status(&installation).await), []);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_app_needs_a_person_at_once() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    installation.sandbox.revoke_authorization();
    let command = format!("run `{} --authorize`", program(&installation));
    assert_failed(&installation.run(&["sync"]).await, 77, "Reteno has not authorized this program", &command);
    let told = status(&installation).await;
    assert_eq!((told["tokens"]["state"].as_str(), authorization_alerts(&told).len()), (Some("needs authorization"), 1));
    installation.authorize().await;
    let done = installation.run(&["sync"]).await;
    assert_eq!((done.code, installation.held().len()), (0, 2), "{done:?}");
}
