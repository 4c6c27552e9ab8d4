//! `mailseal doctor` on real installations: content with a good one, and it finds each thing that is broken in turn, with
//! a line that mends it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::site::{Program, key_file};
use testing::dovecot::users::{ALICE, BOB, CAROL, DELIVERY_USER};

testing::on_each_dovecot! {
    a_good_installation_passes,
    a_round_trip_tells_what_becomes_of_a_users_mail,
    each_broken_file_is_found,
    each_broken_setting_is_found,
    what_is_only_worth_knowing_is_a_warning,
    without_dovecots_settings_nothing_is_said_to_be_well,
    the_running_dovecot_is_compared_with_the_files,
}

fn the_running_dovecot_is_compared_with_the_files(flavour: Flavour) {
    let Some(mut server) = healthy(flavour) else { return };
    let well = "ok       running Dovecot: works with the settings in the files";
    let says = |server: &Server, what: &str| {
        let (_, report) = doctor(server, &[]);
        assert!(report.contains(what), "no {what:?} in\n{report}");
    };
    says(&server, well);
    let good = fs::read_to_string(server.path("mailseal.conf")).unwrap();
    server.write("mailseal.conf", (good.clone() + "# touched\n").as_bytes(), 0o644);
    says(&server, well);
    let changed = good.replace("sieve_filter_exec_timeout = 60s", "sieve_filter_exec_timeout = 61s");
    assert_ne!(changed, good);
    for (before, after) in [(&good, &changed), (&changed, &good)] {
        server.write("mailseal.conf", after.as_bytes(), 0o644);
        says(&server, "FAILURE  running Dovecot: ");
        assert_eq!(doctor(&server, &[]).0, 1);
        server.write("mailseal.conf", before.as_bytes(), 0o644);
        says(&server, well);
        server.write("mailseal.conf", after.as_bytes(), 0o644);
        server.reload();
        says(&server, well);
    }
    // A setting that is there no more, and one that is written with its default value.
    server.write("extra.conf", b"mail_max_userip_connections = 20\n", 0o644);
    says(&server, "FAILURE  running Dovecot: ");
    server.reload();
    says(&server, well);
    server.write("extra.conf", b"mail_max_userip_connections = 10\n", 0o644);
    server.reload();
    says(&server, well);
    server.kill();
    let (status, report) = doctor(&server, &[]);
    assert_eq!(status, 0, "{report}");
    assert!(report.contains("warning  running Dovecot: Dovecot does not run"), "{report}");
    assert_eq!(report.matches("does not run").count(), 1, "{report}");
    assert!(!report.contains("backtrace"), "{report}");
    server.start_again();
    says(&server, well);
}

fn healthy(flavour: Flavour) -> Option<Server> {
    let server = Setup::with(flavour, "mailseal.sieve")?.imapsieve().start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    // Homes come into being with the first mail.
    for user in [ALICE, BOB, CAROL] {
        server.write_home(user, ".keep", b"");
    }
    Some(server)
}

/// Exit status and report.
fn doctor(server: &Server, arguments: &[&str]) -> (i32, String) {
    let program = server.path("libexec/mailseal");
    if !program.exists() {
        testing::install("mailseal", &program);
    }
    let mut command = server.flavour.command(program.to_str().unwrap());
    command.arg("doctor").arg("--dovecot-config").arg(server.path("dovecot.conf")).args(arguments);
    let output = command.output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.stderr.is_empty(), "{}{report}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), report)
}

/// The report has a line that begins with `word` and holds `what`, and another that mends it.
#[track_caller]
fn assert_found(server: &Server, name: &str, word: &str, what: &str) {
    let (status, report) = doctor(server, &[]);
    let mut lines = report.lines();
    let found = lines.find(|line| line.starts_with(word) && line.contains(what));
    assert!(found.is_some(), "{name}: no {word} with {what:?} in\n{report}");
    assert!(
        lines.next().is_some_and(|line| line.starts_with("         do: ")),
        "{name}: no way out in\n{report}"
    );
    assert_eq!(status, i32::from(word == "FAILURE"), "{name}:\n{report}");
}

#[track_caller]
fn assert_healthy(server: &Server, after: &str) {
    let (status, report) = doctor(server, &[]);
    assert_eq!(status, 0, "after {after}:\n{report}");
}

