#!/usr/bin/env python3
"""Arrows point down: reads every #include of the floors and fails on one that points up.

  include_arrows.py ROOT      exit code 1 and one line per wrong include: file:line: include: rule

The table below is the plan of the house. A module is a folder (all files directly or deeper in it
that no longer entry claims) or a file stem. It may include itself, the modules in its list, and what
those may include. What it says beyond floors: modules that are one of several implementations
(kernels/cpu, comm/mpi, ...) are included by the launcher, which alone names concrete types; and a
few libraries have one place in the house.
"""

import os
import re
import sys

# module: what it may include directly. Order: from the ground up.
MODULES = {
    "kernels/base": [],
    "kernels": ["kernels/base"],  # ops.h, device.h, checked_ops: the interface of a device
    "kernels/ref": ["kernels"],
    "kernels/cpu": ["kernels"],
    "kernels/cuda/plugin": ["kernels"],  # the door of the CUDA library, which knows no CUDA
    "kernels/cuda": ["kernels/cuda/plugin"],
    "comm": ["kernels"],  # communicator.h, and what communicators share
    "comm/in_process": ["comm"],
    "comm/mpi": ["comm"],
    "comm/staged": ["comm"],  # knows the interface of a device, and no device
    # Sees CUDA's runtime, NCCL's interface by its own declarations, and no other part of kernels/cuda.
    "comm/nccl": ["comm/staged", "kernels/cuda/plugin"],
    "comm/wire": ["comm"],
    "comm/net": ["comm/wire"],
    "comm/transfer": ["comm", "comm/net"],
    "parallel": ["comm", "kernels"],
    "runtime/text": ["kernels/base"],
    "runtime/sample": ["kernels"],
    "runtime/cache": ["kernels"],
    "runtime/schedule": ["runtime/cache"],
    "runtime/model/weights": ["kernels"],
    "runtime/model/spec": ["runtime/model/weights"],
    "runtime/model/families": ["runtime/model/spec"],
    "runtime/model/sublayers": ["runtime/model/families", "runtime/cache", "parallel"],
    # The decoder. Counting what a model needs runs its loader in a world of one.
    "runtime/model": ["runtime/model/sublayers", "comm/in_process"],
    "runtime/chat": ["runtime/text"],
    "runtime/grammar": ["runtime/text", "runtime/sample"],
    "runtime/engine": ["runtime/model", "runtime/schedule", "runtime/sample", "comm/wire"],
    "runtime/pool": ["runtime/cache", "comm/transfer"],
    "runtime/cluster": ["runtime/engine", "runtime/pool", "comm/net"],
    "runtime/gateway/http": ["kernels/base"],
    "runtime/gateway": ["runtime/cluster", "runtime/chat", "runtime/grammar", "runtime/gateway/http"],
    "runtime/config": ["runtime/gateway"],  # fills every component's Options
    "launcher/client": ["kernels/base"],  # talks to servers over HTTP, ours or others
    "launcher": ["launcher/client", "runtime/config", "kernels/ref", "kernels/cpu", "kernels/cuda/plugin",
                 "comm/in_process", "comm/mpi", "comm/nccl"],
}

FLOORS = sorted({module.split("/")[0] for module in MODULES})

# The start of an external header: the modules that may include it.
LIBRARIES = {
    "mpi.h": ["comm/mpi", "launcher"],  # the launcher prints its version
    "nccl.h": ["comm/nccl"],
    "cuda": ["kernels/cuda", "comm/nccl"],
    "cublas": ["kernels/cuda"],
    "yaml-cpp/": ["runtime/config"],
    "CLI/": ["launcher"],
    "boost/asio": ["comm/net", "comm/transfer", "runtime/gateway", "runtime/gateway/http", "launcher/client"],
    "boost/beast": ["runtime/gateway/http", "launcher/client"],
    "prometheus/": ["runtime/gateway"],
    "gtest/": [],
    "benchmark/": [],
}

SOURCE = re.compile(r"\.(h|hpp|inc|cc|cpp|c|cu|cuh)$")
INCLUDE = re.compile(r'^\s*#\s*include(?:_next)?\s*([<"])([^>"]+)[>"]')


def module_of(path):
    """The longest entry of the table that is a folder above `path` or its stem, or None."""
    candidate = re.sub(r"\.[^/]*$", "", path)
    while candidate:
        if candidate in MODULES:
            return candidate
        candidate = candidate.rpartition("/")[0]
    return None


def reachable(module):
    """The modules that `module` may include: itself and everything below it."""
    seen, todo = set(), [module]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo.extend(MODULES[current])
    return seen


def cycle():
    """A module that may include itself by way of others, or None."""
    for module in MODULES:
        for below in MODULES[module]:
            if module in reachable(below):
                return module
    return None


def includes(text):
    """(line number, bracket, path) of each #include outside of block comments."""
    in_comment = False
    for number, line in enumerate(text.split("\n"), 1):
        if in_comment:
            end = line.find("*/")
            if end < 0:
                continue
            line, in_comment = line[end + 2 :], False
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)
        without = re.sub(r'"(\\.|[^"\\])*"|//.*|/\*.*?\*/', "", line)
        in_comment = "/*" in without


def wrong_includes(files):
    """`files`: path -> text, of all files of the floors. Yields (path, line, include, rule)."""
    for path in sorted(files):
        module = module_of(path)
        if module is None:
            yield path, 1, "", "the folder is not in the table of tests/arch/include_arrows.py"
            continue
        allowed = reachable(module)
        for number, bracket, target in includes(files[path]):
            if target in files or (bracket == '"' and target.split("/")[0] in FLOORS):
                below = module_of(target)
                if target not in files:
                    yield path, number, target, "there is no such file"
                elif bracket == "<":
                    yield path, number, target, 'files of the project are included with "quotes"'
                elif below not in allowed:
                    yield path, number, target, f"{module} may not include {below}: " + (
                        f"{below} stands above it" if below is not None and module in reachable(below)
                        else f"it stands on {', '.join(sorted(allowed - {module})) or 'nothing'}")
            elif target.startswith("tests/"):
                yield path, number, target, "what is built does not include its tests"
            elif bracket == '"':
                yield path, number, target, "includes are written from the root of the project"
            else:
                for start, places in LIBRARIES.items():
                    if target.startswith(start) and module not in places:
                        yield path, number, target, "only included in " + (
                            ", ".join(places) or "tests")


def read_floors(root):
    files = {}
    for floor in FLOORS:
        for folder, _, names in os.walk(os.path.join(root, floor)):
            for name in names:
                if SOURCE.search(name):
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8") as file:
                        files[os.path.relpath(path, root).replace(os.sep, "/")] = file.read()
    return files


def main(arguments):
    if len(arguments) != 2:
        sys.exit("usage: include_arrows.py ROOT")
    if cycle() is not None:
        sys.exit(f"the table is wrong: {cycle()} may include itself by way of others")
    files = read_floors(arguments[1])
    wrong = list(wrong_includes(files))
    for path, number, target, rule in wrong:
        print(f"{path}:{number}: {target}: {rule}")
    print(f"{len(files)} files read, {len(wrong)} wrong includes")
    # A checker that reads nothing finds nothing.
    sys.exit(1 if wrong or len(files) < 20 else 0)


if __name__ == "__main__":
    main(sys.argv)
