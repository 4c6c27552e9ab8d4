"""Enrols a user with a mail program: `enrol.py PROGRAM OUT ADDRESS PORT USER PASSWORD SECRET-KEY`. Ends with 1 where an answer is missing.

The program is set up with the key and the IMAP account; from there on it is used as docs/users-enrol.md says. OUT gets pictures of
Thunderbird, and the screens and messages of both.
"""

import imaplib
import os
import re
import subprocess
import sys
import tempfile
import time
from email import message_from_bytes
from pathlib import Path

FOLDER = "Encryption"
ASKED = "Is this your key?"
FOUND = "Your key was found: please confirm it"
DONE = "Your mail will be encrypted"


class Mailbox:
    """What the server has, seen beside the program."""

    def __init__(self, address, port, user, password):
        self.imap = imaplib.IMAP4(address, int(port))
        self.imap.login(user, password)

    def messages(self, folder):
        if self.imap.select(folder, readonly=True)[0] != "OK":
            return []
        numbers = self.imap.search(None, "ALL")[1][0].split()
        return [self.imap.fetch(number, "(BODY.PEEK[])")[1][0][1] for number in numbers]

    def wait(self, folder, subject, tries=60):
        """The newest message with this Subject."""
        seen = []
        for _ in range(tries):
            seen = [message_from_bytes(message) for message in self.messages(folder)]
            found = [message for message in seen if message["Subject"] == subject]
            if found:
                return found[-1]
            time.sleep(0.5)
        raise SystemExit(f"{folder} has no {subject!r}, but {[message['Subject'] for message in seen]}")


def code_in(text):
    return re.search(r"code-[a-z0-9]{26}", text).group()


def gpg_home(key):
    home = tempfile.mkdtemp(prefix="enrol")
    os.environ["GNUPGHOME"] = home
    subprocess.run(["gpg", "--batch", "--quiet", "--import", key], check=True)
    listed = subprocess.run(["gpg", "--list-secret-keys", "--with-colons"], capture_output=True, check=True).stdout.decode()
    fingerprint = re.search(r"fpr:+([0-9A-F]{40})", listed).group(1)
    trust = f"{fingerprint}:6:\n".encode()
    subprocess.run(["gpg", "--batch", "--quiet", "--import-ownertrust"], input=trust, check=True, stderr=subprocess.DEVNULL)
    return fingerprint


# ---- Thunderbird

PREFS = """
user_pref("mail.accountmanager.accounts", "account1,account2");
user_pref("mail.account.account2.server", "server2");
user_pref("mail.account.account2.identities", "id1");
user_pref("mail.accountmanager.defaultaccount", "account2");
user_pref("mail.server.server2.type", "imap");
user_pref("mail.server.server2.hostname", "%(address)s");
user_pref("mail.server.server2.port", %(port)s);
user_pref("mail.server.server2.socketType", 0);
user_pref("mail.server.server2.authMethod", 3);
user_pref("mail.server.server2.userName", "%(user)s");
user_pref("mail.server.server2.name", "Alice");
user_pref("mail.server.server2.login_at_startup", false);
user_pref("mail.server.default.using_subscription", false);
user_pref("mail.server.server2.using_subscription", false);
user_pref("mail.identity.id1.fullName", "Alice");
user_pref("mail.identity.id1.useremail", "%(user)s");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.identity.id1.openpgp_key_id", "%(id)s");
user_pref("mail.identity.id1.smtpServer", "smtp1");
user_pref("mail.identity.id1.compose_html", false);
user_pref("mail.identity.id1.draft_folder", "imap://%(login)s@%(address)s/Drafts");
user_pref("mail.smtpservers", "smtp1");
user_pref("mail.smtp.defaultserver", "smtp1");
user_pref("mail.smtpserver.smtp1.hostname", "%(address)s");
user_pref("mail.identity.default.autocompleteToMyDomain", false);
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.biff.alert.show_preview", false);
user_pref("mail.biff.show_alert", false);
"""

