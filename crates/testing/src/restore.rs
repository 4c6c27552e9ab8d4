//! The way back, by the tests' own reading of the record: sealed message and opened entity give the original, byte for
//! byte. The product's `decrypt` is not asked.

use super::{
    header::{Item, split},
    openers::Opened,
    oracle::MARK,
    variants::to_crlf,
};

/// The original of `sealed`; `None` where the record says that it did not fit.
pub fn restore(sealed: &[u8], opened: &Opened) -> Result<Option<Vec<u8>>, String> {
    let record = Record::parse(&opened.file_name)?;
    if let Some(added) = &record.added {
        let entity = cut(&opened.data, added, &record.missing, &only_outside(sealed, record.lf))?;
        return Ok(Some(if record.lf { drop_cr(&entity)? } else { entity }));
    }
    let Some(steps) = &record.steps else { return Ok(None) };
    let outer = split(sealed);
    let eol = outer.separator.ok_or("no body")?;
    let data = if record.lf { drop_cr(&opened.data)? } else { opened.data.clone() };
    let entity = split(&data);
    // The ending that the last line of a tail was given would make one of a CR that stood there alone.
    let unended = match (record.tail, &record.end) {
        (Some(_), End::Cut) => data.strip_suffix(eol).and_then(|data| data.strip_suffix(eol)),
        _ => None,
    };
    let cut = unended.map(split);
    let entity = cut.as_ref().unwrap_or(&entity);
    // The added field aside, the entity's header has the fields that were taken out, and behind them the tail.
    let fields = &entity.items[usize::from(record.added_type)..];
    let fields = match fields.split_last() {
        Some((last, fields)) if record.marked && last.bytes.trim_ascii_end() == MARK => fields,
        _ if record.marked => return Err("the header inside does not end with the mark".to_owned()),
        _ => fields,
    };
    let is_content = |item: &Item<'_>| item.is_content() && !item.ends_region();
    let moved = fields.iter().position(|item| !is_content(item)).unwrap_or(fields.len());
    let (moved, tail) = fields.split_at(moved);
    if tail.is_empty() == record.tail.is_some() {
        return Err(format!("{} items of a tail, and the record says {:?}", tail.len(), record.tail));
    }

    let place =
        outer.items.iter().position(|item| item.is("mime-version")).ok_or("no MIME-Version outside")?;
    // What stands behind that many items repeats the tail, and is not needed.
    let behind = &outer.items[place + 2..];
    let mut kept = behind.get(..record.tail.unwrap_or(behind.len())).ok_or("too few items outside")?.iter();
    let mut moved = moved.iter();
    let mut original = outer.items[..place].iter().flat_map(|item| item.bytes).copied().collect::<Vec<u8>>();
    for step in steps {
        match step {
            Step::Kept(count) => {
                for _ in 0..*count {
                    original.extend_from_slice(bytes_of(kept.next())?);
                }
            }
            Step::Content => original.extend_from_slice(bytes_of(moved.next())?),
            Step::Version(field) => {
                original.extend_from_slice(field);
                if !field.ends_with(b"\n") {
                    original.extend_from_slice(eol);
                }
            }
        }
    }
    original.extend(kept.flat_map(|item| item.bytes));
    if moved.next().is_some() {
        return Err("a moved field without a place".to_owned());
    }
    original.extend(tail.iter().flat_map(|item| item.bytes));
    match record.end {
        End::EmptyLine => original.extend_from_slice(entity.separator.ok_or("no empty line in the entity")?),
        End::None => {}
        End::Cut if record.tail.is_some() => {}
        End::Cut => {
            let length = original.strip_suffix(eol).ok_or("the last line has no ending")?.len();
            original.truncate(length);
        }
    }
    original.extend_from_slice(entity.body);
    Ok(Some(original))
}

/// The entity without what was `added`, places and lengths, and with the `lines` at the places where they are `missing`.
fn cut(
    entity: &[u8],
    added: &[(usize, usize)],
    missing: &[usize],
    lines: &[Vec<u8>],
) -> Result<Vec<u8>, String> {
    if missing.len() != lines.len() {
        return Err(format!("{} lines are only outside, of {}", lines.len(), missing.len()));
    }
    let mut out = Vec::new();
    for at in 0..=entity.len() {
        out.extend(missing.iter().zip(lines).filter(|(place, _)| **place == at).flat_map(|(_, line)| line));
        if at < entity.len() && !added.iter().any(|(start, length)| (*start..start + length).contains(&at)) {
            out.push(entity[at]);
        }
    }
    let inside = added.iter().map(|(start, length)| start + length).chain(missing.iter().copied());
    if inside.max().is_some_and(|end| end > entity.len()) {
        return Err("a place behind the end".to_owned());
    }
    Ok(out)
}

