"""No HOST, no PORT, no USER: libpq takes them from the environment, and with them the way through a window."""

import os

ONE = {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}
DATABASES = {"default": ONE, "second": dict(ONE)}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "of nobody"
