//! What each stage of sealing costs: `cargo bench --bench stages`, with a part of a name to run only some.
//!
//! `bound` is as fast as AES-256-CFB and SHA-1 can be together on this machine, `stock` what sequoia's own writers
//! take for the same message. Whole processes, and other programs, are compared by `benches/compare`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{self, Write as _};
use std::sync::LazyLock;
use std::time::SystemTime;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use mailseal_core::classify::classify;
use mailseal_core::message::opening::Opening;
use mailseal_core::openpgp::Encryption;
use mailseal_core::openpgp::armor::Armor;
use mailseal_core::openpgp::compress::{Compression, Compressor};
use mailseal_core::openpgp::padding::Padding;
use mailseal_core::protect::Policy;
use mailseal_core::recipients::{Recipients, Session, WhenExpired};
use mailseal_core::seal::Sealer;
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::stream::{Armorer, Encryptor, LiteralWriter, Message, Recipient};
use sequoia_openpgp::types::{CompressionAlgorithm, Features, SymmetricAlgorithm};

/// AES and SHA-1 in turn, as fast as it goes.
#[path = "bound/interleaved.rs"]
mod interleaved;

/// Octets in the attachment of the large mail, before base64.
const ATTACHMENT: usize = 20 << 20;

fn main() {
    divan::main();
}

/// What is sealed.
#[derive(Clone, Copy, Debug)]
enum Mail {
    /// 1 kB of text.
    Small,
    /// 100 kB of HTML.
    Html,
    /// 20 MB of random octets in base64: 28 MB.
    Large,
    /// The same with CRLF.
    LargeCrlf,
}

/// In the order of their size.
const MAILS: [Mail; 4] = [Mail::Small, Mail::Html, Mail::Large, Mail::LargeCrlf];

impl Mail {
    fn bytes(self) -> &'static [u8] {
        static MADE: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
            let mail = |kind: &str, body: &[u8]| {
                let fields = "From: Alice <alice@example.org>\nTo: bob@example.org\nSubject: The figures\n\
                    Date: Thu, 1 Jan 2026 12:00:00 +0000\nMessage-ID: <1@example.org>\nMIME-Version: 1.0\n";
                [format!("{fields}{kind}\n").as_bytes(), body].concat()
            };
            let attached = "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n";
            let large = mail(attached, &base64(ATTACHMENT));
            let crlf = String::from_utf8(large.clone()).unwrap().replace('\n', "\r\n").into_bytes();
            [
                mail("Content-Type: text/plain; charset=utf-8\n", &text(800)),
                mail("Content-Type: text/html; charset=utf-8\n", &html(100_000)),
                large,
                crlf,
            ]
        });
        &MADE[self as usize]
    }
}

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A word of a made-up language of 4096 words, a few of them frequent.
    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 16] = [
            "ta", "ren", "o", "sil", "ver", "mi", "ka", "the", "un", "del", "ing", "a", "por", "es", "lu",
            "ni",
        ];
        let random = self.next();
        // The smaller of three: small numbers are frequent.
        let number = [random, random >> 12, random >> 24].map(|it| it & 0xfff).into_iter().min().unwrap();
        let syllables = [number & 15, number >> 4 & 15, number >> 8].map(|at| SYLLABLES[at as usize]);
        syllables[..(number as usize % 3) + 1].concat()
    }
}

fn text(length: usize) -> Vec<u8> {
    let mut numbers = Numbers(1);
    let mut text = String::new();
    while text.len() < length {
        let line: Vec<_> = (0..10).map(|_| numbers.word()).collect();
        text += &line.join(" ");
        text.push('\n');
    }
    text.into_bytes()
}

