#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk tune and its subcommands: check_tune.py SEQTOPK [--wrapper CMD] [--instrumented]

Nothing here depends on how long something takes, nor on which kernel turns out to be fast.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from check_errors import Checks

SUBCOMMANDS = ("show", "verify", "merge", "export", "key")


def checksum(text):
    """Of tuning files, as src/tuning/print.c has it; written anew, so that a change of the format shows."""
    factor, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    lane, total, at, size = [1, 2, 3, 4], len(text), 0, len(text)
    while size >= 32:
        for i, word in enumerate(struct.unpack_from("<4Q", text, at)):
            lane[i] = (lane[i] ^ word) * factor & mask
            lane[i] ^= lane[i] >> 32
        at, size = at + 32, size - 32
    while size > 0:
        lane[size % 4] = (lane[size % 4] ^ text[at]) * factor & mask
        at, size = at + 1, size - 1
    for one in lane:
        total = (total ^ one) * factor & mask
        total ^= total >> 32
    return total


def resealed(text):
    """The same file with its checksums made right again."""
    choices = text.index(b"\nmeasured ") + len(b"\nmeasured ")
    text = text[:choices] + b"%016x" % checksum(text[:choices]) + text[choices + 16 :]
    body = text[: text.rindex(b" ") + 1]
    return body + b"%016x\n" % checksum(body)


class Tuning(Checks):
    def __init__(self, command, folder):
        super().__init__(command, folder)
        self.cache = folder / "cache"
        self.cache.mkdir()
        for name in ("SEQTOPK_TUNING", "XDG_CACHE_HOME"):
            self.environment.pop(name, None)
        self.environment["XDG_CACHE_HOME"] = str(self.cache)
        self.environment["HOME"] = str(folder)

    def check(self, what, good, trouble=""):
        self.verdict(what, None if good else trouble or "it is not so")

    def output(self, *arguments, status=0, **options):
        done = self.run(*arguments, **options)
        error = done.stderr.decode("utf-8", "replace")
        self.check(shlex.join(map(str, arguments)), done.returncode == status,
                   f"exit {done.returncode}: {error.strip()}")
        return done.stdout.decode()

    def decisions(self, path):
        return json.loads(self.output("tune", "show", path, "--json"))["decisions"]

    def mine(self):
        return self.cache / "seqtopk" / self.output("tune", "key", "--name").strip()


def helps(c):
    for name in ("", *SUBCOMMANDS):
        text = c.works("tune", *([name] if name else []), "--help")
        long = [line for line in text.splitlines() if len(line) > 120]
        c.check(f"tune {name} --help fits 120 columns", not long, long and long[0])
    text = c.works("tune", "--help")
    c.check("tune --help names every subcommand", all(f"tune {name}" in text for name in SUBCOMMANDS))


def usage(c, timing):
    fails = lambda words, *arguments: c.fails(2, words, "tune", *arguments)
    fails(["'shwo'", "show"], "shwo")
    fails(["'frobnicate'", "--help"], "frobnicate")
    fails(["--op", "collect_logit", "collect_logits"], "show", "--op", "collect_logit")
    fails(["--against", "--json"], "show", "--against", "x", "--json")
    fails(["FILE", "missing"], "merge")
    fails(["one word too many"], "key", "x")
    if not timing:
        c.works("tune", "--help")
        c.fails(1, ["hwloc", "-Dtune=enabled"], "tune")
        c.fails(1, ["hwloc"], "tune", "verify")
        return
    for bad in ("", "8", "8x9", "3x8x2", "8x2,", "ax8x2", "8X2"):
        fails(["--shapes"], f"--shapes={bad}")
    fails(["--models", "Mixtral"], "--models", "Mixtrel")
    fails(["--budget", "'0'"], "--budget", 0)
    fails(["--threads", "'0'"], "--threads", 0)
    fails(["--threads 1024", "processors"], "--threads", 1024)
    fails(["--scope", "'row'"], "--scope", "row")
    fails(["--dtype", "'f64'"], "--dtype", "f64")
    fails(["--sample", "'0'"], "verify", "--sample", 0)
    c.fails(2, ["SEQTOPK_ISA"], "tune", environment={"SEQTOPK_ISA": "ref"})
    c.fails(2, ["SEQTOPK_KERNEL"], "tune", environment={"SEQTOPK_KERNEL": "x"})
    c.fails(2, ["SEQTOPK_WAY"], "tune", environment={"SEQTOPK_WAY": "staged"})
    c.fails(1, ["SEQTOPK_TUNING", "--output"], "tune", environment={"SEQTOPK_TUNING": "none"})


