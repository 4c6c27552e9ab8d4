//! What a name in a certificate says, whatever kinds of strings it is written in (RFC 5280, section 4.1.2.4).

use der::asn1::{Any, ObjectIdentifier};
use der::{Tag, Tagged as _};
use x509_cert::name::Name;

/// A name as readers compare it that do not compare octets: where it differs only in the kinds of its strings, the case of its ASCII
/// letters or the white space, it is the same.
pub type Compared = Vec<Vec<(ObjectIdentifier, String)>>;

/// The name as readers compare it.
pub fn compared(name: &Name) -> Compared {
    let part = |value: &Any| {
        let said = text(value).ok().flatten();
        let said =
            said.map(|said| said.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase());
        // Of no kind that holds text: as it is, behind what no text begins with.
        said.unwrap_or_else(|| format!(" {}{:?}", value.tag(), value.value()))
    };
    name.0.iter().map(|set| set.0.iter().map(|one| (one.oid, part(&one.value))).collect()).collect()
}

/// Demands that every string in `name` is one of its kind: readers read no message that bears another.
///
/// # Errors
/// What kind of string is none.
pub fn demand_strings(name: &Name) -> Result<(), Tag> {
    name.0.iter().flat_map(|set| set.0.iter()).try_for_each(|one| text(&one.value).map(|_| ()))
}

/// What a string says; `None` where it is of no kind that is known.
fn text(value: &Any) -> Result<Option<String>, Tag> {
    let (octets, tag) = (value.value(), value.tag());
    let said = match tag {
        Tag::Utf8String => String::from_utf8(octets.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
            octets.is_ascii().then(|| octets.iter().copied().map(char::from).collect())
        }
        // Latin 1, as most readers have it.
        Tag::TeletexString => Some(octets.iter().copied().map(char::from).collect()),
        // Two octets a character, and no surrogates.
        Tag::BmpString => {
            let units = octets.chunks(2).map(|unit| <[u8; 2]>::try_from(unit).ok().map(u16::from_be_bytes));
            units.map(|unit| char::from_u32(unit?.into())).collect()
        }
        _ => return Ok(None),
    };
    said.map(Some).ok_or(tag)
}

#[cfg(test)]
mod tests {
    use der::asn1::SetOfVec;
    use x509_cert::attr::AttributeTypeAndValue;
    use x509_cert::name::{RdnSequence, RelativeDistinguishedName};

    use super::*;

    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

    fn name(tag: Tag, octets: &[u8]) -> Name {
        let part = AttributeTypeAndValue { oid: COMMON_NAME, value: Any::new(tag, octets).unwrap() };
        let set = SetOfVec::try_from([part]).unwrap();
        RdnSequence(vec![RelativeDistinguishedName(set)])
    }

    #[test]
    fn strings_are_of_their_kind() {
        for (tag, good, bad) in [
            (Tag::Utf8String, &b"\xc3\xa4"[..], &[&b"\xe4"[..], b"a\xc3"][..]),
            (Tag::PrintableString, b"a", &[b"\xe4"]),
            (Tag::Ia5String, b"a@b", &[b"\xe4"]),
            (Tag::BmpString, b"\0a\0\xe4", &[b"\0", b"\0a\0", b"\xd8\x3d\xde\0"]),
        ] {
            assert_eq!(demand_strings(&name(tag, good)), Ok(()), "{tag}");
            assert_eq!(demand_strings(&name(tag, b"")), Ok(()), "{tag}");
            for bad in bad {
                assert_eq!(demand_strings(&name(tag, bad)), Err(tag), "{bad:?}");
            }
        }
        assert_eq!(demand_strings(&name(Tag::OctetString, b"\xff")), Ok(()));
    }

    #[test]
    fn names_are_compared_as_text() {
        let one = compared(&name(Tag::Utf8String, b"Example CA"));
        for same in [
            name(Tag::PrintableString, b"example  ca "),
            name(Tag::BmpString, b"\0E\0x\0a\0m\0p\0l\0e\0 \0C\0A"),
        ] {
            assert_eq!(compared(&same), one);
        }
        for other in
            [name(Tag::Utf8String, b"ExampleCA"), name(Tag::OctetString, b"Example CA"), RdnSequence(vec![])]
        {
            assert_ne!(compared(&other), one);
        }
    }
}
