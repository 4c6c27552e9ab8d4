//! What stands between a server's line and `imap-proto`, which reads the grammar but panics at some lines that no server
//! sends, and follows lists to any depth.

use imap_proto::Response;

/// Deepest nesting of lists in a response: what is asked for has three.
const DEPTH: usize = 16;

/// A response of a kind that is asked for here, and that cannot be read: what it says is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What untagged responses that are read begin with, behind a number where they have one.
const READ: [&[u8]; 7] = [b"OK ", b"NO ", b"BAD ", b"BYE ", b"FETCH ", b"SEARCH", b"LIST "];

/// The response in `line`; `None` for one that nobody asks for here.
///
/// # Errors
/// [`Unreadable`]: a folder or a message that it names must not be passed over.
pub fn parse(line: &[u8]) -> Result<Option<Response<'_>>, Unreadable> {
    let read = match line.strip_prefix(b"* ") {
        Some(rest) => {
            let number = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kind = rest[number..].trim_ascii_start();
            READ.iter().any(|word| starts_with(kind, word))
        }
        None => true,
    };
    if !read {
        return Ok(None);
    }
    let unquoted = without_strings(line);
    if !line.is_ascii() || depth(&unquoted) > DEPTH || holds(&unquoted, b"INTERNALDATE NIL") {
        return Err(Unreadable);
    }
    Response::parse(line).map(|(_, response)| Some(response)).map_err(|_| Unreadable)
}

/// The line without what stands in quoted strings: a folder may have any name.
fn without_strings(line: &[u8]) -> Vec<u8> {
    let (mut quoted, mut escaped) = (false, false);
    let mut outside = Vec::with_capacity(line.len());
    for &byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            _ => outside.push(byte),
        }
    }
    outside
}

/// How deep lists are nested, at most.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn holds(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_grammar_panics_at_is_no_response() {
        let deep = [b"* 1 FETCH (BODYSTRUCTURE ".to_vec(), vec![b'('; 500_000], b"\r\n".to_vec()].concat();
        for line in [
            &b"m1 OK [APPENDUID 7 1:2]\xef\xbf\xbdx\r\n"[..],
            b"* 1 FETCH (INTERNALDATE NIL)\r\n",
            b"* 1 FETCH (UID 1 internaldate nil)\r\n",
            b"* ID (NIL NIL)\r\n",
            b"* METADATA \"\" (/private/\xff x)\r\n",
            &deep,
        ] {
            let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
            assert!(!matches!(parse(line), Ok(Some(_))), "{shown}");
            let asked_for = line.starts_with(b"m1") || line.starts_with(b"* 1 FETCH");
            assert_eq!(parse(line).is_err(), asked_for, "{shown}");
        }
        for line in [
            &b"m1 OK [APPENDUID 7 1:2] x\r\n"[..],
            b"* 1 FETCH (UID 1 FLAGS (\\Seen (x)) MODSEQ (3))\r\n",
            b"* SEARCH\r\n",
            b"* search 1 2\r\n",
            b"* LIST (\\NoSelect) \".\" INBOX\r\n",
            b"* OK [UIDVALIDITY 7] x\r\n",
        ] {
            let shown = String::from_utf8_lossy(line);
            assert_eq!(matches!(parse(line), Ok(Some(_))), Response::parse(line).is_ok(), "{shown}");
        }
    }

    #[test]
    fn no_name_hides_a_folder() {
        let deep = format!("* LIST () \".\" \"{}\"\r\n", "(".repeat(200));
        for line in [&*deep, "* LIST () \".\" \"INTERNALDATE NIL\"\r\n", "* LIST () \".\" \"a\\\"(((b\"\r\n"]
        {
            assert!(matches!(parse(line.as_bytes()), Ok(Some(_))), "{line}");
        }
        assert_eq!(parse(b"* LIST nothing of the kind\r\n"), Err(Unreadable));
    }
}
