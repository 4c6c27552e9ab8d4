//! A share as a page to print: A4, one file, without a script and without anything from elsewhere.
//!
//! Its keeper may read it in ten years, without us. So it says what it is for, what to do with it, and in a line how it is made.

use std::fmt::Write as _;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

use super::share::Share;
use crate::error::Error;

const STYLE: &str = include_str!("page.css");

/// What encloses the lines of the share, for programs.
const BEGIN: &str = "<ol class=\"share\">";
const END: &str = "</ol>";

/// Modules of white that a QR code must have around it (ISO/IEC 18004).
const QUIET: i32 = 4;

/// Most shares that a command on the page names.
const SHOWN: u8 = 3;

/// What the pages of a key have in common.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The fingerprint of its certificate, in groups.
    pub fingerprint: &'a str,
    /// The day on which it was made.
    pub day: &'a str,
}

/// The page of `share`.
///
/// # Errors
/// [`Error::Shares`] where it does not fit into a QR code, which it always does.
pub fn page(share: &Share, about: &About<'_>) -> Result<Zeroizing<String>, Error> {
    let title = format!("Recovery share {} of {}", share.number, share.set.shares);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (purpose(share))
                dl {
                    dt { "Certificate" } dd { (about.fingerprint) }
                    dt { "Made on" } dd { (about.day) }
                    dt { "Needed" } dd { (share.set.threshold) " of " (share.set.shares) " shares" }
                }
                (PreEscaped(&*picture(&share.code())?))
                ol.share { @for line in share.lines() { li { (*line) } } }
                (instructions(share.set.threshold))
                (format())
            }
        }
    };
    Ok(Zeroizing::new(page.into_string()))
}

fn purpose(share: &Share) -> Markup {
    let (threshold, shares) = (share.set.threshold, share.set.shares);
    html! {
        p {
            "A mail server seals the mail of its users, so that it cannot read what it stores. Whoever has "
            (threshold) " of the " (shares) " shares can read all mail that was sealed to the certificate below: the mail of all users. It is for the day on "
            "which somebody's key is lost."
        }
        p {
            "This share alone tells nothing. Keep it on paper, apart from the others, where only you can get at it. Give it to "
            "nobody, and photograph it for nothing, but a recovery that was agreed on, or a rehearsal."
        }
    }
}

fn instructions(threshold: u8) -> Markup {
    let mut shares: String = (1..=threshold.min(SHOWN)).map(|it| format!(" --share {it}.txt")).collect();
    if threshold > SHOWN {
        shares.push_str(" …");
    }
    html! {
        h2 { "To recover" }
        ol {
            li { "Bring " (threshold) " shares to a computer that has mailseal, is trusted by all of you, and has no network." }
            li {
                "Scan each QR code into a file of its own, " code { "1.txt" } " and so on. Or type the lines: leave "
                code { "--share" } " away below, and you are asked for them. Capitals and blanks do not matter. The last character "
                "of a line checks that line."
            }
            li { "Join them:" code.run { "mailseal keys recovery join" (shares) " --out recovery.sec.asc" } }
            li { "Open the mail:" code.run { "mailseal decrypt --secret-key recovery.sec.asc --into Opened Maildir" } }
            li { "Delete " code { "recovery.sec.asc" } " and the files with the shares." }
        }
        h2 { "To rehearse, once a year" }
        p { code.run { "mailseal keys recovery test recovery.pgp" (shares) } }
    }
}

fn format() -> Markup {
    html! {
        footer {
            "Format, version 1: a line holds 15 octets in z-base-32 and a check character. Of all 90 octets: "
            "version, number, needed, shares, time (4), fingerprint (14), share of the secret (64), CRC-32 (4). "
            "Shamir by octet over GF(256), polynomial 0x11d, at x = number. Secret: Ed25519 seed (primary key), "
            "Curve25519 key (ECDH subkey, SHA-256, AES-128); OpenPGP version 4, made at the time given. More: "
            "mailseal, docs/formats.md."
        }
    }
}

