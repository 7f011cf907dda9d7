/* The ops of Mixtral and Qwen3-MoE, and the weight formats f32, bf16, f16 and packed integers, in C99: written from
   refmoe/SPEC.md alone, with nothing of refmoe linked or called. One case at a time:

       cc -std=c99 -O2 -ffp-contract=off -o port port.c -lm
       ./port CASE.safetensors RESULT.safetensors

   Exit code: 0 written, 2 usage or a bad file, 3 an op or format that this port does not have.
   -ffp-contract=off matters: the compiler must not fuse a product and a sum where a clause does not write fma. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- safetensors: 8 bytes of length, a JSON object, data ------------------------------------------------------- */

enum { MOST = 16, NAME = 64 };

typedef struct {
    char name[NAME], dtype[8];
    int rank;
    long shape[4];
    long begin, end;
    void *data; /* floats as float, I64 as int64_t, everything else as stored */
} Tensor;

static Tensor tensors[MOST];
static int count;
static char op[NAME], format[NAME], attrs[4096];

static void fail(int code, const char *what, const char *name) {
    fprintf(stderr, "port: %s %s\n", what, name);
    exit(code);
}

static void *room(size_t bytes) {
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) fail(2, "no memory for", "a tensor");
    return p;
}

static const char *space(const char *p) {
    while (*p == ' ' || *p == '\n' || *p == ',' || *p == ':') p++;
    return p;
}

/* A JSON string at p into out, without its quotes; \" and \\ are all the escapes that are understood. */
static const char *string(const char *p, char *out, size_t size) {
    size_t n = 0;
    if (*p++ != '"') fail(2, "expected a string in", "the header");
    while (*p && *p != '"') {
        if (*p == '\\') p++;
        if (n + 1 < size) out[n++] = *p;
        p++;
    }
    out[n] = 0;
    return *p ? p + 1 : p;
}

static void copy(char *out, const char *text, size_t size) {
    if (strlen(text) >= size) fail(2, "too long:", text);
    strcpy(out, text);
}

static const char *numbers(const char *p, long *out, int most, int *n) {
    *n = 0;
    for (p = space(p + 1); *p && *p != ']'; p = space(p)) {
        char *end;
        long value = strtol(p, &end, 10);
        if (end == p || *n == most) fail(2, "bad list of numbers in", "the header");
        out[(*n)++] = value;
        p = end;
    }
    return p + 1;
}

static void header(const char *p) {
    char key[NAME], value[4096];
    for (p = space(p + 1); *p == '"'; p = space(p)) {
        p = space(string(p, key, sizeof key));
        if (*p != '{') fail(2, "expected an object for", key);
        Tensor *t = strcmp(key, "__metadata__") ? &tensors[count++] : NULL;
        if (count > MOST) fail(2, "too many tensors:", key);
        if (t) copy(t->name, key, sizeof t->name);
        for (p = space(p + 1); *p == '"'; p = space(p)) {
            int n;
            long range[2];
            p = space(string(p, key, sizeof key));
            if (*p == '[') {
                if (!strcmp(key, "shape")) p = numbers(p, t->shape, 4, &t->rank);
                else if (p = numbers(p, range, 2, &n), n == 2) t->begin = range[0], t->end = range[1];
                continue;
            }
            p = string(p, value, sizeof value);
            if (t) copy(t->dtype, value, sizeof t->dtype);
            else if (!strcmp(key, "op")) copy(op, value, sizeof op);
            else if (!strcmp(key, "format")) copy(format, value, sizeof format);
            else if (!strcmp(key, "attrs")) copy(attrs, value, sizeof attrs);
        }
        p++;
    }
}

