//! Sites as admins have them, each after what is documented of it: the files that its Dovecot reads, with scripts of its own.

use std::fs;

use testing::dovecot::flavour::Flavour;
use testing::dovecot::site::Site;
use testing::dovecot::users::{DELIVERY_GROUP, DELIVERY_USER};

/// A site before mailseal comes.
pub struct Sample {
    /// What it is after.
    pub name: &'static str,
    /// The files, by their names in the site's folder.
    pub files: Vec<(&'static str, String)>,
    /// The folder that its own script files marked mail into.
    pub junk: Option<&'static str>,
    /// Whether it learns from what is moved into that folder.
    pub learns: bool,
    /// Our file, where setup has to put it.
    pub place: &'static str,
    /// The Sent folders that setup has to find.
    pub sent: &'static [&'static str],
}

/// A script that files marked mail.
const SPAM: &str = "require [\"fileinto\", \"mailbox\"];\nif header :contains \"X-Spam-Flag\" \"YES\" {\n  \
                    fileinto :create \"JUNK\";\n  stop;\n}\n";

/// A script that shows a message to a program.
const REPORT: &str =
    "require [\"vnd.dovecot.pipe\", \"copy\", \"imapsieve\"];\npipe :copy \"learn\" [\"WHAT\"];\n";

/// Where Dovecot and its parts are, users and ports, and nothing of Sieve.
fn base(site: &Site) -> String {
    let dir = site.dir().display();
    let versions = match site.flavour {
        Flavour::V2_3 => format!(
            "disable_plaintext_auth = no\npassdb {{\n  driver = passwd-file\n  args = {dir}/users\n}}\nuserdb {{\n  driver = \
             passwd-file\n  args = {dir}/users\n  default_fields = uid={DELIVERY_USER} gid={DELIVERY_GROUP} \
             home={dir}/home/%u\n}}\n"
        ),
        Flavour::V2_4 => format!(
            "auth_allow_cleartext = yes\npassdb passwd-file {{\n  passwd_file_path = {dir}/users\n}}\nuserdb passwd-file {{\n  \
             passwd_file_path = {dir}/users\n  fields {{\n    uid = {DELIVERY_USER}\n    gid = {DELIVERY_GROUP}\n    home = \
             {dir}/home/%{{user}}\n  }}\n}}\n"
        ),
    };
    let listen = if site.flavour == Flavour::V2_3 { "address" } else { "listen" };
    format!(
        "base_dir = {dir}/run\nstate_dir = {dir}/state\nlog_path = {dir}/dovecot.log\nmail_temp_dir = {dir}/tmp\nlisten = \
         {address}\nssl = no\nlogin_trusted_networks = 127.0.0.0/8\nfirst_valid_uid = {DELIVERY_USER}\nservice imap-login {{\n  \
         inet_listener imap {{\n    port = {imap}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\nservice lmtp {{\n  \
         inet_listener lmtp {{\n    {listen} = {address}\n    port = {lmtp}\n  }}\n}}\n{versions}",
        address = site.address,
        imap = site.imap_port,
        lmtp = site.lmtp_port,
    )
}

/// The beginning of a main file: versions and protocols.
fn head(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::V2_3 => "protocols = imap lmtp\n",
        Flavour::V2_4 => {
            "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\nprotocols {\n  imap = yes\n  lmtp = yes\n}\n"
        }
    }
}

/// Maildirs in homes.
fn storage(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::V2_3 => "mail_location = maildir:~/Maildir\n",
        Flavour::V2_4 => "mail_driver = maildir\nmail_path = ~/Maildir\n",
    }
}

/// A namespace with these folders.
fn inbox(flavour: Flavour, opening: &str, settings: &str, sent: &[&str]) -> String {
    let quote = |name: &str| if name.contains(' ') { format!("\"{name}\"") } else { name.into() };
    let sent: String = sent
        .iter()
        .map(|name| format!("  mailbox {} {{\n    special_use = \\Sent\n  }}\n", quote(name)))
        .collect();
    let auto = if flavour == Flavour::V2_3 { "    auto = no\n" } else { "" };
    format!(
        "{opening} {{\n  inbox = yes\n{settings}{sent}  mailbox Junk {{\n{auto}    special_use = \\Junk\n  }}\n  mailbox Drafts \
         {{\n    special_use = \\Drafts\n  }}\n}}\n"
    )
}