ACCOUNT = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.getIncomingServer("server2");
const identity = MailServices.accounts.getIdentity("id1");
const named = async name => {
  for (let tries = 0; tries < 100; tries++) {
    for (const folder of server.rootFolder.descendants) if (folder.name.toLowerCase() == name.toLowerCase()) return folder;
    await new Promise(r => setTimeout(r, 200));
  }
  throw new Error("no folder " + name + " but " + server.rootFolder.descendants.map(f => f.name));
};
const fresh = folder => new Promise(yes => folder.QueryInterface(Ci.nsIMsgImapMailFolder).updateFolderWithListener(null, {
  QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]), OnStartRunningUrl() {}, OnStopRunningUrl: yes }));
"""

LOGIN = ACCOUNT + """
server.password = args[0];
server.performExpand(null);
return (await named(args[1])).URI;
"""

# A new message to the user's own address, with the own key or not.
WRITE = ACCOUNT + """
const opened = new Promise(resolve => {
  const watch = { observe(w, topic) {
    if (topic != "domwindowopened") return;
    Services.ww.unregisterNotification(watch);
    w.addEventListener("compose-editor-ready", () => resolve(w), { once: true });
  } };
  Services.ww.registerNotification(watch);
});
MailServices.compose.OpenComposeWindow(null, null, null, Ci.nsIMsgCompType.New, Ci.nsIMsgCompFormat.PlainText, identity, null, null);
const compose = await opened;
await new Promise(r => setTimeout(r, 3000));
compose.addressRowAddRecipientsArray(compose.document.getElementById("addressRowTo"), [identity.email]);
compose.document.getElementById("msgSubject").value = args[0];
compose.SetComposeWindowTitle();
await new Promise(r => setTimeout(r, 1500));
if (args[1] && !compose.gAttachMyPublicPGPKey) compose.document.getElementById("menu_AttachPopup_attachPublicKey")?.doCommand?.();
if (args[1] && !compose.gAttachMyPublicPGPKey) compose.goDoCommand("cmd_attachPublicKey");
return [compose.gSendEncrypted, compose.gSendSigned, compose.gAttachMyPublicPGPKey];
"""
LAST = 'const compose = Services.wm.getMostRecentWindow("msgcompose");\n'
# Saves it as a draft, and moves the draft into the folder.
MOVE = ACCOUNT + LAST + """
await compose.GenericSendMessage(Ci.nsIMsgCompDeliverMode.SaveAsDraft);
await new Promise(r => setTimeout(r, 3000));
compose.close();
const drafts = await named("Drafts");
await fresh(drafts);
const mail = [...drafts.messages].pop();
const folder = await named(args[0]);
await new Promise(yes => MailServices.copy.copyMessages(drafts, [mail], folder, true, {
  QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]), onStartCopy() {}, onProgress() {}, setMessageKey() {},
  getMessageId() { return null; }, onStopCopy: yes }, window.msgWindow, false));
return true;
"""

# Shows the newest message of a folder with this Subject, or part of it; gives its text.
SHOW = ACCOUNT + """
const folder = await named(args[0]);
await fresh(folder);
const about = window.document.getElementById("tabmail").currentAbout3Pane;
about.displayFolder(folder.URI);
await new Promise(r => setTimeout(r, 2500));
const view = about.gDBView;
let index = -1;
for (let at = 0; at < view.rowCount; at++) if (view.getMsgHdrAt(at).mime2DecodedSubject.includes(args[1])) index = at;
if (index < 0) throw new Error("not in the list: " + args[1]);
about.threadTree.selectedIndex = -1;
about.threadTree.selectedIndex = index;
const text = () => window.document.getElementById("tabmail").currentAboutMessage?.getMessagePaneBrowser()?.contentDocument?.body?.innerText;
for (let tries = 0; tries < 80 && !text()?.trim(); tries++) await new Promise(r => setTimeout(r, 100));
await new Promise(r => setTimeout(r, 2500));
return text();
"""


def thunderbirds(out, address, port, user, password, key):
    import thunderbird

    fingerprint = gpg_home(key)
    public = subprocess.run(["gpg", "--armor", "--export", fingerprint], capture_output=True, check=True).stdout.decode()
    mailbox = Mailbox(address, port, user, password)
    places = {"address": address, "port": port, "user": user, "id": fingerprint[-16:], "login": user.replace("@", "%40")}
    with thunderbird.session(key, PREFS % places) as (remote, display):
        def picture(name):
            subprocess.run(["import", "-display", display, "-window", "root", str(out / f"enrol-{name}.png")], check=True)

        print("accepted:", remote.run(thunderbird.ACCEPT, public))
        print("folder:", remote.run(LOGIN, password, FOLDER))
        def put(subject, with_key, name):
            print("write:", remote.run(WRITE, subject, with_key))
            picture(name)
            remote.run(MOVE, FOLDER)

        put("my key", True, "write")
        mailbox.wait(FOLDER, ASKED)
        asked = remote.run(SHOW, FOLDER, ASKED)
        picture("asked")
        put(code_in(asked), False, "own")
        mailbox.wait(FOLDER, FOUND)
        remote.run(SHOW, FOLDER, FOUND)
        picture("found")
        code = code_in(remote.run(SHOW, "INBOX", "mailseal"))
        picture("code")
        put(code, False, "confirm")
        mailbox.wait(FOLDER, DONE)
        remote.run(SHOW, FOLDER, DONE)
        picture("done")


# ---- mutt

def mutts(out, address, port, user, password, key):
    fingerprint = gpg_home(key)
    mailbox = Mailbox(address, port, user, password)
    login = user.replace("@", "%40")
    (out / "muttrc").write_text(f"""
