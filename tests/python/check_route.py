#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.route on NumPy arrays, against the oracle in float64: check_route.py [--seed N] [--cases N]"""

import argparse
import ast
import gc
import inspect
import os
import signal
import sys
import sysconfig
import threading
import time

import harness
from harness import check, raises
import numpy as np
import oracle
import seqtopk

NAMES = {"top_k": "k", "eps": "norm_eps", "floor": "norm_floor", "skip_top1": "norm_skip_top1"}
LISTS = ("token_offsets", "expert_ids", "weights", "expert_offsets", "expert_tokens", "expert_slots")


class Capsule:
    """An array that has DLPack and nothing else; of a producer from before versions, if `is_old`."""

    def __init__(self, array, is_old):
        self.array, self.is_old = array, is_old

    def __dlpack__(self, **wishes):
        if self.is_old and wishes:
            raise TypeError("no keywords")
        return self.array.__dlpack__(**wishes)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def random_problem(rng):
    tokens, experts = int(rng.choice([0, 1, 2, 7, 40, 300])), int(rng.choice([1, 8, 48, 64, 160]))
    k = int(rng.integers(1, min(experts, 10) + 1))
    settings = {"top_k": k, "scope": str(rng.choice(["token", "sequence"])),
                "score": str(rng.choice(["softmax", "sigmoid", "sqrtsoftplus", "logits"])),
                "norm": str(rng.choice(["none", "sum", "softmax"])), "order": str(rng.choice(["expert", "rank"])),
                "scale": float(rng.choice([1.0, 2.5]))}
    if settings["norm"] == "sum":
        settings["eps"] = float(rng.choice([0.0, 1e-20]))
    if settings["scope"] == "sequence" and rng.random() < 0.7:
        settings["min"], settings["max"] = int(rng.integers(0, k + 1)), k + 2
    if experts % 8 == 0 and experts >= 16 and k <= experts // 2 and rng.random() < 0.3:
        settings.update(groups=8, group_top_k=4, group_score=str(rng.choice(["max", "top2"])))
    logits = (rng.standard_normal((tokens, experts)) * rng.choice([0.5, 2.0])).astype(np.float32)
    if settings["score"] in ("softmax", "sigmoid") and rng.random() < 0.4:
        settings["bias"] = rng.normal(0, 0.1, experts).astype(np.float32)
    if tokens and rng.random() < 0.4:
        settings["mask"] = rng.random(tokens) < 0.8
    if settings["scope"] == "sequence" and tokens > 2 and rng.random() < 0.5:
        cut = int(rng.integers(1, tokens))
        settings["lengths"] = [cut, 0, tokens - cut]
    return logits, settings


def shown(logits, rng):
    """The same logits as some kind of array."""
    kind = int(rng.integers(0, 5))
    if kind == 1:  # rows apart
        wide = np.full((len(logits), logits.shape[1] + 5), np.nan, np.float32)
        wide[:, :logits.shape[1]] = logits
        return wide[:, :logits.shape[1]]
    if kind == 2:  # nobody may write
        logits = logits.copy()
        logits.flags.writeable = False
        return logits
    if kind == 3:
        return Capsule(logits, rng.random() < 0.5)
    if kind == 4 and logits.size:
        return memoryview(logits)
    return logits


def check_oracle(rng, cases):
    for number in range(cases):
        logits, settings = random_problem(rng)
        if rng.random() < 0.2:
            logits = logits.astype(np.float16)
        problem = oracle.Problem(logits.astype(np.float32), **settings)
        words = {NAMES.get(name, name): value for name, value in settings.items()}
        if words.pop("mask", None) is not None:
            words["token_mask"] = settings["mask"] if rng.random() < 0.5 else settings["mask"].astype(np.uint8)
        if words.pop("lengths", None) is not None:
            offsets = np.r_[0, np.cumsum(settings["lengths"])]
            words["cu_seqlens"] = offsets.astype(rng.choice([np.int32, np.int64])) if rng.random() < 0.7 else \
                offsets.tolist()
        routing = seqtopk.route(shown(logits, rng), **words, want="experts")
        verdict, why = oracle.check(problem, {name: getattr(routing, name) for name in LISTS})
        check(verdict != "wrong", f"case {number}, {logits.shape}, {settings}: {why}")


