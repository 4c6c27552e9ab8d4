//! A report as one web page: text, tables and charts in SVG, without a script and without anything from elsewhere, in
//! the colours that its reader prefers.

use std::fmt::Write as _;

use super::cells::number;
use super::figures::{ClearUser, FailureCount, Figures, Point, SizeClass, Slowest, WaitingUser};
use crate::mailbox::tally::size;

/// Size of the trend's charts, in SVG units.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 220.0;

/// Room for the numbers beside and below a chart.
const LEFT: f64 = 56.0;
const BELOW: f64 = 26.0;

/// Most columns of the trend; of a longer log the last ones are shown.
const COLUMNS: usize = 366;

/// Most rows of a list of users.
const ROWS: usize = 50;

const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn page(figures: &Figures) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str(
        "<meta name=\"color-scheme\" content=\"light dark\">\n<title>mailseal: report</title>\n<style>\n",
    );
    page.push_str(STYLE);
    page.push_str("</style>\n</head>\n<body>\n<h1>Sealed mail</h1>\n");
    push_head(figures, &mut page);
    push_waiting(figures, &mut page);
    push_trend(figures, &mut page);
    push_outcomes(figures, &mut page);
    push_sizes(figures, &mut page);
    push_slowest(figures, &mut page);
    push_users(figures, &mut page);
    page.push_str("</body>\n</html>\n");
    page
}

fn push_head(figures: &Figures, page: &mut String) {
    if let (Some(from), Some(to)) = (&figures.from, &figures.to) {
        put(page, format_args!("<p class=\"span\">{} – {}</p>\n", text(from), text(to)));
    }
    let of = |outcome| -> u64 {
        figures.outcomes.iter().filter(|count| count.outcome == outcome).map(|count| count.messages).sum()
    };
    page.push_str("<dl class=\"tiles\">\n");
    let tiles = [
        ("deliveries", "", figures.messages.to_string()),
        ("sealed", "sealed", of("sealed").to_string()),
        ("unchanged", "unchanged", of("unchanged").to_string()),
        ("deferred", "deferred", of("deferred").to_string()),
        ("users waiting", "deferred", figures.users_waiting.to_string()),
        ("users without a certificate", "unchanged", figures.users_without_certificate.to_string()),
    ];
    for (name, class, value) in tiles {
        put(page, format_args!("<div class=\"{class}\"><dt>{name}</dt><dd>{value}</dd></div>\n"));
    }
    page.push_str("</dl>\n");
    if let Some(bulk) = &figures.bulk {
        put(
            page,
            format_args!(
                "<p>encrypt-maildir went through {} folders with {} messages: {} sealed, {} unchanged, {} failed; \
                 {} became {}.</p>\n",
                bulk.folders,
                bulk.sum.messages,
                bulk.sum.sealed,
                bulk.sum.unchanged,
                bulk.sum.failed,
                size(bulk.sum.bytes_in),
                size(bulk.sum.bytes_out)
            ),
        );
    }
}

fn push_waiting(figures: &Figures, page: &mut String) {
    if figures.waiting.is_empty() {
        return;
    }
    page.push_str("<section class=\"alarm\">\n<h2>Deferred for more than an hour</h2>\n");
    page.push_str("<p>An MTA returns mail to its sender after some days.</p>\n");
    let rows = figures.waiting.iter().take(ROWS).map(WaitingUser::cells);
    push_table(&["User", "#Messages", "#Waits", "Since", "Last tried", "#Attempts", "Reason"], rows, page);
    page.push_str("</section>\n");
}

