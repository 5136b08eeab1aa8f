# SPDX-License-Identifier: MIT
"""The exceptions of seqtopk."""

import re

# What the C API calls differently.
_NAMES = {"top_k": "k", "min_experts": "min", "max_experts": "max", "padded_width": "width",
          "seqtopk_preset_get": "seqtopk.presets()", "seqtopk_cache_step": "seqtopk.Cache.step"}

_NONFINITE = 7


class Error(ValueError):
    """A call that cannot be carried out. The message names the argument and what to do.

    `status` is the phrase of the C API's seqtopk_status; `token` the first offending token of the batch, or -1.
    """

    status: str
    token: int

    def __init__(self, message, status="", token=-1):
        super().__init__(message)
        self.status = status
        self.token = token


class NonfiniteError(Error):
    """A NaN or +inf among the logits of an unmasked token (`token`), or in the bias."""


def of_library(code, status, token, message):
    """The exception for a status of the library; called from C."""
    message = re.sub(r"\b(desc|input|output|rows|in|out)\.(?=[a-z])", "", message)
    message = re.sub(r"\b(" + "|".join(_NAMES) + r")\b", lambda word: _NAMES[word.group()], message)
    return (NonfiniteError if code == _NONFINITE else Error)(message, status, token)
