/* What pyfuse3 leaves out of libfuse: locks, whose locks a FLUSH ends, opens without a FLUSH,
 * listings that the kernel keeps, answers that need no Python, the memory of large requests, and the
 * log, in which the line of the request that is being started is of use (see `requestlog.py`).
 *
 * This module is loaded before pyfuse3, and its symbols are global (see `libfuse.py`): the dynamic
 * linker binds pyfuse3's `fuse_session_new`, `fuse_session_process_buf`, `fuse_reply_open` and
 * `fuse_reply_create` to the functions here, which call libfuse's own. So libfuse gets pyfuse3's
 * table of operations with the handlers of locks added, and some put before its own. Nothing of
 * either library is changed.
 *
 * No header of libfuse is needed. What is known of it is the order of its operations and the
 * beginning of three structures, which are the same in all of libfuse 3; the places where pyfuse3
 * has handlers, and has none, are compared before anything is added.
 * Source: libfuse's fuse_lowlevel.h and fuse_common.h.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

typedef void (*operation)(void);
typedef void (*interrupt_function)(void *request, void *data);
typedef void (*log_function)(int level, const char *format, va_list arguments);

/* struct fuse_file_info up to `lock_owner`. */
typedef struct {
    int32_t flags;
    uint32_t writepage : 1, direct_io : 1, keep_cache : 1, flush : 1, nonseekable : 1;
    uint32_t flock_release : 1, cache_readdir : 1, noflush : 1, unused : 24;
    uint32_t padding[2];
    uint64_t handle;
    uint64_t lock_owner;
} file_info;

/* struct fuse_buf up to `mem`: a request. */
typedef struct {
    size_t size;
    int flags;
    void *memory;
} buffer;
#define IS_DESCRIPTOR 2

/* The beginning of each request. Source: struct fuse_in_header in linux/fuse.h. */
typedef struct {
    uint32_t length, opcode;
} request_header;
#define BATCH_FORGET 42

/* Bits of handles, which `vfs/entry.py` gives and calls the same. */
#define READS_ONLY (UINT64_C(1) << 61)
#define UNFLUSHED (UINT64_C(1) << 62)
#define LISTED (UINT64_C(1) << 60)
#define KEPT (UINT64_C(1) << 59)

/* Places in struct fuse_lowlevel_ops. */
enum {
    LOOKUP = 2, OPEN = 14, FLUSH = 17, RELEASE = 18, GETXATTR = 26, GETLK = 31, SETLK = 32, FLOCK = 39
};
#define OPERATIONS 64 /* libfuse 3.18 has 50 */

static struct {
    void *(*session_new)(void *, const operation *, size_t, void *);
    void *(*session_new_versioned)(void *, const operation *, size_t, void *, void *);
    void (*process_buf)(void *, const buffer *);
    int (*reply_open)(void *, const file_info *);
    int (*reply_create)(void *, const void *, const file_info *);
    int (*reply_err)(void *, int);
    int (*reply_lock)(void *, const struct flock *);
    void (*interrupt_func)(void *, interrupt_function, void *);
    void (*set_log_func)(log_function);
} libfuse;

static PyObject *on_lock, *on_interrupt; /* callables, or NULL: no locks are wanted */
static int connected;                    /* whether the last session has our handlers */
static int held;                         /* whether anybody has a POSIX lock */
static uint64_t flush_owner;
static void (*flush_of_pyfuse3)(void *, uint64_t, file_info *);
static void (*getxattr_of_pyfuse3)(void *, uint64_t, const char *, size_t);
static PyObject *on_message;    /* callable: what libfuse logs for people */
static char request_line[512];  /* of the request that is being started */

static int find_libfuse(struct dl_phdr_info *info, size_t size, void *found)
{
    const char *name = strrchr(info->dlpi_name, '/');
    (void)size;
    if (name == NULL || strncmp(name, "/libfuse3", 9) != 0)
        return 0;
    *(void **)found = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
    return 1;
}

