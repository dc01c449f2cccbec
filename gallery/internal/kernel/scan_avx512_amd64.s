//go:build !purego

#include "textflag.h"

DATA lanes<>+0(SB)/8, $0x0000000100000000
DATA lanes<>+8(SB)/8, $0x0000000300000002
DATA lanes<>+16(SB)/8, $0x0000000500000004
DATA lanes<>+24(SB)/8, $0x0000000700000006
DATA lanes<>+32(SB)/8, $0x0000000900000008
DATA lanes<>+40(SB)/8, $0x0000000b0000000a
DATA lanes<>+48(SB)/8, $0x0000000d0000000c
DATA lanes<>+56(SB)/8, $0x0000000f0000000e
GLOBL lanes<>(SB), RODATA|NOPTR, $64

// ahead is how far the next data is asked for. Memory is read in a row, which the processor sees and fetches into its
// second cache by itself: this brings it on into the first. Farther ahead, 4096 and 8192 were tried, it goes past what is
// there already, waits for memory itself, and is slower than none.
#define ahead 512

// Registers, in all scans of a tile: SI the group that comes next, CX the groups left, DX the vectors of a group, R9 the
// bytes of a group, R10 three times that, R8 the probes' codes, BX those that come next, AX the vector that comes next, R14
// the vectors left, R13 the limits, DI and R11 where hits go, R12 how many there are, Z25 the rows' numbers, Z26 sixteen
// in every lane.

#define SETUP \
	MOVQ         tile+0(FP), SI        \
	MOVQ         n+8(FP), CX           \
	MOVQ         vectors+16(FP), DX    \
	MOVQ         codes+24(FP), R8      \
	MOVQ         limits+32(FP), R13    \
	MOVQ         where+40(FP), DI      \
	MOVQ         sums+48(FP), R11      \
	MOVL         first+56(FP), AX      \
	VPBROADCASTD AX, Z25               \
	VPADDD       lanes<>(SB), Z25, Z25 \
	MOVL         $16, AX               \
	VPBROADCASTD AX, Z26               \
	LEAQ         1(DX), R9             \
	SHLQ         $6, R9                \
	LEAQ         (R9)(R9*2), R10       \
	XORQ         R12, R12

// STORE stores the hits of probe i in a group, of which K1 or another says where they are; it is rare.
#define STORE(i, rows, sums, mask, done) \
	KTESTW        mask, mask       \
	JEQ           done             \
	MOVL          $(i<<16), AX     \
	VPBROADCASTD  AX, Z20          \
	VPADDD        rows, Z20, Z20   \
	VPCOMPRESSD.Z Z20, mask, Z20   \
	VMOVDQU32     Z20, (DI)(R12*4) \
	VPCOMPRESSD.Z sums, mask, Z20  \
	VMOVDQU32     Z20, (R11)(R12*4) \
	KMOVW         mask, AX         \
	POPCNTL       AX, AX           \
	ADDQ          AX, R12

// func scanAVX512(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
//
// Four groups at once.
TEXT ·scanAVX512(SB), NOSPLIT, $0-72
	SETUP
	VPBROADCASTD 0(R13), Z28 // the weights
	VPBROADCASTD 8(R13), Z29 // the shift
	VPADDD       Z26, Z25, Z22
	VPADDD       Z26, Z22, Z23
	VPADDD       Z26, Z23, Z24
	VPSLLD       $2, Z26, Z26

group:
	VPBROADCASTD 4(R13), Z0
	VMOVDQA64    Z0, Z1
	VMOVDQA64    Z0, Z2
	VMOVDQA64    Z0, Z3
	LEAQ         64(SI), AX
	MOVQ         R8, BX
	MOVQ         DX, R14

vector:
	VPBROADCASTD (BX), Z8
	VMOVDQU64    (AX), Z4
	VMOVDQU64    (AX)(R9*1), Z5
	VMOVDQU64    (AX)(R9*2), Z6
	VMOVDQU64    (AX)(R10*1), Z7
	VPDPBUSD     Z8, Z4, Z0
	VPDPBUSD     Z8, Z5, Z1
	VPDPBUSD     Z8, Z6, Z2
	VPDPBUSD     Z8, Z7, Z3
	ADDQ         $64, AX
	ADDQ         $4, BX
	DECQ         R14
	JNE          vector

	VPMADDWD (SI), Z28, Z4
	VPMADDWD (SI)(R9*1), Z28, Z5
	VPMADDWD (SI)(R9*2), Z28, Z6
	VPMADDWD (SI)(R10*1), Z28, Z7
	VPSRAVD  Z29, Z4, Z4
	VPSRAVD  Z29, Z5, Z5
	VPSRAVD  Z29, Z6, Z6
	VPSRAVD  Z29, Z7, Z7
	VPCMPD   $5, Z4, Z0, K1
	VPCMPD   $5, Z5, Z1, K2
	VPCMPD   $5, Z6, Z2, K3
	VPCMPD   $5, Z7, Z3, K4
	KORW     K1, K2, K5
	KORW     K3, K4, K6
	KORTESTW K5, K6
	JEQ      none
	STORE(0, Z25, Z0, K1, none1)

none1:
	STORE(0, Z22, Z1, K2, none2)

none2:
	STORE(0, Z23, Z2, K3, none3)

