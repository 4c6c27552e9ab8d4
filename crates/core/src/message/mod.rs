//! What a message is, byte for byte.

pub mod head;
pub mod lines;
pub mod opening;
