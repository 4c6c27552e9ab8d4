"""Writes the clear mails that are shown to readers into a folder: `mails.py FOLDER`."""

import sys
from email.message import EmailMessage
from pathlib import Path

folder = Path(sys.argv[1])
SUBJECT = "Käse und Brot"
TEXT = "The canary sings at noon.\n"
HTML = "<html><body><p>The <b>canary</b> sings at noon.</p></body></html>\n"


def mail(name):
    message = EmailMessage()
    message["From"] = "Bob Builder <bob@example.net>"
    message["To"] = "Alice Liddell <alice@example.org>"
    message["Subject"] = SUBJECT
    message["Date"] = "Mon, 3 Mar 2025 10:00:00 +0100"
    message["Message-ID"] = f"<{name}@example.net>"
    message["DKIM-Signature"] = "v=1; a=rsa-sha256; d=example.net; h=subject; bh=AAAA; b=BBBB"
    return message


text = mail("text")
text.set_content(TEXT, cte="8bit")
html = mail("html")
html.set_content(HTML, subtype="html", cte="quoted-printable")
alternative = mail("alternative")
alternative.set_content(TEXT)
alternative.add_alternative(HTML, subtype="html")
for message in [text, html, alternative]:
    name = message["Message-ID"].strip("<>").split("@")[0]
    (folder / f"{name}.eml").write_bytes(message.as_bytes())
