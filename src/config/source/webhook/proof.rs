//! The keys of `[source.NAME.webhook]` by which a sender proves itself.

use std::time::Duration;

use http::HeaderName;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use toml::Value;

use super::{Part, RawWebhook};
use crate::config::raw::Leaf;
use crate::config::source::scope::FilledText;
use crate::source::webhook::Verification;
use crate::source::webhook::hmac::{Algorithm, Encoding, HmacScheme, Message, TimeHeader};
use crate::source::webhook::standard::StandardKey;
use crate::source::webhook::verify::{EspoKey, TOLERANCE};

/// A token in a path is all that protects it: shorter ones can be tried.
const PATH_TOKEN_CHARS_MIN: usize = 16;

/// What is known of the proof.
pub(super) enum Proof {
    Of(Verification),
    /// It has been told.
    Wrong,
    /// The preset has a webhook, and the operator does not use it.
    Off,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    PathToken,
    Basic,
    BodyToken,
    Standard,
    HubspotV1,
    HubspotV2,
    HubspotV3,
    Espocrm,
    Hmac,
}

impl Kind {
    const WORDS: [(&str, Self); 10] = [
        ("none", Self::None),
        ("path_token", Self::PathToken),
        ("basic", Self::Basic),
        ("body_token", Self::BodyToken),
        ("standard-webhooks", Self::Standard),
        ("hubspot-v1", Self::HubspotV1),
        ("hubspot-v2", Self::HubspotV2),
        ("hubspot-v3", Self::HubspotV3),
        ("espocrm", Self::Espocrm),
        ("hmac", Self::Hmac),
    ];
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHmac {
    header: Option<Leaf>,
    algo: Option<Leaf>,
    encoding: Option<Leaf>,
    prefix: Option<Leaf>,
    message: Option<Leaf>,
    timestamp_header: Option<Leaf>,
    timestamp_unit: Option<Leaf>,
    tolerance: Option<Leaf>,
}

pub(super) fn resolve(part: &mut Part<'_>, raw: &RawWebhook) -> Proof {
    let is_meant = part.reader.is_set_below(part.section);
    if is_meant {
        let words = Kind::WORDS.map(|(word, _)| format!("{word:?}")).join(" | ");
        part.required(raw.verify.as_ref(), "verify", &words);
    }
    let Some(kind) = part.reader.choice(raw.verify.as_ref(), &Kind::WORDS, &[]) else {
        return if raw.verify.is_some() || is_meant { Proof::Wrong } else { Proof::Off };
    };
    let told = part.reader.problems.len();
    refuse_foreign(part, raw, kind);
    let name = match kind {
        Kind::None if part.reader.problems.len() > told => return Proof::Wrong,
        Kind::None if is_meant => return Proof::Of(Verification::None),
        Kind::None => return Proof::Off,
        Kind::PathToken | Kind::BodyToken => "token",
        Kind::Basic => "password",
        Kind::Standard | Kind::HubspotV1 | Kind::HubspotV2 | Kind::HubspotV3 | Kind::Espocrm | Kind::Hmac => "secret",
    };
    let secrets = match name {
        "token" => part.secret("token", raw.token.as_ref(), raw.token_file.as_ref()).into_iter().collect(),
        "password" => part.secret("password", raw.password.as_ref(), raw.password_file.as_ref()).into_iter().collect(),
        _ => secrets(part, raw),
    };
    let is_wrong = part.reader.problems.len() > told;
    let Some((first, others)) = secrets.split_first().filter(|_| !is_wrong) else {
        if !is_wrong && is_meant {
            let problem = part.reader.problem(&part.section.child(name), "is missing");
            let places = format!("text, \"{{secret.NAME}}\", {name}_file or the credential {}", part.credential(name));
            part.reader.push(problem.accepted(places));
        }
        return if is_wrong || is_meant { Proof::Wrong } else { Proof::Off };
    };
    match of_kind(part, raw, kind, (first, others)) {
        Some(verification) => Proof::Of(verification),
        None => Proof::Wrong,
    }
}

/// Keys by which another proof is given: what the operator wrote and nobody reads would be thought to protect.
fn refuse_foreign(part: &mut Part<'_>, raw: &RawWebhook, kind: Kind) {
    let RawWebhook { token, token_file, token_path, user, password, password_file, secret, secret_file, .. } = raw;
    let (of_token, of_body) = ([token, token_file], [token_path]);
    let of_basic = [user, password, password_file];
    let of_secret = [secret, secret_file, &raw.secrets];
    let of_hmac = [&raw.hmac];
    let foreign: [&[&Option<Leaf>]; 5] = match kind {
        Kind::None => [&of_token, &of_body, &of_basic, &of_secret, &of_hmac],
        Kind::PathToken => [&of_body, &of_basic, &of_secret, &of_hmac, &[]],
        Kind::BodyToken => [&of_basic, &of_secret, &of_hmac, &[], &[]],
        Kind::Basic => [&of_token, &of_body, &of_secret, &of_hmac, &[]],
        Kind::Standard | Kind::HubspotV1 | Kind::HubspotV2 | Kind::HubspotV3 | Kind::Espocrm => {
            [&of_token, &of_body, &of_basic, &of_hmac, &[]]
        }
        Kind::Hmac => [&of_token, &of_body, &of_basic, &[], &[]],
    };
    for leaf in foreign.into_iter().flatten().filter_map(|leaf| leaf.as_ref()) {
        if part.reader.is_set(&leaf.key) || part.reader.is_set_below(&leaf.key) {
            let problem = part.reader.problem(&leaf.key, "proves nothing with this verify");
            part.reader.push(problem.hint("remove it, or change verify"));
        }
    }
}

fn of_kind(
    part: &mut Part<'_>,
    raw: &RawWebhook,
    kind: Kind,
    (first, others): (&SecretString, &[SecretString]),
) -> Option<Verification> {
    let all = || [first].into_iter().chain(others).cloned().collect::<Vec<_>>();
    Some(match kind {
        Kind::None => Verification::None,
        Kind::PathToken => path_token(part, first)?,
        Kind::BodyToken => {
            part.required(raw.token_path.as_ref(), "token_path", "the JSONPath of the token in the body");
            Verification::BodyToken { path: part.path(raw.token_path.as_ref())?, token: first.clone() }
        }
        Kind::Basic => {
            part.required(raw.user.as_ref(), "user", "the user's name");
            let user = part.filled(raw.user.as_ref(), "the user's name")?.expose().to_owned();
            Verification::Basic { user, password: first.clone() }
        }
        Kind::Standard => {
            let keys: Vec<StandardKey> = all().iter().filter_map(|text| standard_key(part, text)).collect();
            (keys.len() == others.len() + 1).then_some(Verification::Standard(keys))?
        }
        Kind::HubspotV1 => Verification::HubspotV1(all()),
        Kind::HubspotV2 => Verification::HubspotV2(all()),
        Kind::HubspotV3 => Verification::HubspotV3(all()),
        Kind::Espocrm => Verification::Espocrm(all().iter().map(|text| EspoKey::of(text.expose_secret())).collect()),
        Kind::Hmac => Verification::Hmac(hmac(part, raw.hmac.as_ref(), all())?),
    })
}

/// `secret`, and those of `secrets` after it: a delivery by any of them passes.
fn secrets(part: &mut Part<'_>, raw: &RawWebhook) -> Vec<SecretString> {
    let first = part.secret("secret", raw.secret.as_ref(), raw.secret_file.as_ref());
    let mut all: Vec<SecretString> = first.into_iter().collect();
    if let Some(leaf) = &raw.secrets {
        for text in
            part.reader.list(Some(leaf), "a list of secrets, each as text or \"{secret.NAME}\"").unwrap_or_default()
        {
            all.extend(part.scope.fill(part.reader, leaf, &text).map(FilledText::into_secret));
        }
    }
    all
}

fn path_token(part: &mut Part<'_>, token: &SecretString) -> Option<Verification> {
    let text = token.expose_secret();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    if is_plain && text.len() >= PATH_TOKEN_CHARS_MIN {
        return Some(Verification::PathToken(token.clone()));
    }
    let problem = part.reader.problem(&part.section.child("token"), "cannot protect an address").value("****");
    let accepted = format!("at least {PATH_TOKEN_CHARS_MIN} of the letters a-z and A-Z, digits, -, ., _ and ~");
    part.reader.push(problem.accepted(accepted).hint("openssl rand -hex 24"));
    None
}

fn standard_key(part: &mut Part<'_>, text: &SecretString) -> Option<StandardKey> {
    match StandardKey::parse(text.expose_secret()) {
        Ok(key) => Some(key),
        Err(error) => {
            let problem = part.reader.problem(&part.section.child("secret"), error.to_string()).value("****");
            part.reader.push(problem.accepted("a key as the sender shows it: whsec_… or whpk_…"));
            None
        }
    }
}

fn hmac(part: &mut Part<'_>, leaf: Option<&Leaf>, secrets: Vec<SecretString>) -> Option<HmacScheme> {
    const ALGORITHMS: [(&str, Algorithm); 3] =
        [("sha1", Algorithm::Sha1), ("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)];
    const ENCODINGS: [(&str, Encoding); 2] = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let key = part.section.child("hmac");
    let leaf = part.reader.required(leaf, &key, "a table: { header = \"…\", … }")?;
    let table = part.reader.table(Some(leaf))?;
    let raw: RawHmac = part.reader.section(&key, table, &[]);
    part.reader.required(raw.header.as_ref(), &key.child("header"), HEADER);
    let header = header(part, raw.header.as_ref());
    let algorithm = match &raw.algo {
        Some(leaf) => part.reader.choice(Some(leaf), &ALGORITHMS, &[]),
        None => Some(Algorithm::Sha256),
    };
    let encoding = match &raw.encoding {
        Some(leaf) => part.reader.choice(Some(leaf), &ENCODINGS, &[]),
        None => Some(Encoding::Hex),
    };
    let prefix = raw.prefix.as_ref().map_or(Some(String::new()), |leaf| match &leaf.value {
        Value::String(text) => Some(text.clone()),
        _ => part.reader.text(Some(leaf), "text such as \"sha256=\"").map(str::to_owned),
    });
    let message = message(part, raw.message.as_ref());
    let timestamp = time_header(part, &raw, message.as_ref());
    Some(HmacScheme {
        secrets,
        header: header?,
        algorithm: algorithm?,
        encoding: encoding?,
        prefix: prefix?,
        message: message?,
        timestamp: timestamp?,
    })
}

const HEADER: &str = "the name of a header such as \"X-Signature\"";

fn header(part: &mut Part<'_>, leaf: Option<&Leaf>) -> Option<HeaderName> {
    let text = part.reader.text(leaf, HEADER)?;
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Some(name),
        Err(_) => part.reader.refuse(leaf?, "is not the name of a header", HEADER),
    }
}

fn message(part: &mut Part<'_>, leaf: Option<&Leaf>) -> Option<Message> {
    const ACCEPTED: &str = "text with {body}, and {timestamp}, {method}, {url} where they are signed";
    let text = match leaf {
        Some(leaf) => part.reader.text(Some(leaf), ACCEPTED)?,
        None => "{body}",
    };
    match Message::parse(text) {
        Ok(message) => Some(message),
        Err(error) => part.reader.refuse(leaf?, error.to_string(), ACCEPTED),
    }
}

/// The outer `None` is wrong. A time that is not signed could be set to anything.
#[expect(clippy::option_option, reason = "wrong and missing are two things, as everywhere in the configuration")]
fn time_header(part: &mut Part<'_>, raw: &RawHmac, message: Option<&Message>) -> Option<Option<TimeHeader>> {
    const UNITS: [(&str, i64); 2] = [("s", 1000), ("ms", 1)];
    let unit = match &raw.timestamp_unit {
        Some(leaf) => part.reader.choice(Some(leaf), &UNITS, &[]),
        None => Some(1000),
    };
    let tolerance = match &raw.tolerance {
        Some(leaf) => part.reader.duration(Some(leaf), Duration::from_secs(1)..=Duration::from_hours(1)),
        None => Some(TOLERANCE),
    };
    let has_time = message?.has_time();
    match (&raw.timestamp_header, has_time) {
        (Some(leaf), true) => {
            let header = header(part, Some(leaf))?;
            Some(Some(TimeHeader { header, millis_each: unit?, tolerance: tolerance? }))
        }
        (Some(leaf), false) => part.reader.refuse(
            leaf,
            "is not signed: hmac.message does not name {timestamp}",
            "{timestamp} in the message",
        ),
        (None, true) => {
            let key = part.section.child("hmac").child("timestamp_header");
            part.reader.required(None, &key, "the header that holds the {timestamp} of the message");
            None
        }
        (None, false) => unit.zip(tolerance).map(|_| None),
    }
}
