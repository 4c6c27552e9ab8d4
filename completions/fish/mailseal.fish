# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mailseal_global_optspecs
    string join \n config= h/help V/version
end

function __fish_mailseal_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mailseal_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mailseal_using_subcommand
    set -l cmd (__fish_mailseal_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mailseal -n "__fish_mailseal_needs_command" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_needs_command" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_needs_command" -s V -l version -d 'Print version'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "keys" -d 'The certificates of users'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "migrate" -d 'Move to mailseal from another program'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "config" -d 'The configuration'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "status" -d 'Say what becomes of the mail of every user, or of one: sealed to which key, clear and why, deferred and why'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "doctor" -d 'Check whether the installation could leave a delivery in clear or lose it, and say how to fix that; exit status 1 then'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "setup" -d 'Put mailseal into the Dovecot that is there, or take it away again; exit status 1 when it is refused or was taken back, or when doctor finds a failure then'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "decrypt" -d 'Give back the original of sealed messages, byte for byte'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "reseal" -d 'Seal messages to a new key that are sealed to an old one; their plaintext is never stored'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "audit" -d 'Say which messages are in clear, and which are sealed to which keys; exit status 1 when one is in clear'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "report" -d 'Say from the mail log how long sealing takes, what failed, and whose mail waits; exit status 1 when a user\'s mail has been deferred for more than an hour'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "deliver" -d 'Seal a message before Dovecot: read it from standard input and hand it, sealed, to a local delivery agent'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "outgoing" -d 'Say what would become of mail that leaves for ADDRESS; exit status 1 when it would stay here'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "sendmail" -d 'Take the place of sendmail: seal what leaves, and hand it to the program that sends mail'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "serve" -d 'Run as a service that seals mail on its way: LMTP before Dovecot, Dovecot\'s script socket, and mail that leaves'
complete -c mailseal -n "__fish_mailseal_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "add" -d 'Enrol certificates: check them, try them, and put them where deliveries find them'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "list" -d 'List the enrolled certificates'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "show" -d 'Show a user\'s certificates, wherever they are found'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "remove" -d 'Remove a user\'s enrolled certificates, or one of them'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "check" -d 'Say which enrolled certificates are unfit or expire soon; exit status 1 when there are any'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "test" -d 'Write a sealed test message to standard output, to be delivered to the user'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "init" -d 'Mark the key stores and note who has a certificate: only then can a user have none'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "scan" -d 'Note every user for whom a source has a certificate; exit status 1 when some could not be asked'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "rename" -d 'Move a user\'s certificates, and that the user is known, to another name'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "refresh" -d 'Take over what is new about enrolled certificates: what owners have published, what authorities have revoked'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "export" -d 'Write enrolled certificates as a Web Key Directory, for a web server to publish'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "receive" -d 'Answer a message that a user has saved in their own mailbox to be enrolled (imapsieve)'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "pending" -d 'List what users have sent to be enrolled and is not in effect'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "approve" -d 'Enrol what a user has sent and confirmed, or stop sealing where the user has asked for that'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "confirm" -d 'Record the code that the user has read in the test message'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "recovery" -d 'A certificate whose secret key is divided into shares on paper: for the day on which a user\'s key is lost'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and not __fish_seen_subcommand_from add list show remove check test init scan rename refresh export receive pending approve confirm recovery help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from add" -l home -d 'The user\'s home, where a key source asks for it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from add" -l wkd -d 'Fetch the certificate that the address\'s domain publishes (Web Key Directory); in builds with the feature network' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from add" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from add" -l also -d 'Keep the certificates that the user has already'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from add" -l replace -d 'Put the new ones in the place of those the user has'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from add" -l check -d 'Refuse a user whom Dovecot does not know'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from list" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from show" -l home -d 'The user\'s home, where a key source asks for it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from show" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from show" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from remove" -l home -d 'The user\'s home, where a key source asks for it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from remove" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l within -d 'How soon, as 30d or 4w' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l digest -d 'Send an admin a list of who is enrolled, which certificates are pending, expire or cannot be used, and whose mail waits; sealed by [[outgoing]]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l log -d 'The log that tells whose mail waits; for several, several times [default: the log of this machine]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l users -d 'The users in whose homes certificates may lie, one a line [default: those that Dovecot lists]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -l mail-owner -d 'Tell the owners, each thing once: 30, 7 and 1 days before a certificate expires, when it cannot be used any more, and when mail waits for that'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from test" -l home -d 'The user\'s home, where a key source asks for it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from test" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from test" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from test" -l deliver -d 'Deliver it to the user\'s INBOX, through dovecot-lda'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from init" -l users -d 'The users, one a line [default: those that Dovecot lists]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from init" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from init" -l accept -d 'Take this store as it is, though it bore another marker before: after a restore, or on a new disk' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from init" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from scan" -l users -d 'The users, one a line [default: those that Dovecot lists]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from scan" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from scan" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from scan" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from rename" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from rename" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from refresh" -l keyserver -d 'Ask a keyserver: https://HOST with the interface of keys.openpgp.org, hkps://HOST by HKP; for several, several times' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from refresh" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from refresh" -l wkd -d 'Ask the Web Key Directories of the users\' domains; in builds with the feature network'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from refresh" -l crl -d 'Disable the S/MIME certificates that the revocation lists in `smime-crl` name'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from refresh" -l crl-points -d 'The same by the lists that the certificates name, fetched over HTTP; in builds with the feature network'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from refresh" -l dry-run -d 'Say what would change, and change nothing'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from refresh" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from export" -l wkd -d 'The root of what the web server hands out: .well-known/openpgpkey is made below it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from export" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from export" -l all -d 'The certificates of all who are enrolled'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from receive" -l cause -d 'How the message came into the folder' -r -f -a "append\t'It was saved there'
copy\t'It was copied or moved there from another folder, by a person or by a mail program\'s filter'"
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from receive" -l user -d 'The user [default: $USER]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from receive" -l home -d 'The user\'s home [default: $HOME]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from receive" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from receive" -l test -d 'Write the sealed message with a code that the last answer has promised'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from receive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from pending" -l users -d 'The users, one a line [default: those that Dovecot lists]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from pending" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from pending" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from pending" -l advance -d 'Have what has waited long enough take effect, and tell the owners: for a timer'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from pending" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from pending" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from approve" -l home -d 'The user\'s home, where a key source asks for it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from approve" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from approve" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from approve" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from confirm" -l home -d 'The user\'s home, where a key source asks for it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from confirm" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from confirm" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from recovery" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from recovery" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from recovery" -f -a "new" -d 'Make a recovery certificate, and write the shares of its secret key as pages to print'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from recovery" -f -a "test" -d 'Rehearse the recovery: join shares, open a sealed message, and only then write the certificate as recovery.pgp; exit status 1 when the shares do not give the key'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from recovery" -f -a "join" -d 'Join shares, and write the secret key, for `mailseal decrypt --secret-key`; exit status 1 when they do not give it'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from recovery" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "add" -d 'Enrol certificates: check them, try them, and put them where deliveries find them'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the enrolled certificates'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show a user\'s certificates, wherever they are found'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Remove a user\'s enrolled certificates, or one of them'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "check" -d 'Say which enrolled certificates are unfit or expire soon; exit status 1 when there are any'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "test" -d 'Write a sealed test message to standard output, to be delivered to the user'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "init" -d 'Mark the key stores and note who has a certificate: only then can a user have none'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "scan" -d 'Note every user for whom a source has a certificate; exit status 1 when some could not be asked'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "rename" -d 'Move a user\'s certificates, and that the user is known, to another name'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "refresh" -d 'Take over what is new about enrolled certificates: what owners have published, what authorities have revoked'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "export" -d 'Write enrolled certificates as a Web Key Directory, for a web server to publish'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "receive" -d 'Answer a message that a user has saved in their own mailbox to be enrolled (imapsieve)'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "pending" -d 'List what users have sent to be enrolled and is not in effect'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "approve" -d 'Enrol what a user has sent and confirmed, or stop sealing where the user has asked for that'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "confirm" -d 'Record the code that the user has read in the test message'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "recovery" -d 'A certificate whose secret key is divided into shares on paper: for the day on which a user\'s key is lost'
complete -c mailseal -n "__fish_mailseal_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and not __fish_seen_subcommand_from gpgit help" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and not __fish_seen_subcommand_from gpgit help" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and not __fish_seen_subcommand_from gpgit help" -f -a "gpgit" -d 'Enrol the certificates that gpgit uses, before mailseal takes its place; exit status 1 when it is not clear which one is a user\'s'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and not __fish_seen_subcommand_from gpgit help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from gpgit" -l address -d 'The users\' addresses, as %{user}@example.org [default: as the site\'s Sieve script calls gpgit, else the user\'s name]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from gpgit" -l users -d 'The users, one a line [default: those that Dovecot lists]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from gpgit" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from gpgit" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from gpgit" -l dry-run -d 'Say what would be done, and do nothing'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from gpgit" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from gpgit" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from help" -f -a "gpgit" -d 'Enrol the certificates that gpgit uses, before mailseal takes its place; exit status 1 when it is not clear which one is a user\'s'
complete -c mailseal -n "__fish_mailseal_using_subcommand migrate; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and not __fish_seen_subcommand_from check help" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and not __fish_seen_subcommand_from check help" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and not __fish_seen_subcommand_from check help" -f -a "check" -d 'Say whether the configuration can be taken, and which line of it cannot; exit status 78 then'
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and not __fish_seen_subcommand_from check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "check" -d 'Say whether the configuration can be taken, and which line of it cannot; exit status 78 then'
complete -c mailseal -n "__fish_mailseal_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand status" -l why -d 'Say what became of the user\'s message with this Message-ID, and what to do' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand status" -l log -d 'The log to look for it in (may be repeated) [default: the journal or the mail log of this machine]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand status" -l users -d 'The users, one a line [default: those that Dovecot lists]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand status" -l dovecot-config -d 'Dovecot\'s main configuration, if another than its default' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand status" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand status" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand status" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand doctor" -l user -d 'Send a message for this user through the script and the filter (may be repeated)' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand doctor" -l dovecot-config -d 'Dovecot\'s main configuration [default: Dovecot\'s own]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand doctor" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand doctor" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -l dovecot-config -d 'Dovecot\'s main configuration [default: Dovecot\'s own]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -l users -d 'The users, one a line [default: those that Dovecot lists]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -l state -d 'The folder for the trap, the scripts, and what setup notes' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -l filter-dir -d 'The folder that mailseal-filter is in [default: ../lib/mailseal/bin beside this program]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -l dry-run -d 'Say what would be done, and change nothing'
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -l undo -d 'Take away what setup made; certificates, the register and the configuration stay'
complete -c mailseal -n "__fish_mailseal_using_subcommand setup" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l secret-key -d 'The secret key, as gpg --export-secret-keys writes it, or for S/MIME as PKCS #12 or PEM; for several keys, several times' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l passphrase-fd -d 'Read the passphrases from this file descriptor, one a line, and ask for none' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l max-expansion -d 'How many times its sealed size a message beyond 64 MiB may grow to' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l into -d 'Write the messages to this new Maildir, and leave the others as they are' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l control -d 'Dovecot\'s control folder (CONTROL=) [default: the Maildir]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l jobs -d 'Messages at once [default: the processors]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l gpg-agent -d 'The secret keys that gpg, for S/MIME gpgsm, and their agent hold'
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -l keep-uids -d 'Keep the UIDs, for mailboxes whose users are logged out'
complete -c mailseal -n "__fish_mailseal_using_subcommand decrypt" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l secret-key -d 'The secret key, as gpg --export-secret-keys writes it, or for S/MIME as PKCS #12 or PEM; for several keys, several times' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l passphrase-fd -d 'Read the passphrases from this file descriptor, one a line, and ask for none' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l max-expansion -d 'How many times its sealed size a message beyond 64 MiB may grow to' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l key -d 'The new certificate; for several keys, several times' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l control -d 'Dovecot\'s control folder (CONTROL=) [default: the Maildir]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l jobs -d 'Messages at once [default: the processors]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l gpg-agent -d 'The secret keys that gpg, for S/MIME gpgsm, and their agent hold'
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l accept-mailbox -d 'Seal to a certificate that its owner has confirmed through the mailbox only: whoever had its password could do that'
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -l keep-uids -d 'Keep the UIDs, for mailboxes whose users are logged out'
complete -c mailseal -n "__fish_mailseal_using_subcommand reseal" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l user -d 'The user whose certificates the keys are compared with (with a pattern, several) [default: the Maildir\'s owner]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l home -d 'The user\'s home, where a key source asks for it' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l key -d 'Compare with exactly the certificates in FILE, and look none up (may be repeated)' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l jobs -d 'Messages at once [default: the processors]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l sandbox -d 'Whether what reads mail must be confined to the Maildir' -r -f -a "auto\t'As much of it as the kernel has'
require\t'All of it, or no message is touched'
off\t'None'"
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l list -d 'Name each message that is in clear, cannot be read, or is not sealed to a key that the user has now'
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand audit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailseal -n "__fish_mailseal_using_subcommand report" -l html -d 'Write a web page to this file' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand report" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand report" -l journal -d 'Read the journal'
complete -c mailseal -n "__fish_mailseal_using_subcommand report" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand report" -l prometheus -d 'For the textfile collector of Prometheus\'s node_exporter'
complete -c mailseal -n "__fish_mailseal_using_subcommand report" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l user -d 'The delivery user [default: $USER]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l home -d 'The user\'s home [default: $HOME]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l key -d 'Seal to exactly the certificates in FILE, and look none up (may be repeated)' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l protect-headers -d 'Which header fields are hidden inside (RFC 9788) [default: none]' -r -f -a "none\t'None'
baseline\t'Subject, Comments, Keywords, and what repeats the Subject or tells of the body'
shy\t'These, the display names in From, To and Cc, and the time zone of Date'
strict\t'All but addresses without names, dates in UTC, and what threads and mailing lists need'"
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l subject -d 'What the outside shows as Subject where that is hidden [default: [...]]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l pad -d 'What sealed messages are filled up to: a multiple of SIZE (4KiB), or padme\'s next size [default: none]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l compression -d 'auto, none, zlib or zlib:1 to zlib:9 [default: auto]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l deadline -d 'Give up after so many seconds; must be below Dovecot\'s sieve_filter_exec_timeout [default: 50]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l log -d 'Where the log line goes: syslog, stderr, none, file:PATH [default: syslog]' -r
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l off -d 'Pass every message through'
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -l always -d 'Seal even what is encrypted already'
complete -c mailseal -n "__fish_mailseal_using_subcommand deliver" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailseal -n "__fish_mailseal_using_subcommand outgoing" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand outgoing" -l heartbeat -d 'Send a numbered message to each ADDRESS, which looks like any other under its rule'
complete -c mailseal -n "__fish_mailseal_using_subcommand outgoing" -s h -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand sendmail" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand sendmail" -l held -d 'Try again all mail that is held'
complete -c mailseal -n "__fish_mailseal_using_subcommand sendmail" -l list -d 'Only list what is held'
complete -c mailseal -n "__fish_mailseal_using_subcommand sendmail" -l json -d 'Print JSON'
complete -c mailseal -n "__fish_mailseal_using_subcommand sendmail" -l help -d 'Print help'
complete -c mailseal -n "__fish_mailseal_using_subcommand serve" -l sandbox -d 'Whether the process must give up everything but its doors and the folders of certificates' -r -f -a "auto\t'As much of it as the kernel has'
require\t'All of it, or no message is touched'
off\t'None'"
complete -c mailseal -n "__fish_mailseal_using_subcommand serve" -l config -d 'The configuration [default: /etc/mailseal.toml]' -r -F
complete -c mailseal -n "__fish_mailseal_using_subcommand serve" -l check -d 'Only try the doors of one that runs, and what stands behind them; exit status 1 when one does not answer'
complete -c mailseal -n "__fish_mailseal_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "keys" -d 'The certificates of users'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "migrate" -d 'Move to mailseal from another program'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "config" -d 'The configuration'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "status" -d 'Say what becomes of the mail of every user, or of one: sealed to which key, clear and why, deferred and why'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "doctor" -d 'Check whether the installation could leave a delivery in clear or lose it, and say how to fix that; exit status 1 then'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "setup" -d 'Put mailseal into the Dovecot that is there, or take it away again; exit status 1 when it is refused or was taken back, or when doctor finds a failure then'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "decrypt" -d 'Give back the original of sealed messages, byte for byte'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "reseal" -d 'Seal messages to a new key that are sealed to an old one; their plaintext is never stored'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "audit" -d 'Say which messages are in clear, and which are sealed to which keys; exit status 1 when one is in clear'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "report" -d 'Say from the mail log how long sealing takes, what failed, and whose mail waits; exit status 1 when a user\'s mail has been deferred for more than an hour'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "deliver" -d 'Seal a message before Dovecot: read it from standard input and hand it, sealed, to a local delivery agent'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "outgoing" -d 'Say what would become of mail that leaves for ADDRESS; exit status 1 when it would stay here'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "sendmail" -d 'Take the place of sendmail: seal what leaves, and hand it to the program that sends mail'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "serve" -d 'Run as a service that seals mail on its way: LMTP before Dovecot, Dovecot\'s script socket, and mail that leaves'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and not __fish_seen_subcommand_from keys migrate config status doctor setup decrypt reseal audit report deliver outgoing sendmail serve help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "add" -d 'Enrol certificates: check them, try them, and put them where deliveries find them'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "list" -d 'List the enrolled certificates'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "show" -d 'Show a user\'s certificates, wherever they are found'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "remove" -d 'Remove a user\'s enrolled certificates, or one of them'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "check" -d 'Say which enrolled certificates are unfit or expire soon; exit status 1 when there are any'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "test" -d 'Write a sealed test message to standard output, to be delivered to the user'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "init" -d 'Mark the key stores and note who has a certificate: only then can a user have none'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "scan" -d 'Note every user for whom a source has a certificate; exit status 1 when some could not be asked'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "rename" -d 'Move a user\'s certificates, and that the user is known, to another name'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "refresh" -d 'Take over what is new about enrolled certificates: what owners have published, what authorities have revoked'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "export" -d 'Write enrolled certificates as a Web Key Directory, for a web server to publish'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "receive" -d 'Answer a message that a user has saved in their own mailbox to be enrolled (imapsieve)'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "pending" -d 'List what users have sent to be enrolled and is not in effect'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "approve" -d 'Enrol what a user has sent and confirmed, or stop sealing where the user has asked for that'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "confirm" -d 'Record the code that the user has read in the test message'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "recovery" -d 'A certificate whose secret key is divided into shares on paper: for the day on which a user\'s key is lost'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from migrate" -f -a "gpgit" -d 'Enrol the certificates that gpgit uses, before mailseal takes its place; exit status 1 when it is not clear which one is a user\'s'
complete -c mailseal -n "__fish_mailseal_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "check" -d 'Say whether the configuration can be taken, and which line of it cannot; exit status 78 then'
