/* SPDX-License-Identifier: MIT */
#include "inputs.h"
#include "cli.h"
#include "options.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUN = SEQTOPK_OPTIONS_RUN };

static int load(const char *path, seqtopk_npy *array) {
    char message[SEQTOPK_NPY_MESSAGE];
    if (!seqtopk_npy_load(path, array, message))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s", path, message);
    return RUN;
}

/* An array that is looked at once: what is of use, `take` puts into *inputs. */
static int load_and(int (*take)(const char *path, const seqtopk_npy *array, seqtopk_cli_inputs *inputs),
                    const char *path, seqtopk_cli_inputs *inputs) {
    seqtopk_npy array;
    int status = load(path, &array);
    if (status == RUN)
        status = take(path, &array, inputs);
    seqtopk_npy_free(&array);
    return status;
}

/* ---------------------------------------------------------------- logits -- */

static int logits_dtype(const char *path, int wanted, seqtopk_cli_inputs *inputs) {
    const char *held = seqtopk_npy_dtype_name(inputs->logits.dtype);
    switch (inputs->logits.dtype) {
    case SEQTOPK_NPY_F4: inputs->dtype = SEQTOPK_DTYPE_F32; break;
    case SEQTOPK_NPY_F2: inputs->dtype = SEQTOPK_DTYPE_F16; break;
    case SEQTOPK_NPY_U2:
        if (wanted < 0)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: holds %s; if these are raw bfloat16 say --dtype bf16",
                                    path, held);
        inputs->dtype = SEQTOPK_DTYPE_BF16;
        break;
    case SEQTOPK_NPY_I4:
    case SEQTOPK_NPY_I8:
    case SEQTOPK_NPY_U1:
    case SEQTOPK_NPY_BOOL:
    case SEQTOPK_NPY_DTYPES:
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: holds %s; logits are float32, float16, or uint16 with --dtype bf16", path, held);
    }
    if (wanted >= 0 && wanted != (int)inputs->dtype) {
        char word[SEQTOPK_WORD];
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: holds %s, which is not --dtype %s", path, held,
                                seqtopk_options_word("f32|bf16|f16", wanted, word));
    }
    return RUN;
}

static int load_logits(const char *path, int wanted, int rows_later, seqtopk_cli_inputs *inputs) {
    seqtopk_npy *a = &inputs->logits;
    char shape[SEQTOPK_NPY_SHAPE_TEXT], message[SEQTOPK_NPY_MESSAGE];
    int status = rows_later ? RUN : load(path, a);
    if (rows_later && !seqtopk_npy_open(path, a, message))
        status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s", path, message);
    if (status == RUN)
        status = logits_dtype(path, wanted, inputs);
    if (status != RUN)
        return status;
    if (a->ndim != 2 && a->ndim != 3)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: has the shape %s; logits are [T, E] or [S, T, E]", path,
                                seqtopk_npy_shape_text(a, shape));
    inputs->experts = a->shape[a->ndim - 1];
    if (inputs->experts < 1 || inputs->experts > 65536)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: has %" PRId64 " experts (shape %s); 1 to 65536 can be routed", path,
                                inputs->experts, seqtopk_npy_shape_text(a, shape));
    inputs->sequences = a->ndim == 3 ? a->shape[0] : 1;
    inputs->tokens = a->count / inputs->experts;
    if (inputs->tokens > INT32_MAX || inputs->sequences > INT32_MAX)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: has the shape %s; more than 2147483647 tokens are too many",
                                path, seqtopk_npy_shape_text(a, shape));
    return RUN;
}

/* ------------------------------------------------------------- sequences -- */

