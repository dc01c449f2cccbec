//go:build !purego

#include "textflag.h"

DATA ones<>+0(SB)/8, $0x0001000100010001
DATA ones<>+8(SB)/8, $0x0001000100010001
DATA ones<>+16(SB)/8, $0x0001000100010001
DATA ones<>+24(SB)/8, $0x0001000100010001
GLOBL ones<>(SB), RODATA|NOPTR, $32

// Thirty-two bytes from byte 32-n on keep the first n.
DATA first<>+0(SB)/8, $0xffffffffffffffff
DATA first<>+8(SB)/8, $0xffffffffffffffff
DATA first<>+16(SB)/8, $0xffffffffffffffff
DATA first<>+24(SB)/8, $0xffffffffffffffff
DATA first<>+32(SB)/8, $0
DATA first<>+40(SB)/8, $0
DATA first<>+48(SB)/8, $0
DATA first<>+56(SB)/8, $0
GLOBL first<>(SB), RODATA|NOPTR, $64

DATA eight<>+0(SB)/8, $0x0000000100000000
DATA eight<>+8(SB)/8, $0x0000000300000002
DATA eight<>+16(SB)/8, $0x0000000500000004
DATA eight<>+24(SB)/8, $0x0000000700000006
GLOBL eight<>(SB), RODATA|NOPTR, $32

// How far ahead the next data of the sketch is asked for, as with AVX-512.
#define ahead 512

// EVERY puts a byte in all of a register.
#define EVERY(byte, x, y) \
	MOVL         $(byte*0x01010101), AX \
	VMOVD        AX, x                  \
	VPBROADCASTD x, y

// HIT stores the number and the sum of the first row that passes, and clears its bit. AX has a bit for each row from R9
// on; the sum of this one is at sum.
#define HIT(sum) \
	BSFL AX, DX           \
	LEAL (R9)(DX*1), BX   \
	MOVL BX, (DI)(R12*4)  \
	MOVL sum, BX          \
	MOVL BX, (R11)(R12*4) \
	INCQ R12              \
	LEAL -1(AX), DX       \
	ANDL DX, AX

// FIELD adds the products of four codes of a probe with those codes of 16 rows, in Y6 and Y7, that a mask leaves.
#define FIELD(codes, mask, low, high) \
	VPBROADCASTD codes(BX), Y4  \
	VPAND        mask, Y6, Y8   \
	VPAND        mask, Y7, Y9   \
	VPMADDUBSW   Y4, Y8, Y8     \
	VPMADDUBSW   Y4, Y9, Y9     \
	VPADDW       Y8, low, low   \
	VPADDW       Y9, high, high

// QUARTER adds sums of 16 bits and a quarter of others, by pairs, to sums of 32 bits, and clears them.
#define QUARTER(sum, quadruple, to) \
	VPSRAW   $2, quadruple, quadruple        \
	VPADDW   quadruple, sum, sum             \
	VPMADDWD ones<>(SB), sum, sum            \
	VPADDD   sum, to, to                     \
	VPXOR    sum, sum, sum                   \
	VPXOR    quadruple, quadruple, quadruple

// func sketchAVX2(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int
//
// Of the two codes in half a byte the upper one is not moved down: it counts four times, which is undone exactly when
// the sums are widened. Its products, added in pairs, are at most 2·12·127 = 3,048, and a vector adds two of these:
// sums of 16 bits hold five vectors.
TEXT ·sketchAVX2(SB), NOSPLIT, $64-64
	MOVQ         groups+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         codes+24(FP), R8
	MOVQ         limit+32(FP), R13
	MOVQ         where+40(FP), DI
	MOVQ         sums+48(FP), R11
	XORQ         R12, R12          // how many were found
	XORQ         R9, R9            // the group's first row
	VPBROADCASTD (R13), Y13        // the weights
	VMOVD        8(R13), X12       // the shift
	VPXOR        Y0, Y0, Y0        // sums of 16 bits, two a row, of rows 0 to 7
	VPXOR        Y1, Y1, Y1        // and 8 to 15
	VPXOR        Y2, Y2, Y2        // and four times such sums
	VPXOR        Y3, Y3, Y3
	EVERY(3, X14, Y14)
	EVERY(12, X15, Y15)

