/* SPDX-License-Identifier: MIT */
/* seqtopk.h alone, before anything else. */
#include <seqtopk/seqtopk.h>

int seqtopk_header_cpp();
int seqtopk_header_cpp() {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_input input = SEQTOPK_INPUT_INIT;
    seqtopk_output output = SEQTOPK_OUTPUT_INIT;
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    seqtopk_preset preset = SEQTOPK_PRESET_INIT;
    seqtopk_kernel kernel = SEQTOPK_KERNEL_INIT;
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    seqtopk_tuning_info tuning = SEQTOPK_TUNING_INFO_INIT;
    /* The macros set the size and leave the rest zero, which is the default. */
    return error.token == -1 && desc.struct_size == sizeof desc && desc.experts == 0 &&
           input.struct_size == sizeof input && output.struct_size == sizeof output &&
           parallel.struct_size == sizeof parallel && kernel.struct_size == sizeof kernel &&
           preset.struct_size == sizeof preset && choice.struct_size == sizeof choice &&
           tuning.struct_size == sizeof tuning;
}
