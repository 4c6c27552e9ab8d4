//! Whether a message that is sealed already can stay as it is under a sealer that promises how it looks from outside.
//!
//! Several programs seal on the way of one message: `mailseal sendmail` on a host, and the door of the next. What counts is not who
//! sealed, which nobody can prove, but what can be seen: the header shows what the policy shows, the parts are those that we
//! write, the ciphertext is for the same keys and as long as one of a class. Whoever forges all of that has hidden as much.

use super::Sealer;
use super::envelope;
use crate::error::Error;
use crate::message::head::{Head, Kind};
use crate::message::opening::Opening;
use crate::openpgp;
use crate::protect::policy::Outside;
use crate::protect::{Appearance, is_outer_record};
use crate::recipients::Session;

/// Fields that a host on the way adds or spells in its own way. What they say may be cut back to what the policy shows: it was
/// not there when the message was sealed, or is inside.
const ON_THE_WAY: [&str; 8] =
    ["From", "To", "Cc", "Date", "Message-ID", "Received", "Return-Path", "Delivered-To"];

impl Sealer<'_> {
    /// The header, with its empty line, under which the message in `opening` goes on as it is. `None` where it does not look as
    /// this sealer would have written it: then it must be sealed once more. A message that is longer than its
    /// opening is such a one, because its length cannot be known in time, and so is every message for S/MIME certificates.
    ///
    /// # Errors
    /// Those of [`crate::recipients::Recipients::session`], and of the random number generator.
    pub fn kept(&self, opening: &Opening) -> Result<Option<Vec<u8>>, Error> {
        let head = opening.head();
        let ending = head.ending();
        if !opening.is_whole() || head.separator() != ending.as_bytes() {
            return Ok(None);
        }
        let appearance = Appearance::of(self.protect_headers, self.subject, head).map_err(Error::OpenPgp)?;
        let Some((header, boundary)) = header(head, &appearance) else { return Ok(None) };
        let Some(armor) = envelope::armor(opening.body(), boundary, ending) else { return Ok(None) };
        let Session::OpenPgp(session) = self.recipients.session()? else { return Ok(None) };
        let alike = openpgp::is_alike(armor, ending, &session, self.padding)?;
        Ok(alike.then(|| [&header, head.separator()].concat()))
    }
}