/* Every sequence of [S, T, E] is T tokens long. Without a token there is no boundary to tell, and S may be anything. */
static int even_sequences(seqtopk_cli_inputs *inputs) {
    if (inputs->sequences == 1 || inputs->tokens == 0)
        return RUN;
    inputs->cu_seqlens = seqtopk_cli_alloc((unsigned long long)inputs->sequences + 1, sizeof(int32_t));
    if (!inputs->cu_seqlens)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "no memory for %" PRId64 " sequences", inputs->sequences);
    for (int64_t s = 0; s <= inputs->sequences; s++)
        inputs->cu_seqlens[s] = (int32_t)(s * inputs->logits.shape[1]);
    return RUN;
}

static int parse_lengths(const char *text, seqtopk_cli_inputs *inputs) {
    int64_t count = 1, sum = 0;
    for (const char *c = text; *c; c++)
        count += *c == ',';
    if (count > INT32_MAX)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "route: --lengths has more sequences than can be routed");
    inputs->sequences = count;
    inputs->cu_seqlens = seqtopk_cli_alloc((unsigned long long)count + 1, sizeof(int32_t));
    if (!inputs->cu_seqlens)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "no memory for %" PRId64 " sequences", count);
    inputs->cu_seqlens[0] = 0;
    for (int64_t s = 0; s < count; s++) {
        char word[16];
        size_t n = strcspn(text, ",");
        int64_t length;
        snprintf(word, sizeof word, "%.*s", n < sizeof word ? (int)n : 0, text); /* too long is no int32 either */
        if (!seqtopk_parse_int(word, 0, INT32_MAX, &length))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                    "route: --lengths needs whole numbers separated by commas, and '%.*s' is not one",
                                    (int)(n < 40 ? n : 40), text);
        sum += length;
        inputs->cu_seqlens[s + 1] = sum > INT32_MAX ? INT32_MAX : (int32_t)sum;
        text += n + (text[n] == ',');
    }
    if (sum != inputs->tokens)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "route: --lengths add up to %" PRId64 ", and the logits have %" PRId64
                                " tokens; they must be equal",
                                sum, inputs->tokens);
    return RUN;
}

static int64_t integer_at(const seqtopk_npy *array, int64_t i) {
    switch (array->dtype) {
    case SEQTOPK_NPY_I8: return ((const int64_t *)array->data)[i];
    case SEQTOPK_NPY_I4: return ((const int32_t *)array->data)[i];
    case SEQTOPK_NPY_U2: return ((const uint16_t *)array->data)[i];
    case SEQTOPK_NPY_U1:
    case SEQTOPK_NPY_BOOL: return ((const uint8_t *)array->data)[i];
    case SEQTOPK_NPY_F4:
    case SEQTOPK_NPY_F2:
    case SEQTOPK_NPY_DTYPES: break;
    }
    return 0; /* who asks has looked that it is of integers */
}

static int take_offsets(const char *path, const seqtopk_npy *array, seqtopk_cli_inputs *inputs) {
    char shape[SEQTOPK_NPY_SHAPE_TEXT];
    if (array->dtype != SEQTOPK_NPY_I4 && array->dtype != SEQTOPK_NPY_I8)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: holds %s; cu_seqlens are int32 or int64", path,
                                seqtopk_npy_dtype_name(array->dtype));
    if (array->ndim != 1 || array->count < 1 || array->count > INT32_MAX)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: has the shape %s; cu_seqlens are [S + 1]", path,
                                seqtopk_npy_shape_text(array, shape));
    inputs->sequences = array->count - 1;
    inputs->cu_seqlens = seqtopk_cli_alloc((unsigned long long)array->count, sizeof(int32_t));
    if (!inputs->cu_seqlens)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: no memory for %" PRId64 " sequences", path,
                                inputs->sequences);
    int64_t last = 0;
    for (int64_t s = 0; s < array->count; s++) {
        int64_t offset = integer_at(array, s);
        if (s == 0 && offset != 0)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: cu_seqlens begin with %" PRId64 " and not with 0", path,
                                    offset);
        if (offset < last)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                    "%s: cu_seqlens[%" PRId64 "] is %" PRId64 ", below the one before it, %" PRId64,
                                    path, s, offset, last);
        if (offset > inputs->tokens)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                    "%s: cu_seqlens[%" PRId64 "] is %" PRId64 ", and the logits have %" PRId64
                                    " tokens",
                                    path, s, offset, inputs->tokens);
        inputs->cu_seqlens[s] = (int32_t)offset;
        last = offset;
    }
    if (last != inputs->tokens)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: cu_seqlens end with %" PRId64 ", and the logits have %" PRId64 " tokens", path,
                                last, inputs->tokens);
    return RUN;
}

