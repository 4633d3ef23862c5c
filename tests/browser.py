"""Drive a real Chromium without a window through its DevTools protocol over two pipes: no further package.

    with browser() as one:
        tab = one.open(path.as_uri(), width=400)
        tab.run("document.title")

Everything that a page asks for, logs or fails in is kept in `tab.events`.
"""

import base64
import fcntl
import json
import os
import selectors
import subprocess
import tempfile
import time
from contextlib import contextmanager

from tests.programs import find, need

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--no-first-run", "--disable-component-update", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60  # seconds for an answer
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "Space": (32, " ")}


def _above(descriptor: int) -> int:
    """The same file by a number above 9: 3 and 4 are to be given away."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return moved


class Tab:
    """A page that is open; `events` are what the browser told of it: (method, parameters)."""

    def __init__(self, chromium: "Chromium", session: str):
        self.chromium, self.session, self.events = chromium, session, []

    def call(self, method: str, **parameters):
        return self.chromium.call(method, parameters, self.session)

    def run(self, script: str):
        """The value of a JavaScript expression, awaited."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, script: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < deadline, f"not so within {PATIENCE} seconds: {script}"
            time.sleep(0.05)

    def go(self, address: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self.chromium.hear()

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def emulate(self, media: str = "", scheme: str = "light") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def press(self, key: str) -> None:
        """A key goes down and up."""
        code, text = KEYS[key]
        facts = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, element: str) -> None:
        """With the mouse, in the middle of what an expression gives."""
        self.run(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())"
        )
        self.move(*box)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def screenshot(self, path, clip: dict | None = None) -> None:
        """A PNG of what is seen, or of a part of the page (x, y, width, height)."""
        part = {"clip": clip | {"scale": 1}, "captureBeyondViewport": True} if clip else {}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **part)["data"]))


class Chromium:
    """The program, which listens on its file descriptor 3 and answers on 4: JSON, each message ended by a zero byte."""

    def __init__(self, folder: str):
        (to_read, self.to_write), (self.to_listen, to_answer) = os.pipe(), os.pipe()
        to_read, to_answer = _above(to_read), _above(to_answer)
        command = [find("chromium"), *FLAGS, f"--user-data-dir={folder}"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_answer}', *command],
            pass_fds=(to_read, to_answer),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_answer)
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(self.to_listen, selectors.EVENT_READ)
        self.buffer, self.number, self.tabs = b"", 0, {}

    def message(self) -> dict:
        """The next one."""
        while b"\0" not in self.buffer:
            assert self.waiting.select(PATIENCE), f"Chromium has said nothing for {PATIENCE} seconds"
            more = os.read(self.to_listen, 1 << 20)
            assert more, "Chromium has ended"
            self.buffer += more
        first, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(first)

    def hear(self) -> dict:
        """The next message; an event goes to its tab."""
        found = self.message()
        if tab := self.tabs.get(found.get("sessionId")) if "method" in found else None:
            tab.events.append((found["method"], found["params"]))
        return found

    def call(self, method: str, parameters: dict, session: str | None = None) -> dict:
        """The answer."""
        self.number += 1
        content = {"id": self.number, "method": method, "params": parameters}
        content |= {"sessionId": session} if session else {}
        os.write(self.to_write, json.dumps(content).encode() + b"\0")
        while (found := self.hear()).get("id") != self.number:
            pass
        assert "error" not in found, f"{method}: {found.get('error')}"
        return found["result"]

    def open(self, address: str, width: int, scheme: str = "light") -> Tab:
        """A page, loaded and drawn, in a tab of its own."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = self.tabs[session] = Tab(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.resize(width)
        tab.emulate(scheme=scheme)
        tab.go(address)
        return tab

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.waiting.close()
        os.close(self.to_write)
        os.close(self.to_listen)


@contextmanager
def browser():
    """A Chromium that ends with the block.

    Raises:
        Unavailable: there is none.
    """
    need("chromium")
    with tempfile.TemporaryDirectory(prefix="flip-chromium-", ignore_cleanup_errors=True) as folder:
        one = Chromium(folder)
        try:
            yield one
        finally:
            one.close()
