# SPDX-License-Identifier: MIT
"""What routing must answer, in NumPy and double precision: written from the contract, sharing nothing with the library.

A key that the library computes in float32 (a log-probability, a score with a bias, a group's sum) is known here only to
within the contract's accuracy. Where two candidates are nearer than that, either order is right, and nothing else is:
`judge` accepts a selection that differs from the oracle's only if there are keys, each within its own tolerance of the
double precision ones, under which the oracle selects exactly that. Keys that are logits, or one float32 addition, have
no tolerance.
"""

import dataclasses
from typing import Optional

import numpy as np

FLT_MAX = float(np.finfo(np.float32).max)
FLT_MIN = float(np.finfo(np.float32).tiny)
AFTER_ALL = -1e100  # below any score of a group


@dataclasses.dataclass
class Problem:
    """`logits` [T, E] in the values that the file holds, as float32; the rest as the command's options."""

    logits: np.ndarray
    top_k: int
    scope: str = "sequence"
    score: str = "softmax"
    norm: Optional[str] = None
    eps: float = 0.0
    floor: float = 0.0
    scale: float = 1.0
    skip_top1: bool = False
    min: int = 0
    max: int = 0
    groups: int = 1
    group_top_k: int = 1
    group_score: str = "max"
    group_n: int = 0
    lengths: Optional[list] = None
    mask: Optional[np.ndarray] = None
    bias: Optional[np.ndarray] = None
    order: str = "expert"


def first_nonfinite(p):
    """The first unmasked token with NaN or +inf, or None."""
    bad = (np.isnan(p.logits) | (p.logits == np.inf)).any(axis=1) & unmasked(p)
    return int(np.argmax(bad)) if bad.any() else None


def unmasked(p):
    return np.ones(len(p.logits), bool) if p.mask is None else np.asarray(p.mask).reshape(-1) != 0


