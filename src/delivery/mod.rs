//! One message, now: what `mailseal-filter` and `mailseal deliver` do.

pub mod deadline;
pub mod deliver;
pub mod filter;
pub mod options;
pub mod unchanged;
