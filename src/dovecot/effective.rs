//! Dovecot's settings as they count for one protocol: whatever stands in `protocol X { … }` is applied already.

use std::path::{Path, PathBuf};

use super::doveconf::{self, Block};
use super::installation::location;

/// The precedence of a script of 2.4 that has none: behind all that have one.
const LAST: u64 = u64::MAX;

/// What counts for one protocol, or outside all protocols.
#[derive(Clone, Debug, Default)]
pub struct View {
    settings: Block,
    /// What counts outside all protocols, where lists of 2.4 go on from.
    general: Block,
    is_2_4: bool,
}

/// A script, or a folder of scripts, that runs before the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its name in 2.4; empty in 2.3.
    pub name: String,
    /// The location as Dovecot has it.
    pub value: String,
}

impl Before {
    /// The file or folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        location(&self.value)
    }
}

impl View {
    /// Asks `doveconf` what counts for `protocol` by the configuration file `config`; `general` is what counts outside all
    /// protocols.
    ///
    /// # Errors
    /// What it says.
    pub fn read(config: &Path, protocol: &str, general: &Self) -> Result<Self, String> {
        let mut command = doveconf::command("doveconf", Some(config));
        command.args(["-n", "-x", "-f"]).arg(format!("protocol={protocol}"));
        Ok(general.for_protocol(&doveconf::output(&mut command)?))
    }

    /// What `doveconf` says of what counts outside all protocols.
    #[must_use]
    pub fn parse(text: &str, is_2_4: bool) -> Self {
        Self { settings: Block::parse(text), general: Block::default(), is_2_4 }
    }

    /// What `doveconf` says of a protocol, where this is what counts outside all of them.
    #[must_use]
    pub fn for_protocol(&self, text: &str) -> Self {
        Self { settings: Block::parse(text), general: self.settings.clone(), is_2_4: self.is_2_4 }
    }

    /// All settings.
    #[must_use]
    pub fn settings(&self) -> &Block {
        &self.settings
    }

    /// The plugins.
    #[must_use]
    pub fn plugins(&self) -> Vec<&str> {
        if self.is_2_4 { self.list("mail_plugins") } else { self.settings.list("mail_plugins") }
    }

    /// A list of 2.4. A block of a protocol's adds to the list outside, or takes from it, and `doveconf` says only that.
    fn list(&self, key: &str) -> Vec<&str> {
        let own = self.settings.list(key);
        let Some(block) = self.settings.block(key) else { return own };
        let is_inherited = |name: &&str| !own.contains(name) && block.get(name).is_none();
        let mut list = self.general.list(key);
        list.retain(is_inherited);
        list.extend(own);
        list
    }

    /// The settings of plugins: in 2.3 they are in a block of their own.
    fn of_plugins(&self) -> Option<&Block> {
        if self.is_2_4 { Some(&self.settings) } else { self.settings.block("plugin") }
    }

    /// A setting of the Sieve plugin; `None` where it is empty.
    #[must_use]
    pub fn sieve(&self, key: &str) -> Option<&str> {
        self.of_plugins()?.get(key).filter(|value| !value.is_empty())
    }

    /// A list of the Sieve plugin.
    #[must_use]
    pub fn sieve_list(&self, key: &str) -> Vec<&str> {
        if self.is_2_4 {
            return self.list(key);
        }
        self.of_plugins().map(|block| block.list(key)).unwrap_or_default()
    }

    /// The settings of the Sieve plugin that begin with `start`.
    pub fn sieve_settings<'a>(&'a self, start: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.of_plugins().into_iter().flat_map(Block::settings).filter(move |(key, _)| key.starts_with(start))
    }

    /// What runs before the user's script, in its order.
    #[must_use]
    pub fn before(&self) -> Vec<Before> {
        if self.is_2_4 { self.before_of_2_4() } else { self.before_of_2_3() }
    }

    fn before_of_2_3(&self) -> Vec<Before> {
        let values = counted(|key| self.sieve(key)).into_iter();
        values.map(|value| Before { name: String::new(), value: value.to_owned() }).collect()
    }

    fn before_of_2_4(&self) -> Vec<Before> {
        let before = |block: &Block| Before {
            name: block.title().to_owned(),
            value: block.get("path").unwrap_or_default().to_owned(),
        };
        by_precedence(self.settings.blocks("sieve_script")).into_iter().map(before).collect()
    }

    /// Whether a script of 2.4 has the precedence that none is before.
    #[must_use]
    pub fn has_first(&self) -> bool {
        self.settings
            .blocks("sieve_script")
            .any(|block| block.get("type") == Some("before") && block.get("precedence") == Some("0"))
    }
}

/// The scripts of 2.3 that run before the user's: Dovecot counts up, and goes no further than the first number that is missing or
/// empty.
pub fn counted<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Vec<&'a str> {
    (1..).map_while(|number| get(&before_key(number)).filter(|value| !value.is_empty())).collect()
}

/// Those of 2.4: Dovecot goes by precedence, and where that is equal by the order in which the blocks are written.
pub fn by_precedence<'a>(scripts: impl Iterator<Item = &'a Block>) -> Vec<&'a Block> {
    let mut before: Vec<&Block> = scripts.filter(|block| block.get("type") == Some("before")).collect();
    before.sort_by_key(|block| block.get("precedence").and_then(|it| it.parse().ok()).unwrap_or(LAST));
    before
}

/// The name of the setting for the script of this number, from 1 on.
#[must_use]
pub fn before_key(number: usize) -> String {
    if number == 1 { "sieve_before".into() } else { format!("sieve_before{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_as_far_as_they_are_given() {
        let view = View::parse(
            "plugin {\n  sieve_before = file:/a;bindir=/b\n  sieve_before2 = /b/\n  sieve_before3 = \n  sieve_before4 = /d\n}\n",
            false,
        );
        let paths: Vec<PathBuf> = view.before().iter().map(Before::path).collect();
        assert_eq!(paths, [PathBuf::from("/a"), "/b/".into()]);
        assert!(View::parse("plugin {\n  sieve_before2 = /b\n}\n", false).before().is_empty());
    }

    #[test]
    fn a_protocols_block_goes_on_from_the_list_outside() {
        let general = View::parse("mail_plugins {\n  quota = yes\n  acl = yes\n}\nsieve_plugins = a\n", true);
        let own = |text: &str| general.for_protocol(text);
        assert_eq!(own("mail_plugins {\n  sieve = yes\n  acl = no\n}\n").plugins(), ["quota", "sieve"]);
        assert_eq!(own("mail_plugins = sieve\n").plugins(), ["sieve"]);
        assert_eq!(own("sieve_plugins {\n  b = yes\n}\n").sieve_list("sieve_plugins"), ["a", "b"]);
    }

    #[test]
    fn precedence_comes_before_the_order_of_blocks() {
        let view = View::parse(
            "sieve_script a {\n  type = before\n  path = /a\n}\nsieve_script b {\n  type = before\n  path = /b\n  \
             precedence = 3\n}\nsieve_script c {\n  path = /c\n}\nsieve_script d {\n  type = before\n  path = /d\n}\n",
            true,
        );
        assert_eq!(view.before().into_iter().map(|it| it.name).collect::<Vec<_>>(), ["b", "a", "d"]);
        assert!(!view.has_first());
    }
}
