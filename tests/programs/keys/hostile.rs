//! Messages that others would have enrolled, confirmed, believed or choked on, given to `mailseal keys receive` with the rights of
//! the user in whose folder they lie.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use data_encoding::BASE64_MIME;
use sequoia_openpgp::Cert;
use sequoia_openpgp::types::HashAlgorithm;

use super::{Host, Run, UID, made};
use testing::{delivery::GID, filter, openers};

/// How many messages.
const MESSAGES: usize = 500;

/// How long each may take at most, whatever else the machine does. The program's own deadline is shorter.
const LONGEST: Duration = Duration::from_secs(60);

/// How much an answer may say beside the message that it quotes, in bytes.
const ANSWER: usize = 16 * 1024;

/// The number of those that are messages in messages.
const NESTED: usize = 19;

/// The bound of the messages of a user's own and of others' that are answered in a day.
const A_DAY: usize = 50;

const STATE: &str = "home/alice/.local/state/mailseal/pending";

const KEYS: &str = "known = \"DIR/known\"\nsources = [\"file:DIR/keys/%{user}.pgp\", \"dir:%{home}/.config/mailseal\"]\n\
                    address = \"%{user}@example.org\"\nreceive = \"mailbox\"\nreceive-without-recovery = true\n";

/// The same numbers in each run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A user with a key that waits for its code, and what an attacker would have.
struct Attack {
    host: Host,
    alice: Cert,
    mallory: Cert,
    /// The right code.
    code: String,
    /// An answer that alice got.
    answer: Vec<u8>,
    /// Alice's state while the code is awaited.
    armed: Vec<u8>,
}

