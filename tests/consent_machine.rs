//! A random machine for consent: records change, people unsubscribe in Reteno, calls get lost, the process dies, the clock
//! is set. At the end nobody who says no gets mail, and nothing was ever raised without a witnessed change from no to yes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reteno_sync::clock::{Clock, Timestamp};
use reteno_sync::contact::{Consent, Contact};
use reteno_sync::daemon::sender::{SendSettings, Until};
use reteno_sync::plan::SourceId;
use reteno_sync::plan::policy::Policy;
use reteno_sync::random::Random;
use reteno_sync::sandbox::{Applied, CallKind, Canned, ConsentAction, Effect, Fault, Phase, Readings, SandboxOptions};
use support::{HOUR, MINUTE, World, consenting, person_in, settings};
use tokio_util::sync::CancellationToken;

const CONTACTS: usize = 12;
const ADDRESSES: usize = 9;
const STEPS: usize = 120;
/// Where the clock may be set back, nobody knows how old a raise is.
const ANY_AGE: Duration = Duration::from_hours(100_000);

/// What a record says.
#[derive(Clone, PartialEq, Eq)]
struct Said {
    source: SourceId,
    key: String,
    email: String,
    town: String,
    consent: Option<Consent>,
}

impl Said {
    fn contact(&self) -> Contact {
        person_in(&self.town, &self.key, &self.email, self.consent)
    }
}

struct Machine {
    world: World,
    random: Random,
    records: Vec<Said>,
    /// When each address was witnessed to change from no to yes, by the clock that nobody sets.
    raised: BTreeMap<String, Vec<Timestamp>>,
    true_clock: Clock,
    /// Added to the reads' times: a read is never older than the last, whatever the clock says.
    last_asked: i64,
}

impl Machine {
    async fn begin(seed: u64, resubscribes: bool) -> Self {
        let random = Random::seeded(seed);
        let options = SandboxOptions {
            seed,
            access_token_lifetime: 100_000 * HOUR,
            readings: Readings { create_resubscribes: resubscribes, ..Readings::default() },
            ..SandboxOptions::default()
        };
        let mut world = World::with(options, SendSettings { batch_contacts_max: 4, ..settings() }).await;
        world.policy = Policy { unique: Vec::new(), ..consenting() };
        let true_clock = world.clock.clone();
        let shop = world.other_source("shop").await;
        let records = (0..CONTACTS)
            .map(|n| Said {
                source: if n % 3 == 0 { shop } else { world.source },
                key: format!("c{n}"),
                email: format!("a{}@example.com", n % ADDRESSES),
                town: "Kyiv".to_owned(),
                consent: None,
            })
            .collect();
        let mut machine = Self { world, random, records, raised: BTreeMap::new(), last_asked: 0, true_clock };
        for n in 0..CONTACTS {
            machine.records[n].consent = machine.draw_consent();
            machine.tell(n).await;
        }
        machine
    }

    fn draw(&self, below: usize) -> usize {
        usize::try_from(u64::from_le_bytes(self.random.bytes::<8>()) >> 11).unwrap() % below
    }

    fn draw_consent(&self) -> Option<Consent> {
        [Some(Consent::No), Some(Consent::Yes), None, Some(Consent::No)][self.draw(4)]
    }

    async fn tell(&mut self, n: usize) {
        let said = self.records[n].clone();
        let policy = Arc::new(self.world.policy.clone());
        self.last_asked = (self.last_asked + 1).max(self.world.clock.now().0);
        let asked_at = self.last_asked;
        self.world
            .told(vec![said.contact()], |context| {
                context.source = said.source;
                context.policy = policy;
                context.asked_at = asked_at;
            })
            .await;
    }

    async fn edit(&mut self) {
        let n = self.draw(CONTACTS);
        let before = self.records[n].clone();
        let (no, yes) = (Some(Consent::No), Some(Consent::Yes));
        let mut next = before.clone();
        match self.draw(8) {
            0 => next.email = format!("a{}@example.com", self.draw(ADDRESSES)),
            1 => next.town = format!("town {}", self.draw(1000)),
            2 => {
                next.email = format!("a{}@example.com", self.draw(ADDRESSES));
                next.consent = self.draw_consent();
            }
            3..=5 if before.consent == no => next.consent = yes,
            _ => next.consent = self.draw_consent(),
        }
        if before.email == next.email && before.consent == no && next.consent == yes {
            self.raised.entry(next.email.clone()).or_default().push(self.true_clock.now());
        }
        self.records[n] = next;
        self.tell(n).await;
    }

    fn fault(&self) {
        let kind = [CallKind::SubmitContacts, CallKind::Unsubscribe, CallKind::Resubscribe][self.draw(3)];
        let effect = match self.draw(8) {
            0 | 1 => Effect::LoseAnswer,
            2 => Effect::LoseRequest,
            3 => Effect::RefuseConnection,
            4 => Effect::Answer(Canned::too_many(Some("40"))),
            5 => Effect::FailImport(Applied::Part),
            6 => Effect::DelayImport(2 * HOUR),
            _ => Effect::CutAnswer,
        };
        let is_of_imports = matches!(effect, Effect::FailImport(_) | Effect::DelayImport(_));
        let kind = if is_of_imports { CallKind::SubmitContacts } else { kind };
        let times = 1 + self.draw(2);
        self.world.sandbox.fault(Fault::on(kind, effect).times(u32::try_from(times).unwrap()));
    }

    async fn work(&mut self, time: Duration) {
        let stop = CancellationToken::new();
        let _ = tokio::time::timeout(time, self.world.sender.as_mut().unwrap().run(Until::Stopped, &stop)).await;
    }

