//! What the checks have found, and what of it an admin reads.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use crate::console::escape;
use crate::console::names::some_of;

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

/// What is wrong, with what mends it, and for which users: one cause is one finding.
#[derive(Debug, Default)]
pub struct Causes(BTreeMap<(String, String), Vec<String>>);

impl Causes {
    /// This is wrong for `user`, too.
    pub fn add(&mut self, user: &str, what: String, mend: String) {
        self.0.entry((what, mend)).or_default().push(user.to_owned());
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each cause, with the first of its users by name and the number of the others, and what mends it.
    pub fn named(self) -> impl Iterator<Item = (String, String, String)> {
        self.0.into_iter().map(|((what, mend), users)| (some_of(&users), what, mend))
    }
}

impl Findings {
    /// Mail of some users waits.
    pub fn fail_for(&mut self, check: &'static str, causes: Causes) {
        for (users, what, mend) in causes.named() {
            self.fail(check, format!("mail for {users} is deferred: {what}"), mend);
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_is_said_once() {
        let mut causes = Causes::default();
        for number in 1..=7 {
            causes.add(&format!("user{number}"), "the store is closed".into(), "open it".into());
        }
        causes.add("bob", "the file is empty".into(), "fill it".into());
        let mut findings = Findings::default();
        findings.fail_for("certificates", causes);
        let said: Vec<_> = findings.0.iter().map(|it| (&*it.what, &*it.mend, it.severity)).collect();
        assert_eq!(
            said,
            [
                ("mail for bob is deferred: the file is empty", "fill it", Severity::Failure),
                (
                    "mail for user1, user2, user3, user4, user5 and 2 more is deferred: the store is closed",
                    "open it",
                    Severity::Failure
                ),
            ]
        );
    }
}
