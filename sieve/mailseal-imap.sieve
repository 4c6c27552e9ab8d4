# Seals what a mail program saves or copies into the user's own Sent folder (imapsieve). For dovecot-imap-2.3.conf and
# dovecot-imap-2.4.conf, beside one of the scripts for deliveries.
#
# What it cannot promise: Dovecot saves the message first and runs this script on it then. Where sealing fails, the message
# stays as it is, in clear: `mailseal audit` finds it. The sealed message has a new UID, and the time of the change as its
# INTERNALDATE. Mail that is encrypted already, and that of users without a certificate, is left alone.
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "variables", "relational",
  "comparator-i;ascii-numeric", "encoded-character", "imap4flags"];

# As in the script for deliveries.
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

set :length "length" "${user}${key}${headers}";
if anyof (string :value "gt" :comparator "i;ascii-numeric" "${length}" "255",
          string :contains ["${user}", "${key}", "${headers}"] ["${hex:0d}", "${hex:0a}"],
          string "${off}" ["on", "true", "1"]) {
  # Nothing that could be called, or nothing to do.
} elsif allof (string "${key}" "", string "${headers}" "") {
  filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--unchanged", "fail"];
} elsif string "${headers}" "" {
  filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--unchanged", "fail", "--key", "${key}"];
} elsif string "${key}" "" {
  filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--unchanged", "fail",
                            "--protect-headers", "${headers}"];
} else {
  filter "mailseal-filter" ["--config", "${config}", "--user", "${user}", "--unchanged", "fail",
                            "--protect-headers", "${headers}", "--key", "${key}"];
}