/* Numbers from 0 on: sequences are as many as the largest says. */
static int take_token_seq(const char *path, const seqtopk_npy *array, seqtopk_cli_inputs *inputs) {
    char shape[SEQTOPK_NPY_SHAPE_TEXT];
    if (array->dtype != SEQTOPK_NPY_I4 && array->dtype != SEQTOPK_NPY_I8)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: holds %s; the sequence of each token is int32 or int64",
                                path, seqtopk_npy_dtype_name(array->dtype));
    if (array->ndim != 1 || array->count != inputs->tokens)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: has the shape %s; the sequence of each token is [T], here (%" PRId64 ",)", path,
                                seqtopk_npy_shape_text(array, shape), inputs->tokens);
    inputs->token_seq = seqtopk_cli_alloc((unsigned long long)inputs->tokens, sizeof(int32_t));
    if (!inputs->token_seq)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: no memory for the sequences of %" PRId64 " tokens", path,
                                inputs->tokens);
    for (int64_t t = 0; t < inputs->tokens; t++) {
        const int64_t sequence = integer_at(array, t);
        if (sequence < 0 || sequence >= inputs->tokens)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                    "%s: token %" PRId64 " is of sequence %" PRId64 "; those of %" PRId64
                                    " tokens are numbered from 0 to %" PRId64 " at most",
                                    path, t, sequence, inputs->tokens, inputs->tokens - 1);
        inputs->token_seq[t] = (int32_t)sequence;
        inputs->sequences = sequence >= inputs->sequences ? sequence + 1 : inputs->sequences;
    }
    return RUN;
}

static int load_sequences(const seqtopk_cli_sources *sources, seqtopk_cli_inputs *inputs) {
    const char *const files[] = {sources->lengths, sources->cu_seqlens, sources->token_seq};
    static const char *const flags[] = {"--lengths", "--cu-seqlens", "--token-seq"};
    const char *flag = NULL;
    for (int i = 0; i < 3; i++) {
        if (flag && files[i])
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "route: %s and %s say the same; leave one out", flag, flags[i]);
        flag = files[i] ? flags[i] : flag;
    }
    if (!flag)
        return even_sequences(inputs);
    if (inputs->logits.ndim == 3)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_USAGE,
            "route: %s with logits [S, T, E]: the file's shape is its sequences already; leave it out", flag);
    return sources->lengths      ? parse_lengths(sources->lengths, inputs)
           : sources->cu_seqlens ? load_and(take_offsets, sources->cu_seqlens, inputs)
                                 : load_and(take_token_seq, sources->token_seq, inputs);
}

/* ------------------------------------------------ mask, bias, factors -- */

static int take_mask(const char *path, const seqtopk_npy *mask, seqtopk_cli_inputs *inputs) {
    const seqtopk_npy *logits = &inputs->logits;
    char have[SEQTOPK_NPY_SHAPE_TEXT], all[SEQTOPK_NPY_SHAPE_TEXT];
    if (mask->dtype == SEQTOPK_NPY_F4 || mask->dtype == SEQTOPK_NPY_F2)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: holds %s; a mask is bool, uint8 or another integer", path,
                                seqtopk_npy_dtype_name(mask->dtype));
    bool flat = mask->ndim == 1 && mask->count == inputs->tokens;
    bool same = mask->ndim == 2 && logits->ndim == 3 && mask->shape[0] == logits->shape[0] &&
                mask->shape[1] == logits->shape[1];
    if (!flat && !same)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: has the shape %s, and the logits %s; a mask is [T] or [S, T]", path,
                                seqtopk_npy_shape_text(mask, have), seqtopk_npy_shape_text(logits, all));
    inputs->token_mask = seqtopk_cli_alloc((unsigned long long)inputs->tokens, 1);
    if (!inputs->token_mask)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: no memory for the mask", path);
    inputs->unmasked = 0;
    for (int64_t t = 0; t < inputs->tokens; t++)
        inputs->unmasked += inputs->token_mask[t] = integer_at(mask, t) != 0;
    return RUN;
}

