"""What gunicorn needs to give an application the vars that the module sends, as uWSGI does.

Of the vars gunicorn passes on those of the request's headers, method, path and query alone: SCRIPT_NAME
(rs_uwsgi_mount) is lost, PATH_INFO is percent-decoded a second time, REMOTE_ADDR is the socket's (empty on
a unix socket), and a rs_uwsgi_param of one's own is not seen. With this file the application has all vars
as they were sent. For the WSGI workers (sync, gthread, gevent); nothing in the application changes:

    gunicorn --config gunicorn.conf.py --protocol uwsgi --worker-class gthread ... app:application

Or copy it into the configuration file that you have. SCRIPT_NAME must not be set in gunicorn's environment.
"""


def pre_request(worker, req):
    # The one object of the request that reaches the application.
    req.body.uwsgi_vars = getattr(req, "uwsgi_vars", None)


def post_worker_init(worker):
    application = worker.wsgi

    def with_vars(environ, start_response):
        # None in a gunicorn that speaks HTTP.
        environ.update(environ["wsgi.input"].uwsgi_vars or {})
        return application(environ, start_response)

    worker.wsgi = with_vars
