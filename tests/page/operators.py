"""What an operator does beside holding and opening: in competition with another one, with a cap, a precheck, measures,
a window of somebody else, the configuration."""

import stage
from stage import until


def hold_by(world, name, reason="theirs"):
    world.ask(f"/v1/databases/{stage.DATABASE}/mode", "PUT", {"mode": "hold", "for": "60s", "by": name, "reason": reason})


def held_by(world):
    return [(it["by"], it.get("reason")) for it in world.database()["holds"]]


def test_of_two_operators_the_second_is_asked_again(world):
    """Whoever was first is named, nothing is done to theirs, and only pressing once more does it all the same."""
    page = world.browser
    world.expected.append("status of 412")
    world.open_page()
    page.click("Hold", ".actions")
    page.sees("What clients will see", css="dialog")
    hold_by(world, "bert", "deploy 7")
    page.type("#field-by", "anna")
    page.click("Hold", "dialog")
    page.sees("Not done.", "Somebody else changed it", "shop: held by bert (deploy 7)", "Hold all the same", css="dialog")
    assert held_by(world) == [("bert", "deploy 7")], held_by(world)
    page.click("Hold all the same", "dialog")
    until("it is anna's", lambda: held_by(world)[0][0] == "anna")
    page.sees("Held", "anna", css=".mode")
    # The other way round: what is opened is not the hold that was seen.
    page.click("Open", ".actions")
    page.sees("oldest first", css="dialog")
    hold_by(world, "cleo", "still needed")
    page.click("Open", "dialog")
    page.sees("Not done.", "held by cleo (still needed)", "Open all the same", css="dialog")
    assert world.database()["mode"] == "hold"
    page.click("Back", "dialog")
    page.sees("cleo", css=".mode")
    page.click("Open", ".actions")
    page.click("Open", "dialog")
    page.sees("Everything passes", css=".mode")


def test_all_databases_at_once_are_a_state_too(world):
    page = world.browser
    world.expected.append("status of 412")
    world.open_page()
    page.click("Hold all", "footer")
    page.sees("Every database is meant", css="dialog")
    asked = "return performance.getEntriesByType('resource').some((it) => it.name.endsWith('/v1/databases/*/mode'))"
    until("the state is known that is meant", lambda: page.run(asked))
    hold_by(world, "bert")
    page.click("Hold", "dialog")
    page.sees("Somebody else changed it", "shop: held by bert", css="dialog")
    page.click("Back", "dialog")
    page.click("Open all", "footer")
    page.sees("Whoever waits goes on", css="dialog")
    page.click("Open", "dialog")
    page.sees("Everything passes", css=".mode")


def test_a_cap_from_the_page(world):
    page = world.browser
    world.open_page()
    page.click("Cap", ".mode")
    page.sees("without an error; oldest first", css="dialog")
    page.clear("#field-transactions")
    page.type("#field-transactions", "many")
    assert page.run("return document.querySelector('dialog [type=submit]').disabled"), "that is no number"
    page.clear("#field-transactions")
    page.type("#field-transactions", "2")
    page.type("#field-reason", "calm down")
    page.click("Cap", "dialog")
    page.sees("At most 2 transactions at once", "calm down", css=".mode")
    assert world.database()["cap"]["transactions"] == 2
    page.click("Lift the cap", ".mode")
    page.sees("begins at once", css="dialog")
    page.click("Lift the cap", "dialog")
    until("it is lifted", lambda: not world.database().get("cap"))
    until("the page says so", lambda: "At most" not in page.text(".mode"))


def test_a_look_before_anything_is_held(world):
    page, client = world.browser, stage.Client(world.pgdrain, "nightly-report")
    world.postgres.sql("begin; create table left_over (); prepare transaction 'left over'")
    try:
        client.ask("begin; select 'in it';")
        world.open_page()
        until("it has sat there for some time", lambda: any(
            (it["age_ms"] or 0) > 1_000 and "nightly" in it["what"] for it in world.ask(f"/v1/databases/{stage.DATABASE}/precheck")["findings"]))
        page.click("Precheck", ".mode")
        page.sees("Nothing is likely to keep it from being drained", "left over", "– named", "nightly-report", "– waits", css="dialog")
        page.choose("#field-ladder", "force")
        until("the other ladder is looked at", lambda: "– terminates" in page.text("dialog"))
        world.postgres.sql("rollback prepared 'left over'")
        page.choose("#field-mode", "read_only")
        until("it is looked at again", lambda: "Nothing is likely" in page.text("dialog") and "left over" not in page.text("dialog"))
        page.click("Close", "dialog")
        assert world.database()["mode"] == "open"
    finally:
        if world.postgres.sql("select count(*) from pg_prepared_xacts") != "0":
            world.postgres.sql("rollback prepared 'left over'")
        client.stop()