group:
	MOVQ         SI, R14
	PREFETCHT0   ahead(SI)
	VPBROADCASTD 4(R13), Y10         // the sums of rows 0 to 7
	VMOVDQA      Y10, Y11            // and 8 to 15
	ADDQ         $64, SI
	MOVQ         R8, BX
	MOVQ         vectors+16(FP), R10

five:
	MOVL    $5, DX
	CMPQ    R10, DX
	CMOVQLT R10, DX
	SUBQ    DX, R10

vector:
	VMOVDQU    (SI), Y6
	VMOVDQU    32(SI), Y7
	PREFETCHT0 ahead(SI)
	FIELD(0, Y14, Y0, Y1)
	FIELD(4, Y15, Y2, Y3)
	VPSRLW     $4, Y6, Y6
	VPSRLW     $4, Y7, Y7
	FIELD(8, Y14, Y0, Y1)
	FIELD(12, Y15, Y2, Y3)
	ADDQ       $16, BX
	ADDQ       $64, SI
	DECL       DX
	JNE        vector

	QUARTER(Y0, Y2, Y10)
	QUARTER(Y1, Y3, Y11)
	TESTQ R10, R10
	JNE   five

	VPMADDWD  (R14), Y13, Y6
	VPMADDWD  32(R14), Y13, Y7
	VPSRAD    X12, Y6, Y6
	VPSRAD    X12, Y7, Y7
	VPCMPGTD  Y10, Y6, Y6      // all ones where a row fails
	VPCMPGTD  Y11, Y7, Y7
	VMOVMSKPS Y6, AX
	VMOVMSKPS Y7, DX
	SHLL      $8, DX
	ORL       DX, AX
	XORL      $0xffff, AX
	JEQ       next
	VMOVDQU   Y10, sums-64(SP)
	VMOVDQU   Y11, sums-32(SP)

hit:
	HIT(sums-64(SP)(DX*4))
	JNE hit

next:
	ADDL $16, R9
	DECQ CX
	JNE  group

	VZEROUPPER
	MOVQ R12, ret+56(FP)
	RET

// PRODUCTS adds the products of a probe's four codes, in Y12, with half a vector of a tile.
#define PRODUCTS(at, sum) \
	VMOVDQU    at, Y13       \
	VPMADDUBSW Y12, Y13, Y13 \
	VPADDW     Y13, sum, sum

// WIDEN adds the pairs of sums of 16 bits to sums of 32 bits, and clears them.
#define WIDEN(from, to) \
	VPMADDWD Y15, from, from  \
	VPADDD   from, to, to     \
	VPXOR    from, from, from

// func scanAVX2(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
//
// Two groups at once. Products, added in pairs, are at most 2·15·127 = 3,810: sums of 16 bits hold eight vectors.
TEXT ·scanAVX2(SB), NOSPLIT, $128-72
	MOVQ    tile+0(FP), SI
	MOVQ    n+8(FP), CX
	MOVQ    codes+24(FP), R8
	MOVQ    limits+32(FP), R13
	MOVQ    where+40(FP), DI
	MOVQ    sums+48(FP), R11
	MOVL    first+56(FP), R9
	XORQ    R12, R12
	MOVQ    vectors+16(FP), R15
	INCQ    R15
	SHLQ    $6, R15             // the bytes of a group
	VMOVDQU ones<>(SB), Y15
	VPXOR   Y0, Y0, Y0          // sums of 16 bits, two a row, of eight rows each
	VPXOR   Y1, Y1, Y1
	VPXOR   Y2, Y2, Y2
	VPXOR   Y3, Y3, Y3

