//! Which Maildirs of which users: what the command line names, patterns filled in or looked for on the disk.
//!
//! `/var/mail/%{domain}/%{local}/Maildir` with users stands for theirs; without users, for every folder that is there.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::dovecot::doveadm::Doveadm;
use crate::error::Error;
use crate::keystore::source::Template;
use crate::keystore::user::User;
use crate::mailbox::encrypt::event::Target;
use crate::system::owner::process::Watch;

const USER: &str = "%{user}";
const LOCAL: &str = "%{local}";
const DOMAIN: &str = "%{domain}";

/// The Maildirs that `patterns` stand for, with the users whose mail they hold.
///
/// # Errors
/// [`Error::Usage`] where a pattern and the users do not go together, [`Error::User`] for a name that is none.
pub fn expand(patterns: &[PathBuf], users: &[String], control: Option<&Path>) -> Result<Vec<Target>, Error> {
    let mut targets = Vec::new();
    for pattern in patterns {
        match (is_pattern(pattern), users) {
            (true, []) => targets.extend(search(pattern, control)?),
            (true, users) => {
                for user in users {
                    let path = fill(pattern, &User::parse(user)?)?;
                    targets.push(target(path, user.clone(), control)?);
                }
            }
            (false, []) => {
                let user = owner_name(pattern);
                targets.push(target(pattern.into(), user, control)?);
            }
            (false, [user]) => targets.push(target(pattern.into(), user.clone(), control)?),
            (false, _) => {
                return Err(usage(
                    format!("{}: several users for one Maildir", pattern.display()),
                    "name one --user, or put %{user} into the path",
                ));
            }
        }
    }
    Ok(targets)
}

fn target(path: OsString, user: String, control: Option<&Path>) -> Result<Target, Error> {
    let control = match control {
        Some(control) if is_pattern(control) => Some(fill(control, &User::parse(&user)?)?),
        Some(control) => Some(control.into()),
        None => None,
    };
    Ok(Target { path, user, home: None, control })
}

/// Whether `path` has variables, which stand for names of users.
#[must_use]
pub fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("%{"))
}

/// A pattern with the variables of `user` put in.
///
/// # Errors
/// [`Error::Usage`] for an unknown variable.
pub fn fill(pattern: &Path, user: &User) -> Result<OsString, Error> {
    let text = pattern.to_string_lossy().into_owned();
    let template = Template::try_from(text)
        .map_err(|what| usage(what, "the variables are %{user}, %{local}, %{domain}"))?;
    template.expand(user, None).map(Into::into)
}

/// The home of `user`, as Dovecot knows it, or else the system.
///
/// # Errors
/// [`Error::Dovecot`] where it does not answer in time.
pub fn home(user: &str, doveadm: Option<&Doveadm>, watch: &Watch<'_>) -> Result<Option<PathBuf>, Error> {
    let known = doveadm.map(|doveadm| doveadm.home(user, watch)).transpose()?.flatten();
    Ok(known.or_else(|| nix::unistd::User::from_name(user).ok().flatten().map(|user| user.dir)))
}

/// The login name of the path's owner: whose mail it is where nobody says.
fn owner_name(path: &Path) -> String {
    let owner = std::fs::metadata(path).map(|metadata| nix::unistd::Uid::from_raw(metadata.uid()));
    let user = owner.ok().and_then(|uid| nix::unistd::User::from_uid(uid).ok().flatten());
    user.map(|user| user.name).unwrap_or_default()
}

