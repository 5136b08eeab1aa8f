/* SPDX-License-Identifier: MIT */
/*
 * Memory fails at each request of an operation in turn, once and for good. What must hold: the operation says so and leaves
 * nothing behind, or does without; and what is asked afterwards, when there is memory again, is as if nothing had been.
 * Each time in a process of its own, so that what is kept for a process is not there yet.
 */
#define _GNU_SOURCE
#include "memory.h"

#include "src/tuning/machine.h"
#include "src/tuning/store.h"
#include "src/unload.h"

#include <seqtopk/seqtopk.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *doing;

static void expect(int fine, const char *what) {
    if (!fine) {
        fprintf(stderr, "FAILED %s: %s\n", doing, what);
        exit(1);
    }
}

/* -------------------------------------------------------------- material -- */

enum { EXPERTS = 32, TOP_K = 4, ROWS = 24, TOKENS = 600, SEQUENCES = 3, LAYERS = 2 };

static char folder[] = "/tmp/seqtopk-faults-XXXXXX", path[64], other[64];

static seqtopk_desc desc_of(seqtopk_scope scope) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    desc.scope = scope;
    desc.max_experts = scope == SEQTOPK_SCOPE_TOKEN ? 0 : TOP_K + 2;
    return desc;
}

static int32_t row_of(const char *name) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (!strcmp(seqtopk_registry[i].name, name))
            return i;
    return -1;
}

/* Decisions of this machine that plans of desc_of take; `threads` sets files apart. */
static seqtopk_tuning_file decisions(int32_t threads) {
    seqtopk_tuning_file file;
    seqtopk_tuning_file_init(&file);
    seqtopk_measurement m = {.tokens = 1024,
                             .row = row_of("seqtopk_collect_logits_f32__ref_slots6"),
                             .runner_up = row_of("seqtopk_collect_logits_f32__ref_slots10"),
                             .clear = 1,
                             .ps = 1000,
                             .runner_up_ps = 2000};
    for (int32_t experts = 16; experts <= 4096; experts *= 2) {
        m.shape = (seqtopk_tuning_shape){SEQTOPK_OP_collect_logits,
                                         SEQTOPK_ROW_f32,
                                         SEQTOPK_SCOPE_SEQUENCE,
                                         SEQTOPK_SCORE_SOFTMAX,
                                         experts,
                                         4,
                                         threads};
        expect(seqtopk_tuning_file_add(&file, &m, NULL) == SEQTOPK_OK, "a decision");
    }
    return file;
}

static void save_files(void) {
    seqtopk_tuning_file file = decisions(1);
    expect(seqtopk_store_save(&file, path, NULL) == SEQTOPK_OK, "saving");
    seqtopk_tuning_file_free(&file);
}

/* What a route of a plan gives, as one number. */
static uint64_t digest_of(const seqtopk_plan *plan) {
    static float logits[ROWS * EXPERTS];
    static int32_t offsets[ROWS + 1], ids[ROWS * TOP_K];
    static char scratch[1 << 20];
    for (int i = 0; i < ROWS * EXPERTS; i++)
        logits[i] = (float)(i * 37 % 101) / 16;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    in.logits = logits;
    in.tokens = ROWS;
    out.token_offsets = offsets;
    out.expert_ids = ids;
    out.capacity = ROWS * TOP_K;
    expect(seqtopk_route(plan, &in, &out, scratch, sizeof scratch, NULL) == SEQTOPK_OK, "a route");
    uint64_t digest = 0;
    for (int i = 0; i < ROWS * TOP_K; i++)
        digest = digest * 31 + (uint64_t)ids[i];
    return digest;
}

/* ------------------------------------------------------------- operations -- */

/* Does it, takes it back, and returns the status. `memory_failed` then tells whether it met a failure. */
typedef seqtopk_status operation(seqtopk_error *error);

