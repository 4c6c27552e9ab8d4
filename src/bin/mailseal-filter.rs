//! `mailseal-filter`: one message from standard input to standard output, sealed or unchanged.

use mailseal::cli;
use mailseal::delivery::filter::{leave, run};
use mailseal::delivery::options::Options;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::system::process;

fn main() {
    leave(deliver().unwrap_or_else(|error| {
        cli::complain(cli::FILTER, None, &error);
        error.exit()
    }))
}

fn deliver() -> Result<Exit, Error> {
    process::harden()?;
    let options: Options = match cli::parse(cli::FILTER) {
        Ok(options) => options,
        Err(status) => return Ok(status),
    };
    let (input, output) = (process::stdin()?, process::stdout()?);
    Ok(run(cli::FILTER, &options, input, output))
}
