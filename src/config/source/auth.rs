//! `[source.NAME.auth]`: how a CRM lets its requests in. Asks for nothing: tokens are had where they are needed.

use std::time::Duration;

use http::{HeaderName, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use toml::Value;
use url::Url;

use super::contact::json_path;
use super::scope::{FilledText, Scope};
use super::tokens::{self, OAuthConfig};
use crate::config::problem::KeyPath;
use crate::config::raw::{self, Leaf};
use crate::config::reader::Reader;
use crate::config::secret::{self, Place};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAuth {
    kind: Option<Leaf>,
    pub(super) refresh_on: Option<Leaf>,
    header: Option<Leaf>,
    pub(super) prefix: Option<Leaf>,
    token: Option<Leaf>,
    token_file: Option<Leaf>,
    key: Option<Leaf>,
    key_file: Option<Leaf>,
    user: Option<Leaf>,
    password: Option<Leaf>,
    password_file: Option<Leaf>,
    pub(super) grant: Option<Leaf>,
    pub(super) authorize_url: Option<Leaf>,
    pub(super) token_url: Option<Leaf>,
    pub(super) token_body: Option<Leaf>,
    pub(super) client_auth: Option<Leaf>,
    pub(super) client_id: Option<Leaf>,
    pub(super) client_secret: Option<Leaf>,
    pub(super) client_secret_file: Option<Leaf>,
    pub(super) redirect_uri: Option<Leaf>,
    pub(super) scope: Option<Leaf>,
    pub(super) extra: Option<Leaf>,
    pub(super) authorize_extra: Option<Leaf>,
    pub(super) base_url_path: Option<Leaf>,
    pub(super) error_path: Option<Leaf>,
    pub(super) refresh_token_lifetime: Option<Leaf>,
    pub(super) access_token_lifetime: Option<Leaf>,
    pub(super) subject: Option<Leaf>,
    pub(super) audience: Option<Leaf>,
    pub(super) private_key_file: Option<Leaf>,
}

/// How a source's requests are let in.
#[derive(Clone, Debug)]
pub enum AuthConfig {
    /// Nothing is sent, or the address itself holds a secret.
    None,
    /// The same header in every request.
    Header {
        /// The header's name.
        name: HeaderName,
        /// Its whole value, as a header may hold it.
        value: SecretString,
    },
    /// Tokens that are asked for and renewed.
    OAuth2(Box<OAuthConfig>),
}

#[derive(Clone, Copy)]
enum Kind {
    None,
    Bearer,
    ApiKey,
    Basic,
    OAuth2,
}

impl Kind {
    const WORDS: [(&str, Self); 5] = [
        ("none", Self::None),
        ("bearer", Self::Bearer),
        ("api_key", Self::ApiKey),
        ("basic", Self::Basic),
        ("oauth2", Self::OAuth2),
    ];

    /// Its keys besides `kind`.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Bearer => &["header", "prefix", "token", "token_file"],
            Self::ApiKey => &["header", "prefix", "key", "key_file"],
            Self::Basic => &["user", "password", "password_file"],
            Self::OAuth2 => tokens::KEYS,
        }
    }
}

/// Names that stand for Reteno's own authorization and its own credential.
const RESERVED: &str = "reteno";

pub(super) fn resolve(reader: &mut Reader, leaf: Option<&Leaf>, scope: &Scope) -> Option<AuthConfig> {
    let Some(leaf) = leaf else { return Some(AuthConfig::None) };
    let table = reader.table(Some(leaf))?;
    let keys: Vec<String> = table.keys().cloned().collect();
    let raw: RawAuth = reader.section(&leaf.key, table, &[]);
    let section = &leaf.key;
    reader.required(
        raw.kind.as_ref(),
        &section.child("kind"),
        "\"none\" | \"bearer\" | \"api_key\" | \"basic\" | \"oauth2\"",
    );
    let kind = reader.choice(raw.kind.as_ref(), &Kind::WORDS, &[])?;
    refuse_foreign(reader, section, kind, &keys);
    if scope.source() == RESERVED {
        let problem =
            reader.problem(&section.parent().unwrap_or_default(), "has the name of Reteno's own authorization");
        reader.push(problem.accepted("another name for a source with [source.NAME.auth]"));
        return None;
    }
    let mut part = Part { reader, scope, section };
    match kind {
        Kind::None => Some(AuthConfig::None),
        Kind::Bearer => bearer(&mut part, &raw),
        Kind::ApiKey => api_key(&mut part, &raw),
        Kind::Basic => basic(&mut part, &raw),
        Kind::OAuth2 => tokens::resolve(&mut part, &raw).map(|config| AuthConfig::OAuth2(Box::new(config))),
    }
}

