"""scripts/gpu_check: the command line, the order of the stages and their shares of the time."""

import argparse
import os
import signal
import sys
import time

import stages
from report import Report
from runner import Runner, Stopped

# In order: what is worth most comes first. (name, seconds at most of ten minutes, shows correctness, function)
STAGES = [
    ("environment", 20, False, stages.environment),
    ("build", 200, True, stages.build),
    ("contract", 60, True, stages.contract),
    ("goldens", 60, True, stages.goldens),
    ("equivalence", 60, True, stages.equivalence),
    ("nccl", 100, True, stages.nccl),
    ("nccl_models", 100, True, stages.nccl_models),
    ("ceilings", 20, False, stages.ceilings),
    ("models", 150, False, stages.models),
    ("trials", 50, False, stages.trials),
    ("nccl_speed", 90, False, stages.nccl_speed),
    ("kernels", 60, False, stages.kernels),
    ("torch", 90, False, stages.torch_peer),
    ("sanitizer", 100, True, stages.sanitizer),
    ("quantized", 45, False, stages.quantized),
    ("report", 10, False, stages.rewrite_readme),
]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=__doc__)
    parser.add_argument("--out", default="build/gpu_check", help="folder of the report")
    parser.add_argument("--kit", help="folder or .tar.xz that scripts/gpu_kit made")
    parser.add_argument("--minutes", type=float, default=10, help="of the whole run; more gives each stage more")
    parser.add_argument("--stages", help="comma-separated; default all")
    parser.add_argument("--box", action="append", default=[], metavar="STAGE=SECONDS",
                        help="at most so many for that stage; several times")
    parser.add_argument("--hide-gpu", action="store_true", help="rehearse as if there were no GPU")
    parser.add_argument("--list", action="store_true", help="print the stages and end")
    options = parser.parse_args(arguments)
    names = [name for name, *_ in STAGES]
    if options.list:
        print("\n".join(f"{name:12} {seconds:4} s" for name, seconds, *_ in STAGES))
        sys.exit(0)
    wanted = options.stages.split(",") if options.stages else names
    options.boxes = {}
    for box in options.box:
        name, _, seconds = box.partition("=")
        if not seconds.isdigit() or int(seconds) == 0:
            parser.error(f"--box {box}: it takes a stage, '=' and whole seconds above 0")
        options.boxes[name] = int(seconds)
    for name in [*wanted, *options.boxes]:
        if name not in names:
            parser.error(f"there is no stage '{name}': it is one of {', '.join(names)}")
    if options.minutes <= 0:
        parser.error("--minutes takes a number above 0")
    if options.kit and not os.path.exists(options.kit):
        parser.error(f"there is no kit at {options.kit}: scripts/gpu_kit makes one")
    return options, wanted


def stop(signum, _frame):
    raise Stopped(signal.Signals(signum).name)


def main(arguments):
    options, wanted = parse(arguments)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop)
    report = Report(options.out)
    context = stages.Context(options, report, Runner(os.path.join(options.out, "log.txt")))
    end = time.monotonic() + 60 * options.minutes
    try:
        # The environment is what every other stage asks first.
        for name, seconds, _, function in STAGES:
            if name in wanted or name == "environment":
                report.begin(name)
                most = options.boxes.get(name, seconds * max(1, options.minutes / 10))
                # What was found is written to README whatever took the time: that takes none.
                box = most if name == "report" else min(most, end - time.monotonic())
                report.end(*run_stage(function, context, box))
    except Stopped as stopped:
        report.stop(f"by {stopped}")
        return 143
    print(f"gpu_check: {report.path('report.md')}")
    decisive = [name for name, _, shows_correctness, _ in STAGES if shows_correctness]
    wrong = [s["name"] for s in report.data["stages"] if s["outcome"] == "failed" and s["name"] in decisive]
    if wrong:
        print(f"gpu_check: failed: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def run_stage(function, context, box):
    """(outcome, note) of a stage in a time box of so many seconds."""
    if box < 3:
        return "skipped", "the time of the whole run is over"
    context.runner.box(box)
    try:
        return "ok", function(context) or ""
    except stages.Skip as skip:
        return "skipped", str(skip)
    except stages.Failure as failure:
        return "failed", str(failure)
    except Stopped:
        raise
    except Exception as error:  # a mistake in a stage must not cost the stages after it
        context.runner.log_exception()
        return "failed", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
