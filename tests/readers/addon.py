"""Drives Thunderbird with the add-on: `addon.py MAILSEAL-FILTER CERTIFICATES ADD-ON WORK`. Ends with 1 where a case fails."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import addon_mails
import thunderbird

PREFS = """
user_pref("mail.accountmanager.accounts", "account1,account2");
user_pref("mail.account.account2.server", "server2");
user_pref("mail.account.account2.identities", "id1");
user_pref("mail.accountmanager.defaultaccount", "account2");
user_pref("mail.server.server2.type", "pop3");
user_pref("mail.server.server2.hostname", "127.0.0.1");
user_pref("mail.server.server2.userName", "alice");
user_pref("mail.server.server2.name", "Alice");
user_pref("mail.server.server2.login_at_startup", false);
user_pref("mail.server.server2.check_new_mail", false);
user_pref("mail.identity.id1.fullName", "Alice Liddell");
user_pref("mail.identity.id1.useremail", "curve25519@example.org");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.identity.id1.openpgp_key_id", "4EC844F84776FF9B");
user_pref("mail.identity.id1.smtpServer", "smtp1");
user_pref("mail.identity.id1.draft_folder", "mailbox://nobody@Local%20Folders/Drafts");
user_pref("mail.smtpservers", "smtp1");
user_pref("mail.smtp.defaultserver", "smtp1");
user_pref("mail.smtpserver.smtp1.hostname", "127.0.0.1");
user_pref("mail.compose.warned_about_customize_from", true);
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.identity.default.autocompleteToMyDomain", false);
"""

# Selects the message with this Message-ID; gives what is said above it and how much of that is readable.
SELECT = """
const about = window.document.getElementById("tabmail").currentAbout3Pane;
const view = about.gDBView;
let index = 0;
while (view.getMsgHdrAt(index).messageId != args[0]) index++;
about.threadTree.selectedIndex = -1;
about.threadTree.selectedIndex = index;
const text = () => window.document.getElementById("tabmail").currentAboutMessage?.getMessagePaneBrowser()?.contentDocument?.body?.innerText;
await new Promise(r => setTimeout(r, 300));
for (let tries = 0; tries < 80 && !text()?.trim(); tries++) await new Promise(r => setTimeout(r, 100));
await new Promise(r => setTimeout(r, args[1]));
const message = window.document.getElementById("tabmail").currentAboutMessage;
const shown = message.getMessagePaneBrowser().contentDocument;
const lines = shown.querySelectorAll("#sealed-at-rest-line");
const line = lines[0]?.openOrClosedShadowRoot.querySelector("[role=note]");
const style = line && shown.defaultView.getComputedStyle(line);
return { lines: lines.length, text: line?.textContent, lang: line?.lang, color: style?.color, background: style?.backgroundColor,
  height: lines[0]?.getBoundingClientRect().height, top: lines[0]?.getBoundingClientRect().top, body: shown.body.innerText };
"""

COMPOSE = """
const about = window.document.getElementById("tabmail").currentAbout3Pane;
const opened = new Promise(resolve => {
  const watch = { observe(w, topic) {
    if (topic != "domwindowopened") return;
    Services.ww.unregisterNotification(watch);
    w.addEventListener("compose-editor-ready", () => resolve(w), { once: true });
  } };
  Services.ww.registerNotification(watch);
});
about.commandController.doCommand(args[0]);
const compose = await Promise.race([opened, new Promise((_, no) => setTimeout(() => no(new Error("no window")), 20000))]);
// What it answers is decrypted once more for the quotation, and only then does Thunderbird decide on encryption.
const quoted = () => compose.document.getElementById("messageEditor").contentDocument.querySelector("blockquote")?.innerText.trim();
for (let tries = 0; args[0].startsWith("cmd_reply") && tries < 80 && !quoted(); tries++) await new Promise(r => setTimeout(r, 100));
await new Promise(r => setTimeout(r, args[1]));
""" + (STATE := """
const recipients = [...compose.document.querySelectorAll("mail-address-pill")].map(pill => pill.emailAddress);
return { encrypt: compose.gSendEncrypted, sign: compose.gSendSigned, subject: compose.document.getElementById("msgSubject").value,
  notes: compose.gComposeNotification.allNotifications.map(note => note.getAttribute("value")), recipients,
  missing: compose.gEmailsWithMissingKeys, body: compose.document.getElementById("messageEditor").contentDocument.body.innerText };