/// Every folder that matches the pattern, with the user that its path names.
fn search(pattern: &Path, control: Option<&Path>) -> Result<Vec<Target>, Error> {
    let mut found = vec![(PathBuf::new(), Names::default())];
    for component in pattern.components() {
        let text = match component {
            Component::Normal(name) => name.to_string_lossy().into_owned(),
            other => {
                found.iter_mut().for_each(|(path, _)| path.push(other));
                continue;
            }
        };
        let Some((before, variable, after)) = variable_in(&text)? else {
            found.iter_mut().for_each(|(path, _)| path.push(&text));
            continue;
        };
        let mut next = Vec::new();
        for (path, names) in &found {
            let folder = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            // Where a part of the pattern is not there, there is no Maildir either.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let value = name
                    .to_str()
                    .and_then(|name| name.strip_prefix(before)?.strip_suffix(after))
                    .filter(|value| User::parse(value).is_ok());
                if let Some(value) = value
                    && entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && let Some(names) = names.with(variable, value)
                {
                    next.push((path.join(&name), names));
                }
            }
        }
        found = next;
    }
    found.retain(|(path, _)| path.is_dir());
    if found.is_empty() {
        return Err(usage(format!("{}: no folder matches", pattern.display()), "look for a mistyped path"));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(path, names)| target(path.into(), names.user(), control)).collect()
}

/// The one variable in a component, with what stands before and after it.
fn variable_in(component: &str) -> Result<Option<(&str, &'static str, &str)>, Error> {
    let found = [USER, LOCAL, DOMAIN]
        .into_iter()
        .find_map(|variable| component.split_once(variable).map(|(before, after)| (before, variable, after)));
    match found {
        Some((before, _, after)) if before.contains("%{") || after.contains("%{") => Err(usage(
            format!("{component:?}: two variables in one part of a path"),
            "name the users with --user",
        )),
        None if component.contains("%{") => Err(usage(
            format!("{component:?}: an unknown variable"),
            "the variables are %{user}, %{local}, %{domain}",
        )),
        found => Ok(found),
    }
}

/// What a path says of its user.
#[derive(Clone, Debug, Default)]
struct Names {
    user: Option<String>,
    local: Option<String>,
    domain: Option<String>,
}

impl Names {
    /// With this value too; `None` where the path says something else already.
    fn with(&self, variable: &str, value: &str) -> Option<Self> {
        let mut names = self.clone();
        let slot = match variable {
            USER => &mut names.user,
            LOCAL => &mut names.local,
            _ => &mut names.domain,
        };
        if slot.get_or_insert_with(|| value.to_owned()) == value { Some(names) } else { None }
    }

    fn user(self) -> String {
        match (self.user, self.local, self.domain) {
            (Some(user), ..) => user,
            (None, Some(local), Some(domain)) => format!("{local}@{domain}"),
            (None, local, domain) => local.or(domain).unwrap_or_default(),
        }
    }
}

fn usage(what: String, hint: &str) -> Error {
    Error::Usage { what, hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_put_into_patterns() {
        let users = ["alice@example.org".to_owned(), "Bob@example.com".to_owned()];
        let found =
            expand(&["/mail/%{domain}/%{local}".into()], &users, Some(Path::new("/c/%{user}"))).unwrap();
        let found: Vec<_> =
            found.iter().map(|it| (it.path.to_str().unwrap(), it.control.as_deref().unwrap())).collect();
        assert_eq!(
            found,
            [
                ("/mail/example.org/alice", "/c/alice@example.org".as_ref()),
                ("/mail/example.com/bob", "/c/bob@example.com".as_ref())
            ]
        );
        assert!(expand(&["/mail/x".into()], &users, None).is_err());
        assert!(expand(&["/mail/%{x}".into()], &users, None).is_err());
        assert!(expand(&["/mail/%{user}".into()], &["../x".to_owned()], None).is_err());
    }

    #[test]
    fn folders_are_found_with_their_users() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b.org/alice/Maildir", "a.org/bob/Maildir", "a.org/.hidden/Maildir", "a.org/none"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        std::os::unix::fs::symlink("bob", dir.path().join("a.org/link")).unwrap();
        let found = expand(&[dir.path().join("%{domain}/%{local}/Maildir")], &[], None).unwrap();
        let found: Vec<_> = found.iter().map(|target| &*target.user).collect();
        assert_eq!(found, ["bob@a.org", "alice@b.org"]);
        let found = expand(&[dir.path().join("a.%{domain}")], &[], None).unwrap();
        assert_eq!(found[0].user, "org");
        for pattern in ["%{domain}/nowhere", "%{local}x%{domain}"] {
            assert!(expand(&[dir.path().join(pattern)], &[], None).is_err(), "{pattern}");
        }
    }
}
