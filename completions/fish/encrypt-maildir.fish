complete -c encrypt-maildir -l dovecot -d 'The mailboxes of these users, through Dovecot: live, of any storage. Dovecot expands patterns with * and ?' -r
complete -c encrypt-maildir -l rate -d 'With --dovecot, at most N messages a second, of all users together' -r
complete -c encrypt-maildir -l user -d 'The delivery user whose certificates to use (with a pattern, several) [default: the Maildir\'s owner]' -r
complete -c encrypt-maildir -l home -d 'The user\'s home, with variables [default: as Dovecot or the system knows it]' -r -F
complete -c encrypt-maildir -l key -d 'Seal to exactly the certificates in FILE, and look none up (may be repeated)' -r -F
complete -c encrypt-maildir -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c encrypt-maildir -l dovecot-config -d 'Dovecot\'s configuration, for doveadm' -r -F
complete -c encrypt-maildir -l control -d 'Dovecot\'s control folder (CONTROL=), with variables [default: as Dovecot says, else the Maildir]' -r -F
complete -c encrypt-maildir -l protect-headers -d 'Which header fields are hidden inside (RFC 9788) [default: none]' -r -f -a "none\t'None'
baseline\t'Subject, Comments, Keywords, and what repeats the Subject or tells of the body'
shy\t'These, the display names in From, To and Cc, and the time zone of Date'
strict\t'All but addresses without names, dates in UTC, and what threads and mailing lists need'"
complete -c encrypt-maildir -l subject -d 'What the outside shows as Subject where that is hidden [default: [...]]' -r
complete -c encrypt-maildir -l pad -d 'What sealed messages are filled up to: a multiple of SIZE (4KiB), or padme\'s next size [default: none]' -r
complete -c encrypt-maildir -l compression -d 'auto, none, zlib or zlib:1 to zlib:9 [default: auto]' -r
complete -c encrypt-maildir -l sandbox -d 'Whether what touches mail must be confined to the Maildir' -r -f -a "auto\t'As much of it as the kernel has'
require\t'All of it, or no message is touched'
off\t'None'"
complete -c encrypt-maildir -l jobs -d 'Messages at once; with --dovecot, users at once [default: the processors]' -r
complete -c encrypt-maildir -l newer-than -d 'Only messages whose file changed within AGE (1h, 30d); with --dovecot, those that arrived within AGE' -r
complete -c encrypt-maildir -l older-than -d 'Only messages whose file did not change within AGE; with --dovecot, those that arrived before' -r
complete -c encrypt-maildir -l progress -d 'Whether to show progress' -r -f -a "auto\t'A bar on a terminal, else a line every ten seconds'
always\t'The same, and a line at the beginning and the end'
never\t'Nothing'"
complete -c encrypt-maildir -l patience -d 'End the work on an owner\'s mail when it makes no progress for so long; the others go on' -r
complete -c encrypt-maildir -l offline -d 'Nobody is logged in and nothing is delivered: refuse the mailbox otherwise'
complete -c encrypt-maildir -l keep-uids -d 'Keep the UIDs, for mailboxes whose users are logged out'
complete -c encrypt-maildir -l unpack -d 'Unpack compressed messages, seal them and store them plain'
complete -c encrypt-maildir -l dry-run -d 'Change nothing, and say what would be done'
complete -c encrypt-maildir -l unconfirmed -d 'Seal even to certificates whose owner has not confirmed being able to read mail (mailseal keys confirm)'
complete -c encrypt-maildir -l accept-mailbox -d 'Seal to certificates that their owner has confirmed through the mailbox only: whoever had its password could do that'
complete -c encrypt-maildir -l json -d 'Print the summary as JSON'
complete -c encrypt-maildir -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encrypt-maildir -s V -l version -d 'Print version'
