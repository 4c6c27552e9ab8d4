//! Messages that look encrypted, with readable text in every place there is.

use data_encoding::BASE64;

/// Octets that pass for ciphertext.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Words in the letters of base64, in as many characters.
pub fn words(length: usize) -> Vec<u8> {
    b"the/canary/sings/at/noon/and/whoever/reads/the/stored/mail/can/read/this/as/well/"
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

/// Octets that can be read as they are, or, if `coded`, as base64: four characters are three of them.
pub fn text(octets: usize, coded: bool) -> Vec<u8> {
    if !coded {
        return words(octets);
    }
    let mut text = BASE64.decode(&words(octets.div_ceil(3) * 4)).unwrap();
    text.truncate(octets);
    text
}

/// Bytes in lines of base64.
pub fn lines(octets: &[u8]) -> Vec<u8> {
    let text = BASE64.encode(octets);
    text.as_bytes().chunks(64).flat_map(|line| [line, b"\n"].concat()).collect()
}

/// How OpenPGP is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    PgpMime,
    Exchange,
    Inline,
}

/// An OpenPGP message, each place with as many bytes of text as it says.
#[derive(Clone, Debug)]
pub struct OpenPgp {
    pub frame: Frame,
    pub preamble: usize,
    pub part_headers: [usize; 3],
    pub armor_headers: usize,
    /// Octets in a PKESK of an algorithm that nobody knows.
    pub unknown: usize,
    /// Octets in a PKESK for RSA.
    pub rsa: usize,
    /// Whether the checksum of the armor is a word.
    pub checksum: bool,
    pub ciphertext: Vec<u8>,
}

impl OpenPgp {
    pub fn new(frame: Frame, ciphertext: Vec<u8>) -> Self {
        Self {
            frame,
            preamble: 0,
            part_headers: [0; 3],
            armor_headers: 0,
            unknown: 0,
            rsa: 0,
            checksum: false,
            ciphertext,
        }
    }

    pub fn message(&self) -> Vec<u8> {
        let packet = |tag: u8, body: &[u8]| {
            [&[0xc0 | tag, 255], &u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
        };
        let mut octets = Vec::new();
        if self.unknown > 0 {
            octets.extend(packet(1, &[&[3][..], &[0; 8], &text(self.unknown, true)].concat()));
        }
        let number = if self.rsa > 0 { text(self.rsa, true) } else { noise(256, 1) };
        let bits = u16::try_from(number.len() * 8).unwrap().to_be_bytes();
        octets.extend(packet(1, &[&[3][..], &[0; 8], &[1], &bits, &number].concat()));
        octets.extend(packet(18, &[&[1][..], &self.ciphertext].concat()));
        let checksum = if self.checksum { "=noon\n" } else { "" };
        let armor = [
            b"-----BEGIN PGP MESSAGE-----\n",
            &field("Comment", self.armor_headers)[..],
            b"\n",
            &lines(&octets),
            checksum.as_bytes(),
            b"-----END PGP MESSAGE-----\n",
        ]
        .concat();
        let [blank, control, data] = self.part_headers.map(|size| field("X", size));
        let blank = [b"--b\nContent-Type: text/plain\n", &blank[..], b"\n\n"].concat();
        let control =
            [b"--b\nContent-Type: application/pgp-encrypted\n", &control[..], b"\nVersion: 1\n\n"].concat();
        let data =
            [b"--b\nContent-Type: application/octet-stream\n", &data[..], b"\n", &armor, b"--b--\n"].concat();
        let preamble = words(self.preamble);
        let preamble = if preamble.is_empty() { preamble } else { [&preamble[1..], b"\n"].concat() };
        match self.frame {
            Frame::Inline => [b"Subject: x\n\n", &armor[..]].concat(),
            Frame::PgpMime => [
                b"Content-Type: multipart/encrypted; boundary=b; protocol=\"application/pgp-encrypted\"\n\n",
                &preamble[..],
                &control,
                &data,
            ]
            .concat(),
            Frame::Exchange => {
                [b"Content-Type: multipart/mixed; boundary=b\n\n", &preamble[..], &blank, &control, &data]
                    .concat()
            }
        }
    }
}

/// A header field that takes `size` bytes.
fn field(name: &str, size: usize) -> Vec<u8> {
    match size.checked_sub(name.len() + 3) {
        Some(value) => [name.as_bytes(), b": ", &words(value), b"\n"].concat(),
        None => Vec::new(),
    }
}

/// A BER value with a long form of its length.
pub fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x84], &u32::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

/// An S/MIME message, each place with as many octets of text as it says.
#[derive(Clone, Debug)]
pub struct Smime {
    /// In base64, or binary.
    pub coded: bool,
    pub originator: usize,
    pub recipients: Vec<usize>,
    pub kind: usize,
    pub parameters: usize,
    pub attributes: usize,
    pub mac: usize,
    pub ciphertext: Vec<u8>,
    /// How long the strings of the ciphertext are, where it is cut into some.
    pub strings: Option<usize>,
}

impl Smime {
    pub fn new(coded: bool, ciphertext: Vec<u8>) -> Self {
        Self {
            coded,
            originator: 0,
            recipients: vec![300],
            kind: 1,
            parameters: 16,
            attributes: 0,
            mac: 16,
            ciphertext,
            strings: None,
        }
    }

    pub fn message(&self) -> Vec<u8> {
        let text = |size| text(size, self.coded);
        let some = |tag, size| if size > 0 { value(tag, &text(size)) } else { Vec::new() };
        let recipients: Vec<u8> = self.recipients.iter().flat_map(|size| value(0x30, &text(*size))).collect();
        let algorithm = value(0x30, &[value(6, &[1]), some(4, self.parameters)].concat());
        let data = match self.strings {
            None => value(0x80, &self.ciphertext),
            Some(size) => {
                let strings: Vec<u8> =
                    self.ciphertext.chunks(size).flat_map(|octets| value(4, octets)).collect();
                value(0xa0, &strings)
            }
        };
        let content = value(0x30, &[value(6, &text(self.kind)), algorithm, data].concat());
        let enveloped = [
            value(2, &[0]),
            some(0xa0, self.originator),
            value(0x31, &recipients),
            content,
            some(0xa1, self.attributes),
            value(4, &text(self.mac)),
        ];
        let oid = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17";
        let info = [value(6, oid), value(0xa0, &value(0x30, &enveloped.concat()))].concat();
        let cms = value(0x30, &info);
        let (encoding, body) = if self.coded { ("base64", lines(&cms)) } else { ("8bit", cms) };
        let head = format!(
            "Content-Type: application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: {encoding}\n\n"
        );
        [head.as_bytes(), &body].concat()
    }
}
