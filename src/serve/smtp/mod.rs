//! What SMTP and LMTP have in common (RFC 5321, RFC 2033): lines, commands, replies, and a message between DATA and its dot.

pub mod command;
pub mod data;
pub mod lines;
pub mod path;
pub mod reply;