none3:
	STORE(0, Z24, Z3, K4, none)

none:
	VPADDD Z26, Z25, Z25
	VPADDD Z26, Z22, Z22
	VPADDD Z26, Z23, Z23
	VPADDD Z26, Z24, Z24
	LEAQ   (SI)(R9*4), SI
	SUBQ   $4, CX
	JNE    group

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// func scan4AVX512(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
//
// Four groups at once, of which the sums for probe i are in registers 4i to 4i+3.
TEXT ·scan4AVX512(SB), NOSPLIT, $0-72
	SETUP
	VPADDD Z26, Z25, Z22
	VPADDD Z26, Z22, Z23
	VPADDD Z26, Z23, Z24
	VPSLLD $2, Z26, Z26

group:
	VPBROADCASTD 4(R13), Z0
	VMOVDQA64    Z0, Z1
	VMOVDQA64    Z0, Z2
	VMOVDQA64    Z0, Z3
	VPBROADCASTD 20(R13), Z4
	VMOVDQA64    Z4, Z5
	VMOVDQA64    Z4, Z6
	VMOVDQA64    Z4, Z7
	VPBROADCASTD 36(R13), Z8
	VMOVDQA64    Z8, Z9
	VMOVDQA64    Z8, Z10
	VMOVDQA64    Z8, Z11
	VPBROADCASTD 52(R13), Z12
	VMOVDQA64    Z12, Z13
	VMOVDQA64    Z12, Z14
	VMOVDQA64    Z12, Z15
	LEAQ         64(SI), AX
	MOVQ         R8, BX
	MOVQ         DX, R14

vector:
	VMOVDQU64    (AX), Z16
	VMOVDQU64    (AX)(R9*1), Z17
	VMOVDQU64    (AX)(R9*2), Z18
	VMOVDQU64    (AX)(R10*1), Z19
	VPBROADCASTD 0(BX), Z20
	VPDPBUSD     Z20, Z16, Z0
	VPDPBUSD     Z20, Z17, Z1
	VPDPBUSD     Z20, Z18, Z2
	VPDPBUSD     Z20, Z19, Z3
	VPBROADCASTD 4(BX), Z21
	VPDPBUSD     Z21, Z16, Z4
	VPDPBUSD     Z21, Z17, Z5
	VPDPBUSD     Z21, Z18, Z6
	VPDPBUSD     Z21, Z19, Z7
	VPBROADCASTD 8(BX), Z27
	VPDPBUSD     Z27, Z16, Z8
	VPDPBUSD     Z27, Z17, Z9
	VPDPBUSD     Z27, Z18, Z10
	VPDPBUSD     Z27, Z19, Z11
	VPBROADCASTD 12(BX), Z31
	VPDPBUSD     Z31, Z16, Z12
	VPDPBUSD     Z31, Z17, Z13
	VPDPBUSD     Z31, Z18, Z14
	VPDPBUSD     Z31, Z19, Z15
	ADDQ         $64, AX
	ADDQ         $16, BX
	DECQ         R14
	JNE          vector

	VPBROADCASTD 0(R13), Z28
	VPBROADCASTD 8(R13), Z29
	VPMADDWD     (SI), Z28, Z16
	VPMADDWD     (SI)(R9*1), Z28, Z17
	VPMADDWD     (SI)(R9*2), Z28, Z18
	VPMADDWD     (SI)(R10*1), Z28, Z19
	VPSRAVD      Z29, Z16, Z16
	VPSRAVD      Z29, Z17, Z17
	VPSRAVD      Z29, Z18, Z18
	VPSRAVD      Z29, Z19, Z19
	VPCMPD       $5, Z16, Z0, K1
	VPCMPD       $5, Z17, Z1, K2
	VPCMPD       $5, Z18, Z2, K3
	VPCMPD       $5, Z19, Z3, K4
	KORW         K1, K2, K5
	KORW         K3, K4, K6
	KORTESTW     K5, K6
	JEQ          probe1
	STORE(0, Z25, Z0, K1, probe0a)

probe0a:
	STORE(0, Z22, Z1, K2, probe0b)

probe0b:
	STORE(0, Z23, Z2, K3, probe0c)

probe0c:
	STORE(0, Z24, Z3, K4, probe1)

probe1:
	VPBROADCASTD 16(R13), Z28
	VPBROADCASTD 24(R13), Z29
	VPMADDWD     (SI), Z28, Z16
	VPMADDWD     (SI)(R9*1), Z28, Z17
	VPMADDWD     (SI)(R9*2), Z28, Z18
	VPMADDWD     (SI)(R10*1), Z28, Z19
	VPSRAVD      Z29, Z16, Z16
	VPSRAVD      Z29, Z17, Z17
	VPSRAVD      Z29, Z18, Z18
	VPSRAVD      Z29, Z19, Z19
	VPCMPD       $5, Z16, Z4, K1
	VPCMPD       $5, Z17, Z5, K2
	VPCMPD       $5, Z18, Z6, K3
	VPCMPD       $5, Z19, Z7, K4
	KORW         K1, K2, K5
	KORW         K3, K4, K6
	KORTESTW     K5, K6
	JEQ          probe2
	STORE(1, Z25, Z4, K1, probe1a)

probe1a:
	STORE(1, Z22, Z5, K2, probe1b)

