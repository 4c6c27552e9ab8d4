//! Edge: Does what is to be done: everything that the settings need first, the settings last; then Dovecot is told, and it is
//! proven that it took them.

use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::dovecot::Dovecot;
use super::journal::Journal;
use super::prepare::{Prepared, Wanted, is_there, parse, prepare};
use super::timer::Systemd;
use super::{Options, advice, diff, must_be_root, plan, refusal, register, reload};
use crate::config::{Config, DEFAULT_PATH};
use crate::console::escape;
use crate::doctor;
use crate::doctor::access::others_who_can_change;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::admin::register::UserList;
use crate::keystore::absence::stores;
use crate::system::process;

/// The file in the trap that stands where a folder would be.
const DEFER: &str = ".defer";

/// How much older a script is made than its compiled form: Pigeonhole compares whole seconds.
const OLDER: Duration = Duration::from_secs(2);

/// What is still to be done, each as far as it is not done yet.
#[derive(Debug)]
struct Todo {
    files: Vec<Wanted>,
    compile: Vec<PathBuf>,
    link: Option<PathBuf>,
    register: bool,
    timer: bool,
    reload: bool,
}

impl Todo {
    fn of(prepared: &Prepared, options: &Options) -> Result<Self, Error> {
        let mut files = Vec::new();
        files.extend(prepared.configuration.clone());
        let trap = Wanted { path: prepared.paths.trap.join(DEFER), text: String::new() };
        for wanted in
            [trap].into_iter().chain(prepared.scripts.iter().cloned()).chain([prepared.settings.clone()])
        {
            if !is_there(&wanted)? {
                files.push(wanted);
            }
        }
        let is_stale = |script: &Wanted| {
            let time = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
            let compiled = time(&script.path.with_extension("svbin"));
            compiled.is_none()
                || compiled <= time(&script.path)
                || files.iter().any(|file| file.path == script.path)
        };
        let compile = prepared.scripts.iter().filter(|it| is_stale(it)).map(|it| it.path.clone()).collect();
        let link = prepared.link.clone().filter(|link| std::fs::read_link(link).is_err());
        let register = match &prepared.configuration {
            Some(_) => true,
            None => !register::is_complete(&Config::load(Some(&options.config))?)?,
        };
        let timer = options.config == Path::new(DEFAULT_PATH) && Systemd::default().needs_timer();
        let reload =
            reload::is_running(&prepared.dovecot) && !reload::has(&prepared.dovecot, &prepared.proof())?;
        Ok(Self { files, compile, link, register, timer, reload })
    }

    fn is_nothing(&self) -> bool {
        let Self { files, compile, link, register, timer, reload } = self;
        files.is_empty() && compile.is_empty() && link.is_none() && !register && !timer && !reload
    }
}

/// Sets mailseal up, or says what that would change. [`Exit::Negative`] where `mailseal doctor` finds a failure then.
///
/// # Errors
/// [`Error::Setup`] with the reason where it is refused, or has failed; all is as it was then.
pub fn run(options: &Options, out: &mut (impl Write + Send + Sync)) -> Result<Exit, Error> {
    must_be_root()?;
    if options.dry_run {
        let prepared = prepare(options)?;
        let todo = Todo::of(&prepared, options)?;
        return show(&prepared, &todo, options, out).map(|()| Exit::Ok);
    }
    let stop = Arc::new(AtomicBool::new(false));
    process::heed_signals(&stop)?;
    let mut journal = Journal::open(&options.state)?;
    let work = |journal: &mut Journal, out: &mut _| {
        let prepared = prepare(options)?;
        let todo = Todo::of(&prepared, options)?;
        if todo.is_nothing() {
            return Ok((prepared, true));
        }
        let mut work = Work { options, prepared: &prepared, stop: &stop, journal };
        work.make(&todo, out)?;
        Ok((prepared, false))
    };
    let (prepared, was_done) = match work(&mut journal, out) {
        Ok(done) => done,
        Err(error) => return Err(taken_back(journal, options, error)),
    };
    journal.finish()?;
    if was_done {
        say(out, format_args!("nothing to change: {} is in place", prepared.settings.path.display()))?;
        return Ok(Exit::Ok);
    }
    tell(&prepared, out)?;
    let checks = doctor::Options {
        config: Some(options.config.clone()),
        dovecot_config: options.dovecot_config.clone(),
        ..doctor::Options::default()
    };
    say(out, format_args!("\nmailseal doctor:"))?;
    doctor::run(&checks, out)
}

