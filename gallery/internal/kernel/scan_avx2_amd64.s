//go:build !purego

#include "textflag.h"

// WIDEN adds the pairs of 16-bit sums in from to the 32-bit sums in to, and clears them.
#define WIDEN(from, to) \
	VPMADDWD Y15, from, from \
	VPADDD   from, to, to    \
	VPXOR    from, from, from

// func scanAVX2(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
//
// Products of a nibble and a code, added in pairs, are at most 2·15·127 = 3,810: eight of these sums fit into 16 bits, so
// they are widened every four vectors.
TEXT ·scanAVX2(SB), NOSPLIT, $64-72
	MOVQ         groups+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         codes+24(FP), R8
	MOVQ         limits+32(FP), R13
	MOVQ         where+40(FP), DI
	MOVQ         sums+48(FP), R11
	MOVL         first+56(FP), R9
	XORQ         R12, R12
	MOVL         $0x0f0f0f0f, AX
	VMOVD        AX, X14
	VPBROADCASTD X14, Y14           // the mask of the lower half
	MOVL         $0x00010001, AX
	VMOVD        AX, X15
	VPBROADCASTD X15, Y15           // one in every 16 bits
	VPBROADCASTD (R13), Y13         // the weights
	VMOVD        8(R13), X12        // the shift

group:
	VMOVDQU      (SI), Y10          // the marks
	VMOVDQU      32(SI), Y11
	VPBROADCASTD 4(R13), Y2         // sums of rows 0 to 7
	VMOVDQA      Y2, Y3             // and 8 to 15
	VPXOR        Y0, Y0, Y0         // the same in 16 bits, two a row
	VPXOR        Y1, Y1, Y1
	ADDQ         $64, SI
	MOVQ         R8, BX
	MOVQ         vectors+16(FP), R10

four:
	MOVL    $4, DX
	CMPQ    R10, DX
	CMOVQLT R10, DX
	SUBQ    DX, R10

vector:
	PREFETCHT0   512(SI)
	VPBROADCASTD (BX), Y4
	VPBROADCASTD 4(BX), Y5
	VMOVDQU      (SI), Y6
	VMOVDQU      32(SI), Y7
	VPAND        Y14, Y6, Y8
	VPAND        Y14, Y7, Y9
	VPSRLW       $4, Y6, Y6
	VPSRLW       $4, Y7, Y7
	VPAND        Y14, Y6, Y6
	VPAND        Y14, Y7, Y7
	VPMADDUBSW   Y4, Y8, Y8
	VPMADDUBSW   Y4, Y9, Y9
	VPMADDUBSW   Y5, Y6, Y6
	VPMADDUBSW   Y5, Y7, Y7
	VPADDW       Y8, Y0, Y0
	VPADDW       Y9, Y1, Y1
	VPADDW       Y6, Y0, Y0
	VPADDW       Y7, Y1, Y1
	ADDQ         $8, BX
	ADDQ         $64, SI
	DECL         DX
	JNE          vector

	WIDEN(Y0, Y2)
	WIDEN(Y1, Y3)
	TESTQ R10, R10
	JNE   four

	VPMADDWD  Y13, Y10, Y10
	VPMADDWD  Y13, Y11, Y11
	VPSRAD    X12, Y10, Y10
	VPSRAD    X12, Y11, Y11
	VPCMPGTD  Y2, Y10, Y10       // all ones where a row fails
	VPCMPGTD  Y3, Y11, Y11
	VMOVMSKPS Y10, AX
	VMOVMSKPS Y11, DX
	SHLL      $8, DX
	ORL       DX, AX
	XORL      $0xffff, AX
	JEQ       next

	VMOVDQU Y2, sums-64(SP)
	VMOVDQU Y3, sums-32(SP)

hit:
	BSFL AX, DX
	LEAL (R9)(DX*1), BX
	MOVL BX, (DI)(R12*4)
	MOVL sums-64(SP)(DX*4), BX
	MOVL BX, (R11)(R12*4)
	INCQ R12
	LEAL -1(AX), DX
	ANDL DX, AX
	JNE  hit

