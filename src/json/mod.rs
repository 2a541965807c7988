//! JSON as CRMs and taps really write it: with a byte order mark, NaN, half a surrogate pair, bare control characters,
//! broken bytes, numbers of any length. What cannot be kept costs the value that it stands in, never the text around it.
//!
//! Bounded: a tree has no more values than it is allowed, and the records of a page are found without building one. An
//! error names a byte, never what stands there.

mod scalars;

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use self::scalars::{NO_LETTERS, NO_NUMBER, number, unescape};
use crate::contact::{KEY_TWICE, unreadable_value};

/// Most values in one record. A contact has some hundreds; each takes up to 700 bytes of memory where it is an object.
pub(crate) const RECORD_VALUES_MAX: usize = 20_000;
/// Most values in what stands around the records of an answer, or in one that is not read record by record.
pub(crate) const ANSWER_VALUES_MAX: usize = 400_000;
/// Most records in one answer: each takes about 150 bytes beside its text until it is recorded. No contact is shorter than
/// 30 bytes, so that an answer of 16 MB has fewer.
const RECORDS_MAX: usize = 500_000;
/// Most keys in a message of a tap: Singer knows nine.
const MESSAGE_KEYS_MAX: usize = 1_000;
/// As deep as values may stand in one another: each level costs stack.
const DEPTH_MAX: usize = 128;

const INVALID: &str = "not valid JSON";
const TOO_MANY_VALUES: &str = "too many values";
const TOO_DEEP: &str = "values too deep in one another";
const CUT_OFF: &str = "JSON that is cut off";

/// Why a text cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct Broken {
    /// From 1.
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

impl Broken {
    /// The text ends too early: a connection that was cut.
    pub(crate) fn is_cut_off(self) -> bool {
        self.what == CUT_OFF
    }

    /// It has more than anybody who means well sends.
    pub(crate) fn is_too_much(self) -> bool {
        matches!(self.what, TOO_MANY_VALUES | TOO_DEEP)
    }
}

/// Which of the records stay in the list of an answer that has its records apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// An answer with its records apart.
#[derive(Debug)]
pub(crate) struct Split {
    /// The answer; in place of all records its list has those that are kept.
    pub(crate) envelope: Value,
    /// Where each record stands in the text; `None` where there is no list at the place.
    pub(crate) records: Option<Vec<Range<usize>>>,
}

/// Reads a text with at most so many values.
pub(crate) fn read(text: &[u8], values_max: usize) -> Result<Value, Broken> {
    let mut reader = Reader::of(text, values_max);
    let value = reader.value(0)?;
    reader.end()?;
    Ok(value)
}

/// The entries of a message as they stand in the text. One key twice is an error.
pub(crate) fn entries(text: &[u8]) -> Result<Vec<(String, &[u8])>, Broken> {
    let mut reader = Reader::of(text, usize::MAX);
    let entries = reader.raw_entries((MESSAGE_KEYS_MAX, "too many keys"))?;
    reader.end()?;
    let mut known = BTreeSet::new();
    if let Some((_, range)) = entries.iter().find(|(key, _)| !known.insert(key)) {
        return Err(Broken { at: range.start, what: "a key that stands twice" });
    }
    Ok(entries.into_iter().map(|(key, range)| (key, &text[range])).collect())
}

/// Reads an answer whose records are the items of the list behind these keys.
pub(crate) fn split(text: &[u8], keys: &[String], kept: Kept) -> Result<Split, Broken> {
    let mut reader = Reader { kept, ..Reader::of(text, ANSWER_VALUES_MAX) };
    let mut records = None;
    let envelope = reader.envelope(keys, &mut records, 0)?;
    reader.end()?;
    Ok(Split { envelope, records })
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    values_left: usize,
    /// The records that are kept in an envelope.
    kept: Kept,
}

/// A text, or why it cannot be kept.
type Letters = Result<String, &'static str>;

impl<'a> Reader<'a> {
    fn of(text: &'a [u8], values_max: usize) -> Self {
        let at = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Self { text, at, values_left: values_max, kept: Kept::default() }
    }

