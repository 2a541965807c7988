//! One cycle of one source: read, map, record. It sends nothing: what it moves is due, and the sender is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{
    CheckpointError, Hold, Inbox, PageMode, ReadContext, ReadProof, Rereading, SeenRows, SourceRow, Store, Verdict, Way,
};
use crate::clock::{Clock, Timestamp};
use crate::contact::{DateFaults, Field, ResolvedMapping};
use crate::plan::Lane;
use crate::plan::balance::Balance;
use crate::plan::policy::Policy;
use crate::plan::repair::Earlier;
use crate::source::{Cursor, From, Item, PUSHED, Page, ReadEnd, Source};

use super::consents::UnclearConsents;
pub use super::cycle_error::CycleError;
use super::feeds::tell_last_words;
use super::items::map_items;
use super::repairs::{earlier_way, repairs_of};
use super::sender::Line;

/// Pages that may wait between the source and the checkpoint: enough to read while the last one is written.
const PAGES_WAITING: usize = 2;

/// A source with its mapping.
pub struct Feed {
    /// Its name.
    pub name: String,
    /// Where records come from.
    pub source: Source,
    /// How they become contacts.
    pub mapping: Arc<ResolvedMapping>,
    /// What the operator lets them do.
    pub policy: Arc<Policy>,
    /// How they speak of consent, in words that change with it.
    pub consent_shape: Option<String>,
    /// The mapping in words that change with it: another one makes all records be read once. Empty where it is not
    /// known whole, since the account could not be asked for its additional fields.
    pub shape: String,
    /// What its webhook announced, where it has one.
    pub inbox: Option<Inbox>,
}

/// How a cycle is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From the cursor, where the source has one.
    Changes,
    /// Everything.
    Full,
}

/// What a cycle read.
#[derive(Debug, Default)]
pub struct CycleReport {
    /// The source's name.
    pub source: String,
    /// What became of the records.
    pub balance: Balance,
    /// Every record of the source was seen.
    pub is_full: bool,
    /// Change times that were not believed.
    pub date_faults: DateFaults,
    /// For the operator.
    pub warnings: Vec<String>,
    /// What the guard says of it.
    pub verdicts: Vec<Verdict>,
    /// What a mapping that is another one than before made due: contacts by their due fields.
    pub by_mapping: BTreeMap<Vec<Field>, u64>,
    /// The lane of what it changed.
    pub lane: Option<Lane>,
    /// What the guard holds of it.
    pub holds: Vec<Hold>,
}

/// Everything a cycle works with.
#[derive(Clone, Copy)]
pub struct CycleParts<'a> {
    /// The checkpoint.
    pub store: &'a Store,
    /// The clock.
    pub clock: &'a Clock,
    /// Told when there is something to send.
    pub line: &'a Line,
    /// Ends the reading.
    pub stop: &'a CancellationToken,
    /// What the pages may do.
    pub mode: PageMode,
    /// Told what has been read so far, after each page.
    pub on_page: &'a (dyn Fn(&Balance) + Sync),
}

/// The state of a cycle under way.
struct Cycle<'a> {
    parts: &'a CycleParts<'a>,
    feed: &'a Feed,
    /// Which earlier way should have told what it brings.
    earlier: Option<Earlier>,
    context: ReadContext,
    seen: SeenRows,
    last_cursor: Option<Cursor>,
    /// Records without a usable id: any contact may be among them.
    unnamed: u64,
    unclear: UnclearConsents,
    report: CycleReport,
    /// When what it changed was last weighed.
    weighed_at: Timestamp,
}

/// So many records are written in one transaction, some tenths of a second: whoever waits for the database does not notice.
const RECORDED_AT_ONCE: usize = 1000;
/// What changed in an incremental read waits at most this long for the read's end, by which the guard weighs it.
const WEIGHED_EVERY: Duration = Duration::from_mins(5);

