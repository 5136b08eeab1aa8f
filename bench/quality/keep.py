#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains the model that is kept beside this file, and measures it on the text beside it: keep.py [--steps N]"""

import argparse
import pathlib
import sys

import data
import model as models
import numpy as np
import torch
import train

KEPT = pathlib.Path(__file__).resolve().parent / "model.npz"
ROUTER = "seqtopk"


def measure(model, router):
    """What a kept model's file says of it, on sample.txt: bits per byte, experts a token, offline and online, and the share
    of a layer's tokens that have another number of experts online."""
    pieces = data.cut(np.frombuffer(data.SAMPLE.read_bytes(), np.uint8), model.config.length)
    offline, online = (train.evaluate(model, router, pieces, is_online) for is_online in (False, True))
    return {"bits_offline": offline.bits, "bits_online": online.bits, "experts_offline": offline.experts,
            "experts_online": online.experts, "differ": float((offline.counts != online.counts).double().mean())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2500, help="of training (default: %(default)s, 2 minutes)")
    steps = parser.parse_args().steps
    if steps < 1:
        parser.error(f"--steps is {steps}: at least 1")
    torch.set_num_threads(1)
    try:
        texts = data.read()
    except FileNotFoundError as error:
        sys.exit(f"keep.py: {error}")
    trained = train.train(models.Config(), ROUTER, texts, steps, seed=0,
                          say=lambda step, bits: print(f"step {step} of {steps}: {bits:.3f} bits per byte", flush=True))
    models.save(KEPT, trained, ROUTER, {})
    rounded, router, _ = models.load(KEPT)  # to float16
    figures = {"steps": steps, **measure(rounded, router)}
    models.save(KEPT, rounded, router, figures)
    print(KEPT.name, figures)


if __name__ == "__main__":
    main()