probe1b:
	STORE(1, Z23, Z6, K3, probe1c)

probe1c:
	STORE(1, Z24, Z7, K4, probe2)

probe2:
	VPBROADCASTD 32(R13), Z28
	VPBROADCASTD 40(R13), Z29
	VPMADDWD     (SI), Z28, Z16
	VPMADDWD     (SI)(R9*1), Z28, Z17
	VPMADDWD     (SI)(R9*2), Z28, Z18
	VPMADDWD     (SI)(R10*1), Z28, Z19
	VPSRAVD      Z29, Z16, Z16
	VPSRAVD      Z29, Z17, Z17
	VPSRAVD      Z29, Z18, Z18
	VPSRAVD      Z29, Z19, Z19
	VPCMPD       $5, Z16, Z8, K1
	VPCMPD       $5, Z17, Z9, K2
	VPCMPD       $5, Z18, Z10, K3
	VPCMPD       $5, Z19, Z11, K4
	KORW         K1, K2, K5
	KORW         K3, K4, K6
	KORTESTW     K5, K6
	JEQ          probe3
	STORE(2, Z25, Z8, K1, probe2a)

probe2a:
	STORE(2, Z22, Z9, K2, probe2b)

probe2b:
	STORE(2, Z23, Z10, K3, probe2c)

probe2c:
	STORE(2, Z24, Z11, K4, probe3)

probe3:
	VPBROADCASTD 48(R13), Z28
	VPBROADCASTD 56(R13), Z29
	VPMADDWD     (SI), Z28, Z16
	VPMADDWD     (SI)(R9*1), Z28, Z17
	VPMADDWD     (SI)(R9*2), Z28, Z18
	VPMADDWD     (SI)(R10*1), Z28, Z19
	VPSRAVD      Z29, Z16, Z16
	VPSRAVD      Z29, Z17, Z17
	VPSRAVD      Z29, Z18, Z18
	VPSRAVD      Z29, Z19, Z19
	VPCMPD       $5, Z16, Z12, K1
	VPCMPD       $5, Z17, Z13, K2
	VPCMPD       $5, Z18, Z14, K3
	VPCMPD       $5, Z19, Z15, K4
	KORW         K1, K2, K5
	KORW         K3, K4, K6
	KORTESTW     K5, K6
	JEQ          probe4
	STORE(3, Z25, Z12, K1, probe3a)

probe3a:
	STORE(3, Z22, Z13, K2, probe3b)

probe3b:
	STORE(3, Z23, Z14, K3, probe3c)

probe3c:
	STORE(3, Z24, Z15, K4, probe4)

probe4:
	VPADDD Z26, Z25, Z25
	VPADDD Z26, Z22, Z22
	VPADDD Z26, Z23, Z23
	VPADDD Z26, Z24, Z24
	LEAQ   (SI)(R9*4), SI
	SUBQ   $4, CX
	JNE    group

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// MEETS multiplies a vector of two groups with four codes of one probe.
#define MEETS(at, codes, sums1, sums2) \
	VPBROADCASTD at(BX), codes      \
	VPDPBUSD     codes, Z16, sums1  \
	VPDPBUSD     codes, Z17, sums2

// START sets the sums of probe i to where they start.
#define START(i, sums1, sums2) \
	VPBROADCASTD (16*i+4)(R13), sums1 \
	VMOVDQA64    sums1, sums2

// JUDGE compares the sums of probe i with what they must reach, and stores the hits.
#define JUDGE(i, sums1, sums2, second, done) \
	VPBROADCASTD (16*i)(R13), Z18        \
	VPBROADCASTD (16*i+8)(R13), Z19      \
	VPMADDWD     Z18, Z16, Z20           \
	VPMADDWD     Z18, Z17, Z21           \
	VPSRAVD      Z19, Z20, Z20           \
	VPSRAVD      Z19, Z21, Z21           \
	VPCMPD       $5, Z20, sums1, K1      \
	VPCMPD       $5, Z21, sums2, K2      \
	KORTESTW     K1, K2                  \
	JEQ          done                    \
	STORE(i, Z25, sums1, K1, second)     \
second:                                      \
	STORE(i, Z22, sums2, K2, done)       \
done:

// func scan8AVX512(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32, next *byte, lines int) int
//
// Two groups at once, of which the sums for probe i are in registers 2i and 2i+1. Meanwhile memory is asked for that is
// needed next.
TEXT ·scan8AVX512(SB), NOSPLIT, $0-88
	SETUP
	MOVQ   next+64(FP), R15
	VPADDD Z26, Z25, Z22
	VPSLLD $1, Z26, Z26

group:
	START(0, Z0, Z1)
	START(1, Z2, Z3)
	START(2, Z4, Z5)
	START(3, Z6, Z7)
	START(4, Z8, Z9)
	START(5, Z10, Z11)
	START(6, Z12, Z13)
	START(7, Z14, Z15)
	MOVQ lines+72(FP), AX
	JMP  asked

ask:
	PREFETCHT0 (R15)
	ADDQ       $64, R15
	DECQ       AX

asked:
	TESTQ AX, AX
	JNE   ask

	LEAQ 64(SI), AX
	MOVQ R8, BX
	MOVQ DX, R14

