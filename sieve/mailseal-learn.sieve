# Lets a spam filter learn from the mail that a user moves into Junk or out of it (imapsieve), but never from mail that is
# encrypted: from that it would learn what ciphertext looks like. For dovecot-learn-2.3.conf and dovecot-learn-2.4.conf.
#
# `learn` is a program of yours: it gets the message on standard input, and "spam" or "ham" as its argument.
require ["vnd.dovecot.pipe", "copy", "imapsieve", "environment"];

if header :contains "Content-Type" ["multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"] {
  stop;
}

if environment :is "imap.mailbox" "Junk" {
  pipe :copy "learn" ["spam"];
} elsif not environment :is "imap.mailbox" "Trash" {
  pipe :copy "learn" ["ham"];
}
