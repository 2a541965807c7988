//! What is right in a source's section, and yet worth a word to the operator.

use chrono_tz::Tz;

use super::{FieldTarget, SourceConfig};
use crate::contact::{Catalog, Field, FieldKind};

impl SourceConfig {
    /// That a delivery which is sent again later would move a contact back.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let is_dated = self.changed_at.is_some();
        let webhook = self.webhook.as_ref().filter(|webhook| webhook.brings_records() && !is_dated)?;
        // their ids tell a delivery that comes again
        (!webhook.has_delivery_ids()).then(|| {
            format!(
                "source {} is pushed whole records without changed_at: a delivery that is sent again later would move a \
                 contact back; map the record's change time, if it has one",
                self.name
            )
        })
    }

    /// That people's addresses are the ids of its records, which stand in the checkpoint, the log and lists as they are.
    #[must_use]
    pub fn id_doubt(&self) -> Option<String> {
        let bare = |path: &String| path.trim_start_matches("$.").to_owned();
        let of_key: Vec<String> = self.key.0.iter().map(bare).collect();
        let is_address = self.contact.iter().any(|mapped| match &mapped.target {
            FieldTarget::Standard(field) => {
                matches!(field, Field::Email | Field::Sms)
                    && mapped.paths.0.iter().map(bare).any(|path| of_key.contains(&path))
            }
            FieldTarget::AdditionalId(_) | FieldTarget::AdditionalKey(_) => false,
        });
        is_address.then(|| {
            format!(
                "source {0} takes an e-mail or a phone for the record's id: ids are stored and listed in clear, so each person's \
                 address stays readable in state_dir; set source.{0}.key to an id that names nobody, if the CRM has one",
                self.name
            )
        })
    }

    /// That its days are read on the clock of UTC: a zone that was set for a schedule moves birthdays. Of fields that the
    /// catalog lacks nobody knows whether they are days.
    #[must_use]
    pub fn clock_doubt(&self, catalog: &Catalog) -> Option<String> {
        self.zones.source.filter(|zone| is_utc(*zone))?;
        let kinds = self.contact.iter().filter_map(|mapped| match &mapped.target {
            FieldTarget::Standard(_) => None,
            FieldTarget::AdditionalId(id) => Some(catalog.by_id(*id)),
            FieldTarget::AdditionalKey(key) => Some(catalog.by_key(key)),
        });
        let kinds: Vec<_> = kinds.map(|field| field.map(|field| &field.kind)).collect();
        let has_days = kinds.contains(&Some(&FieldKind::Date));
        let condition = if has_days { "" } else { ", if one of its additional fields is a date" };
        (has_days || kinds.contains(&None)).then(|| {
            format!(
                "moments of source {} are read on the clock of UTC: birthdays may move by a day{condition}; set time_zone to \
                 where the CRM's people write",
                self.name
            )
        })
    }
}

/// Whether a zone is UTC by one of its names.
fn is_utc(zone: Tz) -> bool {
    const NAMES: [&str; 9] = ["UTC", "UCT", "Universal", "Zulu", "GMT", "GMT0", "GMT+0", "GMT-0", "Greenwich"];
    NAMES.contains(&zone.name().trim_start_matches("Etc/"))
}
