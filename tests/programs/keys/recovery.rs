//! `mailseal keys recovery`: from a new key to mail that is read with shares of it, and what is refused on the way.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sequoia_openpgp::{Cert, parse::Parse as _};
use testing::{admin::Admin, delivery::MAIL, filter::filter, gnupg::Home, oracle::check_outside};

use super::{alice, assert_refused, assert_seals_for, made};

/// A folder with the shares of a key, 3 of 5.
struct Shares {
    admin: Admin,
}

impl Shares {
    fn new() -> Self {
        let shares = Self { admin: Admin::new() };
        let said = shares.make("r").said();
        assert!(said.contains("any 3 of 5 shares recover its secret key"), "{said}");
        shares
    }

    fn make(&self, folder: &str) -> super::Run {
        self.run(&["new", "--shares", "5", "--threshold", "3", "--out", &self.at(folder)])
    }

    fn at(&self, name: &str) -> String {
        self.admin.path(name).to_str().unwrap().to_owned()
    }

    fn page(&self, number: usize) -> String {
        self.at(&format!("r/share-{number}-of-5.html"))
    }

    fn run(&self, arguments: &[&str]) -> super::Run {
        self.admin.run(&[&["recovery"], arguments].concat())
    }

    /// A command with these pages.
    fn with(&self, command: &[&str], pages: &[usize]) -> super::Run {
        let pages: Vec<String> = pages.iter().map(|number| self.page(*number)).collect();
        self.with_files(command, &pages)
    }

    fn with_files(&self, command: &[&str], files: &[String]) -> super::Run {
        let shares = files.iter().flat_map(|file| ["--share", file]);
        self.run(&command.iter().copied().chain(shares).collect::<Vec<_>>())
    }

