/* Starts a program whose disk can be made slow: slow_sync FILE PROGRAM [ARGUMENT…]

   Each fsync and fdatasync of the program waits first for as many milliseconds as stand in FILE (a 64-bit number, read anew each
   time), one after the other, as on one disk. The kernel asks a helper process of ours before each such call (seccomp's user
   notification). A preloaded library would be simpler, and would do nothing: etcd is linked statically. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    _exit(126);
}

static void send_file(int link, int file) {
    char byte = 0, room[CMSG_SPACE(sizeof file)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof file);
    memcpy(CMSG_DATA(head), &file, sizeof file);
    if (sendmsg(link, &message, 0) != 1) fail("sendmsg");
}

static int receive_file(int link) {
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int file = -1;
    if (recvmsg(link, &message, 0) == 1 && CMSG_FIRSTHDR(&message)) memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof file);
    return file;
}

static void help(int link, const volatile long long *delay_ms) {
    int asked = receive_file(link);
    struct pollfd one = {.fd = asked, .events = POLLIN};
    while (poll(&one, 1, -1) >= 0 || errno == EINTR) {
        if (one.revents & POLLHUP) break; /* nobody is left who could ask */
        struct seccomp_notif question = {0};
        if (ioctl(asked, SECCOMP_IOCTL_NOTIF_RECV, &question)) continue;
        for (long long left = *delay_ms; left > 0 && *delay_ms; left -= 5) nanosleep(&(struct timespec){0, 5000000}, 0);
        struct seccomp_notif_resp answer = {.id = question.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        ioctl(asked, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    _exit(0);
}

int main(int count, char **words) {
    if (count < 3) return fputs("slow_sync FILE PROGRAM [ARGUMENT...]\n", stderr), 2;
    int file = open(words[1], O_RDONLY | O_CLOEXEC), link[2];
    if (file < 0) fail(words[1]);
    void *page = mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) fail("mmap");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link)) fail("socketpair");
    pid_t helper = fork();
    if (helper < 0) fail("fork");
    if (!helper) { /* a grandchild, so that the program need not wait for it */
        if (fork()) _exit(0);
        close(link[0]);
        help(link[1], page);
    }
    waitpid(helper, 0, 0);
    close(link[1]);
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsync, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof *rules, rules};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    if (listener < 0) fail("seccomp");
    send_file(link[0], listener);
    close(listener);
    close(link[0]);
    execv(words[2], words + 2);
    fail(words[2]);
}
