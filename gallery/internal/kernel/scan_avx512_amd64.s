//go:build !purego

#include "textflag.h"

// Registers, in all scans: SI the vector that comes next, CX the groups left, DX the vectors of a group, R8 the probes'
// codes, BX those that come next, R10 the vectors left, R13 the limits, DI and R11 where hits go, R12 how many there are,
// Z20 thresholds, Z21 the marks, Z22 and Z23 the two halves of a vector, Z24 the mask of the lower one, Z25 the rows'
// numbers, Z26 sixteen in every lane.

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

#define SETUP \
	MOVQ         groups+0(FP), SI    \
	MOVQ         n+8(FP), CX         \
	MOVQ         vectors+16(FP), DX  \
	MOVQ         codes+24(FP), R8    \
	MOVQ         limits+32(FP), R13  \
	MOVQ         where+40(FP), DI    \
	MOVQ         sums+48(FP), R11    \
	MOVL         first+56(FP), AX    \
	VPBROADCASTD AX, Z25             \
	VPADDD       lanes<>(SB), Z25, Z25 \
	MOVL         $0x0f0f0f0f, AX     \
	VPBROADCASTD AX, Z24             \
	MOVL         $16, AX             \
	VPBROADCASTD AX, Z26             \
	XORQ         R12, R12

// SPLIT loads a vector and splits it into halves.
#define SPLIT \
	VMOVDQU64 (SI), Z23    \
	VPANDD    Z24, Z23, Z22 \
	VPSRLW    $4, Z23, Z23 \
	VPANDD    Z24, Z23, Z23 \
	ADDQ      $64, SI

// MASK does the same but leaves the upper half where it is, sixteen times as much, for sums that are kept apart and
// divided at the end.
#define MASK \
	VMOVDQU64 (SI), Z23     \
	VPANDD    Z24, Z23, Z22  \
	VPANDND   Z23, Z24, Z23  \
	ADDQ      $64, SI

// TEST compares the sums of probe i of the block with its thresholds.
#define TEST(i, sums, none) \
	VPBROADCASTD (16*i)(R13), Z20          \
	VPMADDWD     Z20, Z21, Z20             \
	VPSRAVD.BCST (16*i+8)(R13), Z20, Z20   \
	VPCMPD       $5, Z20, sums, K1         \
	KORTESTW     K1, K1                    \
	JEQ          none

// STORE stores the hits of probe i; it is rare.
#define STORE(i, sums) \
	MOVL         $(i<<16), AX     \
	VPBROADCASTD AX, Z20          \
	VPADDD       Z25, Z20, Z20    \
	VPCOMPRESSD.Z Z20, K1, Z20    \
	VMOVDQU32    Z20, (DI)(R12*4) \
	VPCOMPRESSD.Z sums, K1, Z20   \
	VMOVDQU32    Z20, (R11)(R12*4) \
	KMOVW        K1, AX           \
	POPCNTL      AX, AX           \
	ADDQ         AX, R12

// func scanAVX512(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
TEXT ·scanAVX512(SB), NOSPLIT, $0-72
	SETUP

group:
	VMOVDQU64    (SI), Z21
	PREFETCHT0   ahead(SI)
	VPBROADCASTD 4(R13), Z0
	VPXORD       Z1, Z1, Z1
	ADDQ         $64, SI
	MOVQ         R8, BX
	MOVQ         DX, R10

vector:
	PREFETCHT0    ahead(SI)
	MASK
	VPDPBUSD.BCST (BX), Z22, Z0
	VPDPBUSD.BCST 4(BX), Z23, Z1
	ADDQ          $8, BX
	DECQ          R10
	JNE           vector

	VPSRAD $4, Z1, Z1
	VPADDD Z1, Z0, Z0
	TEST(0, Z0, next)
	STORE(0, Z0)

next:
	VPADDD Z26, Z25, Z25
	DECQ   CX
	JNE    group

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// func scan4AVX512(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
TEXT ·scan4AVX512(SB), NOSPLIT, $0-72
	SETUP

group:
	VMOVDQU64    (SI), Z21
	PREFETCHT0   ahead(SI)
	VPBROADCASTD 4(R13), Z0
	VPBROADCASTD 20(R13), Z1
	VPBROADCASTD 36(R13), Z2
	VPBROADCASTD 52(R13), Z3
	VPXORD       Z4, Z4, Z4
	VPXORD       Z5, Z5, Z5
	VPXORD       Z6, Z6, Z6
	VPXORD       Z7, Z7, Z7
	ADDQ         $64, SI
	MOVQ         R8, BX
	MOVQ         DX, R10

vector:
	PREFETCHT0    ahead(SI)
	MASK
	VPDPBUSD.BCST 0(BX), Z22, Z0
	VPDPBUSD.BCST 8(BX), Z22, Z1
	VPDPBUSD.BCST 16(BX), Z22, Z2
	VPDPBUSD.BCST 24(BX), Z22, Z3
	VPDPBUSD.BCST 4(BX), Z23, Z4
	VPDPBUSD.BCST 12(BX), Z23, Z5
	VPDPBUSD.BCST 20(BX), Z23, Z6
	VPDPBUSD.BCST 28(BX), Z23, Z7
	ADDQ          $32, BX
	DECQ          R10
	JNE           vector

	VPSRAD $4, Z4, Z4
	VPSRAD $4, Z5, Z5
	VPSRAD $4, Z6, Z6
	VPSRAD $4, Z7, Z7
	VPADDD Z4, Z0, Z0
	VPADDD Z5, Z1, Z1
	VPADDD Z6, Z2, Z2
	VPADDD Z7, Z3, Z3
	TEST(0, Z0, none0)
	STORE(0, Z0)

