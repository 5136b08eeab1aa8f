# SPDX-License-Identifier: MIT
"""Five ways to spend K experts a token on average; the library makes every selection.

All weigh by softmax over all experts, divided by the sum of the selected (Mixtral, Qwen3-MoE), and all but TopK give a token
1 to K + 2 experts. Each has two forms: offline, as it trains, and online, what is possible while sequences are decoded:

  name       offline: what competes                                online
  topk       a token's own experts: K each                         the same
  seqtopk    all tokens of a sequence (arXiv 2511.06494)           a token with those before it
  batchtopk  all tokens of the batch (arXiv 2412.06410's)          the tokens of one position in the batch's sequences
  top-p      fewest that add up to p; p bisected in each batch     p of the training's last batches, on average
  min-p      not below p times the best; p bisected likewise       likewise
"""

import functools

import seqtopk.torch
import torch

NAMES = ("topk", "seqtopk", "batchtopk", "top-p", "min-p")
WEIGHTS = {"score": "softmax", "norm": "sum"}
BOUNDS = {"min": 1, "max": "k+2"}
TOLERANCE = 0.002  # of the budget: where a bisection may end
THRESHOLDS = {"top-p": "top_p", "min-p": "min_p"}


def bisect(logits, k, word):
    """The top_p or min_p with which these tokens have K experts on average."""
    low, high, budget = 0.0, 1.0, k * len(logits)
    for _ in range(24):
        middle = (low + high) / 2
        selected = seqtopk.route(logits, _most(logits, k), scope="token", **{word: middle}).selected
        if abs(selected - budget) <= TOLERANCE * budget:
            break
        if (selected < budget) == (word == "top_p"):  # a larger p: more experts by top_p, fewer by min_p
            low = middle
        else:
            high = middle
    return middle


def _most(logits, k):
    return min(k + 2, logits.shape[1])


def _borders(sequences, length):
    return torch.arange(sequences + 1, dtype=torch.int32) * length


def _topk(logits, k, shape, online, threshold):
    return seqtopk.torch.route(logits, k, scope="token", **WEIGHTS)


def _seqtopk(logits, k, shape, online, threshold):
    if not online:
        return seqtopk.torch.route(logits, k, cu_seqlens=_borders(*shape), **BOUNDS, **WEIGHTS)
    sequences, length = shape
    cache = seqtopk.Cache(sequences=sequences, experts=logits.shape[1], k=k, **BOUNDS, **WEIGHTS)
    step = cache.step(0, logits.detach(), torch.arange(sequences, dtype=torch.int32).repeat_interleave(length),
                      torch.arange(length).repeat(sequences), want="padded64")  # as if tokens came one by one
    return seqtopk.torch.route(logits, k, given_ids=step.padded_ids64, **WEIGHTS)


def _batchtopk(logits, k, shape, online, threshold):
    if not online:
        return seqtopk.torch.route(logits, k, **BOUNDS, **WEIGHTS)
    sequences, length = shape
    order = torch.arange(len(logits)).view(shape).t().flatten()  # by position
    routed = seqtopk.torch.route(logits[order], k, cu_seqlens=_borders(length, sequences), **BOUNDS, **WEIGHTS)
    back = order.argsort()
    return seqtopk.torch.Routed(*(part[back] for part in routed))


def _threshold(word, logits, k, shape, online, threshold):
    p = float(threshold) if online else bisect(logits.detach(), k, word)
    if torch.is_grad_enabled():
        threshold.copy_(p if not threshold else 0.95 * threshold + 0.05 * p)
    return seqtopk.torch.route(logits, _most(logits, k), scope="token", **{word: p}, **WEIGHTS)


_ROUTES = {"topk": _topk, "seqtopk": _seqtopk, "batchtopk": _batchtopk,
           **{name: functools.partial(_threshold, word) for name, word in THRESHOLDS.items()}}


def route(name, logits, k, shape, online, threshold):
    """seqtopk.torch.Routed of logits [sequences * length, E]. shape: (sequences, length). threshold: a layer's own p, a
    tensor of one element, which training keeps up to date."""
    return _ROUTES[name](logits, k, shape, online, threshold)
