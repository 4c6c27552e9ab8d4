//! Clients that are wrong, hostile or slow.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testing::alone;
use testing::dovecot::lmtp::Lmtp;

use super::{ALICE, BOB, CANARY, MAIL, Site};

/// How many connections a door takes at once, where the configuration does not say.
const CONNECTIONS: usize = 64;

/// Says `text` and closes its side: all that is answered.
fn say(site: &Site, text: &[u8]) -> String {
    let mut stream = UnixStream::connect(site.door()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Who is not listened to any more has said enough.
            let _ = writer.write_all(text);
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        let mut said = Vec::new();
        // What was said before the connection broke.
        let _ = stream.read_to_end(&mut said);
        String::from_utf8(said).unwrap()
    })
}

fn codes(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.get(3..4) == Some(" ")).map(|line| &line[..3]).collect()
}

#[test]
fn what_is_out_of_order_or_no_command_is_answered() {
    let Some(site) = Site::new() else { return };
    for (text, expected) in [
        (&b"QUIT\r\n"[..], &["220", "221"][..]),
        (b"MAIL FROM:<a@b.org>\r\nQUIT\r\n", &["220", "503", "221"]),
        (b"LHLO x\r\nRCPT TO:<a@b.org>\r\nDATA\r\nQUIT\r\n", &["220", "250", "503", "503", "221"]),
        (
            b"LHLO x\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nDATA\r\nQUIT\r\n",
            &["220", "250", "250", "503", "503", "221"],
        ),
        (b"LHLO x\nNOOP\r\n", &["220", "500", "250"]),
        (b"LHLO x\r\nNO\0OP\r\n", &["220", "250", "500"]),
        (b"\xff\xfe\r\nHELO x\r\n", &["220", "500", "250"]),
        (b"LHLO x\r\nMAIL FROM:<s@example.net>\r\nRCPT TO:<no address>\r\n", &["220", "250", "250", "501"]),
        (b"LHLO x\r\nMAIL FROM:<s@example.net>\r\nRCPT TO:<>\r\n", &["220", "250", "250", "451"]),
    ] {
        let said = say(&site, text);
        assert_eq!(codes(&said), expected, "{}: {said}", String::from_utf8_lossy(text));
    }
}

#[test]
fn commands_may_come_all_at_once() {
    let Some(site) = Site::new() else { return };
    let one = format!(
        "MAIL FROM:<s@example.net>\r\nRCPT TO:<{ALICE}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n{}.\r\n",
        String::from_utf8_lossy(MAIL)
    );
    let said = say(&site, format!("LHLO x\r\n{one}{one}QUIT\r\n").as_bytes());
    let each = ["250", "250", "250", "354", "250", "250"];
    assert_eq!(codes(&said), [&["220", "250"][..], &each, &each, &["221"]].concat(), "{said}");
    assert_eq!(site.next.take().len(), 4);
    site.assert_nothing_clear("pipelined");
}

#[test]
fn nonsense_is_bounded() {
    let Some(site) = Site::new() else { return };
    let said =
        say(&site, &[b"LHLO x\r\n".as_slice(), &vec![b'x'; 900_000], b"\r\nNOOP\r\nQUIT\r\n"].concat());
    assert_eq!(codes(&said), ["220", "250", "500", "250", "221"], "{said}");
    let said = say(&site, &vec![b'x'; 3_000_000]);
    assert!(codes(&said).len() <= 2, "{said}");
    // The last answer may be lost where the client still speaks.
    let said = say(&site, &b"NONSENSE\r\n".repeat(10_000));
    assert!(codes(&said).len() < 30, "{said}");
    assert!(site.serve.peak_memory() < 40_000, "{} kB", site.serve.peak_memory());
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
}

#[test]
fn a_client_that_never_reads_is_bounded() {
    let Some(site) = Site::new() else { return };
    let before = site.serve.peak_memory();
    let mut stream = UnixStream::connect(site.door()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // Each burst ends amid a command.
    let burst = [b"a\r\n".as_slice(), &b"EHLO a\r\n".repeat(1000), b"EHLO "].concat();
    stream.write_all(b"EHLO ").unwrap();
    let taken = (0..500).take_while(|_| stream.write_all(&burst).is_ok()).count();
    assert!(taken < 500, "it is listened to without end");
    assert!(site.serve.peak_memory() < before + 4 * 1024, "{before} kB, {} kB", site.serve.peak_memory());
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
}

#[test]
fn a_message_that_another_program_could_take_for_two_is_refused() {
    let Some(site) = Site::new() else { return };
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r"] {
        let smuggled = format!(
            "LHLO x\r\nMAIL FROM:<s@example.net>\r\nRCPT TO:<{ALICE}>\r\nRCPT TO:<carol@example.org>\r\nDATA\r\n\
             Subject: one\r\n\r\n{CANARY}{end}MAIL FROM:<smuggler@example.net>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n\
             Subject: two\r\n\r\nx\r\n.\r\nQUIT\r\n"
        );
        let said = say(&site, smuggled.as_bytes());
        assert_eq!(codes(&said), ["220", "250", "250", "250", "250", "354", "550", "550"], "{end:?}: {said}");
        assert!(site.next.take().is_empty(), "{end:?}");
    }
}

