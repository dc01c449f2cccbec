//go:build !purego

#include "textflag.h"
#include "neon_arm64.h"

// MIDDLES adds up the products of the codes in V0 and V1 with the middles of their upper bits, and the squares of the
// middles. One is 2h+1 of h signed: the code moved down until one bit more is left than belongs to h, and that one set.
#define MIDDLES(shift, low, high, long) \
	SSHR(shift, 0, 2)            \
	SSHR(shift, 1, 3)            \
	VORR V24.B16, V2.B16, V2.B16 \
	VORR V24.B16, V3.B16, V3.B16 \
	SMLAL(2, 0, low)             \
	SMLAL2(2, 0, high)           \
	SMLAL(3, 1, low)             \
	SMLAL2(3, 1, high)           \
	SMLAL(2, 2, long)            \
	SMLAL2(2, 2, long)           \
	SMLAL(3, 3, long)            \
	SMLAL2(3, 3, long)

// SUM adds four sums of 32 bits to R7.
#define SUM(sums) \
	SADDLV(sums, 0)  \
	VMOV V0.D[0], R8 \
	ADD  R8, R7

// func codeNEON(codes *byte, n int, sketch, second, third, last *byte, out *Coded)
//
// A product with a middle is at most 32,767·255 in size, and 2,048 codes add 256 of them in every lane of V18 and V19:
// 2,139,029,760, less than 2³¹. Two squares fit into 32 bits, and are then widened.
TEXT ·codeNEON(SB), NOSPLIT, $0-56
	MOVD  codes+0(FP), R0
	MOVD  n+8(FP), R1
	MOVD  sketch+16(FP), R2
	MOVD  second+24(FP), R3
	MOVD  third+32(FP), R4
	MOVD  last+40(FP), R5
	MOVD  out+48(FP), R6
	VEOR  V16.B16, V16.B16, V16.B16 // products with the middles of two bits
	VEOR  V17.B16, V17.B16, V17.B16 // of four
	VEOR  V18.B16, V18.B16, V18.B16 // and of eight
	VEOR  V19.B16, V19.B16, V19.B16
	VEOR  V20.B16, V20.B16, V20.B16 // and squares of these
	VEOR  V21.B16, V21.B16, V21.B16
	VEOR  V22.B16, V22.B16, V22.B16
	VEOR  V23.B16, V23.B16, V23.B16 // squares of the codes
	MOVD  $1, R7
	VDUP  R7, V24.H8
	VMOVI $15, V25.B16
	VMOVI $3, V26.B16
	VMOVI $128, V27.B16

codes:
	VLD1.P 32(R0), [V0.B16, V1.B16]
	MIDDLES(13, 16, 16, 20)
	MIDDLES(11, 17, 17, 21)
	MIDDLES(7, 18, 19, 22)
	SMULL(0, 0, 4)
	SMULL(1, 1, 5)
	SMLAL2(0, 0, 4)
	SMLAL2(1, 1, 5)
	SADALP(4, 23)
	SADALP(5, 23)

	// The bytes of the codes, in order: V2 has the lower ones, V3 the upper ones, in offset binary.
	VUZP1  V1.B16, V0.B16, V2.B16
	VUZP2  V1.B16, V0.B16, V3.B16
	VST1.P [V2.B16], 16(R5)
	VEOR   V27.B16, V3.B16, V3.B16

	// Two words of nibbles make one of the third plane.
	VAND   V25.B16, V3.B16, V4.B16
	VUSHR  $28, V4.D2, V5.D2
	VORR   V5.B16, V4.B16, V4.B16
	VUZP1  V4.S4, V4.S4, V4.S4
	VST1.P [V4.B8], 8(R4)

	// Four words of two bits make one of the sketch, and of the second plane.
	VUSHR  $6, V3.B16, V4.B16
	VUSHR  $4, V3.B16, V5.B16
	VAND   V26.B16, V5.B16, V5.B16
	VUSHR  $30, V4.D2, V6.D2
	VUSHR  $30, V5.D2, V7.D2
	VORR   V6.B16, V4.B16, V4.B16
	VORR   V7.B16, V5.B16, V5.B16
	VZIP1  V5.D2, V4.D2, V6.D2
	VZIP2  V5.D2, V4.D2, V7.D2
	VSHL   $4, V7.B16, V7.B16
	VORR   V7.B16, V6.B16, V6.B16
	VST1.P V6.S[0], 4(R2)
	VST1.P V6.S[2], 4(R3)
	SUBS   $16, R1
	BNE    codes

	MOVD $0, R7
	SUM(16)
	MOVD R7, (R6)
	MOVD $0, R7
	SUM(17)
	MOVD R7, 8(R6)
	MOVD $0, R7
	SUM(18)
	SUM(19)
	MOVD R7, 16(R6)
	MOVD $0, R7
	SUM(20)
	MOVD R7, 24(R6)
	MOVD $0, R7
	SUM(21)
	MOVD R7, 32(R6)
	MOVD $0, R7
	SUM(22)
	MOVD R7, 40(R6)
	VMOV V23.D[0], R7
	VMOV V23.D[1], R8
	ADD  R8, R7
	MOVD R7, 48(R6)
	RET

// func dotNEON(a, b *int16, n int) int64
//
// Two products fit into 32 bits, and are then widened.
TEXT ·dotNEON(SB), NOSPLIT, $0-32
	MOVD a+0(FP), R0
	MOVD b+8(FP), R1
	MOVD n+16(FP), R2
	VEOR V16.B16, V16.B16, V16.B16
	VEOR V17.B16, V17.B16, V17.B16

sixteen:
	VLD1.P 32(R0), [V0.B16, V1.B16]
	VLD1.P 32(R1), [V2.B16, V3.B16]
	SMULL(2, 0, 4)
	SMULL(3, 1, 5)
	SMLAL2(2, 0, 4)
	SMLAL2(3, 1, 5)
	SADALP(4, 16)
	SADALP(5, 17)
	SUBS   $16, R2
	BNE    sixteen

	VADD V17.D2, V16.D2, V16.D2
	VMOV V16.D[0], R0
	VMOV V16.D[1], R1
	ADD  R1, R0
	MOVD R0, ret+24(FP)
	RET
