//! Edge: The Dovecot that is there, and what it would make of other settings.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

use super::plan::{Script, Site, filtered_through};
use crate::dovecot::doveconf::{self, Block};
use crate::dovecot::effective::{Before, View};
use crate::dovecot::installation::{files, location};
use crate::error::Error;

/// The main configuration, where Dovecot does not say which one it is.
const MAIN: &str = "/etc/dovecot/dovecot.conf";

/// Largest script that is read, in bytes.
const SCRIPT: u64 = 1024 * 1024;

/// Dovecot's programs and its main configuration.
#[derive(Clone, Debug)]
pub struct Dovecot {
    /// The main configuration file.
    pub main: PathBuf,
    /// The same, where an admin has named another than the default.
    pub named: Option<PathBuf>,
    /// Whether settings are written as in 2.4.
    pub is_2_4: bool,
    /// What `doveconf -n` says, without comments.
    pub effective: String,
    /// Why it refuses its configuration, as it does with settings of ours for another version.
    pub refused: Option<String>,
}

/// Settings that are tried, in a file that only root reads and that is gone with this.
#[derive(Debug)]
pub struct Trial {
    file: NamedTempFile,
    /// What `doveconf -n` says of them, without comments.
    pub effective: String,
}

impl Trial {
    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Dovecot {
    /// Asks `doveconf`.
    ///
    /// # Errors
    /// [`Error::Setup`] where it says neither its version nor what is wrong.
    pub fn find(named: Option<&Path>) -> Result<Self, Error> {
        let named = named.map(Path::to_owned);
        let said = doveconf::output(doveconf::command("doveconf", named.as_deref()).arg("-n"));
        let (version, main, effective, refused) = match said {
            // "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf"
            Ok(said) => {
                let head = said.lines().next().and_then(|line| line.strip_prefix("# ")?.split_once(": "));
                let (version, main) = head.ok_or_else(|| refused("doveconf names no version"))?;
                (version.to_owned(), PathBuf::from(main.trim()), bare(&said), None)
            }
            Err(why) => {
                let version = doveconf::output(Command::new("dovecot").arg("--version"));
                (version.map_err(|_| refused(&why))?, MAIN.into(), String::new(), Some(why))
            }
        };
        let is_2_4 = version.starts_with("2.4.");
        if !is_2_4 && !version.starts_with("2.3.") {
            return Err(Error::Setup {
                what: format!("this is Dovecot {}", version.trim()),
                hint: "setup knows 2.3 and 2.4; put mailseal in by hand (docs/dovecot.md)".into(),
            });
        }
        Ok(Self { main: named.clone().unwrap_or(main), named, is_2_4, effective, refused })
    }

    /// Has Dovecot read other settings.
    ///
    /// # Errors
    /// What it says.
    pub fn read(&self, text: &str) -> Result<Trial, String> {
        let mut file = tempfile::Builder::new()
            .prefix("mailseal-setup-")
            .suffix(".conf")
            .tempfile()
            .map_err(|error| error.to_string())?;
        file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(|error| error.to_string())?;
        let said = doveconf::output(doveconf::command("doveconf", Some(file.path())).arg("-n"))?;
        Ok(Trial { file, effective: bare(&said) })
    }

    /// What the site has by the settings that are tried.
    ///
    /// # Errors
    /// What Dovecot says.
    pub fn site(&self, trial: &Trial) -> Result<Site, String> {
        self.site_of(trial.path(), &trial.effective)
    }

    /// What the site has by its own files.
    ///
    /// # Errors
    /// What Dovecot says.
    pub fn site_now(&self) -> Result<Site, String> {
        let said = doveconf::output(doveconf::command("doveconf", Some(&self.main)).arg("-n"))?;
        self.site_of(&self.main, &bare(&said))
    }

    fn site_of(&self, config: &Path, effective: &str) -> Result<Site, String> {
        let is_2_4 = self.is_2_4;
        let general = View::parse(effective, is_2_4);
        let view = |protocol| View::read(config, protocol, &general);
        let mut site = Site {
            is_2_4,
            all: Block::parse(effective),
            lmtp: view("lmtp")?,
            lda: view("lda")?,
            imap: view("imap")?,
            ..Site::default()
        };
        site.general = general;
        let places = script_places(&site);
        site.scripts = places.iter().flat_map(|place| files(place)).map(read).collect();
        let folder = site.lmtp.sieve("sieve_filter_bin_dir").map(PathBuf::from);
        let texts = site.scripts.iter().filter_map(|script| script.text.as_deref());
        let names = texts.flat_map(filtered_through);
        let programs: BTreeSet<PathBuf> =
            names.filter_map(|name| Some(folder.as_ref()?.join(name))).collect();
        site.filters = programs.into_iter().map(read).collect();
        Ok(site)
    }

    /// Compiles `script` to `out`, or beside it, with the settings in `config`.
    ///
    /// # Errors
    /// What `sievec` says.
    pub fn compile(config: &Path, script: &Path, out: Option<&Path>) -> Result<(), String> {
        let mut sievec = doveconf::command("sievec", Some(config));
        doveconf::output(sievec.arg(script).args(out)).map(drop)
    }
}

/// Dovecot does not take its configuration.
pub fn refused(why: &str) -> Error {
    Error::Setup {
        what: format!("Dovecot refuses its configuration as it is: {why}"),
        hint: "fix that first: `doveconf -n` shows the same".into(),
    }
}

/// What `doveconf` says without its comments, which name the file that was read.
fn bare(said: &str) -> String {
    said.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
}

/// The files and folders of all scripts that Dovecot is told of, but those in homes.
fn script_places(site: &Site) -> BTreeSet<PathBuf> {
    fn of_blocks(block: &Block, places: &mut BTreeSet<PathBuf>) {
        for inner in block.all_blocks() {
            if inner.name.starts_with("sieve_script") {
                places.extend(inner.get("path").map(PathBuf::from));
            }
            of_blocks(inner, places);
        }
    }
    let mut places = BTreeSet::new();
    if site.is_2_4 {
        of_blocks(&site.all, &mut places);
    } else {
        for view in [&site.lmtp, &site.lda] {
            places.extend(view.before().iter().map(Before::path));
        }
        let rules = site.imap.sieve_settings("imapsieve_mailbox");
        let scripts = rules.filter(|(key, _)| key.ends_with("_before") || key.ends_with("_after"));
        places.extend(scripts.map(|(_, value)| location(value)));
    }
    places.retain(|place| place.is_absolute());
    places
}

fn read(path: PathBuf) -> Script {
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut bytes = Vec::new();
    let read = is_file
        .then(|| std::fs::File::open(&path).and_then(|file| file.take(SCRIPT).read_to_end(&mut bytes)))
        .is_some_and(|read| read.is_ok());
    let text = read.then(|| String::from_utf8_lossy(&bytes).into_owned());
    Script { path, text }
}