/// A message, and how it came into the folder.
type Sent = (&'static str, Vec<u8>);

impl Attack {
    fn new() -> Option<Self> {
        let host = Host::new()?;
        host.write("mailseal.toml", host.text(&format!("[keys]\n{KEYS}[log]\nto = \"none\"\n")).as_bytes());
        host.folder("keys");
        host.folder("home/bob");
        host.write("home/bob/mail", b"bob's");
        testing::install("mailseal", host.path("mailseal"));
        let [alice, mallory] =
            ["Alice", "Mallory"].map(|name| made::cert(&format!("{name} <alice@example.org>")));
        let mut attack =
            Self { host, alice, mallory, code: String::new(), answer: Vec::new(), armed: Vec::new() };
        let offered = attack.receive("append", &mail("my key", &armored(&attack.alice)));
        assert_eq!(offered.status, Some(0), "{}", offered.stderr);
        let test = attack.run(&["--cause", "append", "--test"], b"");
        assert_eq!(test.status, Some(0), "{}", test.stderr);
        attack.code = code_in(&test.stdout, &attack.alice);
        attack.answer = offered.stdout;
        attack.armed = fs::read(attack.host.path(STATE).join("state.json")).unwrap();
        Some(attack)
    }

    fn run(&self, options: &[&str], message: &[u8]) -> Run {
        let mut command = Command::new(self.host.path("mailseal"));
        command.env_clear().current_dir("/").uid(UID).gid(GID);
        command
            .arg("--config")
            .arg(self.host.path("mailseal.toml"))
            .args(["keys", "receive", "--user", "alice"]);
        command.arg("--home").arg(self.host.path("home/alice")).args(options);
        filter::run(&mut command, message, 1 << 20)
    }

    fn receive(&self, cause: &str, message: &[u8]) -> Run {
        self.run(&["--cause", cause], message)
    }

    /// Has alice wait for the code again, with nothing answered on this day.
    fn arm(&self) {
        let file = self.host.path(STATE).join("state.json");
        fs::write(file, &self.armed).unwrap();
    }

    /// What waits, as far as it says what was confirmed.
    fn stage(&self) -> Option<String> {
        let text = fs::read(self.host.path(STATE).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(state["stop"].is_null() || !state["stop"]["proof"].is_null(), "{state}");
        let stage = state["pending"].get("stage")?;
        Some(stage.as_object().map_or_else(|| stage.to_string(), |it| it.keys().next().unwrap().clone()))
    }

    /// One of the messages.
    fn message(&self, number: usize, random: &mut Random) -> Sent {
        let cause = random.pick(&["append", "copy"]);
        let wrong = format!("code-{}", "y".repeat(26));
        let stranger = || made::cert("bob@example.org");
        match number % 25 {
            // Keys that are not to be had.
            0 => (cause, mail("key", &secret(&self.alice))),
            1 => (cause, attached("application/pgp-keys", "key.asc", &made::secret(&self.mallory))),
            2 => (cause, attached("application/x-pkcs12", "key.p12", &random.bytes(4000))),
            3 => (cause, mail("key", &armored(&stranger()))),
            4 => (
                cause,
                attached(
                    "application/pgp-keys",
                    "keys.pgp",
                    &made::public(&self.mallory).repeat(5_000_000 / 500),
                ),
            ),
            5 => (cause, mail("keys", &armored(&self.mallory).repeat(random.below(60) + 17))),
            6 => (cause, mail("cut off", &cut(&armored(&self.alice), random))),
            7 => (cause, mail("damaged", &damaged(&armored(&self.alice), random))),
            8 => (
                cause,
                attached(
                    "application/pgp-keys",
                    "key.asc",
                    &damaged_bytes(&made::public(&self.alice), random),
                ),
            ),
            // Codes: wrong ones, and the right one in mail that came in.
            9 => (cause, mail(&wrong, &format!("{wrong}\n").repeat(random.below(200)))),
            10 => (cause, delivered(&mail(&self.code, &self.code))),
            11 => (cause, delivered(&mail("x", &format!("<p>{}</p>\n> {}", self.code, self.code)))),
            12 => {
                let fields = [
                    "return-path: <m@example.net>",
                    "RECEIVED:\r\n from m",
                    "Delivered-To: alice@example.org",
                ];
                (cause, [random.pick(&fields).as_bytes(), b"\r\n", &*mail(&self.code, "x")].concat())
            }
            13 => (cause, delivered(&mail("stop", "stop\n"))),
            // What was answered before, and what claims to be an answer.
            14 => (cause, self.answer.clone()),
            15 => (cause, [b"mailseal-answer : v1\r\n", &*mail("x", "your password, please")].concat()),
            16 => (cause, forwarded(&self.answer)),
            kind => (cause, self.hard_to_read(number, kind, random)),
        }
    }

    /// One of the messages that are hard to read.
    fn hard_to_read(&self, number: usize, kind: usize, random: &mut Random) -> Vec<u8> {
        match kind {
            17 => random.bytes(random_size(number)),
            18 => html(random, &armored(&made::cert("bob@example.org"))),
            NESTED => nested(random.below(30_000), random.below(2) == 0),
            20 => attachments(random.below(1500) + 1000),
            21 => huge_header(random),
            22 => encoded_words(&self.code, random),
            23 => control_characters(random),
            _ => broken_mime(random),
        }
    }
}

fn armored(cert: &Cert) -> String {
    String::from_utf8(made::armored(cert)).unwrap()
}

fn secret(cert: &Cert) -> String {
    let body = BASE64_MIME.encode(&made::secret(cert));
    format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{body}\n-----END PGP PRIVATE KEY BLOCK-----\n")
}

fn mail(subject: &str, text: &str) -> Vec<u8> {
    format!("From: alice@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: {subject}\r\n\r\n{text}\r\n")
        .into_bytes()
}

/// As a server stores what others have sent.
fn delivered(mail: &[u8]) -> Vec<u8> {
    [b"Received: from mallory by example.org; Fri, 27 Nov 2026 10:00:00 +0000\r\n", mail].concat()
}

fn attached(kind: &str, name: &str, content: &[u8]) -> Vec<u8> {
    let encoded = BASE64_MIME.encode(content);
    format!(
        "Subject: key\r\nMIME-Version: 1.0\r\nContent-Type: {kind}; name=\"{name}\"\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n"
    )
    .into_bytes()
}

fn forwarded(inner: &[u8]) -> Vec<u8> {
    [b"Subject: Fwd\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n", inner].concat()
}

fn cut(text: &str, random: &mut Random) -> String {
    text[..random.below(text.len())].to_owned()
}

fn damaged(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..5 {
        let at = random.below(bytes.len());
        bytes[at] = b"A=\n -z"[random.below(6)];
    }
    String::from_utf8(bytes).unwrap()
}

fn damaged_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.below(20) + 1 {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

/// Around the longest that is looked into, and short ones.
fn random_size(number: usize) -> usize {
    [0, 1, 77, 65_536, 1_048_575, 1_048_576, 1_048_577, 3_000_000][number / 25 % 8]
}

fn html(random: &mut Random, armor: &str) -> Vec<u8> {
    let deep = "<div><table><tr><td><!-- ".repeat(random.below(20_000));
    let text = format!(
        "<html>{deep}<script>{armor}</script><a href=\"javascript:code-\">&#x1b;&nbsp;stop</a>{armor}"
    );
    [b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n", text.as_bytes()].concat()
}

/// Messages in messages in messages, in the open or each behind an encoding.
fn nested(depth: usize, hidden: bool) -> Vec<u8> {
    let inner = "Content-Type: message/rfc822\r\n\r\n".repeat(depth);
    let encoded = BASE64_MIME.encode(inner.as_bytes());
    let text = if hidden { format!("Content-Transfer-Encoding: base64\r\n\r\n{encoded}") } else { inner };
    format!("Subject: x\r\nContent-Type: message/rfc822\r\n{text}\r\n").into_bytes()
}

fn attachments(count: usize) -> Vec<u8> {
    let part = "--b\r\nContent-Type: application/pgp-keys; name=\"k.asc\"\r\n\r\n-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n";
    let head = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    format!("{head}{}--b--\r\n", part.repeat(count)).into_bytes()
}

fn huge_header(random: &mut Random) -> Vec<u8> {
    let long = "x".repeat(random.below(900_000));
    let head = match random.below(4) {
        0 => format!("Subject: {long}\r\n"),
        1 => format!("Autocrypt: addr=alice@example.org; keydata={long}\r\n"),
        2 => "Autocrypt: addr=alice@example.org; keydata=mQ==\r\n".repeat(15_000),
        _ => format!("Message-ID: <{long}@x>\r\nSubject:\r\n {}\r\n", "y\r\n ".repeat(100_000)),
    };
    format!("{head}From: alice@example.org\r\n\r\nx\r\n").into_bytes()
}

/// The right code where only a reader who undoes encodings finds it, in mail that came in.
fn encoded_words(code: &str, random: &mut Random) -> Vec<u8> {
    let subject = match random.below(3) {
        0 => format!("=?utf-8?q?{}?=", code.bytes().map(|byte| format!("={byte:02X}")).collect::<String>()),
        1 => code
            .chars()
            .map(|c| format!("=?us-ascii?b?{}?=\r\n ", data_encoding::BASE64.encode(&[c as u8])))
            .collect(),
        _ => format!("=?utf-8?q?=0D=0AX: y=0D=0A=0D=0A{code}=1B[2J?= =?x?x?x?="),
    };
    delivered(&mail(&subject, "x"))
}

fn control_characters(random: &mut Random) -> Vec<u8> {
    let text = match random.below(4) {
        0 => "Subject: a\0b\r\nMessage-ID: <\0>\r\n\r\n\0\0stop\0".to_owned(),
        1 => "Subject: x\rMessage-ID: <a@b>\r\rstop\r".to_owned(),
        2 => "\u{feff}Subject: \u{202e}pots\r\n\r\n\u{1b}]0;x\u{7}\u{9b}2J".to_owned(),
        _ => "\r\n\r\n\r\n".to_owned(),
    };
    delivered(text.as_bytes())
}

fn broken_mime(random: &mut Random) -> Vec<u8> {
    let head = random.pick(&[
        "Content-Type: multipart/mixed; boundary=\"\"",
        "Content-Type: multipart/mixed",
        "Content-Type: multipart/mixed; boundary*0=a; boundary*1=b; boundary*99999999999999999999=c",
        "Content-Type: multipart/encrypted; boundary=b",
        "Content-Type: text/vcard; charset=x",
        "Content-Type: text/plain; charset=utf-7\r\nContent-Transfer-Encoding: x-uuencode",
        "Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: quoted-printable",
    ]);
    let line = random.pick(&[
        "--b\r\n",
        "--\r\n",
        "--b--\r\n",
        "KEY:https://example.net/key\r\n",
        "KEY;ENCODING=b:====\r\n",
        "begin 644 x\r\n",
        "=\r\n=FF=0",
    ]);
    format!("Subject: x\r\n{head}\r\n\r\n{}", line.repeat(random.below(20_000))).into_bytes()
}

/// The code in a test message that is sealed to `cert`.
fn code_in(message: &[u8], cert: &Cert) -> String {
    let message = std::str::from_utf8(message).unwrap();
    let armor = &message[message.find("-----BEGIN PGP MESSAGE").unwrap()..message.rfind("\r\n--").unwrap()];
    let text = String::from_utf8(openers::open(cert, armor.as_bytes()).unwrap()).unwrap();
    let at = text.find("code-").unwrap();
    text[at..at + "code-".len() + 26].to_owned()
}

/// All that lies below `folder` but in alice's state: what it is, whose, and what is in it.
fn tree(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(STATE) {
            continue;
        }
        let metadata = path.symlink_metadata().unwrap();
        let mut digest = HashAlgorithm::SHA256.context().unwrap().for_digest();
        if metadata.is_file() {
            digest.update(&fs::read(&path).unwrap());
        }
        let hash = data_encoding::HEXLOWER.encode(&digest.into_digest().unwrap());
        let whose = format!("{:o} {}:{} {hash}", metadata.mode(), metadata.uid(), metadata.gid());
        found.insert(path.display().to_string(), whose);
        if metadata.is_dir() {
            tree(&path, found);
        }
    }
}

#[test]
fn of_hostile_messages_nothing_but_the_owners_state_changes() {
    let Some(attack) = Attack::new() else { return };
    let everything = || {
        let mut found = BTreeMap::new();
        tree(&attack.host.path(""), &mut found);
        found
    };
    let (before, mut random) = (everything(), Random(0x23_5EA1));
    let (mut longest, mut statuses) = (Duration::ZERO, BTreeMap::new());
    for number in 0..MESSAGES {
        attack.arm();
        let (cause, message) = attack.message(number, &mut random);
        let begin = Instant::now();
        let run = attack.receive(cause, &message);
        longest = longest.max(begin.elapsed());
        let name =
            format!("message {number} (kind {}), {cause}: {:?} {}", number % 25, run.status, run.stderr);
        *statuses.entry(run.status).or_insert(0) += 1;
        assert!(begin.elapsed() < LONGEST, "{name}: {:?}", begin.elapsed());
        let said = run.stdout.len();
        match run.status {
            Some(0) => {
                assert!(said > message.len() && said <= message.len() + ANSWER, "{name}: {said} bytes")
            }
            // Left alone.
            Some(1) => assert_eq!(said, 0, "{name}"),
            // Ended by its bound of memory, and so left alone: messages in messages behind encodings alone may do that.
            None if number % 25 == NESTED => assert_eq!(said, 0, "{name}"),
            _ => panic!("{name}"),
        }
        assert!(run.stderr.len() < ANSWER && !run.stderr.contains('\u{1b}'), "{name}");
        let stage = attack.stage();
        assert!(matches!(stage.as_deref(), None | Some("New" | "Own")), "{name}: {stage:?}");
    }
    assert_eq!(everything(), before);
    assert!(!attack.host.path("home/alice/.config").exists(), "nothing is where deliveries look");

    // A day has its bound; and alice herself is not locked out.
    attack.arm();
    let answered = (0..2 * A_DAY).filter(|number| {
        let (cause, message) = attack.message(number % 4 + 9, &mut random);
        attack.receive(cause, &message).status == Some(0)
    });
    assert!(answered.count() <= A_DAY);
    attack.arm();
    let confirmed = attack.receive("append", &mail(&attack.code, ""));
    assert_eq!(
        (confirmed.status, attack.stage().as_deref()),
        (Some(0), Some("Time")),
        "{}",
        confirmed.stderr
    );
    println!("MEASURED: {MESSAGES} messages, the longest in {longest:?}, by exit status {statuses:?}");
}
