//! What must hold of a message that comes back from a seal with any record and any entity inside: what the server wrote
//! outside is there, and nothing beside it that only a server writes.

use std::sync::LazyLock;

use super::header::{self, Kind};

/// What the server wrote, and what of the sender's it showed. `[ours]` stands for the two fields of the seal.
pub const OUTER: &str = "Return-Path: <bob@example.net>\nReceived: from good by server\n\
                         Authentication-Results: server; dkim=fail\nARC-Seal: i=1; good\nX-Spam-Status: Yes\n\
                         From: Bob <bob@example.net>\nTo: alice@example.org\nSubject: [...]\n[ours]X-Behind: 1\n";

/// The two fields of the seal.
pub const OURS: &str = "MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\n\
                        \tboundary=\"=_mailseal-0\"\n";

/// The header of a message, as lines with LF, the last of which may lack its ending.
pub fn fields(message: &[u8]) -> Vec<String> {
    header::split(message).items.iter().map(|item| text(item.bytes)).collect()
}

fn text(item: &[u8]) -> String {
    let text = String::from_utf8_lossy(item).replace("\r\n", "\n");
    if text.ends_with('\n') { text } else { text + "\n" }
}

/// The outer fields without ours.
pub static OUTER_FIELDS: LazyLock<Vec<String>> =
    LazyLock::new(|| fields(OUTER.replace("[ours]", "").as_bytes()));

/// Whether `some` are among `all`, in this order.
pub fn in_order(some: &[String], all: &[String]) -> bool {
    let mut all = all.iter();
    some.iter().all(|line| all.any(|other| other == line))
}

/// The names of fields that the server alone writes.
fn is_servers(field: &str) -> bool {
    let name = field.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let arc = ["arc-seal", "arc-message-signature", "arc-authentication-results"];
    ["received", "return-path", "delivered-to", "authentication-results"].contains(&&*name)
        || arc.contains(&&*name)
        || name.starts_with("x-spam")
}

/// Checks the `message` that came back from behind [`OUTER`]: all that stands outside comes back in order, byte for byte, but
/// for a Subject, and under the policy `shy` addresses, that hide others; and nothing that only a server writes is beside it.
pub fn check(message: &[u8], shy: bool) -> Result<(), String> {
    let items = header::split(message).items;
    let found: Vec<String> = items.iter().map(|item| text(item.bytes)).collect();
    let shown = || format!("\n{}", String::from_utf8_lossy(message));
    let mut expected = OUTER_FIELDS.clone();
    expected.retain(|line| {
        let addresses = ["From:", "To:"].iter().any(|it| line.starts_with(it));
        !(line.starts_with("Subject:") || shy && addresses) || found.contains(line)
    });
    if !in_order(&expected, &found) {
        return Err(format!("a field of the outer header is gone or has moved{}", shown()));
    }
    let well_formed = items.iter().zip(&found).filter(|(item, _)| matches!(item.kind, Kind::Field(_)));
    let well_formed: Vec<&String> =
        well_formed.map(|(_, field)| field).filter(|field| is_servers(field)).collect();
    let servers: Vec<&String> = OUTER_FIELDS.iter().filter(|field| is_servers(field)).collect();
    if well_formed == servers { Ok(()) } else { Err(format!("{well_formed:?}{}", shown())) }
}
