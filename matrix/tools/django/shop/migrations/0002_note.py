"""A column of a table that is in use."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RunSQL("alter table pgbench_accounts add column django_note text not null default 'x'"),
    ]
