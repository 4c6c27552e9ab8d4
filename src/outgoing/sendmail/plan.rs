//! Who gets what: recipients after their aliases, those whose mail is treated alike in one copy, and those whose mail is held.

use std::collections::HashSet;

use crate::cli;
use crate::config::Config;
use crate::delivery::unchanged::Unchanged;
use crate::error::Error;
use crate::keystore::cache::Cache;
use crate::outgoing::address::Address;
use crate::outgoing::aliases::{Aliases, Final};
use crate::outgoing::held::Waiting;
use crate::outgoing::policy;
use crate::outgoing::sendmail::recipients::{Between, split};
use crate::serve::whose::{Class, Treatment};

/// Most recipients of a copy: arguments have an end.
const MOST: usize = 100;

/// Most recipients of a message of whom it is said on standard error why they wait.
pub const NAMED: usize = 10;

/// Recipients who get the same. Their certificates are looked up once more when it is their turn: those of all of them would take
/// too much memory.
#[derive(Debug)]
pub struct Copy {
    class: Class,
    /// The first of them, where a rule could be for the address.
    address: Option<Address>,
    /// Who they are.
    pub to: Vec<Recipient>,
}

impl Copy {
    /// What becomes of the message for them.
    ///
    /// # Errors
    /// Those of [`Treatment::leaving`]; [`Error::Unresolved`] where that is another treatment now.
    pub fn treatment(&self, config: &Config, cache: &Cache) -> Result<Treatment, Error> {
        let Some(address) = &self.address else { return Ok(Treatment::clear(Unchanged::NoPolicy)) };
        let treatment = Treatment::leaving(address, config, cache)?;
        if treatment.class == self.class {
            return Ok(treatment);
        }
        let what = "has other certificates than a moment ago".into();
        Err(Error::Unresolved { recipient: address.to_string(), what })
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// As it is told to the program that sends mail.
    pub written: String,
    /// As rules and the log have it.
    pub name: String,
    /// As it is held, where that has to be.
    pub text: String,
}

/// What is to be done for all recipients of a message.
#[derive(Debug, Default)]
pub struct Plan {
    /// What goes out.
    pub copies: Vec<Copy>,
    /// What cannot.
    pub waiting: Vec<Waiting>,
}

/// Makes plans.
#[derive(Debug)]
pub struct Planner<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The aliases of this host.
    pub aliases: &'a Aliases,
    /// Certificates that were read before.
    pub cache: &'a Cache,
}

impl Planner<'_> {
    /// What is to be done for these arguments, each a recipient or a list of them.
    #[must_use]
    pub fn given(&self, arguments: &[String]) -> (Vec<String>, Plan) {
        let mut plan = Plan::default();
        let mut recipients = Vec::new();
        for argument in arguments {
            match split(argument, Between::Blanks) {
                Ok(found) => recipients.extend(found),
                Err(what) => {
                    self.doubt(
                        argument,
                        &Error::Unresolved { recipient: argument.clone(), what: what.into() },
                        &[],
                        &mut plan,
                    );
                }
            }
        }
        (recipients, plan)
    }

    /// Adds to `plan` what is to be done for these recipients, each once.
    pub fn add(&self, recipients: &[String], plan: &mut Plan) {
        let mut seen = HashSet::new();
        for recipient in recipients {
            self.add_one(recipient, &mut seen, plan);
        }
    }

    fn add_one(&self, recipient: &str, seen: &mut HashSet<Address>, plan: &mut Plan) {
        let (ends, doubt) = self.aliases.resolve(recipient, &self.config.serve.recipient_delimiter);
        let nowhere = ends.iter().find(|end| end.local && !self.has_rule(end));
        let doubt = doubt.or_else(|| {
            if ends.is_empty() {
                let what = "leads to nobody".into();
                return Some(Error::Unresolved { recipient: recipient.into(), what });
            }
            let what = format!(
                "is {} after its aliases, a mailbox of this host for which there is neither an alias nor a rule",
                nowhere?.address
            );
            Some(Error::Unresolved { recipient: recipient.into(), what })
        });
        if let Some(error) = doubt {
            return self.doubt(recipient, &error, &ends, plan);
        }
        for end in ends.into_iter().filter(|end| seen.insert(end.address.clone())) {
            let (name, text) = (end.address.to_string(), end.text());
            match Treatment::leaving(&end.address, self.config, self.cache) {
                Ok(treatment) => {
                    let it = Recipient { written: end.written, name, text };
                    push(plan, treatment.class, Some(end.address), it);
                }
                Err(error) => {
                    complain(plan, Some(&name), &error);
                    plan.waiting.push(Waiting::new(text, &error));
                }
            }
        }
    }

    /// Of a recipient of whom it cannot be told where all of the mail ends, it stays here, if any of it could have to be sealed. If
    /// not, it is left to the program that sends mail.
    fn doubt(&self, recipient: &str, error: &Error, ends: &[Final], plan: &mut Plan) {
        let is_option = recipient.starts_with('-');
        if is_option || policy::demands(self.config) || ends.iter().any(|end| self.has_rule(end)) {
            complain(plan, None, error);
            plan.waiting.push(Waiting::new(recipient.into(), error));
            return;
        }
        let text = recipient.to_owned();
        let it = Recipient { written: text.clone(), name: text.clone(), text };
        push(plan, Treatment::clear(Unchanged::NoPolicy).class, None, it);
    }

    fn has_rule(&self, end: &Final) -> bool {
        policy::rule(self.config, &end.address).is_some()
    }
}

fn complain(plan: &Plan, name: Option<&str>, error: &Error) {
    if plan.waiting.len() < NAMED {
        cli::complain(cli::ADMIN, name, error);
    }
}

/// Adds a recipient to a copy for those who are treated in the same way.
fn push(plan: &mut Plan, class: Class, address: Option<Address>, recipient: Recipient) {
    let same = |copy: &&mut Copy| {
        copy.class == class && copy.address.is_some() == address.is_some() && copy.to.len() < MOST
    };
    match plan.copies.iter_mut().rev().find(same) {
        Some(copy) => copy.to.push(recipient),
        None => plan.copies.push(Copy { class, address, to: vec![recipient] }),
    }
}