/// Takes back what was done, and says so with the reason.
fn taken_back(mut journal: Journal, options: &Options, error: Error) -> Error {
    let mut left = Vec::new();
    // What the settings need goes only when Dovecot does not have them any more.
    if journal.take_back_settings(&mut left)
        && let Ok(dovecot) = Dovecot::find(options.dovecot_config.as_deref())
        && dovecot.refused.is_none()
        && reload::is_running(&dovecot)
        && let Err(what) = reload::tell(&dovecot)
    {
        left.push(format!("Dovecot was not reloaded ({what})"));
    }
    left.extend(journal.take_back());
    if left.is_empty() {
        return error;
    }
    refusal(
        format!("{error}; and this could not be taken back: {}", left.join(", ")),
        format!("{}; then run: mailseal setup --undo", error.hint()),
    )
}

/// One run.
struct Work<'a> {
    options: &'a Options,
    prepared: &'a Prepared,
    stop: &'a Arc<AtomicBool>,
    journal: &'a mut Journal,
}

impl Work<'_> {
    /// Does all of it.
    fn make(&mut self, todo: &Todo, out: &mut impl Write) -> Result<(), Error> {
        let Prepared { dovecot, paths, settings, .. } = self.prepared;
        if let Some(who) = others_who_can_change(&self.options.state) {
            return Err(refusal(
                format!("{who}: others could change what holds mail back"),
                format!("let {} and all folders above belong to root alone", self.options.state.display()),
            ));
        }
        self.journal.folder(&paths.trap, 0o755)?;
        if let Some(folder) = paths.script.parent() {
            self.journal.folder(folder, 0o755)?;
        }
        for file in todo.files.iter().filter(|file| file.path != settings.path) {
            self.go_on()?;
            self.write(file, out)?;
        }
        for script in &todo.compile {
            self.go_on()?;
            self.compile(script)?;
        }
        if let Some(link) = &todo.link {
            self.journal.link(link, &self.prepared.filter)?;
            said(out, "made", link)?;
        }
        self.go_on()?;
        self.register(todo.register, out)?;
        if todo.timer {
            let mailseal = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/mailseal".into());
            Systemd::default().enable(&mailseal, self.journal)?;
            say(out, format_args!("enabled mailseal-keys-scan.timer"))?;
        }
        self.go_on()?;
        if todo.files.iter().any(|file| file.path == settings.path) {
            self.journal.settings(&settings.path)?;
            self.write(settings, out)?;
        }
        self.check()?;
        if todo.reload || reload::is_running(dovecot) {
            reload::tell(dovecot).map_err(|what| refusal(what, "see Dovecot's log"))?;
            let proof = self.prepared.proof();
            reload::wait_until(|| reload::has(dovecot, &proof))?;
            reload::wait_for_users(dovecot);
            say(out, format_args!("reloaded Dovecot, which has these settings now"))?;
        } else {
            say(out, format_args!("Dovecot does not run: it has these settings when it is started"))?;
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(refusal("it was interrupted", "run it again"));
        }
        Ok(())
    }

    fn write(&mut self, file: &Wanted, out: &mut impl Write) -> Result<(), Error> {
        let is_defer = file.path.ends_with(DEFER);
        let bytes = file.text.as_bytes();
        if self.prepared.configuration.as_ref().is_some_and(|it| it.path == file.path) {
            self.journal.file_to_keep(&file.path, bytes, 0o644)?;
        } else {
            self.journal.file(&file.path, bytes, if is_defer { 0o444 } else { 0o644 })?;
        }
        said(out, "wrote", &file.path)
    }

    fn compile(&mut self, script: &Path) -> Result<(), Error> {
        let failed =
            |what: String| refusal(format!("sievec {}: {what}", script.display()), "see what it says");
        let older = |path: &Path| {
            std::fs::File::options().write(true).open(path)?.set_modified(SystemTime::now() - OLDER)
        };
        older(script).map_err(|error| failed(error.to_string()))?;
        let compiled = script.with_extension("svbin");
        self.journal.compiled(&compiled)?;
        Dovecot::compile(self.prepared.trial.path(), script, None).map_err(failed)?;
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&compiled, readable).map_err(|error| failed(error.to_string()))
    }

    /// The register, and the stores of a configuration that is new.
    fn register(&mut self, is_needed: bool, out: &mut impl Write) -> Result<(), Error> {
        if !is_needed {
            return Ok(());
        }
        if let Some(new) = &self.prepared.configuration {
            for store in stores(&parse(&new.text)?.keys) {
                if let Some(folder) = store.parent() {
                    self.journal.folder_to_keep(folder, 0o755)?;
                }
                self.journal.folder_to_keep(&store, 0o755)?;
            }
        }
        let config = Config::load(Some(&self.options.config))?;
        self.journal.register(register::Before::of(&config));
        let users = UserList {
            file: self.options.users.clone(),
            dovecot_config: self.options.dovecot_config.clone(),
        };
        register::init(&config, &self.options.config, &users, self.stop, out)?;
        self.go_on()
    }

    /// Whether what Dovecot reads now is what it was shown before.
    fn check(&self) -> Result<(), Error> {
        let Prepared { dovecot, site, plan, paths, .. } = self.prepared;
        let refused =
            |what: String| refusal(format!("Dovecot refuses mailseal's settings: {what}"), "report this");
        let now = dovecot.site_now().map_err(refused)?;
        match plan::lost(site, plan, paths, &now) {
            None => Ok(()),
            Some(lost) => Err(refusal(
                format!("protocol {}: mailseal's {} does not count", lost.protocol, lost.key),
                "somebody changes Dovecot's settings just now: run setup again then",
            )),
        }
    }
}

