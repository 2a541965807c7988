//! A world in one process: the real checkpoint, planner, sender and client, the sandbox behind the request → response
//! seam, and a clock that only moves when everything waits.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs, reason = "test support")]

pub(crate) mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reteno_sync::checkpoint::{
    Checkpoint, Incoming, OpenOptions, PageMode, PageOutcome, ReadContext, SeenRows, StatusReport, Store,
};
use reteno_sync::clock::{Clock, Timestamp};
use reteno_sync::contact::{Contact, Field, Personal, Wanted};
use reteno_sync::daemon::sender::{Ended, Line, RestoreDeleted, SendSettings, Sender, Until};
use reteno_sync::plan::guard::Guard;
use reteno_sync::plan::policy::Policy;
use reteno_sync::plan::{Lane, SourceId};
use reteno_sync::random::Random;
use reteno_sync::reteno::body::DedupeOn;
use reteno_sync::reteno::{AccessTokens, Client, NoToken};
use reteno_sync::sandbox::{Sandbox, SandboxOptions};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

/// 2026-11-23 12:00 UTC.
pub(crate) const START: Timestamp = Timestamp(1_795_435_200_000);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

pub(crate) struct OneToken(pub(crate) SecretString);

impl AccessTokens for OneToken {
    fn access_token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
    fn refused<'a>(&'a self, _: &'a SecretString) -> BoxFuture<'a, Result<SecretString, NoToken>> {
        Box::pin(async { Err(NoToken::NeedsAuthorization) })
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Store,
    pub(crate) sender: Option<Sender>,
    pub(crate) source: SourceId,
    pub(crate) settings: SendSettings,
    pub(crate) policy: Policy,
    client: Arc<Client>,
    line: Line,
    random: Random,
}

pub(crate) fn settings() -> SendSettings {
    SendSettings {
        program: "reteno-sync".to_owned(),
        dedupe_on: DedupeOn::ExternalCustomerId,
        restore_deleted: RestoreDeleted::Never,
        restore_in_full_reads: false,
        event_key: None,
        event_in_full_reads: false,
        segment_names: BTreeMap::new(),
        forms: Vec::new(),
        batch_contacts_max: 3000,
        batch_bytes_max: 4 << 20,
        posts_in_flight: 8,
        import_age_max: 6 * HOUR,
        import_poll_first: Duration::from_secs(2),
        import_poll_max: MINUTE,
    }
}

/// What a source may do in these tests: all that the guard would hold goes out, unless a test is about it.
pub(crate) fn lenient() -> Policy {
    let guard = Guard { is_on: false, ..Guard::default() };
    Policy { guard, unique: vec![Field::Email, Field::Sms], ..Policy::default() }
}

/// Every field that these tests speak of.
pub(crate) const MAPPED: [Field; 7] = [
    Field::ExternalCustomerId,
    Field::Email,
    Field::Sms,
    Field::FirstName,
    Field::Town,
    Field::Additional(87166),
    Field::Additional(1),
];

impl World {
    pub(crate) async fn begin() -> Self {
        Self::with(SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() }, settings()).await
    }

    pub(crate) async fn with(options: SandboxOptions, settings: SendSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::simulated(START);
        let random = Random::seeded(options.seed);
        let sandbox = Sandbox::new(options, clock.clone());
        let token = SecretString::from(sandbox.issue_tokens().access_token);
        let api = url::Url::parse("https://reteno.com/api").unwrap();
        let client =
            Arc::new(Client::new(sandbox.exchange(), api, Arc::new(OneToken(token)), clock.clone(), random.clone()));
        let store = open(&dir, &clock, &random);
        let source = store.call(|checkpoint| checkpoint.load_source("crm")).await.unwrap().id;
        let mut world = Self {
            dir,
            clock,
            sandbox,
            store,
            sender: None,
            source,
            settings,
            policy: lenient(),
            client,
            line: Line::default(),
            random,
        };
        world.resume().await;
        world
    }

    async fn resume(&mut self) {
        let sender = Sender::resume(
            self.store.clone(),
            Arc::clone(&self.client),
            self.clock.clone(),
            self.random.clone(),
            (self.settings.clone(), self.line.clone()),
        );
        self.sender = Some(sender.await.unwrap());
    }

