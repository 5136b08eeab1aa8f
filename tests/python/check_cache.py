#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.Cache against seqtopk.route: token m gets what a route over tokens 1 to m gives it: check_cache.py [--seed N]"""

import argparse
import threading

import harness
from harness import check, raises
import numpy as np
import seqtopk

WORDS = dict(k=4, min=1, max="k+2", norm="sum")


def token(routing, t):
    here = slice(routing.token_offsets[t], routing.token_offsets[t + 1])
    return routing.expert_ids[here].tolist(), routing.weights[here].tobytes()


def offline(logits, mask=None):
    """What each token gets of a route that ends with it."""
    return [token(seqtopk.route(logits[:m + 1], **WORDS, token_mask=None if mask is None else mask[:m + 1]), m)
            for m in range(len(logits))]


def made(layers=1, sequences=4, **more):
    return seqtopk.Cache(layers, sequences, experts=16, **{**WORDS, **more})


def check_steps(rng):
    logits = rng.standard_normal((60, 16), dtype=np.float32)
    mask = rng.random(60) < 0.8
    want, masked = offline(logits), offline(logits, mask)
    cache = made()
    check([token(cache.step(0, logits[t:t + 1]), 0) for t in range(60)] == want, "one by one")
    whole = cache.step(0, logits, np.ones(60, np.int64))
    check([token(whole, t) for t in range(60)] == want, "60 at once, causally")
    part = cache.step(0, logits, np.full(60, 2, np.int32), token_mask=mask)
    check([token(part, t) for t in range(60)] == masked, "masked")
    joint = cache.step(0, logits, [3] * 60, take="joint")
    all_at_once = seqtopk.route(logits, **WORDS)
    check(np.array_equal(joint.expert_ids, all_at_once.expert_ids), "jointly")
    check([cache.length(s) for s in range(4)] == [60] * 4, "lengths")
    stats = cache.stats(0, 2)
    check(stats["tokens"] == 60 and stats["budget"] == 4 * mask.sum() and stats["pairs"] == part.selected, str(stats))


def check_life(rng):
    logits = rng.standard_normal((40, 16), dtype=np.float32)
    want = offline(logits)
    cache = made(layers=2)
    for layer in (0, 1):
        cache.step(layer, logits[:30])
    # Drafts taken back, by their places and by name.
    again = cache.step(0, logits[20:31], positions=np.arange(20, 31))
    check([token(again, t) for t in range(11)] == want[20:31], "positions take back")
    cache.truncate(0, 20)
    check(cache.length(0, 0) == cache.length(0, 1) == 20, "truncate")
    cache.copy(1, 0)
    cache.copy(2, 0, 10)
    check(token(cache.step(1, logits[20:21], [1]), 0) == want[20], "copy")
    check(token(cache.step(1, logits[10:11], [2]), 0) == want[10], "copy of a part")
    cache.clear()
    for s, n in enumerate((5, 10, 15)):
        for layer in (0, 1):
            cache.step(layer, logits[:n], [s] * n)
    cache.reorder([2, 2, 0])
    check([cache.length(s) for s in range(4)] == [15, 15, 5, 0], "reorder")
    check([token(cache.step(0, logits[n:n + 1], [s]), 0) for s, n in enumerate((15, 15, 5))] ==
          [want[15], want[15], want[5]], "reordered sequences go on")
    cache.truncate(0, 15)
    blob = cache.save(0, 0, 15)
    other = made(layers=2)
    other.load(0, blob)
    check(token(other.step(1, logits[15:16]), 0) == want[15], "save and load")
    cache.remove(0, 3, 7)
    check(cache.length(0) == 11, "remove")
    cache.keep(0)
    check([cache.length(s) for s in range(3)] == [11, 0, 0], "keep")
    check(cache.layers == 2 and cache.sequences == 4, "layers, sequences")


def check_types(rng):
    logits = rng.standard_normal((50, 16)).astype(np.float16)
    cache = made(dtype="float16")
    want = [token(seqtopk.route(logits[:m + 1], **WORDS), m) for m in range(50)]
    check([token(cache.step(0, logits[t:t + 1]), 0) for t in range(50)] == want, "float16")
    raises(TypeError, ["float32", "dtype='float16'"], lambda: cache.step(0, logits.astype(np.float32)))
    compact = made(mode="compact", is_ledger=True)
    pairs = [compact.step(0, logits[t:t + 1].astype(np.float32)).selected for t in range(50)]
    check((np.cumsum(pairs) <= 4 * np.arange(1, 51)).all(), "ledger")


def check_threads(rng):
    """One cache, called by threads at once: each its own sequence."""
    logits = rng.standard_normal((3000, 16), dtype=np.float32)
    cache, single, results = made(), made(), {}
    want = single.step(0, logits)

    def work(s):
        results[s] = cache.step(0, logits, np.full(3000, s))

    workers = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    check(all(np.array_equal(results[s].expert_ids, want.expert_ids) for s in range(4)), "threads")


def check_errors(rng):
    logits = rng.standard_normal((4, 16), dtype=np.float32)
    cache = made(layers=2)
    E, V, T = seqtopk.Error, ValueError, TypeError
    nan = logits.copy()
    nan[2] = np.nan
    raises(seqtopk.NonfiniteError, ["token 2"], lambda: cache.step(0, nan))
    check(cache.length() == 0, "an error changes nothing")
    for kind, words, call in [
            (E, ["layer"], lambda: cache.step(2, logits)),
            (E, ["position"], lambda: cache.step(0, logits, positions=[5, 6, 7, 8])),
            (E, ["sequence"], lambda: cache.step(0, logits, [0, 1, 2, 9])),
            (E, ["max is 2", "min (3)"], lambda: made(min=3, max=2)),
            (E, ["sequence"], lambda: cache.truncate(9, 3)),
            (E, [], lambda: cache.load(0, b"no blob at all")),
            (V, ["16", "8 experts"], lambda: cache.step(0, logits[:, :8].copy())),
            (V, ["take is 'all'", "'joint'"], lambda: cache.step(0, logits, take="all")),
            (V, ["sequence is 9 of 4"], lambda: cache.length(9)),
            (V, ["save", "[0, 5)"], lambda: cache.save(0, 0, 5)),
            (V, ["parents", "5", "4"], lambda: cache.reorder([0, 1, 2, 3, 0])),
            (V, ["mode is 'tight'"], lambda: made(mode="tight")),
            (T, ["experts is missing"], lambda: seqtopk.Cache(1, 1, k=2)),
            (T, ["k is missing"], lambda: seqtopk.Cache(1, 1, experts=2)),
            (T, ["layer is missing"], lambda: cache.step(logits=logits)),
            (T, ["truncate()", "2"], lambda: cache.truncate(0)),
            (T, ["load()", "2"], lambda: cache.load(0)),
            (T, ["knows no argument 'layer'"], lambda: made(layer=3))]:
        raises(kind, words, call)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(np.random.SeedSequence().entropy % 2**31))
    options = parser.parse_args()
    print("seed", options.seed)
    rng = np.random.default_rng(options.seed)
    for part in (check_steps, check_life, check_types, check_threads, check_errors):
        part(rng)
    harness.report()


main()
