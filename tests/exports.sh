#!/bin/sh
# SPDX-License-Identifier: MIT
# What leaves the library: exports.sh HEADER KERNELS_DEF SHARED STATIC [ISA=ARCHIVE ...], with NM, READELF and CC from the
# environment.
#   1. The shared library exports what the header declares as SEQTOPK_API, all of it and nothing else.
#      Each has the version that src/exports.map gives it.
#   2. It needs libc and libm (and the loader) at run time, nothing else.
#   3. Every global symbol of the static library begins with seqtopk_.
#   4. The objects of an instruction set define nothing for others but the rows that kernels.def has for it: an inline
#      function that escaped from such an object would run on CPUs that cannot.
set -eu
LC_ALL=C
export LC_ALL
nm=${NM:-nm} readelf=${READELF:-readelf}
header=$1 kernels=$2 shared=$3 static=$4
shift 4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
    echo "FAILED: $*" >&2
    failed=1
}

# Declarations may span lines: join them, take the name before the first parenthesis.
tr '\n' ' ' <"$header" | sed 's#/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/##g' | tr ';' '\n' |
    sed -n 's/.*SEQTOPK_API [^()]*[ *]\(seqtopk_[a-z0-9_]*\)(.*/\1/p' | sort -u >"$work/declared"
[ -s "$work/declared" ] || fail "$header declares nothing"
# The nodes themselves are absolute symbols.
"$nm" -D --defined-only "$shared" | awk '$2 != "A" { print $NF }' | sort -u >"$work/versioned"
sed 's/@.*//' "$work/versioned" | sort -u >"$work/exported"
if grep -v '@@SEQTOPK_1' "$work/versioned" >"$work/bare"; then
    fail "exported without a version (src/exports.map):
$(cat "$work/bare")"
fi
diff "$work/declared" "$work/exported" >"$work/diff" || fail "declared (<) and exported (>) differ:
$(cat "$work/diff")"

for needed in $("$readelf" -d "$shared" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    case $needed in
    libc.so.* | libm.so.* | ld-linux*.so.*) ;;
    # Sanitizers bring their own.
    libasan.so.* | libubsan.so.* | libtsan.so.* | libgcc_s.so.*) [ -n "${SANITIZED:-}" ] || fail "needs $needed" ;;
    *) fail "needs $needed" ;;
    esac
done

# nm prints "value type name"; capital types are global. What a sanitizer or the compiler adds has its own prefix.
globals() {
    "$nm" --defined-only --extern-only "$1" 2>/dev/null | awk 'NF == 3 { print $3 }' | grep -v '^__\(odr_\)\?asan' | sort -u
}
globals "$static" | grep -v '^seqtopk_' >"$work/strange" && fail "global in $static:
$(cat "$work/strange")"
[ -n "$(globals "$static")" ] || fail "$static defines nothing"

for pair in "$@"; do
    isa=${pair%%=*} archive=${pair#*=}
    # kernels.def itself says what belongs to the ISA.
    upper=$(echo "$isa" | tr '[:lower:]' '[:upper:]')
    {
        echo '#define SEQTOPK_KERNEL(op, dtype, isa, algorithm, revision, applies, about) seqtopk_##op##_##dtype##__##isa##_##algorithm'
        cat "$kernels"
    } | ${CC:-cc} -E -P "-DSEQTOPK_WITH_$upper=1" -I"${kernels%/*}/.." -x c - | tr -s ' \t' '\n' | grep "^seqtopk_.*__${isa}_" | sort -u >"$work/rows"
    globals "$archive" >"$work/defined"
    [ -s "$work/defined" ] || fail "$archive defines nothing"
    diff "$work/rows" "$work/defined" >"$work/diff" || fail "rows of $isa (<) and what its objects define (>) differ:
$(cat "$work/diff")"
done
[ "$failed" = 0 ] && echo "$(wc -l <"$work/exported") names exported"
exit "$failed"
