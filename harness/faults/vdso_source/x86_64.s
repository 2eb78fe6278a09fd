# The code that vdso.py writes over a process's clock_gettime, and the words beside it: see there. Assembled with
#   as x86_64.s -o x86_64.o && objcopy -O binary x86_64.o x86_64.bin
# Nothing may be used but what a function may clobber. Two sets of parameters follow the code, for the wall clock and
# for the monotonic one: base, offset, drift (in 2**-32), strobe period; nanoseconds, 8 bytes each.
.intel_syntax noprefix
clock_gettime:
  mov eax, 228
  syscall
  test eax, eax
  jnz 9f
  lea r8, [rip+parameters]
  test edi, edi
  jz 1f
  cmp edi, 5
  je 1f
  add r8, 32
  cmp edi, 1
  je 1f
  cmp edi, 4
  je 1f
  cmp edi, 6
  je 1f
  cmp edi, 7
  jne 9f
1:
  imul r9, [rsi], 1000000000
  add r9, [rsi+8]
  mov rax, r9
  sub rax, [r8]
  mov r10, rax
  imul qword ptr [r8+16]
  shrd rax, rdx, 32
  add r9, rax
  mov rcx, [r8+24]
  test rcx, rcx
  jz 2f
  mov rax, r10
  cqo
  idiv rcx
  test al, 1
  jnz 3f
2:
  add r9, [r8+8]
3:
  mov rax, r9
  cqo
  mov ecx, 1000000000
  idiv rcx
  mov [rsi], rax
  mov [rsi+8], rdx
  xor eax, eax
9:
  ret
.balign 16
gettimeofday:
  push rdi
  push rsi
  sub rsp, 24
  xor edi, edi
  mov rsi, rsp
  call clock_gettime
  mov rcx, [rsp]
  mov rax, [rsp+8]
  add rsp, 24
  pop rsi
  pop rdi
  test rsi, rsi
  jz 1f
  mov qword ptr [rsi], 0
1:
  test rdi, rdi
  jz 2f
  mov [rdi], rcx
  cqo
  mov ecx, 1000
  idiv rcx
  mov [rdi+8], rax
2:
  xor eax, eax
  ret
.balign 16
time:
  push rdi
  sub rsp, 16
  xor edi, edi
  mov rsi, rsp
  call clock_gettime
  mov rax, [rsp]
  add rsp, 16
  pop rdi
  test rdi, rdi
  jz 1f
  mov [rdi], rax
1:
  ret
.balign 16
parameters:
