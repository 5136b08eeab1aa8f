# SPDX-License-Identifier: MIT
"""A language model of bytes, with a Mixture-of-Experts block in every layer; and its file."""

import dataclasses
import json

import numpy as np
import routers
import seqtopk.torch
import torch
from torch import nn
from torch.nn import functional

BALANCE = 0.01  # of the load-balancing loss (Switch Transformer, arXiv 2101.03961), the same for every router


@dataclasses.dataclass(frozen=True)
class Config:
    experts: int = 128
    k: int = 2
    width: int = 64
    hidden: int = 32  # of one expert
    layers: int = 2
    heads: int = 2
    length: int = 256


class Experts(nn.Module):
    """Logits by a product, selection and weights by seqtopk.torch, the experts' products over lists by expert."""

    def __init__(self, config):
        super().__init__()
        self.k = config.k
        self.gate = nn.Linear(config.width, config.experts, bias=False)
        self.up = nn.Parameter(torch.randn(config.experts, config.width, config.hidden) * config.width ** -0.5)
        self.down = nn.Parameter(torch.randn(config.experts, config.hidden, config.width) * config.hidden ** -0.5)
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, x, router, online):
        tokens = x.flatten(0, 1)
        logits = self.gate(tokens)
        routed = routers.route(router, logits, self.k, x.shape[:2], online, self.threshold)
        pairs = seqtopk.torch.by_expert(routed, logits.shape[1])
        hidden = functional.relu(functional.grouped_mm(tokens[pairs.tokens], self.up, offs=pairs.ends))
        parts = functional.grouped_mm(hidden, self.down, offs=pairs.ends) * pairs.weights[:, None]
        self.counts = routed.counts
        share = pairs.ends.diff(prepend=pairs.ends.new_zeros(1)) / max(len(pairs.tokens), 1)
        self.balance = logits.shape[1] * (share * logits.softmax(-1).mean(0)).sum()
        return torch.zeros_like(tokens).index_add(0, pairs.tokens, parts).view_as(x)


def rotate(x):
    """Rotary positions (arXiv 2104.09864) of queries and keys [..., length, width]."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * 1000.0 ** (-torch.arange(half) / half)
    first, second = x.split(half, -1)
    sin, cos = angles.sin(), angles.cos()
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        self.before_attention, self.before_experts = nn.RMSNorm(config.width), nn.RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.experts = Experts(config)

    def forward(self, x, router, online):
        q, k, v = self.qkv(self.before_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.experts(self.before_experts(x), router, online)


class Model(nn.Module):
    """Which router selects is a word of each call, so that a model may be tried or trained on with another."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.bytes = nn.Embedding(256, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.last = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, 256, bias=False)
        nn.init.normal_(self.bytes.weight, std=0.5)

    def forward(self, text, router, online=False):
        """text [sequences, length] of bytes -> logits of the next bytes [sequences, length, 256]"""
        x = self.bytes(text)
        for layer in self.layers:
            x = layer(x, router, online)
        return self.head(self.last(x))

    def balance(self):
        """The load-balancing loss of the latest call: 1 where all experts are as busy."""
        return sum(layer.experts.balance for layer in self.layers) / len(self.layers)

    def counts(self):
        """Experts of each token in the latest call, [layers, tokens]."""
        return torch.stack([layer.experts.counts for layer in self.layers])


def save(path, model, router, figures):
    """An .npz, not compressed, of float16 weights by name, and as texts in JSON the shape, the router and what was measured."""
    arrays = {name: array.numpy().astype(np.float16 if array.dim() else np.float32)
              for name, array in model.state_dict().items()}
    np.savez(path, **arrays, config=json.dumps(dataclasses.asdict(model.config)), router=router,
                        figures=json.dumps(figures))


def load(path):
    """(model, the router's name, figures)"""
    with np.load(path) as file:
        words = {name: str(file[name]) for name in ("config", "router", "figures")}
        model = Model(Config(**json.loads(words["config"])))
        model.load_state_dict({name: torch.from_numpy(file[name].astype(np.float32)) for name in file if name not in words})
    return model, words["router"], json.loads(words["figures"])
