# SPDX-License-Identifier: MIT
"""Training, and bits per byte."""

import copy
import dataclasses
import math

import data
import model as models
import torch
from torch.nn import functional

SEQUENCES = 4  # of a batch, in training and out of it


def train(config, router, texts, steps, seed, start=None, rate=6e-3, say=lambda step, bits: None):
    """A model trained with a router, from scratch or on from `start`. The same seed: the same first weights and batches."""
    torch.manual_seed(seed)
    model = copy.deepcopy(start) if start else models.Model(config)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    warm = min(50, steps // 5 + 1)
    batches = data.batches(texts, SEQUENCES, config.length, seed + (1000 if start else 0))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / warm, 0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)
        batch = torch.from_numpy(next(batches))
        loss = functional.cross_entropy(model(batch[:, :-1], router).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        (loss + models.BALANCE * model.balance()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            say(step + 1, float(loss.detach()) / math.log(2))
    return model


@dataclasses.dataclass
class Evaluation:
    losses: torch.Tensor  # [N] bits of each byte
    counts: torch.Tensor  # [layers, N] experts of the token that predicted it

    @property
    def bits(self):
        return float(self.losses.double().mean())

    @property
    def experts(self):
        """Per token and layer, on average."""
        return float(self.counts.double().mean())


@torch.no_grad()
def evaluate(model, router, pieces, online):
    """pieces [N, length + 1] of bytes, of which all but the first are predicted."""
    model.eval()
    losses, counts = [], []
    for batch in torch.from_numpy(pieces).split(SEQUENCES):
        logits = model(batch[:, :-1], router, online)
        losses.append(functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none") / math.log(2))
        counts.append(model.counts())
    return Evaluation(torch.cat(losses), torch.cat(counts, 1))