/// Says what would be done.
fn show(prepared: &Prepared, todo: &Todo, options: &Options, out: &mut impl Write) -> Result<(), Error> {
    if todo.is_nothing() {
        return say(out, format_args!("nothing to change: {} is in place", prepared.settings.path.display()));
    }
    for file in &todo.files {
        let name = file.path.display().to_string();
        let old = std::fs::read(&file.path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let changes = diff::unified(&name, old.as_deref(), &file.text);
        if changes.is_empty() {
            say(out, format_args!("new, empty: {name}"))?;
        }
        say_all(out, changes.lines())?;
    }
    let mut lines: Vec<String> =
        todo.compile.iter().map(|script| format!("sievec {}", script.display())).collect();
    lines.extend(
        todo.link.iter().map(|link| format!("ln -s {} {}", prepared.filter.display(), link.display())),
    );
    if todo.register {
        lines.push(format!("mailseal --config {} keys init", options.config.display()));
    }
    if todo.timer {
        lines.push("systemctl enable --now mailseal-keys-scan.timer".into());
    }
    if reload::is_running(&prepared.dovecot) {
        lines.push("doveadm reload".into());
    }
    lines.push("mailseal doctor".into());
    say(out, format_args!("commands that would run:"))?;
    say_all(out, lines.iter().map(|line| &**line))?;
    notes(prepared, out)
}

/// What an admin should know when all is done.
fn tell(prepared: &Prepared, out: &mut impl Write) -> Result<(), Error> {
    notes(prepared, out)?;
    let folders: Vec<&str> = prepared.plan.sent.iter().map(|folder| &*folder.full_name).collect();
    if !folders.is_empty() {
        say(out, format_args!("mail is sealed at delivery, and as it is saved in: {}", folders.join(", ")))?;
    }
    if !Systemd::default().is_running() {
        say(out, format_args!("note: no systemd runs here: let cron run `mailseal keys scan` each hour"))?;
    }
    let all = &prepared.site.all;
    let has_lmtp = all.list("protocols").contains(&"lmtp");
    let socket = format!("{}/lmtp", all.get("base_dir").unwrap_or("/run/dovecot"));
    let mailseal = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/mailseal".into());
    let lines = advice::lines(has_lmtp, advice::Postfix::ask().as_ref(), &mailseal, &socket);
    say_all(out, lines.iter().map(|line| &**line))
}

fn notes(prepared: &Prepared, out: &mut impl Write) -> Result<(), Error> {
    prepared.plan.notes.iter().try_for_each(|note| say(out, format_args!("note: {note}")))
}

fn said(out: &mut impl Write, what: &str, path: &Path) -> Result<(), Error> {
    say(out, format_args!("{what} {}", path.display()))
}

fn say_all<'a>(out: &mut impl Write, lines: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    for line in lines {
        say(out, format_args!("{line}"))?;
    }
    Ok(())
}

/// Says a line.
pub fn say(out: &mut impl Write, line: std::fmt::Arguments<'_>) -> Result<(), Error> {
    let line = line.to_string();
    // Line by line, for a new line is none of those that are escaped.
    for line in line.split('\n') {
        writeln!(out, "{}", escape::display(line.as_bytes())).map_err(Error::Output)?;
    }
    Ok(())
}
