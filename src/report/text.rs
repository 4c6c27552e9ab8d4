//! A report as a page for people.

use std::io::{self, Write};

use super::cells::{number, span};
use super::figures::Figures;
use crate::console::table::Table;
use crate::mailbox::tally::size;

/// How a page may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A terminal: bold headings, bars of blocks.
    Terminal,
    /// Plain ASCII.
    Plain,
}

/// Widest bar, in characters.
const BAR: usize = 30;

/// Most rows of a list; the JSON has more.
const ROWS: usize = 20;

/// Most rows of the trend: three days of hours.
const POINTS: usize = 72;

/// Writes the page.
///
/// # Errors
/// Those of `out`.
pub fn write(figures: &Figures, style: Style, out: &mut impl Write) -> io::Result<()> {
    let mut page = Page { style, out };
    page.head(figures)?;
    page.waiting(figures)?;
    page.outcomes(figures)?;
    page.sizes(figures)?;
    page.slowest(figures)?;
    page.failures(figures)?;
    page.without_certificate(figures)?;
    page.heartbeats(figures)?;
    page.trend(figures)
}

struct Page<'a, W> {
    style: Style,
    out: &'a mut W,
}

impl<W: Write> Page<'_, W> {
    fn head(&mut self, figures: &Figures) -> io::Result<()> {
        let Figures { messages, lines, .. } = figures;
        write!(self.out, "{messages} deliveries in {lines} lines")?;
        if let (Some(from), Some(to)) = (&figures.from, &figures.to) {
            write!(self.out, ", {from} to {to}")?;
        }
        writeln!(self.out)?;
        if let Some(bulk) = &figures.bulk {
            writeln!(
                self.out,
                "encrypt-maildir: {} folders, {} messages: {} sealed, {} unchanged, {} failed; {} became {} in {}",
                bulk.folders,
                bulk.sum.messages,
                bulk.sum.sealed,
                bulk.sum.unchanged,
                bulk.sum.failed,
                size(bulk.sum.bytes_in),
                size(bulk.sum.bytes_out),
                span(bulk.sum.ms as i64 / 1000),
            )?;
        }
        Ok(())
    }

    fn waiting(&mut self, figures: &Figures) -> io::Result<()> {
        if figures.waiting.is_empty() {
            return Ok(());
        }
        self.heading(
            "Users whose mail has been deferred for more than an hour; an MTA returns it after some days",
        )?;
        let mut table =
            Table::new(&["user", "messages", "waits", "since", "last tried", "attempts", "reason"]);
        for user in figures.waiting.iter().take(ROWS) {
            table.push(user.cells());
        }
        table.write(self.out)?;
        self.more(figures.users_waiting)
    }

    fn outcomes(&mut self, figures: &Figures) -> io::Result<()> {
        self.heading("Deliveries")?;
        let mut table = Table::new(&["outcome", "reason", "messages", "share", ""]);
        for count in figures.outcomes.iter().take(ROWS) {
            let share = count.messages as f64 / figures.messages.max(1) as f64;
            table.push(vec![
                count.outcome.into(),
                count.reason.clone(),
                count.messages.to_string(),
                format!("{:.1}%", share * 100.0),
                self.bar(share),
            ]);
        }
        for warning in &figures.warnings {
            table.push(vec![
                "warning".into(),
                warning.name.clone(),
                warning.messages.to_string(),
                String::new(),
                String::new(),
            ]);
        }
        table.write(self.out)
    }

    fn sizes(&mut self, figures: &Figures) -> io::Result<()> {
        self.heading("Time to seal, by size")?;
        let mut table = Table::new(&[
            "size", "messages", "ms p50", "p90", "p99", "max", "MB/s p50", "p90", "p99", "max", "",
        ]);
        let longest = figures.sizes.iter().map(|class| class.ms.p50).fold(0.0, f64::max);
        for class in &figures.sizes {
            let mut cells = class.cells();
            cells.push(self.bar(if longest > 0.0 { class.ms.p50 / longest } else { 0.0 }));
            table.push(cells);
        }
        table.write(self.out)?;
        let [p50, p90, p99, max] = figures.key_ms.cells();
        writeln!(self.out, "Of that, for certificates: {p50} ms p50, {p90} p90, {p99} p99, {max} max")
    }

    fn slowest(&mut self, figures: &Figures) -> io::Result<()> {
        self.heading("Slowest")?;
        let mut table = Table::new(&["ms", "keys ms", "size", "outcome", "user", "time", "message-id"]);
        for slow in &figures.slowest {
            table.push(slow.cells());
        }
        table.write(self.out)
    }

    fn failures(&mut self, figures: &Figures) -> io::Result<()> {
        if figures.failures.is_empty() {
            return Ok(());
        }
        self.heading("Failures")?;
        let most = figures.failures.iter().map(|failure| failure.messages).max().unwrap_or(1);
        let mut table = Table::new(&["reason", "messages", "last", ""]);
        for failure in figures.failures.iter().take(ROWS) {
            let mut cells = failure.cells();
            cells.push(self.bar(failure.messages as f64 / most as f64));
            table.push(cells);
        }
        table.write(self.out)
    }

    fn without_certificate(&mut self, figures: &Figures) -> io::Result<()> {
        if figures.without_certificate.is_empty() {
            return Ok(());
        }
        self.heading("Users without a certificate: their mail is in clear")?;
        let most = figures.without_certificate.iter().map(|user| user.messages).max().unwrap_or(1);
        let mut table = Table::new(&["user", "messages", "last", ""]);
        for user in figures.without_certificate.iter().take(ROWS) {
            let mut cells = user.cells();
            cells.push(self.bar(user.messages as f64 / most as f64));
            table.push(cells);
        }
        table.write(self.out)?;
        self.more(figures.users_without_certificate)
    }

    fn heartbeats(&mut self, figures: &Figures) -> io::Result<()> {
        if figures.heartbeats.is_empty() {
            return Ok(());
        }
        self.heading("Last heartbeats")?;
        let mut table = Table::new(&["address", "number", "time"]);
        for last in figures.heartbeats.iter().take(ROWS) {
            let time = last.time.clone().unwrap_or_else(|| "-".into());
            table.push(vec![last.address.clone(), last.number.to_string(), time]);
        }
        table.write(self.out)?;
        self.more(figures.heartbeats.len())
    }

    fn trend(&mut self, figures: &Figures) -> io::Result<()> {
        let points = &figures.trend.points;
        if points.is_empty() {
            return Ok(());
        }
        self.heading(if figures.trend.unit == "hour" { "By the hour" } else { "By the day" })?;
        let points = &points[points.len().saturating_sub(POINTS)..];
        let all = |point: &super::figures::Point| point.sealed + point.unchanged + point.deferred;
        let most = points.iter().map(all).max().unwrap_or(1);
        let mut table =
            Table::new(&[figures.trend.unit, "sealed", "unchanged", "deferred", "mean ms", "max ms", ""]);
        for point in points {
            table.push(vec![
                point.start.clone(),
                point.sealed.to_string(),
                point.unchanged.to_string(),
                point.deferred.to_string(),
                number(point.mean_ms),
                number(point.max_ms),
                self.bar(all(point) as f64 / most as f64),
            ]);
        }
        table.write(self.out)
    }

    fn heading(&mut self, text: &str) -> io::Result<()> {
        match self.style {
            Style::Terminal => writeln!(self.out, "\n\x1b[1m{text}\x1b[0m"),
            Style::Plain => writeln!(self.out, "\n{text}"),
        }
    }

    /// Tells what a list does not show.
    fn more(&mut self, all: usize) -> io::Result<()> {
        if all > ROWS { writeln!(self.out, "and {} more", all - ROWS) } else { Ok(()) }
    }

    /// A bar for a share of 1; what is not nothing can be seen.
    fn bar(&self, share: f64) -> String {
        let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).ceil() as usize;
        match self.style {
            Style::Plain => "#".repeat(eighths.div_ceil(8)),
            Style::Terminal => {
                const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
                "█".repeat(eighths / 8) + PARTS[eighths % 8]
            }
        }
    }
}