/* The functions of the libfuse that pyfuse3 has brought along; it is there when it calls us. */
static void find_functions(void)
{
    static void *library;
    if (library != NULL)
        return;
    dl_iterate_phdr(find_libfuse, &library);
    if (library == NULL)
        return;
    *(void **)&libfuse.session_new = dlsym(library, "fuse_session_new");
    *(void **)&libfuse.session_new_versioned = dlsym(library, "fuse_session_new_versioned");
    *(void **)&libfuse.process_buf = dlsym(library, "fuse_session_process_buf");
    *(void **)&libfuse.reply_open = dlsym(library, "fuse_reply_open");
    *(void **)&libfuse.reply_create = dlsym(library, "fuse_reply_create");
    *(void **)&libfuse.reply_err = dlsym(library, "fuse_reply_err");
    *(void **)&libfuse.reply_lock = dlsym(library, "fuse_reply_lock");
    *(void **)&libfuse.interrupt_func = dlsym(library, "fuse_req_interrupt_func");
    *(void **)&libfuse.set_log_func = dlsym(library, "fuse_set_log_func");
}

static void interrupted(void *request, void *data)
{
    PyGILState_STATE state;
    PyObject *result;
    (void)data;
    if (on_interrupt == NULL)
        return;
    state = PyGILState_Ensure();
    result = PyObject_CallFunction(on_interrupt, "K", (unsigned long long)(uintptr_t)request);
    if (result == NULL)
        PyErr_WriteUnraisable(on_interrupt);
    Py_XDECREF(result);
    PyGILState_Release(state);
}

/* Hand a request over. `command` is one of fcntl(2)'s, or 0 for flock(2). The answer is an errno, 0,
 * or -1: then it comes later, and until then libfuse tells of an interrupt. */
static void hand_over(void *request, uint64_t inode, const file_info *info, int command, int type,
                      uint64_t start, uint64_t length, int pid, int wait)
{
    long answer = EIO;
    PyGILState_STATE state;
    PyObject *result;
    if (on_lock == NULL) {
        libfuse.reply_err(request, ENOTCONN);
        return;
    }
    state = PyGILState_Ensure();
    result = PyObject_CallFunction(
        on_lock, "KKKKiiKKii", (unsigned long long)(uintptr_t)request, (unsigned long long)inode,
        (unsigned long long)info->handle, (unsigned long long)info->lock_owner, command, type,
        (unsigned long long)start, (unsigned long long)length, pid, wait);
    if (result != NULL) {
        answer = PyLong_AsLong(result);
        Py_DECREF(result);
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(on_lock);
        answer = EIO;
    }
    PyGILState_Release(state);
    if (answer >= 0)
        libfuse.reply_err(request, (int)answer);
    else
        libfuse.interrupt_func(request, interrupted, NULL);
}

static void getlk(void *request, uint64_t inode, file_info *info, struct flock *lock)
{
    hand_over(request, inode, info, F_GETLK, lock->l_type, (uint64_t)lock->l_start,
              (uint64_t)lock->l_len, lock->l_pid, 1);
}

static void setlk(void *request, uint64_t inode, file_info *info, struct flock *lock, int wait)
{
    hand_over(request, inode, info, F_SETLK, lock->l_type, (uint64_t)lock->l_start,
              (uint64_t)lock->l_len, lock->l_pid, wait);
}

static void flock_(void *request, uint64_t inode, file_info *info, int how)
{
    int type = how & LOCK_UN ? F_UNLCK : how & LOCK_EX ? F_WRLCK : F_RDLCK;
    hand_over(request, inode, info, 0, type, 0, 0, 0, !(how & LOCK_NB));
}

static void flush(void *request, uint64_t inode, file_info *info)
{
    if (info->handle & READS_ONLY && !held) { /* the usual close: nothing to store or to unlock */
        libfuse.reply_err(request, 0);
        return;
    }
    flush_owner = info->lock_owner;
    flush_of_pyfuse3(request, inode, info);
}

/* The kernel asks for `security.capability` before the first write to each file, and `ls -l` for
 * access lists: nothing is ever there under these names, see `vfs/xattrs.py`. */
static void getxattr_(void *request, uint64_t inode, const char *name, size_t size)
{
    if (strncmp(name, "security.", 9) == 0 || strncmp(name, "system.", 7) == 0)
        libfuse.reply_err(request, ENODATA);
    else
        getxattr_of_pyfuse3(request, inode, name, size);
}

