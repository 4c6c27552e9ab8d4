"""Mails that the add-on for Thunderbird has to judge: sealed by mailseal, end to end by gpg, and with forged marks."""

import subprocess
from email.message import EmailMessage

MARK = "Sealed-At-Rest: v1\r\n"
SECRET = "The canary sings at noon."
PLAIN = "Content-Type: text/plain; charset=utf-8\r\n"
ME = "curve25519@example.org"


class Maker:
    """Makes each mail as octets. `seal` is mailseal-filter's path, `certs` the folder of fixtures."""

    def __init__(self, seal, certs, work):
        self.seal, self.certs, self.work = seal, certs, work
        (work / "unmarked.toml").write_text("[message]\nmark = false\n")

    def clear(self, name, sender="Bob Builder <bob@example.net>", to=ME, cc=None, html=False, attached=False):
        message = EmailMessage()
        message["From"], message["To"] = sender, to
        if cc:
            message["Cc"] = cc
        message["Subject"] = f"Canary {name}"
        message["Date"] = "Mon, 3 Mar 2025 10:00:00 +0100"
        message["Message-ID"] = f"<{name}@example.net>"
        if html:
            message.set_content(f"<html><body><p>{SECRET}</p></body></html>", subtype="html")
        else:
            message.set_content(SECRET + "\n")
        if attached:
            message.add_attachment(b"octets", maintype="application", subtype="zip", filename="a.zip")
        return message.as_bytes()

    def sealed(self, clear, *options, config="/dev/null", cert="curve25519.pgp"):
        command = [self.seal, "--key", self.certs / cert, "--config", config, "--log", "none", *options]
        return subprocess.run(command, input=clear, capture_output=True, check=True).stdout

    def encrypted(self, entity, binary=False):
        command = ["gpg", "--batch", "--quiet", "--trust-model", "always", *([] if binary else ["--armor"]), "-r", ME, "--encrypt"]
        return subprocess.run(command, input=entity.encode(), capture_output=True, check=True).stdout

    def end_to_end(self, name, entity, header="", parts=None, part_header="", boundary="b1", preamble=""):
        """A message of the form that mailseal writes, so that nothing but what the case is about tells them apart."""
        armor = self.encrypted(entity).decode().replace("\r\n", "\n").replace("\n", "\r\n")
        return self.message(name, header, part_header, [armor] if parts is None else parts(armor), boundary, preamble)

    def message(self, name, header, part_header, parts, boundary="b1", preamble=""):
        lines = (
            f"From: Bob Builder <bob@example.net>\r\nTo: {ME}\r\nSubject: Canary {name}\r\n"
            f"Date: Mon, 3 Mar 2025 10:00:00 +0100\r\nMessage-ID: <{name}@example.net>\r\n{header}MIME-Version: 1.0\r\n"
            f'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n\tboundary="{boundary}"\r\n\r\n'
            f"{preamble}--{boundary}\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n"
        )
        for part in parts:
            lines += f"--{boundary}\r\nContent-Type: application/octet-stream\r\n{part_header}\r\n{part}\r\n"
        return (lines + f"--{boundary}--\r\n").encode()

    def wrapped(self, name, first, second, mark=""):
        """A multipart/mixed in clear, of two parts that have headers of their own."""
        return (
            f"From: Bob Builder <bob@example.net>\r\nTo: {ME}\r\nSubject: Canary {name}\r\nDate: Mon, 3 Mar 2025 10:00:00 +0100\r\n"
            f"Message-ID: <{name}@example.net>\r\nMIME-Version: 1.0\r\n{mark}Content-Type: multipart/mixed; boundary=m\r\n\r\n"
            f"--m\r\n{first}\r\n--m\r\n{second}\r\n--m--\r\n"
        )


def content(message):
    """The MIME entity of a whole message: its MIME fields and its body."""
    return message[message.index(b"Content-Type:"):].decode()


