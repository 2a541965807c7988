//! E-mail addresses and phone numbers in canonical form.
//!
//! Never guesses: a number that could be read in two ways is refused, since a message to a stranger is worse than
//! none. Reteno stores e-mail in lower case and phones as digits.

use std::borrow::Cow;

use email_address::{EmailAddress, Options};
use phonenumber::metadata::DATABASE;
use phonenumber::{Mode, country};
use url::Host;

use super::refusal::{Checked, Refusal};
use super::text::has_hidden_characters;

/// RFC 5321 with erratum 1690: a longer address cannot be delivered.
const EMAIL_LENGTH_MAX: usize = 254;
/// E.164: digits of a whole number, without the plus.
const PHONE_DIGITS_MAX: usize = 15;
/// Country codes have one to three digits.
const COUNTRY_CODE_DIGITS_MAX: usize = 3;
/// Regular expressions that the phone library keeps compiled. Its own bound of 100 fits about ten countries; with
/// more it compiles each anew for every number, some hundred times slower. All of its metadata have fewer than this.
const PHONE_PATTERNS_MAX: usize = 8_000;

/// The country whose national phone numbers are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region(country::Id);

impl Region {
    /// Reads an ISO 3166 code of two letters, such as `UA`; `None` where the phone library has no such region.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let id = code.trim().to_ascii_uppercase().parse().ok()?;
        DATABASE.by_id(code.trim().to_ascii_uppercase().as_str()).map(|_| Self(id))
    }

    /// The ISO 3166 code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.0.as_ref()
    }
}

/// An e-mail address in lower case, its domain in ASCII (IDNA).
///
/// RFC 5321 would let the part before the @ differ by case; no provider does, and Reteno stores lower case.
pub fn canonical_email(text: &str) -> Checked<'_> {
    let text = text.trim();
    if has_hidden_characters(text) {
        return Err(Refusal::of("the e-mail address holds an invisible character"));
    }
    let (local, domain) = text.rsplit_once('@').ok_or(Refusal::of("the e-mail address has no @ sign"))?;
    check_local_part(local)?;
    let address = match ascii_domain(domain)? {
        Some(ascii) => Cow::Owned(format!("{}@{ascii}", local.to_ascii_lowercase())),
        None if text.bytes().any(|byte| byte.is_ascii_uppercase()) => Cow::Owned(text.to_ascii_lowercase()),
        None => Cow::Borrowed(text),
    };
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    check_domain(domain)?;
    if address.len() > EMAIL_LENGTH_MAX {
        return Err(Refusal::of("the e-mail address is longer than 254 characters"));
    }
    let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
    match EmailAddress::parse_with_options(&address, options) {
        Ok(_) => Ok(address),
        Err(_) => Err(Refusal::of("the e-mail address is not written as one")),
    }
}

fn check_local_part(local: &str) -> Result<(), Refusal> {
    Err(Refusal::of(if local.is_empty() {
        "the e-mail address has nothing before the @ sign"
    } else if local.contains('"') {
        "the e-mail address has a quoted part before the @ sign"
    } else if local.contains('@') {
        "the field holds more than one e-mail address"
    } else if local.contains(['<', '>', ' ']) {
        "the e-mail address has a display name or a space"
    } else if !local.is_ascii() {
        "the e-mail address has letters other than a to z before the @ sign"
    } else {
        return Ok(());
    }))
}

/// The ASCII form of a domain that is not ASCII already.
fn ascii_domain(domain: &str) -> Result<Option<String>, Refusal> {
    if domain.is_ascii() {
        return Ok(None);
    }
    match Host::parse(domain) {
        Ok(Host::Domain(ascii)) => Ok(Some(ascii)),
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => Err(Refusal::of("the e-mail address has no valid domain")),
    }
}

fn check_domain(domain: &str) -> Result<(), Refusal> {
    if domain.is_empty() {
        return Err(Refusal::of("the e-mail address has no domain"));
    }
    if domain.starts_with('[') {
        return Err(Refusal::of("the e-mail address has an IP address for a domain"));
    }
    let Some((_, top)) = domain.rsplit_once('.') else {
        return Err(Refusal::of("the e-mail address has a domain without a dot"));
    };
    let known_bytes = domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    let is_top = top.len() >= 2 && top.starts_with(|first: char| first.is_ascii_alphabetic());
    if known_bytes && is_top { Ok(()) } else { Err(Refusal::of("the e-mail address has no valid domain")) }
}

