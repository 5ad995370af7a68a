"""Checks of the mounted Flask applications and of the balanced location."""

import re
import secrets

from .checks_static import answered_by
from .client import Visitor
from .expect import check_list, expect, expect_in

CHECKS, check = check_list()

# Mount, title, whether nginx leaves the mount in PATH_INFO.
MOUNTS = [("/app1", "First Flask application", True), ("/app2", "Second Flask application", False)]
BALANCED_REQUESTS = 8  # with two workers of nginx at least four fall to one of them


def mounted(name, differs_from_stock=False):
    """Registers one check for each mount."""

    def register(function):
        for mount in MOUNTS:
            check(f"{mount[0]}: {name}", differs_from_stock)(
                lambda site, mount=mount: function(site, *mount)
            )

    return register


@mounted("url_for's links begin with the mount, and each leads to its page")
def links(site, mount, title, _):
    answer = Visitor(site.port).get(f"{mount}/")
    expect(answer.status, 200, "status")
    expect_in(f"<h1>{title}</h1>", answer.text, "the page")
    navigation = re.search(r"(?s)<nav>(.*?)</nav>", answer.text).group(1)
    found = re.findall(r'href="([^"]+)"', navigation)
    wanted = [f"{mount}/", f"{mount}/form/", f"{mount}/echo/some/path?colour=blue"]
    expect(found, wanted, "links")
    for link in found:
        page = Visitor(site.port).get(link)
        expect(page.status, 200, f"status of {link}")
        expect_in(f"<h1>{title}</h1>", page.text, link)


def echoed(site, path):
    """The table on an echo page."""
    page = Visitor(site.port).get(path).text
    return dict(re.findall(r"<tr><th>(.*?)</th><td><code>(.*?)</code>", page))


@mounted("SCRIPT_NAME and PATH_INFO are right")
def script_name(site, mount, _, whole_path):
    seen = echoed(site, f"{mount}/echo/some/path?colour=blue")
    wanted = {
        "SCRIPT_NAME": mount,
        "PATH_INFO": "/echo/some/path",
        "PATH_INFO from nginx": (mount if whole_path else "") + "/echo/some/path",
        "REQUEST_URI": f"{mount}/echo/some/path?colour=blue",
        "QUERY_STRING": "colour=blue",
        "SERVER_PORT": str(site.port),
        "HTTP_HOST": f"127.0.0.1:{site.port}",
        "request.url": f"{site.url}{mount}/echo/some/path?colour=blue",
    }
    expect(seen, wanted, "the vars")


@mounted("an escaped path arrives decoded")
def escaped(site, mount, *_):
    seen = echoed(site, f"{mount}/echo/a%20b%2Bc")
    expect(seen.get("PATH_INFO"), "/echo/a b+c", "PATH_INFO")
    expect(seen.get("REQUEST_URI"), f"{mount}/echo/a%20b%2Bc", "REQUEST_URI")


@mounted("a form")
def form(site, mount, *_):
    message = 'Grüße & <tags> "quoted" 100%+1'
    answer = Visitor(site.port).post(f"{mount}/form/", {"message": message}, csrf=False)
    expect(answer.status, 200, "status")
    expect_in(f"You wrote: <q>{message}</q>", answer.text, "the page")


@mounted("the address without its slash leads to it")
def redirect(site, mount, *_):
    answer = Visitor(site.port).get(mount)
    expect((answer.status, answer.headers["Location"]), (301, f"{mount}/"), "answer")


@mounted("an address that it does not know is Flask's 404")
def not_found(site, mount, *_):
    mark = secrets.token_hex(8)
    expect(Visitor(site.port).get(f"{mount}/{mark}").status, 404, "status")
    expect(answered_by(site, mark), f"uwsgi {site.flask}", "who answered")


@check("/balanced/: both servers answer, and each is the one that the access log names")
def balanced(site):
    addresses = {name: address for name, _, address, _ in site.servers}
    addresses["north"] = f"unix:{addresses['north']}"
    names = []
    for _ in range(BALANCED_REQUESTS):
        mark = secrets.token_hex(8)
        answer = Visitor(site.port).get(f"/balanced/?{mark}")
        expect(answer.status, 200, "status")
        names += re.findall(r'id="server">(\w+)<', answer.text)
        expect(answered_by(site, mark), f"uwsgi {addresses.get(names[-1])}", "who answered")
    expect(sorted(set(names)), ["north", "south"], "the servers")
    expect(len(names), BALANCED_REQUESTS, "answers")
