#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`seqtopk bench`: check_bench.py SEQTOPK [--wrapper CMD]

What it reports must be whole and agree with itself, for people and for programs; wrong command lines must be told
apart. No time is ever compared with another. That the lists are the reference's is compared by the command itself.
"""

import argparse
import json
import os
import pathlib
import pty
import shlex
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the source tree stays as it is
from check_errors import Checks  # noqa: E402

TIMES = ("read_ns", "floor_ns", "route_ns", "route_permuted_ns", "reference_ns")
NAMES = ("read", "floor", "route", "permuted", "reference")
QUICK = ("--seconds", 0.01)


def floor_of(r):
    """What the router's keys need at least, as the report names it."""
    softmax = r["score"] == "softmax"
    if r["bias"]:
        made = {"softmax": "p + b", "logits": "x + b"}.get(r["score"], "s(x) + b")
    else:
        made = "the row's log-sum-exp" if softmax else ""
    if r["groups"] > 1:
        kept = "every group's two best added up" if r["group_score"] == "top2" else "every group's best"
    else:
        kept = "" if softmax and not r["bias"] else "the row's maximum"
    return " and ".join(filter(None, (made, kept)))


class Bench(Checks):
    def json(self, shape, top_k, *arguments, **options):
        """A run's JSON, after a look at all that holds for every run."""
        arguments = ("bench", "--shape", shape, "--top-k", top_k, *QUICK, "--json", *arguments)
        text = self.works(*arguments, **options)
        try:
            r = json.loads(text)
        except ValueError as error:
            self.verdict(f"{shlex.join(map(str, arguments))}: JSON", f"{error}: {text!r}")
            return {}
        tokens, experts = map(int, shape.split("x"))
        wrong = []
        if text.count("\n") != 1:
            wrong.append("not one line")
        if r["shape"] != [tokens, experts] or r["tokens"] != tokens or r["experts"] != experts or r["top_k"] != top_k:
            wrong.append(f"shape {r['shape']}, K {r['top_k']}")
        wrong += [f"no {key}" for key in ("version", "processor", "processors", "isa", "read_isa") if not r[key]]
        wrong += [f"{key} is {r[key]}" for key in TIMES if not isinstance(r[key], (int, float)) or r[key] <= 0]
        if [m["name"] for m in r["measured"]] != list(NAMES):
            wrong.append(f"measured: {[m['name'] for m in r['measured']]}")
        for m, key in zip(r["measured"], TIMES):
            if m["median_ns"] != r[key]:
                wrong.append(f"{key} is not the median of {m['name']}")
            if not 0 < m["quartile1_ns"] <= m["median_ns"] <= m["quartile3_ns"] or m["spread"] < 0:
                wrong.append(f"quartiles of {m['name']}")
            if m["samples"] < 1 or m["calls_per_sample"] < 1:
                wrong.append(f"samples of {m['name']}")
            rate = 1e9 * tokens * experts / r[key]
            for name, value in (("ns_per_token", r[key] / tokens), ("elements_per_second", rate),
                                ("floors", r[key] / r["floor_ns"])):
                if abs(m[name] / value - 1) > 1e-6:
                    wrong.append(f"{name} of {m['name']} is {m[name]}, not {value}")
        if r["floor"] != f"{floor_of(r)}, {r['isa']}":
            wrong.append(f"floor {r['floor']!r}, not {floor_of(r)!r}")
        lse = next(k["kernel"] for k in r["kernels"] if k["op"] == "lse")
        if r["floor_kernel"] != (lse if "log-sum-exp" in r["floor"] else None):
            wrong.append(f"floor_kernel {r['floor_kernel']}")
        if r["rounds"] < 1 or r["seconds"] <= 0:
            wrong.append("rounds or seconds")
        self.verdict(f"{shlex.join(map(str, arguments))}: report", "; ".join(wrong) or None)
        return r

    def holds(self, what, condition, seen=""):
        self.verdict(what, None if condition else f"does not hold: {seen}")


