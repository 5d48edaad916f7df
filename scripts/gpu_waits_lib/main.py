"""scripts/gpu_waits: the command line, and what it prints."""

import argparse
import shutil
import subprocess
import sys

import machine_code


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/gpu_waits", description="loops of a kernel, and what a warp waits for")
    parser.add_argument("cubin", help="of one architecture, sm_80 or sm_90")
    parser.add_argument("kernel", help="part of the kernel's name")
    parser.add_argument("--waits", type=int, default=0, metavar="CLOCKS", help="also print each wait of so many")
    parser.add_argument("--whole", action="store_true", help="the kernel from end to end instead of its loops, each once")
    options = parser.parse_args(arguments)
    if shutil.which("nvdisasm") is None:
        sys.exit("gpu_waits: nvdisasm is not on PATH; it comes with the CUDA Toolkit")
    ran = subprocess.run(["nvdisasm", "-c", "-hex", options.cubin], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"gpu_waits: nvdisasm cannot read {options.cubin}: {ran.stderr.strip().splitlines()[-1:]}")
    kernels = machine_code.parse(ran.stdout)
    wanted = {name: kernel for name, kernel in kernels.items() if options.kernel in name}
    if not wanted:
        sys.exit(f"gpu_waits: {options.cubin} has no kernel with '{options.kernel}' in its name: {', '.join(kernels)}")
    for name, kernel in wanted.items():
        print(name)
        parts = [(0, len(kernel.instructions))] if options.whole else kernel.loops()
        for begin, end in parts:
            walk = machine_code.walk(kernel.instructions[begin:end])
            most = ", ".join(f"{op} {clocks}" for op, clocks in walk.by_instruction()[:5])
            print(f"  instructions {begin} to {end}: {walk.clocks} clocks for {end - begin}; waits of {most or 'nobody'}")
            for wait in walk.waits:
                if options.waits and wait.clocks >= options.waits:
                    print(f"    {begin + wait.at:5} at {wait.clock:5}: {wait.clocks:4} for {wait.of}, by {wait.by}")


if __name__ == "__main__":
    main(sys.argv[1:])