vector:
	VMOVDQU64 (AX), Z16
	VMOVDQU64 (AX)(R9*1), Z17
	MEETS(0, Z18, Z0, Z1)
	MEETS(4, Z19, Z2, Z3)
	MEETS(8, Z20, Z4, Z5)
	MEETS(12, Z21, Z6, Z7)
	MEETS(16, Z18, Z8, Z9)
	MEETS(20, Z19, Z10, Z11)
	MEETS(24, Z20, Z12, Z13)
	MEETS(28, Z21, Z14, Z15)
	ADDQ      $64, AX
	ADDQ      $32, BX
	DECQ      R14
	JNE       vector

	VMOVDQU64 (SI), Z16
	VMOVDQU64 (SI)(R9*1), Z17
	JUDGE(0, Z0, Z1, second0, done0)
	JUDGE(1, Z2, Z3, second1, done1)
	JUDGE(2, Z4, Z5, second2, done2)
	JUDGE(3, Z6, Z7, second3, done3)
	JUDGE(4, Z8, Z9, second4, done4)
	JUDGE(5, Z10, Z11, second5, done5)
	JUDGE(6, Z12, Z13, second6, done6)
	JUDGE(7, Z14, Z15, second7, done7)

	VPADDD Z26, Z25, Z25
	VPADDD Z26, Z22, Z22
	LEAQ   (SI)(R9*2), SI
	SUBQ   $2, CX
	JNE    group

	VZEROUPPER
	MOVQ R12, ret+80(FP)
	RET

// QUARTER takes a vector of the sketch and the same codes of the second plane apart: into Z16, Z22, Z17 and Z18, what four
// vectors of a tile hold. Z24 has twelve in every byte, Z25 three.
#define QUARTER(upper, lower) \
	VPSLLW     $2, upper, Z16            \
	VPSRLW     $2, upper, Z17            \
	VPSRLW     $4, upper, Z18            \
	VPSRLW     $2, lower, Z19            \
	VPSRLW     $4, lower, Z20            \
	VPSRLW     $6, lower, Z21            \
	VPANDD     Z24, Z16, Z16             \
	VPANDD     Z24, upper, Z22           \
	VPANDD     Z24, Z17, Z17             \
	VPANDD     Z24, Z18, Z18             \
	VPTERNLOGD $0xf8, Z25, lower, Z16    \
	VPTERNLOGD $0xf8, Z25, Z19, Z22      \
	VPTERNLOGD $0xf8, Z25, Z20, Z17      \
	VPTERNLOGD $0xf8, Z25, Z21, Z18

// MERGE writes them to a tile.
#define MERGE(upper, lower) \
	QUARTER(upper, lower)        \
	VMOVDQU64  Z16, (DI)         \
	VMOVDQU64  Z22, 64(DI)       \
	VMOVDQU64  Z17, 128(DI)      \
	VMOVDQU64  Z18, 192(DI)      \
	ADDQ       $256, DI

// MEET multiplies them with a probe's codes.
#define MEET(upper, lower) \
	QUARTER(upper, lower)             \
	VPDPBUSD.BCST 0(DI), Z16, Z8      \
	VPDPBUSD.BCST 4(DI), Z22, Z9      \
	VPDPBUSD.BCST 8(DI), Z17, Z10     \
	VPDPBUSD.BCST 12(DI), Z18, Z11    \
	ADDQ          $16, DI

// FOUR loads 16 bytes of rows r, r+4, r+8 and r+12, of which AX is the first, and row the size of each. It uses R9.
#define FOUR(row, out) \
	VMOVDQU32    (AX), X16                 \
	LEAQ         (AX)(row*8), R9           \
	VINSERTI32X4 $1, (AX)(row*4), Z16, Z16 \
	VINSERTI32X4 $2, (R9), Z16, Z16        \
	VINSERTI32X4 $3, (R9)(row*4), Z16, out \
	ADDQ         row, AX

// COLUMNS loads 16 bytes of the 16 rows that begin at AX, and puts the four columns of four bytes into the registers that
// are named. It uses Z12 to Z15 as well.
#define COLUMNS(row, out0, out1, out2, out3) \
	FOUR(row, out0)               \
	FOUR(row, out1)               \
	FOUR(row, out2)               \
	FOUR(row, out3)               \
	VPUNPCKLDQ  out1, out0, Z12   \
	VPUNPCKHDQ  out1, out0, Z13   \
	VPUNPCKLDQ  out3, out2, Z14   \
	VPUNPCKHDQ  out3, out2, Z15   \
	VPUNPCKLQDQ Z14, Z12, out0    \
	VPUNPCKHQDQ Z14, Z12, out1    \
	VPUNPCKLQDQ Z15, Z13, out2    \
	VPUNPCKHQDQ Z15, Z13, out3

// func tileAVX512(sketch, second *byte, marks *uint32, n, words int, tile *byte)
TEXT ·tileAVX512(SB), NOSPLIT, $0-48
	MOVQ         sketch+0(FP), SI
	MOVQ         second+8(FP), R8
	MOVQ         marks+16(FP), R13
	MOVQ         n+24(FP), CX
	MOVQ         words+32(FP), R12
	MOVQ         tile+40(FP), DI
	MOVL         $0x0c0c0c0c, AX
	VPBROADCASTD AX, Z24
	MOVL         $0x03030303, AX
	VPBROADCASTD AX, Z25
	LEAQ         (R12*4), DX           // the bytes of a row
	VPBROADCASTD DX, Z26
	VPMULLD      lanes<>(SB), Z26, Z26 // where the rows of a group are