static uint64_t little(const unsigned char *bytes, int n) {
    uint64_t value = 0;
    while (n--) value = value << 8 | bytes[n];
    return value;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static void load(const char *path) {
    unsigned char raw[8];
    FILE *file = fopen(path, "rb");
    if (!file || fread(raw, 1, 8, file) != 8) fail(2, "cannot read", path);
    uint64_t size = little(raw, 8);
    char *text = size < 100000000 ? room(size + 1) : NULL;
    if (!text || fread(text, 1, size, file) != size || *text != '{') fail(2, "bad header of", path);
    header(text);
    for (int i = 0; i < count; i++) {
        Tensor *t = &tensors[i];
        long bytes = t->end - t->begin, n;
        if (bytes < 0 || fseek(file, 8 + (long)size + t->begin, SEEK_SET)) fail(2, "bad offsets of", t->name);
        unsigned char *data = room(bytes);
        if (fread(data, 1, bytes, file) != (size_t)bytes) fail(2, "too short:", t->name);
        t->data = data;
        if (!strcmp(t->dtype, "F32")) {
            float *values = t->data = room(bytes);
            for (n = 0; n < bytes / 4; n++) values[n] = from_bits((uint32_t)little(data + 4 * n, 4));
        } else if (!strcmp(t->dtype, "I64")) {
            int64_t *values = t->data = room(bytes);
            for (n = 0; n < bytes / 8; n++) values[n] = (int64_t)little(data + 8 * n, 8);
        }
    }
    fclose(file);
    free(text);
}

static Tensor *maybe(const char *name) {
    for (int i = 0; i < count; i++) if (!strcmp(tensors[i].name, name)) return &tensors[i];
    return NULL;
}

static Tensor *get(const char *name) {
    Tensor *t = maybe(name);
    if (!t) fail(2, "no tensor", name);
    return t;
}

static float *f32(const char *name) { return get(name)->data; }
static int64_t *i64(const char *name) { return get(name)->data; }

/* The text behind "name": in attrs, or NULL. */
static const char *attribute(const char *name) {
    char key[NAME + 4];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *p = strstr(attrs, key);
    return p ? space(p + strlen(key)) : NULL;
}

static long integer(const char *name) {
    const char *p = attribute(name);
    if (!p) fail(2, "no attribute", name);
    return strtol(p, NULL, 10);
}

static float number(const char *name) {
    const char *p = attribute(name);
    if (!p) fail(2, "no attribute", name);
    return strtof(p, NULL); /* the shortest decimal of a binary32 value: exact */
}

typedef struct { const char *name, *dtype; int rank; long shape[4]; void *data; } Result;

static void put(FILE *file, uint64_t value, int n) {
    while (n--) fputc((int)(value & 255), file), value >>= 8;
}

static void save(const char *path, Result *results, int n) {
    char text[1024];
    long at = 0, sizes[2];
    int length = sprintf(text, "{");
    for (int i = 0; i < n; i++) {
        long items = 1;
        length += sprintf(text + length, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", results[i].name,
                          results[i].dtype);
        for (int d = 0; d < results[i].rank; d++) {
            length += sprintf(text + length, "%s%ld", d ? "," : "", results[i].shape[d]);
            items *= results[i].shape[d];
        }
        sizes[i] = items;
        long bytes = items * (results[i].dtype[0] == 'F' ? 4 : 8);
        length += sprintf(text + length, "],\"data_offsets\":[%ld,%ld]}", at, at + bytes);
        at += bytes;
    }
    length += sprintf(text + length, "}");
    while (length % 8) text[length++] = ' ';
    FILE *file = fopen(path, "wb");
    if (!file) fail(2, "cannot write", path);
    put(file, (uint64_t)length, 8);
    fwrite(text, 1, length, file);
    for (int i = 0; i < n; i++)
        for (long k = 0; k < sizes[i]; k++) {
            if (results[i].dtype[0] == 'F') put(file, to_bits(((float *)results[i].data)[k]), 4);
            else put(file, (uint64_t)((int64_t *)results[i].data)[k], 8);
        }
    if (fclose(file)) fail(2, "cannot write", path);
}

/* ---- clauses of the chapter Numerics --------------------------------------------------------------------------- */

/* Correctly rounded: long double has at least the bits that decide every binary32 case where it is wider than double. */
static float exp32(float x) { return (float)expl((long double)x); }
static float sin32(float x) { return (float)sinl((long double)x); }
static float cos32(float x) { return (float)cosl((long double)x); }

static float tree(float *lane) {
    for (int h = 8; h; h /= 2) for (int l = 0; l < h; l++) lane[l] = lane[l] + lane[l + h];
    return lane[0];
}

/* The one reduction; the padding of +0 takes part. */
static float dot(const float *a, const float *b, long n) {
    float lane[16] = {0};
    for (long k = 0; k < (n + 15) / 16 * 16; k++)
        lane[k % 16] = k < n ? fmaf(a[k], b[k], lane[k % 16]) : fmaf(0.0f, 0.0f, lane[k % 16]);
    return tree(lane);
}

static float sum(const float *a, long n) {
    float lane[16] = {0};
    for (long k = 0; k < (n + 15) / 16 * 16; k++) lane[k % 16] = lane[k % 16] + (k < n ? a[k] : 0.0f);
    return tree(lane);
}

/* ---- weight formats -------------------------------------------------------------------------------------------- */

static float half(uint32_t code) {
    uint32_t sign = (code & 0x8000) << 16, exponent = code >> 10 & 31, fraction = code & 1023;
    if (exponent == 31) return from_bits(sign | 0x7F800000 | fraction << 13);
    float size = ldexpf((float)(exponent ? fraction | 1024 : fraction), (exponent ? (int)exponent : 1) - 25);
    return sign ? -size : size;
}

static float stored(const Tensor *t, const char *kind, long i) {
    const unsigned char *bytes = t->data;
    if (!strcmp(kind, "F32")) return ((float *)t->data)[i];
    uint32_t code = (uint32_t)little(bytes + 2 * i, 2);
    return strcmp(kind, "BF16") ? half(code) : from_bits(code << 16);
}

/* `bits` bits from bit `at` on, lowest first, of a stream of 32-bit words `stride` words apart. */
static int field(const unsigned char *words, long stride, long at, int bits) {
    int value = 0;
    for (int i = 0; i < bits; i++, at++) {
        uint32_t word = (uint32_t)little(words + at / 32 * stride * 4, 4);
        value |= (int)(word >> at % 32 & 1) << i;
    }
    return value;
}

static void text_attribute(const char *name, char *out) {
    const char *p = attribute(name);
    strcpy(out, "");
    if (p) string(p, out, 8);
}

static void int_packed(float *w, long rows, long cols) {
    int bits = (int)integer("bits");
    long group = integer("group"), groups = group ? cols / group : 1;
    char kind[8];
    text_attribute(".weight_scale", kind);
    const unsigned char *codes = get("weight_packed")->data;
    const Tensor *scale = get("weight_scale"), *index = maybe("weight_g_idx");
    const unsigned char *zeros = integer("symmetric") ? NULL : get("weight_zero_point")->data;
    long words = (cols * bits + 31) / 32;
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < cols; c++) {
            long g = index ? (long)little((unsigned char *)index->data + 4 * c, 4) : c / (cols / groups);
            int v = zeros ? field(zeros + 4 * g, groups, r * bits, bits) : 1 << (bits - 1);
            int u = field(codes + r * words * 4, 1, c * bits, bits);
            w[r * cols + c] = (float)(u - v) * stored(scale, kind, r * groups + g);
        }
}

