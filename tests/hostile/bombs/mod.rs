//! Hostile mail, and hostile ends of the pipe: memory stays bounded, time linear, and what fails says nothing.
//!
//! The figures, and the same with a release build:
//!
//! ```text
//! cargo test --test hostile bombs:: -- --nocapture --test-threads 1
//! MAILSEAL_FILTER=target/release/mailseal-filter cargo test --test hostile bombs:: -- --include-ignored
//! ```

mod mail;
mod run;

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use mail::CANARY;
use mailseal_core::limits::HEADER;
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{setsockopt, sockopt},
    },
    unistd::Pid,
};
use run::{Mail, Run, run};

/// Certificates of both formats, and the most resident memory each may take, in KiB.
const FORMATS: [(&str, i64); 2] = [("curve25519", 10 * 1024), ("v6", 20 * 1024)];

/// The same of S/MIME: with AES-CBC, and with AES-GCM.
const SMIME: [(&str, i64); 3] =
    [("smime/rsa.pem", 12 * 1024), ("smime/p256.pem", 12 * 1024), ("smime/p256-gcm.pem", 12 * 1024)];

/// Pages of its own code that a debug build keeps in memory beyond those of a release build, and some room.
const DEBUG_CODE: i64 = 4 * 1024;

/// What is enough address space for any mail, in KiB.
const ADDRESS_SPACE: u32 = 32 * 1024;

const MIB: usize = 1024 * 1024;

/// What comes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sealed,
    Unchanged,
    /// Either of the two: nobody's promise, and no harm.
    Stored,
    /// Exit 65, and nothing written.
    Refused,
}

/// Checks what comes of a message and how much memory that takes.
fn assert_fate(what: &str, most: i64, fate: Fate, run: &Run) {
    let sealed = || {
        let beginning = String::from_utf8_lossy(&run.output.beginning);
        let ending = String::from_utf8_lossy(&run.output.ending);
        let is_smime =
            beginning.contains("\nContent-Description: S/MIME message, sealed at rest by mailseal\n");
        is_smime && !ending.contains("\n\n")
            || (beginning.len() == 4096 || beginning.contains("boundary=\"=_mailseal-"))
                && ending.contains("\n-----END PGP MESSAGE-----\n\n--=_mailseal-")
    };
    let unchanged = || run.output.length == run.input.length && run.output.checksum() == run.input.checksum();
    let as_meant = match fate {
        Fate::Sealed => run.status == 0 && sealed(),
        Fate::Unchanged => run.status == 0 && unchanged(),
        Fate::Stored => run.status == 0 && (sealed() || unchanged()),
        Fate::Refused => run.status == 65 && run.output.length == 0,
    };
    assert!(as_meant, "{what}: not {fate:?} but {run:?}");
    assert!(!run.stderr.contains(CANARY), "{what}: text of the message in {:?}", run.stderr);
    let release = !cfg!(debug_assertions) || std::env::var_os("MAILSEAL_FILTER").is_some();
    let most = if release { most } else { most + DEBUG_CODE };
    assert!(run.peak <= most, "{what}: {} KiB of memory, more than {most}", run.peak);
}

/// Runs the filter on `mail` of a quarter of `size` and of `size`, in both formats, within little address space.
///
/// Four times the work may take eight times the processor time, and what the start takes: the square would take
/// sixteen times.
fn defuse(what: &str, size: usize, fate: Fate, mail: impl Fn(usize) -> Mail) {
    defuse_with(&[], what, size, fate, mail);
}

/// The same with options for the filter.
fn defuse_with(options: &[&str], what: &str, size: usize, fate: Fate, mail: impl Fn(usize) -> Mail) {
    for format in FORMATS {
        defuse_as(format, options, (what, size, fate), &mail);
    }
}

/// The same of what is sealed with S/MIME.
fn defuse_smime(what: &str, size: usize, mail: impl Fn(usize) -> Mail) {
    for format in SMIME {
        defuse_as(format, &[], (what, size, Fate::Sealed), &mail);
    }
}