def files(c):
    """What is no tuning file, and where none can be."""
    nowhere = c.folder / "nowhere.tuning"
    junk = c.file("junk.tuning", b"no such thing\n")
    for name in ("show", "export", "merge"):
        c.fails(1, [nowhere], "tune", name, nowhere)
        c.fails(1, [junk], "tune", name, junk)
    for name in ("show", "export"):
        c.fails(1, ["seqtopk tune"], "tune", name)
    key = c.works("tune", "key").strip()
    c.check("a key is one line", "\n" not in key and len(key.split()) >= 4, key)
    c.check("a name ends in .tuning", c.works("tune", "key", "--name").strip().endswith(".tuning"))


def refusals(c):
    """Found out before anything is timed."""
    junk = c.file("file", b"")
    deep = c.folder / "a" / "b" / "c" / "d.tuning"
    small = ("tune", "--shapes", "1x8x2", "--scope", "token", "--dtype", "f32")
    c.fails(1, ["file/x.tuning", "--output"], *small, "--output", f"{junk}/x.tuning")
    c.fails(1, [deep, "--output"], *small, "--output", deep)
    c.fails(1, ["file/x.html", "--report"], *small, "--report", f"{junk}/x.html")
    c.fails(1, ["HOME"], *small, environment={"XDG_CACHE_HOME": "", "HOME": ""})
    c.fails(1, ["longer than any path"], *small, environment={"SEQTOPK_TUNING": "/" + "a" * 4096})
    thesis = c.file("thesis.txt", b"It was a dark and stormy night.\n")
    c.fails(1, [thesis, "no tuning file", "name another"], *small, "--output", thesis)
    c.fails(1, ["/dev/null", "regular file"], *small, "--output", "/dev/null")
    out = c.output("tune", "--dry-run", "--quick")
    c.check("a dry run tells the points", "80" in out and str(c.cache) in out, out)
    c.check("a dry run writes nothing", not list(c.cache.iterdir()))
    # The models that the list marks are those of the grid, and other ones can be named.
    models = [m["name"] for m in json.loads(c.output("models", "--json"))["models"] if m["tuned"]]
    former = ("Mixtral", "Qwen2-MoE", "Qwen3-MoE", "Qwen3-Next", "OLMoE", "DeepSeek-V2", "DeepSeek-V2-Lite", "DeepSeek-V3",
              "DeepSeek-V4", "Kimi-K2", "Kimi-K3", "GLM-4.5", "GLM-4.5-Air", "MiniMax-M2", "ERNIE-4.5", "LongCat-Flash",
              "GPT-OSS-20B", "GPT-OSS-120B", "Granite-1B", "Granite-3B", "Llama-4-Scout", "Llama-4-Maverick", "Jamba",
              "DBRX", "Nemotron-3")
    points = lambda *more: re.search(r"^points +(\d+)", c.output("tune", "--dry-run", *more), re.M).group(1)
    c.check("the marked models", points("--models", ",".join(models)) == points() and len(models) == 27, str(models))
    c.check("--model", points("--model", "STEP-3") == points("--models", "step-3") == points("--shapes", "48x3"))
    c.fails(2, ["--model", "'Mixtrel'", "mixtral", "seqtopk models"], "tune", "--dry-run", "--model", "Mixtrel")
    c.fails(2, ["--model", "--models"], "tune", "--dry-run", "--model", "mixtral", "--models", "dbrx")
    c.check("other and former names", points("--models", ",".join(former) + ",granite-4-h,ling-3") == points())


