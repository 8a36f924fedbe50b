/* source BYTES SIZE: writes BYTES bytes to standard output as fast as the pipe takes them.
 * SIZE 0: a plain stream. SIZE n: frames of n bytes behind a 4-byte big-endian length.
 * SIZE -n: lines of n bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  size_t total = strtoull(argv[1], 0, 10);
  long size = argc > 2 ? atol(argv[2]) : 0;
  size_t unit = size > 0 ? 4 + (size_t)size : size < 0 ? (size_t)-size + 1 : 1;
  size_t count = (256 * 1024) / unit;
  if (count == 0) count = 1;
  size_t length = count * unit;
  char *buffer = malloc(length);
  memset(buffer, 'x', length);
  for (size_t i = 0; i < count && size != 0; i++) {
    if (size > 0) {
      uint32_t n = (uint32_t)size;
      unsigned char *prefix = (unsigned char *)buffer + i * unit;
      prefix[0] = n >> 24, prefix[1] = n >> 16, prefix[2] = n >> 8, prefix[3] = n;
    } else {
      buffer[(i + 1) * unit - 1] = '\n';
    }
  }
  while (total > 0) {
    size_t chunk = total < length ? total : length;
    for (size_t sent = 0; sent < chunk;) {
      ssize_t n = write(1, buffer + sent, chunk - sent);
      if (n <= 0) return 1;
      sent += (size_t)n;
    }
    total -= chunk;
  }
  return 0;
}
