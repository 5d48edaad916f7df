"""Kernels that were recorded, and how one step of them is shown."""

import collections
import re
import shutil
import subprocess

Kernel = collections.namedtuple("Kernel", "begin end blocks threads registers shared name")


class NoStep(Exception):
    """Why no step can be shown, in one sentence."""


def read(path):
    kernels = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            *numbers, name = line.rstrip("\n").split(",", 6)
            kernels.append(Kernel(*map(int, numbers), name))
    kernels.sort(key=lambda k: k.begin)
    names = demangled([k.name for k in kernels])
    return [k._replace(name=short(name)) for k, name in zip(kernels, names)]


def demangled(names):
    if not shutil.which("c++filt"):
        return names
    return subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True).stdout.split("\n")


def short(name):
    name = re.sub(r"\(anonymous namespace\)::|trireme::cuda::|void ", "", name)
    return re.sub(r"\(.*$", "", name)[:70]


def step_of(kernels, begins, longest):
    """(first, beyond the last) of the kernels of a step, and when the one before it ended."""
    first = [i for i, k in enumerate(kernels) if re.search(begins, k.name)]
    if len(first) < 2:
        raise NoStep(f"no kernel is called '{begins}' twice: --step takes another name; the most frequent are "
                     + ", ".join(n for n, _ in collections.Counter(k.name for k in kernels).most_common(4)))
    steps = list(zip(first, first[1:]))
    if longest:
        return max(steps, key=lambda s: kernels[s[1] - 1].end - kernels[s[0]].begin)
    return steps[-1]


def show(kernels, begins, longest, lines):
    first, beyond = step_of(kernels, begins, longest)
    step = kernels[first:beyond]
    ended = kernels[first - 1].end if first > 0 and not longest else step[0].begin
    print(f"one step: {(step[-1].end - ended) / 1e3:.1f} us, {len(step)} kernels")
    print(f"{'of it, us':>12} {'times':>6} {'each':>8} {'idle before':>12}")
    part, idle, times = collections.Counter(), collections.Counter(), collections.Counter()
    for k in step:
        part[k.name] += max(0, k.end - max(ended, k.begin))
        idle[k.name] += max(0, k.begin - ended)
        times[k.name] += 1
        ended = max(ended, k.end)
    for name, nanoseconds in part.most_common():
        n = times[name]
        print(f"{nanoseconds / 1e3:12.1f} {n:6} {nanoseconds / 1e3 / n:8.2f} {idle[name] / 1e3 / n:12.2f}  {name}")
    print(f"\n{'begins, us':>12} {'ends':>10} {'takes':>8} {'blocks':>8} {'threads':>8} {'regs':>5} {'shared':>8}")
    for k in step[:lines]:
        print(f"{(k.begin - step[0].begin) / 1e3:12.2f} {(k.end - step[0].begin) / 1e3:10.2f} "
              f"{(k.end - k.begin) / 1e3:8.2f} {k.blocks:8} {k.threads:8} {k.registers:5} {k.shared:8}  {k.name}")
