"""scripts/gpu_waits: what it reads in a listing, and how it counts."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "gpu_waits_lib"))
import machine_code  # noqa: E402


def line(text, stall=1, result=7, operand=7, waits=0):
    """An instruction as nvdisasm -hex prints it, with its scheduler's bits."""
    upper = (stall | 1 << 4 | result << 5 | operand << 8 | waits << 11) << 41
    return f"        /*0010*/                   {text} ;  /* 0x0000000000000000 */\n{' ' * 60}/* 0x{upper:016x} */"


LISTING = "\n".join([
    ".text.first_kernel:",
    line("MOV R1, c[0x0][0x28]", stall=2),
    ".L_x_0:",
    line("LDS R2, [R1]", stall=1, result=0),
    line("IADD3 R3, R3, 0x1, RZ", stall=4),
    line("@P0 FADD R2, R2, R4", stall=5, waits=1),
    line("SHFL.BFLY PT, R5, R2, 0x1, 0x1f", stall=1, result=1, operand=2),
    line("MOV R2, RZ", stall=1, waits=4),
    line("@P1 BRA `(.L_x_0)", stall=5, waits=2),
    line("EXIT", stall=5),
    ".L_x_1:",
    line("BRA `(.L_x_0)", stall=0),
    ".text.second_kernel:",
    line("EXIT", stall=5),
])


class Listing(unittest.TestCase):
    def setUp(self):
        self.kernels = machine_code.parse(LISTING)

    def test_kernels_instructions_and_labels(self):
        self.assertEqual(list(self.kernels), ["first_kernel", "second_kernel"])
        kernel = self.kernels["first_kernel"]
        self.assertEqual(len(kernel.instructions), 9)
        self.assertEqual(kernel.labels, {".L_x_0": 1, ".L_x_1": 8})
        load = kernel.instructions[1]
        self.assertEqual((load.name, load.stall, load.result_barrier, load.operand_barrier), ("LDS", 1, 0, 7))
        self.assertEqual(kernel.instructions[3].name, "FADD")
        self.assertEqual(kernel.instructions[3].waits_for, 1)

    def test_a_loop_ends_with_a_branch_that_may_go_back(self):
        self.assertEqual(self.kernels["first_kernel"].loops(), [(1, 7)])

    def test_waits_are_what_stalls_leave_of_results(self):
        walk = machine_code.walk(self.kernels["first_kernel"].instructions[1:7])
        # The load is there at 30 and was asked for at 0; 5 clocks have passed. The shuffle, at 35, has read its operand
        # at 55 and is there at 61.
        self.assertEqual([(w.at, w.clock, w.clocks, w.of, w.by) for w in walk.waits],
                         [(2, 5, 25, "FADD", "LDS"), (4, 36, 19, "MOV", "SHFL.BFLY"), (5, 56, 5, "BRA", "SHFL.BFLY")])
        self.assertEqual(walk.clocks, 66)
        self.assertEqual(walk.by_instruction(), [("LDS", 25), ("SHFL", 24)])


if __name__ == "__main__":
    unittest.main()
