"""What every page may know of the server that it runs in."""

import os


def server(_request):
    """The server's name, and whether there is a gunicorn beside uWSGI; the demo says both."""
    return {
        "server": os.environ.get("DEMO_SERVER", ""),
        "gunicorn": bool(os.environ.get("DEMO_GUNICORN")),
    }
