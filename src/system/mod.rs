//! What a process is to the system: its rights, what it gives up, and who it works for.

pub mod buffered;
pub mod counted;
pub mod folder;
pub mod owner;
pub mod pipe;
pub mod process;
pub mod program;
pub mod sandbox;
