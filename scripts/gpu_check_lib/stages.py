"""What each stage of scripts/gpu_check does. A stage returns a note, or raises Skip or Failure with one sentence."""

import os
import re
import sys

import machine
import readme

BUILD = "build/gpu"  # of the system's packages
BUILD_OF_KIT = "build/gpu_bare"
MODELS = ("llama-3-8b", "rwkv7-7.2b", "llama-2-7b", "yoco-3b", "llama-1.1b")
QUANTIZED = ("int4", "fp8", "int8")  # weights of the first model
CUDA_TARGETS = ("trireme_cuda", "bench_cuda_ceilings")
TARGETS = CUDA_TARGETS + ("ops_contract_test", "golden_test", "bench_device", "contract_comm_test")


# What compute-sanitizer begins a finding with.
SANITIZER_FINDS = re.compile(r"=+ (Invalid|Misaligned|Uninitialized|Error: |Program hit|Barrier error)")


class Skip(Exception):
    """The stage has nothing to do here, and why."""


class Failure(Exception):
    """What went wrong, in one sentence."""


class Context:
    def __init__(self, options, report, runner):
        self.options = options
        self.report = report
        self.runner = runner
        self.env = {"CUDA_VISIBLE_DEVICES": "-1"} if options.hide_gpu else {}
        self.kit = machine.find_kit(options.kit)
        self.build = BUILD_OF_KIT if self.kit else BUILD

    @property
    def facts(self):
        return self.report.data["environment"]

    def run(self, command, seconds=None, on_json=None, env=None):
        return self.runner.run(command, seconds, {**self.env, **(env or {})}, on_json)

    def need_gpu(self):
        if not self.facts.get("gpus"):
            raise Skip(self.facts.get("no_gpu", "no GPU was found"))

    def program(self, path):
        """A program that the build stage makes, here or in an earlier run."""
        whole = os.path.join(self.build, path)
        if not os.path.exists(whole):
            raise Skip(f"{whole} is not built")
        return whole


def environment(context):
    facts = machine.look(context.run, context.options.hide_gpu)
    context.facts.update(facts)
    gpus = facts["gpus"]
    return ", ".join(gpu["name"] for gpu in gpus) if gpus else facts["no_gpu"]


def build(context):
    facts = context.facts
    if not facts["nvcc"]:
        raise Skip("there is no nvcc on PATH or in /usr/local/cuda/bin")
    if not facts["cublaslt"]:
        raise Skip("there is no libcublasLt, in CUDA's folder or in a Python package")
    command = ["cmake", "--preset", "gpu", "-B", context.build, f"-DCMAKE_CUDA_COMPILER={facts['nvcc']}"]
    command += machine.cublas_flags(facts, os.path.join(context.build, "cublas"))
    if context.kit:
        folder = os.path.abspath(machine.unpack_kit(context.kit))
        command += [f"-DCMAKE_PREFIX_PATH={folder}", "-DCMAKE_FIND_PACKAGE_PREFER_CONFIG=ON"]
    if facts["gpus"]:  # for this GPU alone: nobody waits for others here
        command.append(f"-DCMAKE_CUDA_ARCHITECTURES={machine.architecture(facts['gpus'][0])}")
    configured = context.run(command)
    if configured.code != 0:
        wrong = [line for line in configured.lines if "Error" in line or "Could NOT" in line]
        raise Failure("cmake does not configure: " + " ".join(wrong[:2] or configured.lines[-2:]).strip())
    built = context.run(["cmake", "--build", context.build, "--parallel", str(os.cpu_count()), "--target", *TARGETS])
    if built.timed_out:
        raise Failure("the build did not end in its time")
    if built.code != 0:
        wrong = [line for line in built.lines if "error" in line or "FAILED" in line]
        raise Failure("the build failed: " + " ".join(wrong[:2]))
    return f"{context.kit or 'the packages of the system'}, {facts['cublaslt']}"


def _tests(context, program, only, what, env=None):
    """Runs a GoogleTest program. Says how many passed; Failure names those that did not."""
    context.need_gpu()
    ended = context.run([context.program(program), f"--gtest_filter={only}", "--gtest_color=no"], env=env)
    passed = sum(line.startswith("[       OK ]") for line in ended.lines)
    failed = []
    for line in ended.lines:
        found = re.match(r"\[  FAILED  \] (\S+)(?:,.*)? \(\d+ ms\)", line)
        if found:
            failed.append(found.group(1))
    if failed:
        raise Failure(f"{len(failed)} of {len(failed) + passed} {what} failed: {', '.join(failed[:6])}")
    if ended.timed_out:
        raise Failure(f"stopped by its time box after {passed} {what} had passed")
    if ended.code != 0:
        raise Failure(f"ended with code {ended.code} after {passed} {what}: {ended.last()}")
    if passed == 0:
        raise Failure(f"no {what} ran: the library has not found the GPU, see log.txt")
    return f"{passed} {what} passed"


