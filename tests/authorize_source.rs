//! A CRM's authorization as an operator, a browser and a CRM meet it: the real program, a sandbox Reteno, and a small
//! OAuth server whose refresh tokens rotate.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use program::{Installation, PATIENCE, REDIRECT, Ran};
use reteno_sync::http::Exchange as _;
use reteno_sync::http::socket::{HttpExchange, Timeouts};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use url::Url;

/// A CRM's token endpoint: one code, then refresh tokens that rotate. An older one works until the newer one was used.
#[derive(Clone)]
struct Crm {
    address: SocketAddr,
    state: Arc<Mutex<Issued>>,
    seen: mpsc::UnboundedSender<Value>,
}

#[derive(Default)]
struct Issued {
    count: u32,
    /// What the next refresh may carry.
    accepted: Vec<String>,
    /// The next refresh is carried out and never answered.
    holds_answer: bool,
    /// Refresh tokens are not taken any more.
    revoked: bool,
}

impl Crm {
    async fn begin() -> (Self, mpsc::UnboundedReceiver<Value>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (seen, asked) = mpsc::unbounded_channel();
        let crm = Self { address: listener.local_addr().unwrap(), state: Arc::default(), seen };
        let router = Router::new().route("/oauth2/access_token", post(Self::answer));
        let router = router.route("/people", get(async || "[]")).with_state(crm.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (crm, asked)
    }

    async fn answer(State(crm): State<Self>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
        assert_eq!(headers["content-type"], "application/json");
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
        let answer = {
            let mut state = crm.state.lock().unwrap();
            let is_good = match text("grant_type").as_str() {
                "authorization_code" => text("code") == "C1",
                "refresh_token" => !state.revoked && state.accepted.contains(&text("refresh_token")),
                "client_credentials" => true,
                _ => false,
            };
            if is_good && text("client_secret") == "s3cret" {
                state.count += 1;
                let number = state.count;
                state.accepted = vec![text("refresh_token"), format!("refresh-{number}")];
                let answer = json!({
                    "token_type": "Bearer", "expires_in": 4, "access_token": format!("access-{number}"),
                    "refresh_token": format!("refresh-{number}"), "api_domain": "https://api.crm.example",
                });
                (StatusCode::OK, answer.to_string())
            } else {
                (StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant","error_description":"s3cret"}"#.to_owned())
            }
        };
        let holds = std::mem::take(&mut crm.state.lock().unwrap().holds_answer);
        // after the test has seen enough nobody listens
        let _ = crm.seen.send(asked);
        if holds {
            std::future::pending::<()>().await;
        }
        answer
    }

    /// `[source.crm.auth]` of this CRM, at the end of the configuration.
    fn configure(&self, installation: &Installation, more: &str) {
        let path = installation.path("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let api = format!(
            "kind = \"http\"\nbase_url = \"http://{}\"\nlist = {{ path = \"/people\", records = \"$[*]\" }}\n\
             pagination = {{ kind = \"none\" }}",
            self.address
        );
        let text = text.replace("kind = \"file\"\npath = \"contacts.csv\"", &api);
        let section = format!(
            "[source.crm.auth]\nkind = \"oauth2\"\ntoken_url = \"http://{{var.host}}/oauth2/access_token\"\n\
             token_body = \"json\"\nclient_id = \"sync\"\nclient_secret = \"{{secret.app}}\"\n\
             base_url_path = \"$.api_domain\"\nrefresh_token_lifetime = \"90d\"\n{more}\n\
             [source.crm.vars]\nhost = \"{}\"\n[source.crm.secrets]\napp = \"s3cret\"\n",
            self.address
        );
        std::fs::write(path, format!("{text}{section}")).unwrap();
    }
}

const CONSENT: &str = "authorize_url = \"http://{var.host}/oauth\"\nauthorize_extra = { mode = \"popup\" }";

async fn consenting() -> (Installation, Crm, mpsc::UnboundedReceiver<Value>) {
    let installation = Installation::begin().await;
    let (crm, asked) = Crm::begin().await;
    crm.configure(&installation, CONSENT);
    (installation, crm, asked)
}

/// The same with the daemon's listener where the CRM redirects to.
async fn with_listener() -> (Installation, Crm, mpsc::UnboundedReceiver<Value>) {
    let (installation, crm, asked) = consenting().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(REDIRECT, &format!("http://{free}/callback")).replace("\"off\"", &format!("\"{free}\""));
    std::fs::write(path, text).unwrap();
    (installation, crm, asked)
}

/// What the CRM's page sends the browser back to, once access is granted at the printed address.
fn granted(printed: &str, crm: &Crm) -> String {
    let begin = format!("http://{}/oauth?", crm.address);
    let word = printed.split_whitespace().find(|word| word.starts_with(&begin));
    let page = Url::parse(word.unwrap_or_else(|| panic!("no address in {printed}"))).unwrap();
    let sent: BTreeMap<String, String> = page.query_pairs().into_owned().collect();
    assert_eq!((sent["client_id"].as_str(), sent["mode"].as_str()), ("sync", "popup"));
    // as amoCRM does, with the account's host
    format!("{}?code=C1&state={}&referer=example.amocrm.ru&from_widget=1", sent["redirect_uri"], sent["state"])
}

async fn asked_for(asked: &mut mpsc::UnboundedReceiver<Value>) -> Value {
    tokio::time::timeout(PATIENCE, asked.recv()).await.expect("the CRM is asked").unwrap()
}

async fn browse(url: &str) -> (u16, String) {
    let browser = HttpExchange::new(Timeouts { connect: PATIENCE, read: PATIENCE, total: PATIENCE }, 1 << 20);
    let answer = browser.exchange(http::Request::get(url).body(Bytes::new()).unwrap()).await.unwrap();
    (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
}

async fn status(installation: &Installation) -> Value {
    installation.run(&["status", "--output", "json"]).await.json()
}

fn alerts(status: &Value) -> Vec<(String, String)> {
    let text = |alert: &Value, key: &str| alert[key].as_str().unwrap().to_owned();
    let alerts = status["alerts"].as_array().unwrap().iter();
    let ours = alerts.filter(|alert| alert["name"].as_str().unwrap().starts_with("tokens-"));
    ours.map(|alert| (text(alert, "text"), text(alert, "hint"))).collect()
}

fn command(installation: &Installation) -> String {
    format!("`reteno-sync --config {} --authorize --source crm`", installation.path("config.toml").display())
}

#[track_caller]
fn assert_failed(ran: &Ran, code: i32, message: &str, hint: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(message), "{message:?} is missing: {ran:?}");
    let hints = ran.stderr.lines().filter(|line| line.starts_with("hint: "));
    assert!(hints.into_iter().any(|line| line.contains(hint)), "{hint:?} is missing: {ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crm_is_authorized_by_a_passed_on_response_and_told_with_its_expiries() {
    let (installation, crm, mut asked) = consenting().await;
    let begun = installation.run(&["--authorize", "--source", "crm"]).await;
    assert_eq!(begun.code, 75, "{begun:?}");
    assert!(begun.stdout.contains("authorize --source crm --auth-response URL"), "{begun:?}");
    let before = installation.run(&["status"]).await;
    assert!(before.stdout.contains("tokens of crm") && before.stdout.contains(&command(&installation)), "{before:?}");
    let back = granted(&begun.stdout, &crm);
    let done = installation.run(&["authorize", "--source", "crm", "--auth-response", &back]).await;
    assert_eq!(done.code, 0, "{done:?}");
    for words in ["authorized", "crm", "https://api.crm.example", "access token ends", "refresh token ends"] {
        assert!(done.stdout.contains(words), "{words} is missing: {done:?}");
    }
    let exchange = asked_for(&mut asked).await;
    assert_eq!((exchange["code"].as_str(), exchange["redirect_uri"].as_str()), (Some("C1"), Some(REDIRECT)));
    // the pending authorization says whose the answer is; the same one again exchanges nothing
    let again = installation.run(&["--output", "json", "authorize", "--auth-response", &back]).await;
    assert_eq!((again.code, again.json()["source"].as_str()), (0, Some("crm")), "{again:?}");
    assert!(asked.try_recv().is_err());
    let told = status(&installation).await;
    let tokens = &told["source_tokens"]["crm"];
    assert_eq!(tokens["state"], "authorized", "{told}");
    assert!(tokens["access_token_expires_at"].as_str() < tokens["refresh_token_expires_at"].as_str(), "{told}");
    assert!(told["tokens"].is_null(), "Reteno's own are another matter");
    let text = installation.run(&["status"]).await.stdout;
    assert!(text.contains("authorized; access token ends in"), "{text}");
    for secret in ["access-1", "refresh-1", "s3cret"] {
        assert!(!format!("{begun:?}{done:?}{again:?}{told}{text}").contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_crm_names_the_source_and_its_command() {
    let (installation, crm, _asked) = consenting().await;
    let begun = installation.run(&["authorize", "--source", "crm"]).await;
    let back = granted(&begun.stdout, &crm);
    let refused =
        installation.run(&["authorize", "--source", "crm", "--auth-response", &back.replace("C1", "C2")]).await;
    assert_failed(&refused, 1, "the CRM of source crm refused the authorization code", &command(&installation));
    assert!(!refused.stderr.contains("s3cret") && !refused.stderr.contains("C2"), "{refused:?}");
    let denied = back.replace("code=C1", "error=access_denied");
    let begun = installation.run(&["authorize", "--source", "crm"]).await;
    let state = |text: &str| text.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let denied = denied.replace(&state(&denied), &state(&granted(&begun.stdout, &crm)));
    let refused = installation.run(&["authorize", "--auth-response", &denied]).await;
    assert_failed(&refused, 1, "access was refused on the page of the CRM of source crm", &command(&installation));
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_no_person_authorizes_say_what_to_set_instead() {
    let installation = Installation::begin().await;
    let unknown = installation.run(&["authorize", "--source", "nobody"]).await;
    assert_failed(&unknown, 78, "there is no source nobody", "the configuration has: crm");
    let plain = installation.run(&["authorize", "--source", "crm"]).await;
    assert_failed(
        &plain,
        78,
        "source crm is not authorized by a person",
        "grant = \"refresh_token\" in [source.crm.auth]",
    );
    let (crm, _asked) = Crm::begin().await;
    crm.configure(&installation, "grant = \"client_credentials\"");
    let machine = installation.run(&["authorize", "--source", "crm"]).await;
    assert_failed(&machine, 78, "its tokens are had without a person", "see them with `status`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_serves_a_crms_callback_keeps_its_tokens_alive_and_tells_when_a_person_is_needed() {
    let (installation, crm, mut asked) = with_listener().await;
    let mut daemon = installation.start(&["run"]);
    daemon.says("the CRM of source crm has not authorized this program").await;
    let told = alerts(&status(&installation).await);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.contains(&command(&installation)), "{told:?}");

    // the command finds the daemon's listener, and the daemon completes what the command began
    let mut begun = installation.command(&["authorize", "--source", "crm"]);
    let mut child = begun.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let keyboard = child.stdin.take();
    let mut screen = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    let back = loop {
        let line = tokio::time::timeout(PATIENCE, screen.next_line()).await.unwrap().unwrap().expect("an address");
        if line.contains("/oauth?") {
            break granted(&line, &crm);
        }
    };
    let (shown, page) = browse(&back).await;
    assert!(shown == 200 && page.contains("may now read the CRM of source crm"), "{shown} {page}");
    assert_eq!(tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(0));
    drop(keyboard);
    assert_eq!(asked_for(&mut asked).await["grant_type"], "authorization_code");
    daemon.says("the alert has ended").await;

    // half of four seconds later, and again: each time with the last refresh token
    for number in 1..=2 {
        let refresh = asked_for(&mut asked).await;
        assert_eq!(refresh["refresh_token"], format!("refresh-{number}"), "{refresh}");
        assert!(refresh["code"].is_null(), "a CRM's code works once: {refresh}");
    }
    assert_eq!(alerts(&status(&installation).await), []);
    crm.state.lock().unwrap().revoked = true;
    daemon.says("the tokens of source crm cannot be renewed").await;
    assert_eq!(status(&installation).await["source_tokens"]["crm"]["state"], "needs authorization");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_before_it_kept_a_rotated_pair_tries_the_old_one_again() {
    let (installation, crm, mut asked) = consenting().await;
    let begun = installation.run(&["authorize", "--source", "crm"]).await;
    let back = granted(&begun.stdout, &crm);
    assert_eq!(installation.run(&["authorize", "--source", "crm", "--auth-response", &back]).await.code, 0);
    asked_for(&mut asked).await;
    crm.state.lock().unwrap().holds_answer = true;
    let daemon = installation.start(&["run"]);
    assert_eq!(asked_for(&mut asked).await["refresh_token"], "refresh-1");
    daemon.kill().await;
    let daemon = installation.start(&["run"]);
    assert_eq!(asked_for(&mut asked).await["refresh_token"], "refresh-1", "nothing newer was ever on disk");
    assert_eq!(asked_for(&mut asked).await["refresh_token"], "refresh-3");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    assert_eq!(status(&installation).await["source_tokens"]["crm"]["state"], "authorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_has_tokens_of_credentials_by_itself_and_forgets_alerts_of_what_is_not_configured() {
    let installation = Installation::begin().await;
    let (crm, mut asked) = Crm::begin().await;
    let plain = std::fs::read_to_string(installation.path("config.toml")).unwrap();
    crm.configure(&installation, "grant = \"client_credentials\"");
    let wrong = std::fs::read_to_string(installation.path("config.toml")).unwrap().replace("= \"s3cret\"", "= \"x\"");
    std::fs::write(installation.path("config.toml"), wrong).unwrap();
    let mut daemon = installation.start(&["run"]);
    daemon.says("source crm gets no access token").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    assert_eq!(asked_for(&mut asked).await["client_secret"], "x");
    assert_eq!(alerts(&status(&installation).await).len(), 1);

    std::fs::write(installation.path("config.toml"), &plain).unwrap();
    let mut daemon = installation.start(&["run"]);
    daemon.says("is running").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    assert_eq!(alerts(&status(&installation).await), []);

    crm.configure(&installation, "grant = \"client_credentials\"");
    let daemon = installation.start(&["run"]);
    while asked_for(&mut asked).await["client_secret"] != "s3cret" {}
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    assert_eq!(status(&installation).await["source_tokens"]["crm"]["state"], "authorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_runs_once_renews_a_crms_tokens_and_tells_when_a_person_is_needed() {
    let (installation, crm, mut asked) = consenting().await;
    installation.authorize().await;
    assert_eq!(installation.run(&["sync"]).await.code, 77, "the CRM is not read without tokens");
    assert!(alerts(&status(&installation).await)[0].0.contains("has not authorized this program"));
    let begun = installation.run(&["authorize", "--source", "crm"]).await;
    let back = granted(&begun.stdout, &crm);
    assert_eq!(installation.run(&["authorize", "--auth-response", &back]).await.code, 0);
    assert_eq!(alerts(&status(&installation).await), []);
    asked_for(&mut asked).await;
    crm.state.lock().unwrap().revoked = true;
    // half of four seconds is over at some time
    let sync = async {
        while asked.try_recv().is_err() {
            // the access token serves until its end
            assert!([0, 77].contains(&installation.run(&["sync"]).await.code));
        }
    };
    tokio::time::timeout(PATIENCE, sync).await.expect("it is renewed");
    assert!(alerts(&status(&installation).await)[0].0.contains("cannot be renewed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sources_secret_is_taken_from_a_variable_a_file_or_a_credential() {
    let (installation, _crm, _asked) = consenting().await;
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("[source.crm.secrets]\napp = \"s3cret\"\n", "");
    std::fs::write(&path, &text).unwrap();
    let missing = installation.run(&["check"]).await;
    assert_eq!(missing.code, 78, "{missing:?}");
    for words in ["source.crm.auth.client_secret names {secret.app}", "the systemd credential crm_app"] {
        assert!(missing.stderr.contains(words), "{words} is missing: {missing:?}");
    }
    let checked = |command: &mut tokio::process::Command| command.output();
    let of_variable =
        checked(installation.command(&["check"]).env("RETENO_SYNC_SOURCE__CRM__SECRETS__APP", "s3cret")).await.unwrap();
    assert!(of_variable.status.success(), "{of_variable:?}");
    let directory = installation.path("credentials");
    std::fs::create_dir(&directory).unwrap();
    let write = |path: std::path::PathBuf| {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
        file.unwrap().write_all(b"s3cret\n").unwrap();
    };
    write(directory.join("crm_app"));
    let of_credential =
        checked(installation.command(&["check"]).env("CREDENTIALS_DIRECTORY", &directory)).await.unwrap();
    assert!(of_credential.status.success(), "{of_credential:?}");
    write(installation.path("app.txt"));
    std::fs::write(&path, format!("{text}[source.crm.secrets]\napp = {{ file = \"app.txt\" }}\n")).unwrap();
    assert_eq!(installation.run(&["check"]).await.code, 0);
}
