//! The script socket, as Dovecot speaks to it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testing::decrypt::decrypt;

use super::{ALICE, CANARY, CAROL, MAIL, Site};

/// What is answered to `request` and `mail`.
fn ask(site: &Site, request: &str, mail: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(site.host.path("doors/mailseal-filter")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(&[request.as_bytes(), mail].concat());
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    })
}

fn request(site: &Site, arguments: &[&str]) -> String {
    let config = site.host.path("mailseal.toml");
    let arguments: String = arguments.iter().map(|argument| format!("{argument}\n")).collect();
    format!(
        "VERSION\tscript\t4\t0\nenv_USER={ALICE}\nenv_HOME=/nowhere\nenv_SENDER=s@example.net\n-\n--config\n{}\n{arguments}\n",
        config.display()
    )
}

#[test]
fn a_message_comes_back_as_the_filter_gives_it() {
    let Some(site) = Site::new() else { return };
    let answer = ask(&site, &request(&site, &[]), MAIL);
    let sealed = answer.strip_suffix(b"+\n").unwrap();
    assert_eq!(decrypt("curve25519", sealed).stdout, MAIL);
    let again = ask(&site, &request(&site, &[]), sealed);
    assert_eq!(again, [sealed, b"+\n"].concat(), "sealed mail passes");
    assert_eq!(ask(&site, &request(&site, &["--unchanged", "fail"]), sealed), b"-\n");
    assert_eq!(ask(&site, &request(&site, &["--user", CAROL]), MAIL), [MAIL, b"+\n"].concat());
    assert_eq!(ask(&site, &request(&site, &["--user", CAROL, "--unchanged=fail"]), MAIL), b"-\n");
    assert_eq!(ask(&site, &request(&site, &["--off"]), MAIL), [MAIL, b"+\n"].concat());
    let answer = ask(&site, &request(&site, &["--deadline", "18446744073709551615"]), MAIL);
    assert!(answer.ends_with(b"+\n"));
    let key = site.host.path(&format!("keys/{ALICE}.pgp"));
    let answer = ask(&site, &request(&site, &["--user", CAROL, "--key", key.to_str().unwrap()]), MAIL);
    assert_eq!(decrypt("curve25519", answer.strip_suffix(b"+\n").unwrap()).stdout, MAIL);
    let log = site.log();
    assert_eq!(
        log.lines().filter(|line| line.contains(" door=sieve msgid=<one@example.net>")).count(),
        8,
        "{log}"
    );
}

#[test]
fn every_doubt_is_a_no() {
    let Some(site) = Site::new() else { return };
    let whole = request(&site, &[]);
    let nobody = whole.replace(&format!("env_USER={ALICE}\n"), "");
    for (what, request) in [
        ("another protocol", whole.replace("script\t4", "script\t5")),
        ("no protocol", "GET / HTTP/1.1\r\n\r\n".into()),
        ("an option that there is not", request(&site, &["--nonsense"])),
        ("another configuration", whole.replace("mailseal.toml", "other.toml")),
        ("nobody", nobody),
        ("no user name", request(&site, &["--user", "../x"])),
        ("no such key file", request(&site, &["--key", "/nowhere/key.pgp"])),
    ] {
        let answer = ask(&site, &request, MAIL);
        assert!(!String::from_utf8_lossy(&answer).contains(CANARY), "{what}");
        assert!(answer.ends_with(b"-\n"), "{what}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(ask(&site, &whole, b""), b"-\n", "no message");
    assert_eq!(ask(&site, &whole[..whole.len() / 2], b""), b"-\n", "half a request");
}

#[test]
fn many_at_once_are_all_answered() {
    let Some(site) = Site::new() else { return };
    let request = request(&site, &[]);
    let long = b"canary-7d0b41 and the rest of a line of common length.\r\n".repeat(30_000);
    let long = [b"Subject: long\r\n\r\n".as_slice(), &long].concat();
    std::thread::scope(|scope| {
        for at in 0..200 {
            let (site, request, long) = (&site, &request, &long);
            scope.spawn(move || {
                let mail = if at % 10 == 0 { long } else { MAIL };
                let answer = ask(site, request, mail);
                assert!(answer.ends_with(b"+\n") && answer.len() > 500);
            });
        }
    });
}
