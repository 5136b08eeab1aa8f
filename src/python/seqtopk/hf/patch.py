# SPDX-License-Identifier: MIT
"""Giving a model's routers another forward, and back."""

import re
from typing import Any, Optional, Union

import torch

from .. import _core
from .routed import Patch, routed
from .routers import FORMS


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
    words = [{"k": router.top_k if k is None else k, "scope": "token" if scope == "token" else "sequence",
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
        router.__class__ = routed(type(router))
    return made


def unpatch(model: torch.nn.Module) -> None:
    """Give a model its own routing back. One that is not patched stays as it is."""
    patches: dict[int, Patch] = {id(m._seqtopk): m._seqtopk for m in model.modules() if "_seqtopk" in m.__dict__}  # type: ignore
    for made in patches.values():
        made.remove()
