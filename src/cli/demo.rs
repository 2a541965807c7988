//! `demo`: everything in one process over real HTTP: the built-in Reteno, a file of invented people, the real
//! authorization, and four troubles. What the tables say of Reteno is counted by the sandbox, not by us.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::PageMode;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::daemon::compose::{self, Account, Surroundings};
use crate::daemon::cycle::{CycleParts, Reach};
use crate::daemon::lifecycle;
use crate::daemon::sender::{Line, Sender, Until};
use crate::http::Exchange;
use crate::http::socket::{HttpExchange, Timeouts};
use crate::oauth::Origin;
use crate::plan::balance::Balance;
use crate::report::{self, Progress};
use crate::sandbox::crm::{CrmRow, edit_contacts, invented_contacts, write_csv};
use crate::sandbox::{Applied, CallKind, Canned, Effect, Fault, Listening, Sandbox, SandboxOptions};

use super::session::{self, Role};
use super::sync::read_all;
use super::{Context, Exit, Failure, Output};

/// Where the answer would be sent to; nobody listens there, the address is read from the redirect.
const REDIRECT: &str = "https://demo.example.com/callback";
const CONTACTS: usize = 5_000;
const ADDED: usize = 20;
const EDITED: usize = 50;
/// How long one step may take at most.
const STEP_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Decides the people, the delays and the order of imports.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// Keep the state directory and the file of people here.
    #[arg(long, hide = true, value_name = "DIR")]
    keep: Option<PathBuf>,
}

struct Stage {
    dir: PathBuf,
    config: Config,
    sandbox: Sandbox,
    around: Surroundings,
    account: Account,
    people: Vec<CrmRow>,
    progress: Progress,
    is_json: bool,
    total: Balance,
}

pub(super) async fn demo(context: &Context, arguments: &DemoArguments) -> Result<Exit, Failure> {
    let stop = lifecycle::stop_on_signals(Duration::from_secs(1)).context("cannot watch signals").map_err(plain)?;
    // dropped, it takes its files with it, whatever ended the demo
    let (dir, _temporary) = if let Some(dir) = &arguments.keep {
        let mut maker = std::fs::DirBuilder::new();
        maker.recursive(true).mode(0o700).create(dir).context("cannot make a directory").map_err(plain)?;
        (dir.clone(), None)
    } else {
        let temporary = tempfile::Builder::new().prefix("reteno-sync-demo-").tempdir();
        let temporary = temporary.context("cannot make a directory for the demo").map_err(plain)?;
        (temporary.path().to_owned(), Some(temporary))
    };
    tokio::select! {
        played = play(context, arguments, &dir) => played,
        () = stop.soft.cancelled() => Err(plain(anyhow!("the demo was stopped"))),
    }
}

fn plain(error: anyhow::Error) -> Failure {
    Failure::plain(error)
}