fn push_trend(figures: &Figures, page: &mut String) {
    let points = &figures.trend.points;
    let points = &points[points.len().saturating_sub(COLUMNS)..];
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let axis = Axis { first: first.index, count: (last.index - first.index + 1) as f64, points };
    put(page, format_args!("<h2>By the {}</h2>\n<figure>\n<figcaption>Deliveries: ", figures.trend.unit));
    page.push_str("<span class=\"key sealed\">sealed</span> <span class=\"key unchanged\">unchanged</span> ");
    page.push_str("<span class=\"key deferred\">deferred</span></figcaption>\n");
    let most = points.iter().map(|point| point.sealed + point.unchanged + point.deferred).max().unwrap_or(1);
    axis.push_chart("Deliveries over time", most as f64, page, |point, column| {
        let mut below = 0.0;
        for (class, count) in
            [("sealed", point.sealed), ("unchanged", point.unchanged), ("deferred", point.deferred)]
        {
            column.bar(class, below, below + count as f64);
            below += count as f64;
        }
        column.title(&format!(
            "{}: {} sealed, {} unchanged, {} deferred",
            point.start, point.sealed, point.unchanged, point.deferred
        ));
    });
    page.push_str("</figure>\n<figure>\n<figcaption>Milliseconds to seal, on average</figcaption>\n");
    let longest = points.iter().map(|point| point.mean_ms).fold(0.0, f64::max);
    axis.push_chart("Time to seal over time", longest, page, |point, column| {
        column.bar("time", 0.0, point.mean_ms);
        let (mean, max) = (number(point.mean_ms), number(point.max_ms));
        column.title(&format!("{}: on average {mean} ms, the longest {max} ms", point.start));
    });
    page.push_str("</figure>\n");
}

/// The columns of the charts of one trend.
struct Axis<'a> {
    first: i64,
    count: f64,
    points: &'a [Point],
}

impl Axis<'_> {
    fn push_chart(&self, name: &str, most: f64, page: &mut String, draw: impl Fn(&Point, &mut Column<'_>)) {
        let top = round_up(most);
        let (right, bottom) = (LEFT + WIDTH, HEIGHT);
        put(
            page,
            format_args!(
                "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{name}\">\n",
                right + 8.0,
                bottom + BELOW
            ),
        );
        for step in 0..=4 {
            let y = bottom - (bottom - 8.0) * f64::from(step) / 4.0;
            let value = top * f64::from(step) / 4.0;
            put(
                page,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                     class=\"end\">{}</text>\n",
                    LEFT - 6.0,
                    y + 4.0,
                    short(value)
                ),
            );
        }
        let width = WIDTH / self.count;
        for point in self.points {
            let x = LEFT + (point.index - self.first) as f64 * width;
            let gap = if width > 4.0 { 1.0 } else { 0.0 };
            page.push_str("<g>");
            draw(point, &mut Column { x, width: width - gap, scale: (bottom - 8.0) / top, page });
            page.push_str("</g>\n");
        }
        self.push_labels(width, page);
        page.push_str("</svg>\n");
    }

    /// At most six points are named, so that the names do not touch.
    fn push_labels(&self, width: f64, page: &mut String) {
        let mut free = LEFT - 1.0;
        for point in self.points {
            let x = LEFT + (point.index - self.first) as f64 * width;
            if x < free || x > LEFT + WIDTH - 100.0 && free > LEFT {
                continue;
            }
            put(
                page,
                format_args!("<text x=\"{x:.1}\" y=\"{:.1}\">{}</text>\n", HEIGHT + 18.0, text(&point.start)),
            );
            free = x + WIDTH / 6.0;
        }
    }
}

/// Where the bars of one point go.
struct Column<'a> {
    x: f64,
    width: f64,
    scale: f64,
    page: &'a mut String,
}

impl Column<'_> {
    fn bar(&mut self, class: &str, from: f64, to: f64) {
        if to > from {
            let (x, width) = (self.x, self.width);
            let (y, height) = (HEIGHT - to * self.scale, (to - from) * self.scale);
            put(
                self.page,
                format_args!(
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
                ),
            );
        }
    }

    fn title(&mut self, words: &str) {
        put(self.page, format_args!("<title>{}</title>", text(words)));
    }
}

fn push_outcomes(figures: &Figures, page: &mut String) {
    page.push_str("<h2>Outcomes</h2>\n");
    let most = figures.outcomes.iter().map(|count| count.messages).max().unwrap_or(1) as f64;
    let rows = figures.outcomes.iter().map(|count| {
        let name = match &*count.reason {
            "-" => count.outcome.to_owned(),
            reason => format!("{}: {reason}", count.outcome),
        };
        let share = count.messages as f64 / figures.messages.max(1) as f64 * 100.0;
        (name, count.outcome, count.messages as f64 / most, format!("{} ({share:.1}%)", count.messages))
    });
    push_bars("Deliveries by outcome", rows, page);
    if !figures.warnings.is_empty() {
        page.push_str("<h2>Warnings</h2>\n");
        let rows = figures.warnings.iter().map(|count| vec![count.name.clone(), count.messages.to_string()]);
        push_table(&["Warning", "#Messages"], rows, page);
    }
    if !figures.failures.is_empty() {
        page.push_str("<h2>Failures</h2>\n");
        let rows = figures.failures.iter().map(FailureCount::cells);
        push_table(&["Reason", "#Messages", "Last"], rows, page);
    }
}