none0:
	TEST(1, Z1, none1)
	STORE(1, Z1)

none1:
	TEST(2, Z2, none2)
	STORE(2, Z2)

none2:
	TEST(3, Z3, none3)
	STORE(3, Z3)

none3:
	VPADDD Z26, Z25, Z25
	DECQ   CX
	JNE    group

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// func scan16AVX512(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
TEXT ·scan16AVX512(SB), NOSPLIT, $0-72
	SETUP

group:
	VMOVDQU64    (SI), Z21
	PREFETCHT0   ahead(SI)
	VPBROADCASTD 4(R13), Z0
	VPBROADCASTD 20(R13), Z1
	VPBROADCASTD 36(R13), Z2
	VPBROADCASTD 52(R13), Z3
	VPBROADCASTD 68(R13), Z4
	VPBROADCASTD 84(R13), Z5
	VPBROADCASTD 100(R13), Z6
	VPBROADCASTD 116(R13), Z7
	VPBROADCASTD 132(R13), Z8
	VPBROADCASTD 148(R13), Z9
	VPBROADCASTD 164(R13), Z10
	VPBROADCASTD 180(R13), Z11
	VPBROADCASTD 196(R13), Z12
	VPBROADCASTD 212(R13), Z13
	VPBROADCASTD 228(R13), Z14
	VPBROADCASTD 244(R13), Z15
	ADDQ         $64, SI
	MOVQ         R8, BX
	MOVQ         DX, R10

vector:
	PREFETCHT0    ahead(SI)
	SPLIT
	VPDPBUSD.BCST 0(BX), Z22, Z0
	VPDPBUSD.BCST 8(BX), Z22, Z1
	VPDPBUSD.BCST 16(BX), Z22, Z2
	VPDPBUSD.BCST 24(BX), Z22, Z3
	VPDPBUSD.BCST 32(BX), Z22, Z4
	VPDPBUSD.BCST 40(BX), Z22, Z5
	VPDPBUSD.BCST 48(BX), Z22, Z6
	VPDPBUSD.BCST 56(BX), Z22, Z7
	VPDPBUSD.BCST 64(BX), Z22, Z8
	VPDPBUSD.BCST 72(BX), Z22, Z9
	VPDPBUSD.BCST 80(BX), Z22, Z10
	VPDPBUSD.BCST 88(BX), Z22, Z11
	VPDPBUSD.BCST 96(BX), Z22, Z12
	VPDPBUSD.BCST 104(BX), Z22, Z13
	VPDPBUSD.BCST 112(BX), Z22, Z14
	VPDPBUSD.BCST 120(BX), Z22, Z15
	VPDPBUSD.BCST 4(BX), Z23, Z0
	VPDPBUSD.BCST 12(BX), Z23, Z1
	VPDPBUSD.BCST 20(BX), Z23, Z2
	VPDPBUSD.BCST 28(BX), Z23, Z3
	VPDPBUSD.BCST 36(BX), Z23, Z4
	VPDPBUSD.BCST 44(BX), Z23, Z5
	VPDPBUSD.BCST 52(BX), Z23, Z6
	VPDPBUSD.BCST 60(BX), Z23, Z7
	VPDPBUSD.BCST 68(BX), Z23, Z8
	VPDPBUSD.BCST 76(BX), Z23, Z9
	VPDPBUSD.BCST 84(BX), Z23, Z10
	VPDPBUSD.BCST 92(BX), Z23, Z11
	VPDPBUSD.BCST 100(BX), Z23, Z12
	VPDPBUSD.BCST 108(BX), Z23, Z13
	VPDPBUSD.BCST 116(BX), Z23, Z14
	VPDPBUSD.BCST 124(BX), Z23, Z15
	ADDQ          $128, BX
	DECQ          R10
	JNE           vector

	TEST(0, Z0, none0)
	STORE(0, Z0)

none0:
	TEST(1, Z1, none1)
	STORE(1, Z1)

none1:
	TEST(2, Z2, none2)
	STORE(2, Z2)

none2:
	TEST(3, Z3, none3)
	STORE(3, Z3)

none3:
	TEST(4, Z4, none4)
	STORE(4, Z4)

none4:
	TEST(5, Z5, none5)
	STORE(5, Z5)

none5:
	TEST(6, Z6, none6)
	STORE(6, Z6)

none6:
	TEST(7, Z7, none7)
	STORE(7, Z7)

none7:
	TEST(8, Z8, none8)
	STORE(8, Z8)

none8:
	TEST(9, Z9, none9)
	STORE(9, Z9)

none9:
	TEST(10, Z10, none10)
	STORE(10, Z10)

none10:
	TEST(11, Z11, none11)
	STORE(11, Z11)

none11:
	TEST(12, Z12, none12)
	STORE(12, Z12)

none12:
	TEST(13, Z13, none13)
	STORE(13, Z13)

none13:
	TEST(14, Z14, none14)
	STORE(14, Z14)

none14:
	TEST(15, Z15, none15)
	STORE(15, Z15)

none15:
	VPADDD Z26, Z25, Z25
	DECQ   CX
	JNE    group

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// func backAVX512(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
TEXT ·backAVX512(SB), NOSPLIT, $0-64
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
