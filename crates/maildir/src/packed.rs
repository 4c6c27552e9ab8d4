//! Messages that Dovecot or an admin has stored compressed or encrypted for the server: known by their first bytes.
//!
//! Nothing else is believed: neither a `Z` among the flags nor a size in the name.

use std::io::{self, BufReader, Read};

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2.
    Bzip2,
    /// LZ4's own frames.
    Lz4,
    /// LZ4 blocks as Dovecot's zlib plugin writes them.
    DovecotLz4,
    /// xz.
    Xz,
    /// Dovecot's mail_crypt: the server has the key.
    MailCrypt,
}

const DOVECOT_LZ4: &[u8] = b"Dovecot-LZ4\x0d\x2a\x9b\xc5";

const MAGIC: [(&[u8], Packing); 7] = [
    (b"\x1f\x8b", Packing::Gzip),
    (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    (b"BZh", Packing::Bzip2),
    (b"\x04\x22\x4d\x18", Packing::Lz4),
    (DOVECOT_LZ4, Packing::DovecotLz4),
    (b"\xfd7zXZ\x00", Packing::Xz),
    (b"CRYPTED\x03\x07", Packing::MailCrypt),
];

/// Most bytes that a packed message may unpack to; reading a larger one is an error.
pub const UNPACKED: u64 = 1024 * 1024 * 1024;

/// Longest magic.
pub const MAGIC_BYTES: usize = 16;

/// What a bzip2 file has behind `BZh` and its level: a block, or the end. A mail may well begin with `BZh1`.
const BZIP2_NEXT: [&[u8]; 2] = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];

impl Packing {
    /// The packing of the file that begins with `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (_, packing) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic))?;
        let proven = *packing != Self::Bzip2
            || bytes.get(4..).is_some_and(|rest| BZIP2_NEXT.iter().any(|next| rest.starts_with(next)));
        proven.then_some(*packing)
    }

    /// The name in the summary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Lz4 | Self::DovecotLz4 => "lz4",
            Self::Xz => "xz",
            Self::MailCrypt => "mail-crypt",
        }
    }

    /// Reads what is packed in `file`; `None` for what only the server's key opens.
    ///
    /// # Errors
    /// Those of the decoder. While reading, [`io::ErrorKind::FileTooLarge`] beyond [`UNPACKED`].
    pub fn unpack<'a>(self, file: impl Read + 'a) -> io::Result<Option<Box<dyn Read + 'a>>> {
        let reader: Box<dyn Read + 'a> = match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(zstd::Decoder::new(file)?),
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(file)),
            Self::Lz4 => Box::new(Lz4Frames::new(file)),
            Self::DovecotLz4 => Box::new(DovecotLz4::new(BufReader::new(file))?),
            Self::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(file)),
            Self::MailCrypt => return Ok(None),
        };
        Ok(Some(Box::new(Bounded { inner: reader, left: UNPACKED })))
    }
}

/// Fails beyond a number of bytes, where `take` would end as if there were no more.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let what = format!("it unpacks to more than {} bytes", UNPACKED);
            io::Error::new(io::ErrorKind::FileTooLarge, what)
        })?;
        Ok(count)
    }
}

/// LZ4 frames, one after the other. To the decoder a file that is cut between two blocks is a whole one; here its last
/// frame must have been ended by its end mark (LZ4 Frame Format, "EndMark").
struct Lz4Frames<R: Read> {
    decoder: lz4_flex::frame::FrameDecoder<Watched<R>>,
    /// Where the last whole frame ended.
    whole: u64,
}

impl<R: Read> Lz4Frames<R> {
    fn new(inner: R) -> Self {
        let watched = Watched { inner, position: 0, ended: false };
        Self { decoder: lz4_flex::frame::FrameDecoder::new(watched), whole: 0 }
    }
}

