//! The list, its change time, and how a page of it follows a page.

use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;
use toml::Value;

use super::Resolver;
use super::calls::CallLeaves;
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::source::{contact, times};
use crate::contact::Selector;
use crate::source::http::description::{CursorRule, List, Pagination, Paging, Restart};
use crate::source::http::time::{ChangeTime, TimeFormat};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawList {
    method: Option<Leaf>,
    path: Option<Leaf>,
    query: Option<Leaf>,
    headers: Option<Leaf>,
    body: Option<Leaf>,
    records: Option<Leaf>,
    empty_statuses: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCursor {
    path: Option<Leaf>,
    format: Option<Leaf>,
    param_format: Option<Leaf>,
    timezone: Option<Leaf>,
    ordered: Option<Leaf>,
    initial: Option<Leaf>,
    overlap: Option<Leaf>,
    lag: Option<Leaf>,
    window: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPagination {
    pub(super) kind: Option<Leaf>,
    pub(super) page_size: Option<Leaf>,
    pub(super) start_page: Option<Leaf>,
    pub(super) next: Option<Leaf>,
    pub(super) has_more: Option<Leaf>,
    pub(super) max_records: Option<Leaf>,
    pub(super) restart_at_cursor: Option<Leaf>,
}

const KINDS: [(&str, Paging); 5] = [
    ("none", Paging::None),
    ("page", Paging::Page),
    ("offset", Paging::Offset),
    ("cursor", Paging::Cursor),
    ("next_link", Paging::NextLink),
];
const RESTARTS: [(&str, Restart); 3] =
    [("never", Restart::Never), ("on_limit", Restart::OnLimit), ("every_page", Restart::EveryPage)];

/// No overlap, lag or window is longer: each poll would read a good part of everything.
const SPAN_MAX: Duration = Duration::from_hours(24 * 31);

impl Resolver<'_> {
    pub(super) fn list(&mut self, source: &KeyPath, leaf: Option<&Leaf>) -> Option<List> {
        let section = source.child("list");
        self.reader.required(leaf, &section, "a table: the request that lists contacts");
        let raw: RawList = self.section(leaf)??;
        let RawList { method, path, query, headers, body, records, empty_statuses } = &raw;
        let leaves = CallLeaves::of([method, path, query, headers, body]);
        self.list_of(&section, &leaves, (records.as_ref(), empty_statuses.as_ref()))
    }

    pub(super) fn list_of(
        &mut self,
        section: &KeyPath,
        leaves: &CallLeaves<'_>,
        (records, empty_statuses): (Option<&Leaf>, Option<&Leaf>),
    ) -> Option<List> {
        let call = self.call(section, leaves);
        let records = self.records(records, &section.child("records"));
        let empty_statuses = self.statuses(empty_statuses);
        Some(List { call: call?, records: records?, empty_statuses: empty_statuses? })
    }

    fn statuses(&mut self, leaf: Option<&Leaf>) -> Option<Vec<u16>> {
        let Some(leaf) = leaf else { return Some(Vec::new()) };
        let statuses: Option<Vec<u16>> = leaf.value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_integer().and_then(|number| u16::try_from(number).ok())).collect()
        });
        match statuses {
            Some(statuses) => Some(statuses),
            None => self.reader.refuse(leaf, "is no list of statuses", "such as [204, 304]"),
        }
    }

    pub(super) fn cursor(&mut self, leaf: Option<&Leaf>) -> Option<Option<CursorRule>> {
        let Some(raw) = self.section::<RawCursor>(leaf)? else { return Some(None) };
        let section = leaf.map(|leaf| leaf.key.clone()).unwrap_or_default();
        let path = self.selector(raw.path.as_ref(), &section.child("path"));
        let zone = match &raw.timezone {
            Some(leaf) => times::time_zone(self.reader, Some(leaf)),
            None => Some(Tz::UTC),
        };
        self.reader.required(raw.format.as_ref(), &section.child("format"), FORMATS);
        let format = self.format(raw.format.as_ref(), zone.unwrap_or(Tz::UTC));
        let param_format = match &raw.param_format {
            Some(leaf) => self.format(Some(leaf), zone.unwrap_or(Tz::UTC)),
            None => format.clone(),
        };
        let is_ordered = match &raw.ordered {
            Some(leaf) => self.reader.flag(Some(leaf)),
            None => Some(true),
        };
        let initial = self.initial(raw.initial.as_ref());
        let overlap = self.span(raw.overlap.as_ref(), Duration::from_mins(1));
        let lag = self.span(raw.lag.as_ref(), Duration::ZERO);
        let window = self.span(raw.window.as_ref(), Duration::from_hours(24));
        zone?;
        Some(Some(CursorRule {
            path: path?,
            format: format?,
            param_format: param_format?,
            is_ordered: is_ordered?,
            initial: initial?,
            overlap: overlap?,
            lag: lag?,
            window: window?.max(Duration::from_secs(1)),
        }))
    }

    fn span(&mut self, leaf: Option<&Leaf>, otherwise: Duration) -> Option<Duration> {
        match leaf {
            Some(leaf) => self.reader.duration(Some(leaf), Duration::ZERO..=SPAN_MAX),
            None => Some(otherwise),
        }
    }

    fn format(&mut self, leaf: Option<&Leaf>, zone: Tz) -> Option<TimeFormat> {
        let leaf = leaf?;
        let text = self.reader.text(Some(leaf), FORMATS)?.to_owned();
        match TimeFormat::parse(&text, zone) {
            Some(format) => Some(format),
            None => self.reader.refuse(leaf, "is no form of a time", FORMATS),
        }
    }

    fn initial(&mut self, leaf: Option<&Leaf>) -> Option<Option<ChangeTime>> {
        const ACCEPTED: &str = "a moment such as \"2020-01-01T00:00:00Z\"";
        let Some(leaf) = leaf else { return Some(None) };
        let text = if let Value::Datetime(at) = &leaf.value {
            at.to_string()
        } else {
            let text = self.reader.text(Some(leaf), ACCEPTED)?;
            self.scope.fill(self.reader, leaf, text)?.expose().to_owned()
        };
        match TimeFormat::Rfc3339.read(&text) {
            Some(at) => Some(Some(at)),
            None => self.reader.refuse(leaf, "is no moment", ACCEPTED),
        }
    }

    /// A place in a record that must be there.
    pub(super) fn selector(&mut self, leaf: Option<&Leaf>, key: &KeyPath) -> Option<Selector> {
        const ACCEPTED: &str = "where it is in the record: a JSONPath such as \"$.updated_at\"";
        self.reader.required(leaf, key, ACCEPTED)?;
        let texts = contact::selector(self.reader, leaf, ACCEPTED)?;
        Selector::parse_first_of(&texts.0).ok()
    }

    pub(super) fn pagination(&mut self, source: &KeyPath, leaf: Option<&Leaf>) -> Option<Pagination> {
        let section = source.child("pagination");
        let accepted = "a table: how a page follows a page; kind = \"none\" where all is in one answer";
        self.reader.required(leaf, &section, accepted);
        let raw: RawPagination = self.section(leaf)??;
        self.reader.required(raw.kind.as_ref(), &section.child("kind"), "\"page\", \"offset\", \"cursor\", …");
        raw.kind.as_ref()?;
        self.paging(&section, &raw, None)
    }

    /// Of a list of its own, what it does not say is as of the contacts' list.
    pub(super) fn paging(
        &mut self,
        section: &KeyPath,
        raw: &RawPagination,
        outer: Option<&Pagination>,
    ) -> Option<Pagination> {
        let RawPagination { kind, page_size, start_page, next, has_more, max_records, restart_at_cursor } = raw;
        let kind = match kind {
            Some(leaf) => self.reader.choice(Some(leaf), &KINDS, &[]),
            None => Some(outer.map_or(Paging::None, |outer| outer.kind)),
        };
        let page_size = match page_size {
            Some(leaf) => self.reader.number(Some(leaf), 1..=100_000),
            None => Some(outer.map_or(100, |outer| outer.page_size)),
        };
        let start_page = match start_page {
            Some(leaf) => self.reader.number(Some(leaf), 0..=1),
            None => Some(outer.map_or(1, |outer| outer.start_page)),
        };
        let next = self.json_path(next.as_ref());
        let has_more = self.json_path(has_more.as_ref());
        let max_records = match max_records {
            Some(leaf) => self.reader.number(Some(leaf), 1..=100_000_000).map(Some),
            None => Some(None),
        };
        let restart = match restart_at_cursor {
            Some(leaf) => self.reader.choice(Some(leaf), &RESTARTS, &[]),
            None => Some(Restart::Never),
        };
        let (kind, next) = (kind?, next?);
        if matches!(kind, Paging::Cursor | Paging::NextLink) && next.is_none() {
            let accepted = "where an answer has what leads to its next page: a JSONPath";
            self.reader.required(None, &section.child("next"), accepted)?;
        }
        Some(Pagination {
            kind,
            page_size: page_size?,
            start_page: start_page?,
            next,
            has_more: has_more?,
            max_records: max_records?,
            restart: restart?,
        })
    }
}

const FORMATS: &str = "\"unix_s\", \"unix_ms\", \"unix_ms_string\", \"rfc3339\", or a strftime pattern with its %";
