#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`seqtopk route` against the oracle: check_route.py SEQTOPK [--seed N] [--cases N] [--isa NAME] ...

Runs the command on the recorded router logits and on random ones, over all combinations of settings that make sense,
and compares all six files. Prints the seed and every failure with the command to repeat it.
"""

import argparse
import itertools
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True  # the source tree stays as it is
import oracle  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
TRAINED = HERE.parent / "data" / "trained-e64-k8-layer1.npy"
SCORES = ("softmax", "sigmoid", "sqrtsoftplus", "logits")
FILES = ("token_offsets", "expert_ids", "weights", "expert_offsets", "expert_tokens", "expert_slots")
NORMS = ({}, {"norm": "none"}, {"norm": "sum"}, {"norm": "sum", "eps": 1e-20, "scale": 2.5},
         {"norm": "softmax", "scale": 0.5}, {"norm": "sum", "floor": 1e-12},
         {"norm": "sum", "floor": 0.75, "eps": 0.25}, {"norm": "none", "scale": 16.0},
         {"norm": "sum", "skip_top1": True}, {"norm": "softmax"})
FLAGS = {"top_k": "--top-k", "scope": "--scope", "score": "--score", "norm": "--norm", "eps": "--eps",
         "floor": "--floor", "scale": "--scale", "min": "--min", "max": "--max", "groups": "--groups",
         "group_top_k": "--group-topk", "group_score": "--group-score", "group_n": "--group-n", "order": "--order"}


def to_bf16(x):
    """Rounds float32 to bfloat16, to even: the bits as uint16 and the values as float32."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


