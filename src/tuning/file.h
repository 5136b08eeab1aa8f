/* SPDX-License-Identifier: MIT */
/*
 * The one codec of tuning files: text to decisions and back. Pure: no input or output, no locale, no clock.
 *
 *     seqtopk-tuning 1
 *     library 0.1.0
 *     machine x86_64-GenuineIntel-6-143-8 avx2,avx512 48K/2048K/107520K gcc-12.2.0 seqtopk-0.1.0
 *     choices 151
 *     [collect_logits f32 sequence softmax]
 *     128 8 1: 256 avx512_slots10@1 8192 -
 *     [bound_candidates f32 sequence softmax]
 *     128 8 1: 256 avx512_columns@1 4096 -
 *     measured 0f3358b92e7c4a1d
 *     [collect_logits f32 sequence softmax 128 8 1]
 *     1024 avx512_slots10@1 21760300 8 avx512_slots6 22513000 clear
 *     2048 avx512_slots10@1 42801000 6 avx512_slots16 43010000 close
 *     [bound_candidates f32 sequence softmax 128 8 1]
 *     1024 avx512_columns@1 9180000 11 alone
 *     end 3 c4a1d0f3358b92e7
 *
 * Behind `measured` stand the decisions, one a line. A heading is the shape of those below it: op, dtype of the rows,
 * scope, score, E, K, threads. A decision is the T it was measured at, the winner as isa_algorithm@revision (with the
 * heading's op and dtype that is the row's name), its median for one call in picoseconds, the relative spread of that
 * in thousandths, then the runner-up with its median and whether the winner won by more than the noise; or `alone`,
 * where no other row could have served.
 *
 * Before it stand the choices, which follow from the decisions and are all that plans read (src/tuning/ranges.h): they
 * are a tenth of the file, so that a program's first plan does not wait for thousands of measurements. `choices` has how
 * many bytes come after its line up to the end of the line `measured`.
 *
 * Headings ascend (ops as they follow each other in seqtopk_op, the rest by value), so do the E, K, threads and T under
 * them; what does not is dropped, so that of two decisions on the same thing the first counts. The end line has the
 * number of decisions, which nothing relies on. It and `measured` have a checksum of all before it.
 */
#ifndef SEQTOPK_SRC_TUNING_FILE_H
#define SEQTOPK_SRC_TUNING_FILE_H

#include "src/kernels/registry.h"

enum {
    SEQTOPK_TUNING_FORMAT = 1,
    SEQTOPK_TUNING_LARGEST = 16 << 20, /* bytes; a longer file is refused */
    SEQTOPK_TUNING_MACHINE = 160,      /* bytes of a machine's key, the final NUL among them */
    SEQTOPK_TUNING_LIBRARY = 32,       /* of a version */
    SEQTOPK_TUNING_NOTES = 32,         /* dropped lines that are told one by one; all are counted */
    SEQTOPK_TUNING_BUCKETS = 31,       /* T is one of 2^0 .. 2^30 */
    SEQTOPK_TUNING_LARGEST_TOKENS = 1 << 30,
    SEQTOPK_TUNING_LARGEST_SPREAD = 1000000
};
#define SEQTOPK_TUNING_LARGEST_PS (INT64_C(1000000000000000)) /* 1000 seconds */

/* What a decision is about. One shape has one heading. */
typedef struct seqtopk_tuning_shape {
    seqtopk_op op;
    int32_t dtype;   /* SEQTOPK_ROW_*: of the op's rows; of keys they are f32, of ids i32, whatever the logits are */
    int32_t scope;   /* seqtopk_scope; never ONLINE */
    int32_t score;   /* seqtopk_score */
    int32_t experts; /* 1 to SEQTOPK_MAX_EXPERTS */
    int32_t top_k;   /* 1 to experts */
    int32_t threads; /* 1 to SEQTOPK_MAX_PARTS */
} seqtopk_tuning_shape;

/* One decision. */
typedef struct seqtopk_measurement {
    seqtopk_tuning_shape shape;
    int32_t tokens;    /* the T of the measurement, a power of two up to 2^30 */
    int32_t row;       /* the winner: an index into seqtopk_registry, of shape.op and shape.dtype */
    int32_t runner_up; /* the same of the best of the others; -1: there was no other */
    int32_t spread;    /* of the winner's median, relative to it, in thousandths */
    int32_t clear;     /* 1: won by more than the noise; 0: it could as well be the runner-up. 1 without a runner-up */
    int32_t line;      /* of the file that it was read from; 0: of none. No part of the decision */
    int64_t ps;        /* the winner's median of one call, in picoseconds, 1 to LARGEST_PS */
    int64_t runner_up_ps; /* the runner-up's; 0 without one */
} seqtopk_measurement;

