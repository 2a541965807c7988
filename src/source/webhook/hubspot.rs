//! `HubSpot`'s three signatures, as its documents describe them. v3 needs the public URL as `HubSpot` sees it.

use std::borrow::Cow;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::verify::{MISMATCH, SHA256_BYTES, TOLERANCE, any, from_hex, header, moment, same};
use super::{Delivery, Head, Refused};

/// The signature that the head tells; it is not proven.
pub(super) fn claim_hash(version: &str, head: &Head<'_>) -> Result<Vec<u8>, Refused> {
    let told =
        header(head.headers, "x-hubspot-signature-version", "the header X-HubSpot-Signature-Version is missing")?;
    if told != version.as_bytes() {
        return Err(Refused::Unverified("X-HubSpot-Signature-Version is another than the configured one"));
    }
    let given = header(head.headers, "x-hubspot-signature", "the header X-HubSpot-Signature is missing")?;
    from_hex(given).filter(|given| given.len() == SHA256_BYTES).ok_or(MISMATCH)
}

/// v1 is the hash of secret and body, v2 of secret, method, URL and body; both in hex.
pub(super) fn verify_hash(version: &str, secrets: &[SecretString], delivery: &Delivery<'_>) -> Result<(), Refused> {
    let (given, head) = (claim_hash(version, &delivery.head)?, &delivery.head);
    let (method, url) = if version == "v1" { ("", "") } else { (head.method, head.url) };
    let is_one = |secret: &SecretString| {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [secret.expose_secret().as_bytes(), method.as_bytes(), url.as_bytes(), delivery.body] {
            hash.update(part);
        }
        same(hash.finish().as_ref(), &given)
    };
    if any(secrets, is_one) { Ok(()) } else { Err(MISMATCH) }
}

/// The time and the signature that the head tells; neither is proven.
pub(super) fn claim_v3<'a>(head: &Head<'a>) -> Result<(&'a [u8], Vec<u8>), Refused> {
    let time =
        header(head.headers, "x-hubspot-request-timestamp", "the header X-HubSpot-Request-Timestamp is missing")?;
    let given = header(head.headers, "x-hubspot-signature-v3", "the header X-HubSpot-Signature-v3 is missing")?;
    let time = moment(time, 1, TOLERANCE, head.now)?;
    let given = STANDARD.decode(given).ok().filter(|given| given.len() == SHA256_BYTES);
    Ok((time, given.ok_or(MISMATCH)?))
}

/// v3 is the HMAC-SHA256 of method, URL, body and time (in milliseconds), in base64.
pub(super) fn verify_v3(secrets: &[SecretString], delivery: &Delivery<'_>) -> Result<(), Refused> {
    let (time, given) = claim_v3(&delivery.head)?;
    let url = url_as_signed(delivery.head.url);
    let is_one = |secret: &SecretString| {
        let parts = [delivery.head.method.as_bytes(), url.as_bytes(), delivery.body, time];
        let tag = super::hmac::tag(aws_lc_rs::hmac::HMAC_SHA256, secret.expose_secret().as_bytes(), parts);
        same(tag.as_ref(), &given)
    };
    if any(secrets, is_one) { Ok(()) } else { Err(MISMATCH) }
}

/// The escapes that are undone before signing, and no others.
const UNDONE: [(&[u8; 2], char); 12] = [
    (b"3A", ':'),
    (b"2F", '/'),
    (b"3F", '?'),
    (b"40", '@'),
    (b"21", '!'),
    (b"24", '$'),
    (b"27", '\''),
    (b"28", '('),
    (b"29", ')'),
    (b"2A", '*'),
    (b"2C", ','),
    (b"3B", ';'),
];

/// The URL without its fragment and without the escapes of the list.
fn url_as_signed(url: &str) -> Cow<'_, str> {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    if !url.contains('%') {
        return Cow::Borrowed(url);
    }
    let mut parts = url.split('%');
    let mut signed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let undone = part.as_bytes().first_chunk::<2>();
        let undone = undone.and_then(|code| UNDONE.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)));
        if let Some((code, letter)) = undone {
            signed.push(*letter);
            signed.push_str(&part[code.len()..]);
        } else {
            signed.push('%');
            signed.push_str(part);
        }
    }
    Cow::Owned(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_escapes_are_undone() {
        let cases = [
            ("https://a/b?c=1", "https://a/b?c=1"),
            ("https://a/b#c%2F", "https://a/b"),
            ("https://a/%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B", "https://a/:/?@!$'()*,;"),
            ("https://a/%3a%2f", "https://a/:/"),
            // once, not until nothing is left
            ("https://a/%252F", "https://a/%252F"),
            ("https://a/%20%26%3D%2B%23%25", "https://a/%20%26%3D%2B%23%25"),
            ("https://a/%", "https://a/%"),
            ("https://a/%2", "https://a/%2"),
            ("https://a/%é", "https://a/%é"),
        ];
        for (wire, signed) in cases {
            assert_eq!(url_as_signed(wire), signed, "{wire}");
        }
    }
}