class Runner:
    def __init__(self, command, folder, isas, kernels, environment, keep):
        self.command, self.folder, self.isas, self.kernels = command, folder, isas, kernels
        self.environment, self.keep = environment, keep
        self.count = {"exact": 0, "near tie": 0, "wrong": 0}
        self.forced = dict.fromkeys(kernels, 0)

    def arguments(self, logits, settings, rng):
        """Files and flags of one case, and the same as the oracle takes it."""
        for old in self.folder.glob("*.npy"):
            old.unlink()
        flags, stored, values = [], logits, logits
        dtype = settings.pop("dtype", "f32")
        if dtype == "f16":
            stored = logits.astype(np.float16)
            values = stored.astype(np.float32)
        elif dtype == "bf16":
            stored, values = to_bf16(logits)
            flags += ["--dtype", "bf16"]
        threads = settings.pop("threads", 1)
        ragged = settings.pop("ragged", None)
        problem = oracle.Problem(values, **{k: v for k, v in settings.items() if k != "shape3"})
        shape3 = settings.pop("shape3", None)
        if shape3:
            stored = stored.reshape(*shape3, stored.shape[-1])
            problem.lengths = [shape3[1]] * shape3[0]
        np.save(self.folder / "logits.npy", stored)
        if ragged is not None and problem.lengths is not None:
            if ragged == "cu_seqlens":
                offsets = np.r_[0, np.cumsum(problem.lengths)].astype(rng.choice([np.int32, np.int64]))
                np.save(self.folder / "cu.npy", offsets)
                flags += ["--cu-seqlens", str(self.folder / "cu.npy")]
            else:
                flags += ["--lengths", ",".join(map(str, problem.lengths))]
        if problem.mask is not None:
            mask = problem.mask.reshape(shape3) if shape3 and rng.random() < 0.5 else problem.mask
            np.save(self.folder / "mask.npy", mask.astype(rng.choice([np.bool_, np.uint8, np.int32, np.int64])))
            flags += ["--mask", str(self.folder / "mask.npy")]
        if problem.bias is not None:
            np.save(self.folder / "bias.npy", problem.bias)
            flags += ["--bias", str(self.folder / "bias.npy")]
        for name, flag in FLAGS.items():
            if name in settings:
                flags += [flag, repr(settings[name]) if isinstance(settings[name], float) else str(settings[name])]
        if settings.get("skip_top1"):
            flags.append("--norm-skip-top1")
        if threads > 1:
            flags += ["--threads", str(threads)]
        return flags, problem

    def case(self, logits, settings, rng):
        flags, problem = self.arguments(logits, dict(settings), rng)
        number = sum(self.count.values())
        if self.isas:
            flags += ["--isa", self.isas[number % len(self.isas)]]
        if number % 5 == 4:
            flags += ["--way", "staged"]
        kernel = self.next_kernel(settings.get("dtype", "f32"), problem) if number % 4 else None
        out = self.folder / "out"
        command = self.command + ["route", str(self.folder / "logits.npy"), "--out", str(out), "--json"] + flags
        verdict, why = self.run(command, kernel, problem, out)
        self.count[verdict] += 1
        if verdict == "wrong":
            prefix = f"SEQTOPK_KERNEL={kernel} " if kernel else ""
            shape = "x".join(map(str, problem.logits.shape))
            line = shlex.join(command)
            if self.keep:
                kept = pathlib.Path(self.keep) / f"case-{number}"
                shutil.copytree(self.folder, kept, dirs_exist_ok=True)
                line = line.replace(str(self.folder), str(kept))
            print(f"FAILED case {number} ({shape}): {why}\n    {prefix}{line}", flush=True)

    def next_kernel(self, dtype, problem):
        """Of the kernels that this case may run, the one that was forced least."""
        grouped = problem.groups > 1
        fits = {"collect_logits": problem.scope == "sequence" and not grouped,
                "topk_logits": problem.scope == "token" and not grouped and problem.top_k <= 16}
        mine = [name for name, (op, of) in self.kernels.items()
                if fits.get(op, True) and (of == dtype or op not in fits)]
        return min(mine, key=self.forced.get, default=None)

    def run(self, command, kernel, problem, out):
        # Where the plan has no use for the kernel, forcing it is an error; main() sees to it that not all cases are so.
        environment = dict(self.environment)
        if kernel:
            environment["SEQTOPK_KERNEL"] = kernel
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if kernel and done.returncode == 2 and kernel in done.stderr:
            kernel = None
            done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            return "wrong", f"exit {done.returncode}: {done.stderr.strip()}"
        if done.stderr:
            return "wrong", f"standard error: {done.stderr.strip()}"
        if kernel:
            self.forced[kernel] += 1
            if kernel not in [k["kernel"] for k in json.loads(done.stdout)["kernels"]]:
                return "wrong", "the forced kernel is not the one that ran"
        files = {name: np.load(out / f"{name}.npy") for name in FILES}
        verdict, why = oracle.check(problem, files)
        return (verdict, why) if verdict == "wrong" else self.report(problem, files, done.stdout) or (verdict, "")

    @staticmethod
    def report(problem, files, text):
        """The JSON report must agree with the files; returns None if it does."""
        report = json.loads(text)
        sequences = report["sequences"] if problem.scope == "sequence" else 1
        if len(problem.logits) and sum(w["sequences"] for w in report["ways"]) != sequences:
            return "wrong", f"not every sequence has a way: {report['ways']}"
        unmasked = oracle.unmasked(problem)
        per_token = np.diff(files["token_offsets"])
        want = {
            "tokens": len(problem.logits), "experts": problem.logits.shape[1], "selected": len(files["expert_ids"]),
            "budget": int(unmasked.sum()) * problem.top_k, "masked": int((~unmasked).sum()),
            "tokens_per_expert": np.diff(files["expert_offsets"]).tolist(),
            "tokens_with_experts": np.bincount(per_token[unmasked], minlength=1).tolist(),
            "tokens_without_expert": int((per_token[unmasked] == 0).sum()),
        }
        for name, value in want.items():
            if report[name] != value:
                return "wrong", f"--json says {name} {report[name]}, the files {value}"
        return None


def ragged_lengths(rng, tokens):
    """Uneven lengths that add up, an empty one among them."""
    cuts = np.sort(rng.integers(0, tokens + 1, rng.integers(1, 6)))
    lengths = np.diff(np.r_[0, cuts, tokens]).tolist()
    lengths.insert(int(rng.integers(0, len(lengths) + 1)), 0)
    return lengths


