//go:build !purego

#include "textflag.h"
#include "neon_arm64.h"

// Sixteen bytes from byte 16-n on keep the first n.
DATA first<>+0(SB)/8, $0xffffffffffffffff
DATA first<>+8(SB)/8, $0xffffffffffffffff
DATA first<>+16(SB)/8, $0
DATA first<>+24(SB)/8, $0
GLOBL first<>(SB), RODATA|NOPTR, $32

// Registers, in the scans: R0 the data that comes next, R1 the groups left, R2 the vectors of a group, R3 the probe's
// codes, R9 those that come next, R10 the vectors left, R4 the limit, R5 and R6 where hits go, R7 the group's first
// row, R8 how many hits there are, V16 to V19 the sums of four rows each, V20 to V23 the marks, V25 the weights, V27
// minus the shift.

// LIMIT loads a limit but for where sums start.
#define LIMIT(limit) \
	MOVWU (limit), R11  \
	VDUP  R11, V25.S4   \
	MOVWU 8(limit), R11 \
	NEGW  R11, R11      \
	VDUP  R11, V27.S4

// START sets four registers to where sums start.
#define START(limit, a, b, c, d) \
	MOVWU limit, R11 \
	VDUP  R11, a.S4  \
	VDUP  R11, b.S4  \
	VDUP  R11, c.S4  \
	VDUP  R11, d.S4

// PASS sets out, in all bits, where four sums are what the marks demand of them.
#define PASS(sums, marks, out) \
	SMULL(25, marks, 5)       \
	SMULL2(25, marks, 6)      \
	VADDP V6.S4, V5.S4, V5.S4 \
	SSHL(27, 5, 5)            \
	CMGE(5, sums, out)

// CHECK sets bit 4r of R11 if row r passes.
#define CHECK \
	PASS(16, 20, 28)                \
	PASS(17, 21, 29)                \
	PASS(18, 22, 30)                \
	PASS(19, 23, 31)                \
	VUZP1 V29.H8, V28.H8, V28.H8    \
	VUZP1 V31.H8, V30.H8, V30.H8    \
	VUZP1 V30.B16, V28.B16, V28.B16 \
	SHRN4(28, 28)                   \
	VMOV  V28.D[0], R11             \
	AND   $0x1111111111111111, R11

// HIT stores the number and the sum of the first row that passes, and clears its bit. The sums are at R13.
#define HIT \
	RBIT  R11, R12           \
	CLZ   R12, R12           \
	LSR   $2, R12            \
	ADD   R7, R12, R14       \
	MOVW  R14, (R5)(R8<<2)   \
	MOVWU (R13)(R12<<2), R14 \
	MOVW  R14, (R6)(R8<<2)   \
	ADD   $1, R8             \
	SUB   $1, R11, R12       \
	ANDS  R12, R11, R11

// FIELD adds the products of four codes of a probe with those codes of 16 rows that a mask leaves.
#define FIELD(mask, i, a, b, c, d) \
	VAND mask.B16, V0.B16, V5.B16  \
	VAND mask.B16, V1.B16, V6.B16  \
	VAND mask.B16, V2.B16, V7.B16  \
	VAND mask.B16, V3.B16, V28.B16 \
	SDOTI(4, i, 5, a)              \
	SDOTI(4, i, 6, b)              \
	SDOTI(4, i, 7, c)              \
	SDOTI(4, i, 28, d)

// func sketchNEON(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int
//
// Of the four codes of a byte the second and the third are not moved down: their products are summed apart, in V8 to
// V11 and V12 to V15, and the sums are divided by 4 and 16 at the end, which goes without a rest. The fourth would have
// the byte's sign.
TEXT ·sketchNEON(SB), NOSPLIT, $64-64
	MOVD groups+0(FP), R0
	MOVD n+8(FP), R1
	MOVD vectors+16(FP), R2
	MOVD codes+24(FP), R3
	MOVD limit+32(FP), R4
	MOVD where+40(FP), R5
	MOVD sums+48(FP), R6
	MOVD $0, R7
	MOVD $0, R8
	MOVD $sums-64(SP), R13
	LIMIT(R4)

