//! Which header fields the outside shows, and how: RFC 9788's header confidentiality policies (section 3.2), what mailseal
//! hides beside them, and two policies of its own that show only what is listed.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{is_outer_record, shy};
use crate::message::head::{Head, Item, begins_with};

/// What the outside shows for a hidden Subject, unless something else is chosen.
pub const HIDDEN_SUBJECT: &str = "[...]";

/// What a strict policy shows for a From without an address that is beyond doubt.
const HIDDEN_SENDER: &str = "hidden@mailseal.invalid";

/// The domain of a new Message-ID, where From has none.
const HIDDEN_DOMAIN: &str = "mailseal.invalid";

/// Random octets in a new Message-ID.
const ID_OCTETS: usize = 16;

/// Which header fields are hidden inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// None.
    #[default]
    None,
    /// Subject, Comments, Keywords, and what repeats the Subject or tells of the body.
    Baseline,
    /// These, the display names in From, To and Cc, and the time zone of Date.
    Shy,
    /// All but From, To, Cc and Reply-To without names, Date in UTC, Message-ID, In-Reply-To, References, Auto-Submitted, List-\*,
    /// Received, Return-Path, and the fields of MIME.
    Strict,
    /// These, and what tells of other messages, of the way so far and of who wrote it: In-Reply-To, References, List-\*, Received,
    /// Return-Path, Auto-Submitted, Reply-To; there is a new Message-ID. For mail on its way out, which is hidden like this
    /// whatever it is: signed mail, too.
    #[serde(skip)]
    Sent,
}

/// What the outside shows of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The field as it is.
    Same,
    /// The field with this value.
    Instead(String),
    /// Nothing.
    Nothing,
}

/// What the outside shows: by a policy, and with these texts in the place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appearance {
    /// The policy.
    pub policy: Policy,
    /// In the place of a hidden Subject: one line.
    pub subject: Arc<str>,
    /// In the place of the Message-ID, where the policy wants a new one.
    pub message_id: Arc<str>,
}

impl From<Policy> for Appearance {
    /// With the usual texts.
    fn from(policy: Policy) -> Self {
        Self { policy, subject: HIDDEN_SUBJECT.into(), message_id: "".into() }
    }
}

impl Appearance {
    /// That of the message with this `head`, with the texts that it needs.
    ///
    /// # Errors
    /// Those of the random number generator.
    pub fn of(policy: Policy, subject: &str, head: Head<'_>) -> sequoia_openpgp::Result<Self> {
        let message_id = match policy {
            Policy::Sent => new_id(head)?.into(),
            _ => "".into(),
        };
        Ok(Self { policy, subject: subject.into(), message_id })
    }

    /// That of a message under `policy`, whose `entity` records what the outside showed of it.
    #[must_use]
    pub fn recorded(policy: Policy, entity: Head<'_>) -> Self {
        let mut found = Self::from(policy);
        let (region, _) = entity.split_inside();
        for record in region.items().filter(is_outer_record) {
            let line = record.value().trim_ascii();
            let Some(item) = Head::new(line, b"").items().next() else { continue };
            let value = || String::from_utf8_lossy(item.value().trim_ascii()).into();
            match item.name() {
                name if name.eq_ignore_ascii_case(b"Subject") => found.subject = value(),
                name if name.eq_ignore_ascii_case(b"Message-ID") && policy == Policy::Sent => {
                    found.message_id = value();
                }
                _ => {}
            }
        }
        found
    }

