//! Texts that Reteno restricts: keys of events, names of forms and segments, keys of subscription categories.

use super::problem::KeyPath;
use super::raw::Leaf;
use super::reader::Reader;

/// Reteno refuses them in the key of an event and in the name of a form.
const REFUSED: &str = "<;’\\/|\"`'^?!,>";

/// Reteno's limit for the key of an event. For names it gives none; a longer one is a slip of the hand.
const CHARS_MAX: usize = 100;

/// Reteno's `eventKeyForNewContacts`. Reteno takes blanks in it; but an unknown key makes a new type of event there, so
/// one pasted with a blank would never be found missing.
pub(super) fn event_key(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<String> {
    let accepted = format!("an event's key: 1 to {CHARS_MAX} characters, no blanks and none of {REFUSED}");
    let text = reader.text(leaf, &accepted)?;
    if is_plain(text) && !text.contains(char::is_whitespace) && !text.contains(|c| REFUSED.contains(c)) {
        return Some(text.to_owned());
    }
    reader.refuse(leaf?, "is not the key of an event", accepted)
}

/// Reteno's `formType`.
pub(super) fn form_type(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<String> {
    let accepted = format!("a form's name: 1 to {CHARS_MAX} characters, none of {REFUSED}");
    let text = reader.text(leaf, &accepted)?;
    if is_plain(text) && !text.contains(|c| REFUSED.contains(c)) {
        return Some(text.to_owned());
    }
    reader.refuse(leaf?, "is not the name of a form", accepted)
}

/// The names of segments in a list.
pub(super) fn segments(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Vec<String>> {
    const ACCEPTED: &str = "a list of names of segments such as [\"Site\"]";
    let names = reader.list(leaf, ACCEPTED)?;
    if names.iter().all(|name| is_plain(name)) {
        return Some(names);
    }
    reader.refuse(leaf?, "holds what is not the name of a segment", ACCEPTED)
}

/// The keys of subscription categories in a list.
pub(super) fn categories(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Vec<String>> {
    const ACCEPTED: &str = "a list of keys of subscription categories such as [\"news\"]";
    let keys = reader.list(leaf, ACCEPTED)?;
    if keys.iter().all(|key| is_category(key)) {
        return Some(keys);
    }
    reader.refuse(leaf?, "holds what is not the key of a subscription category", ACCEPTED)
}

/// Whether the last segment of `key` can be the name of a segment.
pub(super) fn segment_name(reader: &mut Reader, key: &KeyPath) -> Option<String> {
    let accepted = format!(
        "a segment's name: 1 to {CHARS_MAX} characters, none of them a control character, no blank at its ends"
    );
    named(reader, key, is_plain(key.last()), ("is not the name of a segment", &accepted))
}

/// Whether the last segment of `key` can be the key of a subscription category.
pub(super) fn category_key(reader: &mut Reader, key: &KeyPath) -> Option<String> {
    const ACCEPTED: &str = "the key that Reteno shows for the subscription category, without blanks and commas";
    named(reader, key, is_category(key.last()), ("is not the key of a subscription category", ACCEPTED))
}

fn named(reader: &mut Reader, key: &KeyPath, is_good: bool, (what, accepted): (&str, &str)) -> Option<String> {
    if is_good {
        return Some(key.last().to_owned());
    }
    let problem = reader.problem(key, what).accepted(accepted);
    reader.push(problem);
    None
}

fn is_plain(text: &str) -> bool {
    let count = text.chars().count();
    text.trim() == text && (1..=CHARS_MAX).contains(&count) && !text.contains(char::is_control)
}

/// The set of a contact's categories is kept as one text with commas between.
fn is_category(key: &str) -> bool {
    is_plain(key) && !key.contains(|c: char| c.is_whitespace() || c == ',')
}
