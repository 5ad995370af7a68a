"""The pages that both mounted applications show: links, a form, and the request as it arrived."""

from flask import Blueprint, current_app, render_template, request

pages = Blueprint("pages", __name__)

# The environ key of PATH_INFO as it came from nginx, for an application that changes it.
RECEIVED_PATH = "demo.received_path_info"
# What a front end decides when an application is mounted below a prefix.
MOUNT_VARS = ["SCRIPT_NAME", "PATH_INFO", "REQUEST_URI", "QUERY_STRING", "SERVER_PORT", "HTTP_HOST"]


@pages.get("/")
def index():
    """Links made by url_for, which are right only where SCRIPT_NAME is."""
    return render_template("index.html", about=current_app.config["ABOUT"])


@pages.route("/form/", methods=["GET", "POST"])
def form():
    """A form that answers itself."""
    return render_template("form.html", entry=request.form.get("message"))


@pages.get("/echo/", defaults={"rest": ""})
@pages.get("/echo/<path:rest>")
def echo(rest):
    """The vars that tell the mount, and what the application made of them."""
    seen = {name: request.environ.get(name, "") for name in MOUNT_VARS}
    seen["PATH_INFO from nginx"] = request.environ.get(RECEIVED_PATH, seen["PATH_INFO"])
    seen["request.url"] = request.url
    return render_template("echo.html", seen=seen, rest=rest)
