#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Commands and snippets of the documentation: check_docs.py BUILD [CC...]

Every line of a block of sh is run, every block of C compiled, every transcript compared with what its command prints; or it
stands below with the reason why not here. A message of docs/troubleshooting.md must be one that the sources can print.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("**/*.md"))]

# Lines of sh that are not run here, by how they begin, and who runs them instead.
ELSEWHERE = {
    "$(command -v sudo) apt-get": ".ci/run installs packages",
    "meson ": ".ci/run builds, tests and installs",
    "ninja ": ".ci/run builds",
    "cc program.c": "tests/package builds programs against what was installed",
    ".ci/run": "it runs this",
    "python3 -m venv": "tests/python has the package as it is built",
    "pip install": ".ci/run does so, in an environment of its own",
    "pip wheel": "builds everything again",
    "bench/figures.py": "takes an hour on a machine that does nothing else",
    "python3 bench/": "measures, for minutes",
    "mpirun ": "needs MPI: tests/adapters",
    "python3 tests/adapters/far_ranks.py": "needs MPI, and root: the benchmark far-ranks",
    "python bench/quality": "tests/python/check_quality.py",
    "build/tests/adapters/bench-ggml": "needs ggml",
    "src/package/make-deb": "builds everything again",
    "src/package/try-deb": "needs an archive of packages, and root",
    "debootstrap": "needs an archive of packages, and root",
    "chroot": "needs root",
    "lintian": "needs the packages",
    "abidiff": "needs two releases",
    "abidw": "needs two releases",
    "git ": "changes a checkout",
    "doxygen": "tests/package/check-doxygen",
    "CC=": "another build, of minutes",
    "valgrind": "takes minutes",
    "qemu-": "takes minutes",
    "build-": "another build",
    "cd build-cov": "another build",
    "gcovr": "needs what a build with coverage has run",
    "python3 tests/fuzz/corpus.py": ".ci/run unpacks corpora",
    "for ": "takes minutes",
    "export ": "for what follows it",
    "SEQTOPK_ROUTER=": "needs vLLM or SGLang, and a model: tests/python",
    "tests/package/": "tests of their own",
}
# What is added to commands that would take minutes as they stand there.
SHORTER = {"build/seqtopk tune --": "--budget 1", "build/seqtopk tune verify": "--sample 2 --budget 5"}
# Blocks of C that need what is not here, by a word of theirs.
NEEDS = {"ggml_": "tests/adapters compiles the same against ggml", "MPI_": "tests/adapters does so against MPI"}

PRELUDE = """#include <seqtopk/seqtopk.h>
#include <stdio.h>
#include <stdlib.h>
void barrier(void);
int omp_get_max_threads(void);
seqtopk_status snippet(seqtopk_plan *plan, seqtopk_cache *cache, void *scratch, size_t size, int32_t *sequences,
                       int64_t *positions, int32_t ith, int32_t nth);
"""
CONTEXT = """seqtopk_status snippet(seqtopk_plan *plan, seqtopk_cache *cache, void *scratch, size_t size, int32_t *sequences,
                       int64_t *positions, int32_t ith, int32_t nth) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = SEQTOPK_OK;
    (void)plan, (void)cache, (void)scratch, (void)size, (void)sequences, (void)positions, (void)ith, (void)nth;
    (void)desc, (void)in, (void)out, (void)error;
    {
"""


