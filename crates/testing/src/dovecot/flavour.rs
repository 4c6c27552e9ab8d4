//! What differs between Dovecot versions: where the programs are and how the settings are written.

use super::users::{DELIVERY_GROUP, DELIVERY_USER, PASSWORD};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the LDA is, on both.
pub const DOVECOT_LDA: &str = "/usr/lib/dovecot/dovecot-lda";

/// A Dovecot version as the tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Debian 12's, installed on this machine.
    V2_3,
    /// Debian 13's, in a root of its own that `tests/dovecot/root-2.4` makes.
    V2_4,
}

/// Takes what is to run into Debian 13's root: the tests' folders, `/proc` and `/dev` are mounted there, in a mount
/// namespace that ends with the program. `$1` is the root, `$2` the folder for temporary files, `$3` user and group, the
/// rest is run.
const ENTER: &str = r#"
root=$1 tmp=$2 user=$3
shift 3
mkdir -p "$root$tmp"
mount --rbind "$tmp" "$root$tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec setpriv --pdeathsig TERM chroot --userspec "$user" "$root" "$@"
"#;

impl Flavour {
    /// A command that runs one of Dovecot's programs (`dovecot`, `dovecot-lda`, `sievec`, `sieve-test`, `doveconf`,
    /// `doveadm`), or any other by its path, as root.
    pub fn command(self, program: &str) -> Command {
        self.command_as(0, 0, program)
    }

    /// The same as the mail user, as an MTA runs an LDA.
    pub fn mail_user_command(self, program: &str) -> Command {
        self.command_as(DELIVERY_USER, DELIVERY_GROUP, program)
    }