groups:
	VPBROADCASTD 4(R13), Y4          // and sums of 32 bits
	VMOVDQA      Y4, Y5
	VMOVDQA      Y4, Y6
	VMOVDQA      Y4, Y7
	LEAQ         64(SI), AX
	MOVQ         R8, BX
	MOVQ         vectors+16(FP), R10

eight:
	MOVL    $8, DX
	CMPQ    R10, DX
	CMOVQLT R10, DX
	SUBQ    DX, R10

vector:
	VPBROADCASTD (BX), Y12
	PRODUCTS((AX), Y0)
	PRODUCTS(32(AX), Y1)
	PRODUCTS((AX)(R15*1), Y2)
	PRODUCTS(32(AX)(R15*1), Y3)
	ADDQ         $4, BX
	ADDQ         $64, AX
	DECL         DX
	JNE          vector

	WIDEN(Y0, Y4)
	WIDEN(Y1, Y5)
	WIDEN(Y2, Y6)
	WIDEN(Y3, Y7)
	TESTQ R10, R10
	JNE   eight

	VPBROADCASTD (R13), Y13
	VMOVD        8(R13), X14
	VPMADDWD     (SI), Y13, Y8
	VPMADDWD     32(SI), Y13, Y9
	VPMADDWD     (SI)(R15*1), Y13, Y10
	VPMADDWD     32(SI)(R15*1), Y13, Y11
	VPSRAD       X14, Y8, Y8
	VPSRAD       X14, Y9, Y9
	VPSRAD       X14, Y10, Y10
	VPSRAD       X14, Y11, Y11
	VPCMPGTD     Y4, Y8, Y8
	VPCMPGTD     Y5, Y9, Y9
	VPCMPGTD     Y6, Y10, Y10
	VPCMPGTD     Y7, Y11, Y11
	VPACKSSDW    Y9, Y8, Y8              // as words, rows 0 to 3, 8 to 11, 4 to 7 and 12 to 15
	VPACKSSDW    Y11, Y10, Y10
	VPACKSSWB    Y10, Y8, Y8             // as bytes, with those of the second group behind each eight
	VPERMQ       $0xd8, Y8, Y8
	VPSHUFD      $0xd8, Y8, Y8
	VPMOVMSKB    Y8, AX
	NOTL         AX
	TESTL        AX, AX
	JEQ          next
	VMOVDQU      Y4, sums-128(SP)
	VMOVDQU      Y5, sums-96(SP)
	VMOVDQU      Y6, sums-64(SP)
	VMOVDQU      Y7, sums-32(SP)

hit:
	HIT(sums-128(SP)(DX*4))
	JNE hit

next:
	ADDL $32, R9
	LEAQ (SI)(R15*2), SI
	SUBQ $2, CX
	JNE  groups

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// PROBE adds the products of a probe's four codes with a vector of a tile, in Y8 and Y9.
#define PROBE(codes, low, high) \
	VPBROADCASTD codes(BX), Y10  \
	VPMADDUBSW   Y10, Y8, Y11    \
	VPMADDUBSW   Y10, Y9, Y12    \
	VPADDW       Y11, low, low   \
	VPADDW       Y12, high, high

// FOUR adds the products of four probes with vector i of four that come next.
#define FOUR(i) \
	VMOVDQU (64*i)(AX), Y8    \
	VMOVDQU (64*i+32)(AX), Y9 \
	PROBE((16*i), Y0, Y1)     \
	PROBE((16*i+4), Y2, Y3)   \
	PROBE((16*i+8), Y4, Y5)   \
	PROBE((16*i+12), Y6, Y7)

// WIDEN4 adds the pairs of sums of 16 bits to sums of 32 bits in memory, and clears them.
#define WIDEN4(from, to) \
	VPMADDWD Y15, from, from  \
	VPADDD   to, from, from   \
	VMOVDQU  from, to         \
	VPXOR    from, from, from