def reports(c):
    r = c.json("300x40", 8)
    c.holds("defaults", [r[key] for key in ("scope", "score", "norm", "dtype", "threads", "seed", "sequences", "bias")]
            == ["sequence", "softmax", "none", "f32", 1, 1, 1, False], r)
    for score in ("softmax", "sigmoid", "sqrtsoftplus", "logits"):
        for scope in ("sequence", "token"):
            for dtype in ("f32", "bf16", "f16"):
                r = c.json("70x33", 4, "--score", score, "--scope", scope, "--dtype", dtype)
                c.holds(f"{score} {scope} {dtype}", (r["score"], r["scope"], r["dtype"]) == (score, scope, dtype), r)
    for shape, top_k in (("1x1", 1), ("1x8", 8), ("7x1", 1), ("64x60", 60), ("2x1030", 3), ("513x16", 2)):
        for scope in ("sequence", "token"):
            c.json(shape, top_k, "--scope", scope, "--norm", "sum")
    r = c.json("600x130", 8, "--threads", 3)  # large enough to be cut
    c.holds("threads", [m["threads"] for m in r["measured"]] == [1, 1, 3, 3, 1], r)
    c.json("1x8", 2, "--threads", 1024)
    r = c.json("200x64", 8, "--min", 1, "--max", 10, "--sequences", 7, "--norm", "sum", "--eps", "1e-20",
               "--scale", 2.5, "--seed", 5, "--order", "rank")
    c.holds("settings", (r["min"], r["max"], r["sequences"], r["seed"], r["norm"], r["notes"])
            == (1, 10, 7, 5, "sum", []), r)
    r = c.json("100x64", 8, "--scope", "token", "--score", "sigmoid", "--biased", "--groups", 8, "--group-topk", 4,
               "--group-score", "top2", "--norm", "sum")
    c.holds("groups and bias", (r["groups"], r["group_top_k"], r["bias"]) == (8, 4, True), r)
    for scope in ("sequence", "token"):  # each floor of groups and biases, ends of rows and groups too
        for score in ("softmax", "sigmoid", "sqrtsoftplus", "logits"):
            for dtype in ("f32", "bf16"):
                for biased in ((), ("--biased",)):
                    c.json("33x72", 4, "--score", score, "--scope", scope, "--dtype", dtype, *biased)
                    for group_score in ("max", "top2"):
                        c.json("19x40", 4, "--score", score, "--scope", scope, "--dtype", dtype, "--groups", 4,
                               "--group-topk", 2, "--group-score", group_score, *biased)
    r = c.json("20x8", 2, "--scope", "token", "--min", 1, "--sequences", 2, "--eps", 1e-20)
    c.holds("notes", len(r["notes"]) == 3 and all("--" in note for note in r["notes"]), r)


def forcing(c):
    info = json.loads(c.works("info", "--json"))
    for isa in (i["name"] for i in info["isas"] if i["usable"]):
        r = c.json("40x64", 4, "--isa", isa)
        c.holds(f"--isa {isa}", r["isa"] == isa and f"__{isa}_" in r["floor_kernel"], r)
        for score in ("sigmoid", "softmax"):
            r = c.json("40x64", 4, "--isa", isa, "--score", score, "--biased")
            c.holds(f"--isa {isa} --score {score}", r["floor"].endswith(f" b and the row's maximum, {isa}"), r)
        r = c.json("40x64", 4, environment={"SEQTOPK_ISA": isa})
        c.holds(f"SEQTOPK_ISA={isa}", r["isa"] == isa, r)
    kernel = "seqtopk_lse_f32__ref_lanes16"
    r = c.json("40x64", 4, "--kernel", kernel)
    c.holds("--kernel", r["floor_kernel"] == kernel and r["isa"] == "ref", r)
    r = c.json("40x64", 4, environment={"SEQTOPK_KERNEL": kernel})
    c.holds("SEQTOPK_KERNEL", r["floor_kernel"] == kernel, r)