/* Rows (0) or columns (1) of packed integers: stored as I64 or as 32-bit words, or what the words have room for. */
static long packed_shape(int axis) {
    const Tensor *shape = maybe("weight_shape");
    if (shape && !strcmp(shape->dtype, "I64")) return (long)((int64_t *)shape->data)[axis];
    if (shape) return (long)little((unsigned char *)shape->data + 4 * axis, 4);
    return get("weight_packed")->shape[axis] * (axis ? 32 / integer("bits") : 1);
}

static void decode(const char *path) {
    int packed = !strcmp(format, "int_packed");
    if (!packed && strcmp(format, "f32") && strcmp(format, "bf16") && strcmp(format, "f16")) fail(3, "no format", format);
    long rows = packed ? packed_shape(0) : get("weight")->shape[0];
    long cols = packed ? packed_shape(1) : get("weight")->shape[1];
    float *w = room(rows * cols * 4);
    if (packed) int_packed(w, rows, cols);
    else {
        const char *kind = format[0] == 'b' ? "BF16" : format[1] == '3' ? "F32" : "F16";
        for (long i = 0; i < rows * cols; i++) w[i] = stored(get("weight"), kind, i);
    }
    save(path, &(Result){"decoded", "F32", 2, {rows, cols}, w}, 1);
}

/* ---- ops ------------------------------------------------------------------------------------------------------- */

static void norm(const float *x, const float *w, float eps, long n, float *y) {
    float mean = dot(x, x, n) / (float)n;
    float scale = 1.0f / sqrtf(mean + eps);
    for (long i = 0; i < n; i++) y[i] = x[i] * scale * w[i];
}

