/* A set-uid program: becomes root as sudo does, and writes `<CLOCK_BOOTTIME ns> <pid> <term> <member>` every 5 ms, and its user once. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 3) return 2;
    if (setresuid(0, 0, 0) != 0) setresuid(getuid(), getuid(), getuid());
    int file = open(words[1], O_WRONLY | O_APPEND | O_CREAT, 0666);
    int user = open(words[2], O_WRONLY | O_CREAT, 0666);
    dprintf(user, "%d", (int)getuid());
    close(user);
    for (;;) {
        struct timespec now;
        clock_gettime(CLOCK_BOOTTIME, &now);
        dprintf(file, "%lld%09ld %d 0 -\n", (long long)now.tv_sec, now.tv_nsec, (int)getpid());
        usleep(5000);
    }
}
