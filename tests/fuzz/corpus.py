#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A corpus is one file in the tree, an input of hexadecimal digits a line: corpus.py unpack FILE FOLDER, or pack FOLDER FILE"""

import hashlib
import pathlib
import sys


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("pack", "unpack"):
        sys.exit(__doc__)
    source, target = map(pathlib.Path, sys.argv[2:])
    if sys.argv[1] == "unpack":
        target.mkdir(parents=True, exist_ok=True)
        for line in source.read_text().splitlines():
            data = bytes.fromhex(line)
            (target / hashlib.sha1(data).hexdigest()).write_bytes(data)
    else:
        inputs = sorted((path.read_bytes() for path in source.iterdir() if path.is_file()), key=lambda d: (len(d), d))
        target.write_text("".join(data.hex() + "\n" for data in inputs if data))


main()
