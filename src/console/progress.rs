//! Edge: How far a run is: a bar on a terminal, a line every ten seconds elsewhere. All of it on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli;
use crate::mailbox::tally::{rate, size};

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Show {
    /// A bar on a terminal, else a line every ten seconds.
    #[default]
    Auto,
    /// The same, and a line at the beginning and the end.
    Always,
    /// Nothing.
    Never,
}

/// What has been done of what there is to do.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    lines: bool,
    all: (u64, u64),
    done: (u64, u64),
    start: Instant,
    last: Instant,
}

impl Progress {
    /// Begins at nothing of nothing.
    #[must_use]
    pub fn new(show: Show) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if show == Show::Never || !terminal {
            ProgressBar::hidden()
        } else {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
        };
        let template = "{bar:30} {bytes}/{total_bytes}, {msg}, {bytes_per_sec}, {eta} left";
        // The template is a constant that is understood.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let now = Instant::now();
        let lines = show != Show::Never && !terminal;
        let last = if show == Show::Always { now.checked_sub(PAUSE).unwrap_or(now) } else { now };
        Self { bar, lines, all: (0, 0), done: (0, 0), start: now, last }
    }

    /// There is more to do.
    pub fn expect(&mut self, messages: u64, bytes: u64) {
        self.all = (self.all.0.saturating_add(messages), self.all.1.saturating_add(bytes));
        self.bar.set_length(self.all.1);
        self.tell();
    }

    /// So much has been done.
    pub fn advance(&mut self, messages: u64, bytes: u64) {
        self.done = (self.done.0.saturating_add(messages), self.done.1.saturating_add(bytes));
        self.bar.set_position(self.done.1);
        self.bar.set_message(format!("{} of {} messages", self.done.0, self.all.0));
        self.tell();
    }

    /// Writes to standard error without disturbing the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| cli::say(text));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn tell(&mut self) {
        if !self.lines || self.last.elapsed() < PAUSE {
            return;
        }
        self.last = Instant::now();
        let ((messages, bytes), (all_messages, all_bytes)) = (self.done, self.all);
        let speed = rate(bytes, self.start.elapsed());
        // Seconds for people.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (speed, left) =
            (speed as u64, (all_bytes.saturating_sub(bytes) as f64 / speed.max(1.0)).ceil() as u64);
        let text = format!(
            "{}: {messages} of {all_messages} messages, {} of {}, {}/s, {left} s left\n",
            cli::BULK,
            size(bytes),
            size(all_bytes),
            size(speed),
        );
        self.say(&text);
    }
}
