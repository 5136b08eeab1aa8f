/* SPDX-License-Identifier: MIT */
/*
 * A plugin for QEMU's user mode: counts the instructions that a program executes and prints the number on standard
 * error. Debian's qemu-user takes plugins and has no header for them: what is used of the interface (version 1) stands
 * here.
 */
#include <inttypes.h>
#include <stdio.h>

typedef uint64_t plugin_id;
struct plugin_info;
struct plugin_block;
typedef void on_block(plugin_id id, struct plugin_block *block);
typedef void on_exit(plugin_id id, void *data);
enum { ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_block *call);
size_t qemu_plugin_tb_n_insns(const struct plugin_block *block);
void qemu_plugin_register_vcpu_tb_exec_inline(struct plugin_block *block, int op, void *to, uint64_t value);
void qemu_plugin_register_atexit_cb(plugin_id id, on_exit *call, void *data);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv);

static uint64_t count;

/* Each time a block of instructions runs, as many are added as it has. */
static void translated(plugin_id id, struct plugin_block *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void ended(plugin_id id, void *data) {
    (void)id;
    (void)data;
    fprintf(stderr, "instructions: %" PRIu64 "\n", count);
}

int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv) {
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