    /// What the outside shows of `item`, a well-formed field, as a line that is ended; `None` where it is hidden.
    #[must_use]
    pub fn shown<'a>(&self, item: &Item<'a>, ending: &str) -> Option<Cow<'a, [u8]>> {
        match self.outside(item, ending) {
            Outside::Nothing => None,
            Outside::Same => Some(item.ended(ending)),
            Outside::Instead(value) => {
                Some(Cow::Owned([item.name(), b": ", value.as_bytes(), ending.as_bytes()].concat()))
            }
        }
    }

    /// What the outside shows of `item`, a well-formed field. A value that goes on in a further line is broken with
    /// `ending`.
    #[must_use]
    pub fn outside(&self, item: &Item<'_>, ending: &str) -> Outside {
        let name = item.name();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match self.policy {
            Policy::None => Outside::Same,
            _ if is("Subject") => instead(item, self.subject.to_string()),
            _ if tells_of(name).is_some() => Outside::Nothing,
            Policy::Baseline => Outside::Same,
            Policy::Shy => {
                let shown = if ["From", "To", "Cc"].into_iter().any(is) {
                    shy::addresses(item.value(), ending)
                } else if is("Date") {
                    shy::date(item.value())
                } else {
                    None
                };
                shown.map_or(Outside::Same, |shown| instead(item, shown))
            }
            Policy::Strict | Policy::Sent => self.listed(item, ending),
        }
    }

    /// What a strict policy shows of `item`, which is no Subject.
    fn listed(&self, item: &Item<'_>, ending: &str) -> Outside {
        let name = item.name();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let or_nothing = |shown: Option<String>| shown.map_or(Outside::Nothing, |shown| instead(item, shown));
        if self.policy == Policy::Sent && ["Reply-To", "Auto-Submitted", "Return-Path"].into_iter().any(is) {
            // Some messages have them: all that leave are to look alike.
            Outside::Nothing
        } else if ["From", "To", "Cc", "Reply-To"].into_iter().any(is) {
            let shown = shy::addresses(item.value(), ending).or_else(|| shy::local_parts(item.value()));
            or_nothing(shown.or_else(|| is("From").then(|| HIDDEN_SENDER.into())))
        } else if is("Date") {
            or_nothing(shy::date(item.value()))
        } else if is("Auto-Submitted") {
            or_nothing(automatic(item.value()))
        } else if is("Return-Path") {
            or_nothing(path(item.value()))
        } else if is("Message-ID") {
            match self.policy {
                Policy::Sent => instead(item, self.message_id.to_string()),
                _ => Outside::Same,
            }
        } else if ["In-Reply-To", "References", "Received"].into_iter().any(is) || begins_with(name, "List-")
        {
            if self.policy == Policy::Sent { Outside::Nothing } else { Outside::Same }
        } else {
            Outside::Nothing
        }
    }
}

/// A new Message-ID in the domain of the sender.
fn new_id(head: Head<'_>) -> sequoia_openpgp::Result<String> {
    let mut random = [0; ID_OCTETS];
    sequoia_openpgp::crypto::random(&mut random)?;
    let unique: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
    let from = head.items().find_map(|item| shy::addresses(item.value_of("From")?, "\n"));
    let domain = from.as_deref().and_then(|from| from.split_once('@')).map(|(_, domain)| domain);
    let is_plain =
        |domain: &&str| domain.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-'));
    Ok(format!("<{unique}@{}>", domain.filter(is_plain).unwrap_or(HIDDEN_DOMAIN)))
}

/// What a field tells of a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tale {
    /// Its Subject, or words about it.
    Subject,
    /// Hashes of its body, which confirm a guess at it.
    Hash,
    /// What a spam filter found, with quotes from the body.
    Report,
}

/// What fields called `name` tell of the content; `None` where it is nothing that any policy hides.
#[must_use]
pub fn tells_of(name: &[u8]) -> Option<Tale> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let begins = |with: &[u8]| name.get(..with.len()).is_some_and(|part| part.eq_ignore_ascii_case(with));
    let ends = |with: &[u8]| {
        name.len().checked_sub(with.len()).is_some_and(|at| name[at..].eq_ignore_ascii_case(with))
    };
    if ["Subject", "Comments", "Keywords", "Thread-Topic"].into_iter().any(is)
        || begins(b"x-") && ends(b"-subject")
    {
        Some(Tale::Subject)
    } else if begins(b"arc-") || ends(b"dkim-signature") || is("DomainKey-Signature") {
        Some(Tale::Hash)
    } else {
        is("X-Spam-Report").then_some(Tale::Report)
    }
}

fn instead(item: &Item<'_>, shown: String) -> Outside {
    if item.value().trim_ascii() == shown.as_bytes() { Outside::Same } else { Outside::Instead(shown) }
}

