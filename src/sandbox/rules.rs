//! What Reteno refuses in a value, as its documents say it, checked from the bytes that came. Written for the sandbox
//! alone: it must never borrow the client's own rules, which it is there to prove.

use chrono::{NaiveDate, NaiveDateTime};

use super::options::{AdditionalField, FieldKind};

/// An e-mail address in its stored form (lower case).
pub(super) fn email(value: &str) -> Result<String, String> {
    let refuse = || Err("Invalid email".to_owned());
    let Some((local, domain)) = value.rsplit_once('@') else { return refuse() };
    let local_ok = (1..=64).contains(&local.len())
        && local.split('.').all(|part| !part.is_empty() && part.chars().all(is_local_character));
    let labels: Vec<&str> = domain.split('.').collect();
    let domain_ok = labels.len() >= 2 && labels.iter().all(|label| is_label(label));
    let top = labels.last().copied().unwrap_or_default();
    let top_ok = top.len() >= 2 && (top.starts_with("xn--") || top.chars().all(|c| c.is_ascii_alphabetic()));
    if value.len() <= 254 && local_ok && domain_ok && top_ok { Ok(value.to_lowercase()) } else { refuse() }
}

fn is_local_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A phone number in its stored form (digits).
pub(super) fn phone(value: &str) -> Result<String, String> {
    let digits = value.strip_prefix('+').unwrap_or(value);
    let ok = (7..=15).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit()) && !digits.starts_with('0');
    if ok { Ok(digits.to_owned()) } else { Err("Invalid phone number".to_owned()) }
}

/// A first name.
pub(super) fn first_name(value: &str) -> Result<String, String> {
    name(value, "first name")?;
    let long = value.split(' ').filter(|word| word.chars().count() > 3).count();
    let short = value.split(' ').count() - long;
    if long > 3 || short > 3 { Err("Invalid first name: too many words".to_owned()) } else { Ok(value.to_owned()) }
}

/// A last name.
pub(super) fn last_name(value: &str) -> Result<String, String> {
    name(value, "last name").map(|()| value.to_owned())
}

fn name(value: &str, what: &str) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("Invalid {what}: {why}"));
    if value.is_empty() {
        return Ok(()); // an empty string clears
    }
    if value.chars().count() > 40 {
        return refuse("longer than 40 characters");
    }
    if value.chars().filter(|c| c.is_numeric()).count() > 3 {
        return refuse("more than 3 digits");
    }
    if !value.chars().any(is_letter) {
        return refuse("no letter");
    }
    if value.split(' ').all(is_name_word) { Ok(()) } else { refuse("character not allowed") }
}

/// Letters and digits, with apostrophes and hyphens only between them, and a dot only after at most three.
fn is_name_word(word: &str) -> bool {
    let bare = word.strip_suffix('.').unwrap_or(word);
    if bare.len() != word.len() && bare.chars().count() > 3 {
        return false;
    }
    bare.split(['\'', '’', 'ʼ', '-'])
        .all(|part| !part.is_empty() && part.chars().all(|c| is_letter(c) || c.is_numeric()))
}

/// U+02BC is a letter to Unicode and an apostrophe to the people who write it.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && c != 'ʼ'
}

/// A language tag in the form of RFC 5646.
pub(super) fn language(value: &str) -> Result<String, String> {
    let mut parts = value.split('-');
    let primary = parts.next().unwrap_or_default();
    let primary_ok = (2..=3).contains(&primary.len()) && primary.chars().all(|c| c.is_ascii_alphabetic());
    let rest_ok = parts.all(|part| (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric()));
    if value.is_empty() || (primary_ok && rest_ok) { Ok(value.to_owned()) } else { Err("Invalid language code".into()) }
}

/// A name of the tz database.
pub(super) fn time_zone(value: &str) -> Result<String, String> {
    if value.is_empty() || value.parse::<chrono_tz::Tz>().is_ok() {
        Ok(value.to_owned())
    } else {
        Err("Invalid time zone".to_owned())
    }
}

/// A part of the address, or a key: any text of at most 255 characters.
pub(super) fn line(value: &str) -> Result<String, String> {
    if value.chars().count() <= 255 { Ok(value.to_owned()) } else { Err("Value is too long".to_owned()) }
}

/// The value of an additional field; an empty one clears.
pub(super) fn additional(field: &AdditionalField, value: &str) -> Result<String, String> {
    if value.is_empty() || fits(&field.kind, value) {
        return Ok(value.to_owned());
    }
    Err(format!("Invalid value of field {}", field.id))
}

fn fits(kind: &FieldKind, value: &str) -> bool {
    let allowed = |all: &[String], one: &str| all.iter().any(|other| other == one);
    match kind {
        FieldKind::TextField => value.chars().count() <= 1000,
        FieldKind::TextArea => value.chars().count() <= 5000,
        FieldKind::Number { bounds } => {
            let digits = value.strip_prefix('-').unwrap_or(value);
            digits.chars().all(|c| c.is_ascii_digit())
                && value
                    .parse::<i32>()
                    .is_ok_and(|number| bounds.is_none_or(|(low, high)| (low..=high).contains(&number)))
        }
        FieldKind::Decimal => is_decimal(value),
        FieldKind::Date => value.len() == 10 && NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok(),
        FieldKind::DateTime => value.len() == 16 && NaiveDateTime::parse_from_str(value, "%Y-%m-%dT%H:%M").is_ok(),
        FieldKind::ComboBox(values) => allowed(values, value),
        FieldKind::CheckBoxList(values) => value.split(',').all(|one| allowed(values, one.trim())),
        FieldKind::Tags => value.split(',').all(|tag| !tag.trim().is_empty()),
    }
}

/// Digits with at most one point between them, and a sign.
fn is_decimal(value: &str) -> bool {
    let bare = value.strip_prefix('-').unwrap_or(value);
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    match bare.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(bare),
    }
}

/// The key of an event type: at most 100 characters, none of those that Reteno's schema forbids.
pub(super) fn event_key(value: &str) -> Result<(), String> {
    if value.is_empty() || value.chars().count() > 100 || value.chars().any(is_forbidden_in_names) {
        return Err("Invalid eventKeyForNewContacts".to_owned());
    }
    Ok(())
}

/// The name of a subscription form.
pub(super) fn form_type(value: &str) -> Result<(), String> {
    if value.chars().any(is_forbidden_in_names) { Err("Invalid formType".to_owned()) } else { Ok(()) }
}

fn is_forbidden_in_names(c: char) -> bool {
    "<;’\\/|\"`'^?!,>".contains(c)
}