def walk(c):
    """A small grid: tuned, shown, verified, reported."""
    one, page = c.folder / "one.tuning", c.folder / "page.html"
    done = c.run("tune", "--shapes", "1x8x2,64x8x2,256x64x8", "--dtype", "f32", "--budget", 5, "--output", one,
                 "--report", page)
    out, log = done.stdout.decode(), done.stderr.decode()
    c.check("tune", done.returncode == 0, f"exit {done.returncode}: {log}")
    c.check("tune tells what it wrote", str(one) in out and str(page) in out, out)
    c.check("a log has plain lines", "8 experts, f32" in log and "\r" not in log and "\x1b" not in log, log)
    decided = c.decisions(one)
    kernels = {k["name"]: k for k in json.loads(c.works("info", "--json"))["compiled"]}
    sizes = {"sample", "block", "ahead", "share"}
    c.check("every decision is on a usable kernel or a size",
            all(d["op"] in sizes if d["kernel"] not in kernels else kernels[d["kernel"]]["usable"] for d in decided))
    c.check("every decision has a rival",
            all((d["runner_up"] in kernels or d["op"] in sizes) and d["runner_up"] != d["kernel"] for d in decided))
    c.check("both scopes are decided", {d["scope"] for d in decided} == {"sequence", "token"}, str(decided[:2]))
    text = c.works("tune", "show", one)
    c.check("show tells every stage", all(re.search(rf"^{d['op']} ", text, re.M) for d in decided), text)
    op = decided[0]["op"]
    of_op = json.loads(c.works("tune", "show", one, "--json", "--op", op))["decisions"]
    c.check("show --op", {d["op"] for d in of_op} == {op})
    same = c.works("tune", "show", one, "--against", one)
    c.check("a file agrees with itself", "(100.0 %)" in same, same)
    for extra in ([], ["--untuned"]):
        done = c.run("tune", "verify", one, "--sample", 3, "--budget", 2, *extra)
        out = done.stdout.decode()
        c.check(f"verify {extra}", done.returncode in (0, 1) and "within 5 %" in out and "holds" in out, out)
    # The page is XML, fetches nothing and runs nothing.
    tree = xml.etree.ElementTree.parse(page)
    text = page.read_text()
    svg = [e for e in tree.iter() if e.tag.endswith("}svg")]
    c.check("the report has maps", len(svg) >= 6, f"{len(svg)} drawings")
    c.check("the report has titles to point at", any(e.tag.endswith("}title") and "T 64, E 8, K 2" in (e.text or "")
                                                       for e in tree.iter()))
    c.check("the report stands alone",
            not re.search(r"https?://(?!www\.w3\.org/1999/xhtml)|<script|<link|@import|url\(", text))
    c.check("the report knows dark and light", "prefers-color-scheme:dark" in text)
    return one


def plans(c, one):
    """What was decided is what plans take, and it is told."""
    environment = {"SEQTOPK_TUNING": str(one)}
    wanted = {"tokens": 256, "experts": 64, "scope": "token", "score": "softmax"}
    decided = [d for d in c.decisions(one) if all(d[k] == v for k, v in wanted.items())]
    info = ("info", "--shape", "256x64x8", "--scope", "token")
    plan = json.loads(c.output(*info, "--json", environment=environment))["plan"]
    taken = {k["op"]: k for k in plan["kernels"] if k["tokens_from"] <= 256}
    c.check("plans take what is decided", all(taken[d["op"]]["kernel"] == d["kernel"] for d in decided), str(taken))
    text = c.output(*info, environment=environment)
    c.check("info tells the file and the line", re.search(re.escape(str(one)) + r".* line \d+", text), text)
    c.check("info tells the time that is expected", "expected" in text, text)
    c.check("info tells the contenders", "contenders" in text and "does not apply" in text, text)
    untuned = c.output(*info, environment={"SEQTOPK_TUNING": "none"})
    c.check("info tells when there is no file", str(one) not in untuned and "expected" not in untuned, untuned)


def merging(c, one):
    two, both = c.folder / "two.tuning", c.folder / "both.tuning"
    c.output("tune", "--shapes", "32x16x2", "--dtype", "f16", "--budget", 2, "--output", two)
    c.works("tune", "merge", one, two, "--output", both)
    c.check("a merged file has both", len(c.decisions(both)) == len(c.decisions(one)) + len(c.decisions(two)))
    c.works("tune", "merge", two, one, "--output", both)
    c.check("merging again changes nothing", len(c.decisions(both)) == len(c.decisions(one)) + len(c.decisions(two)))
    c.check("export writes the same bytes", c.works("tune", "export", both).encode() == both.read_bytes())
    c.output("tune", "export", both, "--output", c.folder / "copy.tuning")
    c.check("export --output", (c.folder / "copy.tuning").read_bytes() == both.read_bytes())
    # A run adds to what is there.
    before = len(c.decisions(two))
    c.output("tune", "--shapes", "2x16x2", "--dtype", "f16", "--budget", 2, "--output", two)
    c.check("a partial run joins the file", len(c.decisions(two)) > before)
    # Into the cache directory, by machine.
    key = c.works("tune", "key").strip()
    other = c.folder / "other.tuning"
    other.write_bytes(resealed(one.read_bytes().replace(key.encode(), key.replace(" ", " other,", 1).encode())))
    c.fails(2, ["other.tuning", "another machine", "--output"], "tune", "merge", one, other, "--output", both)
    c.works("tune", "merge", one, other)
    kept = sorted(p.name for p in (c.cache / "seqtopk").glob("*.tuning"))
    c.check("each machine has its file", len(kept) == 2 and c.mine().name in kept, str(kept))
    c.check("mine is mine", c.mine().read_bytes() == one.read_bytes())
    c.check("show takes the one in force", str(c.mine()) in c.works("tune", "show"))
    c.check("show tells another machine's", "not this one" in c.works("tune", "show", other))
    c.fails(1, ["other.tuning", "machine"], "tune", "verify", other)
    damaged = c.file("damaged.tuning", one.read_bytes().replace(b" close", b" clear", 1).replace(b"@1 1", b"@1 2", 1))
    c.fails(1, ["damaged.tuning", "checksum"], "tune", "show", damaged)
    torn = c.file("torn.tuning", one.read_bytes()[:-30])
    c.fails(1, ["torn.tuning"], "tune", "merge", torn)
    # Which file is in use, and why one is not.
    c.check("info names the file in use", f"{c.mine()}: in use" in c.works("info"))
    c.environment["SEQTOPK_TUNING"] = str(c.file("short.tuning", one.read_bytes()[:300]))
    c.check("info tells why a file is not", "short.tuning: it is cut off" in c.works("info", "--shape", "64x8x2"))
    tuning = json.loads(c.works("info", "--json"))["tuning"]
    c.check("info --json too", "cut off" in tuning["reason"] and tuning["shapes"] == 0, str(tuning))
    del c.environment["SEQTOPK_TUNING"]