fn a_good_installation_passes(flavour: Flavour) {
    let Some(server) = healthy(flavour) else { return };
    let (status, report) = doctor(&server, &["--user", ALICE]);
    assert_eq!(status, 0, "{report}");
    for well in
        ["script", "trap", "configuration", "program", "time limit", "memory", "certificates", "round trip"]
    {
        assert!(report.contains(&format!("ok       {well}: ")), "{well}:\n{report}");
    }
    assert!(report.contains("\nfailures: 0, warnings: "), "{report}");
}

fn a_round_trip_tells_what_becomes_of_a_users_mail(flavour: Flavour) {
    let Some(server) = healthy(flavour) else { return };
    let (status, report) = doctor(&server, &["--user", ALICE, "--user", CAROL]);
    assert_eq!(status, 1, "{report}");
    assert!(report.contains(&format!("a message for {ALICE} is sealed")), "{report}");
    assert!(
        report.contains(&format!("FAILURE  round trip: {CAROL}: the message was stored in clear")),
        "{report}"
    );

    server.install(Program::Script("cat >/dev/null; exit 75"));
    let (status, report) = doctor(&server, &["--user", ALICE]);
    let deferred = format!("FAILURE  round trip: {ALICE}: the message is deferred, not stored");
    assert!(status == 1 && report.contains(&deferred), "{report}");
    let (_, report) = doctor(&server, &["--user", "nobody@example.org"]);
    assert!(report.contains("FAILURE  round trip: nobody@example.org: "), "{report}");
    assert!(server.inbox(ALICE).is_empty() && server.inbox(CAROL).is_empty(), "nothing was delivered");
}

/// A name, what the report says, what breaks it, and what mends it.
type Row<'a> = (&'a str, &'a str, &'a dyn Fn(), &'a dyn Fn());

fn each_broken_file_is_found(flavour: Flavour) {
    let Some(server) = healthy(flavour) else { return };
    assert_healthy(&server, "nothing");
    let script = fs::read_to_string(server.path("sieve/mailseal.sieve")).unwrap();
    let mend_script = || {
        server.write("sieve/mailseal.sieve", script.as_bytes(), 0o644);
        server.compile("sieve/mailseal.sieve");
    };
    let replace = |from: &str, to: &str| {
        assert!(script.contains(from));
        server.write("sieve/mailseal.sieve", script.replace(from, to).as_bytes(), 0o644);
    };
    let own = |name: &str, user| chown(server.path(name), Some(user), Some(user)).unwrap();
    let remove = |name: &str| fs::remove_file(server.path(name)).unwrap();
    let alice = key_file(ALICE);
    let rows: [Row<'_>; 22] = [
        ("trap of the mail user's", "FAILURE  trap: ", &|| own("failclosed", DELIVERY_USER), &|| {
            own("failclosed", 0)
        }),
        ("trap open to all", "can be written by others", &|| server.mode("failclosed", 0o777), &|| {
            server.mode("failclosed", 0o755);
        }),
        (
            "a folder in the trap",
            ".defer is a folder",
            &|| {
                remove("failclosed/.defer");
                fs::create_dir(server.path("failclosed/.defer")).unwrap();
            },
            &|| {
                fs::remove_dir(server.path("failclosed/.defer")).unwrap();
                server.write("failclosed/.defer", b"", 0o444);
            },
        ),
        ("no script", "does not exist", &|| remove("sieve/mailseal.sieve"), &mend_script),
        (
            "a script without us",
            "runs mailseal-filter: all mail is stored in clear",
            &|| {
                server.write("sieve/mailseal.sieve", b"keep;", 0o644);
            },
            &mend_script,
        ),
        (
            "a broken script",
            "does not compile",
            &|| replace("set \"sealed\" \"no\";", "set sealed;"),
            &mend_script,
        ),
        (
            "an unreadable script",
            "cannot read it, and Dovecot then delivers in clear",
            &|| {
                server.mode("sieve/mailseal.sieve", 0o600);
            },
            &|| server.mode("sieve/mailseal.sieve", 0o644),
        ),
        (
            "a script of the mail user's",
            "change the script",
            &|| own("sieve/mailseal.sieve", DELIVERY_USER),
            &|| {
                own("sieve/mailseal.sieve", 0);
            },
        ),
        (
            "a script that delivers in clear",
            "it delivers in clear",
            &|| {
                replace("fileinto \"FAILCLOSED.defer\";\n  stop;", "keep;");
                server.compile("sieve/mailseal.sieve");
            },
            &mend_script,
        ),
        (
            "a quarantine",
            "files in clear into Quarantine",
            &|| {
                replace("FAILCLOSED.defer", "Quarantine");
                server.compile("sieve/mailseal.sieve");
            },
            &mend_script,
        ),
        ("no program", "FAILURE  program: ", &|| server.install(Program::Missing), &|| {
            server.install(Program::Filter)
        }),
        (
            "a program that may not be run",
            "FAILURE  program: ",
            &|| server.install(Program::NotExecutable),
            &|| {
                server.install(Program::Filter);
            },
        ),
        ("another program", "does not answer as", &|| server.install(Program::Script("cat")), &|| {
            server.install(Program::Filter);
        }),
        ("a program of the mail user's", "another program", &|| own("bin", DELIVERY_USER), &|| own("bin", 0)),
        ("no configuration", "FAILURE  configuration: ", &|| remove("mailseal.toml"), &|| {
            server.configure("", "")
        }),
        ("a broken configuration", "line 4", &|| server.configure("nonsense = 1", ""), &|| {
            server.configure("", "")
        }),
        ("an unreadable configuration", "cannot read it", &|| server.mode("mailseal.toml", 0o600), &|| {
            server.mode("mailseal.toml", 0o644);
        }),
        (
            "a deadline above the timeout",
            "Dovecot panics",
            &|| server.configure("", "deadline = 58"),
            &|| {
                server.configure("", "");
            },
        ),
        (
            "no key folder",
            "FAILURE  certificates: ",
            &|| {
                fs::rename(server.path("keys"), server.path("elsewhere")).unwrap();
            },
            &|| fs::rename(server.path("elsewhere"), server.path("keys")).unwrap(),
        ),
        ("a closed key folder", "the mail user cannot read it", &|| server.mode("keys", 0o700), &|| {
            server.mode("keys", 0o755);
        }),
        ("a key folder of the mail user's", "can replace", &|| own("keys", DELIVERY_USER), &|| {
            own("keys", 0)
        }),
        ("a certificate that is none", "is deferred", &|| server.enrol(ALICE, b"nonsense"), &|| {
            server.enrol(ALICE, &ALICE_KEY.certificate);
        }),
    ];
    for (name, what, break_it, mend) in rows {
        break_it();
        assert_found(&server, name, "FAILURE", what.strip_prefix("FAILURE  ").unwrap_or(what));
        mend();
        assert_healthy(&server, name);
    }
    server.configure("", &format!("compression = \"auto\"\n[keys.nothing]\nx = \"{alice}\""));
    assert_found(&server, "a table too many", "FAILURE", "configuration: ");
}