// func scan4AVX2(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
//
// One group at once. The sums of 16 bits for probe i are in registers 2i and 2i+1; those of 32 bits are in memory.
TEXT ·scan4AVX2(SB), NOSPLIT, $256-72
	MOVQ    tile+0(FP), SI
	MOVQ    n+8(FP), CX
	MOVQ    codes+24(FP), R8
	MOVQ    limits+32(FP), R13
	MOVQ    where+40(FP), DI
	MOVQ    sums+48(FP), R11
	XORQ    R12, R12
	VMOVDQU ones<>(SB), Y15
	VPXOR   Y0, Y0, Y0
	VPXOR   Y1, Y1, Y1
	VPXOR   Y2, Y2, Y2
	VPXOR   Y3, Y3, Y3
	VPXOR   Y4, Y4, Y4
	VPXOR   Y5, Y5, Y5
	VPXOR   Y6, Y6, Y6
	VPXOR   Y7, Y7, Y7

group:
	VPBROADCASTD 4(R13), Y8
	VPBROADCASTD 20(R13), Y9
	VPBROADCASTD 36(R13), Y10
	VPBROADCASTD 52(R13), Y11
	VMOVDQU      Y8, sums-256(SP)
	VMOVDQU      Y8, sums-224(SP)
	VMOVDQU      Y9, sums-192(SP)
	VMOVDQU      Y9, sums-160(SP)
	VMOVDQU      Y10, sums-128(SP)
	VMOVDQU      Y10, sums-96(SP)
	VMOVDQU      Y11, sums-64(SP)
	VMOVDQU      Y11, sums-32(SP)
	LEAQ         64(SI), AX
	MOVQ         R8, BX
	MOVQ         vectors+16(FP), R10

eight:
	MOVL    $8, DX
	CMPQ    R10, DX
	CMOVQLT R10, DX
	SUBQ    DX, R10

four:
	FOUR(0)
	FOUR(1)
	FOUR(2)
	FOUR(3)
	ADDQ $64, BX
	ADDQ $256, AX
	SUBL $4, DX
	JNE  four

	WIDEN4(Y0, sums-256(SP))
	WIDEN4(Y1, sums-224(SP))
	WIDEN4(Y2, sums-192(SP))
	WIDEN4(Y3, sums-160(SP))
	WIDEN4(Y4, sums-128(SP))
	WIDEN4(Y5, sums-96(SP))
	WIDEN4(Y6, sums-64(SP))
	WIDEN4(Y7, sums-32(SP))
	TESTQ R10, R10
	JNE   eight

	MOVL    first+56(FP), R9
	MOVQ    R13, R14
	LEAQ    sums-256(SP), R10
	VMOVDQU (SI), Y8
	VMOVDQU 32(SI), Y9
	MOVQ    AX, SI

probe:
	VPBROADCASTD (R14), Y10
	VMOVD        8(R14), X14
	VPMADDWD     Y10, Y8, Y11
	VPMADDWD     Y10, Y9, Y12
	VPSRAD       X14, Y11, Y11
	VPSRAD       X14, Y12, Y12
	VPCMPGTD     (R10), Y11, Y11
	VPCMPGTD     32(R10), Y12, Y12
	VMOVMSKPS    Y11, AX
	VMOVMSKPS    Y12, DX
	SHLL         $8, DX
	ORL          DX, AX
	XORL         $0xffff, AX
	JEQ          next

hit:
	HIT((R10)(DX*4))
	JNE hit

