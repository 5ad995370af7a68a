"""Settings of the showcase project, for Django 3.2 and newer.

The source tree may be read-only, so everything that is written goes below SHOWCASE_DATA:

    SHOWCASE_DATA    directory of the database, the uploads and the secret key
    SHOWCASE_STATIC  directory that `collectstatic` fills and nginx serves (default: DATA/static)
    SHOWCASE_HOSTS   comma-separated host names that the site answers to (default: this machine)
"""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SHOWCASE_DATA", BASE_DIR / "data"))


def secret_key():
    """The key of this data directory, made on first use, so that no key is ever published."""
    path = DATA / "secret-key"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        DATA.mkdir(parents=True, exist_ok=True)
        key = get_random_secret_key()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key)
        return key


SECRET_KEY = secret_key()
DEBUG = False
ALLOWED_HOSTS = os.environ.get("SHOWCASE_HOSTS", "127.0.0.1,localhost").split(",")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pages",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "showcase.urls"
WSGI_APPLICATION = "showcase.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "pages.context.server",
            ]
        },
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "db.sqlite3",
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "members"
LOGOUT_REDIRECT_URL = "index"

# nginx serves STATIC_URL from STATIC_ROOT; Django never sees a request for it.
STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ.get("SHOWCASE_STATIC", DATA / "static"))
STATICFILES_DIRS = [BASE_DIR / "assets"]

# An upload goes to disk as it arrives and is renamed into place, so both directories are siblings.
UPLOADS = DATA / "uploads"
FILE_UPLOAD_TEMP_DIR = DATA / "incoming"
FILE_UPLOAD_HANDLERS = ["pages.uploads.HashingUploadHandler"]
# nginx's internal location of UPLOADS, the target of X-Accel-Redirect.
UPLOADS_INTERNAL_URL = "/protected/"

# Django keeps silent about errors unless told where to write; uWSGI's log is the place.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
