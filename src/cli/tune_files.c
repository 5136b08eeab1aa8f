/* SPDX-License-Identifier: MIT */
/* `seqtopk tune merge`, `export` and `key`: tuning files as files. */
#define _POSIX_C_SOURCE 200809L
#include "options.h"
#include "tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- merge -- */

enum { FILES = 64 };

typedef struct merge_values {
    const char *files[FILES];
    const char *output;
} merge_values;

static const seqtopk_option merge_rows[] = {
    {SEQTOPK_OPTION_POSITIONAL, true, "FILE...", NULL, offsetof(merge_values, files), 0, FILES,
     "tuning files, up to 64"},
    {SEQTOPK_OPTION_TEXT, false, "output", "FILE", offsetof(merge_values, output), 0, 0,
     "put all of them into this file; they must be of one machine"},
};
static const seqtopk_options merge_options = {
    "tune merge",
    "Puts tuning files together. Each joins the file of the machine that it is of, in your cache directory: so files "
    "of\n"
    "several machines can be installed at once, on a home that they share. Where two decide on the same thing, a "
    "clear\n"
    "decision stands before a close one, and the later file before the earlier.",
    "Examples:\n"
    "  seqtopk tune merge monday.tuning tuesday.tuning\n"
    "  seqtopk tune merge part1.tuning part2.tuning --output whole.tuning",
    merge_rows,
    sizeof merge_rows / sizeof *merge_rows,
};

/* Beside this machine's file, the one of another machine. */
static int place_of(const char *key, char path[SEQTOPK_STORE_PATH]) {
    char name[SEQTOPK_MACHINE_NAME];
    const int status = seqtopk_cli_tune_target("tune merge", NULL, path);
    if (status != SEQTOPK_OPTIONS_RUN || !strcmp(key, seqtopk_machine_key()))
        return status;
    char *slash = strrchr(path, '/');
    const size_t at = slash ? (size_t)(slash - path) + 1 : 0;
    seqtopk_machine_name_of(key, name);
    if (snprintf(path + at, SEQTOPK_STORE_PATH - at, "%s.tuning", name) >= (int)(SEQTOPK_STORE_PATH - at))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune merge: the path of %s is too long; use --output", name);
    return SEQTOPK_OPTIONS_RUN;
}

static int merge_one(const char *file, const char *output) {
    seqtopk_tuning_file newer, merged;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    char used[SEQTOPK_STORE_PATH], path[SEQTOPK_STORE_PATH];
    int status = seqtopk_cli_tune_load("tune merge", file, true, &newer, used);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    status = output ? seqtopk_cli_tune_target("tune merge", output, path) : place_of(newer.machine, path);
    if (status == SEQTOPK_OPTIONS_RUN) {
        if (seqtopk_store_merge(&newer, path, &merged, &error) != SEQTOPK_OK) {
            status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune merge: %s", error.message);
        } else {
            printf("%s: %d decisions of %s; %s has %d now\n", file, (int)newer.size, newer.machine, path,
                   (int)merged.size);
            if (newer.dropped)
                printf("%s: %d lines dropped, the first because: line %d, %s\n", file, (int)newer.dropped,
                       (int)newer.note[0].line, seqtopk_tuning_reason_text(newer.note[0].reason));
            seqtopk_tuning_file_free(&merged);
        }
    }
    seqtopk_tuning_file_free(&newer);
    return status;
}

/* All are of one machine and can be read, before one of them is written. */
static int check_files(const merge_values *values) {
    char used[SEQTOPK_STORE_PATH], machine[SEQTOPK_TUNING_MACHINE] = "";
    for (int i = 0; i < FILES && values->files[i]; i++) {
        seqtopk_tuning_file newer;
        const int status = seqtopk_cli_tune_load("tune merge", values->files[i], true, &newer, used);
        if (status != SEQTOPK_OPTIONS_RUN)
            return status;
        const bool other = *machine && strcmp(machine, newer.machine) != 0;
        strcpy(machine, newer.machine);
        seqtopk_tuning_file_free(&newer);
        if (other && values->output)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                    "tune merge: %s is of another machine than %s; one --output holds "
                                    "one machine: leave it out, or merge them one by one",
                                    values->files[i], values->files[0]);
    }
    return SEQTOPK_OPTIONS_RUN;
}