group:
	VLD1.P 64(R0), [V20.B16, V21.B16, V22.B16, V23.B16]
	START(4(R4), V16, V17, V18, V19)
	VEOR   V8.B16, V8.B16, V8.B16
	VEOR   V9.B16, V9.B16, V9.B16
	VEOR   V10.B16, V10.B16, V10.B16
	VEOR   V11.B16, V11.B16, V11.B16
	VEOR   V12.B16, V12.B16, V12.B16
	VEOR   V13.B16, V13.B16, V13.B16
	VEOR   V14.B16, V14.B16, V14.B16
	VEOR   V15.B16, V15.B16, V15.B16
	VMOVI  $3, V29.B16
	VMOVI  $12, V30.B16
	VMOVI  $48, V31.B16
	MOVD   R3, R9
	MOVD   R2, R10

vector:
	VLD1.P 64(R0), [V0.B16, V1.B16, V2.B16, V3.B16]
	VLD1.P 16(R9), [V4.B16]
	PRFM   1024(R0), PLDL1KEEP
	FIELD(V29, 0, 16, 17, 18, 19)
	FIELD(V30, 1, 8, 9, 10, 11)
	FIELD(V31, 2, 12, 13, 14, 15)
	VUSHR  $6, V0.B16, V0.B16
	VUSHR  $6, V1.B16, V1.B16
	VUSHR  $6, V2.B16, V2.B16
	VUSHR  $6, V3.B16, V3.B16
	SDOTI(4, 3, 0, 16)
	SDOTI(4, 3, 1, 17)
	SDOTI(4, 3, 2, 18)
	SDOTI(4, 3, 3, 19)
	SUBS   $1, R10
	BNE    vector

	SSRA(2, 8, 16)
	SSRA(2, 9, 17)
	SSRA(2, 10, 18)
	SSRA(2, 11, 19)
	SSRA(4, 12, 16)
	SSRA(4, 13, 17)
	SSRA(4, 14, 18)
	SSRA(4, 15, 19)
	CHECK
	CBZ  R11, next
	VST1 [V16.B16, V17.B16, V18.B16, V19.B16], (R13)

hit:
	HIT
	BNE hit

next:
	ADD  $16, R7
	SUBS $1, R1
	BNE  group
	MOVD R8, ret+56(FP)
	RET

// FOUR adds the products of four codes of a probe with the vector of a tile that comes next.
#define FOUR(i, a, b, c, d) \
	VLD1.P 64(R0), [V0.B16, V1.B16, V2.B16, V3.B16] \
	SDOTI(4, i, 0, a)                               \
	SDOTI(4, i, 1, b)                               \
	SDOTI(4, i, 2, c)                               \
	SDOTI(4, i, 3, d)

// func scanNEON(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
//
// Four vectors at once, of which every other one is summed apart, for the sums not to wait for one another.
TEXT ·scanNEON(SB), NOSPLIT, $64-72
	MOVD  tile+0(FP), R0
	MOVD  n+8(FP), R1
	MOVD  vectors+16(FP), R2
	MOVD  codes+24(FP), R3
	MOVD  limits+32(FP), R4
	MOVD  where+40(FP), R5
	MOVD  sums+48(FP), R6
	MOVWU first+56(FP), R7
	MOVD  $0, R8
	MOVD  $sums-64(SP), R13
	LIMIT(R4)

group:
	VLD1.P 64(R0), [V20.B16, V21.B16, V22.B16, V23.B16]
	START(4(R4), V16, V17, V18, V19)
	VEOR   V8.B16, V8.B16, V8.B16
	VEOR   V9.B16, V9.B16, V9.B16
	VEOR   V10.B16, V10.B16, V10.B16
	VEOR   V11.B16, V11.B16, V11.B16
	MOVD   R3, R9
	MOVD   R2, R10

vectors:
	VLD1.P 16(R9), [V4.B16]
	FOUR(0, 16, 17, 18, 19)
	FOUR(1, 8, 9, 10, 11)
	FOUR(2, 16, 17, 18, 19)
	FOUR(3, 8, 9, 10, 11)
	SUBS   $4, R10
	BNE    vectors

	VADD V8.S4, V16.S4, V16.S4
	VADD V9.S4, V17.S4, V17.S4
	VADD V10.S4, V18.S4, V18.S4
	VADD V11.S4, V19.S4, V19.S4
	CHECK
	CBZ  R11, next
	VST1 [V16.B16, V17.B16, V18.B16, V19.B16], (R13)

