//! Where setup cannot be sure it changes nothing, and says why.

use std::fs;
use std::process::Command;

use testing::dovecot::entity::is_sealed;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::users::ALICE;

use super::bench::{Bench, said};
use super::{MAIL, sites};

testing::on_each_dovecot! {
    what_dovecot_refuses_itself,
    another_mailseal,
    a_file_of_others_under_our_name,
    no_place_for_the_settings,
    no_namespace,
    a_filter_behind_ours,
    who_is_not_root,
    no_filter,
    settings_that_were_changed_by_hand_are_not_taken_away,
}

fn what_dovecot_refuses_itself(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.put("conf.d/91-broken.conf", "no_such_setting = yes\n");
    bench.assert_refused(&[], &["Dovecot refuses its configuration as it is", "no_such_setting"]);
    bench.assert_refused(&["--undo"], &["Dovecot refuses its configuration as it is"]);
}

fn another_mailseal(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.put("site/before/spam.sieve", "require [\"vnd.dovecot.filter\"];\nfilter \"mailseal-filter\";\n");
    bench.assert_refused(&[], &["site/before/spam.sieve runs mailseal-filter already"]);
}

fn a_file_of_others_under_our_name(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.put("conf.d/99-mailseal.conf", "# by hand\n");
    bench.assert_refused(&[], &["conf.d/99-mailseal.conf is there, and not by mailseal setup"]);
    fs::remove_file(bench.path("conf.d/99-mailseal.conf")).unwrap();
    bench.put("var/sieve/mailseal.sieve", "keep;\n");
    bench.assert_refused(&[], &["var/sieve/mailseal.sieve is not by `mailseal setup`"]);
    fs::write(bench.path("var/sieve/mailseal.sieve"), include_str!("../../../sieve/mailseal.sieve")).unwrap();
    bench.put("var/failclosed/.defer/file", "");
    bench.assert_refused(&[], &["var/failclosed/.defer: it is not a regular file"]);
}

fn no_place_for_the_settings(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    let main = fs::read_to_string(bench.path("dovecot.conf")).unwrap();
    // In a file of its own name, each: no folder is included.
    let named =
        main.replace("!include conf.d/*.conf", "!include conf.d/10-mail.conf\n!include conf.d/90-sieve.conf");
    bench.put("dovecot.conf", &named);
    let line = format!("!include_try {}", bench.path("mailseal.conf").display());
    bench.assert_refused(&[], &["includes no folder", &line]);
    bench.put("dovecot.conf", &format!("{named}\n{line}\n"));
    bench.set_up();
    assert!(bench.path("mailseal.conf").exists());
    assert_eq!(bench.setup(&["--undo"]).status, 0);
}

/// What is read behind ours, and wins, is named.
#[test]
fn settings_that_win_over_ours() {
    let Some(bench) = Bench::start(Flavour::V2_3, sites::rspamd) else { return };
    let rows = [
        ("plugin {\n  sieve_before = /dev/null\n}\n", "sieve_before = /dev/null"),
        ("protocol lmtp {\n  mail_plugins = quota sieve_other\n}\n", "mail_plugins = quota sieve_other"),
        ("plugin {\n  sieve_plugins = sieve_imapsieve\n}\n", "sieve_plugins = sieve_imapsieve"),
        ("plugin {\n  imapsieve_expunge_discarded = no\n}\n", "imapsieve_expunge_discarded = no"),
        ("lda_mailbox_autocreate = no\n", "lda_mailbox_autocreate = no"),
    ];
    for (settings, winner) in rows {
        bench.put("conf.d/99-zz.conf", settings);
        bench.assert_refused(&[], &["conf.d/99-zz.conf:", winner, "wins over it"]);
    }
    bench.put("conf.d/99-zz.conf", "local 10.0.0.1 {\n  plugin {\n    sieve_before = /x\n  }\n}\n");
    bench.assert_refused(&[], &["`local 10.0.0.1` has settings of its own"]);
}

