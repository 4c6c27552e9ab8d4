# Seals each message to its owner's certificate before it is stored, and delivers it IN CLEAR where that fails.
#
# Like mailseal.sieve it must be the FIRST before-script: one that ends in `stop` before it leaves mail clear.
#
# What it gives up: the promise. A full disk, a broken update, an unreadable certificate or a missing program
# means plaintext in the mailbox, and only a line in the log says so. Mail is never late because of sealing.
# `mailseal audit` finds what stayed clear, `encrypt-maildir` seals it afterwards; indexes and backups made in
# between have seen it. A filter that hangs past sieve_filter_exec_timeout still fails the delivery, because
# Dovecot itself does.
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "variables"];

if not filter "mailseal-filter" ["--config", "/etc/mailseal.toml", "--user", "${env.vnd.dovecot.username}"] {
  # Nothing: the message goes on to the next scripts as it came.
}