group:
	VMOVDQU64 (R13), Z0
	VMOVDQU64 Z0, (DI)
	ADDQ      $64, R13
	ADDQ      $64, SI
	ADDQ      $64, DI
	MOVQ      R8, BX
	MOVQ      R12, R14
	JMP       enough

four:
	MOVQ        BX, AX
	COLUMNS(DX, Z0, Z1, Z2, Z3)
	VMOVDQU64   (SI), Z4
	VMOVDQU64   64(SI), Z5
	VMOVDQU64   128(SI), Z6
	VMOVDQU64   192(SI), Z7
	MERGE(Z4, Z0)
	MERGE(Z5, Z1)
	MERGE(Z6, Z2)
	MERGE(Z7, Z3)
	ADDQ        $256, SI
	ADDQ        $16, BX
	SUBQ        $4, R14

enough:
	CMPQ  R14, $4
	JGE   four
	TESTQ R14, R14
	JEQ   next

one:
	KXNORW     K1, K1, K1
	VPGATHERDD (BX)(Z26*1), K1, Z0
	VMOVDQU64  (SI), Z4
	MERGE(Z4, Z0)
	ADDQ       $64, SI
	ADDQ       $4, BX
	DECQ       R14
	JNE        one

next:
	MOVQ DX, AX
	SHLQ $4, AX
	ADDQ AX, R8
	DECQ CX
	JNE  group

	VZEROUPPER
	RET

// BYTES writes what four vectors of a tile of eight bits hold: of a vector of the sketch, which SI points to, the same codes
// of the second plane, and those of the third, the first eight of a row and the others. Z24 has the place of the sketch in
// every byte, Z25 that of sketch and second plane, Z27 that of the second and the third.
#define BYTES(second, third1, third2) \
	VMOVDQU64  (SI), Z12                \
	VPSLLW     $6, Z12, Z16             \
	VPSLLW     $4, Z12, Z17             \
	VPSLLW     $2, Z12, Z18             \
	VPSLLW     $4, second, Z20          \
	VPSLLW     $2, second, Z21          \
	VPSRLW     $2, second, Z22          \
	VPSRLW     $4, third1, Z13          \
	VPSRLW     $4, third2, Z14          \
	VPTERNLOGD $0xe2, Z20, Z24, Z16     \
	VPTERNLOGD $0xe2, Z21, Z24, Z17     \
	VPTERNLOGD $0xe2, second, Z24, Z18  \
	VPTERNLOGD $0xe2, Z12, Z27, Z22     \
	VPTERNLOGD $0xe2, third1, Z25, Z16  \
	VPTERNLOGD $0xe2, Z13, Z25, Z17     \
	VPTERNLOGD $0xe2, third2, Z25, Z18  \
	VPTERNLOGD $0xe2, Z14, Z25, Z22     \
	VMOVDQU64  Z16, (DI)                \
	VMOVDQU64  Z17, 64(DI)              \
	VMOVDQU64  Z18, 128(DI)             \
	VMOVDQU64  Z22, 192(DI)             \
	ADDQ       $64, SI                  \
	ADDQ       $256, DI

// func tile8AVX512(sketch, second, third *byte, marks *uint32, n, words int, tile *byte)
TEXT ·tile8AVX512(SB), NOSPLIT, $0-56
	MOVQ         sketch+0(FP), SI
	MOVQ         second+8(FP), R8
	MOVQ         third+16(FP), R11
	MOVQ         marks+24(FP), R13
	MOVQ         n+32(FP), CX
	MOVQ         words+40(FP), R12
	MOVQ         tile+48(FP), DI
	MOVL         $0xc0c0c0c0, AX
	VPBROADCASTD AX, Z24
	MOVL         $0xf0f0f0f0, AX
	VPBROADCASTD AX, Z25
	MOVL         $0x3f3f3f3f, AX
	VPBROADCASTD AX, Z27
	LEAQ         (R12*4), DX           // the bytes of a row of the second plane
	LEAQ         15(R12*8), R10
	ANDQ         $-16, R10             // and of one of the third
	VPBROADCASTD DX, Z28
	VPMULLD      lanes<>(SB), Z28, Z28 // where the rows of a group are
	VPBROADCASTD R10, Z29
	VPMULLD      lanes<>(SB), Z29, Z29

group:
	VMOVDQU64 (R13), Z0
	VMOVDQU64 Z0, (DI)
	ADDQ      $64, R13
	ADDQ      $64, SI
	ADDQ      $64, DI
	MOVQ      R8, BX
	MOVQ      R11, R15
	MOVQ      R12, R14
	JMP       enough

four:
	MOVQ BX, AX
	COLUMNS(DX, Z0, Z1, Z2, Z3)
	MOVQ R15, AX
	COLUMNS(R10, Z4, Z5, Z6, Z7)
	LEAQ 16(R15), AX
	COLUMNS(R10, Z8, Z9, Z10, Z11)
	BYTES(Z0, Z4, Z5)
	BYTES(Z1, Z6, Z7)
	BYTES(Z2, Z8, Z9)
	BYTES(Z3, Z10, Z11)
	ADDQ $16, BX
	ADDQ $32, R15
	SUBQ $4, R14

