//! Edge: Landlock (landlock(7)): no file, no connection, no signal to others.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

/// The newest version of Landlock whose rights are taken away; older kernels know fewer of them.
const NEWEST: ABI = ABI::V6;

/// Takes all files away but those below `folders`, and all connections. What was opened before stays open.
///
/// # Errors
/// What is missing, as a sentence; the rest is in force then.
pub fn confine(folders: &[&Path]) -> Result<(), String> {
    enforced(restrict(folders))
}

/// Takes all files away but for reading those below `read`, and for removing and connecting to sockets in `sockets`. The network
/// stays.
///
/// # Errors
/// As [`confine`].
pub fn confine_resident(read: &[PathBuf], sockets: &[&Path]) -> Result<(), String> {
    enforced(restrict_resident(read, sockets))
}

fn enforced(status: Result<RulesetStatus, RulesetError>) -> Result<(), String> {
    match status {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Ok(()),
        Ok(RulesetStatus::NotEnforced) => Err("the kernel has no Landlock".into()),
        Err(error) => Err(format!("Landlock: {error}")),
    }
}

fn restrict_resident(read: &[PathBuf], sockets: &[&Path]) -> Result<RulesetStatus, RulesetError> {
    let reading = read.iter().map(|path| (&**path, AccessFs::ReadFile | AccessFs::ReadDir));
    let removing = sockets.iter().map(|path| (*path, AccessFs::RemoveFile.into()));
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (folder, rights) in reading.chain(removing) {
        // A folder that is not there needs no right.
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, rights))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

fn restrict(folders: &[&Path]) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for folder in folders {
        // A folder that is not there needs no right.
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::from_all(NEWEST)))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}
