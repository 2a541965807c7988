//! A tiny CRM: invented people with some bad rows among them, edits, and the table as CSV or JSON lines. Every address
//! is in a domain reserved for examples; any likeness to a person is chance.

use std::fmt;
use std::io::Write;

use http::StatusCode;
use serde::Serialize;

use crate::clock::Timestamp;

use super::draw;
use super::reply::{Reply, not_found, reply};

/// Where the table is served as CSV.
pub(super) const CSV_PATH: &str = "/crm/contacts.csv";
/// Keeps the draws of people apart from all others.
const STREAM: u64 = 0x3000_0000;
/// One row in so many is bad.
const BAD_EVERY: usize = 97;
/// 2026-01-05 08:00 UTC: when the first row was last changed.
const FIRST_CHANGE: Timestamp = Timestamp(1_767_600_000_000);

/// One row of the CRM's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrmRow {
    /// The CRM's id.
    pub id: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// E-mail address.
    pub email: String,
    /// Phone in international form, sometimes with spaces, as people type it.
    pub phone: String,
    /// Town.
    pub city: String,
    /// Language tag.
    pub lang: String,
    /// Loyalty tier, the value of the additional field 87166.
    pub tier: String,
    /// RFC 3339, UTC.
    pub updated_at: String,
    /// What is wrong with the row; no column of the table.
    #[serde(skip)]
    pub flaw: Option<Flaw>,
}

/// What is wrong with a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// The e-mail address is none, and there is no phone.
    InvalidEmail,
    /// Neither e-mail nor phone.
    NoChannel,
    /// The first name is made of digits.
    NameOfDigits,
    /// The phone number is too short, and there is no e-mail.
    InvalidPhone,
}

impl Flaw {
    const ALL: [Self; 4] = [Self::InvalidEmail, Self::NoChannel, Self::NameOfDigits, Self::InvalidPhone];

    /// Whether nothing is left by which the contact could be reached.
    #[must_use]
    pub const fn leaves_no_channel(self) -> bool {
        match self {
            Self::InvalidEmail | Self::NoChannel | Self::InvalidPhone => true,
            Self::NameOfDigits => false,
        }
    }

    fn spoil(self, row: &mut CrmRow) {
        match self {
            Self::InvalidEmail => (row.email, row.phone) = (row.email.replace('@', " at "), String::new()),
            Self::NoChannel => (row.email, row.phone) = (String::new(), String::new()),
            Self::NameOfDigits => "1234567".clone_into(&mut row.first_name),
            Self::InvalidPhone => (row.email, row.phone) = (String::new(), "12345".to_owned()),
        }
        row.flaw = Some(self);
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidEmail => "invalid e-mail and no phone",
            Self::NoChannel => "neither e-mail nor phone",
            Self::NameOfDigits => "first name of digits",
            Self::InvalidPhone => "invalid phone and no e-mail",
        })
    }
}

/// First and last names with the forms used in addresses.
const FIRST_NAMES: &[(&str, &str)] = &[
    ("Олена", "olena"),
    ("Іван", "ivan"),
    ("Марія", "mariia"),
    ("Андрій", "andrii"),
    ("В'ячеслав", "viacheslav"),
    ("Соломія", "solomiia"),
    ("Тарас", "taras"),
    ("Дар'я", "daria"),
    ("Юрій", "yurii"),
    ("Наталія", "nataliia"),
    ("Agnieszka", "agnieszka"),
    ("Jürgen", "juergen"),
    ("Anne-Marie", "anne.marie"),
    ("José", "jose"),
    ("Zoë", "zoe"),
    ("Łukasz", "lukasz"),
];
const LAST_NAMES: &[(&str, &str)] = &[
    ("Шевченко", "shevchenko"),
    ("Коваленко", "kovalenko"),
    ("Дем'яненко", "demianenko"),
    ("Лук'яненко", "lukianenko"),
    ("Бондаренко", "bondarenko"),
    ("Ткачук", "tkachuk"),
    ("Мельник-Гай", "melnyk-hai"),
    ("Соловйова", "soloviova"),
    ("Ґонта", "gonta"),
    ("Їжакевич", "yizhakevych"),
    ("Nowak", "nowak"),
    ("Müller", "mueller"),
    ("D'Angelo", "dangelo"),
    ("O'Brien", "obrien"),
    ("García", "garcia"),
    ("Dvořák", "dvorak"),
];
const TOWNS: &[&str] =
    &["Київ", "Львів", "Одеса", "Харків", "Дніпро", "Кам'янець-Подільський", "Warszawa", "Kraków", "Berlin", "Madrid"];
