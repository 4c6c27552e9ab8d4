//! Edge: Shares that people bring: in files, typed, or scanned.

use std::io::{BufRead, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::page;
use super::share::{self, CHARACTERS, LINE, LINES, Share};
use crate::error::Error;

/// Most bytes of a file with a share: a page has about 30,000.
const FILE: u64 = 1024 * 1024;

/// Most bytes of a line that is typed.
const TYPED: u64 = 4096;

/// A share, and where it came from.
#[derive(Debug)]
pub struct Given {
    /// Where, for people.
    pub place: String,
    /// The share.
    pub share: Share,
}

impl Given {
    /// What it is called in an error: its number and its place.
    pub fn name(&self) -> String {
        format!("share {} ({})", self.share.number, self.place)
    }
}

/// Reads a share from each file: a page that `mailseal keys recovery new` wrote, or the text of a share.
///
/// # Errors
/// [`Error::Shares`].
pub fn read(paths: &[PathBuf]) -> Result<Vec<Given>, Error> {
    let given = |path: &PathBuf| parse(&path.display().to_string(), &read_text(path)?);
    paths.iter().map(given).collect()
}

/// Reads shares from standard input: from a terminal line by line, until there are enough, else all that come.
///
/// # Errors
/// [`Error::Shares`].
pub fn ask() -> Result<Vec<Given>, Error> {
    let stdin = std::io::stdin();
    let prompts = stdin.is_terminal().then(std::io::stderr);
    Typed { input: stdin.lock(), prompts }.shares()
}

fn parse(place: &str, text: &str) -> Result<Given, Error> {
    if page::has_several(text) {
        return Err(Error::Shares {
            what: format!("no share can be read from {place}: there are several in it"),
            hint: "give each page as a file of its own, as it was written or scanned".into(),
        });
    }
    let share = Share::parse(page::share_in(text).as_deref().map_or(text, |it| it)).map_err(|fault| {
        Error::Shares {
            what: format!("no share can be read from {place}: {fault}"),
            hint: fault.hint().into(),
        }
    })?;
    Ok(Given { place: place.into(), share })
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let failed = |what: String, hint: &str| Error::Shares {
        what: format!("no share can be read from {}: {what}", path.display()),
        hint: hint.into(),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let result = std::fs::File::open(path).and_then(|file| file.take(FILE).read_to_end(&mut bytes));
    result.map_err(|error| failed(error.to_string(), "name a file that is there and that you may read"))?;
    match str::from_utf8(&bytes) {
        Ok(text) if (bytes.len() as u64) < FILE => Ok(Zeroizing::new(text.into())),
        _ => Err(failed(
            "it is not text".into(),
            "name a page that mailseal wrote, or a file with what its QR code holds; a picture of it must be scanned first",
        )),
    }
}

/// Shares that are typed, or come from a program.
struct Typed<R, W> {
    input: R,
    /// Where a person is asked for the next line.
    prompts: Option<W>,
}

impl<R: BufRead, W: Write> Typed<R, W> {
    fn shares(mut self) -> Result<Vec<Given>, Error> {
        let mut given: Vec<Given> = Vec::new();
        while let Some(text) = self.share(given.len() + 1)? {
            given.push(parse(&format!("standard input, share {}", given.len() + 1), &text)?);
            let needed = given.first().map_or(0, |first| usize::from(first.share.set.threshold));
            if self.prompts.is_some() && given.len() >= needed {
                break;
            }
        }
        Ok(given)
    }

    /// The text of the share that comes as the `nth`; `None` at the end of all.
    fn share(&mut self, nth: usize) -> Result<Option<Zeroizing<String>>, Error> {
        let mut text = Zeroizing::new(String::with_capacity(2 * CHARACTERS));
        let mut count = 0;
        while count < CHARACTERS {
            let line_number = count / LINE;
            self.say(&format!("share {nth}, line {} of {LINES}: ", line_number + 1))?;
            let mut line = Zeroizing::new(String::with_capacity(CHARACTERS * 2));
            let read = self.input.by_ref().take(TYPED).read_line(&mut line);
            if read.map_err(|error| refused(&error.to_string()))? == 0 {
                return if count == 0 { Ok(None) } else { Ok(Some(text)) };
            }
            let typed = line.chars().filter(|it| !it.is_whitespace() && *it != '-').count();
            if typed == 0 {
                continue;
            }
            // A person may type it once more. A whole share in one line comes from a scanner.
            if self.prompts.is_some()
                && typed != CHARACTERS
                && let Err(fault) = share::check_line(line_number, &line)
            {
                self.say(&format!("{fault}: {}\n", fault.hint()))?;
                continue;
            }
            text.push_str(&line);
            count += typed;
        }
        Ok(Some(text))
    }

    fn say(&mut self, text: &str) -> Result<(), Error> {
        let Some(prompts) = &mut self.prompts else { return Ok(()) };
        prompts.write_all(text.as_bytes()).and_then(|()| prompts.flush()).map_err(Error::Output)
    }
}

fn refused(what: &str) -> Error {
    Error::Shares {
        what: format!("no share can be read from standard input: {what}"),
        hint: "type the six lines of each page, or name files with --share".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::keys::recovery::secret::Secret;
    use crate::keys::recovery::share::{Set, split};

    fn shares() -> Vec<Share> {
        let secret = Secret::new(SystemTime::now()).unwrap();
        let set = Set::new(&secret.key("x").unwrap().fingerprint(), &secret, 3, 2).unwrap();
        split(&secret, set)
    }

    fn lines(share: &Share) -> Vec<String> {
        share.lines().iter().map(|line| line.to_string()).collect()
    }

    fn numbers(given: &[Given]) -> Vec<u8> {
        given.iter().map(|given| given.share.number).collect()
    }

    fn typed(text: &str, prompts: Option<&mut Vec<u8>>) -> Result<Vec<Given>, Error> {
        Typed { input: text.as_bytes(), prompts }.shares()
    }

    #[test]
    fn shares_come_one_after_the_other() {
        let shares = shares();
        let [a, b, c] = [0, 1, 2].map(|nth| lines(&shares[nth]).join("\n"));
        let given = typed(&format!("{a}\n\n{b}\n\n\n{c}"), None).unwrap();
        assert_eq!(numbers(&given), [1, 2, 3]);
        assert_eq!(given[1].name(), "share 2 (standard input, share 2)");
        let scanned = format!("{}\n{}\n", &*shares[2].code(), &*shares[0].code());
        assert_eq!(numbers(&typed(&scanned, None).unwrap()), [3, 1]);
        assert!(typed("", None).unwrap().is_empty());
        for (text, what) in [
            (format!("{a}\n{}", &b[..40]), "standard input, share 2: it has "),
            (format!("{a}x"), "standard input, share 1: line 6 has 26 characters"),
            ("hello".into(), "standard input, share 1: line 1: no share has the character 'l'"),
        ] {
            let error = typed(&text, None).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_person_is_asked_again_for_a_line_and_no_more_than_needed() {
        let shares = shares();
        let (mut first, third) = (lines(&shares[0]), lines(&shares[2]));
        let wrong = first[2].replacen(|_: char| true, if first[2].starts_with('y') { "b" } else { "y" }, 1);
        first.insert(2, wrong);
        first.insert(0, "ybndr".into());
        let text = format!("{}\n{}\nwhat comes then is not read\n", first.join("\n"), third.join("\n"));
        let mut said = Vec::new();
        let given = typed(&text, Some(&mut said)).unwrap();
        assert_eq!(numbers(&given), [1, 3]);
        let said = String::from_utf8(said).unwrap();
        assert_eq!(said.matches("line 1 has 5 characters, and not 25").count(), 1, "{said}");
        assert_eq!(said.matches("line 3 is not as it was printed").count(), 1, "{said}");
        assert!(said.ends_with("share 2, line 6 of 6: "), "{said}");
    }

    #[test]
    fn files_hold_pages_or_text() {
        let dir = tempfile::tempdir().unwrap();
        let shares = shares();
        let about = page::About { fingerprint: "AAAA BBBB", day: "2026-11-28" };
        let [page, text, code, picture] =
            ["page.html", "text", "code", "picture"].map(|name| dir.path().join(name));
        std::fs::write(&page, &*page::page(&shares[0], &about).unwrap()).unwrap();
        std::fs::write(&text, lines(&shares[1]).join("\n")).unwrap();
        std::fs::write(&code, &*shares[2].code()).unwrap();
        assert_eq!(numbers(&read(&[page, text, code]).unwrap()), [1, 2, 3]);

        std::fs::write(&picture, b"\x89PNG\r\n\x1a\n\xff").unwrap();
        for (path, what) in [(picture, "it is not text"), (dir.path().join("gone"), "No such file")] {
            let error = read(&[path]).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
