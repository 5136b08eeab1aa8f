#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Instructions for each logit that a route executes, as a Markdown table: count.py BUILD [BUILD_AARCH64]

NEON is counted by a plugin in qemu-aarch64, AVX2 and the reference by valgrind (--tool=callgrind), both as the
difference of two runs: one warm route, to the instruction. AVX-512, which neither knows, is counted with --avx512, by
single steps of the processor: about a minute. A route makes token-major lists of softmax logits, float32, on one
thread.

    meson setup build-aarch64 --cross-file tests/cross/aarch64-linux-gnu.ini -Dbench=disabled
    bench/instructions/count.py build build-aarch64
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

EMULATOR = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]


def build(folder, *targets):
    run(["ninja", "-C", folder, "seqtopk", *(f"bench/instructions/{target}" for target in targets)])


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout + done.stderr


def difference(command, pattern, arguments):
    """What one route more adds to a count."""
    counts = [int(re.search(pattern, run([*command, *arguments, calls]))[1].replace(",", "")) for calls in ("1", "2")]
    return counts[1] - counts[0]


def usable(command):
    """The instruction sets that the command can run, narrowest first, and the features of each."""
    isas = json.loads(run([*command, "info", "--json"]))["isas"]
    return {isa["name"]: isa["features"] for isa in isas if isa["usable"]}


class Machine:
    """How the instructions of each instruction set are counted here."""

    def __init__(self, native, foreign, stepped):
        self.native, self.foreign = native, foreign
        build(native, "bench-count", "bench-step", "bench-qemu-count.so")
        own = usable([native / "seqtopk"])
        self.stepped = {isa for isa, features in own.items() if "avx512" in features}
        self.emulated = set()
        if foreign:
            build(foreign, "bench-count")
            self.emulated = usable([*EMULATOR, foreign / "seqtopk"]).keys() - own.keys()
        # The widest first, the reference last.
        self.isas = [isa for isa in reversed(own) if isa not in self.stepped or stepped]
        self.isas[-1:-1] = sorted(self.emulated)

    def count(self, isa, arguments):
        folder = self.native / "bench" / "instructions"
        program = str(folder / "bench-count")
        if isa in self.emulated:
            foreign = str(self.foreign / "bench" / "instructions" / "bench-count")
            return difference([*EMULATOR, "-plugin", folder / "bench-qemu-count.so", foreign],
                              r"instructions: (\d+)", [isa, *arguments])
        if isa in self.stepped:
            return int(run([folder / "bench-step", program, isa, *arguments, "0"]))
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        return difference([*valgrind, program], r"Collected\s*:\s*(\d+)", [isa, *arguments])


def table(machine, shapes, scopes):
    lines = ["| instructions a logit | " + " | ".join(f"{t} x {e}, {k}, {scope}" for scope in scopes
                                                      for t, e, k in shapes) + " |",
             "|---|" + "--:|" * (len(shapes) * len(scopes))]
    counts = {(isa, scope, shape): machine.count(isa, [scope, *map(str, shape)]) / (shape[0] * shape[1])
              for isa in machine.isas for scope in scopes for shape in shapes}
    columns = [(scope, shape) for scope in scopes for shape in shapes]
    for isa in machine.isas:
        lines.append(f"| {isa} | " + " | ".join(f"{counts[isa, *column]:.3f}" for column in columns) + " |")
    for over, under in (("neon", "avx2"), ("neon", "ref")):
        if over in machine.isas and under in machine.isas:
            ratios = (counts[over, *column] / counts[under, *column] for column in columns)
            lines.append(f"| {over} / {under} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path, help="native build directory")
    parser.add_argument("foreign", type=pathlib.Path, nargs="?", help="build directory for aarch64")
    parser.add_argument("--shape", default="2048x128x8", help="TxExK,TxExK,... (default: 2048x128x8)")
    parser.add_argument("--avx512", action="store_true", help="count AVX-512 too")
    parser.add_argument("--scope", default="sequence,token", help="default: sequence,token")
    arguments = parser.parse_args()
    shapes = [tuple(map(int, shape.split("x"))) for shape in arguments.shape.split(",")]
    machine = Machine(arguments.build.resolve(), arguments.foreign and arguments.foreign.resolve(), arguments.avx512)
    print(table(machine, shapes, arguments.scope.split(",")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
