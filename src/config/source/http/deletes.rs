//! `[source.NAME.deletes.WORD]`: how the CRM tells that somebody is deleted.

use std::time::Duration;

use serde::Deserialize;
use toml::Value;

use super::Resolver;
use super::calls::CallLeaves;
use super::lists::RawPagination;
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::source::http::description::{Call, CursorRule, DeletedPages, Deletes, Pagination, Stream, StreamAction};
use crate::source::http::template::Variable;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawDeletes {
    kind: Option<Leaf>,
    method: Option<Leaf>,
    path: Option<Leaf>,
    query: Option<Leaf>,
    headers: Option<Leaf>,
    body: Option<Leaf>,
    records: Option<Leaf>,
    id: Option<Leaf>,
    cursor: Option<Leaf>,
    equals: Option<Leaf>,
    merged_into: Option<Leaf>,
    separator: Option<Leaf>,
    action_path: Option<Leaf>,
    actions: Option<Leaf>,
    every: Option<Leaf>,
    next: Option<Leaf>,
    has_more: Option<Leaf>,
    page_size: Option<Leaf>,
}

#[derive(Clone, Copy)]
enum Kind {
    Flag,
    MergedIds,
    Stream,
    List,
    Snapshot,
}

const KINDS: [(&str, Kind); 5] = [
    ("flag", Kind::Flag),
    ("merged_ids", Kind::MergedIds),
    ("stream", Kind::Stream),
    ("list", Kind::List),
    ("snapshot", Kind::Snapshot),
];
const EVERY_DEFAULT: Duration = Duration::from_hours(24);
const EVERY_MAX: Duration = Duration::from_hours(24 * 90);

/// The cursor and the pages of the contacts' list.
type Lists<'a> = (Option<&'a CursorRule>, Option<&'a Pagination>);

