//! Any file of aliases, asked for any recipients: what is found has an end and is an address, and a name is told for sure or not at
//! all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailseal::outgoing::address::Address;
use mailseal::outgoing::aliases::{Aliases, Names};

/// Files that lists are read from are the system's: none is named here.
const INCLUDE: &str = ":include:";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if text.to_ascii_lowercase().contains(INCLUDE) {
        return;
    }
    let aliases = Aliases::parse(text, Names::called(&["here.example", "localhost"]));
    let own = Aliases::parse("", Names::called(&["here.example", "localhost"]));
    let called = aliases.called();
    assert_eq!(own.unknown_of(&aliases), called);
    assert!(aliases.unknown_of(&aliases).is_empty());
    for name in called.iter().map(String::as_str).chain(["root", "\\root", "root+x@localhost", "a@b.example"])
    {
        let (ends, doubt) = aliases.resolve(name, "+");
        assert!(doubt.is_some() || !ends.is_empty(), "{name:?} is for nobody, and nobody is told");
        for end in &ends {
            assert!(!end.written.starts_with('-'), "an option: {:?}", end.written);
            assert!(!end.written.contains(|c: char| c.is_control()), "{:?}", end.written);
            let again = Address::parse(&end.written, Some("here.example"));
            assert_eq!(again.ok().as_ref(), Some(&end.address), "{:?}", end.written);
            // What is held and tried again ends where it did.
            if end.local {
                let (again, doubt) = aliases.resolve(&end.text(), "+");
                assert!(doubt.is_none() && again == std::slice::from_ref(end), "{end:?} {again:?} {doubt:?}");
            }
        }
    }
});