# Of the ops contract: a GPU, and a Hopper with attention's kernels for older ones, and with what nobody gets unasked.
GPU_CASES = "*/cuda_1:*/cuda_no_warp_groups_1:*/cuda_skinny_groups_1"


def contract(context):
    return _tests(context, "tests/contract/ops_contract_test", GPU_CASES, "cases of the ops contract")


def goldens(context):
    return _tests(context, "tests/golden/golden_test", "Gpu/CudaGolden.*", "goldens")


def equivalence(context):
    return _tests(context, "tests/golden/golden_test", "Gpu/CudaEqualsCpu.*", "comparisons with the CPU")


def ceilings(context):
    context.need_gpu()
    ended = context.run([context.program("tests/bench/bench_cuda_ceilings")], on_json=context.report.add)
    if ended.code != 0:
        raise Failure(f"the ceilings were not measured: {ended.last()}")
    return "; ".join(f"{c['name']} {c['value'] / c['scale']:.{c['digits']}f} {c['unit']}"
                     for c in context.report.figures("ceiling"))


def _bench(context, arguments, seconds=None, env=None):
    program = context.program("tests/bench/bench_device")
    return context.run([program, "--device", "cuda", *arguments], seconds, on_json=context.report.add, env=env)


def kernels(context):
    context.need_gpu()
    before = len(context.report.figures("op"))
    ended = _bench(context, ["ops", f"--seconds={context.runner.left() - 3:.0f}"])
    count = len(context.report.figures("op")) - before
    if ended.code != 0:
        raise Failure(f"after {count} figures {'its time was over' if ended.timed_out else ended.last()}")
    return f"{count} figures"


def models(context):
    """One process a model, so that one which fails costs the others nothing."""
    context.need_gpu()
    wrong = []
    for i, model in enumerate(MODELS):
        seconds = context.runner.left() / (len(MODELS) - i)
        if seconds < 5:
            wrong.append(f"{model}: no time was left")
            continue
        ended = _bench(context, ["model", model, f"--seconds={seconds - 2:.0f}"], seconds)
        if ended.code != 0:
            wrong.append(f"{model}: {'its time was over' if ended.timed_out else ended.last()}")
    if wrong:
        raise Failure("; ".join(wrong))
    return f"{len(context.report.figures('decode'))} decodes, {len(context.report.figures('prefill'))} prefills"


# What nobody gets unasked, beside the usual way, which `models` has measured: until a GPU has said that it is faster.
TRIALS = [[groups, "model", model, "--batches", "64,16", "--contexts", "1024", "--prefills", "1024"]
          for groups, model in (("--skinny-groups", "rwkv7-7.2b"), ("--skinny-groups", "llama-3-8b"),
                                ("--skinny-groups=2", "llama-3-8b"), ("--skinny-groups=4", "llama-3-8b"),
                                ("--skinny-groups=2", "rwkv7-7.2b"), ("--skinny-groups", "llama-1.1b"),
                                ("--skinny-groups", "yoco-3b"), ("--skinny-groups", "llama-2-7b"))]


def trials(context):
    context.need_gpu()
    before = len(context.report.figures("decode"))
    wrong = []
    for i, arguments in enumerate(TRIALS):
        seconds = context.runner.left() / (len(TRIALS) - i)
        ended = _bench(context, [*arguments, f"--seconds={max(1, seconds - 2):.0f}"], seconds)
        if ended.code != 0:
            wrong.append(f"{' '.join(arguments[:3])}: {'its time was over' if ended.timed_out else ended.last()}")
    if wrong:
        raise Failure("; ".join(wrong))
    return f"{len(context.report.figures('decode')) - before} decodes"


def quantized(context):
    """Products with quantized weights, then a model of each format, as far as time allows."""
    context.need_gpu()
    wrong = []
    before = {kind: len(context.report.figures(kind)) for kind in ("op", "decode", "prefill")}
    ended = _bench(context, ["quantized", f"--seconds={max(3, context.runner.left() / 3):.0f}"])
    if ended.code != 0:
        wrong.append(f"products: {'its time was over' if ended.timed_out else ended.last()}")
    for weights in QUANTIZED:
        left = context.runner.left()
        if left < 5:
            wrong.append(f"{weights}: no time was left")
            continue
        ended = _bench(context, ["model", MODELS[0], "--weights", weights, f"--seconds={left - 2:.0f}"])
        if ended.code != 0:
            wrong.append(f"{weights}: {'its time was over' if ended.timed_out else ended.last()}")
    if wrong:
        raise Failure("; ".join(wrong))
    count = {kind: len(context.report.figures(kind)) - before[kind] for kind in before}
    return f"{count['op']} products, {count['decode']} decodes, {count['prefill']} prefills"