/// The keyword of an Auto-Submitted field (RFC 3834, section 5), without comments and parameters; `None` for any other.
fn automatic(value: &[u8]) -> Option<String> {
    let word = value.trim_ascii().split(|byte| b";( \t\r\n".contains(byte)).next().unwrap_or_default();
    let known = ["auto-generated", "auto-replied", "auto-notified", "no"];
    known.into_iter().find(|known| word.eq_ignore_ascii_case(known.as_bytes())).map(str::to_owned)
}

/// The path of a Return-Path field, which may be empty, and nothing beside it.
fn path(value: &[u8]) -> Option<String> {
    if value.trim_ascii() == b"<>" {
        return Some("<>".into());
    }
    shy::addresses(value, "").filter(|address| !address.contains(',')).map(|address| format!("<{address}>"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::Head;

    fn outside(policy: Policy, field: &str) -> Outside {
        Appearance::from(policy).outside(&Head::new(field.as_bytes(), b"").items().next().unwrap(), "\n")
    }

    #[test]
    fn the_baseline_is_that_of_the_rfc_and_what_tells_of_the_body() {
        let hidden = Outside::Instead(HIDDEN_SUBJECT.into());
        for (field, expected) in [
            ("Subject: Lunch\n", hidden.clone()),
            ("SUBJECT : Lunch\n", hidden.clone()),
            ("Subject:\n", hidden),
            ("Subject: [...]\n", Outside::Same),
            ("Comments: x\n", Outside::Nothing),
            ("keywords: x\n", Outside::Nothing),
            ("Thread-Topic: Lunch\n", Outside::Nothing),
            ("DKIM-Signature: v=1; bh=x\n", Outside::Nothing),
            ("X-Google-DKIM-Signature: v=1; bh=x\n", Outside::Nothing),
            ("DomainKey-Signature: a=rsa-sha1\n", Outside::Nothing),
            ("ARC-Message-Signature: i=1; bh=x\n", Outside::Nothing),
            ("ARC-Seal: i=1\n", Outside::Nothing),
            ("X-Spam-Report: it says 'Lunch'\n", Outside::Nothing),
            ("X-Spam-Prev-Subject: Lunch\n", Outside::Nothing),
            ("X-Subject: Lunch\n", Outside::Nothing),
            ("X-Spam-Status: Yes\n", Outside::Same),
            ("List-Subject: x\n", Outside::Same),
            ("Search: x\n", Outside::Same),
            ("From: Alice <alice@example.org>\n", Outside::Same),
            ("Date: Fri, 21 Jan 2022 20:40:48 -0500\n", Outside::Same),
        ] {
            assert_eq!(outside(Policy::Baseline, field), expected, "{field:?}");
            assert_eq!(outside(Policy::None, field), Outside::Same, "{field:?}");
        }
    }

    #[test]
    fn the_strict_policies_show_what_is_listed() {
        let instead = |value: &str| Outside::Instead(value.into());
        for (field, strict, sent) in [
            ("From: Alice <alice@example.org>\n", instead("alice@example.org"), None),
            ("From: root (Cron Daemon)\n", instead("root"), None),
            ("From: Cron Daemon <root>\n", instead("root"), None),
            ("From: somebody\n at <nowhere\n", instead(HIDDEN_SENDER), None),
            ("To: undisclosed-recipients:;\n", Outside::Nothing, None),
            ("Reply-To: Alice <alice@example.org>\n", instead("alice@example.org"), Some(Outside::Nothing)),
            ("cc: a@example.org\n", Outside::Same, None),
            ("Bcc: a@example.org\n", Outside::Nothing, None),
            ("Sender: a@example.org\n", Outside::Nothing, None),
            ("Date: Fri, 21 Jan 2022 20:40:48 -0500\n", instead("Sat, 22 Jan 2022 01:40:48 +0000"), None),
            ("Date: yesterday\n", Outside::Nothing, None),
            ("Subject: x\n", instead(HIDDEN_SUBJECT), None),
            ("X-Agent: host\n", Outside::Nothing, None),
            ("X-Spam-Status: No\n", Outside::Nothing, None),
            ("Auto-Submitted: auto-generated\n", Outside::Same, Some(Outside::Nothing)),
            ("Auto-Submitted: Auto-Replied (to x)\n", instead("auto-replied"), Some(Outside::Nothing)),
            (
                "Auto-Submitted: auto-notified; owner-token=x\n",
                instead("auto-notified"),
                Some(Outside::Nothing),
            ),
            ("Auto-Submitted: x\n", Outside::Nothing, None),
            ("Return-Path: <a@example.org>\n", Outside::Same, Some(Outside::Nothing)),
            ("Return-Path: <>\n", Outside::Same, Some(Outside::Nothing)),
            ("Return-Path: x\n", Outside::Nothing, None),
            ("Return-Path: <a@b.example>, <c@d.example>\n", Outside::Nothing, None),
            ("Reply-To: =?utf-8?Q?x?=\n", Outside::Nothing, None),
            ("Message-ID: <a@b>\n", Outside::Same, Some(instead(""))),
            ("In-Reply-To: <a@b>\n", Outside::Same, Some(Outside::Nothing)),
            ("References: <a@b>\n", Outside::Same, Some(Outside::Nothing)),
            ("List-Id: <a>\n", Outside::Same, Some(Outside::Nothing)),
            ("Received: from a\n", Outside::Same, Some(Outside::Nothing)),
        ] {
            assert_eq!(outside(Policy::Strict, field), strict, "{field:?}");
            assert_eq!(outside(Policy::Sent, field), sent.unwrap_or(strict), "{field:?}");
        }
    }

    #[test]
    fn a_new_id_is_the_sender_s_and_of_its_own() {
        for (header, domain) in [
            ("From: A <a@example.org>\nMessage-ID: <x@host.internal>\n", "example.org"),
            ("From: root\n", HIDDEN_DOMAIN),
            ("From: a@b\u{e9}.example\n", HIDDEN_DOMAIN),
            ("", HIDDEN_DOMAIN),
        ] {
            let head = Head::new(header.as_bytes(), b"\n");
            let [one, other] = [(); 2].map(|()| Appearance::of(Policy::Sent, "s", head).unwrap());
            assert!(one.message_id.ends_with(&format!("@{domain}>")), "{one:?}");
            assert_eq!(one.message_id.len(), domain.len() + 35);
            assert_ne!(one.message_id, other.message_id);
        }
        assert_eq!(&*Appearance::of(Policy::Strict, "s", Head::new(b"", b"")).unwrap().message_id, "");
    }

    #[test]
    fn texts_that_were_chosen_are_recorded() {
        let entity =
            "HP-Outer: subject: Alert\nHP-Outer: Message-ID: <new@a>\nSubject: x\nMessage-ID: <old@a>\n";
        let head = Head::new(entity.as_bytes(), b"\n");
        let sent = Appearance::recorded(Policy::Sent, head);
        assert_eq!((&*sent.subject, &*sent.message_id), ("Alert", "<new@a>"));
        let strict = Appearance::recorded(Policy::Strict, head);
        assert_eq!((&*strict.subject, &*strict.message_id), ("Alert", ""));
        assert_eq!(Appearance::recorded(Policy::Shy, Head::new(b"A: b\n", b"\n")), Policy::Shy.into());
    }

    #[test]
    fn shy_hides_names_and_zones_too() {
        for (field, expected) in [
            ("From: Alice <alice@example.org>\n", Outside::Instead("alice@example.org".into())),
            ("To: a@example.org\n", Outside::Same),
            (
                "Date: Fri, 21 Jan 2022 20:40:48 -0500\n",
                Outside::Instead("Sat, 22 Jan 2022 01:40:48 +0000".into()),
            ),
            ("Reply-To: Alice <alice@example.org>\n", Outside::Same),
            ("Subject: x\n", Outside::Instead(HIDDEN_SUBJECT.into())),
        ] {
            assert_eq!(outside(Policy::Shy, field), expected, "{field:?}");
        }
    }
}
