"""The applications behind uWSGI and gunicorn: below /django Django's smallest view, else plain WSGI.

Both answer with the same 1 KiB and the same headers; servers add theirs (gunicorn: Server, Date and
Connection, which makes seven).
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path

BODY = b"x" * 1024
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Length": str(len(BODY)),
    "X-Frame-Options": "DENY",
    "Vary": "Cookie",
}

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="nothing is signed")

urlpatterns = [re_path("", lambda _request: HttpResponse(BODY, headers=HEADERS))]

_django = get_wsgi_application()


def application(environ, start_response):
    if environ["PATH_INFO"].startswith("/django"):
        return _django(environ, start_response)
    start_response("200 OK", list(HEADERS.items()))
    return [BODY]