enough:
	CMPQ  R14, $4
	JGE   four
	TESTQ R14, R14
	JEQ   next

one:
	KXNORW     K1, K1, K1
	VPGATHERDD (BX)(Z28*1), K1, Z0
	KXNORW     K1, K1, K1
	VPGATHERDD (R15)(Z29*1), K1, Z4
	KXNORW     K1, K1, K1
	VPGATHERDD 4(R15)(Z29*1), K1, Z5
	BYTES(Z0, Z4, Z5)
	ADDQ       $4, BX
	ADDQ       $8, R15
	DECQ       R14
	JNE        one

next:
	MOVQ DX, AX
	SHLQ $4, AX
	ADDQ AX, R8
	MOVQ R10, AX
	SHLQ $4, AX
	ADDQ AX, R11
	DECQ CX
	JNE  group

	VZEROUPPER
	RET

// QUARTERS takes the codes of two bits apart that Z16 has, into Z16 to Z19. Z24 has three in every byte.
#define QUARTERS \
	VPSRLW $2, Z16, Z17   \
	VPSRLW $4, Z16, Z18   \
	VPSRLW $6, Z16, Z19   \
	VPANDD Z24, Z16, Z16  \
	VPANDD Z24, Z17, Z17  \
	VPANDD Z24, Z18, Z18  \
	VPANDD Z24, Z19, Z19

// func secondAVX512(plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32) int
TEXT ·secondAVX512(SB), NOSPLIT, $0-80
	MOVQ         plane+0(FP), SI
	MOVQ         rowBytes+8(FP), DX
	MOVQ         marks+16(FP), R13
	MOVQ         where+24(FP), DI
	MOVQ         sums+32(FP), R11
	MOVQ         codes+48(FP), R8
	MOVQ         limit+56(FP), BX
	VMOVD        (BX), X28           // the weights
	VMOVD        8(BX), X29          // the shift
	MOVL         $0x03030303, AX
	VPBROADCASTD AX, Z24
	XORQ         R12, R12

	// K2 keeps of the last 64 bytes of a row those that it has: all when its size is a multiple of 64.
	MOVQ  DX, CX
	NEGQ  CX
	ANDQ  $63, CX
	MOVQ  $-1, AX
	SHRQ  CX, AX
	KMOVQ AX, K2
	MOVQ  n+40(FP), CX

	// The last 64 bytes of the probe's codes stay in registers: they are all that most probes have.
	LEAQ       -1(DX), R15
	ANDQ       $-64, R15
	LEAQ       (R8)(R15*1), AX
	VMOVDQU8.Z (AX), K2, Z20
	ADDQ       DX, AX
	VMOVDQU8.Z (AX), K2, Z21
	ADDQ       DX, AX
	VMOVDQU8.Z (AX), K2, Z22
	ADDQ       DX, AX
	VMOVDQU8.Z (AX), K2, Z23
	LEAQ       (DX)(DX*2), R14

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
	VPXORD     Z0, Z0, Z0
	VPXORD     Z1, Z1, Z1
	XORQ       BX, BX
	JMP        enough

vector:
	VMOVDQU64 (R9)(BX*1), Z16
	QUARTERS
	LEAQ      (R8)(BX*1), AX
	VPDPBUSD  (AX), Z16, Z0
	VPDPBUSD  (AX)(DX*1), Z17, Z1
	VPDPBUSD  (AX)(DX*2), Z18, Z0
	VPDPBUSD  (AX)(R14*1), Z19, Z1
	ADDQ      $64, BX

enough:
	CMPQ BX, R15
	JLT  vector

	VMOVDQU8.Z (R9)(BX*1), K2, Z16
	QUARTERS
	VPDPBUSD   Z20, Z16, Z0
	VPDPBUSD   Z21, Z17, Z1
	VPDPBUSD   Z22, Z18, Z0
	VPDPBUSD   Z23, Z19, Z1

	VPADDD        Z1, Z0, Z0
	VEXTRACTI64X4 $1, Z0, Y1
	VPADDD        Y1, Y0, Y0
	VEXTRACTI128  $1, Y0, X1
	VPADDD        X1, X0, X0
	VPSHUFD       $0x4e, X0, X1
	VPADDD        X1, X0, X0
	VPSHUFD       $0xb1, X0, X1
	VPADDD        X1, X0, X0
	VMOVD         X0, AX
	VMOVD         R10, X1
	VPMADDWD      X28, X1, X1
	VPSRAD        X29, X1, X1
	VMOVD         X1, R10
	MOVL          (R11), BX
	SHLL          $2, BX
	ADDL          add+64(FP), BX
	ADDL          BX, AX
	MOVL          (DI), BX
	MOVQ          where+24(FP), R9
	MOVL          BX, (R9)(R12*4)
	MOVQ          sums+32(FP), R9
	MOVL          AX, (R9)(R12*4)
	XORL          BX, BX
	CMPL          AX, R10
	SETGE         BX
	ADDQ          BX, R12
	ADDQ          $4, DI
	ADDQ          $4, R11
	DECQ          CX
	JNE           row

	VZEROUPPER
	MOVQ R12, ret+72(FP)
	RET

