"""One CPU for all that takes part before the null backend, so that the worker's time is nginx's own.

On several CPUs a packet wakes a process on another one, by an interrupt that is dear in a virtual
machine, or on nginx's own, where it preempts nginx. The worker pays for both, and the scheduler decides
how often. On one CPU, in SCHED_BATCH, nobody is woken elsewhere and nobody preempts: each handles all
that has come, then has to wait.
"""

import contextlib
import functools
import os


@contextlib.contextmanager
def one_cpu(*pids, when=True):
    """One CPU and SCHED_BATCH for the caller, for what it starts meanwhile, which keeps them, and for
    `pids`, processes of one thread. Does nothing if not `when`, or where it may not."""
    pids = (0, *pids) if when and _allowed() else ()
    before = [(pid, *_placement(pid)) for pid in pids]
    try:
        for pid in pids:
            _place(pid, *_one())
        yield
    finally:
        for placement in before:
            # It may have ended.
            with contextlib.suppress(ProcessLookupError):
                _place(*placement)


def note():
    """How the rows of the null backend are run, for the reports."""
    if not _allowed():
        return """\
The rows of null ran on all CPUs, as the others do: this process may not choose its CPU and policy."""
    return """\
Before null, client, web server and backend share one CPU in SCHED_BATCH, where each works until it has
to wait: on all CPUs they would wake and preempt each other, which is counted as the web server's time
and differs from round to round."""


@functools.cache
def _allowed():
    """Whether this process may choose its CPU and policy, as it may not in every container."""
    had = _placement(0)
    try:
        _place(0, *_one())
        return True
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            _place(0, *had)


def _one():
    # The first CPU has most of the interrupts.
    return {max(os.sched_getaffinity(0))}, os.SCHED_BATCH, os.sched_param(0)


def _placement(pid):
    return os.sched_getaffinity(pid), os.sched_getscheduler(pid), os.sched_getparam(pid)


def _place(pid, cpus, policy, param):
    os.sched_setaffinity(pid, cpus)
    os.sched_setscheduler(pid, policy, param)
