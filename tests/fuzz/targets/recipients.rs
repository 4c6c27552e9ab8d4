//! Any list of recipients, as an argument or a field: what is taken from it are addresses in the form in which they stand there, and
//! what is written as a plain list is read as that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailseal::outgoing::address::Address;
use mailseal::outgoing::sendmail::recipients::{Between, named_by, split};
use mailseal_core::message::head::Head;

/// Without what may stand between the parts of an address.
fn bare(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')).collect()
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    for between in [Between::Commas, Between::Blanks] {
        let Ok(found) = split(text, between) else { continue };
        for address in &found {
            assert!(!address.is_empty() && !address.contains(char::REPLACEMENT_CHARACTER), "{address:?}");
            // Only comments and blanks can stand within one.
            assert!(bare(text).contains(&bare(address)) || text.contains('('), "{address:?} of {text:?}");
        }
        // Written plainly, those that are addresses are the same again.
        let plain: Vec<&String> =
            found.iter().filter(|it| Address::parse(it, Some("here.example")).is_ok()).collect();
        let list: Vec<String> = plain.iter().map(|it| format!("<{it}>")).collect();
        let again = split(&list.join(", "), Between::Commas);
        assert_eq!(again.as_ref().map(|it| it.iter().collect::<Vec<_>>()), Ok(plain), "{text:?}");
    }
    // Bcc counts wherever it stands, or the header is refused.
    let header = format!("To: a@b.example\n{text}\nBcc: hidden@c.example\n");
    let head = Head::new(header.as_bytes(), b"\n");
    let is_one = !header.contains("\n\n") && !header.contains("\n\r\n");
    let again = header.to_ascii_lowercase().contains("resent-");
    if is_one
        && !again
        && let Ok(found) = named_by(head)
    {
        assert!(found.contains(&"hidden@c.example".to_owned()), "{header:?}");
    }
});
