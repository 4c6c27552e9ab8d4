//! One message, now: what `mailseal-filter`, `mailseal deliver` and the doors of `mailseal serve` do.

pub mod deadline;
pub mod deliver;
pub mod filter;
pub mod message;
pub mod options;
pub mod owner;
mod tee;
pub mod unchanged;
