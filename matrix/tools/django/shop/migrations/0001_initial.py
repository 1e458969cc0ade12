"""A new table, and a look at it from a second connection."""

from django.db import connections, migrations, models


def look(apps, schema_editor):
    with connections["second"].cursor() as cursor:
        cursor.execute("select count(*) from pgbench_branches")


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Item",
            fields=[("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())],
            options={"db_table": "django_items"},
        ),
        migrations.RunPython(look, migrations.RunPython.noop),
    ]
