//! The subscription categories that a record puts its contact into: the whole set, since Reteno replaces it whole.
//!
//! Decides about one record alone; what cannot be told of the whole set is said to be so, never guessed.

use std::collections::BTreeSet;

use super::additional::Catalog;
use super::field::{Personal, Wanted};
use super::refusal::Refusal;
use super::selector::{Read, Selector, View};
use super::text::{folded, folded_words, length, single_line};

/// Reteno names no bound; stored values must have one.
const LENGTH_MAX: usize = 5_000;

const LIST_NOT_SCALAR: Refusal = Refusal::of("the list of categories holds an object, not texts");
const FLAG_NOT_SCALAR: Refusal =
    Refusal::of("a yes or no of the categories is a list or an object: the whole set cannot be told");
const NOT_WHOLE: Refusal = Refusal::of("the record does not speak of every category: the whole set cannot be told");
const UNKNOWN: Refusal = Refusal::of("one of the keys is no subscription category of the account");
const TOO_LONG: Refusal = Refusal::of("the list of categories is longer than 5,000 characters");

/// Where the categories stand in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionsMapping {
    /// At one place: a list of keys, or a text of keys that are parted by commas or semicolons.
    List(Selector),
    /// Each at a place of its own.
    Flags(Vec<CategoryFlag>),
}

/// One category that has a place of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CategoryFlag {
    /// The category's key in Reteno, without comma.
    pub key: String,
    /// Its place.
    pub selector: Selector,
    /// The values that put the contact into it, compared without case and outer white space; all others, also an empty
    /// one, leave it out. So a CRM's "no mails about this" is mapped by its no.
    pub yes: Vec<String>,
}

/// The same, ready for records.
#[derive(Debug, Clone)]
pub(super) struct CategoriesRule {
    place: SubscriptionsMapping,
    /// `None` where the account could not be asked: every key passes.
    known: Option<BTreeSet<String>>,
}

impl CategoriesRule {
    pub(super) fn of(mapping: &SubscriptionsMapping, catalog: &Catalog) -> Self {
        let place = match mapping {
            SubscriptionsMapping::List(selector) => SubscriptionsMapping::List(selector.clone()),
            SubscriptionsMapping::Flags(flags) => SubscriptionsMapping::Flags(flags.iter().map(ready).collect()),
        };
        Self { place, known: catalog.categories().cloned() }
    }

    /// The configured keys that the account lacks.
    pub(super) fn unknown_keys(&self) -> Vec<&str> {
        match &self.place {
            SubscriptionsMapping::List(_) => Vec::new(),
            SubscriptionsMapping::Flags(flags) => {
                flags.iter().map(|flag| flag.key.as_str()).filter(|key| !self.knows(key)).collect()
            }
        }
    }

    /// The columns of a table that it reads.
    pub(super) fn columns(&self) -> Vec<&str> {
        let columns = match &self.place {
            SubscriptionsMapping::List(selector) => selector.columns(),
            SubscriptionsMapping::Flags(flags) => flags.iter().flat_map(|flag| flag.selector.columns()).collect(),
        };
        columns.into_iter().flatten().collect()
    }

    /// The whole set: keys in order, each once, joined by commas; clear for none. `None` where the record does not
    /// speak of it.
    pub(super) fn read(&self, view: &View<'_>) -> Option<Result<Wanted, Refusal>> {
        match &self.place {
            SubscriptionsMapping::List(selector) => match selector.read_in(view) {
                Read::Absent => None,
                Read::Empty => Some(Ok(Wanted::Clear)),
                Read::NotScalar | Read::Rounded => Some(Err(LIST_NOT_SCALAR)),
                Read::Value(text) => Some(self.whole(single_line(&text).split([',', ';']))),
            },
            SubscriptionsMapping::Flags(flags) => read_flags(flags, view).map(|keys| self.whole(keys?.into_iter())),
        }
    }

    fn whole<'a>(&self, keys: impl Iterator<Item = &'a str>) -> Result<Wanted, Refusal> {
        let keys: BTreeSet<&str> = keys.map(str::trim).filter(|key| !key.is_empty()).collect();
        if !keys.iter().all(|key| self.knows(key)) {
            return Err(UNKNOWN);
        }
        let text = keys.into_iter().collect::<Vec<_>>().join(",");
        if length(&text) > LENGTH_MAX {
            return Err(TOO_LONG);
        }
        Ok(if text.is_empty() { Wanted::Clear } else { Wanted::Value(Personal::new(text)) })
    }

    fn knows(&self, key: &str) -> bool {
        self.known.as_ref().is_none_or(|known| known.contains(key))
    }
}