static seqtopk_status plan_without_file(seqtopk_error *error) {
    seqtopk_desc desc = desc_of(SEQTOPK_SCOPE_SEQUENCE);
    seqtopk_plan *plan = (seqtopk_plan *)(void *)path;
    desc.tuning = seqtopk_tuning_none();
    const seqtopk_status status = seqtopk_plan_create(&plan, &desc, error);
    expect(!plan == (status != SEQTOPK_OK), "a plan where there is none");
    seqtopk_plan_destroy(plan);
    return status;
}

/* The machine's file is looked for on the way: without memory for it the plan is untuned, and as good. */
static seqtopk_status plan_with_file(seqtopk_error *error) {
    const seqtopk_desc desc = desc_of(SEQTOPK_SCOPE_SEQUENCE);
    seqtopk_plan *plan = NULL;
    const seqtopk_status status = seqtopk_plan_create(&plan, &desc, error);
    expect(!plan == (status != SEQTOPK_OK), "a plan where there is none");
    if (plan) {
        const uint64_t digest = digest_of(plan);
        seqtopk_plan_destroy(plan);
        memory_fail(-1, 0);
        expect(plan_without_file(error) == SEQTOPK_OK, "an untuned plan");
        seqtopk_desc untuned = desc;
        untuned.tuning = seqtopk_tuning_none();
        expect(seqtopk_plan_create(&plan, &untuned, error) == SEQTOPK_OK && digest == digest_of(plan), "the same bits");
        seqtopk_plan_destroy(plan);
    }
    return status;
}

static seqtopk_status load(seqtopk_error *error) {
    seqtopk_tuning *tuning = (seqtopk_tuning *)(void *)path;
    const seqtopk_status status = seqtopk_tuning_load(&tuning, path, error);
    expect(!tuning == (status != SEQTOPK_OK), "a tuning where there is none");
    seqtopk_tuning_free(tuning);
    return status;
}

static seqtopk_status store(seqtopk_error *error) {
    seqtopk_tuning_file file, merged;
    seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    seqtopk_status status = seqtopk_store_load(&file, path, &any, error);
    if (status)
        return status;
    for (int twice = 0; twice < 2 && !status; twice++) {
        status = seqtopk_store_merge(&file, other, &merged, error);
        if (!status)
            seqtopk_tuning_file_free(&merged);
    }
    seqtopk_tuning_file_free(&file);
    unlink(other);
    return status;
}

/* ------------------------------------------------------------------ caches -- */

/* A prompt into two sequences, copies, steps, what a beam search does, and back out and in. */
typedef struct life {
    seqtopk_plan *plan;
    seqtopk_cache *cache;
    float logits[ROWS * EXPERTS];
    int32_t offsets[ROWS + 1], ids[ROWS * (TOP_K + 2)], sequences[ROWS];
    char scratch[1 << 20];
    uint64_t digest;
} life;
static life one;
static uint64_t *right; /* [modes], shared by all processes: of the run that nothing fails in, which comes first */

static seqtopk_status step(int32_t layer, int32_t sequence, int32_t seed, seqtopk_error *error) {
    seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    for (int i = 0; i < ROWS * EXPERTS; i++)
        one.logits[i] = (float)((i + seed) * 37 % 101) / 16;
    for (int i = 0; i < ROWS; i++)
        one.sequences[i] = sequence;
    rows.layer = layer;
    rows.sequences = one.sequences;
    in.logits = one.logits;
    in.tokens = ROWS;
    out.token_offsets = one.offsets;
    out.expert_ids = one.ids;
    out.capacity = ROWS * (TOP_K + 2);
    const seqtopk_status status =
        seqtopk_cache_step(one.cache, &rows, &in, &out, one.scratch, sizeof one.scratch, error);
    for (int i = 0; !status && i < one.offsets[ROWS]; i++)
        one.digest = one.digest * 31 + (uint64_t)one.ids[i];
    return status;
}

