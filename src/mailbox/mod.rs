//! Messages that are stored: sealed in bulk, opened again, sealed to another key, looked through.

pub mod audit;
pub mod decrypt;
pub mod encrypt;
pub mod reseal;
pub mod stored;
pub mod sweep;
pub mod tally;
pub mod target;
