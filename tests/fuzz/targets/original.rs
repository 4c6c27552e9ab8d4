//! What is parsed from inside a seal: the restore record and the entity with its header, protected or not. Whatever they
//! are, the message that comes back ends, is no longer than what went in, and has all that the server wrote.
//!
//! An input is a byte that chooses, the record up to a NUL, and the entity.
#![no_main]

use std::io::Read;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mailseal_core::message::head::Head;
use mailseal_core::message::lines::LineEnding;
use mailseal_core::record::{HeaderRecord, Record};
use mailseal_core::unseal::original::Endings;
use mailseal_core::unseal::original_of;
use testing::planted::{OURS, OUTER, check};

/// The outer header, with LF and with CRLF.
static STORED: LazyLock<[String; 2]> = LazyLock::new(|| {
    let lf = OUTER.replace("[ours]", OURS) + "\n";
    let crlf = lf.replace('\n', "\r\n");
    [lf, crlf]
});

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    let Some(end) = input.iter().position(|&byte| byte == 0) else { return };
    let (name, entity) = (&input[..end], &input[end + 1..]);
    let Some(record) = Record::parse(name) else { return };
    let stored = STORED[usize::from(choice & 1)].as_bytes();
    let (fields_end, body_start) = Head::find_end(stored, 0).expect("a header with its end");
    let outer = Head::new(&stored[..fields_end], &stored[fields_end..body_start]);
    let endings = if choice & 2 == 0 { Endings::Original } else { Endings::Stored };

    let Ok(mut original) = original_of(outer, &record, Box::new(entity), endings) else { return };
    let mut message = Vec::new();
    if original.read_to_end(&mut message).is_err() {
        return;
    }
    // Each line may get another ending, each letter of the record may stand for a MIME-Version, and our own two fields and
    // X-Header-Text for nothing of it.
    let most = 2 * (stored.len() + entity.len()) + "MIME-Version: 1.0\r\n".len() * name.len() + 200;
    assert!(message.len() <= most, "{}", message.len());
    if record.line_ending == LineEnding::Mixed {
        return;
    }
    let shy =
        matches!(record.header, HeaderRecord::Protected(_)) && name.windows(7).any(|it| it == b"pol=shy");
    if let Err(why) = check(&message, shy) {
        panic!("{}: {why}", String::from_utf8_lossy(name));
    }
});
