/* SPDX-License-Identifier: MIT */
/* All outputs of a route in guarded memory, and what must hold among them whatever was selected. */
#ifndef SEQTOPK_TESTS_SHEET_H
#define SEQTOPK_TESTS_SHEET_H

#include "guard.h"
#include "oracle.h"

#include <seqtopk/seqtopk.h>

enum { SHEET_FIELDS = 24 };

typedef struct sheet {
    seqtopk_output out;
    guard memory[SHEET_FIELDS];
    int64_t tokens;
    int32_t experts;
    int64_t stride; /* of padded rows */
} sheet;

/* Room for calls of up to these sizes. */
void sheet_open(sheet *s, int64_t tokens, int32_t experts, int64_t pairs, int64_t padded);
void sheet_close(sheet *s);

/* Fresh outputs, those whose bit is set in `wanted`; `pick` returns [0, n) and decides how they are placed. */
void sheet_place(sheet *s, int64_t tokens, int32_t experts, int64_t pairs, int32_t width, int64_t stride,
                 seqtopk_padding padding, uint32_t wanted, uint32_t (*pick)(uint32_t n));

#define SHEET_ALL ((1u << SHEET_FIELDS) - 1)

/* The bit of row_lse, which only softmax has. */
uint32_t sheet_lse_bit(void);

/* Whether nothing was written beside outputs, or between padded rows; the name of the first that was, or NULL. */
const char *sheet_spoilt(const sheet *s);

/* The first output of b that differs in a bit from that of a, or NULL. b may want less than a, which wants all. */
const char *sheet_difference(const sheet *a, const sheet *b);

/* Whether every list tells the same as the token-major lists of s, which has all outputs; on failure `why` says what. */
int sheet_agrees(const sheet *s, char *why, size_t size);

#endif