def scopes(top_k, experts):
    yield {"scope": "token"}
    yield {"scope": "sequence"}
    yield {"scope": "sequence", "min": 1}
    yield {"scope": "sequence", "max": min(top_k + 2, experts)}
    yield {"scope": "sequence", "min": 1, "max": top_k + 2}
    yield {"scope": "sequence", "min": top_k}
    yield {"scope": "sequence", "max": max(1, top_k - 1)}
    yield {"scope": "sequence", "min": top_k // 2, "max": top_k}


def groupings(top_k, experts):
    yield {}
    for groups, keep in ((8, 3), (4, 2), (2, 1), (experts, (experts + 1) // 2), (1, 1)):
        if experts % groups == 0 and keep <= groups:
            for score in ("max", "top2", "topn"):
                grouping = {"groups": groups, "group_top_k": keep, "group_score": score}
                if score == "topn" and experts // groups >= 3:
                    grouping["group_n"] = 3
                adds = {"max": 1, "top2": 2, "topn": grouping.get("group_n") or max(1, top_k // keep)}[score]
                if groups == 1 or adds <= experts // groups:
                    yield grouping


def bias_for(rng, experts):
    bias = rng.normal(0, 0.2, experts).astype(np.float32)
    if experts > 2 and rng.random() < 0.3:
        bias[rng.integers(0, experts)] = -np.inf
    return bias


def extras(rng, tokens, number):
    """What every case varies besides its own point: norm, lengths, mask, threads, order."""
    settings = dict(NORMS[number % len(NORMS)])
    if number % 3 == 1:
        settings.update(lengths=ragged_lengths(rng, tokens), ragged=("lengths", "cu_seqlens")[number // 3 % 2])
    if number % 4 == 2:
        settings["mask"] = rng.random(tokens) < 0.8
    if number % 5 == 3:
        settings["threads"] = int(rng.integers(2, 6))
    if number % 7 == 4:
        settings["order"] = "rank"
    return settings


def trained(run, rng):
    logits = np.load(TRAINED)
    logits = logits.reshape(-1, logits.shape[-1])
    experts = logits.shape[1]
    points = itertools.product(SCORES, scopes(8, experts), (False, True), ({}, *(
        {"groups": 8, "group_top_k": 3, "group_score": s} for s in ("max", "top2", "topn"))))
    for number, (score, scope, biased, groups) in enumerate(points):
        settings = {"top_k": 8, "score": score, **scope, **groups, **extras(rng, len(logits), number)}
        settings["dtype"] = ("f32", "f32", "bf16", "f16")[number % 4]
        if biased:
            settings["bias"] = bias_for(rng, experts)
        if "lengths" not in settings and number % 6 == 0:
            settings["shape3"] = (len(logits) // 512, 512)
        run.case(logits, settings, rng)


def random_logits(rng, tokens, experts):
    kind = rng.integers(0, 9)
    x = rng.normal(0, (0.1, 1, 2, 5)[rng.integers(0, 4)], (tokens, experts))
    if kind == 1:
        x = np.round(x)                                  # ties everywhere
    elif kind == 2:
        x[rng.random(x.shape) < 0.2] = -np.inf
    elif kind == 3:
        x[:] = x.flat[0] if x.size else 0                # nothing but ties
    elif kind == 4:
        x += rng.choice([-1000.0, 1000.0, 60.0])         # a large common offset
    elif kind == 5:
        x[rng.random(tokens) < 0.3] = -np.inf            # rows without a candidate
    elif kind == 6:
        x = rng.choice([0.0, -0.0, 0.25], x.shape)       # -0 equals +0
    elif kind == 7 and tokens:
        x[:] = x[rng.integers(0, max(1, tokens // 3), tokens)]  # equal rows
    return x.astype(np.float32)


ALL_CASES = 1200  # so many reach every kernel

SHAPES = ((1, 1, 1), (7, 3, 2), (16, 8, 2), (33, 60, 4), (64, 128, 8), (20, 512, 10), (5, 768, 12), (6, 1030, 3),
          (3, 4096, 16), (40, 16, 16), (0, 8, 2), (3, 17, 17), (257, 4, 1), (12, 2, 1), (50, 15, 5), (31, 33, 7),
          (128, 32, 8), (300, 256, 8), (1100, 60, 4), (700, 130, 5))  # the last are long enough to be swept


def synthetic(run, rng, cases):
    points = []
    for tokens, experts, top_k in SHAPES:
        points += [((tokens, experts, top_k), *rest) for rest in itertools.product(
            SCORES, scopes(top_k, experts), (False, True), groupings(top_k, experts))]
    points = [p for p in points if p[2].get("min", 0) <= p[2].get("max", 65536)]
    for number, i in enumerate(rng.permutation(len(points))[:cases]):
        (tokens, experts, top_k), score, scope, biased, groups = points[i]
        settings = {"top_k": top_k, "score": score, **scope, **groups, **extras(rng, tokens, number)}
        settings["dtype"] = ("f32", "f32", "f32", "bf16", "f16")[rng.integers(0, 5)]
        if biased:
            settings["bias"] = bias_for(rng, experts)
        if "lengths" not in settings and tokens % 4 == 0 and rng.random() < 0.3:
            settings["shape3"] = (4, tokens // 4)
        logits = random_logits(rng, tokens, experts)
        if "mask" in settings and tokens:
            logits[np.argwhere(~settings["mask"]).reshape(-1)[:1]] = np.nan  # a masked row is not looked at
        run.case(logits, settings, rng)


def margins(command, environment, folder, rng):
    """--margins: of logits as keys, the last of each sequence's budget less the next."""
    logits, lengths = rng.standard_normal((60, 12)).astype(np.float32), (20, 1, 39)
    np.save(folder / "x.npy", logits)
    out = json.loads(subprocess.run(
        command + ["route", str(folder / "x.npy"), "--top-k", "3", "--score", "logits", "--lengths", "20,1,39", "--margins",
                   "--json", "--out", str(folder / "margins")], capture_output=True, text=True, check=True,
        env=environment).stdout)
    right, begin = [], 0
    for length in lengths:
        keys = np.sort(logits[begin:begin + length].ravel())[::-1]
        right.append(keys[3 * length - 1] - keys[3 * length])
        begin += length
    found = np.load(folder / "margins" / "sequence_margins.npy")
    good = found.dtype == np.float32 and np.array_equal(found, np.array(right, np.float32))
    return good and np.float32(out["least_margin"]) == found.min()


def factors(command, environment, folder, rng):
    """--factors: the same experts, each with its weight times its factor."""
    np.save(folder / "logits.npy", rng.normal(0, 1, (50, 12)).astype(np.float32))
    by = rng.normal(1, 0.5, 12).astype(np.float32)
    np.save(folder / "factors.npy", by)
    lists = []
    for number, flags in enumerate(([], ["--factors", str(folder / "factors.npy")])):
        out = folder / f"factors-{number}"
        done = subprocess.run(command + ["route", str(folder / "logits.npy"), "--top-k", "3", "--scope", "token", "--norm",
                                         "sum", "--out", str(out)] + flags, capture_output=True, env=environment)
        if done.returncode:
            return False
        lists.append([np.load(out / name) for name in ("expert_ids.npy", "weights.npy")])
    (ids, weights), (same_ids, multiplied) = lists
    return (ids == same_ids).all() and (weights * by[ids] == multiplied).all()


def of_tokens(folder, tokens):
    """What each of these tokens was given: ids and weights."""
    offsets, ids, weights = (np.load(folder / f"{name}.npy") for name in FILES[:3])
    return [(ids[offsets[t]:offsets[t + 1]].tolist(), weights[offsets[t]:offsets[t + 1]].tolist()) for t in tokens]


def token_seq(command, environment, folder, rng):
    """--token-seq: in any order each token is given what it is where sequences follow one another, and a row that
    --on-nonfinite drops is as good as masked."""
    lengths = [17, 1, 40, 0, 6]
    logits = rng.normal(0, 1, (sum(lengths), 24)).astype(np.float32)
    bad = [3, 30]
    logits[bad[0], 5], logits[bad[1]] = np.nan, np.inf
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    shuffled = rng.permutation(sequence)
    rows = np.empty_like(sequence)  # where each row of the shuffled batch was
    for s in range(len(lengths)):
        rows[shuffled == s] = np.flatnonzero(sequence == s)
    mask = np.ones(len(logits), bool)
    mask[bad] = False
    files = {"logits": logits, "shuffled": logits[rows], "mask": mask, "seq": shuffled.astype(rng.choice([np.int32, np.int64]))}
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array)
    outs = []
    for name, flags in (("logits", ["--lengths", ",".join(map(str, lengths)), "--mask", str(folder / "mask.npy")]),
                        ("shuffled", ["--token-seq", str(folder / "seq.npy"), "--on-nonfinite", "drop"])):
        out = folder / f"token-seq-{name}"
        done = subprocess.run(command + ["route", str(folder / f"{name}.npy"), "--top-k", "4", "--min", "1", "--max", "6",
                                         "--json", "--out", str(out)] + flags, capture_output=True, text=True, env=environment)
        if done.returncode:
            return False
        outs.append((out, json.loads(done.stdout)))
    (right, masked), (found, dropped) = outs
    return (of_tokens(right, rows) == of_tokens(found, range(len(rows))) and dropped["dropped"] == 2 and
            masked["masked"] == 2 and dropped["sequences"] == 5 and
            all(masked[name] == dropped[name] for name in ("budget", "selected", "tokens_with_experts")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seqtopk")
    parser.add_argument("--seed", type=int, default=20251111)
    parser.add_argument("--cases", type=int, default=ALL_CASES, help="of the random ones")
    parser.add_argument("--isa", help="this one only; default: all usable in turn")
    parser.add_argument("--wrapper", default="", help="run the command by way of this one (an emulator)")
    parser.add_argument("--keep", metavar="DIR", help="copy the input of failing cases there")
    args = parser.parse_args()
    print(f"seed {args.seed}")

    command = shlex.split(args.wrapper) + [args.seqtopk]
    environment = {k: v for k, v in os.environ.items() if k not in ("SEQTOPK_ISA", "SEQTOPK_KERNEL")}
    info = json.loads(subprocess.run(command + ["info", "--json"], capture_output=True, text=True, check=True,
                                     env=environment).stdout)
    isas = [args.isa] if args.isa else [i["name"] for i in info["isas"] if i["usable"]]
    # Stages with several algorithms: all are forced in turn, and none now and then.
    rows = [(k["op"], k["dtype"], k["isa"]) for k in info["compiled"]]
    kernels = {k["name"]: (k["op"], k["dtype"]) for k, row in zip(info["compiled"], rows)
               if k["usable"] and rows.count(row) > 1}
    print(f"instruction sets {' '.join(isas)}; kernels forced in turn: {' '.join(kernels)}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        run = Runner(command, pathlib.Path(folder), isas, kernels, environment, args.keep)
        rng = np.random.default_rng(args.seed)
        trained(run, rng)
        synthetic(run, rng, args.cases)
        if not margins(command, environment, run.folder, rng):
            print("FAILED: --margins")
            run.count["wrong"] += 1
        if not factors(command, environment, run.folder, rng):
            print("FAILED: --factors")
            run.count["wrong"] += 1
        if not token_seq(command, environment, run.folder, rng):
            print("FAILED: --token-seq, --on-nonfinite")
            run.count["wrong"] += 1
    count = run.count
    for kernel, cases in run.forced.items():
        print(f"{kernel} was forced in {cases} cases")
        if not cases and args.cases >= ALL_CASES:  # a smaller sample need not reach all; tests/check.c does
            print(f"FAILED: {kernel} never ran")
            count["wrong"] += 1
    passed = count["exact"] + count["near tie"]
    print(f"{sum(count.values())} cases: {count['exact']} exact, {count['near tie']} at near ties")
    print(f"{passed} passed, {count['wrong']} failed")
    return 1 if count["wrong"] or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
