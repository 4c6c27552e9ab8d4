//! `--protect-headers`, which every program that seals has.

use mailseal_core::protect::Policy;
use serde::{Deserialize, Serialize};

/// What `--protect-headers` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum ProtectHeaders {
    /// None
    None,
    /// Subject, Comments, Keywords, and what repeats the Subject or tells of the body
    Baseline,
    /// These, the display names in From, To and Cc, and the time zone of Date
    Shy,
}

impl From<ProtectHeaders> for Policy {
    fn from(said: ProtectHeaders) -> Self {
        match said {
            ProtectHeaders::None => Self::None,
            ProtectHeaders::Baseline => Self::Baseline,
            ProtectHeaders::Shy => Self::Shy,
        }
    }
}
