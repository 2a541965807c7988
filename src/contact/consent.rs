//! What a record says of the contact's consent to e-mail.
//!
//! Three states: yes, no, nothing said. Whether that raises or lowers anything is not decided here.

use super::outcome::Consent;
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
}

/// The same, ready for records.
#[derive(Debug, Clone)]
pub(super) struct ConsentRule {
    pub(super) selector: Selector,
    yes: Vec<String>,
    no: Vec<String>,
}

impl ConsentRule {
    pub(super) fn of(mapping: &ConsentMapping) -> Self {
        let selector = mapping.selector.clone();
        Self { selector, yes: folded_words(&mapping.yes), no: folded_words(&mapping.no) }
    }

    /// `None` for all that is neither a yes nor a no, as a value that nobody configured: to guess would mail people who
    /// never agreed, or stop mail that they want. A list says nothing, also one of a single value: of several, which
    /// one is meant cannot be told, and the count would change the meaning.
    pub(super) fn read(&self, view: &View<'_>) -> Option<Consent> {
        let Read::Value(text) = self.selector.read_one_in(view) else { return None };
        let word = folded(&text);
        if self.no.contains(&word) {
            return Some(Consent::No);
        }
        self.yes.contains(&word).then_some(Consent::Yes)
    }

    /// Whether the record does not even have the place.
    pub(super) fn is_absent(&self, view: &View<'_>) -> bool {
        matches!(self.selector.read_one_in(view), Read::Absent)
    }
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
            assert_eq!(got, wanted, "{:?}", View::of(&record).json());
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
            assert_eq!(rule(place).read(&View::of(&record)), wanted, "{place}");
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
            assert_eq!(rule("mails").read(&View::of(&record)), wanted, "{cells:?}");
        }
    }
}