def check_margins(logits):
    cu = np.array([0, 50, 51, 200], np.int32)
    m = seqtopk.route(logits, 4, score="logits", cu_seqlens=cu, want="margins").sequence_margins
    right = []
    for begin, end in zip(cu, cu[1:]):
        keys = np.sort(logits[begin:end].ravel())[::-1]
        right.append(keys[4 * (end - begin) - 1] - keys[4 * (end - begin)])
    check(m.dtype == np.float32 and np.array_equal(m, np.array(right, np.float32)), f"margins {m}, not {right}")
    check(seqtopk.route(logits, 4, want="margins").sequence_margins.shape == (1,), "one sequence")
    for words in ({"scope": "token"}, {"given_ids": np.zeros((200, 1), np.int32)}):
        try:
            seqtopk.route(logits, 4, want="margins", **words)
            check(False, "margins without a cut")
        except seqtopk.Error as error:
            check("sequence_margins" in str(error), str(error))


def check_token_seq(rng):
    """In any order each token is given what it is where sequences follow one another."""
    logits, lengths = rng.standard_normal((200, 32), dtype=np.float32), (50, 0, 1, 149)
    sequence = np.repeat(np.arange(4), lengths)
    shuffled = rng.permutation(sequence)
    rows = np.empty_like(sequence)
    for s in range(4):
        rows[shuffled == s] = np.flatnonzero(sequence == s)
    want = ("padded", "margins")
    right = seqtopk.route(logits, 4, max="k+2", cu_seqlens=np.cumsum((0, *lengths)), want=want)
    for whose in (shuffled, shuffled.astype(np.int32), shuffled.tolist()):
        found = seqtopk.route(logits[rows], 4, max="k+2", token_seq=whose, want=want)
        check(np.array_equal(found.padded_ids, right.padded_ids[rows]) and
              np.array_equal(found.padded_weights, right.padded_weights[rows]) and
              np.array_equal(found.sequence_margins, right.sequence_margins), "token_seq")
    slots = seqtopk.route(logits[:3], 4, token_seq=[900, 3, 900])  # of a server's slots few are there
    check(slots.selected == 12, "sequences without a token")


def check_lists(rng):
    logits = rng.standard_normal((200, 32), dtype=np.float32)
    r = seqtopk.route(logits, 4, min=1, max="k+2", norm="sum", padding="first", block_size=16,
                      want=("experts", "padded", "padded64", "pairs", "dense", "lse"))
    rows = np.repeat(np.arange(200), np.diff(r.token_offsets))
    check(r.tokens == 200 and r.experts == 32 and r.selected == len(r.expert_ids) == 800, repr(r))
    dense = np.zeros((200, 32), np.float32)
    dense[rows, r.expert_ids] = r.weights
    check(np.array_equal(dense, r.routing_probs) and np.array_equal(dense > 0, r.routing_map), "dense")
    check(r.routing_map.dtype == bool and r.padded_ids.shape == (200, 6), "shapes")
    check(np.array_equal(r.padded_ids, r.padded_ids64), "padded64")
    back = np.zeros_like(dense)
    np.add.at(back, (np.arange(200)[:, None], r.padded_ids), r.padded_weights)
    check(np.array_equal(back, dense), "padded")
    check(np.array_equal(r.pair_tokens, rows) and np.array_equal(r.expert_slots[r.pair_places], np.arange(800)), "pairs")
    check(np.allclose(r.row_lse, np.log(np.exp(logits.astype(float)).sum(1)), rtol=1e-6), "lse")
    check_margins(logits)
    check_token_seq(rng)
    blocks = r.block_slots.reshape(-1, 16)
    check(len(blocks) == len(r.block_experts), "blocks")
    for slots, expert in zip(blocks, r.block_experts):
        mine = slots[slots < 1200]
        check((r.padded_ids.reshape(-1)[mine] == expert).all(), f"block of expert {expert}")
    raises(AttributeError, ["padded_ids", "want='padded'"], lambda: seqtopk.route(logits, 4).padded_ids)
    ragged = seqtopk.route(logits, 4, min=1, max="k+2", norm="sum", want="padded").padded_ids
    again = seqtopk.route(logits, 4, norm="sum", given_ids=ragged.astype(np.int64))
    check((ragged == -1).any() and np.array_equal(again.weights, r.weights), "replay by rows")
    replay = seqtopk.route(logits, 4, norm="sum", given_ids=r.expert_ids, given_offsets=r.token_offsets)
    check(np.array_equal(replay.weights, r.weights), "replay by lists")


