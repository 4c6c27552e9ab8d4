//! The oracle's own header splitter, which every check of a sealed message rests on, and the search for a word that must not leave.

use testing::canary::Canary;
use testing::header::{Kind, split};

fn kinds(message: &[u8]) -> Vec<Kind> {
    split(message).items.into_iter().map(|item| item.kind).collect()
}

#[test]
fn tells_fields_from_other_lines() {
    let field = |name: &str| Kind::Field(name.to_owned());
    let no = || Kind::NoField;
    assert_eq!(
        kinds(b"From x\nFrom y\nA: 1\n 2\nb c: 3\n\nD: 4\n"),
        [Kind::FromLine, no(), field("a"), no()]
    );
    assert_eq!(kinds(b"From x\n y\n z\nA: 1\n"), [Kind::FromLine, no(), field("a")]);
    assert_eq!(kinds(b" x\nContent-Type:\r\n"), [no(), field("content-type")]);
    assert_eq!(kinds(b": x\nX\xf6: y\nTo : z\n"), [no(), no(), no()]);
    assert_eq!(kinds(b"Content-Type : x\n"), [no()]);
    assert_eq!(kinds(b"A: 1\r2\nA: 1\r\n 2\r\nA: 1\r"), [no(), field("a"), no()]);
}

#[test]
fn cuts_at_the_empty_line() {
    let cut = split(b"A: 1\r\n \r\n\r\nbody\n\n");
    assert_eq!((cut.items.len(), cut.separator, cut.body), (1, Some(&b"\r\n"[..]), &b"body\n\n"[..]));
    assert_eq!(split(b"\nbody").body, b"body");
    assert!(split(b"A: 1\n\r").separator.is_none());
    assert_eq!(split(b"A: 1\n\r").body, b"\r");
}

#[test]
fn tells_the_tail_and_what_is_repeated() {
    let cut = split(b"A: 1\nB: 2\n \n\t\n text\nC: 3\nTo: 4\nContent-Type : 5\n");
    assert_eq!(cut.region_and_tail().0.len(), 1);
    let repeated: Vec<&[u8]> = cut.repeated().iter().map(|item| item.bytes).collect();
    assert_eq!(repeated, [&b"B: 2\n \n\t\n"[..], b"To: 4\n"]);
    assert!(cut.may_have_type());
    assert!(
        split(b"junk\rContent-Type: x\n").may_have_type()
            && !split(b"junk\n Content-Type: x\n").may_have_type()
    );
}

#[test]
fn a_word_is_found_however_it_is_written() {
    let canary = Canary::of("canaryabcdefgh");
    let samples = [
        ("Subject: CanaryABCdefgh!", "as it is"),
        ("x=63anary=61bc=\r\ndefgh", "quoted-printable"),
        ("Subject: canaryabc\r\n defgh", "folded"),
        ("Y2FuYXJ5YWJj\r\nZGVmZ2g=", "base64"),
        ("eGNhbmFyeWFiY2RlZmdo", "base64"),
        ("eHhjYW5hcnlhYmNkZWZnaA==", "base64"),
        ("63616E617279616263646566\n6768", "hexadecimal"),
        ("c\0a\0n\0a\0r\0y\0a\0b\0c\0d\0e\0f\0g\0h", "UTF-16"),
    ];
    for (text, how) in samples {
        assert_eq!(canary.found_in(text.as_bytes()), Some(how), "{text}");
    }
    assert_eq!(canary.found_in(b"canaryabcdefg and nothing else"), None);
}