int seqtopk_cli_tune_merge(int argc, char **argv) {
    merge_values values = {0};
    uint64_t given;
    int status = seqtopk_options_parse(&merge_options, argc, argv, &values, &given);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = check_files(&values);
    for (int i = 0; i < FILES && values.files[i] && status == SEQTOPK_OPTIONS_RUN; i++)
        status = merge_one(values.files[i], values.output);
    return status == SEQTOPK_OPTIONS_RUN ? SEQTOPK_EXIT_OK : status;
}

/* ---------------------------------------------------------------- export -- */

typedef struct export_values {
    const char *file, *output;
} export_values;

static const seqtopk_option export_rows[] = {
    {SEQTOPK_OPTION_POSITIONAL, false, "FILE", NULL, offsetof(export_values, file), 0, 0,
     "a tuning file (default: the one in force)"},
    {SEQTOPK_OPTION_TEXT, false, "output", "FILE", offsetof(export_values, output), 0, 0,
     "where to (default: standard output)"},
};
static const seqtopk_options export_options = {
    "tune export",
    "Writes a tuning file anew: whole, in order, without lines that are of no use to this library.",
    "A distributor ships it under the name that `seqtopk tune key --name` prints, in the directory of the build "
    "option\n"
    "tuning_dir; an administrator puts it into /etc/seqtopk.\n\n"
    "Example:\n"
    "  seqtopk tune export --output \"$(seqtopk tune key --name)\"",
    export_rows,
    sizeof export_rows / sizeof *export_rows,
};

static int export_text(const seqtopk_tuning_file *newer) {
    const size_t size = seqtopk_tuning_file_encode(newer, NULL, 0);
    char *text = seqtopk_cli_alloc(size, 1);
    if (!text)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune export: no memory for %zu bytes", size);
    seqtopk_tuning_file_encode(newer, text, size);
    fwrite(text, 1, size, stdout); /* main looks at what standard output says */
    free(text);
    return SEQTOPK_EXIT_OK;
}

int seqtopk_cli_tune_export(int argc, char **argv) {
    export_values values = {0};
    seqtopk_tuning_file newer;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    char used[SEQTOPK_STORE_PATH];
    uint64_t given;
    int status = seqtopk_options_parse(&export_options, argc, argv, &values, &given);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_tune_load("tune export", values.file, values.file != NULL, &newer, used);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (!values.output)
        status = export_text(&newer);
    else if (seqtopk_store_save(&newer, values.output, &error) == SEQTOPK_OK)
        status = SEQTOPK_EXIT_OK;
    else
        status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune export: %s", error.message);
    seqtopk_tuning_file_free(&newer);
    return status;
}

/* ------------------------------------------------------------------- key -- */

typedef struct key_values {
    int name;
} key_values;

static const seqtopk_option key_rows[] = {
    {SEQTOPK_OPTION_FLAG, false, "name", NULL, offsetof(key_values, name), 0, 0,
     "the name of this machine's file instead"},
};
static const seqtopk_options key_options = {
    "tune key",
    "Prints this machine's key: processor, usable instruction sets, caches, compiler and version of the library. A "
    "tuning\n"
    "file is used where its key is the same, and nowhere else.",
    NULL,
    key_rows,
    sizeof key_rows / sizeof *key_rows,
};

int seqtopk_cli_tune_key(int argc, char **argv) {
    key_values values = {0};
    uint64_t given;
    const int status = seqtopk_options_parse(&key_options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (values.name)
        printf("%s.tuning\n", seqtopk_machine_name());
    else
        puts(seqtopk_machine_key());
    return SEQTOPK_EXIT_OK;
}
