# Seals each message to its owner's certificate before it is stored, and stores nothing it could not seal.
#
# This must be the FIRST before-script. An earlier script that ends in `stop` (a spam filter that files into
# Junk, say) ends the whole run: this one is never asked, and the mail stays in clear.
#
# `filter` as an action would deliver in clear whenever the program fails; as a test it tells. The folder
# below is a trap that cannot be delivered to: Dovecot answers 451 (LMTP) or exits with 75 (dovecot-lda), and
# the MTA keeps the mail and tries again. The namespace FAILCLOSED comes from dovecot-2.3.conf or
# dovecot-2.4.conf; without it this script cannot hold anything back.
#
# What it gives up: mail waits in the MTA's queue while sealing fails, and bounces if that outlives the
# queue. And it ends where the user's own script begins: when that one fails at run time, Pigeonhole stores
# the message as it came, in clear. No Sieve script can close this.
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "variables", "relational",
  "comparator-i;ascii-numeric", "encoded-character", "fileinto"];

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
  fileinto "FAILCLOSED.defer";
  stop;
}