fn ready(flag: &CategoryFlag) -> CategoryFlag {
    let key = flag.key.trim().to_owned();
    CategoryFlag { key, selector: flag.selector.clone(), yes: folded_words(&flag.yes) }
}

/// The keys that the record says yes to; `None` where it speaks of none. One that speaks of some only is refused: a set
/// without the others would unsubscribe from them.
fn read_flags<'a>(flags: &'a [CategoryFlag], view: &View<'_>) -> Option<Result<Vec<&'a str>, Refusal>> {
    let (mut keys, mut absent) = (Vec::new(), 0);
    for flag in flags {
        match flag.selector.read_one_in(view) {
            Read::Absent => absent += 1,
            Read::NotScalar | Read::Rounded => return Some(Err(FLAG_NOT_SCALAR)),
            Read::Value(text) if flag.yes.contains(&folded(&text)) => keys.push(flag.key.as_str()),
            Read::Empty | Read::Value(_) => {}
        }
    }
    match absent {
        0 if !flags.is_empty() => Some(Ok(keys)),
        absent if absent == flags.len() => None,
        _ => Some(Err(NOT_WHOLE)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::record::{Header, Record, Row};
    use super::*;

    /// What a record says: `None` nothing, `Ok("")` clear.
    type Said<'a> = Option<Result<&'a str, Refusal>>;

    fn catalog(keys: &[&str]) -> Catalog {
        Catalog::empty().with_categories(keys.iter().map(|&key| key.to_owned()).collect())
    }

    fn check(rule: &CategoriesRule, record: &Record, wanted: &Said<'_>) {
        let got = rule.read(&View::of(record));
        let got = got.as_ref().map(|got| match got {
            Ok(Wanted::Clear) => Ok(""),
            Ok(Wanted::Value(value)) => Ok(value.expose()),
            Err(refusal) => Err(*refusal),
        });
        assert_eq!(got, *wanted, "{:?}", View::of(record).json());
    }

    fn list(place: &str) -> SubscriptionsMapping {
        SubscriptionsMapping::List(Selector::parse(place).unwrap())
    }

    fn flag(key: &str, place: &str, yes: &[&str]) -> CategoryFlag {
        let yes = yes.iter().map(|&word| word.to_owned()).collect();
        CategoryFlag { key: key.to_owned(), selector: Selector::parse(place).unwrap(), yes }
    }

    fn flags() -> SubscriptionsMapping {
        let news = flag(" news ", "wants_news", &["yes", "1", "true"]);
        // the CRM keeps the opposite
        SubscriptionsMapping::Flags(vec![news, flag("deals", "no_deals", &["No", "0", "false"])])
    }

    fn row(names: &[&str], cells: &[&str]) -> Record {
        let header = Header::new(names.iter().map(|&name| name.to_owned()).collect());
        Record::Row(Row { header: Arc::new(header), cells: cells.to_vec().into() })
    }

    #[test]
    fn a_list_is_the_whole_set_in_one_form() {
        let rows: [(serde_json::Value, Said<'_>); 16] = [
            (json!({"cats": ["news", "deals"]}), Some(Ok("deals,news"))),
            (json!({"cats": "news, deals"}), Some(Ok("deals,news"))),
            (json!({"cats": "news ;deals;"}), Some(Ok("deals,news"))),
            (json!({"cats": ["news", "deals;tips", "news", null]}), Some(Ok("deals,news,tips"))),
            (json!({"cats": "news"}), Some(Ok("news"))),
            (json!({"cats": "\u{feff}ne\u{200b}ws"}), Some(Ok("news"))),
            // keys have a case
            (json!({"cats": "News,news"}), Some(Ok("News,news"))),
            (json!({"cats": 5}), Some(Ok("5"))),
            // none
            (json!({"cats": []}), Some(Ok(""))),
            (json!({"cats": null}), Some(Ok(""))),
            (json!({"cats": ""}), Some(Ok(""))),
            (json!({"cats": " ,; "}), Some(Ok(""))),
            // nothing said
            (json!({}), None),
            // objects
            (json!({"cats": {"news": true}}), Some(Err(LIST_NOT_SCALAR))),
            (json!({"cats": [{"key": "news"}]}), Some(Err(LIST_NOT_SCALAR))),
            (json!({"cats": "n".repeat(5_001)}), Some(Err(TOO_LONG))),
        ];
        let rule = CategoriesRule::of(&list("cats"), &Catalog::empty());
        for (record, wanted) in rows {
            check(&rule, &Record::Json(record), &wanted);
        }
        let record = Record::Json(json!({"cats": [{"key": "news"}, {"key": "deals"}]}));
        check(&CategoriesRule::of(&list("$.cats[*].key"), &Catalog::empty()), &record, &Some(Ok("deals,news")));
    }

    #[test]
    fn a_list_is_read_from_a_row() {
        let rows: [(&[&str], Said<'_>); 4] = [
            (&["7", "news;deals"], Some(Ok("deals,news"))),
            (&["7", " "], Some(Ok(""))),
            (&["7"], None),
            (&["7", "news,gone"], Some(Err(UNKNOWN))),
        ];
        let rule = CategoriesRule::of(&list("cats"), &catalog(&["news", "deals"]));
        for (cells, wanted) in rows {
            check(&rule, &row(&["id", "cats"], cells), &wanted);
        }
    }

    #[test]
    fn a_key_that_the_account_lacks_is_never_sent() {
        let rows: [(&str, &[&str], Said<'_>); 5] = [
            ("news", &["news"], Some(Ok("news"))),
            ("news,deals", &["news"], Some(Err(UNKNOWN))),
            ("News", &["news"], Some(Err(UNKNOWN))),
            ("news", &[], Some(Err(UNKNOWN))),
            // no key, so none that is unknown
            ("", &[], Some(Ok(""))),
        ];
        for (text, known, wanted) in rows {
            check(&CategoriesRule::of(&list("cats"), &catalog(known)), &Record::Json(json!({"cats": text})), &wanted);
        }
    }

    #[test]
    fn flags_tell_the_set_only_when_all_of_them_are_there() {
        let rows: [(serde_json::Value, Said<'_>); 14] = [
            (json!({"wants_news": true, "no_deals": false}), Some(Ok("deals,news"))),
            (json!({"wants_news": " YES ", "no_deals": "no"}), Some(Ok("deals,news"))),
            (json!({"wants_news": 1.0, "no_deals": 1}), Some(Ok("news"))),
            (json!({"wants_news": false, "no_deals": 0}), Some(Ok("deals"))),
            (json!({"wants_news": false, "no_deals": true}), Some(Ok(""))),
            // an empty flag is no yes, also where the yes is a CRM's no
            (json!({"wants_news": null, "no_deals": ""}), Some(Ok(""))),
            (json!({"wants_news": [], "no_deals": 0}), Some(Ok("deals"))),
            (json!({"wants_news": "perhaps", "no_deals": "false"}), Some(Ok("deals"))),
            // nothing said
            (json!({}), None),
            (json!({"name": "Ira"}), None),
            // a partial record, whatever the one says
            (json!({"wants_news": true}), Some(Err(NOT_WHOLE))),
            (json!({"no_deals": null}), Some(Err(NOT_WHOLE))),
            (json!({"wants_news": ["yes"], "no_deals": false}), Some(Err(FLAG_NOT_SCALAR))),
            (json!({"wants_news": true, "no_deals": {}}), Some(Err(FLAG_NOT_SCALAR))),
        ];
        let rule = CategoriesRule::of(&flags(), &Catalog::empty());
        for (record, wanted) in rows {
            check(&rule, &Record::Json(record), &wanted);
        }
        let nothing = CategoriesRule::of(&SubscriptionsMapping::Flags(Vec::new()), &Catalog::empty());
        check(&nothing, &Record::Json(json!({})), &None);
    }

    #[test]
    fn flags_are_read_from_a_row() {
        let rows: [(&[&str], Said<'_>); 4] = [
            (&["yes", "0"], Some(Ok("deals,news"))),
            (&["", ""], Some(Ok(""))),
            (&["yes"], Some(Err(NOT_WHOLE))),
            (&[], None),
        ];
        let rule = CategoriesRule::of(&flags(), &Catalog::empty());
        for (cells, wanted) in rows {
            check(&rule, &row(&["wants_news", "no_deals"], cells), &wanted);
        }
    }

    #[test]
    fn a_flag_of_an_unknown_category_costs_the_set_where_it_says_yes() {
        let rule = CategoriesRule::of(&flags(), &catalog(&["news"]));
        assert_eq!(rule.unknown_keys(), ["deals"]);
        let rows: [(serde_json::Value, Said<'_>); 2] = [
            (json!({"wants_news": true, "no_deals": false}), Some(Err(UNKNOWN))),
            (json!({"wants_news": true, "no_deals": true}), Some(Ok("news"))),
        ];
        for (record, wanted) in rows {
            check(&rule, &Record::Json(record), &wanted);
        }
        assert!(CategoriesRule::of(&flags(), &Catalog::empty()).unknown_keys().is_empty());
        assert!(CategoriesRule::of(&list("cats"), &catalog(&[])).unknown_keys().is_empty());
    }
}
