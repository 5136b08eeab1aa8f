#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad files and usage errors: check_errors.py SEQTOPK [--wrapper CMD]

Every one must end with its exit status (1: a file or a failure, 2: usage), nothing on standard output, and exactly one
line on standard error that names the file or the flag and the trouble.
"""

import argparse
import json
import os
import pathlib
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

FILES = {"token_offsets.npy", "expert_ids.npy", "weights.npy", "expert_offsets.npy", "expert_tokens.npy",
         "expert_slots.npy"}


def header(text, version=(1, 0), length=None):
    text = text.encode("latin1") if isinstance(text, str) else text
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text


def dictionary(descr="'<f4'", order="False", shape="(4, 8)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


class Checks:
    def __init__(self, command, folder):
        self.command, self.folder = command, folder
        self.passed = self.failed = 0
        self.environment = {k: v for k, v in os.environ.items() if k not in ("SEQTOPK_ISA", "SEQTOPK_KERNEL")}

    def file(self, name, data):
        path = self.folder / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            with open(path, "wb") as out:
                np.lib.format.write_array(out, data, allow_pickle=True)
        return str(path)

    def run(self, *arguments, **options):
        environment = {**self.environment, **options.pop("environment", {})}
        options.setdefault("stdout", subprocess.PIPE)
        return subprocess.run(self.command + list(map(str, arguments)), stderr=subprocess.PIPE, env=environment,
                              **options)

    def verdict(self, what, trouble):
        if trouble:
            self.failed += 1
            print(f"FAILED {what}: {trouble}", flush=True)
        else:
            self.passed += 1

    def fails(self, status, words, *arguments, **options):
        """The command must end with `status` and one line that has all of `words` in it."""
        done = self.run(*arguments, **options)
        error = done.stderr.decode("utf-8", "replace")
        trouble = None
        if done.returncode != status:
            trouble = f"exit {done.returncode}, not {status}: {error.strip()}"
        elif done.stdout:
            trouble = "something on standard output"
        elif error.count("\n") != 1 or not error.endswith("\n"):
            trouble = f"not one line: {error!r}"
        else:
            missing = [w for w in words if str(w).lower() not in error.lower()]
            if missing:
                trouble = f"{missing} not in {error.strip()!r}"
        self.verdict(shlex.join(map(str, arguments)), trouble)

    def works(self, *arguments, **options):
        done = self.run(*arguments, **options)
        trouble = None
        if done.returncode or done.stderr or not done.stdout:
            trouble = f"exit {done.returncode}: {done.stderr.decode('utf-8', 'replace').strip()}"
        self.verdict(shlex.join(map(str, arguments)), trouble)
        return done.stdout.decode()


def bad_files(c):
    good = header(dictionary())
    body = bytes(4 * 8 * 4)
    at_limit = dictionary().rstrip("\n").ljust(300) + "\n"
    cases = {
        "empty": (b"", "empty"),
        "text": (b"1 2 3\n4 5 6\n", "not a NumPy"),
        "magic": (b"\x93NUM", "truncated"),
        "no-length": (b"\x93NUMPY\x01\x00", "truncated"),
        "no-length-v2": (b"\x93NUMPY\x02\x00\x10\x00", "truncated"),
        "version-0": (header(dictionary(), (0, 0)) + body, "version 0.0"),
        "version-4": (header(dictionary(), (4, 0)) + body, "version 4.0"),
        "version-1.7": (header(dictionary(), (1, 7)) + body, "version 1.7"),
        "half-a-header": (good[:40], "truncated"),
        "long-header": (header(dictionary(), (2, 0), 0xFFFFFFF0) + body, "absurd"),
        "header-beyond": (header(dictionary(), (1, 0), 60000) + body, "truncated"),
        "no-data": (good, "truncated"),
        "truncated": (good + body[:-1], "truncated"),
        "trailing": (good + body + b"x", "goes on behind"),
        "fortran": (header(dictionary(order="True")) + body, "Fortran"),
        "neither": (header(dictionary(order="0")) + body, "fortran_order"),
        "0-d": (header(dictionary(shape="()")) + body[:4], "0-dimensional"),
        "no-tuple": (header(dictionary(shape="(32)")) + body, "tuple"),
        "list": (header(dictionary(shape="[4, 8]")) + body, "tuple"),
        "1-d": (header(dictionary(shape="(32,)")) + body, "[T, E]"),
        "4-d": (header(dictionary(shape="(1, 1, 4, 8)")) + body, "[T, E]"),
        "9-d": (header(dictionary(shape="(1, 1, 1, 1, 1, 1, 1, 4, 8)")) + body, "dimensions"),
        "negative": (header(dictionary(shape="(-4, 8)")) + body, "whole numbers"),
        "float-shape": (header(dictionary(shape="(4.0, 8)")) + body, "commas"),
        "big-endian": (header(dictionary("'>f4'")) + body, "big endian"),
        "object": (header(dictionary("'|O'")) + body, "object"),
        "structured": (header(dictionary("[('x', '<f4')]")) + body, "structured"),
        "f8": (header(dictionary("'<f8'")) + body * 2, "<f8"),
        "complex": (header(dictionary("'<c8'")) + body * 2, "<c8"),
        "i4": (header(dictionary("'<i4'")) + body, "int32"),
        "bool": (header(dictionary("'|b1'")) + body[:32], "bool"),
        "no-such": (header(dictionary("'<q9'")) + body, "<q9"),
        "overflow": (header(dictionary(shape="(4294967296, 4294967296)")) + body, "overflow"),
        "overflow-bytes": (header(dictionary(shape="(2305843009213693952, 2)")) + body, "overflow"),
        "overflow-digits": (header(dictionary(shape="(99999999999999999999999, 2)")) + body, "overflow"),
        "wraps-to-size": (header(dictionary(shape="(4611686018427387912, 4)")) + body, "overflow"),
        "huge": (header(dictionary(shape="(1099511627776, 64)")) + body, "truncated"),
        "no-experts": (header(dictionary(shape="(4, 0)")), "0 experts"),
        "many-experts": (header(dictionary(shape="(1, 65537)")) + bytes(4 * 65537), "65537 experts"),
        "many-tokens": (header(dictionary(shape="(2147483648, 0, 8)")), "too many"),
        "twice": (header(dictionary().replace("}", "'descr': '<f4'}")) + body, "repeated"),
        "missing": (header("{'descr': '<f4', 'shape': (4, 8), }\n") + body, "missing"),
        "unknown-key": (header(dictionary().replace("}", "'x': 1}")) + body, "unknown"),
        "no-dictionary": (header("(4, 8)\n") + body, "dictionary"),
        "open": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 8") + body, "header"),
        "behind": (header(dictionary() + "x") + body, "behind the dictionary"),
        "nul": (header(dictionary() + "\0") + body, "behind the dictionary"),
    }
    for name, (data, word) in cases.items():
        path = c.file(f"{name}.npy", data)
        c.fails(1, [path, word], "route", path, "--top-k", 2)
        c.fails(1, [path, word], "route", path, "--top-k", 2, "--json")
    c.fails(1, ["no-such-file.npy", "No such file"], "route", c.folder / "no-such-file.npy", "--top-k", 2)
    c.fails(2, ["--team pvm", "mpi"], "route", c.folder / "no-such-file.npy", "--top-k", 2, "--team", "pvm")
    c.fails(1, [c.folder, "directory"], "route", c.folder, "--top-k", 2)
    path = c.file("line\nbreak.npy", b"")
    c.fails(1, ["line?break.npy", "empty"], "route", path, "--top-k", 2)

    # What is unusual and right must pass: all versions, either quote, any order of keys, data that are not aligned.
    for name, data in {
        "v2": header(dictionary(), (2, 0)) + body, "v3": header(dictionary(), (3, 0)) + body,
        "padded": header(at_limit) + body, "unaligned": header(" " + dictionary().strip() + "\n") + body,
        "quotes": header('{"shape":(4,8),"fortran_order":False,"descr":"<f4"}\n') + body,
    }.items():
        c.works("route", c.file(f"{name}.npy", data), "--top-k", 2)


def bad_values(c):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 8)).astype(np.float32)
    for value, word in ((np.nan, "NaN"), (np.inf, "+inf")):
        bad = x.copy()
        bad[7, 3] = bad[9, 0] = value
        path = c.file("nan.npy", bad)
        for extra in ((), ("--threads", 3), ("--scope", "token"), ("--score", "sigmoid"), ("--score", "logits")):
            c.fails(1, [path, word, "token 7", "expert 3"], "route", path, "--top-k", 2, *extra)
        c.fails(1, [path, word, "token 7", "sequence 2", "token 1 in it"], "route", path, "--top-k", 2, "--lengths",
                "3,3,6")
        path = c.file("nan3.npy", bad.reshape(3, 4, 8))
        c.fails(1, [path, word, "token 7", "sequence 1", "token 3 in it"], "route", path, "--top-k", 2)
        path = c.file("nan16.npy", bad.astype(np.float16))
        c.fails(1, [path, word, "token 7"], "route", path, "--top-k", 2)
        path = c.file("nanb16.npy", (bad.view(np.uint32) >> 16).astype(np.uint16))
        c.fails(1, [path, word, "token 7"], "route", path, "--top-k", 2, "--dtype", "bf16")
        mask = np.ones(12, np.uint8)
        mask[[7, 9]] = 0
        c.works("route", c.folder / "nan.npy", "--top-k", 2, "--mask", c.file("hide.npy", mask))
        b = np.zeros(8, np.float32)
        b[5] = value
        c.fails(1, ["bias.npy", word, "expert 5"], "route", c.file("x.npy", x), "--top-k", 2, "--bias",
                c.file("bias.npy", b))
    out = c.folder / "never"
    c.fails(1, ["NaN"], "route", c.file("nan.npy", np.full((2, 2), np.nan, np.float32)), "--top-k", 1, "--out", out)
    c.verdict("no files after an error", "the directory is there" if out.exists() else None)


def side_files(c):
    x = c.file("x.npy", np.zeros((12, 8), np.float32))
    x3 = c.file("x3.npy", np.zeros((3, 4, 8), np.float32))
    i4 = lambda *v: np.array(v, np.int32)
    for flag, data, words in (
        ("--cu-seqlens", i4(1, 12), ["begin with 1"]),
        ("--cu-seqlens", i4(0, 11), ["end with 11", "12 tokens"]),
        ("--cu-seqlens", i4(0, 13), ["13", "12 tokens"]),
        ("--cu-seqlens", i4(0, 9, 6, 12), ["cu_seqlens[2]", "below"]),
        ("--cu-seqlens", i4(0, -1, 12), ["-1"]),
        ("--cu-seqlens", i4(0), ["end with 0"]),
        ("--cu-seqlens", i4(), ["(0,)"]),
        ("--cu-seqlens", i4(0, 12)[None], ["(1, 2)"]),
        ("--cu-seqlens", np.array([0, 2**32 + 12], np.int64), ["4294967308"]),
        ("--cu-seqlens", np.array([0, 12], np.float32), ["float32"]),
        ("--cu-seqlens", np.array([0, 12], np.uint8), ["uint8"]),
        ("--token-seq", np.zeros(11, np.int32), ["(11,)", "(12,)"]),
        ("--token-seq", np.zeros((12, 1), np.int32), ["(12, 1)"]),
        ("--token-seq", np.zeros(12, np.uint8), ["uint8"]),
        ("--token-seq", i4(0, 0, -1, *[0] * 9), ["token 2", "sequence -1", "from 0"]),
        ("--token-seq", i4(*[0] * 11, 12), ["token 11", "sequence 12", "11 at most"]),
        ("--mask", np.ones(11, bool), ["(11,)", "(12, 8)"]),
        ("--mask", np.ones((3, 4), bool), ["(3, 4)"]),
        ("--mask", np.ones(12, np.float32), ["float32"]),
        ("--mask", np.array([None] * 12), ["object"]),
        ("--bias", np.zeros(7, np.float32), ["(7,)", "(8,)"]),
        ("--bias", np.zeros((1, 8), np.float32), ["(1, 8)"]),
        ("--bias", np.zeros(8), ["<f8"]),
        ("--bias", np.zeros(8, np.float16), ["float16"]),
        ("--factors", np.zeros(7, np.float32), ["(7,)", "(8,)"]),
        ("--factors", np.zeros(8), ["<f8"]),
        ("--factors", np.float32([1, 1, 1, -np.inf, 1, 1, 1, 1]), ["expert 3", "-inf"]),
        ("--given", np.zeros((11, 2), np.int32), ["(11, 2)", "(12, 8)"]),
        ("--given", np.zeros(12, np.int32), ["(12,)"]),
        ("--given", np.zeros((12, 0), np.int64), ["(12, 0)"]),
        ("--given", np.zeros((12, 2), np.float32), ["float32"]),
        ("--given", np.full((12, 2), 8, np.int64), ["token 0", "expert 8", "-1"]),
    ):
        path = c.file("side.npy", data)
        c.fails(1, [path, *words], "route", x, "--top-k", 2, flag, path)
    twice = c.file("twice.npy", np.zeros((12, 2), np.int32))
    c.fails(1, ["given_ids", "token 0", "twice"], "route", x, "--top-k", 2, "--given", twice)
    c.fails(2, ["--margins", "--scope sequence"], "route", x, "--top-k", 2, "--margins", "--scope", "token")
    c.fails(2, ["--count-all", "--team"], "route", x, "--top-k", 2, "--count-all")
    c.fails(2, ["--margins", "--given"], "route", x, "--top-k", 2, "--margins", "--given", twice)
    for flag in ("--cu-seqlens", "--token-seq", "--mask", "--bias", "--factors", "--given"):
        c.fails(1, ["nowhere.npy"], "route", x, "--top-k", 2, flag, c.folder / "nowhere.npy")
    c.fails(1, ["side.npy", "(4, 3)"], "route", x3, "--top-k", 2, "--mask", c.file("side.npy", np.ones((4, 3), bool)))
    c.works("route", x3, "--top-k", 2, "--mask", c.file("side.npy", np.ones((3, 4), bool)))
    c.works("route", x3, "--top-k", 2, "--mask", c.file("side.npy", np.ones(12, np.uint8)))
    u2 = c.file("u2.npy", np.zeros((12, 8), np.uint16))
    c.fails(1, [u2, "--dtype bf16"], "route", u2, "--top-k", 2)
    c.fails(1, [x, "float32", "--dtype bf16"], "route", x, "--top-k", 2, "--dtype", "bf16")
    c.works("route", u2, "--top-k", 2, "--dtype=bf16")


def usage(c):
    x = c.file("x.npy", np.zeros((12, 8), np.float32))
    x3 = c.file("x3.npy", np.zeros((3, 4, 8), np.float32))
    fails = lambda words, *arguments: c.fails(2, words, *arguments)
    route = lambda words, *arguments: fails(words, "route", x, "--top-k", 2, *arguments)
    fails(["command is missing", "--help"])
    fails(["'rout'", "route"], "rout")
    fails(["'frobnicate'", "--help"], "frobnicate")
    fails(["--verison", "option"], "--verison")
    fails(["LOGITS.npy", "missing"], "route")
    fails(["--top-k", "missing"], "route", x)
    fails(["--top-k", "value"], "route", x, "--top-k")
    fails(["--top-k", "value"], "route", x, "--top-k", "--json")
    fails(["--top-k 9", "8 experts"], "route", x, "--top-k", 9)
    for bad in ("0", "-1", "2.0", "2x", " 2", "+2", "0x2", "", "99999999999999999999", "65537", "two"):
        fails(["--top-k", f"'{bad}'"], "route", x, "--top-k", bad)
    route(["one word too many", "more.npy"], "more.npy")
    route(["--top-k", "twice"], "--top-k", 3)
    route(["--topk", "--top-k"], "--topk", 3)
    route(["--zzzzzz", "--help"], "--zzzzzz")
    route(["-x"], "-x")
    route(["--json", "no value"], "--json=yes")
    for flag, bad in (("--scope", "row"), ("--scope", ""), ("--scope", "sequence|token"), ("--score", "relu"),
                      ("--norm", "l2"), ("--group-score", "min"), ("--dtype", "f64"), ("--order", "random")):
        route([flag, f"'{bad}'"], f"{flag}={bad}")
    for flag in ("--eps", "--floor"):
        for bad in ("-1", "nan", "inf", "1e", "0x1p3", "1e39", "1e-60", "", "1,5", "-1e-30"):
            route([flag, f"'{bad}'"], f"{flag}={bad}")
    route(["--scale 0"], "--scale", 0)
    for flag in ("--softcap", "--logit-scale", "--min-p", "--top-p", "--jitter"):
        route([flag, "'-1'"], flag, -1)
    route(["--min-p", "'1.5'"], "--min-p", 1.5)
    route(["--min-p", "--scope token"], "--min-p", 0.1)
    route(["--top-p", "--scope token"], "--top-p", 0.5)
    route(["top_p", "softmax"], "--top-p", 0.5, "--scope", "token", "--score", "sigmoid")
    route(["min_p", "logits"], "--min-p", 0.5, "--scope", "token", "--score", "logits")
    route(["--group-quota", "--groups"], "--group-quota", 1)
    route(["group_quota", "top_k is 2"], "--groups", 4, "--group-quota", 1, "--group-topk", 1)
    route(["--null-experts 8", "8 experts"], "--null-experts", 8)
    route(["--shared-experts 8", "8 experts"], "--shared-experts", 8, "--score", "sigmoid")
    route(["shared_experts", "softmax"], "--shared-experts", 1)
    route(["--shared-weight", "--shared-experts"], "--shared-weight", 1)
    route(["null_experts", "shared_experts"], "--null-experts", 1, "--shared-experts", 1, "--shared-weight", 1)
    route(["sparsemixer", "logits"], "--norm", "sparsemixer")
    c.fails(1, ["given_ids", "order"], "route", x, "--top-k", 2, "--order", "given")
    route(["--scale", "'nan'"], "--scale", "nan")
    route(["--min 3", "--top-k 2"], "--min", 3)
    route(["--max 1", "--min 2"], "--min", 2, "--max", 1)
    route(["--max", "'0'"], "--max", 0)
    route(["--groups 3", "8 experts"], "--groups", 3, "--group-topk", 1)
    route(["--groups", "--group-topk"], "--groups", 4)
    route(["--group-topk", "--groups"], "--group-topk", 1)
    route(["--group-topk 5", "--groups 4"], "--groups", 4, "--group-topk", 5)
    route(["--group-score top2"], "--groups", 8, "--group-topk", 2, "--group-score", "top2")
    route(["--group-n 3"], "--groups", 4, "--group-topk", 2, "--group-score", "topn", "--group-n", 3)
    route(["--threads", "'0'"], "--threads", 0)
    route(["--threads", "'1025'"], "--threads", 1025)
    route(["--isa", "value"], "--isa")
    route(["nosuch"], "--isa", "nosuch")
    route(["nosuch"], "--kernel", "nosuch")
    route(["nosuch"], "--way", "nosuch")
    for flag in ("--isa", "--kernel", "--way"):
        route([f"forced by {flag}:"], flag, "nosuch")
    route(["topk_logits", "token scope"], "--way", "topk_logits")
    route(["--lengths", "11", "12"], "--lengths", "5,6")
    route(["--lengths", "13", "12"], "--lengths", "5,8")
    route(["--lengths", "4294967308"], "--lengths", "2147483647,2147483647,14")
    for bad in ("5,,7", "5,7,", ",12", "12.0", "-1,13", "a", "99999999999999999999", "5 ,7"):
        route(["--lengths"], "--lengths", bad)
    cu = c.file("cu.npy", np.array([0, 12], np.int32))
    seq = c.file("seq.npy", np.zeros(12, np.int32))
    route(["--lengths", "--cu-seqlens"], "--lengths", "12", "--cu-seqlens", cu)
    route(["--cu-seqlens", "--token-seq"], "--token-seq", seq, "--cu-seqlens", cu)
    route(["--token-seq", "--team"], "--token-seq", seq, "--team", "mpi")
    route(["--on-nonfinite", "--mask"], "--on-nonfinite", "drop", "--team", "mpi")
    fails(["--token-seq", "[S, T, E]"], "route", x3, "--top-k", 2, "--token-seq", seq)
    fails(["--lengths", "[S, T, E]"], "route", x3, "--top-k", 2, "--lengths", "12")
    fails(["--cu-seqlens", "[S, T, E]"], "route", x3, "--top-k", 2, "--cu-seqlens", cu)
    c.fails(2, ["nosuch"], "route", x, "--top-k", 2, environment={"SEQTOPK_ISA": "nosuch"})
    c.fails(2, ["nosuch"], "route", x, "--top-k", 2, environment={"SEQTOPK_KERNEL": "nosuch"})

    for bad in ("8x8", "8x8x2x1", "x8x2", "8x8x", "8x0x1", "axbxc", "-1x8x2", "8X8X2", "1x99999999999999999x1"):
        fails(["--shape", f"'{bad}'"], "info", "--shape", bad)
    fails(["--top-k 9"], "info", "--shape", "8x8x9")
    fails(["--score", "--shape"], "info", "--score", "sigmoid")
    fails(["one word too many"], "info", x)
    fails(["int32"], "info", "--shape", "2147483647x64x8")


def choices(c):
    """What forces a kernel is named as the user wrote it."""
    for words, arguments in (("forced by --isa", ("--isa", "ref")),
                             ("forced by --kernel", ("--kernel", "seqtopk_collect_logits_f32__ref_slots6"))):
        for form in ((), ("--json",)):
            text = c.works("info", "--shape", "64x64x8", *arguments, *form)
            c.verdict(f"info says {words}", None if words in text and "desc." not in text else text)
    text = c.works("info", "--shape", "64x64x8", environment={"SEQTOPK_ISA": "ref"})
    c.verdict("info says SEQTOPK_ISA", None if "forced by SEQTOPK_ISA" in text else text)


def arithmetic(c):
    """A library that changes how floats are computed, as -ffast-math does to who loads it."""
    text = c.works("info")
    c.verdict("info: the default arithmetic", None if "keeps denormals" in text else text[:300])
    cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not cc or os.uname().machine != "x86_64" or len(c.command) > 1:
        return
    for bits, words in ((0x9f80, "FTZ"), (0x1fc0, "DAZ")):
        source = c.file("changes.c", f"__attribute__((constructor)) static void f(void)"
                                     f"{{ unsigned x = {bits}; __asm__ volatile(\"ldmxcsr %0\" : : \"m\"(x)); }}\n".encode())
        subprocess.run([cc, "-shared", "-fPIC", "-o", c.folder / "changes.so", source], check=True)
        done = c.run("info", "--json", environment={"LD_PRELOAD": str(c.folder / "changes.so")})
        told = c.run("info", environment={"LD_PRELOAD": str(c.folder / "changes.so")}).stdout.decode()
        fine = json.loads(done.stdout)["default_arithmetic"] is False and words in told
        c.verdict(f"info: {words}", None if fine else told[:300])


def out_files(c):
    x = c.file("x.npy", np.random.default_rng(2).normal(size=(4096, 8)).astype(np.float32))
    out = c.folder / "lists"
    c.works("route", x, "--top-k", 2, "--out", out)
    c.works("route", x, "--top-k", 3, "--out", out)  # over what is there
    c.verdict("six files", None if {p.name for p in out.iterdir()} == FILES else "other files are there")
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def tiny():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

    c.fails(1, ["lists/", ".npy", "large"], "route", x, "--top-k", 2, "--out", out, preexec_fn=tiny)
    after = {p.name: p.read_bytes() for p in out.iterdir()}
    c.verdict("a failed write leaves the old files and no other", None if before == after else "they changed")
    (out / "weights.npy").unlink()
    (out / "weights.npy").mkdir()
    c.fails(1, ["weights.npy", "no regular file"], "route", x, "--top-k", 2, "--out", out)
    (out / "weights.npy").rmdir()
    (out / "weights.npy").write_bytes(before["weights.npy"])
    after = {p.name: p.read_bytes() for p in out.iterdir()}
    c.verdict("what cannot take its name is found before any does", None if before == after else "they changed")
    plot = pathlib.Path(c.file("plot.svg", b"old"))
    c.fails(1, ["plot.svg", "large"], "decode", x, "--top-k", 2, "--plot", plot,
            preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                                resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))))
    c.verdict("a failed picture leaves the old one", None if plot.read_bytes() == b"old" and
              not list(c.folder.glob("plot.svg.*")) else "it changed")
    c.fails(1, [x, "directory"], "route", x, "--top-k", 2, "--out", x)
    c.fails(1, ["nowhere", "No such file"], "route", x, "--top-k", 2, "--out", c.folder / "nowhere" / "lists")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            done = c.run("route", x, "--top-k", 2, stdout=full)
        error = done.stderr.decode()
        c.verdict("a full standard output", None if done.returncode == 1 and error.count("\n") == 1 and
                  "standard output" in error else f"exit {done.returncode}: {error}")


def interrupted(c):
    """Ctrl-C at any moment: the lists of one run, and no other file."""
    x = c.file("x.npy", np.random.default_rng(3).normal(size=(30000, 64)).astype(np.float32))
    out = c.folder / "stopped"
    saved = lambda: {p.name: p.read_bytes() for p in out.iterdir()}
    runs = []
    for k in (1, 2):
        begin = time.perf_counter()
        c.works("route", x, "--top-k", k, "--out", out)
        seconds = time.perf_counter() - begin
        runs.append(saved())
    wrong = None
    for i in range(24):
        process = subprocess.Popen([*c.command, "route", str(x), "--top-k", str(1 + i % 2), "--out", str(out)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=c.environment)
        time.sleep(seconds * (i + 0.5) / 24)
        process.send_signal(signal.SIGINT)
        process.wait()
        if saved() not in runs:
            wrong = f"at {i} of 24: {sorted(p.name for p in out.iterdir())}"
    c.verdict("Ctrl-C leaves the lists of one run", wrong)
    reader = subprocess.Popen([*c.command, "models", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=c.environment)
    reader.stdout.close()
    reader.stderr.close()
    c.verdict("a pipe that nobody reads ends it", None if reader.wait(60) in (1, -signal.SIGPIPE) else reader.returncode)


def helps(c):
    c.works("--version")
    c.works("--help")
    c.works("info")
    c.works("info", "--shape", "128x64x8", "--score", "sigmoid", "--dtype", "bf16", "--threads", 2)
    for command in ("route", "info", "bench", "models"):
        text = c.works(command, "--help")
        long = [line for line in text.splitlines() if len(line) > 120]
        c.verdict(f"{command} --help fits 120 columns", long[0] if long else None)
    c.verdict("info --json", None if json.loads(c.works("info", "--json"))["compiled"] else "no kernels")
    plan = json.loads(c.works("info", "--json", "--shape", "128x64x8"))["plan"]
    c.verdict("info --json --shape", None if plan["max_selected"] == 1024 and plan["kernels"] else str(plan))
    # Odd names must still be JSON, and options that change nothing are remarked on.
    x = c.file('quo"te\\\t\x7fé.npy', np.zeros((0, 8), np.float32))
    report = json.loads(c.works("route", x, "--top-k", 2, "--json", "--eps", "1e-20", "--scope", "token", "--min", 1))
    c.verdict("json of no tokens", None if report["file"] == x and report["selected"] == 0 and
              len(report["notes"]) == 2 else str(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seqtopk")
    parser.add_argument("--wrapper", default="", help="run the command by way of this one (an emulator)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        c = Checks(shlex.split(args.wrapper) + [args.seqtopk], pathlib.Path(folder))
        for checks in (bad_files, bad_values, side_files, usage, choices, arithmetic, out_files, interrupted, helps):
            checks(c)
    print(f"{c.passed} passed, {c.failed} failed")
    return 1 if c.failed else 0


if __name__ == "__main__":
    sys.exit(main())