/// The same with one certificate and the most resident memory that it may take, in KiB.
fn defuse_as(
    (cert, most): (&str, i64),
    options: &[&str],
    (what, size, fate): (&str, usize, Fate),
    mail: &impl Fn(usize) -> Mail,
) {
    let [quarter, full] = [size / 4, size].map(|size| {
        let run = run(cert, options, Some(ADDRESS_SPACE), mail(size));
        eprintln!(
            "{what}, {cert}: {} bytes in, {} out, exit {}, {} KiB, {:.3} s",
            run.input.length,
            run.output.length,
            run.status,
            run.peak,
            run.time.as_secs_f64()
        );
        assert_fate(what, most, fate, &run);
        run.time
    });
    let limit = 8 * quarter + Duration::from_millis(100);
    assert!(full <= limit, "{what}, {cert}: {quarter:?} for a quarter, but {full:?} for all of it");
}

#[test]
fn large_bodies() {
    defuse("body", 64 * MIB, Fate::Sealed, mail::body);
    defuse("line", 64 * MIB, Fate::Sealed, mail::line);
    defuse("empty lines", 16 * MIB, Fate::Sealed, mail::empty_lines);
    defuse_smime("body", 64 * MIB, mail::body);
}

/// Takes a minute: `cargo test --test hostile bombs:: -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn bodies_of_a_gigabyte() {
    defuse("body of 1 GB", 1000 * MIB, Fate::Sealed, mail::body);
    defuse("line of 1 GB", 1000 * MIB, Fate::Sealed, mail::line);
    defuse("empty lines of 1 GB", 1000 * MIB, Fate::Sealed, mail::empty_lines);
    defuse("preamble of 1 GB", 1000 * MIB, Fate::Sealed, mail::preamble);
    defuse("near-boundaries of 1 GB", 1000 * MIB, Fate::Sealed, mail::near_boundaries);
    defuse("encrypted mail of 1 GB", 1000 * MIB, Fate::Unchanged, mail::encrypted);
    defuse_smime("body of 1 GB", 1000 * MIB, mail::body);
}

#[test]
fn parts_without_number() {
    defuse("nested parts", 100_000, Fate::Sealed, mail::nested_parts);
    defuse("sibling parts", 100_000, Fate::Sealed, mail::sibling_parts);
    defuse("boundaries", 8 * MIB, Fate::Sealed, mail::only_boundaries);
    defuse("near-boundaries", 8 * MIB, Fate::Sealed, mail::near_boundaries);
    defuse("preamble", 8 * MIB, Fate::Sealed, mail::preamble);
}

#[test]
fn what_claims_to_be_encrypted() {
    defuse("encrypted mail", 64 * MIB, Fate::Unchanged, mail::encrypted);
    defuse("armor in base64", 8 * MIB, Fate::Unchanged, mail::encrypted_in_base64);
    defuse("armor behind a header", 8 * MIB, Fate::Unchanged, mail::encrypted_behind_header);
    defuse("armor headers", 8 * MIB, Fate::Sealed, mail::armor_headers);
    defuse("session keys", 8 * MIB, Fate::Sealed, mail::session_keys);
    defuse("partial bodies", 8 * MIB, Fate::Stored, mail::partial_bodies);
    defuse("nested CMS", 8 * MIB, Fate::Sealed, mail::nested_cms);
    defuse("CMS recipients", 8 * MIB, Fate::Sealed, mail::cms_recipients);
}

#[test]
fn fields_without_number() {
    defuse("fields", HEADER / 3 - 100, Fate::Sealed, mail::fields);
    for (what, begin, pattern) in [
        ("MIME-Version fields", "", "MIME-Version: 1.0\n"),
        ("odd MIME-Version fields", "", "mime-version: \u{e9}\n"),
        ("MIME fields", "", "MIME-Version:\nContent-A:\n"),
        ("Content-Type fields", "", "Content-Type: a/b\n"),
        ("folded lines", "Content-Type: a/b\n", " \n"),
        ("lines that are no fields", "", "x\n"),
    ] {
        defuse(what, HEADER, Fate::Sealed, |size| mail::header(begin, pattern, "", size));
    }
}

