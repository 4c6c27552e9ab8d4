//! Messages of any size that take no memory to make: each function gives one of about `size` bytes, or of `size` parts.

use std::io::{self, Write};

use mailseal_core::limits;

use super::run::Mail;

/// In every message, in the header and in the body: it must appear in no complaint.
pub const CANARY: &str = "canary-b1d7a2";

/// What every header begins with.
const HEAD: &str = "From: a@example.net\nTo: b@example.org\nSubject: canary-b1d7a2\nMIME-Version: 1.0\n";

/// Bytes of a line of [`body`].
const LINE: usize = 76;

/// Writes `pattern` `count` times.
fn repeat(out: &mut dyn Write, pattern: &[u8], count: usize) -> io::Result<()> {
    let block = pattern.repeat((32 * 1024 / pattern.len()).max(1).min(count.max(1)));
    let in_block = block.len() / pattern.len();
    for _ in 0..count / in_block {
        out.write_all(&block)?;
    }
    out.write_all(&block[..count % in_block * pattern.len()])
}

fn mail(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Mail {
    Box::new(write)
}

/// A body of ordinary lines.
pub fn body(size: usize) -> Mail {
    mail(move |out| {
        writeln!(out, "{HEAD}")?;
        repeat(out, format!("{CANARY:.<width$}\n", width = LINE - 1).as_bytes(), size / LINE)
    })
}

/// A body without a line end.
pub fn line(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}\n{CANARY}")?;
        repeat(out, b"x", size)
    })
}

/// A body of empty lines: each LF becomes CRLF inside.
pub fn empty_lines(size: usize) -> Mail {
    mail(move |out| {
        writeln!(out, "{HEAD}")?;
        repeat(out, b"\n", size)
    })
}

/// Multiparts in multiparts.
pub fn nested_parts(count: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/mixed; boundary=b0\n\n")?;
        for depth in 0..count {
            write!(out, "--b{depth}\nContent-Type: multipart/mixed; boundary=b{}\n\n", depth + 1)?;
        }
        Ok(())
    })
}

/// One multipart with that many parts.
pub fn sibling_parts(count: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/encrypted; {PGP_MIME}; boundary=b\n\n")?;
        repeat(out, b"--b\nContent-Type: text/plain\n\ntext\n", count)?;
        writeln!(out, "--b--")
    })
}

const PGP_MIME: &str = "protocol=\"application/pgp-encrypted\"";

/// Lines that are the boundary but for their end, in what claims to be encrypted.
pub fn near_boundaries(size: usize) -> Mail {
    let boundary = "b".repeat(64);
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/encrypted; {PGP_MIME}; boundary=\"{boundary}\"\n\n")?;
        let lines =
            format!("--{0}c\n--{0}\n-{1}\n--{0}\r--{1}\n-- {1}\n", &boundary[1..], boundary.to_uppercase());
        repeat(out, lines.as_bytes(), size / lines.len())
    })
}

/// True boundaries with nothing between them.
pub fn only_boundaries(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/encrypted; {PGP_MIME}; boundary=b\n\n")?;
        repeat(out, b"--b\n\n", size / 5)
    })
}

/// An RFC 3156 message whose preamble is longer than anyone looks.
pub fn preamble(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/encrypted; {PGP_MIME}; boundary=b\n\n")?;
        repeat(out, b"text before the parts\n", size / 22)?;
        write!(out, "--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\n")?;
        write!(out, "Content-Type: application/octet-stream\n\n")?;
        armor(out, 1024)?;
        write!(out, "\n--b--\n")
    })
}

/// An armor without end, its data as it should be: a session key, and a packet that claims 2 GiB.
fn armor(out: &mut dyn Write, size: usize) -> io::Result<()> {
    let begin = b"\xc1\x02\x03\x00\xd2\xff\x7f\xff\xff\xff\x01\x00";
    write!(out, "-----BEGIN PGP MESSAGE-----\n\n{}\n", data_encoding::BASE64.encode(begin))?;
    ciphertext(size / 65).try_for_each(|line| out.write_all(line.as_bytes()))?;
    writeln!(out, "-----END PGP MESSAGE-----")
}

/// Lines of armor that hold what passes for ciphertext.
fn ciphertext(lines: usize) -> impl Iterator<Item = String> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        let octets: [u8; 48] = std::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        format!("{}\n", data_encoding::BASE64.encode(&octets))
    })
    .take(lines)
}

/// A message that is encrypted as far as one can see.
pub fn encrypted(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/encrypted; {PGP_MIME}; boundary=b\n\n")?;
        write!(out, "--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\n")?;
        write!(out, "Content-Type: application/octet-stream\n\n")?;
        armor(out, size)?;
        write!(out, "\n--b--\n")
    })
}

