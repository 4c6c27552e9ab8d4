//! The exit status of the programs: a contract with Sieve scripts, cron jobs and tests.

/// Exit status, after `sysexits(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Standard output holds the message to store. Nothing else ever means that.
    Ok = 0,
    /// The message needs no change, and `--unchanged fail` asked for a failure then; of `mailseal`: a check found
    /// something, or a certificate was refused.
    Negative = 1,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// The message cannot be sealed (`EX_DATAERR`).
    Message = 65,
    /// It may work later, or after an admin's repair (`EX_TEMPFAIL`).
    Temporary = 75,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// The failure with this number; any other number is a failure that may pass.
    #[must_use]
    pub fn of_failure(number: u8) -> Self {
        [Self::Negative, Self::Usage, Self::Message, Self::Config]
            .into_iter()
            .find(|exit| *exit as u8 == number)
            .unwrap_or(Self::Temporary)
    }

    /// Ends the process with this status.
    pub fn leave(self) -> ! {
        std::process::exit(self as i32)
    }

    /// The same at once, whatever other threads hold or wait for: nothing is flushed (`_exit(2)`).
    pub fn leave_now(self) -> ! {
        signal_hook::low_level::exit(self as i32)
    }
}

/// The statuses for `--help`.
pub const HELP: &str = "\
Exit status:
   0  standard output holds the message to store; nothing else means that
   1  the message needs no change (only with --unchanged fail)
  64  usage
  65  the message cannot be sealed
  75  temporary: input or output, memory, key store, deadline, no usable certificate
  78  configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_contract() {
        let all = [Exit::Ok, Exit::Negative, Exit::Usage, Exit::Message, Exit::Temporary, Exit::Config];
        assert_eq!(all.map(|status| status as u8), [0, 1, 64, 65, 75, 78]);
        assert!((0..=u8::MAX).all(|number| Exit::of_failure(number) != Exit::Ok));
        for status in all {
            assert!(HELP.contains(&format!("\n {:>3}  ", status as u8)), "{status:?} is missing in the help");
        }
    }
}