def check_signatures():
    """What help() and editors show is what the calls take, and what the stubs say."""
    stubs = ast.parse((harness.HERE.parents[1] / "src" / "python" / "seqtopk" / "_core.pyi").read_text())
    functions = {(owner.name if isinstance(owner, ast.ClassDef) else None, f.name): f.args
                 for owner in [stubs, *(n for n in stubs.body if isinstance(n, ast.ClassDef))]
                 for f in owner.body if isinstance(f, ast.FunctionDef)}
    for function, stub in [(seqtopk.route, (None, "route")), (seqtopk.Cache, ("Cache", "__init__")),
                           (seqtopk.Cache.step, ("Cache", "step"))]:
        told = [name for name in inspect.signature(function).parameters if name != "self"]
        args = functions[stub]
        typed = [a.arg for a in args.args + args.kwonlyargs if a.arg != "self"]
        check(typed == told, f"{function}: {told} {typed}")


def check_memory(rng):
    """Views hold what they show; what is let go of is freed."""
    logits = rng.standard_normal((64, 16), dtype=np.float32)
    kept = [seqtopk.route(logits, 2).weights for _ in range(200)]
    gc.collect()
    check(all(np.array_equal(kept[0], w) for w in kept), "weights outlive their Routing")
    before = sys.getrefcount(logits)
    for _ in range(100):
        seqtopk.route(logits, 2)
        try:
            seqtopk.route(logits, 99)
        except seqtopk.Error:
            pass
    check(sys.getrefcount(logits) == before, "references to the logits")
    for scale in np.linspace(0.5, 2.0, 200):  # more plans than are kept
        a = seqtopk.route(logits, 2, min=1, scale=float(scale), norm="softmax")
        check(np.allclose(np.add.reduceat(a.weights, a.token_offsets[:-1]), scale, rtol=1e-5), f"plan of scale {scale}")


def check_threads(rng):
    """The same bits with any number of threads, and from threads that call at once."""
    logits = rng.standard_normal((6000, 64), dtype=np.float32)
    want = seqtopk.route(logits, 8, min=1, max=10)
    seqtopk.set_num_threads(3)
    check(seqtopk.get_num_threads() == 3, "get_num_threads")
    results = []

    def work():
        for _ in range(10):
            r = seqtopk.route(logits, 8, min=1, max=10)
            results.append(np.array_equal(r.expert_ids, want.expert_ids) and np.array_equal(r.weights, want.weights))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seqtopk.set_num_threads(2)
    work()
    seqtopk.set_num_threads(1)
    check(len(results) == 50 and all(results), "threads")
    for bad in (0, 1025):
        raises(ValueError, ["threads", "1 to 1024"], lambda: seqtopk.set_num_threads(bad))


