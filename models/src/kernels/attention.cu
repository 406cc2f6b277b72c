// Causal self-attention with rotary embedding inside, flash style.
//
//   out_t = sum_{t - window < s <= t} softmax_s( cap(scale * rot(q_t) . rot(k_s)) ) v_s,   cap(x) = c tanh(x / c), or x
//   rot:  x'_i        = x_i        cos(t, i) - x_{i+ROT/2} sin(t, i)    for i < ROT/2,
//         x'_{i+ROT/2} = x_{i+ROT/2} cos(t, i) + x_i        sin(t, i),   the other dimensions as they are
//
// qkv     bf16 [batch * context, (n_heads + 2 * n_kv_heads) * D_HEAD]: all heads' q, then all heads' k, then all heads' v;
//         head h of q reads head floor(h * n_kv_heads / n_heads) of k and v
// cos, sin f32 [context, ROT / 2]; not read when ROT is 0
// packed  bf16 [ceil(batch * context / 128)][chunks][128][8]: element (row r, column c) lies at ((r / 128 * chunks + c / 8) * 128
//         + r % 128) * 8 + c % 8. The output is columns 0 .. n_heads * D_HEAD, row = batch index * context + t.
//
// Defined by the launcher: D_HEAD (a multiple of 16, at most 256), ROT (even, at most D_HEAD), WINDOWED and CAPPED (0 or 1:
// whether the window and the cap of Info count).
// Launch: grid (ceil(context / (16 * WARPS)), n_heads, batch), block 32 * WARPS.
//
// A block owns 16 * WARPS queries of one head, a warp 16 of them. Tiles of keys and values pass through shared memory, two deep.
// Products are mma.m16n8k16 (bf16, f32 accumulators); rotated q and k and softmax weights are rounded to bf16, all else is f32.

static_assert(D_HEAD % 16 == 0 && D_HEAD <= 256, "D_HEAD must be a multiple of 16, at most 256");
static_assert(ROT % 2 == 0 && ROT <= D_HEAD, "ROT must be even and at most D_HEAD");

typedef unsigned short bf16;  // the bits of one value
typedef unsigned int u32;     // often two bf16, the lower index in the lower half

struct Info {
    unsigned long long context, n_heads, n_kv_heads, chunks, window;
    unsigned long long scale, cap;  // the bits of f32: log2(e) * scale, and log2(e) * c
};

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int QUERIES = 16 * WARPS;
// Keys of a tile; fewer for wide heads: two tiles of keys and values share 48 KiB.
constexpr int TILE = D_HEAD <= 96 ? 64 : D_HEAD <= 128 ? 32 : 16;
constexpr int CHUNKS = D_HEAD / 8;  // 16-byte chunks of a head's row
constexpr int HALF = ROT / 2;
// Blocks that should fit on a multiprocessor: what the registers of a thread allow.
constexpr int MIN_BLOCKS = D_HEAD <= 64 ? 4 : D_HEAD <= 128 ? 3 : 2;

__device__ __forceinline__ float from_bf16(u32 bits) {
    return __uint_as_float(bits << 16);
}

