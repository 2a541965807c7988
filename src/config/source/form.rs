//! `[source.NAME.form]`: a source whose people are each sent once, and confirm their subscription (double opt-in). A
//! contact that Reteno knows already is updated by the call. It starts workflows there and is never repeated, so nothing
//! that keeps contacts equal can stand beside it.

use serde::Deserialize;

use super::{OnDelete, RawSource};
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::reader::Reader;
use crate::config::reteno::RestoreDeleted;
use crate::config::words;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawForm {
    form_type: Option<Leaf>,
    groups: Option<Leaf>,
    subscriptions: Option<Leaf>,
}

/// What Reteno's `contact/subscribe` carries beside the contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormText {
    /// Reteno's `formType`, the name of the form.
    pub form_type: Option<String>,
    /// The segments of the new contacts, by name.
    pub groups: Vec<String>,
    /// The subscription categories of the new contacts, by key.
    pub subscriptions: Vec<String>,
}

pub(super) fn resolve(
    reader: &mut Reader,
    section: &KeyPath,
    source: &RawSource,
    on_delete: Option<OnDelete>,
    restore: Option<RestoreDeleted>,
) -> Option<FormText> {
    let table = reader.table(source.form.as_ref())?;
    let raw: RawForm = reader.section(section, table, &[]);
    for leaf in [&source.consent, &source.subscriptions].into_iter().flatten() {
        exclude(reader, &leaf.key, section);
    }
    if let (Some(leaf), Some(OnDelete::Detach | OnDelete::Unsubscribe | OnDelete::Delete | OnDelete::Erase)) =
        (&source.on_delete, on_delete)
    {
        exclude(reader, &leaf.key, section);
    }
    if restore == Some(RestoreDeleted::Live) {
        let problem = reader.problem(section, "cannot stand beside reteno.restore_deleted = \"live\"");
        reader.push(problem.accepted("\"never\" or \"always\" there: a form's contacts are sent once"));
    }
    let form_type = words::form_type(reader, raw.form_type.as_ref());
    let groups = match &raw.groups {
        Some(leaf) => words::segments(reader, Some(leaf)),
        None => Some(Vec::new()),
    };
    let subscriptions = match &raw.subscriptions {
        Some(leaf) => words::categories(reader, Some(leaf)),
        None => Some(Vec::new()),
    };
    Some(FormText { form_type, groups: groups?, subscriptions: subscriptions? })
}

fn exclude(reader: &mut Reader, key: &KeyPath, form: &KeyPath) {
    let problem = reader.problem(key, format!("cannot stand beside {form}: a form sends each contact once"));
    reader.push(problem.accepted("one of the two"));
}
