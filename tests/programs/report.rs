//! `mailseal report` on real and made logs in every form, and the mtail program and Grafana dashboard beside it.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use jiff::civil;
use serde_json::Value;
use testing::{
    filter::{self, Run},
    fixtures, oracle, skip,
};

fn report(arguments: &[&str], input: &[u8]) -> Run {
    report_in("UTC", arguments, input)
}

fn report_in(zone: &str, arguments: &[&str], input: &[u8]) -> Run {
    let mut command = Command::new(testing::program("mailseal"));
    filter::run(command.env("TZ", zone).arg("report").args(arguments), input, input.len().max(1))
}

fn json(arguments: &[&str], input: &[u8]) -> (Option<i32>, Value) {
    let run = report(&[&["--json"], arguments].concat(), input);
    (run.status, serde_json::from_slice(&run.stdout).expect(&run.stderr))
}

fn line(user: &str, outcome: &str, reason: &str, size: u64, ms: f64, id: &str) -> String {
    format!(
        "user={user} outcome={outcome} reason={reason} warn=- keys=- format=- in={size} out=0 key_ms=0.4 ms={ms:.1} msgid={id}"
    )
}

/// The line in a log of 2026-11-01, so many seconds after midnight.
fn at(seconds: u64, line: &str) -> String {
    let time = civil::date(2026, 11, 1).at(0, 0, 0, 0) + Duration::from_secs(seconds);
    format!("{time}.000000+00:00 mail mailseal-filter[7]: {line}\n")
}

fn log(lines: &[(u64, String)]) -> Vec<u8> {
    lines.iter().map(|(seconds, line)| at(*seconds, line)).collect::<String>().into_bytes()
}

fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{}-{name}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn figures_are_those_of_the_log() {
    let mut lines = String::new();
    // 1000 sealed messages of 5 kB, that took 1.0 to 100.9 ms.
    for n in 0..1000_u64 {
        lines += &at(n, &line("alice", "sealed", "-", 5000, 1.0 + n as f64 / 10.0, "<a>"));
    }
    for n in 0..10_u64 {
        lines += &at(4000 + n, &line("bob\\x40example.org", "unchanged", "no-key", 500, 0.5, "<b>"));
    }
    lines += &at(5000, &line("carol", "sealed", "-", 50_000_000, 5000.0, "<slow\\x3done>"));
    lines += &at(5001, &line("carol", "deferred", "key-store", 1, 2.0, "-"));
    lines += &at(5002, &line("carol", "sealed", "-", 1, 2.0, "<c>"));
    lines += "2026-11-01T02:00:00Z mail postfix/smtpd[1]: connect from unknown\n";
    let (status, json) = json(&[], lines.as_bytes());
    assert_eq!(status, Some(0), "{json:#}");
    assert_eq!((json["lines"].as_u64(), json["messages"].as_u64()), (Some(1014), Some(1013)));
    assert_eq!(json["outcomes"][0]["messages"], 1002);
    let small = &json["sizes"][0];
    assert_eq!((&small["size"], &small["messages"]), (&Value::from("under 10 kB"), &1001.into()));
    for (name, expected) in [("p50", 50.9), ("p90", 90.9), ("p99", 99.9), ("max", 100.9)] {
        let found = small["ms"][name].as_f64().unwrap();
        assert!((found - expected).abs() / expected < 0.005, "{name}: {found}");
    }
    // 5 kB in 1 ms are 5 MB/s.
    assert!((small["mb_per_s"]["max"].as_f64().unwrap() - 5.0).abs() < 0.05, "{json:#}");
    assert_eq!(json["slowest"][0]["message_id"], "<slow=one>");
    assert_eq!(json["slowest"][0]["ms"], 5000.0);
    assert_eq!(json["users_without_certificate"], 1);
    assert_eq!(json["without_certificate"][0]["user"], "bob@example.org");
    assert_eq!(json["failures"][0]["reason"], "key-store");
    assert_eq!(
        (&json["trend"]["unit"], json["trend"]["points"].as_array().unwrap().len()),
        (&"hour".into(), 2)
    );
    assert_eq!(json["trend"]["points"][0]["sealed"], 1000);
}

