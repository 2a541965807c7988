//! `run` as systemd and an operator meet it: ready only when it is, obeying signals, going on with a good file, keeping
//! the old one over a bad file.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::net::TcpListener as StdListener;
use std::process::Stdio;

use program::{Installation, PATIENCE, Running, happens, watch};
use reteno_sync::sandbox::{CallKind, Effect, Fault, Phase};
use rustix::process::Signal;
use tokio::net::UnixDatagram;

/// An address that is free now.
fn free_address() -> std::net::SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A daemon that reads its source every second and listens on `address`.
fn configure(installation: &Installation, address: &str) {
    installation.configure("");
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("address = \"off\"", &format!("address = \"{address}\""));
    let text = text.replace("path = \"contacts.csv\"", "path = \"contacts.csv\"\nschedule = \"* * * * * *\"");
    std::fs::write(path, text).unwrap();
}

async fn started(installation: &Installation) -> Running {
    let mut daemon = installation.start(&["-v", "-v", "run"]);
    daemon.says("is running").await;
    daemon
}

/// Waits until the sandbox holds this town for contact 1, judged after each import's end was asked for.
async fn arrives(installation: &Installation, town: &str) {
    let mut asked = watch_all(installation, CallKind::ImportStatus);
    let holds = || installation.held().first().is_some_and(|(_, held)| held == town);
    while !holds() {
        tokio::time::timeout(PATIENCE, asked.recv()).await.expect("it arrives").unwrap();
    }
}

fn watch_all(installation: &Installation, kind: CallKind) -> tokio::sync::mpsc::UnboundedReceiver<()> {
    watch(installation, kind, Phase::After)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_in_the_crm_arrives_by_itself_and_term_ends_cleanly() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    configure(&installation, "off");
    let daemon = started(&installation).await;
    arrives(&installation, "Kyiv").await;
    installation.crm_says(&[("1", "Odesa"), ("2", "Lviv")]);
    arrives(&installation, "Odesa").await;
    daemon.signal(Signal::TERM);
    let ended = daemon.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("stopped"), "{ended:?}");
    assert_eq!(installation.sandbox.tally().contacts_received, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_answer_on_the_line_and_a_second_one_does_not() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    configure(&installation, "off");
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer).always());
    let posted = watch_all(&installation, CallKind::SubmitContacts);
    let daemon = started(&installation).await;
    happens(posted).await;
    daemon.signal(Signal::TERM);
    installation.sandbox.release();
    let ended = daemon.end().await;
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("submitted"), "the answer was still taken: {ended:?}");
    // again, with an answer that never comes: the second signal cuts the waiting short
    installation.crm_says(&[("1", "Odesa"), ("2", "Lviv")]);
    let posted = watch_all(&installation, CallKind::SubmitContacts);
    let daemon = started(&installation).await;
    happens(posted).await;
    daemon.signal(Signal::INT);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    // nothing is lost: the same body goes out again
    installation.sandbox.clear_faults();
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.held()[0].1, "Odesa");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_keeps_the_old_configuration_and_a_good_one_takes_over() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    configure(&installation, "off");
    let mut daemon = started(&installation).await;
    let path = installation.path("config.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let listening = format!("address = \"{}\"", free_address());
    let bad = [
        good.replace("town = ", "twon = "),
        good.replace("client_secret = \"sandbox-secret\"\n", ""),
        good.replace("state_dir = \"", "state_dir = \"/elsewhere"),
    ];
    for text in bad {
        std::fs::write(&path, text).unwrap();
        daemon.signal(Signal::HUP);
        daemon.says("the old configuration stays").await;
    }
    std::fs::write(&path, good.replace("address = \"off\"", &listening)).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("starting anew").await;
    daemon.says("is running").await;
    installation.crm_says(&[("1", "Poltava")]);
    arrives(&installation, "Poltava").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_onto_a_port_in_use_keeps_the_old_configuration() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    configure(&installation, "off");
    let mut daemon = started(&installation).await;
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    configure(&installation, &taken.local_addr().unwrap().to_string());
    daemon.signal(Signal::HUP);
    daemon.says("the old configuration stays: cannot listen on").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_cannot_start_ends_and_is_never_ready() {
    let installation = Installation::begin().await;
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    configure(&installation, &taken.local_addr().unwrap().to_string());
    let (code, said) = run_under_systemd(&installation).await;
    assert_eq!((code, said.as_slice()), (75, [].as_slice()), "the port may be free soon");
    installation.configure("");
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("client_secret = \"sandbox-secret\"\n", "")).unwrap();
    let (code, said) = run_under_systemd(&installation).await;
    assert_eq!((code, said.as_slice()), (78, [].as_slice()));
}

