"""scripts/gpu_check without a GPU: every stage says what it skips and why, a run that is stopped keeps its report,
and the tables hold figures against ceilings, targets and peers.

  gpu_check_test.py ROOT
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = sys.argv.pop(1) if len(sys.argv) > 1 else os.getcwd()
sys.path.insert(0, os.path.join(ROOT, "scripts/gpu_check_lib"))

import readme  # noqa: E402
import report  # noqa: E402
import runner  # noqa: E402
import stages  # noqa: E402
import tables  # noqa: E402

PROGRAM = os.path.join(ROOT, "scripts/gpu_check")


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)


def read(folder):
    with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
        return json.load(file)


class Rehearsal(unittest.TestCase):
    def test_every_stage_says_why_it_is_skipped(self):
        names = [line.split()[0] for line in run("--list").stdout.splitlines()]
        self.assertIn("contract", names)
        wanted = [name for name in names if name != "build"]
        with tempfile.TemporaryDirectory() as folder:
            ended = run("--hide-gpu", "--out", folder, "--stages", ",".join(wanted))
            self.assertEqual(ended.returncode, 0, ended.stderr)
            found = {s["name"]: s for s in read(folder)["stages"]}
            self.assertEqual(list(found), wanted)
            for name in wanted[1:]:
                self.assertEqual((found[name]["outcome"], found[name]["note"]),
                                 ("skipped", "the GPU is hidden (--hide-gpu)"))
            self.assertEqual(found["environment"]["outcome"], "ok")
            files = sorted(os.listdir(folder))
            self.assertEqual(files, ["log.txt", "report.json", "report.md"])
            with open(os.path.join(folder, "report.md"), encoding="utf-8") as file:
                self.assertIn("| sanitizer | skipped |", file.read())

    def test_what_was_found_is_written_down_when_the_time_is_over(self):
        with tempfile.TemporaryDirectory() as folder:
            ended = run("--hide-gpu", "--out", folder, "--minutes", "0.0001", "--stages", "contract,report")
            self.assertEqual(ended.returncode, 0, ended.stderr)
            found = {s["name"]: s["note"] for s in read(folder)["stages"]}
            self.assertEqual(found["contract"], "the time of the whole run is over")
            self.assertNotEqual(found["report"], "the time of the whole run is over")

    def test_wrong_arguments_are_told_in_one_sentence(self):
        for arguments, part in ((("--stages", "contrakt"), "there is no stage 'contrakt'"),
                                (("--minutes", "0"), "--minutes takes a number above 0"),
                                (("--kit", "/nowhere"), "there is no kit at /nowhere")):
            ended = run(*arguments)
            self.assertEqual(ended.returncode, 2)
            self.assertIn(part, ended.stderr)


class Running(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.runner = runner.Runner(os.path.join(self.folder.name, "log.txt"))

    def tearDown(self):
        self.runner.log.close()
        self.folder.cleanup()

    def test_a_program_is_ended_with_its_children_when_its_time_is_over(self):
        self.runner.box(0.2)
        # The child holds the pipe that is read to its end: without its end this would not return.
        ended = self.runner.run(["bash", "-c", "cat /dev/zero > /dev/null & wait; cat /dev/zero > /dev/null"])
        self.assertTrue(ended.timed_out)

    def test_json_lines_are_handed_on_and_others_kept(self):
        self.runner.box(60)
        figures = []
        ended = self.runner.run(["printf", '%s\\n', '{"kind": "op"}', "{not json", "text"], on_json=figures.append)
        self.assertEqual((ended.code, figures), (0, [{"kind": "op"}]))
        self.assertEqual(len(ended.lines), 3)

    def test_a_missing_program_is_an_answer(self):
        self.runner.box(60)
        self.assertEqual(self.runner.run(["/nowhere/program"]).code, 127)

    def test_a_run_that_is_stopped_keeps_its_report(self):
        code = (f"import sys; sys.path.insert(0, {os.path.join(ROOT, 'scripts/gpu_check_lib')!r})\n"
                "import main, stages\n"
                "def wait(context):\n"
                "  print('waiting', flush=True)\n"
                "  context.run(['cat', '/dev/zero'])\n"
                "main.STAGES = [('environment', 60, False, lambda context: 'here'), ('endless', 60, True, wait)]\n"
                "sys.exit(main.main(['--out', sys.argv[1]]))\n")
        child = subprocess.Popen([sys.executable, "-B", "-c", code, self.folder.name], stdout=subprocess.PIPE, text=True)
        for line in child.stdout:
            if line == "waiting\n":
                break
        child.send_signal(signal.SIGTERM)
        child.communicate()
        self.assertEqual(child.returncode, 143)
        found = [(s["name"], s["outcome"], s["note"]) for s in read(self.folder.name)["stages"]]
        self.assertEqual(found, [("environment", "ok", "here"), ("endless", "stopped", "by SIGTERM")])


class FakeContext:
    """A program that prints what it is told to, for stages that read GoogleTest's words."""

    def __init__(self, lines, code):
        self.ended = runner.Ended(code, lines)

    def need_gpu(self):
        pass

    def program(self, path):
        return path

    def run(self, *_arguments, **_words):
        return self.ended