/* pyfuse3's table with our handlers; NULL if they are not wanted, or it is not what we know. */
static const operation *completed(const operation *given, size_t size)
{
    static operation table[OPERATIONS];
    size_t count = size / sizeof(operation);
    connected = 0;
    if (on_lock == NULL || count <= FLOCK || count > OPERATIONS || size % sizeof(operation) ||
        libfuse.reply_err == NULL || libfuse.reply_lock == NULL || libfuse.interrupt_func == NULL)
        return NULL;
    if (!given[LOOKUP] || !given[OPEN] || !given[FLUSH] || !given[RELEASE] || !given[GETXATTR])
        return NULL;
    if (given[GETLK] || given[SETLK] || given[FLOCK])
        return NULL;
    memcpy(table, given, size);
    flush_of_pyfuse3 = (void (*)(void *, uint64_t, file_info *))given[FLUSH];
    getxattr_of_pyfuse3 = (void (*)(void *, uint64_t, const char *, size_t))given[GETXATTR];
    table[FLUSH] = (operation)flush;
    table[GETXATTR] = (operation)getxattr_;
    table[GETLK] = (operation)getlk;
    table[SETLK] = (operation)setlk;
    table[FLOCK] = (operation)flock_;
    held = 0;
    connected = 1;
    return table;
}

void *fuse_session_new(void *arguments, const operation *given, size_t size, void *data)
{
    const operation *table;
    find_functions();
    if (libfuse.session_new == NULL)
        return NULL;
    table = completed(given, size);
    return libfuse.session_new(arguments, table != NULL ? table : given, size, data);
}

/* What `fuse_session_new` is since libfuse 3.17, for programs that were compiled with it. */
void *fuse_session_new_versioned(void *arguments, const operation *given, size_t size,
                                 void *version, void *data)
{
    const operation *table;
    find_functions();
    if (libfuse.session_new_versioned == NULL)
        return NULL;
    table = completed(given, size);
    return libfuse.session_new_versioned(arguments, table != NULL ? table : given, size, version,
                                         data);
}

/* Inodes that the kernel forgets come by the ten thousand, up to a MiB of them, and each of pyfuse3's
 * workers has a buffer of its own. When this function returns nothing of the request is needed any
 * more. Writes, which are as large, are left alone: their buffers are soon filled again. */
void fuse_session_process_buf(void *session, const buffer *given)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin, end;
    request_header header = {0, 0};
    find_functions();
    if (!(given->flags & IS_DESCRIPTOR) && given->size >= sizeof header)
        memcpy(&header, given->memory, sizeof header);
    libfuse.process_buf(session, given);
    if (header.opcode != BATCH_FORGET)
        return;
    begin = ((uintptr_t)given->memory + page - 1) & ~(page - 1);
    end = ((uintptr_t)given->memory + given->size) & ~(page - 1);
    if (begin < end) /* the last page may be in use behind the request, and is kept */
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* A file that nothing is to be stored of, and whose locks end without a FLUSH, costs none. Of a
 * directory the kernel keeps what it has listed, for which pyfuse3 has no words. */
static void mark(const file_info *given)
{
    file_info *info = (file_info *)given; /* it lies on pyfuse3's stack */
    if (info->handle & UNFLUSHED)
        info->noflush = 1;
    if (info->handle & LISTED) {
        info->cache_readdir = 1;
        info->keep_cache = (info->handle & KEPT) != 0;
    }
}

int fuse_reply_open(void *request, const file_info *info)
{
    find_functions();
    mark(info);
    return libfuse.reply_open(request, info);
}

int fuse_reply_create(void *request, const void *entry, const file_info *info)
{
    find_functions();
    mark(info);
    return libfuse.reply_create(request, entry, info);
}

/* libfuse's log, two lines a request: so none of Python for those. Requests are taken up in the
 * thread of the event loop alone; other lines may come from any thread, without Python's lock. */
static void receive_log(int level, const char *format, va_list arguments)
{
    char text[sizeof request_line];
    PyGILState_STATE state;
    PyObject *result;
    if (level == LOG_DEBUG && strstr(format, "opcode: ") && strstr(format, "nodeid: ")) {
        vsnprintf(request_line, sizeof request_line, format, arguments);
        return;
    }
    if (level == LOG_DEBUG)
        return;
    vsnprintf(text, sizeof text, format, arguments);
    state = PyGILState_Ensure();
    if (on_message != NULL) {
        result = PyObject_CallFunction(on_message, "iy", level, text);
        if (result == NULL)
            PyErr_WriteUnraisable(on_message);
        Py_XDECREF(result);
    }
    PyGILState_Release(state);
}

