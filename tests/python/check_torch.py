#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.torch: the lists of seqtopk.route, gradients of a formula in torch alone, and torch.compile: check_torch.py"""

import argparse
import itertools
import shutil

import harness
from harness import check, raises

torch, np = harness.need("torch", "numpy")
import seqtopk
import seqtopk.torch


def weights_in_torch(x, ids, real, score, norm, eps, floor, scale, factors, k, skip):
    """The weights of a selection, in float64 and nothing but torch."""
    if score == "softmax":
        s = torch.log_softmax(x, -1).exp()
    elif score == "sigmoid":
        s = torch.sigmoid(x)
    elif score == "sqrtsoftplus":
        s = torch.nn.functional.softplus(x).sqrt()
    else:
        s = x
    s = torch.where(real, s.gather(1, ids.clamp(0, x.shape[1] - 1)), 0.0)
    if norm == "softmax":
        w = torch.softmax(s.masked_fill(~real, -torch.inf), -1)
        w = torch.where(real, w, 0.0)
    elif norm == "sum" and not (skip and k == 1):
        d = s.sum(-1, keepdim=True) + eps
        d = d.clamp(min=floor) if floor else d
        w = s / torch.where(real.any(-1, keepdim=True), d, 1.0)  # a token may have no expert
    else:
        w = s
    w = w * scale
    return w if factors is None else w * torch.where(real, factors.double()[ids.clamp(0, x.shape[1] - 1)], 0.0)


def check_gradients():
    for score, (norm, eps, floor), scope, more in itertools.product(
            ("softmax", "sigmoid", "sqrtsoftplus", "logits"),
            (("none", 0, 0), ("sum", 0, 0), ("sum", 1e-20, 0), ("sum", 0.25, 0), ("sum", 0, 0.7), ("softmax", 0, 0)),
            ("token", "sequence"), ("", "bias", "factors", "groups", "top1")):
        if score == "logits" and norm == "sum":
            continue  # raw logits may cancel
        torch.manual_seed(len(score) + len(more))
        k, experts, tokens = 1 if more == "top1" else 4, 16, 12
        logits = torch.randn(tokens, experts, requires_grad=True)
        words = dict(score=score, norm=norm, norm_eps=eps, norm_floor=floor, scale=2.5, scope=scope)
        if scope == "sequence":
            words.update(max="k+2", cu_seqlens=torch.tensor([0, 5, tokens]))
        if more == "bias":
            words["bias"] = torch.randn(experts) * 0.1
        factors = torch.rand(experts) + 0.5 if more == "factors" else None
        if more == "groups":
            words.update(groups=4, group_top_k=2, group_score="max")
        if more == "top1":
            words["norm_skip_top1"] = True
        name = f"{score} {norm} {eps} {floor} {scope} {more}"
        routed = seqtopk.torch.route(logits, k, expert_factors=factors, **words)
        x = logits.detach().double().requires_grad_()
        real = torch.arange(routed.ids.shape[1]) < routed.counts[:, None]
        check(bool((routed.ids[~real] == experts).all()) and bool((routed.weights[~real] == 0).all()), f"padding {name}")
        want = weights_in_torch(x, routed.ids, real, score, norm, eps, floor, 2.5, factors, k, more == "top1")
        check(torch.allclose(routed.weights.double(), want, rtol=1e-5, atol=1e-7),
              f"weights {name}: {(routed.weights - want).abs().max():.2g}")
        grad = torch.randn(want.shape)
        routed.weights.backward(grad)
        want.backward(grad.double())
        check(torch.allclose(logits.grad.double(), x.grad, rtol=1e-4, atol=1e-6),
              f"gradient {name}: {(logits.grad - x.grad).abs().max():.2g}")


def check_extremes():
    """Gradients stay finite where scores leave float32, tokens are masked, or logits are -inf."""
    logits = torch.randn(6, 8)
    logits[0] *= 1000
    logits[1, 3] = -torch.inf
    logits[2] = torch.nan
    mask = torch.tensor([1, 1, 0, 1, 1, 1], dtype=torch.bool)
    for score, norm in itertools.product(("softmax", "sigmoid", "sqrtsoftplus"), ("none", "sum", "softmax")):
        x = logits.clone().requires_grad_()
        routed = seqtopk.torch.route(x, 2, score=score, norm=norm, max=4, token_mask=mask)
        routed.weights.pow(2).sum().backward()
        check(bool(x.grad.isfinite().all()) and bool((x.grad[2] == 0).all()), f"{score} {norm}: {x.grad}")
    check(routed.counts[2] == 0 and bool((routed.ids[2] == 8).all()), "a masked token has no expert")


