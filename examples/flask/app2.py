"""The application below /app2: rs_uwsgi_mount sends SCRIPT_NAME and PATH_INFO ready to use."""

from flask import Flask

from pages import pages

app = Flask(__name__)
app.config["TITLE"] = "Second Flask application"
app.config["ABOUT"] = "Mounted by rs_uwsgi_mount: PATH_INFO arrives without the prefix."
app.register_blueprint(pages)
