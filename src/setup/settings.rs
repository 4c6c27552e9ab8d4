//! The file of settings that setup writes: its text for Dovecot 2.3 and 2.4.

use std::fmt::Write as _;
use std::path::Path;

use super::plan::{Paths, SentFolder};

/// The first line of our file, by which it is known.
pub const FIRST_LINE: &str = "# By `mailseal setup`, which rewrites it, and `mailseal setup --undo`, which takes it away. Do not change it.";

/// The namespace whose folders cannot be delivered to.
pub const TRAP: &str = "FAILCLOSED.";

/// What stands above the settings.
const HEAD: &str = "\
# It has to be read after all other settings of Sieve. In Dovecot 2.3 the lists in it hold what was set elsewhere, too: after a
# change there, run `mailseal setup` again.
";

/// Settings of the Sieve plugin in 2.3, in their order.
pub type Values = Vec<(String, String)>;

/// What is written for one protocol of 2.3.
#[derive(Clone, Debug, Default)]
pub struct Protocol {
    /// `lmtp`, `lda` or `imap`.
    pub name: &'static str,
    /// Its plugins.
    pub plugins: Vec<String>,
    /// Settings of the Sieve plugin that are another for this protocol.
    pub sieve: Values,
}

/// Whether a file with this text is one of ours.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(FIRST_LINE)
}

/// The settings for 2.3: those of the Sieve plugin, and what each protocol has of its own.
#[must_use]
pub fn of_2_3(protocols: &[Protocol], sieve: &Values, paths: &Paths) -> String {
    let mut text = format!("{FIRST_LINE}\n{HEAD}\n");
    for protocol in protocols {
        let _ = writeln!(text, "protocol {} {{", protocol.name);
        let _ = writeln!(text, "  mail_plugins = {}", protocol.plugins.join(" "));
        if !protocol.sieve.is_empty() {
            text.push_str("  plugin {\n");
            values(&mut text, "    ", &protocol.sieve);
            text.push_str("  }\n");
        }
        if protocol.name != "imap" {
            let _ = write!(
                text,
                "  namespace failclosed {{\n    prefix = {TRAP}\n    separator = .\n    location = maildir:{}:INDEX=MEMORY\n    \
                 hidden = yes\n    list = no\n    subscriptions = no\n  }}\n",
                paths.trap.display()
            );
        }
        text.push_str("}\n");
    }
    text.push_str("lda_mailbox_autocreate = yes\nplugin {\n");
    values(&mut text, "  ", sieve);
    text.push_str("}\n");
    text
}

fn values(text: &mut String, indent: &str, values: &Values) {
    for (key, value) in values {
        let _ = writeln!(text, "{indent}{key} = {}", quoted(value));
    }
}

/// A value as it is read back: in quotes where it would be taken for something else.
fn quoted(value: &str) -> String {
    if value.contains(['#', '"', '\\', '$', '<']) {
        format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
    } else {
        value.to_owned()
    }
}

/// What the settings for 2.4 hold beside paths.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The folders that are sealed over IMAP.
    pub sent: &'a [SentFolder],
    /// Where Dovecot looks for programs.
    pub programs: &'a Path,
    /// How long they may take, in seconds.
    pub seconds: u64,
    /// The extensions that global scripts need.
    pub extensions: &'a [&'a str],
}

/// The settings for 2.4, which adds to lists.
#[must_use]
pub fn of_2_4(wanted: &Wanted<'_>, paths: &Paths) -> String {
    let mut text = format!("{FIRST_LINE}\n{HEAD}\n");
    for protocol in ["lmtp", "lda"] {
        let _ = write!(
            text,
            "protocol {protocol} {{\n  mail_plugins {{\n    sieve = yes\n  }}\n  namespace failclosed {{\n    prefix = {TRAP}\n    \
             separator = .\n    mail_driver = maildir\n    mail_path = {}\n    mail_index_path = MEMORY\n    hidden = yes\n    \
             list = no\n    subscriptions = no\n  }}\n}}\n",
            paths.trap.display()
        );
    }
    let _ = write!(
        text,
        "lda_mailbox_autocreate = yes\nsieve_plugins {{\n  sieve_extprograms = yes\n}}\nsieve_global_extensions {{\n\
         {}}}\nsieve_script mailseal {{\n  type = before\n  \
         # Before all others, wherever they are written.\n  precedence = 0\n  path = {}\n}}\nsieve_filter_bin_dir = {}\n\
         sieve_filter_exec_timeout = {}s\n",
        wanted.extensions.iter().map(|name| format!("  {name} = yes\n")).collect::<String>(),
        paths.script.display(),
        wanted.programs.display(),
        wanted.seconds
    );
    if wanted.sent.is_empty() {
        return text;
    }
    text.push_str(
        "protocol imap {\n  mail_plugins {\n    imap_sieve = yes\n  }\n}\nsieve_plugins {\n  sieve_imapsieve = yes\n}\n\
         imapsieve_expunge_discarded = yes\n",
    );
    for folder in wanted.sent {
        let _ = write!(
            text,
            "namespace {} {{\n  mailbox \"{}\" {{\n    sieve_script mailseal-imap {{\n      type = before\n      \
             cause = append copy\n      path = {}\n    }}\n  }}\n}}\n",
            folder.namespace,
            folder.name,
            paths.imap_script.display()
        );
    }
    text
}