/// A QR code of `text` in SVG. A quarter of it may be damaged.
fn picture(text: &str) -> Result<Zeroizing<String>, Error> {
    let code = QrCode::encode_text(text, QrCodeEcc::Quartile).map_err(|error| Error::Shares {
        what: format!("a share does not fit into a QR code: {error}"),
        hint: "report this".into(),
    })?;
    let whole = code.size() + 2 * QUIET;
    let mut svg = Zeroizing::new(String::with_capacity(64 * 1024));
    // Writing into a String cannot fail.
    let _ = write!(svg, "<svg viewBox=\"0 0 {whole} {whole}\" shape-rendering=\"crispEdges\"><path d=\"");
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            let _ = write!(svg, "M{} {}h1v1h-1z", x + QUIET, y + QUIET);
        }
    }
    svg.push_str("\"/></svg>");
    Ok(svg)
}

/// Whether `text` has several shares in it, of which one would hide the other.
pub fn has_several(text: &str) -> bool {
    text.matches(BEGIN).nth(1).is_some()
}

/// The text of the share in a page; `None` where `text` is not one.
pub fn share_in(text: &str) -> Option<Zeroizing<String>> {
    let (_, from) = text.split_once(BEGIN)?;
    let (lines, _) = from.split_once(END)?;
    let mut share = Zeroizing::new(String::with_capacity(lines.len()));
    for line in lines.split("<li>") {
        share.push_str(line.trim_end().trim_end_matches("</li>"));
        share.push('\n');
    }
    Some(share)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::keys::recovery::secret::Secret;
    use crate::keys::recovery::share::{Set, split};

    fn pages() -> Vec<(Share, Zeroizing<String>)> {
        let secret = Secret::new(SystemTime::now()).unwrap();
        let set = Set::new(&secret.key("x").unwrap().fingerprint(), &secret, 5, 3).unwrap();
        let about = About { fingerprint: "0123 4567", day: "2026-11-28" };
        let pages = split(&secret, set).into_iter().map(|share| {
            let page = page(&share, &about).unwrap();
            (share, page)
        });
        pages.collect()
    }

    /// What a camera reads from the picture in a page, by another library.
    fn scanned(page: &str) -> String {
        let path = page.split_once("<path d=\"").unwrap().1.split_once('"').unwrap().0;
        let place = |module: &str| {
            let (x, y) = module.strip_suffix("h1v1h-1").unwrap().split_once(' ').unwrap();
            [x, y].map(|it| it.parse::<usize>().unwrap() - QUIET as usize)
        };
        let black: Vec<_> =
            path.trim_start_matches('M').trim_end_matches('z').split("zM").map(place).collect();
        let size = black.iter().flatten().max().unwrap() + 1;
        let grid = rqrr::SimpleGrid::from_func(size, |x, y| black.contains(&[x, y]));
        rqrr::Grid::new(grid).decode().unwrap().1
    }

    #[test]
    fn a_page_holds_its_share_as_text_and_as_a_picture() {
        for (share, page) in pages() {
            assert!(Share::parse(&share_in(&page).unwrap()).unwrap().is_same(&share));
            assert!(Share::parse(&scanned(&page)).unwrap().is_same(&share));
        }
    }

    #[test]
    fn a_page_says_what_it_is_and_loads_nothing() {
        let (_, page) = pages().remove(1);
        for text in
            ["Recovery share 2 of 5", "0123 4567", "3 of 5 shares", "2026-11-28", "--share 3.txt --out"]
        {
            assert!(page.contains(text), "{text}");
        }
        for text in ["<script", "http", "src=", "url(", "<link", "@import"] {
            assert!(!page.contains(text), "{text}");
        }
        assert_eq!(share_in("ybndr fg8ej"), None);
    }

    /// One in a comment before it would be taken for the one that is printed.
    #[test]
    fn a_page_holds_one_share() {
        let pages = pages();
        for (_, page) in &pages {
            assert!(!has_several(page));
        }
        let [(_, one), (_, other), ..] = &pages[..] else { panic!() };
        assert!(has_several(&format!("<!-- {} -->{}", &**one, &**other)));
    }
}
