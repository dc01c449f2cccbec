//go:build !purego

#include "textflag.h"

// Instructions that the Go assembler does not know are written as words, each with its text.
//
// Registers, in the scans: R0 the data that comes next, R1 the groups left, R2 the vectors of a group, R3 the probe's
// codes, R9 those that come next, R10 the vectors left, R4 the limit, R5 and R6 where hits go, R8 how many there are, V16
// to V19 the sums of four rows each, V20 to V23 the marks, V24 the mask of a code, V25 the weights, V26 where sums start,
// V27 minus the shift.

#define LIMIT \
	MOVWU (R4), R11      \
	VDUP  R11, V25.S4    \
	MOVWU 4(R4), R11     \
	VDUP  R11, V26.S4    \
	MOVWU 8(R4), R11     \
	NEGW  R11, R11       \
	VDUP  R11, V27.S4

#define START \
	VLD1.P 64(R0), [V20.B16, V21.B16, V22.B16, V23.B16] \
	VORR   V26.B16, V26.B16, V16.B16                    \
	VORR   V26.B16, V26.B16, V17.B16                    \
	VORR   V26.B16, V26.B16, V18.B16                    \
	VORR   V26.B16, V26.B16, V19.B16                    \
	MOVD   R3, R9                                       \
	MOVD   R2, R10

// func scanNEON(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
TEXT ·scanNEON(SB), NOSPLIT, $128-72
	MOVD  groups+0(FP), R0
	MOVD  n+8(FP), R1
	MOVD  vectors+16(FP), R2
	MOVD  codes+24(FP), R3
	MOVD  limits+32(FP), R4
	MOVD  where+40(FP), R5
	MOVD  sums+48(FP), R6
	MOVWU first+56(FP), R7
	MOVD  $0, R8
	VMOVI $15, V24.B16
	LIMIT

group:
	START

vector:
	VLD1.P 64(R0), [V0.B16, V1.B16, V2.B16, V3.B16]
	VLD1.P 8(R9), [V4.B8]
	PRFM   1024(R0), PLDL1KEEP
	VAND   V24.B16, V0.B16, V5.B16
	VAND   V24.B16, V1.B16, V6.B16
	VAND   V24.B16, V2.B16, V7.B16
	VAND   V24.B16, V3.B16, V28.B16
	VUSHR  $4, V0.B16, V0.B16
	VUSHR  $4, V1.B16, V1.B16
	VUSHR  $4, V2.B16, V2.B16
	VUSHR  $4, V3.B16, V3.B16
	WORD $0x4f84e0b0 // SDOT V16.4S, V5.16B, V4.4B[0]
	WORD $0x4f84e0d1 // SDOT V17.4S, V6.16B, V4.4B[0]
	WORD $0x4f84e0f2 // SDOT V18.4S, V7.16B, V4.4B[0]
	WORD $0x4f84e393 // SDOT V19.4S, V28.16B, V4.4B[0]
	WORD $0x4fa4e010 // SDOT V16.4S, V0.16B, V4.4B[1]
	WORD $0x4fa4e031 // SDOT V17.4S, V1.16B, V4.4B[1]
	WORD $0x4fa4e052 // SDOT V18.4S, V2.16B, V4.4B[1]
	WORD $0x4fa4e073 // SDOT V19.4S, V3.16B, V4.4B[1]
	SUBS   $1, R10
	BNE    vector

	// The rows that pass have all ones in V28 to V31.
	WORD $0x0e79c285 // SMULL V5.4S, V20.4H, V25.4H
	WORD $0x4e79c286 // SMULL2 V6.4S, V20.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e1c // CMGE V28.4S, V16.4S, V5.4S
	WORD $0x0e79c2a5 // SMULL V5.4S, V21.4H, V25.4H
	WORD $0x4e79c2a6 // SMULL2 V6.4S, V21.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e3d // CMGE V29.4S, V17.4S, V5.4S
	WORD $0x0e79c2c5 // SMULL V5.4S, V22.4H, V25.4H
	WORD $0x4e79c2c6 // SMULL2 V6.4S, V22.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e5e // CMGE V30.4S, V18.4S, V5.4S
	WORD $0x0e79c2e5 // SMULL V5.4S, V23.4H, V25.4H
	WORD $0x4e79c2e6 // SMULL2 V6.4S, V23.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e7f // CMGE V31.4S, V19.4S, V5.4S
	VORR  V28.B16, V29.B16, V0.B16
	VORR  V30.B16, V31.B16, V1.B16
	VORR  V0.B16, V1.B16, V0.B16
	WORD $0x6eb0a800 // UMAXV S0, V0.4S
	VMOV  V0.S[0], R11
	CBZ   R11, next
	MOVD  $scratch-128(SP), R11
	VST1.P [V16.B16, V17.B16, V18.B16, V19.B16], 64(R11)
	VST1  [V28.B16, V29.B16, V30.B16, V31.B16], (R11)
	SUB   $64, R11
	MOVD  $0, R12

