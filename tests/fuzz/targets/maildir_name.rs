//! The name of a message's file: whatever was read is printed the same, and a rewritten message's name keeps all but its
//! unique part and sizes, fits the file system and is known again.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use libfuzzer_sys::fuzz_target;
use mailseal_maildir::dir::Stamp;
use mailseal_maildir::name::{Name, Sizes};
use mailseal_maildir::tag::Tag;

const SIZES: Sizes = Sizes { physical: 4711, virtual_: 4811 };

fuzz_target!(|bytes: &[u8]| {
    let name = Name::parse(OsStr::from_bytes(bytes));
    let legal = !bytes.is_empty()
        && !matches!(bytes[0], b'.' | b',' | b':')
        && !bytes.contains(&b'/')
        && !bytes.contains(&0);
    assert_eq!(name.is_some(), legal);
    let Some(name) = name else { return };
    assert_eq!(name.as_os_str().as_bytes(), bytes);
    assert_eq!([name.base(), name.info()].concat(), bytes);
    assert!(name.base().starts_with(name.unique()));

    let stamp = Stamp { inode: bytes.len() as u64, size: 2, modified: (3, 4) };
    let tag = Tag::of(&name, &stamp);
    let new = tag.rename(&name, SIZES);
    assert_eq!(Name::parse(new.as_os_str()).as_ref(), Some(&new), "what was printed can be read");
    assert_eq!(Tag::in_name(&new), Some(tag));
    assert_eq!((new.info(), new.flags()), (name.info(), name.flags()));
    assert_ne!(new.base(), name.base());
    assert_eq!(others(&new), others(&name), "fields that are no sizes are kept");
    for (letter, size) in [(b'S', SIZES.physical), (b'W', SIZES.virtual_)] {
        let carried = name.size(letter).is_some();
        assert!(!carried || new.size(letter) == Some(size));
    }
    // Fields that are not ours to drop may leave no room.
    let fields: usize = others(&name).iter().map(|field| field.len() + 1).sum();
    assert!(new.len() <= 255 || fields + name.info().len() > 130, "{} octets", new.len());

    let again = Tag::of(&new, &stamp).rename(&new, SIZES);
    assert!(again.len() <= new.len(), "names do not grow from run to run");
    let flagged = new.with_flags(b"SFS");
    assert_eq!((flagged.base(), flagged.flags()), (new.base(), &b"FS"[..]));
    assert_eq!(new.with_info_of(&flagged), flagged);
});

/// The fields that are no sizes.
fn others(name: &Name) -> Vec<Vec<u8>> {
    let fields = name.base().split(|&byte| byte == b',').skip(1);
    let is_size = |field: &&[u8]| field.starts_with(b"S=") || field.starts_with(b"W=");
    fields.filter(|field| !is_size(field)).map(<[u8]>::to_vec).collect()
}
