// Causal self-attention in f32 with rotary embedding inside, flash style: no product of queries and keys leaves the chip.
//
//   out_t = sum_{t - window < s <= t} softmax_s( cap(scale * rot(q_t) . rot(k_s)) ) v_s,   cap(x) = c tanh(x / c), or x
//   rot:  x'_i        = x_i        cos(t, i) - x_{i+ROT/2} sin(t, i)    for i < ROT/2,
//         x'_{i+ROT/2} = x_{i+ROT/2} cos(t, i) + x_i        sin(t, i),   the other dimensions as they are
//
// qkv       f32 [batch * context, (n_heads + 2 * n_kv_heads) * D_HEAD]: all heads' q, then all heads' k, then all heads' v;
//           head h of q reads head floor(h * n_kv_heads / n_heads) of k and v
// cos, sin  f32 [context, ROT / 2]; not read when ROT is 0
// out       f32 [batch * context, n_heads * D_HEAD]
//
// All products and sums are in f32, none on tensor cores; exp and tanh are those of the full precision.
//
// Defined by the launcher: D_HEAD (a multiple of 16, at most 256), ROT (even, at most D_HEAD), WINDOWED and CAPPED (0 or 1:
// whether the window and the cap of Info count).
// Launch: grid (ceil(context / QUERIES), n_heads, batch), block 256. More than 48 KiB of static shared memory: compute capability 9.0.
//
// A block owns QUERIES queries of one head; a thread four of them with every 16th key of a tile, and every 16th dimension of the result.

static_assert(D_HEAD % 16 == 0 && D_HEAD <= 256, "D_HEAD must be a multiple of 16, at most 256");
static_assert(ROT % 2 == 0 && ROT <= D_HEAD, "ROT must be even and at most D_HEAD");

struct Info {
    unsigned long long context, n_heads, n_kv_heads, window;
    unsigned long long scale, cap;  // the bits of f32
};

#define INF __int_as_float(0x7f800000)

constexpr int SIDE = 16;
constexpr int THREADS = SIDE * SIDE;
constexpr int QUERIES = 64;
constexpr int OWN = QUERIES / SIDE;  // queries of a thread, neighbours
constexpr int KEYS = D_HEAD <= 64 ? 64 : 32;
constexpr int OWN_KEYS = KEYS / SIDE;
constexpr int OWN_DIMS = D_HEAD / SIDE;
constexpr int HALF = ROT / 2;
static_assert(OWN == 4, "a thread's queries are read as a float4");

// Element d of row t of a head, rotated.
__device__ __forceinline__ float rotated(const float* row, int d, long long t, const float* cos, const float* sin) {
    const float x = row[d];
    if constexpr (ROT > 0) {
        if (d < ROT) {
            const int i = d < HALF ? d : d - HALF;
            const float other = row[d < HALF ? d + HALF : d - HALF];
            const float c = cos[t * HALF + i], s = sin[t * HALF + i];
            return d < HALF ? x * c - other * s : x * c + other * s;
        }
    }
    return x;
}

