# Seals each message to its owner's certificate before it is stored, and delivers it IN CLEAR where that fails.
#
# Like mailseal.sieve it must be the FIRST before-script: one that ends in `stop` before it leaves mail clear.
#
# What it gives up: the promise. A full disk, a broken update, an unreadable certificate or a missing program
# means plaintext in the mailbox, and only a line in the log says so. Mail is never late because of sealing.
# `mailseal audit` finds what stayed clear, `encrypt-maildir` seals it afterwards; indexes and backups made in
# between have seen it. A filter that hangs past sieve_filter_exec_timeout still fails the delivery, because
# Dovecot itself does.
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "variables", "relational",
  "comparator-i;ascii-numeric", "encoded-character"];

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
  # Nothing: the message goes on to the next scripts as it came.
}