""")

LAST = 'const compose = Services.wm.getMostRecentWindow("msgcompose");\n'
ASK = LAST + "compose.toggleEncryptMessage(); await new Promise(r => setTimeout(r, 2500));" + STATE
CLOSE = LAST + "if (compose) { compose.close(); await new Promise(r => setTimeout(r, 300)); }"
# A draft is saved, its window closed, and the draft opened again as its folder does it.
DRAFT = LAST + """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
await compose.GenericSendMessage(Ci.nsIMsgCompDeliverMode.SaveAsDraft);
await new Promise(r => setTimeout(r, 4000));
const uri = compose.gMsgCompose.compFields.draftId;
compose.close();
const header = window.messenger.msgHdrFromURI(uri);
MailServices.compose.OpenComposeWindow(null, header, uri, Ci.nsIMsgCompType.Draft, Ci.nsIMsgCompFormat.Default, null, null, null);
await new Promise(r => setTimeout(r, 6000));
return await (async compose => {""" + STATE + """})(Services.wm.getMostRecentWindow("msgcompose"));
"""

SLEEP = """
const { extension } = WebExtensionPolicy.getByID("sealed-at-rest@mailseal");
await extension.terminateBackground({ ignoreDevToolsAttached: true, disableResetIdleForTest: true });
return extension.backgroundState;
"""

failures = []


def check(what, right, seen):
    print(("ok      " if right else "FAILED  ") + what + ("" if right else f": {json.dumps(seen)[:600]}"), flush=True)
    if not right:
        failures.append(what)


class Driver:
    def __init__(self, remote, display, work):
        self.remote, self.display, self.work = remote, display, work

    def select(self, name, wait=1800):
        return self.remote.run(SELECT, f"{name}@example.net", wait)

    def compose(self, command="cmd_replySender", wait=2200):
        return self.remote.run(COMPOSE, command, wait)

    def close(self):
        self.remote.run(CLOSE)

    def picture(self, name):
        subprocess.run(["import", "-display", self.display, "-window", "root", str(self.work / f"{name}.png")], check=False)


def install(remote, folder, work):
    package = work / "sealed-at-rest.xpi"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    remote.call("Addon:Install", {"path": str(package), "temporary": False})
    time.sleep(3)


def each(driver, cases):
    for name, marked, _ in cases:
        shown = driver.select(name)
        reply = driver.compose()
        driver.close()
        if marked is None:
            # Thunderbird itself does not open these, or either judgement is right: the secret must not be quoted in clear.
            hidden = addon_mails.SECRET not in shown["body"] + reply["body"]
            check(f"{name}: the secret is not quoted in clear", hidden or reply["encrypt"], [shown, reply])
            check(f"{name}: no mark from beside the ciphertext", not (name.startswith("beside") and shown["lines"]), shown)
            continue
        check(f"{name}: {'a line' if marked else 'no line'}", shown["lines"] == int(marked), shown)
        encrypted = not marked and name != "clear"
        check(f"{name}: a reply begins {'with' if encrypted else 'without'} encryption", reply["encrypt"] == encrypted, reply)
        if marked:
            # Where all have keys, Thunderbird offers encryption.
            quiet = reply["notes"] == (["enableNotification"] if name == "known-key" else [])
            check(f"{name}: the reply is quiet, unsigned, and quotes", quiet and not reply["sign"]
                  and addon_mails.SECRET in reply["body"] and "rest" not in reply["body"], reply)


def ways(driver):
    driver.select("several")
    answer = driver.compose("cmd_replyall")
    driver.close()
    check("reply to all of several: without encryption", not answer["encrypt"] and not answer["notes"]
          and {"bob@example.net", "carol@example.com", "dave@example.com"} <= set(answer["recipients"]), answer)
    for command in ["cmd_forwardInline", "cmd_forwardAttachment"]:
        driver.select("marked")
        answer = driver.compose(command)
        driver.close()
        check(f"{command} of a marked message: without encryption", not answer["encrypt"], answer)
        driver.select("end-to-end")
        answer = driver.compose(command)
        driver.close()
        check(f"{command} of an end-to-end message: with encryption", answer["encrypt"], answer)


def asking(driver):
    driver.select("known-key")
    check("recipient with a key: without encryption", not driver.compose()["encrypt"], None)
    answer = driver.remote.run(ASK)
    driver.close()
    check("asked for, all have keys: encrypted, nothing missing", answer["encrypt"] and not answer["missing"]
          and "keyNotification" not in answer["notes"], answer)
    driver.select("marked")
    driver.compose()
    answer = driver.remote.run(ASK)
    driver.close()
    check("asked for, a key is missing: Thunderbird says so", answer["encrypt"] and "keyNotification" in answer["notes"], answer)
    for name, encrypted in [("marked", False), ("end-to-end", True)]:
        driver.select(name)
        driver.compose()
        answer = driver.remote.run(DRAFT)
        driver.close()
        check(f"a draft of a reply to {name} opens {'with' if encrypted else 'without'} encryption",
              answer["encrypt"] == encrypted and addon_mails.SECRET in answer["body"], answer)


def asleep(driver):
    """Thunderbird ends the background page after half a minute without events."""
    states = [driver.remote.run(SLEEP)]
    shown = driver.select("marked", 5000)
    states.append(driver.remote.run(SLEEP))
    reply = driver.compose(wait=5000)
    driver.close()
    check("an add-on that sleeps wakes for a message and for a reply", states == ["stopped", "stopped"] and shown["lines"] == 1
          and not reply["encrypt"], [states, shown, reply])


def luminance(color):
    parts = [int(part) / 255 for part in color[color.index("(") + 1:].rstrip(")").split(",")[:3]]
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def looks(driver):
    for scheme, value in [("light", 1), ("dark", 0)]:
        driver.remote.run('Services.prefs.setIntPref("layout.css.prefers-color-scheme.content-override", args[0]);'
                          'Services.prefs.setIntPref("ui.systemUsesDarkTheme", 1 - args[0])', value)
        shown = driver.select("marked-html", 4000)
        lights = sorted([luminance(shown["color"]), luminance(shown["background"])])
        contrast = (lights[1] + 0.05) / (lights[0] + 0.05)
        check(f"{scheme}: contrast {contrast:.1f}, at the top, one or two lines high",
              contrast >= 7 and shown["top"] < 30 and 20 < shown["height"] < 90, shown)
        driver.picture(f"line-{scheme}")
    driver.remote.run('Services.prefs.clearUserPref("layout.css.prefers-color-scheme.content-override");'
                      'Services.prefs.setIntPref("ui.systemUsesDarkTheme", 0)')
    driver.select("marked")
    driver.compose()
    driver.picture("reply")
    driver.close()


def languages(folder):
    texts = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("_locales/*/messages.json")}
    right = set(texts) == {"en", "de"} and texts["en"].keys() == texts["de"].keys()
    check("English and German say the same things", right, {name: list(text) for name, text in texts.items()})


def main():
    seal, certs, addon, work = map(Path, sys.argv[1:])
    cases = addon_mails.mails(addon_mails.Maker(seal, certs, work))
    languages(addon)
    with thunderbird.session(certs / "curve25519.sec.pgp", PREFS) as (remote, display):
        driver = Driver(remote, display, work)
        armored = subprocess.run(["gpg", "--armor", "--export", "rsa3072@example.org"], capture_output=True, check=True).stdout
        check("both keys are there", remote.run(thunderbird.ACCEPT, armored.decode()) == 2, None)
        check("all mails are there", thunderbird.fill(remote, [mail for _, _, mail in cases]) == len(cases), None)
        shown, reply = driver.select("marked"), driver.compose()
        driver.picture("reply-before")
        driver.close()
        check("without the add-on: no line, a reply with encryption", shown["lines"] == 0 and reply["encrypt"], [shown, reply])
        install(remote, addon, work)
        asleep(driver)
        looks(driver)
        each(driver, cases)
        ways(driver)
        asking(driver)
    if failures:
        print(f"addon: FAILED, {len(failures)} checks")
        sys.exit(1)
    print("addon: passed")


main()
