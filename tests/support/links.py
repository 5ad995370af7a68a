"""A Django and a Flask site in one WSGI application, below /django/ and /flask/: what each makes of a request's
path, and the links that it builds."""

import sys

# where Debian has them; gunicorn runs in an environment of its own
sys.path.append("/usr/lib/python3/dist-packages")

import django
import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path, reverse


def text(rest, link, absolute, query, environ):
    names = ["SCRIPT_NAME", "REMOTE_ADDR", "REMOTE_PORT", "REQUEST_URI", "SITE", "SERVER_NAME"]
    lines = ["rest=" + rest, "link=" + link, "absolute=" + absolute, "query=" + query]
    return "\n".join(lines + [name + "=" + environ.get(name, "none") for name in names])


def page(request, rest):
    link = reverse("page", args=[rest])
    query = ",".join(name + ":" + value for name, value in request.GET.items())
    absolute = request.build_absolute_uri()
    answer = text(rest, link, absolute, query, request.META)
    return HttpResponse(answer, content_type="text/plain; charset=utf-8")


settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of a test", USE_TZ=True, MIDDLEWARE=[]
)
urlpatterns = [re_path("^django/(.*)$", page, name="page")]
django_site = get_wsgi_application()
flask_site = flask.Flask("links")


@flask_site.route("/flask/<path:rest>")
def flask_page(rest):
    request = flask.request
    query = ",".join(name + ":" + value for name, value in request.args.items())
    answer = text(rest, flask.url_for("flask_page", rest=rest), request.url, query, request.environ)
    return flask.Response(answer, content_type="text/plain; charset=utf-8")


def application(environ, start_response):
    site = flask_site if environ["PATH_INFO"].startswith("/flask/") else django_site
    return site(environ, start_response)
