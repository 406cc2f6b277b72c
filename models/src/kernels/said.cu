// What a model says of next tokens, from rows of logits x, a block a row: nothing else of the size of the vocabulary is written.
//
// MEASURE     max = max_v x[v];  sum = sum_v exp(x[v] - max);  ce = ln sum + max - x[label], 0 without a label;
//             largest = the first v of the largest x[v]
// DIVERGENCE  kl = sum_v p[v] (ln p[v] - ln q[v]),  p[v] = exp(x[v] - max) / sum, and q[v] of the logits y alike
// GRADIENT    out[v] = p[v] - [v = label], the gradient of ce; 0 without a label
//
// x, y                              f32 [rows, vocab]
// max, sum, ce, kl                  f32 [rows]
// label, largest                    i32 [rows]; a label below 0 is none
//
// exp is in f32 and sums are in f64, in an order that depends on the vocabulary alone.
//
// Defined by the launcher: MEASURE, DIVERGENCE or GRADIENT; WIDTH, 4 where 4 divides the vocabulary, else 1.
// Launch: a block of THREADS for each row.

struct Info {
    unsigned long long vocab;
};

#define INF __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fc00000)

constexpr int THREADS = 512;
constexpr int WARPS = THREADS / 32;

struct alignas(4 * WIDTH) Vec {
    float of[WIDTH];
};

template <typename T, typename F>
__device__ __forceinline__ T over_block(T own, F join, T (&of_warps)[WARPS]) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) own = join(own, __shfl_xor_sync(0xffffffff, own, distance));
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = own;
    __syncthreads();
    own = of_warps[0];
#pragma unroll
    for (int w = 1; w < WARPS; ++w) own = join(own, of_warps[w]);
    __syncthreads();
    return own;
}

template <typename F>
__device__ __forceinline__ void each(const float* row, unsigned long long vocab, F see) {
    const Vec* vectors = reinterpret_cast<const Vec*>(row);
    const int count = static_cast<int>(vocab / WIDTH);
#pragma unroll 4
    for (int at = threadIdx.x; at < count; at += THREADS) {
        const Vec v = vectors[at];
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) see(at * WIDTH + i, v.of[i]);
    }
}

__device__ __forceinline__ double added(double a, double b) { return a + b; }

#if defined(MEASURE)
extern "C" __global__ void __launch_bounds__(THREADS)
said(const float* __restrict__ x, const int* __restrict__ label, float* __restrict__ max, float* __restrict__ sum_of,
     float* __restrict__ ce, int* __restrict__ largest, const __grid_constant__ Info info) {
    __shared__ float floats[WARPS];
    __shared__ int ints[WARPS];
    __shared__ double doubles[WARPS];
    const float* row = x + blockIdx.x * info.vocab;

    float own = -INF;
    int place = 0x7fffffff;
    bool is_number = true;
    each(row, info.vocab, [&](int v, float value) {
        is_number = is_number && value == value;
        if (value > own) own = value, place = v;
    });
    float most = over_block(own, [](float a, float b) { return fmaxf(a, b); }, floats);
    const int first = over_block(own == most ? place : 0x7fffffff, [](int a, int b) { return a < b ? a : b; }, ints);
    // fmaxf passes over what is not a number; it is to be seen.
    const int numbers = over_block(static_cast<int>(is_number), [](int a, int b) { return a & b; }, ints);
    if (!numbers) most = NOT_A_NUMBER;

    double sum = 0.0;
    each(row, info.vocab, [&](int, float value) { sum += expf(value - most); });
    sum = over_block(sum, added, doubles);

    if (threadIdx.x == 0) {
        const double log_of_sum = log(sum);
        const int l = label[blockIdx.x];
        max[blockIdx.x] = most;
        sum_of[blockIdx.x] = static_cast<float>(sum);
        ce[blockIdx.x] = l < 0 ? 0.0f : static_cast<float>(log_of_sum + (static_cast<double>(most) - row[l]));
        largest[blockIdx.x] = first < info.vocab ? first : 0;
    }
}
#elif defined(DIVERGENCE)
extern "C" __global__ void __launch_bounds__(THREADS)
said(const float* __restrict__ x, const float* __restrict__ max, const float* __restrict__ sum_of, const float* __restrict__ y,
     const float* __restrict__ y_max, const float* __restrict__ y_sum_of, float* __restrict__ kl, const __grid_constant__ Info info) {
    __shared__ double doubles[WARPS];
    const float* p = x + blockIdx.x * info.vocab;
    const float* q = y + blockIdx.x * info.vocab;
    const float p_max = max[blockIdx.x], p_sum = sum_of[blockIdx.x], p_log = logf(p_sum);
    const float q_max = y_max[blockIdx.x], q_log = logf(y_sum_of[blockIdx.x]);
    const Vec* p_vectors = reinterpret_cast<const Vec*>(p);
    const Vec* q_vectors = reinterpret_cast<const Vec*>(q);
    const int count = static_cast<int>(info.vocab / WIDTH);
    double sum = 0.0;
#pragma unroll 4
    for (int at = threadIdx.x; at < count; at += THREADS) {
        const Vec a = p_vectors[at], b = q_vectors[at];
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float log_p = a.of[i] - p_max - p_log, log_q = b.of[i] - q_max - q_log;
            const float probability = expf(a.of[i] - p_max) / p_sum;
            // As where a logit is -inf: nothing, not 0 times infinity.
            sum += probability == 0.0f ? 0.0f : probability * (log_p - log_q);
        }
    }
    sum = over_block(sum, added, doubles);
    if (threadIdx.x == 0) kl[blockIdx.x] = static_cast<float>(sum);
}
#elif defined(GRADIENT)
extern "C" __global__ void __launch_bounds__(THREADS)
said(const float* __restrict__ x, const int* __restrict__ label, const float* __restrict__ max, const float* __restrict__ sum_of,
     float* __restrict__ out, const __grid_constant__ Info info) {
    const float* row = x + blockIdx.x * info.vocab;
    Vec* to = reinterpret_cast<Vec*>(out + blockIdx.x * info.vocab);
    const int l = label[blockIdx.x];
    const float most = max[blockIdx.x], sum = sum_of[blockIdx.x];
    const Vec* vectors = reinterpret_cast<const Vec*>(row);
    const int count = static_cast<int>(info.vocab / WIDTH);
    for (int at = threadIdx.x; at < count; at += THREADS) {
        const Vec v = vectors[at];
        Vec g;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i)
            g.of[i] = l < 0 ? 0.0f : expf(v.of[i] - most) / sum - (at * WIDTH + i == l ? 1.0f : 0.0f);
        to[at] = g;
    }
}
#endif