fn each_broken_setting_is_found(flavour: Flavour) {
    let Some(server) = healthy(flavour) else { return };
    // It reads its settings when it is first asked.
    assert_healthy(&server, "nothing");
    server.write("sieve/other.sieve", b"stop;", 0o644);
    let [good, extra, ours] = ["dovecot.conf", "extra.conf", "mailseal.conf"]
        .map(|name| fs::read_to_string(server.path(name)).unwrap());
    let add = |settings: &str| server.write("extra.conf", format!("{extra}{settings}").as_bytes(), 0o644);
    let in_ours = |from: &str, to: &str| {
        assert!(ours.contains(from), "{from}");
        server.write("mailseal.conf", ours.replace(from, to).as_bytes(), 0o644);
    };
    let sieve = |setting: &str| add(&server.flavour.sieve_settings(setting));
    let other = server.path("sieve/other.sieve").display().to_string();
    let main = server.path("sieve/mailseal.sieve").display().to_string();
    let everywhere = server.flavour.imapsieve_rule("*", &server.path("sieve/mailseal-imap.sieve"));
    let rows: [(&str, &str, &dyn Fn()); 13] = [
        ("no trap over LMTP", "no namespace of protocol lmtp has the folder FAILCLOSED.defer", &|| {
            server.write(
                "mailseal.conf",
                ours.replacen("prefix = FAILCLOSED.", "prefix = Elsewhere.", 1).as_bytes(),
                0o644,
            );
        }),
        ("a short timeout", "sieve_filter_exec_timeout 51 s", &|| add(&server.flavour.filter_timeout(51))),
        ("a timeout that leaves no time to read on", "sieve_filter_exec_timeout 52 s", &|| {
            add(&server.flavour.filter_timeout(52));
        }),
        ("Dovecot's own timeout", "sieve_filter_exec_timeout 10 s", &|| {
            in_ours("sieve_filter_exec_timeout = 60s", "")
        }),
        ("no Sieve plugin", "LMTP runs no Sieve scripts", &|| {
            in_ours(
                if flavour == Flavour::V2_3 { "mail_plugins = $mail_plugins sieve" } else { "sieve = yes" },
                "",
            );
        }),
        ("no extension", "does not compile", &|| {
            let all =
                if flavour == Flavour::V2_3 { " +vnd.dovecot.filter" } else { "vnd.dovecot.filter = yes" };
            in_ours(all, "");
        }),
        ("no folder for programs", "sieve_filter_bin_dir", &|| {
            let line = ours.lines().find(|line| line.contains("sieve_filter_bin_dir =")).unwrap();
            in_ours(line, "");
        }),
        ("a script before ours", "other.sieve runs before it", &|| {
            let (first, after) = server.flavour.script_order(std::slice::from_ref(&other), &main, &[]);
            server.write("first.conf", first.as_bytes(), 0o644);
            add(&after);
        }),
        ("no autocreate", "files into a folder that is missing", &|| {
            in_ours("lda_mailbox_autocreate = yes", "lda_mailbox_autocreate = no");
        }),
        ("little memory", "has 20 MB", &|| add("service lmtp {\n  vsz_limit = 20M\n}\n")),
        ("no expunge", "stays beside the sealed one", &|| sieve("imapsieve_expunge_discarded = no")),
        ("lazy_expunge", "lazy_expunge keeps the clear message", &|| {
            add(&server.flavour.imap_plugin("lazy_expunge"));
        }),
        ("imapsieve everywhere", "lost to the others", &|| add(&everywhere)),
    ];
    for (name, what, break_it) in rows {
        break_it();
        assert_found(&server, name, "FAILURE", what);
        for (file, text) in [("dovecot.conf", &good), ("extra.conf", &extra), ("mailseal.conf", &ours)] {
            server.write(file, text.as_bytes(), 0o644);
        }
        server.write("first.conf", b"", 0o644);
        assert_healthy(&server, name);
    }
}

