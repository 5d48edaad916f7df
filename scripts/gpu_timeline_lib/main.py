"""scripts/gpu_timeline: builds the recorder, runs the program under it, shows one step."""

import argparse
import glob
import os
import shutil
import subprocess
import sys

import timeline

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "gpu_check_lib"))
import machine  # noqa: E402  (where CUDA's libraries are: the same places)

FOLDER = "build/gpu_timeline"


class Failure(Exception):
    """Why nothing was recorded, in one sentence."""


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/gpu_timeline", description=__doc__)
    parser.add_argument("--longest", action="store_true", help="the longest step, not the last")
    parser.add_argument("--lines", type=int, default=40, help="kernels that are shown one by one")
    parser.add_argument("--step", default="embed", help="a regular expression: the kernel that begins a step")
    parser.add_argument("--keep", type=int, default=60000, help="the newest so many kernels")
    parser.add_argument("--out", help="keeps what was recorded, as CSV")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="and its arguments")
    options = parser.parse_args(arguments)
    if not options.program:
        parser.error("it takes a program to run")
    return options


def cupti():
    """(folder of cupti.h, libcupti)"""
    library = machine.library("libcupti.so.*", ("/usr/local/cuda/extras/CUPTI/lib64",))
    headers = [f"{cuda}/{folder}" for cuda in machine.CUDA_FOLDERS for folder in ("include", "extras/CUPTI/include")]
    headers += [os.path.join(os.path.dirname(os.path.dirname(library)), "include")]
    include = next((folder for folder in headers if glob.glob(f"{folder}/cupti.h")), "")
    if not library or not include:
        raise Failure("there is no CUPTI, in CUDA's folder or in a Python package (nvidia-cuda-cupti)")
    return include, library


def build_recorder():
    compiler = shutil.which("g++")
    if not compiler:
        raise Failure("there is no g++")
    include, library = cupti()
    os.makedirs(FOLDER, exist_ok=True)
    recorder = os.path.abspath(f"{FOLDER}/record.so")
    folder = os.path.dirname(library)
    built = subprocess.run([compiler, "-O1", "-fPIC", "-shared", f"-I{include}", "-idirafter", "/usr/local/cuda/include",
                            f"{HERE}/record.cc", "-o", recorder, library, f"-Wl,-rpath,{folder}"],
                           capture_output=True, text=True)
    if built.returncode != 0:
        raise Failure(f"the recorder does not compile: {built.stderr.strip().splitlines()[0]}")
    return recorder


def main(arguments):
    options = parse(arguments)
    out = os.path.abspath(options.out or f"{FOLDER}/kernels.csv")
    try:
        recorder = build_recorder()
        if os.path.exists(out):
            os.remove(out)
        environment = {**os.environ, "CUDA_INJECTION64_PATH": recorder, "GPU_TIMELINE_OUT": out,
                       "GPU_TIMELINE_KEEP": str(options.keep)}
        code = subprocess.run(options.program, env=environment).returncode
        if not os.path.exists(out) or os.path.getsize(out) == 0:
            raise Failure("the program ran no kernel, or CUPTI recorded none")
        timeline.show(timeline.read(out), options.step, options.longest, options.lines)
        return code
    except (Failure, timeline.NoStep) as failure:
        print(f"gpu_timeline: {failure}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
