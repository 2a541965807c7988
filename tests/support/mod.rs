//! A world in one process: the real checkpoint, planner, sender and client, the sandbox behind the request → response
//! seam, and a clock that only moves when everything waits.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs, reason = "test support")]

pub(crate) mod reads;
pub(crate) mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reteno_sync::checkpoint::{
    Checkpoint, Incoming, OpenOptions, PageMode, PageOutcome, ReadContext, ReadProof, SeenRows, StatusReport, Store,
    Way, Weighed,
};
use reteno_sync::clock::{Clock, Timestamp};
use reteno_sync::contact::{Consent, Contact, Field, Personal, Wanted};
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
    pub(crate) mapped: Vec<Field>,
    client: Arc<Client>,
    pub(crate) line: Line,
    pub(crate) random: Random,
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
        endings: Vec::new(),
        forms: Vec::new(),
        upload: None,
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
            mapped: MAPPED.to_vec(),
            client,
            line: Line::default(),
            random,
        };
        world.resume().await;
        world
    }

    pub(crate) async fn resume(&mut self) {
        let sender = Sender::resume(
            self.store.clone(),
            Arc::clone(&self.client),
            self.clock.clone(),
            self.random.clone(),
            (self.settings.clone(), self.line.clone()),
        );
        self.sender = Some(sender.await.unwrap());
    }

    /// The process dies: its files are nobody's.
    pub(crate) fn close(&mut self) {
        self.sender = None;
        drop(std::mem::replace(&mut self.store, throwaway()));
    }

    /// The process dies and a new one takes over.
    pub(crate) async fn crash(&mut self) {
        self.close();
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
            mapped: self.mapped.clone(),
            lane: Lane::Live,
            is_full,
            stores_cursor: true,
            mode: PageMode::Apply,
            way: Way::Cycle(None),
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

    /// One page of records of any source, as `change` has it, and what the guard holds of it.
    pub(crate) async fn told(&self, contacts: Vec<Contact>, change: impl FnOnce(&mut ReadContext)) -> Weighed {
        let mut context = self.context(self.clock.now().0, false);
        change(&mut context);
        let items: Vec<Incoming> = contacts.into_iter().map(Incoming::Contact).collect();
        self.store
            .call(move |checkpoint| {
                checkpoint.record_page(&context, &mut SeenRows::default(), items, None)?;
                checkpoint.weigh_changes(context.source, &context.policy.guard, context.now)
            })
            .await
            .unwrap()
    }

    /// One page of changed records.
    pub(crate) async fn crm_tells(&self, contacts: Vec<Contact>) -> Weighed {
        self.told(contacts, |_| {}).await
    }

    /// A read of the whole source that comes to its end: who is not among `contacts` is missing.
    pub(crate) async fn crm_is(&self, contacts: Vec<Contact>) -> Weighed {
        let context = self.context(self.clock.now().0, true);
        let began = Timestamp(context.asked_at);
        let has_values = !contacts.is_empty();
        let items: Vec<Incoming> = contacts.into_iter().map(Incoming::Contact).collect();
        let policy = Arc::clone(&context.policy);
        let proof = ReadProof { policy, began, from_beginning: true, has_values, is_full: has_values, earlier: None };
        self.store
            .call(move |checkpoint| {
                checkpoint.begin_read(context.source, true, began)?;
                let mut seen = SeenRows::default();
                checkpoint.record_page(&context, &mut seen, items, None)?;
                checkpoint.finish_read(context.source, &proof, &seen, None, Timestamp(context.now))?;
                checkpoint.weigh_changes(context.source, &context.policy.guard, context.now)
            })
            .await
            .unwrap()
    }

    /// The row of another source.
    pub(crate) async fn other_source(&self, name: &'static str) -> SourceId {
        self.store.call(move |checkpoint| checkpoint.load_source(name)).await.unwrap().id
    }

    /// Whether an address gets no mail.
    pub(crate) fn is_unsubscribed(&self, email: &str) -> bool {
        self.sandbox.unsubscribed().contains(email)
    }

    /// Lets hours pass in which the sender works, so that also the ghosts' time is over.
    pub(crate) async fn send_until_quiet(&mut self) {
        for _ in 0..30 {
            if self.send_for(HOUR).await == Ended::Drained && self.status().await.imports.is_empty() {
                return;
            }
            tokio::time::advance(HOUR).await;
        }
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
    Contact { key: key.to_owned(), fields, changed_at: None, dropped: Vec::new(), consent: None, unclear_consent: None }
}

/// A contact whose record says something of consent, with this address (empty: it is cleared).
pub(crate) fn person(key: &str, email: &str, consent: Option<Consent>) -> Contact {
    Contact { consent, ..contact(key, &[(Field::Email, email)]) }
}

/// The same, in a town.
pub(crate) fn person_in(town: &str, key: &str, email: &str, consent: Option<Consent>) -> Contact {
    Contact { consent, ..contact(key, &[(Field::Email, email), (Field::Town, town)]) }
}

/// What the sources of these tests may do where their records speak of consent: nothing is held.
pub(crate) fn consenting() -> Policy {
    Policy { has_consent: true, ..lenient() }
}

/// The same with the usual guard.
pub(crate) fn guarded() -> Policy {
    Policy { guard: Guard::default(), ..consenting() }
}

/// Another table says how consent stands in the records.
pub(crate) async fn change_mapping(world: &World, shape: u64) {
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.note_consent_mapping(source, Some(shape))).await.unwrap();
}

pub(crate) async fn last_cycle(world: &World) -> i64 {
    world.store.call(|checkpoint| checkpoint.load_consent_cycles()).await.unwrap()[0].id
}

pub(crate) async fn undo(world: &World, cycle: i64) -> (u64, u64) {
    let now = world.clock.now();
    world.store.call(move |checkpoint| checkpoint.undo_opt_outs(cycle, now)).await.unwrap()
}
