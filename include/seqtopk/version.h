/* SPDX-License-Identifier: MIT */
/* The one place that names the version. meson reads it; the soname is its first number. Before a release the text ends in -rc and a number. */
#ifndef SEQTOPK_VERSION_H
#define SEQTOPK_VERSION_H

#define SEQTOPK_VERSION_MAJOR 1
#define SEQTOPK_VERSION_MINOR 0
#define SEQTOPK_VERSION_PATCH 0
#define SEQTOPK_VERSION "1.0.0-rc1"

#endif
