# Seals each message to its owner's certificate before it is stored; what cannot be sealed is put IN CLEAR into
# the user's folder Quarantine.
#
# Like mailseal.sieve it must be the FIRST before-script: one that ends in `stop` before it leaves mail clear.
#
# What it gives up: the promise, but in one place. Unsealed mail lies in clear on the server, in a folder that
# can be watched and left out of backups. Mail is not late, but the user has to know of the folder: the user's own script is not run and nothing reaches the
# INBOX. Where the folder cannot be written (over quota, another namespace prefix) the mail ends, in clear, in
# the INBOX. Where folders carry a prefix the name below needs it too: "INBOX.Quarantine".
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "variables", "relational",
  "comparator-i;ascii-numeric", "encoded-character", "fileinto", "mailbox"];

# What is the user's own comes from the user database (docs/dovecot.md); what is not set is empty.
set "config" "/etc/mailseal.toml";
set "user" "${env.vnd.dovecot.username}";
set "key" "${env.vnd.dovecot.config.mailseal_key}";
set "headers" "${env.vnd.dovecot.config.mailseal_protect_headers}";
set "off" "${env.vnd.dovecot.config.mailseal_off}";
# An empty one is "yes" in Dovecot 2.3, so that word means nothing here.
if string "${key}" "yes" {
  set "key" "";
}
if string "${headers}" "yes" {
  set "headers" "";
}

set "sealed" "no";
set :length "length" "${user}${key}${headers}";
if anyof (string :value "gt" :comparator "i;ascii-numeric" "${length}" "255",
          string :contains ["${user}", "${key}", "${headers}"] ["${hex:0d}", "${hex:0a}"]) {
  # No program can be called with this: Pigeonhole would give up, and store the message in clear.
} elsif string "${off}" ["on", "true", "1"] {
  if filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--off"] {
    set "sealed" "yes";
  }
} elsif allof (string "${key}" "", string "${headers}" "") {
  if filter "mailseal-filter" ["--config", "${config}", "--user", "${user}"] {
    set "sealed" "yes";
  }
} elsif string "${headers}" "" {
  if filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--key", "${key}"] {
    set "sealed" "yes";
  }
} elsif string "${key}" "" {
  if filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--protect-headers", "${headers}"] {
    set "sealed" "yes";
  }
} else {
  if filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--protect-headers", "${headers}",
                               "--key", "${key}"] {
    set "sealed" "yes";
  }
}

# A program that ended well without a word has lost the message.
if anyof (not string "${sealed}" "yes", size :under 1) {
  fileinto :create "Quarantine";
  stop;
}