next:
	ADDL $0x10000, R9
	ADDQ $16, R14
	ADDQ $64, R10
	LEAQ sums-0(SP), AX
	CMPQ R10, AX
	JNE  probe

	ADDL $16, first+56(FP)
	DECQ CX
	JNE  group

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// MERGE takes half a vector of the sketch, in upper, and the same codes of the second plane apart, into halves of four
// vectors of a tile. Codes 0 and 2 of every byte come to lie in one byte, 1 and 3 in another.
#define MERGE(upper, lower) \
	VPAND   Y13, upper, Y8 \
	VPSLLW  $2, Y8, Y8     \
	VPAND   Y13, lower, Y9 \
	VPOR    Y9, Y8, Y8     \
	VPAND   Y14, upper, Y9 \
	VPSRLW  $2, lower, Y10 \
	VPAND   Y13, Y10, Y10  \
	VPOR    Y10, Y9, Y9    \
	VPSRLW  $4, Y8, Y10    \
	VPSRLW  $4, Y9, Y11    \
	VPAND   Y15, Y8, Y8    \
	VPAND   Y15, Y9, Y9    \
	VPAND   Y15, Y10, Y10  \
	VPAND   Y15, Y11, Y11  \
	VMOVDQU Y8, (R15)      \
	VMOVDQU Y9, 64(R15)    \
	VMOVDQU Y10, 128(R15)  \
	VMOVDQU Y11, 192(R15)  \
	ADDQ    $256, R15

// ROWS loads 16 bytes of rows r and r+4, of which AX is the first. R9 is four rows.
#define ROWS(x, y) \
	VMOVDQU     (AX), x              \
	VINSERTI128 $1, (AX)(R9*1), y, y \
	ADDQ        DX, AX

// func tileAVX2(sketch, second *byte, marks *uint32, n, words int, tile *byte)
//
// Eight rows at once, which are half a group.
TEXT ·tileAVX2(SB), NOSPLIT, $0-48
	MOVQ         sketch+0(FP), SI
	MOVQ         second+8(FP), R8
	MOVQ         marks+16(FP), R13
	MOVQ         n+24(FP), CX
	MOVQ         words+32(FP), R12
	MOVQ         tile+40(FP), DI
	LEAQ         (R12*4), DX           // the bytes of a row
	LEAQ         (DX*4), R9
	VMOVD        DX, X12
	VPBROADCASTD X12, Y12
	VPMULLD      eight<>(SB), Y12, Y12 // where eight rows are
	EVERY(0x33, X13, Y13)
	EVERY(0xcc, X14, Y14)
	EVERY(0x0f, X15, Y15)

group:
	VMOVDQU (R13), Y0
	VMOVDQU 32(R13), Y1
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	ADDQ    $64, R13
	ADDQ    $64, SI
	ADDQ    $64, DI
	XORQ    R10, R10

half:
	LEAQ (SI)(R10*1), R11
	LEAQ (DI)(R10*1), R15
	MOVQ R8, BX
	MOVQ R12, R14
	JMP  enough

four:
	MOVQ        BX, AX
	ROWS(X0, Y0)
	ROWS(X1, Y1)
	ROWS(X2, Y2)
	ROWS(X3, Y3)
	VPUNPCKLDQ  Y1, Y0, Y4
	VPUNPCKHDQ  Y1, Y0, Y5
	VPUNPCKLDQ  Y3, Y2, Y6
	VPUNPCKHDQ  Y3, Y2, Y7
	VPUNPCKLQDQ Y6, Y4, Y0
	VPUNPCKHQDQ Y6, Y4, Y1
	VPUNPCKLQDQ Y7, Y5, Y2
	VPUNPCKHQDQ Y7, Y5, Y3
	VMOVDQU     (R11), Y4
	VMOVDQU     64(R11), Y5
	VMOVDQU     128(R11), Y6
	VMOVDQU     192(R11), Y7
	MERGE(Y4, Y0)
	MERGE(Y5, Y1)
	MERGE(Y6, Y2)
	MERGE(Y7, Y3)
	ADDQ        $256, R11
	ADDQ        $16, BX
	SUBQ        $4, R14

enough:
	CMPQ  R14, $4
	JGE   four
	TESTQ R14, R14
	JEQ   next

one:
	VPCMPEQD   Y1, Y1, Y1
	VPGATHERDD Y1, (BX)(Y12*1), Y0
	VMOVDQU    (R11), Y4
	MERGE(Y4, Y0)
	ADDQ       $64, R11
	ADDQ       $4, BX
	DECQ       R14
	JNE        one