hit:
	ADD   R12<<2, R11, R13
	MOVWU 64(R13), R14
	CBZ   R14, miss
	MOVWU (R13), R14
	ADD   R7, R12, R15
	MOVW  R15, (R5)(R8<<2)
	MOVW  R14, (R6)(R8<<2)
	ADD   $1, R8

miss:
	ADD $1, R12
	CMP $16, R12
	BNE hit

next:
	ADD  $16, R7
	SUBS $1, R1
	BNE  group
	MOVD R8, ret+64(FP)
	RET

// func sketchNEON(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int
TEXT ·sketchNEON(SB), NOSPLIT, $128-64
	MOVD  groups+0(FP), R0
	MOVD  n+8(FP), R1
	MOVD  vectors+16(FP), R2
	MOVD  codes+24(FP), R3
	MOVD  limit+32(FP), R4
	MOVD  where+40(FP), R5
	MOVD  sums+48(FP), R6
	MOVD  $0, R7
	MOVD  $0, R8
	VMOVI $3, V24.B16
	LIMIT

group:
	START

vector:
	VLD1.P 64(R0), [V0.B16, V1.B16, V2.B16, V3.B16]
	VLD1.P 16(R9), [V4.B16]
	PRFM   1024(R0), PLDL1KEEP
	VAND   V24.B16, V0.B16, V5.B16
	VAND   V24.B16, V1.B16, V6.B16
	VAND   V24.B16, V2.B16, V7.B16
	VAND   V24.B16, V3.B16, V28.B16
	WORD $0x4f84e0b0 // SDOT V16.4S, V5.16B, V4.4B[0]
	WORD $0x4f84e0d1 // SDOT V17.4S, V6.16B, V4.4B[0]
	WORD $0x4f84e0f2 // SDOT V18.4S, V7.16B, V4.4B[0]
	WORD $0x4f84e393 // SDOT V19.4S, V28.16B, V4.4B[0]
	VUSHR  $2, V0.B16, V5.B16
	VAND   V24.B16, V5.B16, V5.B16
	VUSHR  $2, V1.B16, V6.B16
	VAND   V24.B16, V6.B16, V6.B16
	VUSHR  $2, V2.B16, V7.B16
	VAND   V24.B16, V7.B16, V7.B16
	VUSHR  $2, V3.B16, V28.B16
	VAND   V24.B16, V28.B16, V28.B16
	WORD $0x4fa4e0b0 // SDOT V16.4S, V5.16B, V4.4B[1]
	WORD $0x4fa4e0d1 // SDOT V17.4S, V6.16B, V4.4B[1]
	WORD $0x4fa4e0f2 // SDOT V18.4S, V7.16B, V4.4B[1]
	WORD $0x4fa4e393 // SDOT V19.4S, V28.16B, V4.4B[1]
	VUSHR  $4, V0.B16, V5.B16
	VAND   V24.B16, V5.B16, V5.B16
	VUSHR  $4, V1.B16, V6.B16
	VAND   V24.B16, V6.B16, V6.B16
	VUSHR  $4, V2.B16, V7.B16
	VAND   V24.B16, V7.B16, V7.B16
	VUSHR  $4, V3.B16, V28.B16
	VAND   V24.B16, V28.B16, V28.B16
	WORD $0x4f84e8b0 // SDOT V16.4S, V5.16B, V4.4B[2]
	WORD $0x4f84e8d1 // SDOT V17.4S, V6.16B, V4.4B[2]
	WORD $0x4f84e8f2 // SDOT V18.4S, V7.16B, V4.4B[2]
	WORD $0x4f84eb93 // SDOT V19.4S, V28.16B, V4.4B[2]
	VUSHR  $6, V0.B16, V0.B16
	VUSHR  $6, V1.B16, V1.B16
	VUSHR  $6, V2.B16, V2.B16
	VUSHR  $6, V3.B16, V3.B16
	WORD $0x4fa4e810 // SDOT V16.4S, V0.16B, V4.4B[3]
	WORD $0x4fa4e831 // SDOT V17.4S, V1.16B, V4.4B[3]
	WORD $0x4fa4e852 // SDOT V18.4S, V2.16B, V4.4B[3]
	WORD $0x4fa4e873 // SDOT V19.4S, V3.16B, V4.4B[3]
	SUBS   $1, R10
	BNE    vector

	WORD $0x0e79c285 // SMULL V5.4S, V20.4H, V25.4H
	WORD $0x4e79c286 // SMULL2 V6.4S, V20.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e1c // CMGE V28.4S, V16.4S, V5.4S
	WORD $0x0e79c2a5 // SMULL V5.4S, V21.4H, V25.4H
	WORD $0x4e79c2a6 // SMULL2 V6.4S, V21.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e3d // CMGE V29.4S, V17.4S, V5.4S
	WORD $0x0e79c2c5 // SMULL V5.4S, V22.4H, V25.4H
	WORD $0x4e79c2c6 // SMULL2 V6.4S, V22.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e5e // CMGE V30.4S, V18.4S, V5.4S
	WORD $0x0e79c2e5 // SMULL V5.4S, V23.4H, V25.4H
	WORD $0x4e79c2e6 // SMULL2 V6.4S, V23.8H, V25.8H
	WORD $0x4ea6bca5 // ADDP V5.4S, V5.4S, V6.4S
	WORD $0x4ebb44a5 // SSHL V5.4S, V5.4S, V27.4S
	WORD $0x4ea53e7f // CMGE V31.4S, V19.4S, V5.4S
	VORR V28.B16, V29.B16, V0.B16
	VORR V30.B16, V31.B16, V1.B16
	VORR V0.B16, V1.B16, V0.B16
	WORD $0x6eb0a800 // UMAXV S0, V0.4S
	VMOV V0.S[0], R11
	CBZ  R11, next
	MOVD $scratch-128(SP), R11
	VST1.P [V16.B16, V17.B16, V18.B16, V19.B16], 64(R11)
	VST1 [V28.B16, V29.B16, V30.B16, V31.B16], (R11)
	SUB  $64, R11
	MOVD $0, R12