// func thirdAVX512(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
TEXT ·thirdAVX512(SB), NOSPLIT, $0-64
	MOVQ         plane+0(FP), SI
	MOVQ         rowBytes+8(FP), DX
	MOVQ         where+24(FP), DI
	MOVQ         n+32(FP), CX
	MOVQ         codes+40(FP), R8
	MOVQ         backs+48(FP), R11
	MOVQ         marks+16(FP), R13
	MOVQ         out+56(FP), R15
	MOVL         $0x0f0f0f0f, AX
	VPBROADCASTD AX, Z24

	// K2 keeps of the last 64 bytes of a row those that it has: all when its size is a multiple of 64.
	MOVQ  DX, CX
	NEGQ  CX
	ANDQ  $63, CX
	MOVQ  $-1, AX
	SHRQ  CX, AX
	KMOVQ AX, K2
	MOVQ  n+32(FP), CX

row:
	// The row fifteen hits ahead is asked for now. Behind the last hit there is room, whatever it holds.
	MOVWLZX    60(DI), AX
	PREFETCHT0 (R13)(AX*4)
	IMULQ      DX, AX
	ADDQ       SI, AX
	PREFETCHT0 (AX)
	PREFETCHT0 -1(AX)(DX*1)
	MOVWLZX    (DI), R9
	MOVL       (R13)(R9*4), AX
	MOVL       AX, (R15)
	IMULQ      DX, R9
	ADDQ       SI, R9          // the row
	MOVWLZX    2(DI), BX
	IMULQ      DX, BX
	LEAQ       (R8)(BX*2), BX  // the probe's codes for lower nibbles
	LEAQ       (BX)(DX*1), R12 // and for upper ones
	VPXORD     Z0, Z0, Z0
	VPXORD     Z1, Z1, Z1
	MOVQ       DX, R10
	JMP        enough

vector:
	VMOVDQU64 (R9), Z23
	VPANDD    Z24, Z23, Z22
	VPSRLW    $4, Z23, Z23
	VPANDD    Z24, Z23, Z23
	VPDPBUSD  (BX), Z22, Z0
	VPDPBUSD  (R12), Z23, Z1
	ADDQ      $64, R9
	ADDQ      $64, BX
	ADDQ      $64, R12
	SUBQ      $64, R10

enough:
	CMPQ R10, $64
	JGT  vector

	VMOVDQU8.Z (R9), K2, Z23
	VPANDD     Z24, Z23, Z22
	VPSRLW     $4, Z23, Z23
	VPANDD     Z24, Z23, Z23
	VMOVDQU8.Z (BX), K2, Z2
	VMOVDQU8.Z (R12), K2, Z3
	VPDPBUSD   Z2, Z22, Z0
	VPDPBUSD   Z3, Z23, Z1

	VPADDD        Z1, Z0, Z0
	VEXTRACTI64X4 $1, Z0, Y1
	VPADDD        Y1, Y0, Y0
	VEXTRACTI128  $1, Y0, X1
	VPADDD        X1, X0, X0
	VPSHUFD       $0x4e, X0, X1
	VPADDD        X1, X0, X0
	VPSHUFD       $0xb1, X0, X1
	VPADDD        X1, X0, X0
	VMOVD         X0, (R11)
	ADDQ          $4, R11
	ADDQ          $4, R15
	ADDQ          $4, DI
	DECQ          CX
	JNE           row

	VZEROUPPER
	RET

// func sketchAVX512(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int
//
// The four codes of a byte are not moved down: each is masked where it is, its products are summed apart, and the sums
// are divided by 4, 16 and 64 at the end, which goes without a rest.
TEXT ·sketchAVX512(SB), NOSPLIT, $0-64
	MOVQ         groups+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         vectors+16(FP), DX
	MOVQ         codes+24(FP), R8
	MOVQ         limit+32(FP), R13
	MOVQ         where+40(FP), DI
	MOVQ         sums+48(FP), R11
	XORQ         R12, R12               // how many were found
	VMOVDQU64    lanes<>(SB), Z22       // the rows' numbers
	MOVL         $16, AX
	VPBROADCASTD AX, Z23
	MOVL         $0x03030303, AX
	VPBROADCASTD AX, Z24
	VPSLLD       $2, Z24, Z25
	VPSLLD       $4, Z24, Z26
	VPSLLD       $6, Z24, Z27
	VPBROADCASTD 0(R13), Z28            // the weights
	VPBROADCASTD 4(R13), Z29            // where sums start
	VMOVD        8(R13), X30            // the shift

group:
	VMOVDQU64  (SI), Z21
	PREFETCHT0 ahead(SI)
	VMOVDQA64  Z29, Z0
	VPXORD     Z1, Z1, Z1
	VPXORD     Z2, Z2, Z2
	VPXORD     Z3, Z3, Z3
	ADDQ       $64, SI
	MOVQ       R8, BX
	MOVQ       DX, R10