/* A number for each expert; `excludes`: -inf is one. */
static int load_experts(const char *path, const char *what, const char *of, int64_t experts, bool excludes,
                        seqtopk_npy *array) {
    char shape[SEQTOPK_NPY_SHAPE_TEXT];
    if (!path)
        return RUN;
    int status = load(path, array);
    if (status != RUN)
        return status;
    if (array->dtype != SEQTOPK_NPY_F4)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: holds %s; %s float32", path,
                                seqtopk_npy_dtype_name(array->dtype), what);
    if (array->ndim != 1 || array->count != experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: has the shape %s; %s [E], here (%" PRId64 ",)", path,
                                seqtopk_npy_shape_text(array, shape), what, experts);
    const float *values = array->data;
    for (int64_t e = 0; e < experts; e++)
        if (!isfinite(values[e]) && !(excludes && values[e] == -INFINITY))
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: the %s of expert %" PRId64 " is %s", path, of, e,
                                    isnan(values[e])   ? "NaN"
                                    : values[e] > 0.0f ? "+inf"
                                                       : "-inf");
    return RUN;
}

/* ------------------------------------------------------- a given selection -- */

static int take_given(const char *path, const seqtopk_npy *given, seqtopk_cli_inputs *inputs) {
    const seqtopk_npy *logits = &inputs->logits;
    char have[SEQTOPK_NPY_SHAPE_TEXT], all[SEQTOPK_NPY_SHAPE_TEXT];
    if (given->dtype != SEQTOPK_NPY_I4 && given->dtype != SEQTOPK_NPY_I8)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: holds %s; given experts are int32 or int64", path,
                                seqtopk_npy_dtype_name(given->dtype));
    bool flat = given->ndim == 2 && given->shape[0] == inputs->tokens;
    bool same = given->ndim == 3 && logits->ndim == 3 && given->shape[0] == logits->shape[0] &&
                given->shape[1] == logits->shape[1];
    inputs->given_width = given->ndim > 1 ? given->shape[given->ndim - 1] : 0;
    if ((!flat && !same) || inputs->given_width < 1)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: has the shape %s, and the logits %s; given experts are [T, N] or [S, T, N]", path,
                                seqtopk_npy_shape_text(given, have), seqtopk_npy_shape_text(logits, all));
    inputs->given = seqtopk_cli_alloc((unsigned long long)given->count, sizeof *inputs->given);
    if (!inputs->given)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: no memory for the given experts", path);
    for (int64_t i = 0; i < given->count; i++) {
        const int64_t id = integer_at(given, i);
        if (id >= inputs->experts)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                    "%s: token %" PRId64 " is given expert %" PRId64 ", and the logits have %" PRId64
                                    "; -1 is none",
                                    path, i / inputs->given_width, id, inputs->experts);
        inputs->given[i] = id < 0 ? -1 : (int32_t)id;
    }
    return RUN;
}

/* ----------------------------------------------------------------- whole -- */

