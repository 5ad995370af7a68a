"""The application of the two balanced servers; DEMO_NAME tells one from the other."""

import os

from flask import Flask, render_template

app = Flask(__name__)
app.config["TITLE"] = "Balanced"


@app.get("/balanced/")
def index():
    """Says which server answered."""
    return render_template("balanced.html", name=os.environ["DEMO_NAME"], process=os.getpid())
