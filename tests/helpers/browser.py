"""Drive a headless Chromium by its DevTools protocol; use as a pytest plugin."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_KEYS = {
    "Enter": {"code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    "Tab": {"code": "Tab", "windowsVirtualKeyCode": 9},
}


class Navigated(Exception):
    """The tab went to another process while it was asked, as at its first page."""


@dataclass
class Browser:
    """One tab. ``problems`` collects the errors and warnings of its console."""

    socket: Any
    problems: list[str] = field(default_factory=list)
    _count: int = 0
    _loaded: set[str] = field(default_factory=set)

    def call(self, method: str, **options: Any) -> dict[str, Any]:
        """Call a method of https://chromedevtools.github.io/devtools-protocol/."""
        self._count += 1
        self.socket.send(json.dumps({"id": self._count, "method": method, "params": options}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            self._note(message)
            if message.get("id") == self._count:
                if "navigated" in message.get("error", {}).get("message", ""):
                    raise Navigated
                assert "error" not in message, (method, message)
                return message["result"]

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Page.lifecycleEvent" if told["name"] == "load":
                self._loaded.add(told["loaderId"])
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.problems.append(json.dumps(told["args"]))
            # Its warnings are about the speed of what a test itself does.
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.problems.append(json.dumps(told["entry"]))

    def value(self, script: str) -> Any:
        """Return the value of an expression of JavaScript, or of its promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        script = """new Promise((done) => {
            const started = performance.now();
            const look = () => {
                let found = false;
                try { found = !!(CONDITION); } catch {}
                if (found || performance.now() - started > 30000) done(found);
                else setTimeout(look, 20);
            };
            look();
        })""".replace("CONDITION", condition)
        try:
            found = self.value(script)
        except Navigated:
            found = self.value(script)
        assert found, f"{condition}; the page says {self.text('body')!r}"

    def open(self, url: str) -> None:
        loader = self.call("Page.navigate", url=url)["loaderId"]
        while loader not in self._loaded:
            self._note(json.loads(self.socket.recv(timeout=60)))

    def text(self, selector: str) -> str:
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def texts(self, selector: str) -> list[str]:
        return self.value(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)"
        )

    def click(self, selector: str, x: float | None = None, y: float | None = None) -> None:
        """Click the middle of an element, or a place in it, as a mouse does."""
        box = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x, b.y, b.width, b.height]; })()"
        )
        place = {
            "x": box[0] + (box[2] / 2 if x is None else x),
            "y": box[1] + (box[3] / 2 if y is None else y),
            "button": "left",
            "clickCount": 1,
        }
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **place)

    def key(self, key: str) -> None:
        known = _KEYS.get(key, {"text": key} if len(key) == 1 else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def drop(self, file: Path, x: int = 300, y: int = 300) -> None:
        """Drag a file of this machine over the page, and let it go."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def dark(self, dark: bool) -> None:
        value = "dark" if dark else "light"
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": value}],
        )

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start Chromium with an empty profile."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium: apt-get install chromium")
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from websockets.sync.client import connect

    profile = tmp_path_factory.mktemp("profile")
    words = [
        program,
        "--headless=new",
        # Its sandbox does not start for root in a container. The only page it opens is ours.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            line = next(line for line in process.stderr if "DevTools listening" in line)
            port = line.partition("127.0.0.1:")[2].partition("/")[0]
            # It would wait when nobody reads what it says.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            # The first tab may not be there yet, so open one.
            new = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
            with urllib.request.urlopen(new) as answer:
                address = json.load(answer)["webSocketDebuggerUrl"]
            with connect(address, max_size=None, proxy=None) as socket:
                tab = Browser(socket)
                for domain in ("Page", "Runtime", "Log"):
                    tab.call(f"{domain}.enable")
                tab.call("Page.setLifecycleEventsEnabled", enabled=True)
                yield tab
        finally:
            process.kill()
