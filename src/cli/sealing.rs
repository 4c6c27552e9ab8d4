//! The options that say how messages are sealed, which every program that seals has.

use mailseal_core::openpgp::compress::Compression;
use mailseal_core::openpgp::padding::Padding;
use mailseal_core::protect::Policy;
use serde::{Deserialize, Serialize};

use crate::config::style::Subject;

/// How messages are sealed, as far as the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub struct Sealing {
    /// Which header fields are hidden inside (RFC 9788) [default: none]
    #[arg(long, value_enum)]
    pub protect_headers: Option<ProtectHeaders>,
    /// What the outside shows as Subject where that is hidden [default: [...]]
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<Subject>,
    /// What sealed messages are filled up to: a multiple of SIZE (4KiB), or padme's next size [default: none]
    #[arg(long, value_name = "SIZE")]
    pub pad: Option<Padding>,
    /// auto, none, zlib or zlib:1 to zlib:9 [default: auto]
    #[arg(long, value_name = "HOW")]
    pub compression: Option<Compression>,
}

/// What `--protect-headers` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum ProtectHeaders {
    /// None
    None,
    /// Subject, Comments, Keywords, and what repeats the Subject or tells of the body
    Baseline,
    /// These, the display names in From, To and Cc, and the time zone of Date
    Shy,
    /// All but addresses without names, dates in UTC, and what threads and mailing lists need
    Strict,
}

impl From<ProtectHeaders> for Policy {
    fn from(said: ProtectHeaders) -> Self {
        match said {
            ProtectHeaders::None => Self::None,
            ProtectHeaders::Baseline => Self::Baseline,
            ProtectHeaders::Shy => Self::Shy,
            ProtectHeaders::Strict => Self::Strict,
        }
    }
}
