//! What a process can do inside the sandbox, and what not: each forbidden action is tried, inside and outside.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixDatagram,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use mailseal::error::Error;
use mailseal::system::sandbox::Sandbox;
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
    },
    unistd::{execv, getppid, pipe},
};
use testing::{alone, skip};

/// Every action that the sandbox is there to forbid; each is harmless.
fn forbidden(scratch: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let parent = getppid();
    vec![
        ("read a file", File::open("/etc/passwd").map(drop)),
        ("write a file", fs::write(scratch.join("new"), "x")),
        ("list a folder", fs::read_dir("/").map(drop)),
        ("remove a file", fs::remove_file(scratch.join("old"))),
        ("rename a file", fs::rename(scratch.join("here"), scratch.join("there"))),
        ("link a file", fs::hard_link(scratch.join("linked"), scratch.join("link"))),
        ("listen on TCP", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("open a UDP socket", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("open a local socket", UnixDatagram::unbound().map(drop)),
        ("start a process", Command::new("/bin/true").status().map(drop)),
        ("signal another process", kill(parent, None).map_err(Into::into)),
    ]
}

fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["old", "here", "linked"] {
        fs::write(scratch.path().join(name), "x").unwrap();
    }
    scratch
}

#[test]
fn outside_all_of_it_is_possible() {
    if !alone::is_alone() {
        return alone::run("sandbox::outside_all_of_it_is_possible");
    }
    let scratch = scratch();
    for (what, result) in forbidden(scratch.path()) {
        assert!(result.is_ok(), "{what}: {result:?}");
    }
}

#[test]
fn inside_nothing_of_it_is_possible() {
    if !alone::is_alone() {
        return alone::run("sandbox::inside_nothing_of_it_is_possible");
    }
    // A thread that was there before is inside as well.
    let (go, wait) = std::sync::mpsc::channel();
    let earlier = std::thread::spawn(move || {
        wait.recv().unwrap();
        File::open("/etc/passwd").map(drop)
    });
    let (mut reader, mut writer) =
        pipe().map(|(reader, writer)| (File::from(reader), File::from(writer))).unwrap();
    let scratch = std::mem::ManuallyDrop::new(scratch());
    if !enter() {
        return;
    }
    go.send(()).unwrap();
    assert_denied("read a file in an earlier thread", &earlier.join().unwrap());
    for (what, result) in forbidden(scratch.path()) {
        assert_denied(what, &result);
    }
    assert_denied("trace another process", &ptrace::attach(getppid()).map_err(Into::into));
    let exec = execv(c"/bin/true", &[c"true"]).map(drop).map_err(Into::into);
    assert_denied("become another program", &exec);
    assert_denied("enter another sandbox", &Sandbox::Require.enter().map_err(io::Error::other));

    // What a delivery still needs.
    writer.write_all(b"octets").unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "octets");
    assert_eq!(std::thread::spawn(|| vec![1u8; 10_000_000].len()).join().unwrap(), 10_000_000);
    assert!(SystemTime::now() > SystemTime::UNIX_EPOCH);
    sequoia_openpgp::crypto::random(&mut [0; 32]).unwrap();
}

/// A fault ends the process at once: one that cannot end would hold up its delivery.
#[test]
fn inside_a_process_can_still_crash() {
    if alone::is_alone() {
        if enter() {
            std::process::abort();
        }
        return;
    }
    let mut inside = alone::command("sandbox::inside_a_process_can_still_crash");
    let mut inside = inside.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = inside.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > Duration::from_secs(10) {
            inside.kill().unwrap();
            inside.wait().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if status.success() {
        return skip::unless_ci("this kernel has no sandbox");
    }
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
}

/// In as much address space as Dovecot leaves its services, and on a kernel that has it, all of the sandbox is there.
#[test]
fn a_delivery_is_sealed_inside_all_of_it_and_within_dovecots_memory() {
    if let Some(what) = mailseal::system::sandbox::missing().first() {
        return skip::unless_ci(what);
    }
    let mut filter = Command::new("sh");
    filter.args(["-c", "ulimit -v 262144 && exec \"$0\" \"$@\""]).arg(testing::program("mailseal-filter"));
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/certs/curve25519.pgp");
    filter.args(["--sandbox", "require", "--log", "none", "--key", key]);
    let mut filter = filter.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // A thread beside: the output begins before the input ends.
    let mut stdin = filter.stdin.take().unwrap();
    let mail = format!("Subject: x\n\n{}", "A line of the text.\n".repeat(100_000));
    let writer = std::thread::spawn(move || stdin.write_all(mail.as_bytes()));
    let output = filter.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("-----END PGP MESSAGE-----"));
}

#[test]
fn confined_work_has_the_named_folders_and_no_others() {
    let (allowed, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(other.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink(other.path().join("file"), allowed.path().join("link")).unwrap();
    let inside = || {
        fs::write(allowed.path().join("a"), "x").unwrap();
        fs::rename(allowed.path().join("a"), allowed.path().join("b")).unwrap();
        assert_denied("read elsewhere", &fs::read(other.path().join("file")).map(drop));
        assert_denied("write elsewhere", &fs::write(other.path().join("new"), "x"));
        assert_denied("read through a link", &fs::read(allowed.path().join("link")).map(drop));
        let moved = fs::rename(allowed.path().join("b"), other.path().join("b"));
        assert!(moved.is_err(), "moved out");
        let later = std::thread::scope(|scope| scope.spawn(|| fs::read(other.path().join("file"))).join());
        assert_denied("read elsewhere in a later thread", &later.unwrap().map(drop));
        fs::remove_file(allowed.path().join("b")).map_err(Error::Output)
    };
    if let Err(error) = Sandbox::Require.within(&[allowed.path(), Path::new("/nowhere")], inside) {
        return skip::unless_ci(&missing(&error));
    }
    // The thread that waited is as it was.
    assert_eq!(fs::read(other.path().join("file")).unwrap(), b"x");
}

/// Enters the whole sandbox, or says that this kernel has none.
fn enter() -> bool {
    match Sandbox::Require.enter() {
        Ok(()) => true,
        Err(error) => {
            skip::unless_ci(&missing(&error));
            false
        }
    }
}

fn missing(error: &Error) -> String {
    assert!(matches!(error, Error::Sandbox { .. }), "{error}");
    error.to_string()
}

fn assert_denied(what: &str, result: &io::Result<()>) {
    let error = result.as_ref().expect_err(what);
    let kind = error.kind();
    let wrapped = error.to_string().contains("not permitted");
    assert!(kind == io::ErrorKind::PermissionDenied || wrapped, "{what}: {error}");
}