fn html(length: usize) -> Vec<u8> {
    let mut numbers = Numbers(2);
    let mut html = String::from("<html><body><table>\n");
    while html.len() < length {
        let (name, number) = (numbers.word(), numbers.next() % 10_000);
        html += &format!(
            "<tr><td style=\"padding: 0; color: #333333\" class=\"cell\"><a href=\"https://example.org/?id={number}\">\
             {name} {}</a></td></tr>\n",
            numbers.word()
        );
    }
    (html + "</table></body></html>\n").into_bytes()
}

fn base64(length: usize) -> Vec<u8> {
    let mut numbers = Numbers(3);
    let octets: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes()).collect();
    let characters = base64_simd::STANDARD.encode_to_string(&octets[..length]);
    characters.as_bytes().chunks(76).flat_map(|line| [line, b"\n"].concat()).collect()
}

fn cert(version: u8) -> Cert {
    let bytes: &[u8] = match version {
        6 => include_bytes!("../fixtures/certs/v6.pgp"),
        _ => include_bytes!("../fixtures/certs/curve25519.pgp"),
    };
    Cert::from_bytes(bytes).unwrap()
}

fn recipients(version: u8) -> Recipients {
    Recipients::choose("user", &[cert(version)], &[], WhenExpired::Defer, SystemTime::now()).unwrap()
}

/// Reading the beginning of a message: the header is split off, and up to 1 MB of the body is there.
#[divan::bench(args = MAILS)]
fn opening(bencher: Bencher<'_, '_>, mail: Mail) {
    bencher.bench(|| Opening::read(&mut black_box(mail.bytes())).unwrap());
}

/// Going over all fields of a header.
#[divan::bench(args = [Mail::Small])]
fn header(bencher: Bencher<'_, '_>, mail: Mail) {
    let opening = Opening::read(&mut mail.bytes()).unwrap();
    bencher.bench(|| black_box(opening.head()).items().count());
}

/// Whether a message is encrypted already.
#[divan::bench(name = "classify", args = MAILS)]
fn classification(bencher: Bencher<'_, '_>, mail: Mail) {
    let opening = Opening::read(&mut mail.bytes()).unwrap();
    bencher.bench(|| classify(black_box(opening.head()), opening.body(), opening.is_whole()));
}

/// The armor alone, with its checksum, over random octets.
#[divan::bench(sample_count = 20)]
fn armor_alone(bencher: Bencher<'_, '_>) {
    let octets: Vec<u8> = (0..ATTACHMENT).map(|at| (at * at % 251) as u8).collect();
    bencher.counter(BytesCount::new(octets.len())).bench(|| {
        let mut armor = Armor::new(io::sink(), "\n", true).unwrap();
        octets.chunks(1 << 14).for_each(|piece| armor.write_all(piece).unwrap());
        armor.finish().unwrap()
    });
}

/// Compression alone: of text, of HTML, and of an attachment in base64.
mod compress {
    use super::*;

    const SIZE: usize = 4 << 20;

    #[divan::bench(args = [Compression::Auto, Compression::Zlib(6), Compression::Zlib(1)], sample_count = 5)]
    fn of_text(bencher: Bencher<'_, '_>, how: Compression) {
        compress(bencher, how, &text(SIZE));
    }

    #[divan::bench(args = [Compression::Auto, Compression::Zlib(6), Compression::Zlib(1)], sample_count = 5)]
    fn of_html(bencher: Bencher<'_, '_>, how: Compression) {
        compress(bencher, how, &html(SIZE));
    }

    #[divan::bench(args = [Compression::Auto, Compression::Zlib(6), Compression::Zlib(1)], sample_count = 5)]
    fn of_base64(bencher: Bencher<'_, '_>, how: Compression) {
        compress(bencher, how, &base64(SIZE));
    }

    fn compress(bencher: Bencher<'_, '_>, how: Compression, data: &[u8]) {
        bencher.counter(BytesCount::new(data.len())).bench(|| {
            let mut compressor = Compressor::new(io::sink(), CompressionAlgorithm::Zip, how).unwrap();
            data.chunks(1 << 16).for_each(|piece| compressor.write_all(piece).unwrap());
            compressor.finish(Padding::None).unwrap()
        });
    }
}

