//! `[guard]` and `[source.NAME.guard]`: how much may change at once before a person is asked.

use serde::Deserialize;

use super::raw::Leaf;
use super::reader::Reader;

/// More than any account holds: who wants no bound in contacts sets this.
const CONTACTS_MAX: u64 = 1_000_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGuard {
    enabled: Option<Leaf>,
    delete: Option<Leaf>,
    erase: Option<Leaf>,
    unsubscribe: Option<Leaf>,
    detach: Option<Leaf>,
    clear: Option<Leaf>,
    overwrite: Option<Leaf>,
    create: Option<Leaf>,
    mapping: Option<Leaf>,
    resubscribe: Option<Leaf>,
    rename: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBound {
    contacts: Option<Leaf>,
    percent: Option<Leaf>,
}

/// The bounds of one source: for each verb over a cycle, and over a rolling 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Off, nothing is held.
    pub enabled: bool,
    /// Contacts deleted in Reteno, restorable there.
    pub delete: Bound,
    /// Contacts erased for ever.
    pub erase: Bound,
    /// Opt-outs that no record of the CRM witnessed: first sight, a changed mapping, `on_delete`.
    pub unsubscribe: Bound,
    /// Contacts that leave a segment.
    pub detach: Bound,
    /// Contacts of which one field is emptied.
    pub clear: Bound,
    /// Contacts in which one field gets one and the same value.
    pub overwrite: Bound,
    /// New contacts, a declared first load not counted.
    pub create: Bound,
    /// Contacts that a changed mapping makes due.
    pub mapping: Bound,
    /// Addresses that get mail again after their record said no.
    pub resubscribe: Bound,
    /// Contacts whose external id changes, or without one their address.
    pub rename: Bound,
}

/// Held is what is more than either. The first 10 contacts are let through, but only one of them where that is more than half
/// of the source, or where the same read also rejected records or renamed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// This many contacts.
    pub contacts: u64,
    /// This share of the source's contacts, 0 to 100.
    pub percent: u8,
}

/// What the section says, key by key, and `base` for the rest; `None` with a problem, or where a part is in neither.
pub(super) fn resolve(reader: &mut Reader, raw: &RawGuard, base: Option<Guard>) -> Option<Guard> {
    let RawGuard {
        enabled,
        delete,
        erase,
        unsubscribe,
        detach,
        clear,
        overwrite,
        create,
        mapping,
        resubscribe,
        rename,
    } = raw;
    let enabled = if enabled.is_some() { reader.flag(enabled.as_ref()) } else { base.map(|base| base.enabled) };
    let delete = bound(reader, delete.as_ref(), base.map(|base| base.delete));
    let erase = bound(reader, erase.as_ref(), base.map(|base| base.erase));
    let unsubscribe = bound(reader, unsubscribe.as_ref(), base.map(|base| base.unsubscribe));
    let detach = bound(reader, detach.as_ref(), base.map(|base| base.detach));
    let clear = bound(reader, clear.as_ref(), base.map(|base| base.clear));
    let overwrite = bound(reader, overwrite.as_ref(), base.map(|base| base.overwrite));
    let create = bound(reader, create.as_ref(), base.map(|base| base.create));
    let mapping = bound(reader, mapping.as_ref(), base.map(|base| base.mapping));
    let resubscribe = bound(reader, resubscribe.as_ref(), base.map(|base| base.resubscribe));
    let rename = bound(reader, rename.as_ref(), base.map(|base| base.rename));
    Some(Guard {
        enabled: enabled?,
        delete: delete?,
        erase: erase?,
        unsubscribe: unsubscribe?,
        detach: detach?,
        clear: clear?,
        overwrite: overwrite?,
        create: create?,
        mapping: mapping?,
        resubscribe: resubscribe?,
        rename: rename?,
    })
}

fn bound(reader: &mut Reader, leaf: Option<&Leaf>, base: Option<Bound>) -> Option<Bound> {
    let Some(leaf) = leaf else { return base };
    let table = reader.table(Some(leaf))?;
    let raw: RawBound = reader.section(&leaf.key, table, &[]);
    let contacts = match &raw.contacts {
        Some(leaf) => reader.number(Some(leaf), 0..=CONTACTS_MAX),
        None => base.map(|base| base.contacts),
    };
    let percent = match &raw.percent {
        Some(leaf) => reader.whole(Some(leaf), 0..=100).and_then(|percent| u8::try_from(percent).ok()),
        None => base.map(|base| base.percent),
    };
    Some(Bound { contacts: contacts?, percent: percent? })
}
