/* What protects the packets of an rxkad connection, at the speed of C: fcrypt in PCBC mode.
 *
 * The twin in Python is `rxrpc/security/fcrypt.py`, which also has the numbers of the cipher (its
 * substitution boxes) and gives them to `install` once. Both are held to the same vectors. A
 * packet takes a few microseconds, less than to let go of the interpreter's lock and take it back.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 8
#define ROUNDS 16
#define LANES 4 /* blocks that are deciphered side by side */

/* Results of `unseal` other than a size; the numbers are those in `fcrypt.py`. */
#define DOES_NOT_FIT (-1)
#define BAD_CHECKSUM (-2)
#define BAD_SEAL (-3)
#define BAD_LENGTH (-4)

static uint32_t boxes[4][256]; /* substitution and the move of its result to its place, in one */
static int installed;

typedef struct {
    PyObject_HEAD
    uint32_t schedule[ROUNDS];
    uint64_t iv;       /* the session key: what the chain of a packet begins with */
    uint64_t preamble; /* of the connection, for the checksums of its packets */
    int level;
} Session;

static inline uint32_t mix(uint32_t half, uint32_t key)
{
    uint32_t x = half ^ key;
    return boxes[0][x >> 24] ^ boxes[1][x >> 16 & 255] ^ boxes[2][x >> 8 & 255] ^ boxes[3][x & 255];
}

static inline uint64_t load(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < BLOCK; i++)
        value = value << 8 | at[i];
    return value;
}

static inline void store(uint8_t *at, uint64_t value)
{
    for (int i = BLOCK - 1; i >= 0; i--, value >>= 8)
        at[i] = (uint8_t)value;
}

static inline uint64_t encipher(const uint32_t *schedule, uint64_t block)
{
    uint32_t left = (uint32_t)(block >> 32), right = (uint32_t)block;
    for (int i = 0; i < ROUNDS; i += 2) {
        left ^= mix(right, schedule[i]);
        right ^= mix(left, schedule[i + 1]);
    }
    return (uint64_t)left << 32 | right;
}

static inline uint64_t decipher(const uint32_t *schedule, uint64_t block)
{
    uint32_t left = (uint32_t)(block >> 32), right = (uint32_t)block;
    for (int i = ROUNDS - 2; i >= 0; i -= 2) {
        right ^= mix(left, schedule[i + 1]);
        left ^= mix(right, schedule[i]);
    }
    return (uint64_t)left << 32 | right;
}

/* Four blocks at once: each waits for its own tables only, so they take little longer than one. */
static inline void decipher_lanes(const uint32_t *schedule, const uint64_t *in, uint64_t *out)
{
    uint32_t left[LANES], right[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        left[lane] = (uint32_t)(in[lane] >> 32);
        right[lane] = (uint32_t)in[lane];
    }
    for (int i = ROUNDS - 2; i >= 0; i -= 2) {
        for (int lane = 0; lane < LANES; lane++)
            right[lane] ^= mix(left[lane], schedule[i + 1]);
        for (int lane = 0; lane < LANES; lane++)
            left[lane] ^= mix(right[lane], schedule[i]);
    }
    for (int lane = 0; lane < LANES; lane++)
        out[lane] = (uint64_t)left[lane] << 32 | right[lane];
}

/* PCBC: `chain` is the exclusive-or of the last block in clear and enciphered. `to` may be `from`. */
static uint64_t encipher_chain(
    const uint32_t *schedule, uint64_t chain, const uint8_t *from, uint8_t *to, size_t blocks)
{
    for (size_t i = 0; i < blocks; i++) {
        uint64_t clear = load(from + i * BLOCK);
        uint64_t cipher = encipher(schedule, clear ^ chain);
        store(to + i * BLOCK, cipher);
        chain = clear ^ cipher;
    }
    return chain;
}

static uint64_t decipher_chain(
    const uint32_t *schedule, uint64_t chain, const uint8_t *from, uint8_t *to, size_t blocks)
{
    size_t i = 0;
    uint64_t in[LANES], out[LANES];
    for (; i + LANES <= blocks; i += LANES) {
        for (int lane = 0; lane < LANES; lane++)
            in[lane] = load(from + (i + lane) * BLOCK);
        decipher_lanes(schedule, in, out);
        for (int lane = 0; lane < LANES; lane++) {
            uint64_t clear = out[lane] ^ chain;
            store(to + (i + lane) * BLOCK, clear);
            chain = clear ^ in[lane];
        }
    }
    for (; i < blocks; i++) {
        uint64_t cipher = load(from + i * BLOCK);
        uint64_t clear = decipher(schedule, cipher) ^ chain;
        store(to + i * BLOCK, clear);
        chain = clear ^ cipher;
    }
    return chain;
}

static unsigned checksum(const Session *self, uint32_t cid, uint32_t call, uint32_t seq)
{
    uint64_t block = (uint64_t)call << 32 | (cid & 3) << 30 | (seq & 0x3fffffff);
    unsigned sum = (unsigned)(encipher(self->schedule, block ^ self->preamble) >> 16 & 0xffff);
    return sum ? sum : 1;
}

