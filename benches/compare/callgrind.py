"""Reads what callgrind has counted: instructions by function, and what callers spent in callees.

callgrind_annotate lists a function once for every source file whose code was inlined into it; here it
is one. Functions are named as callgrind names them: where there are no symbols, by their address.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

# Such as `fn=(12) name`, and later `fn=(12)`.
_NAMED = re.compile(r"(fl|fi|fe|fn|ob|cob|cfi|cfl|cfn)=\((\d+)\)(?: (.*))?")
_COST = re.compile(r"[+*-]?\d* ?(\d+)$")


@dataclass
class Profile:
    """Instructions: `own` by function, without what it calls; `calls` by caller and callee, with all
    that the callee calls."""

    own: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)

    def total(self):
        """All instructions."""
        return sum(self.own.values())

    def of(self, name):
        """What the calls of a function cost, from wherever it is called."""
        return sum(
            cost
            for (caller, callee), cost in self.calls.items()
            if callee == name and caller != name
        )

    def entered(self, pattern, inside):
        """What calls of functions whose whole name matches cost, from callers not matching `inside`."""
        return sum(
            cost
            for (caller, callee), cost in self.calls.items()
            if re.fullmatch(pattern, callee)
            and caller != callee
            and not re.fullmatch(inside, caller)
        )

    def callers(self, name):
        """The functions that call this one."""
        return sorted({caller for caller, callee in self.calls if callee == name})

    def per_request(self, fewer, requests):
        """This profile less one that has so many requests less, for one request."""
        own = {name: (cost - fewer.own[name]) / requests for name, cost in self.own.items()}
        calls = {pair: (cost - fewer.calls[pair]) / requests for pair, cost in self.calls.items()}
        return Profile(Counter(own), Counter(calls))


def read(path):
    """The profile in a file that callgrind has written."""
    profile, names, at, is_call = Profile(), {}, None, False
    # The object of the current function, and of the one that is called next.
    objects, callee = {"ob": "", "cob": None}, None
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if found := _NAMED.match(line):
                kind, number, name = found.groups()
                table = {"n": "functions", "b": "objects"}.get(kind[-1], "files")
                if name is not None:
                    names[table, number] = name.strip()
                name = names[table, number]
                if kind == "fn":
                    at = _qualified(name, objects["ob"])
                elif kind == "cfn":
                    callee = _qualified(name, objects["cob"] or objects["ob"])
                    objects["cob"] = None
                elif table == "objects":
                    objects[kind] = name
            elif line.startswith("calls="):
                is_call = True
            elif at is not None and (found := _COST.match(line)):
                if is_call:
                    profile.calls[at, callee] += int(found[1])
                else:
                    profile.own[at] += int(found[1])
                is_call = False
    return profile


def _qualified(name, program):
    """Addresses of two programs may be the same, and recursions are told apart by callgrind."""
    name = re.sub(r"'\d+$", "", name)
    return f"{name} in {program.rpartition('/')[2]}" if name.startswith("0x") else name