/// Who waits: nothing came through since, or one message is tried again and again.
#[test]
fn a_user_who_waits_for_more_than_an_hour_is_an_alarm() {
    let deferred = |id: &str| line("dave", "deferred", "no-usable-key", 0, 1.0, id);
    let sealed = |id: &str| line("dave", "sealed", "-", 100, 1.0, id);
    let other = line("erin", "sealed", "-", 100, 1.0, "<e>");
    let hour = 3600;
    type Case = (&'static str, Vec<(u64, String)>, i32);
    let cases: [Case; 9] = [
        ("twice within the hour", vec![(0, deferred("-")), (hour, deferred("-"))], 0),
        ("twice, more than an hour apart", vec![(0, deferred("-")), (hour + 1, deferred("-"))], 1),
        ("once, and others' mail goes on", vec![(0, deferred("<1>")), (2 * hour, other.clone())], 1),
        (
            "delivered at last",
            vec![(0, deferred("<1>")), (2 * hour, deferred("<1>")), (2 * hour + 1, sealed("<1>"))],
            0,
        ),
        ("delivered in time", vec![(0, deferred("<1>")), (60, sealed("<1>")), (5 * hour, other.clone())], 0),
        (
            "another message is stuck",
            vec![
                (0, deferred("<1>")),
                (60, sealed("<2>")),
                (2 * hour, deferred("<1>")),
                (2 * hour + 9, sealed("<3>")),
            ],
            1,
        ),
        (
            "tried once, and others come through",
            vec![(0, deferred("<1>")), (60, sealed("<2>")), (9 * hour, sealed("<3>"))],
            0,
        ),
        (
            "not known which, and one comes through",
            vec![(0, deferred("-")), (2 * hour, deferred("-")), (2 * hour + 1, sealed("<1>"))],
            0,
        ),
        (
            "again since",
            vec![
                (0, deferred("<1>")),
                (60, sealed("<1>")),
                (2 * hour, deferred("<9>")),
                (4 * hour, deferred("<9>")),
            ],
            1,
        ),
    ];
    for (what, lines, expected) in cases {
        let (status, json) = json(&[], &log(&lines));
        assert_eq!(status, Some(expected), "{what}: {json:#}");
        assert_eq!(json["waiting"].as_array().unwrap().len() as i32, expected, "{what}");
    }
    let lines = [(0, deferred("<1>")), (600, deferred("<2>")), (3 * hour, deferred("<1>"))];
    let (_, json) = json(&[], &log(&lines));
    let waiting = &json["waiting"][0];
    assert_eq!(
        (&waiting["user"], &waiting["messages"], &waiting["seconds"]),
        (&"dave".into(), &2.into(), &10_800.into())
    );
    let text = report(&[], &log(&lines));
    assert!(String::from_utf8_lossy(&text.stdout).contains("dave"), "{:?}", text.stdout);
}

/// Rotated logs as a shell's pattern names them, the newest first, compressed or not; in any form.
#[test]
fn logs_are_read_in_every_form_and_order() {
    let days: Vec<Vec<u8>> = (0..3)
        .map(|day| {
            let start = day * 86_400;
            let mut lines: Vec<_> =
                (0..50).map(|n| (start + n * 60, line("a", "sealed", "-", 100, 1.0, "<a>"))).collect();
            // Deferred on the first day, delivered on the third.
            lines.extend([(
                start + 4000,
                line("b", if day < 2 { "deferred" } else { "sealed" }, "deadline", 9, 1.0, "<b>"),
            )]);
            log(&lines)
        })
        .collect();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let traditional =
        String::from_utf8(days[1].clone()).unwrap().lines().fold(String::new(), |mut out, line| {
            let (time, rest) = line.split_once(' ').unwrap();
            let day: u32 = time[8..10].parse().unwrap();
            writeln!(out, "Nov {day:2} {} {rest}", &time[11..19]).unwrap();
            out
        });
    // Two members, as when a log was appended to.
    let old = [gzip(&days[0][..1000]), gzip(&days[0][1000..])].concat();
    let files = [write("log", &days[2]), write("log.1", traditional.as_bytes()), write("log.2.gz", &old)];
    let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let (status, found) = json(&names, b"");
    assert_eq!(status, Some(0), "the last word on <b> is in the newest log: {found:#}");
    assert_eq!(found["messages"], 153);
    assert_eq!(
        (&found["from"], &found["to"]),
        (&"2026-11-01 00:00:00".into(), &"2026-11-03 01:06:40".into())
    );
    let (status, found) = json(&names[1..], b"");
    assert_eq!((status, &found["messages"]), (Some(1), &102.into()));
    // The same through a pipe, compressed.
    assert_eq!(json(&["-"], &old).1["messages"], 51);

    let journal: String = String::from_utf8(days[0].clone())
        .unwrap()
        .lines()
        .map(|line| {
            let message = line.split_once(": ").unwrap().1;
            let entry = serde_json::json!({ "MESSAGE": message, "SYSLOG_IDENTIFIER": "mailseal-filter", "__REALTIME_TIMESTAMP": "1793491200000000", "PRIORITY": "6" });
            format!("{entry}\n")
        })
        .collect();
    let (_, found) = json(&[], journal.as_bytes());
    assert_eq!((&found["messages"], &found["from"]), (&51.into(), &"2026-11-01 00:00:00".into()));

    let broken = write("broken.gz", &old[..200]);
    report(&[broken.to_str().unwrap()], b"").assert_failed("cut off", 75);
}

/// What the machine's zone changes is how a line without one is read: it waits since an hour that the others know.
#[test]
fn a_log_without_zones_is_in_that_of_the_machine() {
    let deferred = line("dave", "deferred", "no-usable-key", 0, 1.0, "<1>");
    let log = format!(
        "2026-11-01T00:00:00Z mail mailseal-filter[7]: {deferred}\nNov  1 01:30:00 mail mailseal-filter[7]: {deferred}\n"
    );
    let database = Path::new("/usr/share/zoneinfo/Etc/GMT-1").exists().then_some(("Etc/GMT-1", 0, 1800));
    let zones = [("UTC", 1, 5400), ("CET-1CEST,M3.5.0,M10.5.0/3", 0, 1800)];
    for (zone, status, to) in zones.into_iter().chain(database) {
        let run = report_in(zone, &["--json"], log.as_bytes());
        let json: Value = serde_json::from_slice(&run.stdout).expect(&run.stderr);
        assert_eq!((run.status, &json["to"]), (Some(status), &"2026-11-01 01:30:00".into()), "{zone}");
        assert_eq!(json["to_seconds"], 1_793_491_200 + to, "{zone}");
    }
}

/// A log may hold anything: nothing of it reaches a terminal, a page or Prometheus as more than text.
#[test]
fn what_a_log_holds_is_only_text() {
    let evil = "user=<script>\\x1b[2J\" outcome=deferred reason=\"}\\ warn=- in=1 out=0 key_ms=1 ms=99.0 msgid=</svg><b>";
    let lines = [
        (0, evil.to_owned()),
        (9000, evil.to_owned()),
        (9001, "user=\u{202e} outcome=unchanged reason=no-key in=1 ms=1".into()),
    ];
    let log = log(&lines);
    let text = report(&[], &log).stdout;
    assert!(!text.contains(&0x1b), "{}", String::from_utf8_lossy(&text));
    assert!(!String::from_utf8(text).unwrap().contains('\u{202e}'));
    let page = write("page.html", b"");
    let run = report(&["--html", page.to_str().unwrap()], &log);
    assert_eq!((run.status, run.stdout.len()), (Some(1), 0), "{}", run.stderr);
    let html = fs::read_to_string(&page).unwrap();
    assert!(
        !html.contains("<script") && !html.contains("</svg><b>") && html.contains("&lt;script&gt;"),
        "{html}"
    );
    assert!(
        !html.contains("http:") && !html.contains("https:") && !html.contains("url("),
        "nothing from elsewhere"
    );
    assert_eq!(report(&["--html", "-"], &log).stdout, html.as_bytes());
    let folder = page.parent().unwrap();
    let mut here = Command::new(testing::program("mailseal"));
    let run = filter::run(here.current_dir(folder).args(["report", "--html", "here.html"]), &log, 1);
    assert_eq!((run.status, fs::read_to_string(folder.join("here.html")).unwrap()), (Some(1), html.clone()));
    // What is no file is not replaced by one.
    let fifo = folder.join("fifo");
    let _ = fs::remove_file(&fifo);
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let link = folder.join("link");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    for path in [&fifo, &link] {
        report(&["--html", path.to_str().unwrap()], &log).assert_failed("no file", 64);
        assert!(!fs::symlink_metadata(path).unwrap().is_file());
    }
    let metrics = String::from_utf8(report(&["--prometheus"], &log).stdout).unwrap();
    assert!(metrics.contains("reason=\"\\\"}\\\\\""), "{metrics}");
    for garbage in [&b"\xff\xfe outcome=\n"[..], b"{\"MESSAGE\":outcome=", &b"outcome=".repeat(100_000)] {
        assert_eq!(report(&[], garbage).status, Some(0));
    }
}

/// Every metric that the dashboard asks for is one that mtail or the report gives, of lines that the filter wrote.
#[test]
fn mtail_and_the_dashboard_know_the_lines() {
    if Command::new("mtail").arg("--version").output().is_err() {
        skip::unless_ci("mtail is missing");
        return;
    }
    let written = write("filter.log", b"");
    let target = format!("file:{}", written.display());
    for mail in &fixtures::mails("mails")[..20] {
        let mut command = Command::new(testing::program("mailseal-filter"));
        command.args(["--user", "alice", "--log", &target, "--key"]).arg(oracle::key("expired"));
        assert_eq!(filter::run(&mut command, &mail.bytes, mail.bytes.len()).status, Some(0));
    }
    let mut smime = Command::new(testing::program("mailseal-filter"));
    smime.args(["--user", "alice", "--log", &target, "--key"]).arg(testing::smime::file("rsa.pem"));
    filter::run(&mut smime, b"Subject: x\n\nx\n", 99);
    let mut off = Command::new(testing::program("mailseal-filter"));
    off.args(["--user", "alice", "--log", &target, "--off", "--key"]).arg(oracle::key("expired"));
    filter::run(&mut off, b"Subject: x\n\nx\n", 99);
    let lines = fs::read_to_string(&written).unwrap();
    let (status, found) = json(&[written.to_str().unwrap()], b"");
    assert_eq!((status, &found["messages"]), (Some(0), &22.into()));

    let bulk = "user=a folder=INBOX messages=10 sealed=7 unchanged=2 failed=1 in=1 out=2 ms=5";
    let mut log = format!("2026-11-01T00:00:00+01:00 mail encrypt-maildir[9]: {bulk}\n");
    for (number, line) in lines.lines().enumerate() {
        let time = if number % 2 == 0 { "Nov  1 00:00:00" } else { "2026-11-01T00:00:00.123456+01:00" };
        writeln!(log, "{time} mail mailseal-filter[7]: {line}").unwrap();
    }
    // Another program that quotes one of ours.
    writeln!(log, "Nov  1 00:00:00 mail other[1]: mailseal-filter[7]: {}", lines.lines().next().unwrap())
        .unwrap();
    let log = write("mtail.log", log.as_bytes());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring");
    let mut mtail = Command::new("mtail");
    mtail.arg("-one_shot").arg("-progs").arg(folder.join("mailseal.mtail")).arg("-logs").arg(&log);
    let run = filter::run(&mut mtail, b"", 1);
    let metrics: Value = {
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let start = text.find('{').expect(&run.stderr);
        serde_json::Deserializer::from_str(&text[start..]).into_iter().next().unwrap().unwrap()
    };
    let value = |name: &str, labels: &[&str]| {
        let values = metrics[name][0]["LabelValues"].as_array().expect(name);
        values
            .iter()
            .find(|it| it["Labels"].as_array().is_none_or(|found| found == labels))
            .map(|it| it["Value"].clone())
    };
    assert_eq!(value("mailseal_messages_total", &["sealed", "-"]).unwrap()["Value"], 21);
    assert_eq!(value("mailseal_messages_total", &["unchanged", "off"]).unwrap()["Value"], 1);
    assert_eq!(value("mailseal_warnings_total", &["expired"]).unwrap()["Value"], 20);
    assert_eq!(value("mailseal_warnings_total", &["malleable"]).unwrap()["Value"], 1);
    assert_eq!(value("mailseal_seal_seconds", &[]).unwrap()["Count"], 21);
    assert_eq!(value("mailseal_bulk_messages_total", &["failed"]).unwrap()["Value"], 1);
    let size = found["outcomes"].as_array().unwrap().len();
    assert_eq!(size, 2);

    let dashboard = fs::read_to_string(folder.join("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let gauges = String::from_utf8(report(&["--prometheus"], &fs::read(&log).unwrap()).stdout).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let words =
                target["expr"].as_str().unwrap().split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            asked.extend(words.filter(|word| word.starts_with("mailseal_")).map(str::to_owned));
        }
    }
    assert!(asked.len() >= 5, "{asked:?}");
    for name in asked {
        let known =
            metrics.get(name.trim_end_matches("_bucket")).is_some() || gauges.contains(&format!("\n{name} "));
        assert!(known, "{name}");
    }
}

fn generated(lines: u64) -> Vec<u8> {
    let mut log = Vec::new();
    let mut state = 1_u64;
    for n in 0..lines {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let user = format!("user{}@example.org", random % 5000);
        let size = 1000 << (random % 16);
        let (outcome, reason) =
            if random.is_multiple_of(50) { ("unchanged", "no-key") } else { ("sealed", "-") };
        let line = line(&user, outcome, reason, size, 1.0 + size as f64 / 5e5, &format!("<{n}@example.org>"));
        log.extend_from_slice(at(n * 20 * 86_400 / lines, &line).as_bytes());
    }
    log
}

/// The same memory for ten times the lines.
#[test]
fn memory_does_not_grow_with_the_log() {
    let (short, long) = (write("short.log", &generated(2_000)), write("long.log", &generated(100_000)));
    for file in [short, long] {
        // The program with its libraries and debugging information takes about half of this.
        let mut command = Command::new("sh");
        let program = testing::program("mailseal");
        command.args(["-c", "ulimit -v 49152; exec \"$0\" report \"$1\""]).arg(program).arg(&file);
        let run = filter::run(&mut command, b"", 1);
        assert_eq!((run.status, &*run.stderr), (Some(0), ""), "{}", file.display());
    }
}

/// A log that was last written hours ago is mapped, and one that was written just now is not.
#[test]
fn a_finished_log_gives_the_same_figures_as_a_live_one() {
    let file = write("finished.log", &generated(20_000));
    let name = [file.to_str().unwrap()];
    let live = [report(&["--json", name[0]], b""), report(&["--html", "-", name[0]], b"")];
    finish(&file);
    let finished = [report(&["--json", name[0]], b""), report(&["--html", "-", name[0]], b"")];
    for (live, finished) in live.iter().zip(&finished) {
        assert!(live.stdout == finished.stdout && live.status == finished.status);
    }
}

fn finish(log: &Path) {
    let file = fs::OpenOptions::new().append(true).open(log).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(2 * 60 * 60)).unwrap();
}

/// `cargo test --release --test programs report:: -- --ignored --nocapture`
#[test]
#[ignore = "makes a log of 1,000,000 lines to measure"]
fn a_million_lines() {
    let file = write("million.log", &generated(1_000_000));
    for what in ["streamed", "mapped"] {
        let begin = Instant::now();
        let (status, json) = json(&[file.to_str().unwrap()], b"");
        let time = begin.elapsed();
        assert_eq!((status, &json["messages"]), (Some(0), &1_000_000.into()));
        eprintln!("MEASURED 1,000,000 lines {what} in {time:?}");
        assert!(time.as_secs() < 10, "{time:?}");
        finish(&file);
    }
}
