//! A report as one web page: text, tables and charts in SVG, without a script and without anything from elsewhere, in
//! the colours that its reader prefers.

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use super::cells::number;
use super::figures::{ClearUser, FailureCount, Figures, Point, SizeClass, Slowest, WaitingUser};
use crate::console::escape;
use crate::mailbox::tally::size;

/// Size of the trend's charts, in SVG units.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 220.0;

/// Room for the numbers beside, below and above a chart.
const LEFT: f64 = 56.0;
const BELOW: f64 = 26.0;
const ABOVE: f64 = 8.0;

/// Most columns of the trend; of a longer log the last ones are shown.
const COLUMNS: usize = 366;

/// Most rows of a list of users.
const ROWS: usize = 50;

const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn page(figures: &Figures) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "mailseal: report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Sealed mail" }
                (head(figures))
                (waiting(figures))
                (trend(figures))
                (outcomes(figures))
                (sizes(figures))
                (slowest(figures))
                (without_certificate(figures))
            }
        }
    };
    page.into_string()
}

/// Text from a log: escaped as for a terminal, and then for HTML.
struct FromLog<'a>(&'a str);

impl Render for FromLog<'_> {
    fn render_to(&self, page: &mut String) {
        escape::display(self.0.as_bytes()).render_to(page);
    }
}

fn head(figures: &Figures) -> Markup {
    let of = |outcome| -> u64 {
        figures.outcomes.iter().filter(|count| count.outcome == outcome).map(|count| count.messages).sum()
    };
    let tiles = [
        ("deliveries", "", figures.messages),
        ("sealed", "sealed", of("sealed")),
        ("unchanged", "unchanged", of("unchanged")),
        ("deferred", "deferred", of("deferred")),
        ("users waiting", "deferred", figures.users_waiting as u64),
        ("users without a certificate", "unchanged", figures.users_without_certificate as u64),
    ];
    html! {
        @if let (Some(from), Some(to)) = (&figures.from, &figures.to) {
            p.span { (FromLog(from)) " – " (FromLog(to)) }
        }
        dl.tiles {
            @for (name, class, value) in tiles {
                div class=(class) { dt { (name) } dd { (value) } }
            }
        }
        @if let Some(bulk) = &figures.bulk {
            p {
                "encrypt-maildir went through " (bulk.folders) " folders with " (bulk.sum.messages) " messages: "
                (bulk.sum.sealed) " sealed, " (bulk.sum.unchanged) " unchanged, " (bulk.sum.failed) " failed; "
                (size(bulk.sum.bytes_in)) " became " (size(bulk.sum.bytes_out)) "."
            }
        }
    }
}

fn waiting(figures: &Figures) -> Markup {
    let rows = figures.waiting.iter().take(ROWS).map(WaitingUser::cells);
    html! {
        @if !figures.waiting.is_empty() {
            section.alarm {
                h2 { "Deferred for more than an hour" }
                p { "An MTA returns mail to its sender after some days." }
                (table(&["User", "#Messages", "#Waits", "Since", "Last tried", "#Attempts", "Reason"], rows))
            }
        }
    }
}

fn trend(figures: &Figures) -> Markup {
    let points = &figures.trend.points;
    let points = &points[points.len().saturating_sub(COLUMNS)..];
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return html! {} };
    let axis = Axis { first: first.index, count: (last.index - first.index + 1) as f64, points };
    let deliveries = |point: &Point| {
        let Point { start, sealed, unchanged, deferred, .. } = point;
        Column {
            stack: vec![
                ("sealed", *sealed as f64),
                ("unchanged", *unchanged as f64),
                ("deferred", *deferred as f64),
            ],
            title: format!("{start}: {sealed} sealed, {unchanged} unchanged, {deferred} deferred"),
        }
    };
    let time = |point: &Point| {
        let (mean, max) = (number(point.mean_ms), number(point.max_ms));
        Column {
            stack: vec![("time", point.mean_ms)],
            title: format!("{}: on average {mean} ms, the longest {max} ms", point.start),
        }
    };
    html! {
        h2 { "By the " (figures.trend.unit) }
        figure {
            figcaption {
                "Deliveries:"
                @for outcome in ["sealed", "unchanged", "deferred"] {
                    " " span class={ "key " (outcome) } { (outcome) }
                }
            }
            (axis.chart("Deliveries over time", deliveries))
        }
        figure {
            figcaption { "Milliseconds to seal, on average" }
            (axis.chart("Time to seal over time", time))
        }
    }
}

