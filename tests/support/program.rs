//! The program as its user meets it: a process with a configuration file, beside a sandbox Reteno on a loopback port.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs, reason = "test support")]

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use reteno_sync::clock::Clock;
use reteno_sync::sandbox::{CallKind, Listening, Phase, Sandbox, SandboxOptions};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;

/// How long anything may take here. Far beyond any load of the machine: only a fault waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// Nobody listens there: an answer of the authorization page is passed on by hand.
pub(crate) const REDIRECT: &str = "https://ops.example.com/callback";

/// One installation: a directory with configuration, state and the CRM's file, and an account at a sandbox.
pub(crate) struct Installation {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) sandbox: Sandbox,
    pub(crate) listening: Listening,
}

impl Installation {
    /// Imports end at once and every answer comes.
    pub(crate) async fn begin() -> Self {
        let instant = Duration::from_millis(1);
        Self::with(SandboxOptions { import_delay: instant..=instant, ..SandboxOptions::default() }).await
    }

    pub(crate) async fn with(options: SandboxOptions) -> Self {
        let sandbox = Sandbox::new(SandboxOptions { redirect_uri: REDIRECT.to_owned(), ..options }, Clock::system());
        let listening = sandbox.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let installation = Self { dir: tempfile::tempdir().unwrap(), sandbox, listening };
        installation.configure("");
        installation.crm_says(&[("1", "Kyiv"), ("2", "Lviv")]);
        installation
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration, with `more` at the end of its section `[reteno]`.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            r#"state_dir = "{}"
[listen]
address = "off"
[reteno]
api_url = "{}"
authorize_url = "{}"
token_url = "{}"
client_id = "sandbox-client"
client_secret = "sandbox-secret"
redirect_uri = "{REDIRECT}"
import_poll_first = "200ms"
{more}
[source.crm]
kind = "file"
path = "contacts.csv"
[source.crm.contact]
externalCustomerId = "id"
email = "email"
town = "town"
"#,
            self.path("state").display(),
            self.listening.api_url(),
            self.listening.authorize_url(),
            self.listening.token_url(),
        );
        std::fs::write(self.path("config.toml"), text).unwrap();
        // it holds the secret
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.path("config.toml"), own).unwrap();
    }

    /// What the CRM's file says: the id and the town of each contact.
    pub(crate) fn crm_says(&self, contacts: &[(&str, &str)]) {
        let rows: Vec<String> = contacts.iter().map(|(id, town)| format!("{id},c{id}@example.com,{town}\n")).collect();
        std::fs::write(self.path("contacts.csv"), format!("id,email,town\n{}", rows.concat())).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reteno-sync"));
        command.arg("--config").arg(self.path("config.toml")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // nothing of whoever runs the tests
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("RETENO_SYNC_") || name == "CREDENTIALS_DIRECTORY") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output();
        Ran::of(tokio::time::timeout(PATIENCE, output).await.expect("the command ends").unwrap())
    }

    /// Starts a command; its log is read by `Running`.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(arguments).spawn().unwrap())
    }

    /// The one-time authorization: a person opens the address, presses "allow", and the redirect is passed on.
    pub(crate) async fn authorize(&self) {
        let back = self.redirect(true).await;
        let done = self.run(&["authorize", "--auth-response", &back]).await;
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// Begins an authorization and gives what the browser is redirected to.
    pub(crate) async fn redirect(&self, allow: bool) -> String {
        // without an answer on its standard input the command leaves the authorization open
        let begun = self.run(&["--authorize"]).await;
        let url = begun.stdout.split_whitespace().find(|word| word.starts_with(&self.listening.authorize_url()));
        self.sandbox.authorize(url.unwrap_or_else(|| panic!("no address in {begun:?}")), allow).unwrap()
    }

    /// Ids and towns that the sandbox holds, in the order of ids.
    pub(crate) fn held(&self) -> Vec<(String, String)> {
        let contacts = self.sandbox.contacts().into_iter();
        let mut held: Vec<_> = contacts
            .map(|contact| {
                let town = contact.fields.get("town").cloned().unwrap_or_default();
                (contact.external_id.unwrap_or_default(), town)
            })
            .collect();
        held.sort();
        held
    }
}

/// Sends something for each request of a kind that has been carried out (or, with `Phase::Before`, is about to be).
pub(crate) fn watch(installation: &Installation, kind: CallKind, phase: Phase) -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    installation.sandbox.on_request(move |seen| {
        if seen.kind == kind && seen.phase == phase {
            // after the test has seen enough nobody listens
            let _ = sender.send(());
        }
    });
    receiver
}

pub(crate) async fn happens(mut moment: mpsc::UnboundedReceiver<()>) {
    tokio::time::timeout(PATIENCE, moment.recv()).await.expect("it happens").unwrap();
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("nobody killed it"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command at work.
pub(crate) struct Running {
    pub(crate) child: Child,
    log: tokio::io::Lines<BufReader<ChildStderr>>,
}

impl Running {
    pub(crate) fn of(mut child: Child) -> Self {
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    /// Waits for a line of the log that holds `text`.
    pub(crate) async fn says(&mut self, text: &str) {
        let mut said = Vec::new();
        let search = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                let is_it = line.contains(text);
                said.push(line);
                if is_it {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(PATIENCE, search).await.unwrap_or(false);
        assert!(found, "never said {text:?}: {said:#?}");
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks with a signal, and waits for the end.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id().expect("it runs")).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    pub(crate) async fn end(mut self) -> Ran {
        let mut log = String::new();
        let reading = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                log.push_str(&line);
                log.push('\n');
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it closes its log");
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.expect("it ends").unwrap();
        Ran { stderr: log, ..Ran::of(output) }
    }
}
