/* SPDX-License-Identifier: MIT */
/*
 * Tokens of a sequence as bytes: a header, then of each layer its notes, token by token, or, compact, its counts. Little endian, as all machines
 * that this library has kernels for; the magic tells where it is not.
 */
#include "src/cache/cache.h"
#include "src/status.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { VERSION = 1 };

typedef struct header {
    char magic[8];
    uint32_t version;
    uint32_t order; /* 0x01020304 as this machine writes it */
    int32_t layers, rules;
    int64_t from, to;
    uint64_t checksum; /* of what is behind the header and of the header, taken as 0 */
    uint64_t size;     /* of all */
} header;
static const char magic[8] = {'s', 'e', 'q', 't', 'o', 'p', 'k', 'c'};

/* FNV-1a over words of 8 bytes, the rest byte by byte: errors are to be found, not attacks. */
static uint64_t checksum(uint64_t sum, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (; size >= 8; size -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, sizeof word);
        sum = (sum ^ word) * UINT64_C(0x100000001b3);
        sum ^= sum >> 32;
    }
    for (; size > 0; size--, bytes++)
        sum = (sum ^ *bytes) * UINT64_C(0x100000001b3);
    return sum;
}

static uint64_t checksum_of(const header *head, const void *rest) {
    header own = *head;
    own.checksum = 0;
    return checksum(checksum(UINT64_C(0xcbf29ce484222325), &own, sizeof own), rest, (size_t)head->size - sizeof own);
}

/* What a layer's notes are of: its rules, without which its keys mean nothing. */
typedef struct layer_head {
    int32_t experts, top_k, min_experts, max_experts, score, width, depth; /* depth: 0 where keys are kept */
    int32_t reserved;
} layer_head;

static layer_head head_of(const seqtopk_cache *cache, int32_t layer) {
    const seqtopk_desc *desc = &cache->layer[layer].plan->desc;
    const seqtopk_rules *rules = &cache->layer[layer].rules;
    return (layer_head){.experts = desc->experts,
                        .top_k = desc->top_k,
                        .min_experts = desc->min_experts,
                        .max_experts = desc->max_experts,
                        .score = (int32_t)desc->score,
                        .width = seqtopk_cache_past(cache, layer, 0)->log.width,
                        .depth = rules->is_compact ? rules->depth : 0};
}

/* What a compact layer is saved as, its counts behind it. */
typedef struct compact_head {
    int64_t routed, sure, given;
} compact_head;

static size_t compact_size(const seqtopk_cache *cache, int32_t layer) {
    return sizeof(compact_head) +
           seqtopk_counts_bytes(seqtopk_cache_past(cache, layer, 0)->log.width, cache->layer[layer].rules.depth);
}

static size_t note_size(const seqtopk_cache *cache, int32_t layer) {
    return (size_t)seqtopk_cache_past(cache, layer, 0)->log.tokens.element;
}

size_t seqtopk_cache_save_size(const seqtopk_cache *cache, int32_t sequence, int64_t from, int64_t to) {
    size_t size = sizeof(header);
    if (seqtopk_cache_has(cache, sequence, NULL) || from < 0 || to < from)
        return 0;
    for (int32_t l = 0; l < cache->layers; l++) {
        const int64_t tokens = seqtopk_past_tokens(seqtopk_cache_past(cache, l, sequence));
        const int is_compact = cache->layer[l].rules.is_compact;
        if (to > tokens || (is_compact && (from > 0 || to < tokens || tokens == 0)))
            return 0;
        size += sizeof(layer_head) + (is_compact ? compact_size(cache, l) : (size_t)(to - from) * note_size(cache, l));
    }
    return size;
}