/// Reads `feed` once.
pub async fn read_feed(feed: &Feed, reach: Reach, parts: &CycleParts<'_>) -> Result<CycleReport, CycleError> {
    let name = feed.name.clone();
    let began = parts.clock.now();
    let (reads_all, shape) = (reach == Reach::Full || feed.source.full_only(), feed.shape.clone());
    let rereading = feed.rereading();
    if rereading == Rereading::Never {
        let warnings = vec![PUSHED.to_owned()];
        return Ok(CycleReport { source: feed.name.clone(), warnings, ..CycleReport::default() });
    }
    let consent_shape = feed.consent_shape.clone();
    let (row, is_full) = parts
        .store
        .call(move |checkpoint| {
            let mut row = checkpoint.load_source(&name)?;
            let mapping = checkpoint.hash().text("mapping", &shape);
            row.full_read_wanted |= checkpoint.note_mapping(row.id, mapping)?;
            let is_full = reads_all || row.full_read_wanted || row.cursor.is_none();
            let consent = consent_shape.map(|shape| checkpoint.hash().text("consent", &shape));
            checkpoint.note_rereading(row.id, rereading)?;
            checkpoint.note_consent_mapping(row.id, consent)?;
            checkpoint.begin_read(row.id, is_full, began)?;
            Ok((row, is_full))
        })
        .await?;
    let from = match (&row.cursor, is_full) {
        (Some(cursor), false) => From::Cursor(Cursor::from_text(cursor.clone())),
        (Some(_) | None, _) => From::Beginning,
    };
    let mut cycle = Cycle::begin(feed, &row, (is_full, began), parts);
    let filling = parts.line.fill();
    let (sender, pages) = mpsc::channel(PAGES_WAITING);
    let stop = parts.stop.child_token();
    // a checkpoint that cannot be written ends the reading too
    let _ends_reading = stop.clone().drop_guard();
    let (end, recorded) = tokio::join!(feed.source.read(from, sender, stop), cycle.record_pages(pages));
    drop(filling);
    recorded?;
    match end {
        Ok(end) => {
            cycle.finish(end, began).await?;
            Ok(cycle.report)
        }
        Err(source) => {
            tell_last_words(&feed.name, &source);
            let (id, text) = (row.id, source.to_string());
            parts.store.call(move |checkpoint| checkpoint.fail_read(id, &text)).await?;
            // what it brought until then goes out, as far as the guard lets it
            cycle.weigh().await?;
            let CycleReport { balance, holds, .. } = cycle.report;
            Err(CycleError::Source { name: feed.name.clone(), source, balance: Box::new(balance), holds })
        }
    }
}

impl<'a> Cycle<'a> {
    fn begin(feed: &'a Feed, row: &SourceRow, (is_full, began): (bool, Timestamp), parts: &'a CycleParts<'a>) -> Self {
        let lane = match (row.first_load_done, is_full && !feed.source.full_only()) {
            (false, _) => Lane::FirstLoad,
            (true, true) => Lane::Reconcile,
            (true, false) => Lane::Live,
        };
        let context = ReadContext {
            source: row.id,
            source_name: row.name.clone(),
            began: began.0,
            policy: Arc::clone(&feed.policy),
            asked_at: 0,
            now: 0,
            mapped: feed.mapping.fields().to_vec(),
            lane,
            is_full,
            // a full read sets the cursor aside until it is complete
            stores_cursor: row.cursor.is_none() || !is_full,
            mode: parts.mode,
            way: Way::Cycle(None),
        };
        let report = CycleReport { source: feed.name.clone(), lane: Some(lane), ..CycleReport::default() };
        Self {
            parts,
            feed,
            earlier: earlier_way(feed, row, lane),
            context,
            seen: SeenRows::default(),
            last_cursor: None,
            unnamed: 0,
            unclear: UnclearConsents::default(),
            report,
            weighed_at: began,
        }
    }

    async fn record_pages(&mut self, mut pages: mpsc::Receiver<Page>) -> Result<(), CheckpointError> {
        while let Some(page) = pages.recv().await {
            let Page { items, cursor, asked_at } = page;
            let way = Way::Cycle(repairs_of(self.feed, self.earlier).await?);
            let mut items = items.into_iter();
            loop {
                let piece: Vec<Item> = items.by_ref().take(RECORDED_AT_ONCE).collect();
                let is_last = items.len() == 0;
                // the cursor lies behind the last of them
                self.record_piece(piece, cursor.as_ref().filter(|_| is_last), asked_at, way.clone()).await?;
                if is_last {
                    break;
                }
            }
            self.last_cursor = cursor.or(self.last_cursor.take());
            let is_long = self.parts.clock.now().since(self.weighed_at) >= WEIGHED_EVERY;
            if !self.context.is_full && is_long {
                self.weigh().await?;
            }
            self.parts.line.nudge();
        }
        Ok(())
    }

