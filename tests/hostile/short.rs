//! Reads and writes that move one byte, and every second one interrupted: the outcome is the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use testing::mailbox::{Mailbox, plain_mails};
use testing::{filter, fixtures, oracle, skip};

/// Loaded before libc: what a kernel may do, and seldom does.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/types.h>
#include <sys/uio.h>
static __thread unsigned turn;
static int interrupted(void) { if (turn++ & 1) { errno = EINTR; return 1; } return 0; }
static size_t least(size_t count) { return count > 1 ? 1 : count; }
#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
ssize_t read(int fd, void *buffer, size_t count) { REAL(read); return interrupted() ? -1 : real(fd, buffer, least(count)); }
ssize_t write(int fd, const void *buffer, size_t count) { REAL(write); return interrupted() ? -1 : real(fd, buffer, least(count)); }
ssize_t readv(int fd, const struct iovec *pieces, int count) {
  for (int at = 0; at < count; at++) if (pieces[at].iov_len) return read(fd, pieces[at].iov_base, pieces[at].iov_len);
  return 0;
}
ssize_t writev(int fd, const struct iovec *pieces, int count) {
  for (int at = 0; at < count; at++) if (pieces[at].iov_len) return write(fd, pieces[at].iov_base, pieces[at].iov_len);
  return 0;
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
  REAL(copy_file_range); return real(in, from, out, to, least(count), flags);
}
ssize_t sendfile(int out, int in, off_t *from, size_t count);
ssize_t sendfile64(int out, int in, off64_t *from, size_t count) {
  static ssize_t (*real)(int, int, off64_t *, size_t);
  if (!real) real = (ssize_t (*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64");
  return real(out, in, from, least(count));
}
ssize_t splice(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
  static ssize_t (*real)(int, off64_t *, int, off64_t *, size_t, unsigned);
  if (!real) real = (ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned))dlsym(RTLD_NEXT, "splice");
  return real(in, from, out, to, least(count), flags);
}
"#;

/// The shim as a library in `dir`.
fn shim(dir: &Path) -> Option<PathBuf> {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    let Ok(output) = cc.output() else {
        skip::unless_ci("there is no C compiler");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(library)
}

#[test]
fn deliveries_in_single_bytes_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = shim(dir.path()) else { return };
    let run = |mail: &[u8]| {
        let mut command = Command::new(testing::program("mailseal-filter"));
        command.args(["--config", "/dev/null", "--log", "none", "--key"]).arg(oracle::key("curve25519"));
        filter::run(command.env("LD_PRELOAD", &library), mail, mail.len())
    };
    for mail in plain_mails().into_iter().filter(|mail| mail.bytes.len() < 300_000) {
        let run = run(&mail.bytes);
        oracle::check_run(&mail.bytes, &run, "curve25519", None)
            .unwrap_or_else(|why| panic!("{}: {why}", mail.name));
    }
    for mail in fixtures::mails("encrypted") {
        assert!(oracle::is_unchanged(&mail.bytes, &run(&mail.bytes)), "{}", mail.name);
    }
}

#[test]
fn a_rewrite_in_single_bytes_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = shim(dir.path()) else { return };
    let mailbox = Mailbox::small(6);
    let run = testing::mailbox::ended(mailbox.command(&[]).env("LD_PRELOAD", &library).spawn().unwrap());
    assert_eq!(run.status, Some(0), "{run:?}");
    mailbox.assert_sealed("in single bytes");
}
