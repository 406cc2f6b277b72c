// Normalisation of rows of the residual stream x for the products that read it; before that, where ADD is set, the sum of x and
// the normalised output y of attention or MLP.
//
//   N_o(r)[c] = (r[c] - mean) / sqrt(var + eps) * weight_o[c] + bias_o[c],   var biased       (LayerNorm)
//   N_o(r)[c] = r[c] / sqrt(mean of r^2 + eps) * weight_o[c]                                  (RMS 1)
//   sum       = x + N_0(y)                                                                    (ADD 1; else it is x)
//   packed_o  = N_o(sum), o = 1 .. OUTPUTS; or sum itself (RAW 1, OUTPUTS 1)
//
// x, y, sum         f32 [rows, D]
// weight_o, bias_o  f32 [D]
// packed_o          bf16 [ceil(rows / 128)][D / 8][128][8]: element (r, c) lies at
//                   ((r / 128 * (D / 8) + c / 8) * 128 + r % 128) * 8 + c % 8; rows past the last stay unwritten
//
// Defined by the launcher: D (a multiple of 8, at most 8192), RMS, ADD, RAW, OUTPUTS (0, 1 or 2). What is not used may be any
// pointer. (GPT-NeoX's parallel residual has two outputs, for the attention and for the MLP.)
// Launch: LANES = 32 for D <= 1024, 64 for D <= 2048, 128 for D <= 4096, otherwise 256;
// ROWS = 8, but 4 if LANES = 256; grid ceil(rows / ROWS), block ROWS * LANES.
//
// LANES threads hold one row in registers. The normalised rows are then transposed through shared
// memory, so that neighbouring threads store the same chunk of neighbouring rows.

static_assert(D % 8 == 0 && D > 0 && D <= 8192, "D must be a multiple of 8, at most 8192");

struct Info {
    unsigned long long rows, eps;  // eps: the bits of an f32
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

// Centres a held row (LayerNorm) and returns what it is then to be multiplied by.
__device__ __forceinline__ float normalise(float4 (&held)[HELD], float eps, float (&sums)[ROWS][WARPS],
                                           float (&squares)[ROWS][WARPS]) {
    const int lane = threadIdx.x % LANES;
#if !RMS
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; ++i) sum += (held[i].x + held[i].y) + (held[i].z + held[i].w);
    const float mean = row_sum(sum, sums) * (1.0f / D);
#endif
    float square = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
#if !RMS
        held[i].x -= mean, held[i].y -= mean, held[i].z -= mean, held[i].w -= mean;
#endif
        if (i * LANES + lane < QUADS)
            square += (held[i].x * held[i].x + held[i].y * held[i].y) + (held[i].z * held[i].z + held[i].w * held[i].w);
    }
    return rsqrtf(row_sum(square, squares) * (1.0f / D) + eps);
}

// a * w + b, or in an RMS norm a * w.
__device__ __forceinline__ float4 affine(float4 a, const float4* weight, const float4* bias, int quad) {
    float4 w = weight[quad];
#if RMS
    return make_float4(a.x * w.x, a.y * w.y, a.z * w.z, a.w * w.w);
#else
    float4 b = bias[quad];
    return make_float4(a.x * w.x + b.x, a.y * w.y + b.y, a.z * w.z + b.z, a.w * w.w + b.w);
#endif
}

// One chunk (8 columns) of a normalised row after its affine map, as bf16.
__device__ __forceinline__ uint4 packed_chunk(float4 a, float4 b, const float4* weight, const float4* bias, int chunk) {
#if !RAW
    a = affine(a, weight, bias, chunk * 2), b = affine(b, weight, bias, chunk * 2 + 1);
#endif
    return make_uint4(pack_bf16(a.x, a.y), pack_bf16(a.z, a.w), pack_bf16(b.x, b.y), pack_bf16(b.z, b.w));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    stream_norm(const float4* __restrict__ x, const float4* __restrict__ y, const float4* __restrict__ weight0,
         const float4* __restrict__ bias0, const float4* __restrict__ weight1, const float4* __restrict__ bias1,
         const float4* __restrict__ weight2, const float4* __restrict__ bias2, float4* __restrict__ sum,
         uint4* __restrict__ packed1, uint4* __restrict__ packed2, const __grid_constant__ Info info) {
    __shared__ float partial[4][ROWS][WARPS];

    const size_t rows = info.rows, first_row = (size_t)blockIdx.x * ROWS;
    const int own_row = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const bool there = first_row + own_row < rows;
    const size_t own = (first_row + own_row) * QUADS;
    const float eps = __uint_as_float((unsigned)info.eps);

    float4 held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        int quad = i * LANES + lane;
        held[i] = there && quad < QUADS ? (ADD ? y : x)[own + quad] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
#if ADD
    {
        const float factor = normalise(held, eps, partial[2], partial[3]);
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            int quad = i * LANES + lane;
            if (!there || quad >= QUADS) {
                held[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                continue;
            }
            float4 h = held[i], r = x[own + quad];
            h = affine(make_float4(h.x * factor, h.y * factor, h.z * factor, h.w * factor), weight0, bias0, quad);
            held[i] = make_float4(r.x + h.x, r.y + h.y, r.z + h.z, r.w + h.w);
            sum[own + quad] = held[i];
        }
    }
#endif
#if OUTPUTS > 0
    __shared__ float4 stage[ROWS * STRIDE];
#if RAW
    const float factor = 1.0f;
#else
    const float factor = normalise(held, eps, partial[0], partial[1]);
#endif

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
            packed1[to] = packed_chunk(a, b, weight1, bias1, chunk);
#if OUTPUTS == 2
            packed2[to] = packed_chunk(a, b, weight2, bias2, chunk);
#endif
        }
    }
#endif
}
