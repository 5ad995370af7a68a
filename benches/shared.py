"""What the benches share: how one is run, nginx's user and params, what a process has used, what was
measured on, tables, and sections of the README."""

import getpass
import grp
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from demo_lib.processes import StartFailed, Stopped, stop_on_signals

REPOSITORY = Path(__file__).resolve().parent.parent
PARAMS = REPOSITORY / "nginx-conf/rs_uwsgi_params"


def guarded(bench):
    """Calls `bench` with nginx's program, the module, a folder for sockets, and a list for the
    processes that it starts, all of which are stopped in the end. Returns what it returned, and
    whether all went well; None and False where it failed, which is printed."""
    module = REPOSITORY / "target/module/ngx_http_rs_uwsgi_module.so"
    module = Path(os.environ.get("RS_UWSGI_MODULE", module))
    if not module.is_file():
        print(f"{module} is missing: `make module` builds it", file=sys.stderr)
        return None, False
    program = os.environ.get("RS_UWSGI_NGINX", "nginx")
    stop_on_signals()
    running, left, result = [], [], None
    # Not below target/: a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="rs-uwsgi-bench.") as folder:
        try:
            result = bench(program, module, Path(folder), running)
        except Stopped:
            print("\nstopping ...", flush=True)
        except (StartFailed, ValueError, OSError, subprocess.CalledProcessError) as failure:
            print(f"\n{failure}", file=sys.stderr)
        finally:
            left = _stop(running)
    if left:
        print(f"still running: {', '.join(left)}", file=sys.stderr)
    return result, result is not None and not left


def _stop(running):
    """Stops whatever still runs. Returns the names of what could not be stopped."""
    for process in reversed(running):
        process.terminate()
    return [process.name for process in reversed(running) if not process.reap()]


def nginx_version(nginx):
    """As `nginx -v` says it."""
    said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition(" ")[2]


def machine():
    """Processor, number of cores, memory and kernel."""
    model = re.search(
        r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = model[1] if model else platform.machine()
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {kernel}"


def table(head, rows):
    """A Markdown table, aligned so that it can be read unrendered."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def pad(line):
        first, *others = (cell for cell in line)
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:])]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([pad(head), pad(rule), *map(pad, rows)])


def around_section(path, name):
    """What stands before and after a section between two comments, the comments included. Raises
    ValueError where they are missing."""
    begin, end = f"<!-- {name}: written by make, do not edit -->\n", f"<!-- /{name} -->\n"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise ValueError(f"{path} has no section {begin.strip()} … {end.strip()}")
    return before + begin, end + after


def write_section(path, name, text):
    """Replaces a section's text. Raises ValueError where there is no such section."""
    before, after = around_section(path, name)
    path.write_text(f"{before}\n{text.strip()}\n\n{after}", encoding="utf-8")


def user_line():
    """As root, workers would become somebody who may not enter our folder."""
    if os.geteuid() != 0:
        return ""
    return f"user {getpass.getuser()} {grp.getgrgid(os.getegid()).gr_name};\n"


def params():
    """The standard set, the same for both."""
    ours = PARAMS.read_text(encoding="utf-8")
    return ours + ours.replace("rs_uwsgi_param ", "uwsgi_param ")


def cpu_seconds(pid):
    """CPU time that a process has used. The scheduler's count where the kernel has it, in
    nanoseconds; else utime + stime, in ticks, as a rule of 10 ms."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except (OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        # The second field, the name, may contain spaces.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def group_cpu_seconds(group):
    """CPU time that the living processes of a process group have used, with those of their threads
    and children that have ended. In ticks, as a rule of 10 ms."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