#[test]
fn settings_that_win_over_ours_in_2_4() {
    let Some(bench) = Bench::start(Flavour::V2_4, sites::rspamd) else { return };
    bench.put("conf.d/99-zz.conf", "protocol lmtp {\n  mail_plugins = quota\n}\n");
    bench.assert_refused(&[], &["conf.d/99-zz.conf:2: `mail_plugins = quota` wins over it"]);
    bench.put("conf.d/99-zz.conf", "sieve_filter_exec_timeout = 20s\n");
    bench.assert_refused(&[], &["conf.d/99-zz.conf:1: `sieve_filter_exec_timeout = 20s` wins over it"]);
    bench.put(
        "conf.d/99-zz.conf",
        "sieve_script first {\n  type = before\n  path = /x\n  precedence = 0\n}\n",
    );
    bench.assert_refused(&[], &["has `precedence = 0`"]);
}

fn no_namespace(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    let text = fs::read_to_string(bench.path("conf.d/10-mail.conf")).unwrap();
    bench.put("conf.d/10-mail.conf", text.split("namespace").next().unwrap());
    if flavour == Flavour::V2_4 {
        let sieve = fs::read_to_string(bench.path("conf.d/90-sieve.conf")).unwrap();
        bench.put("conf.d/90-sieve.conf", sieve.split("namespace").next().unwrap());
    }
    bench.assert_refused(
        &[],
        &["no namespace with `inbox = yes` is written down", "namespace inbox { inbox = yes }"],
    );
}

fn a_filter_behind_ours(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.put("site/before/spam.sieve", "require [\"vnd.dovecot.filter\"];\nfilter \"disclaimer\";\n");
    bench.assert_refused(
        &[],
        &["filters mail through disclaimer", "skip mail whose Content-Type contains multipart/encrypted"],
    );
}

fn who_is_not_root(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    let before = bench.snapshot();
    for arguments in [&[][..], &["--dry-run"], &["--undo"]] {
        let mut mailseal =
            bench.flavour.mail_user_command(bench.path("prefix/bin/mailseal").to_str().unwrap());
        mailseal.arg("--config").arg(bench.path("mailseal.toml")).arg("setup").args(arguments);
        let said = said(mailseal.arg("--state").arg(bench.path("var")));
        assert!(said.status == 1 && said.err.contains("this is not root"), "{said:?}");
    }
    bench.assert_as(&before, "an attempt of another user");
}

fn no_filter(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.assert_refused(&["--filter-dir", "/opt/nowhere"], &["/opt/nowhere/mailseal-filter is not there"]);
    bench.mode("prefix/lib/mailseal/bin", 0o777);
    bench.assert_refused(&[], &["could put another program in the filter's place"]);
}

fn settings_that_were_changed_by_hand_are_not_taken_away(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.set_up();
    let text = fs::read_to_string(bench.path(bench.sample.place)).unwrap();
    bench.put(bench.sample.place, &format!("{text}# mine\n"));
    bench.assert_refused(&["--undo"], &["was changed since setup wrote it"]);
    bench.assert_refused(&[], &["was changed since"]);
    bench.enrol(ALICE, &ALICE_KEY.certificate);
    bench.store(ALICE, MAIL.as_bytes());
    assert!(is_sealed(&bench.only_message(ALICE)));
}

/// Two at once: one waits for nobody, and says so.
#[test]
fn two_at_once() {
    let Some(bench) = Bench::start(Flavour::V2_3, sites::rspamd) else { return };
    fs::create_dir(bench.path("var")).unwrap();
    let mut holder = Command::new("flock").arg(bench.path("var")).args(["sleep", "60"]).spawn().unwrap();
    testing::dovecot::server::wait_until("the lock", || {
        !Command::new("flock").arg("-n").arg(bench.path("var")).arg("true").status().unwrap().success()
    });
    let said = bench.setup(&[]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(said.status == 1 && said.err.contains("another `mailseal setup` is running"), "{said:?}");
}