next:
	LEAQ (R8)(DX*8), R8
	ADDQ $32, R10
	CMPQ R10, $64
	JNE  half

	LEAQ -32(R11), SI
	LEAQ -32(R15), DI
	DECQ CX
	JNE  group

	VZEROUPPER
	RET

// CODES adds the products of 32 bytes of the second plane, in Y1, with a probe's codes. As in sketchAVX2, the upper
// code of half a byte is not moved down.
#define CODES(codes0, codes1, codes2, codes3) \
	VPSRLW     $4, Y1, Y2         \
	VPAND      Y14, Y1, Y3        \
	VPAND      Y15, Y1, Y4        \
	VPAND      Y14, Y2, Y5        \
	VPAND      Y15, Y2, Y6        \
	VPMADDUBSW codes0, Y3, Y3     \
	VPMADDUBSW codes1, Y4, Y4     \
	VPMADDUBSW codes2, Y5, Y5     \
	VPMADDUBSW codes3, Y6, Y6     \
	VPADDW     Y5, Y3, Y3         \
	VPADDW     Y6, Y4, Y4         \
	VPSRAW     $2, Y4, Y4         \
	VPADDW     Y4, Y3, Y3         \
	VPMADDWD   ones<>(SB), Y3, Y3 \
	VPADDD     Y3, Y0, Y0

// func secondAVX2(
//	plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32,
// ) int
TEXT ·secondAVX2(SB), NOSPLIT, $0-80
	MOVQ  plane+0(FP), SI
	MOVQ  rowBytes+8(FP), DX
	MOVQ  marks+16(FP), R13
	MOVQ  where+24(FP), DI
	MOVQ  sums+32(FP), R11
	MOVQ  n+40(FP), CX
	MOVQ  codes+48(FP), R8
	MOVQ  limit+56(FP), BX
	VMOVD (BX), X11          // the weights
	VMOVD 8(BX), X12         // the shift
	XORQ  R12, R12
	EVERY(3, X14, Y14)
	EVERY(12, X15, Y15)

	// The last 32 bytes of the probe's codes stay in registers: most probes have no more. Behind them there may be
	// codes that belong elsewhere. These meet zeros: Y13 keeps of a row's last 32 bytes those that it has.
	LEAQ    -1(DX), R15
	ANDQ    $-32, R15
	LEAQ    first<>+32(SB), AX
	ADDQ    R15, AX
	SUBQ    DX, AX
	VMOVDQU (AX), Y13
	LEAQ    (DX)(DX*2), R14
	LEAQ    (R8)(R15*1), AX
	VMOVDQU (AX), Y7
	VMOVDQU (AX)(DX*1), Y8
	VMOVDQU (AX)(DX*2), Y9
	VMOVDQU (AX)(R14*1), Y10

row:
	// The row fifteen hits ahead is asked for now. Behind the last hit there is room, whatever it holds.
	MOVL       60(DI), AX
	PREFETCHT0 (R13)(AX*4)
	IMULQ      DX, AX
	ADDQ       SI, AX
	PREFETCHT0 (AX)
	PREFETCHT0 -1(AX)(DX*1)
	MOVL       (DI), R9
	MOVL       (R13)(R9*4), R10
	IMULQ      DX, R9
	ADDQ       SI, R9
	VPXOR      Y0, Y0, Y0
	XORQ       BX, BX
	JMP        enough

vector:
	VMOVDQU (R9)(BX*1), Y1
	LEAQ    (R8)(BX*1), AX
	CODES((AX), (AX)(DX*1), (AX)(DX*2), (AX)(R14*1))
	ADDQ    $32, BX