static void rope_half(const float *x, long tokens, long width, float *y) {
    long half_size = get("inv_freq")->shape[0];
    float amplitude = number("amplitude");
    for (long t = 0; t < tokens; t++)
        for (long i = 0; i < half_size; i++) {
            float angle = (float)i64("positions")[t] * f32("inv_freq")[i];
            float c = cos32(angle) * amplitude, s = sin32(angle) * amplitude;
            for (long h = t * width; h < (t + 1) * width; h += 2 * half_size) {
                float a = x[h + i], b = x[h + half_size + i];
                float ac = a * c, bs = b * s, bc = b * c, as = a * s;
                y[h + i] = ac - bs;
                y[h + half_size + i] = bc + as;
            }
        }
}

static void head(const float *q, const float *k, const float *v, long stride, long size, long low, long high, float scale,
                 float *y) {
    long chunks = high / 512 + 1;
    float *e = room(chunks * 512 * 4), *part = room(size * 4), top = -INFINITY, total = 0.0f;
    for (long j = low; j <= high; j++) {
        e[j] = dot(q, k + j * stride, size) * scale;
        if (e[j] > top) top = e[j];
    }
    for (long j = low; j <= high; j++) e[j] = exp32(e[j] - top);
    for (long c = low / 512; c < chunks; c++) {
        total = total + sum(e + c * 512, 512);
        memset(part, 0, size * 4);
        for (long j = c * 512 > low ? c * 512 : low; j <= high && j < (c + 1) * 512; j++)
            for (long d = 0; d < size; d++) part[d] = fmaf(v[j * stride + d], e[j], part[d]);
        for (long d = 0; d < size; d++) y[d] = y[d] + part[d];
    }
    for (long d = 0; d < size; d++) y[d] = y[d] / total;
    free(e);
    free(part);
}

static void attention(const float *q, long tokens, long width, float *y) {
    long heads = integer("heads"), kv_heads = integer("kv_heads"), window = integer("window");
    long size = width / heads, stride = get("k")->shape[1];
    for (long t = 0; t < tokens; t++)
        for (long n = 0; n < heads; n++) {
            long high = (long)i64("positions")[t], low = high - window + 1 > 0 ? high - window + 1 : 0;
            long start = n / (heads / kv_heads) * size;
            head(q + t * width + n * size, f32("k") + start, f32("v") + start, stride, size, low, high, number("scale"),
                 y + t * width + n * size);
        }
}

static void route(const char *path) {
    const Tensor *logits = get("logits");
    long tokens = logits->shape[0], experts = logits->shape[1], k = integer("k");
    int64_t *ids = room(tokens * k * 8);
    float *weights = room(tokens * k * 4), *p = room(experts * 4);
    for (long t = 0; t < tokens; t++) {
        const float *row = (float *)logits->data + t * experts;
        float top = -INFINITY;
        for (long e = 0; e < experts; e++) if (row[e] > top) top = row[e];
        for (long e = 0; e < experts; e++) p[e] = exp32(row[e] - top);
        float total = sum(p, experts);
        for (long e = 0; e < experts; e++) p[e] = p[e] / total;
        char *taken = room(experts);
        for (long j = 0; j < k; j++) {
            long best = -1;
            for (long e = 0; e < experts; e++) {
                if (taken[e]) continue;
                if (best < 0 || p[e] > p[best] || (p[best] != p[best] && p[e] == p[e])) best = e;
            }
            taken[best] = 1;
            ids[t * k + j] = best;
            weights[t * k + j] = p[best];
        }
        free(taken);
        if (!strcmp(op, "route_softmax_topk_renorm")) {
            float n = weights[t * k];
            for (long j = 1; j < k; j++) n = n + weights[t * k + j];
            for (long j = 0; j < k; j++) weights[t * k + j] = weights[t * k + j] / n;
        }
    }
    Result results[] = {{"ids", "I64", 2, {tokens, k}, ids}, {"weights", "F32", 2, {tokens, k}, weights}};
    save(path, results, 2);
}

