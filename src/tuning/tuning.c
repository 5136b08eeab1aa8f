/* SPDX-License-Identifier: MIT */
/* Tuning files as a program sees them: made, found, asked, freed. */
#include "src/abi.h"
#include "src/status.h"
#include "src/tuning/lookup.h"
#include "src/tuning/machine.h"
#include "src/tuning/store.h"
#include "src/tuning/text.h"
#include "src/unload.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Neither is ever written to. */
static char look_again[] = "there is no memory to look for a tuning file; the next plan looks again";
static seqtopk_tuning nothing = {.stays = 1}, no_memory = {.stays = 1, .reason = look_again};

const seqtopk_tuning *seqtopk_tuning_none(void) { return &nothing; }

static void discard(seqtopk_tuning *tuning) {
    if (tuning == &nothing || tuning == &no_memory)
        return;
    free(tuning->text);
    free(tuning->path);
    free(tuning->reason);
    seqtopk_tuning_unindex(tuning);
    free(tuning);
}

void seqtopk_tuning_free(seqtopk_tuning *tuning) {
    if (tuning && !tuning->stays)
        discard(tuning);
}

/* Makes one of a text, which is its own from then on, or freed. */
static seqtopk_status make(seqtopk_tuning **tuning, char *text, size_t size, const char *path, seqtopk_error *error) {
    seqtopk_tuning *made = calloc(1, sizeof *made);
    seqtopk_status status = SEQTOPK_OK;
    if (made)
        made->text = text;
    else
        free(text);
    if (!made || !seqtopk_machine_is_known() || (path && !(made->path = malloc(strlen(path) + 1))))
        status = seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a tuning file");
    if (!status) {
        if (path)
            memcpy(made->path, path, strlen(path) + 1);
        made->size = size;
        made->reader = seqtopk_tuning_reader_here();
        status = seqtopk_tuning_index(made, error);
    }
    if (status)
        seqtopk_tuning_free(made);
    else
        *tuning = made;
    return status;
}

seqtopk_status seqtopk_tuning_parse(seqtopk_tuning **tuning, const void *text, size_t size, seqtopk_error *error) {
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (!tuning)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "tuning is NULL: pass the address of a seqtopk_tuning pointer");
    *tuning = NULL;
    if (!text)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "text is NULL");
    if (size > SEQTOPK_TUNING_LARGEST)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "the text has %zu bytes; no tuning file has more than %d",
                            size, SEQTOPK_TUNING_LARGEST);
    const size_t start = seqtopk_tuning_file_start(text, size); /* all that plans read */
    if (start > 0 && start < size)
        size = start;
    char *copy = malloc(size + 1);
    if (!copy)
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a tuning file of %zu bytes", size);
    memcpy(copy, text, size);
    return make(tuning, copy, size, NULL, error);
}

/* *missing: there is no such file. */
static seqtopk_status load(seqtopk_tuning **tuning, const char *path, int *missing, seqtopk_error *error) {
    char *text;
    size_t size;
    seqtopk_status status = seqtopk_store_read_start(path, &text, &size, missing, error);
    if (status)
        return status;
    seqtopk_error why = SEQTOPK_ERROR_INIT;
    status = make(tuning, text, size, path, &why);
    return status ? seqtopk_fail(error, status, -1, "%s: %s", path, why.message) : SEQTOPK_OK;
}

seqtopk_status seqtopk_tuning_load(seqtopk_tuning **tuning, const char *path, seqtopk_error *error) {
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (!tuning)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "tuning is NULL: pass the address of a seqtopk_tuning pointer");
    *tuning = NULL;
    return path ? load(tuning, path, NULL, error) : seqtopk_fail(error, SEQTOPK_E_NULL, -1, "path is NULL");
}

/* ------------------------------------------------------------- the machine's -- */

/* Adds a line; 0: no memory. */
static int add_line(char **lines, const char *what, const char *of) {
    const size_t old = *lines ? strlen(*lines) : 0;
    char *longer = realloc(*lines, old + strlen(of) + strlen(what) + 4);
    if (!longer)
        return 0;
    *lines = longer;
    sprintf(longer + old, "%s%s%s%s", old ? "\n" : "", of, *of ? ": " : "", what);
    return 1;
}

/* Looks at a place, and says what was there; 0: no memory. */
static int look_at(const char *path, seqtopk_tuning **found, char **reason) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    int missing = 0;
    const seqtopk_status status = load(found, path, &missing, &error);
    if (status == SEQTOPK_E_MEMORY)
        return 0;
    return status == SEQTOPK_OK ? add_line(reason, "in use", path)
                                : add_line(reason, missing ? "there is none" : error.message, missing ? path : "");
}