/// The header is read, hidden and copied more than once, and held in memory not more often than without.
#[test]
fn protected_headers() {
    let shy = &["--protect-headers", "shy"][..];
    defuse_with(shy, "fields", HEADER / 3 - 100, Fate::Sealed, mail::fields);
    for (what, begin, pattern, end) in [
        ("Subject", "Subject: ", "x", ""),
        ("encoded Subject", "Subject: ", "=?utf-8?q?=41?= ", ""),
        ("Subjects", "", "Subject: x\n", ""),
        ("name", "", "x", ":"),
        ("addresses", "To: a@example.org", ", (x) a@example.org", ""),
        ("groups", "To: ", "a:;", ""),
        ("dates", "", "Date: 1 Mar 2024 00:30 +0100\n", ""),
        ("lines that are no fields", "", "x\n", ""),
        ("a line that is no field", "", "x", ""),
        ("HP-Outer fields", "", "HP-Outer: x\n", ""),
        ("claims", "Content-Type: text/plain", "; hp =x", ""),
        ("near-claims", "Content-Type: text/plain=", " hp", ""),
    ] {
        defuse_with(shy, what, HEADER, Fate::Sealed, |size| mail::header(begin, pattern, end, size));
    }
}

#[test]
fn header_lines_as_long_as_the_header() {
    for (what, begin, pattern, end) in [
        ("Subject", "Subject: ", "x", ""),
        ("Message-ID", "Message-ID: <", "\u{e9}", ">"),
        ("MIME-Version", "mime-version: ", "\u{e9}", ""),
        ("Content-Transfer-Encoding", "Content-Transfer-Encoding: ", "x", ""),
        ("type", "Content-Type: ", "x", ""),
        ("boundary", "Content-Type: multipart/encrypted; boundary=\"", "x", "\""),
        ("quoted pairs", "Content-Type: multipart/encrypted; boundary=\"", "\\\"", "\""),
        ("comments", "Content-Type: multipart/encrypted ", "(", ""),
        ("one parameter over and over", "Content-Type: multipart/encrypted", ";a=b", ""),
        ("continued parameter", "Content-Type: multipart/encrypted", ";boundary*0=b", ""),
        ("encoded words", "Content-Type: application/pkcs7-mime; name=\"", "=?utf-8?q?=41?= ", "\""),
        ("semicolons", "Content-Type: multipart/encrypted", ";", ""),
        ("carriage returns", "Content-Type: multipart/encrypted", "\r", ""),
    ] {
        defuse(what, HEADER, Fate::Sealed, |size| mail::header(begin, pattern, end, size));
    }
    defuse("parameters", HEADER, Fate::Sealed, mail::parameters);
}

#[test]
fn headers_over_the_limit() {
    let long = |begin, pattern| move |size| mail::header(begin, pattern, "", size);
    let sizes = [HEADER + 100, 10 * MIB];
    for (cert, most) in FORMATS {
        for (what, mail) in sizes
            .map(|size| ("header", long("", "A: b\n")(size)))
            .into_iter()
            .chain(sizes.map(|size| ("field", long("X-A: ", "x")(size))))
            .chain([
                ("a million fields and more", mail::fields((HEADER / 3).max(1_000_000) + 1000)),
                ("endless header", mail::endless_header()),
                ("endless field", mail::endless_field()),
            ])
        {
            assert_fate(what, most, Fate::Refused, &run(cert, &[], Some(ADDRESS_SPACE), mail));
        }
    }
}

#[test]
fn a_long_message_id_makes_no_long_log_line() {
    let mail = mail::header("Message-ID: <", "\u{e9}", ">", HEADER);
    let run = run("curve25519", &["--log", "stderr"], None, mail);
    assert_eq!(run.status, 0);
    assert!(run.stderr.contains("outcome=sealed") && run.stderr.len() < 2000, "{:?}", run.stderr);
}

