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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use toml::Table;

    use super::super::scope;
    use super::super::tokens::{OAuthClientAuth, OAuthGrant, TokenBody};
    use super::*;
    use crate::config::reader::Origins;

    /// Reads `[source.crm]` with these keys, as the operator's own; `preset` are keys of a layer below.
    fn read(folder: &tempfile::TempDir, text: &str, preset: &[&str]) -> (Option<AuthConfig>, String) {
        let table: Table = text.parse().unwrap();
        let leaf =
            |name: &str| table.get(name).map(|value| Leaf::of(KeyPath::of(&["source", "crm", name]), value.clone()));
        let path = folder.path().join("config.toml");
        let mut origins = Origins { path, directory: folder.path().to_owned(), ..Origins::default() };
        let keys = table.get("auth").and_then(Value::as_table).into_iter().flat_map(Table::keys);
        for key in keys.filter(|key| !preset.contains(&key.as_str())) {
            origins.lines.insert(KeyPath::of(&["source", "crm", "auth", key]), 1);
        }
        let mut reader = Reader { origins, problems: Vec::new(), doubts: Vec::new() };
        let scope = scope::resolve(&mut reader, "crm", leaf("vars").as_ref(), leaf("secrets").as_ref());
        let auth = resolve(&mut reader, leaf("auth").as_ref(), &scope);
        let told: Vec<String> = reader.problems.iter().map(ToString::to_string).collect();
        (auth, told.join("\n"))
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn write_secret(folder: &tempfile::TempDir, name: &str, text: &str) {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The header as it is sent.
    fn header(text: &str) -> String {
        match read(&folder(), text, &[]) {
            (Some(AuthConfig::None), told) => format!("none{told}"),
            (Some(AuthConfig::Header { name, value }), told) => format!("{name}: {}{told}", value.expose_secret()),
            (Some(AuthConfig::OAuth2(_)), _) => "oauth2".to_owned(),
            (None, told) => told,
        }
    }

    fn oauth(text: &str) -> OAuthConfig {
        let text =
            format!("auth = {{ kind = \"oauth2\", token_url = \"https://a.example/t\", client_id = \"id\", {text} }}");
        match read(&folder(), &text, &[]) {
            (Some(AuthConfig::OAuth2(oauth)), told) if told.is_empty() => *oauth,
            (_, told) => panic!("{told}"),
        }
    }

    #[test]
    fn each_kind_becomes_its_header() {
        #[rustfmt::skip]
        let rows = [
            ("", "none"),
            ("auth = { kind = \"none\" }", "none"),
            ("auth = { kind = \"bearer\", token = \"T\" }", "authorization: Bearer T"),
            ("auth = { kind = \"bearer\", prefix = \"bearer\", token = \"{secret.t}\" }\nsecrets = { t = \"S\" }", "authorization: bearer S"),
            ("auth = { kind = \"api_key\", header = \"X-Api-Key\", key = \"K\" }", "x-api-key: K"),
            ("auth = { kind = \"api_key\", header = \"Authorization\", prefix = \"Token\", key = \"K\" }", "authorization: Token K"),
            ("auth = { kind = \"basic\", user = \"{var.u}\", password = \"p:w\" }\nvars = { u = \"ann\" }", "authorization: Basic YW5uOnA6dw=="),
        ];
        for (text, expected) in rows {
            assert_eq!(header(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_and_no_secret_is_shown() {
        #[rustfmt::skip]
        let rows: [(&str, &[&str]); 9] = [
            ("auth = { token = \"hunter2\" }", &["auth.kind is missing"]),
            ("auth = { kind = \"bearer\" }", &["auth.token is missing", "the systemd credential crm_token"]),
            ("auth = { kind = \"bearer\", token = 4711471 }", &["auth.token is a whole number", "****"]),
            ("auth = { kind = \"bearer\", token = \"hunter2\\nx\" }", &["auth.token cannot be put into a header", "****"]),
            ("auth = { kind = \"bearer\", token = \"hunter2\", key = \"hunter2\" }", &["auth.key has a meaning with kind = \"api_key\" only"]),
            ("auth = { kind = \"api_key\", key = \"hunter2\" }", &["auth.header is missing"]),
            ("auth = { kind = \"basic\", user = \"a:b\", password = \"hunter2\" }", &["auth.user holds a colon"]),
            ("auth = { kind = \"bearer\", tokn = \"hunter2\" }", &["auth.tokn is not a known key", "did you mean", "auth.token is missing"]),
            ("auth = { kind = \"bearer\", token = \"{secret.x}\" }\nsecrets = { y = \"hunter2\" }", &["auth.token names {secret.x}"]),
        ];
        for (text, expected) in rows {
            let (auth, told) = read(&folder(), text, &[]);
            assert!(auth.is_none() || told.contains("auth.key"), "{text}");
            for words in expected {
                assert!(told.contains(words), "{words} is not in {told}");
            }
            assert!(!told.contains("hunter2") && !told.contains("4711471"), "{told}");
        }
    }

    #[test]
    fn what_a_preset_says_gives_way_to_the_operators_kind_and_file() {
        let folder = folder();
        write_secret(&folder, "token.txt", "of the file");
        let text = "auth = { kind = \"bearer\", grant = \"refresh_token\", token_url = \"https://a.example/t\", \
                    token = \"{secret.token}\", token_file = \"token.txt\" }";
        let (auth, told) = read(&folder, text, &["grant", "token_url", "token"]);
        let Some(AuthConfig::Header { value, .. }) = auth else { panic!("{told}") };
        assert_eq!((value.expose_secret(), told.as_str()), ("Bearer of the file", ""));
        let (_, told) = read(&folder, text, &["token"]);
        assert!(told.contains("auth.grant has a meaning with kind = \"oauth2\" only"), "{told}");
    }

    #[test]
    fn oauth_has_defaults_and_each_grant_its_own_needs() {
        let consent = oauth("client_secret = \"s\", authorize_url = \"https://a.example/a\"");
        let OAuthGrant::RefreshToken { authorize_extra, redirect: None, .. } = &consent.grant else { panic!() };
        assert!(authorize_extra.is_empty());
        assert_eq!((consent.token_body, consent.client_auth), (TokenBody::Form, OAuthClientAuth::Body));
        assert_eq!((consent.prefix.as_str(), consent.refresh_on.as_slice()), ("Bearer", [401].as_slice()));
        assert_eq!((consent.access_token_lifetime, consent.refresh_token_lifetime), (Duration::from_hours(1), None));
        let all = oauth(
            "client_secret = \"s\", authorize_url = \"https://a.example/a\", redirect_uri = \"https://b.example/cb\", \
             token_body = \"json\", client_auth = \"basic\", extra = { n = 7, s = \"x\" }, \
             authorize_extra = { mode = \"popup\" }, refresh_on = [401, 403], base_url_path = \"$.instance_url\", \
             error_path = \"$.error\", refresh_token_lifetime = \"90d\", access_token_lifetime = \"2h\", scope = \"a b\"",
        );
        let OAuthGrant::RefreshToken { authorize_extra, redirect: Some(redirect), .. } = &all.grant else { panic!() };
        assert_eq!((authorize_extra.len(), redirect.text.as_str()), (1, "https://b.example/cb"));
        assert_eq!((all.token_body, all.client_auth), (TokenBody::Json, OAuthClientAuth::Basic));
        assert_eq!(all.extra[0], ("n".to_owned(), FilledText::Plain("7".to_owned())));
        assert_eq!(all.refresh_token_lifetime, Some(Duration::from_hours(90 * 24)));
        let machine = oauth("grant = \"client_credentials\", client_secret = \"s\"");
        assert!(matches!(machine.grant, OAuthGrant::ClientCredentials));
    }

    #[test]
    fn an_oauth_secret_may_be_a_file_or_a_credential_and_is_demanded() {
        let folder = folder();
        let text = "auth = { kind = \"oauth2\", grant = \"client_credentials\", token_url = \"https://a.example/t\", client_id = \"id\" }";
        let (auth, told) = read(&folder, text, &[]);
        assert!(auth.is_none() && told.contains("credential crm_client_secret"), "{told}");
        write_secret(&folder, "crm_client_secret", "hunter2\n");
        let (auth, told) = read(&folder, text, &[]);
        let Some(AuthConfig::OAuth2(oauth)) = &auth else { panic!("{told}") };
        assert_eq!(oauth.client_secret.as_ref().unwrap().expose_secret(), "hunter2");
        assert!(!format!("{auth:?}").contains("hunter2"));
    }

    #[test]
    fn every_problem_of_an_oauth_section_is_told_at_once() {
        let text = "auth = { kind = \"oauth2\", token_url = \"http://a.example/{secret.s}\", token_body = \"jsn\", \
                    client_id = \"id\", client_secret = \"hunter2\", refresh_on = [200], base_url_path = \"a\", \
                    extra = { x = [1] }, authorize_extra = { y = \"{secret.s}\" } }\nsecrets = { s = \"hunter2\" }";
        let (_, told) = read(&folder(), text, &[]);
        for words in [
            "auth.token_url would show a secret",
            "auth.token_body is not one of its values",
            "auth.refresh_on is not a list of such statuses",
            "auth.base_url_path is not a JSONPath",
            "auth.authorize_url is missing",
            "auth.extra.x is a list",
            "auth.authorize_extra.y would show a secret to a browser",
        ] {
            assert!(told.contains(words), "{words} is not in {told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_statement_needs_an_rsa_key_in_pem() {
        let folder = folder();
        let text = "auth = { kind = \"oauth2\", grant = \"jwt_bearer\", token_url = \"https://a.example/t\", client_id = \"id\", \
                    subject = \"s\", audience = \"https://a.example\", private_key_file = \"key.pem\" }";
        write_secret(&folder, "key.pem", "hunter2");
        let (auth, told) = read(&folder, text, &[]);
        assert!(auth.is_none() && told.contains("does not name an RSA private key"), "{told}");
        assert!(!told.contains("hunter2"));
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = aws_lc_rs::encoding::AsDer::as_der(&key).unwrap();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der.as_ref());
        let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
        write_secret(&folder, "key.pem", &format!("{begin}\n{}\n{end}\n", lines.join("\n")));
        let (auth, told) = read(&folder, text, &[]);
        let Some(AuthConfig::OAuth2(oauth)) = &auth else { panic!("{told}") };
        assert!(matches!(oauth.grant, OAuthGrant::JwtBearer { .. }) && oauth.client_secret.is_none());
        let private = encoded.get(..60).unwrap();
        assert!(!format!("{auth:?}").contains(private));
    }
}
