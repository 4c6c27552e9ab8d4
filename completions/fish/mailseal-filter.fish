complete -c mailseal-filter -l user -d 'The delivery user [default: $USER]' -r
complete -c mailseal-filter -l home -d 'The user\'s home [default: $HOME]' -r -F
complete -c mailseal-filter -l key -d 'Seal to exactly the certificates in FILE, and look none up (may be repeated)' -r -F
complete -c mailseal-filter -l protect-headers -d 'Which header fields are hidden inside (RFC 9788) [default: none]' -r -f -a "none\t'None'
baseline\t'Subject, Comments, Keywords, and what repeats the Subject or tells of the body'
shy\t'These, the display names in From, To and Cc, and the time zone of Date'
strict\t'All but addresses without names, dates in UTC, and what threads and mailing lists need'"
complete -c mailseal-filter -l subject -d 'What the outside shows as Subject where that is hidden [default: [...]]' -r
complete -c mailseal-filter -l pad -d 'What sealed messages are filled up to: a multiple of SIZE (4KiB), or padme\'s next size [default: none]' -r
complete -c mailseal-filter -l compression -d 'auto, none, zlib or zlib:1 to zlib:9 [default: auto]' -r
complete -c mailseal-filter -l deadline -d 'Give up after so many seconds; must be below Dovecot\'s sieve_filter_exec_timeout [default: 50]' -r
complete -c mailseal-filter -l log -d 'Where the log line goes: syslog, stderr, none, file:PATH [default: syslog]' -r
complete -c mailseal-filter -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal-filter -l unchanged -d 'What an unchanged message gives: itself and status 0, or nothing and status 1' -r -f -a "copy\t'Itself, and exit status 0'
fail\t'Nothing, and exit status 1'"
complete -c mailseal-filter -l sandbox -d 'Whether the process must give up everything but the message, once the certificates are read' -r -f -a "auto\t'As much of it as the kernel has'
require\t'All of it, or no message is touched'
off\t'None'"
complete -c mailseal-filter -l off -d 'Pass every message through'
complete -c mailseal-filter -l always -d 'Seal even what is encrypted already'
complete -c mailseal-filter -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailseal-filter -s V -l version -d 'Print version'
