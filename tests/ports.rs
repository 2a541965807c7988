//! The program's ports as CRMs, operators and strangers meet them: what it answers while something is broken or missing, and
//! what nobody but a person in charge may ask.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::Stdio;

use program::{Installation, PATIENCE, Running};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An installation with a webhook beside its file, and where it listens: for this machine, and for strangers.
struct Ports {
    installation: Installation,
    private: SocketAddr,
    public: SocketAddr,
}

impl Ports {
    async fn begin() -> Self {
        let installation = Installation::begin().await;
        let free = || StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (private, public) = (free(), free());
        let ports = Self { installation, private, public };
        ports.configure();
        ports
    }

    fn configure(&self) {
        self.installation.configure("");
        let path = self.installation.path("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let listen = format!("address = \"{}\"\npublic_address = \"{}\"", self.private, self.public);
        let text = text.replace("address = \"off\"", &listen);
        let text = text.replace("path = \"contacts.csv\"", "path = \"contacts.csv\"\nschedule = \"* * * * * *\"");
        let text =
            text.replace("externalCustomerId = \"id\"", "externalCustomerId = { path = \"id\", prefix = \"c\" }");
        let hook = format!(
            "[source.shop]\nkind = \"webhook\"\n[source.shop.webhook]\nverify = \"path_token\"\ntoken = \"{TOKEN}\"\n\
             id = \"$.id\"\nrecord = \"$\"\n[source.shop.contact]\n\
             externalCustomerId = {{ path = \"id\", prefix = \"s\" }}\nemail = \"email\"\ntown = \"town\"\n"
        );
        std::fs::write(path, format!("{text}{hook}")).unwrap();
    }

    async fn started(&self) -> Running {
        let mut daemon = self.installation.start(&["-v", "run"]);
        daemon.says("is running").await;
        daemon
    }

    async fn deliver(&self) -> String {
        let body = "{\"id\":\"9\",\"email\":\"c9@example.com\",\"town\":\"Odesa\"}";
        let length = body.len();
        ask(self.public, &format!("POST /hooks/shop/{TOKEN} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n"), body)
            .await
    }

    /// As [`Ports::deliver`], where perhaps nobody listens yet.
    async fn try_deliver(&self) -> String {
        if TcpStream::connect(self.public).await.is_err() { String::new() } else { self.deliver().await }
    }

    /// Asks again and again until the answer is this.
    async fn until(&self, what: &str, mut ask: impl AsyncFnMut(&Self) -> String, begins: &str) -> String {
        let asking = async {
            loop {
                let answer = ask(self).await;
                if answer.starts_with(begins) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what} never was {begins:?}"))
    }
}

/// One request, and its whole answer.
async fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_cannot_be_opened_ends_nothing_and_is_used_as_soon_as_it_can_be() {
    let ports = Ports::begin().await;
    ports.installation.authorize().await;
    // no database can be opened there, and none be made
    let inbox = ports.installation.path("state/inbox.db");
    std::fs::create_dir(&inbox).unwrap();
    let daemon = ports.started().await;
    for _ in 0..20 {
        let answer = ports.deliver().await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    }
    let alerts = || async {
        let status = ports.installation.run(&["status", "--output", "json"]).await.json();
        status["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| alert["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(alerts().await.contains(&"inbox".to_owned()));
    std::fs::remove_dir(&inbox).unwrap();
    ports.until("the delivery", async |ports| ports.deliver().await, "HTTP/1.1 200 ").await;
    // and what it says is acted on, by the daemon that was there all the time
    let holds = || ports.installation.held().iter().any(|(id, town)| id == "s9" && town == "Odesa");
    let arrives = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrives).await.expect("it arrives");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_checkpoint_cannot_be_opened_senders_are_told_to_come_again() {
    let ports = Ports::begin().await;
    ports.installation.authorize().await;
    let other = rusqlite::Connection::open(ports.installation.path("state/reteno-sync.db")).unwrap();
    other
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE stranger (id); COMMIT")
        .unwrap();
    let mut daemon = ports.installation.start(&["run"]);
    daemon.says("everything waits for the checkpoint").await;
    let answer = ports.until("the delivery", async |ports| ports.try_deliver().await, "HTTP/1.1 503 ").await;
    assert!(answer.contains("retry-after: "), "{answer}");
    let readyz = ask(ports.private, "GET /readyz HTTP/1.1\r\nhost: x\r\n", "").await;
    assert!(readyz.starts_with("HTTP/1.1 503 ") && readyz.contains("waits for the checkpoint"), "{readyz}");
    assert!(ask(ports.private, "GET /livez HTTP/1.1\r\nhost: x\r\n", "").await.starts_with("HTTP/1.1 200 "));
    other.execute_batch("DROP TABLE stranger").unwrap();
    drop(other);
    daemon.says("is running").await;
    assert!(ports.deliver().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_waits_for_the_authorization_and_the_first_read_and_says_so() {
    let ports = Ports::begin().await;
    let csv = ports.installation.path("contacts.csv");
    let away = ports.installation.path("away.csv");
    std::fs::rename(&csv, &away).unwrap();
    let daemon = ports.started().await;
    let readyz = async |ports: &Ports| ask(ports.private, "GET /readyz HTTP/1.1\r\nhost: x\r\n", "").await;
    let unready = async |reason: &str| {
        let told = async {
            while !readyz(&ports).await.ends_with(&format!("not ready: {reason}\n")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("never {reason:?}"));
        assert!(readyz(&ports).await.starts_with("HTTP/1.1 503 "));
    };
    unready("Reteno has not authorized this program").await;
    ports.installation.authorize().await;
    unready("not read to its end yet: crm").await;
    std::fs::rename(&away, &csv).unwrap();
    ports.until("/readyz", readyz, "HTTP/1.1 200 ").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

/// As `ulimit -n 64` leaves them: the program itself takes some thirty.
#[tokio::test(flavor = "multi_thread")]
async fn with_few_file_descriptors_strangers_starve_neither_the_sync_nor_a_good_sender() {
    let ports = Ports::begin().await;
    ports.installation.authorize().await;
    let mut limited = tokio::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_reteno-sync"), "--config"]);
    limited.arg(ports.installation.path("config.toml")).args(["-v", "run"]).kill_on_drop(true);
    limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut daemon = Running::of(limited.spawn().unwrap());
    daemon.says("is running").await;
    let mut strangers = Vec::new();
    for _ in 0..100 {
        for address in [ports.private, ports.public] {
            strangers.push(TcpStream::connect(address).await.unwrap());
        }
    }
    // all of them are there at once, and stay
    ports.installation.crm_says(&[("1", "Odesa"), ("2", "Lviv")]);
    assert!(ports.deliver().await.starts_with("HTTP/1.1 200 "));
    let holds = |id: &str| ports.installation.held().iter().any(|(held, town)| held == id && town == "Odesa");
    let arrive = async {
        while !(holds("c1") && holds("s9")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrive).await.expect("both arrive");
    drop(strangers);
    daemon.signal(Signal::TERM);
    let ended = daemon.end().await;
    assert_eq!(ended.code, 0);
    assert!(!ended.stderr.contains("Too many open files"), "{ended:?}");
}