    async fn record_piece(
        &mut self,
        items: Vec<Item>,
        cursor: Option<&Cursor>,
        asked_at: Timestamp,
        way: Way,
    ) -> Result<(), CheckpointError> {
        let mapping = Arc::clone(&self.feed.mapping);
        let now = self.parts.clock.now().0;
        let context = ReadContext { asked_at: asked_at.0, now, way, ..self.context.clone() };
        let mut seen = std::mem::take(&mut self.seen);
        let text = cursor.map(|cursor| cursor.as_text().to_owned());
        // mapping is work for the blocking thread, too
        let present = Timestamp(now).plus(self.feed.source.lag()).0;
        let (seen, outcome, faults) = self
            .parts
            .store
            .call(move |checkpoint| {
                let (incoming, faults) = map_items(&mapping, items, present);
                let outcome = checkpoint.record_page(&context, &mut seen, incoming, text.as_deref())?;
                Ok((seen, outcome, faults))
            })
            .await?;
        self.seen = seen;
        self.report.date_faults.add(faults);
        self.unnamed += outcome.unnamed;
        self.unclear.add(outcome.unclear_consents);
        self.report.balance += outcome.balance;
        (self.parts.on_page)(&self.report.balance);
        Ok(())
    }

    /// Lets the guard weigh what was changed: from then on it may be sent, or is held.
    async fn weigh(&mut self) -> Result<(), CheckpointError> {
        let (source, policy) = (self.context.source, Arc::clone(&self.context.policy));
        let now = self.parts.clock.now();
        let weighed = self.parts.store.call(move |checkpoint| checkpoint.weigh_changes(source, &policy.guard, now.0));
        let weighed = weighed.await?;
        self.weighed_at = now;
        self.report.balance.hold(weighed.held.len() as u64);
        self.report.holds.extend(weighed.holds);
        self.report.verdicts.extend(weighed.verdicts);
        for (fields, contacts) in weighed.by_mapping {
            *self.report.by_mapping.entry(fields).or_default() += contacts;
        }
        self.parts.line.nudge();
        Ok(())
    }

    async fn finish(&mut self, end: ReadEnd, began: Timestamp) -> Result<(), CheckpointError> {
        self.report.warnings.extend(end.warnings);
        self.report.warnings.extend(self.report.date_faults.words());
        let from_beginning = self.context.is_full;
        let is_readable = end.records > 0 && end.malformed == 0;
        let proof = ReadProof {
            policy: Arc::clone(&self.context.policy),
            began,
            from_beginning,
            // a tap that reads only changes never proves that it gave all, but from the beginning it gives all it has; what
            // cannot be read in it will not be there the next time either
            has_values: from_beginning && end.records > 0,
            is_full: from_beginning && is_readable && end.full && self.unnamed == 0,
            earlier: self.earlier,
        };
        self.report.is_full = proof.is_full;
        if end.full && self.unnamed > 0 {
            let text = format!("{} records have no usable id: any may be among them, so nobody is gone", self.unnamed);
            self.report.warnings.push(text);
        }
        self.report.warnings.extend(self.unclear.words());
        if from_beginning && end.records == 0 {
            self.warn_of_nothing().await?;
        }
        let (source, now) = (self.context.source, self.parts.clock.now());
        let seen = std::mem::take(&mut self.seen);
        let cursor = self.last_cursor.take().filter(|_| !self.context.stores_cursor);
        let (proof, seen) = (Arc::new(proof), Arc::new(seen));
        let mut next = Some(0);
        while let Some(after) = next {
            let (proof, seen) = (Arc::clone(&proof), Arc::clone(&seen));
            let marked =
                self.parts.store.call(move |checkpoint| checkpoint.mark_gone(source, (&proof, &seen), after, now));
            let gone;
            (gone, next) = marked.await?;
            self.report.balance.gone += gone;
        }
        let ended = self
            .parts
            .store
            .call(move |checkpoint| checkpoint.end_read(source, &proof, cursor.as_ref().map(Cursor::as_text), now));
        ended.await?;
        self.weigh().await
    }

    /// A CRM that answers with nothing is broken more often than empty.
    async fn warn_of_nothing(&mut self) -> Result<(), CheckpointError> {
        let source = self.context.source;
        let known = self.parts.store.call(move |checkpoint| checkpoint.count_contacts(source)).await?;
        if known > 0 {
            let text =
                format!("the source had no record at all, and {known} contacts are known from it: nobody is gone");
            self.report.warnings.push(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceError;

    #[test]
    fn a_hint_names_the_source_that_it_is_about() {
        let (source, balance) = (SourceError::Preflight, Box::default());
        let error = CycleError::Source { name: "crm".to_owned(), source, balance, holds: Vec::new() };
        let hint = error.hint().unwrap();
        assert!(hint.contains("[source.crm.preflight]") && !hint.contains("NAME"), "{hint}");
    }
}