    /// The lines of a page's share, as a person types them.
    fn typed(&self, number: usize) -> String {
        let page = fs::read_to_string(self.page(number)).unwrap();
        let lines = page.split_once("<ol class=\"share\">").unwrap().1.split_once("</ol>").unwrap().0;
        let lines = lines.split("<li>").skip(1).map(|line| line.trim_end_matches("</li>"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// What lies in the folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.admin.path("r")).unwrap();
        let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A message sealed to Alice and what `recovery` names, as the filter ends.
    fn seal(&self, recovery: &str) -> super::Run {
        self.admin.configure(&format!("recovery = [{:?}]", self.at(recovery)));
        let alice = self.admin.write("alice.pgp", &made::public(&alice()));
        filter(Path::new(&alice), &["--config", &self.at("mailseal.toml")], MAIL)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn gpg_reads_sealed_mail_with_the_key_that_shares_give() {
    let shares = Shares::new();
    shares.with(&["test", &shares.at("r/recovery.pending")], &[1, 2, 4]).said();
    let sealed = shares.seal("r/recovery.pgp");
    assert_eq!(sealed.status, Some(0), "{}", sealed.stderr);

    let key = shares.at("key.asc");
    let said = shares.with(&["join", "--out", &key], &[5, 1, 3]).said();
    assert!(said.contains("no passphrase protects it"), "{said}");
    assert_eq!(mode(Path::new(&key)), 0o600);

    let home = Home::at(&shares.admin.path("gnupg"));
    home.import(&fs::read(&key).unwrap());
    let armor = check_outside(MAIL, &sealed.stdout).unwrap().armor.to_vec();
    let entity = String::from_utf8(home.gpg(&["--decrypt"], &armor)).unwrap();
    assert!(entity.contains("canary in the body"), "{entity}");

    let message = shares.admin.write("sealed.eml", &sealed.stdout);
    let mut decrypt = std::process::Command::new(env!("CARGO_BIN_EXE_mailseal"));
    let opened = super::run(decrypt.args(["decrypt", "--secret-key", &key, &message]), b"", 1);
    assert_eq!((opened.status, &*opened.stdout), (Some(0), MAIL), "{}", opened.stderr);
}

#[test]
fn the_certificate_is_of_no_use_before_the_rehearsal() {
    let shares = Shares::new();
    let pages: Vec<String> = (1..=5).map(|number| format!("share-{number}-of-5.html")).collect();
    assert_eq!(shares.names(), [&["recovery.pending".into()], &*pages].concat());
    assert_eq!(mode(&shares.admin.path("r")), 0o700);
    for name in shares.names() {
        let path = shares.admin.path("r").join(name);
        assert_eq!(mode(&path), 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
    let sealed = shares.seal("r/recovery.pending");
    assert_eq!(sealed.status, Some(78), "{}", sealed.stderr);
    assert!(sealed.stderr.contains("the recovery certificate cannot be used"), "{}", sealed.stderr);

    let pending = shares.at("r/recovery.pending");
    let said = shares.with(&["test", &pending], &[2, 3, 5]).said();
    for text in ["proven: share 3 (", "not proven, since they were not given: shares 1, 4", "recovery = [\""]
    {
        assert!(said.contains(text), "{text}: {said}");
    }
    let names = shares.names();
    assert!(
        names.contains(&"recovery.pgp".into()) && !names.contains(&"recovery.pending".into()),
        "{names:?}"
    );
    let usable = shares.admin.path("r/recovery.pgp");
    assert_eq!(mode(&usable), 0o644);
    assert!(fs::read_to_string(&usable).unwrap().contains(" with shares 2, 3, 5\n"));

    // In a year, the same is done with what is in use, and with all shares.
    let said = shares.with(&["test", usable.to_str().unwrap()], &[1, 2, 3, 4, 5]).said();
    assert!(said.contains("all shares are proven") && !said.contains("recovery = ["), "{said}");
    assert!(fs::read_to_string(&usable).unwrap().contains(" with shares 1, 2, 3, 4, 5\n"));
}

#[test]
fn shares_may_be_typed_and_the_key_go_to_another_program() {
    let shares = Shares::new();
    let typed = [4, 2, 1].map(|number| shares.typed(number)).concat();
    let joined = shares.admin.run_with(&["recovery", "join", "--out", "-"], typed.as_bytes());
    assert_eq!(joined.status, Some(0), "{}", joined.stderr);
    assert!(joined.stdout.starts_with(b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n"));
    shares.with(&["test", &shares.at("r/recovery.pending")], &[1, 2, 3]).said();
    let secret = Cert::from_bytes(&joined.stdout).unwrap();
    assert_seals_for(&shares.admin.path("r/recovery.pgp"), &secret);
}

#[test]
fn what_does_not_give_the_key_is_refused_and_nothing_changes() {
    let shares = Shares::new();
    let pending = shares.at("r/recovery.pending");
    shares.make("other").said();
    let page = |number| shares.page(number);
    let foreign = shares.at("other/share-3-of-5.html");
    let lines: Vec<String> = shares.typed(3).lines().map(str::to_owned).collect();
    let changed = |name: &str, change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        shares.admin.write(name, lines.join("\n").as_bytes())
    };
    let damaged = changed("damaged", &|lines| lines.swap(1, 2));
    let short = changed("short", &|lines| drop(lines.pop()));
    let letter = changed("letter", &|lines| lines[4].replace_range(3..4, "0"));
    let picture = shares.admin.write("picture", b"\x89PNG\xff\xfe");
    let rows = [
        ("too few", vec![page(1), page(2)], "2 of the 3 shares that are needed were given"),
        ("the same twice", vec![page(1), page(2), page(1)], "are the same share"),
        ("another key's", vec![page(1), page(2), foreign.clone()], "and not of "),
        ("another key's alone", vec![foreign.clone(); 3], "and not of "),
        ("damaged", vec![page(1), page(2), damaged], "line 2 is not as it was printed"),
        ("a line missing", vec![page(1), page(2), short], "it has 125 characters, and a share has 150"),
        ("a wrong letter", vec![page(1), page(2), letter], "line 5: no share has the character '0'"),
        ("a photograph", vec![picture], "it is not text"),
        ("gone", vec![shares.at("gone")], "No such file"),
        ("none", vec![], "no share was given"),
    ];
    for (name, files, what) in rows {
        assert_refused(name, &shares.with_files(&["test", &pending], &files), 1, what);
        let key = shares.at("key.asc");
        if !what.contains("not of") {
            assert_refused(name, &shares.with_files(&["join", "--out", &key], &files), 1, what);
        }
        assert!(!PathBuf::from(&key).exists(), "{name}");
        assert!(!shares.names().contains(&"recovery.pgp".into()), "{name}");
    }
    let mixed = shares.with_files(&["join", "--out", "-"], &[page(1), page(2), foreign]);
    assert_refused("a mix", &mixed, 1, "is of the key ");
}

#[test]
fn nothing_is_written_over() {
    let shares = Shares::new();
    assert_refused("the folder", &shares.make("r"), 1, "cannot make the folder ");
    assert_eq!(shares.names().len(), 6);
    let few = shares.run(&["new", "--shares", "2", "--threshold", "3", "--out", &shares.at("few")]);
    assert_refused("too few", &few, 64, "3 shares cannot be needed where there are 2");
    assert!(!shares.admin.path("few").exists());

    let key = shares.admin.write("key.asc", b"mine");
    let join = shares.with(&["join", "--out", &key], &[1, 2, 3]);
    assert_refused("the key", &join, 1, "File exists");
    assert_eq!(fs::read(&key).unwrap(), b"mine");

    let usable = shares.admin.write("r/recovery.pgp", b"in use");
    let test = shares.with(&["test", &shares.at("r/recovery.pending")], &[1, 2, 3]);
    assert_refused("the certificate", &test, 1, "recovery.pgp is there already");
    assert_eq!(fs::read(&usable).unwrap(), b"in use");

    let alice = shares.admin.write("alice.asc", &made::armored(&alice()));
    let test = shares.with(&["test", &alice], &[1, 2, 3]);
    assert_refused("another's", &test, 1, "mailseal did not divide the key of what it holds");
}
