//go:build !purego

#include "textflag.h"

DATA oneWord<>+0(SB)/8, $0x0001000100010001
DATA oneWord<>+8(SB)/8, $0x0001000100010001
DATA oneWord<>+16(SB)/8, $0x0001000100010001
DATA oneWord<>+24(SB)/8, $0x0001000100010001
GLOBL oneWord<>(SB), RODATA|NOPTR, $32

DATA lowByte<>+0(SB)/8, $0x00ff00ff00ff00ff
DATA lowByte<>+8(SB)/8, $0x00ff00ff00ff00ff
DATA lowByte<>+16(SB)/8, $0x00ff00ff00ff00ff
DATA lowByte<>+24(SB)/8, $0x00ff00ff00ff00ff
GLOBL lowByte<>(SB), RODATA|NOPTR, $32

DATA highBit<>+0(SB)/8, $0x8080808080808080
DATA highBit<>+8(SB)/8, $0x8080808080808080
DATA highBit<>+16(SB)/8, $0x8080808080808080
DATA highBit<>+24(SB)/8, $0x8080808080808080
GLOBL highBit<>(SB), RODATA|NOPTR, $32

DATA nibble<>+0(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA nibble<>+8(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA nibble<>+16(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA nibble<>+24(SB)/8, $0x0f0f0f0f0f0f0f0f
GLOBL nibble<>(SB), RODATA|NOPTR, $32

DATA twoBits<>+0(SB)/8, $0xc0c0c0c0c0c0c0c0
DATA twoBits<>+8(SB)/8, $0xc0c0c0c0c0c0c0c0
DATA twoBits<>+16(SB)/8, $0xc0c0c0c0c0c0c0c0
DATA twoBits<>+24(SB)/8, $0xc0c0c0c0c0c0c0c0
GLOBL twoBits<>(SB), RODATA|NOPTR, $32

// How far the codes 4i to 4i+3 of 16 are moved down from the top of their bytes to bits 2i and 2i+1.
DATA down<>+0(SB)/8, $0x0000000400000006
DATA down<>+8(SB)/8, $0x0000000000000002
DATA down<>+16(SB)/8, $0x0000000400000006
DATA down<>+24(SB)/8, $0x0000000000000002
GLOBL down<>(SB), RODATA|NOPTR, $32

// The lower halves of four quadwords, together.
DATA lowerHalves<>+0(SB)/8, $0x0000000200000000
DATA lowerHalves<>+8(SB)/8, $0x0000000600000004
DATA lowerHalves<>+16(SB)/8, $0x0000000200000000
DATA lowerHalves<>+24(SB)/8, $0x0000000600000004
GLOBL lowerHalves<>(SB), RODATA|NOPTR, $32

// MIDDLES adds up the products of the codes in Y0 and Y1 with the middles of their upper bits, and the squares of the
// middles. One is 2h+1 of h signed: the code moved down until one bit more is left than belongs to h, and that one set.
#define MIDDLES(shift, along, long) \
	VPSRAW   $shift, Y0, Y2        \
	VPSRAW   $shift, Y1, Y3        \
	VPOR     oneWord<>(SB), Y2, Y2 \
	VPOR     oneWord<>(SB), Y3, Y3 \
	VPMADDWD Y2, Y0, Y4            \
	VPMADDWD Y3, Y1, Y5            \
	VPMADDWD Y2, Y2, Y2            \
	VPMADDWD Y3, Y3, Y3            \
	VPADDD   Y4, along, along      \
	VPADDD   Y2, long, long        \
	VPADDD   Y5, along, along      \
	VPADDD   Y3, long, long

// WIDE adds the halves of eight sums of 32 bits, as 64 bits, into four.
#define WIDE(x, y) \
	VEXTRACTI128 $1, y, X2 \
	VPMOVSXDQ    x, y      \
	VPMOVSXDQ    X2, Y2    \
	VPADDQ       Y2, y, y

// func codeAVX2(codes *byte, n int, sketch, second, third, last *byte, out *Coded)
//
// A pair of products with a middle is at most 2·32,767·255 in size, and 2,048 codes add 128 of them in every lane:
// 2,139,029,760, less than 2³¹. Squares need 64 bits: four of them, less than 2³², are added before they are widened.
TEXT ·codeAVX2(SB), NOSPLIT, $0-56
	MOVQ  codes+0(FP), SI
	MOVQ  n+8(FP), CX
	MOVQ  sketch+16(FP), R8
	MOVQ  second+24(FP), R9
	MOVQ  third+32(FP), R10
	MOVQ  last+40(FP), R11
	VPXOR Y8, Y8, Y8
	VPXOR Y9, Y9, Y9        // products with the middles of two bits
	VPXOR Y10, Y10, Y10     // of four
	VPXOR Y11, Y11, Y11     // and of eight
	VPXOR Y12, Y12, Y12     // and squares of these
	VPXOR Y13, Y13, Y13
	VPXOR Y14, Y14, Y14
	VPXOR Y15, Y15, Y15     // squares of the codes

codes:
	VMOVDQU  (SI), Y0
	VMOVDQU  32(SI), Y1
	MIDDLES(13, Y9, Y12)
	MIDDLES(11, Y10, Y13)
	MIDDLES(7, Y11, Y14)
	VPMADDWD Y0, Y0, Y2
	VPMADDWD Y1, Y1, Y3
	VPADDD   Y3, Y2, Y2
	VPSRLQ   $32, Y2, Y3
	VPBLENDD $0xaa, Y8, Y2, Y2
	VPADDQ   Y3, Y15, Y15
	VPADDQ   Y2, Y15, Y15

	// The bytes of the codes, in order: Y2 has the lower ones, Y0 the upper ones, in offset binary.
	VPAND     lowByte<>(SB), Y0, Y2
	VPAND     lowByte<>(SB), Y1, Y3
	VPACKUSWB Y3, Y2, Y2
	VPERMQ    $0xd8, Y2, Y2
	VMOVDQU   Y2, (R11)
	VPSRLW    $8, Y0, Y0
	VPSRLW    $8, Y1, Y1
	VPACKUSWB Y1, Y0, Y0
	VPERMQ    $0xd8, Y0, Y0
	VPXOR     highBit<>(SB), Y0, Y0

	// Two doublewords of nibbles make one of the third plane.
	VPAND   nibble<>(SB), Y0, Y1
	VPSRLQ  $28, Y1, Y2
	VPOR    Y2, Y1, Y1
	VMOVDQU lowerHalves<>(SB), Y2
	VPERMD  Y1, Y2, Y1
	VMOVDQU X1, (R10)

	// Four doublewords of two bits make one of the sketch, and of the second plane.
	VPAND        twoBits<>(SB), Y0, Y1
	VPSLLW       $2, Y0, Y2
	VPAND        twoBits<>(SB), Y2, Y2
	VPSRLVD      down<>(SB), Y1, Y1
	VPSRLVD      down<>(SB), Y2, Y2
	VPUNPCKLDQ   Y2, Y1, Y3
	VPUNPCKHDQ   Y2, Y1, Y1
	VPOR         Y3, Y1, Y1
	VPSHUFD      $0x4e, Y1, Y2
	VPOR         Y2, Y1, Y1
	VEXTRACTI128 $1, Y1, X2
	VPUNPCKLDQ   X2, X1, X1
	VMOVQ        X1, (R8)
	VMOVHPS      X1, (R9)

	ADDQ $64, SI
	ADDQ $8, R8
	ADDQ $8, R9
	ADDQ $16, R10
	ADDQ $32, R11
	SUBQ $32, CX
	JNE  codes

	// Lengths fit into 32 bits, even added up.
	MOVQ         out+48(FP), DI
	VPHADDD      Y13, Y12, Y0
	VPHADDD      Y14, Y14, Y1
	VPHADDD      Y1, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDD       X1, X0, X0
	VPMOVZXDQ    X0, Y0
	VMOVDQU      Y0, 24(DI)     // the fourth number is written again
	WIDE(X9, Y9)
	WIDE(X10, Y10)
	WIDE(X11, Y11)
	VPUNPCKLQDQ  Y10, Y9, Y0
	VPUNPCKHQDQ  Y10, Y9, Y1
	VPUNPCKLQDQ  Y15, Y11, Y2
	VPUNPCKHQDQ  Y15, Y11, Y3
	VPADDQ       Y1, Y0, Y0
	VPADDQ       Y3, Y2, Y2
	VEXTRACTI128 $1, Y0, X1
	VEXTRACTI128 $1, Y2, X3
	VPADDQ       X1, X0, X0
	VPADDQ       X3, X2, X2
	VMOVDQU      X0, 0(DI)
	VMOVQ        X2, 16(DI)
	VMOVHPS      X2, 48(DI)
	VZEROUPPER
	RET

// func dotAVX2(a, b *int16, n int) int64
//
// A pair of products fits into 32 bits and no more, so 2³¹ is added to it, which makes it a number without sign, and is
// subtracted from the whole at the end. Two such numbers are added as one of 64 bits, which may overflow, and the upper
// one apart: what the lower ones come to follows.
TEXT ·dotAVX2(SB), NOSPLIT, $0-32
	MOVQ     a+0(FP), SI
	MOVQ     b+8(FP), DI
	MOVQ     n+16(FP), CX
	MOVQ     CX, DX
	VPXOR    Y0, Y0, Y0
	VPXOR    Y1, Y1, Y1
	VPCMPEQD Y3, Y3, Y3
	VPSLLD   $31, Y3, Y3

sixteen:
	VMOVDQU  (SI), Y2
	VPMADDWD (DI), Y2, Y2
	VPXOR    Y3, Y2, Y2
	VPADDQ   Y2, Y0, Y0
	VPSRLQ   $32, Y2, Y2
	VPADDQ   Y2, Y1, Y1
	ADDQ     $32, SI
	ADDQ     $32, DI
	SUBQ     $16, CX
	JNE      sixteen

	VPSLLQ       $32, Y1, Y2
	VPSUBQ       Y2, Y0, Y0
	VPADDQ       Y1, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDQ       X1, X0, X0
	VPSHUFD      $0x4e, X0, X1
	VPADDQ       X1, X0, X0
	VMOVQ        X0, AX
	SHLQ         $30, DX
	SUBQ         DX, AX
	MOVQ         AX, ret+24(FP)
	VZEROUPPER
	RET