/// What the outside shows of `head`, and the boundary in it; `None` where it is not the header of a message that was sealed under
/// this appearance.
fn header<'a>(head: Head<'a>, appearance: &Appearance) -> Option<(Vec<u8>, &'a str)> {
    let ending = head.ending();
    let (region, tail) = head.split();
    let (mut shown, mut versions, mut boundary) = (Vec::new(), 0, None);
    for item in region.items() {
        match item.kind {
            Kind::MimeVersion => {
                versions += 1;
                (item.raw == envelope::mime_version(ending).as_bytes()).then_some(())?;
                shown.extend_from_slice(item.raw);
            }
            Kind::Content => {
                boundary = Some(envelope::boundary(item.raw, ending).filter(|_| boundary.is_none())?);
                shown.extend_from_slice(item.raw);
            }
            Kind::Field if !is_outer_record(&item) => {
                let is_usual = || ON_THE_WAY.iter().any(|name| item.value_of(name).is_some());
                (appearance.outside(&item, ending) == Outside::Same || is_usual()).then_some(())?;
                appearance.shown(&item, ending).iter().for_each(|line| shown.extend_from_slice(line));
            }
            Kind::Field | Kind::FromLine | Kind::Malformed => return None,
        }
    }
    (tail.is_empty() && versions == 1).then_some((shown, boundary?))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sequoia_openpgp::Cert;
    use sequoia_openpgp::parse::Parse as _;

    use super::*;
    use crate::openpgp::padding::Padding;
    use crate::protect::{Additions, Policy};
    use crate::recipients::{Recipients, WhenExpired};

    const ALERT: &str = "Received: from inside\nFrom: Wazuh <wazuh@host.example>\nTo: Team <team@example.org>\n\
                         Subject: disk full\nX-Agent: 7\n\nfull\n";

    fn recipients(names: &[&str]) -> Recipients {
        let certs = names.iter().map(|name| {
            let file = format!("{}/../../fixtures/certs/{name}.pgp", env!("CARGO_MANIFEST_DIR"));
            Cert::from_file(file).unwrap()
        });
        let certs: Vec<Cert> = certs.collect();
        Recipients::choose("team", &certs, &[], WhenExpired::Encrypt, SystemTime::now()).unwrap()
    }

    fn sealer<'a>(recipients: &'a Recipients, pad: &str) -> Sealer<'a> {
        let additions = Additions { mark: false, legacy_display: true };
        let padding = pad.parse().unwrap();
        Sealer { padding, additions, subject: "Alert", ..Sealer::to(recipients, Policy::Sent) }
    }

    fn seal(sealer: &Sealer<'_>, message: &str) -> String {
        let mut rest = message.as_bytes();
        let opening = Opening::read(&mut rest).unwrap();
        let mut sealed = Vec::new();
        sealer.seal(&opening, &mut rest, &mut sealed).unwrap();
        String::from_utf8(sealed).unwrap()
    }

    /// The header under which it is kept.
    fn kept(sealer: &Sealer<'_>, message: &str) -> Option<String> {
        let opening = Opening::read(&mut message.as_bytes()).unwrap();
        sealer.kept(&opening).unwrap().map(|header| String::from_utf8(header).unwrap())
    }

    #[test]
    fn what_is_sealed_so_is_kept_and_what_the_way_added_is_not() {
        for names in [&["curve25519"][..], &["rsa3072", "curve25519"], &["v6"]] {
            let recipients = recipients(names);
            for pad in ["none", "4KiB", "64KiB", "padme"] {
                let sealer = sealer(&recipients, pad);
                for length in [0, 3000, 100_000] {
                    let lines: String = (0..length / 10).map(|number| format!("{number:9}\n")).collect();
                    let sealed = seal(&sealer, &format!("{ALERT}{lines}"));
                    let header = &sealed[..=sealed.find("\n\n").unwrap() + 1];
                    let what = format!("{names:?} {pad} {length}");
                    assert_eq!(kept(&sealer, &sealed).as_deref(), Some(header), "{what}");
                    let crlf = sealed.replace('\n', "\r\n");
                    assert_eq!(kept(&sealer, &crlf), Some(header.replace('\n', "\r\n")), "{what}");
                    let on_the_way = format!(
                        "Received: by relay\n\twith id 7\n{}",
                        sealed.replace("From: wazuh@", "From: \"Full Name\" <wazuh@").replacen(
                            ".example\n",
                            ".example>\nReturn-Path: <x@y>\n",
                            1
                        )
                    );
                    assert_eq!(kept(&sealer, &on_the_way).as_deref(), Some(header), "{what}");
                }
            }
        }
    }

    #[test]
    fn a_new_id_is_given_to_what_has_one() {
        let recipients = recipients(&["curve25519"]);
        let sealer = sealer(&recipients, "4KiB");
        let sealed = format!("Message-ID: <7@inside.example>\n{}", seal(&sealer, ALERT));
        let header = kept(&sealer, &sealed).unwrap();
        assert!(header.contains("Message-ID: <") && !header.contains("inside"), "{header}");
    }

    #[test]
    fn anything_else_is_sealed_once_more() {
        let [one, two, other] =
            [&["curve25519"][..], &["curve25519", "rsa3072"], &["rsa3072"]].map(recipients);
        let [sealer, to_two, to_other] = [&one, &two, &other].map(|it| sealer(it, "4KiB"));
        let sealed = seal(&sealer, ALERT);
        assert!(kept(&sealer, &sealed).is_some());
        for by in [&to_two, &to_other] {
            assert_eq!(kept(by, &sealed), None);
            assert_eq!(kept(&sealer, &seal(by, ALERT)), None);
        }
        for pad in ["none", "5KiB"] {
            let padded = Sealer { padding: pad.parse::<Padding>().unwrap(), ..sealer };
            assert_eq!(kept(&sealer, &seal(&padded, ALERT)), None, "{pad}");
        }
        for (from, to) in [
            ("Subject: Alert\n", "Subject: disk full\n"),
            ("Subject: Alert\n", "Subject: Alert\nX-Agent: 7\n"),
            ("Subject: Alert\n", "Subject: Alert\nComments: x\n"),
            ("Subject: Alert\n", "Subject: Alert\nHP-Outer: Subject: x\n"),
            ("Subject: Alert\n", "Subject: Alert\nwords\n"),
            ("Subject: Alert\n", "Subject: Alert\nContent-Language: de\n"),
            ("MIME-Version: 1.0\n", "MIME-Version: 1.0 (x)\n"),
            ("MIME-Version: 1.0\n", "MIME-Version: 1.0\nMIME-Version: 1.0\n"),
            ("MIME-Version: 1.0\n", ""),
            ("boundary=\"=_mailseal-", "boundary=\"=_mailsael-"),
            ("identification\n", "Identification\n"),
            ("Version: 1\n", "version: 1\n"),
            ("filename=\"encrypted.asc\"", "filename=\"report.asc\""),
            ("-----BEGIN PGP MESSAGE-----\n", "-----BEGIN PGP MESSAGE-----\nComment: x\n"),
            ("\n-----END PGP", "\n\n-----END PGP"),
            ("-----END PGP MESSAGE-----\n", "-----END PGP MESSAGE-----\n\n"),
        ] {
            let changed = sealed.replace(from, to);
            assert_ne!(changed, sealed, "{from:?}");
            assert_eq!(kept(&sealer, &changed), None, "{to:?}");
        }
        assert_eq!(kept(&sealer, &format!("{sealed}text\n")), None);
        assert_eq!(kept(&sealer, ALERT), None);
        let (_, body) = sealed.split_once("\n\n").unwrap();
        assert_eq!(kept(&sealer, &format!("\n{body}")), None);
    }

    #[test]
    fn a_message_whose_length_is_not_known_is_sealed_once_more() {
        let recipients = recipients(&["curve25519"]);
        let sealer = sealer(&recipients, "64KiB");
        let noise: String =
            (0..200_000_u64).map(|it| format!("{:x}", it.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let sealed = seal(&sealer, &format!("{ALERT}{noise}\n"));
        let opening = Opening::read(&mut sealed.as_bytes()).unwrap();
        assert!(!opening.is_whole());
        assert_eq!(sealer.kept(&opening).unwrap(), None);
    }
}