int seqtopk_cli_inputs_load(const seqtopk_cli_sources *sources, int dtype, seqtopk_cli_inputs *inputs) {
    memset(inputs, 0, sizeof *inputs);
    int status = load_logits(sources->logits, dtype, sources->rows_later, inputs);
    if (status == RUN)
        status = load_sequences(sources, inputs);
    inputs->unmasked = inputs->tokens;
    if (status == RUN && sources->mask)
        status = load_and(take_mask, sources->mask, inputs);
    if (status == RUN)
        status =
            load_experts(sources->bias, "a bias is", "bias", inputs->experts - sources->shared, true, &inputs->bias);
    if (status == RUN)
        status = load_experts(sources->factors, "factors are", "factor", inputs->experts + sources->beside, false,
                              &inputs->factors);
    if (status == RUN && sources->given)
        status = load_and(take_given, sources->given, inputs);
    return status;
}

void seqtopk_cli_inputs_free(seqtopk_cli_inputs *inputs) {
    seqtopk_npy_free(&inputs->logits);
    seqtopk_npy_free(&inputs->bias);
    seqtopk_npy_free(&inputs->factors);
    free(inputs->cu_seqlens);
    free(inputs->token_seq);
    free(inputs->token_mask);
    free(inputs->given);
}

seqtopk_input seqtopk_cli_inputs_view(const seqtopk_cli_inputs *inputs) {
    seqtopk_input input = SEQTOPK_INPUT_INIT;
    input.logits = inputs->logits.data;
    input.tokens = inputs->tokens;
    input.cu_seqlens = inputs->cu_seqlens;
    input.token_seq = inputs->token_seq;
    input.sequences = inputs->cu_seqlens || inputs->token_seq ? (int32_t)inputs->sequences : 0;
    input.token_mask = inputs->token_mask;
    input.bias = inputs->bias.data;
    input.expert_factors = inputs->factors.data;
    input.given_ids = inputs->given;
    input.given_width = (int32_t)inputs->given_width;
    return input;
}

/* Read off the bits, which says it for all three types: the exponent all ones, then a fraction (NaN) or none. */
static const char *trouble_at(const seqtopk_cli_inputs *inputs, const void *row, int64_t i) {
    uint32_t bits, infinity;
    if (inputs->dtype == SEQTOPK_DTYPE_F32) {
        bits = ((const uint32_t *)row)[i];
        infinity = UINT32_C(0x7f800000);
    } else {
        bits = (uint32_t)((const uint16_t *)row)[i] << 16;
        infinity = inputs->dtype == SEQTOPK_DTYPE_BF16 ? UINT32_C(0x7f800000) : UINT32_C(0x7c000000);
    }
    return (bits & UINT32_C(0x7fffffff)) > infinity ? "NaN" : bits == infinity ? "+inf" : NULL;
}

int seqtopk_cli_inputs_nonfinite(const seqtopk_cli_inputs *inputs, const char *path, int64_t token) {
    char where[96] = "", expert[48] = "";
    const char *what = "NaN or +inf";
    if (inputs->cu_seqlens && inputs->sequences > 1) {
        int64_t s = 0;
        while (inputs->cu_seqlens[s + 1] <= token)
            s++;
        snprintf(where, sizeof where, " (sequence %" PRId64 ", token %" PRId64 " in it)", s,
                 token - inputs->cu_seqlens[s]);
    }
    if (inputs->token_seq)
        snprintf(where, sizeof where, " (sequence %" PRId32 ")", inputs->token_seq[token]);
    const size_t size = inputs->logits.data_size / (size_t)inputs->tokens, at = (size_t)token * size;
    void *later = inputs->logits.data ? NULL : seqtopk_cli_alloc(size, 1);
    char message[SEQTOPK_NPY_MESSAGE];
    const char *row = inputs->logits.data ? (const char *)inputs->logits.data + at : later;
    if (later && !seqtopk_npy_read_at(path, &inputs->logits, at, later, size, message))
        row = NULL;
    for (int64_t e = 0; row && e < inputs->experts; e++) {
        const char *trouble = trouble_at(inputs, row, e);
        if (trouble) {
            what = trouble;
            snprintf(expert, sizeof expert, ", expert %" PRId64, e);
            break;
        }
    }
    free(later);
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s at token %" PRId64 "%s%s", path, what, token, where, expert);
}