seqtopk_status seqtopk_cache_save(const seqtopk_cache *cache, int32_t sequence, int64_t from, int64_t to, void *blob,
                                  size_t size, seqtopk_error *error) {
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    const seqtopk_status status = seqtopk_cache_has(cache, sequence, error);
    if (status)
        return status;
    const size_t needed = seqtopk_cache_save_size(cache, sequence, from, to);
    if (!needed)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "tokens [%lld, %lld): a layer of sequence %d has fewer, or others: compact, all of a "
                            "sequence is saved",
                            (long long)from, (long long)to, (int)sequence);
    if (!blob)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "blob is NULL; it needs %zu bytes", needed);
    if (size < needed)
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                            "blob has %zu bytes; these tokens need %zu (seqtopk_cache_save_size)", size, needed);
    header head = {.version = VERSION, .order = 0x01020304, .layers = cache->layers, .from = from, .to = to};
    memcpy(head.magic, magic, sizeof magic);
    head.size = needed;
    char *at = (char *)blob + sizeof head;
    for (int32_t l = 0; l < cache->layers; l++) {
        const seqtopk_past *past = seqtopk_cache_past(cache, l, sequence);
        const layer_head own = head_of(cache, l);
        memcpy(at, &own, sizeof own);
        at += sizeof own;
        if (past->counts) {
            const compact_head compact = {past->routed, past->sure, past->given};
            memcpy(at, &compact, sizeof compact);
            memcpy(at + sizeof compact, past->counts, compact_size(cache, l) - sizeof compact);
            memset(at + sizeof compact + offsetof(seqtopk_counts, hint), 0, sizeof past->counts->hint);
            at += compact_size(cache, l);
        }
        for (int64_t t = from, here; t < to && !past->counts; t += here) {
            const void *notes = seqtopk_shelf_at(&past->log.tokens, t, &here);
            here = here < to - t ? here : to - t;
            memcpy(at, notes, (size_t)here * note_size(cache, l));
            at += (size_t)here * note_size(cache, l);
        }
    }
    head.checksum = checksum_of(&head, (char *)blob + sizeof head);
    memcpy(blob, &head, sizeof head);
    return SEQTOPK_OK;
}

/* Whether a note is one that a route of these rules could have made. */
static int is_sound(const seqtopk_rules *rules, const seqtopk_token_note *note, int has_keys) {
    if (note->sure == SEQTOPK_NOTE_MASKED)
        return !has_keys && note->given == 0;
    return note->sure <= (uint32_t)rules->min_experts && note->given <= (uint32_t)rules->max_experts &&
           (!has_keys || note->sure == (uint32_t)rules->min_experts);
}

/* Whether the counts at `at` are some that a route of these rules could have made. */
static int is_sound_compact(const seqtopk_cache *cache, int32_t layer, const char *at, int64_t tokens) {
    union {
        seqtopk_counts counts;
        char bytes[SEQTOPK_COUNTS_BYTES];
    } own;
    compact_head head;
    memcpy(&head, at, sizeof head);
    memcpy(own.bytes, at + sizeof head, compact_size(cache, layer) - sizeof head);
    const int32_t width = seqtopk_cache_past(cache, layer, 0)->log.width, depth = cache->layer[layer].rules.depth;
    return own.counts.width == width && own.counts.depth == depth && own.counts.tokens == tokens &&
           seqtopk_counts_are_sound(&own.counts) && head.routed >= 0 && head.routed <= tokens && head.sure >= 0 &&
           head.given >= 0;
}

static void restore_compact(seqtopk_past *past, const char *at, size_t size) {
    compact_head head;
    memcpy(&head, at, sizeof head);
    memcpy(past->counts, at + sizeof head, size - sizeof head);
    past->routed = head.routed;
    past->sure = head.sure;
    past->given = head.given;
}

