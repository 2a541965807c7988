//! `[source.NAME.vars]` and `[source.NAME.secrets]`: values that other keys of the same source name as `{var.x}` and
//! `{secret.x}`. Puts them in once, where the configuration is read; never shows a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use toml::{Table, Value};

use crate::config::problem::KeyPath;
use crate::config::raw::{self, Leaf};
use crate::config::reader::Reader;
use crate::config::secret::{self, Place};

const NAME: &str = "a name of letters, digits, _ and -";
const SECRET: &str = "text, or { file = \"PATH\" }";

/// The values of one source. `Debug` shows no secret.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    source: String,
    vars: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretString>,
    /// Names whose value is wrong, which has been told.
    broken: BTreeSet<String>,
}

/// Text with its values in place. `Debug` shows it only where no secret is in it.
#[derive(Clone)]
pub enum FilledText {
    /// Text that may be shown.
    Plain(String),
    /// Text that holds a secret.
    Secret(SecretString),
}

impl FilledText {
    /// Whether it holds a secret, and so may not be shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }

    /// The text itself: for a request, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(text) => text.expose_secret(),
        }
    }

    /// The text as a secret, whether it holds one or not.
    #[must_use]
    pub fn into_secret(self) -> SecretString {
        match self {
            Self::Plain(text) => SecretString::from(text),
            Self::Secret(text) => text,
        }
    }
}

impl fmt::Debug for FilledText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "{text:?}"),
            Self::Secret(_) => f.write_str("****"),
        }
    }
}

impl PartialEq for FilledText {
    fn eq(&self, other: &Self) -> bool {
        self.is_secret() == other.is_secret() && self.expose() == other.expose()
    }
}

impl Eq for FilledText {}

impl Scope {
    /// The source whose values they are.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Text without any of our names in it, or with them replaced. An unknown name is a problem of `leaf`, told with the
    /// nearest known one; other words in braces stay as they are.
    pub(in crate::config) fn fill(&self, reader: &mut Reader, leaf: &Leaf, text: &str) -> Option<FilledText> {
        let (mut filled, mut is_secret, mut is_good) = (String::with_capacity(text.len()), false, true);
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            let inner = from[1..].split_once('}').map_or("", |(inner, _)| inner);
            if let Some(name) = inner.strip_prefix("var.") {
                match self.vars.get(name) {
                    Some(value) => filled.push_str(value),
                    None => is_good = self.refuse_unknown(reader, leaf, (VARS, name)),
                }
            } else if let Some(name) = inner.strip_prefix("secret.") {
                is_secret = true;
                match self.secret(reader, name) {
                    Found::Known(value) => filled.push_str(value.expose_secret()),
                    Found::Wrong => is_good = false,
                    Found::Unknown => is_good = self.refuse_unknown(reader, leaf, (SECRETS, name)),
                }
            } else {
                filled.push('{');
                rest = &from[1..];
                continue;
            }
            rest = &from[inner.len() + 2..];
        }
        filled.push_str(rest);
        if !is_good {
            return None;
        }
        Some(if is_secret { FilledText::Secret(filled.into()) } else { FilledText::Plain(filled) })
    }

    /// The value of a secret: of the table, or of the credential that is named after the source and it.
    fn secret(&self, reader: &mut Reader, name: &str) -> Found {
        if let Some(value) = self.secrets.get(name) {
            return Found::Known(value.clone());
        }
        if self.broken.contains(&broken_name(SECRETS, name)) {
            return Found::Wrong;
        }
        if !is_name(name) {
            return Found::Unknown;
        }
        let credential = format!("{}_{name}", self.source);
        let known = reader.problems.len();
        match secret::resolve(reader, &Place { credential: &credential, keys: SECRET, accepted: SECRET }, None, None) {
            Some(value) => Found::Known(value),
            None if reader.problems.len() > known => {
                // several keys may name it, and each reads it anew: once is enough
                let told = reader.problems.split_off(known);
                let news: Vec<_> = told.into_iter().filter(|problem| !reader.problems.contains(problem)).collect();
                reader.problems.extend(news);
                Found::Wrong
            }
            None => Found::Unknown,
        }
    }

    /// Always false, so that it can end a reading.
    fn refuse_unknown(&self, reader: &mut Reader, leaf: &Leaf, (kind, name): (Kind, &str)) -> bool {
        if self.broken.contains(&broken_name(kind, name)) {
            return false;
        }
        let (word, table) = kind;
        let section = KeyPath::of(&["source", &self.source, table]);
        let what = format!("names {{{word}.{name}}}, which is not in [{section}]");
        let mut problem = reader.problem(&leaf.key, what);
        if kind == SECRETS {
            problem =
                problem.accepted(format!("a secret of that table, or the systemd credential {}_{name}", self.source));
        }
        let known: Vec<&str> = match kind {
            SECRETS => self.secrets.keys().map(String::as_str).collect(),
            _ => self.vars.keys().map(String::as_str).collect(),
        };
        let hint = raw::nearest(name, known).map_or_else(
            || format!("add {name} = \"…\" to [{section}]"),
            |near| format!("did you mean {{{word}.{near}}}?"),
        );
        reader.push(problem.hint(hint));
        false
    }
}

