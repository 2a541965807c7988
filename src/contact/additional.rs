//! Additional fields: what Reteno's `addressbooks` says of them, and the canonical form of each type.
//!
//! Knows no standard field and fetches nothing: the catalog is handed in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::damage::damage_of;
use super::moment::{Moment, NoDay, Zones};
use super::refusal::{Checked, NOTHING_VISIBLE, Refusal};
use super::text::{length, several_lines, single_line};

/// Reteno's limit for a text field.
const TEXT_LENGTH_MAX: usize = 1_000;
/// Reteno's limit for a text area.
const TEXT_AREA_LENGTH_MAX: usize = 5_000;
/// Digits that survive any decimal column; more are no amount of anything.
const DECIMAL_LENGTH_MAX: usize = 30;

/// The type of an additional field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    /// `TEXTFIELD`: one line, at most 1,000 characters.
    Text,
    /// `TEXTAREA`: at most 5,000 characters.
    TextArea,
    /// `NUMBER`: a whole number in 32 bits.
    Number,
    /// `DECIMAL`.
    Decimal,
    /// `DATE`: `yyyy-MM-dd`.
    Date,
    /// `DATETIME`: `yyyy-MM-ddTHH:mm`.
    DateTime,
    /// `COMBOBOX`: one of these; any text where the catalog lists none.
    Combobox(Vec<String>),
    /// `CHECKBOXLIST`: several of these, joined by commas; any words where the catalog lists none.
    CheckboxList(Vec<String>),
    /// `TAGS`: words joined by commas.
    Tags,
    /// A type that this program does not know: taken as text.
    Unknown(String),
}

/// An additional field of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdditionalField {
    /// Reteno's numeric id.
    pub id: u32,
    /// `PROFILE.FIELD`.
    pub key: String,
    /// As shown in Reteno.
    pub name: String,
    /// Its type.
    pub kind: FieldKind,
    /// Smallest allowed number (`minValue`).
    pub min: Option<i64>,
    /// Largest allowed number (`maxValue`).
    pub max: Option<i64>,
    /// Reteno does not let it be written.
    pub readonly: bool,
}

/// The additional fields and subscription categories that an account has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    by_id: BTreeMap<u32, AdditionalField>,
    categories: Option<BTreeSet<String>>,
}

impl Catalog {
    /// A catalog without fields: every mapped id is then unknown and mapped as text.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// With the keys of the account's subscription categories (`GET v1/subscriptions`).
    #[must_use]
    pub fn with_categories(self, categories: BTreeSet<String>) -> Self {
        Self { categories: Some(categories), ..self }
    }

    /// The keys of the subscription categories; `None` where the account could not be asked for them, so that any may
    /// be one.
    #[must_use]
    pub const fn categories(&self) -> Option<&BTreeSet<String>> {
        self.categories.as_ref()
    }

    /// Adds a field; an earlier one with its id is replaced.
    pub fn insert(&mut self, field: AdditionalField) {
        self.by_id.insert(field.id, field);
    }

    /// The field with an id.
    #[must_use]
    pub fn by_id(&self, id: u32) -> Option<&AdditionalField> {
        self.by_id.get(&id)
    }

    /// The field with a key, whatever its case.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<&AdditionalField> {
        self.by_id.values().find(|field| field.key.eq_ignore_ascii_case(key))
    }

    /// All fields by id.
    pub fn iter(&self) -> impl Iterator<Item = &AdditionalField> {
        self.by_id.values()
    }
}

impl FromIterator<AdditionalField> for Catalog {
    fn from_iter<I: IntoIterator<Item = AdditionalField>>(fields: I) -> Self {
        Self { by_id: fields.into_iter().map(|field| (field.id, field)).collect(), categories: None }
    }
}

/// What a value of an additional field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdditionalRule {
    kind: FieldKind,
    min: Option<i64>,
    max: Option<i64>,
}

impl AdditionalRule {
    pub(super) fn of(field: &AdditionalField) -> Self {
        Self { kind: field.kind.clone(), min: field.min, max: field.max }
    }

    /// For a field that the catalog lacks: any text that some type could take.
    pub(super) fn untyped() -> Self {
        Self { kind: FieldKind::TextArea, min: None, max: None }
    }

