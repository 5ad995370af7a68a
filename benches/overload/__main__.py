"""What becomes of more requests than the application can serve. Two parts, or one of them:

    make bench-overload                 both
    make bench-overload PART=bursts     clients that all come at once and wait (bursts.py)
    make bench-overload PART=open       clients that arrive at a rate and leave when their patience is over
                                        (open_loop.py); PART=open-quick: a look at it in half a minute
    make bench-overload README=write    writes the main figures into README.md and docs/ besides

Nothing here is a test: no figure is ever too bad. Tables are printed and written to target/bench/.
"""

import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path[1:1] = [str(REPOSITORY / "benches"), str(REPOSITORY / "examples")]

import bursts  # noqa: E402
import open_loop  # noqa: E402
from shared import around_section, guarded, write_section  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("all", "bursts", "open", "open-quick")
    parser.add_argument("part", nargs="?", choices=parts, default="all")
    parser.add_argument("--rounds", type=int, default=5, help="of the bursts")
    parser.add_argument(
        "--more",
        action="store_true",
        help="of the open loop: add to the figures that were measured before with this module",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        type=float,
        metavar="LOAD",
        help="of the open loop: these loads, in times of the application's capacity",
    )
    parser.add_argument("--haproxy", type=Path, help="where HAProxy was unpacked")
    parser.add_argument("--readme", type=Path, help="write the main figures into this file and docs/")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "target/bench")
    return parser.parse_args()


def run_bursts(options, *given):
    """The first part. Returns its report."""
    if options.readme:
        # Not to find out in the end.
        around_section(options.readme, "overload")
    report, section = bursts.run(options, *given)
    (options.results / "overload.md").write_text(report, encoding="utf-8")
    if options.readme:
        write_section(options.readme, "overload", section)
    return f"{report}\nwritten to {options.results / 'overload.md'}"


def run_open_loop(options, *given):
    """The second part. Returns its report."""
    docs = options.readme.resolve().parent / "docs" if options.readme else None
    if docs:
        around_section(docs / "tuning.md", "open loop")
    report, section, plot = open_loop.run(options, *given)
    (options.results / "open-loop.md").write_text(report, encoding="utf-8")
    (options.results / "open-loop.svg").write_text(plot, encoding="utf-8")
    if docs:
        write_section(docs / "tuning.md", "open loop", section)
        (docs / "overload.svg").write_text(plot, encoding="utf-8")
    return f"{report}\nwritten to {options.results / 'open-loop.md'} and open-loop.svg"


def main():
    options = arguments()
    options.results.mkdir(parents=True, exist_ok=True)
    parts = {"bursts": [run_bursts], "all": [run_bursts, run_open_loop]}
    good = True
    for part in parts.get(options.part, [run_open_loop]):
        report, its_good = guarded(lambda *given, part=part: part(options, *given))
        good = good and its_good
        if report is None:
            return 1
        print(f"\n{report}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
