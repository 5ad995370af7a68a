"""`--check`: runs every check, prints a line for each and the count."""

import re
import traceback

from . import checks_django, checks_flask, checks_gunicorn, checks_show, checks_static
from .expect import Failed, expect
from .processes import pause

ALARMING = re.compile(r"\[(warn|error|crit|alert|emerg)\]")


def run(site, stock):
    """Runs all checks against a started site. Returns whether every answer was right; `stock`
    leaves out those whose answers differ on purpose."""
    checks = [
        check
        for module in (checks_static, checks_django, checks_flask, checks_gunicorn, checks_show)
        for check in module.CHECKS
        if not (stock and check.differs_from_stock)
    ]
    results = []
    for name, check in [(check.name, check) for check in checks] + [
        ("nginx's error log holds nothing at warn or above", nginx_log),
        ("the servers' logs hold no traceback", uwsgi_logs),
    ]:
        pause(0)
        results.append(_one(name, check, site))
    left = site.stop()
    results.append(_one("everything stops", lambda _: expect(left, [], "still running"), site))
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed", flush=True)
    if failed:
        print(f"logs: {site.stage.logs}")
    return not failed


def _one(name, check, site):
    try:
        check(site)
    except Failed as failure:
        print(f"FAILED  {name}: {failure}", flush=True)
    except Exception:  # a broken answer may break the check anywhere; the rest still runs
        print(f"FAILED  {name}:\n{traceback.format_exc()}", flush=True)
    else:
        print(f"ok      {name}", flush=True)
        return True
    return False


def nginx_log(site):
    """Buffering to a temporary file would be a warning, so this holds for the large files too."""
    lines = site.error_log.read_text(encoding="utf-8", errors="replace").splitlines()
    expect([line for line in lines if ALARMING.search(line)], [], "alarming lines")


def uwsgi_logs(site):
    """An application's exception ends up in its server's log even where the answer looks right."""
    logs = sorted(site.stage.logs.glob("uwsgi-*.log"))
    expect(len(logs), len(site.servers), "number of uWSGI logs")
    for log in [*logs, *site.stage.logs.glob("gunicorn.log"), *site.stage.logs.glob("counter.log")]:
        text = log.read_text(encoding="utf-8", errors="replace")
        # that of an idle connection which was closed, of which gunicorn 27 makes one
        harmless = text.count("InvalidUWSGIHeader: Invalid uWSGI header: incomplete header")
        expect(text.count("Traceback"), harmless, f"tracebacks in {log}")