class Checks:
    def __init__(self, build, cc):
        self.build, self.cc = pathlib.Path(build).resolve(), cc
        self.passed = self.failed = self.elsewhere = 0
        self.folder = tempfile.TemporaryDirectory()
        self.here = pathlib.Path(self.folder.name)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SEQTOPK_")}
        self.environment = {**environment, "HOME": str(self.here), "XDG_CACHE_HOME": str(self.here / "cache"),
                            "PATH": f"{self.build}:{os.environ['PATH']}"}
        self.prepare()

    def prepare(self):
        """What commands of the pages read: files of logits, a bias, tuning files."""
        random = np.random.default_rng(0)
        (self.here / "build").symlink_to(self.build)
        (self.here / "tests").symlink_to(ROOT / "tests")
        np.save(self.here / "logits.npy", random.normal(size=(64, 256)).astype(np.float32))
        np.save(self.here / "bias.npy", random.normal(size=256).astype(np.float32))
        self.run("build/seqtopk tune --shapes 64x8x2,256x8x2 --dtype f32 --budget 2")
        self.run("build/seqtopk tune export --output b.tuning")

    def run(self, line):
        return subprocess.run(["sh", "-c", line], cwd=self.here, env=self.environment, capture_output=True, text=True)

    def verdict(self, where, trouble):
        if trouble:
            self.failed += 1
            print(f"FAILED {where}: {trouble}", flush=True)
        else:
            self.passed += 1

    def command(self, where, line):
        shorter = next((more for begin, more in SHORTER.items() if line.startswith(begin)), "")
        if any(line.startswith(begin) for begin in ELSEWHERE):
            self.elsewhere += 1
            return
        if not line.startswith("build/"):
            self.verdict(where, f"neither run nor told why not (tests/docs/check_docs.py): {line}")
            return
        command = line.split("  #")[0].rstrip()
        if (threads := re.search(r"--threads (\d+)", command)) and int(threads.group(1)) > len(os.sched_getaffinity(0)):
            command = command.replace(threads.group(0), "--threads 1")
        done = self.run(f"{command} {shorter}")
        # Whether what was measured a second ago still holds is for another machine than one that runs tests.
        good = done.returncode == 0 or ("tune verify" in command and "holds" in done.stdout)
        self.verdict(where, None if good else f"exit {done.returncode}: {line}: {done.stderr.strip()}")

    def snippet(self, where, text):
        if any(word in text for word in NEEDS):
            self.elsewhere += 1
            return
        body = text
        if "#include" not in text:
            functions = ""
            while (match := re.match(r"static .*?^}\n", text, re.M | re.S)):
                functions += match.group(0)
                text = text[match.end():].lstrip("\n")
            body = f"{PRELUDE}{functions}{CONTEXT}{text}    }}\n    return status;\n}}\n"
        done = subprocess.run([*self.cc, "-std=c11", "-Wall", "-Werror", "-Wno-unused-variable", "-Wno-unused-function",
                               "-Wno-unknown-pragmas", "-fsyntax-only", f"-I{ROOT / 'include'}", "-x", "c", "-"],
                              input=body, capture_output=True, text=True)
        self.verdict(where, None if done.returncode == 0 else done.stderr)

    def transcript(self, where, text):
        line, *said = text.splitlines()
        command = line.removeprefix("$ ")
        if not command.startswith("seqtopk"):
            self.elsewhere += 1
            return
        done = self.run(command)
        squeezed = lambda line: " ".join(line.split())
        printed = {squeezed(one) for one in done.stdout.splitlines()}
        missing = [one for one in said if one.strip() and squeezed(one) not in printed]
        self.verdict(where, f"not printed: {missing}" if missing or done.returncode else None)


def blocks_of(page):
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S):
        yield page[:match.start()].count("\n") + 1, match.group(1), match.group(2)


def commands_of(block):
    """Lines, with those that end in a backslash, && or | joined to the next; comments left out."""
    for line in re.sub(r"(\\|&&|\|)\n", lambda m: m.group(1).rstrip("\\"), block).splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def messages_of_sources():
    """Every format string of the library, the command, the tuner and the Python package, as a pattern."""
    patterns = []
    for path in [*ROOT.glob("src/**/*.[ch]"), *ROOT.glob("tune/*.c"), *ROOT.glob("arch/*.h"), *ROOT.glob("src/**/*.py"),
                 ROOT / "meson.build"]:
        text = re.sub(r"/\*.*?\*/", " ", path.read_text(), flags=re.S)
        text = re.sub(r'"\s*\n?\s*"', "", text)
        text = re.sub(r'"\s*PRI[diu]\d+\s*"', "d", text)
        for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"', text) + re.findall(r"'((?:[^'\\\n]|\\.)*)'", text):
            plain = literal.replace('\\"', '"').replace("\\n", "")
            fixed = re.split(r"%[-+ 0#]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:ll|l|z|h)?[diuxsgfcp]|\{[^{}]*\}", plain)
            while fixed and not fixed[0].strip(" :"): # "%s: ...", which says of what
                fixed = fixed[1:]
            if fixed and sum(map(len, fixed)) >= 12:
                fixed[0] = fixed[0].lstrip(" :")
                patterns.append(re.compile(".+?".join(map(re.escape, fixed)), re.S))
    return patterns


def troubles(c):
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    patterns = messages_of_sources()
    messages = re.findall(r"^### `(.+)`$", page, re.M)
    for message in messages:
        parts = [part for part in message.split(" ... ") if part]
        known = all(any(p.search(part) for p in patterns) for part in parts)
        c.verdict(f"troubleshooting: {message}", None if known else "no source prints that")
    c.verdict("troubleshooting has messages", None if len(messages) >= 15 else len(messages))


def main():
    c = Checks(sys.argv[1], sys.argv[2:] or ["cc"])
    for name in PAGES:
        for line, kind, block in blocks_of((ROOT / name).read_text()):
            where = f"{name}:{line}"
            if kind == "sh":
                for command in commands_of(block):
                    c.command(where, command)
            elif kind == "c":
                c.snippet(where, block)
            elif kind == "" and block.startswith("$ "):
                c.transcript(where, block)
            else:
                c.elsewhere += kind in ("python", "cpp")  # tests/python/check_docs.py; llama.cpp
    troubles(c)
    print(f"{c.passed} passed, {c.failed} failed, {c.elsewhere} elsewhere")
    c.folder.cleanup()
    return 1 if c.failed else 0


if __name__ == "__main__":
    sys.exit(main())