/// A key of another kind means nothing. One that a preset has is no slip of the operator's, who chose another kind.
fn refuse_foreign(reader: &mut Reader, section: &KeyPath, kind: Kind, keys: &[String]) {
    let known = raw::known_keys::<RawAuth>();
    for name in keys.iter().map(String::as_str).filter(|name| *name != "kind" && known.contains(name)) {
        let key = section.child(name);
        if !kind.keys().contains(&name) && reader.is_set(&key) {
            let owners = Kind::WORDS.into_iter().filter(|(_, kind)| kind.keys().contains(&name));
            let owners: Vec<String> = owners.map(|(word, _)| format!("kind = {word:?}")).collect();
            let what = format!("has a meaning with {} only", owners.join(" or "));
            let problem = reader.problem(&key, what).hint("remove it, or change the kind");
            reader.push(problem);
        }
    }
}

/// What every part of the section needs.
pub(super) struct Part<'a> {
    pub(super) reader: &'a mut Reader,
    pub(super) scope: &'a Scope,
    pub(super) section: &'a KeyPath,
}

impl Part<'_> {
    /// A key that must be there.
    pub(super) fn required(&mut self, leaf: Option<&Leaf>, name: &str, accepted: &str) {
        self.reader.required(leaf, &self.section.child(name), accepted);
    }

    /// Text with the source's values in place.
    pub(super) fn filled(&mut self, leaf: Option<&Leaf>, accepted: &str) -> Option<FilledText> {
        let text = self.reader.text(leaf, accepted)?;
        self.scope.fill(self.reader, leaf?, text)
    }

    /// The same where it is shown to people, or becomes an address.
    pub(super) fn plain(&mut self, leaf: Option<&Leaf>, accepted: &str) -> Option<String> {
        match self.filled(leaf, accepted)? {
            FilledText::Plain(text) => Some(text),
            FilledText::Secret(_) => self.reader.refuse(leaf?, "would show a secret", accepted),
        }
    }

    /// An address, as text and parsed.
    pub(super) fn url(&mut self, leaf: Option<&Leaf>) -> Option<(String, Url)> {
        let text = self.plain(leaf, "https://HOST/PATH")?;
        let filled = Leaf::of(leaf?.key.clone(), Value::String(text.clone()));
        self.reader.url(Some(&filled)).map(|url| (text, url))
    }

    /// A path of RFC 9535.
    pub(super) fn path(&mut self, leaf: Option<&Leaf>) -> Option<String> {
        let text = self.reader.text(leaf, "a JSONPath such as \"$.error\"")?;
        json_path(self.reader, leaf?, text).map(|()| text.to_owned())
    }

    /// A secret that may stand in `name`, in `NAME_file`, or in the credential `SOURCE_NAME`. `None` without a problem
    /// where it stands nowhere.
    pub(super) fn secret(&mut self, name: &str, value: Option<&Leaf>, file: Option<&Leaf>) -> Option<SecretString> {
        // what a preset says gives way to what the operator says
        let value = value.filter(|leaf| file.is_none() || self.reader.is_set(&leaf.key));
        let file = file.filter(|leaf| value.is_none() || self.reader.is_set(&leaf.key));
        if let (Some(leaf), None) = (value, file)
            && let Value::String(text) = &leaf.value
            && text.contains("{secret.")
        {
            return self.scope.fill(self.reader, leaf, text).map(FilledText::into_secret);
        }
        let credential = format!("{}_{name}", self.scope.source());
        let keys = format!("{name}, {name}_file");
        let place = Place { credential: &credential, keys: &keys, accepted: "text, or \"{secret.NAME}\"" };
        secret::resolve(self.reader, &place, value, file)
    }

    /// The same where it must be there.
    pub(super) fn demanded(&mut self, name: &str, value: Option<&Leaf>, file: Option<&Leaf>) -> Option<SecretString> {
        let told = self.reader.problems.len();
        let found = self.secret(name, value, file);
        if found.is_none() && self.reader.problems.len() == told {
            let credential = format!("the systemd credential {}_{name}", self.scope.source());
            let problem = self.reader.problem(&self.section.child(name), "is missing");
            self.reader.push(problem.accepted(format!("text, \"{{secret.NAME}}\", {name}_file or {credential}")));
        }
        found
    }

    fn header(&mut self, leaf: Option<&Leaf>, usual: Option<HeaderName>) -> Option<HeaderName> {
        const ACCEPTED: &str = "the name of a header such as \"X-Api-Key\"";
        if let (None, Some(usual)) = (leaf, usual) {
            return Some(usual);
        }
        self.required(leaf, "header", ACCEPTED);
        let text = self.reader.text(leaf, ACCEPTED)?;
        match HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => Some(name),
            Err(_) => self.reader.refuse(leaf?, "is not the name of a header", ACCEPTED),
        }
    }

    /// The word before a token.
    pub(super) fn prefix(&mut self, leaf: Option<&Leaf>, usual: &str) -> Option<String> {
        const ACCEPTED: &str = "the word before the token such as \"Bearer\"";
        let Some(leaf) = leaf else { return Some(usual.to_owned()) };
        let text = self.reader.text(Some(leaf), ACCEPTED)?;
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(text.to_owned());
        }
        self.reader.refuse(leaf, "is not one word of plain letters", ACCEPTED)
    }

    /// The secret with its prefix, where a header may hold it. `name` is the key that is to be mended.
    fn value(&mut self, name: &str, prefix: &str, secret: &SecretString) -> Option<SecretString> {
        let blank = if prefix.is_empty() { "" } else { " " };
        let text = format!("{prefix}{blank}{}", secret.expose_secret());
        if http::HeaderValue::from_str(&text).is_ok() {
            return Some(SecretString::from(text));
        }
        let problem = self.reader.problem(&self.section.child(name), "cannot be put into a header").value("****");
        self.reader.push(problem.accepted("one line of plain characters"));
        None
    }
}

