/* Preloaded into a process: sees what SQLite asks of the disk, and may answer for it.
 *
 * Counted are writes, syncs, truncations, renamings and deletions of the files whose path begins
 * with `prefix`, and syncs of their folder. At the n-th one it acts: the process is killed before or
 * after it, or in the middle of a write; or it fails, once or a number of times. Everything that
 * happened can be recorded, with its data, to be replayed as a power cut. Lines written to the
 * file `acks` are recorded in their place among the writes; they are not counted.
 *
 * A record is a header and the name and the data: see images.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME_MAX_BYTES 1024

enum { NOTHING, KILL_BEFORE, KILL_AFTER, TEAR, FAIL, SHORTEN };

struct __attribute__((packed)) header {
    char kind; /* Write Sync Fail(ed sync) Truncate Rename Unlink Ack */
    uint16_t name_bytes;
    int64_t position; /* offset; length; of a sync: the number of records when it began */
    uint32_t data_bytes;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char prefix[NAME_MAX_BYTES], folder[NAME_MAX_BYTES], acks[NAME_MAX_BYTES];
static char hit_text[NAME_MAX_BYTES + 8];
static int armed, action, error_number, skips_sync, log_fd = -1;
static long first, last, counted, recorded;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_unlink)(const char *);
static int (*real_ftruncate)(int, off64_t), (*real_rename)(const char *, const char *);

static void find(void) {
    if (real_unlink) return;
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
}

/* Begin to count; a negative `nth` never acts. Call it before there are threads. */
void shim_arm(const char *path, const char *acks_path, const char *log_path, int what, long nth,
              long times, int error, int without_sync) {
    snprintf(prefix, sizeof prefix, "%s", path);
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
    snprintf(acks, sizeof acks, "%s", acks_path);
    if (*log_path) log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    action = what, first = nth, last = nth + times - 1, error_number = error;
    skips_sync = without_sync, counted = recorded = 0, hit_text[0] = 0;
    armed = 1;
}

/* How many calls were counted; what the first one acted upon was, or "". */
long shim_counted(void) { return counted; }
const char *shim_hit(void) { return hit_text; }
/* The trouble is over. */
void shim_relent(void) { action = NOTHING; }

static int name_of(int fd, char *name) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, NAME_MAX_BYTES - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return 1;
}

static int is_ours(const char *name) { return !strncmp(name, prefix, strlen(prefix)); }

static void put(const void *data, size_t bytes) {
    while (bytes) {
        long done = syscall(SYS_write, log_fd, data, bytes);
        if (done <= 0) abort();
        data = (const char *)data + done, bytes -= done;
    }
}

static void record(char kind, const char *name, int64_t position, const void *data, size_t bytes) {
    recorded++;
    if (log_fd < 0) return;
    struct header header = {kind, strlen(name), position, bytes};
    put(&header, sizeof header);
    put(name, header.name_bytes);
    put(data, bytes);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts one call, with the mutex held; says what is to be done about it. */
static int verdict(char kind, const char *name) {
    long number = ++counted;
    if (action == NOTHING || number < first || number > last) return NOTHING;
    if (!*hit_text) snprintf(hit_text, sizeof hit_text, "%c %s", kind, name + strlen(folder));
    if (action == KILL_BEFORE) die();
    return action == SHORTEN && number > first ? FAIL : action;
}

static int refuse(void) {
    errno = error_number;
    return -1;
}

static ssize_t written(int fd, const char *name, const void *data, size_t bytes, off64_t offset) {
    int what = verdict('W', name);
    if (what == FAIL) return refuse();
    if (what == TEAR || what == SHORTEN) bytes = bytes > 1 ? bytes / 2 : bytes;
    record('W', name, offset, data, bytes);
    ssize_t done = real_pwrite(fd, data, bytes, offset);
    if (what == TEAR || what == KILL_AFTER) die();
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset) {
    char name[NAME_MAX_BYTES];
    find();
    if (!armed || !name_of(fd, name) || !is_ours(name)) return real_pwrite(fd, data, bytes, offset);
    pthread_mutex_lock(&mutex);
    ssize_t done = written(fd, name, data, bytes, offset);
    int saved = errno;
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    return pwrite64(fd, data, bytes, offset);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    char name[NAME_MAX_BYTES];
    find();
    if (!armed || fd == log_fd || !name_of(fd, name)) return real_write(fd, data, bytes);
    if (!strcmp(name, acks)) {
        pthread_mutex_lock(&mutex);
        record('A', name, 0, data, bytes);
        pthread_mutex_unlock(&mutex);
    }
    if (!is_ours(name)) return real_write(fd, data, bytes);
    off64_t offset = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = pwrite64(fd, data, bytes, offset);
    if (done > 0) lseek64(fd, offset + done, SEEK_SET);
    return done;
}

static int synced(int fd, int (*real)(int)) {
    char name[NAME_MAX_BYTES];
    if (!armed || !name_of(fd, name) || !(is_ours(name) || !strcmp(name, folder))) return real(fd);
    pthread_mutex_lock(&mutex);
    int what = verdict('S', name);
    int64_t began = recorded;
    if (what == FAIL || what == SHORTEN) record('F', name, began, 0, 0);
    pthread_mutex_unlock(&mutex);
    if (what == FAIL || what == SHORTEN) return refuse();
    if (what == TEAR) die();
    int result = skips_sync ? 0 : real(fd);
    pthread_mutex_lock(&mutex);
    if (!result) record('S', name, began, 0, 0);
    pthread_mutex_unlock(&mutex);
    if (what == KILL_AFTER) die();
    return result;
}

int fsync(int fd) { find(); return synced(fd, real_fsync); }
int fdatasync(int fd) { find(); return synced(fd, real_fdatasync); }

/* Truncation of `fd`; where that is -1, renaming of `name` or, without `to`, its deletion. */
static int changed(char kind, int fd, const char *name, off64_t length, const char *to) {
    pthread_mutex_lock(&mutex);
    int what = verdict(kind, name), result = -1;
    if (what == TEAR) die();
    if (what == FAIL || what == SHORTEN) {
        refuse();
    } else {
        if (fd >= 0) result = real_ftruncate(fd, length);
        else result = to ? real_rename(name, to) : real_unlink(name);
        if (!result) record(kind, name, length, to, to ? strlen(to) : 0);
        if (what == KILL_AFTER) die();
    }
    int saved = errno;
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return result;
}

int ftruncate64(int fd, off64_t length) {
    char name[NAME_MAX_BYTES];
    find();
    if (!armed || !name_of(fd, name) || !is_ours(name)) return real_ftruncate(fd, length);
    return changed('T', fd, name, length, 0);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int unlink(const char *name) {
    find();
    if (!armed || !is_ours(name)) return real_unlink(name);
    return changed('U', -1, name, 0, 0);
}

int rename(const char *name, const char *to) {
    find();
    if (!armed || !is_ours(name)) return real_rename(name, to);
    return changed('R', -1, name, 0, to);
}