def mails(maker):
    """(name, whether it counts as sealed at rest, the mail); None where only the secret counts."""
    clear, e2e = maker.clear, maker.end_to_end
    text = f"\r\n{SECRET}\r\n"
    secret = content(e2e("inner", PLAIN + text))
    several = clear("several", to=f"{ME}, carol@example.com", cc="Dave <dave@example.com>")
    mixed = f"Content-Type: multipart/mixed; boundary=m\r\n{{}}\r\n--m\r\n{PLAIN}{{}}\r\nhello\r\n--m\r\n{{}}\r\n--m--\r\n"
    rfc822 = "Content-Type: message/rfc822\r\n\r\n"
    marked = maker.encrypted(PLAIN + MARK + "\r\nhello\r\n").decode().replace("\n", "\r\n")
    both = maker.encrypted(PLAIN + MARK + "\r\nhello\r\n", True) + maker.encrypted(PLAIN + text, True)
    both = subprocess.run(["gpg", "--enarmor"], input=both, capture_output=True, check=True).stdout.decode()
    both = "\n".join(line for line in both.splitlines() if not line.startswith("Comment:"))
    both = both.replace("ARMORED FILE", "MESSAGE").replace("\n", "\r\n") + "\r\n"
    signed = (
        'Content-Type: multipart/signed; micalg=pgp-sha256; protocol="application/pgp-signature"; boundary=s\r\n'
        f"{MARK}\r\n--s\r\n{PLAIN}{text}\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nnone\r\n--s--\r\n"
    )
    return [
        ("marked", True, maker.sealed(clear("marked"))),
        ("marked-html", True, maker.sealed(clear("marked-html", html=True))),
        ("marked-attachment", True, maker.sealed(clear("marked-attachment", attached=True))),
        ("marked-baseline", True, maker.sealed(clear("marked-baseline"), "--protect-headers", "baseline")),
        ("marked-strict", True, maker.sealed(clear("marked-strict"), "--protect-headers", "strict")),
        ("several", True, maker.sealed(several)),
        ("known-key", True, maker.sealed(clear("known-key", sender="rsa3072@example.org"))),
        ("copied-mark", True, e2e("copied-mark", PLAIN + MARK + text)),
        ("no-mark", False, maker.sealed(clear("no-mark"), config=maker.work / "unmarked.toml")),
        ("end-to-end", False, e2e("end-to-end", PLAIN + text)),
        ("outside", False, e2e("outside", PLAIN + text, header=MARK)),
        ("outside-part", False, e2e("outside-part", PLAIN + text, part_header=MARK)),
        ("twice", False, e2e("twice", PLAIN + MARK + MARK + text)),
        ("other-value", False, e2e("other-value", PLAIN + "Sealed-At-Rest: v2\r\n" + text)),
        ("in-the-text", False, e2e("in-the-text", PLAIN + "\r\n" + MARK + text)),
        ("nested", False, e2e("nested", mixed.format("", MARK, PLAIN + text))),
        ("forwarded", False, e2e("forwarded", mixed.format("", "", rfc822 + MARK + PLAIN + text))),
        ("only-forwarded", False, e2e("only-forwarded", rfc822 + MARK + PLAIN + text)),
        ("beside", None, maker.wrapped("beside", PLAIN + MARK + "\r\nhello\r\n", secret).encode()),
        ("beside-outside", None, maker.wrapped("beside-outside", PLAIN + MARK + "\r\nhello\r\n", secret, MARK).encode()),
        ("beside-marked", None, maker.wrapped("beside-marked", content(maker.sealed(clear("x"))), secret).encode()),
        ("around", False, e2e("around", mixed.format(MARK, "", secret))),
        ("inline", False, e2e("inline", PLAIN + MARK + "\r\n" + maker.encrypted(SECRET).decode())),
        ("three-parts", False, e2e("three-parts", PLAIN + text, parts=lambda armor: [marked, armor])),
        ("two-blocks", False, e2e("two-blocks", PLAIN + text, parts=lambda armor: [marked + "\r\n" + armor])),
        ("preamble", False, e2e("preamble", PLAIN + text, preamble=f"x--b1\r\n{PLAIN}{MARK}\r\nhello\r\n")),
        ("clear", False, clear("clear").replace(b"MIME-Version", MARK.encode() + b"MIME-Version")),
        ("not-for-me", None, maker.sealed(clear("not-for-me"), cert="two-subkeys.pgp")),
        ("signed-inside", False, e2e("signed-inside", signed)),
        ("two-messages", None, maker.message("two-messages", "", "", [both])),
        ("forwards-secret", None, e2e("forwards-secret", mixed.format(MARK, "", rfc822 + secret))),
    ]
