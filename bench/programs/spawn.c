/* spawn COUNT AT_ONCE PROGRAM: runs the program COUNT times, AT_ONCE at a time, and prints the microseconds it took:
 * vfork, exec, wait, with a pipe for its output as a port has it. The limit of any spawner. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void start(char **argv) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) exit(1);
  if (vfork() == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    execv(argv[0], argv);
    _exit(127);
  }
  close(in[0]), close(in[1]), close(out[0]), close(out[1]);
}

int main(int argc, char **argv) {
  int count = atoi(argv[1]), at_once = atoi(argv[2]), started = 0, running = 0;
  struct timespec begin, end;
  (void)argc;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  while (started < count || running > 0) {
    while (started < count && running < at_once) start(argv + 3), started++, running++;
    if (wait(0) > 0) running--;
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%ld\n", (end.tv_sec - begin.tv_sec) * 1000000L + (end.tv_nsec - begin.tv_nsec) / 1000);
  return 0;
}
