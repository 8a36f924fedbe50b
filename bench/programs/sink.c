/* sink BYTES: reads BYTES bytes from standard input, then writes one byte. */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  size_t left = strtoull(argv[1], 0, 10);
  size_t length = 256 * 1024;
  char *buffer = malloc(length);
  (void)argc;
  while (left > 0) {
    ssize_t n = read(0, buffer, left < length ? left : length);
    if (n <= 0) return 1;
    left -= (size_t)n;
  }
  if (write(1, ".", 1) != 1) return 1;
  while (read(0, buffer, length) > 0) {
  }
  return 0;
}
