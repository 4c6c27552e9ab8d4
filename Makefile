# Builds what is handed on, and installs it. Plain `cargo build --release --bins` builds the programs for this machine.
#
#   make release              programs in dist/bin: the filter needs no shared library, nothing of the builder is in them
#   make install              into PREFIX, SYSCONFDIR, below DESTDIR; `make release` first, or BUILD=target/release
#   make deb                  a Debian package in dist/
#   make dist                 programs, archive, package and checksums, each of them checked
#   make check-reproducible   two folders and two homes give the same bytes

.POSIX:

TARGET = x86_64-unknown-linux-gnu
PREFIX = /usr/local
SYSCONFDIR = /etc
LOCALSTATEDIR = /var
BINDIR = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/lib/mailseal/bin
DATADIR = $(PREFIX)/share
MANDIR = $(DATADIR)/man
DOCDIR = $(DATADIR)/doc/mailseal
ZSHDIR = $(DATADIR)/zsh/site-functions
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d
DESTDIR =
# Where the programs come from.
BUILD = dist/bin
CARGO = cargo
INSTALL = install

all: release

release:
	CARGO="$(CARGO)" contrib/release programs "$(TARGET)"

# Of the paths that files name, those of this installation.
PATHS = -e 's,/usr/local/lib/mailseal/bin,$(LIBEXECDIR),g' \
	-e 's,/usr/local/bin/,$(BINDIR)/,g' \
	-e 's,/etc/mailseal,$(SYSCONFDIR)/mailseal,g' \
	-e 's,/etc/dovecot,$(SYSCONFDIR)/dovecot,g' \
	-e 's,/etc/default,$(SYSCONFDIR)/default,g' \
	-e 's,/var/lib/mailseal,$(LOCALSTATEDIR)/lib/mailseal,g' \
	-e 's,/var/spool/mailseal,$(LOCALSTATEDIR)/spool/mailseal,g'

# Units for `mailseal keys refresh --wkd` come with programs that have it (the feature `network`).
# Files come under another name first: a delivery never finds half a program, and one that runs keeps its own.
install:
	@$(INSTALL) -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(LIBEXECDIR)"
	@for program in "$(BINDIR)/mailseal" "$(BINDIR)/encrypt-maildir" "$(LIBEXECDIR)/mailseal-filter"; do \
	  $(INSTALL) -m 755 "$(BUILD)/$${program##*/}" "$(DESTDIR)$$program.new" && \
	  mv -f "$(DESTDIR)$$program.new" "$(DESTDIR)$$program" || exit 1; \
	done
	@put() { \
	  name=$${3:-$${2##*/}} && $(INSTALL) -d "$$1" && sed $(PATHS) "$$2" > "$$1/.$$name.new" && \
	  chmod 644 "$$1/.$$name.new" && mv -f "$$1/.$$name.new" "$$1/$$name" || exit 1; \
	}; \
	for page in man/*.1; do put "$(DESTDIR)$(MANDIR)/man1" "$$page"; done; \
	put "$(DESTDIR)$(MANDIR)/man5" man/mailseal.toml.5; \
	for file in completions/bash/*; do put "$(DESTDIR)$(DATADIR)/bash-completion/completions" "$$file"; done; \
	for file in completions/zsh/*; do put "$(DESTDIR)$(ZSHDIR)" "$$file"; done; \
	for file in completions/fish/*; do put "$(DESTDIR)$(DATADIR)/fish/vendor_completions.d" "$$file"; done; \
	for unit in contrib/systemd/*.service contrib/systemd/*.socket contrib/systemd/*.timer; do \
	  case "$$unit" in \
	    *keys-refresh*) "$(BUILD)/mailseal" keys refresh --help 2>/dev/null | grep -q -- --wkd || continue;; \
	  esac; \
	  put "$(DESTDIR)$(UNITDIR)" "$$unit"; \
	done; \
	put "$(DESTDIR)$(SYSUSERSDIR)" contrib/systemd/mailseal.sysusers mailseal.conf; \
	put "$(DESTDIR)$(TMPFILESDIR)" contrib/systemd/mailseal.tmpfiles mailseal.conf; \
	for file in sieve/*.sieve sieve/*.conf; do put "$(DESTDIR)$(DATADIR)/mailseal/sieve" "$$file"; done; \
	for file in contrib/mta/*; do put "$(DESTDIR)$(DOCDIR)/mta" "$$file"; done; \
	for file in sieve/userdb/*; do put "$(DESTDIR)$(DOCDIR)/userdb" "$$file"; done; \
	for file in monitoring/*; do put "$(DESTDIR)$(DOCDIR)/monitoring" "$$file"; done; \
	put "$(DESTDIR)$(DOCDIR)" contrib/apparmor/dovecot-mailseal; \
	for file in README.md SECURITY.md CONTRIBUTING.md; do put "$(DESTDIR)$(DOCDIR)" "$$file"; done; \
	for file in docs/*.md; do put "$(DESTDIR)$(DOCDIR)/docs" "$$file"; done; \
	put "$(DESTDIR)$(DOCDIR)" sieve/mailseal.toml; \
	test -e "$(DESTDIR)$(SYSCONFDIR)/mailseal.toml" || put "$(DESTDIR)$(SYSCONFDIR)" sieve/mailseal.toml
	@$(INSTALL) -d -m 755 "$(DESTDIR)$(SYSCONFDIR)/mailseal/keys" "$(DESTDIR)$(DOCDIR)/docs/pictures"
	@$(INSTALL) -m 644 docs/pictures/* "$(DESTDIR)$(DOCDIR)/docs/pictures"

deb: release
	contrib/release package

dist:
	CARGO="$(CARGO)" contrib/release all "$(TARGET)"

check-reproducible:
	CARGO="$(CARGO)" contrib/release reproducible "$(TARGET)"

clean:
	rm -rf dist target/dist

.PHONY: all release install deb dist check-reproducible clean