def models(c):
    known = [m["name"] for m in json.loads(c.works("models", "--json"))["models"]]
    c.holds("60 models", len(known) >= 60, known)
    for name in known:
        r = json.loads(c.works("bench", "--model", name, "--shape", 9, *QUICK, "--json"))
        c.holds(f"--model {name}", (r["model"], r["tokens"], r["notes"]) == (name, 9, [])
                and r["floor"] == f"{floor_of(r)}, {r['isa']}", r)
    model = lambda *more: json.loads(c.works("bench", "--shape", 33, *QUICK, "--json", *more))
    keys = ("experts", "top_k", "score", "bias", "groups", "group_top_k", "group_score", "norm")
    r = model("--model", "DeepSeek-V3")
    c.holds("deepseek-v3", [r[k] for k in keys] == [256, 8, "sigmoid", True, 8, 4, "top2", "sum"], r)
    r = model("--model", "longcat-flash")
    c.holds("longcat", r["model"] == "longcat" and [r[k] for k in keys]
            == [768, 12, "softmax", True, 1, 1, None, "none"], r)
    r = model("--model", "deepseek-v3", "--top-k", 4, "--groups", 4, "--group-topk", 2, "--norm", "softmax",
              "--score", "logits", "--scope", "token")
    c.holds("overridden", [r[k] for k in keys] == [256, 4, "logits", True, 4, 2, "max", "softmax"], r)
    c.works("bench", "--model", "qwen3", "--shape", "4x128", *QUICK)
    c.works("bench", "--model", "deepseek-v3", "--shape", 4, "--groups", 1, *QUICK)


def cold(c):
    for more in (("--shape", "60x64", "--top-k", 8), ("--model", "deepseek-v3", "--shape", 1, "--scope", "token")):
        r = json.loads(c.works("bench", *more, "--cold", *QUICK, "--json"))
        c.holds("--cold " + " ".join(map(str, more)), r["cold"] and [m["name"] for m in r["measured"]]
                == ["floor", "route"] and r["floor_ns"] > 0 and r["route_ns"] > 0 and r["read_ns"] is None
                and r["route_permuted_ns"] is None and r["reference_ns"] is None
                and all(m["calls_per_sample"] == 1 and m["samples"] >= 5 for m in r["measured"]), r)
    text = c.works("bench", "--shape", "60x64", "--top-k", 8, "--cold", *QUICK)
    c.holds("--cold as text", "64 MB" in text and "  route " in text and "  permuted " not in text, text)


def texts(c):
    text = c.works("bench", "--shape", "128x64", "--top-k", 8, *QUICK)
    for name in NAMES:
        lines = [line for line in text.splitlines() if line.split()[:1] == [name]]
        c.holds(f"{name}: a line of figures and a bar", len(lines) >= 2 and any("#" in line for line in lines), text)
    for word in ("processor", "128 tokens", "64 experts", "K 8", "seed 1", "floors", "spread", "seqtopk_lse_f32__"):
        c.holds(f"text has {word}", word in text, text)
    c.holds("text fits", max(map(len, text.splitlines())) <= 120, text)
    text = c.works("bench", "--shape", "16x64", "--top-k", 8, "--score", "sigmoid", *QUICK)
    c.holds("the floor of sigmoid is told", "floor      the row's maximum, " in text, text)
    text = c.works("bench", "--help")
    for word in ("--shape TxE", "--top-k K", "--scope", "--score", "--isa", "--dtype", "--threads", "--json",
                 "--seconds", "--seed", "--biased", "--sequences", "--model NAME", "--parity", "--cold", "route_permuted_ns", "reference_ns"):
        c.holds(f"help has {word}", word in text, text)
    c.holds("help fits", max(map(len, text.splitlines())) <= 120, text)


def progress(c):
    """Only a terminal sees it, and nothing of it stays."""
    try:
        main, side = pty.openpty()
    except OSError as error:  # a bare root without /dev/pts
        print(f"no terminal to try: {error}")
        return
    done = subprocess.run(c.command + ["bench", "--shape", "2048x64", "--top-k", "8", "--seconds", "1.1", "--json"],
                          stdout=subprocess.PIPE, stderr=side, env=c.environment)
    os.close(side)
    shown = b""
    try:
        while chunk := os.read(main, 4096):
            shown += chunk
    except OSError:  # the other side is closed
        pass
    os.close(main)
    c.holds("progress", done.returncode == 0 and json.loads(done.stdout) and shown.endswith(b"\r\x1b[K")
            and b"%" in shown and b"\n" not in shown, shown)


