/* SPDX-License-Identifier: MIT */
/* One pass over memory that adds up all of it and does nothing else: what any routing must at least wait for. */
#ifndef SEQTOPK_CLI_READ_H
#define SEQTOPK_CLI_READ_H

#include <stddef.h>
#include <stdint.h>

/* The sum of all 32-bit words (a last odd one filled up with zeros), modulo 2^32. `data` is 4-byte aligned. */
typedef uint32_t seqtopk_read_fn(const void *data, size_t bytes);

/* The one with the widest vectors that this machine can run; *isa becomes the instruction set's name. */
seqtopk_read_fn *seqtopk_cli_widest_read(const char **isa);

#endif
