//! A secret: by value, from a file, or as a systemd credential, exactly one of them. Never shows it.
//!
//! Where none is given, the file that the unit's credential comes from is read: it stands beside the configuration, so
//! that a command in a shell, which has no credentials, finds what the daemon has.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::problem::{self, Problem};
use super::raw::Leaf;
use super::reader::Reader;

/// Where one secret may stand, and what is said of it.
pub(super) struct Place<'a> {
    /// The name of the systemd credential (`LoadCredential=`).
    pub(super) credential: &'a str,
    /// The keys that may hold it, in words.
    pub(super) keys: &'a str,
    /// What is taken as its value.
    pub(super) accepted: &'a str,
}

/// Reteno's client secret.
pub(super) const RETENO: Place<'static> = Place {
    credential: "reteno_client_secret",
    keys: "client_secret, client_secret_file",
    accepted: "the app's client secret as text",
};

/// A longer file is not a secret but a mistake, and is not read into memory whole.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// The secret, or `None` where there is none. Two at once are a problem: which of them holds would be a guess.
pub(super) fn resolve(
    reader: &mut Reader,
    place: &Place<'_>,
    value: Option<&Leaf>,
    file: Option<&Leaf>,
) -> Option<SecretString> {
    // What cannot even be looked at counts as there, so that reading it tells why.
    let credential = reader.origins.credentials.as_ref().map(|directory| directory.join(place.credential));
    let credential = credential.filter(|path| path.try_exists().unwrap_or(true) && !is_blank(path));
    let given = [value.is_some(), file.is_some(), credential.is_some()];
    let beside = beside(&reader.origins.path, place.credential);
    if let (Some(leaf), None, Some(path)) = (value.or(file), &credential, &beside) {
        let doubt = format!(
            "{} is set, and {} is there too: where systemd hands that file over, two secrets stop the start; keep one",
            leaf.key,
            path.display()
        );
        reader.doubts.push(doubt);
    }
    let beside = beside.filter(|_| !given.contains(&true));
    if given.iter().filter(|given| **given).count() > 1 {
        refuse_two(reader, place, (value, file), credential.is_some());
        return None;
    }
    if let Some(path) = credential.or(beside) {
        return read(&path)
            .map_err(|refused| {
                let problem = Problem::at(problem::Place::file(&path), format!("the credential {}", refused.what()));
                reader.push(refused.complete(problem, &path));
            })
            .ok();
    }
    if let Some(leaf) = file {
        let path = reader.path(file, "the path of a file that holds the secret")?;
        return read(&path)
            .map_err(|refused| {
                let what = format!("names the file {}, which {}", path.display(), refused.what());
                let problem = refused.complete(reader.problem(&leaf.key, what), &path);
                reader.push(problem);
            })
            .ok();
    }
    reader.text(value, place.accepted).map(|text| SecretString::from(text.to_owned()))
}

/// Whether it is what the units give where the file of a credential is not there: systemd demands some value.
fn is_blank(credential: &Path) -> bool {
    std::fs::read(credential).is_ok_and(|bytes| bytes == UNIT_DEFAULT)
}

/// What the units load the credential from: `reteno_client_secret`, say, beside `config.toml`,
/// `NAME.reteno_client_secret` beside `NAME.toml`.
fn beside(config: &Path, credential: &str) -> Option<PathBuf> {
    let instance = config.file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != "config");
    let name = instance.map_or_else(|| credential.to_owned(), |instance| format!("{instance}.{credential}"));
    let path = config.with_file_name(name);
    path.try_exists().unwrap_or(true).then_some(path)
}

fn refuse_two(reader: &mut Reader, place: &Place<'_>, (value, file): (Option<&Leaf>, Option<&Leaf>), credential: bool) {
    let mut named: Vec<String> = [value, file].into_iter().flatten().map(|leaf| leaf.key.to_string()).collect();
    if credential {
        named.push(format!("the systemd credential {}", place.credential));
    }
    if let Some(leaf) = value.as_ref().or(file.as_ref()) {
        let problem = reader
            .problem(&leaf.key, "is given more than once")
            .accepted(format!("one of {} and the systemd credential", place.keys))
            .hint(format!("keep one of: {}", named.join(", ")));
        reader.push(problem);
    }
}

/// `SetCredential=` of the units: an empty line. An empty file is a mistake, and is told.
const UNIT_DEFAULT: &[u8] = b"\n";

/// Why a file gives no secret.
enum Refused {
    Unreadable(io::Error),
    WorldReadable(u32),
    NotText,
    TooLong,
    Empty,
}

impl Refused {
    /// What is wrong, so that it reads on after the file.
    fn what(&self) -> String {
        match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => "is missing".to_owned(),
            Self::Unreadable(error) => format!("cannot be read: {error}"),
            Self::WorldReadable(_) => "is open to every user of this machine".to_owned(),
            Self::NotText => "is not UTF-8 text".to_owned(),
            Self::TooLong => "is too long to be a secret".to_owned(),
            Self::Empty => "is empty".to_owned(),
        }
    }

    /// The problem with all that repairs it.
    fn complete(&self, problem: Problem, path: &Path) -> Problem {
        match self {
            Self::Unreadable(error) => match error.kind() {
                io::ErrorKind::NotFound => problem.hint("create the file, or correct its name"),
                io::ErrorKind::PermissionDenied => {
                    problem.hint("run the command as the service's user, or let this user read the file")
                }
                _ => problem,
            },
            Self::WorldReadable(mode) => problem
                .value(format!("mode {:04o}", mode & 0o7777))
                .accepted("a file that others may neither read nor write, such as mode 0400 or 0640")
                .hint(format!("chmod o= {}", path.display())),
            Self::NotText | Self::Empty => problem.accepted("the secret as one line of text"),
            Self::TooLong => problem.accepted(format!("at most {SECRET_BYTES_MAX} bytes")),
        }
    }
}

fn read(path: &Path) -> Result<SecretString, Refused> {
    let file = std::fs::File::open(path).map_err(Refused::Unreadable)?;
    let mode = file.metadata().map_err(Refused::Unreadable)?.permissions().mode();
    if mode & 0o006 != 0 {
        return Err(Refused::WorldReadable(mode));
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Refused::Unreadable)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > SECRET_BYTES_MAX) {
        return Err(Refused::TooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| Refused::NotText)?;
    // Editors and `echo` end a file with a newline; a secret never does.
    match text.trim_end_matches(['\r', '\n']) {
        secret if secret.trim().is_empty() => Err(Refused::Empty),
        secret => Ok(SecretString::from(secret.to_owned())),
    }
}
