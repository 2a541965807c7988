//! Bodies as UTF-8, whatever charset their header or their first bytes name. Pure.
//!
//! Bytes that mean nothing in that charset are never replaced in silence: each becomes one that no UTF-8 text holds, so that
//! the value around it, and only that value, cannot be read.

use encoding_rs::{DecoderResult, Encoding, UTF_8};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Stands for what could not be decoded.
const UNDECODED: u8 = 0xff;

/// `body` as UTF-8; `None` where it stays as it is: it is in UTF-8 already, or its charset is not named, or nobody knows it.
/// A byte order mark is certain, so it overrides the header.
#[must_use]
pub fn in_utf8(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    let content_type = || headers.get(CONTENT_TYPE)?.to_str().ok();
    let by_header = || Some((content_type().and_then(charset)?, 0));
    let (encoding, start) = Encoding::for_bom(body).or_else(by_header)?;
    if encoding == UTF_8 || (encoding.is_ascii_compatible() && body.is_ascii()) {
        return None;
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let (mut rest, mut text) = (&body[start..], Vec::with_capacity(body.len() + body.len() / 2));
    let mut piece = [0; 4096];
    loop {
        let (result, read, written) = decoder.decode_to_utf8_without_replacement(rest, &mut piece, true);
        rest = &rest[read..];
        text.extend_from_slice(&piece[..written]);
        match result {
            DecoderResult::InputEmpty => return Some(text),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(_, _) => text.push(UNDECODED),
        }
    }
}

/// The encoding that `Content-Type: application/json; charset=windows-1251` names.
fn charset(content_type: &str) -> Option<&'static Encoding> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| Encoding::for_label(value.trim().trim_matches('"').as_bytes())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, a body, and what it is in UTF-8 where it is not already.
    type Row<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);

    #[test]
    fn a_body_is_read_in_the_charset_that_its_header_or_its_mark_names() {
        let of = |content_type: &str, body: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
            in_utf8(&headers, body)
        };
        let json = "application/json; charset=windows-1251";
        let rows: [Row<'_>; 10] = [
            (json, b"{\"n\":\"\xb2\xe2\xe0\xed\"}", Some("{\"n\":\"Іван\"}".as_bytes())),
            ("text/json;CHARSET=\"Windows-1251\"", b"\xe2", Some("в".as_bytes())),
            ("application/json; charset=iso-8859-1", b"Jos\xe9", Some("José".as_bytes())),
            ("application/json; charset=utf-16le", b"{\0}\0", Some(b"{}")),
            ("application/json", b"\xff\xfe{\0}\0", Some(b"{}")),
            (json, b"\xef\xbb\xbf\xd0\xb2", None),
            ("application/json; charset=utf-8", b"\xe2", None),
            ("application/json; charset=nobody-knows", b"\xe2", None),
            ("application/json; boundary=windows-1251", b"\xe2", None),
            // a byte that the charset leaves open costs its value: it becomes no letter
            ("application/json; charset=windows-1253", b"{\"n\":\"\xd2\"}", Some(b"{\"n\":\"\xff\"}")),
        ];
        for (content_type, body, wanted) in rows {
            assert_eq!(of(content_type, body).as_deref(), wanted, "{content_type}");
        }
        let long = "в".repeat(100_000);
        let (bytes, ..) = encoding_rs::WINDOWS_1251.encode(&long);
        assert_eq!(of(json, &bytes), Some(long.into_bytes()));
        assert_eq!(in_utf8(&HeaderMap::new(), b"\xe2"), None);
    }
}