def check_lists():
    logits = torch.randn(50, 32)
    words = dict(min=1, max="k+2", norm="sum")
    want = seqtopk.route(logits, 4, want="padded64", padding="first", **words)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = logits.to(dtype, copy=True).requires_grad_()
        want = seqtopk.route(x, 4, want="padded64", padding="first", **words)
        got = seqtopk.torch.route(x, 4, padding="first", **words)
        check(torch.equal(got.ids, want.padded_ids64) and torch.equal(got.weights, want.padded_weights), str(dtype))
        got.weights.sum().backward()
        check(x.grad.dtype == dtype, "the gradient's type")
    apart = seqtopk.torch.route(torch.randn(32, 50).t(), 4, **words)
    check(apart.ids.shape == (50, 6), "transposed logits")
    given = seqtopk.torch.route(logits, 4, padding="minus_one", **words)
    replay = seqtopk.torch.route(logits, 4, norm="sum", given_ids=given.ids.flip(1).sort(1, descending=True)[0])
    check(torch.equal(replay.weights.sort(1)[0], given.weights.sort(1)[0]), "replay")
    both = [seqtopk.torch.route(logits, 4, max="k+2", **{name: torch.tensor(value)}) for name, value in
            (("cu_seqlens", [0, 20, 50]), ("token_seq", [0] * 20 + [1] * 30))]
    check(all(torch.equal(a, b) for a, b in zip(*both)), "token_seq")
    grouped = seqtopk.torch.by_expert(given, 32)
    dense = seqtopk.route(logits, 4, want="dense", **words).routing_probs
    back = torch.zeros(50, 32)
    for expert in range(32):
        mine = slice(int(grouped.ends[expert - 1]) if expert else 0, int(grouped.ends[expert]))
        back[grouped.tokens[mine], expert] = grouped.weights[mine]
    check(torch.equal(back, dense), "by_expert")
    empty = seqtopk.torch.route(torch.randn(0, 32), 4, max=6)
    check(empty.ids.shape == (0, 6), "no tokens")
    raises(seqtopk.Error, ["k is 40"], lambda: seqtopk.torch.route(logits, 40))
    raises(TypeError, ["'topk'"], lambda: seqtopk.torch.route(logits, 4, topk=4))


def check_compile():
    logits = torch.randn(20, 16, requires_grad=True)
    args = (logits, None, None, None, None, None, None, "k=4 max='k+2' norm='sum' padding='experts'")
    for test in ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"):
        told = torch.library.opcheck(torch.ops.seqtopk.route.default, args, test_utils=test)
        check(told == {test: "SUCCESS"}, f"opcheck {told}")

    def loss(x, w):
        routed = seqtopk.torch.route(x @ w, 4, min=1, max="k+2", norm="sum")
        return (routed.weights ** 2).sum() + routed.counts.sum()

    backends = ["aot_eager"] + (["inductor"] if shutil.which("g++") else [])
    x, w = torch.randn(20, 8), torch.randn(8, 16, requires_grad=True)
    want = torch.autograd.grad(loss(x, w), w)[0]
    for backend in backends:
        compiled = torch.compile(loss, backend=backend, fullgraph=True)
        got = torch.autograd.grad(compiled(x, w), w)[0]
        check(torch.allclose(got, want, rtol=1e-4, atol=1e-6), f"torch.compile by {backend}")
        compiled(torch.randn(33, 8), w)


def check_training():
    """A layer of experts that learns to tell its inputs apart, routed by SeqTopK."""
    torch.manual_seed(0)
    gate = torch.nn.Linear(8, 6, bias=False)
    experts = torch.nn.Parameter(torch.randn(6, 8) * 0.1)
    x = torch.randn(256, 8)
    target = (x * torch.where(x[:, :1] > 0, 1.0, -1.0)).sum(1)
    optimizer = torch.optim.Adam([*gate.parameters(), experts], lr=0.03)
    losses = []
    for _ in range(150):
        routed = seqtopk.torch.route(gate(x), 2, min=1, max="k+2", norm="sum", padding="first")
        out = ((experts[routed.ids] * x[:, None]).sum(-1) * routed.weights).sum(1)
        losses.append((out - target).pow(2).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    check(losses[-1] < 0.2 * losses[0], f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")


def main():
    argparse.ArgumentParser().parse_args()
    torch.manual_seed(1)
    for part in (check_gradients, check_extremes, check_lists, check_compile, check_training):
        part()
    harness.report()


main()
