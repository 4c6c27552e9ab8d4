//! What `doveconf -n` prints: Dovecot's settings that differ from its defaults, read into a tree.

use std::path::Path;
use std::process::Command;

use crate::console::date;
use crate::system::owner::process::Watch;
use crate::system::program;

/// Settings and blocks, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// What stands before the brace: `protocol lmtp`, `plugin`; empty for the whole.
    pub name: String,
    settings: Vec<(String, String)>,
    blocks: Vec<Block>,
}

impl Block {
    /// Reads the output of `doveconf`; comments are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut open = vec![Self::default()];
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_suffix('{') {
                open.push(Self { name: name.trim().into(), ..Self::default() });
            } else if line == "}" && open.len() > 1 {
                close(&mut open);
            } else if let (Some((key, value)), Some(block)) = (line.split_once('='), open.last_mut()) {
                block.settings.push((key.trim().into(), unquoted(value.trim()).into()));
            }
        }
        while open.len() > 1 {
            close(&mut open);
        }
        open.pop().unwrap_or_default()
    }

    /// The value of a setting of this block itself; the last where there are several.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// All settings of this block itself.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The blocks of one kind: `sieve_script` has `sieve_script mailseal`.
    pub fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Self> {
        self.blocks.iter().filter(move |block| block.name.split_whitespace().next() == Some(kind))
    }

    /// All blocks.
    pub fn all_blocks(&self) -> impl Iterator<Item = &Self> {
        self.blocks.iter()
    }

    /// The block of this full name.
    #[must_use]
    pub fn block(&self, name: &str) -> Option<&Self> {
        self.blocks.iter().find(|block| block.name == name)
    }

    /// A list, as words of a value (2.3) or as names that are `yes` in a block (2.4).
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<&str> {
        let words = self.get(key).into_iter().flat_map(str::split_whitespace);
        let block = self.block(key).into_iter().flat_map(Self::settings);
        words.chain(block.filter(|(_, value)| *value == "yes").map(|(name, _)| name)).collect()
    }

    /// The part of the name after its kind.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.split_once(' ').map_or("", |(_, title)| title.trim())
    }
}

fn close(open: &mut Vec<Block>) {
    if let (Some(block), Some(parent)) = (open.pop(), open.last_mut()) {
        parent.blocks.push(block);
    }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value).trim()
}

/// A command of Dovecot's, with the configuration file to read.
#[must_use]
pub fn command(program: &str, config: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    if let Some(config) = config {
        command.arg("-c").arg(config);
    }
    command
}

/// Runs `command`, for a minute at most, and gives what it prints, or what it says of its failure.
///
/// # Errors
/// That, in one line.
pub fn output(command: &mut Command) -> Result<String, String> {
    bytes_of(command).map(|said| String::from_utf8_lossy(&said).into_owned())
}

/// Like [`output`], for what is not text.
///
/// # Errors
/// The same.
pub fn bytes_of(command: &mut Command) -> Result<Vec<u8>, String> {
    let name = command.get_program().display().to_string();
    let output =
        program::run(command, &Watch::alone()).map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{name} failed ({}): {}", output.status, complaint(&output.stderr)))
    }
}

/// What Dovecot says of a fault, in one line, without the backtrace that it adds to some.
#[must_use]
pub fn complaint(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(|line| line.split("Raw backtrace:").next().unwrap_or_default());
    let lines = lines.map(|line| line.trim().trim_end_matches("Error:").trim_end());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A span of time as Dovecot writes it (`60s`, `60 secs`, `1 mins`), in seconds.
#[must_use]
pub fn seconds(value: &str) -> Option<u64> {
    date::span(value.trim(), "s").map(|span| span.as_secs())
}

/// A size as Dovecot writes it (`256 M`, `1G`), in bytes; `unlimited` is none.
#[must_use]
pub fn bytes(value: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(value)?;
    let factor = match unit.bytes().next() {
        None | Some(b'B' | b'b') => 1,
        Some(b'k' | b'K') => 1 << 10,
        Some(b'm' | b'M') => 1 << 20,
        Some(b'g' | b'G') => 1 << 30,
        Some(b't' | b'T') => 1 << 40,
        Some(_) => return None,
    };
    number.checked_mul(factor)
}

fn number_and_unit(value: &str) -> Option<(u64, &str)> {
    let value = value.trim();
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    Some((value[..end].parse().ok()?, value[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf\nplugin {\n  sieve_before = /x.sieve\n}\n\
        protocol lmtp {\n  mail_plugins = \" quota sieve\"\n  namespace failclosed {\n    prefix = FAILCLOSED.\n  }\n}\n\
        empty = \n";
    const NEW: &str = "mail_plugins {\n  quota = yes\n  acl = no\n}\nsieve_script a {\n  type = before\n}\n\
        sieve_script b {\n  path = /b\n}\n";

    #[test]
    fn blocks_and_settings_of_both_versions_are_found() {
        let old = Block::parse(OLD);
        assert_eq!(old.block("plugin").and_then(|plugin| plugin.get("sieve_before")), Some("/x.sieve"));
        let lmtp = old.block("protocol lmtp").unwrap();
        assert_eq!(lmtp.list("mail_plugins"), ["quota", "sieve"]);
        assert_eq!(lmtp.blocks("namespace").next().unwrap().get("prefix"), Some("FAILCLOSED."));
        assert_eq!(old.get("empty"), Some(""));
        let new = Block::parse(NEW);
        assert_eq!(new.list("mail_plugins"), ["quota"]);
        assert_eq!(new.blocks("sieve_script").map(Block::title).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn broken_text_is_no_panic() {
        for text in ["}", "a {", "= x", "a {\nb {\nc = d", "}}}\n{"] {
            let _ = Block::parse(text);
        }
    }

    #[test]
    fn times_and_sizes_are_read() {
        for (text, expected) in
            [("60s", 60), ("60", 60), ("1 mins", 60), ("2m", 120), ("500ms", 0), ("1 hours", 3600)]
        {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for (text, expected) in [("256 M", 256 << 20), ("1G", 1 << 30), ("0", 0), ("17 k", 17 << 10)] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        assert_eq!((seconds("soon"), bytes("unlimited")), (None, None));
    }
}