/* Tries it, and where memory fails once more: nothing may have changed. The first failure is what counts. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        const seqtopk_status tried = call;                                                                             \
        if (tried) {                                                                                                   \
            expect(tried == SEQTOPK_E_MEMORY && memory_failed(), error->message);                                      \
            first = tried;                                                                                             \
            memory_fail(-1, 0);                                                                                        \
            expect((call) == SEQTOPK_OK, "what failed for want of memory works when there is some");                   \
        }                                                                                                              \
    } while (0)

static seqtopk_status live(seqtopk_cache_mode mode, seqtopk_error *error) {
    seqtopk_desc desc = desc_of(SEQTOPK_SCOPE_ONLINE);
    seqtopk_cache_desc cache = SEQTOPK_CACHE_DESC_INIT;
    seqtopk_status first = SEQTOPK_OK;
    static const int32_t parents[] = {1, 0, 1};
    desc.tuning = seqtopk_tuning_none();
    one.digest = 0;
    TRY(seqtopk_plan_create(&one.plan, &desc, error));
    cache.plan = one.plan;
    cache.layers = LAYERS;
    cache.sequences = SEQUENCES;
    cache.mode = mode;
    TRY(seqtopk_cache_create(&one.cache, &cache, error));
    for (int32_t t = 0; t < TOKENS; t += ROWS)
        for (int32_t layer = 0; layer < LAYERS; layer++)
            TRY(step(layer, 0, t + layer, error));
    TRY(seqtopk_cache_copy(one.cache, 1, 0, -1, error));
    TRY(step(0, 1, 5, error));
    TRY(step(1, 1, 6, error));
    TRY(seqtopk_cache_reorder(one.cache, parents, SEQUENCES, error));
    TRY(seqtopk_cache_truncate(one.cache, 2, seqtopk_cache_length(one.cache, 0, 2) - 9, error));
    TRY(step(0, 2, 7, error));
    TRY(step(1, 2, 8, error));
    if (mode == SEQTOPK_CACHE_EXACT)
        TRY(seqtopk_cache_remove(one.cache, 0, 10, 40, error));
    const int64_t length = seqtopk_cache_length(one.cache, 0, 1);
    const size_t size = seqtopk_cache_save_size(one.cache, 1, 0, length);
    void *blob = malloc(size);
    if (!blob) {
        first = SEQTOPK_E_MEMORY;
        memory_fail(-1, 0);
        blob = malloc(size);
    }
    TRY(seqtopk_cache_save(one.cache, 1, 0, length, blob, size, error));
    TRY(seqtopk_cache_clear(one.cache, 1, error));
    TRY(seqtopk_cache_load(one.cache, 1, blob, size, error));
    free(blob);
    TRY(step(0, 1, 9, error));
    TRY(step(1, 1, 10, error));
    seqtopk_cache_destroy(one.cache);
    seqtopk_plan_destroy(one.plan);
    if (!right[mode])
        right[mode] = one.digest;
    expect(one.digest == right[mode], "lists differ from those of a run that nothing failed in");
    return first;
}

static seqtopk_status live_exact(seqtopk_error *error) { return live(SEQTOPK_CACHE_EXACT, error); }
static seqtopk_status live_compact(seqtopk_error *error) { return live(SEQTOPK_CACHE_COMPACT, error); }

/* ------------------------------------------------------------------ driver -- */

static const struct {
    const char *name;
    operation *run;
    int does_without; /* it may succeed all the same */
} operations[] = {
    {"a plan", plan_without_file, 0},
    {"a plan with the machine's file", plan_with_file, 1},
    {"a tuning file that is loaded", load, 0},
    {"tuning files that are merged", store, 1}, /* what stood there and could not be read is replaced */
    {"the life of a cache", live_exact, 1},     /* what makes steps fast can wait */
    {"the life of a compact cache", live_compact, 1},
};

/* The file must be in use now, whatever came before. */
static void expect_file_in_use(void) {
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    expect(seqtopk_tuning_get_info(seqtopk_tuning_machine(), &info) == SEQTOPK_OK, "info");
    expect(info.path && !strcmp(info.path, path) && info.shapes > 0, info.reason);
    seqtopk_tuning_unload();
    seqtopk_machine_unload();
}

