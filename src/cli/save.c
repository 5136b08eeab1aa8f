/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "save.h"
#include "cli.h"
#include "npy.h"
#include "whole.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 8 };

typedef struct file {
    const char *name;
    seqtopk_npy_dtype dtype;
    int64_t count;
    const void *data;
} file;

bool seqtopk_cli_lists_make(seqtopk_cli_lists *lists, int64_t tokens, int64_t experts, int64_t pairs) {
    const unsigned long long n = (unsigned long long)pairs;
    *lists = (seqtopk_cli_lists){.tokens = tokens, .experts = experts};
    lists->token_offsets = seqtopk_cli_alloc((unsigned long long)tokens + 1, sizeof(int32_t));
    lists->expert_ids = seqtopk_cli_alloc(n, sizeof(int32_t));
    lists->weights = seqtopk_cli_alloc(n, sizeof(float));
    lists->expert_offsets = seqtopk_cli_alloc((unsigned long long)experts + 1, sizeof(int32_t));
    lists->expert_tokens = seqtopk_cli_alloc(n, sizeof(int32_t));
    lists->expert_slots = seqtopk_cli_alloc(n, sizeof(int32_t));
    return lists->token_offsets && lists->expert_ids && lists->weights && lists->expert_offsets &&
           lists->expert_tokens && lists->expert_slots;
}

void seqtopk_cli_lists_free(seqtopk_cli_lists *lists) {
    free(lists->token_offsets);
    free(lists->expert_ids);
    free(lists->weights);
    free(lists->expert_offsets);
    free(lists->expert_tokens);
    free(lists->expert_slots);
    free(lists->null_weights);
    free(lists->sequence_margins);
    free(lists->ways);
    free(lists->fallbacks);
}

void seqtopk_cli_lists_permute(seqtopk_cli_lists *l) {
    memset(l->expert_offsets, 0, (size_t)(l->experts + 1) * sizeof(int32_t));
    for (int64_t i = 0; i < l->selected; i++)
        l->expert_offsets[l->expert_ids[i] + 1]++;
    for (int64_t e = 0; e < l->experts; e++)
        l->expert_offsets[e + 1] += l->expert_offsets[e];
    for (int64_t t = 0; t < l->tokens; t++)
        for (int32_t i = l->token_offsets[t]; i < l->token_offsets[t + 1]; i++) {
            const int32_t place = l->expert_offsets[l->expert_ids[i]]++;
            l->expert_tokens[place] = (int32_t)t;
            l->expert_slots[place] = i;
        }
    for (int64_t e = l->experts; e > 0; e--) /* each has moved on to where the next begins */
        l->expert_offsets[e] = l->expert_offsets[e - 1];
    l->expert_offsets[0] = 0;
}

static bool path_of(char path[PATH_MAX], const char *directory, const char *name, bool temporary) {
    int n = temporary ? snprintf(path, PATH_MAX, "%s/.%s.%ld", directory, name, (long)getpid())
                      : snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return n > 0 && n < PATH_MAX;
}

static int write_all(const char *directory, const file *files, int *written) {
    char path[PATH_MAX], message[SEQTOPK_NPY_MESSAGE];
    for (*written = 0; *written < FILES && files[*written].name; ++*written) {
        const file *f = &files[*written];
        if (seqtopk_whole_interrupted())
            return SEQTOPK_EXIT_FAILURE;
        if (!path_of(path, directory, f->name, true))
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "--out: %s", strerror(ENAMETOOLONG));
        if (!seqtopk_npy_write(path, f->dtype, f->count, f->data, message))
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s/%s: cannot be written: %s", directory, f->name, message);
    }
    return SEQTOPK_EXIT_OK;
}

/* Lists of two runs must not stand side by side: what cannot take its name is found before the first does. */
static int look_at_all(const char *directory, const file *files) {
    char path[PATH_MAX];
    struct stat is;
    for (int i = 0; i < FILES && files[i].name; i++) {
        path_of(path, directory, files[i].name, false);
        if (stat(path, &is) == 0 && !S_ISREG(is.st_mode))
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: cannot be written: it is no regular file", path);
    }
    return SEQTOPK_EXIT_OK;
}

static int rename_all(const char *directory, const file *files) {
    char from[PATH_MAX], to[PATH_MAX];
    for (int i = 0; i < FILES && files[i].name; i++) {
        path_of(from, directory, files[i].name, true); /* fitted before, and `to` is shorter */
        path_of(to, directory, files[i].name, false);
        if (rename(from, to))
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: cannot be written: %s", to, strerror(errno));
    }
    return SEQTOPK_EXIT_OK;
}

int seqtopk_cli_save(const char *directory, const seqtopk_cli_lists *lists) {
    file files[FILES] = {
        {"token_offsets.npy", SEQTOPK_NPY_I4, lists->tokens + 1, lists->token_offsets},
        {"expert_ids.npy", SEQTOPK_NPY_I4, lists->selected, lists->expert_ids},
        {"weights.npy", SEQTOPK_NPY_F4, lists->selected, lists->weights},
        {"expert_offsets.npy", SEQTOPK_NPY_I4, lists->experts + 1, lists->expert_offsets},
        {"expert_tokens.npy", SEQTOPK_NPY_I4, lists->selected, lists->expert_tokens},
        {"expert_slots.npy", SEQTOPK_NPY_I4, lists->selected, lists->expert_slots},
    };
    int written = 0, n = 6; /* nameless ones are none */
    if (lists->null_weights)
        files[n++] = (file){"null_weights.npy", SEQTOPK_NPY_F4, lists->tokens, lists->null_weights};
    if (lists->sequence_margins)
        files[n++] = (file){"sequence_margins.npy", SEQTOPK_NPY_F4, lists->sequences, lists->sequence_margins};
    if (mkdir(directory, 0777) && errno != EEXIST)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: cannot be made: %s", directory, strerror(errno));
    int status = look_at_all(directory, files);
    seqtopk_whole_hold();
    if (status == SEQTOPK_EXIT_OK)
        status = write_all(directory, files, &written);
    if (status == SEQTOPK_EXIT_OK)
        status = rename_all(directory, files);
    for (int i = 0; status != SEQTOPK_EXIT_OK && i < written; i++) {
        char path[PATH_MAX];
        if (path_of(path, directory, files[i].name, true))
            unlink(path);
    }
    seqtopk_whole_let_go();
    return status;
}