def usage(c):
    fails = lambda words, *arguments: c.fails(2, words, "bench", *arguments)
    shaped = lambda words, *arguments: fails(words, "--shape", "16x8", "--top-k", 2, *arguments)
    fails(["--shape", "missing", "--help"], "--top-k", 2)
    fails(["--top-k", "missing", "--help"], "--shape", "16x8")
    for bad in ("16", "16x", "x8", "16x8x2", "0x8", "16x0", "16x65537", "-16x8", "16X8", "16 x 8", "2147483648x8",
                "axb", "1e3x8", "99999999999999999999x8"):
        fails(["--shape", "TxE", f"'{bad}'"], "--shape", bad, "--top-k", 2)
    fails(["--top-k 9", "8 experts"], "--shape", "16x8", "--top-k", 9)
    fails(["--shape", "int32", "fewer"], "--shape", "2147483647x8", "--top-k", 2)
    fails(["--model", "'deepseek'", "deepseek-v3", "seqtopk models"], "--model", "deepseek", "--shape", 16)
    fails(["--shape 16x8", "--model deepseek-v3 has 256", "--shape 16,"], "--model", "deepseek-v3", "--shape", "16x8")
    fails(["--shape", "missing"], "--model", "deepseek-v3")
    fails(["--shape", "'16x'"], "--model", "deepseek-v3", "--shape", "16x")
    fails(["--shape", "TxE", "--model"], "--shape", 16, "--top-k", 2)
    fails(["--top-k 129", "128 experts"], "--model", "qwen3", "--shape", 16, "--top-k", 129)
    fails(["--group-topk", "--groups"], "--model", "qwen3", "--shape", 16, "--group-topk", 2)
    fails(["--groups", "--group-topk"], "--model", "deepseek-v3", "--shape", 16, "--groups", 4)
    shaped(["--cold", "no value"], "--cold=1")
    shaped(["--sequences 17", "16 tokens"], "--sequences", 17)
    shaped(["--sequences", "'0'"], "--sequences", 0)
    for bad in ("0", "-1", "inf", "soon", "3601"):
        shaped(["--seconds", f"'{bad}'"], "--seconds", bad)
    for bad in ("-1", "1.5", "x"):
        shaped(["--seed", f"'{bad}'"], f"--seed={bad}")
    for flag, bad in (("--scope", "row"), ("--score", "relu"), ("--dtype", "f64"), ("--threads", "0"),
                      ("--threads", "1025"), ("--norm", "l2")):
        shaped([flag, f"'{bad}'"], flag, bad)
    shaped(["nosuch"], "--isa", "nosuch")
    shaped(["nosuch"], "--kernel", "nosuch")
    shaped(["--min 3", "--top-k 2"], "--min", 3)
    shaped(["--groups", "--group-topk"], "--groups", 4)
    shaped(["--second", "--seconds"], "--second", 1)
    shaped(["--json", "no value"], "--json=yes")
    shaped(["one word too many", "more"], "more")
    shaped(["--seed", "twice"], "--seed", 1, "--seed", 2)
    c.fails(2, ["'benhc'", "bench"], "benhc")
    c.fails(1, ["--shape", "memory", "fewer"], "bench", "--shape", "1000000000x65536", "--top-k", 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seqtopk")
    parser.add_argument("--wrapper", default="", help="run the command by way of this one (an emulator)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        c = Bench(shlex.split(args.wrapper) + [args.seqtopk], pathlib.Path(folder))
        for checks in (reports, forcing, models, cold, texts, progress, usage):
            checks(c)
    print(f"{c.passed} passed, {c.failed} failed")
    return 1 if c.failed else 0


if __name__ == "__main__":
    sys.exit(main())
