# SPDX-License-Identifier: MIT
"""Routing that trains: an operator of PyTorch, for autograd and torch.compile.

    routed = seqtopk.torch.route(logits, 8, min=1, max="k+2", norm="sum")
    routed.ids, routed.weights, routed.counts

Which experts are selected is no function that could be differentiated; what they weigh is, in all logits of their token.
"""

import ast
import functools
from typing import Any, Literal, NamedTuple, Optional

import numpy as np
import torch

from . import _core

__all__ = ["Grouped", "Routed", "Team", "by_expert", "route", "team"]


class Routed(NamedTuple):
    """Rows of fixed width U, so that shapes do not depend on data."""

    ids: torch.Tensor  # [T, U] int64: each token's experts first, then the padding
    weights: torch.Tensor  # [T, U] float32: 0 in the padding; differentiable in the logits
    counts: torch.Tensor  # [T] int32: how many experts each token has


@functools.lru_cache(maxsize=256)
def _parse(options):
    return {name: ast.literal_eval(value) for name, _, value in (word.partition("=") for word in options.split())}


@functools.lru_cache(maxsize=256)
def _described(experts, options):
    words = {name: value for name, value in _parse(options).items() if name not in ("padding", "width")}
    return _core.describe(experts, **words)


def _experts(logits):
    """Their number decides shapes: where torch.compile has it as a symbol, it becomes a constant of the graph."""
    return int(logits.shape[1])


def _width(logits, given_ids, options):
    if given_ids is not None:
        return given_ids.shape[1]
    return _parse(options).get("width") or _described(_experts(logits), options)["width"]


def _given(logits, given_ids, options):
    """What is left of a description where the selection is there: how it is weighed. No budget and no bounds."""
    how = _described(_experts(logits), options)
    words = {name: how[name] for name in ("score", "norm", "norm_eps", "norm_floor", "scale")}
    if how["norm_skip_top1"] and how["k"] == 1 and how["norm"] == "sum":
        words["norm"] = "none"
    most = given_ids.shape[1]
    return {**words, "k": most, "max": most, "order": "given", "padding": _parse(options)["padding"]}