next:
	ADDL $16, R9
	DECQ CX
	JNE  group

	VZEROUPPER
	MOVQ R12, ret+64(FP)
	RET

// func backAVX2(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
TEXT ·backAVX2(SB), NOSPLIT, $0-64
	MOVQ         plane+0(FP), SI
	MOVQ         rowBytes+8(FP), DX
	MOVQ         where+24(FP), DI
	MOVQ         n+32(FP), CX
	MOVQ         codes+40(FP), R8
	MOVQ         backs+48(FP), R11
	MOVQ         marks+16(FP), R13
	MOVQ         out+56(FP), R15
	MOVL         $0x0f0f0f0f, AX
	VMOVD        AX, X14
	VPBROADCASTD X14, X14
	MOVL         $0x00010001, AX
	VMOVD        AX, X15
	VPBROADCASTD X15, X15

row:
	MOVWLZX    28(DI), AX          // asked for eight hits ahead; behind the last there is room, whatever it holds
	PREFETCHT0 (R13)(AX*4)
	IMULQ      DX, AX
	PREFETCHT0 (SI)(AX*1)
	MOVWLZX    (DI), R9
	MOVL       (R13)(R9*4), AX
	MOVL       AX, (R15)
	IMULQ      DX, R9
	ADDQ       SI, R9              // the row
	MOVWLZX    2(DI), BX
	IMULQ      DX, BX
	LEAQ       (R8)(BX*2), BX      // the probe's codes for lower nibbles
	LEAQ       (BX)(DX*1), R12     // and for upper ones
	VPXOR      X0, X0, X0
	MOVQ       DX, R10

vector:
	VMOVDQU    (R9), X3
	VPAND      X14, X3, X2
	VPSRLW     $4, X3, X3
	VPAND      X14, X3, X3
	VPMADDUBSW (BX), X2, X2
	VPMADDUBSW (R12), X3, X3
	VPADDW     X3, X2, X2
	VPMADDWD   X15, X2, X2
	VPADDD     X2, X0, X0
	ADDQ       $16, R9
	ADDQ       $16, BX
	ADDQ       $16, R12
	SUBQ       $16, R10
	JNE        vector

	VPSHUFD $0x4e, X0, X1
	VPADDD  X1, X0, X0
	VPSHUFD $0xb1, X0, X1
	VPADDD  X1, X0, X0
	VMOVD   X0, (R11)
	ADDQ    $4, R11
	ADDQ    $4, R15
	ADDQ    $4, DI
	DECQ    CX
	JNE     row

	VZEROUPPER
	RET

// FIELD adds the products of one code of every byte of a vector; codes are moved down by shift bits.
#define FIELD(shift, offset) \
	VPBROADCASTD offset(BX), Y4  \
	VPSRLW       $shift, Y6, Y8  \
	VPSRLW       $shift, Y7, Y9  \
	VPAND        Y14, Y8, Y8     \
	VPAND        Y14, Y9, Y9     \
	VPMADDUBSW   Y4, Y8, Y8      \
	VPMADDUBSW   Y4, Y9, Y9      \
	VPADDW       Y8, Y0, Y0      \
	VPADDW       Y9, Y1, Y1

// func sketchAVX2(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int
//
// Products, added in pairs, are at most 2·3·127 = 762, and a vector adds four: sums of 16 bits hold ten vectors.
TEXT ·sketchAVX2(SB), NOSPLIT, $64-64
	MOVQ         groups+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         codes+24(FP), R8
	MOVQ         limit+32(FP), R13
	MOVQ         where+40(FP), DI
	MOVQ         sums+48(FP), R11
	XORQ         R12, R12
	XORQ         R9, R9
	MOVL         $0x03030303, AX
	VMOVD        AX, X14
	VPBROADCASTD X14, Y14
	MOVL         $0x00010001, AX
	VMOVD        AX, X15
	VPBROADCASTD X15, Y15
	VPBROADCASTD (R13), Y13
	VMOVD        8(R13), X12