fn bearer(part: &mut Part<'_>, raw: &RawAuth) -> Option<AuthConfig> {
    let name = part.header(raw.header.as_ref(), Some(header::AUTHORIZATION));
    let prefix = part.prefix(raw.prefix.as_ref(), "Bearer");
    let token = part.demanded("token", raw.token.as_ref(), raw.token_file.as_ref());
    let value = part.value("token", &prefix?, &token?);
    Some(AuthConfig::Header { name: name?, value: value? })
}

fn api_key(part: &mut Part<'_>, raw: &RawAuth) -> Option<AuthConfig> {
    let name = part.header(raw.header.as_ref(), None);
    let prefix = part.prefix(raw.prefix.as_ref(), "");
    let key = part.demanded("key", raw.key.as_ref(), raw.key_file.as_ref());
    let value = part.value("key", &prefix?, &key?);
    Some(AuthConfig::Header { name: name?, value: value? })
}

/// RFC 7617: UTF-8, and the first colon ends the user.
fn basic(part: &mut Part<'_>, raw: &RawAuth) -> Option<AuthConfig> {
    use base64::Engine;
    part.required(raw.user.as_ref(), "user", "the user's name");
    let user = part.filled(raw.user.as_ref(), "the user's name");
    let password = part.demanded("password", raw.password.as_ref(), raw.password_file.as_ref());
    let user = user?;
    if user.expose().contains(':') {
        return part.reader.refuse(raw.user.as_ref()?, "holds a colon", "a name without one");
    }
    let pair = format!("{}:{}", user.expose(), password?.expose_secret());
    let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    Some(AuthConfig::Header { name: header::AUTHORIZATION, value: SecretString::from(value) })
}

/// The statuses that ask for another token.
pub(super) fn statuses(part: &mut Part<'_>, leaf: Option<&Leaf>) -> Option<Vec<u16>> {
    const ACCEPTED: &str = "a list of statuses from 400 to 499 such as [401, 403]";
    let Some(leaf) = leaf else { return Some(vec![401]) };
    let numbers: Option<Vec<u16>> = match &leaf.value {
        Value::Array(items) => items.iter().map(|item| item.as_integer()?.try_into().ok()).collect(),
        // of a variable
        Value::String(text) => text.split(',').map(|item| item.trim().parse().ok()).collect(),
        _ => None,
    };
    match numbers.filter(|numbers| !numbers.is_empty() && numbers.iter().all(|status| (400..500).contains(status))) {
        Some(numbers) => Some(numbers),
        None => part.reader.refuse(leaf, "is not a list of such statuses", ACCEPTED),
    }
}

/// How long something may live.
pub(super) fn lifetime(part: &mut Part<'_>, leaf: Option<&Leaf>, most: Duration) -> Option<Duration> {
    part.reader.duration(leaf, Duration::from_mins(1)..=most)
}