__device__ __forceinline__ bf16 to_bf16(float x) {
    bf16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Copies 16 bytes to shared memory in the background; zeros where the source is not there.
__device__ __forceinline__ void copy_async(bf16* to, const bf16* from, bool there) {
    u32 address = (u32)__cvta_generic_to_shared(to);
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most PENDING of this thread's committed groups are still under way.
template <int PENDING>
__device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8x8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void ldmatrix(u32 (&r)[4], const bf16* row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_trans(u32 (&r)[4], const bf16* row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// c[16x8] += a[16x16] b[16x8]
__device__ __forceinline__ void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Where chunk `chunk` of row `row` starts in a tile. Chunks are permuted within their row so that the
// same chunk of 8 consecutive rows, one ldmatrix phase, falls into 8 different groups of banks.
__device__ __forceinline__ u32 tile_offset(u32 row, u32 chunk) {
    constexpr u32 WAYS = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2;
    return (row * CHUNKS + (chunk ^ (row / (8 / WAYS) % WAYS))) * 8;
}

// Starts copying a head's keys and values at positions first .. first + TILE; values lie `k_to_v` after keys.
__device__ __forceinline__ void load_tiles(bf16* keys, bf16* values, const bf16* head, int k_to_v, int first, int context,
                                           size_t row_stride) {
#pragma unroll
    for (u32 pass = 0; pass * THREADS < TILE * CHUNKS; ++pass) {
        u32 i = pass * THREADS + threadIdx.x, row = i / CHUNKS, chunk = i % CHUNKS;
        if (TILE * CHUNKS % THREADS != 0 && row >= TILE) break;
        // Rows past the end become zeros: their weight is 0, and 0 times what lay there could be NaN.
        bool there = first + (int)row < context;
        const bf16* from = head + (there ? first + (int)row : 0) * row_stride + chunk * 8;
        copy_async(keys + tile_offset(row, chunk), from, there);
        copy_async(values + tile_offset(row, chunk), from + k_to_v, there);
    }
}

#if ROT > 0

// Pairs (i, i + HALF) are rotated VEC at a time.
constexpr int VEC = HALF % 8 == 0 ? 8 : HALF % 4 == 0 ? 4 : HALF % 2 == 0 ? 2 : 1;
constexpr int VECS = HALF / VEC;

struct __align__(2 * VEC) Values {
    bf16 x[VEC];
};

struct __align__(VEC < 4 ? 4 * VEC : 16) Angles {
    float x[VEC];
};

struct Rotation {
    Angles cos, sin;
};

// The rotation that the thread's pass-th task of a tile of keys needs.
__device__ __forceinline__ Rotation load_rotation(const float* cos, const float* sin, int first, int context, int pass) {
    u32 task = pass * THREADS + threadIdx.x;
    int position = min(first + (int)(task / VECS), context - 1);
    int at = position * HALF + (int)(task % VECS) * VEC;
    return {*(const Angles*)(cos + at), *(const Angles*)(sin + at)};
}

__device__ __forceinline__ void rotate_keys(bf16* tile, const Rotation& rotation, int pass) {
    u32 task = pass * THREADS + threadIdx.x, row = task / VECS, i = task % VECS * VEC;
    if (row >= TILE) return;
    Values* low = (Values*)(tile + tile_offset(row, i / 8) + i % 8);
    Values* high = (Values*)(tile + tile_offset(row, (i + HALF) / 8) + (i + HALF) % 8);
    Values a = *low, b = *high, a_rotated, b_rotated;
#pragma unroll
    for (int e = 0; e < VEC; ++e) {
        float x = from_bf16(a.x[e]), y = from_bf16(b.x[e]);
        a_rotated.x[e] = to_bf16(x * rotation.cos.x[e] - y * rotation.sin.x[e]);
        b_rotated.x[e] = to_bf16(y * rotation.cos.x[e] + x * rotation.sin.x[e]);
    }
    *low = a_rotated;
    *high = b_rotated;
}

#endif

// Dimensions d and d + 1 (d even) of a query, rotated, as one operand register.
__device__ __forceinline__ u32 load_query(const bf16* row, int d, const float* cos, const float* sin) {
    u32 x = *(const u32*)(row + d);
#if ROT > 0
    if (d < ROT) {
        float own[2] = {from_bf16(x & 0xffff), from_bf16(x >> 16)};
        float partner[2], c[2], s[2];
        if constexpr (HALF % 2 == 0) {
            bool low = d < HALF;
            int i = low ? d : d - HALF;
            u32 y = *(const u32*)(row + (low ? d + HALF : i));
            float2 cs = *(const float2*)(cos + i), sn = *(const float2*)(sin + i);
            partner[0] = from_bf16(y & 0xffff), partner[1] = from_bf16(y >> 16);
            c[0] = cs.x, c[1] = cs.y;
            s[0] = low ? -sn.x : sn.x, s[1] = low ? -sn.y : sn.y;
        } else {
            // An odd HALF may separate d from d + 1.
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                bool low = d + e < HALF;
                int i = low ? d + e : d + e - HALF;
                partner[e] = from_bf16(row[low ? i + HALF : i]);
                c[e] = cos[i];
                s[e] = low ? -sin[i] : sin[i];
            }
        }
        x = pack_bf16(own[0] * c[0] + partner[0] * s[0], own[1] * c[1] + partner[1] * s[1]);
    }
#endif
    return x;
}

// The state of a warp's 16 queries. In fragments, lane l holds rows l / 4 and l / 4 + 8.
struct Queries {
    u32 q[D_HEAD / 16][4];  // operand
    float out[CHUNKS][4];   // sum of weights times values, not yet divided by `sum`
    float max[2];           // running maximum of the scores, in units of log2
    float sum[2];           // sum of this lane's weights
};

// c tanh(x / c) by tanh y = 1 - 2 / (1 + exp(2 y)), both x = s * scale and c in units of log2.
__device__ __forceinline__ float capped(float s, float scale, float cap) {
    return cap - __fdividef(2.0f * cap, 1.0f + exp2_approx(s * scale * (2.8853900817779268f / cap)));
}

// Takes one tile of keys and values into the state. MASKED: some query does not see some key.
template <bool MASKED>
__device__ __forceinline__ void attend(Queries& state, const bf16* keys, const bf16* values, int first_key, int first_query,
                                       const Info& info) {
    const u32 lane = threadIdx.x % 32;
    const float infinity = __int_as_float(0x7f800000);
    // Scores stay unscaled; the factor goes into the argument of exp2. Under a cap they are scaled before it.
    const float scale = CAPPED ? 1.0f : __uint_as_float((u32)info.scale);

    float score[TILE / 8][4];
#pragma unroll
    for (int j = 0; j < TILE / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) score[j][e] = 0.0f;

    // Neighbouring products go to different accumulators, so that none waits for the one before it.
#pragma unroll
    for (int step = 0; step < D_HEAD / 16; ++step)
#pragma unroll
        for (int group = 0; group < TILE / 16; ++group) {
            if (MASKED && first_key + group * 16 > first_query + 15) continue;
            u32 b[4];
            ldmatrix(b, keys + tile_offset(group * 16 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
            mma(score[group * 2], state.q[step], b[0], b[1]);
            mma(score[group * 2 + 1], state.q[step], b[2], b[3]);
        }

    if (MASKED || CAPPED) {
#pragma unroll
        for (int j = 0; j < TILE / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                float& s = score[j][e];
                if (CAPPED) s = capped(s, __uint_as_float((u32)info.scale), __uint_as_float((u32)info.cap));
                int key = first_key + j * 8 + (int)(lane % 4) * 2 + e % 2;
                int query = first_query + (int)(lane / 4) + e / 2 * 8;
                if (MASKED && (key > query || (WINDOWED && key <= query - (int)info.window))) s = -infinity;
            }
    }

    float shrink[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float top = -infinity;
#pragma unroll
        for (int j = 0; j < TILE / 8; ++j) top = fmaxf(top, fmaxf(score[j][h * 2], score[j][h * 2 + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
        // Finite from the start, also where a query sees no key of the tile.
        top = fmaxf(state.max[h], top * scale);
        shrink[h] = exp2_approx(state.max[h] - top);
        state.max[h] = top;
        state.sum[h] *= shrink[h];
    }
    if (__any_sync(0xffffffff, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
        for (int j = 0; j < CHUNKS; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) state.out[j][e] *= shrink[e / 2];
    }

#pragma unroll
    for (int group = 0; group < TILE / 16; ++group) {
        if (MASKED && first_key + group * 16 > first_query + 15) continue;
        // The accumulator layout of two score blocks is the operand layout of 16 keys.
        u32 weight[4];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const float(&s)[4] = score[group * 2 + r / 2];
            int h = r % 2;
            float low = exp2_approx(fmaf(s[h * 2], scale, -state.max[h]));
            float high = exp2_approx(fmaf(s[h * 2 + 1], scale, -state.max[h]));
            state.sum[h] += low + high;
            weight[r] = pack_bf16(low, high);
        }
        u32 row = group * 16 + lane / 8 % 2 * 8 + lane % 8;
#pragma unroll
        for (int j = 0; j < CHUNKS; j += 2) {
            u32 b[4];
            ldmatrix_trans(b, values + tile_offset(row, j + lane / 16));
            mma(state.out[j], weight, b[0], b[1]);
            mma(state.out[j + 1], weight, b[2], b[3]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    attention(const bf16* __restrict__ qkv, const float* __restrict__ cos, const float* __restrict__ sin,
              bf16* __restrict__ packed, const __grid_constant__ Info info) {
    __shared__ __align__(128) bf16 keys[2][TILE * D_HEAD];
    __shared__ __align__(128) bf16 values[2][TILE * D_HEAD];

    const int context = (int)info.context;
    const int d_keys = (int)info.n_kv_heads * D_HEAD;
    const size_t row_stride = info.n_heads * D_HEAD + 2 * d_keys;
    const int head = blockIdx.y, batch = blockIdx.z;
    const int kv_head = head * (int)info.n_kv_heads / (int)info.n_heads;
    // Later queries have more keys to visit; they start first.
    const int block_query = (int)(gridDim.x - 1 - blockIdx.x) * QUERIES;
    const int first_query = block_query + (int)(threadIdx.x / 32) * 16;
    const int lane = (int)(threadIdx.x % 32);

    const bf16* q_head = qkv + (size_t)batch * context * row_stride + head * D_HEAD;
    const bf16* k_head = qkv + (size_t)batch * context * row_stride + (info.n_heads + kv_head) * D_HEAD;
    const int tiles = (min(block_query + QUERIES, context) + TILE - 1) / TILE;
    // Tiles before the first query's window are not visited.
    const int first_tile = WINDOWED ? max(block_query - (int)info.window + 1, 0) / TILE : 0;

#pragma unroll
    for (int stage = 0; stage < 2; ++stage) {
        const int tile = first_tile + stage;
        if (tile < tiles) load_tiles(keys[stage], values[stage], k_head, d_keys, tile * TILE, context, row_stride);
        copy_commit();
    }

    Queries state;
#pragma unroll
    for (int step = 0; step < D_HEAD / 16; ++step)
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            // Rows past the end repeat the last one and are not stored.
            int position = min(first_query + lane / 4 + r % 2 * 8, context - 1);
            int d = step * 16 + r / 2 * 8 + lane % 4 * 2;
            state.q[step][r] = load_query(q_head + (size_t)position * row_stride, d, cos + position * HALF, sin + position * HALF);
        }
#pragma unroll
    for (int j = 0; j < CHUNKS; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) state.out[j][e] = 0.0f;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        state.max[h] = -1e30f;
        state.sum[h] = 0.0f;
    }

    for (int tile = first_tile; tile < tiles; ++tile) {
        const int stage = (tile - first_tile) % 2, first_key = tile * TILE;
#if ROT > 0
        // Asked for before the wait, so that both latencies overlap.
        Rotation rotation = load_rotation(cos, sin, first_key, context, 0);
#endif
        if (tile == first_tile) {
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        // Also: every warp is done with the tile before this one, whose buffers are free now.
        __syncthreads();
        if (tile > first_tile && tile + 1 < tiles) {
            load_tiles(keys[1 - stage], values[1 - stage], k_head, d_keys, first_key + TILE, context, row_stride);
            copy_commit();
        }
#if ROT > 0
        rotate_keys(keys[stage], rotation, 0);
#pragma unroll
        for (int pass = 1; pass * THREADS < TILE * VECS; ++pass)
            rotate_keys(keys[stage], load_rotation(cos, sin, first_key, context, pass), pass);
        __syncthreads();
#endif
        if (first_query >= context || first_key > first_query + 15) continue;
        if (WINDOWED && first_key + TILE - 1 <= first_query - (int)info.window) continue;
        // Whether the warp's first query sees the last key, and its last query the first key.
        if (first_key + TILE - 1 <= first_query && (!WINDOWED || first_key > first_query + 15 - (int)info.window)) {
            attend<false>(state, keys[stage], values[stage], first_key, first_query, info);
        } else {
            attend<true>(state, keys[stage], values[stage], first_key, first_query, info);
        }
    }

#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float sum = state.sum[h];
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        sum += __shfl_xor_sync(0xffffffff, sum, 2);
        int position = first_query + lane / 4 + h * 8;
        if (position >= context) continue;
        size_t row = (size_t)batch * context + position;
        // 8 rows of a chunk are 128 consecutive bytes, one 4-byte word a lane.
        u32* to = (u32*)packed + ((row / 128 * info.chunks + head * CHUNKS) * 128 + row % 128) * 4 + lane % 4;
        float factor = 1.0f / sum;
#pragma unroll
        for (int j = 0; j < CHUNKS; ++j)
            to[j * 512] = pack_bf16(state.out[j][h * 2] * factor, state.out[j][h * 2 + 1] * factor);
    }
}
