//! Makes Reteno's texts fit for logs, reports and the checkpoint: short, one line, without what names a person.
//!
//! Everything that Reteno says passes here before it is kept or shown. It masks what can be recognised by its form
//! (e-mail addresses, phones, tokens) and the values that the caller knows; it cannot know a name by its form.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::plan::answer::FailedContact;

/// The longest text that is kept, in characters.
pub const TEXT_CHARS_MAX: usize = 300;

/// What is read of a text before it is masked and cut; bounds the work over a page of megabytes.
const READ_CHARS_MAX: usize = 8 * TEXT_CHARS_MAX;

/// Shorter runs of digits are HTTP statuses, field ids and counts; phones in use have seven digits at least.
const PHONE_DIGITS_MIN: usize = 7;

/// From this length a word of letters and digits is taken for a token or an id.
const TOKEN_CHARS_MIN: usize = 16;

/// From this length a word without digits and dots is taken for a token too (a class name has dots).
const OPAQUE_CHARS_MIN: usize = 32;

/// `text` in one line, masked, then cut to [`TEXT_CHARS_MAX`] characters. Masking comes first: a cut address would
/// no longer look like one.
#[must_use]
pub fn clean(text: &str) -> String {
    cut(&mask_phones(&mask_words(&one_line(text))))
}

/// Like [`clean`], and masks `known` values too: what the refused contact itself holds, such as its name.
#[must_use]
pub fn clean_without(text: &str, known: &[&str]) -> String {
    let mut text = Cow::Borrowed(text);
    // One or two letters are parts of many words: masking them would leave nothing to read.
    for value in known.iter().filter(|value| value.chars().count() > 2) {
        if text.contains(value) {
            text = Cow::Owned(text.replace(value, "<value>"));
        }
    }
    clean(&text)
}

/// The reason that an answer's body gives, cleaned: a known key of a JSON object or else the names of its keys, what a
/// page is, or the text itself.
#[must_use]
pub fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return "no reason given".to_owned();
    }
    if is_page(text) {
        return "a page of markup instead of JSON".to_owned();
    }
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return clean(text) };
    let said = ["errorMessage", "error_description", "message", "error", "description"]
        .into_iter()
        .find_map(|key| crate::reteno::wire::text(value.get(key)));
    match (said, value) {
        (Some(said), _) | (None, serde_json::Value::String(said)) => clean(&said),
        // what stands where in it is unknown, and a refused value may be a name
        (None, serde_json::Value::Object(object)) => {
            let keys = object.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            clean(&format!("JSON with {keys}"))
        }
        (None, _) => "JSON without a message".to_owned(),
    }
}

/// `reason` without any value that the refused request carried.
#[must_use]
pub fn reason_without(reason: &str, request: &[u8]) -> String {
    let Ok(request) = serde_json::from_slice::<serde_json::Value>(request) else { return reason.to_owned() };
    let mut values = Vec::new();
    collect_texts(&request, &mut values);
    // the longest first: a part must not be masked before the whole
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    clean_without(reason, &values)
}

/// Takes out of each refusal what its contact carried in the request: Reteno repeats channels and ids beside it, and by
/// them the contact is found there.
pub fn clean_failures(failed: &mut [FailedContact], request: &[u8]) {
    if failed.is_empty() {
        return;
    }
    let Ok(request) = serde_json::from_slice::<serde_json::Value>(request) else { return };
    let contacts = request.get("contacts").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut by_identity: BTreeMap<String, usize> = BTreeMap::new();
    for (place, contact) in contacts.iter().enumerate() {
        let channels = contact.get("channels").and_then(serde_json::Value::as_array).into_iter().flatten();
        let values = channels.filter_map(|channel| channel.get("value")).chain(contact.get("externalCustomerId"));
        by_identity.extend(values.filter_map(serde_json::Value::as_str).map(|value| (identity(value), place)));
    }
    for failure in failed {
        let channels = failure.channels.iter().map(|(_, value)| value);
        let known = channels.chain(&failure.external_customer_id).map(|value| identity(value.expose()));
        if let Some(place) = known.into_iter().find_map(|value| by_identity.get(&value).copied()) {
            let mut values = Vec::new();
            collect_texts(&contacts[place], &mut values);
            failure.error = clean_without(&failure.error, &values);
        }
    }
}