hit:
	HIT
	BNE hit

next:
	ADD  $16, R7
	SUBS $1, R1
	BNE  group
	MOVD R8, ret+64(FP)
	RET

// PROBE adds the products of four codes of probe i with a vector of a tile.
#define PROBE(i, a, b, c, d) \
	SDOTI(4, i, 0, a) \
	SDOTI(4, i, 1, b) \
	SDOTI(4, i, 2, c) \
	SDOTI(4, i, 3, d)

// func scan4NEON(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
//
// The sums for probe i are in four registers from V(8+4i) on, and in memory when they are compared.
TEXT ·scan4NEON(SB), NOSPLIT, $256-72
	MOVD  tile+0(FP), R0
	MOVD  n+8(FP), R1
	MOVD  vectors+16(FP), R2
	MOVD  codes+24(FP), R3
	MOVD  limits+32(FP), R4
	MOVD  where+40(FP), R5
	MOVD  sums+48(FP), R6
	MOVWU first+56(FP), R7
	MOVD  $0, R8

group:
	MOVD R0, R19
	ADD  $64, R0
	START(4(R4), V8, V9, V10, V11)
	START(20(R4), V12, V13, V14, V15)
	START(36(R4), V16, V17, V18, V19)
	START(52(R4), V20, V21, V22, V23)
	MOVD R3, R9
	MOVD R2, R10

vector:
	VLD1.P 64(R0), [V0.B16, V1.B16, V2.B16, V3.B16]
	VLD1.P 16(R9), [V4.B16]
	PROBE(0, 8, 9, 10, 11)
	PROBE(1, 12, 13, 14, 15)
	PROBE(2, 16, 17, 18, 19)
	PROBE(3, 20, 21, 22, 23)
	SUBS   $1, R10
	BNE    vector

	MOVD   $sums-256(SP), R13
	MOVD   R13, R14
	VST1.P [V8.B16, V9.B16, V10.B16, V11.B16], 64(R14)
	VST1.P [V12.B16, V13.B16, V14.B16, V15.B16], 64(R14)
	VST1.P [V16.B16, V17.B16, V18.B16, V19.B16], 64(R14)
	VST1   [V20.B16, V21.B16, V22.B16, V23.B16], (R14)
	VLD1   (R19), [V20.B16, V21.B16, V22.B16, V23.B16]
	MOVD   R4, R15
	MOVD   $4, R10

probe:
	VLD1 (R13), [V16.B16, V17.B16, V18.B16, V19.B16]
	LIMIT(R15)
	CHECK
	CBZ  R11, next

hit:
	HIT
	BNE hit

next:
	ADD  $0x10000, R7
	ADD  $16, R15
	ADD  $64, R13
	SUBS $1, R10
	BNE  probe

	SUB  $0x40000, R7
	ADD  $16, R7
	SUBS $1, R1
	BNE  group
	MOVD R8, ret+64(FP)
	RET

// MERGE takes a quarter of a vector of the sketch and the same codes of the second plane apart, into quarters of four
// vectors of a tile. Codes 0 and 2 of every byte come to lie in one byte, 1 and 3 in another.
#define MERGE(upper, lower) \
	VSHL  $2, upper.B16, V16.B16      \
	VUSHR $2, lower.B16, V17.B16      \
	VBIT  V20.B16, lower.B16, V16.B16 \
	VBIT  V21.B16, upper.B16, V17.B16 \
	VUSHR $4, V16.B16, V18.B16        \
	VUSHR $4, V17.B16, V19.B16        \
	VAND  V22.B16, V16.B16, V16.B16   \
	VAND  V22.B16, V17.B16, V17.B16   \
	FMOVQ F16, (R15)                  \
	FMOVQ F17, 64(R15)                \
	FMOVQ F18, 128(R15)               \
	FMOVQ F19, 192(R15)               \
	ADD   $256, R15