    async fn set_clock(&mut self, may_go_back: bool) {
        let step = MINUTE * u32::try_from(self.draw(180)).unwrap();
        let now = self.world.clock.now();
        let to = if may_go_back && self.draw(2) == 0 { now.minus(step) } else { now.plus(step) };
        self.world.clock = Clock::simulated(to);
        self.world.crash().await;
    }

    /// The mapping of consent changes, or an older copy of the checkpoint is put in place: all is read again.
    async fn begin_anew(&mut self) {
        if self.draw(2) == 0 {
            let (source, shape) = (self.world.source, self.draw(1_000_000) as u64);
            let noted = self.world.store.call(move |checkpoint| checkpoint.note_consent_mapping(source, Some(shape)));
            noted.await.unwrap();
        } else {
            let now = self.world.clock.now();
            let forgotten = self.world.store.call(move |checkpoint| checkpoint.forget_acknowledged(now, 6 * HOUR));
            forgotten.await.unwrap();
            self.world.crash().await;
        }
        for n in 0..CONTACTS {
            self.tell(n).await;
        }
    }

    async fn step(&mut self, may_go_back: bool) {
        match self.draw(12) {
            0..=4 => self.edit().await,
            5 => self.world.sandbox.person_unsubscribes(&format!("a{}@example.com", self.draw(ADDRESSES))),
            6 | 7 => self.fault(),
            8 => {
                self.work(Duration::from_millis(self.draw(3000) as u64)).await;
                self.world.crash().await;
            }
            9 if self.draw(3) == 0 => self.set_clock(may_go_back).await,
            10 if self.draw(4) == 0 => self.work(HOUR * 2).await,
            11 if self.draw(6) == 0 => self.begin_anew().await,
            _ => self.work(Duration::from_millis(self.draw(20_000) as u64)).await,
        }
    }

    fn check(&self, seed: u64) {
        let list = self.world.sandbox.unsubscribed();
        let log = self.world.sandbox.unsubscribe_log();
        for said in self.records.iter().filter(|said| said.consent == Some(Consent::No)) {
            let story: Vec<_> = log.iter().filter(|change| change.address == said.email).collect();
            assert!(list.contains(&said.email), "seed {seed}: {} says no of {}: {story:#?}", said.key, said.email);
        }
    }

    /// Whatever took an address off the list by a call of ours was a raise, and each was witnessed at most so long before.
    fn check_raises(&self, seed: u64, age_max: Duration) {
        for change in self.world.sandbox.unsubscribe_log() {
            if change.action == ConsentAction::Removed && change.by.starts_with("call") {
                let witnessed = self.raised.get(&change.address).map_or(&[][..], Vec::as_slice);
                let is_so = witnessed.iter().any(|at| *at <= change.at && change.at.since(*at) <= age_max);
                assert!(is_so, "seed {seed}: {} was raised by {} at {}", change.address, change.by, change.at);
            }
        }
    }
}

/// `resubscribes`: a contact that is made or given an address takes it off the list.
async fn run(seed: u64, resubscribes: bool) {
    let mut machine = Machine::begin(seed, resubscribes).await;
    for _ in 0..STEPS {
        machine.step(true).await;
        machine.check_raises(seed, ANY_AGE);
    }
    machine.world.sandbox.clear_faults();
    machine.world.crash().await;
    for n in 0..CONTACTS {
        machine.tell(n).await;
    }
    for _ in 0..6 {
        machine.world.send_until_quiet().await;
        tokio::time::advance(24 * HOUR).await;
    }
    machine.check(seed);
    machine.check_raises(seed, ANY_AGE);
    let open = machine.world.status().await.imports.len();
    assert_eq!(open, 0, "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn nobody_who_says_no_gets_mail_whatever_happens() {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=12).collect(),
    };
    for seed in seeds {
        run(seed, seed % 3 != 0).await;
    }
}

/// At every raise the CRM's records are looked at: nobody says no of the address at the moment when the call goes out, and
/// the change is not older than an hour.
#[tokio::test(start_paused = true)]
async fn no_raise_goes_out_late_or_while_somebody_says_no() {
    for seed in 100..=107 {
        let mut machine = Machine::begin(seed, true).await;
        let says_no = Arc::new(Mutex::new(Vec::<String>::new()));
        let wrong = Arc::new(Mutex::new(Vec::<String>::new()));
        let (looks, found) = (Arc::clone(&says_no), Arc::clone(&wrong));
        machine.world.sandbox.on_request(move |seen| {
            if seen.kind == CallKind::Resubscribe && seen.phase == Phase::Before {
                let body = String::from_utf8_lossy(&seen.body).into_owned();
                let no = looks.lock().unwrap();
                found.lock().unwrap().extend(no.iter().filter(|email| body.contains(email.as_str())).cloned());
            }
        });
        for _ in 0..STEPS {
            if machine.draw(3) == 0 {
                let lost = [Effect::LoseRequest, Effect::LoseAnswer][machine.draw(2)].clone();
                machine.world.sandbox.fault(Fault::on(CallKind::Resubscribe, lost).times(2));
            }
            machine.step(false).await;
            let no = machine.records.iter().filter(|said| said.consent == Some(Consent::No));
            *says_no.lock().unwrap() = no.map(|said| said.email.clone()).collect();
            machine.check_raises(seed, HOUR + MINUTE);
        }
        machine.work(HOUR).await;
        assert_eq!(wrong.lock().unwrap().as_slice(), [] as [String; 0], "seed {seed}");
        machine.check_raises(seed, HOUR + MINUTE);
        assert!(machine.raised.len() > 1, "seed {seed}: there was something to see");
    }
}