fn push_sizes(figures: &Figures, page: &mut String) {
    page.push_str("<h2>Time to seal, by size</h2>\n");
    let longest = figures.sizes.iter().map(|class| class.ms.p50).fold(0.0, f64::max).max(0.1);
    let bars = figures.sizes.iter().filter(|class| class.size != "all").map(|class| {
        (class.size.to_owned(), "time", class.ms.p50 / longest, format!("{} ms", number(class.ms.p50)))
    });
    push_bars("Median time by size", bars, page);
    let rows = figures.sizes.iter().map(SizeClass::cells);
    let headings =
        ["Size", "#Messages", "#ms p50", "#p90", "#p99", "#max", "#MB/s p50", "#p90", "#p99", "#max"];
    push_table(&headings, rows, page);
    let [p50, p90, p99, max] = figures.key_ms.cells();
    put(
        page,
        format_args!("<p>Of that, for certificates: {p50} ms p50, {p90} p90, {p99} p99, {max} max.</p>\n"),
    );
}

fn push_slowest(figures: &Figures, page: &mut String) {
    page.push_str("<h2>Slowest</h2>\n");
    let rows = figures.slowest.iter().map(Slowest::cells);
    push_table(&["#ms", "#Keys ms", "#Size", "Outcome", "User", "Time", "Message-ID"], rows, page);
}

fn push_users(figures: &Figures, page: &mut String) {
    if figures.without_certificate.is_empty() {
        return;
    }
    page.push_str("<h2>Users without a certificate</h2>\n<p>Their mail lies there in clear.</p>\n");
    let rows = figures.without_certificate.iter().take(ROWS).map(ClearUser::cells);
    push_table(&["User", "#Messages", "Last"], rows, page);
    if let more @ 1.. = figures.users_without_certificate.saturating_sub(ROWS) {
        put(page, format_args!("<p>And {more} more.</p>\n"));
    }
}

/// Horizontal bars: name, class, length as a share of 1, value.
fn push_bars(name: &str, rows: impl Iterator<Item = (String, &'static str, f64, String)>, page: &mut String) {
    const NAMES: f64 = 220.0;
    const VALUES: f64 = 150.0;
    const ROW: f64 = 26.0;
    let mut bars = String::new();
    let mut y = 0.0;
    for (name, class, share, value) in rows {
        let width = (share * (WIDTH - NAMES - VALUES)).max(1.0);
        put(
            &mut bars,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" class=\"end\">{}</text><rect class=\"{class}\" x=\"{NAMES}\" \
                 y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                NAMES - 8.0,
                y + 18.0,
                text(&name),
                y + 4.0,
                ROW - 8.0,
                NAMES + width + 8.0,
                y + 18.0,
                text(&value)
            ),
        );
        y += ROW;
    }
    put(
        page,
        format_args!("<svg viewBox=\"0 0 {WIDTH} {y}\" role=\"img\" aria-label=\"{name}\">\n{bars}</svg>\n"),
    );
}

/// A table; a heading that begins with `#` is one of numbers.
fn push_table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>, page: &mut String) {
    let class = |at: usize| if headings[at].starts_with('#') { " class=\"n\"" } else { "" };
    page.push_str("<div class=\"wide\"><table>\n<tr>");
    for (at, heading) in headings.iter().enumerate() {
        put(page, format_args!("<th{}>{}</th>", class(at), heading.trim_start_matches('#')));
    }
    page.push_str("</tr>\n");
    for row in rows {
        page.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            put(page, format_args!("<td{}>{}</td>", class(at), text(cell)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

/// The next round number: 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|round| *round >= value)
        .unwrap_or(value)
}

/// A number on an axis.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{}M", value / 1e6),
        1e4.. => format!("{}k", value / 1e3),
        _ => format!("{value}"),
    }
}

/// Text from a log, for HTML: escaped as for a terminal, and then its marks.
fn text(from_log: &str) -> String {
    let shown = crate::console::escape::display(from_log.as_bytes());
    shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn put(page: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = page.write_fmt(what);
}
