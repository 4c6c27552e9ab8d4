//! Edge: Finds out what is to be done, and that it would work, with nothing changed yet.

use std::path::{Path, PathBuf};

use super::dovecot::{Dovecot, Trial, refused};
use super::journal::read_file;
use super::plan::{self, Paths, Plan, Site};
use super::reload::Proof;
use super::source::{Place, Source};
use super::{Options, refusal, register};
use crate::cli;
use crate::config::{self, Config};
use crate::delivery::filter::DRAIN;
use crate::doctor::access::others_who_can_change;
use crate::error::Error;

/// The scripts.
const SCRIPT: &str = include_str!("../../sieve/mailseal.sieve");
const IMAP_SCRIPT: &str = include_str!("../../sieve/mailseal-imap.sieve");

/// How much longer Dovecot waits for a filter than the filter takes at most, in seconds.
const SPARE: u64 = 8;

/// A file that is to hold this.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// What is to be done.
#[derive(Debug)]
pub struct Prepared {
    /// The Dovecot that is there.
    pub dovecot: Dovecot,
    /// What the site has without our file.
    pub site: Site,
    /// The settings.
    pub plan: Plan,
    /// Where our files are.
    pub paths: Paths,
    /// Our file of settings.
    pub settings: Wanted,
    /// The scripts.
    pub scripts: Vec<Wanted>,
    /// The configuration, where there is none yet.
    pub configuration: Option<Wanted>,
    /// The link to the filter where the site has a folder of its own for programs.
    pub link: Option<PathBuf>,
    /// The filter.
    pub filter: PathBuf,
    /// All of Dovecot's settings, with ours.
    pub trial: Trial,
    /// What the site has by them.
    pub now: Site,
}

impl Prepared {
    /// What the running Dovecot must have, as far as the settings are written.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let script = self.paths.script.clone();
        let written = self.settings.path.metadata().and_then(|file| file.modified());
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let values = if self.dovecot.is_2_4 {
            Vec::new()
        } else {
            self.now.lmtp.sieve_settings("sieve_").map(own).collect()
        };
        Proof { script, values, since: written.ok() }
    }
}

/// Finds out what is to be done.
///
/// # Errors
/// [`Error::Setup`] with the reason where it must not be, or would not work; those of the configuration.
pub fn prepare(options: &Options) -> Result<Prepared, Error> {
    let mut dovecot = Dovecot::find(options.dovecot_config.as_deref())?;
    let (source, site) = read_site(&mut dovecot)?;
    let filter = find_filter(options)?;
    let configuration = new_configuration(options);
    let deadline = match &configuration {
        Some(wanted) => parse(&wanted.text)?.message.deadline,
        None => Config::load(Some(&options.config))?.message.deadline,
    };
    let folder = options.state.join("sieve");
    let paths = Paths {
        script: folder.join("mailseal.sieve"),
        imap_script: folder.join("mailseal-imap.sieve"),
        trap: options.state.join("failclosed"),
        programs: filter.parent().unwrap_or(Path::new("/")).into(),
    };
    let plan = plan::plan(&site, &paths, (deadline + DRAIN).as_secs() + SPARE)?;
    let (place, trial, now) = find_place(&dovecot, &source, &site, &plan, &paths)?;
    let link = (plan.programs != paths.programs).then(|| plan.programs.join(cli::FILTER));
    if let Some(link) = &link {
        check_folder(&plan.programs, link, &filter)?;
    }
    let named = |text: &str| text.replace(config::DEFAULT_PATH, &options.config.display().to_string());
    let mut scripts = vec![Wanted { path: paths.script.clone(), text: named(SCRIPT) }];
    if !plan.sent.is_empty() {
        scripts.push(Wanted { path: paths.imap_script.clone(), text: named(IMAP_SCRIPT) });
    }
    try_scripts(&trial, &scripts)?;
    let settings = Wanted { path: place.path, text: plan.settings.clone() };
    Ok(Prepared { dovecot, site, plan, paths, settings, scripts, configuration, link, filter, trial, now })
}

/// Reads the site's settings, and makes sure that they are read as Dovecot reads them. Where it is our file that Dovecot refuses,
/// `dovecot` has the settings without it afterwards.
///
/// # Errors
/// [`Error::Setup`].
pub fn read_site(dovecot: &mut Dovecot) -> Result<(Source, Site), Error> {
    let source = Source::read(&dovecot.main)?;
    let failed = |what: String| {
        let what = format!("Dovecot's configuration without mailseal's file: {what}");
        refusal(what, "fix that first; see what in it needs mailseal's settings")
    };
    if let (Some(why), None) = (&dovecot.refused, &source.ours) {
        return Err(refused(why));
    }
    let trial = dovecot.read(&source.text(None)).map_err(failed)?;
    if dovecot.refused.is_some() {
        dovecot.effective.clone_from(&trial.effective);
    } else if all_of(dovecot, &source)?.as_ref().unwrap_or(&trial).effective != dovecot.effective {
        return Err(refusal(
            format!("{} is not read as Dovecot reads it", dovecot.main.display()),
            "put mailseal in by hand (docs/dovecot.md), and report this",
        ));
    }
    let site = dovecot.site(&trial).map_err(failed)?;
    Ok((source, site))
}

/// All settings, our own file's among them; `None` where there is none.
fn all_of(dovecot: &Dovecot, source: &Source) -> Result<Option<Trial>, Error> {
    let Some(ours) = &source.ours else { return Ok(None) };
    let text = std::fs::read_to_string(&ours.path).map_err(|error| refused(&error.to_string()))?;
    dovecot.read(&source.text(Some((ours, &text)))).map(Some).map_err(|why| refused(&why))
}