group:
	VMOVDQU      (SI), Y10
	VMOVDQU      32(SI), Y11
	VPBROADCASTD 4(R13), Y2
	VMOVDQA      Y2, Y3
	VPXOR        Y0, Y0, Y0
	VPXOR        Y1, Y1, Y1
	ADDQ         $64, SI
	MOVQ         R8, BX
	MOVQ         vectors+16(FP), R10

ten:
	MOVL    $10, DX
	CMPQ    R10, DX
	CMOVQLT R10, DX
	SUBQ    DX, R10

vector:
	PREFETCHT0 512(SI)
	VMOVDQU    (SI), Y6
	VMOVDQU    32(SI), Y7
	FIELD(0, 0)
	FIELD(2, 4)
	FIELD(4, 8)
	FIELD(6, 12)
	ADDQ       $16, BX
	ADDQ       $64, SI
	DECL       DX
	JNE        vector

	WIDEN(Y0, Y2)
	WIDEN(Y1, Y3)
	TESTQ R10, R10
	JNE   ten

	VPMADDWD  Y13, Y10, Y10
	VPMADDWD  Y13, Y11, Y11
	VPSRAD    X12, Y10, Y10
	VPSRAD    X12, Y11, Y11
	VPCMPGTD  Y2, Y10, Y10
	VPCMPGTD  Y3, Y11, Y11
	VMOVMSKPS Y10, AX
	VMOVMSKPS Y11, DX
	SHLL      $8, DX
	ORL       DX, AX
	XORL      $0xffff, AX
	JEQ       next

	VMOVDQU Y2, sums-64(SP)
	VMOVDQU Y3, sums-32(SP)

hit:
	BSFL AX, DX
	LEAL (R9)(DX*1), BX
	MOVL BX, (DI)(R12*4)
	MOVL sums-64(SP)(DX*4), BX
	MOVL BX, (R11)(R12*4)
	INCQ R12
	LEAL -1(AX), DX
	ANDL DX, AX
	JNE  hit

next:
	ADDL $16, R9
	DECQ CX
	JNE  group

	VZEROUPPER
	MOVQ R12, ret+56(FP)
	RET

// func dotAVX2(a, b *float32, n int) float64
//
// Products of two float32 are exact in float64, so it does not matter that they are rounded before they are added.
TEXT ·dotAVX2(SB), NOSPLIT, $0-32
	MOVQ   a+0(FP), SI
	MOVQ   b+8(FP), DI
	MOVQ   n+16(FP), CX
	VXORPD Y0, Y0, Y0
	VXORPD Y1, Y1, Y1

eight:
	VCVTPS2PD (SI), Y2
	VCVTPS2PD 16(SI), Y3
	VCVTPS2PD (DI), Y4
	VCVTPS2PD 16(DI), Y5
	VMULPD    Y4, Y2, Y2
	VMULPD    Y5, Y3, Y3
	VADDPD    Y2, Y0, Y0
	VADDPD    Y3, Y1, Y1
	ADDQ      $32, SI
	ADDQ      $32, DI
	SUBQ      $8, CX
	JNE       eight

	VHADDPD      Y0, Y0, Y0
	VHADDPD      Y1, Y1, Y1
	VEXTRACTF128 $1, Y0, X2
	VEXTRACTF128 $1, Y1, X3
	VADDSD       X2, X0, X0
	VADDSD       X3, X1, X1
	VADDSD       X1, X0, X0
	VMOVSD       X0, ret+24(FP)
	VZEROUPPER
	RET

// func prefetchLines(p *float32, n int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX

line:
	PREFETCHT0 (SI)
	ADDQ       $64, SI
	SUBQ       $64, CX
	JG         line
	RET
