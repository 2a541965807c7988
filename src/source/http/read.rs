//! A whole read: what must hold first, deletions that are told, then the list to its end; pages of items with the cursor
//! that covers them.
//!
//! Where the list is sorted, each page's cursor is its last change time; where it is not, a window is covered when all of
//! it was read. Never beyond the moment the read began less the lag, by the CRM's clock: what was written then may not be
//! shown yet.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::HttpSource;
use super::description::{CursorRule, DeletedPages, Deletes, Description, List, Preflight, Stream, StreamAction};
use super::link::{Ask, Link, Reply};
use super::place::{Place as Reached, covered_by};
use super::query::{Found, Query, Step};
use super::records::{items_of, text};
use super::template::Bindings;
use super::time::ChangeTime;
use super::traits::Traits;
use super::walk::Walk;
use crate::clock::Timestamp;
use crate::contact::Record;
use crate::source::page::{PAGE_ITEMS_MAX, send};
use crate::source::{Cursor, From, Item, Page, Place, ReadEnd, SourceError};

/// A stream of deletions that was never read, or is read again with everything else, begins so far back: what was told
/// between the last poll and now.
const STREAM_BACK: Duration = Duration::from_hours(24);
/// A window of a list without order is not made shorter than this: more records of one second than the CRM gives cannot
/// be told apart.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// One read.
struct Reading<'a> {
    link: &'a Link,
    description: &'a Description,
    pages: &'a mpsc::Sender<Page>,
    stop: &'a CancellationToken,
    reached: Reached,
    is_full: bool,
    /// The CRM has shown where its list ends.
    is_proven: bool,
    began: Timestamp,
    answers: u32,
    end: ReadEnd,
}

impl HttpSource {
    /// Reads from `from` to the end. Pages sent before an error stand.
    pub async fn read(
        &self,
        from: From,
        pages: mpsc::Sender<Page>,
        stop: CancellationToken,
    ) -> Result<ReadEnd, SourceError> {
        let reached = match &from {
            From::Beginning => Reached::default(),
            From::Cursor(cursor) => Reached::read(cursor),
        };
        let (link, description) = (&*self.link, self.link.description());
        let has_filters = check_preflight(link, description.preflight.as_ref(), &stop).await?;
        let mut reading = Reading {
            link,
            description,
            pages: &pages,
            stop: &stop,
            is_full: reached.at().is_none(),
            is_proven: true,
            reached,
            began: link.clock().now(),
            answers: 0,
            end: ReadEnd::default(),
        };
        let present = reading.covered();
        reading.reached.hold_before(present);
        reading.read_deletes().await?;
        match &description.cursor {
            Some(cursor) if has_filters && !cursor.is_ordered && !reading.is_full => {
                reading.read_windows(cursor).await?;
            }
            Some(_) | None => reading.read_list(has_filters).await?,
        }
        reading.end.full = reading.is_full && reading.is_proven && reading.end.malformed == 0;
        Ok(reading.end)
    }
}

impl HttpSource {
    /// The first answer of the list alone, and whether it leads to another: for a person who tries a description.
    pub async fn sample(&self, stop: &CancellationToken) -> Result<(Page, bool), SourceError> {
        let (link, description) = (&*self.link, self.link.description());
        check_preflight(link, description.preflight.as_ref(), stop).await?;
        let query = list_query(description, 0, link.clock().now());
        let start = description.cursor.as_ref().and_then(|cursor| cursor.initial);
        let mut walk = Walk::begin(link, Query { start, ..query });
        let Some(Step { asked_at, found }) = walk.next(stop).await? else { return Err(SourceError::Stopped) };
        let place = |item| Place::Answer { answer: 1, item };
        let found = found.into_iter().take(PAGE_ITEMS_MAX);
        let items = (1..).zip(found).flat_map(|(item, found)| items_of(description, found, place(item))).collect();
        Ok((Page { items, cursor: None, asked_at }, !walk.is_over()))
    }
}

/// Says whether the CRM's filters may be relied on.
async fn check_preflight(
    link: &Link,
    preflight: Option<&Preflight>,
    stop: &CancellationToken,
) -> Result<bool, SourceError> {
    let Some(Preflight { call, path, equals, scans_otherwise }) = preflight else { return Ok(true) };
    let bindings = Bindings::default();
    let ask = Ask {
        what: "the preflight",
        call,
        next_link: None,
        bindings,
        empty_statuses: &[],
        records: None,
        paths: vec![path],
    };
    let holds = match link.ask(&ask, stop).await? {
        Reply::Answer(answer) => path.query(&answer.body).iter().any(|found| *found == equals),
        Reply::Empty { .. } | Reply::Restart => false,
    };
    if holds || *scans_otherwise { Ok(holds) } else { Err(SourceError::Preflight) }
}

fn list_query(description: &Description, largest_page: u64, began: Timestamp) -> Query<'_> {
    let Description { list, pagination, cursor, key, .. } = description;
    let cursor = cursor.as_ref();
    Query {
        what: "the list".to_owned(),
        list,
        pagination,
        id: key,
        cursor,
        start: None,
        end: None,
        began,
        largest_page,
    }
}