fn bytes_of<'a>(item: Option<&Item<'a>>) -> Result<&'a [u8], String> {
    item.map(|item| item.bytes).ok_or_else(|| "the record names more fields than there are".to_owned())
}

/// Each LF loses the CR before it.
fn drop_cr(entity: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(entity.len());
    for &byte in entity {
        if byte == b'\n' && out.pop() != Some(b'\r') {
            return Err("an LF without a CR in a canonical entity".to_owned());
        }
        out.push(byte);
    }
    Ok(out)
}

#[derive(Debug)]
struct Record {
    lf: bool,
    steps: Option<Vec<Step>>,
    added_type: bool,
    /// Whether the header inside ends with the mark.
    marked: bool,
    /// How many items are kept between our fields and those that repeat the tail.
    tail: Option<usize>,
    end: End,
    /// What header protection added, as places and lengths.
    added: Option<Vec<(usize, usize)>>,
    /// The places of lines that only the outside has.
    missing: Vec<usize>,
}

#[derive(Debug)]
enum Step {
    Kept(usize),
    Content,
    Version(Vec<u8>),
}

#[derive(Debug)]
enum End {
    EmptyLine,
    None,
    Cut,
}

impl Record {
    fn parse(name: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(name).map_err(|_| "the file name is not text")?;
        let bad = || format!("the record {text:?}");
        if name.len() > 255 {
            return Err(bad());
        }
        let field = |name: &str| {
            text.split(';').skip(1).find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let versions = field("mv").unwrap_or_default().split(',').map(unquote);
        let versions: Vec<Vec<u8>> = versions.collect::<Option<_>>().ok_or_else(bad)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| bad());
        let list = |text: &'_ str| {
            text.split(',').filter(|piece| !piece.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let pair = |text: String| {
            let (start, length) = text.split_once('+').ok_or_else(bad)?;
            Ok::<_, String>((number(start)?, number(length)?))
        };
        let added = field("hp").map(|hp| list(hp).into_iter().map(pair).collect()).transpose()?;
        let missing = list(field("out").unwrap_or_default())
            .iter()
            .map(|place| number(place))
            .collect::<Result<_, _>>()?;
        let steps = match field("lost") {
            Some(_) => None,
            None if added.is_some() => Some(Vec::new()),
            None => Some(steps(field("at").ok_or_else(bad)?, versions).ok_or_else(bad)?),
        };
        let end = match field("end") {
            None => End::EmptyLine,
            Some("none") => End::None,
            Some("cut") => End::Cut,
            Some(_) => return Err(bad()),
        };
        let lf = match field("eol") {
            Some("lf") => true,
            Some("crlf" | "mixed") => false,
            _ => return Err(bad()),
        };
        let tail = field("tail").map(number).transpose()?;
        let (added_type, marked) = (field("ct") == Some("1"), field("m") == Some("1"));
        Ok(Self { lf, steps, added_type, marked, tail, end, added, missing })
    }
}

fn steps(at: &str, versions: Vec<Vec<u8>>) -> Option<Vec<Step>> {
    let (mut steps, mut count, mut versions) = (Vec::new(), String::new(), versions.into_iter());
    for letter in at.chars() {
        if letter.is_ascii_digit() {
            count.push(letter);
            continue;
        }
        if !count.is_empty() {
            steps.push(Step::Kept(count.parse().ok()?));
            count.clear();
        }
        steps.push(match letter {
            'c' => Step::Content,
            'v' => match versions.next() {
                Some(field) if !field.is_empty() => Step::Version(field),
                _ => Step::Version(b"MIME-Version: 1.0".to_vec()),
            },
            _ => return None,
        });
    }
    Some(steps)
}

fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                u8::from_str_radix(std::str::from_utf8(&[bytes.next()?, bytes.next()?]).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

/// The lines that are only outside, as they would stand in the entity.
fn only_outside(sealed: &[u8], lf: bool) -> Vec<Vec<u8>> {
    let items = split(sealed).items;
    let lines = items.iter().filter(|item| !item.goes_inside());
    lines.map(|item| if lf { to_crlf(item.bytes) } else { item.bytes.to_vec() }).collect()
}
