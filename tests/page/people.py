"""Who may, and who can: roles and tokens, the keyboard alone, contrast, motion, what a screen reader is told."""

import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import stage
from driver import ENTER
from runner import places
from stage import until

AXE = places.TARGET.parent / "page"
AXE_VERSION = "4.14.1"


def test_a_whole_window_by_keyboard(world):
    """Look first, hold, step up, roll back who is in the way, open: Tab, Enter and letters are all that is used."""
    page, client = world.browser, stage.Client(world.pgdrain, "report")
    try:
        client.ask("begin; select 'in it';")
        world.open_page()
        page.tab_to("Precheck")
        page.press(ENTER)
        page.sees("Nothing is likely to keep it from being drained", "transaction", css="dialog")
        page.tab_to("Close")
        page.press(ENTER)
        page.tab_to("Hold", backwards=True)
        page.press(ENTER)
        page.sees("What clients will see", css="dialog")
        page.tab_to("field-reason")
        page.press(*"keys only", ENTER)
        page.sees("1 session in the way", "report", css=".drain")
        page.tab_to("Firm")
        page.press(ENTER)
        page.sees("40001", css="dialog")
        page.tab_to("Change the ladder")
        page.press(ENTER)
        page.sees("Cancel", "Abort", css=".drain .ladder")
        page.tab_to("Abort", backwards=True)
        page.press(ENTER)
        page.sees("40001", css="dialog")
        page.tab_to("field-by")
        page.press(ENTER)
        page.sees("40001", "Close", css="dialog")
        page.tab_to("Close")
        page.press(ENTER)
        page.sees("Drained", css=".drain")
        page.tab_to("Open", backwards=True)
        page.press(ENTER)
        page.sees("oldest first", css="dialog")
        page.tab_to("field-by")
        page.press(ENTER)
        page.sees("Everything passes", css=".mode")
        assert "aborted for maintenance" in client.ask("select 1;")
    finally:
        client.stop()


def test_a_viewer_sees_what_takes_more_and_why(world):
    """Nothing that would be refused looks as if it could be done, and another token may be shown where it is said."""
    page, directory = world.browser, Path(tempfile.mkdtemp(dir=world.base))
    world.expected += ["status of 401", "status of 403"]
    pgdrain = stage.Pgdrain(world.postgres, directory / "pgdrain", local=())
    client = stage.Client(pgdrain, "secretive")
    try:
        client.ask("begin; select 'ann@example.com', 4711;")
        page.open("about:blank")
        page.open(f"{pgdrain.url}/")
        page.sees("A token, please", css="main")
        page.type("#token", stage.VIEWER + ENTER)
        page.sees("Everything passes", "You are vera, with the role viewer: holding traffic takes the role operator.", css=".mode")
        barred = "return [...document.querySelectorAll('main button, footer button')].filter((it) => it.textContent.startsWith(arguments[0])).map((it) => it.ariaDisabled)"
        for name in ("Hold", "Read only", "Cap", "Hold all", "Open all"):
            assert set(page.run(barred, name)) == {"true"}, name
        assert page.run(barred, "Precheck") == [None]
        page.unfold(".sessions")
        page.sees("select ?, …", "without its constants", css=".sessions")
        assert "ann@example.com" not in page.text(), "a constant"
        page.click("Terminate", ".sessions")
        page.sees("holding traffic takes the role operator", css="dialog")
        page.click("Back", "dialog")
        page.click("Hold", ".actions")
        page.sees("You are vera", css="dialog")
        page.type("#field-token", stage.TOKEN)
        page.click("Use this token", "dialog")
        page.sees("You are anna (admin)", css="footer")
        until("it may be done", lambda: page.run(barred, "Hold …") == [None])
        page.sees("ann@example.com", css=".sessions")
        # A token that is taken back is asked for anew, and what was seen is not left there.
        page.run("sessionStorage.setItem('pgdrain.token', 'pgdrain_gone')")
        page.sees("A token, please", css="main")
        assert "secretive" not in page.text()
    finally:
        page.run("sessionStorage.clear()")
        page.open("about:blank")
        page.logged("performance")
        client.stop()
        pgdrain.stop()


def test_changes_by_others_are_said(world):
    """To those who hear the page: in few words, and once."""
    page = world.browser
    world.open_page()
    page.run("""window.heard = []; new MutationObserver(() => heard.push(document.getElementById('said').textContent))
        .observe(document.getElementById('said'), {childList: true, characterData: true, subtree: true});""")
    path = f"/v1/databases/{stage.DATABASE}/mode"
    world.ask(path, "PUT", {"mode": "hold", "for": "60s"})
    until("it is said", lambda: page.run("return heard") == ["shop is now held."])
    world.ask(path, "PUT", {"mode": "open"})
    until("it is said", lambda: page.run("return heard") == ["shop is now held.", "shop is now open."])