async fn play(context: &Context, arguments: &DemoArguments, dir: &Path) -> Result<Exit, Failure> {
    let options = SandboxOptions {
        seed: arguments.seed,
        redirect_uri: REDIRECT.to_owned(),
        import_delay: Duration::from_millis(100)..=Duration::from_millis(600),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::new(options, Clock::system());
    let listening = sandbox.listen(([127, 0, 0, 1], 0).into()).await.context("cannot listen").map_err(plain)?;
    let config = write_config(dir, &listening).map_err(plain)?;
    let around = session::open(&config, &Role::Sender("demo"))?;
    let account = compose::connect(&config, &around, false)?;
    let mut stage = Stage {
        dir: dir.to_owned(),
        config,
        sandbox,
        around,
        account,
        people: invented_contacts(arguments.seed, CONTACTS + ADDED),
        progress: context.progress.clone(),
        is_json: context.output == Output::Json,
        total: Balance::default(),
    };
    stage.say(&format!("a sandbox Reteno listens on {}, seed {}", listening.address(), arguments.seed));
    stage.authorize().await?;
    stage.first_load().await?;
    stage.edits(arguments.seed).await?;
    stage.newcomers().await?;
    stage.say("4. the file is read again, unchanged");
    stage.sync(CONTACTS + ADDED).await?;
    let exit = stage.conclude().await;
    listening.stop().await;
    exit
}

fn write_config(dir: &Path, listening: &Listening) -> anyhow::Result<Config> {
    let text = format!(
        "state_dir = \"{}\"\n[reteno]\napi_url = {:?}\nauthorize_url = {:?}\ntoken_url = {:?}\nclient_id = \"sandbox-client\"\n\
         client_secret = \"sandbox-secret\"\nredirect_uri = {REDIRECT:?}\nbatch_contacts_max = 1000\nimport_poll_first = \"200ms\"\n\
         [source.crm]\nkind = \"file\"\npath = \"contacts.csv\"\nchanged_at = \"updated_at\"\n[source.crm.contact]\n\
         externalCustomerId = \"id\"\nfirstName = \"first_name\"\nlastName = \"last_name\"\nemail = \"email\"\n\
         sms = {{ path = \"phone\", region = \"UA\" }}\ntown = \"city\"\nlanguageCode = \"lang\"\n\
         [source.crm.contact.fields]\n87166 = \"tier\"\n",
        dir.join("state").display(),
        listening.api_url(),
        listening.authorize_url(),
        listening.token_url()
    );
    let path = dir.join("config.toml");
    std::fs::write(&path, text).context("cannot write the demo's configuration")?;
    config::load(&path, std::iter::empty(), None).context("the demo's configuration is wrong")
}

impl Stage {
    fn say(&self, line: &str) {
        if !self.is_json {
            report::say(line);
        }
    }

    /// The authorization code run, with a GET in the place of the person who presses "allow".
    async fn authorize(&mut self) -> Result<(), Failure> {
        let begun = self.account.authorizer.begin(&self.account.desk, &self.around.random).await;
        let (pending, _) = begun.context("cannot begin the authorization").map_err(plain)?;
        let second = Duration::from_secs(10);
        let browser = HttpExchange::new(Timeouts { connect: second, read: second, total: second }, 1 << 20);
        let request = http::Request::get(format!("{}&auto=allow", pending.url)).body(bytes::Bytes::new());
        let answer = browser.exchange(request.context("cannot build a request").map_err(plain)?).await;
        let answer = answer.context("the sandbox does not answer").map_err(plain)?;
        let place = answer.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let place = place.ok_or_else(|| plain(anyhow!("the sandbox did not redirect the browser")))?;
        let granted = self.account.authorizer.complete(&self.account.desk, place, Origin::Pasted).await;
        granted.context("cannot complete the authorization").map_err(plain)?;
        self.say("authorized through the real code: address, redirect, code, tokens, proof");
        Ok(())
    }

    async fn first_load(&mut self) -> Result<(), Failure> {
        self.say(&format!("1. {CONTACTS} invented people for the first time; Reteno answers 429 twice, and one import ends in ERROR half way"));
        let burst = Effect::Answer(Canned::too_many(Some("1")));
        self.sandbox.fault(Fault::on(CallKind::SubmitContacts, burst).times(2));
        self.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::FailImport(Applied::Part)).after(3));
        self.sync(CONTACTS).await
    }

    async fn edits(&mut self, seed: u64) -> Result<(), Failure> {
        self.say(&format!("2. {EDITED} people move; every access token has expired"));
        edit_contacts(&mut self.people[..CONTACTS], EDITED, seed, self.around.clock.now());
        self.sandbox.expire_access_tokens();
        self.sync(CONTACTS).await
    }

    async fn newcomers(&mut self) -> Result<(), Failure> {
        self.say(&format!("3. {ADDED} people more; the answer to their call is lost on its way back"));
        self.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
        self.sync(CONTACTS + ADDED).await
    }

    /// What `sync` does, with the first `count` people in the file.
    async fn sync(&mut self, count: usize) -> Result<(), Failure> {
        let before = self.sandbox.tally();
        let file = File::create(self.dir.join("contacts.csv")).context("cannot write the people").map_err(plain)?;
        write_csv(&self.people[..count], std::io::BufWriter::new(file))
            .context("cannot write the people")
            .map_err(plain)?;
        let catalog = compose::load_catalog(&self.config, &self.account.client, &self.around.store).await?;
        let sources: Vec<_> = self.config.sources.iter().collect();
        let feeds = session::build_feeds(&self.config, &sources, &catalog, &self.around).await?;
        let (line, stop) = (Line::default(), CancellationToken::new());
        let Surroundings { store, clock, random, crms: _ } = self.around.clone();
        let settings = compose::send_settings(&self.config);
        let client = self.account.client.clone();
        let mut sender = Sender::resume(store, client, clock, random, (settings, line.clone())).await?;
        let parts = CycleParts {
            store: &self.around.store,
            clock: &self.around.clock,
            line: &line,
            stop: &stop,
            mode: PageMode::Apply,
            on_page: &|_| {},
        };
        let progress = self.progress.clone();
        let filling = line.fill();
        let reading = async {
            let read = read_all(&feeds, Reach::Changes, &parts, &progress).await;
            drop(filling);
            read
        };
        let until = Until::Drained(STEP_MAX);
        let (read, ended) = tokio::join!(reading, sender.run(until, &stop));
        ended?;
        for (_, report) in read {
            let report = report?;
            self.total += report.balance;
            self.say(&format!("   {}", report.balance));
        }
        let after = self.sandbox.tally();
        let got = after.contacts_received - before.contacts_received;
        self.say(&format!(
            "   Reteno took {got} contacts in {} imports",
            after.imports_accepted - before.imports_accepted
        ));
        Ok(())
    }

    /// Whether the sandbox holds every good person as the file has them, and nobody else.
    fn count_wrong(&self) -> usize {
        let held: BTreeMap<String, _> = self
            .sandbox
            .contacts()
            .into_iter()
            .filter_map(|contact| Some((contact.external_id.clone()?, contact)))
            .collect();
        let has_channel = |row: &&CrmRow| row.flaw.is_none();
        let good: Vec<&CrmRow> = self.people.iter().filter(has_channel).collect();
        let differs = |row: &&&CrmRow| {
            held.get(&row.id).is_none_or(|contact| {
                let tier = contact.fields.get("87166").map_or("", String::as_str);
                contact.fields.get("town") != Some(&row.city)
                    || tier != row.tier
                    || contact.email.as_deref() != Some(row.email.to_lowercase().as_str())
            })
        };
        good.iter().filter(differs).count()
    }

    async fn conclude(&self) -> Result<Exit, Failure> {
        let rejections = self
            .around
            .store
            .call(|checkpoint| {
                checkpoint.settle_disk()?;
                checkpoint.load_rejections()
            })
            .await?;
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        for row in rejections {
            *reasons.entry(row.reason).or_default() += 1;
        }
        let wrong = self.count_wrong();
        let figures = self.figures(wrong);
        if self.is_json {
            report::say_json(&serde_json::json!({
                "counted_by_the_sandbox": figures.iter().cloned().collect::<BTreeMap<_, _>>(),
                "balance": self.total,
                "rejected": reasons,
            }));
        } else {
            self.show(&figures, &reasons);
        }
        Ok(if wrong == 0 { Exit::Done } else { Exit::Failed })
    }

    fn figures(&self, wrong: usize) -> Vec<(String, u64)> {
        let tally = self.sandbox.tally();
        let overlaps = self.sandbox.overlaps().iter().filter(|overlap| !overlap.identical).count() as u64;
        let mut figures: Vec<(String, u64)> = self
            .sandbox
            .counts()
            .into_iter()
            .map(|((kind, status), count)| {
                let status = status.map_or("lost".to_owned(), |status| status.to_string());
                (format!("calls: {} {status}", kind.name()), count)
            })
            .collect();
        let rest = [
            ("contacts received", tally.contacts_received),
            ("contacts written", tally.contacts_written),
            ("contacts created", tally.contacts_created),
            ("contacts refused", tally.contacts_failed),
            ("imports finished", tally.imports_finished),
            ("imports that ended in ERROR", tally.imports_failed),
            ("identical bodies repeated", tally.bodies_repeated),
            ("imports of one contact at the same time", overlaps),
            ("pairs of tokens given", tally.tokens_given),
            ("contacts held", self.sandbox.contacts().len() as u64),
            ("contacts wrong", wrong as u64),
        ];
        figures.extend(rest.map(|(name, count)| (name.to_owned(), count)));
        figures
    }

    fn show(&self, figures: &[(String, u64)], reasons: &BTreeMap<String, u64>) {
        let rows =
            |pairs: &[(String, u64)]| pairs.iter().map(|(n, c)| vec![n.clone(), c.to_string()]).collect::<Vec<_>>();
        report::say(&format!("\n{}", report::table(&["counted by the sandbox Reteno", ""], &rows(figures))));
        let reasons: Vec<(String, u64)> = reasons.iter().map(|(reason, count)| (reason.clone(), *count)).collect();
        report::say(&format!("\n{}", report::table(&["not sent, and why", ""], &rows(&reasons))));
        report::say(&format!("\nread in all: {}", self.total));
        report::say(
            "\nnext, with your own data (config.example.toml documents every key):\n  \
             reteno-sync --config config.toml check\n  \
             reteno-sync --config config.toml --authorize\n  \
             reteno-sync --config config.toml plan",
        );
    }
}