/* NULL: no memory. */
static seqtopk_tuning *find(void) {
    seqtopk_tuning *found = NULL;
    char *reason = NULL, path[SEQTOPK_STORE_PATH];
    int ok = seqtopk_machine_is_known();
    for (int place = 0; place < SEQTOPK_STORE_PLACES && !found && ok; place++)
        if (seqtopk_store_place(place, path))
            ok = look_at(path, &found, &reason);
    if (ok && !reason)
        ok = add_line(&reason, seqtopk_store_why_no_place(), "");
    if (ok && !found)
        found = calloc(1, sizeof *found);
    if (ok && found) {
        found->reason = reason;
        found->stays = 1;
        return found;
    }
    free(reason);
    seqtopk_tuning_free(found);
    return NULL;
}

static _Atomic(seqtopk_tuning *) known;

/* No lock: threads that come at the same time all look, and the result of the first is kept. */
const seqtopk_tuning *seqtopk_tuning_machine(void) {
    seqtopk_tuning *tuning = atomic_load_explicit(&known, memory_order_acquire);
    if (tuning)
        return tuning;
    seqtopk_tuning *mine = find();
    if (!mine)
        return &no_memory;
    if (atomic_compare_exchange_strong_explicit(&known, &tuning, mine, memory_order_acq_rel, memory_order_acquire)) {
        seqtopk_unload_prepare();
        return mine;
    }
    discard(mine);
    return tuning;
}

void seqtopk_tuning_unload(void) {
    seqtopk_tuning *tuning = atomic_exchange(&known, &nothing);
    if (tuning)
        discard(tuning);
}

/* ------------------------------------------------------------------ asking -- */

/* The next line of the choices with its ranges, or the reason for which it is dropped, wholly or in part; 0: none. */
static int next_line(const seqtopk_tuning *tuning, seqtopk_ranges_cursor *cursor, int32_t *ranges,
                     seqtopk_tuning_reason *reason) {
    seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS];
    *ranges = 0;
    switch (seqtopk_ranges_next(cursor, reason)) {
    case SEQTOPK_RANGES_END: return 0;
    case SEQTOPK_RANGES_DROPPED: break;
    case SEQTOPK_RANGES_SHAPE:
        *ranges = seqtopk_ranges_read(cursor->begin, &cursor->shape, &tuning->reader, range, reason);
        break;
    }
    return 1;
}

/* A cursor at the first line; of none, one at the end. */
static seqtopk_ranges_cursor first_line(const seqtopk_tuning *tuning) {
    seqtopk_ranges_cursor cursor = {.at = NULL};
    if (tuning->text)
        (void)seqtopk_ranges_open(&cursor, tuning->text, tuning->size, &tuning->reader, NULL); /* it was good before */
    return cursor;
}

seqtopk_status seqtopk_tuning_get_info(const seqtopk_tuning *tuning, seqtopk_tuning_info *info) {
    if (!tuning || !info)
        return SEQTOPK_E_NULL;
    if (!seqtopk_struct_is_sized(info, SEQTOPK_FIRST_tuning_info))
        return SEQTOPK_E_STRUCT;
    seqtopk_ranges_cursor cursor = first_line(tuning);
    seqtopk_tuning_reason reason;
    int32_t ranges;
    seqtopk_tuning_info ours;
    memset(&ours, 0, sizeof ours); /* what lies between fields too */
    ours.path = tuning->path;
    ours.reason = tuning->reason ? tuning->reason : "";
    while (next_line(tuning, &cursor, &ranges, &reason)) {
        ours.shapes += ranges > 0;
        ours.dropped += reason != SEQTOPK_TUNING_KEPT;
    }
    seqtopk_give_struct(info, &ours, sizeof ours);
    return SEQTOPK_OK;
}

const char *seqtopk_tuning_dropped(const seqtopk_tuning *tuning, int32_t index, int32_t *line) {
    if (!tuning || index < 0)
        return NULL;
    seqtopk_ranges_cursor cursor = first_line(tuning);
    seqtopk_tuning_reason reason;
    int32_t ranges;
    while (next_line(tuning, &cursor, &ranges, &reason))
        if (reason && index-- == 0) {
            if (line)
                *line = cursor.line;
            return seqtopk_tuning_reason_text(reason);
        }
    return NULL;
}