/* Looks at all of a blob before any of it is taken. */
static seqtopk_status check_blob(const seqtopk_cache *cache, int32_t sequence, const void *blob, size_t size,
                                 header *head, seqtopk_error *error) {
    if (!blob)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "blob is NULL");
    if (size < sizeof *head || (memcpy(head, blob, sizeof *head), memcmp(head->magic, magic, sizeof magic)))
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the blob is no tokens of a cache: it begins otherwise");
    if (head->order != 0x01020304 || head->version != VERSION)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1,
                            "the blob is of version %" PRIu32 " or of a machine of another byte order; this library "
                            "reads version %d",
                            head->version, VERSION);
    if (head->size != size)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the blob is torn: it has %zu bytes of %" PRIu64, size,
                            head->size);
    if (head->checksum != checksum_of(head, (const char *)blob + sizeof *head))
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the blob is damaged: its checksum does not match");
    if (head->layers != cache->layers || head->from < 0 || head->to < head->from || head->to > cache->max_tokens)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                            "the blob has tokens [%lld, %lld) of %d layers; this cache has %d layers and at most %lld "
                            "tokens",
                            (long long)head->from, (long long)head->to, (int)head->layers, (int)cache->layers,
                            (long long)cache->max_tokens);
    const char *at = (const char *)blob + sizeof *head, *end = (const char *)blob + size;
    for (int32_t l = 0; l < cache->layers; l++) {
        const layer_head own = head_of(cache, l);
        const int is_compact = cache->layer[l].rules.is_compact;
        const size_t notes = is_compact ? 1 : (size_t)(head->to - head->from),
                     each = is_compact ? compact_size(cache, l) : note_size(cache, l);
        if ((size_t)(end - at) < sizeof own || memcmp(at, &own, sizeof own) ||
            notes > ((size_t)(end - at) - sizeof own) / each)
            return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                                "the blob was saved from other experts, budgets or bounds (layer %d)", (int)l);
        if (seqtopk_past_tokens(seqtopk_cache_past(cache, l, sequence)) != head->from)
            return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                                "the blob has tokens from %lld on, but layer %d of sequence %d has %lld",
                                (long long)head->from, (int)l, (int)sequence,
                                (long long)seqtopk_past_tokens(seqtopk_cache_past(cache, l, sequence)));
        at += sizeof own;
        if (is_compact) {
            if (!is_sound_compact(cache, l, at, head->to))
                return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the blob's counts of layer %d cannot be", (int)l);
            at += each;
            continue;
        }
        for (size_t t = 0; t < notes; t++, at += each) {
            seqtopk_token_note note;
            memcpy(&note, at, sizeof note);
            for (int32_t j = 0; j < own.width; j++) {
                float pair[2] = {0.0f, 0.0f}; /* the key before, and the key */
                memcpy(pair, at + sizeof note + (size_t)(j > 0 ? j - 1 : 0) * sizeof(float), sizeof(float));
                memcpy(pair + 1, at + sizeof note + (size_t)j * sizeof(float), sizeof(float));
                if (!(pair[1] <= pair[0]) || pair[1] == INFINITY)
                    return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the blob's token %zu of layer %d has no keys", t,
                                        (int)l);
            }
            float first = -INFINITY;
            if (own.width > 0)
                memcpy(&first, at + sizeof note, sizeof first);
            if (!is_sound(&cache->layer[l].rules, &note, first > -INFINITY))
                return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the blob's token %zu of layer %d cannot be", t, (int)l);
        }
    }
    return at == end ? SEQTOPK_OK : seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the blob has more bytes than its tokens");
}

seqtopk_status seqtopk_cache_load(seqtopk_cache *cache, int32_t sequence, const void *blob, size_t size,
                                  seqtopk_error *error) {
    header head;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    seqtopk_status status = seqtopk_cache_has(cache, sequence, error);
    if (!status)
        status = check_blob(cache, sequence, blob, size, &head, error);
    if (status)
        return status;
    const int64_t tokens = head.to - head.from;
    for (int32_t l = 0; l < cache->layers; l++)
        if (!seqtopk_past_reserve(seqtopk_cache_past(cache, l, sequence), &cache->layer[l].rules, head.from, tokens,
                                  &cache->purse))
            return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for %lld tokens", (long long)tokens);
    const char *at = (const char *)blob + sizeof head;
    for (int32_t l = 0; l < cache->layers; l++) {
        seqtopk_past *past = seqtopk_cache_past(cache, l, sequence);
        at += sizeof(layer_head);
        if (past->counts) {
            restore_compact(past, at, compact_size(cache, l));
            at += compact_size(cache, l);
            continue;
        }
        for (int64_t t = 0; t < tokens; t++, at += note_size(cache, l))
            seqtopk_past_restore(past, at, &cache->purse);
        if (cache->layer[l].rules.is_ledger)
            seqtopk_past_route_again(past, &cache->layer[l].rules, head.from, &cache->purse);
    }
    return SEQTOPK_OK;
}
