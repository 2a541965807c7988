//! Whose the state directory is. Root must leave no files there that the service's own user cannot use: the next start
//! would fail.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::CheckpointError;

/// Where users and their numbers are listed. Users that only a directory service knows are named by their number.
const USERS: &str = "/etc/passwd";

/// Refuses root in a directory of another user, and where root would make the first files of a directory that bears the
/// name of a user (both units name the state after their user): before the first start of the service nobody owns it.
pub(super) fn check_owner(dir: &Path) -> Result<(), CheckpointError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = match fs::metadata(dir) {
        Ok(metadata) => metadata.uid(),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => 0,
        Err(source) => return Err(CheckpointError::File { action: "look at", path: dir.to_owned(), source }),
    };
    let user = if owner != 0 {
        Some(name_of(owner))
    } else if dir.join("reteno-sync.db").exists() {
        None
    } else {
        namesake(dir, &users())
    };
    user.map_or(Ok(()), |user| Err(CheckpointError::NotOwner { dir: dir.to_owned(), user }))
}

/// How a user is named on a command line: by the name, or as `#997` where that is not known.
pub(super) fn name_of(id: u32) -> String {
    named(id, &users())
}

/// Nothing where the list cannot be read: it only makes words better.
fn users() -> String {
    fs::read_to_string(USERS).unwrap_or_default()
}

/// Names and numbers of a list in the form of passwd(5).
fn entries(users: &str) -> impl Iterator<Item = (&str, u32)> {
    users.lines().filter_map(|line| {
        let mut cells = line.split(':');
        let (name, id) = (cells.next()?, cells.nth(1)?);
        Some((name, id.parse().ok()?))
    })
}

fn named(id: u32, users: &str) -> String {
    entries(users).find(|(_, other)| *other == id).map_or_else(|| format!("#{id}"), |(name, _)| name.to_owned())
}

/// The user, other than root, of whom the directory has the name.
fn namesake(dir: &Path, users: &str) -> Option<String> {
    let name = dir.file_name()?.to_str()?;
    entries(users).find(|(other, id)| *other == name && *id != 0).map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nreteno-sync:x:997:997::/var/lib/reteno-sync:/sbin/nologin\n";

    #[test]
    fn a_user_is_named_where_the_list_has_it() {
        assert_eq!(named(997, LIST), "reteno-sync");
        assert_eq!(named(998, LIST), "#998");
        assert_eq!(named(997, ""), "#997");
    }

    #[test]
    fn a_directory_of_a_users_name_is_that_users() {
        for (dir, user) in [
            ("/var/lib/reteno-sync", Some("reteno-sync")),
            ("/var/lib/reteno-sync/", Some("reteno-sync")),
            ("/var/lib/reteno-sync-2", None),
            ("/root", None),
            ("/", None),
        ] {
            assert_eq!(namesake(Path::new(dir), LIST).as_deref(), user, "{dir}");
        }
    }
}