enough:
	CMPQ BX, R15
	JLT  vector

	VPAND (R9)(BX*1), Y13, Y1
	CODES(Y7, Y8, Y9, Y10)

	VEXTRACTI128 $1, Y0, X1
	VPADDD       X1, X0, X0
	VPSHUFD      $0x4e, X0, X1
	VPADDD       X1, X0, X0
	VPSHUFD      $0xb1, X0, X1
	VPADDD       X1, X0, X0
	VMOVD        X0, AX
	VMOVD        R10, X1
	VPMADDWD     X11, X1, X1
	VPSRAD       X12, X1, X1
	VMOVD        X1, R10
	MOVL         (R11), BX
	SHLL         $2, BX
	ADDL         add+64(FP), BX
	ADDL         BX, AX
	MOVL         (DI), BX
	MOVQ         where+24(FP), R9
	MOVL         BX, (R9)(R12*4)
	MOVQ         sums+32(FP), R9
	MOVL         AX, (R9)(R12*4)
	XORL         BX, BX
	CMPL         AX, R10
	SETGE        BX
	ADDQ         BX, R12
	ADDQ         $4, DI
	ADDQ         $4, R11
	DECQ         CX
	JNE          row

	VZEROUPPER
	MOVQ R12, ret+72(FP)
	RET

// NIBBLES adds the products of bytes of the third plane, in data, with a probe's codes.
#define NIBBLES(data, other, mask, ones, sum) \
	VPSRLW     $4, data, other     \
	VPAND      mask, data, data    \
	VPAND      mask, other, other  \
	VPMADDUBSW (BX), data, data    \
	VPMADDUBSW (R12), other, other \
	VPADDW     other, data, data   \
	VPMADDWD   ones, data, data    \
	VPADDD     data, sum, sum

// func thirdAVX2(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
TEXT ·thirdAVX2(SB), NOSPLIT, $0-64
	MOVQ    plane+0(FP), SI
	MOVQ    rowBytes+8(FP), DX
	MOVQ    marks+16(FP), R13
	MOVQ    where+24(FP), DI
	MOVQ    n+32(FP), CX
	MOVQ    codes+40(FP), R8
	MOVQ    backs+48(FP), R11
	MOVQ    out+56(FP), R15
	VMOVDQU ones<>(SB), Y15
	EVERY(15, X14, Y14)

row:
	// The row of the hit after the next seven is asked for now. Behind the last hit there is room, whatever it holds.
	MOVWLZX    28(DI), AX
	PREFETCHT0 (R13)(AX*4)
	IMULQ      DX, AX
	PREFETCHT0 (SI)(AX*1)
	MOVWLZX    (DI), R9
	MOVL       (R13)(R9*4), AX
	MOVL       AX, (R15)
	IMULQ      DX, R9
	ADDQ       SI, R9          // the row
	MOVWLZX    2(DI), BX
	IMULQ      DX, BX
	LEAQ       (R8)(BX*2), BX  // the probe's codes for lower nibbles
	LEAQ       (BX)(DX*1), R12 // and for upper ones
	VPXOR      X0, X0, X0
	VPXOR      X1, X1, X1
	MOVQ       DX, R10
	SUBQ       $32, R10
	JLT        rest

vector:
	VMOVDQU (R9), Y2
	NIBBLES(Y2, Y3, Y14, Y15, Y0)
	ADDQ    $32, R9
	ADDQ    $32, BX
	ADDQ    $32, R12
	SUBQ    $32, R10
	JGE     vector

rest:
	TESTQ   $16, DX
	JEQ     whole
	VMOVDQU (R9), X2
	NIBBLES(X2, X3, X14, X15, X1)

whole:
	VPADDD       X0, X1, X1
	VEXTRACTI128 $1, Y0, X0
	VPADDD       X1, X0, X0
	VPSHUFD      $0x4e, X0, X1
	VPADDD       X1, X0, X0
	VPSHUFD      $0xb1, X0, X1
	VPADDD       X1, X0, X0
	VMOVD        X0, (R11)
	ADDQ         $4, R11
	ADDQ         $4, R15
	ADDQ         $4, DI
	DECQ         CX
	JNE          row

	VZEROUPPER
	RET