static int read_words(PyObject *const *args, uint32_t *words, int count)
{
    for (int i = 0; i < count; i++) {
        unsigned long value = PyLong_AsUnsignedLong(args[i]);
        if (value == (unsigned long)-1 && PyErr_Occurred())
            return -1;
        words[i] = (uint32_t)value;
    }
    return 0;
}

static int set_key(Session *self, const uint8_t *key)
{
    uint64_t bits = 0; /* 56 of them: the lowest of each byte is parity */
    for (int i = 0; i < BLOCK; i++)
        bits = bits << 7 | key[i] >> 1;
    for (int i = 0; i < ROUNDS; i++) {
        self->schedule[i] = (uint32_t)bits;
        bits = (bits >> 11 | bits << 45) & 0x00ffffffffffffffULL;
    }
    self->iv = load(key);
    return 0;
}

static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_buffer key;
    unsigned long epoch, cid, index;
    int level;
    if (!PyArg_ParseTuple(args, "y*kkki", &key, &epoch, &cid, &index, &level))
        return NULL;
    Session *self = NULL;
    if (!installed)
        PyErr_SetString(PyExc_RuntimeError, "the cipher's numbers are not installed");
    else if (key.len != BLOCK || level < 0 || level > 2)
        PyErr_SetString(PyExc_ValueError, "a key of 8 bytes and a level from 0 to 2 are needed");
    else
        self = (Session *)type->tp_alloc(type, 0);
    if (self != NULL) {
        uint64_t first = (uint64_t)(uint32_t)epoch << 32 | ((uint32_t)cid & ~3U);
        set_key(self, key.buf);
        self->level = level;
        uint64_t chain = first ^ encipher(self->schedule, first ^ self->iv);
        self->preamble = encipher(self->schedule, (uint64_t)(uint32_t)index ^ chain);
    }
    PyBuffer_Release(&key);
    return (PyObject *)self;
}

static void wipe(Session *self)
{
    volatile uint8_t *at = (volatile uint8_t *)self->schedule;
    for (size_t i = 0; i < sizeof self->schedule; i++)
        at[i] = 0;
    *(volatile uint64_t *)&self->iv = 0;
    *(volatile uint64_t *)&self->preamble = 0;
}

static void session_dealloc(Session *self)
{
    PyTypeObject *type = Py_TYPE(self);
    wipe(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *session_wipe(Session *self, PyObject *unused)
{
    wipe(self);
    Py_RETURN_NONE;
}

static PyObject *run_chain(Session *self, PyObject *data, int backwards)
{
    Py_buffer in;
    PyObject *out = NULL;
    if (PyObject_GetBuffer(data, &in, PyBUF_SIMPLE) < 0)
        return NULL;
    if (in.len % BLOCK)
        PyErr_SetString(PyExc_ValueError, "whole blocks of 8 bytes are needed");
    else if ((out = PyBytes_FromStringAndSize(NULL, in.len)) != NULL)
        (backwards ? decipher_chain : encipher_chain)(
            self->schedule, self->iv, in.buf, (uint8_t *)PyBytes_AS_STRING(out), in.len / BLOCK);
    PyBuffer_Release(&in);
    return out;
}

static PyObject *session_encrypt(Session *self, PyObject *data)
{
    return run_chain(self, data, 0);
}

static PyObject *session_decrypt(Session *self, PyObject *data)
{
    return run_chain(self, data, 1);
}

static PyObject *session_seal(Session *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t word[3]; /* cid with the channel, call number, sequence number */
    Py_buffer clear;
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "seal takes 4 arguments");
        return NULL;
    }
    if (read_words(args, word, 3) < 0 || PyObject_GetBuffer(args[3], &clear, PyBUF_SIMPLE) < 0)
        return NULL;
    static const int head_of[] = {0, 4, 8};
    size_t head = head_of[self->level], size = head + clear.len;
    if (self->level == 2)
        size = (size + BLOCK - 1) & ~(size_t)(BLOCK - 1);
    else if (self->level == 1 && size < BLOCK)
        size = BLOCK;
    PyObject *body = NULL;
    if (clear.len > 0xffff)
        PyErr_SetString(PyExc_ValueError, "more than a packet holds");
    else
        body = PyBytes_FromStringAndSize(NULL, size);
    if (body != NULL) {
        uint8_t *at = (uint8_t *)PyBytes_AS_STRING(body);
        if (head) {
            uint32_t seal = ((word[2] ^ word[1]) & 0xffff) << 16 | (uint32_t)clear.len;
            store(at, (uint64_t)seal << 32);
        }
        memcpy(at + head, clear.buf, clear.len);
        memset(at + head + clear.len, 0, size - head - clear.len);
        if (self->level == 1)
            store(at, encipher(self->schedule, load(at)));
        else if (self->level == 2)
            encipher_chain(self->schedule, self->iv, at, at, size / BLOCK);
    }
    PyBuffer_Release(&clear);
    if (body == NULL)
        return NULL;
    return Py_BuildValue("NI", body, checksum(self, word[0], word[1], word[2]));
}

