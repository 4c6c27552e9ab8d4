"""Shows sealed mails in Thunderbird: what stands in its Subject line and list, what the body begins with, and a picture.

`thunderbird.py SECRET-KEY PICTURES MAIL…` writes a line a mail: name, Subject shown, Subject in the list, body. The key is
OpenPGP's, or S/MIME's as PKCS #12 (`.p12`) with the password "secret".
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from marionette import Marionette

PORT = 2829
PREFS = """
user_pref("app.update.enabled", false);
user_pref("browser.dom.window.dump.enabled", false);
user_pref("mail.provider.enabled", false);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.rights.version", 1);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("mail.winsearch.firstRunDone", true);
user_pref("mail.account.account1.server", "server1");
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.localfoldersserver", "server1");
user_pref("mail.server.server1.hostname", "Local Folders");
user_pref("mail.server.server1.name", "Local Folders");
user_pref("mail.server.server1.type", "none");
user_pref("mail.server.server1.userName", "nobody");
user_pref("marionette.port", %d);
user_pref("remote.prefs.recommended", true);
""" % PORT

IMPORT = """
const { EnigmailCore } = ChromeUtils.importESModule("chrome://openpgp/content/modules/core.sys.mjs");
const { RNP } = ChromeUtils.importESModule("chrome://openpgp/content/modules/RNP.sys.mjs");
await EnigmailCore.init();
const result = await RNP.importSecKeyBlockImpl(window, () => { throw new Error("passphrase") }, false, args[0]);
return result && result.importedKeys && result.importedKeys.length;
"""

# Takes an armored certificate, and the secret keys for personal ones.
ACCEPT = """
const { RNP } = ChromeUtils.importESModule("chrome://openpgp/content/modules/RNP.sys.mjs");
const { EnigmailKeyRing } = ChromeUtils.importESModule("chrome://openpgp/content/modules/keyRing.sys.mjs");
const { PgpSqliteDb2 } = ChromeUtils.importESModule("chrome://openpgp/content/modules/sqliteDb.sys.mjs");
await RNP.importPubkeyBlockAutoAcceptImpl(window, args[0], "verified");
EnigmailKeyRing.clearCache();
for (const key of EnigmailKeyRing.getAllKeys(window).keyList.filter(key => key.secretAvailable)) {
  await PgpSqliteDb2.acceptAsPersonalKey(key.fpr);
}
return EnigmailKeyRing.getAllKeys(window).keyList.length;
"""

FOLDER = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const root = MailServices.accounts.localFoldersServer.rootFolder;
root.createSubfolder("Readers", null);
const folder = root.getChildNamed("Readers").QueryInterface(Ci.nsIMsgLocalMailFolder);
for (const mail of args[0]) folder.addMessage(mail);
const about = window.document.getElementById("tabmail").currentAbout3Pane;
about.displayFolder(folder.URI);
await new Promise(r => setTimeout(r, 3000));
return folder.getTotalMessages(false);
"""

SHOW = """
const about = window.document.getElementById("tabmail").currentAbout3Pane;
const index = args[0];
about.threadTree.selectedIndex = index;
const pane = about.messagePane ? about : about;
await new Promise(r => setTimeout(r, 6000));
const message = window.document.getElementById("tabmail").currentAboutMessage;
const shown = message.document.getElementById("expandedsubjectBox")?.textContent || "";
const body = message.getMessagePaneBrowser().contentDocument.body?.innerText || "";
const header = about.gDBView.getMsgHdrAt(index);
const from = message.document.getElementById("expandedfromBox")?.textContent || "";
const lock = message.document.getElementById("encryptionTechBtn")?.innerText || "";
return [header.messageId, shown, header.mime2DecodedSubject, body, from, lock];
"""


@contextlib.contextmanager
def session(key, preferences=""):
    """Thunderbird with the secret key in a profile of its own, under remote control, and the name of its display."""
    profile = Path(tempfile.mkdtemp(prefix="thunderbird"))
    (profile / "user.js").write_text(PREFS + preferences)
    is_smime = str(key).endswith(".p12")
    if is_smime:
        subprocess.run(["certutil", "-N", "-d", f"sql:{profile}", "--empty-password"], check=True)
        subprocess.run(["pk12util", "-i", key, "-d", f"sql:{profile}", "-W", "secret", "-K", ""], check=True, stdout=sys.stderr)
    display = ":97"
    environment = dict(os.environ, DISPLAY=display, HOME=str(profile), MOZ_HEADLESS="", LANG="C.UTF-8")
    environment.pop("MOZ_HEADLESS")
    screen = subprocess.Popen(["Xvfb", display, "-screen", "0", "1200x800x24"], stderr=subprocess.DEVNULL)
    time.sleep(1)
    thunderbird = subprocess.Popen(
        ["thunderbird", "-profile", str(profile), "-no-remote", "-marionette", "-remote-allow-system-access"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        remote = Marionette(PORT)
        time.sleep(5)
        if not is_smime:
            armored = subprocess.run(["gpg", "--enarmor"], input=Path(key).read_bytes(), capture_output=True).stdout.decode()
            armored = armored.replace("PGP ARMORED FILE", "PGP PRIVATE KEY BLOCK")
            print("keys:", remote.run(IMPORT, armored), file=sys.stderr)
        yield remote, display
    finally:
        os.killpg(thunderbird.pid, 15)
        thunderbird.wait(20)
        screen.terminate()
        shutil.rmtree(profile, ignore_errors=True)


def fill(remote, mails):
    """Puts the mails, as octets, into a folder and shows it; gives how many there are."""
    return remote.run(FOLDER, [mail.decode("latin-1").replace("\r\n", "\n").rstrip("\n") + "\n" for mail in mails])


def main():
    key, pictures, *mails = sys.argv[1:]
    with session(key) as (remote, display):
        for index in range(fill(remote, [Path(mail).read_bytes() for mail in mails])):
            message_id, shown, listed, body, sender, lock = remote.run(SHOW, index)
            print("\t".join([message_id, shown, listed, repr(body[:90]), sender, lock]), flush=True)
            picture = Path(pictures) / f"thunderbird-{message_id.split('@')[0]}.png"
            subprocess.run(["import", "-display", display, "-window", "root", str(picture)], check=False)


if __name__ == "__main__":
    main()
