//! The literal data packet (RFC 9580, section 5.9): binary, without a date.

use std::io::{self, Write};

use super::framing::Packet;
use super::header::tag;
use crate::limits;

/// Begins a literal data packet called `name` on `inner`; what is written into it is its data.
///
/// # Errors
/// Those of `inner`, and a name longer than [`limits::LITERAL_NAME`].
pub fn literal<W: Write>(inner: W, name: &[u8]) -> io::Result<Packet<W>> {
    let length = u8::try_from(name.len()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a file name of over {} bytes", limits::LITERAL_NAME),
        )
    })?;
    let mut packet = Packet::new(inner, tag::LITERAL)?;
    packet.write_all(&[b'b', length])?;
    packet.write_all(name)?;
    packet.write_all(&[0; 4])?;
    Ok(packet)
}