/// The first place from which our settings count, with all settings then.
fn find_place(
    dovecot: &Dovecot,
    source: &Source,
    site: &Site,
    plan: &Plan,
    paths: &Paths,
) -> Result<(Place, Trial, Site), Error> {
    let places = source.ours.as_ref().map_or(&*source.places, std::slice::from_ref);
    let mut first = None;
    for place in places {
        if source.ours.is_none() && std::fs::symlink_metadata(&place.path).is_ok() {
            let what = format!("{} is there, and not by mailseal setup", place.path.display());
            return Err(refusal(what, "give it another name, reload Dovecot, and run setup again"));
        }
        let refused = |what: String| {
            refusal(
                format!("Dovecot refuses mailseal's settings: {what}"),
                "report this with what doveconf -n says",
            )
        };
        let trial = dovecot.read(&source.text(Some((place, &plan.settings)))).map_err(refused)?;
        let now = dovecot.site(&trial).map_err(refused)?;
        match plan::lost(site, plan, paths, &now) {
            None => return Ok((place.clone(), trial, now)),
            Some(lost) => first = first.or(Some((place, lost))),
        }
    }
    let main = dovecot.main.display();
    let own = dovecot.main.with_file_name("mailseal.conf");
    let line = format!("!include_try {}", own.display());
    let Some((place, lost)) = first else {
        return Err(refusal(
            format!("{main} includes no folder in which mailseal's settings could be"),
            format!("add this as its last line, and run setup again: {line}"),
        ));
    };
    let winner = source.winner(lost.key, place).map_or_else(
        || format!("{} does not count", lost.key),
        |line| format!("{}:{}: `{}` wins over it", line.file.display(), line.number, line.text.trim()),
    );
    Err(refusal(
        format!(
            "protocol {}: mailseal's {} in {} would not count: {winner}",
            lost.protocol,
            lost.key,
            place.path.display()
        ),
        format!(
            "move that line to a file that is read earlier; or add this as the last line of {main}: {line}"
        ),
    ))
}

/// The filter beside this program: PREFIX/bin and PREFIX/lib/mailseal/bin, unless a folder is named.
fn find_filter(options: &Options) -> Result<PathBuf, Error> {
    let folder = match &options.filter_dir {
        Some(folder) => folder.clone(),
        None => {
            let own = std::env::current_exe().ok();
            let prefix = own.as_deref().and_then(Path::parent).and_then(Path::parent);
            prefix.unwrap_or(Path::new("/usr")).join("lib/mailseal/bin")
        }
    };
    let filter = folder.join(cli::FILTER);
    if !filter.is_file() {
        return Err(refusal(
            format!("{} is not there", filter.display()),
            "install it (make install, or the package), or say where its folder is: --filter-dir DIR",
        ));
    }
    match others_who_can_change(&filter) {
        None => Ok(filter),
        Some(who) => Err(refusal(
            format!("{who}: others could put another program in the filter's place"),
            "let it and all folders above belong to root, and be written by root alone",
        )),
    }
}

/// The folder that the site has for programs gets a link to ours: it must be root's, and have no other of that name.
fn check_folder(folder: &Path, link: &Path, filter: &Path) -> Result<(), Error> {
    if let Some(who) = others_who_can_change(folder) {
        return Err(refusal(
            format!(
                "{who}: it is Dovecot's sieve_filter_bin_dir, and others could put another program there"
            ),
            format!("let {} and all folders above belong to root alone", folder.display()),
        ));
    }
    let is_ours = std::fs::read_link(link).is_ok_and(|target| target == filter);
    if !is_ours && std::fs::symlink_metadata(link).is_ok() {
        let what = format!("{} is there, and does not lead to {}", link.display(), filter.display());
        return Err(refusal(what, "move it away, and run setup again"));
    }
    Ok(())
}

fn new_configuration(options: &Options) -> Option<Wanted> {
    if options.config.exists() {
        return None;
    }
    let homes = register::homes(options.dovecot_config.as_deref());
    let text = register::configuration(&options.config, &options.state, &homes);
    Some(Wanted { path: options.config.clone(), text })
}

/// A configuration that is not written yet.
pub fn parse(text: &str) -> Result<Config, Error> {
    toml::from_str(text).map_err(|error| refusal(error.to_string(), "report this"))
}

/// Compiles the scripts elsewhere.
fn try_scripts(trial: &Trial, scripts: &[Wanted]) -> Result<(), Error> {
    let failed = |what: String| {
        refusal(
            format!("mailseal's script does not compile with Dovecot's settings: {what}"),
            "allow it the extensions that are named (sieve_extensions)",
        )
    };
    let folder = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    for script in scripts {
        let copy = folder.path().join(script.path.file_name().unwrap_or_default());
        std::fs::write(&copy, &script.text).map_err(|error| failed(error.to_string()))?;
        let out = copy.with_extension("svbin");
        Dovecot::compile(trial.path(), &copy, Some(&out)).map_err(failed)?;
    }
    Ok(())
}

/// Whether a file holds what it is to hold already.
///
/// # Errors
/// [`Error::Setup`] where it cannot be read.
pub fn is_there(wanted: &Wanted) -> Result<bool, Error> {
    let found = read_file(&wanted.path).map_err(|error| {
        refusal(format!("{}: {error}", wanted.path.display()), "see what is there, and move it away")
    })?;
    Ok(found.as_deref() == Some(wanted.text.as_bytes()))
}
