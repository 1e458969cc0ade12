"""Migrations by people: approved, stopped, looked after, decided about."""

import tempfile
from pathlib import Path

import stage
from stage import until

DATABASE = "till"
# Nothing runs up there without somebody's word.
APPROVALS = """
[migrate]
down_required = false

[migrate.approvals]
roles = ["dba"]
required = true
"""


class Till:
    """Another pgdrain before another database, with somebody in it, and a page with a token."""

    def __init__(self, world, more=APPROVALS):
        self.world, self.page = world, world.browser
        world.postgres.sql(f"create database {DATABASE}", "postgres")
        directory = Path(tempfile.mkdtemp(dir=world.base))
        self.directory = directory
        self.pgdrain = stage.Pgdrain(world.postgres, directory / "pgdrain", more)
        self.client = stage.Client(self.pgdrain, "cash desk", DATABASE)
        self.page.open("about:blank")
        self.page.open(f"{self.pgdrain.url}/")
        self.page.run("sessionStorage.setItem('pgdrain.token', arguments[0])", stage.TOKEN)
        self.page.open("about:blank")
        self.page.open(f"{self.pgdrain.url}/#{DATABASE}")
        self.page.sees("Everything passes", css=".mode")

    def choose(self, name, sql):
        """Chooses one file, as a person would."""
        file = self.directory / name
        file.write_text(sql)
        self.page.type("#pick-files", str(file))
        self.page.sees("Plan", name, css=".plan", patience=60)
        self.page.sees("preflight: ", css=".gate", patience=60)

    def approve(self):
        self.page.sees("dba – not yet", css=".approvals")
        self.page.click("Approve as dba", ".approvals")
        self.page.sees("Another plan has another hash", css="dialog")
        self.page.type("#field-reason", "looked at it")
        self.page.click("Approve", "dialog")
        self.page.sees("dba by anna: looked at it", css=".approvals", patience=60)

    def start(self):
        self.page.click("Start 1 file", ".migration")
        self.page.sees("What clients will see", css="dialog")
        self.page.click("Run", "dialog")

    def stop(self):
        self.page.run("sessionStorage.clear()")
        self.page.open("about:blank")
        self.page.logged("performance")
        self.client.stop()
        self.pgdrain.stop()
        self.world.postgres.sql(f"drop database {DATABASE} with (force)", "postgres")


def test_a_migration_is_approved_and_then_runs(world):
    till = Till(world)
    try:
        till.choose("001_table.up.sql", "create table receipts (id int);\n")
        till.approve()
        till.start()
        till.page.sees("Done", "001_table.up.sql done", css=".migration", patience=90)
        assert world.postgres.sql("select count(*) from receipts", DATABASE) == "0"
    finally:
        till.stop()


def test_a_migration_that_failed_is_looked_after_and_decided_about(world):
    till = Till(world, "[migrate]\ndown_required = false\n")
    page = till.page
    try:
        till.choose("001_broken.up.sql", "create table receipts (id int);\nselect 1/0;\n")
        till.start()
        page.sees("Failed", "22012", "division by zero", css=".run", patience=90)
        page.click("I look after it", ".run")
        page.sees("Nobody else is called", css="dialog")
        page.click("I look after it", "dialog")
        page.sees("anna looks after it.", css=".run")
        page.click("Decide what becomes of it", ".run")
        page.sees("Nothing is run", css="dialog")
        page.choose("#field-decision", "rollback")
        page.type("#field-reason", "not worth it")
        page.click("Write it down", "dialog")
        page.sees("It is taken back: decided by anna", "not worth it", css=".run")
        assert world.postgres.sql("select decision from pgdrain.decision", DATABASE) == "rollback"
    finally:
        till.stop()


def test_a_migration_is_cancelled(world):
    till = Till(world, "[migrate]\ndown_required = false\n")
    page = till.page
    try:
        till.choose("001_slow.up.sql", "create table receipts (id int);\nselect pg_sleep(300);\n")
        till.start()
        sleeps = "select count(*) from pg_stat_activity where query like '%pg_sleep(300)%' and state = 'active' and pid <> pg_backend_pid()"
        until("it runs", lambda: world.postgres.sql(sleeps, DATABASE) == "1", 60)
        page.click("Cancel it", ".run")
        page.sees("is rolled back; nothing of it stays", css="dialog")
        page.click("Cancel the migration", "dialog")
        page.sees("Cancelled", css=".run", patience=60)
        page.sees("Everything passes", css=".mode")
        assert world.postgres.sql("select to_regclass('receipts') is null", DATABASE) == "t"
    finally:
        till.stop()