/// A session key and its encryption to one certificate, which has been read and judged.
#[divan::bench(args = [4, 6])]
fn session(bencher: Bencher<'_, '_>, version: u8) {
    let recipients = recipients(version);
    bencher.bench(|| recipients.session().unwrap());
}

/// Reading and judging a certificate.
#[divan::bench(name = "certificate", args = [4, 6])]
fn certificate(version: u8) -> Recipients {
    recipients(version)
}

/// All but the certificate: from a message in memory to nowhere.
mod sealing {
    use super::*;

    #[divan::bench(args = MAILS)]
    fn auto(bencher: Bencher<'_, '_>, mail: Mail) {
        sealing(bencher, mail, 4, Compression::Auto);
    }

    #[divan::bench(args = MAILS)]
    fn none(bencher: Bencher<'_, '_>, mail: Mail) {
        sealing(bencher, mail, 4, Compression::None);
    }

    #[divan::bench(args = MAILS)]
    fn none_seipd2(bencher: Bencher<'_, '_>, mail: Mail) {
        sealing(bencher, mail, 6, Compression::None);
    }

    fn sealing(bencher: Bencher<'_, '_>, mail: Mail, version: u8, compression: Compression) {
        let recipients = recipients(version);
        let sealer = Sealer { compression, ..Sealer::to(&recipients, Policy::None) };
        bencher.counter(BytesCount::new(mail.bytes().len())).bench(|| {
            let mut rest = mail.bytes();
            let opening = Opening::read(&mut rest).unwrap();
            sealer.seal(&opening, &mut rest, io::sink()).unwrap();
        });
    }
}

/// The ciphertext of the large mail, without compression, against what it cannot be faster than and sequoia's own.
mod ciphertext {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn bound(bencher: Bencher<'_, '_>) {
        let data = Mail::Large.bytes();
        bencher.counter(BytesCount::new(data.len())).bench(|| interleaved::run(black_box(data)));
    }

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher<'_, '_>) {
        let (data, recipients) = (Mail::Large.bytes(), recipients(4));
        bencher.counter(BytesCount::new(data.len())).bench(|| {
            let Session::OpenPgp(session) = recipients.session().unwrap() else { unreachable!() };
            let encryption = Encryption {
                session: &session,
                compression: Compression::None,
                padding: Padding::None,
                name: b"",
                ending: "\n",
                pieces: None,
            };
            let written = encryption.write(io::sink(), |out| {
                data.chunks(1 << 16).for_each(|piece| out.write_all(piece).unwrap());
                Ok(())
            });
            written.unwrap()
        });
    }

    #[divan::bench(args = [4, 6], sample_count = 5)]
    fn stock(bencher: Bencher<'_, '_>, version: u8) {
        let (data, cert) = (Mail::Large.bytes(), cert(version));
        bencher.counter(BytesCount::new(data.len())).bench(|| stock_encrypt(data, &cert, version));
    }

    fn stock_encrypt(data: &[u8], cert: &Cert, version: u8) {
        let policy = StandardPolicy::new();
        let features = match version {
            6 => Features::empty().set_seipdv2(),
            _ => Features::empty().set_seipdv1(),
        };
        let recipients = cert
            .keys()
            .with_policy(&policy, None)
            .supported()
            .alive()
            .revoked(false)
            .for_storage_encryption()
            .map(|key| Recipient::new(features.clone(), key.key().key_handle(), key.key()));
        let message = Armorer::new(Message::new(io::sink())).build().unwrap();
        let message = Encryptor::for_recipients(message, recipients)
            .symmetric_algo(SymmetricAlgorithm::AES256)
            .build()
            .unwrap();
        let mut message = LiteralWriter::new(message).build().unwrap();
        data.chunks(1 << 16).for_each(|piece| message.write_all(piece).unwrap());
        message.finalize().unwrap();
    }
}
