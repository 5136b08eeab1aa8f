#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`seqtopk models` and --model: check_models.py SEQTOPK [--wrapper CMD]

The list in all its forms; that --model is what its row's numbers are when typed as options, to the bit; and some
routers, typed here from their publications, against the oracle.
"""

import argparse
import json
import pathlib
import shlex
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True  # the source tree stays as it is
import oracle  # noqa: E402
from check_errors import FILES, Checks  # noqa: E402

DOCS = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "models.md"
PARITIES = ("hf", "vllm", "llama.cpp")
FLOOR = 2.0 ** -14

# From the publications, not from the list: what transformers computes, as the oracle takes it.
SUM20 = {"norm": "sum", "eps": 1e-20}
V3_GROUPS = {"groups": 8, "group_top_k": 4, "group_score": "top2"}
BY_HAND = {
    "deepseek-v3": (256, 8, True, {"score": "sigmoid", "scale": 2.5, **SUM20, **V3_GROUPS}),
    "deepseek-v2": (160, 6, False, {"norm": "none", "scale": 16.0, "groups": 8, "group_top_k": 3}),
    "deepseek-v4": (256, 6, True, {"score": "sqrtsoftplus", "scale": 1.5, **SUM20}),
    "kimi-k3": (896, 16, True, {"score": "sigmoid", **SUM20}),
    "glm-4.5": (160, 8, True, {"score": "sigmoid", "scale": 2.5, **SUM20}),
    "nemotron-3-super": (512, 22, True, {"score": "sigmoid", "scale": 5.0, **SUM20}),
    "minimax-m2": (256, 8, True, {"score": "sigmoid", "norm": "sum"}),
    "lfm2-8b": (32, 4, True, {"score": "sigmoid", "norm": "sum", "eps": 1e-6}),
    "ernie-4.5": (64, 6, True, {"norm": "sum", "floor": 1e-12}),
    "mixtral": (8, 2, False, {"norm": "sum"}),
    "qwen2-moe": (60, 4, False, {"norm": "none"}),
    "gpt-oss": (128, 4, False, {"score": "logits", "norm": "softmax"}),
    "llama-4-scout": (16, 1, False, {"score": "sigmoid", "norm": "none"}),
}


class Models(Checks):
    def holds(self, what, condition, seen=""):
        self.verdict(what, None if condition else f"does not hold: {seen}")

    def rows(self, *arguments):
        return json.loads(self.works("models", "--json", *arguments))["models"]

    def routed(self, *arguments):
        """The lists of a route, by name."""
        out = self.folder / "out"
        self.works("route", *arguments, "--out", out)
        return {name: np.load(out / name) for name in FILES}

    def logits(self, experts, tokens=24):
        rng = np.random.default_rng(experts)
        x = rng.normal(0, 2, (tokens, experts)).astype(np.float32)
        b = rng.normal(0, 0.05, experts).astype(np.float32)
        return x, b, self.file("x.npy", x), self.file("b.npy", b)


def listing(c):
    by_parity = {p: c.rows("--parity", p) for p in PARITIES}
    rows = by_parity["hf"]
    c.holds("hf is the default", rows == c.rows())
    c.holds("60 models", len(rows) >= 60, len(rows))
    names = [n.lower() for r in rows for n in (r["name"], r["also"]) if n]
    c.holds("names are unique", len(names) == len(set(names)))
    for p in PARITIES[1:]:
        differing = {k for a, b in zip(rows, by_parity[p]) for k in a if a[k] != b[k]}
        c.holds(f"{p} differs in the guard alone", differing <= {"eps", "floor", "norm_skip_top1"}, differing)
    c.holds("vLLM guards nothing", all(r["eps"] == r["floor"] == 0 for r in by_parity["vllm"]))
    c.holds("llama.cpp clamps every sum", all(
        (r["eps"], np.float32(r["floor"])) == (0, FLOOR if r["norm"] == "sum" else 0) for r in by_parity["llama.cpp"]))
    c.holds("numbers are as typed", {r["eps"] for r in rows} == {0, 1e-20, 1e-6, 1e-15}, {r["eps"] for r in rows})
    single = [r["name"] for r in rows if r["second_source"] is None]
    c.holds("every row has a source, and some one only", all(r["source"] and r["numbers"] for r in rows) and single)

    text = c.works("models")
    lines = text.splitlines()
    c.holds("the table has every model", [line.split()[0] for line in lines[1:1 + len(rows)]] == [r["name"] for r in rows])
    c.holds("the table fits", max(map(len, lines)) <= 120 and not any(line != line.rstrip() for line in lines), text)
    c.holds("the table tells how many", f"{len(rows)} models" in lines[-1], lines[-1])
    for r in rows:
        words = next(line for line in lines if line.startswith(r["name"] + " ")).split()
        c.holds(f"the table on {r['name']}", words[1:4] == [str(r["experts"]), str(r["top_k"]), r["score"]]
                and ("1" if r["name"] in single else "2") in words[-2:] and r["norm"] in words, words)
    c.holds("another parity in the table", "6.1035156e-05" not in text
            and "6.1035156e-05" in c.works("models", "--parity", "llama.cpp"))

    text = c.works("models", "DEEPSEEK-r1", "--parity", "llama.cpp")
    for word in ("deepseek-v3, or deepseek-r1", "256", "sigmoid + bias", "4 of 8, top2", "6.1035156e-05", "2.5",
                 "transformers 5.24", "llama.cpp"):
        c.holds(f"one model tells {word}", word in text, text)
    for r in rows:
        text = c.works("models", r["name"])
        c.holds(f"{r['name']} tells its sources", all(r[k] is None or r[k] in text for k in (
            "source", "numbers", "second_source", "note", "also")), text)
        c.holds(f"{r['name']} alone", c.rows(r["name"]) == [r])
        c.holds(f"{r['name']} by its other name", r["also"] is None or c.rows(r["also"].upper()) == [r])
    c.holds("help fits", max(map(len, c.works("models", "--help").splitlines())) <= 120)
    for command in ("route", "info", "bench"):
        text = c.works(command, "--help")
        c.holds(f"{command} --help", all(w in text for w in ("--model NAME", "--parity", "seqtopk models")), text)


def documented(c):
    """docs/models.md has the table as the command writes it."""
    table = c.works("models", "--markdown")
    c.holds("docs/models.md is up to date (seqtopk models --markdown)", table in DOCS.read_text())


def flags_of(r):
    flags = ["--top-k", r["top_k"], "--score", r["score"], "--norm", r["norm"], "--scale", r["scale"]]
    if r["norm"] == "sum":
        flags += ["--eps", r["eps"], "--floor", r["floor"]]
    if r["groups"] > 1:
        flags += ["--groups", r["groups"], "--group-topk", r["group_top_k"], "--group-score", r["group_score"]]
    if r["group_quota"]:
        flags += ["--group-quota", r["group_quota"]]
    if r["logit_scale"] != 1:
        flags += ["--logit-scale", r["logit_scale"]]
    if r["softcap"]:
        flags += ["--softcap", r["softcap"]]
    if r["jitter"]:
        flags += ["--jitter", r["jitter"]]
    flags += ["--key", r["key"], "--null-experts", r["null_experts"], "--shared-experts", r["shared_experts"]]
    return flags + (["--norm-skip-top1"] if r["norm_skip_top1"] else [])


def token_scope(r, x, b):
    """A published router on float64 [T, E], one token after the other, as its class computes it: for each token a dict of
    expert and weight, and how near the choice was to another one."""
    x = x.astype(np.float64)
    shared, null = r["shared_experts"], r["null_experts"]
    competing = x.shape[1] - shared
    y = r["logit_scale"] * x
    if r["softcap"]:
        y = r["softcap"] * np.tanh(y / r["softcap"])
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    score = {"softmax": lambda z: np.exp(z - z.max()) / np.exp(z - z.max()).sum(), "sigmoid": sigmoid,
             "sqrtsoftplus": lambda z: np.sqrt(np.log1p(np.exp(z))), "logits": lambda z: z}[r["score"]]
    for row in y:
        s = score(row)
        key = (row if r["key"] == "logit" else s)[:competing] + (b if r["bias"] else 0)
        alive, gap = np.ones(competing, bool), np.inf
        if r["groups"] > 1:
            of = key.reshape(r["groups"], -1)
            best = -np.sort(-of, axis=1)
            worth = best[:, 0] if r["group_score"] == "max" else best[:, 0] + best[:, 1]
            order = np.argsort(-worth, kind="stable")
            kept = r["group_top_k"]
            gap = worth[order[kept - 1]] - worth[order[kept]] if kept < r["groups"] else np.inf
            alive = np.repeat(np.isin(np.arange(r["groups"]), order[:kept]), of.shape[1])
            if r["group_quota"]:
                place = np.argsort(np.argsort(-of, axis=1, kind="stable"), axis=1, kind="stable")
                alive &= (place < r["group_quota"]).reshape(-1)
                gap = min(gap, (best[:, r["group_quota"] - 1] - best[:, r["group_quota"]]).min())
        order = [e for e in np.argsort(-key, kind="stable") if alive[e]]
        chosen = order[:r["top_k"]]
        if len(order) > len(chosen):
            gap = min(gap, key[order[len(chosen) - 1]] - key[order[len(chosen)]])
        all_ = chosen + list(range(competing, competing + shared))
        if r["norm"] == "sparsemixer":
            rest, weights = list(row), []
            for e in chosen:
                m = row[e]
                others = np.array(rest)
                far = (m - others) / np.maximum(np.abs(others), m) - 2 * r["jitter"]
                gap = min(gap, np.abs(far).min())
                weights.append(1 / np.exp(others[far <= 0] - m).sum())
                rest.remove(m)
            w = np.array(weights)
        else:
            w = s[all_]
            if r["norm"] == "softmax":
                w = np.exp(w - w.max()) / np.exp(w - w.max()).sum()
            elif r["norm"] == "sum":
                w = w / max(w.sum() + r["eps"], r["floor"])
        w = w * r["scale"]
        listed = {e: v for e, v in zip(all_, w) if e < competing - null or e >= competing}
        yield listed, sum(v for e, v in zip(all_, w) if competing - null <= e < competing), gap


def each_in_numpy(c):
    """Every model of the list, token by token, by an implementation that shares nothing with the library."""
    for r in c.rows():
        x, b, x_file, _ = c.logits(r["experts"])
        b = b[:r["experts"] - r["shared_experts"]]
        found = c.routed(x_file, "--model", r["name"], "--scope", "token",
                         *(["--bias", c.file("b.npy", b)] if r["bias"] else []))
        offsets, ids, weights = (found[n] for n in ("token_offsets.npy", "expert_ids.npy", "weights.npy"))
        null = np.load(c.folder / "out" / "null_weights.npy") if r["null_experts"] else np.zeros(len(x))
        wrong = []
        for t, (listed, absent, gap) in enumerate(token_scope(r, x, b)):
            own = dict(zip(ids[offsets[t]:offsets[t + 1]].tolist(), weights[offsets[t]:offsets[t + 1]].tolist()))
            if gap > 1e-5 and own.keys() != listed.keys():
                wrong.append((t, "ids", sorted(own), sorted(listed)))
            elif gap > 1e-5 and not (all(abs(own[e] - v) <= 1e-5 * abs(v) + 1e-9 for e, v in listed.items())
                                     and abs(null[t] - absent) <= 1e-5 * abs(absent) + 1e-9):
                wrong.append((t, "weights", own, listed, null[t], absent))
        c.holds(f"{r['name']} as its class computes it", not wrong, wrong[:1])


def as_typed(c):
    for number, r in enumerate(c.rows()):
        _, bias, x, _ = c.logits(r["experts"])
        b = c.file("b.npy", bias[:r["experts"] - r["shared_experts"]])
        for parity in PARITIES if number % 6 == 0 else PARITIES[number % 3:number % 3 + 1]:
            more = ["--scope", ("token", "sequence")[number % 2]] + (["--bias", b] if r["bias"] else [])
            row = c.rows(r["name"], "--parity", parity)[0]
            typed, named = c.routed(x, *flags_of(row), *more), c.routed(x, "--model", r["name"], "--parity", parity, *more)
            c.holds(f"--model {r['name']} --parity {parity} is what it says",
                    all(np.array_equal(typed[name], named[name]) for name in FILES))


def by_hand(c):
    for name, (experts, top_k, biased, settings) in BY_HAND.items():
        for parity in PARITIES:
            for scope in ("token", "sequence"):
                x, b, x_file, b_file = c.logits(experts)
                mine = dict(settings)
                if parity != "hf":
                    mine.update(eps=0.0, floor=FLOOR if parity == "llama.cpp" and mine["norm"] == "sum" else 0.0)
                problem = oracle.Problem(x, top_k=top_k, scope=scope, bias=b if biased else None, **mine)
                found = c.routed(x_file, "--model", name, "--parity", parity, "--scope", scope,
                                 *(["--bias", b_file] if biased else []))
                verdict, why = oracle.check(problem, {n.removesuffix(".npy"): v for n, v in found.items()})
                c.holds(f"{name}, {parity}, {scope}", verdict != "wrong", why)


def small_sums(c):
    """Where the guards tell: logits so low that the scores add up to nearly nothing."""
    x = c.file("low.npy", np.full((3, 256), -40, np.float32) + np.arange(256, dtype=np.float32) / 256)
    weights = {p: c.routed(x, "--model", "minimax-m2", "--parity", p, "--scope", "token")["weights.npy"].reshape(3, 8)
               for p in PARITIES}
    c.holds("no guard: the weights add up to 1", np.allclose(weights["vllm"].sum(axis=1), 1), weights["vllm"])
    c.holds("llama.cpp's guard: they do not", (weights["llama.cpp"].sum(axis=1) < 1e-9).all(), weights["llama.cpp"])


def overridden(c):
    x, b, x_file, b_file = c.logits(256)
    report = lambda *more: json.loads(c.works("route", x_file, "--model", "deepseek-v3", "--json", *more))
    r = report("--bias", b_file)
    keys = ("model", "experts", "top_k", "score", "norm", "groups", "group_top_k", "bias", "notes")
    c.holds("route --model", [r[k] for k in keys] == ["deepseek-v3", 256, 8, "sigmoid", "sum", 8, 4, True, []], r)
    r = report()
    c.holds("a missing bias is remarked on", len(r["notes"]) == 1 and "--bias" in r["notes"][0], r["notes"])
    r = report("--top-k", 4, "--groups", 4, "--group-topk", 2, "--norm", "softmax", "--score", "logits")
    c.holds("options override", [r[k] for k in keys[1:7]] == [256, 4, "logits", "softmax", 4, 2], r)
    r = report("--groups", 1)
    c.holds("groups can be taken away", r["groups"] == 1, r)
    typed = c.routed(x_file, "--model", "deepseek-v3", "--scale", 1, "--eps", 0)
    named = c.routed(x_file, "--model", "deepseek-v3")
    c.holds("the scale overrides", np.allclose(named["weights.npy"], 2.5 * typed["weights.npy"], rtol=1e-5))
    text = c.works("route", x_file, "--model", "deepseek-v3")
    c.holds("text tells the model and the missing bias", "\nmodel      deepseek-v3\n" in text and "--bias" in text, text)
    r = json.loads(c.works("route", x_file, "--top-k", 8, "--json"))
    c.holds("no model", r["model"] is None, r)

    plan = lambda *more: json.loads(c.works("info", "--json", *more))["plan"]
    p = plan("--shape", 64, "--model", "Kimi-K3")
    keys = ("model", "tokens", "experts", "top_k", "score")
    c.holds("info --model", [p[k] for k in keys] == ["kimi-k3", 64, 896, 16, "sigmoid"], p)
    p = plan("--shape", "64x896x4", "--model", "kimi-k3", "--score", "softmax")
    c.holds("info's shape overrides K", [p[k] for k in keys] == ["kimi-k3", 64, 896, 4, "softmax"], p)
    c.holds("info shows the ways of a router with a bias", "tokens with a bias" in c.works("info", "--shape", 8, "--model",
            "kimi-k3") and "tokens with a bias" not in c.works("info", "--shape", 8, "--model", "qwen3"))
    r = json.loads(c.works("bench", "--model", "minimax-text-01", "--shape", 4, "--seconds", 0.01, "--parity", "vllm",
                           "--json"))
    c.holds("bench --model", (r["model"], r["experts"], r["top_k"]) == ("minimax-text-01", 32, 2), r)


def replayed(c):
    """A selection that is given back is weighed as it was; min_p and top_p leave the best of it."""
    x, _, x_file, _ = c.logits(64)
    once = c.routed(x_file, "--model", "olmoe", "--scope", "token", "--order", "rank")
    rows = c.file("rows.npy", once["expert_ids.npy"].reshape(len(x), 8))
    again = c.routed(x_file, "--model", "olmoe", "--given", rows, "--order", "given")
    c.holds("a given selection", all(np.array_equal(once[n], again[n]) for n in FILES))
    some = np.full((len(x), 3), -1, np.int64)
    some[:, 1] = np.arange(len(x)) % 64
    given = c.routed(x_file, "--top-k", 2, "--given", c.file("some.npy", some))
    c.holds("-1 is none", np.array_equal(given["expert_ids.npy"], some[:, 1]), given["expert_ids.npy"])
    p = np.exp(x - x.max(axis=1, keepdims=True), dtype=np.float64)
    p /= p.sum(axis=1, keepdims=True)
    best = -np.sort(-p, axis=1)[:, :8]
    fewer = c.routed(x_file, "--model", "olmoe", "--scope", "token", "--min-p", 0.3)
    c.holds("min-p", np.array_equal(np.diff(fewer["token_offsets.npy"]), (best >= 0.3 * best[:, :1]).sum(axis=1)))
    fewer = c.routed(x_file, "--model", "olmoe", "--scope", "token", "--top-p", 0.4, "--min", 2)
    count = np.maximum(2, np.minimum(8, 1 + (np.cumsum(best, axis=1) < 0.4).sum(axis=1)))
    c.holds("top-p", np.array_equal(np.diff(fewer["token_offsets.npy"]), count))
    shared = c.routed(x_file, "--top-k", 4, "--scope", "token", "--shared-experts", 2, "--shared-weight", 0.4)
    ids, weights = (shared[n].reshape(len(x), 6) for n in ("expert_ids.npy", "weights.npy"))
    c.holds("shared experts of a fixed weight", (ids[:, 4:] == [64, 65]).all() and (weights[:, 4:] == np.float32(0.4)).all())
    r = json.loads(c.works("route", x_file, "--top-k", 4, "--null-experts", 16, "--softcap", 20, "--key", "logit",
                           "--json"))
    keys = ("null_experts", "softcap", "key", "logit_scale", "given")
    c.holds("the report", [r[k] for k in keys] == [16, 20, "logit", 1, False] and len(r["tokens_per_expert"]) == 48, r)


def usage(c):
    _, _, x, _ = c.logits(64)
    fails = lambda words, *arguments: c.fails(2, words, *arguments)
    for command in (("models",), ("route", x, "--model"), ("info", "--shape", 8, "--model"),
                    ("bench", "--shape", 8, "--model")):
        where = [] if command == ("models",) else ["--model"]
        fails([*where, "'deepsek-v3'", ": deepseek-v3,", "seqtopk models"], *command, "deepsek-v3")
        fails([*where, "'nosuch'", "the nearest", "seqtopk models"], *command, "nosuch")
        fails(["empty"], *command, "")
    fails(["--model qwen3 has 128", "x.npy has 64", "--top-k"], "route", x, "--model", "qwen3")
    fails(["--top-k 65", "64 experts"], "route", x, "--model", "olmoe", "--top-k", 65)
    fails(["--top-k", "--model", "missing"], "route", x)
    fails(["--model", "twice"], "route", x, "--model", "olmoe", "--model", "olmoe")
    fails(["--parity", "'sglang'"], "route", x, "--model", "olmoe", "--parity", "sglang")
    fails(["--parity", "--model"], "route", x, "--top-k", 8, "--parity", "vllm")
    fails(["--parity", "--model"], "info", "--shape", "8x8x2", "--parity", "vllm")
    fails(["--parity", "--model"], "bench", "--shape", "8x8", "--top-k", 2, "--parity", "vllm")
    fails(["--model", "--shape"], "info", "--model", "olmoe")
    fails(["--shape", "'8x'", "T,"], "info", "--shape", "8x", "--model", "olmoe")
    fails(["--shape", "'8'", "TxExK", "--model"], "info", "--shape", 8)
    fails(["--shape 8x8x2 has 8", "--model olmoe has 64", "--shape 8,"], "info", "--shape", "8x8x2", "--model", "olmoe")
    fails(["one word too many"], "models", "olmoe", "qwen3")
    fails(["--parity", "'x'"], "models", "--parity", "x")
    fails(["--markdown", "--json"], "models", "--markdown", "--json")
    fails(["--markdown", "NAME"], "models", "--markdown", "olmoe")
    fails(["'model'", "models"], "model")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seqtopk")
    parser.add_argument("--wrapper", default="", help="run the command by way of this one (an emulator)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        c = Models(shlex.split(args.wrapper) + [args.seqtopk], pathlib.Path(folder))
        for checks in (listing, documented, as_typed, each_in_numpy, by_hand, small_sums, overridden, replayed, usage):
            checks(c)
    print(f"{c.passed} passed, {c.failed} failed")
    return 1 if c.failed else 0


if __name__ == "__main__":
    sys.exit(main())
