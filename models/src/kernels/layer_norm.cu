// Layer normalisation of rows of x, with one or two affine maps of the same normalised row
// (GPT-NeoX's parallel residual norms x for the attention and for the MLP).
//
//   y_o[r, c] = (x[r, c] - mean_r) / sqrt(var_r + eps) * weight_o[c] + bias_o[c],   var biased
//
// x                 f32 [rows, D]
// weight_o, bias_o  f32 [D]
// packed_o          bf16 [ceil(rows / 128)][D / 8][128][8]: element (r, c) lies at
//                   ((r / 128 * (D / 8) + c / 8) * 128 + r % 128) * 8 + c % 8; rows past the last stay unwritten
//
// Defined by the launcher: D (a multiple of 8, at most 8192), OUTPUTS (1 or 2; with 1 the parameters
// weight2, bias2 and packed2 are not there).
// Launch: LANES = 32 for D <= 1024, 64 for D <= 2048, 128 for D <= 4096, otherwise 256;
// ROWS = 8, but 4 if LANES = 256; grid ceil(rows / ROWS), block ROWS * LANES.
//
// LANES threads hold one row in registers. The normalised rows are then transposed through shared
// memory, so that neighbouring threads store the same chunk of neighbouring rows.

#ifndef OUTPUTS
#define OUTPUTS 2
#endif

static_assert(D % 8 == 0 && D > 0 && D <= 8192, "D must be a multiple of 8, at most 8192");

struct Info {
    unsigned long long rows, d, eps;  // eps: the bits of an f32
};

constexpr int LANES = D <= 1024 ? 32 : D <= 2048 ? 64 : D <= 4096 ? 128 : 256;
constexpr int ROWS = LANES <= 128 ? 8 : 4;
constexpr int THREADS = ROWS * LANES;
constexpr int WARPS = LANES / 32;                 // warps of a row
constexpr int QUADS = D / 4;                      // 16-byte quads of a row
constexpr int HELD = (QUADS + LANES - 1) / LANES;  // quads a thread holds
// Quads a thread gives to one round of the transposition, whose buffer has about 32 KiB.
constexpr int HELD_AT_ONCE = 8192 / (4 * THREADS);
constexpr int WIDTH = LANES * (HELD < HELD_AT_ONCE ? HELD : HELD_AT_ONCE);  // quads of a row in one round
constexpr int STRIDE = WIDTH + 1;  // odd: the same quad of the 8 rows lies in different banks
constexpr int BLOCKS = 1024 / THREADS;  // 64 registers a thread

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// Sum over the threads of a row.
__device__ __forceinline__ float row_sum(float x, float (&partial)[ROWS][WARPS]) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffff, x, distance);
    if constexpr (WARPS > 1) {
        float* row = partial[threadIdx.x / LANES];
        if (threadIdx.x % 32 == 0) row[threadIdx.x % LANES / 32] = x;
        __syncthreads();
        x = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) x += row[w];
    }
    return x;
}

// The affine map of one chunk (8 columns) of a normalised row, as bf16.
__device__ __forceinline__ uint4 affine(float4 a, float4 b, const float4* weight, const float4* bias, int chunk) {
    float4 w = weight[chunk * 2], c = bias[chunk * 2], v = weight[chunk * 2 + 1], d = bias[chunk * 2 + 1];
    return make_uint4(pack_bf16(a.x * w.x + c.x, a.y * w.y + c.y), pack_bf16(a.z * w.z + c.z, a.w * w.w + c.w),
                      pack_bf16(b.x * v.x + d.x, b.y * v.y + d.y), pack_bf16(b.z * v.z + d.z, b.w * v.w + d.w));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    layer_norm(const float4* __restrict__ x, const float4* __restrict__ weight1, const float4* __restrict__ bias1,
#if OUTPUTS == 2
               const float4* __restrict__ weight2, const float4* __restrict__ bias2,
#endif
               uint4* __restrict__ packed1,
#if OUTPUTS == 2
               uint4* __restrict__ packed2,
#endif
               const __grid_constant__ Info info) {
    __shared__ float4 stage[ROWS * STRIDE];
    __shared__ float sums[ROWS][WARPS], squares[ROWS][WARPS];

    const size_t rows = info.rows, first_row = (size_t)blockIdx.x * ROWS;
    const int own_row = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const bool there = first_row + own_row < rows;
    const float4* own = x + (first_row + own_row) * QUADS;

    float4 held[HELD];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        int quad = i * LANES + lane;
        held[i] = there && quad < QUADS ? own[quad] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        sum += (held[i].x + held[i].y) + (held[i].z + held[i].w);
    }
    const float mean = row_sum(sum, sums) * (1.0f / D);

    float square = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        held[i].x -= mean, held[i].y -= mean, held[i].z -= mean, held[i].w -= mean;
        if (i * LANES + lane < QUADS)
            square += (held[i].x * held[i].x + held[i].y * held[i].y) + (held[i].z * held[i].z + held[i].w * held[i].w);
    }
    const float variance = row_sum(square, squares) * (1.0f / D);
    const float factor = rsqrtf(variance + __uint_as_float((unsigned)info.eps));

#pragma unroll
    for (int first = 0; first < QUADS; first += WIDTH) {
        if (first > 0) __syncthreads();  // the last round has been read
#pragma unroll
        for (int i = 0; i < WIDTH / LANES; ++i) {
            // Past the end of the last round there may be no quad to give.
            if (first / LANES + i >= HELD) continue;
            float4 h = held[first / LANES + i];
            stage[own_row * STRIDE + i * LANES + lane] =
                make_float4(h.x * factor, h.y * factor, h.z * factor, h.w * factor);
        }
        __syncthreads();
#pragma unroll(THREADS > 256 ? 1 : 2)
        for (int i = threadIdx.x; i < ROWS * WIDTH / 2; i += THREADS) {
            int row = i % ROWS, column = i / ROWS, chunk = first / 2 + column;
            size_t to_row = first_row + row;
            if (chunk >= D / 8 || to_row >= rows) continue;
            float4 a = stage[row * STRIDE + column * 2], b = stage[row * STRIDE + column * 2 + 1];
            size_t to = (to_row / 128 * (D / 8) + chunk) * 128 + to_row % 128;
            packed1[to] = affine(a, b, weight1, bias1, chunk);
#if OUTPUTS == 2
            packed2[to] = affine(a, b, weight2, bias2, chunk);
#endif
        }
    }
}