/// Lets the phone library keep what it compiles. To be called once, before many numbers are read: it changes speed
/// only.
pub fn prepare_phones() {
    // A poisoned lock means that a pattern failed to compile in another thread; numbers are then still checked.
    if let Ok(mut patterns) = DATABASE.cache().lock()
        && patterns.capacity() < PHONE_PATTERNS_MAX
    {
        patterns.set_capacity(PHONE_PATTERNS_MAX);
    }
}

/// A phone number in E.164 with its plus. `+…` and `00…` are international; anything else is national and needs a
/// region.
pub fn canonical_phone(text: &str, region: Option<Region>) -> Checked<'_> {
    let text = text.trim();
    if is_canonical_shape(text) {
        return check_international(&text[1..]).map(|()| Cow::Borrowed(text));
    }
    let cleaned = clean_phone(text)?;
    if let Some(international) = cleaned.strip_prefix('+').or_else(|| cleaned.strip_prefix("00")) {
        return from_international(international);
    }
    let region = region.ok_or(Refusal::of("the phone number has no country code, and no region is configured"))?;
    from_national(&cleaned, region)
}

fn is_canonical_shape(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Digits, at most one leading plus, and `(0)` as it stands; all other punctuation is dropped.
fn clean_phone(text: &str) -> Result<String, Refusal> {
    let text = text.strip_prefix("tel:").unwrap_or(text);
    let text = spreadsheet_integer(text).unwrap_or(text);
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '0'..='9' => cleaned.push(character),
            '+' | '\u{ff0b}' if cleaned.is_empty() => cleaned.push('+'),
            '(' if rest.as_str().starts_with("0)") => {
                rest = rest.as_str()[2..].chars();
                cleaned.push_str("(0)");
            }
            '-' | '.' | '(' | ')' | '/' | '\u{2010}'..='\u{2015}' | '\u{2212}' => {}
            space if space.is_whitespace() || has_hidden_characters(space.encode_utf8(&mut [0; 4])) => {}
            ',' | ';' => return Err(Refusal::of("the field holds more than one phone number")),
            letter if letter.is_alphabetic() => {
                return Err(Refusal::of("the phone number holds letters or an extension"));
            }
            _ => return Err(Refusal::of("the phone number holds other signs than digits")),
        }
    }
    let digits = cleaned.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 { Err(Refusal::of("the phone number holds no digits")) } else { Ok(cleaned) }
}

/// Spreadsheets and data frames write a long whole number as `380955547708.0`.
fn spreadsheet_integer(text: &str) -> Option<&str> {
    text.strip_suffix(".0").filter(|whole| whole.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `(0)` is the trunk zero, dialled only inside the country; where the number is valid only with it (Italy), it stays.
fn from_international(cleaned: &str) -> Checked<'static> {
    let without = cleaned.replacen("(0)", "", 1);
    let checked = check_international(&without);
    if checked.is_err() && cleaned.contains("(0)") {
        let with = cleaned.replacen("(0)", "0", 1);
        if check_international(&with).is_ok() {
            return Ok(Cow::Owned(format!("+{with}")));
        }
    }
    checked.map(|()| Cow::Owned(format!("+{without}")))
}

/// Digits as dialled inside a country may be with the trunk prefix, without it, or with the country code and no plus.
/// The phone library's parser takes the trunk prefix away twice (Russia's `8 800`), so the plain readings are tried
/// first, and the parser, which knows the odd national forms, only where none of them is valid.
fn from_national(cleaned: &str, region: Region) -> Checked<'static> {
    const NOT_OF_REGION: Refusal = Refusal::of("the phone number is not valid in the configured region");
    const AMBIGUOUS: Refusal = Refusal::of("the phone number can be read as two numbers of the configured region");
    let digits = cleaned.replace("(0)", "0");
    let metadata = DATABASE.by_id(region.code()).ok_or(NOT_OF_REGION)?;
    let code = metadata.country_code().to_string();
    let trunk = metadata.national_prefix().unwrap_or_default();
    let readings =
        [digits.strip_prefix(trunk).filter(|_| !trunk.is_empty()), Some(digits.as_str()), digits.strip_prefix(&code)];
    let mut found: Option<String> = None;
    for reading in readings.into_iter().flatten().map(|national| format!("{code}{national}")) {
        if check_international(&reading).is_ok() && found.replace(reading).is_some() {
            return Err(AMBIGUOUS);
        }
    }
    if let Some(found) = found {
        return Ok(Cow::Owned(format!("+{found}")));
    }
    let number = phonenumber::parse(Some(region.0), &digits).map_err(|_| NOT_OF_REGION)?;
    let number = number.format().mode(Mode::E164).to_string();
    // The result has to pass as what it claims to be, so that it is read the same when it comes back.
    if is_canonical_shape(&number) && check_international(&number[1..]).is_ok() {
        Ok(Cow::Owned(number))
    } else {
        Err(NOT_OF_REGION)
    }
}

