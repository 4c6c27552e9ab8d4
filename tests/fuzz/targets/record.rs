//! The restore record: any name is read or refused, what was read is written the same, and the record of any header
//! gives the header back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailseal_core::limits;
use mailseal_core::message::head::{Head, Kind};
use mailseal_core::message::lines::LineEnding;
use mailseal_core::record::{HeadEnd, HeaderRecord, Place, Record};
use mailseal_core::seal::envelope::{Envelope, Shell};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    write(bytes);
});

fn read(name: &[u8]) {
    let Some(record) = Record::parse(name) else { return };
    let again = record.encode();
    assert!(again.len() <= limits::LITERAL_NAME && again.is_ascii());
    let parsed = Record::parse(again.as_bytes()).expect("what was written can be read");
    // A record that is longer when it is written has lost its places.
    let lost = again.contains("lost=1");
    assert!(lost || parsed == record);
}

fn write(message: &[u8]) {
    let (fields_end, body_start) = Head::find_end(message, 0).unwrap_or((message.len(), message.len()));
    let head = Head::new(&message[..fields_end], &message[fields_end..body_start]);
    let envelope = Envelope::new(head, LineEnding::of(message), None, true, Shell::pgp_mime([0; 16]));
    let name = envelope.record().encode();
    let record = Record::parse(name.as_bytes()).expect("our own record");
    assert_eq!(record.line_ending, LineEnding::of(message));
    let HeaderRecord::Plain(record) = record.header else { panic!("{name}") };
    let (region, tail) = head.split();
    assert_eq!(record.tail.is_some(), !tail.is_empty());
    assert_eq!(record.added_type, !head.may_have_type());
    assert_eq!(record.marked, tail.is_empty());
    let Some(places) = &record.places else {
        assert!(name.contains("lost=1"));
        return;
    };

    // The header from what stands outside and inside, and the record.
    let mut kept = region.items().filter(|item| !item.kind.is_mime());
    let mut moved = region.items().filter(|item| item.kind == Kind::Content);
    let mut original = Vec::new();
    let before = region.items().take_while(|item| !item.kind.is_mime()).count();
    kept.by_ref().take(before).for_each(|item| original.extend(item.raw));
    assert!(record.tail.is_none_or(|behind| behind == kept.clone().count()));
    for place in places {
        match place {
            Place::Kept(count) => kept.by_ref().take(*count).for_each(|item| original.extend(item.raw)),
            Place::Content => original.extend(moved.next().expect("a field for every place").raw),
            Place::MimeVersion(field) => {
                original.extend(field.bytes());
                if !field.bytes().ends_with(b"\n") && original.len() < fields_end {
                    original.extend(envelope.ending().bytes());
                }
            }
        }
    }
    kept.for_each(|item| original.extend(item.raw));
    assert!(moved.next().is_none());
    original.extend(tail.bytes());
    assert_eq!(original, head.fields(), "{name}");
    let end = match (head.separator().is_empty(), head.fields().ends_with(b"\n")) {
        (false, _) => HeadEnd::EmptyLine,
        (true, true) => HeadEnd::None,
        _ if head.fields().is_empty() => HeadEnd::None,
        (true, false) => HeadEnd::Cut,
    };
    assert_eq!(record.end, end);
}
