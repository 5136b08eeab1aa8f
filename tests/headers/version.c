/* SPDX-License-Identifier: MIT */
/* version.h alone, before anything else. */
#include <seqtopk/version.h>

extern const char seqtopk_version_text[];
const char seqtopk_version_text[] = SEQTOPK_VERSION;
_Static_assert(SEQTOPK_VERSION_MAJOR >= 0 && SEQTOPK_VERSION_MINOR >= 0 && SEQTOPK_VERSION_PATCH >= 0, "version");
