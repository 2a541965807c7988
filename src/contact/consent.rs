//! What a record says of the contact's consent to e-mail.
//!
//! Three states: yes, no, nothing said; and a value that is neither a yes nor a no, which says nothing and is told to
//! the operator: it may be an opt-out in another word. Whether any of it raises or lowers anything is not decided here.

use super::moment::Moment;
use super::outcome::Consent;
use super::refusal::Refusal;
use super::selector::{Read, Selector, View};
use super::text::{folded, folded_words};

/// Where consent stands in a record, and what it may say there. Words are compared without case and outer white space;
/// empty ones never count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentMapping {
    /// Its place.
    pub selector: Selector,
    /// The values that mean yes.
    pub yes: Vec<String>,
    /// The values that mean no. One that is among both means no, the stricter.
    pub no: Vec<String>,
    /// The values that say nothing, as the operator knows.
    pub neither: Vec<String>,
}

/// The same, ready for records.
#[derive(Debug, Clone)]
pub(super) struct ConsentRule {
    pub(super) selector: Selector,
    yes: Vec<String>,
    no: Vec<String>,
    neither: Vec<String>,
}

impl ConsentRule {
    pub(super) fn of(mapping: &ConsentMapping) -> Self {
        let selector = mapping.selector.clone();
        let (yes, no, neither) =
            (folded_words(&mapping.yes), folded_words(&mapping.no), folded_words(&mapping.neither));
        Self { selector, yes, no, neither }
    }

    /// `None` where nothing is said. A value that nobody configured is refused, with its class for a reason: to guess
    /// would mail people who never agreed, or stop mail that they want. So is a list, also one of a single value: of
    /// several, which one is meant cannot be told, and the count would change the meaning.
    pub(super) fn read(&self, view: &View<'_>) -> Result<Option<Consent>, Refusal> {
        let text = match self.selector.read_one_in(view) {
            Read::Absent | Read::Empty => return Ok(None),
            Read::Rounded => return Err(NUMBER),
            Read::NotScalar => return Err(LIST),
            Read::Value(text) => text,
        };
        let word = folded(&text);
        if self.no.contains(&word) {
            return Ok(Some(Consent::No));
        }
        if self.yes.contains(&word) {
            return Ok(Some(Consent::Yes));
        }
        if word.is_empty() || self.neither.contains(&word) { Ok(None) } else { Err(class_of(&word)) }
    }

    /// Whether the record does not even have the place.
    pub(super) fn is_absent(&self, view: &View<'_>) -> bool {
        matches!(self.selector.read_one_in(view), Read::Absent)
    }
}

const NUMBER: Refusal = Refusal::of("neither a yes nor a no: a number");
const LIST: Refusal = Refusal::of("neither a yes nor a no: a list or an object");