    fn command_as(self, user: u32, group: u32, program: &str) -> Command {
        let path = match program {
            "dovecot" => "/usr/sbin/dovecot",
            "dovecot-lda" => DOVECOT_LDA,
            "sievec" => "/usr/bin/sievec",
            "sieve-test" => "/usr/bin/sieve-test",
            "doveconf" => "/usr/bin/doveconf",
            "doveadm" => "/usr/bin/doveadm",
            path => path,
        };
        // When the thread that runs the test dies without dropping the server, Dovecot goes with it.
        let mut command = match self {
            Self::V2_3 => {
                let mut setpriv = Command::new("setpriv");
                setpriv.args(["--pdeathsig", "TERM", "--clear-groups"]);
                setpriv.arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
                setpriv
            }
            Self::V2_4 => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--mount", "--propagation", "private", "sh", "-euc", ENTER, "enter"]);
                unshare.args([self.root(), std::env::temp_dir()]).arg(format!("+{user}:+{group}"));
                unshare
            }
        };
        command.arg(path).current_dir("/");
        command
    }

    /// A shell script that runs one of Dovecot's programs with what it is given.
    pub fn script(self, program: &str) -> String {
        let command = self.command(program);
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', r"'\''"));
        let words: Vec<String> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
        format!("#!/bin/sh\ncd /\nexec {} \"$@\"\n", words.join(" "))
    }

    /// Settings that store mail in this format: maildir, sdbox, mdbox.
    pub fn storage(self, format: &str) -> String {
        match self {
            Self::V2_3 => format!("mail_location = {format}:~/{format}\n"),
            Self::V2_4 => format!("mail_driver = {format}\nmail_path = ~/{format}\n"),
        }
    }

    /// Settings that keep what is expunged in the folder EXPUNGED.
    pub fn lazy_expunge(self) -> &'static str {
        match self {
            Self::V2_3 => {
                "mail_plugins = $mail_plugins lazy_expunge\nplugin {\n  lazy_expunge = EXPUNGED\n}\n"
            }
            Self::V2_4 => {
                "mail_plugins {\n  lazy_expunge = yes\n}\nlazy_expunge_mailbox = EXPUNGED\n\
                 namespace inbox {\n  mailbox EXPUNGED {\n    auto = create\n  }\n}\n"
            }
        }
    }

    /// Settings that allow a user so many kilobytes.
    pub fn quota(self, kilobytes: u32) -> String {
        match self {
            Self::V2_3 => format!(
                "mail_plugins = $mail_plugins quota\nplugin {{\n  quota = count:User quota\n  quota_vsizes = yes\n  \
                 quota_rule = *:storage={kilobytes}k\n  quota_grace = 0\n}}\n"
            ),
            Self::V2_4 => format!(
                "mail_plugins {{\n  quota = yes\n}}\nquota user {{\n  driver = count\n}}\n\
                 quota_storage_size = {kilobytes}k\nquota_storage_grace = 0\n"
            ),
        }
    }

    /// The folder that is `/` for this Dovecot.
    pub fn root(self) -> PathBuf {
        match self {
            Self::V2_3 => "/".into(),
            Self::V2_4 => std::env::var_os("MAILSEAL_DOVECOT_24")
                .map_or_else(|| "/var/cache/mailseal/dovecot-2.4".into(), PathBuf::from),
        }
    }

    /// A file of this Dovecot's system as it is seen from outside.
    pub fn installed(self, file: &str) -> PathBuf {
        self.root().join(Path::new(file).strip_prefix("/").unwrap())
    }

    /// The option of `sieve-test` that stores into a Maildir; 2.4 has none for it, but takes any setting.
    pub fn sieve_test_storage(self, maildir: &Path) -> Vec<String> {
        let maildir = maildir.display();
        match self {
            Self::V2_3 => vec!["-l".into(), format!("maildir:{maildir}")],
            Self::V2_4 => vec!["-o".into(), format!("mail_path={maildir}")],
        }
    }

    /// How the version begins that `dovecot --version` says.
    pub fn version(self) -> &'static str {
        match self {
            Self::V2_3 => "2.3.",
            Self::V2_4 => "2.4.",
        }
    }

    /// The shipped snippet, in `sieve/`.
    pub fn snippet(self) -> &'static str {
        match self {
            Self::V2_3 => "dovecot-2.3.conf",
            Self::V2_4 => "dovecot-2.4.conf",
        }
    }

    /// The shipped snippet for the Sent folder.
    pub fn imapsieve_snippet(self) -> &'static str {
        match self {
            Self::V2_3 => "dovecot-imap-2.3.conf",
            Self::V2_4 => "dovecot-imap-2.4.conf",
        }
    }

    /// The shipped snippet for users who enrol through their mailboxes.
    pub fn receive_snippet(self) -> &'static str {
        match self {
            Self::V2_3 => "dovecot-receive-2.3.conf",
            Self::V2_4 => "dovecot-receive-2.4.conf",
        }
    }

    /// The shipped snippet for a spam filter that learns.
    pub fn learn_snippet(self) -> &'static str {
        match self {
            Self::V2_3 => "dovecot-learn-2.3.conf",
            Self::V2_4 => "dovecot-learn-2.4.conf",
        }
    }

    /// The plugin that reads access lists. It has to stand before our snippet.
    pub fn acl_plugin(self) -> &'static str {
        match self {
            Self::V2_3 => "mail_plugins = $mail_plugins acl\nplugin {\n  acl = vfile\n}\n",
            Self::V2_4 => "mail_plugins {\n  acl = yes\n}\nacl_driver = vfile\n",
        }
    }

    /// A public namespace `Public.` and a shared one `Shared/USER/`, whose folders access lists open.
    pub fn shared_namespaces(self, dir: &Path) -> String {
        let dir = dir.display();
        match self {
            Self::V2_3 => format!(
                "\
namespace public {{
  type = public
  prefix = Public.
  separator = .
  location = maildir:{dir}/home/public
  subscriptions = no
}}
namespace shared {{
  type = shared
  prefix = Shared/%%u/
  separator = /
  list = no
  location = maildir:%%h/Maildir
  subscriptions = no
}}
"
            ),
            Self::V2_4 => format!(
                "\
namespace public {{
  type = public
  prefix = Public.
  separator = .
  mail_driver = maildir
  mail_path = {dir}/home/public
  subscriptions = no
}}
namespace shared {{
  type = shared
  prefix = Shared/$user/
  separator = /
  list = no
  mail_driver = maildir
  mail_path = %{{owner_home}}/Maildir
  subscriptions = no
}}
"
            ),
        }
    }

    /// A line of the user database, with mailseal's settings of the user's own, as `key=FILE`.
    pub fn user(self, user: &str, settings: &[&str]) -> String {
        let prefix = match self {
            Self::V2_3 => "userdb_sieve_env_mailseal_",
            Self::V2_4 => "userdb_sieve_environment/mailseal_",
        };
        let settings: Vec<String> = settings.iter().map(|setting| format!("{prefix}{setting}")).collect();
        format!("{user}:{{PLAIN}}{PASSWORD}::::::{}\n", settings.join(" "))
    }

    /// Settings that run other global scripts before and after `ours`: what stands before our snippet, and what after it.
    pub fn script_order(self, first: &[String], ours: &str, after: &[String]) -> (String, String) {
        match self {
            Self::V2_3 => {
                let all =
                    first.iter().map(String::as_str).chain([ours]).chain(after.iter().map(String::as_str));
                let numbered = all.enumerate().map(|(index, path)| match index {
                    0 => format!("  sieve_before = {path}\n"),
                    _ => format!("  sieve_before{} = {path}\n", index + 1),
                });
                (String::new(), format!("plugin {{\n{}}}\n", numbered.collect::<String>()))
            }
            Self::V2_4 => {
                let blocks = |name: &str, scripts: &[String]| -> String {
                    let numbered = scripts.iter().enumerate();
                    numbered
                        .map(|(index, path)| {
                            format!("sieve_script {name}{index} {{\n  type = before\n  path = {path}\n}}\n")
                        })
                        .collect()
                };
                (blocks("first", first), blocks("after", after))
            }
        }
    }

    /// Runs `path` in the place of our script.
    pub fn script_in_place_of_ours(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::V2_3 => format!("plugin {{\n  sieve_before = {path}\n}}\n"),
            Self::V2_4 => format!("sieve_script mailseal {{\n  path = {path}\n}}\n"),
        }
    }

    /// Settings of the Sieve plugin, `name = value`.
    pub fn sieve_settings(self, settings: &str) -> String {
        match self {
            Self::V2_3 => format!("plugin {{\n{settings}\n}}\n"),
            Self::V2_4 => format!("{settings}\n"),
        }
    }

    /// Runs `script` on what is copied into `folder` over IMAP.
    pub fn imapsieve_rule(self, folder: &str, script: &Path) -> String {
        let script = script.display();
        match self {
            Self::V2_3 => format!(
                "plugin {{\n  imapsieve_mailbox2_name = {folder}\n  imapsieve_mailbox2_causes = COPY\n  \
                 imapsieve_mailbox2_before = file:{script}\n}}\n"
            ),
            Self::V2_4 => format!(
                "namespace inbox {{\n  mailbox {folder} {{\n    sieve_script rule {{\n      type = before\n      \
                 cause = copy\n      path = {script}\n    }}\n  }}\n}}\n"
            ),
        }
    }

    /// Adds a plugin to those of IMAP.
    pub fn imap_plugin(self, name: &str) -> String {
        match self {
            Self::V2_3 => format!("protocol imap {{\n  mail_plugins = imap_sieve {name}\n}}\n"),
            Self::V2_4 => format!("protocol imap {{\n  mail_plugins {{\n    {name} = yes\n  }}\n}}\n"),
        }
    }

    /// A shorter limit on how long the filter may run.
    pub fn filter_timeout(self, seconds: u32) -> String {
        self.sieve_settings(&format!("sieve_filter_exec_timeout = {seconds}s"))
    }
}
