//! A live Dovecot: clients flag, expunge, move, append and fetch while the mailbox is sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use testing::dovecot::flavour::Flavour;
use testing::dovecot::imap::{Answer, Imap};
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::users::ALICE;
use testing::mailbox::{CERT, Ended, ended};
use testing::{openers, oracle};

/// What a client does again and again, with a source of random numbers below a limit.
type Work<'a> = dyn Fn(&mut Imap, &mut dyn FnMut(u32) -> u32) -> std::io::Result<()> + 'a;

/// Messages at the beginning of the short form, and of the long one.
const MESSAGES: u32 = 300;
const MANY_MESSAGES: u32 = 3000;

/// Below this number messages are expunged, below twice this number moved.
const SHARE: u32 = 5;

fn server() -> Option<Server> {
    Some(Setup::with(Flavour::V2_3, "mailseal.sieve")?.without_our_script().start())
}

fn run(server: &Server, options: &[&str]) -> Ended {
    let mut command = Command::new(testing::program("encrypt-maildir"));
    command.args(["--progress", "never", "--user", ALICE, "--key"]).arg(oracle::key(CERT));
    command.arg("--config").arg(server.path("mailseal.toml"));
    command.arg("--dovecot-config").arg(server.path("dovecot.conf"));
    command.args(options).arg(server.home(ALICE).join("Maildir"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command.spawn().unwrap())
}

pub fn mail(id: u32) -> String {
    let text = format!("The text of message {id}, which nobody but its owner is to read.\n").repeat(20);
    format!("From: a@example.net\nSubject: id {id};\n\n{text}")
}

pub fn id_in(header: &[u8]) -> Option<u32> {
    String::from_utf8_lossy(header).split_once("id ")?.1.split_once(';')?.0.parse().ok()
}

/// What the clients have done, and been told that they had.
#[derive(Default)]
struct Deeds {
    flagged: BTreeSet<u32>,
    expunge_tried: BTreeSet<u32>,
    expunged: BTreeSet<u32>,
    move_tried: BTreeSet<u32>,
    appended: BTreeSet<u32>,
    fetched: u64,
    refused: Vec<String>,
}

#[test]
fn clients_at_work_lose_nothing() {
    let Some(server) = server() else { return };
    live(&server, 0..MESSAGES, &|| run(&server, &["--json"]));
}

#[test]
#[ignore = "minutes: ten times the messages"]
fn clients_at_work_on_a_large_mailbox_lose_nothing() {
    let Some(server) = server() else { return };
    live(&server, 0..MANY_MESSAGES, &|| run(&server, &["--json"]));
}

/// What a run amid clients has come to.
pub struct Races {
    /// Flags that were set and are gone.
    pub unflagged: usize,
    /// Messages that were expunged, or moved, and are there again.
    pub resurrected: usize,
    /// Seconds that the run took.
    pub time: Duration,
}

/// Appends messages with these numbers to those with lower ones, and lets clients work on the mailbox while `run` seals it, and again when they have ended; nothing is
/// lost, nothing is there twice.
pub fn live(server: &Server, appended: std::ops::Range<u32>, run: &dyn Fn() -> Ended) -> Races {
    let messages = appended.end;
    let mut imap = server.imap(ALICE);
    for id in appended {
        imap.append("INBOX", "\\Seen", mail(id).as_bytes()).unwrap();
    }
    imap.command("CREATE Moved").unwrap();
    let validity = |imap: &mut Imap| {
        let answers = imap.command("STATUS INBOX (UIDVALIDITY)").unwrap();
        answers.iter().find_map(|answer| answer.number("UIDVALIDITY")).unwrap()
    };
    let first_validity = validity(&mut imap);
    drop(imap);
    let (stop, deeds, next) =
        (AtomicBool::new(false), Mutex::new(Deeds::default()), AtomicU32::new(messages));
    let expunges = |id: u32| id < messages / SHARE;
    let moves = |id: u32| (messages / SHARE..messages / SHARE * 2).contains(&id);
    let client = |work: &Work, seed: u32| {
        let mut random = Random(u64::from(seed));
        let mut imap = server.imap(ALICE);
        imap.command("SELECT INBOX").unwrap();
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = work(&mut imap, &mut |limit| random.below(limit)) {
                deeds.lock().unwrap().refused.push(error.to_string());
                imap = server.imap(ALICE);
                imap.command("SELECT INBOX").unwrap();
            }
        }
    };
    let mut time = Duration::ZERO;
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            client(
                &|imap, random| {
                    let Some((uid, id)) = pick(imap, random, |id| !expunges(id) && !moves(id))? else {
                        return Ok(());
                    };
                    let answers = imap.command(&format!("UID STORE {uid} +FLAGS (\\Flagged)"))?;
                    if answers.iter().any(|it| it.number("UID") == Some(uid) && it.text.contains("\\Flagged"))
                    {
                        deeds.lock().unwrap().flagged.insert(id);
                    }
                    Ok(())
                },
                1,
            );
        });
        scope.spawn(|| {
            client(
                &|imap, random| {
                    let Some((uid, id)) = pick(imap, random, expunges)? else { return Ok(()) };
                    deeds.lock().unwrap().expunge_tried.insert(id);
                    let marked = imap.command(&format!("UID STORE {uid} +FLAGS (\\Deleted)"))?;
                    imap.command(&format!("UID EXPUNGE {uid}"))?;
                    if marked.iter().any(|it| it.number("UID") == Some(uid) && it.text.contains("\\Deleted"))
                    {
                        deeds.lock().unwrap().expunged.insert(id);
                    }
                    Ok(())
                },
                2,
            );
        });
        scope.spawn(|| {
            client(
                &|imap, random| {
                    let Some((uid, id)) = pick(imap, random, moves)? else { return Ok(()) };
                    deeds.lock().unwrap().move_tried.insert(id);
                    imap.command(&format!("UID MOVE {uid} Moved")).map(drop)
                },
                3,
            );
        });
        scope.spawn(|| {
            client(
                &|imap, _| {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    deeds.lock().unwrap().appended.insert(id);
                    imap.append("INBOX", "\\Seen", mail(id).as_bytes())?;
                    std::thread::sleep(Duration::from_millis(5));
                    Ok(())
                },
                4,
            );
        });
        scope.spawn(|| {
            client(
                &|imap, _| {
                    let answers = imap.command("UID FETCH 1:* BODY.PEEK[]")?;
                    let bodies = answers.iter().filter_map(|it| it.literals.first());
                    let mut count = 0;
                    for body in bodies {
                        let text = String::from_utf8_lossy(body);
                        let whole = text.contains("-----END PGP MESSAGE-----")
                            || text.matches("The text of").count() == 20;
                        assert!(whole, "a client got half a message:\n{text}");
                        count += 1;
                    }
                    deeds.lock().unwrap().fetched += count;
                    Ok(())
                },
                5,
            );
        });
        scope.spawn(|| {
            let mut imap = server.imap(ALICE);
            imap.command("SELECT INBOX").unwrap();
            while !stop.load(Ordering::Relaxed) {
                imap.idle(Duration::from_millis(300)).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let outcome = run();
        time = start.elapsed();
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let deeds = deeds.into_inner().unwrap();

    // The mail that came after its folder was done, and then all there is, as a client sees it.
    assert_eq!(run().status, Some(0));
    assert_eq!(validity(&mut server.imap(ALICE)), first_validity);
    let mut there: BTreeMap<u32, Vec<(String, bool)>> = BTreeMap::new();
    for folder in ["INBOX", "Moved"] {
        for (id, flagged) in opened(server, folder) {
            there.entry(id).or_default().push((folder.into(), flagged));
        }
    }
    let all = (0..messages).chain(deeds.appended.iter().copied());
    let lost: Vec<u32> =
        all.clone().filter(|id| !there.contains_key(id) && !deeds.expunge_tried.contains(id)).collect();
    let twice: Vec<u32> = all
        .clone()
        .filter(|id| there.get(id).is_some_and(|copies| copies.len() > 1) && !deeds.move_tried.contains(id))
        .collect();
    let resurrected = deeds.expunged.iter().filter(|id| there.contains_key(id)).count()
        + deeds.move_tried.iter().filter(|id| there.get(id).is_some_and(|copies| copies.len() > 1)).count();
    let unflagged = deeds
        .flagged
        .iter()
        .filter(|id| there.get(id).is_some_and(|copies| !copies.iter().any(|copy| copy.1)))
        .count();
    let log = server.log();
    let errors: Vec<&str> =
        log.lines().filter(|line| line.contains("Error:") || line.contains("Panic:")).collect();
    let _ = writeln!(
        std::io::stderr(),
        "MEASURED: live run over {messages} messages, {} sealed amid it in {time:.1?}: {} flagged, {} expunged, {} moved, {} appended, \
         {} fetched; {} lost, {} twice, {} errors in the log, {} commands refused; the two named races: {unflagged} STOREs \
         lost, {resurrected} EXPUNGEs undone",
        summary["sealed"],
        deeds.flagged.len(),
        deeds.expunged.len(),
        deeds.move_tried.len(),
        deeds.appended.len(),
        deeds.fetched,
        lost.len(),
        twice.len(),
        errors.len(),
        deeds.refused.len(),
    );
    assert!(lost.is_empty(), "lost: {lost:?}\n{log}");
    assert!(twice.is_empty(), "twice: {twice:?}\n{log}");
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(
        deeds.flagged.len() > 5
            && deeds.expunged.len() > 5
            && deeds.move_tried.len() > 5
            && deeds.fetched > 0
    );
    Races { unflagged, resurrected, time }
}

/// A message of the selected folder whose number is wanted.
fn pick(
    imap: &mut Imap,
    random: &mut dyn FnMut(u32) -> u32,
    wanted: impl Fn(u32) -> bool,
) -> std::io::Result<Option<(u32, u32)>> {
    let answers = imap.command("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")?;
    let found: Vec<(u32, u32)> = answers
        .iter()
        .filter_map(|answer| Some((answer.number("UID")?, id_in(answer.literals.first()?)?)))
        .filter(|(_, id)| wanted(*id))
        .collect();
    let Ok(count) = u32::try_from(found.len()) else { return Ok(None) };
    if count == 0 {
        std::thread::sleep(Duration::from_millis(20));
        return Ok(None);
    }
    Ok(Some(found[random(count) as usize]))
}

/// The messages of a folder, each of which its owner can open to what it was: number, and whether it is flagged.
pub fn opened(server: &Server, folder: &str) -> Vec<(u32, bool)> {
    let mut imap = server.imap(ALICE);
    imap.command(&format!("EXAMINE {folder}")).unwrap();
    let answers = imap.command("UID FETCH 1:* (FLAGS RFC822.SIZE BODY.PEEK[])").unwrap();
    let fetched = answers.into_iter().filter(|answer| answer.text.contains(" FETCH ("));
    fetched.map(|answer| (open(&answer), answer.text.contains("\\Flagged"))).collect()
}

fn open(answer: &Answer) -> u32 {
    let stored = &answer.literals[0];
    assert_eq!(answer.number("RFC822.SIZE"), u32::try_from(stored.len()).ok(), "the size");
    let id = id_in(stored).unwrap();
    let original = testing::dovecot::lmtp::with_crlf(mail(id).as_bytes());
    let sealed = oracle::check_outside(&original, stored).unwrap_or_else(|why| panic!("message {id}: {why}"));
    let data = openers::rpgp(CERT, sealed.armor).unwrap().data;
    assert!(oracle::expected_entities(&original).contains(&data), "message {id} opens to something else");
    id
}

#[test]
fn kept_uids_stay_and_dovecot_forgets_the_clear_text() {
    let Some(server) = server() else { return };
    let mut imap = server.imap(ALICE);
    for id in 0..20 {
        imap.append("INBOX", "\\Seen", mail(id).as_bytes()).unwrap();
    }
    imap.command("SELECT INBOX").unwrap();
    imap.command("UID STORE 3:5 +FLAGS (\\Flagged keyword)").unwrap();
    // What Dovecot caches of a message, some of its text among it.
    imap.command("FETCH 1:* (ENVELOPE BODYSTRUCTURE PREVIEW RFC822.SIZE)").unwrap();
    let listed = |imap: &mut Imap| -> Vec<String> {
        let answers = imap.command("UID FETCH 1:* (FLAGS INTERNALDATE)").unwrap();
        let texts = answers.into_iter().map(|answer| answer.text.replace(" \\Recent", ""));
        texts.filter(|text| text.contains(" FETCH (")).collect()
    };
    let before = listed(&mut imap);
    let refused = run(&server, &["--offline"]);
    assert_eq!(refused.status, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("is logged in"), "{}", refused.stderr);
    imap.command("LOGOUT").unwrap();
    drop(imap);
    let cache = server.home(ALICE).join("Maildir/dovecot.index.cache");
    let caches_text = || {
        let bytes = fs::read(&cache).unwrap_or_default();
        bytes.windows(11).any(|window| window == b"The text of")
    };
    assert!(caches_text(), "Dovecot caches some text");
    testing::dovecot::server::wait_until("nobody to be logged in", || {
        let kept = run(&server, &["--offline", "--keep-uids"]);
        assert!([Some(0), Some(75)].contains(&kept.status), "{kept:?}");
        if kept.status == Some(0) {
            assert!(!kept.stdout.contains("may still hold"), "{}", kept.stdout);
        }
        kept.status == Some(0)
    });
    assert!(!caches_text(), "the cache still holds clear text");
    let mut imap = server.imap(ALICE);
    imap.command("SELECT INBOX").unwrap();
    assert_eq!(listed(&mut imap), before, "UIDs, flags and dates");
    let structure = imap.command("UID FETCH 2 (BODYSTRUCTURE)").unwrap();
    assert!(structure.iter().any(|it| it.text.contains("\"pgp-encrypted\"")), "{structure:?}");
    assert_eq!(opened(&server, "INBOX").len(), before.len());
    let log = server.log();
    assert!(!log.contains("Error:"), "{log}");
}

#[test]
fn new_uids_leave_no_clear_text_in_the_cache() {
    let Some(server) = server() else { return };
    let mut imap = server.imap(ALICE);
    for id in 0..10 {
        imap.append("INBOX", "\\Seen", mail(id).as_bytes()).unwrap();
    }
    imap.command("SELECT INBOX").unwrap();
    imap.command("FETCH 1:* (ENVELOPE PREVIEW)").unwrap();
    imap.command("LOGOUT").unwrap();
    let done = run(&server, &[]);
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(!done.stdout.contains("may still hold"), "{}", done.stdout);
    let left = server.files_with("The text of");
    assert!(left.is_empty(), "clear text in {left:?}");
    assert_eq!(opened(&server, "INBOX").len(), 10);
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % limit
    }
}
