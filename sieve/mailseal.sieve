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
require ["vnd.dovecot.filter", "vnd.dovecot.environment", "environment", "variables", "fileinto"];

if not filter "mailseal-filter" ["--config", "/etc/mailseal.toml", "--user", "${env.vnd.dovecot.username}"] {
  fileinto "FAILCLOSED.defer";
  stop;
}
