//! The process: its sockets, its signals, its configuration.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use testing::delivery::UID;
use testing::dovecot::server::wait_until;
use testing::filter;
use testing::next_hop::{Fault, NextHop, Step};
use testing::serve::Serve;

use super::{ALICE, CAROL, MAIL, Site, prepared, start};

#[test]
fn sigterm_ends_it_after_what_is_in_hand() {
    let Some(mut site) = Site::new() else { return };
    site.next.fail(Step::Dot, Fault::Delay(Duration::from_millis(800)));
    let mut client = site.client();
    let mut idle = site.client();
    client.command("MAIL FROM:<s@example.net>", 250).unwrap();
    client.command(&format!("RCPT TO:<{ALICE}>"), 250).unwrap();
    client.command("DATA", 354).unwrap();
    client.send_raw(&[MAIL, b".\r\n"].concat()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    site.serve.signal(Signal::SIGTERM);
    // What is not begun yet is put off.
    std::thread::sleep(Duration::from_millis(200));
    assert!(UnixStream::connect(site.door()).is_err(), "the socket is gone");
    idle.command("MAIL FROM:<s@example.net>", 421).unwrap();
    assert_eq!(client.reply().unwrap().code, 250);
    assert_eq!(site.serve.wait().code(), Some(0));
    assert_eq!(site.next.take().len(), 1);
    assert!(!site.host.path("doors/lmtp").exists() && !site.host.path("doors/mailseal-filter").exists());
    // One that was killed leaves its sockets, and the next takes their place.
    let mut killed = start(&site.host);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    assert!(site.host.path("doors/lmtp").exists());
    site.serve = start(&site.host);
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
}

#[test]
fn sighup_has_it_read_its_configuration_again() {
    let Some(site) = Site::new() else { return };
    let file = site.host.path("mailseal.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let reload = |text: &str, said: &str| {
        std::fs::write(&file, text).unwrap();
        site.serve.signal(Signal::SIGHUP);
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !said.is_empty() && !site.serve.said().contains(said) {
            assert!(std::time::Instant::now() < end, "{}", site.serve.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let outcome = |expected: &str| {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            assert_eq!(site.codes(&[ALICE], MAIL), [250]);
            if site.log().lines().last().unwrap().contains(&format!("outcome={expected} ")) {
                return;
            }
            assert!(std::time::Instant::now() < end, "{}", site.log());
        }
    };
    outcome("sealed");
    reload(&format!("{before}[[users]]\nmatch = [\"*\"]\nmode = \"off\"\n"), "");
    outcome("unchanged");
    reload(&before, "");
    outcome("sealed");
    reload("[keys]\nnonsense = 1\n", "unknown field");
    outcome("sealed");
    reload(&before.replace("doors/lmtp", "doors/other"), "restart it");
    outcome("sealed");
}

#[test]
fn a_configuration_that_cannot_be_meant_ends_it_at_once() {
    let Some(host) = prepared("") else { return };
    let whole = std::fs::read_to_string(host.path("mailseal.toml")).unwrap();
    let ends = |text: &str, status: i32, said: &str| {
        host.write("other.toml", text.as_bytes());
        let errors = host.path("errors");
        let _ = std::fs::remove_file(&errors);
        let mut serve = Serve::spawn(&host.path("other.toml"), UID, &errors, &[]);
        assert_eq!(serve.wait().code(), Some(status), "{text}\n{}", serve.said());
        assert!(serve.said().contains(said), "{}", serve.said());
    };
    let lmtp = host.text("lmtp = \"DIR/doors/lmtp\"");
    let sieve = host.text("sieve = \"DIR/doors/mailseal-filter\"");
    ends(&whole.replace(&lmtp, "lmtp = \"10.1.2.3:24\""), 78, "`from`");
    ends(&whole.replace(&lmtp, "lmtp = \"somewhere\""), 78, "line ");
    ends(&whole.replace(&lmtp, "").replace(&sieve, ""), 75, "names no door");
    ends(&whole.replace(&lmtp, "lmtp = \"/nowhere/lmtp\""), 75, "cannot listen on /nowhere/lmtp");
    ends(
        &whole.replace("[log]", "homes = []\n[log]").replace("/keys/%{user}.pgp", "/keys/%{home}.pgp"),
        78,
        "users' homes",
    );
    ends(&format!("{whole}metrics = \"0.0.0.0:9999\"\n"), 78, "`metrics`");
    ends(&format!("{whole}user = \"root\"\n"), 75, "does not run as root");
    let running = start(&host);
    ends(&whole, 75, "cannot listen on");
    drop(running);
}

/// Debian's `mail` and its user id: a user that every machine has.
const OWN_USER: (&str, u32) = ("mail", 8);

#[test]
fn started_by_root_it_opens_no_script_socket_that_would_stay_behind() {
    let (name, id) = OWN_USER;
    let Some(host) = prepared(&format!("user = \"{name}\"\n")) else { return };
    host.own("log", id, id);
    let socket = host.path("doors/mailseal-filter");
    let begin =
        || Serve::spawn(&host.path("mailseal.toml"), 0, &host.path("said"), &["--sandbox", "require"]);
    let mut serve = begin();
    assert_eq!(serve.wait().code(), Some(75), "{}", serve.said());
    assert!(serve.said().contains("its folder is not the user mail's"), "{}", serve.said());
    assert!(!socket.exists());
    host.own("doors", id, id);
    let mut serve = begin();
    wait_until("it to listen", || {
        assert!(!serve.has_ended(), "{}", serve.said());
        UnixStream::connect(&socket).is_ok()
    });
    serve.signal(Signal::SIGTERM);
    assert_eq!(serve.wait().code(), Some(0), "{}", serve.said());
    assert!(!socket.exists());
}

#[test]
fn a_register_that_was_restored_is_read_and_a_store_that_was_mounted_since_is_named() {
    let Some(mut site) = Site::new() else { return };
    // What lies beside the configuration is read in any case.
    let whole = std::fs::read_to_string(site.host.path("mailseal.toml")).unwrap();
    let known = |path: &str| format!("known = \"{}\"", site.host.path(path).display());
    site.host.write("etc/mailseal.toml", whole.replace(&known("known"), &known("var/known")).as_bytes());
    site.host.folder("var");
    std::fs::rename(site.host.path("known"), site.host.path("var/known")).unwrap();
    site.serve.signal(Signal::SIGTERM);
    site.serve.wait();
    let (config, said) = (site.host.path("etc/mailseal.toml"), site.host.path("said"));
    site.serve = Serve::start(&config, UID, &site.door(), &said);
    let replace = |folder: &str| {
        let (path, away) = (site.host.path(folder), site.host.path("away"));
        std::fs::rename(&path, &away).unwrap();
        assert!(Command::new("cp").arg("-a").args([&away, &path]).status().unwrap().success());
        std::fs::remove_dir_all(&away).unwrap();
    };
    assert_eq!(site.codes(&[CAROL], MAIL), [250]);
    replace("var/known");
    assert_eq!(site.codes(&[CAROL], MAIL), [250], "{}", site.serve.said());
    let said =
        "keys cannot be read; where it was mounted or replaced after the start, restart mailseal serve";
    assert!(!site.serve.said().contains(said), "{}", site.serve.said());
    replace("keys");
    for user in [ALICE, CAROL] {
        let refused = site.deliver(&[user], MAIL).unwrap_err().to_string();
        assert!(refused.starts_with("451 "), "{refused}");
    }
    assert_eq!(site.serve.said().matches(said).count(), 1, "{}", site.serve.said());
}

#[test]
fn it_says_how_it_is_and_what_it_counts() {
    let metrics = testing::dovecot::site::free_port(std::net::Ipv4Addr::LOCALHOST);
    let Some(site) = Site::with(&format!("unchanged = true\nmetrics = \"127.0.0.1:{metrics}\"\n")) else {
        return;
    };
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = ask("/metrics");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    // Prometheus 3 takes no answer without it.
    assert!(text.contains("\r\nContent-Type: text/plain; version=0.0.4\r\n"), "{text}");
    let line = "mailseal_serve_messages_total{door=\"lmtp\",outcome=\"sealed\",reason=\"-\"} 1\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("mailseal_serve_seconds_count{door=\"lmtp\"} 1\n"), "{text}");
    assert!(text.contains("mailseal_serve_register_complete{} 1\n"), "{text}");
    let scan =
        text.lines().find_map(|line| line.strip_prefix("mailseal_serve_last_scan_timestamp_seconds{} "));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 3600..=now).contains(&scan.unwrap().parse().unwrap()), "{text}");
    std::fs::remove_file(site.host.path("keys/.mailseal")).unwrap();
    let text = ask("/metrics");
    assert!(text.contains("mailseal_serve_register_complete{} 0\n"), "{text}");
    assert!(ask("/").starts_with("HTTP/1.1 404 "));

    let check = || {
        let mut mailseal = Command::new(testing::program("mailseal"));
        mailseal.arg("--config").arg(site.host.path("mailseal.toml")).args(["serve", "--check"]);
        filter::run(&mut mailseal, b"", 1)
    };
    let run = check();
    assert_eq!(run.status, Some(0), "{}{}", String::from_utf8_lossy(&run.stdout), run.stderr);
    std::fs::remove_file(site.host.path("next")).unwrap();
    let run = check();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(run.status, Some(1), "{said}");
    assert!(said.contains("next ") && said.contains("No such file"), "{said}");
}

#[test]
fn it_takes_sockets_that_were_opened_for_it() {
    if !std::path::Path::new("/usr/bin/systemd-socket-activate").exists() {
        testing::skip::unless_ci("systemd-socket-activate is not there");
        return;
    }
    let Some(host) = prepared("unchanged = true\n") else { return };
    let next = NextHop::listen(&host.path("next"));
    std::fs::set_permissions(host.path("next"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "TERM",
        &format!("--reuid={UID}"),
        &format!("--regid={UID}"),
        "--clear-groups",
    ]);
    command.args(["systemd-socket-activate", "--fdname=lmtp", "-l"]).arg(host.path("doors/lmtp"));
    command.arg(testing::program("mailseal")).arg("--config").arg(host.path("mailseal.toml"));
    let mut child = command.args(["serve", "--sandbox", "require"]).spawn().unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let client = loop {
        match testing::dovecot::lmtp::Lmtp::connect_unix(&host.path("doors/lmtp")) {
            Ok(client) => break Ok(client),
            Err(error) if std::time::Instant::now() > end => break Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let replies = client.and_then(|mut client| client.deliver("s@example.net", &[ALICE], MAIL));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(replies.unwrap()[0].code, 250);
    assert_eq!(next.take().len(), 1);
}
