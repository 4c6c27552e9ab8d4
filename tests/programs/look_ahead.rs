//! A message that is encrypted already counts as such wherever the look-ahead ends in it.

use data_encoding::BASE64;
use mailseal_core::classify::{Encrypted, classify};
use mailseal_core::limits::LOOK_AHEAD;
use mailseal_core::message::opening::Opening;

/// How much of what follows the ciphertext the look-ahead is tried at: more than all that.
const TAIL: usize = 100;

fn lines(octets: &[u8]) -> String {
    let text = BASE64.encode(octets);
    text.as_bytes().chunks(64).map(|line| format!("{}\n", std::str::from_utf8(line).unwrap())).collect()
}

/// Octets that pass for ciphertext.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(size)
    .collect()
}

/// A session key and an encrypted packet with `size` octets, of which only the structure is true.
fn armor(size: usize, checksum: &str) -> String {
    let mut octets = b"\xc1\x02\x03\x00\xd2\xff".to_vec();
    octets.extend(u32::try_from(size).unwrap().to_be_bytes());
    octets.push(1);
    octets.extend(noise(size - 1));
    format!("-----BEGIN PGP MESSAGE-----\n\n{}{checksum}-----END PGP MESSAGE-----\n", lines(&octets))
}

fn pgp_mime(encoding: &str, data: &str) -> (String, String) {
    let head =
        "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"=_b\"\n\n";
    let body = format!(
        "--=_b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--=_b\n\
         Content-Type: application/octet-stream\n{encoding}\n{data}\n--=_b--\n\n"
    );
    (head.into(), body)
}

/// Enveloped data for one recipient, the ciphertext in one string.
fn cms(size: usize) -> Vec<u8> {
    let value = |tag: u8, content: &[u8]| {
        let mut octets = vec![tag, 0x84];
        octets.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        octets.extend(content);
        octets
    };
    let content = [value(6, &[1]), value(0x30, &[]), value(0x80, &noise(size))].concat();
    let enveloped = [value(2, &[0]), value(0x31, &value(0x30, b"x")), value(0x30, &content)].concat();
    let oid = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03";
    value(0x30, &[value(6, oid), value(0xa0, &value(0x30, &enveloped))].concat())
}

#[test]
fn encrypted_mail_is_known_wherever_the_look_ahead_ends() {
    let octets = (LOOK_AHEAD - 2000) / 65 * 48;
    let smime = "Content-Type: application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n";
    let mails = [
        ("PGP/MIME", Encrypted::PgpMime, pgp_mime("", &armor(octets, "=abcd\n"))),
        ("without a checksum", Encrypted::PgpMime, pgp_mime("", &armor(octets, ""))),
        (
            "PGP/MIME in base64",
            Encrypted::PgpMime,
            pgp_mime(
                "Content-Transfer-Encoding: base64\n",
                &lines(armor(octets / 65 * 48, "=abcd\n").as_bytes()),
            ),
        ),
        ("inline", Encrypted::PgpInline, (String::from("Subject: x\n\n"), armor(octets, "=abcd\n"))),
        ("S/MIME", Encrypted::Smime, (String::from(smime), lines(&cms(octets)))),
    ];
    let mut unknown = Vec::new();
    for (what, kind, (head, body)) in mails {
        let mut cuts = Vec::new();
        // Blank lines put the end of the body where it is wanted; in the control part, where they are no preamble.
        let least = (LOOK_AHEAD - 10).checked_sub(body.len()).expect("shorter than the look-ahead");
        for blank in least..least + 10 + TAIL {
            let filler = "\n".repeat(blank);
            let body = match kind {
                Encrypted::PgpMime => body.replacen("Version: 1\n", &format!("Version: 1\n{filler}"), 1),
                _ => filler + &body,
            };
            let message = format!("{head}{body}");
            let opening = Opening::read(&mut message.as_bytes()).unwrap();
            if classify(opening.head(), opening.body(), opening.is_whole()) != Some(kind) {
                cuts.push(message.len() as i64 - opening.bytes().len() as i64);
            }
        }
        if let (Some(first), Some(last)) = (cuts.first(), cuts.last()) {
            unknown.push(format!(
                "{what}: not with {first} to {last} bytes after the look-ahead ({})",
                cuts.len()
            ));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}
