/* SPDX-License-Identifier: MIT */
/* seqtopk.h alone, before anything else. */
#include <seqtopk/seqtopk.h>

#define MADE(type, init)                                                                                               \
    static const type made_##type = init;                                                                              \
    static const type *use_##type(void) { return &made_##type; }
MADE(seqtopk_error, SEQTOPK_ERROR_INIT)
MADE(seqtopk_desc, SEQTOPK_DESC_INIT)
MADE(seqtopk_input, SEQTOPK_INPUT_INIT)
MADE(seqtopk_output, SEQTOPK_OUTPUT_INIT)
MADE(seqtopk_parallel, SEQTOPK_PARALLEL_INIT)
MADE(seqtopk_preset, SEQTOPK_PRESET_INIT)
MADE(seqtopk_kernel, SEQTOPK_KERNEL_INIT)
MADE(seqtopk_choice, SEQTOPK_CHOICE_INIT)
MADE(seqtopk_tuning_info, SEQTOPK_TUNING_INFO_INIT)

int seqtopk_header_c(void);
int seqtopk_header_c(void) {
    return use_seqtopk_error()->token == -1 && use_seqtopk_desc()->struct_size == sizeof(seqtopk_desc) &&
           use_seqtopk_input()->struct_size == sizeof(seqtopk_input) &&
           use_seqtopk_output()->struct_size == sizeof(seqtopk_output) &&
           use_seqtopk_parallel()->struct_size == sizeof(seqtopk_parallel) &&
           use_seqtopk_preset()->struct_size == sizeof(seqtopk_preset) &&
           use_seqtopk_kernel()->struct_size == sizeof(seqtopk_kernel) &&
           use_seqtopk_choice()->struct_size == sizeof(seqtopk_choice) &&
           use_seqtopk_tuning_info()->struct_size == sizeof(seqtopk_tuning_info);
}