impl<R: Read> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            let file = self.decoder.get_ref();
            match file.ended {
                false => self.whole = file.position,
                true if self.whole == file.position => return Ok(0),
                true => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

/// Knows how much was read, and whether the end was met.
struct Watched<R> {
    inner: R,
    position: u64,
    ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

/// Largest chunk that is believed; Dovecot writes 64 KiB.
const LARGEST_CHUNK: u32 = 16 * 1024 * 1024;

/// Dovecot's LZ4: magic, the largest chunk's size, then chunks: a size and an LZ4 block. Numbers are 32 bits, big-endian
/// (Dovecot's `iostream-lz4.h`).
struct DovecotLz4<R> {
    inner: R,
    most: usize,
    chunk: io::Cursor<Vec<u8>>,
}

impl<R: Read> DovecotLz4<R> {
    fn new(mut inner: R) -> io::Result<Self> {
        let mut magic = [0; DOVECOT_LZ4.len()];
        inner.read_exact(&mut magic)?;
        let most = number(&mut inner)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self { inner, most, chunk: io::Cursor::default() })
    }
}

/// The next number; `None` at the end.
fn number(from: &mut impl Read) -> io::Result<Option<usize>> {
    let mut bytes = Vec::with_capacity(4);
    from.take(4).read_to_end(&mut bytes)?;
    match <[u8; 4]>::try_from(&*bytes) {
        Ok(bytes) => match u32::from_be_bytes(bytes) {
            number if number > LARGEST_CHUNK => Err(io::ErrorKind::InvalidData.into()),
            number => Ok(Some(number as usize)),
        },
        Err(_) if bytes.is_empty() => Ok(None),
        Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl<R: Read> Read for DovecotLz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            let Some(size) = number(&mut self.inner)? else { return Ok(0) };
            let mut packed = vec![0; size];
            self.inner.read_exact(&mut packed)?;
            let text = lz4_flex::block::decompress(&packed, self.most)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.chunk = io::Cursor::new(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &[u8] = b"Subject: packed\n\nA body, a body, a body.\n";

    fn packed(packing: Packing) -> Vec<u8> {
        match packing {
            Packing::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                out.write_all(TEXT).unwrap();
                out.finish().unwrap()
            }
            Packing::Zstd => zstd::encode_all(TEXT, 0).unwrap(),
            Packing::Bzip2 => {
                let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
                out.write_all(TEXT).unwrap();
                out.finish().unwrap()
            }
            Packing::Lz4 => {
                let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
                out.write_all(TEXT).unwrap();
                out.finish().unwrap()
            }
            Packing::DovecotLz4 => {
                let mut out = [DOVECOT_LZ4, &65_536_u32.to_be_bytes()].concat();
                for piece in TEXT.chunks(9) {
                    let block = lz4_flex::block::compress(piece);
                    out.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
                    out.extend(block);
                }
                out
            }
            Packing::Xz => {
                let mut out = liblzma::write::XzEncoder::new(Vec::new(), 6);
                out.write_all(TEXT).unwrap();
                out.finish().unwrap()
            }
            Packing::MailCrypt => b"CRYPTED\x03\x07\x02".to_vec(),
        }
    }

    #[test]
    fn what_is_packed_is_known_and_unpacked() {
        for (_, packing) in MAGIC {
            let bytes = packed(packing);
            assert_eq!(Packing::of(&bytes[..bytes.len().min(MAGIC_BYTES)]), Some(packing));
            let Some(mut reader) = packing.unpack(&*bytes).unwrap() else {
                assert_eq!(packing, Packing::MailCrypt);
                continue;
            };
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            assert_eq!(text, TEXT, "{packing:?}");
            let twice = [&*bytes, &bytes].concat();
            if packing != Packing::DovecotLz4 {
                text.clear();
                packing.unpack(&*twice).unwrap().unwrap().read_to_end(&mut text).unwrap();
                assert_eq!(text, [TEXT, TEXT].concat(), "{packing:?}");
            }
            // Dovecot's chunks have no end mark: a cut between two of them cannot be seen.
            let first = if packing == Packing::DovecotLz4 { bytes.len() - 3 } else { 1 };
            for length in first..bytes.len() {
                let Ok(cut) = packing.unpack(&bytes[..length]) else { continue };
                let ended = cut.unwrap().read_to_end(&mut Vec::new());
                assert!(ended.is_err(), "{packing:?}: a file cut at {length} is no shorter message");
            }
        }
    }

    #[test]
    fn mail_is_not_taken_for_packed() {
        for text in [&b"BZh1: a field\n\n"[..], b"From x", b"", b"\x1f", b"CRYPTED: no"] {
            assert_eq!(Packing::of(text), None);
        }
    }

    #[test]
    fn every_packing_has_a_name() {
        let names = MAGIC.map(|(_, packing)| packing.name());
        assert_eq!(names, ["gzip", "zstd", "bzip2", "lz4", "lz4", "xz", "mail-crypt"]);
    }

    #[test]
    fn bzip2_is_known_by_what_follows_its_level() {
        for (bytes, known) in [
            (&b"BZh9\x31\x41\x59\x26\x53\x59"[..], true),
            (b"BZh1\x17\x72\x45\x38\x50\x90", true),
            (b"BZh1\x17\x72\x45\x38\x50\x91", false),
            (b"BZh1", false),
            (b"BZh", false),
        ] {
            assert_eq!(Packing::of(bytes) == Some(Packing::Bzip2), known, "{bytes:?}");
        }
        assert_eq!(UNPACKED, 1 << 30);
    }

    #[test]
    fn what_unpacks_to_too_much_is_an_error() {
        for (left, fits) in [(9, false), (10, true), (11, true)] {
            let mut read = Vec::new();
            let result = Bounded { inner: &[7; 10][..], left }.read_to_end(&mut read);
            match result {
                Ok(count) => assert!(fits && count == 10 && read == [7; 10], "{left}"),
                Err(error) => assert!(!fits && error.kind() == io::ErrorKind::FileTooLarge, "{left}"),
            }
        }
    }

    #[test]
    fn a_chunk_has_a_bounded_size() {
        let most = LARGEST_CHUNK.to_be_bytes();
        let more = (LARGEST_CHUNK + 1).to_be_bytes();
        for (bytes, expected) in [
            (&most[..], Ok(Some(16 << 20))),
            (&more, Err(io::ErrorKind::InvalidData)),
            (&[0, 0, 0, 7, 9], Ok(Some(7))),
            (&[0, 0, 0], Err(io::ErrorKind::UnexpectedEof)),
            (&[], Ok(None)),
        ] {
            assert_eq!(number(&mut &*bytes).map_err(|error| error.kind()), expected, "{bytes:?}");
        }
        for bytes in [DOVECOT_LZ4.to_vec(), [DOVECOT_LZ4, &more].concat(), b"Dovecot".to_vec()] {
            assert!(Packing::DovecotLz4.unpack(&*bytes).is_err(), "{bytes:?}");
        }
        // A chunk that says to be of other octets, or is larger than said.
        let block = lz4_flex::block::compress(&[7; 100]);
        for (most, block, fits) in
            [(100_u32, &block[..], true), (99, &block, false), (100, &block[..1], false)]
        {
            let size = u32::try_from(block.len()).unwrap().to_be_bytes();
            let bytes = [DOVECOT_LZ4, &most.to_be_bytes(), &size, block].concat();
            let mut text = Vec::new();
            let read = Packing::DovecotLz4.unpack(&*bytes).unwrap().unwrap().read_to_end(&mut text);
            assert!(read.is_ok() == fits && (!fits || text == [7; 100]), "{most}");
        }
    }

    #[test]
    fn nothing_is_read_into_no_room() {
        for packing in [Packing::Lz4, Packing::DovecotLz4] {
            let bytes = packed(packing);
            let mut reader = packing.unpack(&*bytes).unwrap().unwrap();
            let mut text = Vec::new();
            assert_eq!(reader.read(&mut []).unwrap(), 0);
            let mut piece = [0; 3];
            loop {
                match reader.read(&mut piece).unwrap() {
                    0 => break,
                    count => text.extend_from_slice(&piece[..count]),
                }
                assert_eq!(reader.read(&mut []).unwrap(), 0);
            }
            assert_eq!(text, TEXT, "{packing:?}");
        }
    }
}
