#!/usr/bin/env python3
"""Negative controls of include_arrows.py: each kind of wrong include is found, at its line, and right
ones are left alone. A checker that cannot fail would be worth nothing."""

import os
import subprocess
import sys
import tempfile
import unittest

import include_arrows

# Files that the cases below may name; what is in them does not matter.
HOUSE = {
    path: ""
    for path in [
        "kernels/base/status.h", "kernels/ops.h", "kernels/device.h", "kernels/ref/ref_ops.h",
        "kernels/cpu/cpu_ops.h", "comm/communicator.h", "comm/in_process/in_process.h",
        "comm/mpi/mpi_world.h", "parallel/mesh.h", "runtime/text/utf8.h", "runtime/cache/layout.h",
        "runtime/schedule/planner.h", "runtime/model/weights/checkpoint.h", "runtime/model/spec.h",
        "runtime/model/families/families.h", "runtime/model/sublayers/sublayer.h",
        "runtime/model/decoder.h", "runtime/engine/engine.h", "runtime/pool/store.h",
        "runtime/cluster/router.h", "runtime/gateway/server.h", "runtime/config/deployment.h",
        "launcher/cli.h",
    ]
}


def found(path, text):
    """[(line, include, rule)] of `text` as file `path` of the house."""
    house = dict(HOUSE)
    house[path] = text
    return [wrong[1:] for wrong in include_arrows.wrong_includes(house) if wrong[0] == path]


