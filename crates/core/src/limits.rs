//! Every limit of sealing and opening one message, with what happens beyond it.

use std::num::NonZeroU64;

/// Longest header block, in bytes. A message whose header is longer cannot be sealed.
pub const HEADER: usize = 3 * 1024 * 1024;

/// Longest header block that is read, in bytes: that of a sealed message has our fields, and what hops put before it.
pub const SEALED_HEADER: usize = HEADER + 16 * 1024;

/// Longest header of an entity, in bytes: with CRLF, `HP-Outer: ` before each line once more, and a Content-Type, none that
/// was sealed is longer. A message with a longer one is damaged.
pub const ENTITY_HEADER: usize = 6 * HEADER + 4096;

/// How many bytes of the body are looked at before the first byte is written: to tell which line ending the
/// message has, and whether it is encrypted already. What lies beyond is taken to be like the beginning.
pub const LOOK_AHEAD: usize = 1024 * 1024;

/// How many bytes of the body are looked at behind a header that is nearly as long as it may be. Otherwise the header and twice
/// the look-ahead, which is decoded as well, are at most [`HEADER`] long together.
pub const LEAST_LOOK_AHEAD: usize = 64 * 1024;

/// How many bytes of the look-ahead are left off where it does not reach the end of the message: more than armors and
/// multiparts end with.
pub const ENDING: usize = 4096;

/// Longest preamble of an encrypted message that counts as such, in bytes; beyond, the message is sealed.
pub const PREAMBLE: usize = 200;

/// Most lines of such a preamble.
pub const PREAMBLE_LINES: usize = 2;

/// Most armor header lines (`Version:`, `Comment:`) of an armored message that counts as encrypted.
pub const ARMOR_HEADERS: usize = 10;

/// Most bytes of those armor header lines together.
pub const ARMOR_HEADER_BYTES: usize = 1024;

/// Longest MIME field that is read for its meaning, in bytes; a message with a longer one counts as clear.
pub const MIME_FIELD: usize = 4096;

/// Most bytes of the header of one MIME part of an encrypted message; the longest known has some 400.
pub const PART_HEADER: usize = 1024;

/// Most packets with session keys in an encrypted message: one for each recipient.
pub const SESSION_KEYS: usize = 512;

/// Most octets in those packets together: some 120 recipients with RSA-4096, or 30 with ML-KEM-1024.
pub const SESSION_KEY_BYTES: usize = 64 * 1024;

/// Most octets in those packets that are neither known in their form nor judged to be random.
pub const SESSION_KEY_UNKNOWN: usize = 1536;

/// Deepest nesting that the S/MIME check follows before it takes the message for clear.
pub const CMS_DEPTH: usize = 16;

/// Most octets of one RecipientInfo in S/MIME; the longest known has 681.
pub const CMS_RECIPIENT: usize = 4 * 1024;

/// Most octets of the originator's certificates and the authenticated attributes in S/MIME, together.
pub const CMS_ATTRIBUTES: usize = 8 * 1024;

/// Most recipients of an S/MIME message that is opened: each may cost an operation with a private key.
pub const CMS_RECIPIENTS: usize = 256;

/// Most octets in S/MIME that are not ciphertext, beside [`CMS_FRAME_RECIPIENT`] for each recipient.
pub const CMS_FRAME: usize = 2 * 1024;

/// How many more for each recipient.
pub const CMS_FRAME_RECIPIENT: usize = 1024;

/// How many of them in all, unless it is less than a tenth of the S/MIME.
pub const CMS_FRAMES: usize = 32 * 1024;

/// Most octets of an object identifier in S/MIME; the longest known has 11.
pub const CMS_IDENTIFIER: usize = 32;

/// Most octets of the algorithm and its parameters in S/MIME; a nonce and a tag length take some 40.
pub const CMS_ALGORITHM: usize = 256;

/// Most octets of the authentication code in S/MIME.
pub const CMS_MAC: usize = 64;

/// Least octets of ciphertext in S/MIME.
pub const CMS_CIPHERTEXT: usize = 16;

/// Longest S/MIME certificate, in octets; the longest known has some 4,000. A longer one is not read.
pub const CERTIFICATE: usize = 64 * 1024;

/// Most S/MIME certificates in a file; one with more is not read.
pub const CERTIFICATES: usize = 100;

/// Most certificates of authorities that may lead from an S/MIME certificate to one that is trusted: the ways between them are tried.
pub const CHAIN_CERTIFICATES: usize = 16;

/// Longest list of revoked S/MIME certificates, in octets: some 25,000 of them. A longer one is not read.
pub const REVOCATIONS: usize = 1024 * 1024;

/// Longest name of the issuer of an S/MIME certificate, in octets. With that of a longer one, and an RSA key of 4096 bits,
/// [`CMS_FRAME_RECIPIENT`] would not be enough.
pub const CERTIFICATE_ISSUER: usize = 384;

/// Longest file name in an OpenPGP literal data packet (RFC 9580, section 5.9: one octet of length).
pub const LITERAL_NAME: usize = 255;

/// Longest field that header protection reads for its meaning (a Subject to display, addresses to shorten), in bytes. The
/// Subject of a longer one is hidden, but not displayed in the body; its addresses stay as they are.
pub const PROTECTED_FIELD: usize = 64 * 1024;

/// Longest text of a legacy display element, in bytes; beyond, there is none.
pub const LEGACY_DISPLAY: usize = 2048;

/// Most bytes that the content of a sealed message may have, whatever its size.
pub const CONTENT: u64 = 64 * 1024 * 1024;

/// How many times as long as the sealed message it may be beyond that, unless the caller says otherwise. Text as
/// long as [`CONTENT`] seldom deflates to a twentieth, and armor takes a third of that back; deflate's own bound is 1032.
pub const EXPANSION: NonZeroU64 = NonZeroU64::MIN.saturating_add(99);
