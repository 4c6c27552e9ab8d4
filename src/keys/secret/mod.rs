//! Edge: The secret keys that stored messages are opened with.

pub mod agent;
pub mod files;
mod gpgsm;
mod private;

use mailseal_core::unseal::keys::Keys;

use crate::error::Error;

/// Secret keys that a process can hand on to one that it starts.
pub trait SecretKeys: Keys {
    /// The keys, unlocked and serialized, for a process that can ask nobody.
    ///
    /// # Errors
    /// [`Error::Usage`] where they cannot be handed on; [`Error::SecretKey`] where none can be unlocked.
    fn export(&self) -> Result<Vec<Vec<u8>>, Error>;
}