    /// The canonical form of a value.
    pub(super) fn canonical<'a>(&self, text: &'a str, zones: Zones) -> Checked<'a> {
        match &self.kind {
            FieldKind::Text => text_up_to(single_line(text), TEXT_LENGTH_MAX),
            FieldKind::TextArea | FieldKind::Unknown(_) => text_up_to(several_lines(text), TEXT_AREA_LENGTH_MAX),
            FieldKind::Number => self.number(text),
            FieldKind::Decimal => self.decimal(text),
            FieldKind::Date => date(text, zones),
            FieldKind::DateTime => date_time(text, zones),
            FieldKind::Combobox(allowed) => combobox(text, allowed),
            FieldKind::CheckboxList(allowed) => checkbox_list(text, allowed),
            FieldKind::Tags => text_up_to(word_list(text), TEXT_LENGTH_MAX),
        }
    }

    fn number(&self, text: &str) -> Checked<'static> {
        let plain = plain_decimal(text).ok_or_else(|| no_number(text, "the value is not a whole number"))?;
        if plain.contains('.') {
            return Err(Refusal::of("the value is not a whole number"));
        }
        let number: i32 = plain.parse().map_err(|_| Refusal::of("the number does not fit into 32 bits"))?;
        let in_range =
            self.min.is_none_or(|min| i64::from(number) >= min) && self.max.is_none_or(|max| i64::from(number) <= max);
        if in_range { Ok(Cow::Owned(plain)) } else { Err(OUT_OF_RANGE) }
    }

    fn decimal(&self, text: &str) -> Checked<'static> {
        let plain = plain_decimal(text).ok_or_else(|| no_number(text, "the value is not a decimal number"))?;
        if plain.len() > DECIMAL_LENGTH_MAX {
            return Err(Refusal::of("the decimal number is longer than 30 characters"));
        }
        let too_small = self.min.is_some_and(|min| is_less(&plain, min));
        let too_large = self.max.is_some_and(|max| is_greater(&plain, max));
        if too_small || too_large { Err(OUT_OF_RANGE) } else { Ok(Cow::Owned(plain)) }
    }
}

const OUT_OF_RANGE: Refusal = Refusal::of("the number is outside of the range that the field allows");

/// Why a text is no number: what a spreadsheet did to it, or else `usual`.
fn no_number(text: &str, usual: &'static str) -> Refusal {
    damage_of(text.trim()).unwrap_or(Refusal::of(usual))
}

fn text_up_to(text: Cow<'_, str>, length_max: usize) -> Checked<'_> {
    if text.is_empty() {
        return Err(NOTHING_VISIBLE);
    }
    if length(&text) > length_max { Err(Refusal::of("the text is too long for the field")) } else { Ok(text) }
}

/// A decimal number without plus, leading zeros, closing zeros and exponent. A comma is the decimal point, unless it
/// could part thousands (`1,234`).
fn plain_decimal(text: &str) -> Option<String> {
    let text = text.trim();
    let (minus, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = match (digits.split_once('.'), digits.split_once(',')) {
        (None, Some((_, fraction))) if fraction.len() == 3 => return None,
        (Some(parts), None) | (None, Some(parts)) => parts,
        (None, None) => (digits, "0"),
        (Some(_), Some(_)) => return None,
    };
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    match (whole, fraction.trim_end_matches('0')) {
        ("0", "") => Some("0".to_owned()),
        (whole, "") => Some(format!("{minus}{whole}")),
        (whole, fraction) => Some(format!("{minus}{whole}.{fraction}")),
    }
}

/// Compares by digits, since a float would round amounts.
fn is_less(plain: &str, bound: i64) -> bool {
    let (whole, has_fraction) = parts(plain);
    match whole {
        Some(whole) => whole < bound || (whole == bound && has_fraction && plain.starts_with('-')),
        None => plain.starts_with('-'),
    }
}

fn is_greater(plain: &str, bound: i64) -> bool {
    let (whole, has_fraction) = parts(plain);
    match whole {
        Some(whole) => whole > bound || (whole == bound && has_fraction && !plain.starts_with('-')),
        None => !plain.starts_with('-'),
    }
}

/// The whole part (`None` beyond 64 bits), and whether more follows. `-0.5` has the whole part 0.
fn parts(plain: &str) -> (Option<i64>, bool) {
    match plain.split_once('.') {
        Some((whole, _)) => (whole.parse().ok(), true),
        None => (plain.parse().ok(), false),
    }
}

fn date(text: &str, zones: Zones) -> Checked<'static> {
    match Moment::read_day(text, zones.of_days) {
        Ok(day) => Ok(Cow::Owned(day.format("%Y-%m-%d").to_string())),
        Err(NoDay::NotUnderstood) => Err(Refusal::of("the value is not a date such as 2024-05-31")),
        Err(NoDay::NoZone) => Err(Refusal::of(
            "the date is written as a moment, and which day that is depends on its zone: set time_zone of the source, \
             or [reteno] time_zone",
        )),
    }
}

/// Reteno takes the time for one in the contact's time zone; one that was written without a zone stays as it stands.
fn date_time(text: &str, zones: Zones) -> Checked<'static> {
    let moment =
        Moment::parse(text).ok_or(Refusal::of("the value is not a date with time such as 2024-05-31T18:30"))?;
    let zone = zones.of_times.map_err(|()| {
        Refusal::of("the time is a moment, and the record does not say in which time zone its contact is")
    });
    let local = match (moment, zone) {
        (Moment::Instant { .. }, Err(refusal)) => return Err(refusal),
        (Moment::Day(_) | Moment::Wall(_), _) => moment.local(None),
        (Moment::Instant { .. }, Ok(zone)) => moment.local(zone),
    };
    let local = local.ok_or(Refusal::of(
        "the time is a moment, and Reteno wants it in the contact's time zone: map timeZone, or set [reteno] time_zone",
    ))?;
    Ok(Cow::Owned(local.format("%Y-%m-%dT%H:%M").to_string()))
}

