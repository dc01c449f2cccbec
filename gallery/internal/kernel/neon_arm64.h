// Instructions that the Go assembler does not know, of registers given by their numbers, the destination last.

// Vd.4S += Vn.16B · Vm.16B
#define SDOT(m, n, d) WORD $(0x4e809400 | m<<16 | n<<5 | d)

// Vd.4S += Vn.16B · Vm.4B[i]
#define SDOTI(m, i, n, d) WORD $(0x4f80e000 | (i&1)<<21 | (i>>1)<<11 | m<<16 | n<<5 | d)

// Vd.4S = Vn.4H · Vm.4H, the lower halves, and of the upper ones; and the same added
#define SMULL(m, n, d) WORD $(0x0e60c000 | m<<16 | n<<5 | d)
#define SMULL2(m, n, d) WORD $(0x4e60c000 | m<<16 | n<<5 | d)
#define SMLAL(m, n, d) WORD $(0x0e608000 | m<<16 | n<<5 | d)
#define SMLAL2(m, n, d) WORD $(0x4e608000 | m<<16 | n<<5 | d)

// Vd.2D += pairs of Vn.4S
#define SADALP(n, d) WORD $(0x4ea06800 | n<<5 | d)

// Dd = the sum of Vn.4S
#define SADDLV(n, d) WORD $(0x4eb03800 | n<<5 | d)

// Vd.4S = Vn.4S << Vm.4S, which may be negative
#define SSHL(m, n, d) WORD $(0x4ea04400 | m<<16 | n<<5 | d)

// Vd.4S += Vn.4S >> shift
#define SSRA(shift, n, d) WORD $(0x4f001400 | (64-shift)<<16 | n<<5 | d)

// Vd.8H = Vn.8H >> shift
#define SSHR(shift, n, d) WORD $(0x4f000400 | (32-shift)<<16 | n<<5 | d)

// Vd.8B = Vn.8H >> 4
#define SHRN4(n, d) WORD $(0x0f0c8400 | n<<5 | d)

// Vd.4S = Vn.4S >= Vm.4S
#define CMGE(m, n, d) WORD $(0x4ea03c00 | m<<16 | n<<5 | d)