static void argmax(const char *path) {
    const Tensor *logits = get("logits");
    long tokens = logits->shape[0], n = logits->shape[1];
    int64_t *ids = room(tokens * 8);
    for (long t = 0; t < tokens; t++) {
        const float *row = (float *)logits->data + t * n;
        long best = 0;
        for (long v = 1; v < n; v++) if (row[v] > row[best] || (row[best] != row[best] && row[v] == row[v])) best = v;
        ids[t] = best;
    }
    save(path, &(Result){"ids", "I64", 1, {tokens}, ids}, 1);
}

static int known(void) {
    static const char *all = " add attention combine embedding expert_linear head_norm linear linear_bias logits rms_norm "
                             "rope_half swiglu ";
    char word[NAME + 2];
    sprintf(word, " %s ", op);
    return strstr(all, word) != NULL;
}

static void compute(const char *path) {
    const Tensor *x = maybe("x"), *w = maybe("w");
    if (!x) x = maybe("a");
    if (!x) x = maybe("gate");
    if (!x) x = maybe("q");
    if (!x) x = get("ids");
    const float *in = x->data;
    Result y = {"y", "F32", x->rank, {0}, NULL};
    long items = 1, tokens = x->shape[0], width = x->shape[x->rank - 1];
    memcpy(y.shape, x->shape, sizeof y.shape);
    for (int d = 0; d < x->rank; d++) items *= x->shape[d];
    if (!strcmp(op, "embedding")) y.rank = 2, y.shape[1] = w->shape[1];
    if (!strcmp(op, "linear") || !strcmp(op, "linear_bias") || !strcmp(op, "logits")) y.shape[1] = w->shape[0];
    if (!strcmp(op, "combine")) y.rank = 2, y.shape[1] = width;
    if (!strcmp(op, "expert_linear")) y.rank = 3, y.shape[1] = get("ids")->shape[1], y.shape[2] = w->shape[1];
    long total = 1;
    for (int d = 0; d < y.rank; d++) total *= y.shape[d];
    float *out = y.data = room(total * 4);

    if (!strcmp(op, "embedding")) {
        for (long i = 0; i < total; i++) out[i] = f32("w")[i64("ids")[i / w->shape[1]] * w->shape[1] + i % w->shape[1]];
    } else if (!strcmp(op, "add")) {
        for (long i = 0; i < items; i++) out[i] = in[i] + f32("b")[i];
    } else if (!strcmp(op, "swiglu")) {
        for (long i = 0; i < items; i++) out[i] = in[i] / (1.0f + exp32(-in[i])) * f32("up")[i];
    } else if (!strcmp(op, "rms_norm") || !strcmp(op, "head_norm")) {
        long n = w->shape[0];
        for (long i = 0; i < items; i += n) norm(in + i, w->data, number("eps"), n, out + i);
    } else if (!strcmp(op, "linear") || !strcmp(op, "linear_bias") || !strcmp(op, "logits")) {
        for (long i = 0; i < total; i++) {
            long t = i / w->shape[0], n = i % w->shape[0];
            out[i] = dot(f32("w") + n * width, in + t * width, width);
            if (!strcmp(op, "linear_bias")) out[i] = out[i] + f32("b")[n];
        }
    } else if (!strcmp(op, "expert_linear")) {
        long k = y.shape[1], f = y.shape[2];
        for (long i = 0; i < total; i++) {
            long choice = i / f, row = x->rank == 3 ? choice : choice / k;
            out[i] = dot(f32("w") + (i64("ids")[choice] * f + i % f) * width, in + row * width, width);
        }
    } else if (!strcmp(op, "combine")) {
        long k = x->shape[1];
        for (long i = 0; i < total; i++)
            for (long j = 0; j < k; j++) {
                long t = i / width;
                out[i] = fmaf(f32("weights")[t * k + j], in[(t * k + j) * width + i % width], out[i]);
            }
    } else if (!strcmp(op, "rope_half")) {
        rope_half(in, tokens, width, out);
    } else {
        attention(in, tokens, width, out);
    }
    save(path, &y, 1);
}

int main(int argc, char **argv) {
    if (argc != 3) fail(2, "usage: port CASE.safetensors RESULT.safetensors", "");
    load(argv[1]);
    if (*format) decode(argv[2]);
    else if (!strncmp(op, "route_softmax_topk", 18)) route(argv[2]);
    else if (!strcmp(op, "argmax")) argmax(argv[2]);
    else if (known()) compute(argv[2]);
    else fail(3, "no op", op);
    return 0;
}
