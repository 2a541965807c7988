//! CRMs that are tables: whole reads of real file sources, with the policy that stands in their configuration.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs, reason = "test support")]

use std::fs;

use reteno_sync::checkpoint::{Approval, Approved, Hold, PageMode};
use reteno_sync::config;
use reteno_sync::contact::Catalog;
use reteno_sync::daemon::compose;
use reteno_sync::daemon::cycle::{CycleParts, CycleReport, Reach, read_feed};
use reteno_sync::daemon::feeds::{note_configured, tell_read};
use reteno_sync::daemon::links::CrmLinks;
use reteno_sync::daemon::sender::Line;
use tokio_util::sync::CancellationToken;

use super::{HOUR, MINUTE, World};

/// A source: its name, what stands in its section, and its mapping.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) section: String,
    pub(crate) mapping: String,
}

/// Several tables, and the world that reads them.
pub(crate) struct Tables {
    pub(crate) world: World,
    pub(crate) common: String,
    pub(crate) all: Vec<Table>,
}

pub(crate) const PEOPLE: &str = "externalCustomerId = \"id\"\nemail = \"mail\"\ntown = \"city\"\n";

impl Tables {
    pub(crate) fn of(world: World, all: Vec<Table>) -> Self {
        Self { world, common: String::new(), all }
    }

    /// One source with these words in its section.
    pub(crate) async fn one(section: &str) -> Self {
        let table = Table { name: "crm", section: section.to_owned(), mapping: PEOPLE.to_owned() };
        Self::of(World::begin().await, vec![table])
    }

    pub(crate) fn table(&mut self, name: &str) -> &mut Table {
        self.all.iter_mut().find(|table| table.name == name).unwrap()
    }

    /// Reads a table that was written a minute later.
    pub(crate) async fn read(&self, name: &str, text: &str) -> CycleReport {
        let world = &self.world;
        let dir = world.dir.path();
        fs::write(dir.join(name), text).unwrap();
        tokio::time::advance(MINUTE).await;
        let mut toml = format!("state_dir = \"{}\"\n{}", dir.display(), self.common);
        for Table { name, section, mapping } in &self.all {
            let source = format!("[source.{name}]\nkind = \"file\"\npath = \"{name}\"\nformat = \"csv\"\n{section}\n");
            toml += &[&source, "[source.", name, ".contact]\n", mapping, "\n"].concat();
        }
        fs::write(dir.join("config.toml"), toml).unwrap();
        let config = config::load(&dir.join("config.toml"), std::iter::empty(), None).unwrap();
        let source = config.sources.iter().find(|source| source.name == name).unwrap();
        // as every program does that sends
        note_configured(&config, &world.store).await.unwrap();
        let links = CrmLinks::default();
        let parts = compose::Place { state_dir: config.state_dir.as_path(), clock: &world.clock, links: &links };
        let feed = compose::build_feed(source, config.identity, &Catalog::empty(), parts).0;
        let (line, stop) = (Line::default(), CancellationToken::new());
        let (store, clock) = (&world.store, &world.clock);
        let parts = CycleParts { store, clock, line: &line, stop: &stop, mode: PageMode::Apply, on_page: &|_| {} };
        let read = read_feed(&feed, Reach::Changes, &parts).await;
        let alarm = reteno_sync::daemon::alarm::Alarm::open(store.clone(), clock.clone());
        tell_read(name, &read, &alarm, "reteno-sync").await.unwrap();
        let report = read.unwrap();
        assert!(report.balance.adds_up(), "{}", report.balance);
        report
    }

    /// Reads, and lets everything go out that may.
    pub(crate) async fn cycle(&mut self, name: &str, text: &str) -> CycleReport {
        let report = self.read(name, text).await;
        self.world.send_for(HOUR).await;
        report
    }

    pub(crate) async fn holds(&self) -> Vec<Hold> {
        self.world.store.call(|checkpoint| checkpoint.load_holds()).await.unwrap()
    }

    /// Each hold as `verb contacts`.
    pub(crate) async fn held(&self) -> Vec<String> {
        self.holds().await.into_iter().map(|hold| format!("{} {}", hold.verb, hold.contacts)).collect()
    }

    pub(crate) async fn approve(&self, hold: i64) -> Approved {
        match self.world.store.call(move |checkpoint| checkpoint.approve_hold(hold)).await.unwrap() {
            Approval::Released(approved) => approved,
            other @ (Approval::Unknown | Approval::Unseen) => panic!("{other:?}"),
        }
    }

    /// The alerts about holds.
    pub(crate) async fn hold_alerts(&self) -> usize {
        self.world.status().await.alerts.iter().filter(|alert| alert.name.starts_with("hold-")).count()
    }

    /// The list of rejections, each as `source key: reason`.
    pub(crate) async fn rejected(&self) -> Vec<String> {
        let rows = self.world.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap();
        rows.into_iter().map(|row| format!("{} {}: {}", row.source, row.key.unwrap_or_default(), row.reason)).collect()
    }

    /// The external ids of the contacts that live in Reteno.
    pub(crate) fn living(&self) -> Vec<String> {
        let contacts = self.world.sandbox.contacts().into_iter().filter(|contact| !contact.deleted);
        let mut ids: Vec<String> = contacts.filter_map(|contact| contact.external_id).collect();
        ids.sort();
        ids
    }

    pub(crate) fn town(&self, key: &str) -> Option<String> {
        self.world.reteno_holds(key, "town")
    }
}

/// A table of `count` people; `row` gives the town of each, or leaves them out.
pub(crate) fn table(count: usize, row: impl Fn(usize) -> Option<String>) -> String {
    let rows = (0..count).filter_map(|n| row(n).map(|town| format!("c{n:05},c{n}@example.com,{town}\n")));
    format!("id,mail,city\n{}", rows.collect::<String>())
}

/// Everybody in a town of their own.
pub(crate) fn own(n: usize) -> String {
    format!("town {n}")
}
