"""Where the demo runs: a directory of its own that an ordinary user can reach, and that user."""

import fcntl
import os
import pwd
import re
import shutil
import tempfile
from pathlib import Path

USER = "www-data"  # who runs everything when root starts the demo
SOCKET_PATH_MAX = 107  # sun_path has 108 bytes, the last one is NUL
LONGEST_SOCKET = "django.sock"
# Paths go into nginx.conf and uWSGI's command line unquoted.
PLAIN_PATH = re.compile(r"[\w./+-]+")


class Stage:
    """The directories of one run. After `__init__` the process is the ordinary user.

    root/site: the applications, root/conf: configuration, root/static: what nginx serves,
    root/data: database and uploads, root/logs, root/tmp: nginx's temporary files, run: sockets and
    pid file. `private` lists the directories under /tmp that `close` removes.
    """

    def __init__(self, repository):
        self.repository = repository
        self.user = pwd.getpwnam(USER) if os.geteuid() == 0 else None
        self.private = []
        self.lock = None
        self.root = self._choose(repository / "target" / "demo")
        for name in ("site", "conf", "static", "data", "logs", "tmp", "run"):
            setattr(self, name, self.root / name)
            getattr(self, name).mkdir()
        if len(os.fsencode(self.run / LONGEST_SOCKET)) > SOCKET_PATH_MAX:
            self.run = self._temporary()
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in ("django", "flask", "show"):
            shutil.copytree(repository / "examples" / name, self.site / name, ignore=ignore)
        for source in (repository / "examples" / "uwsgi").glob("*.ini"):
            shutil.copy(source, self.conf)

    def become_user(self):
        """Hands the directories to the ordinary user and becomes that user, for good."""
        if not self.user:
            return
        uid, gid = self.user.pw_uid, self.user.pw_gid
        for top in (self.root, self.run):
            for directory, _, files in os.walk(top):
                os.chown(directory, uid, gid)
                for name in files:
                    os.chown(os.path.join(directory, name), uid, gid)
        _drop(self.user)

    def close(self, keep):
        """Removes what lies under /tmp, unless there are logs worth keeping."""
        for directory in self.private:
            if keep and directory == self.root:
                print(f"logs are kept in {self.logs}")
            else:
                shutil.rmtree(directory, ignore_errors=True)

    def _choose(self, wanted):
        """`wanted`, emptied, or a fresh directory under /tmp where that will not do."""
        try:
            wanted.mkdir(parents=True, exist_ok=True)
            if not PLAIN_PATH.fullmatch(str(wanted)):
                raise OSError("its path has characters that a configuration would have to quote")
            self.lock = open(wanted / "lock", "w")
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in wanted.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
            if self.user:
                os.chown(wanted, self.user.pw_uid, self.user.pw_gid)
                if not _can_write(self.user, wanted):
                    raise OSError(f"{USER} cannot reach it")
            return wanted
        except BlockingIOError:
            reason = "another demo runs there"
        except OSError as error:
            reason = error
        directory = self._temporary()
        print(f"{wanted} is not used ({reason}); the demo runs in {directory}")
        return directory

    def _temporary(self):
        directory = Path(tempfile.mkdtemp(prefix="rs-uwsgi-demo-", dir="/tmp"))
        self.private.append(directory)
        return directory


def _drop(user):
    """Gives up root for `user`, with that user's groups."""
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def _can_write(user, directory):
    """Tries it as `user`, in a child: modes alone do not tell (parents, ACLs, mounts)."""
    child = os.fork()
    if child == 0:
        try:
            _drop(user)
            with tempfile.TemporaryFile(dir=directory):
                os._exit(0)
        except OSError:
            pass
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0
