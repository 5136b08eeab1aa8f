#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/examples/engine: that it prints what the Python model computes, to rounding, and refuses files that are none:
check_engine.py ENGINE"""

import pathlib
import struct
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL, SAMPLE = ROOT / "bench" / "quality" / "model.npz", ROOT / "bench" / "quality" / "sample.txt"
EXPECTED = ROOT / "docs" / "examples" / "engine" / "engine.txt"
NEAR = 0.0006  # sums in another order, which may also turn a near tie; and the rounding of four places
failures = []


def check(fine, what):
    if not fine:
        failures.append(what)
        print("FAILED:", what)


def run(engine, *args):
    return subprocess.run([engine, *map(str, args)], capture_output=True, text=True, timeout=300)


def is_near(word, wanted):
    """Equal, or numbers with a point that are near each other."""
    are_numbers = all("." in each and each.replace(".", "", 1).isdigit() for each in (word, wanted))
    return word == wanted or are_numbers and abs(float(word) - float(wanted)) <= NEAR


def check_figures(engine, where):
    out = where / "figures"
    done = run(engine, MODEL, SAMPLE, out)
    check(done.returncode == 0, f"status {done.returncode}: {done.stderr}")
    got, want = done.stdout.splitlines(), EXPECTED.read_text().splitlines()
    check(len(got) == len(want), f"{len(got)} lines, wanted {len(want)}")
    for line, wanted in zip(got, want):
        fine = len(line.split()) == len(wanted.split()) and all(map(is_near, line.split(), wanted.split()))
        check(fine, f"printed  {line}\n        expected {wanted}")
    size = 18176 * (4 + 2 * 4)
    check(out.stat().st_size == 5 * size, f"figures of {out.stat().st_size} bytes, wanted {5 * size}")
    # A prompt that is taken token by token, in one call or in many, is selected alike: to the bit, where sums are too.
    data = out.read_bytes()
    check(data[2 * size + 18176 * 4:3 * size] == data[3 * size + 18176 * 4:4 * size], "online: prefilled is not decoded")


def check_refused(engine, where):
    """Bad files, each with the word that says what is wrong."""
    model = MODEL.read_bytes()
    bad, odd = where / "bad.npz", where / "odd.npz"

    def refused(content, word, text=SAMPLE):
        bad.write_bytes(content)
        done = run(engine, bad, text)
        check(done.returncode == 1 and word in done.stderr and not done.stdout, f"{word}: {done.returncode} {done.stderr}")

    refused(b"", "no .npz")
    refused(b"PK\5\6" + bytes(18), "has no array config")
    refused(model[:len(model) // 2], "no .npz")
    for cut in (1, 21, 500):
        refused(model[:-cut], "no .npz")
        refused(model[cut:], "has no array config, or is torn")
    with zipfile.ZipFile(MODEL) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}

    def changed(word, compression=zipfile.ZIP_STORED, **replaced):
        with zipfile.ZipFile(odd, "w", compression) as file:
            for name, data in members.items():
                data = replaced.get(name.removesuffix(".npy").replace(".", "_"), data)
                if data is not None:
                    file.writestr(name, data)
        refused(odd.read_bytes(), word)

    changed("compressed", zipfile.ZIP_DEFLATED)
    changed("no array last.weight", last_weight=None)
    changed("torn", last_weight=members["last.weight.npy"][:-1])
    changed("no .npy", last_weight=b"NUMPY")
    changed("header of last.weight is torn", last_weight=b"\x93NUMPY\1\0" + struct.pack("<H", 65535) + b"{  }")
    changed("last.weight is 256", last_weight=members["bytes.weight.npy"])
    changed("neither float16", last_weight=members["last.weight.npy"].replace(b"<f2", b"<f1"))
    changed("another kind", last_weight=members["last.weight.npy"].replace(b"False", b"True "))
    config = members["config.npy"]
    changed("experts is 0", config=config.replace("experts".encode("utf-32-le"), "experte".encode("utf-32-le")))
    changed("no model's configuration", config=config.replace('"k": 2'.encode("utf-32-le"), '"k":999'.encode("utf-32-le")))
    short = where / "short.txt"
    short.write_bytes(SAMPLE.read_bytes()[:256])
    done = run(engine, MODEL, short)
    check(done.returncode == 1 and "has 256 bytes: wanted are 257" in done.stderr, done.stderr)
    for args, word in (((), "wanted: engine"), ((MODEL, where / "none"), "cannot be opened"),
                       ((MODEL, SAMPLE, where / "none" / "out"), "cannot be written")):
        done = run(engine, *args)
        check(done.returncode == 1 and word in done.stderr, f"{args}: {done.stderr}")


def main():
    with tempfile.TemporaryDirectory() as where:
        engine, where = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(where)
        check_figures(engine, where)
        check_refused(engine, where)
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)


main()