/* The clear payload of `size` bytes into `to`, or why not. */
static Py_ssize_t open_body(
    const Session *self, const uint32_t *word, const uint8_t *body, size_t size, uint8_t *to,
    size_t room)
{
    if (checksum(self, word[0], word[1], word[2]) != word[3])
        return BAD_CHECKSUM;
    if (self->level == 0) {
        if (size > room)
            return DOES_NOT_FIT;
        memcpy(to, body, size);
        return size;
    }
    if (size < BLOCK || (self->level == 2 && size % BLOCK))
        return BAD_LENGTH;
    uint64_t cipher = load(body);
    uint64_t first = decipher(self->schedule, cipher) ^ (self->level == 2 ? self->iv : 0);
    uint32_t seal = (uint32_t)(first >> 32);
    size_t head = self->level * 4, clear = seal & 0xffff;
    if (seal >> 16 != ((word[2] ^ word[1]) & 0xffff))
        return BAD_SEAL;
    if (clear + head > size || size - head - clear >= BLOCK)
        return BAD_LENGTH;
    if (clear > room)
        return DOES_NOT_FIT;
    if (self->level == 1) {
        uint8_t start[BLOCK];
        store(start, first);
        memcpy(to, start + 4, clear < 4 ? clear : 4);
        if (clear > 4)
            memcpy(to + 4, body + BLOCK, clear - 4);
    } else {
        size_t whole = clear / BLOCK;
        uint64_t chain = decipher_chain(self->schedule, first ^ cipher, body + BLOCK, to, whole);
        if (clear % BLOCK) {
            uint8_t end[BLOCK];
            decipher_chain(self->schedule, chain, body + BLOCK + whole * BLOCK, end, 1);
            memcpy(to + whole * BLOCK, end, clear % BLOCK);
        }
    }
    return clear;
}

static PyObject *session_unseal(Session *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t word[4]; /* cid with the channel, call number, sequence number, checksum */
    Py_buffer in, out;
    if (count != 8) {
        PyErr_SetString(PyExc_TypeError, "unseal takes 8 arguments");
        return NULL;
    }
    Py_ssize_t offset = PyLong_AsSsize_t(args[5]), start = PyLong_AsSsize_t(args[7]);
    if (PyErr_Occurred() || read_words(args, word, 4) < 0)
        return NULL;
    if (PyObject_GetBuffer(args[4], &in, PyBUF_SIMPLE) < 0)
        return NULL;
    if (PyObject_GetBuffer(args[6], &out, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&in);
        return NULL;
    }
    PyObject *result = NULL;
    if (offset < 0 || offset > in.len || start < 0 || start > out.len)
        PyErr_SetString(PyExc_ValueError, "outside of a buffer");
    else
        result = PyLong_FromSsize_t(open_body(
            self, word, (const uint8_t *)in.buf + offset, in.len - offset,
            (uint8_t *)out.buf + start, out.len - start));
    PyBuffer_Release(&out);
    PyBuffer_Release(&in);
    return result;
}

static PyMethodDef session_methods[] = {
    {"encrypt", (PyCFunction)session_encrypt, METH_O, "Encipher whole blocks."},
    {"decrypt", (PyCFunction)session_decrypt, METH_O, "The inverse of `encrypt`."},
    {"seal", (PyCFunction)(void (*)(void))session_seal, METH_FASTCALL, "Protect a payload."},
    {"unseal", (PyCFunction)(void (*)(void))session_unseal, METH_FASTCALL, "Open a body."},
    {"wipe", (PyCFunction)session_wipe, METH_NOARGS, "Forget the key."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot session_slots[] = {
    {Py_tp_new, session_new},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_methods, session_methods},
    {0, NULL},
};

static PyType_Spec session_spec = {
    .name = "rxrpc.security._fcrypt.Session",
    .basicsize = sizeof(Session),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = session_slots,
};

static PyObject *install(PyObject *module, PyObject *numbers)
{
    Py_buffer in;
    if (PyObject_GetBuffer(numbers, &in, PyBUF_SIMPLE) < 0)
        return NULL;
    if (in.len != 4 * 256) {
        PyBuffer_Release(&in);
        PyErr_SetString(PyExc_ValueError, "four boxes of 256 numbers are needed");
        return NULL;
    }
    const uint8_t *at = in.buf;
    for (int i = 0; i < 256; i++) {
        uint32_t second = at[256 + i];
        boxes[0][i] = (uint32_t)at[i] << 3;
        boxes[1][i] = second >> 5 | second << 27;
        boxes[2][i] = (uint32_t)at[512 + i] << 11;
        boxes[3][i] = (uint32_t)at[768 + i] << 19;
    }
    installed = 1;
    PyBuffer_Release(&in);
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"install", install, METH_O, "Give the module the numbers of the cipher."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rxrpc.security._fcrypt",
    .m_doc = "fcrypt in PCBC mode for the packets of rxkad.",
    .m_size = -1,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__fcrypt(void)
{
    PyObject *module = PyModule_Create(&module_definition);
    if (module == NULL)
        return NULL;
    PyObject *type = PyType_FromSpec(&session_spec);
    if (type == NULL || PyModule_AddObject(module, "Session", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