/* Why a line was dropped. */
typedef enum seqtopk_tuning_reason {
    SEQTOPK_TUNING_KEPT,
    SEQTOPK_TUNING_SYNTAX,      /* neither a heading nor a decision */
    SEQTOPK_TUNING_UNKNOWN_OP,  /* a heading's op or dtype; its decisions go too */
    SEQTOPK_TUNING_SHAPE,       /* a heading's scope, score or numbers; its decisions go too */
    SEQTOPK_TUNING_NUMBER,      /* a decision's number is outside its range */
    SEQTOPK_TUNING_UNKNOWN_ROW, /* this library has no such kernel */
    SEQTOPK_TUNING_REVISION,    /* the kernel is of another revision now */
    SEQTOPK_TUNING_NOT_USABLE,  /* this machine cannot run it */
    SEQTOPK_TUNING_ORDER,       /* a duplicate, or not after the one before it */
    SEQTOPK_TUNING_REASONS
} seqtopk_tuning_reason;

/* A phrase for a reason; static. */
const char *seqtopk_tuning_reason_text(seqtopk_tuning_reason reason);

typedef struct seqtopk_tuning_note {
    int32_t line; /* from 1 */
    seqtopk_tuning_reason reason;
} seqtopk_tuning_note;

/* A file in memory. All zero is an empty one. */
typedef struct seqtopk_tuning_file {
    char library[SEQTOPK_TUNING_LIBRARY]; /* the library's version */
    char machine[SEQTOPK_TUNING_MACHINE]; /* the machine's key (src/tuning/machine.h) */
    seqtopk_measurement *measurement;     /* [size], ascending as in the file */
    int32_t size, capacity;
    int32_t dropped; /* decisions and other lines that were left out when it was read */
    int32_t notes;   /* why, of the first of them */
    seqtopk_tuning_note note[SEQTOPK_TUNING_NOTES];
} seqtopk_tuning_file;

/* Whose file is wanted, and what can run. */
typedef struct seqtopk_tuning_reader {
    const char *library; /* NULL: any */
    const char *machine; /* NULL: any */
    uint32_t isas;       /* bit i: isa.def's row i can run */
} seqtopk_tuning_reader;

/* This library on this machine; and one that takes any machine's and version's file and drops no row as not usable. */
seqtopk_tuning_reader seqtopk_tuning_reader_here(void);
seqtopk_tuning_reader seqtopk_tuning_reader_any(void);

/*
 * Reads a file. What is wrong with all of it (magic, a later format, no end line, checksum, another library or machine)
 * gives SEQTOPK_E_TUNING and a message, and *file is empty; a line that is no good is dropped and noted. No memory:
 * SEQTOPK_E_MEMORY. *file need not be initialised; seqtopk_tuning_file_free it after SEQTOPK_OK. Memory: below 8 times
 * `size`.
 */
seqtopk_status seqtopk_tuning_file_parse(seqtopk_tuning_file *file, const char *text, size_t size,
                                         const seqtopk_tuning_reader *reader, seqtopk_error *error);

/* Frees the decisions; what is left is empty, and keeps library and machine. */
void seqtopk_tuning_file_free(seqtopk_tuning_file *file);

/* An empty one of this library and machine. */
void seqtopk_tuning_file_init(seqtopk_tuning_file *file);

/*
 * Puts a decision in its place, over one that is there on the same shape and T. SEQTOPK_E_VALUE: the decision is none
 * that a file could hold (a number outside its range, a row of another op or dtype, one that does not apply); nothing
 * changes. SEQTOPK_E_MEMORY. Adding in ascending order is quick.
 */
seqtopk_status seqtopk_tuning_file_add(seqtopk_tuning_file *file, const seqtopk_measurement *tuned,
                                       seqtopk_error *error);

/* The decision on exactly this shape and T; NULL: none. */
const seqtopk_measurement *seqtopk_tuning_file_find(const seqtopk_tuning_file *file, const seqtopk_tuning_shape *shape,
                                                    int32_t tokens);

/*
 * Merges `newer` into `file`. Where both decide on the same shape and T, a clear decision stands before one that is
 * not, and of two that are alike in that the newer. SEQTOPK_E_TUNING: they are of different machines or libraries.
 * SEQTOPK_E_MEMORY. On failure nothing changes.
 */
seqtopk_status seqtopk_tuning_file_merge(seqtopk_tuning_file *file, const seqtopk_tuning_file *newer,
                                         seqtopk_error *error);

/*
 * Writes the file's text, without a final NUL; returns how long it is. With `text` NULL or `capacity` below that
 * nothing is written. The same decisions give the same bytes, and what it writes is read back as it was.
 */
size_t seqtopk_tuning_file_encode(const seqtopk_tuning_file *file, char *text, size_t capacity);

/* How shapes, and decisions, stand to each other in a file: below 0, 0 or above 0. */
int seqtopk_tuning_shape_compare(const seqtopk_tuning_shape *a, const seqtopk_tuning_shape *b);
int seqtopk_measurement_compare(const seqtopk_measurement *a, const seqtopk_measurement *b);

#endif