    /// The process dies and a new one takes over.
    pub(crate) async fn crash(&mut self) {
        self.sender = None;
        let store = std::mem::replace(&mut self.store, throwaway());
        drop(store);
        self.store = open(&self.dir, &self.clock, &self.random);
        self.resume().await;
    }

    pub(crate) fn context(&self, asked_at: i64, is_full: bool) -> ReadContext {
        ReadContext {
            source: self.source,
            source_name: "crm".to_owned(),
            began: asked_at,
            policy: Arc::new(self.policy.clone()),
            asked_at,
            now: self.clock.now().0,
            mapped: MAPPED.to_vec(),
            lane: Lane::Live,
            is_full,
            stores_cursor: true,
            mode: PageMode::Apply,
        }
    }

    /// One page of records, asked for now.
    pub(crate) async fn crm_says(&self, records: &[(&str, &[(Field, &str)])]) -> PageOutcome {
        self.crm_said(self.clock.now().0, None, records).await
    }

    /// One page of records that was asked for at `asked_at`, of records changed at `changed_at`.
    pub(crate) async fn crm_said(
        &self,
        asked_at: i64,
        changed_at: Option<i64>,
        records: &[(&str, &[(Field, &str)])],
    ) -> PageOutcome {
        let items: Vec<Incoming> = records
            .iter()
            .map(|(key, fields)| Incoming::Contact(Contact { changed_at, ..contact(key, fields) }))
            .collect();
        let context = self.context(asked_at, false);
        self.store
            .call(move |checkpoint| {
                let outcome = checkpoint.record_page(&context, &mut SeenRows::default(), items, None)?;
                checkpoint.weigh_changes(context.source, &context.policy.guard, context.now)?;
                Ok(outcome)
            })
            .await
            .unwrap()
    }

    /// Lets the sender work until everything is acknowledged or rejected, at most this long.
    pub(crate) async fn send_for(&mut self, time: Duration) -> Ended {
        let until = Until::Drained(time);
        self.sender.as_mut().unwrap().run(until, &CancellationToken::new()).await.unwrap()
    }

    pub(crate) async fn status(&self) -> StatusReport {
        self.store.call(|checkpoint| checkpoint.load_status()).await.unwrap()
    }

    /// What Reteno holds in one field of the contact with this external id.
    pub(crate) fn reteno_holds(&self, key: &str, field: &str) -> Option<String> {
        let contact = self.sandbox.contact_by_external_id(key)?;
        match field {
            "email" => contact.email,
            "sms" => contact.phone,
            _ => contact.fields.get(field).cloned(),
        }
    }

    /// The values that were ever written to one field, in the order in which they were applied.
    pub(crate) fn writes(&self, key: &str, field: &str) -> Vec<String> {
        let log = self.sandbox.applied_log(key);
        log.iter().filter_map(|change| change.values.get(field).cloned().flatten()).collect()
    }
}

fn throwaway() -> Store {
    let dir = tempfile::tempdir().unwrap();
    open(&dir, &Clock::simulated(START), &Random::seeded(0))
}

pub(crate) fn open(dir: &tempfile::TempDir, clock: &Clock, random: &Random) -> Store {
    let options = OpenOptions {
        dir: dir.path().to_owned(),
        key: None,
        sender: Some("a test".to_owned()),
        create: true,
        now: clock.now(),
        import_age_max: 6 * HOUR,
    };
    Store::share(Checkpoint::open(&options, random).unwrap().checkpoint)
}

/// A contact with an e-mail of its own; an empty value is cleared.
pub(crate) fn contact(key: &str, fields: &[(Field, &str)]) -> Contact {
    let mut all =
        BTreeMap::from([(Field::ExternalCustomerId, key.to_owned()), (Field::Email, format!("{key}@example.com"))]);
    all.extend(fields.iter().map(|(field, value)| (*field, (*value).to_owned())));
    let wanted = |value: String| if value.is_empty() { Wanted::Clear } else { Wanted::Value(Personal::new(value)) };
    let fields = all.into_iter().map(|(field, value)| (field, wanted(value))).collect();
    Contact { key: key.to_owned(), fields, changed_at: None, dropped: Vec::new(), consent: None }
}