/* With the nth request failing; returns whether there were so many. */
static int try_nth(operation *run, long nth, int for_good, int does_without) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    memory_fail(-1, 0);
    const long before = memory_blocks();
    memory_fail(nth, for_good);
    const seqtopk_status status = run(&error);
    const int failed = memory_failed() || status;
    memory_fail(-1, 0);
    if (failed)
        expect(status == SEQTOPK_E_MEMORY || (does_without && status == SEQTOPK_OK), "a status that is not E_MEMORY");
    else
        expect(status == SEQTOPK_OK, error.message);
    expect_file_in_use();
    expect(memory_blocks() == before, "memory is lost");
    return failed;
}

static int in_a_child(int i, long nth, int for_good) {
    fflush(stdout);
    const pid_t child = fork();
    int status = 0;
    if (child == 0)
        exit(!try_nth(operations[i].run, nth, for_good, operations[i].does_without) ? 2 : 0);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 1;
    return WEXITSTATUS(status);
}

static int fail_everywhere(int i) {
    long nth;
    doing = operations[i].name;
    if (in_a_child(i, -1, 0) != 2) /* as it should be */
        return 1;
    for (nth = 0; nth < 5000; nth++) {
        const int once = in_a_child(i, nth, 0), ever = in_a_child(i, nth, 1);
        if (once == 1 || ever == 1) {
            fprintf(stderr, "FAILED %s, with request %ld\n", doing, nth);
            return 1;
        }
        if (once == 2)
            break;
    }
    printf("%s: memory failed at each of %ld requests\n", doing, nth);
    return nth == 0;
}

/* What its user says is nothing to a program with more rights. */
static int ignore_the_user(void) {
    seqtopk_desc desc = desc_of(SEQTOPK_SCOPE_SEQUENCE);
    seqtopk_plan *plan = NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    static const char *const variables[] = {"SEQTOPK_ISA", "SEQTOPK_KERNEL", "SEQTOPK_WAY"};
    doing = "a program with more rights than its user";
    desc.tuning = seqtopk_tuning_none();
    for (int i = 0; i < 3; i++) {
        setenv(variables[i], "nonsense", 1);
        memory_privileged(0);
        expect(seqtopk_plan_create(&plan, &desc, &error) != SEQTOPK_OK, variables[i]);
        memory_privileged(1);
        expect(seqtopk_plan_create(&plan, &desc, &error) == SEQTOPK_OK, error.message);
        seqtopk_plan_destroy(plan);
        unsetenv(variables[i]);
    }
    char place[SEQTOPK_STORE_PATH];
    expect(!seqtopk_store_place(0, place) && !seqtopk_store_place(1, place) && seqtopk_store_place(2, place),
           "only the administrator's file is looked for");
    memory_privileged(0);
    expect(seqtopk_store_place(0, place), "and else the user's");
    printf("%s: reads none of its variables\n", doing);
    return 0;
}

int main(void) {
    int wrong = 0;
    doing = "setting up";
    expect(mkdtemp(folder) != NULL, "a folder");
    snprintf(path, sizeof path, "%s/a.tuning", folder);
    snprintf(other, sizeof other, "%s/b.tuning", folder);
    setenv("SEQTOPK_TUNING", path, 1);
    static const char *const variables[] = {"SEQTOPK_ISA", "SEQTOPK_KERNEL", "SEQTOPK_WAY"};
    for (int i = 0; i < 3; i++)
        unsetenv(variables[i]);
    right = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    expect(right != MAP_FAILED, "shared memory");
    save_files();
    seqtopk_machine_unload(); /* for each process to find out */
    for (int i = 0; i < (int)(sizeof operations / sizeof *operations); i++)
        wrong |= fail_everywhere(i);
    wrong |= ignore_the_user();
    unlink(path);
    rmdir(folder);
    return wrong;
}
