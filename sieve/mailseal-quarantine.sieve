# Seals each message to its owner's certificate before it is stored; what cannot be sealed is put IN CLEAR into
# the user's folder Quarantine.
#
# Like mailseal.sieve it must be the FIRST before-script: one that ends in `stop` before it leaves mail clear.
#
# What it gives up: the promise, but in one place. Unsealed mail lies in clear on the server, in a folder that
# can be watched and left out of backups. Mail is not late, but the user has to know of the folder: the user's own script is not run and nothing reaches the
# INBOX. Where the folder cannot be written (over quota, another namespace prefix) the mail ends, in clear, in
# the INBOX. Where folders carry a prefix the name below needs it too: "INBOX.Quarantine".
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "variables", "fileinto", "mailbox"];

if not filter "mailseal-filter" ["--config", "/etc/mailseal.toml", "--user", "${env.vnd.dovecot.username}"] {
  fileinto :create "Quarantine";
  stop;
}