/// A value in the spelling that Reteno allows, found in its exact form or whatever its case.
fn allowed_spelling<'a>(value: &str, allowed: &'a [String]) -> Option<&'a str> {
    let exact = allowed.iter().find(|spelling| spelling.as_str() == value);
    exact.map(String::as_str).or_else(|| {
        let folded = single_line(value).to_lowercase();
        allowed.iter().map(String::as_str).find(|spelling| single_line(spelling).to_lowercase() == folded)
    })
}

fn combobox<'a>(text: &'a str, allowed: &[String]) -> Checked<'a> {
    if allowed.is_empty() {
        return text_up_to(single_line(text), TEXT_LENGTH_MAX);
    }
    match allowed_spelling(text.trim(), allowed) {
        Some(spelling) => Ok(Cow::Owned(spelling.to_owned())),
        None => Err(Refusal::of("the value is not one of the allowed ones")),
    }
}

/// The checked values in the order of the allowed ones, each once: a CRM's order of clicks is no change.
fn checkbox_list<'a>(text: &'a str, allowed: &[String]) -> Checked<'a> {
    if allowed.is_empty() {
        return text_up_to(word_list(text), TEXT_AREA_LENGTH_MAX);
    }
    // An allowed value may hold a comma itself.
    if let Some(spelling) = allowed_spelling(text.trim(), allowed) {
        return Ok(Cow::Owned(spelling.to_owned()));
    }
    let mut checked = vec![false; allowed.len()];
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let spelling = allowed_spelling(word, allowed).ok_or(Refusal::of("one of the values is not an allowed one"))?;
        for (place, value) in allowed.iter().enumerate() {
            checked[place] |= value == spelling;
        }
    }
    let list: Vec<&str> =
        allowed.iter().zip(&checked).filter(|(_, on)| **on).map(|(value, _)| value.as_str()).collect();
    text_up_to(Cow::Owned(list.join(",")), TEXT_AREA_LENGTH_MAX)
}