impl Resolver<'_> {
    pub(super) fn deletes(&mut self, leaf: Option<&Leaf>, lists: Lists<'_>) -> Option<Vec<(String, Deletes)>> {
        let resolved: Vec<_> = self
            .named(leaf)?
            .into_iter()
            .map(|(name, leaf)| {
                let raw = self.section::<RawDeletes>(Some(&leaf))??;
                Some((name, self.deletes_of(&leaf.key, &raw, lists)?))
            })
            .collect();
        resolved.into_iter().collect()
    }

    fn deletes_of(&mut self, section: &KeyPath, raw: &RawDeletes, lists: Lists<'_>) -> Option<Deletes> {
        self.reader.required(raw.kind.as_ref(), &section.child("kind"), "\"flag\" | \"stream\" | \"list\" | …");
        let kind = self.reader.choice(raw.kind.as_ref(), &KINDS, &[])?;
        self.refuse_foreign(raw, kind)?;
        match kind {
            Kind::Flag => self.flag(section, raw),
            Kind::MergedIds => {
                let path = self.selector(raw.path.as_ref(), &section.child("path"))?;
                let separator = match &raw.separator {
                    Some(leaf) => self.reader.text(Some(leaf), "text such as \";\"")?.to_owned(),
                    // as lists of a record are read
                    None => ",".to_owned(),
                };
                Some(Deletes::MergedIds { path, separator })
            }
            Kind::Stream => self.stream(section, raw, lists),
            Kind::List => {
                let pages = self.deleted_pages(section, raw, lists.1);
                let every = self.every(raw.every.as_ref());
                Some(Deletes::List { pages: Box::new(pages?), every: every? })
            }
            Kind::Snapshot => Some(Deletes::Snapshot { every: self.every(raw.every.as_ref())? }),
        }
    }

    /// Keys that have a meaning for another kind only; those of a preset may stand below a kind that is the operator's.
    fn refuse_foreign(&mut self, raw: &RawDeletes, kind: Kind) -> Option<()> {
        let RawDeletes { method, query, headers, body, records, id, cursor, action_path, actions, .. } = raw;
        let pages = [method, query, headers, body, records, id, &raw.next, &raw.has_more, &raw.page_size];
        let (flag, merged) = ([&raw.equals, &raw.merged_into], [&raw.separator]);
        let stream = [cursor, action_path, actions];
        let every = [&raw.every];
        let foreign: [&[&Option<Leaf>]; 4] = match kind {
            Kind::Flag => [&pages, &stream, &merged, &every],
            Kind::MergedIds => [&pages, &stream, &flag, &every],
            Kind::Stream => [&flag, &merged, &every, &[]],
            Kind::List => [&flag, &merged, &stream, &[]],
            Kind::Snapshot => [&pages, &stream, &flag, &merged],
        };
        let mut is_good = true;
        for leaf in foreign.into_iter().flatten().filter_map(|leaf| leaf.as_ref()) {
            if self.reader.is_set(&leaf.key) || self.reader.is_set_below(&leaf.key) {
                let problem = self.reader.problem(&leaf.key, "has no meaning for this kind of deletes");
                self.reader.push(problem.hint("remove it, or change the kind"));
                is_good = false;
            }
        }
        is_good.then_some(())
    }

    fn every(&mut self, leaf: Option<&Leaf>) -> Option<Duration> {
        match leaf {
            Some(leaf) => self.reader.duration(Some(leaf), Duration::from_mins(1)..=EVERY_MAX),
            None => Some(EVERY_DEFAULT),
        }
    }

    fn flag(&mut self, section: &KeyPath, raw: &RawDeletes) -> Option<Deletes> {
        let path = self.required_path(raw.path.as_ref(), &section.child("path"));
        self.reader.required(raw.equals.as_ref(), &section.child("equals"), "the value of one that is deleted");
        let equals = raw.equals.as_ref().and_then(|leaf| self.value(leaf));
        let merged_into = match &raw.merged_into {
            Some(leaf) => self.selector(Some(leaf), &leaf.key).map(Some),
            None => Some(None),
        };
        Some(Deletes::Flag { path: path?, equals: equals?, merged_into: merged_into? })
    }

    fn stream(&mut self, section: &KeyPath, raw: &RawDeletes, (cursor, paging): Lists<'_>) -> Option<Deletes> {
        let pages = self.deleted_pages(section, raw, paging);
        let Some(cursor) = cursor else {
            let problem = self.reader.problem(section, "is a stream, and the source has no [cursor]");
            self.reader.push(problem.accepted("a [cursor], which says how times are written"));
            return None;
        };
        let path = match &raw.cursor {
            Some(leaf) => self.selector(Some(leaf), &leaf.key)?,
            None => cursor.path.clone(),
        };
        let action = match &raw.action_path {
            Some(leaf) => self.selector(Some(leaf), &leaf.key).map(Some),
            None => Some(None),
        };
        let actions = self.actions(raw.actions.as_ref());
        let cursor = CursorRule { path, is_ordered: false, ..cursor.clone() };
        Some(Deletes::Stream(Box::new(Stream { pages: pages?, cursor, action: action?, actions: actions? })))
    }

    fn actions(&mut self, leaf: Option<&Leaf>) -> Option<Vec<(String, StreamAction)>> {
        let words = [("delete", StreamAction::Delete), ("fetch", StreamAction::Fetch)];
        let resolved: Vec<_> = self
            .named(leaf)?
            .into_iter()
            .map(|(word, leaf)| Some((word, self.reader.choice(Some(&leaf), &words, &[])?)))
            .collect();
        resolved.into_iter().collect()
    }

    fn deleted_pages(
        &mut self,
        section: &KeyPath,
        raw: &RawDeletes,
        outer: Option<&Pagination>,
    ) -> Option<DeletedPages> {
        let leaves = CallLeaves::of([&raw.method, &raw.path, &raw.query, &raw.headers, &raw.body]);
        let list = self.list_of(section, &leaves, (raw.records.as_ref(), None));
        let id = self.selector(raw.id.as_ref(), &section.child("id"));
        let list = list?;
        // an answer leads to its next page, and the request has no place for it: it is the page's address
        let kind = match kind_of(&list.call) {
            "none" if raw.next.is_some() => "next_link",
            kind => kind,
        };
        let own = RawPagination {
            kind: Some(Leaf::of(section.clone(), Value::String(kind.to_owned()))),
            page_size: raw.page_size.clone(),
            start_page: None,
            next: raw.next.clone(),
            has_more: raw.has_more.clone(),
            max_records: None,
            restart_at_cursor: None,
        };
        let pagination = self.paging(section, &own, outer)?;
        // where its pages are as those of the contacts, so are the signs of a next one
        let inherits = outer.is_some_and(|outer| outer.kind == pagination.kind) && raw.has_more.is_none();
        let has_more = if inherits { outer.and_then(|outer| outer.has_more.clone()) } else { pagination.has_more };
        let pagination = Pagination { has_more, ..pagination };
        Some(DeletedPages { list, id: id?, pagination })
    }
}

/// The kind of pages that a request asks for.
fn kind_of(call: &Call) -> &'static str {
    let kinds = [(Variable::Next, "cursor"), (Variable::Page, "page"), (Variable::Offset, "offset")];
    kinds.into_iter().find(|(variable, _)| call.uses(*variable)).map_or("none", |(_, kind)| kind)
}
