//! What the checks have found, and what of it an admin reads.

use std::io::Write;

use serde::Serialize;

use crate::console::escape;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; no delivery ends in clear or is lost by it.
    Warning,
    /// A delivery could end in clear, be lost, or never be made.
    Failure,
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is as it should be, or what is wrong.
    pub what: String,
    /// The line that mends it; empty where nothing needs mending.
    pub mend: String,
}

/// What all checks have found, in their order.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// All is well with `check`.
    pub fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.push(check, Severity::Ok, what, "");
    }

    /// Something worth knowing.
    pub fn warn(&mut self, check: &'static str, what: impl Into<String>, mend: impl Into<String>) {
        self.push(check, Severity::Warning, what, mend);
    }

    /// Something that must be mended.
    pub fn fail(&mut self, check: &'static str, what: impl Into<String>, mend: impl Into<String>) {
        self.push(check, Severity::Failure, what, mend);
    }

    /// Says `well` where nothing worse has been said of `check`.
    pub fn ok_unless_said(&mut self, check: &'static str, well: impl Into<String>) {
        if !self.0.iter().any(|finding| finding.check == check) {
            self.ok(check, well);
        }
    }

    /// Whether `text` is part of something that is wrong.
    #[must_use]
    pub fn say(&self, text: &str) -> bool {
        self.0.iter().any(|finding| finding.severity != Severity::Ok && finding.what.contains(text))
    }

    fn push(
        &mut self,
        check: &'static str,
        severity: Severity,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Finding { check, severity, what: what.into(), mend: mend.into() });
    }

    /// How many are as bad as `severity`.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Writes them, a line each and another for what mends it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        for Finding { check, severity, what, mend } in &self.0 {
            let word = match severity {
                Severity::Ok => "ok",
                Severity::Warning => "warning",
                Severity::Failure => "FAILURE",
            };
            writeln!(out, "{word:<7}  {check}: {}", escape::display(what.as_bytes()))?;
            if !mend.is_empty() {
                writeln!(out, "         do: {}", escape::display(mend.as_bytes()))?;
            }
        }
        let (failures, warnings) = (self.count(Severity::Failure), self.count(Severity::Warning));
        writeln!(out, "failures: {failures}, warnings: {warnings}")
    }
}