/// Words parted by commas, in order, each once.
fn word_list(text: &str) -> Cow<'_, str> {
    let line = single_line(text);
    let mut words: Vec<&str> = line.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words.dedup();
    Cow::Owned(words.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(kind: FieldKind, text: &str) -> Option<String> {
        let zones = Zones { of_days: None, of_times: Ok(Some(chrono_tz::Tz::Europe__Kyiv)) };
        AdditionalRule { kind, min: None, max: None }.canonical(text, zones).ok().map(Cow::into_owned)
    }

    fn ranged(kind: FieldKind, text: &str) -> bool {
        AdditionalRule { kind, min: Some(-5), max: Some(10) }.canonical(text, Zones::default()).is_ok()
    }

    #[test]
    fn each_type_has_one_form() {
        let tiers = || vec!["Gold".to_owned(), "Silver".to_owned(), "Red, white".to_owned()];
        let rows = [
            // whole numbers in 32 bits
            (FieldKind::Number, "42", Some("42")),
            (FieldKind::Number, " +0042.0 ", Some("42")),
            (FieldKind::Number, "-2147483648", Some("-2147483648")),
            (FieldKind::Number, "2147483648", None),
            (FieldKind::Number, "-0", Some("0")),
            (FieldKind::Number, "4.5", None),
            (FieldKind::Number, "1e5", None),
            (FieldKind::Number, "four", None),
            (FieldKind::Number, "-", None),
            // decimals: one form for one amount
            (FieldKind::Decimal, "012.50", Some("12.5")),
            (FieldKind::Decimal, "12,50", Some("12.5")),
            (FieldKind::Decimal, "-0.0", Some("0")),
            (FieldKind::Decimal, "-0.10", Some("-0.1")),
            // a comma that may part thousands is not guessed
            (FieldKind::Decimal, "1,234", None),
            (FieldKind::Decimal, "1.234,5", None),
            (FieldKind::Decimal, "1.", None),
            (FieldKind::Decimal, "1234567890123456789012345678901", None),
            // dates
            (FieldKind::Date, "1990-05-01", Some("1990-05-01")),
            (FieldKind::Date, "01.05.1990", Some("1990-05-01")),
            (FieldKind::Date, "1990-05-01T00:00:00+03:00", Some("1990-05-01")),
            (FieldKind::Date, "2024-05-06 14:20:11", Some("2024-05-06")),
            (FieldKind::Date, "2024-05-06T14:20:11Z", None),
            (FieldKind::Date, "641520000", Some("1990-05-01")),
            (FieldKind::Date, "05/01/1990", None),
            (FieldKind::Date, "0000-00-00", None),
            // times: minutes on the contact's clock, as they stand where no zone is said
            (FieldKind::DateTime, "2024-05-31 18:30:59", Some("2024-05-31T18:30")),
            (FieldKind::DateTime, "2024-05-31T18:30:59+03:00", Some("2024-05-31T18:30")),
            (FieldKind::DateTime, "2024-05-31T18:30:59Z", Some("2024-05-31T21:30")),
            (FieldKind::DateTime, "1717180259", Some("2024-05-31T21:30")),
            (FieldKind::DateTime, "2024-05-31", Some("2024-05-31T00:00")),
            (FieldKind::DateTime, "soon", None),
            // drop-down: the allowed spelling
            (FieldKind::Combobox(tiers()), "Gold", Some("Gold")),
            (FieldKind::Combobox(tiers()), "gOLD", Some("Gold")),
            (FieldKind::Combobox(tiers()), "red,  white", Some("Red, white")),
            (FieldKind::Combobox(tiers()), "Bronze", None),
            (FieldKind::Combobox(Vec::new()), "Bronze", Some("Bronze")),
            // checkbox list: order and repetition do not matter, one bad value does
            (FieldKind::CheckboxList(tiers()), "silver, Gold,silver,", Some("Gold,Silver")),
            (FieldKind::CheckboxList(tiers()), "Red, white", Some("Red, white")),
            (FieldKind::CheckboxList(tiers()), "Gold,Bronze", None),
            (FieldKind::CheckboxList(tiers()), ",", None),
            (FieldKind::CheckboxList(Vec::new()), "b, a,b", Some("a,b")),
            // tags
            (FieldKind::Tags, "vip , new,vip", Some("new,vip")),
            (FieldKind::Tags, " , ", None),
            // text
            (FieldKind::Text, "a\nb", Some("a b")),
            (FieldKind::TextArea, "a\r\nb", Some("a\nb")),
            (FieldKind::Unknown("MAP".into()), "a\nb", Some("a\nb")),
        ];
        for (kind, given, wanted) in rows {
            assert_eq!(canonical(kind.clone(), given).as_deref(), wanted, "{kind:?} {given}");
        }
    }

    #[test]
    fn texts_are_bounded() {
        assert!(canonical(FieldKind::Text, &"ї".repeat(1_000)).is_some());
        assert!(canonical(FieldKind::Text, &"ї".repeat(1_001)).is_none());
        assert!(canonical(FieldKind::TextArea, &"ї".repeat(5_000)).is_some());
        assert!(canonical(FieldKind::TextArea, &"ї".repeat(5_001)).is_none());
    }

    #[test]
    fn numbers_stay_in_the_range_of_the_field() {
        let rows = [
            ("-5", true),
            ("10", true),
            ("-6", false),
            ("11", false),
            // fractions on either side of a bound
            ("-5.5", false),
            ("-4.5", true),
            ("10.01", false),
            ("9.99", true),
            // beyond 64 bits
            ("99999999999999999999", false),
            ("-99999999999999999999", false),
        ];
        for (text, wanted) in rows {
            assert_eq!(ranged(FieldKind::Decimal, text), wanted, "{text}");
            assert_eq!(ranged(FieldKind::Number, text), wanted && !text.contains('.'), "{text}");
        }
    }

    #[test]
    fn fields_are_found_by_id_and_by_key() {
        let field = AdditionalField {
            id: 87_166,
            key: "PERSONAL.TIER".into(),
            name: "Tier".into(),
            kind: FieldKind::Text,
            min: None,
            max: None,
            readonly: false,
        };
        let catalog: Catalog = [field.clone()].into_iter().collect();
        assert_eq!(catalog.by_id(87_166), Some(&field));
        assert_eq!(catalog.by_key("personal.tier"), Some(&field));
        assert_eq!(catalog.by_id(1), None);
        assert_eq!(catalog.by_key("PERSONAL.OTHER"), None);
        assert_eq!(Catalog::empty().iter().count(), 0);
    }
}
