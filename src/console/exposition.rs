//! The text that Prometheus reads: metrics with their help, and values with labels.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes metrics.
#[derive(Debug)]
pub struct Exposition<W>(W);

impl<W: Write> Exposition<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self(out)
    }

    /// Begins the metric `name`, of a `kind` that Prometheus knows.
    ///
    /// # Errors
    /// Those of the writer, as for all that follows.
    pub fn begin(&mut self, name: &str, kind: &str, help: &str) -> io::Result<()> {
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
    }

    /// A value with its labels.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) -> io::Result<()> {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", quoted(value))).collect();
        writeln!(self.0, "{name}{{{}}} {value}", labels.join(","))
    }

    /// A gauge with a single value.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) -> io::Result<()> {
        self.begin(name, "gauge", help)?;
        writeln!(self.0, "{name} {value}")
    }
}

/// A label value: it may hold anything, even where a word is expected.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
