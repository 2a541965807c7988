//! The fields of one record while they are read: what is valid, what is left out, and whether a channel is there.

use std::borrow::Cow;

use super::field::{Field, Personal, Wanted};
use super::mapping::OnInvalid;
use super::moment::Zones;
use super::outcome::{DroppedField, NO_CHANNEL, Reason};
use super::refusal::Refusal;
use super::resolved::{NOT_SCALAR, ROUNDED, ResolvedField, Rule};
use super::selector::Read;

const EMPTY_EXTERNAL_ID: Refusal = Refusal::of("the id is empty");

/// How the mapped channels of one record fared.
#[derive(Default)]
pub(super) struct Channels {
    absent: usize,
    valid: usize,
    without_value: usize,
}

/// The fields of one record as they are read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) fields: Vec<(Field, Wanted)>,
    pub(super) dropped: Vec<DroppedField>,
    pub(super) reasons: Vec<Reason>,
    pub(super) channels: Channels,
    pub(super) zones: Zones,
}

impl Draft {
    pub(super) fn add(&mut self, resolved: &ResolvedField, read: Read<'_>) {
        let field = resolved.field;
        let checked = match read {
            Read::Absent => {
                self.channels.absent += usize::from(field.is_channel());
                return;
            }
            Read::Empty if field == Field::ExternalCustomerId => Err(EMPTY_EXTERNAL_ID),
            Read::Empty => Ok(Wanted::Clear),
            Read::NotScalar => Err(NOT_SCALAR),
            Read::Rounded => Err(ROUNDED),
            Read::Value(text) => canonical_value(&resolved.rule, text, self.zones),
        };
        if field.is_channel() {
            match &checked {
                Ok(Wanted::Value(_)) => self.channels.valid += 1,
                Ok(Wanted::Clear) | Err(_) => self.channels.without_value += 1,
            }
        }
        match (checked, resolved.on_invalid) {
            (Ok(wanted), _) => self.fields.push((field, wanted)),
            (Err(reason), OnInvalid::DropField) => self.dropped.push(DroppedField { field, reason }),
            (Err(text), OnInvalid::Reject) => self.reasons.push(Reason { field: Some(field), text }),
        }
    }

    /// Adds the rejection of a record without any channel: what is wrong with each, or that there is none.
    pub(super) fn check_channels(&mut self) {
        let Channels { absent, valid, without_value } = self.channels;
        if valid > 0 || absent > 0 || without_value == 0 {
            return;
        }
        let refused = self.reasons.iter().any(|reason| reason.field.is_some_and(Field::is_channel));
        let invalid: Vec<_> = self.dropped.iter().filter(|dropped| dropped.field.is_channel()).collect();
        if invalid.is_empty() && !refused {
            self.reasons.push(Reason { field: None, text: NO_CHANNEL });
        }
        self.reasons.extend(invalid.iter().map(|dropped| Reason { field: Some(dropped.field), text: dropped.reason }));
    }
}

/// The canonical value, without copying a text that is owned and canonical already.
fn canonical_value(rule: &Rule, text: Cow<'_, str>, zones: Zones) -> Result<Wanted, Refusal> {
    let canonical = match rule.canonical(&text, zones)? {
        Cow::Owned(canonical) => canonical,
        Cow::Borrowed(canonical) if canonical.len() == text.len() => text.into_owned(),
        Cow::Borrowed(canonical) => canonical.to_owned(),
    };
    Ok(Wanted::Value(Personal::new(canonical)))
}