/// What kind of value it is. Never the value: a word may be about a person.
fn class_of(word: &str) -> Refusal {
    const NOTHING_KNOWN: [&str; 10] = ["n/a", "na", "null", "none", "nan", "undefined", "unknown", "not set", "-", "?"];
    if NOTHING_KNOWN.contains(&word) {
        return Refusal::of("neither a yes nor a no: a word for nothing known, such as N/A");
    }
    let (whole, fraction) = word.split_once(['.', ',']).unwrap_or((word, "0"));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits(whole.trim_start_matches(['-', '+'])) && are_digits(fraction) {
        return NUMBER;
    }
    if Moment::parse(word).is_some() {
        return Refusal::of("neither a yes nor a no: a date");
    }
    Refusal::of(match (word.contains(' '), word.chars().count()) {
        (true, _) => "neither a yes nor a no: a text of several words",
        (false, ..=1) => "neither a yes nor a no: a single letter or sign",
        (false, 2..=3) => "neither a yes nor a no: a word of 2 or 3 letters",
        (false, 4..=6) => "neither a yes nor a no: a word of 4 to 6 letters",
        (false, 7..=10) => "neither a yes nor a no: a word of 7 to 10 letters",
        (false, _) => "neither a yes nor a no: a word of more than 10 letters",
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::record::{Header, Record, Row};
    use super::*;

    fn rule(place: &str) -> ConsentRule {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let selector = Selector::parse(place).unwrap();
        ConsentRule::of(&ConsentMapping {
            selector,
            yes: words(&["Yes", "1", "true", "ТАК", "", "both"]),
            no: words(&["no", "0", "false", " ні ", "", "both"]),
            neither: words(&["later", "both", "Yes"]),
        })
    }

    #[test]
    fn a_json_record_says_yes_or_no_or_nothing() {
        let (yes, no) = (Some(Consent::Yes), Some(Consent::No));
        let rows = [
            (json!({"mails": "yes"}), yes),
            (json!({"mails": " YES "}), yes),
            (json!({"mails": "так"}), yes),
            (json!({"mails": true}), yes),
            (json!({"mails": 1}), yes),
            // a tap's float
            (json!({"mails": 1.0}), yes),
            (json!({"mails": "No"}), no),
            (json!({"mails": "НІ"}), no),
            (json!({"mails": false}), no),
            (json!({"mails": 0}), no),
            // the stricter wins
            (json!({"mails": "both"}), no),
            // absent and empty are never yes and never no
            (json!({}), None),
            (json!({"mail": "yes"}), None),
            (json!({"mails": null}), None),
            (json!({"mails": ""}), None),
            (json!({"mails": " "}), None),
            (json!({"mails": "\u{200b}"}), None),
            // words that nobody configured
            (json!({"mails": "maybe"}), None),
            (json!({"mails": "yes, no"}), None),
            (json!({"mails": "2"}), None),
            // lists and objects say nothing
            (json!({"mails": []}), None),
            (json!({"mails": ["yes"]}), None),
            (json!({"mails": ["no"]}), None),
            (json!({"mails": ["yes", "no"]}), None),
            (json!({"mails": {"value": "yes"}}), None),
        ];
        for (record, wanted) in rows {
            let record = Record::Json(record);
            let got = rule("mails").read(&View::of(&record));
            assert_eq!(got.unwrap_or(None), wanted, "{:?}", View::of(&record).json());
        }
    }

    #[test]
    fn a_path_finds_one_value_or_says_nothing() {
        let rows = [
            ("$.agreed[0].value", Some(Consent::No)),
            ("$.agreed[?@.channel == 'email'].value", Some(Consent::No)),
            ("$.agreed[?@.channel == 'push'].value", None),
            // two values, also where they are alike
            ("$.agreed[*].value", None),
            ("$.words", None),
        ];
        let record = Record::Json(json!({
            "agreed": [{"channel": "email", "value": "no"}, {"channel": "sms", "value": "no"}], "words": ["no"],
        }));
        for (place, wanted) in rows {
            assert_eq!(rule(place).read(&View::of(&record)).unwrap_or(None), wanted, "{place}");
        }
    }

    #[test]
    fn a_table_row_says_yes_or_no_or_nothing() {
        let header = Arc::new(Header::new(["id", "mails"].map(str::to_owned).to_vec()));
        let rows: [(&[&str], Option<Consent>); 5] = [
            (&["7", " Yes "], Some(Consent::Yes)),
            (&["7", "0"], Some(Consent::No)),
            (&["7", ""], None),
            (&["7", "?"], None),
            // a short row
            (&["7"], None),
        ];
        for (cells, wanted) in rows {
            let record = Record::Row(Row { header: Arc::clone(&header), cells: cells.to_vec().into() });
            assert_eq!(rule("mails").read(&View::of(&record)).unwrap_or(None), wanted, "{cells:?}");
        }
    }

    /// An opt-out in a word that nobody configured is told, by its kind; the word itself is not.
    #[test]
    fn a_value_that_is_neither_is_told_by_its_class() {
        let rows = [
            (json!("unsubscribed"), "neither a yes nor a no: a word of more than 10 letters"),
            (json!("stopped"), "neither a yes nor a no: a word of 7 to 10 letters"),
            (json!("ЛОЖЬ"), "neither a yes nor a no: a word of 4 to 6 letters"),
            (json!("off"), "neither a yes nor a no: a word of 2 or 3 letters"),
            (json!("x"), "neither a yes nor a no: a single letter or sign"),
            (json!("no mails"), "neither a yes nor a no: a text of several words"),
            (json!(2), "neither a yes nor a no: a number"),
            (json!(1e21), "neither a yes nor a no: a number"),
            (json!("2024-05-06"), "neither a yes nor a no: a date"),
            (json!(" N/A "), "neither a yes nor a no: a word for nothing known, such as N/A"),
            (json!(["no"]), "neither a yes nor a no: a list or an object"),
            (json!({"value": "no"}), "neither a yes nor a no: a list or an object"),
        ];
        for (said, wanted) in rows {
            let record = Record::Json(json!({ "mails": said }));
            assert_eq!(rule("mails").read(&View::of(&record)), Err(Refusal::of(wanted)), "{wanted}");
        }
        // what says nothing is no such value, nor is what the operator lets say nothing
        for said in [json!(null), json!(""), json!([]), json!("LATER ")] {
            let record = Record::Json(json!({ "mails": said }));
            assert_eq!(rule("mails").read(&View::of(&record)), Ok(None));
        }
    }
}
