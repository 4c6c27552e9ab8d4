"""What the measurements have in common: certificates, programs, gpg, armor, tables, and texts that are always the same."""

import contextlib
import os
import pathlib
import random
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
CERT = str(ROOT / "fixtures/certs/curve25519.pgp")
ADDRESS = "curve25519@example.org"


def output(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, **more).stdout


@contextlib.contextmanager
def home_of_gpg(work, *keys):
    """A GnuPG home of its own below `work`, with these keys; its daemons end with it."""
    home = pathlib.Path(work) / "gnupg"
    home.mkdir(mode=0o700)
    os.environ["GNUPGHOME"] = str(home)
    subprocess.run(["gpg", "--batch", "--quiet", "--import", *keys], check=True, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)


def armored(sealed):
    """The armor in a sealed message, with LF, as Dovecot stores it."""
    found = sealed.replace(b"\r\n", b"\n")
    end = b"-----END PGP MESSAGE-----\n"
    return found[found.index(b"-----BEGIN PGP MESSAGE-----"):found.index(end) + len(end)]


def table(heads, rows):
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


# --- Texts

HEADER = ("From: Alice <alice@example.org>\nTo: bob@example.org\nSubject: The figures\n"
          "Date: Thu, 1 Jan 2026 12:00:00 +0000\nMessage-ID: <1@example.org>\nMIME-Version: 1.0\n").encode()
TEXT, HTML, FILE = (kind.encode() for kind in (
    "Content-Type: text/plain; charset=utf-8\n", "Content-Type: text/html; charset=utf-8\n",
    "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n"))
WORDS = (ROOT / "LICENSE-APACHE").read_text().split()


def text(length, seed=1):
    """Each word is followed by what follows it somewhere in a licence."""
    numbers, after = random.Random(seed), {}
    for word, following in zip(WORDS, WORDS[1:] + WORDS[:1]):
        after.setdefault(word, []).append(following)
    word, line, lines, size = "the", [], [], 0
    while size < length:
        word = numbers.choice(after[word])
        line.append(word)
        size += len(word) + 1
        if len(line) == 11:
            lines.append(" ".join(line))
            line = []
    return ("\n".join(lines + [" ".join(line)])[:length - 1] + "\n").encode()


def html(length, seed=2):
    numbers, words, rows, size = random.Random(seed), text(length, seed).decode().split(), [], 0
    while size < length:
        rows.append('<tr><td style="padding: 0 8px; color: #333333; font-family: Arial, sans-serif" class="cell">'
                    f'<a href="https://example.org/click?id={numbers.getrandbits(64):x}">'
                    f'{" ".join(words[len(rows) * 9:len(rows) * 9 + 9])}</a></td></tr>\n')
        size += len(rows[-1])
    return ("<html><body><table>\n" + "".join(rows) + "</table></body></html>\n").encode()


def write_mail(path, kind, body):
    path.write_bytes(HEADER + kind + b"\n" + body)
    return path
