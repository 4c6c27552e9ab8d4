# Lets a user enrol the own certificate: what is put into the user's own folder Encryption is answered there (imapsieve). For
# dovecot-receive-2.3.conf and dovecot-receive-2.4.conf.
#
# The answer takes the place of the message, which is attached to it. A sealed message with a code, and what is announced, go
# to the INBOX. Where the program fails, the message stays as it is.
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "imapsieve", "variables", "relational",
  "comparator-i;ascii-numeric", "encoded-character", "fileinto"];

set "config" "/etc/mailseal.toml";
set "user" "${env.vnd.dovecot.username}";
set "folder" "";
set "cause" "";
set "next" "none";
if environment :matches "imap.mailbox" "*" {
  set "folder" "${1}";
}
if environment :matches "imap.cause" "*" {
  set "cause" "${1}";
}

set :length "length" "${user}${folder}";
if anyof (string :value "gt" :comparator "i;ascii-numeric" "${length}" "255",
          string :contains ["${user}", "${folder}"] ["${hex:0d}", "${hex:0a}"],
          not string :is "${cause}" ["APPEND", "COPY"]) {
  stop;
}

if filter "mailseal" ["--config", "${config}", "keys", "receive", "--user", "${user}", "--cause", "${cause}"] {
  if header :matches "Mailseal-Next" "*" {
    set "next" "${1}";
  }
  fileinto "${folder}";
  if string "${next}" "inbox" {
    fileinto "INBOX";
  } elsif string "${next}" "test" {
    if filter "mailseal" ["--config", "${config}", "keys", "receive", "--user", "${user}", "--cause", "${cause}", "--test"] {
      fileinto "INBOX";
    }
  }
}