#[test]
fn the_output_begins_before_the_input_ends() {
    let (seen, wait) = mpsc::channel();
    let mut child = start(AS_IT_IS);
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut output = vec![0];
        stdout.read_exact(&mut output).unwrap();
        seen.send(()).unwrap();
        stdout.read_to_end(&mut output).unwrap();
        output
    });
    let mut stdin = child.stdin.take().unwrap();
    mail::body(4 * MIB)(&mut stdin).unwrap();
    wait.recv_timeout(Duration::from_secs(60)).expect("there is output after 4 MiB of input");
    stdin.write_all(b"end\n").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(reader.join().unwrap().len() > 1000);
}

#[test]
fn single_bytes_and_pauses_give_the_same_as_one_piece() {
    let message = format!("Subject: {CANARY}\nMIME-Version: 1.0\n\nbody\n{}", "line\n".repeat(100));
    let bytes = message.clone().into_bytes();
    let options = ["--compression", "none"];
    let slowly: Mail = Box::new(move |out| {
        for (number, byte) in message.bytes().enumerate() {
            out.write_all(&[byte])?;
            out.flush()?;
            if number % 8 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    });
    let slowly = run("curve25519", &options, None, slowly);
    let at_once = run("curve25519", &options, None, Box::new(move |out| out.write_all(&bytes)));
    assert_fate("single bytes", FORMATS[0].1, Fate::Sealed, &slowly);
    assert_eq!(slowly.input.checksum(), at_once.input.checksum());
    assert_eq!(slowly.output.length, at_once.output.length);
}

#[test]
fn a_message_that_breaks_off_is_stored_as_far_as_it_came_and_no_message_is_none() {
    for beginning in ["Sub", "Subject: x", "Subject: x\r", "Subject: x\n", "Subject: x\n\n", "\n"] {
        let run = run("curve25519", &[], None, Box::new(|out| out.write_all(beginning.as_bytes())));
        assert_eq!(run.status, 0, "{beginning:?}: {run:?}");
    }
    let nothing = run("curve25519", &[], None, Box::new(|_| Ok(())));
    assert_fate("nothing", FORMATS[0].1, Fate::Refused, &nothing);
}

/// A filter with pipes on all three sides.
fn start(options: &[&str]) -> Child {
    command(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn command(options: &[&str]) -> Command {
    let mut command = Command::new(run::program());
    command.args(run::arguments("curve25519")).args(["--log", "none"]).args(options);
    command
}

/// The filter, started by a shell that does `redirections` first.
fn redirected(redirections: &str, options: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{redirections}; exec \"$@\""), "sh"]).arg(run::program());
    command.args(run::arguments("curve25519")).args(["--log", "none"]).args(options);
    command
}

/// Runs `command` on a message of `size`; its reading end may close.
fn feed(mut command: Command, size: usize) -> Output {
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| write_all_or_less(stdin, size));
        child.wait_with_output().unwrap()
    })
}

fn write_all_or_less(mut stdin: ChildStdin, size: usize) {
    // The filter may have given up.
    let _ = mail::body(size)(&mut stdin);
}

fn assert_failed(what: &str, output: &Output) {
    assert_ne!(output.status.code(), Some(0), "{what}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains(CANARY) && stderr.len() < 1000, "{what}: {stderr:?}");
}

/// Sealed without compression: what goes in comes out.
const AS_IT_IS: &[&str] = &["--compression", "none"];

/// Passed through.
const PASSED: &[&str] = &["--off"];

/// Less than any buffer, more than the buffers, more than the look-ahead; in both ways.
fn kinds() -> impl Iterator<Item = (usize, &'static [&'static str])> {
    [100, 200_000, 4 * MIB].into_iter().flat_map(|size| [(size, AS_IT_IS), (size, PASSED)])
}

