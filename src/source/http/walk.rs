//! One query, page after page: what comes next, when it begins anew at the last seen change time, and when it is over.
//!
//! Rows move while they are read: one that is edited leaves its place in a list that is sorted by change time, and those
//! behind it move up by one, over the edge of a page. So such a list is continued from the last seen (time, id), and a
//! page of one single moment is gone through until nothing new is in it. Gives no record a meaning.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::description::{Pagination, Paging, Restart};
use super::fetch::MISSING;
use super::link::{Ask, Link, NextLink, Reply};
use super::pages::{More, Pages};
use super::place::covered_by;
use super::query::{Found, Query, Step};
use super::records::no_records;
use super::template::{Bindings, Variable};
use super::time::ChangeTime;
use super::traits::Traits;
use crate::contact::{Read, Record, Selector};
use crate::source::SourceError;

/// Passes over the records of one moment: each finds what the one before it lost to rows that moved. More than a few
/// only where somebody edits without end.
const PASSES_MAX: u32 = 5;
/// Between the zone that a CRM takes our times to be of and the one that they are of, microseconds: a window that is moved
/// by so much is still one.
const ZONES: i64 = 26 * 3600 * 1_000_000;

/// A query under way.
pub(super) struct Walk<'a> {
    link: &'a Link,
    query: Query<'a>,
    /// Where the present query begins.
    start: Option<ChangeTime>,
    /// Pages of the present query that were read.
    pages: u64,
    /// What they have shown.
    shown: Pages,
    /// The address that gave the last one.
    address: String,
    /// Records of the present query that were read.
    records: u64,
    last: Option<ChangeTime>,
    /// What was seen of the last moments: it comes again when the query begins anew.
    seen: BTreeSet<(ChangeTime, String)>,
    passes: Option<Passes>,
    is_over: bool,
    restarts: u64,
    /// The present query gave nothing, and is asked once more.
    is_doubted: bool,
    /// The last page was short, so the next one is asked for to see whether that was the end.
    short_page: Option<ShortPage>,
    /// What the CRM turned out to do.
    pub(super) traits: Traits,
}

/// A page that may be the last.
struct ShortPage {
    /// The latest change time on it and before it.
    last: Option<ChangeTime>,
}

/// Going through the records of one moment, page by page. Those that leave it move the others to earlier pages, so that
/// a way back meets all whom the way there has missed; where pages cannot be counted, it is gone again and again.
#[derive(Debug)]
struct Passes {
    /// The moment.
    until: ChangeTime,
    way: Way,
}

#[derive(Debug)]
enum Way {
    There {
        /// Which pass this is, from 1.
        count: u32,
        /// Something of the moment came that had not come before.
        has_news: bool,
    },
    Back {
        /// Behind the moment there is nothing.
        is_last: bool,
    },
}

impl<'a> Walk<'a> {
    pub(super) fn begin(link: &'a Link, query: Query<'a>) -> Self {
        Self {
            link,
            start: query.start,
            pages: 0,
            records: 0,
            shown: Pages::of(query.largest_page),
            address: String::new(),
            last: None,
            seen: BTreeSet::new(),
            passes: None,
            is_over: false,
            restarts: 0,
            is_doubted: false,
            short_page: None,
            traits: Traits { is_sorted: true, is_filtered: true, is_capped: false, is_proven: true, has_times: None },
            query,
        }
    }

    /// Whether nothing more is to be asked for.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The latest change time that was seen.
    pub(super) const fn last(&self) -> Option<ChangeTime> {
        self.last
    }

    /// Records of the largest page that the CRM was seen to give.
    pub(super) const fn largest_page(&self) -> u64 {
        self.shown.largest()
    }

