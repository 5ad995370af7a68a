"""The application below /app1: nginx sends SCRIPT_NAME, a whole PATH_INFO and modifier1 30."""

from flask import Flask

from pages import RECEIVED_PATH, pages


class CutScriptName:
    """Cuts SCRIPT_NAME off PATH_INFO, which modifier1 30 asks of uWSGI.

    uWSGI's plugin did so for Python 2. For Python 3 it takes the modifier and chooses the
    application by SCRIPT_NAME, but leaves PATH_INFO whole: its test for a string is one for bytes
    (plugins/python/wsgi_subhandler.c, up to 2.0.31 at least). Where uWSGI has cut, nothing is done.
    """

    def __init__(self, wsgi_app):
        self.wsgi_app = wsgi_app

    def __call__(self, environ, start_response):
        prefix, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        environ[RECEIVED_PATH] = path
        if path == prefix or path.startswith(prefix + "/"):
            environ["PATH_INFO"] = path[len(prefix):]
        return self.wsgi_app(environ, start_response)


app = Flask(__name__)
app.config["TITLE"] = "First Flask application"
app.config["ABOUT"] = "Mounted by SCRIPT_NAME and modifier1 30: PATH_INFO arrives whole."
app.wsgi_app = CutScriptName(app.wsgi_app)
app.register_blueprint(pages)