#[test]
fn a_full_disk_is_a_failure() {
    for (size, options) in kinds() {
        let mut full = command(options);
        full.stdout(File::options().write(true).open("/dev/full").unwrap());
        let output = feed(full, size);
        assert_failed(&format!("/dev/full, {size} {options:?}"), &output);
        assert_eq!(output.status.code(), Some(75));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    for options in [AS_IT_IS, PASSED] {
        let mut limited = redirected("ulimit -f 20", options);
        limited.stdout(file.reopen().unwrap());
        assert_failed("a limit of file size", &feed(limited, 4 * MIB));
    }
}

#[test]
fn a_reader_that_goes_away_is_a_failure() {
    for (size, options) in kinds() {
        for read in [0, 1, 10_000] {
            let mut child = start(options);
            let mut stdout = child.stdout.take().unwrap();
            let stdin = child.stdin.take().unwrap();
            let output = std::thread::scope(|scope| {
                if read == 0 {
                    drop(stdout);
                } else {
                    scope.spawn(move || stdout.by_ref().take(read).read_to_end(&mut Vec::new()).unwrap());
                }
                scope.spawn(|| write_all_or_less(stdin, size));
                child.wait_with_output().unwrap()
            });
            // What fits into the pipe is written before the reader goes: nobody can know that it was not read.
            if read == 0 || size > 1_000_000 {
                assert_failed(&format!("a reader of {read} bytes, {size} {options:?}"), &output);
                assert_eq!(output.status.code(), Some(75));
            }
        }
    }
}

#[test]
fn closed_standard_files_are_a_failure() {
    for (size, options) in kinds() {
        let output = feed(redirected("exec <&-", options), size);
        assert_failed("closed standard input", &output);
        assert!(output.stdout.is_empty());
        let output = feed(redirected("exec >&-", options), size);
        assert_failed("closed standard output", &output);
        assert_eq!(output.status.code(), Some(75));
    }
    // A complaint must not find its way into the message.
    let output = feed(piped(redirected("exec 2>&-", &[])), 100);
    assert!(output.status.success() && output.stdout.starts_with(b"From: a@example.net\n"));
    let output = feed(piped(redirected("exec 2>&- <&-", &[])), 100);
    assert_failed("closed standard input and error", &output);
    assert!(output.stdout.is_empty());
}

fn piped(mut command: Command) -> Command {
    command.stdout(Stdio::piped());
    command
}

#[test]
fn what_cannot_be_read_is_a_failure() {
    let folder: OwnedFd = File::open(PathBuf::from("/")).unwrap().into();
    let output = command(&[]).stdin(folder).output().unwrap();
    assert_failed("a folder", &output);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(75), 0));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (size, options) in kinds() {
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let receiver: OwnedFd = listener.accept().unwrap().0.into();
        let child =
            command(options).stdin(receiver).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                mail::body(size)(&mut sender).unwrap();
                // Reset, instead of an end.
                let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&sender, sockopt::Linger, &linger).unwrap();
            });
            child.wait_with_output().unwrap()
        });
        assert_failed(&format!("a reset connection, {size} {options:?}"), &output);
        assert_eq!(output.status.code(), Some(75));
    }
}

#[test]
fn a_signal_in_the_middle_is_a_failure() {
    // Not SIGINT and SIGHUP, which a shell may have had ignored.
    for signal in [Signal::SIGTERM, Signal::SIGALRM, Signal::SIGUSR1, Signal::SIGKILL] {
        for (size, options) in kinds() {
            let mut child = start(options);
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let output = std::thread::scope(|scope| {
                scope.spawn(move || stdout.read_to_end(&mut Vec::new()).unwrap());
                mail::body(size)(&mut stdin).unwrap();
                kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
                // The end of the message comes after the signal.
                let output = child.wait_with_output().unwrap();
                drop(stdin);
                output
            });
            assert_failed(&format!("{signal}, {size} {options:?}"), &output);
        }
    }
}
