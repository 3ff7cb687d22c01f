/* Loaded before libc: a file whose path ends in EIO_ON opens, and every read of it fails with EIO, as a sysfs attribute of a device that
 * went away does; one that ends in GONE_ON is listed in its directory and can't be opened (ENOENT). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int broken[1024];

static int ends(const char *path, const char *variable)
{
    const char *end = getenv(variable);
    size_t have = strlen(path), want = end ? strlen(end) : 0;
    return want && have >= want && !strcmp(path + have - want, end);
}

static int watch(const char *path, int fd)
{
    if (fd >= 0 && fd < 1024)
        broken[fd] = ends(path, "EIO_ON");
    return fd;
}

#define OPEN(name, ...)                                               \
    mode_t mode = 0;                                                  \
    va_list rest;                                                     \
    va_start(rest, flags);                                            \
    if (flags & (O_CREAT | O_TMPFILE))                                \
        mode = va_arg(rest, mode_t);                                  \
    va_end(rest);                                                     \
    if (ends(path, "GONE_ON")) {                                      \
        errno = ENOENT;                                               \
        return -1;                                                    \
    }                                                                 \
    return watch(path, ((int (*)())dlsym(RTLD_NEXT, name))(__VA_ARGS__))

int open(const char *path, int flags, ...) { OPEN("open", path, flags, mode); }
int open64(const char *path, int flags, ...) { OPEN("open64", path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { OPEN("openat", at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { OPEN("openat64", at, path, flags, mode); }

ssize_t read(int fd, void *buffer, size_t size)
{
    if (fd >= 0 && fd < 1024 && broken[fd]) {
        errno = EIO;
        return -1;
    }
    return ((ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(fd, buffer, size);
}

int close(int fd)
{
    if (fd >= 0 && fd < 1024)
        broken[fd] = 0;
    return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
}
