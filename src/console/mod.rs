//! What a person sees: tables, progress, dates, and text that is safe for a terminal.

pub mod date;
pub mod escape;
pub mod exposition;
pub mod json;
pub mod names;
pub mod progress;
pub mod table;
