//! `kind = "http"` and the presets: a CRM's API as a table. Resolves to a description that cannot be wrong; asks nobody.

#![expect(clippy::option_option, reason = "wrong and missing are two things, as everywhere in the configuration")]

mod calls;
mod deletes;
mod errors;
mod lists;

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use super::SelectorText;
use super::scope::Scope;
use crate::config::problem::KeyPath;
use crate::config::raw::{self, Leaf};
use crate::config::reader::Reader;
use crate::contact::Selector;
use crate::source::http::description::{Description, Paging, RateLimit};
use crate::source::http::template::{Template, Variable};

use calls::{RawFetch, RawPreflight, RawRequire};
use deletes::RawDeletes;
use errors::RawError;
use lists::{RawCursor, RawList, RawPagination};

/// The keys of an HTTP source beside those of every source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHttp {
    base_url: Option<Leaf>,
    rate_limit: Option<Leaf>,
    preflight: Option<Leaf>,
    list: Option<Leaf>,
    cursor: Option<Leaf>,
    pagination: Option<Leaf>,
    deletes: Option<Leaf>,
    fetch: Option<Leaf>,
    errors: Option<Leaf>,
}

/// Those of them that hold sections.
const SECTIONS: [&str; 8] = ["rate_limit", "preflight", "list", "cursor", "pagination", "deletes", "fetch", "errors"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRateLimit {
    requests: Option<Leaf>,
    per: Option<Leaf>,
    burst: Option<Leaf>,
}

/// Every key that such a source may have, by its section; `*` stands for a name that is the operator's.
pub(in crate::config) fn known_keys() -> Vec<(&'static str, Vec<&'static str>)> {
    let own = raw::known_keys::<RawHttp>().iter().copied().filter(|key| !SECTIONS.contains(key)).collect();
    vec![
        ("", own),
        ("rate_limit.", raw::known_keys::<RawRateLimit>().to_vec()),
        ("preflight.", raw::known_keys::<RawPreflight>().to_vec()),
        ("preflight.*.", raw::known_keys::<RawRequire>().to_vec()),
        ("list.", raw::known_keys::<RawList>().to_vec()),
        ("cursor.", raw::known_keys::<RawCursor>().to_vec()),
        ("pagination.", raw::known_keys::<RawPagination>().to_vec()),
        ("deletes.*.", raw::known_keys::<RawDeletes>().to_vec()),
        ("fetch.", raw::known_keys::<RawFetch>().to_vec()),
        ("errors.*.", raw::known_keys::<RawError>().to_vec()),
    ]
}

/// What the parts of a description are resolved with.
pub(super) struct Resolver<'a> {
    pub(super) reader: &'a mut Reader,
    pub(super) scope: &'a Scope,
}

/// The description of the source's API; `None` where a part of it is wrong, which has been told.
pub(super) fn resolve(
    reader: &mut Reader,
    section: &KeyPath,
    raw: &RawHttp,
    (key, scope): (Option<&SelectorText>, &Scope),
) -> Option<Description> {
    let mut resolver = Resolver { reader, scope };
    let base_url = resolver.base_url(section, raw.base_url.as_ref());
    let rate_limit = resolver.rate_limit(raw.rate_limit.as_ref());
    let preflight = resolver.preflight(raw.preflight.as_ref());
    let list = resolver.list(section, raw.list.as_ref());
    let cursor = resolver.cursor(raw.cursor.as_ref());
    let pagination = resolver.pagination(section, raw.pagination.as_ref());
    let lists = (cursor.as_ref().and_then(Option::as_ref), pagination.as_ref());
    let deletes = resolver.deletes(raw.deletes.as_ref(), lists);
    let fetch = resolver.fetch(raw.fetch.as_ref());
    let errors = resolver.errors(raw.errors.as_ref());
    // a path of the mapping is one that parses
    let key = key.and_then(|key| Selector::parse_first_of(&key.0).ok());
    let description = Description {
        base_url: base_url?,
        key: key?,
        rate_limit: rate_limit?,
        preflight: preflight?,
        list: list?,
        cursor: cursor?,
        pagination: pagination?,
        deletes: deletes?,
        fetch: fetch?,
        errors: errors?,
    };
    resolver.check_together(section, &description).then_some(description)
}