// func tileNEON(sketch, second *byte, marks *uint32, n, words int, tile *byte)
//
// Four rows at once, which are a quarter of a group.
TEXT ·tileNEON(SB), NOSPLIT, $0-48
	MOVD  sketch+0(FP), R0
	MOVD  second+8(FP), R1
	MOVD  marks+16(FP), R2
	MOVD  n+24(FP), R3
	MOVD  words+32(FP), R4
	MOVD  tile+40(FP), R5
	LSL   $2, R4, R6       // the bytes of a row
	VMOVI $0x33, V20.B16
	VMOVI $0xcc, V21.B16
	VMOVI $0x0f, V22.B16

group:
	VLD1.P 64(R2), [V0.B16, V1.B16, V2.B16, V3.B16]
	VST1.P [V0.B16, V1.B16, V2.B16, V3.B16], 64(R5)
	ADD    $64, R0
	MOVD   $4, R7

quarter:
	MOVD R0, R14
	MOVD R5, R15
	MOVD R1, R8
	ADD  R6, R8, R9
	ADD  R6, R9, R10
	ADD  R6, R10, R11
	ADD  R6, R11, R1
	SUBS $4, R4, R12
	BLT  rest

four:
	VLD1.P 16(R8), [V0.B16]
	VLD1.P 16(R9), [V1.B16]
	VLD1.P 16(R10), [V2.B16]
	VLD1.P 16(R11), [V3.B16]
	VZIP1  V1.S4, V0.S4, V4.S4
	VZIP2  V1.S4, V0.S4, V5.S4
	VZIP1  V3.S4, V2.S4, V6.S4
	VZIP2  V3.S4, V2.S4, V7.S4
	VZIP1  V6.D2, V4.D2, V0.D2
	VZIP2  V6.D2, V4.D2, V1.D2
	VZIP1  V7.D2, V5.D2, V2.D2
	VZIP2  V7.D2, V5.D2, V3.D2
	FMOVQ  (R14), F4
	FMOVQ  64(R14), F5
	FMOVQ  128(R14), F6
	FMOVQ  192(R14), F7
	MERGE(V4, V0)
	MERGE(V5, V1)
	MERGE(V6, V2)
	MERGE(V7, V3)
	ADD    $256, R14
	SUBS   $4, R12
	BGE    four

rest:
	ADDS $4, R12
	BEQ  next

one:
	VLD1.P 4(R8), V0.S[0]
	VLD1.P 4(R9), V0.S[1]
	VLD1.P 4(R10), V0.S[2]
	VLD1.P 4(R11), V0.S[3]
	FMOVQ  (R14), F4
	MERGE(V4, V0)
	ADD    $64, R14
	SUBS   $1, R12
	BNE    one

next:
	ADD  $16, R0
	ADD  $16, R5
	SUBS $1, R7
	BNE  quarter
	SUB  $48, R14, R0
	SUB  $48, R15, R5
	SUBS $1, R3
	BNE  group
	RET

// func secondNEON(
//	plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32,
// ) int
TEXT ·secondNEON(SB), NOSPLIT, $0-80
	MOVD  plane+0(FP), R0
	MOVD  rowBytes+8(FP), R1
	MOVD  marks+16(FP), R2
	MOVD  where+24(FP), R3
	MOVD  sums+32(FP), R4
	MOVD  n+40(FP), R5
	MOVD  codes+48(FP), R6
	MOVD  limit+56(FP), R7
	MOVW  add+64(FP), R19
	MOVH  (R7), R20
	MOVH  2(R7), R21
	MOVWU 8(R7), R22
	MOVD  R3, R24
	MOVD  R4, R25
	MOVD  $0, R8
	VMOVI $3, V20.B16
	VMOVI $12, V21.B16
	VMOVI $48, V22.B16

	// V23 keeps of a row's last 16 bytes those that it has: the codes behind the probe's last may belong elsewhere.
	SUB  $1, R1, R9
	AND  $-16, R9
	MOVD $first<>+16(SB), R10
	ADD  R9, R10
	SUB  R1, R10
	VLD1 (R10), [V23.B16]