class Stages(unittest.TestCase):
    def test_tests_count_and_name_what_failed(self):
        ok, bad = "[       OK ] Ops/cuda_1 (3 ms)", "[  FAILED  ] Ops.Norm/cuda_1, where GetParam() = cuda_1 (2 ms)"
        self.assertEqual(stages.contract(FakeContext([ok, ok], 0)), "2 cases of the ops contract passed")
        for lines, code, part in (([ok, bad], 1, "1 of 2 cases of the ops contract failed: Ops.Norm/cuda_1"),
                                  ([ok], None, "stopped by its time box after 1"),
                                  ([ok], -11, "ended with code -11 after 1"),
                                  ([], 0, "no cases of the ops contract ran")):
            with self.assertRaisesRegex(stages.Failure, part):
                stages.contract(FakeContext(lines, code))

    def test_the_sanitizer_is_believed_also_when_its_time_is_over(self):
        ok, race = "[       OK ] Ops/cuda_1 (3 ms)", "========= Error: Race reported between Write access at k+0x10"
        context = FakeContext([ok], None)
        context.facts = {"compute_sanitizer": "compute-sanitizer"}
        context.runner = runner.Runner(os.devnull)
        self.assertEqual(stages.sanitizer(context), "memcheck: 1 cases, then its time was over; "
                         "racecheck: 1 cases, then its time was over")
        context.ended = runner.Ended(None, [ok, race])
        with self.assertRaisesRegex(stages.Failure, "memcheck: Error: Race reported"):
            stages.sanitizer(context)
        context.runner.log.close()

    def test_nccl_needs_two_gpus_and_its_library(self):
        context = FakeContext(["[       OK ] Gpus/NcclContract.Holds/2_sums (3 ms)"], 0)
        for gpus, library, part in ((1, "/lib/libnccl.so.2", "this machine has one"), (2, "", "there is no libnccl")):
            context.facts = {"gpus": [{}] * gpus, "nccl": library}
            for stage in (stages.nccl, stages.nccl_models, stages.nccl_speed):
                with self.assertRaisesRegex(stages.Skip, part):
                    stage(context)
        context.facts = {"gpus": [{}] * 2, "nccl": "/lib/libnccl.so.2"}
        self.assertEqual(stages.nccl(context), "1 cases of the communicator contract passed")

    def test_the_speed_of_several_gpus_is_measured_beside_that_of_one(self):
        ran = []
        with tempfile.TemporaryDirectory() as folder:
            context = FakeContext([], 0)
            context.facts = {"gpus": [{}] * 4, "nccl": "/lib/libnccl.so.2"}
            context.report = report.Report(folder)
            context.runner = runner.Runner(os.devnull)
            context.runner.box(60)
            context.run = lambda command, *_arguments, **words: (ran.append((command[3:-1], words["env"])), context.ended)[1]
            stages.nccl_speed(context)
            context.runner.log.close()
        self.assertEqual([command for command, _ in ran],
                         [["--gpus", str(n), "all-reduce"] for n in (2, 4)]
                         + [["--gpus", str(n), "model", "llama-3-8b"] for n in (1, 2, 4)])
        self.assertTrue(ran[0][1]["LD_LIBRARY_PATH"].startswith("/lib"))


