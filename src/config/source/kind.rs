//! `kind`: what a source is, which keys it has besides those of every source, and whose a foreign key is.

use std::sync::Arc;

use toml::Table;

use super::file::RawFile;
use super::http::RawHttp;
use super::scope::Scope;
use super::singer::RawSinger;
use super::{RawSource, SelectorText, SourceKind, file, http, singer, webhook};
use crate::config::problem::KeyPath;
use crate::config::raw::{self, Leaf};
use crate::config::reader::Reader;
use crate::source::presets;

#[derive(Clone, Copy)]
enum Kind {
    File,
    Singer,
    Http,
    Webhook,
}

impl Kind {
    /// A preset is an HTTP source whose defaults are its own.
    fn words() -> Vec<(&'static str, Self)> {
        let own = [("file", Self::File), ("singer", Self::Singer), ("http", Self::Http), ("webhook", Self::Webhook)];
        own.into_iter().chain(presets::names().map(|name| (name, Self::Http))).collect()
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::File => raw::known_keys::<RawFile>(),
            Self::Singer => raw::known_keys::<RawSinger>(),
            Self::Http => raw::known_keys::<RawHttp>(),
            Self::Webhook => &[],
        }
    }
}

pub(super) fn resolve(
    reader: &mut Reader,
    section: &KeyPath,
    raw: &RawSource,
    (rest, key, scope): (Table, Option<&SelectorText>, &Scope),
) -> Option<SourceKind> {
    reader.required(
        raw.kind.as_ref(),
        &section.child("kind"),
        "\"file\" | \"singer\" | \"http\" | \"webhook\" | the name of a CRM",
    );
    // Without a kind that exists nobody can say which other keys there are.
    let kind = reader.choice(raw.kind.as_ref(), &Kind::words(), &[])?;
    let (foreign, rest): (Table, Table) =
        rest.into_iter().partition(|(key, _)| !kind.keys().contains(&key.as_str()) && owner(key).is_some());
    for key in foreign.keys() {
        let what = format!("belongs to kind = \"{}\"", owner(key).unwrap_or_default());
        let problem = reader.problem(&section.child(key), what).hint("remove it, or change the kind");
        reader.push(problem);
    }
    refuse_unused(reader, raw, kind);
    let others = raw::known_keys::<RawSource>();
    match kind {
        Kind::File => {
            let raw: RawFile = reader.section(section, rest, others);
            file::resolve(reader, section, &raw).map(SourceKind::File)
        }
        Kind::Singer => {
            let raw: RawSinger = reader.section(section, rest, others);
            singer::resolve(reader, section, &raw).map(SourceKind::Singer)
        }
        Kind::Http => {
            let raw: RawHttp = reader.section(section, rest, others);
            http::resolve(reader, section, &raw, (key, scope))
                .map(|description| SourceKind::Http(Arc::new(description)))
        }
        Kind::Webhook => {
            let _: webhook::RawPushed = reader.section(section, rest, others);
            webhook::check_pushed(reader, section, (raw.webhook.as_ref(), [&raw.schedule, &raw.reconcile]))
        }
    }
}

/// What only an API has a use for; what a system that only pushes can name in its webhook.
fn refuse_unused(reader: &mut Reader, raw: &RawSource, kind: Kind) {
    let unused: &[&Option<Leaf>] = match kind {
        Kind::Http => &[],
        Kind::Webhook => &[&raw.auth],
        Kind::File | Kind::Singer => &[&raw.auth, &raw.vars, &raw.secrets, &raw.webhook],
    };
    for leaf in unused.iter().filter_map(|leaf| leaf.as_ref()) {
        let problem = reader.problem(&leaf.key, "has no meaning for this kind of source");
        reader.push(problem.hint("remove it, or change the kind"));
    }
}

/// The kind that has this key.
fn owner(key: &str) -> Option<&'static str> {
    Kind::words().into_iter().find(|(_, kind)| kind.keys().contains(&key)).map(|(word, _)| word)
}
