/* SPDX-License-Identifier: MIT */
/* The one place that names the version. meson reads it; the soname is its first number. */
#ifndef SEQTOPK_VERSION_H
#define SEQTOPK_VERSION_H

#define SEQTOPK_VERSION_MAJOR 0
#define SEQTOPK_VERSION_MINOR 1
#define SEQTOPK_VERSION_PATCH 0
#define SEQTOPK_VERSION "0.1.0"

#endif