def log_sum_exp(x):
    """Of each row of float64 x; -inf for a row of nothing but -inf."""
    top = x.max(axis=1, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return (shift + np.log(np.exp(x - shift).sum(axis=1, keepdims=True)))


def log_probability(x):
    lse = log_sum_exp(x)
    return np.where(np.isfinite(x), x - np.where(np.isfinite(lse), lse, 0.0), -np.inf)


def scores(p):
    """s(x), unbiased, in float64. Excluded logits score 0, or -inf as logits."""
    x = np.where(unmasked(p)[:, None], p.logits, -np.inf).astype(np.float64)
    with np.errstate(over="ignore"):
        if p.score == "softmax":
            return np.exp(log_probability(x))
        if p.score == "sigmoid":
            return 1.0 / (1.0 + np.exp(-x))
        if p.score == "sqrtsoftplus":
            return np.sqrt(np.logaddexp(0.0, x))
    return x


def score_tolerance(s):
    """What the contract allows a float32 score to be off by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slack = s * (1e-6 + 1.2e-7 * np.abs(np.log(s)))
    return np.where(s > 0, slack, 0.0) + FLT_MIN


def keys(p):
    """Keys, their tolerances, and which (token, expert) are candidates at all."""
    x32 = p.logits.astype(np.float32)
    x = x32.astype(np.float64)
    candidate = (x != -np.inf) & unmasked(p)[:, None]
    if p.bias is not None:
        candidate &= (p.bias != -np.inf)[None, :]
        if p.score == "logits":
            with np.errstate(over="ignore", invalid="ignore"):
                key = (x32 + p.bias.astype(np.float32)[None, :]).astype(np.float64)
            tolerance = np.zeros_like(key)
        else:
            s = scores(p)
            with np.errstate(invalid="ignore"):
                key = s + p.bias.astype(np.float64)[None, :]
                tolerance = score_tolerance(s) + 2.0**-24 * np.abs(key)
    elif p.score == "softmax" and p.scope == "sequence":
        key = log_probability(np.where(unmasked(p)[:, None], x, -np.inf))
        tolerance = 1e-6 + 1.2e-7 * np.abs(key)
    else:
        key, tolerance = x, np.zeros_like(x)
    key = np.where(candidate, np.clip(key, -FLT_MAX, FLT_MAX), -np.inf)
    return key, np.where(candidate, tolerance, 0.0), candidate


def group_keys(p, key, tolerance, candidate):
    """[T, G]: each group's score and how far off float32 may have it."""
    tokens, experts = key.shape
    shape = (tokens, p.groups, experts // p.groups)
    if p.group_score == "max":
        grouped = key.reshape(shape)
        return grouped.max(axis=2), np.take_along_axis(
            tolerance.reshape(shape), grouped.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
    n = 2 if p.group_score == "top2" else p.group_n or max(1, p.top_k // p.group_top_k)
    s = scores(p)
    b = 0.0 if p.bias is None else p.bias.astype(np.float64)[None, :]
    with np.errstate(invalid="ignore"):
        biased = np.where(candidate, s + b, -np.inf).reshape(shape)
    slack = np.where(candidate, 0.0 if p.score == "logits" else score_tolerance(s), 0.0).reshape(shape)
    best = np.argsort(-biased, axis=2, kind="stable")[:, :, :n]
    terms = np.take_along_axis(biased, best, axis=2)
    off = np.take_along_axis(slack, best, axis=2)
    finite = np.where(np.isfinite(terms), np.abs(terms), 0.0)
    total = np.where(np.isfinite(terms), terms, 0.0).sum(axis=2)
    slack = off.sum(axis=2) + 2.0**-23 * n * finite.sum(axis=2)
    having = np.isfinite(terms).sum(axis=2)
    # Groups with fewer come after all others, in the order of what they have; those with none last.
    after = AFTER_ALL * (1.0 - 0.5 * total / (1.0 + np.abs(total)))
    after_slack = -AFTER_ALL * slack / (1.0 + np.abs(total)) ** 2
    return (np.where(having == n, total, np.where(having > 0, after, -np.inf)),
            np.where(having == n, slack, np.where(having > 0, after_slack, 0.0)))


def best_groups(p, group_key):
    """[T, G]: the groups that a token keeps; of equals the lower."""
    place = np.argsort(np.argsort(-group_key, axis=1, kind="stable"), axis=1, kind="stable")
    return place < p.group_top_k


def choose(p, key, candidate, group_key):
    """[T, E]: the selection under these keys."""
    tokens, experts = key.shape
    selected = np.zeros((tokens, experts), bool)
    eligible = candidate.copy()
    if p.groups > 1:
        eligible &= np.repeat(best_groups(p, group_key), experts // p.groups, axis=1)
    key = np.where(eligible, key, -np.inf)
    # Excluded ones come last, and a place below the number of eligible ones is an eligible one's.
    place = np.argsort(np.argsort(-key, axis=1, kind="stable"), axis=1, kind="stable")
    # -0 and +0 negate to unequal bits and equal values: the sort compares values.
    if p.scope == "token":
        return eligible & (place < p.top_k)
    if p.max:
        eligible &= place < p.max
    forced = eligible & (place < p.min)
    start = 0
    for length in p.lengths if p.lengths is not None else [tokens]:
        rows = slice(start, start + length)
        start += length
        budget = int(unmasked(p)[rows].sum()) * p.top_k - int(forced[rows].sum())
        open_ = (eligible[rows] & ~forced[rows]).reshape(-1)
        order = np.argsort(-np.where(open_, key[rows].reshape(-1), -np.inf), kind="stable")
        taken = np.zeros(open_.size, bool)
        taken[order[:min(budget, int(open_.sum()))]] = True
        selected[rows] = forced[rows] | taken.reshape(-1, experts)
    return selected


def select(p):
    key, tolerance, candidate = keys(p)
    group_key = group_keys(p, key, tolerance, candidate)[0] if p.groups > 1 else None
    return choose(p, key, candidate, group_key)


def judge(p, got):
    """Whether [T, E] is a right selection: "exact", "near tie", or a sentence on what is wrong."""
    key, tolerance, candidate = keys(p)
    group_key, group_tolerance = group_keys(p, key, tolerance, candidate) if p.groups > 1 else (None, None)
    want = choose(p, key, candidate, group_key)
    if (want == got).all():
        return "exact"
    # The keys within tolerance that favour `got` the most: if it is not selected under these, it is under none.
    favoured = np.where(got, key + tolerance, key - tolerance)
    if p.groups > 1:
        used = got.reshape(got.shape[0], p.groups, -1).any(axis=2)
        group_key = np.where(used, group_key + group_tolerance, group_key - group_tolerance)
    if (choose(p, np.where(candidate, favoured, -np.inf), candidate, group_key) == got).all():
        return "near tie"
    token, expert = np.argwhere(want != got)[0]
    return (f"{int((want & ~got).sum())} pairs are missing and {int((got & ~want).sum())} too many; first: token "
            f"{token}, expert {expert}, key {key[token, expert]:.9g}")


def log_scores(p, x):
    """Logarithms of scores of logits x, but for what is the same in the whole row."""
    x = x.astype(np.float64)
    if p.score == "softmax":
        return x
    if p.score == "sigmoid":
        return -np.logaddexp(0.0, -x)
    return np.where(x < -600, x, np.log(np.logaddexp(0.0, np.maximum(x, -600.0)))) / 2


def weights_of(p, score, x, experts):
    """Float64 weights of one token's selected experts, from its rows of scores and logits."""
    s = score[experts]
    if (p.norm == "sum" and p.eps == 0 and p.floor == 0 and p.score != "logits" and len(s) and
            not (p.skip_top1 and p.top_k == 1)):  # however small the scores are
        log = log_scores(p, x[experts])
        s = np.exp(log - log.max())
        return s / s.sum() * float(np.float32(p.scale))
    norm = p.norm or ("softmax" if p.score == "logits" else "none")
    if norm == "softmax" and len(s):
        s = np.exp(s - s.max())
        s = s / s.sum()
    elif norm == "sum" and not (p.skip_top1 and p.top_k == 1):
        divisor = s.sum() + float(np.float32(p.eps))
        if p.floor > 0:
            divisor = max(divisor, float(np.float32(p.floor)))
        s = s / divisor if divisor != 0 else np.zeros_like(s)
    return s * float(np.float32(p.scale))


def cancellation(p, score, experts):
    """How far off a float32 sum may be, relatively, where terms of both signs cancel: raw logits alone have them."""
    if p.score != "logits" or p.norm != "sum" or not len(experts):
        return 0.0
    s = score[experts]
    if (s >= 0).all() or (s <= 0).all():
        return 0.0
    divisor = abs(s.sum() + float(np.float32(p.eps)))
    return (len(s) / 16 + 6) * 2.0**-24 * np.abs(s).sum() / divisor if divisor else np.inf


def ranked(p, token, experts, key, tolerance):
    """Whether `experts` stand best first, ties to the lower expert; what is within tolerance may stand either way."""
    for a, b in zip(experts, experts[1:]):
        gap = key[token, a] - key[token, b]
        slack = tolerance[token, a] + tolerance[token, b]
        if gap < -slack or (gap == 0 and slack == 0 and a > b):
            return False
    return True


def check(p, files):
    """Compares the six arrays with the contract. Returns ("exact" or "near tie", "") or ("wrong", why)."""
    tokens, experts = p.logits.shape
    types = {"token_offsets": np.int32, "expert_ids": np.int32, "weights": np.float32, "expert_offsets": np.int32,
             "expert_tokens": np.int32, "expert_slots": np.int32}
    for name, dtype in types.items():
        if files[name].dtype != dtype or files[name].ndim != 1:
            return "wrong", f"{name} is {files[name].dtype} {files[name].shape}"
    offsets, ids, weights = files["token_offsets"], files["expert_ids"], files["weights"]
    n = len(ids)
    if len(offsets) != tokens + 1 or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        return "wrong", "token_offsets are not offsets of the tokens"
    if len(weights) != n or (n and (ids.min() < 0 or ids.max() >= experts)):
        return "wrong", "ids out of range, or lists of unequal length"
    row = np.repeat(np.arange(tokens), np.diff(offsets))
    got = np.zeros((tokens, experts), bool)
    got[row, ids] = True
    if got.sum() != n:
        return "wrong", "an expert stands twice in one token"

    verdict = judge(p, got)
    if verdict not in ("exact", "near tie"):
        return "wrong", verdict
    key, tolerance, _ = keys(p)
    score = scores(p)
    want, slack = np.zeros(n), np.zeros(n)
    for t in range(tokens):
        mine = ids[offsets[t]:offsets[t + 1]]
        if p.order == "expert" and (np.diff(mine) < 0).any():
            return "wrong", f"the experts of token {t} do not ascend"
        if p.order == "rank" and not ranked(p, t, mine, key, tolerance):
            return "wrong", f"the experts of token {t} do not stand best first"
        want[offsets[t]:offsets[t + 1]] = weights_of(p, score[t], p.logits[t], mine)
        slack[offsets[t]:offsets[t + 1]] = cancellation(p, score[t], mine)

    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = np.abs(want) * (1e-6 + 1.2e-7 * np.abs(np.log(np.abs(want))) + slack)
    # Below the normal float32 numbers there is no relative accuracy to have.
    allowed = np.where(np.abs(want) > 0, allowed, 0.0) + np.where(np.abs(want) < FLT_MIN, FLT_MIN, 0.0)
    off = ~(np.abs(weights.astype(np.float64) - want) <= allowed)
    if off.any():
        i = int(np.argmax(off))
        return "wrong", (f"weight of token {row[i]}, expert {ids[i]}: {weights[i]:.9g} for {want[i]:.9g}, "
                         f"{abs(weights[i] - want[i]) / allowed[i]:.2f} times what is allowed; {int(off.sum())} such")

    slots = np.argsort(ids, kind="stable")
    if not (np.array_equal(files["expert_slots"], slots) and np.array_equal(files["expert_tokens"], row[slots])):
        return "wrong", "expert_slots or expert_tokens are not the token-major lists by expert"
    if not np.array_equal(files["expert_offsets"], np.r_[0, np.cumsum(np.bincount(ids, minlength=experts))]):
        return "wrong", "expert_offsets do not count the ids"
    return verdict, ""
