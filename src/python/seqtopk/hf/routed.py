# SPDX-License-Identifier: MIT
"""Routers that route by seqtopk: what a patched model's forward goes through."""

import torch

from ..torch import route
from . import forward as forwards
from . import past as pasts


class Patch:
    """What patch() has done to a model."""

    def __init__(self, base, routers, scope, prefill, words, cache_words):
        self.base, self.routers, self.scope, self.prefill = base, routers, scope, prefill
        self.words = words  # of seqtopk.torch.route, for each router
        self.cache_words = cache_words  # of seqtopk.Cache, for online scope
        self.forward = None
        self.is_active = True  # hooks of a model that was copied with its patch cannot be removed
        self.counts = [None] * len(routers)  # of the latest forward, for each router: experts of each token [B, T]
        self.hooks = [base.register_forward_pre_hook(self._begin, with_kwargs=True),
                      base.register_forward_hook(self._end, with_kwargs=True)]

    def _begin(self, module, args, kwargs):
        if not self.is_active:
            return
        self.forward = f = forwards.read(module, args, kwargs, self.scope != "token")
        if self.scope == "sequence" and f.past:
            raise ValueError("scope='sequence' selects among the tokens of one forward, and this one continues a KV cache: "
                             "patch with scope='online' to generate")
        if self.scope == "online":
            f.state = pasts.begin(self, f)

    def _end(self, module, args, kwargs, output):
        """A KV cache that the model made for itself is known only now."""
        f = self.forward
        if not self.is_active or f is None:
            return
        made = getattr(output, "cache", None)
        if made is None:
            made = getattr(output, "past_key_values", None)
        if f.state is not None and made is not None and f.kv_cache is None:
            pasts.attach(made, f.state)
        f.kv_cache = None  # not to be kept alive
        if not torch.is_grad_enabled():
            f.state = None  # else checkpointed layers may run again

    def route(self, router, hidden):
        """What a router returns: logits, weights and ids."""
        form, f = router._seqtopk_form, self.forward
        hidden = hidden.reshape(-1, hidden.shape[-1])
        logits = form.logits(router, hidden)
        if f is None or f.batch * f.tokens != len(hidden):
            raise RuntimeError(f"a router was handed {len(hidden)} rows, and not those of a forward of "
                               f"{type(self.base).__name__}")
        if logits.device.type != "cpu":
            raise ValueError(f"the model is on {logits.device}: seqtopk routes on the CPU")
        padding = _pad(router, form, len(hidden), self.scope)
        words, bias = self.words[router._seqtopk_layer], form.bias(router)
        if self.scope == "online":
            ids, weights, counts = self._online(router, logits, bias, padding, words)
        elif self.scope == "token":
            ids, weights, counts = route(logits, bias=bias, padding=padding, **words)
        else:
            ids, weights, counts = route(logits, bias=bias, padding=padding, cu_seqlens=f.cu_seqlens, token_mask=f.mask,
                                         **words)
        self.counts[router._seqtopk_layer] = counts.view(f.batch, f.tokens)
        return logits, form.weights(weights, logits, hidden), ids

    def _online(self, router, logits, bias, padding, words):
        """The selection of the past's step; weights that are to be differentiated are made once more, of that selection."""
        take = "joint" if self.prefill == "joint" and self.forward.past == 0 else "causal"
        differentiable = torch.is_grad_enabled() and logits.requires_grad
        with torch.no_grad():
            step = self.forward.state.step(router._seqtopk_layer, logits.detach(), self.forward, take=take, bias=bias,
                                           want="padded64", padding="minus_one" if differentiable else padding)
        if differentiable:
            return route(logits, given_ids=step.padded_ids64, padding=padding, **words)
        return step.padded_ids64, step.padded_weights, step.token_offsets.diff()

    def remove(self):
        self.is_active = False
        for hook in self.hooks:
            hook.remove()
        for router in self.routers:
            router.__class__ = router._seqtopk_class
            if "_is_expert_parallel" in getattr(router._seqtopk_experts, "__dict__", {}):
                router._seqtopk_experts._is_expert_parallel = False
            for name in ("_seqtopk", "_seqtopk_form", "_seqtopk_layer", "_seqtopk_class"):
                delattr(router, name)
            del router.__dict__["_seqtopk_experts"]


_FEW = 8  # rows, for which leaving experts out costs more than running one again


def _pad(router, form, rows, scope):
    """What stands behind a token's experts, for the experts to read. Id E, which they leave out: eager ones by themselves,
    others as they do under expert parallelism, once told. Where that cannot be, or is not worth it, a token's first expert
    again, at weight 0, whose weights are read anyway."""
    experts = router._seqtopk_experts
    how = getattr(getattr(experts, "config", None), "_experts_implementation", "eager")
    can_tell = how in ("grouped_mm", "batched_mm") and "_is_expert_parallel" in getattr(experts, "__dict__", {})
    is_out = scope != "token" and rows > _FEW and (form.skips if how == "eager" else can_tell)
    if can_tell:
        experts.__dict__["_is_expert_parallel"] = is_out
    return "experts" if is_out else "first"


def routed(kind):
    """A router's class with another forward. Of the same name, and a subclass, so that whoever looks for it finds it."""

    class Routed(kind):
        def forward(self, hidden_states):
            return self._seqtopk.route(self, hidden_states)

    Routed.__name__, Routed.__qualname__, Routed.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Routed
