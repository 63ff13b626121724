"""A headless Chromium, driven over the DevTools protocol: what the report's tests look at it with."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

PROGRAM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ALONE = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--remote-debugging-port=0",
)
PATIENCE_S = 30.0


class Page:
    """A tab. Everything that it complains about is kept in ``complaints``, every request in ``requests``."""

    def __init__(self, loop: IOLoop, socket: WebSocketClientConnection) -> None:
        self.loop, self.socket = loop, socket
        self.numbers = itertools.count(1)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.events: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        text = json.dumps({"id": number, "method": method, "params": params})

        async def exchange() -> dict[str, Any]:
            await self.socket.write_message(text)
            while True:
                answer = json.loads(await self.socket.read_message() or "{}")
                if answer.get("id") == number:
                    return answer
                self._note(answer)

        answer = self.loop.run_sync(exchange, timeout=PATIENCE_S)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method", ""), event.get("params", {})
        self.events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(params["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")

    def open(self, path: Path, width: int = 1280, height: int = 900, *, scale: float = 1, dark: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + PATIENCE_S
        while "Page.loadEventFired" not in self.events:
            assert time.monotonic() < deadline, "the page did not load"
            self.send("Runtime.evaluate", expression="0")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def point_at(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        element = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str) -> None:
        codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole))["data"]
        path.write_bytes(base64.b64decode(data))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self) -> bytes:
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])


@contextmanager
def chromium_page() -> Iterator[Page]:
    """Start a browser with a profile of its own and give its one tab."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [PROGRAM, *ALONE, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        loop = IOLoop(make_current=False)
        try:
            yield Page(loop, _connect(loop, Path(profile)))
        finally:
            process.terminate()
            process.wait(10)
            loop.close()


def _connect(loop: IOLoop, profile: Path) -> WebSocketClientConnection:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                pages = [tab for tab in json.load(answer) if tab["type"] == "page"]
            url = pages[0]["webSocketDebuggerUrl"]
            break
        except (OSError, IndexError):
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.05)
    return loop.run_sync(lambda: websocket_connect(url, max_message_size=2**28), timeout=10)


if __name__ == "__main__":
    # python tests/search/report/chromium.py report.html picture.png: the first screen, as the README shows it.
    with chromium_page() as shown:
        shown.open(Path(sys.argv[1]).absolute(), 1120, 1180)
        shown.screenshot(Path(sys.argv[2]), whole=False)