/// The word in braces, and the table that it stands for.
type Kind = (&'static str, &'static str);
const VARS: Kind = ("var", "vars");
const SECRETS: Kind = ("secret", "secrets");

enum Found {
    Known(SecretString),
    /// Told already.
    Wrong,
    Unknown,
}

fn broken_name((_, table): Kind, name: &str) -> String {
    format!("{table}.{name}")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// The two tables of the source `name`.
pub(super) fn resolve(reader: &mut Reader, name: &str, vars: Option<&Leaf>, secrets: Option<&Leaf>) -> Scope {
    let mut scope = Scope { source: name.to_owned(), ..Scope::default() };
    for (leaf, kind) in [(vars, VARS), (secrets, SECRETS)] {
        for (name, value) in reader.table(leaf).unwrap_or_default() {
            let Some(table) = leaf else { continue };
            let leaf = Leaf::of(table.key.child(&name), value);
            let is_good = is_name(&name) && scope.take(reader, &leaf, kind);
            if !is_name(&name) {
                let problem = reader.problem(&leaf.key, "has a name that cannot be used").accepted(NAME);
                reader.push(problem);
            }
            if !is_good {
                scope.broken.insert(broken_name(kind, &name));
            }
        }
    }
    scope
}

impl Scope {
    /// Whether the value is a good one.
    fn take(&mut self, reader: &mut Reader, leaf: &Leaf, kind: Kind) -> bool {
        let name = leaf.key.last().to_owned();
        if kind == VARS {
            let text = match &leaf.value {
                // a number is a value like any other
                Value::Integer(number) => Some(number.to_string()),
                _ => reader.text(Some(leaf), "text").map(str::to_owned),
            };
            return text.map(|text| self.vars.insert(name, text)).is_some();
        }
        let secret = match &leaf.value {
            Value::Table(table) => self.file(reader, leaf, table),
            _ => self.given(reader, (Some(leaf), None), &name),
        };
        secret.map(|secret| self.secrets.insert(name, secret)).is_some()
    }

    fn file(&self, reader: &mut Reader, leaf: &Leaf, table: &Table) -> Option<SecretString> {
        let file = table.get("file").map(|path| Leaf::of(leaf.key.child("file"), path.clone()));
        for key in table.keys().filter(|key| *key != "file") {
            reader.unknown(&leaf.key.child(key), ["file"]);
        }
        reader.required(file.as_ref(), &leaf.key.child("file"), "the path of a file that holds the secret");
        self.given(reader, (None, Some(&file?)), leaf.key.last())
    }

    fn given(
        &self,
        reader: &mut Reader,
        (value, file): (Option<&Leaf>, Option<&Leaf>),
        name: &str,
    ) -> Option<SecretString> {
        let credential = format!("{}_{name}", self.source);
        secret::resolve(reader, &Place { credential: &credential, keys: SECRET, accepted: SECRET }, value, file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config::reader::Origins;

    fn reader(directory: &Path) -> Reader {
        let path = directory.join("config.toml");
        let origins = Origins { path, directory: directory.to_owned(), ..Origins::default() };
        Reader { origins, problems: Vec::new(), doubts: Vec::new() }
    }

    fn scope(reader: &mut Reader, text: &str) -> Scope {
        let table: Table = text.parse().unwrap();
        let leaf =
            |name: &str| table.get(name).map(|value| Leaf::of(KeyPath::of(&["source", "crm", name]), value.clone()));
        resolve(reader, "crm", leaf("vars").as_ref(), leaf("secrets").as_ref())
    }

    fn fill(reader: &mut Reader, scope: &Scope, text: &str) -> Option<FilledText> {
        let leaf = Leaf::of(KeyPath::of(&["source", "crm", "base_url"]), Value::String(text.to_owned()));
        scope.fill(reader, &leaf, text)
    }

    fn shown(reader: &Reader) -> String {
        reader.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn names_are_replaced_and_other_braces_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = reader(folder.path());
        let scope = scope(&mut reader, "vars = { a = \"x\", n = 7 }\nsecrets = { s = \"hunter2\" }");
        let cases = [
            ("plain", "plain", false),
            ("", "", false),
            ("{var.a}/{var.n}", "x/7", false),
            ("{start}{var.a}{end", "{start}x{end", false),
            ("{ {var.a} }}", "{ x }}", false),
            ("{{var.a}}", "{x}", false),
            ("a{secret.s}b", "ahunter2b", true),
            ("é{var.a}é", "éxé", false),
            ("{auth.base_url}", "{auth.base_url}", false),
        ];
        for (text, expected, is_secret) in cases {
            let filled = fill(&mut reader, &scope, text).unwrap();
            assert_eq!((filled.expose(), filled.is_secret()), (expected, is_secret), "{text}");
        }
        assert!(reader.problems.is_empty(), "{}", shown(&reader));
        let filled = fill(&mut reader, &scope, "{secret.s}").unwrap();
        assert!(!format!("{filled:?} {scope:?}").contains("hunter2"));
    }

    #[test]
    fn an_unknown_name_is_told_with_the_nearest_one_and_the_place_of_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = reader(folder.path());
        let scope = scope(&mut reader, "vars = { subdomain = \"x\" }\nsecrets = { token = \"hunter2\" }");
        assert!(fill(&mut reader, &scope, "{var.subdomian} {secret.tokn} {secret.other}").is_none());
        let shown = shown(&reader);
        for words in [
            "names {var.subdomian}, which is not in [source.crm.vars]",
            "did you mean {var.subdomain}?",
            "did you mean {secret.token}?",
            "the systemd credential crm_other",
            "add other = \"…\" to [source.crm.secrets]",
        ] {
            assert!(shown.contains(words), "{words} is not in {shown}");
        }
        assert_eq!(reader.problems.len(), 3);
    }

    #[test]
    fn a_wrong_value_is_told_once_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = reader(folder.path());
        let scope = scope(
            &mut reader,
            "vars = { v = [1] }\nsecrets = { s = 4711471, t = { fil = \"x\" }, 'a b' = \"hunter2\" }",
        );
        let told = reader.problems.len();
        assert!(fill(&mut reader, &scope, "{var.v}{secret.s}{secret.t}").is_none());
        assert_eq!(reader.problems.len(), told, "{}", shown(&reader));
        let shown = shown(&reader);
        assert!(!shown.contains("4711471") && !shown.contains("hunter2"), "{shown}");
        for key in ["vars.v", "secrets.s", "secrets.t.fil", "secrets.t.file", "secrets.\"a b\""] {
            assert!(shown.contains(&format!("source.crm.{key} ")), "{key} is not in {shown}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_or_a_credential_that_only_its_user_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("of {name}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("token.txt", 0o600);
        write("crm_beside", 0o640);
        write("crm_open", 0o644);
        let mut reader = reader(folder.path());
        let scope = scope(&mut reader, "secrets = { token = { file = \"token.txt\" } }");
        let filled = fill(&mut reader, &scope, "{secret.token},{secret.beside}").unwrap();
        assert_eq!(filled.expose(), "of token.txt,of crm_beside");
        assert!(reader.problems.is_empty(), "{}", shown(&reader));
        assert!(fill(&mut reader, &scope, "{secret.open}{secret.open}").is_none());
        assert!(reader.problems.len() == 1 && shown(&reader).contains("is open to every user"), "{}", shown(&reader));
    }

    #[test]
    fn a_secret_in_the_file_and_as_a_credential_is_one_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crm_token");
        std::fs::write(&path, "one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut reader = reader(folder.path());
        reader.origins.credentials = Some(folder.path().to_owned());
        scope(&mut reader, "secrets = { token = \"hunter2\" }");
        let shown = shown(&reader);
        assert!(shown.contains("is given more than once") && shown.contains("credential crm_token"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