class Arrows(unittest.TestCase):
    def test_every_arrow_that_points_up_or_aside_is_found(self):
        for path, target in [
            ("kernels/base/x.h", "kernels/ops.h"),
            ("kernels/base/x.cc", "comm/communicator.h"),
            ("kernels/ops.h", "kernels/cpu/cpu_ops.h"),
            ("kernels/ref/x.cc", "kernels/cpu/cpu_ops.h"),
            ("kernels/cpu/x.cc", "kernels/ref/ref_ops.h"),
            ("kernels/cpu/isa/x.inc", "parallel/mesh.h"),
            ("comm/x.h", "comm/mpi/mpi_world.h"),
            ("comm/mpi/x.cc", "comm/in_process/in_process.h"),
            ("comm/mpi/x.cc", "parallel/mesh.h"),
            ("parallel/x.cc", "runtime/model/spec.h"),
            ("parallel/x.cc", "kernels/cpu/cpu_ops.h"),
            ("runtime/text/x.cc", "runtime/cache/layout.h"),
            ("runtime/cache/x.cc", "runtime/schedule/planner.h"),
            ("runtime/cache/x.cc", "runtime/model/spec.h"),
            ("runtime/schedule/x.cc", "runtime/engine/engine.h"),
            ("runtime/model/weights/x.cc", "runtime/model/spec.h"),
            ("runtime/model/spec.cc", "runtime/model/families/families.h"),
            ("runtime/model/families/x.cc", "runtime/model/sublayers/sublayer.h"),
            ("runtime/model/sublayers/x.cc", "runtime/model/decoder.h"),
            ("runtime/model/decoder.cc", "runtime/engine/engine.h"),
            ("runtime/model/decoder.cc", "comm/mpi/mpi_world.h"),
            ("runtime/engine/x.cc", "runtime/config/deployment.h"),
            ("runtime/pool/x.cc", "runtime/engine/engine.h"),
            ("runtime/engine/x.cc", "runtime/cluster/router.h"),
            ("runtime/cluster/x.cc", "runtime/gateway/server.h"),
            ("runtime/gateway/x.cc", "launcher/cli.h"),
        ]:
            with self.subTest(f"{path} -> {target}"):
                wrong = found(path, f'// why\n\n#include "{target}"\n')
                self.assertEqual([(3, target)], [w[:2] for w in wrong])
                self.assertIn("may not include", wrong[0][2])

    def test_arrows_that_point_down_are_left_alone(self):
        for path, target in [
            ("kernels/base/x.h", "kernels/base/status.h"),
            ("kernels/cpu/ops/x.cc", "kernels/device.h"),
            ("comm/mpi/x.cc", "kernels/base/status.h"),
            ("parallel/x.cc", "comm/communicator.h"),
            ("runtime/model/sublayers/x.cc", "runtime/model/spec.h"),
            ("runtime/model/decoder.cc", "runtime/model/weights/checkpoint.h"),
            ("runtime/model/decoder.cc", "parallel/mesh.h"),
            ("runtime/engine/x.cc", "runtime/cache/layout.h"),
            ("runtime/gateway/x.cc", "runtime/text/utf8.h"),
            ("runtime/config/x.cc", "runtime/engine/engine.h"),
            ("launcher/main.cc", "kernels/cpu/cpu_ops.h"),
            ("launcher/main.cc", "comm/mpi/mpi_world.h"),
        ]:
            with self.subTest(f"{path} -> {target}"):
                self.assertEqual([], found(path, f'#include "{target}"\n#include <vector>\n'))

    def test_spacing_does_not_hide_an_include(self):
        wrong = found("kernels/base/x.h", '  #  include   "comm/communicator.h"  // why\n')
        self.assertEqual(1, len(wrong))

    def test_comments_are_not_includes(self):
        text = '// #include "comm/communicator.h"\n/* a\n#include "comm/communicator.h"\n*/\n'
        self.assertEqual([], found("kernels/base/x.h", text))
        after = text + '#include "comm/communicator.h"\n'
        self.assertEqual([5], [w[0] for w in found("kernels/base/x.h", after)])
        url = 'const char* url = "a/*b";\n#include "comm/communicator.h"\n'
        self.assertEqual([2], [w[0] for w in found("kernels/base/x.h", url)])

    def test_includes_are_written_from_the_root_with_quotes_and_exist(self):
        self.assertIn("from the root", found("comm/x.h", '#include "communicator.h"')[0][2])
        self.assertIn("from the root", found("comm/x.h", '#include "../kernels/ops.h"')[0][2])
        self.assertIn("quotes", found("comm/x.h", "#include <comm/communicator.h>")[0][2])
        self.assertIn("no such file", found("comm/x.h", '#include "comm/gone.h"')[0][2])
        self.assertIn("its tests", found("comm/x.h", '#include "tests/support/x.h"')[0][2])

    def test_libraries_have_their_place(self):
        self.assertIn("comm/mpi", found("parallel/x.cc", "#include <mpi.h>")[0][2])
        self.assertIn("tests", found("comm/x.cc", "#include <gtest/gtest.h>")[0][2])
        self.assertEqual([], found("comm/mpi/x.cc", "#include <mpi.h>\n#include <fmt/format.h>"))

    def test_a_folder_that_nobody_wrote_down_is_found(self):
        self.assertIn("not in the table", found("runtime/extras/x.cc", "")[0][2])

    def test_the_table_has_no_ring(self):
        self.assertIsNone(include_arrows.cycle())
        include_arrows.MODULES["kernels/base"].append("launcher")
        try:
            self.assertIsNotNone(include_arrows.cycle())
        finally:
            include_arrows.MODULES["kernels/base"].pop()

    def test_the_program_fails_on_a_wrong_tree(self):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "include_arrows.py")
        for wrong in (False, True):
            with tempfile.TemporaryDirectory() as root:
                house = dict(HOUSE)
                if wrong:
                    house["kernels/ops.h"] = '\n#include "parallel/mesh.h"\n'
                for path, text in house.items():
                    os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                    with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                        file.write(text)
                run = subprocess.run([sys.executable, program, root], capture_output=True, text=True)
                self.assertEqual(1 if wrong else 0, run.returncode, run.stdout)
                self.assertEqual(wrong, "kernels/ops.h:2: parallel/mesh.h: " in run.stdout)


if __name__ == "__main__":
    unittest.main()
