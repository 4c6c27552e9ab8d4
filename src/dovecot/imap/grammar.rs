//! What stands between a server's line and `imap-proto`, which reads the grammar but panics at some lines that no server
//! sends, and follows lists to any depth.

use imap_proto::Response;

/// Deepest nesting of lists in a line: what is asked for has three.
const DEPTH: usize = 16;

/// What untagged responses that are read begin with, behind a number where they have one.
const READ: [&[u8]; 7] = [b"OK ", b"NO ", b"BAD ", b"BYE ", b"FETCH ", b"SEARCH", b"LIST "];

/// The response in `line`; `None` for one that nobody asks for here, and for what is no response.
pub fn parse(line: &[u8]) -> Option<Response<'_>> {
    let read = match line.strip_prefix(b"* ") {
        Some(rest) => {
            let number = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kind = rest[number..].trim_ascii_start();
            READ.iter().any(|word| starts_with(kind, word))
        }
        None => true,
    };
    let sound = line.is_ascii() && depth(line) <= DEPTH && !holds(line, b"INTERNALDATE NIL");
    let (_, response) = (read && sound).then(|| Response::parse(line).ok())??;
    Some(response)
}

/// How deep the lists are nested, at most: brackets in strings count as well.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in line {
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
            assert!(parse(line).is_none(), "{}", String::from_utf8_lossy(&line[..line.len().min(80)]));
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
            assert_eq!(parse(line).is_some(), Response::parse(line).is_ok(), "{shown}");
        }
    }
}