def test_what_statements_take(world):
    """An estimate is called one; while it is measured, the figure and its line are what was measured."""
    page = world.browser
    world.open_page()
    page.sees("A transaction takes", "estimated, not measured", css=".figures")
    page.unfold(".measures")
    page.click("Measure", ".measures")
    page.sees("Nothing: pgdrain reads along", css="dialog")
    page.choose("#field-one_in", "1")
    page.click("Measure", "dialog")
    page.sees("update pgbench_accounts set abalance", "each was timed: mean", "left", css=".measures")
    shown = page.sees("A statement takes", css=".figures", patience=30)
    assert "measured" in shown and "estimated" not in shown, shown
    line = "return document.querySelector('.tile.measured .spark .line') !== null"
    until("a line of what was measured", lambda: page.run(line))
    label = page.run("return document.querySelector('.tile.measured .spark').getAttribute('aria-label')")
    assert "as measured" in label, label
    page.click("Measure no more", ".measures")
    page.click("Measure no more", "dialog")
    page.sees("not measured", "Then", css=".measures")
    page.sees("estimated, not measured", css=".figures", patience=30)


def test_times_are_read_from_their_buckets(world):
    """As the server reads them: the upper end of each bucket."""
    page = world.browser
    world.open_page()
    read = page.run("""return import('/dashboard/statements.js').then((it) => [
        it.quantile({count: 3, buckets: {5: 1, 7: 2}}, 0.3), it.quantile({count: 3, buckets: {5: 1, 7: 2}}, 0.99),
        it.quantile({count: 1, buckets: {8: 1}}, 0.5), it.quantile({count: 2, buckets: {16: 1, 63: 1}}, 1), it.quantile({count: 0, buckets: {}}, 0.5)])""")
    assert read == [0.005, 0.007, 0.008, 1.023, None], read
    estimates = page.run("""return import('/dashboard/figures.js').then((it) => it.estimates(
        {running: Array(12).fill(2), transactions: [0, ...Array(9).fill(null), 100, null], every_ms: 1000}))""")
    assert estimates[:9] == [None] * 9 and estimates[9:] == [200, 200, 200], estimates


def test_a_window_is_finished_for_its_holder(world):
    page = world.browser
    order = {"reason": "by hand", "by": "dora", "lease": "60s"}
    taken = world.ask(f"/v1/databases/{stage.DATABASE}/windows", "POST", order)
    world.open_page()
    page.sees("by hand", "Exclusive", css=".window")
    page.click("Finish it", ".window")
    page.sees("oldest first", css="dialog")
    page.click("Finish the window", "dialog")
    page.sees("Last window", "finished", css=".window")
    page.sees("Everything passes", css=".mode")
    assert world.ask(f"/v1/windows/{taken['window']['id']}")["why"] == "finished"


def test_the_configuration_is_seen_and_read_again(world):
    """Whoever may not is told what it takes, and may show it in place."""
    page, file = world.browser, world.pgdrain.directory / "pgdrain.toml"
    world.expected.append("status of 422")
    world.open_page()
    page.run("sessionStorage.clear()")
    world.open_page()
    page.unfold(".settings")
    page.sees("pgdrain.toml", "hold.client_deadline", "60s", css=".settings")
    page.type("#which-settings", "hold.for")
    until("one is left", lambda: "client_deadline" not in page.text(".settings"))
    text = file.read_text()
    try:
        file.write_text(text + "\n[hold]\nfro = '1m'\n")
        page.click("Read the file again", ".settings")
        page.sees("takes the role admin", css="dialog")
        page.type("#field-token", stage.TOKEN)
        page.click("Use this token", "dialog")
        page.sees("You are anna (admin)", css="footer")
        page.click("Read the file again", ".settings")
        page.sees("nobody is disconnected", css="dialog")
        page.click("Read it again", "dialog")
        page.sees("nothing was changed", "hold.fro", css="dialog")
        file.write_text(text + "\n[hold]\nfor = '4m'\n")
        page.click("Read it again", "dialog")
        page.sees("1 key changed", "Apply now", "hold.for", css="dialog")
        page.click("Close", "dialog")
        page.sees("hold.for", "240s", css=".settings")
    finally:
        file.write_text(text)
        world.reload()
        page.run("sessionStorage.clear()")