def check_eight_at_once(rng):
    """Threads that make, find and drop plans, caches and results at once; where there is no GIL, none comes back."""
    logits = rng.standard_normal((40, 64), dtype=np.float32)
    calls = [(logits[: 1 + i % 40].astype(np.float16 if i % 3 == 0 else np.float32),
              dict(k=1 + i % 8, min=1, max="k+2", scale=0.5 + i // 8, want=["experts", "pairs"][: i % 3])) for i in range(90)]
    calls += [(logits, {"preset": "olmoe"}), (logits[:1], {"preset": "olmoe", "scope": "token"})]
    calls.append((rng.standard_normal((1000, 64), dtype=np.float32), {"k": 8}))  # long: by the module's threads
    bits = lambda r: (r.token_offsets.tobytes(), r.expert_ids.tobytes(), r.weights.tobytes())
    wanted = [bits(seqtopk.route(rows, **words)) for rows, words in calls]
    wrong, done, start = [], [], threading.Barrier(8)

    def work(seed):
        order = np.random.default_rng(seed).permutation(4 * len(calls)) % len(calls)
        start.wait()
        for turn, i in enumerate(order):
            rows, words = calls[i]
            if bits(seqtopk.route(rows, **words)) != wanted[i]:
                wrong.append(i)
            if turn % 40 == 0:
                seqtopk.set_num_threads(1 + turn // 40 % 3)
                cache = seqtopk.Cache(experts=64, k=4, min=1, max="k+2", scale=float(seed + turn))
                cache.step(0, logits)
        done.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seqtopk.set_num_threads(1)
    check(len(done) == 8 and not wrong, f"eight threads at once: {len(done)} came to their end, calls {wrong[:9]} differ")
    without = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    check(not without or sys._is_gil_enabled() == (os.environ.get("PYTHON_GIL") == "1"), "the GIL came back")


def check_fork(rng):
    """A child has none of its parent's threads, and makes its own."""
    logits = rng.standard_normal((3000, 64), dtype=np.float32)
    seqtopk.set_num_threads(2)
    want = seqtopk.route(logits, 8).expert_ids
    child = os.fork()
    if child == 0:
        os._exit(0 if all(np.array_equal(seqtopk.route(logits, 8).expert_ids, want) for _ in range(3)) else 1)
    end = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            check(False, "a forked child hangs")
            break
        time.sleep(0.01)
    else:
        check(True, "")
    check(np.array_equal(seqtopk.route(logits, 8).expert_ids, want), "the parent goes on")
    seqtopk.set_num_threads(1)


def check_leaks(rng):
    """What a call takes it gives back, whether it succeeds or not."""
    if not os.path.exists("/proc/self/maps") or "asan" in open("/proc/self/maps").read():
        return  # nothing to look at; or a memory that keeps what is freed for a while
    logits = rng.standard_normal((64, 64), dtype=np.float32)
    cache = seqtopk.Cache(1, 1, experts=64, k=4, max=6)

    def work():
        r = seqtopk.route(logits, 8, want=("experts", "padded"), cu_seqlens=[0, 64], block_size=8)
        r.weights, r.padded_ids, r.block_slots
        for bad in (dict(k=99), dict(k=2, want="x"), dict(k=2, cu_seqlens=[0, 65]), dict(k=2, max="x")):
            try:
                seqtopk.route(logits, **bad)
            except ValueError:
                pass
        cache.step(0, logits)
        cache.clear()

    def kilobytes():
        return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

    for _ in range(500):
        work()
    gc.collect()
    before = kilobytes()
    for _ in range(6000):
        work()
    gc.collect()
    check(kilobytes() - before < 2000, f"grew by {kilobytes() - before} KiB")


def check_errors(rng):
    x = rng.standard_normal((10, 16), dtype=np.float32)
    nan = x.copy()
    nan[3, 5] = np.nan
    error = raises(seqtopk.NonfiniteError, ["token 3"], lambda: seqtopk.route(nan, 2))
    check(error.token == 3 and isinstance(error, ValueError), "token of the error")
    check(seqtopk.route(nan, 2, on_nonfinite="drop").dropped == (1, 3), "dropped")
    E, V, T = seqtopk.Error, ValueError, TypeError
    for kind, words, call in [
            (E, ["k is 17", "16"], lambda: seqtopk.route(x, 17)),
            (E, ["max is 1", "min (2)"], lambda: seqtopk.route(x, 2, min=2, max=1)),
            (E, ["groups is 3"], lambda: seqtopk.route(x, 2, groups=3, group_top_k=1)),
            (E, ["seqtopk.Cache.step"], lambda: seqtopk.route(x, 2, scope="online")),
            (E, ["width is 3", "set max"], lambda: seqtopk.route(x, 2, want="padded", width=3)),
            (E, ["cu_seqlens[1] is 9"], lambda: seqtopk.route(x, 2, cu_seqlens=[0, 9])),
            (T, ["cu_seqlens", "token_seq"], lambda: seqtopk.route(x, 2, cu_seqlens=[0, 10], token_seq=[0] * 10)),
            (V, ["token_seq[1] is -1"], lambda: seqtopk.route(x, 2, token_seq=[0, -1] * 5)),
            (V, ["token_seq[2] is 65536", "below 65536"], lambda: seqtopk.route(x, 2, token_seq=[0, 0, 65536, 0, 0] * 2)),
            (V, ["token_seq", "10"], lambda: seqtopk.route(x, 2, token_seq=[0, 0])),
            (E, ["no preset 'olmo'", "olmoe"], lambda: seqtopk.route(x, preset="olmo")),
            (V, ["16 experts", "'olmoe' has 64"], lambda: seqtopk.route(x, preset="olmoe")),
            (V, ["scope is 'seq'", "'sequence'"], lambda: seqtopk.route(x, 2, scope="seq")),
            (V, ["max is 'k2'", "'k+2'"], lambda: seqtopk.route(x, 2, max="k2")),
            (V, ["want is 'ids'"], lambda: seqtopk.route(x, 2, want=["ids"])),
            (V, ["k is 10000000000"], lambda: seqtopk.route(x, 10**10)),
            (V, ["logits", "3 dimensions", "cu_seqlens"], lambda: seqtopk.route(x[None], 2)),
            (V, ["logits", "contiguous"], lambda: seqtopk.route(x[:, ::2], 2)),
            (V, ["logits", "contiguous"], lambda: seqtopk.route(x[::-1], 2)),
            (V, ["token_mask", "10", "9"], lambda: seqtopk.route(x, 2, token_mask=np.ones(9, bool))),
            (V, ["bias", "16", "8"], lambda: seqtopk.route(x, 2, bias=np.zeros(8, np.float32))),
            (V, ["cu_seqlens", "no int32"], lambda: seqtopk.route(x, 2, cu_seqlens=np.array([0, 2**40]))),
            (T, ["bias", "float32"], lambda: seqtopk.route(x, 2, bias=np.zeros(16))),
            (T, ["logits", "float32"], lambda: seqtopk.route(x.astype(float), 2)),
            (T, ["logits", "float32"], lambda: seqtopk.route(x.astype(">f4"), 2)),
            (T, ["logits", "list"], lambda: seqtopk.route([[1.0]], 1)),
            (T, ["logits are missing"], lambda: seqtopk.route(k=1)),
            (T, ["k is missing"], lambda: seqtopk.route(x)),
            (T, ["k", "float"], lambda: seqtopk.route(x, 2.0)),
            (T, ["knows no argument 'top_k'"], lambda: seqtopk.route(x, top_k=2)),
            (T, ["'k' twice"], lambda: seqtopk.route(x, 2, k=3)),
            (T, ["at most 2"], lambda: seqtopk.route(x, 2, "token")),
            (T, ["given_offsets without"], lambda: seqtopk.route(x, 2, given_offsets=[0]))]:
        raises(kind, words, call)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(np.random.SeedSequence().entropy % 2**31))
    parser.add_argument("--cases", type=int, default=400)
    options = parser.parse_args()
    print("seed", options.seed)
    rng = np.random.default_rng(options.seed)
    check_oracle(rng, options.cases)
    check_lists(rng)
    check_signatures()
    check_memory(rng)
    check_threads(rng)
    check_eight_at_once(rng)
    check_fork(rng)
    check_leaks(rng)
    check_errors(rng)
    harness.report()


main()
