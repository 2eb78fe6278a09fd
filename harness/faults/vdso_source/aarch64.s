// The same as x86_64.s for aarch64, which has no vDSO function for time(). Assembled with
//   aarch64-linux-gnu-as aarch64.s -o aarch64.o && aarch64-linux-gnu-objcopy -O binary aarch64.o aarch64.bin
clock_gettime:
  mov w9, w0
  mov x8, #113
  svc #0
  cbnz x0, 9f
  adr x10, parameters
  cbz w9, 1f
  cmp w9, #5
  b.eq 1f
  add x10, x10, #32
  cmp w9, #1
  b.eq 1f
  cmp w9, #4
  b.eq 1f
  cmp w9, #6
  b.eq 1f
  cmp w9, #7
  b.ne 9f
1:
  ldp x11, x12, [x1]
  movz x13, #51712
  movk x13, #15258, lsl #16
  madd x11, x11, x13, x12
  ldp x12, x14, [x10]
  ldp x15, x16, [x10, #16]
  sub x12, x11, x12
  mul x17, x12, x15
  smulh x8, x12, x15
  extr x17, x8, x17, #32
  add x11, x11, x17
  cbz x16, 2f
  sdiv x12, x12, x16
  tbnz x12, #0, 3f
2:
  add x11, x11, x14
3:
  sdiv x12, x11, x13
  msub x14, x12, x13, x11
  stp x12, x14, [x1]
  mov x0, #0
9:
  ret
.balign 16
gettimeofday:
  stp x29, x30, [sp, #-48]!
  stp x0, x1, [sp, #16]
  mov w0, #0
  add x1, sp, #32
  bl clock_gettime
  ldp x0, x1, [sp, #16]
  ldp x11, x12, [sp, #32]
  cbz x1, 1f
  str xzr, [x1]
1:
  cbz x0, 2f
  mov x13, #1000
  sdiv x12, x12, x13
  stp x11, x12, [x0]
2:
  mov x0, #0
  ldp x29, x30, [sp], #48
  ret
.balign 16
parameters:
