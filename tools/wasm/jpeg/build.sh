#!/bin/bash
# Builds vision/internal/photo/wasm/jpeg.wasm.gz: libjpeg-turbo's decoder as a WebAssembly module without imports.
# Usage: tools/wasm/jpeg/build.sh DIRECTORY-OF-LIBJPEG-TURBO. Needs Debian's clang, lld, wasi-libc and
# libclang-rt-14-dev-wasm32. The release that the committed module was made of is in wasm/README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$1" && pwd)
out=$here/../../../vision/internal/photo/wasm/jpeg.wasm.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -nE 's/^set\(VERSION ([0-9.]+)\).*/\1/p' "$source/CMakeLists.txt")

cat > "$work/jconfig.h" <<C
#define JPEG_LIB_VERSION 62
#define LIBJPEG_TURBO_VERSION $version
#define LIBJPEG_TURBO_VERSION_NUMBER 3001004
#define MEM_SRCDST_SUPPORTED 1
#ifndef BITS_IN_JSAMPLE
#define BITS_IN_JSAMPLE 8
#endif
C
cat > "$work/jconfigint.h" <<C
#define BUILD "visage"
#define HIDDEN __attribute__((visibility("hidden")))
#define INLINE __inline__ __attribute__((always_inline))
#define THREAD_LOCAL
#define PACKAGE_NAME "libjpeg-turbo"
#define VERSION "$version"
#define SIZEOF_SIZE_T 4
#define FALLTHROUGH __attribute__((fallthrough));
#ifndef BITS_IN_JSAMPLE
#define BITS_IN_JSAMPLE 8
#endif
C
sed 's/@COPYRIGHT_YEAR@/1991-2026/' "$source/src/jversion.h.in" > "$work/jversion.h"

files=()
for f in jcomapi jdapimin jdhuff jdicc jdinput jdlhuff jdmarker jdmaster jdphuff jdtrans jmemmgr jmemnobs \
  jpeg_nbits; do
  files+=("$source/src/$f.c")
done
for f in jdapistd jdcoefct jdcolor jddctmgr jddiffct jdlossls jdmainct jdmerge jdpostct jdsample jidctflt jidctfst \
  jidctint jidctred jquant1 jquant2 jutils; do
  for bits in 8 12 16; do
    if [ -e "$source/src/wrapper/$f-$bits.c" ]; then files+=("$source/src/wrapper/$f-$bits.c"); fi
  done
done
clang --target=wasm32-wasi -O2 -DNDEBUG -DNO_GETENV -Wall -ffunction-sections -fdata-sections -I"$work" -I"$source/src" \
  -mexec-model=reactor -Wl,--no-entry -Wl,--gc-sections -Wl,--strip-all -Wl,-z,stack-size=262144 \
  -o "$work/jpeg.wasm" "$here/decode.c" "${files[@]}"
gzip -9n < "$work/jpeg.wasm" > "$out"
ls -l "$work/jpeg.wasm" "$out"