/// Scripts of the site, and the program that learns.
fn scripts(site: &Site, junk: &str) -> Vec<(&'static str, String)> {
    let learned = site.path("tmp/learned");
    vec![
        ("site/before/spam.sieve", SPAM.replace("JUNK", junk)),
        ("site/report-spam.sieve", REPORT.replace("WHAT", "spam")),
        ("site/report-ham.sieve", REPORT.replace("WHAT", "ham")),
        ("site/bin/learn", format!("#!/bin/sh\ncat >/dev/null\necho \"$1\" >>{}\n", learned.display())),
    ]
}

fn sample(
    name: &'static str,
    files: Vec<(&'static str, String)>,
    more: Vec<(&'static str, String)>,
) -> Sample {
    Sample {
        name,
        files: files.into_iter().chain(more).collect(),
        junk: Some("Junk"),
        learns: true,
        place: "conf.d/99-mailseal.conf",
        sent: &["Sent"],
    }
}

/// What the distribution installs, with users of the tests in the place of the machine's own.
pub fn distribution(site: &Site) -> Sample {
    let installed = site.flavour.installed("/etc/dovecot");
    let main = fs::read_to_string(installed.join("dovecot.conf")).unwrap();
    let mut files = vec![("dovecot.conf", main)];
    for entry in fs::read_dir(installed.join("conf.d")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("conf.d/{}", path.file_name().unwrap().display());
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("\n!include auth-system.conf.ext", "\n#!include auth-system.conf.ext");
        // For users of the system: it takes the domain off a name.
        let text = text.replace("  auth_username_format", "  #auth_username_format");
        let text = if name.ends_with("10-ssl.conf") { String::new() } else { text };
        files.push((name.leak(), text));
    }
    let own = match site.flavour {
        Flavour::V2_3 => "mail_location = maildir:~/Maildir\n",
        Flavour::V2_4 => "mail_driver = maildir\nmail_path = ~/Maildir\nmail_inbox_path = ~/Maildir\n",
    };
    files.push(("conf.d/95-own.conf", format!("{}{own}", base(site))));
    Sample { junk: None, learns: false, sent: &["Sent", "Sent Messages"], ..sample("Debian", files, vec![]) }
}

/// gpgit as a before-script, and spam learners over imapsieve.
pub fn gpgit(site: &Site) -> Sample {
    let dir = site.dir().display();
    let plugins = format!(
        "protocol lmtp {{\n  mail_plugins = $mail_plugins sieve\n}}\nprotocol lda {{\n  mail_plugins = $mail_plugins \
         sieve\n}}\nprotocol imap {{\n  mail_plugins = $mail_plugins imap_sieve\n}}\nplugin {{\n  sieve = \
         file:~/sieve;active=~/.dovecot.sieve\n  sieve_plugins = sieve_imapsieve sieve_extprograms\n  sieve_global_extensions \
         = +vnd.dovecot.filter +vnd.dovecot.pipe +vnd.dovecot.environment\n  sieve_before = {dir}/site/global.sieve\n  \
         sieve_before2 = {dir}/site/before\n  sieve_filter_bin_dir = {dir}/site/bin\n  sieve_pipe_bin_dir = {dir}/site/bin\n  \
         imapsieve_mailbox1_name = Junk\n  imapsieve_mailbox1_causes = COPY APPEND\n  imapsieve_mailbox1_before = \
         file:{dir}/site/report-spam.sieve\n  imapsieve_mailbox2_name = *\n  imapsieve_mailbox2_from = Junk\n  \
         imapsieve_mailbox2_causes = COPY\n  imapsieve_mailbox2_before = file:{dir}/site/report-ham.sieve\n}}\n"
    );
    let encrypt = "#!/bin/sh\n# In the place of gpgit: what is encrypted passes.\nmail=$(cat; echo .)\ncase $mail in\n  \
                   *multipart/encrypted*) ;;\n  *) printf 'X-By-Gpgit: yes\\r\\n' ;;\nesac\nprintf '%s' \"${mail%.}\"\n";
    let more = vec![
        ("site/global.sieve", "require [\"vnd.dovecot.filter\"];\nfilter \"encrypt.sh\";\n".into()),
        ("site/bin/encrypt.sh", encrypt.into()),
    ];
    let files = vec![
        ("dovecot.conf", format!("{}{}!include conf.d/*.conf\n", head(site.flavour), base(site))),
        (
            "conf.d/10-mail.conf",
            format!("{}{}", storage(site.flavour), inbox(site.flavour, "namespace inbox", "", &["Sent"])),
        ),
        ("conf.d/90-plugin.conf", plugins),
    ];
    sample("gpgit", files, scripts(site, "Junk").into_iter().chain(more).collect())
}

/// Users of the system beside virtual ones, and a script that LMTP alone runs.
pub fn split(site: &Site) -> Sample {
    let dir = site.dir().display();
    let settings = format!(
        "userdb {{\n  driver = passwd-file\n  args = {dir}/system\n  default_fields = uid=9 gid=9 home={dir}/system-homes/%u\n}}\n\
         passdb {{\n  driver = passwd-file\n  args = {dir}/system\n}}\nmail_plugins = quota\nplugin {{\n  quota = count:User \
         quota\n  quota_vsizes = yes\n  sieve = ~/.dovecot.sieve\n  sieve_before = {dir}/site/first.sieve\n  sieve_before2 = \
         {dir}/site/before/spam.sieve\n  sieve_before4 = {dir}/site/never.sieve\n}}\nprotocol lmtp {{\n  mail_plugins = \
         $mail_plugins sieve\n  plugin {{\n    sieve_before = {dir}/site/before\n    sieve_before2 =\n  }}\n}}\nprotocol lda {{\n  \
         mail_plugins = $mail_plugins sieve\n}}\n"
    );
    let never = "require [\"fileinto\", \"mailbox\"];\nfileinto :create \"Never\";\nstop;\n";
    let more = vec![
        ("site/first.sieve", "keep;\n".into()),
        ("site/never.sieve", never.into()),
        ("system", "dave:{PLAIN}secret::::::\n".into()),
    ];
    let files = vec![(
        "dovecot.conf",
        format!(
            "{}{}{}{}{settings}!include_try local.conf\n",
            head(site.flavour),
            base(site),
            storage(site.flavour),
            inbox(site.flavour, "namespace inbox", "  separator = /\n", &["Sent"])
        ),
    )];
    Sample {
        learns: false,
        place: "local.conf",
        ..sample("split users", files, scripts(site, "Junk").into_iter().chain(more).collect())
    }
}

/// rspamd, which learns from what is moved.
pub fn rspamd(site: &Site) -> Sample {
    let dir = site.dir().display();
    let settings = match site.flavour {
        Flavour::V2_3 => format!(
            "protocol lmtp {{\n  mail_plugins = $mail_plugins sieve\n}}\nprotocol imap {{\n  mail_plugins = $mail_plugins \
             imap_sieve\n}}\nplugin {{\n  sieve = file:~/sieve;active=~/.dovecot.sieve\n  sieve_before = \
             {dir}/site/before/spam.sieve\n  sieve_plugins = sieve_imapsieve sieve_extprograms\n  sieve_global_extensions = \
             +vnd.dovecot.pipe\n  sieve_pipe_bin_dir = {dir}/site/bin\n  imapsieve_mailbox1_name = Junk\n  \
             imapsieve_mailbox1_causes = COPY\n  imapsieve_mailbox1_before = file:{dir}/site/report-spam.sieve\n  \
             imapsieve_mailbox2_name = *\n  imapsieve_mailbox2_from = Junk\n  imapsieve_mailbox2_causes = COPY\n  \
             imapsieve_mailbox2_before = file:{dir}/site/report-ham.sieve\n}}\n"
        ),
        Flavour::V2_4 => format!(
            "protocol lmtp {{\n  mail_plugins = sieve\n}}\nprotocol imap {{\n  mail_plugins = imap_sieve\n}}\nsieve_script spam \
             {{\n  type = before\n  path = {dir}/site/before/spam.sieve\n  precedence = 1\n}}\nsieve_plugins = sieve_imapsieve \
             sieve_extprograms\nsieve_global_extensions = vnd.dovecot.pipe\nsieve_pipe_bin_dir = {dir}/site/bin\nnamespace inbox \
             {{\n  mailbox Junk {{\n    sieve_script learn-spam {{\n      type = before\n      cause = copy\n      path = \
             {dir}/site/report-spam.sieve\n    }}\n  }}\n}}\nimapsieve_from Junk {{\n  sieve_script learn-ham {{\n    type = \
             before\n    cause = copy\n    path = {dir}/site/report-ham.sieve\n  }}\n}}\n"
        ),
    };
    let files = vec![
        ("dovecot.conf", format!("{}{}!include conf.d/*.conf\n", head(site.flavour), base(site))),
        (
            "conf.d/10-mail.conf",
            format!("{}{}", storage(site.flavour), inbox(site.flavour, "namespace inbox", "", &["Sent"])),
        ),
        ("conf.d/90-sieve.conf", settings),
    ];
    sample("rspamd", files, scripts(site, "Junk"))
}

/// docker-mailserver: folders of scripts, folders of programs, and extensions for all scripts.
pub fn docker_mailserver(site: &Site) -> Sample {
    let dir = site.dir().display();
    let sieve = format!(
        "plugin {{\n  sieve = ~/.dovecot.sieve\n  sieve_dir = ~/sieve\n  sieve_before = {dir}/site/before/\n  sieve_after = \
         {dir}/site/after/\n  sieve_extensions = +notify +imapflags +vnd.dovecot.pipe +vnd.dovecot.filter\n  sieve_plugins = \
         sieve_extprograms sieve_imapsieve\n  sieve_pipe_bin_dir = {dir}/site/bin\n  sieve_filter_bin_dir = \
         {dir}/site/filter\n  imapsieve_mailbox1_name = Junk\n  imapsieve_mailbox1_causes = COPY\n  imapsieve_mailbox1_before = \
         file:{dir}/site/report-spam.sieve\n  imapsieve_mailbox2_name = *\n  imapsieve_mailbox2_from = Junk\n  \
         imapsieve_mailbox2_causes = COPY\n  imapsieve_mailbox2_before = file:{dir}/site/report-ham.sieve\n}}\n"
    );
    let more = vec![
        ("site/after/late.sieve", "keep;\n".into()),
        ("site/filter/README", "Programs for Sieve's filter.\n".into()),
    ];
    let protocols = "protocol lda {\n  mail_plugins = $mail_plugins sieve\n}\nprotocol lmtp {\n  mail_plugins = $mail_plugins \
                     sieve\n}\nprotocol imap {\n  mail_plugins = $mail_plugins imap_sieve\n}\n";
    let files = vec![
        ("dovecot.conf", format!("{}!include conf.d/*.conf\n!include_try local.conf\n", head(site.flavour))),
        ("conf.d/10-mail.conf", format!("{}{}", base(site), storage(site.flavour))),
        ("conf.d/15-mailboxes.conf", inbox(site.flavour, "namespace inbox", "", &["Sent"])),
        ("conf.d/20-protocols.conf", protocols.into()),
        ("conf.d/90-sieve.conf", sieve),
    ];
    sample("docker-mailserver", files, scripts(site, "Junk").into_iter().chain(more).collect())
}

/// mailcow: one large file, lists of plugins in files of their own, scripts from a dictionary, and files of others behind.
pub fn mailcow(site: &Site) -> Sample {
    let dir = site.dir().display();
    let settings = format!(
        "mail_plugins = <{dir}/site/mail_plugins\nprotocol imap {{\n  mail_plugins = <{dir}/site/mail_plugins_imap\n}}\nprotocol \
         lmtp {{\n  mail_plugins = <{dir}/site/mail_plugins_lmtp\n}}\nplugin {{\n  quota = count:User quota\n  quota_vsizes = \
         yes\n  sieve = file:~/sieve;active=~/.dovecot.sieve\n  sieve_plugins = sieve_imapsieve sieve_extprograms\n  \
         imapsieve_mailbox1_name = Junk\n  imapsieve_mailbox1_causes = COPY\n  imapsieve_mailbox1_before = \
         file:{dir}/site/report-spam.sieve\n  imapsieve_mailbox2_name = *\n  imapsieve_mailbox2_from = Junk\n  \
         imapsieve_mailbox2_causes = COPY\n  imapsieve_mailbox2_before = file:{dir}/site/report-ham.sieve\n  sieve_pipe_bin_dir = \
         {dir}/site/bin\n  sieve_global_extensions = +vnd.dovecot.pipe +vnd.dovecot.execute\n  sieve_extensions = +notify \
         +imapflags +vacation-seconds +editheader\n  sieve_before = {dir}/site/before/spam.sieve\n  sieve_before2 = \
         dict:file:{dir}/site/scripts.dict;name=active;bindir={dir}/tmp/bindir\n  sieve_after = \
         {dir}/site/global-after.sieve\n}}\nremote 127.0.0.1 {{\n  disable_plaintext_auth = no\n}}\n!include_try \
         {dir}/sni.conf\n!include_try {dir}/etc/extra.conf\n!include_try {dir}/shared_namespace.conf\ndefault_client_limit = 10400\n"
    );
    let more = vec![
        ("site/mail_plugins", "quota".into()),
        ("site/mail_plugins_imap", "quota imap_quota imap_sieve".into()),
        ("site/mail_plugins_lmtp", "quota sieve".into()),
        ("site/global-after.sieve", "keep;\n".into()),
        ("etc/extra.conf", format!("!include_try {dir}/mailseal.conf\n")),
        ("site/scripts.dict", "priv/sieve/name/active\n1\npriv/sieve/data/1\nkeep;\n".into()),
    ];
    let files = vec![(
        "dovecot.conf",
        format!(
            "{}{}{}{}{settings}",
            head(site.flavour),
            base(site),
            storage(site.flavour),
            inbox(site.flavour, "namespace inbox", "  separator = /\n", &["Sent"])
        ),
    )];
    Sample {
        place: "mailseal.conf",
        ..sample("mailcow", files, scripts(site, "Junk").into_iter().chain(more).collect())
    }
}

/// iRedMail: namespaces without names, others' mailboxes, several folders for sent mail, dovecot-lda.
pub fn iredmail(site: &Site) -> Sample {
    let dir = site.dir().display();
    let settings = format!(
        "mail_plugins = quota acl\nprotocol lda {{\n  mail_plugins = $mail_plugins sieve\n  lda_mailbox_autocreate = \
         yes\n}}\nprotocol lmtp {{\n  mail_plugins = $mail_plugins quota sieve\n  recipient_delimiter = +\n}}\nprotocol imap {{\n  \
         mail_plugins = $mail_plugins imap_quota imap_acl\n}}\nplugin {{\n  quota = count:User quota\n  quota_vsizes = yes\n  acl \
         = vfile\n  sieve_dir = ~/sieve\n  sieve = ~/sieve/dovecot.sieve\n  sieve_global_dir = {dir}/site\n  sieve_before = \
         {dir}/site/before/spam.sieve\n  sieve_max_redirects = 30\n}}\nnamespace {{\n  type = shared\n  separator = /\n  prefix = \
         Shared/%%u/\n  location = maildir:%%Lh/Maildir/\n  subscriptions = yes\n  list = children\n}}\n!include_try \
         {dir}/iredmail/*.conf\n"
    );
    let files = vec![
        (
            "dovecot.conf",
            format!(
                "{}{}{}{}{settings}",
                head(site.flavour),
                base(site),
                storage(site.flavour),
                inbox(
                    site.flavour,
                    "namespace",
                    "  type = private\n  separator = /\n  prefix =\n",
                    &["Sent", "Sent Messages", "Sent Items"]
                )
            ),
        ),
        ("iredmail/README", "Settings of your own.\n".into()),
    ];
    Sample {
        learns: false,
        place: "iredmail/99-mailseal.conf",
        sent: &["Sent", "Sent Messages", "Sent Items"],
        ..sample("iRedMail", files, scripts(site, "Junk"))
    }
}

/// Mail-in-a-Box on Dovecot 2.4: mailboxes written outside namespaces, and a folder of scripts.
pub fn mail_in_a_box(site: &Site) -> Sample {
    let dir = site.dir().display();
    let sieve = format!(
        "sieve_plugins {{\n  sieve_imapsieve = yes\n  sieve_extprograms = yes\n}}\nsieve_script spam-global {{\n  type = before\n  \
         path = {dir}/site/before/spam.sieve\n}}\nsieve_script spam-global-before {{\n  type = before\n  path = \
         {dir}/site/global_before\n}}\nsieve_script personal {{\n  type = personal\n  path = ~/sieve\n  active_path = \
         ~/.dovecot.sieve\n}}\nsieve_global_extensions {{\n  vnd.dovecot.pipe = yes\n  vnd.dovecot.environment = \
         yes\n}}\nsieve_pipe_bin_dir = {dir}/site/bin\nmailbox Junk {{\n  sieve_script junk {{\n    type = before\n    cause = copy \
         append\n    path = {dir}/site/report-spam.sieve\n  }}\n}}\nimapsieve_from Junk {{\n  sieve_script ham {{\n    type = \
         before\n    cause = copy\n    path = {dir}/site/report-ham.sieve\n  }}\n}}\n"
    );
    let protocols = "protocol imap {\n  mail_plugins {\n    imap_sieve = yes\n  }\n}\nprotocol lmtp {\n  mail_plugins {\n    sieve = \
                     yes\n  }\n}\n";
    let files = vec![
        (
            "dovecot.conf",
            format!("{}{}!include conf.d/*.conf\n!include_try local.conf\n", head(site.flavour), base(site)),
        ),
        (
            "conf.d/10-mail.conf",
            format!("{}{}", storage(site.flavour), inbox(site.flavour, "namespace inbox", "", &["Sent"])),
        ),
        ("conf.d/20-imap.conf", protocols.into()),
        ("conf.d/99-local-sieve.conf", sieve),
    ];
    let more = vec![("site/global_before/keep.sieve", "keep;\n".into())];
    sample("Mail-in-a-Box", files, scripts(site, "Junk").into_iter().chain(more).collect())
}

/// Modoboa on Dovecot 2.4: lists as blocks, scripts after users' own, rspamd over imapsieve.
pub fn modoboa(site: &Site) -> Sample {
    let dir = site.dir().display();
    let imapsieve = format!(
        "protocol imap {{\n  mail_plugins {{\n    imap_sieve = yes\n  }}\n}}\nsieve_plugins {{\n  sieve_imapsieve = yes\n  \
         sieve_extprograms = yes\n}}\nsieve_global_extensions {{\n  vnd.dovecot.pipe = yes\n}}\nsieve_pipe_bin_dir = \
         {dir}/site/bin\nmailbox Junk {{\n  sieve_script report-spam {{\n    type = before\n    cause = copy\n    path = \
         {dir}/site/report-spam.sieve\n  }}\n}}\nimapsieve_from Junk {{\n  sieve_script report-ham {{\n    type = before\n    \
         cause = copy\n    path = {dir}/site/report-ham.sieve\n  }}\n}}\n"
    );
    let sieve = format!("sieve_script after {{\n  type = after\n  path = {dir}/site/before\n}}\n");
    let lmtp = "protocol lmtp {\n  mail_plugins {\n    sieve = yes\n    quota = yes\n  }\n}\n";
    let quota = "mail_plugins {\n  quota = yes\n}\nquota user {\n  driver = count\n}\n";
    let files = vec![
        ("dovecot.conf", format!("{}!include conf.d/*.conf\n!include_try local.conf\n", head(site.flavour))),
        ("conf.d/10-mail.conf", format!("{}{}", base(site), storage(site.flavour))),
        ("conf.d/15-mailboxes.conf", inbox(site.flavour, "namespace inbox", "", &["Sent"])),
        ("conf.d/20-lmtp.conf", lmtp.into()),
        ("conf.d/90-quota.conf", quota.into()),
        ("conf.d/90-sieve.conf", sieve),
        ("conf.d/95-imapsieve.conf", imapsieve),
    ];
    sample("Modoboa", files, scripts(site, "Junk"))
}
