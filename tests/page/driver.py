"""A browser by WebDriver (https://www.w3.org/TR/webdriver2/): as much of it as the tests need."""

import base64
import http.client
import json
import subprocess
import tempfile

from runner import places
from stage import free_port, until

# The names by which WebDriver hands out elements, and by which it knows keys.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ENTER, TAB, ESCAPE, SPACE, SHIFT, DOWN = "\ue007", "\ue004", "\ue00c", " ", "\ue008", "\ue015"

ARGUMENTS = ["--headless=new", "--no-first-run", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-default-browser-check", "--force-prefers-reduced-motion",
             "--lang=en"]


class Failed(Exception):
    """WebDriver refused; `kind` is its word for why."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Browser:
    """Runs from creation to `stop`."""

    def __init__(self, chromedriver, root, width=1100, height=900):
        self.directory = tempfile.TemporaryDirectory(prefix="pgdrain-page-")
        self.port = free_port()
        self.log = open(f"{self.directory.name}/log", "w+b")
        self.process = places.start([chromedriver, f"--port={self.port}", "--allowed-ips=127.0.0.1"], self.log)
        until("chromedriver answers", self.ready)
        arguments = [*ARGUMENTS, f"--user-data-dir={self.directory.name}/profile", f"--window-size={width},{height}"]
        # Chromium's sandbox needs an account that is not root.
        arguments += ["--no-sandbox"] if root else []
        capabilities = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments},
                        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                        "timeouts": {"script": 20_000, "pageLoad": 30_000}}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{made['sessionId']}"

    def ready(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        text = None if method in ("GET", "DELETE") else json.dumps(body or {})
        connection.request(method, path, text, {"content-type": "application/json"})
        answer = connection.getresponse()
        value = json.loads(answer.read())["value"]
        connection.close()
        if answer.status != 200:
            raise Failed(value["error"], value["message"].splitlines()[0])
        return value

    def do(self, method, path, body=None):
        return self.call(method, self.session + path, body)

    def open(self, url):
        self.do("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """Runs a function's body in the page; gives what it returns."""
        return self.do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def find(self, css, patience=20):
        """The element for a selector, once it is there."""
        def look():
            try:
                return self.do("POST", "/element", {"using": "css selector", "value": css})
            except Failed as failed:
                if failed.kind != "no such element":
                    raise
        return until(css, look, patience)[ELEMENT]

    def button(self, text, within="body", patience=20):
        """The button or link that begins with this text, once it is there and may be used."""
        script = """
            for (const it of document.querySelectorAll(arguments[0] + ' :is(button, a, summary)'))
                if (it.textContent.trim().startsWith(arguments[1]) && !it.disabled && it.checkVisibility()) return it;
            return null;"""
        return until(f"a button {text!r}", lambda: self.run(script, within, text), patience)[ELEMENT]

    def click(self, text, within="body"):
        """Clicks the button that begins with this text, as soon as nothing covers it."""
        def attempt():
            try:
                self.do("POST", f"/element/{self.button(text, within)}/click")
                return True
            except Failed as failed:
                if failed.kind not in ("element click intercepted", "stale element reference"):
                    raise
                return False
        until(f"a click on {text!r}", attempt)

    def unfold(self, within):
        """Opens the details there."""
        def attempt():
            if not self.run("return document.querySelector(arguments[0] + ' details')?.open ?? false", within):
                self.do("POST", f"/element/{self.find(within + ' summary')}/click")
                return False
            return True
        until(f"{within} is unfolded", attempt)

    def type(self, css, text):
        self.do("POST", f"/element/{self.find(css)}/value", {"text": text})

    def clear(self, css):
        self.do("POST", f"/element/{self.find(css)}/clear")

    def tab_to(self, text, backwards=False, most=120):
        """Tab, until what has the focus begins with this text."""
        for _ in range(most):
            if self.focused().startswith(text):
                return
            self.press((SHIFT, TAB) if backwards else TAB)
        raise AssertionError(f"no way to {text!r} by Tab; the focus is on {self.focused()!r}")

    def choose(self, css, value):
        """Chooses of a select."""
        self.find(css)
        self.run("""const it = document.querySelector(arguments[0]); it.value = arguments[1];
                    it.dispatchEvent(new Event('change', {bubbles: true}));""", css, value)

    def text(self, css="body"):
        """What is to be read there; nothing where there is no such element."""
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css)

    def sees(self, *texts, css="body", patience=20):
        """Waits until all these texts are to be read there; gives all that is."""
        def look():
            found = self.text(css)
            return found if all(text in found for text in texts) else None
        try:
            return until(f"{texts} in {css}", look, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is: {self.text(css)!r}") from None

    def press(self, *keys):
        """Presses and lets go one key after the other; a tuple is pressed together."""
        actions = []
        for key in keys:
            together = key if isinstance(key, tuple) else (key,)
            actions += [{"type": "keyDown", "value": it} for it in together]
            actions += [{"type": "keyUp", "value": it} for it in reversed(together)]
        self.do("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def focused(self):
        """What has the focus, in words."""
        return self.run("const it = document.activeElement; return it ? (it.innerText || it.id || it.tagName).trim() : ''")

    def screenshot(self):
        return base64.b64decode(self.do("GET", "/screenshot"))

    def logged(self, kind):
        return self.do("POST", "/se/log", {"type": kind})

    def stop(self):
        try:
            self.do("DELETE", "")
        except (Failed, OSError):
            pass
        places.stop(self.process)
        self.log.close()
        self.directory.cleanup()