extern "C" __global__ void __launch_bounds__(THREADS)
wide_attention(const float* __restrict__ qkv, const float* __restrict__ cos, const float* __restrict__ sin, float* __restrict__ out,
               const __grid_constant__ Info info) {
    __shared__ __align__(16) float queries[D_HEAD][QUERIES + 4];
    __shared__ float keys[D_HEAD][KEYS + 1];
    __shared__ float values[KEYS][D_HEAD];
    __shared__ __align__(16) float weights[KEYS][QUERIES + 4];

    const int context = static_cast<int>(info.context), n_heads = static_cast<int>(info.n_heads);
    const int n_kv_heads = static_cast<int>(info.n_kv_heads);
    const float scale = __uint_as_float(static_cast<unsigned>(info.scale));
    [[maybe_unused]] const float cap = __uint_as_float(static_cast<unsigned>(info.cap));
    const int q0 = blockIdx.x * QUERIES, head = blockIdx.y, kv_head = head * n_kv_heads / n_heads;
    const size_t width = static_cast<size_t>(n_heads + 2 * n_kv_heads) * D_HEAD;
    const float* rows = qkv + static_cast<size_t>(blockIdx.z) * context * width;
    const float* of_q = rows + static_cast<size_t>(head) * D_HEAD;
    const float* of_k = rows + static_cast<size_t>(n_heads + kv_head) * D_HEAD;
    const float* of_v = rows + static_cast<size_t>(n_heads + n_kv_heads + kv_head) * D_HEAD;
    const int ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;

    for (int at = threadIdx.x; at < QUERIES * D_HEAD; at += THREADS) {
        const int q = at / D_HEAD, d = at % D_HEAD, t = q0 + q;
        queries[d][q] = t < context ? rotated(of_q + t * width, d, t, cos, sin) : 0.0f;
    }

    float sums[OWN][OWN_DIMS], largest[OWN], total[OWN];
#pragma unroll
    for (int a = 0; a < OWN; ++a) {
        largest[a] = -INF;
        total[a] = 0.0f;
#pragma unroll
        for (int i = 0; i < OWN_DIMS; ++i) sums[a][i] = 0.0f;
    }

    const int last = min(q0 + QUERIES, context);
    int k0 = 0;
    if constexpr (WINDOWED) {
        const long long first = static_cast<long long>(q0) - static_cast<long long>(info.window) + 1;
        k0 = first > 0 ? static_cast<int>(first) / KEYS * KEYS : 0;
    }
    for (; k0 < last; k0 += KEYS) {
        __syncthreads();
        for (int at = threadIdx.x; at < KEYS * D_HEAD; at += THREADS) {
            const int key = at / D_HEAD, d = at % D_HEAD, s = k0 + key;
            keys[d][key] = s < context ? rotated(of_k + s * width, d, s, cos, sin) : 0.0f;
            values[key][d] = s < context ? of_v[s * width + d] : 0.0f;
        }
        __syncthreads();

        float scores[OWN][OWN_KEYS];
#pragma unroll
        for (int a = 0; a < OWN; ++a)
#pragma unroll
            for (int b = 0; b < OWN_KEYS; ++b) scores[a][b] = 0.0f;
#pragma unroll 8
        for (int d = 0; d < D_HEAD; ++d) {
            const float4 q = *reinterpret_cast<const float4*>(&queries[d][OWN * ty]);
#pragma unroll
            for (int b = 0; b < OWN_KEYS; ++b) {
                const float k = keys[d][tx + b * SIDE];
                scores[0][b] += q.x * k;
                scores[1][b] += q.y * k;
                scores[2][b] += q.z * k;
                scores[3][b] += q.w * k;
            }
        }

#pragma unroll
        for (int a = 0; a < OWN; ++a) {
            const int t = q0 + OWN * ty + a;
            float most = largest[a];
#pragma unroll
            for (int b = 0; b < OWN_KEYS; ++b) {
                const int s = k0 + tx + b * SIDE;
                float score = scores[a][b] * scale;
                if constexpr (CAPPED) score = cap * tanhf(score / cap);
                bool seen = s <= t;
                if constexpr (WINDOWED) seen = seen && static_cast<unsigned long long>(t - s) < info.window;
                scores[a][b] = seen ? score : -INF;
                most = fmaxf(most, scores[a][b]);
            }
#pragma unroll
            for (int distance = SIDE / 2; distance > 0; distance /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, distance));
            // Of a tile without a key that counts nothing is known yet.
            const float from = most == -INF ? 0.0f : most;
            const float factor = largest[a] == -INF ? 0.0f : expf(largest[a] - from);
            float sum = 0.0f;
#pragma unroll
            for (int b = 0; b < OWN_KEYS; ++b) {
                scores[a][b] = expf(scores[a][b] - from);
                sum += scores[a][b];
            }
#pragma unroll
            for (int distance = SIDE / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffff, sum, distance);
            total[a] = total[a] * factor + sum;
            largest[a] = most;
#pragma unroll
            for (int i = 0; i < OWN_DIMS; ++i) sums[a][i] *= factor;
        }
#pragma unroll
        for (int b = 0; b < OWN_KEYS; ++b)
            *reinterpret_cast<float4*>(&weights[tx + b * SIDE][OWN * ty]) =
                make_float4(scores[0][b], scores[1][b], scores[2][b], scores[3][b]);
        __syncthreads();

#pragma unroll 4
        for (int key = 0; key < KEYS; ++key) {
            const float4 w = *reinterpret_cast<const float4*>(&weights[key][OWN * ty]);
#pragma unroll
            for (int i = 0; i < OWN_DIMS; ++i) {
                const float v = values[key][tx + i * SIDE];
                sums[0][i] += w.x * v;
                sums[1][i] += w.y * v;
                sums[2][i] += w.z * v;
                sums[3][i] += w.w * v;
            }
        }
    }

#pragma unroll
    for (int a = 0; a < OWN; ++a) {
        const int t = q0 + OWN * ty + a;
        if (t < context) {
            float* row = out + (static_cast<size_t>(blockIdx.z) * context + t) * n_heads * D_HEAD + static_cast<size_t>(head) * D_HEAD;
#pragma unroll
            for (int i = 0; i < OWN_DIMS; ++i) row[tx + i * SIDE] = sums[a][i] / total[a];
        }
    }
}