/* The Python side; `_libfuse.pyi` has the types. */

static PyObject *take_log(PyObject *self, PyObject *receiver)
{
    (void)self;
    find_functions();
    if (libfuse.set_log_func == NULL)
        Py_RETURN_FALSE;
    Py_INCREF(receiver);
    Py_XSETREF(on_message, receiver);
    request_line[0] = '\0';
    libfuse.set_log_func(receive_log);
    Py_RETURN_TRUE;
}

static PyObject *leave_log(PyObject *self, PyObject *nothing)
{
    (void)self, (void)nothing;
    if (libfuse.set_log_func != NULL)
        libfuse.set_log_func(NULL); /* libfuse's own: standard error */
    Py_CLEAR(on_message);
    Py_RETURN_NONE;
}

static PyObject *request(PyObject *self, PyObject *nothing)
{
    (void)self, (void)nothing;
    return PyBytes_FromString(request_line);
}

static PyObject *connect_(PyObject *self, PyObject *arguments)
{
    PyObject *lock, *interrupt;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO", &lock, &interrupt))
        return NULL;
    Py_INCREF(lock);
    Py_INCREF(interrupt);
    Py_XSETREF(on_lock, lock);
    Py_XSETREF(on_interrupt, interrupt);
    Py_RETURN_NONE;
}

static PyObject *disconnect(PyObject *self, PyObject *nothing)
{
    (void)self, (void)nothing;
    Py_CLEAR(on_lock);
    Py_CLEAR(on_interrupt);
    connected = 0;
    Py_RETURN_NONE;
}

static PyObject *is_connected(PyObject *self, PyObject *nothing)
{
    (void)self, (void)nothing;
    return PyBool_FromLong(connected);
}

static PyObject *hold(PyObject *self, PyObject *flag)
{
    int truth = PyObject_IsTrue(flag);
    (void)self;
    if (truth < 0)
        return NULL;
    held = truth;
    Py_RETURN_NONE;
}

static PyObject *owner_of_flush(PyObject *self, PyObject *nothing)
{
    (void)self, (void)nothing;
    return PyLong_FromUnsignedLongLong(flush_owner);
}

static PyObject *reply(PyObject *self, PyObject *arguments)
{
    unsigned long long request;
    int number;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Ki", &request, &number))
        return NULL;
    return PyLong_FromLong(libfuse.reply_err((void *)(uintptr_t)request, number));
}

static PyObject *reply_lock(PyObject *self, PyObject *arguments)
{
    unsigned long long request, start, length;
    int type, pid;
    struct flock lock;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "KiKKi", &request, &type, &start, &length, &pid))
        return NULL;
    memset(&lock, 0, sizeof lock);
    lock.l_type = (short)type;
    lock.l_whence = SEEK_SET;
    lock.l_start = (off_t)start;
    lock.l_len = (off_t)length;
    lock.l_pid = (pid_t)pid;
    return PyLong_FromLong(libfuse.reply_lock((void *)(uintptr_t)request, &lock));
}

static PyMethodDef methods[] = {
    {"connect", connect_, METH_VARARGS, "Have sessions from now on hand locks over."},
    {"disconnect", disconnect, METH_NOARGS, "Let go of the callables; no session may live."},
    {"connected", is_connected, METH_NOARGS, "Whether the last session hands locks over."},
    {"hold", hold, METH_O, "Whether anybody has a POSIX lock."},
    {"flush_owner", owner_of_flush, METH_NOARGS, "The owner named by the last FLUSH."},
    {"reply", reply, METH_VARARGS, "Answer a request with an errno or 0."},
    {"reply_lock", reply_lock, METH_VARARGS, "Answer a GETLK."},
    {"take_log", take_log, METH_O, "Receive libfuse's log; False if it cannot be had."},
    {"leave_log", leave_log, METH_NOARGS, "Give libfuse its own log back."},
    {"request", request, METH_NOARGS, "The log line of the request that was started last."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_libfuse", "What pyfuse3 leaves out of libfuse.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__libfuse(void)
{
    return PyModule_Create(&module);
}
