// Cache maintenance: what makes stores reach the memory, and loads come from it, between hosts.
#include "addon.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif !defined(__aarch64__)
#error "the cache maintenance of this architecture is not written yet"
#endif

#if defined(__x86_64__)

static enum { CLFLUSH, CLFLUSHOPT, CLWB } write_back = CLFLUSH;
static bool has_clflushopt;
static const size_t line = 64;

void cache_choose_instructions(void) {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return;
  has_clflushopt = (ebx & (1u << 23)) != 0;
  write_back = (ebx & (1u << 24)) != 0 ? CLWB : has_clflushopt ? CLFLUSHOPT : CLFLUSH;
}

static void clwb(const char *at) { __asm__ volatile("clwb %0" : : "m"(*at) : "memory"); }
static void clflushopt(const char *at) { __asm__ volatile("clflushopt %0" : : "m"(*at) : "memory"); }

// Not sfence: the append and the take-over each store, then load what the other stores (design 4), and only a full
// fence keeps that order. It orders clwb, clflushopt and non-temporal stores as well.
void cache_fence(void) { _mm_mfence(); }

static void write_back_lines(const void *from, size_t length) {
  const char *end = (const char *)from + length;
  const char *at = (const char *)((uintptr_t)from & ~(uintptr_t)(line - 1));
  if (write_back == CLWB)
    for (; at < end; at += line) clwb(at);
  else if (write_back == CLFLUSHOPT)
    for (; at < end; at += line) clflushopt(at);
  else
    for (; at < end; at += line) _mm_clflush(at);
}

// mfence on both sides: earlier stores are in the lines that go, and no later load runs ahead of the discard.
static void invalidate_lines(const void *from, size_t length) {
  const char *end = (const char *)from + length;
  const char *at = (const char *)((uintptr_t)from & ~(uintptr_t)(line - 1));
  _mm_mfence();
  if (has_clflushopt)
    for (; at < end; at += line) clflushopt(at);
  else
    for (; at < end; at += line) _mm_clflush(at);
  _mm_mfence();
}

// Stores past the caches, `from` or zeroes when NULL. Bytes before and after whole lines are stored normally and
// written back; the caller fences.
static void stream(char *to, const char *from, size_t length) {
  size_t head = (line - ((uintptr_t)to & (line - 1))) & (line - 1);
  if (head > length) head = length;
  if (head > 0) {
    if (from != NULL) memcpy(to, from, head);
    else memset(to, 0, head);
    write_back_lines(to, head);
  }
  size_t body = (length - head) & ~(line - 1);
  const __m128i zero = _mm_setzero_si128();
  for (size_t at = head; at < head + body; at += sizeof(__m128i)) {
    __m128i value = from != NULL ? _mm_loadu_si128((const __m128i *)(from + at)) : zero;
    _mm_stream_si128((__m128i *)(to + at), value);
  }
  size_t tail = length - head - body;
  if (tail > 0) {
    if (from != NULL) memcpy(to + head + body, from + head + body, tail);
    else memset(to + head + body, 0, tail);
    write_back_lines(to + head + body, tail);
  }
}

#else  // __aarch64__

static size_t line = 64;

void cache_choose_instructions(void) {
  uint64_t ctr;
  __asm__("mrs %0, ctr_el0" : "=r"(ctr));
  line = (size_t)4 << ((ctr >> 16) & 15);  // DminLine: log2 of words
}

// The full system domain, since the other observers are other hosts.
void cache_fence(void) { __asm__ volatile("dsb sy" : : : "memory"); }

static void write_back_lines(const void *from, size_t length) {
  const char *end = (const char *)from + length;
  const char *at = (const char *)((uintptr_t)from & ~(uintptr_t)(line - 1));
  for (; at < end; at += line) __asm__ volatile("dc cvac, %0" : : "r"(at) : "memory");
}

static void invalidate_lines(const void *from, size_t length) {
  const char *end = (const char *)from + length;
  const char *at = (const char *)((uintptr_t)from & ~(uintptr_t)(line - 1));
  cache_fence();
  for (; at < end; at += line) __asm__ volatile("dc civac, %0" : : "r"(at) : "memory");
  cache_fence();
}

// No store here is both non-temporal and ordered by dsb alone, so: store and clean.
static void stream(char *to, const char *from, size_t length) {
  if (from != NULL) memcpy(to, from, length);
  else memset(to, 0, length);
  write_back_lines(to, length);
}

#endif

void cache_write_back(const void *from, size_t length) {
  if (host_cache_has(from)) host_cache_write_back(from, length);
  else write_back_lines(from, length);
}

void cache_invalidate(const void *from, size_t length) {
  if (host_cache_has(from)) host_cache_invalidate(from, length);
  else invalidate_lines(from, length);
}

void store_durable(void *to, const void *from, size_t length) {
  stream(to, from, length);
  if (host_cache_has(to)) host_cache_write_back(to, length);
  cache_fence();
}