@torch.library.custom_op("seqtopk::route", mutates_args=(), device_types="cpu")
def _route(logits: torch.Tensor, bias: Optional[torch.Tensor], cu_seqlens: Optional[torch.Tensor],
           token_seq: Optional[torch.Tensor], token_mask: Optional[torch.Tensor],
           expert_factors: Optional[torch.Tensor], given_ids: Optional[torch.Tensor],
           options: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    words = dict(_parse(options)) if given_ids is None else _given(logits, given_ids, options)
    words["width"] = _width(logits, given_ids, options)
    if logits.stride(1) != 1 and logits.shape[1] > 1:
        logits = logits.contiguous()
    routing = _core.route(logits, bias=bias, cu_seqlens=cu_seqlens, token_seq=token_seq, token_mask=token_mask,
                          expert_factors=expert_factors, given_ids=given_ids, want="padded64", **words)
    return routing.padded_weights, routing.padded_ids64, routing.token_offsets.diff()


@_route.register_fake
def _(logits, bias, cu_seqlens, token_seq, token_mask, expert_factors, given_ids, options):
    shape = (logits.shape[0], _width(logits, given_ids, options))
    return (logits.new_empty(shape, dtype=torch.float32), logits.new_empty(shape, dtype=torch.int64),
            logits.new_empty(shape[:1], dtype=torch.int32))


def _setup(ctx, inputs, output):
    logits, _, _, _, _, factors, _, ctx.options = inputs
    _, ids, counts = output
    ctx.mark_non_differentiable(ids, counts)
    ctx.save_for_backward(logits, factors, ids, counts)


def _norm_backward(grad, scores, how):
    """From the weights' gradients, before scale and factors, to those of the selected scores [T, U]."""
    if how["norm"] == "softmax":
        weights = torch.softmax(torch.where(scores.isnan(), -torch.inf, scores), -1)
        weights = torch.nan_to_num(weights)  # rows of no expert
        return weights * (grad - (grad * weights).sum(-1, keepdim=True))
    scores = torch.nan_to_num(scores)
    if how["norm"] != "sum" or (how["norm_skip_top1"] and how["k"] == 1):
        return grad
    total = scores.sum(-1, keepdim=True) + how["norm_eps"]
    divisor = total.clamp(min=how["norm_floor"]) if how["norm_floor"] > 0 else total
    inverse = torch.where(divisor != 0, 1 / divisor, 0.0)
    shared = (grad * scores).sum(-1, keepdim=True) * inverse * inverse
    return grad * inverse - torch.where(divisor == total, shared, 0.0)  # a floor does not move with the scores


def _shares_backward(grad, picked, how):
    """Scores over their sum, of softmax, as a softmax over the selected logits: exact however small the scores are."""
    shares = torch.nan_to_num(torch.softmax(torch.where(picked.isnan(), -torch.inf, picked), -1))
    return shares * (grad - (grad * shares).sum(-1, keepdim=True))


def _backward(ctx, grad, grad_ids, grad_counts):
    logits, factors, ids, counts = ctx.saved_tensors
    how = _described(logits.shape[1], ctx.options)
    real = torch.arange(ids.shape[1], device=ids.device) < counts[:, None]
    ids = torch.where(real, ids, 0)
    grad = torch.where(real, grad, 0.0) * how["scale"]
    if factors is not None:
        grad = grad * factors[ids]
    x = logits.float()
    picked = torch.where(real, x.gather(1, ids), torch.nan)  # the padding has no score
    everywhere = None
    if how["score"] == "softmax":
        if how["norm"] == "sum" and not how["norm_eps"] and not how["norm_floor"] and \
                not (how["norm_skip_top1"] and how["k"] == 1):
            grad = _shares_backward(grad, picked, how)
        else:
            everywhere = torch.softmax(x, -1)
            scores = torch.where(real, everywhere.gather(1, ids), torch.nan)
            grad = _norm_backward(grad, scores, how) * torch.nan_to_num(scores)
    elif how["score"] == "sigmoid":
        scores = torch.sigmoid(picked)
        grad = torch.nan_to_num(_norm_backward(grad, scores, how) * scores * torch.sigmoid(-picked))
    elif how["score"] == "sqrtsoftplus":
        scores = torch.nn.functional.softplus(picked).sqrt()
        grad = torch.nan_to_num(_norm_backward(grad, scores, how) * torch.sigmoid(picked) / (2 * scores))
    else:
        grad = _norm_backward(grad, picked, how)
    out = torch.zeros_like(x).scatter_add(1, ids, torch.where(real, grad, 0.0))
    if everywhere is not None:
        out = out - torch.nan_to_num(everywhere) * grad.sum(-1, keepdim=True)
    return out.to(logits.dtype), None, None, None, None, None, None, None


_route.register_autograd(_backward, setup_context=_setup)


def route(logits: torch.Tensor, k: Optional[int] = None, *, bias: Optional[torch.Tensor] = None,
          cu_seqlens: Optional[torch.Tensor] = None, token_seq: Optional[torch.Tensor] = None,
          token_mask: Optional[torch.Tensor] = None, expert_factors: Optional[torch.Tensor] = None,
          given_ids: Optional[torch.Tensor] = None,
          padding: Literal["minus_one", "experts", "distinct", "first"] = "experts", width: Optional[int] = None,
          **options: Any) -> Routed:
    """Select and weigh experts, in a form whose weights are differentiable in the logits.

    logits: [T, E] float32, bfloat16 or float16, on the CPU. bias, expert_factors: [E] float32; cu_seqlens: [S + 1],
    or token_seq: [T]; token_mask: [T] bool or uint8. given_ids: [T, W] int64, -1 behind a token's experts: a
    selection made elsewhere (replay), weighed here. padding: what stands in ids behind a token's experts: 'experts' (E),
    'first' (its first one again), 'minus_one', 'distinct'. width: U; default: the most that a token can get. Options are
    seqtopk.route's: scope, score, norm, min, max, preset and the others that describe a router.

    Returns Routed. Raises what seqtopk.route raises.
    """
    # The dispatcher of operators takes ten times what the routing of a token does: not without need.
    if given_ids is None and type(logits) is torch.Tensor and not torch.compiler.is_compiling() and \
            not (logits.requires_grad and torch.is_grad_enabled()):
        routing = _core.route(logits if logits.stride(-1) == 1 else logits.contiguous(), k, bias=bias, cu_seqlens=cu_seqlens,
                              token_seq=token_seq, token_mask=token_mask, expert_factors=expert_factors,
                              want="padded64", padding=padding, width=width, **options)
        return Routed(routing.padded_ids64, routing.padded_weights, routing.token_offsets.diff())
    options = {"k": k, **options, "padding": padding, "width": width}
    text = " ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
    weights, ids, counts = torch.ops.seqtopk.route(logits, bias, cu_seqlens, token_seq, token_mask, expert_factors,
                                                   given_ids, text)
    return Routed(ids, weights, counts)


class Grouped(NamedTuple):
    """The N pairs by expert, as grouped products read them."""

    tokens: torch.Tensor  # [N] int64: ascending within an expert
    weights: torch.Tensor  # [N] float32, differentiable
    ends: torch.Tensor  # [E] int32: the pairs of expert e are [ends[e - 1], ends[e]): torch's grouped_mm


def by_expert(routed: Routed, experts: int) -> Grouped:
    """The pairs of a Routed, expert by expert. N depends on the data, so that torch.compile breaks its graph here."""
    real = torch.arange(routed.ids.shape[1], device=routed.ids.device) < routed.counts[:, None]
    tokens, places = real.nonzero(as_tuple=True)
    ids = routed.ids[tokens, places]
    # NumPy sorts 16 bits by radix, some twenty times as fast as torch does.
    order = torch.from_numpy(ids.numpy().astype(np.uint16).argsort(kind="stable"))
    ends = torch.bincount(ids, minlength=experts).cumsum(0).to(torch.int32)
    return Grouped(tokens[order], routed.weights[tokens, places][order], ends)


class Team:
    """The collectives that seqtopk.route(..., team=) borrows, of a group of torch.distributed on CPUs (Gloo, MPI)."""

    def __init__(self, group=None, count_all=False):
        self.group = group
        self.count_all = count_all
        self.rank = torch.distributed.get_rank(group)
        self.size = torch.distributed.get_world_size(group)

    def allreduce_sum(self, words):
        torch.distributed.all_reduce(torch.frombuffer(words, dtype=torch.int64), group=self.group)

    def exscan_sum(self, words):
        own = torch.frombuffer(words, dtype=torch.int64)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        torch.distributed.all_gather(parts, own.clone(), group=self.group)
        own.copy_(sum(parts[: self.rank], torch.zeros_like(own)))


def team(group=None, *, count_all=False):
    """A team of the processes of a group, of all by default. Each has a part of each sequence, in the order of ranks:

    seqtopk.route(own_logits, 8, min=1, max="k+2", team=seqtopk.torch.team())

    gives each process what one with all tokens would give those, bit for bit. All processes call it. count_all: the keys of
    all tokens are counted first, not those of a sample: never more than two all-reduces follow, and the local pass is longer.
    """
    return Team(group, count_all)