impl Reading<'_> {
    /// The latest moment of which everything is shown, by the CRM's clock.
    fn covered(&self) -> ChangeTime {
        covered_by(self.link, self.began, self.description.cursor.as_ref())
    }

    fn note_pages(&mut self, walk: &Walk<'_>) {
        self.reached.page_size = Some(walk.largest_page()).filter(|largest| *largest > 0);
    }

    fn largest_page(&self) -> u64 {
        self.reached.page_size.unwrap_or(0)
    }

    /// The list from the cursor, or from its beginning, to its end.
    async fn read_list(&mut self, has_filters: bool) -> Result<(), SourceError> {
        let (description, link) = (self.description, self.link);
        let cursor = description.cursor.as_ref();
        let start = match (cursor, self.reached.at()) {
            (Some(cursor), Some(at)) if has_filters => Some(at.minus(cursor.overlap)),
            (Some(cursor), _) => cursor.initial,
            (None, _) => None,
        };
        let query = Query { start, ..list_query(description, self.largest_page(), self.began) };
        let mut walk = Walk::begin(link, query);
        // or it would begin anew where it cannot
        walk.traits.is_filtered = has_filters;
        let is_ordered = cursor.is_some_and(|cursor| cursor.is_ordered);
        while let Some(step) = walk.next(self.stop).await? {
            let traits = walk.traits;
            let last = walk.last().filter(|_| is_ordered && has_filters && traits.is_sorted && traits.is_filtered);
            if let Some(last) = last {
                self.reached.reach(last.min(self.covered()));
            }
            let cursor = last.map(|_| self.reached.to_cursor());
            self.send(step, cursor).await?;
        }
        self.tell_traits(walk.traits, has_filters);
        self.note_pages(&walk);
        if !walk.traits.is_proven {
            // what it did not show is asked for again
            return Ok(());
        }
        self.finish(cursor.is_some()).await
    }

    /// A list without order, window by window: what a window holds is known when all of it was read.
    async fn read_windows(&mut self, cursor: &CursorRule) -> Result<(), SourceError> {
        let (description, link) = (self.description, self.link);
        let mut start = self.reached.at().map_or(self.covered(), |at| at.minus(cursor.overlap));
        let mut window = cursor.window;
        while start < self.covered() {
            let end = start.plus(window).min(self.covered());
            let query = list_query(description, self.largest_page(), self.began);
            let mut walk = Walk::begin(link, Query { start: Some(start), end: Some(end), ..query });
            while let Some(step) = walk.next(self.stop).await? {
                self.send(step, None).await?;
            }
            self.note_pages(&walk);
            if !walk.traits.is_filtered {
                // each window would be one of everything, and what it leaves out is not known
                return self.read_list(false).await;
            }
            if walk.traits.is_capped {
                if window <= WINDOW_MIN {
                    return Err(SourceError::Stuck { what: "the list".to_owned() });
                }
                window = (window / 2).max(WINDOW_MIN);
                continue;
            }
            if !walk.traits.is_proven {
                // what it did not show is asked for again
                self.tell_traits(walk.traits, true);
                return Ok(());
            }
            self.reached.reach(end);
            self.send_cursor().await?;
            (start, window) = (end, cursor.window.min(window.saturating_mul(2)));
        }
        self.finish(true).await
    }

    /// All that was changed until then is read.
    async fn finish(&mut self, has_cursor: bool) -> Result<(), SourceError> {
        if !has_cursor {
            return Ok(());
        }
        self.reached.reach(self.covered());
        self.send_cursor().await
    }

    /// What the CRM does not do as it is described.
    fn tell_traits(&mut self, traits: Traits, has_filters: bool) {
        let Traits { is_sorted, is_filtered, has_times, is_proven, is_capped: _ } = traits;
        self.is_proven &= is_proven;
        let texts = [
            (!(has_filters && is_filtered)).then_some(
                "the CRM ignores the filter by change time, so that each read is one of everything: see the rights and the \
                 plan of its account",
            ),
            (!is_sorted).then_some(
                "the CRM does not sort the list by change time: what is edited while it is read may be left out until \
                 everything is read again; see cursor.ordered",
            ),
            (!is_proven).then_some(
                "nothing proves that the list was read to its end (a page as long as was asked for, with no way to the next; \
                 a page that came twice; or an error that a rule ignores): what it lacks is not gone",
            ),
            (has_times == Some(false)).then_some(
                "no record has a change time that can be read: see cursor.path and cursor.format",
            ),
        ];
        self.end.warnings.extend(texts.into_iter().flatten().map(str::to_owned));
    }

    /// Deletions that the CRM tells by themselves.
    async fn read_deletes(&mut self) -> Result<(), SourceError> {
        for (name, deletes) in &self.description.deletes {
            match deletes {
                Deletes::Stream(stream) => self.read_stream(name, stream).await?,
                Deletes::List { pages, every } => self.read_deleted(name, pages, *every).await?,
                Deletes::Flag { .. } | Deletes::MergedIds { .. } | Deletes::Snapshot { .. } => {}
            }
        }
        Ok(())
    }

    async fn read_stream(&mut self, name: &str, stream: &Stream) -> Result<(), SourceError> {
        let Stream { pages, cursor, action, actions } = stream;
        let start = self.reached.stream(name).map_or(self.covered().minus(STREAM_BACK), |at| at.minus(cursor.overlap));
        let query = Query { start: Some(start), end: Some(self.covered()), ..self.deleted_query(name, pages) };
        let mut walk = Walk::begin(self.link, Query { cursor: Some(cursor), ..query });
        while let Some(step) = walk.next(self.stop).await? {
            let says = |record: &Record| match action {
                None => Some(StreamAction::Delete),
                Some(selector) => {
                    let word = text(selector, record)?;
                    actions.iter().find(|(known, _)| *known == word).map(|(_, action)| *action)
                }
            };
            self.send_pointers((&pages.list, step), says).await?;
        }
        if walk.traits.is_capped {
            // its place stays, so that a shorter way to it or everything read again shows the others
            self.end.warnings.push(format!(
                "deletes.{name} has more events than the CRM gives of one query: those beyond show when everything is read"
            ));
            return Ok(());
        }
        if walk.traits.is_proven {
            self.reached.reach_in_stream(name, self.covered());
        } else {
            self.tell_unproven(name);
        }
        Ok(())
    }

    fn tell_unproven(&mut self, name: &str) {
        self.end.warnings.push(format!(
            "nothing proves that deletes.{name} was read to its end (an error that a rule ignores, or a page that came twice): \
             it is asked for again"
        ));
    }

    async fn read_deleted(&mut self, name: &str, pages: &DeletedPages, every: Duration) -> Result<(), SourceError> {
        let now = self.link.clock().now();
        if self.reached.list_read_at(name).is_some_and(|at| at.plus(every).is_pending(now, every)) {
            return Ok(());
        }
        let mut walk = Walk::begin(self.link, self.deleted_query(name, pages));
        while let Some(step) = walk.next(self.stop).await? {
            self.send_pointers((&pages.list, step), |_| Some(StreamAction::Delete)).await?;
        }
        if walk.traits.is_proven {
            self.reached.note_list(name, now);
        } else {
            self.tell_unproven(name);
        }
        Ok(())
    }

    fn deleted_query<'q>(&self, name: &str, pages: &'q DeletedPages) -> Query<'q> {
        let DeletedPages { list, id, pagination } = pages;
        Query {
            what: format!("deletes.{name}"),
            list,
            pagination,
            id,
            cursor: None,
            start: None,
            end: None,
            began: self.began,
            largest_page: 0,
        }
    }

    async fn send_pointers(
        &mut self,
        (list, step): (&List, Step),
        says: impl Fn(&Record) -> Option<StreamAction>,
    ) -> Result<(), SourceError> {
        self.answers += 1;
        let mut items = Vec::new();
        for (item, found) in (1..).zip(step.found) {
            let Found { item: entry, id: Some(key), time } = found else { continue };
            // one with an id could be read
            let Ok(Some(record)) = list.records.record(&entry) else { continue };
            let record = Record::Json(record);
            let Some(action) = says(&record) else { continue };
            // an entry of a list of the deleted is often the record itself, with its change time
            let listed = || {
                self.description.cursor.as_ref().and_then(|cursor| cursor.format.read(&text(&cursor.path, &record)?))
            };
            let changed_at = time.or_else(listed).map(ChangeTime::unix_millis);
            let place = Place::Answer { answer: self.answers, item };
            items.push(Item::Pointed { key, is_deleted: action == StreamAction::Delete, place, changed_at });
        }
        if items.is_empty() {
            return Ok(());
        }
        send(self.pages, Page { items, cursor: None, asked_at: step.asked_at }, self.stop).await
    }

    async fn send(&mut self, step: Step, cursor: Option<Cursor>) -> Result<(), SourceError> {
        self.answers += 1;
        let Step { asked_at, found } = step;
        let (answer, mut cursor, mut found) = (self.answers, cursor, found.into_iter().zip(1..).peekable());
        // an answer of very many records becomes several pages, so that only so many stand in memory as records
        loop {
            let items: Vec<Item> = found
                .by_ref()
                .take(PAGE_ITEMS_MAX)
                .flat_map(|(found, item)| items_of(self.description, found, Place::Answer { answer, item }))
                .collect();
            let malformed = items.iter().filter(|item| matches!(item, Item::Malformed { .. })).count() as u64;
            self.end.malformed += malformed;
            self.end.records += items.len() as u64 - malformed;
            let is_last = found.peek().is_none();
            // the cursor is that of all of them
            let cursor = if is_last { cursor.take() } else { None };
            if !items.is_empty() || cursor.is_some() {
                send(self.pages, Page { items, cursor, asked_at }, self.stop).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn send_cursor(&self) -> Result<(), SourceError> {
        let page =
            Page { items: Vec::new(), cursor: Some(self.reached.to_cursor()), asked_at: self.link.clock().now() };
        send(self.pages, page, self.stop).await
    }
}