/// Reteno stores addresses in lower case and phones without their plus sign.
fn identity(value: &str) -> String {
    value.trim_start_matches('+').to_lowercase()
}

/// Every text that stands in the `contacts` of a body, or in the one contact that it is.
fn collect_texts<'a>(value: &'a serde_json::Value, texts: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::String(text) => texts.push(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        serde_json::Value::Object(object) => {
            // names of our own fields and modes, of categories and forms, and kinds of channels, are no values of a contact
            let own = |key: &str| {
                matches!(key, "dedupeOn" | "contactFields" | "customFieldsIDs" | "type" | "subscriptions" | "formType")
            };
            object.iter().filter(|(key, _)| !own(key)).for_each(|(_, item)| collect_texts(item, texts));
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// Whether a body is HTML or XML: a proxy's, a login or an error page.
#[must_use]
pub fn is_page(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with('<')
}

fn one_line(text: &str) -> String {
    let mut line = String::new();
    for char in text.chars().take(READ_CHARS_MAX) {
        if !char.is_control() && !char.is_whitespace() && !is_invisible(char) {
            line.push(char);
        } else if !line.is_empty() && !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Characters that turn or hide text on a terminal without being control characters.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn mask_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word_char) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|char| !is_word_char(char)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(before);
        out.push_str(masked_word(word));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What an e-mail address or a token is made of; everything else ends a word.
fn is_word_char(char: char) -> bool {
    char.is_alphanumeric() || "@._%+-=/~!#$&*^|".contains(char)
}

fn masked_word(word: &str) -> &str {
    let at = word.contains('@') || word.contains("%40");
    if at && word.chars().any(char::is_alphanumeric) {
        return "<e-mail>";
    }
    let length = word.chars().count();
    let digits = word.chars().any(|char| char.is_ascii_digit());
    let letters = word.chars().any(char::is_alphabetic);
    let token = digits && letters && length >= TOKEN_CHARS_MIN;
    let opaque = letters && length >= OPAQUE_CHARS_MIN && !word.contains(['.', '/']);
    if token || opaque { "<token>" } else { word }
}

fn mask_phones(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut place = 0;
    while let Some(&char) = chars.get(place) {
        match phone_end(&chars, place) {
            Some(end) => {
                out.push_str("<number>");
                place = end;
            }
            None if char.is_numeric() => {
                // A short number is copied whole, so that its tail is not looked at again.
                let end = chars[place..].iter().position(|char| !char.is_numeric()).map_or(chars.len(), |n| place + n);
                out.extend(&chars[place..end]);
                place = end;
            }
            None => {
                out.push(char);
                place += 1;
            }
        }
    }
    out
}

/// Where the phone-like run that begins at `start` ends; `None` where none begins there.
fn phone_end(chars: &[char], start: usize) -> Option<usize> {
    let first = chars.get(start)?;
    if !(first.is_numeric() || matches!(first, '+' | '(')) {
        return None;
    }
    let (mut digits, mut end, mut gap) = (0, start, 0);
    for (place, char) in chars.iter().enumerate().skip(start) {
        if char.is_numeric() {
            (digits, end, gap) = (digits + 1, place + 1, 0);
        } else if matches!(char, ' ' | '-' | '.' | '(' | ')' | '+' | '/') && gap < 2 {
            gap += 1;
        } else {
            break;
        }
    }
    (digits >= PHONE_DIGITS_MIN).then_some(end)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        // The last place is the sign that something is missing.
        Some(_) => text.chars().take(TEXT_CHARS_MAX - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_person_or_opens_a_door_is_masked() {
        let cases = [
            // E-mail addresses, in any surroundings.
            ("Email jane.doe+x@example.com is invalid", "Email <e-mail> is invalid"),
            ("{\"email\":\"jane@example.com\"}", "{\"email\":\"<e-mail>\"}"),
            ("email=jane%40example.com", "<e-mail>"),
            ("пошта олена@приклад.укр!", "пошта <e-mail>"),
            // Phones, with the separators in use.
            ("phone +380955547708 is known", "phone <number> is known"),
            ("phone +38 (095) 554-77-08.", "phone <number>."),
            ("(095)5547708", "<number>"),
            // Tokens, sessions, keys.
            ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln", "Bearer <token>"),
            ("token 6f9619ff-8b86-d011-b42d-00c04fc964ff", "token <token>"),
            ("key abcdefghijklmnopqrstuvwxyzabcdefgh", "key <token>"),
            // What an operator needs stays.
            ("Field 87166 is unknown (status 400)", "Field 87166 is unknown (status 400)"),
            ("externalCustomerId must be unique", "externalCustomerId must be unique"),
            ("com.example.contacts.ContactNotFoundException", "com.example.contacts.ContactNotFoundException"),
            // One line, no control characters, nothing that turns the text around.
            ("a\r\n\tb\u{1b}[31m c\u{202e}d", "a b [31m c d"),
            ("", ""),
        ];
        for (text, cleaned) in cases {
            assert_eq!(clean(text), cleaned);
        }
    }

    #[test]
    fn known_values_are_masked_but_not_single_letters() {
        assert_eq!(clean_without("first name Олена12 is bad", &["Олена12", "is", ""]), "first name <value> is bad");
    }

    #[test]
    fn a_text_is_cut_after_masking_and_says_so() {
        let long = clean(&"word ".repeat(1000));
        assert_eq!(long.chars().count(), TEXT_CHARS_MAX);
        assert!(long.ends_with('…'));
        // The address straddles the cut: half an address must not be left.
        let straddling = format!("{} jane.doe@example.com", "x ".repeat(146));
        assert!(!clean(&straddling).contains("jane"), "{}", clean(&straddling));
        let exact = "é".repeat(30);
        assert_eq!(clean(&exact), exact);
    }

    #[test]
    fn a_refusal_repeats_nothing_of_the_contacts_it_refuses() {
        let body = br#"{"contacts":[{"externalCustomerId":"7","channels":[{"type":"email","value":"o@example.com"}],
            "firstName":"Olena","address":{"town":"Bila Tserkva"}}],"dedupeOn":"email","contactFields":["town"]}"#;
        let said = "town Bila Tserkva of Olena is not known; email is fine, town is not";
        assert_eq!(reason_without(said, body), "town <value> of <value> is not known; email is fine, town is not");
        assert_eq!(reason_without("said", b"no json"), "said");
    }

    #[test]
    fn a_refusal_of_one_contact_repeats_nothing_that_it_carried() {
        let body = br#"{"contacts":[{"channels":[{"type":"sms","value":"+380955547708"}],"address":{"town":"Lutsk"}},
            {"channels":[{"type":"email","value":"O@example.com"}],"address":{"town":"Bila Tserkva"}}]}"#;
        let failed = |kind: &str, value: &str, error: &str| FailedContact {
            channels: vec![(kind.to_owned(), crate::contact::Personal::new(value))],
            error: error.to_owned(),
            ..FailedContact::default()
        };
        let mut all = [
            failed("email", "o@example.com", "no town Bila Tserkva, try Lutsk"),
            failed("sms", "380955547708", "no town Lutsk"),
            failed("email", "another@example.com", "no town Lutsk"),
        ];
        clean_failures(&mut all, body);
        let errors = all.map(|failure| failure.error);
        assert_eq!(errors, ["no town <value>, try Lutsk", "no town <value>", "no town Lutsk"]);
    }

    #[test]
    fn a_reason_is_found_in_json_text_and_pages() {
        let cases: [(&[u8], &str); 10] = [
            (br#"{"errorMessage":"contacts: too many","code":3}"#, "contacts: too many"),
            (br#"{"error":"invalid_request","error_description":"no scope"}"#, "no scope"),
            (br#"{"code":3}"#, "JSON with code"),
            (br#"{"errors":[{"field":"firstName","rejectedValue":"Olena"}]}"#, "JSON with errors"),
            (br#"["Olena"]"#, "JSON without a message"),
            (b"Bad request", "Bad request"),
            (b"<!DOCTYPE html><html><body>jane@example.com</body></html>", "a page of markup instead of JSON"),
            (b"\xef\xbb\xbf <html></html>", "a page of markup instead of JSON"),
            (b"  ", "no reason given"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        ];
        for (body, expected) in cases {
            assert_eq!(reason(body), expected);
        }
    }
}