    /// The next answer; `None` when the query is over.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> Result<Option<Step>, SourceError> {
        if self.is_over {
            return Ok(None);
        }
        let (asked_at, mut answer) = match self.ask(stop).await? {
            Reply::Answer(answer) => (answer.asked_at, Some(answer)),
            Reply::Empty { asked_at, is_told } => {
                self.traits.is_proven &= is_told;
                (asked_at, None)
            }
            Reply::Restart => {
                self.restart_or_end(true, More::Yes)?;
                return Ok(Some(Step { asked_at: self.link.clock().now(), found: Vec::new() }));
            }
        };
        let items = match &mut answer {
            Some(answer) => self.query.list.records.items(answer).ok_or_else(|| no_records(&self.query.what))?,
            None => Vec::new(),
        };
        let body = answer.map_or(Value::Null, |answer| {
            self.address = answer.address;
            answer.body
        });
        if items.is_empty() && self.pages == 0 && self.restarts > 0 && !self.is_doubted {
            // it began at the last record that was seen, which cannot all at once be none: a CRM that stumbles says that
            self.is_doubted = true;
            return Ok(Some(Step { asked_at, found: Vec::new() }));
        }
        self.is_doubted = false;
        let more = self.shown.take(self.query.pagination, self.pages, (&body, &items));
        let more = more.map_err(|reason| SourceError::NotUnderstood {
            what: self.query.what.clone(),
            reason: reason.to_owned(),
        })?;
        let (more, items) = match more {
            More::Again { is_proven } => {
                self.traits.is_proven &= is_proven;
                (More::No, Vec::new())
            }
            More::No | More::Yes | More::Unproven => (more, items),
        };
        let count = items.len() as u64;
        let found: Vec<Found> = items.into_iter().filter_map(|item| self.find(item)).collect();
        let found = self.note(found);
        self.pages += 1;
        self.records += count;
        if !self.traits.is_sorted && self.restarts > 0 {
            // what lies between may have been left out already
            return Err(SourceError::NotSorted { what: self.query.what.clone() });
        }
        self.turn(more)?;
        Ok(Some(Step { asked_at, found }))
    }

    /// Behind a short page a 404 is the CRM's own word that there is no such page.
    async fn ask(&self, stop: &CancellationToken) -> Result<Reply, SourceError> {
        let asked_at = self.link.clock().now();
        self.link.ask(&self.build_ask(), stop).await.or_else(|error| {
            let is_missing =
                matches!(&error, SourceError::Answer { status, rule: None, .. } if MISSING.contains(status));
            let end = self.shown.missing_behind(self.pages).filter(|_| is_missing);
            end.map(|is_told| Reply::Empty { asked_at, is_told }).ok_or(error)
        })
    }

    fn build_ask(&self) -> Ask<'_> {
        let Query { what, list, pagination, cursor, end, .. } = &self.query;
        let written = |at: Option<ChangeTime>| cursor.and_then(|cursor| at.map(|at| cursor.param_format.write(at)));
        let is_link = pagination.kind == Paging::NextLink && self.pages > 0;
        let next_link = self.shown.next().filter(|_| is_link).and_then(Value::as_str);
        Ask {
            what,
            call: &list.call,
            next_link: next_link.map(|text| NextLink { text, from: &self.address }),
            bindings: Bindings {
                start: written(self.start),
                end: written(*end),
                page: Some(pagination.start_page + self.pages),
                offset: Some(self.shown.offset(self.pages)),
                next: self.shown.next().cloned(),
                page_size: Some(pagination.page_size),
                ..Bindings::default()
            },
            empty_statuses: &list.empty_statuses,
            records: Some(&list.records),
            paths: pagination.next.iter().chain(&pagination.has_more).collect(),
        }
    }

    /// What the walk needs of an item; `None` for one that is left out. One that cannot be read is told by its reader.
    fn find(&self, item: Bytes) -> Option<Found> {
        let kept = match self.query.list.records.record(&item) {
            Ok(record) => Record::Json(record?),
            Err(_) => return Some(Found { item, id: None, time: None }),
        };
        let text = |selector: &Selector| match selector.read(&kept) {
            Read::Value(text) => Some(text.into_owned()),
            Read::Absent | Read::Empty | Read::NotScalar | Read::Rounded => None,
        };
        let id = text(self.query.id);
        let time = self.query.cursor.and_then(|cursor| cursor.format.read(&text(&cursor.path)?));
        Some(Found { item, id, time })
    }

    /// Takes the times of a page in, and leaves out what this walk has given before.
    fn note(&mut self, found: Vec<Found>) -> Vec<Found> {
        let Some(cursor) = self.query.cursor else { return found };
        if !found.is_empty() {
            let has_times = found.iter().any(|found| found.time.is_some());
            self.traits.has_times = Some(has_times || self.traits.has_times == Some(true));
        }
        let unit = cursor.param_format.unit();
        // later times are no place to go on from: an index that lags shows a record at its old place with its new time, and
        // what lies between would be left out
        let covered = covered_by(self.link, self.query.began, self.query.cursor);
        let times: Vec<ChangeTime> =
            found.iter().filter_map(|found| found.time).filter(|time| *time <= covered).collect();
        let asked = self.start.filter(|_| self.query.list.call.uses(Variable::Start));
        if let (Some(asked), Some(least)) = (asked, times.iter().min()) {
            let slack = if cursor.is_ordered { unit } else { ZONES };
            let is_before = self.query.end.is_none_or(|end| least.0 <= end.0 + slack);
            self.traits.is_filtered &= least.0 >= asked.0 - slack && is_before;
        }
        if !cursor.is_ordered {
            return found;
        }
        // a page goes on where the one before it ended
        let goes_on = self.pages == 0 || self.passes.is_some() || times.first() >= self.last.as_ref();
        self.traits.is_sorted &= times.is_sorted() && (times.is_empty() || goes_on);
        let found: Vec<Found> = found.into_iter().filter(|found| self.is_first_time(found)).collect();
        self.last = times.into_iter().max().max(self.last);
        if let (Some(last), None) = (self.last, &self.passes) {
            self.seen.retain(|(time, _)| time.0 >= last.0 - 2 * unit);
        }
        found
    }

    fn is_first_time(&mut self, found: &Found) -> bool {
        let (Some(time), Some(id)) = (found.time, &found.id) else { return true };
        let is_new = self.seen.insert((time, id.clone()));
        if let Some(Passes { until, way: Way::There { has_news, .. } }) = &mut self.passes
            && time <= *until
        {
            *has_news |= is_new;
        }
        is_new
    }

    /// Decides what is asked for next.
    fn turn(&mut self, more: More) -> Result<(), SourceError> {
        let Pagination { kind, max_records, page_size, restart, .. } = *self.query.pagination;
        let has_more = more != More::No;
        if kind == Paging::None && self.query.list.call.uses(Variable::PageSize) {
            // as many as were asked for, and no way to ask for the rest
            self.traits.is_proven &= self.records < page_size;
        }
        if let Some(ShortPage { last }) = self.short_page.take()
            && has_more
            && restart == Restart::EveryPage
            && self.can_restart()
        {
            // the short page was not the last: what moved over its edge while it was looked behind comes from there on
            self.last = last;
        }
        // the next page would go beyond what the CRM gives of one query, or it has stopped exactly there
        let is_at_limit =
            max_records.is_some_and(|most| self.records >= most || (has_more && self.records + page_size > most));
        let is_of_moment = matches!(&self.passes,
            Some(Passes { until, way: Way::There { .. } }) if self.last <= Some(*until));
        if is_at_limit && is_of_moment {
            // the way back would find the same, and the rest of the moment never
            return Err(SourceError::Stuck { what: self.query.what.clone() });
        }
        let is_passing = self.pass(has_more);
        if is_passing || self.is_over {
            return Ok(());
        }
        if is_at_limit {
            return self.restart_or_end(restart != Restart::Never, more);
        }
        if !has_more {
            self.is_over = true;
        } else if more == More::Unproven {
            self.short_page = Some(ShortPage { last: self.last });
        } else if restart == Restart::EveryPage && self.can_restart() {
            if let Some(start) = self.later_start() {
                self.begin_at(Some(start));
            } else {
                let way = Way::There { count: 1, has_news: true };
                self.passes = self.last.map(|until| Passes { until, way });
            }
        }
        Ok(())
    }

    /// Goes on among the records of one moment; false where that is over, or never began.
    fn pass(&mut self, has_more: bool) -> bool {
        let can_go_back = matches!(self.query.pagination.kind, Paging::Page | Paging::Offset);
        let Some(Passes { until, way }) = &mut self.passes else { return false };
        let is_through = !has_more || self.last > Some(*until);
        match way {
            Way::There { .. } if !is_through => return true,
            Way::There { .. } if can_go_back && self.pages > 1 => {
                *way = Way::Back { is_last: !has_more };
                // the page before the one just read
                self.pages -= 2;
                return true;
            }
            Way::There { count, has_news } if *has_news && *count < PASSES_MAX && !can_go_back => {
                (*count, *has_news) = (*count + 1, false);
                self.begin_at(self.start);
                return true;
            }
            Way::Back { .. } if self.pages > 1 => {
                self.pages -= 2;
                return true;
            }
            Way::There { .. } => {}
            Way::Back { is_last } => self.is_over = *is_last,
        }
        self.passes = None;
        if !self.is_over {
            // what lies behind the moment is asked for from there
            if let Some(start) = self.later_start() {
                self.begin_at(Some(start));
                return true;
            }
        }
        false
    }

    fn can_restart(&self) -> bool {
        let Traits { is_sorted, is_filtered, .. } = self.traits;
        is_sorted && is_filtered && self.query.cursor.is_some_and(|cursor| cursor.is_ordered)
    }

    /// Where the query would begin anew, if that is later than where it began: at the last seen moment, and one step
    /// before it, since a bound that is said to be inclusive may not be.
    fn later_start(&self) -> Option<ChangeTime> {
        let unit = self.query.cursor?.param_format.unit();
        let start = ChangeTime(self.last?.0 - unit);
        (self.start.is_none_or(|present| start > present)).then_some(start)
    }

    fn begin_at(&mut self, start: Option<ChangeTime>) {
        self.restarts += u64::from(start != self.start);
        self.start = start;
        (self.pages, self.records) = (0, 0);
        self.shown.begin();
    }

    /// The CRM gives no more of this query: from the last seen moment on it gives the rest.
    fn restart_or_end(&mut self, may_restart: bool, more: More) -> Result<(), SourceError> {
        match self.later_start().filter(|_| may_restart && self.can_restart()) {
            Some(start) => self.begin_at(Some(start)),
            None if self.query.end.is_some() => (self.is_over, self.traits.is_capped) = (true, true),
            // a short page may be the last, and the CRM lets nobody look behind it
            None if more == More::Unproven => (self.is_over, self.traits.is_proven) = (true, false),
            None => return Err(SourceError::Stuck { what: self.query.what.clone() }),
        }
        Ok(())
    }
}