hit:
	ADD   R12<<2, R11, R13
	MOVWU 64(R13), R14
	CBZ   R14, miss
	MOVWU (R13), R14
	ADD   R7, R12, R15
	MOVW  R15, (R5)(R8<<2)
	MOVW  R14, (R6)(R8<<2)
	ADD   $1, R8

miss:
	ADD $1, R12
	CMP $16, R12
	BNE hit

next:
	ADD  $16, R7
	SUBS $1, R1
	BNE  group
	MOVD R8, ret+56(FP)
	RET

// func backNEON(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
TEXT ·backNEON(SB), NOSPLIT, $0-64
	MOVD  plane+0(FP), R0
	MOVD  rowBytes+8(FP), R1
	MOVD  marks+16(FP), R2
	MOVD  where+24(FP), R3
	MOVD  n+32(FP), R4
	MOVD  codes+40(FP), R5
	MOVD  backs+48(FP), R6
	MOVD  out+56(FP), R7
	VMOVI $15, V24.B16

row:
	MOVHU  28(R3), R8       // asked for eight hits ahead; behind the last there is room, whatever it holds
	MUL    R1, R8, R8
	ADD    R0, R8, R8
	PRFM   (R8), PLDL1KEEP
	MOVHU  2(R3), R9
	MUL    R1, R9, R9
	ADD    R9<<1, R5, R9    // the probe's codes for lower nibbles
	ADD    R1, R9, R10      // and for upper ones
	MOVHU.P 4(R3), R8
	MOVWU  (R2)(R8<<2), R11
	MOVW.P R11, 4(R7)
	MUL    R1, R8, R8
	ADD    R0, R8, R8       // the row
	VEOR   V16.B16, V16.B16, V16.B16
	MOVD   R1, R11

vector:
	VLD1.P 16(R8), [V0.B16]
	VLD1.P 16(R9), [V1.B16]
	VLD1.P 16(R10), [V2.B16]
	VAND   V24.B16, V0.B16, V3.B16
	VUSHR  $4, V0.B16, V0.B16
	WORD $0x4e819470 // SDOT V16.4S, V3.16B, V1.16B
	WORD $0x4e829410 // SDOT V16.4S, V0.16B, V2.16B
	SUBS   $16, R11
	BNE    vector

	WORD $0x4eb1ba10 // ADDV S16, V16.4S
	VMOV   V16.S[0], R11
	MOVW.P R11, 4(R6)
	SUBS   $1, R4
	BNE    row
	RET

// func prefetchLines(p *float32, n int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD n+8(FP), R1

line:
	PRFM (R0), PLDL1KEEP
	ADD  $64, R0
	SUBS $64, R1
	BGT  line
	RET
