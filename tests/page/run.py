#!/usr/bin/env python3
"""Drives the dashboard in a real browser, before a real Postgres, a real pgdrain and clients at work.

One browser and one stage for all: each test leaves traffic open. Arguments choose tests by parts of their
names. `--screenshot FILE` keeps the picture that the README shows.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import stage  # noqa: I001, it finds the helpers of the others
import driver
import operators
import people
import runs
from driver import ENTER, ESCAPE, SHIFT, TAB
from runner import places
from stage import until

HERE = Path(__file__).resolve().parent
# All of it, starting things included.
LIMIT = 300
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

MIGRATION = {
    "001_add_currency.up.sql": "ALTER TABLE pgbench_accounts ADD COLUMN currency text;\n"
                               "COMMENT ON COLUMN pgbench_accounts.currency IS 'ISO 4217';\n",
    "001_add_currency.down.sql": "ALTER TABLE pgbench_accounts DROP COLUMN currency;\n",
}


class World:
    """What the tests share."""

    def __init__(self, base, screenshot):
        self.base, self.screenshot = base, screenshot
        self.postgres = stage.Postgres(base / "postgres")
        self.pgdrain = stage.Pgdrain(self.postgres, base / "pgdrain")
        self.load = stage.Load(self.postgres, self.pgdrain)
        self.browser = driver.Browser(shutil.which("chromedriver"), os.getuid() == 0)
        # What a test expects to go wrong, as part of what the console then says.
        self.expected = []

    def ask(self, path, method="GET", body=None):
        request = urllib.request.Request(self.pgdrain.url + path, method=method,
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def reload(self):
        """Has pgdrain read its configuration again, and waits for that."""
        self.pgdrain.process.send_signal(signal.SIGHUP)
        until("it is read again", lambda: any(it["key"] == "hold.for" and it["value"] == "300s" for it in self.ask("/v1/config")["settings"]))

    def database(self):
        found = [it for it in self.ask("/v1/status")["databases"] if it["database"] == stage.DATABASE]
        return found[0] if found else None

    def is_mode(self, mode):
        until(f"mode {mode}", lambda: self.database()["mode"] == mode)

    def open_page(self):
        self.browser.open("about:blank")
        self.browser.open(f"{self.pgdrain.url}/#{stage.DATABASE}")
        self.browser.sees("live", css="#line")
        self.browser.sees("Transactions", css="main")

    def no_errors(self):
        assert not self.load.wrong(), f"an application noticed: {self.load.wrong()}"
        for entry in self.browser.logged("browser"):
            if entry["level"] in ("SEVERE", "WARNING") and not any(it in entry["message"] for it in self.expected):
                raise AssertionError(f"the console says: {entry['message']}")
        origin = urlsplit(self.pgdrain.url).netloc
        for entry in self.browser.logged("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] != "Network.requestWillBeSent":
                continue
            url = message["params"]["request"]["url"]
            # The browser itself has pages of its own.
            ours = urlsplit(message["params"].get("documentURL", "")).netloc == origin
            if ours and urlsplit(url).netloc != origin:
                raise AssertionError(f"a request left the page's origin: {url}")

    def stop(self):
        for part in ("browser", "load", "pgdrain", "postgres"):
            if hasattr(self, part):
                getattr(self, part).stop()


def blocker(world, text):
    """A client that sits in a transaction, whose name and last statement are `text`."""
    client = stage.Client(world.pgdrain, text[:60])
    client.send("begin;")
    client.ask(f"select count(*), $q${text}$q$ from pgbench_accounts;")
    return client


def test_page_is_what_its_headers_say(world):
    with urllib.request.urlopen(world.pgdrain.url + "/", timeout=20) as answer:
        headers, page = answer.headers, answer.read().decode()
    assert headers["content-type"] == "text/html; charset=utf-8", headers
    assert "script-src 'self'" in headers["content-security-policy"], headers
    assert "unsafe" not in headers["content-security-policy"], headers
    assert headers["x-content-type-options"] == "nosniff", headers
    assert "<title>pgdrain</title>" in page
    request = urllib.request.Request(world.pgdrain.url + "/", headers={"if-none-match": headers["etag"]})
    try:
        urllib.request.urlopen(request, timeout=20)
        raise AssertionError("what the browser has was sent again")
    except urllib.error.HTTPError as same:
        assert same.code == 304, same


def test_a_hold_from_the_page(world):
    """Hold, see who blocks, cancel it, open: with clients at work that notice nothing but a pause."""
    page, client = world.browser, stage.Client(world.pgdrain, HOSTILE[:60])
    client.send(f"select pg_sleep(300), $q${HOSTILE}$q$;")
    try:
        world.open_page()
        page.sees("Open", "Everything passes", css=".mode")
        until("the statement runs", lambda: world.database()["in_transaction"] > 0)
        page.click("Hold", ".actions")
        page.sees("What clients will see", "without an error", css="dialog")
        page.type("#field-reason", "deploy 42")
        page.type("#field-by", "anna")
        page.click("Hold", "dialog")
        page.sees("Held", "anna", "deploy 42", "until it opens by itself", css=".mode")
        shown = page.sees("1 session in the way", f"pid {client.pid}", "Wait", css=".drain")
        assert HOSTILE[:60] in shown, shown
        page.sees(HOSTILE, css=".drain pre")
        page.sees("client", "wait", css=".mode .lead")
        until("clients wait", lambda: world.database()["held"] >= 4)
        assert page.run("return document.title").startswith("Held, "), page.run("return document.title")
        assert page.run("return document.querySelectorAll('main img, main script').length") == 0
        page.click("Cancel", ".drain")
        page.sees(f"Cancel pid {client.pid}?", "57014", HOSTILE, css="dialog")
        page.click("Cancel", "dialog")
        page.sees("57014", css="dialog")
        page.click("Close", "dialog")
        assert "canceling statement due to user request" in client.line()
        page.sees("Drained", "Nothing runs", css=".drain")
        page.click("Open", ".actions")
        page.sees("oldest first", css="dialog")
        page.click("Open", "dialog")
        page.sees("Open", "Everything passes", css=".mode")
        world.is_mode("open")
        page.sees("hold", "deploy 42", "anna", css=".events")
    finally:
        client.stop()


def test_up_the_ladder_from_the_page(world):
    """A transaction that sits idle is rolled back by stepping up; its connection lives."""
    page, client = world.browser, blocker(world, "nightly-report")
    try:
        if world.screenshot:
            minutes(world)
        world.open_page()
        page.click("Hold", ".actions")
        page.sees("What clients will see", css="dialog")
        page.type("#field-reason", "new index on orders")
        page.type("#field-by", "anna")
        page.click("Hold", "dialog")
        page.sees("1 session in the way", "report", css=".drain")
        if world.screenshot:
            picture(world)
        page.click("Firm", ".drain")
        page.sees("40001", "57014", "1 session is in the way", css="dialog")
        page.click("Change the ladder", "dialog")
        page.sees("Abort", "Cancel", css=".drain .ladder")
        page.click("Gentle", ".drain")
        page.sees("not undone", css="dialog")
        page.click("Back", "dialog")
        # The times of its steps are the proxy's; an idle transaction is aborted by hand sooner.
        page.click("Abort", ".drain")
        page.sees("40001", css="dialog")
        page.click("Abort", "dialog")
        page.sees("40001", css="dialog")
        page.click("Close", "dialog")
        page.sees("Drained", css=".drain")
        page.click("Open", ".actions")
        page.click("Open", "dialog")
        page.sees("Everything passes", css=".mode")
        assert "aborted for maintenance" in client.ask("select 1;")
    finally:
        client.stop()


def test_a_read_only_period_from_the_page(world):
    page = world.browser
    world.open_page()
    page.click("Read only", ".actions")
    page.sees("What writes waits", css="dialog")
    page.click("Read only", "dialog")
    page.sees("Read only", "Reads go on", "The server refuses writes", css=".mode")
    world.is_mode("read_only")
    page.click("Open", ".actions")
    page.click("Open", "dialog")
    page.sees("Everything passes", css=".mode")


def test_a_migration_from_the_page(world):
    page, directory = world.browser, world.base / "migrations"
    directory.mkdir()
    for name, sql in MIGRATION.items():
        (directory / name).write_text(sql)
    world.open_page()
    # Whoever is on this machine may hold and open; migrations take a token.
    world.expected.append("status of 401")
    page.type("#pick-files", "\n".join(str(directory / name) for name in MIGRATION))
    page.click("Give a token", ".migration")
    page.type("#field-token", stage.TOKEN)
    page.click("Use it", "dialog")
    page.sees("Plan", "001_add_currency.up.sql", "ALTER TABLE", css=".plan", patience=60)
    page.sees("preflight: ", "backup: ", css=".gate", patience=60)
    page.click("Start 1 file", ".migration")
    page.sees("they wait at their next transaction", css="dialog")
    page.type("#field-reason", "currencies")
    page.click("Run", "dialog")
    shown = page.sees("Done", "001_add_currency.up.sql done", "2 of 2 statements", css=".migration", patience=90)
    assert "Applying" in shown and "exit code 0" in shown, shown
    column = "select count(*) from pg_attribute where attrelid = 'pgbench_accounts'::regclass and attname = 'currency'"
    assert world.postgres.sql(column) == "1"
    page.sees("Everything passes", css=".mode")


def test_nothing_is_shown_without_a_token(world):
    """Where nothing is allowed without one, the page asks for it, and forgets it with the tab."""
    page, directory = world.browser, Path(tempfile.mkdtemp(dir=world.base))
    world.expected += ["status of 401", "status of 429"]
    pgdrain = stage.Pgdrain(world.postgres, directory / "pgdrain", local=())
    client = stage.Client(pgdrain, "quiet")
    try:
        page.open("about:blank")
        page.open(f"{pgdrain.url}/")
        page.sees("A token, please", css="main")
        assert "quiet" not in page.text() and stage.DATABASE not in page.text("main")
        page.type("#token", "pgdrain_wrong" + ENTER)
        page.sees("A token, please", css="main")
        page.type("#token", stage.TOKEN + ENTER)
        page.sees("Everything passes", css=".mode")
        page.sees("started", css=".events")
        kept = page.run("return [localStorage.length, document.cookie, location.href.includes('pgdrain_')]")
        assert kept == [0, "", False], kept
    finally:
        page.run("sessionStorage.clear()")
        page.open("about:blank")
        page.logged("performance")
        client.stop()
        pgdrain.stop()


def test_a_window_is_watched_and_aborted(world):
    page = world.browser
    order = {"reason": "vacuum full", "by": "bert", "lease": "60s", "for": "2m"}
    taken = world.ask(f"/v1/databases/{stage.DATABASE}/windows", "POST", order)
    try:
        world.open_page()
        page.sees("vacuum full", "Exclusive", "until its holder must renew", css=".window")
        page.sees("Held", "by a window", css=".mode")
        page.click("Abort this window", ".window")
        page.sees("57P01", css="dialog")
        page.click("Abort the window", "dialog")
        page.sees("Last window", "aborted", css=".window")
        page.sees("Everything passes", css=".mode")
    finally:
        window = world.ask(f"/v1/windows/{taken['window']['id']}")
        assert window["state"] == "closed", window


def test_what_is_refused_is_said(world):
    """A window holds it: opening is refused, the question stays, and force is the other way."""
    page = world.browser
    world.expected.append("status of 409")
    world.ask(f"/v1/databases/{stage.DATABASE}/windows", "POST", {"by": "cleo", "lease": "60s"})
    world.open_page()
    page.sees("by a window", css=".mode")
    page.click("Open", ".actions")
    page.click("Open", "dialog")
    page.sees("Not done.", "Open by force", css="dialog")
    page.click("Open by force", "dialog")
    page.sees("Everything passes", css=".mode")


def test_the_connection_is_lost_and_comes_back(world):
    page = world.browser
    world.open_page()
    all_events(page)
    page.sees("started", css=".events")
    world.load.stop()
    world.expected += ["net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_CONNECTION_RESET",
                       "net::ERR_EMPTY_RESPONSE", "net::ERR_SOCKET_NOT_CONNECTED"]
    world.pgdrain.stop()
    page.sees("The connection is lost", "Holds end by their own time", css="#trouble")
    page.sees("lost", css="#line")
    page.click("Try", "#trouble")
    page.sees("The connection is lost", css="#trouble")
    world.pgdrain.start()
    page.sees("live", css="#line")
    world.load = stage.Load(world.postgres, world.pgdrain)
    until("the page hears of the new process", lambda: page.text(".events").count("started") == 2)
    until("the load is seen", lambda: "200" in page.text(".figures") or "19" in page.text(".figures"))
    asked = [json.loads(it["message"])["message"] for it in page.logged("performance")]
    asked = [it["params"]["request"] for it in asked if it["method"] == "Network.requestWillBeSent"]
    numbers = [it["headers"].get("last-event-id", "0") for it in asked if it["url"].endswith("/v1/events")]
    assert int(numbers[-1]) > 0, f"it did not go on from where it was: {numbers}"


def all_events(page):
    page.sees("open", css=".events")
    if page.run("return document.querySelector('.events button') !== null"):
        page.click("All", ".events")


def test_a_stream_that_alone_is_lost(world):
    """pgdrain itself ends its streams when it stops; a page that was open all the while shows all events once."""
    page = world.browser
    world.open_page()
    first = page.run("return document.querySelectorAll('.events-list li').length")
    world.ask("/v1/databases/shop/cap", "PUT", {"transactions": "50", "for": "30s", "by": "dora"})
    page.sees("cap", "dora", css=".events")
    world.ask("/v1/databases/shop/cap", "PUT", {"transactions": "off", "by": "dora"})
    page.sees("cap", "dora", css=".events")
    assert page.run("return document.querySelectorAll('.events-list li').length") >= min(first, 12)


def test_keyboard_alone(world):
    """Tab to Hold, confirm, and open again; Escape leaves everything as it was, and focus returns."""
    page = world.browser
    world.open_page()

    page.press(TAB)
    assert page.focused() == "To the database", page.focused()
    page.tab_to("Hold")
    page.press(ENTER)
    page.sees("Hold shop?", css="dialog")
    assert page.focused() == "Hold shop?", page.focused()
    page.press((SHIFT, TAB))
    page.press(ESCAPE)
    until("the question is gone", lambda: page.text("dialog") == "")
    assert page.focused().startswith("Hold"), page.focused()
    assert world.database()["mode"] == "open"
    page.press(ENTER)
    page.sees("Hold shop?", css="dialog")
    page.tab_to("field-reason")
    page.press(*"by keys")
    page.press(ENTER)
    page.sees("Held", "by keys", css=".mode")
    page.tab_to("Open")
    # Drawing anew takes the focus from nobody.
    for _ in range(3):
        before = world.ask("/v1/status")["uptime_ms"]
        until("some answers", lambda: world.ask("/v1/status")["uptime_ms"] > before + 1100)
        assert page.focused().startswith("Open"), page.focused()
    page.press(ENTER)
    page.sees("oldest first", css="dialog")
    page.tab_to("field-by")
    page.press(ENTER)
    page.sees("Everything passes", css=".mode")


# What is read against what, for both colour schemes.
CONTRAST = """
    const lum = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
        .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const out = [];
    for (const it of document.querySelectorAll('main *, header *, footer *')) {
        const own = [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !it.checkVisibility()) continue;
        let at = it;
        while (at && (rgb(getComputedStyle(at).backgroundColor)[3] ?? 1) === 0) at = at.parentElement;
        const [a, b] = [lum(rgb(getComputedStyle(it).color)), lum(rgb(getComputedStyle(at ?? document.body).backgroundColor))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) out.push(`${it.tagName}.${it.className} ${ratio.toFixed(2)}: ${it.textContent.slice(0, 40)}`);
    }
    return out;"""


def test_everybody_can_read_it(world):
    """Names for all that can be used, landmarks, one heading of the page, and contrast, light and dark."""
    page = world.browser
    world.open_page()
    page.unfold(".sessions")
    page.sees("checkout", css=".sessions")
    nodes = page.devtools("Accessibility.getFullAXTree")["nodes"]
    roles = [it["role"]["value"] for it in nodes if not it.get("ignored") and "role" in it]
    for role in ("banner", "main", "contentinfo", "status"):
        assert role in roles, f"no {role} in {sorted(set(roles))}"
    usable = {"button", "link", "textbox", "searchbox", "combobox", "checkbox"}
    unnamed = [it for it in nodes if it.get("role", {}).get("value") in usable and not it.get("ignored")
               and not it.get("name", {}).get("value")]
    assert not unnamed, unnamed
    assert page.run("return document.querySelectorAll('h1').length") == 1
    twice = page.run("const ids = [...document.querySelectorAll('[id]')].map((it) => it.id);"
                     "return ids.filter((it, at) => ids.indexOf(it) !== at)")
    assert not twice, twice
    for scheme in ("light", "dark"):
        page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        poor = page.run(CONTRAST)
        assert not poor, f"{scheme}: {poor}"
    page.devtools("Emulation.setEmulatedMedia", features=[])


def test_a_phone_in_one_hand(world):
    page = world.browser
    page.devtools("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        world.open_page()
        wide = page.run("return document.documentElement.scrollWidth")
        assert wide <= 360, f"{wide} pixels wide"
        box = page.run("return document.querySelector('.actions').getBoundingClientRect().toJSON()")
        assert 738 <= box["bottom"] <= 741, f"the actions are not under the thumb: {box}"
        low = page.run("return [...document.querySelectorAll('.actions button')].map((it) => it.getBoundingClientRect().height)")
        assert low and min(low) >= 44, low
        page.click("Hold", ".actions")
        page.sees("What clients will see", css="dialog")
        wide = page.run("return document.querySelector('dialog').scrollWidth")
        assert wide <= 360, f"the question is {wide} pixels wide"
        page.click("Back", "dialog")
    finally:
        page.devtools("Emulation.clearDeviceMetricsOverride")


def test_spans_and_lines_are_right(world):
    """The pure parts of the page, where they run."""
    page = world.browser
    world.open_page()
    spans = page.run("""return import('/dashboard/format.js').then((it) => [
        it.span(null), it.span(230), it.span(4200), it.span(59_400), it.span(125_000), it.span(3_840_000), it.span(90_000_000),
        it.countdown(7_000), it.countdown(-5), it.countdown(3_723_000), it.many(1, 'client'), it.many(1200, 'client'), it.bytes(1536)])""")
    assert spans == ["–", "230 ms", "4.2 s", "59 s", "2 min 5 s", "1 h 4 min", "1 d 1 h", "0:07", "0:00", "1:02:03", "1 client",
                     "1,200 clients", "1.5 KiB"], spans
    lines = page.run("""return import('/dashboard/figures.js').then((it) => [
        it.speeds({transactions: [10, null, 50, null], every_ms: 1000}), it.speeds({transactions: [null, 5], every_ms: 1000}),
        it.speeds({transactions: [90, 10], every_ms: 500}), it.thin([1, 9, 2, null, 3, 4], 3), it.thin([1, null], 5)])""")
    assert lines == [[None, 20, 20, 20], [None, None], [None, 0], [9, 2, 4], [1, None]], lines


def test_many_sessions(world):
    """However many there are, the page has fifty of them, and turns pages; PAGE_SESSIONS says how many."""
    page, number, many = world.browser, int(os.environ.get("PAGE_SESSIONS", "1200")), HERE / "many.py"
    directory, server_port = Path(tempfile.mkdtemp(dir=world.base)), stage.free_port()
    crowd = []
    try:
        crowd.append(stage.Helper(many, "server", server_port))
        pgdrain = stage.Pgdrain(SimpleNamespace(port=server_port), directory / "pgdrain", MANY)
        crowd += [pgdrain, stage.Helper(many, "clients", pgdrain.port, number)]
        page.open("about:blank")
        page.open(f"{pgdrain.url}/")
        page.sees(f"Sessions ({number:,})", css=".sessions", patience=60)
        page.unfold(".sessions")
        page.sees("worker 0", f"1 to 50 of {number:,}", css=".sessions", patience=60)
        rows = "return document.querySelectorAll('.session').length"
        assert page.run(rows) == 50
        page.click("Next", ".sessions")
        page.sees(f"51 to 100 of {number:,}", css=".sessions")
        assert page.run(rows) == 50
        page.click("Before", ".sessions")
        page.sees(f"1 to 50 of {number:,}", css=".sessions")
        page.type("#by-application", "worker 77" + ENTER)
        page.sees("worker 77", css=".sessions")
        until("one is left", lambda: page.run(rows) == 1)
        assert page.run("return document.querySelectorAll('*').length") < 1500
        if os.environ.get("PAGE_SESSIONS"):
            print("longest stall of the page, longest answer, in ms:", page.run(STALLS, 10_000), flush=True)
    finally:
        page.open("about:blank")
        page.logged("browser")
        page.logged("performance")
        for it in reversed(crowd):
            it.stop()


# Nobody here has to prove who he is, and all come at once.
MANY = """
[limits]
connections = 20000
accepts_per_second = 100000
"""

# How long the page was not ready for a person, and how long answers took, in so many milliseconds.
STALLS = """
    const ends = performance.now() + arguments[0];
    return new Promise((done) => {
        let [last, stall] = [performance.now(), 0];
        const tick = () => {
            const now = performance.now();
            stall = Math.max(stall, now - last);
            last = now;
            if (now < ends) setTimeout(tick, 5);
            else done([stall, ...performance.getEntriesByType('resource').filter((it) => it.name.includes('/v1/') && !it.name.includes('events'))
                .map((it) => [it.duration, it.name.split('/').pop()]).sort((a, b) => b[0] - a[0]).slice(0, 3)]);
        };
        tick();
    });"""


def minutes(world):
    """Waits for something to draw lines of."""
    world.ask(f"/v1/databases/{stage.DATABASE}/statements", "PUT", {"for": "10m", "one_in": 1})
    until("two minutes are there", lambda: len(world.ask(f"/v1/databases/{stage.DATABASE}/pace")["running"]) >= 120, 150)


def picture(world):
    page = world.browser
    until("some minutes are there", lambda: page.run("return document.querySelectorAll('.spark .line').length === 5"))
    page.devtools("Emulation.setDeviceMetricsOverride", width=1000, height=1060, deviceScaleFactor=1, mobile=True)
    page.run("scrollTo(0, 0)")
    Path(world.screenshot).write_bytes(page.screenshot())
    page.devtools("Emulation.clearDeviceMetricsOverride")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshot")
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    parts = [globals(), *(vars(it) for it in (operators, runs, people))]
    tests = [(name, test) for part in parts for name, test in part.items() if name.startswith("test_")]
    tests = [(name, test) for name, test in tests if not chosen.names or any(it in name for it in chosen.names)]
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"page: not done within {LIMIT} s"))
    signal.alarm(LIMIT)
    failed = []
    with tempfile.TemporaryDirectory(prefix="pgdrain-page-", dir=places.temporary()) as base:
        os.chmod(base, 0o755)
        world = World.__new__(World)
        try:
            world.__init__(Path(base), chosen.screenshot)
            for name, test in tests:
                begun, said = time.monotonic(), "ok"
                try:
                    test(world)
                    world.no_errors()
                except Exception:  # whatever it is, the others are tried too
                    said = "FAILED"
                    failed.append(name)
                    traceback.print_exc()
                    print("pgdrain:", (world.pgdrain.directory / "log").read_text()[-1500:], file=sys.stderr)
                    if world.pgdrain.process.poll() is not None:
                        world.pgdrain.start()
                    world.ask("/v1/databases/*/mode", "PUT", {"mode": "open", "force": True})
                print(f"{name} ... {said} ({time.monotonic() - begun:.1f} s)", flush=True)
        finally:
            world.stop()
    if failed:
        sys.exit(f"page: {len(failed)} of {len(tests)} failed: {', '.join(failed)}")
    print(f"page: {len(tests)} passed")


if __name__ == "__main__":
    main()