def torch_peer(context):
    context.need_gpu()
    if not context.facts["torch"]:
        raise Skip("this machine's python3 has no torch")
    before = len(context.report.figures("peer"))
    script = os.path.join(os.path.dirname(__file__), "torch_peer.py")
    ended = context.run([sys.executable, "-B", script, f"--seconds={context.runner.left() - 5:.0f}"],
                        on_json=context.report.add)
    count = len(context.report.figures("peer")) - before
    if count == 0:
        raise Failure(f"PyTorch gave no figure: {'its time was over' if ended.timed_out else ended.last()}")
    return f"{count} figures" + ("" if ended.code == 0 else f", then {'its time was over' if ended.timed_out else ended.last()}")


def sanitizer(context):
    context.need_gpu()
    tool = context.facts["compute_sanitizer"]
    if not tool:
        raise Skip("there is no compute-sanitizer on PATH or in /usr/local/cuda")
    program = context.program("tests/contract/ops_contract_test")
    notes, total = [], 0
    for check, share in (("memcheck", 0.55), ("racecheck", 1.0)):
        # One process: each start costs seconds. Where its time is over, what has passed until then counts.
        ended = context.run([tool, "--tool", check, "--error-exitcode", "86", "--report-api-errors", "no", program,
                             f"--gtest_filter={GPU_CASES}", "--gtest_color=no"], share * context.runner.left())
        passed = sum(line.startswith("[       OK ]") for line in ended.lines)
        found = [line for line in ended.lines if SANITIZER_FINDS.match(line)]
        if ended.code == 86 or found:
            raise Failure(f"{check}: {found[0].strip('= ') if found else 'an error'}; see log.txt")
        if ended.code not in (0, None):
            raise Failure(f"{check} did not run: {ended.last()}")
        notes.append(f"{check}: {passed} cases" + (", then its time was over" if ended.timed_out else ""))
        total += passed
    if total == 0:
        raise Failure("no case ended in its time")
    return "; ".join(notes)


def _need_nccl(context):
    """Two GPUs and libnccl; returns how many GPUs, and what tells programs where libnccl is.

    The programs are those that ctest runs over emulated GPUs and a NCCL of threads. Over GPUs and libnccl none of them
    has run yet: not the contract, not a sharded model, not a recorded collective, not the figures. That sentence, and
    the end of the first Skip, go when a report says otherwise.
    """
    context.need_gpu()
    count = len(context.facts["gpus"])
    if count < 2:
        raise Skip("it needs two GPUs, this machine has one; so far it has run only over emulated GPUs and a NCCL of threads")
    library = context.facts["nccl"]
    if not library:
        raise Skip("there is no libnccl, in CUDA's folder or in a Python package")
    folders = [os.path.dirname(library)] + [path for path in [os.environ.get("LD_LIBRARY_PATH")] if path]
    return count, {"LD_LIBRARY_PATH": ":".join(folders)}


def nccl(context):
    """The communicator's contract at 1 to 4 ranks, recorded collectives among it."""
    _, env = _need_nccl(context)
    return _tests(context, "tests/contract/comm/contract_comm_test", "Gpus/NcclContract.*",
                  "cases of the communicator contract", env)


def nccl_models(context):
    """Goldens on every mesh of two GPUs, and of three and four where they are there, beside the CPU."""
    _, env = _need_nccl(context)
    return _tests(context, "tests/golden/golden_test", "Gpus/NcclMesh.*", "comparisons of sharded models with the CPU", env)


def nccl_speed(context):
    """All-reduces by size, then decodes of the first model, on 2, 4 and 8 GPUs; on one where that is not known yet."""
    count, env = _need_nccl(context)
    counts = [n for n in (2, 4, 8) if n <= count]
    alone = [f for f in context.report.figures("decode") if (f["model"], f["gpus"]) == (MODELS[0], 1)]
    runs = [(n, ["all-reduce"]) for n in counts]
    runs += [(n, ["model", MODELS[0]]) for n in ([] if alone else [1]) + counts]
    wrong = []
    for i, (gpus, arguments) in enumerate(runs):
        seconds = context.runner.left() / (len(runs) - i)
        ended = _bench(context, ["--gpus", str(gpus), *arguments, f"--seconds={max(1, seconds - 2):.0f}"], seconds, env)
        if ended.code != 0:
            wrong.append(f"{arguments[-1]} on {gpus} GPUs: {'its time was over' if ended.timed_out else ended.last()}")
    if wrong:
        raise Failure("; ".join(wrong))
    decodes = [f for f in context.report.figures("decode") if f["gpus"] > 1]
    return f"{len(context.report.figures('all_reduce'))} all-reduces, {len(decodes)} decodes on several GPUs"


def rewrite_readme(context):
    context.need_gpu()
    readme.rewrite(context.report)
    return "README.md"
