//! Edge: What touches mail, with the rights of its owner: the Maildirs of a job, one after the other.
//!
//! Each is surveyed first, to say how much there is to do. Its folders are listed again when their turn comes: clients have
//! renamed messages since, and what a killed run left is put in order before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::error::Error as MaildirError;
use mailseal_maildir::folder::{Folder, Message};
use mailseal_maildir::layout::{Folders, Maildir};
use mailseal_maildir::rewrite::{Item, sized};
use nix::sys::stat::FileStat;

use crate::config::Config;
use crate::error::Error;
use crate::keys::addressee::Addressee;
use crate::mailbox::encrypt::event::{Event, Job, Settings, Target};
use crate::mailbox::encrypt::folder::{Ages, Links, Task};
use crate::mailbox::encrypt::message::StoredSealer;
use crate::mailbox::encrypt::recipients::{addressee, config, style, warn};
use crate::mailbox::tally::Tally;

/// How often a mailbox is gone through for messages that were moved while it was sealed.
const PASSES: usize = 3;

/// Works through a job, until `stop` is set, and reports. `open` is [`Maildir::open`], or [`Maildir::open_strictly`] in a
/// process that root has started, with the locks' patience.
pub fn run(job: &Job, open: Open<'_>, stop: &AtomicBool, report: &(dyn Fn(Event) + Sync)) {
    for (number, target) in job.targets.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let work = Work { number, target, settings: &job.settings, open, stop, report };
        if let Err(error) = work.run() {
            report(Event::failed(number, &error));
        }
    }
}

/// How a Maildir is opened.
pub type Open<'a> = &'a (dyn Fn(&Path, Option<&Path>) -> Result<Maildir, MaildirError> + Sync);

/// The work on one Maildir.
pub(super) struct Work<'a> {
    number: usize,
    target: &'a Target,
    pub(super) settings: &'a Settings,
    open: Open<'a>,
    stop: &'a AtomicBool,
    pub(super) report: &'a (dyn Fn(Event) + Sync),
}

impl Work<'_> {
    fn run(&self) -> Result<(), Error> {
        let config = config(self.settings)?;
        let control = self.target.control.as_deref().map(Path::new);
        let maildir = (self.open)(Path::new(&self.target.path), control)?;
        let addressee = addressee(self.settings, self.target, &config, self.report)?;
        let own: Vec<&Path> = [Some(Path::new(&self.target.path)), control].into_iter().flatten().collect();
        self.settings.how.sandbox.within(&own, || self.work_on(&maildir, addressee, &config))
    }

    /// The work, once the certificates are known.
    fn work_on(&self, maildir: &Maildir, addressee: Addressee, config: &Config) -> Result<(), Error> {
        let Folders { paths: mut folders, odd } = maildir.folders()?;
        // One that cannot be worked on keeps nothing from the others.
        folders.retain(|path| match maildir.folder(path) {
            Ok(_) => true,
            Err(error) => {
                (self.report)(Event::failed(self.number, &error.into()));
                false
            }
        });
        let now = seconds(SystemTime::now());
        let back = |age: Option<Duration>| {
            age.map(|age| now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX)))
        };
        let ages = Ages {
            from: back(self.settings.how.newer_than),
            to: back(self.settings.how.older_than),
            untagged: false,
        };
        self.survey(maildir, &folders, &ages)?;
        match addressee {
            Addressee::Clear(why) => self.count(maildir, &folders, &ages, why.reason()),
            Addressee::Sealed { recipients, .. } => {
                warn(self.target, &recipients, self.report);
                for odd in odd {
                    (self.report)(Event::failed(self.number, &MaildirError::Odd(odd).into()));
                }
                let style = style(self.settings, self.target, config);
                let sealer =
                    StoredSealer { sealer: style.sealer(&recipients), unpack: self.settings.how.unpack };
                self.seal(maildir, &folders, ages, &sealer)
            }
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says how much there is to do.
    fn survey(&self, maildir: &Maildir, folders: &[PathBuf], ages: &Ages) -> Result<(), Error> {
        for path in folders {
            let items = self.items(&maildir.folder(path)?, ages)?;
            let bytes = items.iter().map(|item| item.bytes).sum();
            (self.report)(Event::Survey { messages: items.len() as u64, bytes });
        }
        Ok(())
    }

    /// The messages of a folder that are wanted.
    fn items(&self, folder: &Folder, ages: &Ages) -> Result<Vec<Item>, Error> {
        let wants = |message: &Message, stat: &FileStat| ages.want(message, stat);
        Ok(sized(folder, folder.list()?.messages, wants, || (self.report)(Event::Alive))?)
    }

    /// Counts the messages of a user without a certificate.
    fn count(
        &self,
        maildir: &Maildir,
        folders: &[PathBuf],
        ages: &Ages,
        reason: &'static str,
    ) -> Result<(), Error> {
        for path in folders {
            let mut tally = Tally::default();
            for item in self.items(&maildir.folder(path)?, ages)? {
                tally.keep(reason, item.bytes);
                (self.report)(Event::Step { messages: 1, bytes: item.bytes });
            }
            self.report_folder(path, tally);
        }
        (self.report)(Event::Maildir { target: self.number, elsewhere: 0, changed: false });
        Ok(())
    }

    fn seal(
        &self,
        maildir: &Maildir,
        folders: &[PathBuf],
        mut ages: Ages,
        sealer: &StoredSealer<'_>,
    ) -> Result<(), Error> {
        let pool = match self.settings.how.jobs() {
            1 => None,
            jobs => Some(rayon::ThreadPoolBuilder::new().num_threads(jobs).build()),
        };
        let pool = pool.transpose().map_err(|error| CoreError::Read(std::io::Error::other(error)))?;
        let links = Links::default();
        let mut changed = false;
        let mut outcome = Ok(());
        for pass in 0..PASSES {
            let begin = seconds(SystemTime::now());
            let mut moved = 0;
            for path in folders {
                if self.stopped() || outcome.is_err() {
                    break;
                }
                let start = Instant::now();
                let (mut tally, result) = match maildir.folder(path) {
                    Ok(folder) => {
                        let task = Task { folder: &folder, sealer, ages: &ages, links: &links, work: self };
                        match &pool {
                            Some(pool) => pool.install(|| task.run()),
                            None => task.run(),
                        }
                    }
                    Err(error) => (Tally::default(), Err(error.into())),
                };
                tally.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                changed |= tally.sealed > 0 || tally.recovered > 0;
                if pass + 1 < PASSES {
                    moved += tally.forget("moved");
                }
                if pass == 0 || tally.messages > 0 {
                    self.report_folder(path, tally);
                }
                outcome = outcome.and(result);
            }
            if moved == 0 || self.stopped() || outcome.is_err() {
                break;
            }
            // What was moved has been changed since, wherever it is now.
            ages = Ages { from: Some(begin.saturating_sub(1)), to: None, untagged: true };
        }
        let elsewhere = links.count();
        (self.report)(Event::Maildir { target: self.number, elsewhere, changed });
        outcome
    }

    fn report_folder(&self, path: &Path, tally: Tally) {
        let folder = path.to_string_lossy().into_owned();
        (self.report)(Event::Folder { target: self.number, folder, tally });
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