fn what_is_only_worth_knowing_is_a_warning(flavour: Flavour) {
    let Some(server) = healthy(flavour) else { return };
    assert_found(&server, "a spool on a disk", "warning", "mail_temp_dir");
    server.write_home(
        ALICE,
        ".dovecot.sieve",
        b"# redirect nothing\nif true { redirect \"x@example.net\"; }\n",
    );
    assert_found(&server, "redirect", "warning", "alice@example.org redirects mail");
    fs::remove_file(server.home(ALICE).join(".dovecot.sieve")).unwrap();
    let (_, report) = doctor(&server, &[]);
    assert!(report.contains("none redirects mail"), "{report}");

    let learner = "require [\"vnd.dovecot.pipe\", \"copy\"];\npipe :copy \"learn\";\n";
    server.write("sieve/learn.sieve", learner.as_bytes(), 0o644);
    let rule = server.flavour.imapsieve_rule("Junk", &server.path("sieve/learn.sieve"));
    let extra = fs::read_to_string(server.path("extra.conf")).unwrap();
    server.write("extra.conf", (extra.clone() + &rule).as_bytes(), 0o644);
    server.reload();
    assert_found(&server, "a learner", "warning", "spam filter learns");

    let binary = server.path("sieve/mailseal.svbin");
    fs::remove_file(&binary).unwrap();
    assert_found(&server, "not compiled", "warning", "is not compiled");
    fs::remove_file(server.path("failclosed/.defer")).unwrap();
    assert_found(&server, "an empty trap", "warning", ".defer is not there");
    if server.flavour == Flavour::V2_4 {
        assert_found(&server, "the uid fault", "warning", "root as their real user");
    }
    let mode = fs::metadata(server.path("failclosed")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "nothing was changed");
}

fn without_dovecots_settings_nothing_is_said_to_be_well(flavour: Flavour) {
    let Some(server) = healthy(flavour) else { return };
    server.write("extra.conf", b"no_such_setting = 1\n", 0o644);
    assert_found(&server, "broken settings", "FAILURE", "doveconf failed");
    let (_, report) = doctor(&server, &[]);
    assert!(!report.contains("ok  "), "{report}");
}