# Colours that meet: text and what it stands on needs 4.5, what is seen as a shape 3 (WCAG 2.2, 1.4.3 and 1.4.11).
TEXT = [*itertools.product(("ink", "soft", "danger"), ("paper", "card", "well")),
        *itertools.product(("ink", "soft", "danger"), ("tint-open", "tint-read-only", "tint-hold")),
        ("open", "tint-open"), ("read-only", "tint-read-only"), ("hold", "tint-hold"), ("hold", "card"), ("open", "well"),
        ("danger", "well"), ("on", "open"), ("on", "danger"), ("paper", "ink")]
SHAPES = [("focus", "paper"), ("focus", "card"), ("focus", "tint-open"), ("focus", "tint-hold"), ("focus", "tint-read-only"),
          ("soft", "paper"), ("soft", "card"), ("open", "card"), ("hold", "card"), ("read-only", "card"), ("danger", "card")]


def luminance(colour):
    parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
    return sum(weight * it for weight, it in zip((0.2126, 0.7152, 0.0722), linear))


def ratio(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_are_far_enough_apart(world):
    assert abs(ratio("#ffffff", "#000000") - 21) < 0.01 and ratio("#777777", "#ffffff") < 4.5
    page = world.browser
    world.open_page()
    for scheme in ("light", "dark"):
        page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        names = sorted({it for pair in TEXT + SHAPES for it in pair})
        found = page.run("const all = getComputedStyle(document.documentElement);"
                         "return Object.fromEntries(arguments[0].map((it) => [it, all.getPropertyValue('--' + it).trim()]))", names)
        poor = [f"{a} on {b}: {ratio(found[a], found[b]):.2f}" for pairs, least in ((TEXT, 4.5), (SHAPES, 3))
                for a, b in pairs if ratio(found[a], found[b]) < least]
        assert not poor, f"{scheme}: {poor}"
    page.devtools("Emulation.setEmulatedMedia", features=[])


def test_whoever_wants_no_motion_gets_none(world):
    page = world.browser
    for wanted, moves in (("no-preference", True), ("reduce", False)):
        page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": wanted}])
        world.open_page()
        page.click("Hold", ".actions")
        page.find("dialog[open]")
        styles = "return [...document.querySelectorAll('*')].map((it) => getComputedStyle(it)).some((it) => it.animationName !== 'none' || parseFloat(it.transitionDuration) > 0)"
        assert page.run(styles) == moves, wanted
        page.click("Back", "dialog")
    page.devtools("Emulation.setEmulatedMedia", features=[])


def axe():
    """The checker of accessibility by Deque, if npm delivers it."""
    file = AXE / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists() and shutil.which("npm"):
        AXE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save",
                        "--prefix", str(AXE), f"axe-core@{AXE_VERSION}"], capture_output=True, timeout=60)
    return file.read_text() if file.exists() else None


CHECK = """
    return axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})
        .then((found) => found.violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html.slice(0, 120)).join(' | ')}`));"""


def test_a_checker_of_accessibility_finds_nothing(world):
    checker = axe()
    if checker is None:
        print("skipped: npm does not deliver axe-core", flush=True)
        return
    page, client = world.browser, stage.Client(world.pgdrain, "report")
    try:
        client.ask("begin; select 'in it';")
        world.open_page()
        hold = f"/v1/databases/{stage.DATABASE}/mode"
        world.ask(hold, "PUT", {"mode": "hold", "for": "60s", "by": "anna"})
        page.sees("1 session in the way", css=".drain")
        for card in (".sessions", ".measures", ".settings"):
            page.unfold(card)
        page.sees("report", css=".sessions")
        page.sees("hold.for", css=".settings")
        page.run(checker + "; window.axe = axe;")
        wrong = "const it = document.createElement('img'); it.className = 'wrong'; document.body.append(it);"
        assert any("image-alt" in it for it in page.run(wrong + CHECK)), "the checker finds nothing that is wrong"
        page.run("document.querySelector('.wrong').remove()")
        for scheme in ("light", "dark"):
            page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            found = page.run(CHECK)
            assert not found, f"{scheme}: {found}"
            page.click("Hold again", ".actions")
            page.sees("What clients will see", css="dialog")
            found = page.run(CHECK)
            assert not found, f"{scheme}, a question: {found}"
            page.click("Back", "dialog")
        world.ask(hold, "PUT", {"mode": "open"})
        page.sees("Everything passes", css=".mode")
    finally:
        page.devtools("Emulation.setEmulatedMedia", features=[])
        client.stop()
