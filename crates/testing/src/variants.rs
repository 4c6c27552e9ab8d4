//! A mail under other line endings.

/// How the line endings of a mail are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    AsStored,
    Lf,
    Crlf,
    /// Every third line CRLF, the others LF.
    Mixed,
}

impl Variant {
    pub const ALL: [Self; 4] = [Self::AsStored, Self::Lf, Self::Crlf, Self::Mixed];

    pub fn of(self, mail: &[u8]) -> Vec<u8> {
        match self {
            Self::AsStored => mail.to_vec(),
            Self::Lf => to_lf(mail),
            Self::Crlf => to_crlf(&to_lf(mail)),
            Self::Mixed => mixed(&to_lf(mail)),
        }
    }
}

/// CRLF becomes LF; a CR elsewhere stays.
pub fn to_lf(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len());
    for (n, &byte) in mail.iter().enumerate() {
        if !(byte == b'\r' && mail.get(n + 1) == Some(&b'\n')) {
            out.push(byte);
        }
    }
    out
}

/// Every LF becomes CRLF, whatever stands before it.
pub fn to_crlf(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + mail.len() / 32);
    for &byte in mail {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}

fn mixed(mail: &[u8]) -> Vec<u8> {
    mail.split_inclusive(|&byte| byte == b'\n')
        .enumerate()
        .flat_map(|(n, line)| if n % 3 == 1 { to_crlf(line) } else { line.to_vec() })
        .collect()
}