#[test]
fn a_client_that_goes_leaves_nothing_with_the_next_hop() {
    let Some(site) = Site::new() else { return };
    let begin = format!("LHLO x\r\nMAIL FROM:<s@example.net>\r\nRCPT TO:<{ALICE}>\r\nRCPT TO:<{BOB}>\r\n");
    let long = "a line of a message that does not come to its end\r\n".repeat(100_000);
    for rest in ["", "DATA\r\n", "DATA\r\nSubject: x\r\n\r\nthe end is\r\n.", &format!("DATA\r\n{long}")] {
        let said = say(&site, format!("{begin}{rest}").as_bytes());
        assert!(codes(&said).iter().filter(|code| **code == "250").count() <= 4, "{said}");
        assert!(site.next.take().is_empty(), "{} bytes", rest.len());
    }
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
}

#[test]
fn whoever_expects_one_answer_has_one_for_all_recipients() {
    let Some(site) = Site::new() else { return };
    let text = format!(
        "EHLO x\r\nMAIL FROM:<s@example.net>\r\nRCPT TO:<{ALICE}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\nSubject: x\r\n\r\ny\r\n.\r\nQUIT\r\n"
    );
    let answered = |expected: &str| {
        let said = say(&site, text.as_bytes());
        assert_eq!(codes(&said), ["220", "250", "250", "250", "250", "354", expected, "221"], "{said}");
    };
    answered("250");
    assert_eq!(site.next.take().len(), 2);
    // It would come again and again to the other.
    site.next.refuse(&format!("<{BOB}>"), "552 5.2.2 quota\r\n");
    answered("552");
    assert_eq!(site.next.take().len(), 1);
    site.next.refuse(&format!("<{ALICE}>"), "452 4.2.2 not now\r\n");
    answered("451");
    assert!(site.next.take().is_empty());
}

#[test]
fn too_many_connections_wait_and_none_is_lost() {
    let Some(site) = Site::with("unchanged = true\nconnections = 8\n") else { return };
    // Those that say nothing hold their places until they have to go.
    let silent: Vec<UnixStream> = (0..4).map(|_| UnixStream::connect(site.door()).unwrap()).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..100).map(|_| scope.spawn(|| site.codes(&[ALICE], MAIL))).collect();
        clients.into_iter().for_each(|client| assert_eq!(client.join().unwrap(), [250]));
    });
    println!("MEASURED: 100 clients at once, 4 places free: {:.2} s", start.elapsed().as_secs_f64());
    drop(silent);
    assert_eq!(site.next.take().len(), 100);
    site.assert_nothing_clear("many clients");
}

/// As many as there may be at once are inside, and the others wait with the system until there is room.
#[test]
fn five_hundred_connections_at_once_are_all_answered() {
    // For their descriptors.
    if !alone::is_alone() {
        return alone::run("serve::client::five_hundred_connections_at_once_are_all_answered");
    }
    let Some(site) = Site::new() else { return };
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
    site.next.take();
    let (threads, before) = (site.serve.threads(), site.serve.peak_memory());
    let mut waiting: Vec<UnixStream> = (0..500).map(|_| UnixStream::connect(site.door()).unwrap()).collect();
    let inside: Vec<Lmtp> = waiting.drain(..CONNECTIONS).map(|stream| Lmtp::on(stream).unwrap()).collect();
    let most = threads + CONNECTIONS as u64;
    assert!(site.serve.threads() <= most, "{} threads, {most} at most", site.serve.threads());
    let deliver = |mut client: Lmtp| {
        let replies = client.deliver("s@example.net", &[ALICE], MAIL).unwrap();
        assert_eq!(replies[0].code, 250, "{replies:?}");
    };
    std::thread::scope(|scope| {
        inside.into_iter().for_each(|client| _ = scope.spawn(move || deliver(client)));
        waiting.into_iter().for_each(|stream| _ = scope.spawn(move || deliver(Lmtp::on(stream).unwrap())));
    });
    let after = site.serve.peak_memory();
    println!("MEASURED: {before} kB before, {after} kB after 500 connections at once");
    assert_eq!(site.next.take().len(), 500);
    site.assert_nothing_clear("five hundred clients");
    // So much is being sealed at once, at most.
    assert!(after < before + CONNECTIONS as u64 * 1024, "{before} kB before, {after} kB after");
}

#[test]
fn many_keys_are_served_at_once_and_more_than_enough_are_put_off() {
    let Some(site) = Site::new() else { return };
    let keys = ["curve25519", "rsa3072", "two-subkeys", "v6"];
    let users: Vec<String> = (0..60).map(|at| format!("user{at}@example.org")).collect();
    for (at, user) in users.iter().enumerate() {
        let certificate = match keys.get(at) {
            Some(key) => std::fs::read(testing::fixtures::cert(key)).unwrap(),
            None => testing::made::public(&testing::made::cert(&format!("User <{user}>"))),
        };
        site.host.write(&format!("keys/{user}.pgp"), &certificate);
    }
    let mut client = site.client();
    client.command("MAIL FROM:<s@example.net>", 250).unwrap();
    for (at, user) in users.iter().enumerate() {
        client.command(&format!("RCPT TO:<{user}>"), if at < 50 { 250 } else { 452 }).unwrap();
    }
    client.command("DATA", 354).unwrap();
    client.send_raw(&[MAIL, b".\r\n"].concat()).unwrap();
    for user in &users[..50] {
        assert_eq!(client.reply().unwrap().code, 250, "{user}");
    }
    let taken = site.next.take();
    assert_eq!(taken.len(), 50);
    for (user, key) in users.iter().zip(keys) {
        let taken = taken.iter().find(|taken| taken.recipient.contains(user)).unwrap();
        super::assert_sealed(taken, key, MAIL);
    }
    site.assert_nothing_clear("many keys");
}