const LANGUAGES: &[&str] = &["uk", "uk", "uk", "en", "pl", "de", "es"];
const TIERS: &[&str] = &["", "bronze", "silver", "gold"];
const DOMAINS: &[&str] = &["example.com", "example.org", "example.net"];
const OPERATORS: &[&str] = &["67", "50", "63", "93", "95", "96", "97", "98", "66", "68", "73", "99"];

/// `count` people; the same seed gives the same people, and a longer list begins with the shorter one. Every e-mail
/// and phone is another's never.
#[must_use]
pub fn invented_contacts(seed: u64, count: usize) -> Vec<CrmRow> {
    (1..=count).map(|number| invented(seed, number)).collect()
}

/// The `number`th of them, from 1.
pub(super) fn invented(seed: u64, number: usize) -> CrmRow {
    let place = u64::try_from(number).unwrap_or(u64::MAX);
    let random = draw::sequence(seed, STREAM.wrapping_add(place));
    let pick = |bound: usize| usize::try_from(draw::below(&random, u64::try_from(bound).unwrap_or(1))).unwrap_or(0);
    let (first_name, first_plain) = FIRST_NAMES[pick(FIRST_NAMES.len())];
    let (last_name, last_plain) = LAST_NAMES[pick(LAST_NAMES.len())];
    let operator = OPERATORS[number % OPERATORS.len()];
    // The number itself is in both channels, which keeps them apart.
    let subscriber = 1_000_000 + place % 9_000_000;
    let digits = subscriber.to_string();
    let phone = match pick(8) {
        0 => String::new(),
        1 => format!("+380 {operator} {} {} {}", &digits[..3], &digits[3..5], &digits[5..]),
        _ => format!("+380{operator}{digits}"),
    };
    let mut row = CrmRow {
        id: number.to_string(),
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        email: format!("{first_plain}.{last_plain}.{number}@{}", DOMAINS[pick(DOMAINS.len())]),
        phone,
        city: TOWNS[pick(TOWNS.len())].to_owned(),
        lang: LANGUAGES[pick(LANGUAGES.len())].to_owned(),
        tier: TIERS[pick(TIERS.len())].to_owned(),
        updated_at: rfc3339(Timestamp(FIRST_CHANGE.0.saturating_add(i64::try_from(place).unwrap_or(0) * 1000))),
        flaw: None,
    };
    if number % BAD_EVERY == 13 {
        Flaw::ALL[(number / BAD_EVERY) % Flaw::ALL.len()].spoil(&mut row);
    }
    row
}

/// Moves `count` good rows to another town and tier, and stamps them; returns their ids, in order. Every one differs
/// afterwards from what it was.
pub fn edit_contacts(rows: &mut [CrmRow], count: usize, seed: u64, at: Timestamp) -> Vec<String> {
    let mut good: Vec<usize> =
        rows.iter().enumerate().filter(|(_, row)| row.flaw.is_none()).map(|(place, _)| place).collect();
    draw::shuffle(&draw::sequence(seed, STREAM - 1), &mut good);
    good.truncate(count);
    good.sort_unstable();
    let mut edited = Vec::with_capacity(good.len());
    for place in good {
        let Some(row) = rows.get_mut(place) else { continue };
        row.city =
            if row.city == "Полтава" { "Чернівці".to_owned() } else { "Полтава".to_owned() };
        row.tier = if row.tier == "gold" { "platinum".to_owned() } else { "gold".to_owned() };
        row.updated_at = rfc3339(at);
        edited.push(row.id.clone());
    }
    edited
}

/// The table as CSV with a header.
///
/// # Errors
/// Those of the writer.
pub fn write_csv(rows: &[CrmRow], to: impl Write) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(to);
    for row in rows {
        writer.serialize(row)?;
    }
    writer.flush()
}

/// The table as one JSON object a line.
///
/// # Errors
/// Those of the writer.
pub fn write_json_lines(rows: &[CrmRow], mut to: impl Write) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut to, row)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// `GET /crm/contacts.csv` and `GET /crm/contacts.jsonl`.
pub(super) fn answer(rows: &[CrmRow], path: &str) -> Reply {
    let mut body = Vec::new();
    let (content_type, written) = if path == CSV_PATH {
        ("text/csv; charset=UTF-8", write_csv(rows, &mut body))
    } else {
        ("application/x-ndjson", write_json_lines(rows, &mut body))
    };
    // Writing into memory does not fail; if it did, half a table must not look like a whole one.
    if written.is_ok() { reply(StatusCode::OK, content_type, body) } else { not_found() }
}

fn rfc3339(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(at.0)
        .map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