/// Whether digits (country code first) are a valid number somewhere. Asks the phone library's metadata directly: its
/// parser would strip what looks like a trunk prefix from a number that has none.
fn check_international(digits: &str) -> Result<(), Refusal> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.is_empty() {
        return Err(Refusal::of("the phone number holds other signs than digits"));
    }
    if digits.len() > PHONE_DIGITS_MAX {
        return Err(Refusal::of("the phone number has more than 15 digits"));
    }
    for length in 1..=COUNTRY_CODE_DIGITS_MAX.min(digits.len()) {
        let (code, national) = digits.split_at(length);
        let code: u16 = code.parse().expect("one to three digits");
        if code == 0 {
            break;
        }
        if let Some(regions) = DATABASE.by_code(&code) {
            let valid = regions.iter().any(|metadata| is_valid_in(metadata, national));
            return if valid { Ok(()) } else { Err(Refusal::of("the phone number is not valid in its country")) };
        }
    }
    Err(Refusal::of("the phone number has no known country code"))
}

fn is_valid_in(metadata: &phonenumber::Metadata, national: &str) -> bool {
    if metadata.leading_digits().is_some_and(|leading| leading.find(national).is_none_or(|found| found.start() != 0)) {
        return false;
    }
    let kinds = metadata.descriptors();
    // Cheapest first: nearly every number of a customer is a mobile one.
    let mut others = [
        kinds.mobile(),
        kinds.fixed_line(),
        kinds.voip(),
        kinds.toll_free(),
        kinds.personal_number(),
        kinds.shared_cost(),
        kinds.premium_rate(),
        kinds.pager(),
        kinds.uan(),
        kinds.voicemail(),
    ]
    .into_iter()
    .flatten();
    kinds.general().is_match(national) && others.any(|kind| kind.is_match(national))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_in_canonical_form() {
        let rows = [
            ("olena@example.com", "olena@example.com"),
            // Reteno stores lower case, so both parts are lowered
            (" Olena.P+News@Example.COM ", "olena.p+news@example.com"),
            // an internationalised domain, in either spelling
            ("olena@пошта.укр", "olena@xn--80a1acn3a.xn--j1amh"),
            ("olena@XN--80A1ACN3A.xn--j1amh", "olena@xn--80a1acn3a.xn--j1amh"),
            // signs that are rare and allowed
            ("o'neil_1%a@ex-ample.co.uk", "o'neil_1%a@ex-ample.co.uk"),
        ];
        for (given, wanted) in rows {
            assert_eq!(canonical_email(given).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn emails_that_reteno_would_refuse() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long = format!("a@{}.com", "b.".repeat(130).trim_end_matches('.'));
        let rows = [
            // no parts
            ("olena", "the e-mail address has no @ sign"),
            ("@example.com", "the e-mail address has nothing before the @ sign"),
            ("olena@", "the e-mail address has no domain"),
            ("olena@localhost", "the e-mail address has a domain without a dot"),
            // RFC forms that no mailing system takes
            ("\"olena p\"@example.com", "the e-mail address has a quoted part before the @ sign"),
            ("olena@[127.0.0.1]", "the e-mail address has an IP address for a domain"),
            ("olena@127.0.0.1", "the e-mail address has no valid domain"),
            ("Olena <olena@example.com>", "the e-mail address has a display name or a space"),
            // two in one field
            ("a@example.com,b@example.com", "the field holds more than one e-mail address"),
            ("a@example.com; b@example.com", "the field holds more than one e-mail address"),
            // syntax
            ("a..b@example.com", "the e-mail address is not written as one"),
            (".a@example.com", "the e-mail address is not written as one"),
            ("a@example..com", "the e-mail address is not written as one"),
            ("a@-example.com", "the e-mail address is not written as one"),
            ("a@exa_mple.com", "the e-mail address has no valid domain"),
            ("a@example.c", "the e-mail address has no valid domain"),
            ("a@example.com.", "the e-mail address has no valid domain"),
            ("оlena@example.com", "the e-mail address has letters other than a to z before the @ sign"),
            ("a\u{200b}b@example.com", "the e-mail address holds an invisible character"),
            // lengths of RFC 5321
            (&long_local, "the e-mail address is not written as one"),
            (&long, "the e-mail address is longer than 254 characters"),
        ];
        for (given, wanted) in rows {
            assert_eq!(canonical_email(given), Err(Refusal::of(wanted)), "{given}");
        }
    }

    #[test]
    fn phones_in_canonical_form() {
        let ukraine = Region::parse("ua");
        let rows = [
            // international forms need no region
            ("+380955547708", None, "+380955547708"),
            ("+380 (95) 554-77-08", None, "+380955547708"),
            ("00380955547708", None, "+380955547708"),
            ("tel:+380-95-554-77-08", None, "+380955547708"),
            ("\u{202a}+380\u{a0}95\u{2011}554\u{2011}77\u{2011}08\u{202c}", None, "+380955547708"),
            // the trunk zero in brackets goes, in Italy it stays
            ("+380 (0)95 554 77 08", None, "+380955547708"),
            ("+39 (0)2 3661 8300", None, "+390236618300"),
            // national forms of the region
            ("0955547708", ukraine, "+380955547708"),
            ("(095) 554-77-08", ukraine, "+380955547708"),
            ("955547708", ukraine, "+380955547708"),
            ("(0)95 554 77 08", ukraine, "+380955547708"),
            // Reteno's own form, and a spreadsheet's
            ("380955547708", ukraine, "+380955547708"),
            ("380955547708.0", ukraine, "+380955547708"),
            // the region does not bend foreign numbers
            ("+48501234567", ukraine, "+48501234567"),
            ("+1 202-555-0123", ukraine, "+12025550123"),
            ("+1 242 365 1234", ukraine, "+12423651234"),
            ("202-555-0123", Region::parse("US"), "+12025550123"),
            ("8 (800) 555-35-35", Region::parse("RU"), "+78005553535"),
            ("8005553535", Region::parse("RU"), "+78005553535"),
            ("78005553535", Region::parse("RU"), "+78005553535"),
            ("+78005553535", Region::parse("RU"), "+78005553535"),
            // a zero that belongs to the number, and a national form that only the library's parser knows
            ("02 3661 8300", Region::parse("IT"), "+390236618300"),
            ("011 15-2345-6789", Region::parse("AR"), "+5491123456789"),
        ];
        for (given, region, wanted) in rows {
            assert_eq!(canonical_phone(given, region).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn phones_that_are_not_sent() {
        let ukraine = Region::parse("UA");
        let no_country = "the phone number has no country code, and no region is configured";
        let rows = [
            // 20 would be Egypt, 2025550123 is Washington: not guessed
            ("2025550123", None, no_country),
            ("0955547708", None, no_country),
            ("380955547708", None, no_country),
            ("+380", None, "the phone number is not valid in its country"),
            ("+38095554770", None, "the phone number is not valid in its country"),
            ("+3809555477081", None, "the phone number is not valid in its country"),
            ("+0955547708", ukraine, "the phone number has no known country code"),
            ("+9990955547708", None, "the phone number has no known country code"),
            ("+3809555477080000000", None, "the phone number has more than 15 digits"),
            ("80955547708", ukraine, "the phone number is not valid in the configured region"),
            ("48501234567", ukraine, "the phone number is not valid in the configured region"),
            // with and without the country code it is a number of Germany
            ("4930123456", Region::parse("DE"), "the phone number can be read as two numbers of the configured region"),
            ("112", ukraine, "the phone number is not valid in the configured region"),
            ("+380955547708 ext. 12", None, "the phone number holds letters or an extension"),
            ("3.80956E+11", ukraine, "the phone number holds letters or an extension"),
            ("0955547708, 0671234567", ukraine, "the field holds more than one phone number"),
            ("+380#955547708", None, "the phone number holds other signs than digits"),
            ("38+0955547708", None, "the phone number holds other signs than digits"),
            ("-", ukraine, "the phone number holds no digits"),
        ];
        for (given, region, wanted) in rows {
            assert_eq!(canonical_phone(given, region), Err(Refusal::of(wanted)), "{given}");
        }
    }

    #[test]
    fn regions_are_iso_codes() {
        assert_eq!(Region::parse(" ua ").as_ref().map(Region::code), Some("UA"));
        assert_eq!(Region::parse("Ukraine"), None);
        assert_eq!(Region::parse("ZZ"), None);
    }
}
