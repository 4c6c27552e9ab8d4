//! Any file in the folder of held mail: what is read of it is what would be written, and nothing in it reaches a program that is not
//! harmless.
#![no_main]
#![allow(clippy::expect_used)]

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;

use libfuzzer_sys::fuzz_target;
use mailseal::outgoing::held::{Record, Work};
use mailseal::outgoing::program::ENVIRONMENT;
use mailseal::outgoing::sendmail::arguments::{Arguments, Request, is_harmless};
use mailseal::outgoing::sendmail::body::Body;

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::tempfile().expect("a file without a name");
    file.write_all(data).expect("room for it");
    let Ok((record, start)) = Record::read(&mut file) else { return };
    let line = &data[..usize::try_from(start).expect("it is short")];
    assert!(line.ends_with(b"\n") && line.iter().filter(|byte| **byte == b'\n').count() == 1);
    let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
    for (name, value) in record.environment() {
        assert!(ENVIRONMENT.contains(&&*name) && !has_nul(&value), "{name}");
    }
    match &record.work {
        Work::Left { options, .. } => {
            let harmless = options.iter().map(OsString::from).filter(|option| is_harmless(option));
            harmless.for_each(|option| {
                assert!(option.is_empty() || option.as_bytes().starts_with(b"-"), "{option:?}");
                assert!(!option.as_bytes().starts_with(b"--") && !has_nul(&option), "{option:?}");
            });
        }
        Work::All { arguments, .. } => {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            if let Ok(Request::Send(asked)) = Arguments::parse(&arguments) {
                let options = asked.options.iter();
                assert!(options.into_iter().all(|it| it.is_empty() || it.as_bytes().starts_with(b"-")));
            }
        }
    }
    let mut body = Body::stored(file, start).expect("it ends behind its first line");
    let mut message = Vec::new();
    body.reader().and_then(|mut reader| reader.read_to_end(&mut message)).expect("it can be read");
    assert_eq!(message, &data[line.len()..]);
    // Written once more, it is the same record.
    let mut again = tempfile::tempfile().expect("a file without a name");
    record.write(&mut body, &mut again).expect("room for it");
    let (read, _) = Record::read(&mut again).expect("it was written so");
    assert_eq!(read, record);
});
