//! Dovecot's list of a folder's UIDs, `dovecot-uidlist`: messages that got another name keep their UID.
//!
//! Version 3, which Dovecot writes since 2007: a header line, then `UID [FIELD…] :NAME` lines, where a field is a letter
//! and its value. `S` and `W` are sizes of the old content and are left out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read as _, Write as _};

use super::dir::Dir;
use super::lock::{Lock, UIDLIST};
use super::name::Name;
use crate::durable;

/// What Dovecot writes a new list to before it renames it, under the same lock.
const TEMPORARY: &str = "dovecot-uidlist.tmp";

/// The bases of old names, and the names that take their place.
pub type Renames = HashMap<Vec<u8>, Name>;

/// Puts new names into the list in this control folder, whose lock is held; nothing where there is no list.
///
/// # Errors
/// Those of the file system, and [`ErrorKind::InvalidData`] for a list of another version; the list is as it was then.
pub fn rename(control: &Dir, _lock: &Lock<'_>, renames: &Renames) -> io::Result<()> {
    let name = OsStr::new(UIDLIST);
    let (mut file, stat) = match control.open_file(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let renamed = replace(&text, renames)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "dovecot-uidlist is not of version 3"))?;
    if renamed == text {
        return Ok(());
    }
    let temporary = OsStr::new(TEMPORARY);
    match control.unlink(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let result = (|| {
        let mut file = control.create(temporary, 0o600)?;
        file.write_all(&renamed)?;
        nix::sys::stat::fchmod(&file, nix::sys::stat::Mode::from_bits_truncate(stat.st_mode & 0o666))?;
        durable::flush(&file)?;
        control.replace(temporary, name)
    })();
    if result.is_err() {
        // It may not even have come into being.
        let _ = control.unlink(temporary);
        return result;
    }
    control.sync()
}

/// The list with the new names; `None` where it is no list of version 3.
fn replace(text: &[u8], renames: &Renames) -> Option<Vec<u8>> {
    if !text.starts_with(b"3 ") {
        return None;
    }
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let mut out = lines.next()?.to_vec();
    // A new name is listed already when Dovecot has seen both: then it has a UID of its own.
    let listed: std::collections::HashSet<&[u8]> =
        lines.clone().filter_map(|line| Some(base(parts(line)?.1))).collect();
    for line in lines {
        let new = parts(line).and_then(|(before, name)| {
            let new = renames.get(base(name)).filter(|new| !listed.contains(new.base()))?;
            Some((before, [new.base(), &name[base(name).len()..]].concat()))
        });
        let Some((before, name)) = new else {
            out.extend_from_slice(line);
            continue;
        };
        let fields = before.split(|&byte| byte == b' ').enumerate();
        for (at, field) in
            fields.filter(|(at, field)| *at == 0 || !matches!(field.first(), Some(b'S' | b'W')))
        {
            out.extend_from_slice(if at == 0 { b"" } else { b" " });
            out.extend_from_slice(field);
        }
        out.extend_from_slice(b" :");
        out.extend_from_slice(&name);
    }
    Some(out)
}

/// What stands before the name in a line, and the name with the line's end.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memmem::find(line, b" :")?;
    Some((&line[..at], &line[at + 2..]))
}

fn base(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|byte| matches!(byte, b':' | b'\n')).unwrap_or(name.len());
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, old: &str, new: &str) -> Option<String> {
        let name = Name::parse(OsStr::new(new)).unwrap();
        let renames = Renames::from([(old.as_bytes().to_vec(), name)]);
        replace(text.as_bytes(), &renames).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_name_is_replaced_and_nothing_else() {
        let list = "3 V1 N5 Gabc\n1 :a,S=1:2,S\n2 Wx G12 W34 :b\n4 :c:2,\n";
        for (old, new, expected) in [
            ("a,S=1", "A,S=9:2,FT", "3 V1 N5 Gabc\n1 :A,S=9:2,S\n2 Wx G12 W34 :b\n4 :c:2,\n"),
            ("b", "B", "3 V1 N5 Gabc\n1 :a,S=1:2,S\n2 G12 :B\n4 :c:2,\n"),
            ("a", "A", list),
            ("b", "c", list),
        ] {
            assert_eq!(replaced(list, old, new).unwrap(), expected, "{old}");
        }
        for other in ["", "1 123 4\n1 a\n", "4 V1\n"] {
            assert_eq!(replaced(other, "a", "b"), None);
        }
    }

    #[test]
    fn a_list_is_replaced_whole_with_its_rights_or_left_alone() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt as _;

        use crate::patience::Patience;

        let temporary = tempfile::tempdir().unwrap();
        let control = Dir::open(temporary.path()).unwrap();
        let lock = Lock::take(&control, &Patience::default()).unwrap();
        let path = temporary.path().join(UIDLIST);
        let renames = Renames::from([(b"a".to_vec(), Name::parse(OsStr::new("b")).unwrap())]);
        rename(&control, &lock, &renames).unwrap();
        assert!(!path.exists(), "there is no list");
        for (mode, kept) in [(0o640, 0o640), (0o666, 0o666), (0o755, 0o644)] {
            fs::write(&path, "3 V1\n1 :a:2,S\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            // What a killed run left.
            fs::write(temporary.path().join(TEMPORARY), "half").unwrap();
            rename(&control, &lock, &renames).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "3 V1\n1 :b:2,S\n");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, kept);
            assert!(!temporary.path().join(TEMPORARY).exists());
        }
        let inode = |stat: nix::sys::stat::FileStat| stat.st_ino;
        let before = inode(control.stat(OsStr::new(UIDLIST)).unwrap());
        rename(&control, &lock, &renames).unwrap();
        assert_eq!(
            inode(control.stat(OsStr::new(UIDLIST)).unwrap()),
            before,
            "nothing in it has another name"
        );
        fs::write(&path, "3 V1\n1 :a\n").unwrap();
        fs::create_dir(temporary.path().join(TEMPORARY)).unwrap();
        assert!(rename(&control, &lock, &renames).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "3 V1\n1 :a\n");
        fs::write(&path, "1 1 2\n1 a\n").unwrap();
        assert_eq!(rename(&control, &lock, &renames).unwrap_err().kind(), ErrorKind::InvalidData);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(rename(&control, &lock, &renames).is_err(), "it is not a file");
    }

    #[test]
    fn sizes_of_the_old_content_are_left_out() {
        let list = "3 V1\n1 S9 Gx W8 Sy :a\nnonsense\n2 :a b :c\n";
        assert_eq!(replaced(list, "a", "b").unwrap(), "3 V1\n1 Gx :b\nnonsense\n2 :a b :c\n");
        assert_eq!(replaced("3 ", "a", "b").unwrap(), "3 ");
        assert_eq!(replaced("3 V1\n1 :a", "a", "b").unwrap(), "3 V1\n1 :b");
        assert_eq!(replaced("3 V1\n1 :a b\n", "a b", "c").unwrap(), "3 V1\n1 :c\n");
        assert_eq!(parts(b"1 G :a :b\n"), Some((&b"1 G"[..], &b"a :b\n"[..])));
    }
}
