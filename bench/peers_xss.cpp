/* SPDX-License-Identifier: MIT */
#include "peers_xss.h"

#include <x86simdsort-static-incl.h>

namespace bench {

float xss_qselect(float *keys, size_t n, size_t k) {
    x86simdsortStatic::qselect(keys, k - 1, n, false, true);
    return keys[k - 1];
}

void xss_keyvalue_select(float *keys, uint32_t *values, size_t n, size_t k) {
    x86simdsortStatic::keyvalue_select(keys, values, k - 1, n, false, true);
    x86simdsortStatic::qsort(values, k);
}

} // namespace bench
