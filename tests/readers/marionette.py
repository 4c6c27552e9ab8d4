"""As much of Marionette, Mozilla's remote control, as the check of Thunderbird needs."""

import json
import socket
import time


class Marionette:
    def __init__(self, port, wait=90):
        for _ in range(wait * 2):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise SystemExit("Thunderbird does not answer")
        self.buffer = b""
        self.read()
        self.count = 0
        self.call("WebDriver:NewSession", {"strictFileInteractability": False})
        self.call("Marionette:SetContext", {"value": "chrome"})
        self.call("WebDriver:SetTimeouts", {"script": 60000})

    def read(self):
        while b":" not in self.buffer:
            self.buffer += self.socket.recv(65536)
        length, _, rest = self.buffer.partition(b":")
        while len(rest) < int(length):
            rest += self.socket.recv(65536)
        self.buffer = rest[int(length):]
        return json.loads(rest[: int(length)])

    def call(self, name, parameters=None):
        self.count += 1
        text = json.dumps([0, self.count, name, parameters or {}]).encode()
        self.socket.sendall(b"%d:%s" % (len(text), text))
        while True:
            answer = self.read()
            if answer[0] == 1 and answer[1] == self.count:
                break
        if answer[2]:
            raise RuntimeError(f"{name}: {answer[2].get('message')}")
        return answer[3]

    def run(self, script, *arguments):
        """The value of an async function body in Thunderbird's main window."""
        wrapped = "const done = arguments[arguments.length - 1]; const args = arguments;" \
            "(async () => {" + script + "})().then(v => done({v}), e => done({e: String(e) + e.stack}));"
        value = self.call("WebDriver:ExecuteAsyncScript", {"script": wrapped, "args": list(arguments)})["value"]
        if "e" in value:
            raise RuntimeError(value["e"])
        return value.get("v")