/// Runs `run` to its end with a socket in systemd's place; gives its code and what it said of READY.
async fn run_under_systemd(installation: &Installation) -> (i32, Vec<String>) {
    let socket = UnixDatagram::bind(installation.path("notify")).unwrap();
    let mut command = installation.command(&["run"]);
    command.env("NOTIFY_SOCKET", installation.path("notify")).stdout(Stdio::null());
    let status = tokio::time::timeout(PATIENCE, command.status()).await.expect("it ends").unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.try_recv(&mut buffer) {
        said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    std::fs::remove_file(installation.path("notify")).unwrap();
    (status.code().unwrap(), said.into_iter().filter(|words| words.contains("READY")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_ready_status_reloading_and_stopping_in_their_order() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    configure(&installation, "off");
    let socket = UnixDatagram::bind(installation.path("notify")).unwrap();
    let mut command = installation.command(&["run"]);
    command.env("NOTIFY_SOCKET", installation.path("notify")).env("WATCHDOG_USEC", "300000");
    let daemon = Running::of(command.spawn().unwrap());
    let heard = async |wanted: &str| {
        let search = async {
            let mut buffer = [0; 4096];
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if words.contains(wanted) {
                    return words;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("never heard {wanted}"))
    };
    heard("READY=1").await;
    let status = heard("STATUS=").await;
    assert!(status.contains("contacts"), "it says how much: {status}");
    heard("WATCHDOG=1").await;
    daemon.signal(Signal::HUP);
    heard("RELOADING=1").await;
    heard("READY=1").await;
    daemon.signal(Signal::TERM);
    heard("STOPPING=1").await;
    assert_eq!(daemon.end().await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_and_a_second_sender_is_told_who_sends() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    let address = free_address();
    configure(&installation, &address.to_string());
    let daemon = started(&installation).await;
    let answer = get(address, "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // ready once its source was read
    let ready = async {
        loop {
            let answer = get(address, "/readyz").await;
            if answer.starts_with("HTTP/1.1 200") {
                break;
            }
            assert!(answer.contains("it is starting") || answer.contains("not read to its end yet: crm"), "{answer}");
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it is ready");
    let second = installation.run(&["sync"]).await;
    assert_eq!(second.code, 75);
    assert!(second.stderr.contains("`reteno-sync run`"), "{second:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A tap that is slower than its schedule: its cycles follow each other, and never meet.
#[tokio::test(flavor = "multi_thread")]
async fn cycles_of_one_source_never_overlap() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    configure(&installation, "off");
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // a run that finds another one's mark says so in the town
    let script = r#"t=Kyiv; mkdir mark || t=met; echo '{"type":"SCHEMA","stream":"c","schema":{"properties":{}},"key_properties":["id"]}'
n=$(cat runs 2>/dev/null || echo 0); n=$((n+1)); echo $n > runs
echo "{\"type\":\"RECORD\",\"stream\":\"c\",\"record\":{\"id\":\"1\",\"email\":\"c1@example.com\",\"town\":\"$t $n\"}}"
read -t 1.5 _ < wait; rmdir mark"#;
    let tap = installation.path("tap.sh");
    std::fs::write(&tap, script).unwrap();
    std::fs::write(installation.path("tap.json"), "{}").unwrap();
    let catalog = r#"{"streams":[{"tap_stream_id":"c","stream":"c","schema":{},"metadata":[]}]}"#;
    std::fs::write(installation.path("catalog.json"), catalog).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(installation.path("wait")).status().unwrap().success());
    // somebody holds the pipe open for writing, so that the tap's read waits its time
    let _writer = std::fs::File::options().read(true).write(true).open(installation.path("wait")).unwrap();
    let singer = format!(
        "kind = \"singer\"\ncommand = [\"bash\", \"{}\"]\nconfig = \"tap.json\"\ncatalog = \"catalog.json\"\nstream = \"c\"\n\
         working_directory = \"{}\"\nschedule = \"* * * * * *\"",
        tap.display(),
        installation.dir.path().display()
    );
    let text = text.replace("kind = \"file\"\npath = \"contacts.csv\"\nschedule = \"* * * * * *\"", &singer);
    std::fs::write(&path, text).unwrap();
    let daemon = started(&installation).await;
    arrives(&installation, "Kyiv 3").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
    assert!(installation.sandbox.applied_log("1").iter().all(|change| {
        change.values.get("town").is_none_or(|town| town.as_ref().is_none_or(|town| !town.contains("met")))
    }));
}

/// A backup holds the database's write lock for longer than any statement waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_outlasts_a_lock_on_its_database_and_says_so_once() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    configure(&installation, "off");
    let mut daemon = started(&installation).await;
    arrives(&installation, "Kyiv").await;
    let backup = rusqlite::Connection::open(installation.path("state/reteno-sync.db")).unwrap();
    backup.busy_timeout(PATIENCE).unwrap();
    backup.execute_batch("BEGIN IMMEDIATE").unwrap();
    installation.crm_says(&[("1", "Odesa")]);
    daemon.says("everything waits for the checkpoint").await;
    backup.execute_batch("ROLLBACK").unwrap();
    arrives(&installation, "Odesa").await;
    daemon.signal(Signal::TERM);
    let ended = daemon.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("everything waits"), "it is said once: {ended:?}");
}
