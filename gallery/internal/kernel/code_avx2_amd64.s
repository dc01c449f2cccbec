//go:build !purego

#include "textflag.h"

DATA ones<>+0(SB)/8, $0x0000000100000001
DATA ones<>+8(SB)/8, $0x0000000100000001
DATA ones<>+16(SB)/8, $0x0000000100000001
DATA ones<>+24(SB)/8, $0x0000000100000001
GLOBL ones<>(SB), RODATA|NOPTR, $32

DATA twos<>+0(SB)/8, $0x0000000200000002
DATA twos<>+8(SB)/8, $0x0000000200000002
DATA twos<>+16(SB)/8, $0x0000000200000002
DATA twos<>+24(SB)/8, $0x0000000200000002
GLOBL twos<>(SB), RODATA|NOPTR, $32

DATA threes<>+0(SB)/8, $0x0000000300000003
DATA threes<>+8(SB)/8, $0x0000000300000003
DATA threes<>+16(SB)/8, $0x0000000300000003
DATA threes<>+24(SB)/8, $0x0000000300000003
GLOBL threes<>(SB), RODATA|NOPTR, $32

DATA least<>+0(SB)/8, $0xffffff80ffffff80
DATA least<>+8(SB)/8, $0xffffff80ffffff80
DATA least<>+16(SB)/8, $0xffffff80ffffff80
DATA least<>+24(SB)/8, $0xffffff80ffffff80
GLOBL least<>(SB), RODATA|NOPTR, $32

DATA greatest<>+0(SB)/8, $0x0000007f0000007f
DATA greatest<>+8(SB)/8, $0x0000007f0000007f
DATA greatest<>+16(SB)/8, $0x0000007f0000007f
DATA greatest<>+24(SB)/8, $0x0000007f0000007f
GLOBL greatest<>(SB), RODATA|NOPTR, $32

DATA half<>+0(SB)/8, $0x0000008000000080
DATA half<>+8(SB)/8, $0x0000008000000080
DATA half<>+16(SB)/8, $0x0000008000000080
DATA half<>+24(SB)/8, $0x0000008000000080
GLOBL half<>(SB), RODATA|NOPTR, $32

DATA positive<>+0(SB)/8, $0x7fffffff7fffffff
DATA positive<>+8(SB)/8, $0x7fffffff7fffffff
DATA positive<>+16(SB)/8, $0x7fffffff7fffffff
DATA positive<>+24(SB)/8, $0x7fffffff7fffffff
GLOBL positive<>(SB), RODATA|NOPTR, $32

// func peakAVX2(v *float32, n int) float32
TEXT ·peakAVX2(SB), NOSPLIT, $0-20
	MOVQ    v+0(FP), SI
	MOVQ    n+8(FP), CX
	VMOVUPS positive<>(SB), Y2
	VXORPS  Y0, Y0, Y0

eight:
	VANDPS (SI), Y2, Y1
	VMAXPS Y1, Y0, Y0
	ADDQ   $32, SI
	SUBQ   $8, CX
	JNE    eight

	VEXTRACTF128 $1, Y0, X1
	VMAXPS       X1, X0, X0
	VPSHUFD      $0x4e, X0, X1
	VMAXPS       X1, X0, X0
	VPSHUFD      $0xb1, X0, X1
	VMAXPS       X1, X0, X0
	VMOVSS       X0, ret+16(FP)
	VZEROUPPER
	RET

// ALONG adds to the sums in acc, four numbers of 64 bits, the products of the vector, in Y6 and Y7, with eight integers.
#define ALONG(integers, lower, acc) \
	VCVTDQ2PD    lower, Y8          \
	VMULPD       Y6, Y8, Y8         \
	VADDPD       Y8, acc, acc       \
	VEXTRACTI128 $1, integers, X8   \
	VCVTDQ2PD    X8, Y8             \
	VMULPD       Y7, Y8, Y8         \
	VADDPD       Y8, acc, acc

// SQUARES adds to the sums in acc the squares of eight integers.
#define SQUARES(integers, acc) \
	VPMULLD integers, integers, Y8 \
	VPADDD  Y8, acc, acc

// BYTES stores eight integers, 0 to 255, as bytes.
#define BYTES(integers, lower, to) \
	VEXTRACTI128 $1, integers, X8 \
	VPACKUSDW    X8, lower, X8    \
	VPACKUSWB    X8, X8, X8       \
	VMOVQ        X8, (to)