def sample(folder):
    made = report.Report(folder)
    made.data["environment"] = {"gpus": [{"name": "GPU", "memory": "1 GiB", "capability": "9.0", "driver": "1"}]}
    made.begin("models")
    for figure in (
            {"kind": "ceiling", "name": "copy", "value": 4e12, "scale": 1e12, "unit": "TB/s", "digits": 2, "how": ""},
            {"kind": "ceiling", "name": "matrix_bf16", "value": 8e14, "scale": 1e12, "unit": "TFLOP/s", "digits": 0, "how": ""},
            {"kind": "decode", "model": "llama-3-8b", "batch": 1, "context": 1024, "seconds": 0.005, "bytes": 1.6e10,
             "flops": 1.6e10, "tokens_per_second": 200, "device_seconds": 0.0048},
            {"kind": "prefill", "model": "llama-3-8b", "tokens": 8192, "seconds": 0.25, "flops": 1.4e14,
             "tokens_per_second": 32768},
            {"kind": "decode", "model": "llama-3-8b, tp 2", "gpus": 2, "batch": 1, "context": 1024, "seconds": 0.0025,
             "bytes": 1.6e10, "flops": 1.6e10, "tokens_per_second": 400},
            {"kind": "served", "model": "llama-3-8b", "batch": 64, "context": 192, "seconds": 0.0075, "bare_seconds": 0.0074,
             "device_seconds": 0.0073, "tokens_per_second": 8533},
            {"kind": "all_reduce", "gpus": 4, "bytes": 1 << 20, "alone_seconds": 4e-5, "seconds": 3e-5,
             "recorded_seconds": 1.5e-5},
            {"kind": "memory", "model": "llama-3-8b", "what": "weights", "predicted": 2**34, "used": 2**34 + 2**30},
            {"kind": "op", "model": "llama-3-8b", "op": "attend", "shape": "1 row", "context": 131072, "seconds": 1e-3,
             "bytes": 3.6e9},
            {"kind": "peer", "peer": "torch graph", "model": "llama-3-8b", "what": "decode", "batch": 1, "context": 1024,
             "tokens": 1, "seconds": 0.004, "tokens_per_second": 250}):
        made.add(figure)
    made.end("ok", "")
    return made


class Tables(unittest.TestCase):
    def test_figures_are_held_against_ceilings_targets_and_peers(self):
        with tempfile.TemporaryDirectory() as folder:
            made = sample(folder)
            rows = {title: (value, reached) for title, _, value, reached in tables.targets(made)}
            self.assertEqual(rows, {
                "decode, batch 1, 7-8B bf16: llama-3-8b": ("80 %", False),
                "prefill of 8K, GQA 8B: llama-3-8b": ("70 %", True),
                "attention, decode at 128K: llama-3-8b": ("90 %", True),
                "step outside kernels: llama-3-8b, batch 1": ("4.0 %", False),
                "served step outside kernels: llama-3-8b, batch 64": ("2.7 %", True),
                "against torch graph: decode, llama-3-8b, batch 1": ("0.80 x", False)})
            page = tables.page(made)
            for part in ("| llama-3-8b | 64 | 8533 | 7.50 ms | 7.40 ms | 7.30 ms |", "| 1024 KiB | 40.0 us | 30.0 us | 15.0 us | 104.9 GB/s |",
                         "| llama-3-8b, tp 2 | decode, batch 1 | 1024 | 400 | 2.50 ms | 80 % |", "16.00 GiB | 17.00 GiB | +6.2%", "| 4.00 TB/s |", "torch graph | llama-3-8b | decode | 1 | 250 | 200"):
                self.assertIn(part, page)

    def test_without_ceilings_nothing_is_claimed(self):
        with tempfile.TemporaryDirectory() as folder:
            made = sample(folder)
            made.data["figures"] = [f for f in made.data["figures"] if f["kind"] in ("decode", "op")]
            self.assertEqual([row[3] for row in tables.targets(made) if row[1] != "< 3 %"], [None, None])
            self.assertIn("no ceiling", tables.page(made))

    def test_readme_has_its_table_rewritten_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            made = sample(folder)
            path = os.path.join(folder, "README.md")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
            for _ in range(2):  # again, over its own table
                readme.rewrite(made, path)
            with open(path, encoding="utf-8") as file:
                text = file.read()
            self.assertTrue(text.startswith("before\n<!--") and text.endswith("-->\nafter\n"))
            self.assertNotIn("old", text)
            self.assertIn("| models | ok |", text)
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            own = file.read()
        self.assertEqual((own.count(readme.BEGIN), own.count(readme.END)), (1, 1))


if __name__ == "__main__":
    unittest.main()