/// The columns of the charts of one trend.
struct Axis<'a> {
    first: i64,
    count: f64,
    points: &'a [Point],
}

/// What a chart shows of one point: bars on top of each other, each a class and a value.
struct Column {
    stack: Vec<(&'static str, f64)>,
    title: String,
}

impl Axis<'_> {
    fn chart(&self, name: &str, column: impl Fn(&Point) -> Column) -> Markup {
        let columns: Vec<Column> = self.points.iter().map(column).collect();
        let sum = |column: &Column| column.stack.iter().map(|(_, value)| value).sum();
        let top = round_up(columns.iter().map(sum).fold(0.0, f64::max));
        let height = HEIGHT - ABOVE;
        html! {
            svg viewBox={ "0 0 " (LEFT + WIDTH + 8.0) " " (HEIGHT + BELOW) } role="img" aria-label=(name) {
                @for step in 0..=4 {
                    @let share = f64::from(step) / 4.0;
                    @let y = HEIGHT - height * share;
                    path class="grid" d={ "M" (LEFT) " " (tenths(y)) "H" (LEFT + WIDTH) } {}
                    text x=(tenths(LEFT - 6.0)) y=(tenths(y + 4.0)) class="end" { (short(top * share)) }
                }
                @for (point, column) in self.points.iter().zip(&columns) {
                    g { (column.bars(self.x(point), self.bar_width(), height / top)) }
                }
                @for point in self.named() {
                    text x=(tenths(self.x(point))) y=(tenths(HEIGHT + 18.0)) { (FromLog(&point.start)) }
                }
            }
        }
    }

    fn width(&self) -> f64 {
        WIDTH / self.count
    }

    /// A gap between two bars, where there is room for one.
    fn bar_width(&self) -> f64 {
        self.width() - if self.width() > 4.0 { 1.0 } else { 0.0 }
    }

    fn x(&self, point: &Point) -> f64 {
        LEFT + (point.index - self.first) as f64 * self.width()
    }

    /// The points that are named below the chart: at most six, so that the names do not touch.
    fn named(&self) -> Vec<&Point> {
        let mut free = LEFT - 1.0;
        let mut named = Vec::new();
        for point in self.points {
            let x = self.x(point);
            if x >= free && (x <= LEFT + WIDTH - 100.0 || named.is_empty()) {
                named.push(point);
                free = x + WIDTH / 6.0;
            }
        }
        named
    }
}

impl Column {
    fn bars(&self, x: f64, width: f64, scale: f64) -> Markup {
        let bars = self.stack.iter().scan(0.0, |top, (class, value)| {
            *top += value;
            Some((class, *top, *value))
        });
        html! {
            @for (class, top, value) in bars.filter(|(.., value)| *value > 0.0) {
                rect class=(class) x=(tenths(x)) y=(tenths(HEIGHT - top * scale)) width=(tenths(width))
                    height=(tenths(value * scale)) {}
            }
            title { (FromLog(&self.title)) }
        }
    }
}

fn outcomes(figures: &Figures) -> Markup {
    let most = figures.outcomes.iter().map(|count| count.messages).max().unwrap_or(1) as f64;
    let bars = figures.outcomes.iter().map(|count| {
        let name = match &*count.reason {
            "-" => count.outcome.to_owned(),
            reason => format!("{}: {reason}", count.outcome),
        };
        let share = count.messages as f64 / figures.messages.max(1) as f64 * 100.0;
        let value = format!("{} ({share:.1}%)", count.messages);
        Bar { name, class: count.outcome, share: count.messages as f64 / most, value }
    });
    let warnings = figures.warnings.iter().map(|count| vec![count.name.clone(), count.messages.to_string()]);
    html! {
        h2 { "Outcomes" }
        (chart_of_bars("Deliveries by outcome", bars.collect()))
        @if !figures.warnings.is_empty() {
            h2 { "Warnings" }
            (table(&["Warning", "#Messages"], warnings))
        }
        @if !figures.failures.is_empty() {
            h2 { "Failures" }
            (table(&["Reason", "#Messages", "Last"], figures.failures.iter().map(FailureCount::cells)))
        }
    }
}