// func codeAVX2(v *float32, n int, scale, cell float32, codes, sketch *byte, along *[3]float64, long *[3]int32)
TEXT ·codeAVX2(SB), NOSPLIT, $0-56
	MOVQ   v+0(FP), SI
	MOVQ   n+8(FP), CX
	MOVQ   codes+24(FP), DI
	MOVQ   sketch+32(FP), DX
	VXORPD Y10, Y10, Y10         // products with the codes of the sketch
	VXORPD Y11, Y11, Y11         // of the front plane
	VXORPD Y12, Y12, Y12         // of both planes
	VXORPD Y13, Y13, Y13         // and squares
	VXORPD Y14, Y14, Y14
	VXORPD Y15, Y15, Y15

eight:
	VMOVUPS      (SI), Y0
	VCVTPS2PD    X0, Y6
	VEXTRACTF128 $1, Y0, X7
	VCVTPS2PD    X7, Y7

	// The cell, and from it 2c+1 in Y2 and 2h+1 in Y3.
	VBROADCASTSS scale+16(FP), Y1
	VMULPS       Y0, Y1, Y1
	VROUNDPS     $1, Y1, Y1
	VCVTPS2DQ    Y1, Y1
	VPMAXSD      least<>(SB), Y1, Y1
	VPMINSD      greatest<>(SB), Y1, Y1
	VPADDD       Y1, Y1, Y2
	VPADDD       ones<>(SB), Y2, Y2
	VPSRAD       $4, Y1, Y3
	VPADDD       Y3, Y3, Y3
	VPADDD       ones<>(SB), Y3, Y3
	VPADDD       half<>(SB), Y1, Y1
	BYTES(Y1, X1, DI)

	// The sketch: 1, or 3 from cell on, with the number's sign.
	VBROADCASTSS cell+20(FP), Y5
	VANDPS       positive<>(SB), Y0, Y4
	VCMPPS       $13, Y5, Y4, Y4
	VPAND        twos<>(SB), Y4, Y4
	VPADDD       ones<>(SB), Y4, Y4
	VPSRAD       $31, Y0, Y5
	VPXOR        Y5, Y4, Y4
	VPSUBD       Y5, Y4, Y4
	VPADDD       threes<>(SB), Y4, Y5
	VPSRAD       $1, Y5, Y5
	BYTES(Y5, X5, DX)

	ALONG(Y4, X4, Y10)
	ALONG(Y3, X3, Y11)
	ALONG(Y2, X2, Y12)
	SQUARES(Y4, Y13)
	SQUARES(Y3, Y14)
	SQUARES(Y2, Y15)
	ADDQ $32, SI
	ADDQ $8, DI
	ADDQ $8, DX
	SUBQ $8, CX
	JNE  eight

	MOVQ along+40(FP), DI
	VHADDPD      Y10, Y10, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDSD       X1, X0, X0
	VMOVSD       X0, 0(DI)
	VHADDPD      Y11, Y11, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDSD       X1, X0, X0
	VMOVSD       X0, 8(DI)
	VHADDPD      Y12, Y12, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDSD       X1, X0, X0
	VMOVSD       X0, 16(DI)
	MOVQ long+48(FP), DI
	VEXTRACTI128 $1, Y13, X0
	VPADDD       X13, X0, X0
	VPSHUFD      $0x4e, X0, X1
	VPADDD       X1, X0, X0
	VPSHUFD      $0xb1, X0, X1
	VPADDD       X1, X0, X0
	VMOVD        X0, 0(DI)
	VEXTRACTI128 $1, Y14, X0
	VPADDD       X14, X0, X0
	VPSHUFD      $0x4e, X0, X1
	VPADDD       X1, X0, X0
	VPSHUFD      $0xb1, X0, X1
	VPADDD       X1, X0, X0
	VMOVD        X0, 4(DI)
	VEXTRACTI128 $1, Y15, X0
	VPADDD       X15, X0, X0
	VPSHUFD      $0x4e, X0, X1
	VPADDD       X1, X0, X0
	VPSHUFD      $0xb1, X0, X1
	VPADDD       X1, X0, X0
	VMOVD        X0, 8(DI)
	VZEROUPPER
	RET
