/* echo: sends back every frame behind a 4-byte big-endian length, one write for each. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static int fill(unsigned char *to, size_t length) {
  for (size_t got = 0; got < length;) {
    ssize_t n = read(0, to + got, length - got);
    if (n <= 0) return 0;
    got += (size_t)n;
  }
  return 1;
}

int main(void) {
  static unsigned char buffer[4 + (1 << 20)];
  /* One read for a small frame, as a careful worker would do it. */
  size_t got = 0;
  for (;;) {
    while (got < 4) {
      ssize_t n = read(0, buffer + got, sizeof buffer - got);
      if (n <= 0) return 0;
      got += (size_t)n;
    }
    size_t length = 4 + ((size_t)buffer[0] << 24 | buffer[1] << 16 | buffer[2] << 8 | buffer[3]);
    if (got < length && !fill(buffer + got, length - got)) return 0;
    for (size_t sent = 0; sent < length;) {
      ssize_t n = write(1, buffer + sent, length - sent);
      if (n <= 0) return 0;
      sent += (size_t)n;
    }
    got = got > length ? got - length : 0;
    for (size_t i = 0; i < got; i++) buffer[i] = buffer[length + i];
  }
}