row:
	// The row fifteen hits ahead is asked for now. Behind the last hit there is room, whatever it holds.
	MOVWU 60(R3), R9
	ADD   R9<<2, R2, R10
	PRFM  (R10), PLDL1KEEP
	MUL   R1, R9, R9
	ADD   R0, R9
	PRFM  (R9), PLDL1KEEP
	ADD   R1, R9
	SUB   $1, R9
	PRFM  (R9), PLDL1KEEP

	MOVWU.P 4(R3), R9
	MUL     R1, R9, R10
	ADD     R0, R10                   // the row
	MOVD    R6, R11                   // the probe's codes for each bit of a byte
	ADD     R1, R11, R12
	ADD     R1, R12, R13
	ADD     R1, R13, R14
	VEOR    V16.B16, V16.B16, V16.B16
	VEOR    V17.B16, V17.B16, V17.B16
	VEOR    V18.B16, V18.B16, V18.B16
	MOVD    R1, R15

vector:
	VLD1.P 16(R10), [V0.B16]
	VLD1.P 16(R11), [V4.B16]
	VLD1.P 16(R12), [V5.B16]
	VLD1.P 16(R13), [V6.B16]
	VLD1.P 16(R14), [V7.B16]
	SUBS   $16, R15
	BGT    whole
	VAND   V23.B16, V0.B16, V0.B16

whole:
	VAND  V20.B16, V0.B16, V1.B16
	VAND  V21.B16, V0.B16, V2.B16
	VAND  V22.B16, V0.B16, V3.B16
	VUSHR $6, V0.B16, V0.B16
	SDOT(4, 1, 16)
	SDOT(5, 2, 17)
	SDOT(6, 3, 18)
	SDOT(7, 0, 16)
	BGT   vector

	SSRA(2, 17, 16)
	SSRA(4, 18, 16)
	VADDV  V16.S4, V16
	VMOV   V16.S[0], R10
	MOVW.P 4(R4), R11
	ADDW   R19, R10
	ADDW   R11<<2, R10
	MOVWU  (R2)(R9<<2), R11
	AND    $0xffff, R11, R12
	LSR    $16, R11
	MULW   R20, R12, R12
	MULW   R21, R11, R11
	ADDW   R12, R11
	ASRW   R22, R11, R11
	MOVW   R9, (R24)(R8<<2)
	MOVW   R10, (R25)(R8<<2)
	CMPW   R11, R10
	CSET   GE, R12
	ADD    R12, R8
	SUBS   $1, R5
	BNE    row
	MOVD   R8, ret+72(FP)
	RET

// func thirdNEON(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
TEXT ·thirdNEON(SB), NOSPLIT, $0-64
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
	// The row of the hit after the next seven is asked for now. Behind the last hit there is room, whatever it holds.
	MOVHU  28(R3), R8
	ADD    R8<<2, R2, R9
	PRFM   (R9), PLDL1KEEP
	MUL    R1, R8, R8
	ADD    R0, R8, R8
	PRFM   (R8), PLDL1KEEP
	MOVHU  2(R3), R9
	MUL    R1, R9, R9
	ADD    R9<<1, R5, R9             // the probe's codes for lower nibbles
	ADD    R1, R9, R10               // and for upper ones
	MOVHU  (R3), R8
	ADD    $4, R3
	MOVWU  (R2)(R8<<2), R11
	MOVW.P R11, 4(R7)
	MUL    R1, R8, R8
	ADD    R0, R8, R8                // the row
	VEOR   V16.B16, V16.B16, V16.B16
	VEOR   V17.B16, V17.B16, V17.B16
	MOVD   R1, R11

vector:
	VLD1.P 16(R8), [V0.B16]
	VLD1.P 16(R9), [V1.B16]
	VLD1.P 16(R10), [V2.B16]
	VAND   V24.B16, V0.B16, V3.B16
	VUSHR  $4, V0.B16, V0.B16
	SDOT(1, 3, 16)
	SDOT(2, 0, 17)
	SUBS   $16, R11
	BNE    vector

	VADD   V17.S4, V16.S4, V16.S4
	VADDV  V16.S4, V16
	VMOV   V16.S[0], R11
	MOVW.P R11, 4(R6)
	SUBS   $1, R4
	BNE    row
	RET