fn sizes(figures: &Figures) -> Markup {
    const HEADINGS: [&str; 10] =
        ["Size", "#Messages", "#ms p50", "#p90", "#p99", "#max", "#MB/s p50", "#p90", "#p99", "#max"];
    let longest = figures.sizes.iter().map(|class| class.ms.p50).fold(0.0, f64::max).max(0.1);
    let bars = figures.sizes.iter().filter(|class| class.size != "all").map(|class| Bar {
        name: class.size.to_owned(),
        class: "time",
        share: class.ms.p50 / longest,
        value: format!("{} ms", number(class.ms.p50)),
    });
    let [p50, p90, p99, max] = figures.key_ms.cells();
    html! {
        h2 { "Time to seal, by size" }
        (chart_of_bars("Median time by size", bars.collect()))
        (table(&HEADINGS, figures.sizes.iter().map(SizeClass::cells)))
        p { "Of that, for certificates: " (p50) " ms p50, " (p90) " p90, " (p99) " p99, " (max) " max." }
    }
}

fn slowest(figures: &Figures) -> Markup {
    let rows = figures.slowest.iter().map(Slowest::cells);
    html! {
        h2 { "Slowest" }
        (table(&["#ms", "#Keys ms", "#Size", "Outcome", "User", "Time", "Message-ID"], rows))
    }
}

fn without_certificate(figures: &Figures) -> Markup {
    let rows = figures.without_certificate.iter().take(ROWS).map(ClearUser::cells);
    html! {
        @if !figures.without_certificate.is_empty() {
            h2 { "Users without a certificate" }
            p { "Their mail lies there in clear." }
            (table(&["User", "#Messages", "Last"], rows))
            @if let more @ 1.. = figures.users_without_certificate.saturating_sub(ROWS) {
                p { "And " (more) " more." }
            }
        }
    }
}

/// A horizontal bar, as long as its share of 1.
struct Bar {
    name: String,
    class: &'static str,
    share: f64,
    value: String,
}

fn chart_of_bars(name: &str, bars: Vec<Bar>) -> Markup {
    const NAMES: f64 = 220.0;
    const VALUES: f64 = 150.0;
    const ROW: f64 = 26.0;
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (ROW * bars.len() as f64) } role="img" aria-label=(name) {
            @for (row, bar) in bars.iter().enumerate() {
                @let top = ROW * row as f64;
                @let width = (bar.share * (WIDTH - NAMES - VALUES)).max(1.0);
                text x=(tenths(NAMES - 8.0)) y=(tenths(top + 18.0)) class="end" { (FromLog(&bar.name)) }
                rect class=(bar.class) x=(NAMES) y=(tenths(top + 4.0)) width=(tenths(width))
                    height=(tenths(ROW - 8.0)) rx="2" {}
                text x=(tenths(NAMES + width + 8.0)) y=(tenths(top + 18.0)) { (bar.value) }
            }
        }
    }
}

/// A table; a heading that begins with `#` is one of numbers.
fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Markup {
    let class = |heading: &str| heading.starts_with('#').then_some("n");
    html! {
        div.wide {
            table {
                tr {
                    @for heading in headings { th class=[class(heading)] { (heading.trim_start_matches('#')) } }
                }
                @for row in rows {
                    tr {
                        @for (cell, heading) in row.iter().zip(headings) {
                            td class=[class(heading)] { (FromLog(cell)) }
                        }
                    }
                }
            }
        }
    }
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

/// A place or a length in a drawing.
fn tenths(value: f64) -> String {
    format!("{value:.1}")
}
