//! E-mail addresses in canonical form. Reteno stores them in lower case.

use std::borrow::Cow;

use email_address::{EmailAddress, Options};
use url::Host;

use super::refusal::{Checked, Refusal};
use super::text::has_hidden_characters;

/// RFC 5321 with erratum 1690: a longer address cannot be delivered.
const EMAIL_LENGTH_MAX: usize = 254;
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
}
