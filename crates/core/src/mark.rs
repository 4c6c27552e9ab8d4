//! The mark inside a sealed message: by it a reader tells what a server sealed at rest from what a sender encrypted.
//!
//! It is the last field of the entity's header, inside the ciphertext, where no server can put it into somebody's end-to-end
//! message. Outside it says nothing. There is none where a header has a tail: readers do not agree where that ends.

use crate::message::head::{Item, Tail};

/// The field, without its line ending.
pub const FIELD: &str = "Sealed-At-Rest: v1";

/// Whether `item` is the mark.
#[must_use]
pub fn is_mark(item: &Item<'_>) -> bool {
    item.raw.trim_ascii_end() == FIELD.as_bytes()
}

/// Whether a header with this tail has room for it.
#[must_use]
pub fn has_room(tail: &Tail<'_>) -> bool {
    tail.is_empty()
}
