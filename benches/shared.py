"""What the benches share: nginx's user and params, what a process has used, what was measured on, and
tables."""

import getpass
import grp
import os
import platform
import re
import subprocess
from pathlib import Path

PARAMS = Path(__file__).resolve().parent.parent / "nginx-conf/rs_uwsgi_params"


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
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


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
