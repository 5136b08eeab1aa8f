# SPDX-License-Identifier: MIT
"""SeqTopK in models of transformers.

    seqtopk.hf.patch(model, scope="sequence")             # trains, and runs whole sequences
    seqtopk.hf.patch(model, scope="online")               # generates: token m competes with those before it
    seqtopk.hf.unpatch(model)
"""

import re
from typing import Any, Optional, Union

import torch

from .. import _core
from ..torch import route
from . import forward as forwards
from . import past as pasts
from .routers import FORMS

__all__ = ["Patch", "patch", "unpatch"]


class Patch:
    """What patch() has done to a model."""

    def __init__(self, base, routers, scope, prefill, words, cache_words):
        self.base, self.routers, self.scope, self.prefill = base, routers, scope, prefill
        self.words = words  # of seqtopk.torch.route, for each router
        self.cache_words = cache_words  # of seqtopk.Cache, for online scope
        self.forward = None
        self.counts = [None] * len(routers)  # of the latest forward, for each router: experts of each token [B, T]
        self.hooks = [base.register_forward_pre_hook(self._begin, with_kwargs=True),
                      base.register_forward_hook(self._end, with_kwargs=True)]

    def _begin(self, module, args, kwargs):
        self.forward = f = forwards.read(module, args, kwargs, self.scope != "token")
        if self.scope == "sequence" and f.past:
            raise ValueError("scope='sequence' selects among the tokens of one forward, and this one continues a KV cache: "
                             "patch with scope='online' to generate")
        if self.scope == "online":
            f.state = pasts.begin(self, f)

    def _end(self, module, args, kwargs, output):
        """A KV cache that the model made for itself is known only now."""
        made = getattr(output, "cache", None)
        if made is None:
            made = getattr(output, "past_key_values", None)
        if self.scope == "online" and made is not None and self.forward.kv_cache is None:
            pasts.attach(made, self.forward.state)

    def route(self, router, hidden):
        """What a router returns: logits, weights and ids."""
        form, f = router._seqtopk_form, self.forward
        hidden = hidden.reshape(-1, hidden.shape[-1])
        logits = form.logits(router, hidden)
        if f is None or f.batch * f.tokens != len(hidden):
            raise RuntimeError(f"a router was handed {len(hidden)} rows, and not those of a forward of {type(self.base).__name__}")
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


def _routed(kind):
    """A router's class with another forward. Of the same name, and a subclass, so that whoever looks for it finds it."""

    class Routed(kind):
        def forward(self, hidden_states):
            return self._seqtopk.route(self, hidden_states)

    Routed.__name__, Routed.__qualname__, Routed.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Routed


def _find(model):
    routers = {name: module for name, module in model.named_modules()
               if type(module).__name__ in FORMS and type(module).__module__.startswith("transformers.models.")}
    if routers:
        return routers
    like = sorted({type(m).__name__ for m in model.modules() if re.search(r"(Router|Gate)\d*$", type(m).__name__)})
    has = f"it has {', '.join(like)}" if like else "it has none, as far as names tell"
    raise ValueError(f"seqtopk.hf knows no router of {type(model).__name__} ({has}); known are {', '.join(sorted(FORMS))}")


def _base(model, routers):
    """The innermost model of transformers that all routers are in: the one that is called with ids, mask and KV cache."""
    from transformers import PreTrainedModel

    holding = [(name, module) for name, module in model.named_modules() if isinstance(module, PreTrainedModel)
               and all(router.startswith(name + "." if name else "") for router in routers)]
    if not holding:
        raise TypeError(f"a model of transformers is wanted, not {type(model).__name__}")
    return max(holding, key=lambda found: len(found[0]))[1]


def _words(routers, scope, bounds, k, cache_words):
    """What route() is told for each router, and Cache for all. Raises what cannot be now, and not in a forward."""
    if scope == "token":
        bounds = {}
    words = [{"k": k or router.top_k, "scope": "token" if scope == "token" else "sequence",
              **FORMS[type(router).__name__].describe(router), **bounds} for router in routers]
    experts = [router.num_experts for router in routers]
    for each, number in zip(words, experts):
        _core.describe(number, **each)
    if scope != "online":
        if cache_words:
            raise TypeError(f"{', '.join(cache_words)}: of use with scope='online' alone")
        return words, None
    if any(each != words[0] for each in words) or len(set(experts)) > 1:
        raise ValueError("scope='online' needs routers that are all alike, and this model's are not")
    cache_words = {**words[0], "scope": "online", "experts": experts[0], **cache_words}
    _core.Cache(1, 1, **cache_words)
    return words, cache_words


def patch(model: torch.nn.Module, scope: str = "sequence", min: Optional[int] = 1, max: Union[int, str, None] = "k+2", *,
          k: Optional[int] = None, prefill: str = "causal", **cache_words: Any) -> Patch:
    """Route a model of transformers by seqtopk, in place, until unpatch(). Patching again changes how.

    scope: 'sequence', SeqTopK among all tokens of each row of a forward, which trains; 'online', token m among tokens 1 to
        m, which generates, with a KV cache or without, with beams and with an assistant, and trains too; 'token', TopK,
        which is what the model did before.
    min, max: bounds on the experts of one token; max may be 'k+2'. None: no bound. TopK has none.
    k: experts a token gets, on average; default: the model's own.
    prefill: 'causal', or 'joint': the prompt's tokens compete all together (the paper's prefill).
    cache_words: of seqtopk.Cache, for online scope: mode, is_ledger, max_bytes.

    Padding that attention_mask hides gets no expert and brings no budget. Rows packed into one are told apart by
    position_ids or cu_seq_lens_q. With gradient checkpointing call backward before the next forward.

    Returns a Patch, whose `counts` are the experts of each token in the latest forward. Raises ValueError where the model's
    router is not known, or a number is none that can be routed.
    """
    if scope not in ("sequence", "online", "token"):
        raise ValueError(f"scope is {scope!r}; it must be one of 'sequence', 'online', 'token'")
    if prefill not in ("causal", "joint"):
        raise ValueError(f"prefill is {prefill!r}; it must be one of 'causal', 'joint'")
    routers = _find(model)
    base = _base(model, routers)
    words, cache_words = _words(routers.values(), scope, {"min": min, "max": max}, k, cache_words)
    unpatch(model)
    made = Patch(base, list(routers.values()), scope, prefill, words, cache_words)
    for layer, (name, router) in enumerate(routers.items()):
        experts = getattr(model.get_submodule(name.rpartition(".")[0]), "experts", None)
        router.__dict__["_seqtopk_experts"] = experts  # seen, and no submodule of the router's
        router._seqtopk_form, router._seqtopk_layer, router._seqtopk_class = FORMS[type(router).__name__], layer, type(router)
        router.__dict__["_seqtopk"] = made
        router.__class__ = _routed(type(router))
    return made


def unpatch(model: torch.nn.Module) -> None:
    """Give a model its own routing back. One that is not patched stays as it is."""
    patches: dict[int, Patch] = {id(m._seqtopk): m._seqtopk for m in model.modules() if "_seqtopk" in m.__dict__}  # type: ignore
    for made in patches.values():
        made.remove()
