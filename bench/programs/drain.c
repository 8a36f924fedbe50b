/* drain PIPE_BYTES READ_BYTES PROGRAM ARGS...: runs the program with its output in a pipe of PIPE_BYTES bytes (0: as it
 * comes), reads it to the end READ_BYTES at a time, and prints the microseconds it took. The limit of any reader. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int fds[2];
  size_t length = strtoull(argv[2], 0, 10);
  char *buffer = malloc(length);
  struct timespec begin, end;
  (void)argc;
  if (pipe2(fds, O_CLOEXEC)) return 1;
  if (atoi(argv[1])) fcntl(fds[0], F_SETPIPE_SZ, atoi(argv[1]));
  clock_gettime(CLOCK_MONOTONIC, &begin);
  if (vfork() == 0) {
    dup2(fds[1], 1);
    execv(argv[3], argv + 3);
    _exit(127);
  }
  close(fds[1]);
  while (read(fds[0], buffer, length) > 0) {
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  wait(0);
  printf("%ld\n", (end.tv_sec - begin.tv_sec) * 1000000L + (end.tv_nsec - begin.tv_nsec) / 1000);
  return 0;
}