impl Resolver<'_> {
    /// A section of our own: `Some(None)` where there is none, `None` where it is no table.
    fn section<T: serde::de::DeserializeOwned>(&mut self, leaf: Option<&Leaf>) -> Option<Option<T>> {
        // `false` takes a preset's away
        let Some(leaf) = leaf.filter(|leaf| leaf.value != Value::Boolean(false)) else { return Some(None) };
        let table = self.reader.table(Some(leaf))?;
        Some(Some(self.reader.section(&leaf.key, table, &[])))
    }

    /// The tables of a section whose names are the operator's.
    fn named(&mut self, leaf: Option<&Leaf>) -> Option<Vec<(String, Leaf)>> {
        let Some(leaf) = leaf else { return Some(Vec::new()) };
        let table: Table = self.reader.table(Some(leaf))?;
        // `false` takes one of the preset's away
        let kept = table.into_iter().filter(|(_, value)| *value != Value::Boolean(false));
        Some(kept.map(|(name, value)| (name.clone(), Leaf::of(leaf.key.child(&name), value))).collect())
    }

    /// Text with its variables, ours put in.
    fn template(&mut self, leaf: &Leaf, text: &str) -> Option<Template> {
        let filled = self.scope.fill(self.reader, leaf, text)?;
        match Template::parse(filled.expose()) {
            Ok(template) => Some(template),
            Err(unknown) => {
                let words: Vec<&str> = Variable::words().collect();
                let accepted = format!("text with {{{}}}, {{var.…}} or {{secret.…}}", words.join("}, {"));
                let problem = self.reader.problem(&leaf.key, format!("names {{{}}}, which is no variable", unknown.0));
                self.reader.push(problem.accepted(accepted));
                None
            }
        }
    }

    fn base_url(&mut self, section: &KeyPath, leaf: Option<&Leaf>) -> Option<Template> {
        const ACCEPTED: &str = "https://HOST/PATH, or http:// to this machine, or \"{auth.base_url}\"";
        let leaf = self.reader.required(leaf, &section.child("base_url"), ACCEPTED)?;
        let text = self.reader.text(Some(leaf), ACCEPTED)?.to_owned();
        let filled = self.scope.fill(self.reader, leaf, &text)?;
        if filled.expose().contains("{auth.base_url}") {
            return self.template(leaf, &text);
        }
        let url = Url::parse(filled.expose()).ok();
        let is_good = url.is_some_and(|url| {
            let is_safe =
                url.scheme() == "https" || (url.scheme() == "http" && crate::config::reader::is_loopback(&url));
            is_safe && url.username().is_empty() && url.password().is_none() && url.query().is_none()
        });
        if is_good {
            return self.template(leaf, &text);
        }
        // not its value: a secret may be in it
        let problem =
            self.reader.problem(&leaf.key, "is no address that is safe to send a token to").accepted(ACCEPTED);
        self.reader.push(problem);
        None
    }

    fn rate_limit(&mut self, leaf: Option<&Leaf>) -> Option<Option<RateLimit>> {
        let Some(raw) = self.section::<RawRateLimit>(leaf)? else { return Some(None) };
        let key = leaf.map(|leaf| leaf.key.clone()).unwrap_or_default();
        self.reader.required(raw.requests.as_ref(), &key.child("requests"), "a whole number");
        let requests = self.reader.whole(raw.requests.as_ref(), 1..=1000).and_then(NonZeroU32::new);
        let per = match &raw.per {
            Some(per) => self.reader.duration(Some(per), Duration::from_millis(100)..=Duration::from_hours(1)),
            None => Some(Duration::from_secs(1)),
        };
        let burst = match &raw.burst {
            Some(burst) => self.reader.whole(Some(burst), 1..=1000).and_then(NonZeroU32::new),
            None => Some(NonZeroU32::MIN),
        };
        Some(Some(RateLimit { requests: requests?, per: per?, burst: burst? }))
    }

    /// What no key can say alone.
    fn check_together(&mut self, section: &KeyPath, description: &Description) -> bool {
        let mut is_good = true;
        let mut refuse = |key: &str, what: &str, accepted: &str| {
            let problem = self.reader.problem(&section.child(key), what).accepted(accepted);
            self.reader.push(problem);
            is_good = false;
        };
        let Description { list, cursor, fetch, .. } = description;
        match cursor {
            Some(_) if !list.call.uses(Variable::Start) => {
                let what = "is set, and the request of the list asks for no change time";
                refuse("cursor", what, "{start} in [list], or no [cursor]: then every read is one of everything");
            }
            Some(cursor) if !cursor.is_ordered && !list.call.uses(Variable::End) => {
                let what = "says that the list has no order, and the request has no end of a window";
                refuse("cursor", what, "{end} in [list], or ordered = true with a sorted request");
            }
            None if list.call.uses(Variable::Start) => {
                refuse("list", "asks for a change time, and nothing says where a record has its own", "a [cursor]");
            }
            Some(_) | None => {}
        }
        let page = match description.pagination.kind {
            Paging::Page => Some((Variable::Page, "{page}")),
            Paging::Offset => Some((Variable::Offset, "{offset}")),
            Paging::Cursor => Some((Variable::Next, "{next}")),
            Paging::None | Paging::NextLink => None,
        };
        if let Some((variable, word)) = page
            && !list.call.uses(variable)
        {
            let what = "says how a page follows a page, and the request of the list does not say which one it asks for";
            refuse("pagination", what, &format!("{word} in [list], or another kind"));
        }
        if let Some(fetch) = fetch
            && !fetch.call.uses(Variable::Id)
            && !fetch.call.uses(Variable::Ids)
        {
            refuse("fetch", "does not say which record it asks for", "{id} or {ids} in its path, query or body");
        }
        is_good
    }
}
