"""Says which server it is, after 2 ms."""

import os
import time

NAME = os.environ["SERVER"].encode()


def application(_environ, start_response):
    time.sleep(0.002)
    start_response("200 OK", [("Content-Length", str(len(NAME)))])
    return [NAME]
