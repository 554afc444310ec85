/* Forced into each file of llama.cpp by amx.cmake, where GCC compiles for a CPU with AMX.

   llama.cpp writes the shape of its tiles into a local struct of 64 bytes and calls
   _tile_loadconfig on it. GCC's own version tells the optimiser that the instruction reads the
   eight bytes of a pointer, so the stores to the others are dropped, no tile has a shape, and the
   first product of tiles dies with a segmentation fault. This one names all 64. */
#pragma once
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(shape) \
    __asm__ volatile("ldtilecfg %0" : : "m"(*(const char (*)[64])(shape)))
#endif