vector:
	VMOVDQU64     (SI), Z16
	PREFETCHT0    ahead(SI)
	VPANDD        Z24, Z16, Z17
	VPANDD        Z25, Z16, Z18
	VPANDD        Z26, Z16, Z19
	VPANDD        Z27, Z16, Z20
	VPDPBUSD.BCST (BX), Z17, Z0
	VPDPBUSD.BCST 4(BX), Z18, Z1
	VPDPBUSD.BCST 8(BX), Z19, Z2
	VPDPBUSD.BCST 12(BX), Z20, Z3
	ADDQ          $16, BX
	ADDQ          $64, SI
	DECQ          R10
	JNE           vector

	VPSRAD   $2, Z1, Z1
	VPSRAD   $4, Z2, Z2
	VPSRAD   $6, Z3, Z3
	VPADDD   Z1, Z0, Z0
	VPADDD   Z3, Z2, Z2
	VPADDD   Z2, Z0, Z0
	VPMADDWD Z28, Z21, Z21
	VPSRAD   X30, Z21, Z21
	VPCMPD   $5, Z21, Z0, K1
	KORTESTW K1, K1
	JEQ      none

	VPCOMPRESSD.Z Z22, K1, Z21
	VMOVDQU32     Z21, (DI)(R12*4)
	VPCOMPRESSD.Z Z0, K1, Z21
	VMOVDQU32     Z21, (R11)(R12*4)
	KMOVW         K1, AX
	POPCNTL       AX, AX
	ADDQ          AX, R12

none:
	VPADDD Z23, Z22, Z22
	DECQ   CX
	JNE    group

	VZEROUPPER
	MOVQ R12, ret+56(FP)
	RET

// func upperAVX512(sketch, second *byte, marks *uint32, n, words int, codes *int8, limit *Limit, where *uint32, sums *int32, first uint32) int
//
// What tileAVX512 writes meets one probe at once.
TEXT ·upperAVX512(SB), NOSPLIT, $0-88
	MOVQ         sketch+0(FP), SI
	MOVQ         second+8(FP), R8
	MOVQ         marks+16(FP), R13
	MOVQ         n+24(FP), CX
	MOVQ         words+32(FP), R12
	MOVL         $0x0c0c0c0c, AX
	VPBROADCASTD AX, Z24
	MOVL         $0x03030303, AX
	VPBROADCASTD AX, Z25
	LEAQ         (R12*4), DX           // the bytes of a row
	VPBROADCASTD DX, Z26
	VPMULLD      lanes<>(SB), Z26, Z26 // where the rows of a group are
	MOVQ         limit+48(FP), AX
	VPBROADCASTD 0(AX), Z28            // the weights
	VPBROADCASTD 4(AX), Z29            // where sums start
	VPBROADCASTD 8(AX), Z30            // the shift
	MOVL         first+72(FP), AX
	VPBROADCASTD AX, Z27
	VPADDD       lanes<>(SB), Z27, Z27 // the rows' numbers
	XORQ         R15, R15              // how many were found

group:
	ADDQ      $64, SI
	MOVQ      codes+40(FP), DI
	MOVQ      R8, BX
	MOVQ      R12, R14
	VMOVDQA64 Z29, Z8
	VPXORD    Z9, Z9, Z9
	VPXORD    Z10, Z10, Z10
	VPXORD    Z11, Z11, Z11
	JMP       enough

four:
	MOVQ        BX, AX
	COLUMNS(DX, Z0, Z1, Z2, Z3)
	VMOVDQU64   (SI), Z4
	VMOVDQU64   64(SI), Z5
	VMOVDQU64   128(SI), Z6
	VMOVDQU64   192(SI), Z7
	PREFETCHT0  ahead(SI)
	PREFETCHT0  (ahead+64)(SI)
	PREFETCHT0  (ahead+128)(SI)
	PREFETCHT0  (ahead+192)(SI)
	MEET(Z4, Z0)
	MEET(Z5, Z1)
	MEET(Z6, Z2)
	MEET(Z7, Z3)
	ADDQ        $256, SI
	ADDQ        $16, BX
	SUBQ        $4, R14

enough:
	CMPQ  R14, $4
	JGE   four
	TESTQ R14, R14
	JEQ   test

one:
	KXNORW     K1, K1, K1
	VPGATHERDD (BX)(Z26*1), K1, Z0
	VMOVDQU64  (SI), Z4
	MEET(Z4, Z0)
	ADDQ       $64, SI
	ADDQ       $4, BX
	DECQ       R14
	JNE        one

test:
	VPADDD   Z9, Z8, Z8
	VPADDD   Z11, Z10, Z10
	VPADDD   Z10, Z8, Z8
	VPMADDWD (R13), Z28, Z21
	VPSRAVD  Z30, Z21, Z21
	VPCMPD   $5, Z21, Z8, K1
	KORTESTW K1, K1
	JEQ      next

	MOVQ          where+56(FP), AX
	VPCOMPRESSD.Z Z27, K1, Z21
	VMOVDQU32     Z21, (AX)(R15*4)
	MOVQ          sums+64(FP), AX
	VPCOMPRESSD.Z Z8, K1, Z21
	VMOVDQU32     Z21, (AX)(R15*4)
	KMOVW         K1, AX
	POPCNTL       AX, AX
	ADDQ          AX, R15

next:
	MOVL         $16, AX
	VPBROADCASTD AX, Z21
	VPADDD       Z21, Z27, Z27
	ADDQ         $64, R13
	MOVQ         DX, AX
	SHLQ         $4, AX
	ADDQ         AX, R8
	DECQ         CX
	JNE          group

	VZEROUPPER
	MOVQ R15, ret+80(FP)
	RET
