"""Machine code of sm_80 and sm_90 as nvdisasm -c -hex prints it, and how long a warp takes for it.

An instruction has 128 bits, of which 21, from bit 105 on, are for the scheduler: clocks until the next instruction (4
bits), a hint (1), the barrier that is set until its result is there (3; 7: none), the one that is set until its
operands have been read (3; 7: none), and the barriers it waits for (6). Jia et al., arXiv 1804.06826, section 2.1.
"""

import dataclasses
import re

# Clocks until the result of an instruction of no fixed time is there, about: sm_80 and sm_90 differ by little.
RESULT = (("LDSM", 33), ("LDS", 30), ("SHFL", 26), ("MUFU", 24), ("HMMA", 35), ("LDG", 600), ("LDC", 30), ("S2R", 30),
          ("R2UR", 30), ("ATOM", 700), ("LD", 600))
OTHER_RESULT = 20
OPERANDS_READ = 20

INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,5}\*/\s+(.*?)\s*;\s+/\* 0x[0-9a-f]{16} \*/")
UPPER_HALF = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")
KERNEL = re.compile(r"^\s*\.text\.(\S+):")
LABEL = re.compile(r"^\s*(\.L_x_\d+):")
BRANCH = re.compile(r"\bBRA\b.*`\((\.L_x_\d+)\)")


@dataclasses.dataclass
class Instruction:
    text: str
    stall: int
    result_barrier: int  # 7: none
    operand_barrier: int  # 7: none
    waits_for: int  # a bit for each barrier

    @property
    def name(self):
        return re.sub(r"^@!?U?P\d+\s+", "", self.text).split()[0]


@dataclasses.dataclass
class Kernel:
    instructions: list = dataclasses.field(default_factory=list)
    labels: dict = dataclasses.field(default_factory=dict)

    def loops(self):
        """[begin, end) of each branch that may go back. One that always does returns from code that was moved away."""
        found = []
        for at, instruction in enumerate(self.instructions):
            target = BRANCH.search(instruction.text)
            begin = self.labels.get(target.group(1)) if target else None
            if begin is not None and begin < at and instruction.text.startswith("@"):
                found.append((begin, at + 1))
        return sorted(found)


def parse(listing):
    """{name: Kernel} of a listing."""
    kernels, kernel, text = {}, None, None
    for line in listing.splitlines():
        if match := KERNEL.match(line):
            kernel = kernels.setdefault(match.group(1), Kernel())
        elif kernel is None:
            continue
        elif match := LABEL.match(line):
            kernel.labels[match.group(1)] = len(kernel.instructions)
        elif match := INSTRUCTION.search(line):
            text = match.group(1)
        elif text is not None and (match := UPPER_HALF.match(line)):
            bits = int(match.group(1), 16) >> 41
            kernel.instructions.append(Instruction(text, bits & 15, bits >> 5 & 7, bits >> 8 & 7, bits >> 11 & 63))
            text = None
    return kernels


@dataclasses.dataclass
class Wait:
    at: int  # number of the instruction
    clock: int
    clocks: int
    of: str  # the instruction that waits
    by: str  # the one it waits for


@dataclasses.dataclass
class Walk:
    clocks: int = 0
    waits: list = dataclasses.field(default_factory=list)

    def by_instruction(self):
        """(name, clocks waited for it), most first."""
        sums = {}
        for wait in self.waits:
            name = wait.by.split(".")[0].split()[0]
            sums[name] = sums.get(name, 0) + wait.clocks
        return sorted(sums.items(), key=lambda item: -item[1])


def result_clocks(name):
    return next((clocks for prefix, clocks in RESULT if name.startswith(prefix)), OTHER_RESULT)


def walk(instructions):
    """One warp's way through them, in their order, once."""
    done = Walk()
    free = [(0, "")] * 6  # when each barrier is, and who set it
    clock = 0
    for at, one in enumerate(instructions):
        ready, by = max([free[b] for b in range(6) if one.waits_for >> b & 1], default=(0, ""))
        if ready > clock:
            done.waits.append(Wait(at, clock, ready - clock, one.name, by))
            clock = ready
        for barrier, clocks in ((one.result_barrier, result_clocks(one.name)), (one.operand_barrier, OPERANDS_READ)):
            if barrier < 6:
                free[barrier] = max(free[barrier], (clock + clocks, one.name))
        clock += max(1, one.stall)
    done.clocks = clock
    return done
