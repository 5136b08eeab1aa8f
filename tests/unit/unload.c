/* SPDX-License-Identifier: MIT */
/* The shared library loaded, used and unloaded, again and again, as a host of plugins does. */
#define _GNU_SOURCE
#include "tuning.h"

#include "src/tuning/store.h"

#include <dlfcn.h>
#include <stdint.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

/* musl never unloads. */
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)

/* A file of this machine's that every plan here takes its nth kernel from. */
static void save_tuning(const char *path) {
    seqtopk_tuning_file w;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_measurement tuned = {.tokens = 4096,
                                 .row = tuning_row("seqtopk_collect_logits_f32__ref_slots6"),
                                 .runner_up = -1,
                                 .clear = 1,
                                 .ps = 1000};
    seqtopk_tuning_file_init(&w);
    for (int32_t experts = 8; experts <= 4096; experts *= 2) {
        tuned.shape = (seqtopk_tuning_shape){
            SEQTOPK_OP_collect_logits, SEQTOPK_ROW_f32, SEQTOPK_SCOPE_SEQUENCE, SEQTOPK_SCORE_SOFTMAX, experts, 8, 1};
        tuning_add(&w, tuned);
    }
    cr_assert_eq(seqtopk_store_save(&w, path, &error), SEQTOPK_OK, "%s", error.message);
    seqtopk_tuning_file_free(&w);
}

/* A function of the shared library, not of the static one that this program has itself. */
static void find(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    cr_assert_not_null(found, "%s", name);
    memcpy(function, &found, sizeof found);
}

static void load_plan_unload(const char *path) {
    seqtopk_status (*create)(seqtopk_plan **, const seqtopk_desc *, seqtopk_error *);
    void (*destroy)(seqtopk_plan *);
    const seqtopk_tuning *(*machine)(void);
    seqtopk_status (*get_info)(const seqtopk_tuning *, seqtopk_tuning_info *);
    void *library = dlopen(SHARED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(library, "%s", dlerror());
    find(library, "seqtopk_plan_create", &create);
    find(library, "seqtopk_plan_destroy", &destroy);
    find(library, "seqtopk_tuning_machine", &machine);
    find(library, "seqtopk_tuning_get_info", &get_info);

    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    desc.experts = 128;
    desc.top_k = 8;
    cr_assert_eq(create(&plan, &desc, &error), SEQTOPK_OK, "%s", error.message);
    destroy(plan);
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    cr_assert_eq(get_info(machine(), &info), SEQTOPK_OK);
    cr_assert(info.path && strcmp(info.path, path) == 0, "%s", info.reason);
    cr_assert_eq(dlclose(library), 0);
    cr_assert_null(dlopen(SHARED_LIBRARY, RTLD_NOW | RTLD_NOLOAD), "it is loaded still");
}

Test(unload, leaves_no_memory) {
    char path[] = "/tmp/seqtopk-unit-XXXXXX";
    const int file = mkstemp(path);
    cr_assert_geq(file, 0);
    close(file);
    save_tuning(path);
    setenv("SEQTOPK_TUNING", path, 1);
    for (int i = 0; i < 3; i++) /* what the C library keeps is there then */
        load_plan_unload(path);
    const size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 200; i++)
        load_plan_unload(path);
    const size_t after = mallinfo2().uordblks;
    unlink(path);
    /* The C library may come to need a little more; 20 bytes a time would be seen. */
    cr_expect_leq(after, before + 4000, "%zu bytes, then %zu", before, after);
}

#endif