def interrupted(c):
    """What was decided before Ctrl-C is kept."""
    path = c.folder / "interrupted.tuning"
    arguments = ["tune", "--shapes", "1x8x2,131072x512x10", "--scope", "token", "--dtype", "f32", "--output", str(path)]
    tuner = subprocess.Popen(c.command + arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=c.environment)
    lines = []
    for line in tuner.stderr:
        lines.append(line.decode())
        if "512 experts" in lines[-1]: # the first point is done
            tuner.send_signal(signal.SIGINT)
    out = tuner.stdout.read().decode()
    status = tuner.wait()
    error = "".join(lines)
    c.check("Ctrl-C ends it", status == 1 and "interrupted after 1 of 2" in error and "kept" in error,
            f"{status} {error}")
    c.check("Ctrl-C tells what is written", str(path) in out and "interrupted" in out, out)
    c.check("Ctrl-C keeps what was decided", {d["experts"] for d in c.decisions(path)} == {8})


def spent(c):
    path = c.folder / "spent.tuning"
    out = c.output("tune", "--budget", 1, "--output", path, "--scope", "token")
    c.check("a spent budget is told", "budget is spent" in out and "--budget" in out, out)
    c.check("a spent budget keeps what was decided", len(c.decisions(path)) > 0)


def unwritable(c):
    """A disk that is full at the end: what was decided is not thrown away where another place takes it."""
    here = c.folder / "here"
    here.mkdir()

    def tiny():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    small = ("tune", "--shapes", "1x8x2", "--scope", "token", "--dtype", "f32", "--budget", 1)
    c.environment["TMPDIR"] = str(c.folder)
    done = c.run(*small, "--output", c.folder / "full.tuning", cwd=here, preexec_fn=tiny)
    error = done.stderr.decode()
    c.check("a full disk", done.returncode == 1 and "full.tuning" in error and "lost" in error, error)
    c.check("a full disk leaves no file", not (c.folder / "full.tuning").exists() and not list(here.glob("*.tuning")))
    done = c.run(*small, "--output", "/proc/self/x.tuning", cwd=here)
    error = done.stderr.decode()
    kept = list(here.glob("*.tuning"))
    c.check("and no lock", not list(here.glob("*.lock")))
    c.check("an odd directory",
            done.returncode == 1 and "/proc/self" in error and ("tune merge" in error) == bool(kept), error)
    for path in kept:
        c.check("what was kept is a tuning file", len(c.decisions(path)) > 0)


def emulated(c):
    """An emulator of the same processor, where there is one."""
    qemu = shutil.which("qemu-x86_64")
    if qemu and os.uname().machine == "x86_64":
        under = Checks([qemu, *c.command], c.folder)
        under.environment = c.environment
        under.fails(1, ["emulated", "natively"], "tune", "--shapes", "1x8x2")
        c.passed, c.failed = c.passed + under.passed, c.failed + under.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seqtopk")
    parser.add_argument("--wrapper", default="", help="run the command by way of this one (an emulator)")
    parser.add_argument("--instrumented", action="store_true", help="it is built with sanitizers")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        c = Tuning(shlex.split(args.wrapper) + [str(pathlib.Path(args.seqtopk).resolve())], pathlib.Path(folder))
        probe = c.run("tune", "--dry-run", "--shapes", "1x8x2")
        timing = b"hwloc was not found" not in probe.stderr
        helps(c) if timing else None
        usage(c, timing)
        files(c)
        if timing and not args.wrapper:
            refusals(c)
            one = walk(c)
            plans(c, one)
            merging(c, one)
            interrupted(c)
            spent(c)
            unwritable(c)
            if not args.instrumented:
                emulated(c)
    print(f"{c.passed} passed, {c.failed} failed")
    return 1 if c.failed else 0


if __name__ == "__main__":
    sys.exit(main())
