# SPDX-License-Identifier: MIT
"""Text that every Debian machine with Python has: licences and Python's own manual (prose), its modules (code).

What is held out is whole licences, the last tenth of the manual's topics and every tenth module.
"""

import pathlib
import sysconfig

import numpy as np

LICENCES = pathlib.Path("/usr/share/common-licenses")
HELD_OUT_LICENCES = ("Apache-2.0", "CC0-1.0")
SAMPLE = pathlib.Path(__file__).resolve().parent / "sample.txt"  # these two, for machines that have no LICENCES
KINDS = ("prose", "code")


def _every_tenth(parts):
    """(trained on, held out)"""
    return [p for i, p in enumerate(parts) if i % 10 != 9], [p for i, p in enumerate(parts) if i % 10 == 9]


def _prose():
    if not LICENCES.is_dir():
        raise FileNotFoundError(f"{LICENCES}: no such directory; it is of Debian's package base-files")
    files = {path.read_bytes(): path.name for path in sorted(LICENCES.iterdir())}  # GPL is GPL-3 once more
    held = [SAMPLE.read_bytes()]
    train = [text for text, name in files.items() if name not in HELD_OUT_LICENCES]
    try:
        from pydoc_data.topics import topics
    except ImportError as missing:
        raise FileNotFoundError(f"{missing}; it is of Debian's package libpython3-stdlib") from None
    manual = [topics[name].encode() for name in sorted(topics)]
    last = len(manual) * 9 // 10
    return train + manual[:last], held + manual[last:]


def _code():
    modules = pathlib.Path(sysconfig.get_path("stdlib"))
    texts = [path.read_bytes() for path in sorted(modules.glob("*.py"))]
    if len(texts) < 100:
        raise FileNotFoundError(f"{modules}: {len(texts)} modules; all are of Debian's package libpython3-stdlib")
    return _every_tenth(texts)


def read():
    """kind -> (bytes to train on, bytes held out), uint8 arrays. FileNotFoundError: what of it this machine has not."""
    return {kind: tuple(np.frombuffer(b"\n".join(part), np.uint8) for part in parts)
            for kind, parts in zip(KINDS, (_prose(), _code()))}


def batches(texts, sequences, length, seed):
    """Without end: [sequences, length + 1] bytes, of each kind as many sequences as of the other."""
    random = np.random.default_rng(seed)
    while True:
        rows = []
        for i in range(sequences):
            text = texts[KINDS[i % len(KINDS)]][0]
            begin = random.integers(0, len(text) - length)
            rows.append(text[begin:begin + length + 1])
        yield np.stack(rows).astype(np.int64)


def cut(text, length, most=None):
    """[N, length + 1]: pieces of a text, one after the other, or `most` of them evenly apart; each byte predicted once."""
    n = (len(text) - 1) // length
    picked = np.arange(n) if most is None or most >= n else np.arange(most) * n // most
    return np.stack([text[i * length:(i + 1) * length + 1] for i in picked]).astype(np.int64)


def held_out(texts, length, most):
    """[N, length + 1], half of each kind, in turn."""
    parts = [cut(texts[kind][1], length, most // len(KINDS)) for kind in KINDS]
    n = min(map(len, parts))
    return np.stack([part[:n] for part in parts], 1).reshape(-1, length + 1)