/// The same, the armor once more in base64.
pub fn encrypted_in_base64(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/encrypted; {PGP_MIME}; boundary=b\n\n")?;
        write!(out, "--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\n")?;
        write!(out, "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n")?;
        let begin = b"-----BEGIN PGP MESSAGE-----\n\nwQIDANL/f////wEA";
        writeln!(out, "{}", data_encoding::BASE64.encode(begin))?;
        // Three lines at once: their length is a multiple of three.
        let lines: Vec<String> = ciphertext(size / 87).collect();
        lines.chunks(3).try_for_each(|lines| {
            writeln!(out, "{}", data_encoding::BASE64.encode(lines.concat().as_bytes()))
        })
    })
}

/// The same behind a header that is as long as it can be for all of the look-ahead to be left.
pub fn encrypted_behind_header(size: usize) -> Mail {
    mail(move |out| {
        repeat(out, b"X-A: canary-b1d7a2\n", (limits::HEADER - limits::LOOK_AHEAD - 1000) / 19)?;
        encrypted_in_base64(size)(out)
    })
}

/// An armor whose headers never end.
pub fn armor_headers(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}\n-----BEGIN PGP MESSAGE-----\n")?;
        repeat(out, b"Comment: text\n", size / 14)
    })
}

/// An armor of nothing but session keys.
pub fn session_keys(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}\n-----BEGIN PGP MESSAGE-----\n\n")?;
        let keys = b"\xc1\x01\x03".repeat(16);
        repeat(out, format!("{}\n", data_encoding::BASE64.encode(&keys)).as_bytes(), size / 65)
    })
}

/// An encrypted packet in partial bodies of one octet each.
pub fn partial_bodies(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}\n-----BEGIN PGP MESSAGE-----\n\n")?;
        let mut begin = b"\xc1\x01\x03\xd2\xe0\x01".to_vec();
        begin.extend(b"\xe0\0".repeat(21));
        writeln!(out, "{}", data_encoding::BASE64.encode(&begin))?;
        let bodies = b"\xe0\0".repeat(24);
        repeat(out, format!("{}\n", data_encoding::BASE64.encode(&bodies)).as_bytes(), size / 65)
    })
}

/// What claims to be S/MIME, with `content` over and over where the recipients stand.
fn smime(size: usize, content: [u8; 6]) -> Mail {
    mail(move |out| {
        writeln!(out, "{HEAD}Content-Type: application/pkcs7-mime; name=smime.p7m")?;
        write!(out, "Content-Transfer-Encoding: base64\n\n")?;
        // ContentInfo, EnvelopedData and the set of recipients, all of indefinite length; one recipient.
        let begin = b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0\x80\x30\x80\x02\x02\0\0\x31\x80\x30\x02\0\0";
        writeln!(out, "{}", data_encoding::BASE64.encode(begin))?;
        let line = data_encoding::BASE64.encode(&content.repeat(9));
        repeat(out, format!("{line}\n").as_bytes(), size / (line.len() + 1))
    })
}

/// Sequences in sequences, none of which ends.
pub fn nested_cms(size: usize) -> Mail {
    smime(size, *b"\x30\x80\x30\x80\x30\x80")
}

/// Recipients without number.
pub fn cms_recipients(size: usize) -> Mail {
    smime(size, *b"\x30\x01\0\x30\x01\0")
}

/// A header of `size` bytes: `begin`, `pattern` over and over, and `end`.
pub fn header(begin: &'static str, pattern: &'static str, end: &'static str, size: usize) -> Mail {
    mail(move |out| {
        let room = size - HEAD.len() - begin.len() - end.len() - 1;
        write!(out, "{HEAD}{begin}")?;
        repeat(out, pattern.as_bytes(), room / pattern.len())?;
        write!(out, "{end}\n\n")?;
        // More than is looked at, or the message would be at its end there.
        repeat(out, b"body\n", 400_000)
    })
}

/// A header in which every parameter of the type has a name of its own.
pub fn parameters(size: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}Content-Type: multipart/encrypted")?;
        let mut room = size - HEAD.len() - 33;
        for number in 0.. {
            let parameter = format!(";{number:x}=b");
            let Some(left) = room.checked_sub(parameter.len() + 1) else { break };
            room = left;
            out.write_all(parameter.as_bytes())?;
        }
        write!(out, "\n\nbody\n")
    })
}

/// That many fields.
pub fn fields(count: usize) -> Mail {
    mail(move |out| {
        write!(out, "{HEAD}")?;
        repeat(out, b"A:\n", count)?;
        write!(out, "\nbody\n")
    })
}

/// Fields for ever.
pub fn endless_header() -> Mail {
    mail(|out| {
        write!(out, "{HEAD}")?;
        loop {
            repeat(out, b"X-A: canary-b1d7a2\n", 10_000)?;
        }
    })
}

/// One field for ever.
pub fn endless_field() -> Mail {
    mail(|out| {
        write!(out, "{HEAD}X-A: canary-b1d7a2")?;
        loop {
            repeat(out, b"x", 1_000_000)?;
        }
    })
}
