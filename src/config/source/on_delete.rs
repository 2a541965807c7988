//! `on_delete`: what becomes of a contact that the CRM has no more, and what that needs.

use crate::config::raw::Leaf;
use crate::config::reader::Reader;

/// What happens to a contact that is gone from the CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// Nothing.
    Keep,
    /// It leaves its segments.
    Detach,
    /// Its e-mail address gets no more mails.
    Unsubscribe,
    /// It is deleted, restorable in Reteno.
    Delete,
    /// It is erased for ever, and may not come back.
    Erase,
}

/// As the operator writes them.
pub(super) const WORDS: [(&str, OnDelete); 5] = [
    ("keep", OnDelete::Keep),
    ("detach", OnDelete::Detach),
    ("unsubscribe", OnDelete::Unsubscribe),
    ("delete", OnDelete::Delete),
    ("erase", OnDelete::Erase),
];

/// What takes contacts out of segments needs one, what unsubscribes an address needs that.
pub(super) fn check(reader: &mut Reader, leaf: &Leaf, on_delete: OnDelete, (can_detach, maps_email): (bool, bool)) {
    let section = leaf.key.parent().unwrap_or_default();
    match on_delete {
        OnDelete::Detach if !can_detach => {
            let accepted = format!("a segment with its group_id in [{section}.segments]");
            reader.refuse::<()>(leaf, "takes contacts out of segments, and none has a group_id", accepted);
        }
        OnDelete::Unsubscribe if !maps_email => {
            let accepted = format!("email = \"…\" in [{section}.contact]");
            reader.refuse::<()>(leaf, "needs the address that is unsubscribed, and email is not mapped", accepted);
        }
        OnDelete::Keep | OnDelete::Detach | OnDelete::Unsubscribe | OnDelete::Delete | OnDelete::Erase => {}
    }
}
