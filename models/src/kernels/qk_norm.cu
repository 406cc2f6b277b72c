// RMS norms of queries and keys, then their rotary embedding, in place.
//
//   n[c]     = v[c] / sqrt(mean of v^2 + eps) * gain[c]      over one head (FLAT 0), or over all heads together (FLAT 1)
//   n'_i          = n_i          cos(t, i) - n_{i+ROT/2} sin(t, i)    for i < ROT/2 of each head
//   n'_{i+ROT/2}  = n_{i+ROT/2}  cos(t, i) + n_i         sin(t, i),   the other dimensions as they are
//
// qkv       bf16 [rows, (n_heads + 2 * n_kv_heads) * D_HEAD]: all heads' q, then all heads' k, then all heads' v, which stays
// gain_q, gain_k  f32 [D_HEAD], or with FLAT 1 [n_heads * D_HEAD] and [n_kv_heads * D_HEAD]
// cos, sin  f32 [context, ROT / 2]; row r is position r % context
//
// Defined by the launcher: D_HEAD (even), HEADS and KV_HEADS, ROT (even, at most D_HEAD), FLAT.
// Launch: a vector that is normalised is the work of LANES = 32 threads, with FLAT 1 of 256; block 256;
// grid ceil(rows * vectors of a row / (256 / LANES)). All arithmetic is f32; the result is rounded to bf16 once.

typedef unsigned int u32;  // often two bf16, the lower index in the lower half

struct Info {
    unsigned long long rows, context, eps;  // eps: the bits of an f32
};

constexpr int LANES = FLAT ? 256 : 32;
constexpr int WARPS = LANES / 32;
constexpr int VECTORS = FLAT ? 2 : HEADS + KV_HEADS;  // of a row
constexpr int WIDEST = FLAT ? (HEADS > KV_HEADS ? HEADS : KV_HEADS) * D_HEAD : D_HEAD;
constexpr int PAIRS = (WIDEST / 2 + LANES - 1) / LANES;  // pairs of neighbours that a thread holds
constexpr int HALF = ROT / 2;

static_assert(D_HEAD % 2 == 0 && ROT % 2 == 0 && ROT <= D_HEAD, "pairs of dimensions");
static_assert(256 / LANES * WIDEST * 4 <= 47 * 1024, "the vectors of a block must fit into shared memory");

__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

extern "C" __global__ void __launch_bounds__(256)
    qk_norm(u32* __restrict__ qkv, const float* __restrict__ gain_q, const float* __restrict__ gain_k,
            const float* __restrict__ cos, const float* __restrict__ sin, const __grid_constant__ Info info) {
    __shared__ float normed[256 / LANES][WIDEST];
    __shared__ float partial[WARPS];

    const size_t vector = (size_t)blockIdx.x * (256 / LANES) + threadIdx.x / LANES;
    const int lane = threadIdx.x % LANES;
    const size_t row = vector / VECTORS;
    if (row >= info.rows) return;  // all threads of a vector, and with FLAT of a block
    const int which = (int)(vector % VECTORS);
    const bool is_key = which >= (FLAT ? 1 : HEADS);
    const int width = FLAT ? (is_key ? KV_HEADS : HEADS) * D_HEAD : D_HEAD;
    const int first = FLAT ? (is_key ? HEADS * D_HEAD : 0) : which * D_HEAD;
    const float* gain = is_key ? gain_k : gain_q;
    u32* own = qkv + (row * ((HEADS + 2 * KV_HEADS) * D_HEAD) + first) / 2;

    float2 held[PAIRS];
    float square = 0.0f;
#pragma unroll
    for (int i = 0; i < PAIRS; ++i) {
        int pair = i * LANES + lane;
        u32 bits = pair < width / 2 ? own[pair] : 0;
        held[i] = make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000));
        square += held[i].x * held[i].x + held[i].y * held[i].y;
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) square += __shfl_xor_sync(0xffffffff, square, distance);
    if constexpr (WARPS > 1) {
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = square;
        __syncthreads();
        square = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) square += partial[w];
    }
    const float factor = rsqrtf(square / (float)width + __uint_as_float((u32)info.eps));

    float* mine = normed[threadIdx.x / LANES];
#pragma unroll
    for (int i = 0; i < PAIRS; ++i) {
        int pair = i * LANES + lane;
        if (pair >= width / 2) continue;
        float2 g = *(const float2*)(gain + pair * 2);
        held[i].x *= factor * g.x, held[i].y *= factor * g.y;
        *(float2*)(mine + pair * 2) = held[i];
    }
    if (WARPS > 1) {
        __syncthreads();
    } else {
        __syncwarp();
    }
    const int at = (int)(row % info.context) * HALF;
#pragma unroll
    for (int i = 0; i < PAIRS; ++i) {
        int pair = i * LANES + lane;
        if (pair >= width / 2) continue;
        float out[2] = {held[i].x, held[i].y};
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            int c = pair * 2 + e, d = c % D_HEAD;
            if (d < HALF) {
                out[e] = out[e] * cos[at + d] - mine[c + HALF] * sin[at + d];
            } else if (d < ROT) {
                out[e] = out[e] * cos[at + d - HALF] + mine[c - HALF] * sin[at + d - HALF];
            }
        }
        own[pair] = pack_bf16(out[0], out[1]);
    }
}