    fn broken(&self, what: &'static str) -> Broken {
        let what = if what == INVALID && self.at >= self.text.len() { CUT_OFF } else { what };
        Broken { at: self.at + 1, what }
    }

    /// A word that could go on where the text ends is cut off.
    fn broken_word(&self, word: &str) -> Broken {
        let goes_on = ["null", "true", "false", "NaN", "Infinity"].iter().any(|known| known.starts_with(word));
        let is_number = word.starts_with(|letter: char| letter == '-' || letter.is_ascii_digit());
        if goes_on || is_number { self.broken(INVALID) } else { Broken { at: self.at + 1, what: INVALID } }
    }

    /// The next byte that is no blank; it stays.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.peek() != Some(byte) {
            return Err(self.broken(INVALID));
        }
        self.at += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Broken> {
        if self.peek().is_none() { Ok(()) } else { Err(self.broken("more than one JSON text")) }
    }

    /// Whether another item follows in what `close` ends, of which `count` were read.
    fn has_item(&mut self, close: u8, count: usize) -> Result<bool, Broken> {
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        if count > 0 {
            self.expect(b',')?;
            if self.peek() == Some(close) {
                return Err(self.broken(INVALID));
            }
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Letters, Broken> {
        self.expect(b'"')?;
        let key = self.letters()?;
        self.expect(b':')?;
        Ok(key)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Broken> {
        if depth > DEPTH_MAX {
            return Err(self.broken(TOO_DEEP));
        }
        self.values_left = self.values_left.checked_sub(1).ok_or_else(|| self.broken(TOO_MANY_VALUES))?;
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                let (mut map, mut count) = (Map::new(), 0);
                while self.has_item(b'}', count)? {
                    let key = self.key()?;
                    let value = self.value(depth + 1)?;
                    // a key that cannot be read names nothing that anybody looks for
                    if let Ok(key) = key {
                        put(&mut map, key, value);
                    }
                    count += 1;
                }
                Ok(Value::Object(map))
            }
            Some(b'[') => {
                self.at += 1;
                let mut items = Vec::new();
                while self.has_item(b']', items.len())? {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Value::Array(items))
            }
            Some(b'"') => {
                self.at += 1;
                Ok(self.letters()?.map_or_else(unreadable_value, Value::String))
            }
            _ => self.word(),
        }
    }

    /// The list of the records that are kept.
    fn kept_of(&mut self, places: &[Range<usize>], depth: usize) -> Result<Value, Broken> {
        let Kept { first, last } = self.kept;
        let first = places.first().filter(|_| first);
        let last = places.last().filter(|place| last && first != Some(*place));
        let (behind, mut items) = (self.at, Vec::new());
        for place in first.into_iter().chain(last) {
            self.at = place.start;
            items.push(self.value(depth + 1)?);
        }
        self.at = behind;
        Ok(Value::Array(items))
    }

    /// As [`Reader::value`], but the list behind the keys is left out, and the places of its items are noted.
    fn envelope(
        &mut self,
        keys: &[String],
        records: &mut Option<Vec<Range<usize>>>,
        depth: usize,
    ) -> Result<Value, Broken> {
        match (self.peek(), keys) {
            (Some(b'['), []) => {
                self.at += 1;
                let mut places = Vec::new();
                while self.has_item(b']', places.len())? {
                    if places.len() == RECORDS_MAX {
                        return Err(self.broken("too many records"));
                    }
                    places.push(self.skip()?);
                }
                let list = self.kept_of(&places, depth)?;
                *records = Some(places);
                Ok(list)
            }
            (Some(b'{'), []) => {
                let start = self.at;
                let entries = self.raw_entries((RECORDS_MAX, "too many records"))?;
                let is_number = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
                // PHP writes a list whose numbers have a gap as an object
                if !entries.is_empty() && entries.iter().all(|(key, _)| is_number(key)) {
                    let places: Vec<_> = entries.into_iter().map(|(_, place)| place).collect();
                    let list = self.kept_of(&places, depth)?;
                    *records = Some(places);
                    return Ok(list);
                }
                self.at = start;
                self.value(depth)
            }
            (Some(b'{'), [first, rest @ ..]) => {
                self.at += 1;
                let (mut map, mut count) = (Map::new(), 0);
                while self.has_item(b'}', count)? {
                    let key = self.key()?;
                    let is_way = key.as_ref() == Ok(first);
                    if is_way && map.contains_key(first) {
                        return Err(self.broken("a list of records that stands twice"));
                    }
                    let value = if is_way { self.envelope(rest, records, depth + 1)? } else { self.value(depth + 1)? };
                    if let Ok(key) = key {
                        put(&mut map, key, value);
                    }
                    count += 1;
                }
                Ok(Value::Object(map))
            }
            (_, _) => self.value(depth),
        }
    }

    /// The entries of the object that stands next, at most so many, with the places of their values.
    fn raw_entries(&mut self, (max, too_many): (usize, &'static str)) -> Result<Vec<(String, Range<usize>)>, Broken> {
        self.expect(b'{')?;
        let (mut entries, mut count) = (Vec::new(), 0);
        while self.has_item(b'}', count)? {
            if count == max {
                return Err(self.broken(too_many));
            }
            let key = self.key()?;
            let place = self.skip()?;
            if let Ok(key) = key {
                entries.push((key, place));
            }
            count += 1;
        }
        Ok(entries)
    }

    /// Passes over a value without building it. What is wrong within it shows when it is read.
    fn skip(&mut self) -> Result<Range<usize>, Broken> {
        let first = self.peek();
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                None => return Err(self.broken(CUT_OFF)),
                Some(b'"') => {
                    self.at += 1;
                    self.pass_letters()?;
                }
                Some(b'{' | b'[') => {
                    self.at += 1;
                    depth += 1;
                }
                Some(b'}' | b']' | b',' | b':') if depth == 0 => return Err(self.broken(INVALID)),
                Some(b'}' | b']') => {
                    self.at += 1;
                    depth -= 1;
                }
                Some(b',' | b':') => self.at += 1,
                Some(_) if matches!(first, Some(b'{' | b'[')) => {
                    self.word_text()?;
                }
                Some(_) => {
                    self.word()?;
                }
            }
            if depth == 0 {
                return Ok(start..self.at);
            }
        }
    }

    /// Behind a quote, to behind the next that ends the text.
    fn pass_letters(&mut self) -> Result<(), Broken> {
        loop {
            match self.text.get(self.at) {
                None => return Err(self.broken(CUT_OFF)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
    }

    /// A text, behind its quote. A bare control character is taken for what it is.
    fn letters(&mut self) -> Result<Letters, Broken> {
        let start = self.at;
        self.pass_letters()?;
        let raw = &self.text[start..self.at - 1];
        if !raw.contains(&b'\\') {
            return Ok(str::from_utf8(raw).map(str::to_owned).map_err(|_| NO_LETTERS));
        }
        unescape(raw).map_err(|what| Broken { at: start + 1, what })
    }

    /// A run of letters, digits and signs.
    fn word_text(&mut self) -> Result<&'a str, Broken> {
        let rest = &self.text[self.at..];
        let is_of_word = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let word = &rest[..rest.iter().take_while(is_of_word).count()];
        match str::from_utf8(word) {
            Ok(word) if !word.is_empty() => {
                self.at += word.len();
                Ok(word)
            }
            Ok(_) | Err(_) => Err(self.broken(INVALID)),
        }
    }

    fn word(&mut self) -> Result<Value, Broken> {
        let at = self.at + 1;
        Ok(match self.word_text()? {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "NaN" | "-NaN" | "Infinity" | "+Infinity" | "-Infinity" => unreadable_value(NO_NUMBER),
            word => number(word).ok_or_else(|| Broken { at, ..self.broken_word(word) })?,
        })
    }
}

/// Of a key that stands twice with different values neither counts.
fn put(map: &mut Map<String, Value>, key: String, value: Value) {
    match map.get_mut(&key) {
        None => drop(map.insert(key, value)),
        Some(known) if *known == value => {}
        Some(known) => *known = unreadable_value(KEY_TWICE),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::contact::is_unreadable;

    fn of(text: &[u8]) -> Result<Value, Broken> {
        read(text, RECORD_VALUES_MAX)
    }

    #[test]
    fn what_cannot_be_kept_costs_its_value_alone() {
        let rows: [&[u8]; 9] = [
            b"{\"id\": 1, \"x\": NaN}",
            b"{\"id\": 1, \"x\": -Infinity}",
            b"{\"id\": 1, \"x\": 1e999}",
            b"{\"id\": 1, \"x\": \"a \\ud83d\"}",
            b"{\"id\": 1, \"x\": \"a \\ud83d\\u0041\"}",
            b"{\"id\": 1, \"x\": \"a \\ude00 b\"}",
            b"{\"id\": 1, \"x\": \"a \xff\"}",
            b"{\"id\": 1, \"x\": 1, \"x\": 2}",
            b"\xef\xbb\xbf{\"id\": 1, \"x\": \"\\n\xd0\", \"y\": 0}",
        ];
        for row in rows {
            let value = of(row).unwrap();
            assert_eq!(value["id"], 1);
            assert!(is_unreadable(&value["x"]), "{value}");
        }
        assert_eq!(of(b"{\"a\":1,\"a\":1}").unwrap(), json!({"a": 1}), "the same twice says one thing");
        assert_eq!(of(b"{\"a\\ud83d\":1,\"b\":2}").unwrap(), json!({"b": 2}));
        assert_eq!(of(b"\"a\nb\\u0000\\ud83d\\ude00\\/\"").unwrap(), json!("a\nb\0\u{1f600}/"));
    }

    #[test]
    fn numbers_are_exact_at_any_length() {
        let rows = [
            ("18446744073709551615", json!(u64::MAX)),
            ("-9007199254740993", json!(-9_007_199_254_740_993_i64)),
            ("100000000000000000001", json!("100000000000000000001")),
            ("-100000000000000000001", json!("-100000000000000000001")),
            ("12345678901234567.25", json!("12345678901234567.25")),
            ("0.25", json!(0.25)),
            ("-1.5e3", json!(-1500.0)),
            // 17 digits, as sums of money come out of a CRM
            ("1234.5600000000001", json!(1_234.560_000_000_000_2)),
            ("0.10000000000000001", json!(0.1)),
            ("-0.30000000000000004", json!(-0.300_000_000_000_000_04)),
            ("1234.500000000000000000", json!(1234.5)),
            ("0.000", json!(0.0)),
            ("1.7976931348623157E308", json!(f64::MAX)),
            ("9007199254740993.0", json!("9007199254740993.0")),
            ("0.123456789012345678", json!("0.123456789012345678")),
            ("1.00000000000000000001e2", json!("1.00000000000000000001e2")),
        ];
        for (text, wanted) in rows {
            assert_eq!(of(text.as_bytes()), Ok(wanted), "{text}");
        }
        for text in ["01", "1.", ".5", "+1", "1e", "-", "0x10", "nan", "1.e5", "--1"] {
            assert!(of(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn broken_texts_name_a_byte_and_nothing_else() {
        for text in
            ["", "{", "{\"a\"", "{\"a\":}", "[1,]", "{,}", "[1 2]", "\"a", "{\"a\":1}x", "\"\\x\"", "\"\\u12\"", "]"]
        {
            assert!(of(text.as_bytes()).is_err(), "{text}");
            assert!(split(text.as_bytes(), &[], Kept::default()).is_err() || text.starts_with('"'), "{text}");
        }
        assert_eq!(of(b"{\"a\": secret}").unwrap_err().to_string(), "not valid JSON at byte 7");
        for text in ["", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "[1", "\"a", "[tru", "[\"\\u12"] {
            assert!(of(text.as_bytes()).unwrap_err().is_cut_off(), "{text}");
        }
        for text in ["{\"a\" 1}", "[1 2]", "x]", "{}x", "[1,]"] {
            assert!(!of(text.as_bytes()).unwrap_err().is_cut_off(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(of(deep.as_bytes()).is_err());
        let many = format!("[{}0]", "{\"a\":0},".repeat(RECORD_VALUES_MAX));
        assert_eq!(of(many.as_bytes()).unwrap_err().what, "too many values");
    }

    #[test]
    fn the_records_of_an_answer_are_found_without_a_tree() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let texts = |text: &str, path: &[&str]| {
            let split = split(text.as_bytes(), &keys(path), Kept::default()).unwrap();
            let records = split.records.map(|places| places.into_iter().map(|place| text[place].to_owned()).collect());
            (split.envelope, records)
        };
        let list: Option<Vec<String>> = Some(vec!["{\"a\": [1, \"]\"]}".to_owned(), "NaN".to_owned()]);
        let text = "{\"next\": 7, \"d\": {\"items\": [{\"a\": [1, \"]\"]}, NaN], \"n\": 2}}";
        assert_eq!(texts(text, &["d", "items"]), (json!({"next": 7, "d": {"items": [], "n": 2}}), list));
        assert_eq!(texts("[1, 2]", &[]).1.unwrap(), ["1", "2"]);
        assert_eq!(texts("{\"items\": {\"0\": {}, \"2\": {}}}", &["items"]).1.unwrap(), ["{}", "{}"], "PHP's gaps");
        assert_eq!(texts("{\"items\": null}", &["items"]), (json!({"items": null}), None));
        assert_eq!(texts("{\"error\": {\"items\": []}}", &["items"]).1, None);
        let kept = |first, last, text: &str| {
            split(text.as_bytes(), &keys(&["items"]), Kept { first, last }).map(|split| split.envelope["items"].clone())
        };
        assert_eq!(kept(true, true, "{\"items\": [1, 2, 3]}"), Ok(json!([1, 3])));
        assert_eq!(kept(false, true, "{\"items\": {\"0\": 1, \"2\": 3}}"), Ok(json!([3])));
        assert_eq!(kept(true, true, "{\"items\": [1]}"), Ok(json!([1])));
        assert_eq!(kept(true, true, "{\"items\": []}"), Ok(json!([])));
        assert!(kept(false, true, "{\"items\": [1, {\"id\" 2}]}").is_err(), "what is asked for must be readable");
        assert!(split(b"{\"items\": [1], \"items\": []}", &keys(&["items"]), Kept::default()).is_err());
        let many = format!("[{}0]", "0,".repeat(RECORDS_MAX));
        assert_eq!(split(many.as_bytes(), &[], Kept::default()).unwrap_err().what, "too many records");
        let many: Vec<String> = (0..=RECORDS_MAX).map(|key| format!("\"{key}\":0")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(split(many.as_bytes(), &[], Kept::default()).unwrap_err().what, "too many records");
    }

    #[test]
    fn a_message_has_few_keys_and_each_once() {
        let of = |count: usize| {
            let keys: Vec<String> = (0..count).map(|key| format!("\"k{key}\":{key}")).collect();
            format!("{{\"type\":\"STATE\",{}}}", keys.join(","))
        };
        assert_eq!(entries(of(MESSAGE_KEYS_MAX - 1).as_bytes()).unwrap().len(), MESSAGE_KEYS_MAX);
        assert_eq!(entries(of(MESSAGE_KEYS_MAX).as_bytes()).unwrap_err().what, "too many keys");
        assert_eq!(entries(b"{\"a\":1,\"b\":2,\"a\":3}").unwrap_err().what, "a key that stands twice");
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_read_again(keys in prop::collection::btree_map(".{0,6}", ".{0,12}", 0..6), number: i64) {
            let value = json!({"keys": keys, "number": number, "list": [null, true, {"x": number}]});
            prop_assert_eq!(of(value.to_string().as_bytes()).unwrap(), value);
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&text);
            let _ = split(&text, &["a".to_owned()], Kept { first: true, last: true });
            let _ = entries(&text);
        }
    }
}