set folder = "imap://{login}@{address}:{port}/" spoolfile = +INBOX imap_pass = "{password}"
set ssl_starttls = no ssl_force_tls = no realname = Bob from = {user}
set crypt_use_gpgme = yes pgp_default_key = {fingerprint} editor = true abort_unmodified = no sendmail = /bin/true
set record = "" postponed = "" confirmappend = no confirmcreate = no wait_key = no quit = yes header_cache = "" mail_check = 1
ignore *
unignore from to subject
""")
    tmux = ["tmux", "-L", f"enrol-{os.getpid()}", "-f", "/dev/null"]
    screens = (out / "mutt-screens.txt").open("w")

    def screen(title):
        shown = subprocess.run(tmux + ["capture-pane", "-p", "-t", "mutt"], capture_output=True, check=True).stdout.decode()
        screens.write(f"== {title}\n" + "\n".join(line.rstrip() for line in shown.splitlines()) + "\n")
        screens.flush()
        return shown

    def press(*keys, wait=2.0):
        subprocess.run(tmux + ["send-keys", "-t", "mutt", *keys], check=True)
        time.sleep(wait)

    def write(subject, with_key):
        """A new message to oneself: `m`, the key with Esc k, and w to write it into the folder; q and n throw the rest away."""
        press("m")
        press("C-u", user, "Enter")
        press("C-u", subject, "Enter", wait=3)
        if with_key:
            press("Escape", "k")
            screen("Esc k asks for the key")
            press("C-u", user, "Enter", wait=3)
            press("Enter", wait=3)
        screen("before it is written")
        press("w")
        press("C-u", f"={FOLDER}", "Enter", wait=4)
        screen("after w")
        press("q")
        press("n", wait=3)

    subprocess.run(tmux + ["new-session", "-d", "-s", "mutt", "-x", "100", "-y", "32", "mutt", "-n", "-F", str(out / "muttrc")], check=True)
    try:
        time.sleep(4)
        write("my key", True)
        mailbox.wait(FOLDER, FOUND)
        press("c")
        press("C-u", f"={FOLDER}", "Enter", wait=3)
        press("Enter", wait=3)
        screen("the answer")
        press("q", "c")
        press("C-u", "=INBOX", "Enter", wait=3)
        press("Enter", wait=4)
        code = code_in(screen("the message with the code"))
        press("q")
        write(code, False)
        mailbox.wait(FOLDER, DONE)
        press("c")
        press("C-u", f"={FOLDER}", "Enter", wait=3)
        press("Enter", wait=3)
        screen("done")
    finally:
        screen("at the end")
        subprocess.run(tmux + ["kill-server"], check=False)


def main():
    program, out, *account = sys.argv[1:]
    try:
        {"thunderbird": thunderbirds, "mutt": mutts}[program](Path(out), *account)
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)


if __name__ == "__main__":
    main()
